"""Lets a person play a game of questions as a policy does."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from .environment import GuessMyCity, TwentyQuestions


_HELP = "Type a question, or `quit`.\n"


def play(
    environment: TwentyQuestions | GuessMyCity,
    row: Mapping[str, Any],
    read: Callable[[str], str] | None = None,
    output: TextIO | None = None,
) -> bool:
    """
    Plays one game at a terminal.

    Args:
        environment ([`TwentyQuestions`] or [`GuessMyCity`]):
            Environment to play; it is reset.
        row (`Mapping`):
            Row with `prompt` and `target`.
        read (`Callable`, *optional*):
            Reads a line after showing a prompt; `input` by default.
        output (`TextIO`, *optional*):
            Where to write; standard output by default.

    Returns:
        `bool`: Whether the game was won.
    """
    out = output if output is not None else sys.stdout
    read = read if read is not None else input
    environment.reset(**row)
    out.write(f"{row['prompt'][-1]['content']}\n{_HELP}")
    while not environment.terminated:
        try:
            line = read(f"{len(environment.questions) + 1}> ").strip()
        except EOFError:
            break
        if line == "quit":
            break
        try:
            out.write(environment.ask(line) + "\n")
        except ValueError as error:
            out.write(f"{error}\n")
    won = environment.terminated and environment.turn_rewards[-1] == 0.0
    if not environment.terminated:
        out.write(f"It was {row['target']}.\n")
    out.write(f"Return: {sum(environment.turn_rewards) + environment.get_reward():g}\n")
    return won
