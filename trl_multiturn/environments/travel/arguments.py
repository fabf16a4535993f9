"""The arguments of the six tools: their names, types and bounds, checked alike by the environment and the world."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from .errors import ToolError
from .geography import shown


MAX_TEXT_CHARS = 200
CABINS = ("economy", "business")
CATEGORIES = ("museum", "park", "temple", "gallery", "market", "zoo", "tower", "palace")
MODES = ("walk", "transit", "taxi")
SEATS = ("second", "first")

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)
_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}

Check = Callable[[str, Any], Any]


def _wrong(name: str, wanted: str, value: Any) -> ToolError:
    kind = _KINDS.get(type(value), f"a {type(value).__name__}")
    got = f"the text {shown(value)}" if isinstance(value, str) else kind
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        got = f"{kind} ({shown(str(value))})" if abs(value) < 1e15 else kind
    return ToolError("bad_argument", f"{name} must be {wanted}, got {got}.")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "text", value)
    if len(value) > MAX_TEXT_CHARS:
        raise ToolError("bad_argument", f"{name} has {len(value)} characters; at most {MAX_TEXT_CHARS} are allowed.")
    value = value.strip()
    if not value:
        raise ToolError("bad_argument", f"{name} must not be empty.")
    return value


def _day(name: str, value: Any) -> str:
    if type(value) is date:
        return value.isoformat()
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise _wrong(name, "a date YYYY-MM-DD", value)
    try:
        date.fromisoformat(value)
    except ValueError:
        raise ToolError("bad_argument", f"{name} {shown(value)} is no date of the calendar.") from None
    return value


def _clock(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise _wrong(name, "a time HH:MM from 00:00 to 23:59", value)
    return value


def _choice(*choices: str) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _wrong(name, f"one of {', '.join(choices)}", value)
        return value

    return check


def _number(low: float, high: float) -> Check:
    def check(name: str, value: Any) -> int | float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise _wrong(name, f"a number from {low:g} to {high:g}", value)
        return value

    return check


def _whole(low: int, high: int) -> Check:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _wrong(name, f"a whole number from {low} to {high}", value)
        return value

    return check


_PRICE = _number(0, 1_000_000)

# Required arguments, then optional ones.
_TOOLS: dict[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "search_flights": (
        {"origin": _text, "destination": _text, "date": _day},
        {"depart_after": _clock, "depart_before": _clock, "cabin": _choice(*CABINS), "max_price": _PRICE},
    ),
    "search_trains": (
        {"origin": _text, "destination": _text, "date": _day},
        {"seat_class": _choice(*SEATS)},
    ),
    "plan_route": (
        {"origin_place_id": _text, "destination_place_id": _text, "mode": _choice(*MODES)},
        {"depart_at": _clock},
    ),
    "search_hotels": (
        {"city": _text, "check_in": _day, "check_out": _day},
        {"near": _text, "max_price": _PRICE, "min_star": _whole(1, 5)},
    ),
    "search_pois": (
        {"city": _text},
        {"category": _choice(*CATEGORIES), "keyword": _text, "near": _text, "radius_km": _number(0, 500)},
    ),
    "search_web": ({"query": _text}, {"top_k": _whole(1, 10)}),
}
TOOL_NAMES = tuple(_TOOLS)


def check_arguments(tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Check the arguments of a call, apart from whether the world knows what they name.

    Args:
        tool (`str`):
            Name of the tool.
        arguments (`Mapping`):
            Arguments by name. One that is `None` counts as not given, unless it is required.

    Returns:
        `dict[str, Any]`: The arguments that are given, text without blanks around it, in the order of the signature.

    Raises:
        [`ToolError`]: `unknown_tool`, or `bad_argument` for a missing, unknown, mistyped or outsized argument.
    """
    if not isinstance(tool, str) or tool not in _TOOLS:
        name = shown(tool) if isinstance(tool, str) else f"a {type(tool).__name__}"
        raise ToolError("unknown_tool", f"{name} is no tool. The tools are {', '.join(TOOL_NAMES)}.")
    required, optional = _TOOLS[tool]
    if not isinstance(arguments, Mapping):
        raise ToolError("bad_argument", f"the arguments of {tool} must be an object, got {type(arguments).__name__}.")
    for name in arguments:
        if name not in required and name not in optional:
            takes = ", ".join([*required, *(f"{n} (optional)" for n in optional)])
            raise ToolError("bad_argument", f"{tool} has no argument {shown(str(name))}. It takes {takes}.")
    checked = {}
    for name, check in required.items():
        if name not in arguments:
            raise ToolError("bad_argument", f"{tool} needs {name}.")
        checked[name] = check(name, arguments[name])
    for name, check in optional.items():
        if arguments.get(name) is not None:
            checked[name] = check(name, arguments[name])
    return checked
