"""Lets a person answer a question with the search tool that a policy gets."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from .countries import key
from .environment import SearchEnvironment


_HELP = "Type a query to search, `answer ...` to answer, or `quit`.\n"


def play(
    environment: SearchEnvironment,
    row: Mapping[str, Any],
    read: Callable[[str], str] | None = None,
    output: TextIO | None = None,
) -> bool:
    """
    Plays one question at a terminal.

    Args:
        environment ([`SearchEnvironment`]):
            Environment to play; it is reset.
        row (`Mapping`):
            Row with `question` and `answers`.
        read (`Callable`, *optional*):
            Reads a line after showing a prompt; `input` by default.
        output (`TextIO`, *optional*):
            Where to write; standard output by default.

    Returns:
        `bool`: Whether the answer was right.
    """
    out = output if output is not None else sys.stdout
    read = read if read is not None else input
    environment.reset(**row)
    out.write(f"{row['question']}\n{_HELP}")
    while True:
        try:
            line = read("> ").strip()
        except EOFError:
            return False
        if line == "quit":
            return False
        command, _, rest = line.partition(" ")
        if command == "answer":
            right = key(rest) in {key(answer) for answer in row["answers"]}
            out.write("Right.\n" if right else f"Wrong: {row['answers'][0]}\n")
            return right
        try:
            out.write(environment.search(line) + "\n")
        except ValueError as error:
            out.write(f"{error}\n")
