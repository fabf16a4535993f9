"""Lets a person type what a policy would pass to `act`."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO


def play(
    environment: Any,
    row: Mapping[str, Any] | None = None,
    read: Callable[[str], str] | None = None,
    output: TextIO | None = None,
) -> float:
    """
    Plays one episode at a terminal. The line `exit` leaves it.

    Args:
        environment ([`JerichoEnvironment`] or [`WebShopEnvironment`]):
            Environment to play; it is reset.
        row (`Mapping`, *optional*):
            Row of a dataset, which `reset` is called with.
        read (`Callable`, *optional*):
            Reads a line after showing a prompt; `input` by default.
        output (`TextIO`, *optional*):
            Where to write; standard output by default.

    Returns:
        `float`: Sum of the turn rewards.
    """
    out = output if output is not None else sys.stdout
    read = read if read is not None else input
    out.write(environment.reset(**(row or {})) + "\n")
    while not (environment.terminated or environment.truncated):
        try:
            line = read("> ")
        except EOFError:
            break
        if line.strip() == "exit":
            break
        try:
            out.write(environment.act(line) + "\n")
        except (ValueError, RuntimeError) as error:
            out.write(f"{error}\n")
        if environment.turn_rewards[-1]:
            out.write(f"[Reward: {environment.turn_rewards[-1]:g}]\n")
    total = sum(environment.turn_rewards)
    out.write(f"Turns: {len(environment.turn_rewards)}. Sum of rewards: {total:g}.\n")
    return total
