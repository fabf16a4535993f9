"""Environments that misbehave, each in one way."""

import multiprocessing
import os
import signal
import time

from tests.tiny import QuietCounter


class Broken(QuietCounter):
    """Its reward is what was added."""

    def get_reward(self) -> float | None:
        return float(self.total)


def broken(**methods) -> type:
    """A class of environments with other methods or properties than `Broken`."""
    return type("Broken", (Broken,), methods)


def raise_error(self, **row):
    raise RuntimeError("the database is gone")


class Tool(Broken):
    """Its tool does `self._act(amount)`, for each rollout's own `amount`s."""

    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        super().add(amount)
        return self._act(amount)


def tool(act) -> type:
    return type("Broken", (Tool,), {"_act": lambda self, amount: act(amount)})


def hang(amount):
    time.sleep(3600)


class Leaky(Broken):
    """Opens files for each call and never closes one."""

    opened: list = []

    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        Leaky.opened += [open(os.devnull) for _ in range(50)]
        return super().add(amount)


def serve(pipe) -> None:
    total = 0
    while True:
        amount = pipe.recv()
        if amount is None:
            total = 0
        elif amount == 3:  # the fault: it dies as if it had run out of memory
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            total += amount
        pipe.send(total)


class InProcess:
    """A counter in a process of its own."""

    built = 0

    def __init__(self):
        InProcess.built += 1
        self._pipe, other = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(target=serve, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def _ask(self, amount):
        self._pipe.send(amount)
        return self._pipe.recv()

    def reset(self, **row) -> None:
        self._ask(None)

    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        return f"The counter is {self._ask(amount)}"

    def get_reward(self) -> float:
        return float(self._ask(0))
