"""Backends for the tests of the cache."""

import os
import threading
import time

from trl_multiturn.environments.travel import ToolError, TransientError


class Prices:
    """Answers from its arguments and the epoch alone, and remembers what it was asked."""

    def __init__(self, version: str = "prices-1") -> None:
        self.version = version
        self.asked: list[tuple[str, dict, int]] = []

    def call(self, name, arguments):
        return self.call_at(name, arguments, 0)

    def call_at(self, name, arguments, epoch):
        self.asked.append((name, arguments, epoch))
        if name == "closed":
            raise ToolError("closed", f"{arguments.get('city')} is closed.")
        if name == "broken":
            raise ConnectionError("no route to host")
        if name == "busy":
            raise TransientError("busy", "later")
        return [{"tool": name, "price": epoch * 1000 + row, "of": arguments} for row in range(3)]


class Clock:
    """Never answers the same twice, as a live service may; only a record makes two callers agree."""

    version = "clock"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls = 0
        self._lock = threading.Lock()

    def call(self, name, arguments):
        with self._lock:
            self.calls += 1
        time.sleep(self.seconds)
        return {"pid": os.getpid(), "at": time.perf_counter_ns(), "note": "\u822a\u73ed \u00e9"}


class Constant:
    """Answers with one value."""

    version = "constant"

    def __init__(self, answer) -> None:
        self.answer = answer

    def call(self, name, arguments):
        return self.answer
