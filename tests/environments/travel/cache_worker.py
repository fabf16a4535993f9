"""Records calls and says after each, on standard output, what is committed: `number sha256-of-the-answer`."""

import hashlib
import json
import os
import sys

from tests.environments.travel.backends import Clock
from trl_multiturn.environments.travel import ToolCache


def main(path: str, mode: str, first: int, last: int) -> None:
    cache = ToolCache(path, None if mode == "replay" else Clock(), mode=mode)
    for number in range(first, last):
        answer = json.dumps(cache.call("quote", {"number": number}), ensure_ascii=False)
        # One write a line, unbuffered: what arrives was committed, and a killed process leaves no half line before it.
        os.write(1, f"{number} {hashlib.sha256(answer.encode()).hexdigest()}\n".encode())
    cache.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
