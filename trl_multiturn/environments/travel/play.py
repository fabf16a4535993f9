"""Lets a person plan a trip with the tools that a policy gets."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from .arguments import TOOL_NAMES
from .environment import TravelEnvironment
from .errors import ToolError
from .itinerary import Itinerary, ItineraryError, parse_itinerary


_HELP = """\
Call a tool as in `search_flights origin=Beijing destination="New York" date=2026-05-01`.
The tools: {tools}.
`tools` describes them, `answer {{...}}` gives the itinerary as JSON, `quit` ends.
"""


def play(
    environment: TravelEnvironment,
    row: Mapping[str, Any],
    read: Callable[[str], str] | None = None,
    output: TextIO | None = None,
) -> Itinerary | None:
    """
    Plays one task at a terminal.

    Args:
        environment ([`TravelEnvironment`]):
            Environment to play; it is reset.
        row (`Mapping`):
            Row with `prompt`, the last message of which is the request.
        read (`Callable`, *optional*):
            Reads a line after showing a prompt; `input` by default.
        output (`TextIO`, *optional*):
            Where to write; standard output by default.

    Returns:
        [`Itinerary`] or `None`: The answer; `None` if there was none.
    """
    out = output if output is not None else sys.stdout
    read = read if read is not None else input
    environment.reset(**row)
    out.write(f"{row['prompt'][-1]['content']}\n\n{_HELP.format(tools=', '.join(TOOL_NAMES))}")
    while True:
        try:
            line = read("> ").strip()
        except EOFError:
            return None
        command, _, rest = line.partition(" ")
        if command == "quit":
            return None
        try:
            if command == "answer":
                return parse_itinerary(rest)
            out.write((_describe(environment) if command == "tools" else _answer(environment, command, rest)) + "\n")
        except (ItineraryError, ToolError) as error:
            out.write(f"{error}\n")


def _describe(environment: TravelEnvironment) -> str:
    return "\n".join(f"{name}\n{getattr(environment, name).__doc__}" for name in TOOL_NAMES)


def _answer(environment: TravelEnvironment, name: str, text: str) -> str:
    if name not in TOOL_NAMES:
        raise ToolError("unknown_tool", f"the tools are {', '.join(TOOL_NAMES)}.")
    arguments = _parse(text)
    try:
        answer = getattr(environment, name)(**arguments)
    except TypeError as error:
        # An argument too many or too few: the text that a policy would see from TRL.
        raise ToolError("bad_argument", str(error)) from None
    records = json.loads(answer)
    return "\n".join(map(str, records)) or "Nothing found." if isinstance(records, list) else str(records)


def _parse(text: str) -> dict[str, Any]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ToolError("bad_argument", f"{error}: write name=value, with quotes around blanks.") from None
    arguments: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ToolError("bad_argument", f"{word!r} is no argument: write name=value, with quotes around blanks.")
        arguments[name] = _value(value)
    return arguments


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
