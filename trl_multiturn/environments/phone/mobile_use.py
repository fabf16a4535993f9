"""Qwen's `mobile_use` function: [`Action`], and the check of a call's arguments."""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


TOOL_NAME = "mobile_use"
BUTTONS = ("Back", "Home", "Menu", "Enter")
STATUSES = ("success", "failure")

# What each action takes, and all of it is required.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "click": ("coordinate",),
    "long_press": ("coordinate", "time"),
    "swipe": ("coordinate", "coordinate2"),
    "type": ("text",),
    "key": ("text",),
    "system_button": ("button",),
    "open": ("text",),
    "wait": ("time",),
    "terminate": ("status",),
}

# The longest text to type, and the longest time to hold or wait, in seconds.
MAX_TEXT_CHARS = 200
MAX_SECONDS = 60

CoordinateSpace = Literal["pixel", "norm1000"]

_KEY = re.compile(r"[A-Za-z0-9_]+", re.ASCII)


class ActionError(ValueError):
    """An action that cannot be read or carried out. Its text is for the model: what was wrong, and what to do instead."""


@dataclass(frozen=True)
class Action:
    """
    One call of `mobile_use`.

    Args:
        action (`str`):
            One of [`ARGUMENTS`], which says which of the others are set.
        coordinate (`tuple[int, int]`, *optional*):
            Pixel to click or hold, or where a swipe starts: from the left and from the top.
        coordinate2 (`tuple[int, int]`, *optional*):
            Where a swipe ends.
        text (`str`, *optional*):
            Text to type, name of a key, or name of an app.
        time (`float`, *optional*):
            Seconds to hold or to wait.
        button (`str`, *optional*):
            One of [`BUTTONS`].
        status (`str`, *optional*):
            One of [`STATUSES`]: how the agent says that the task ended.
    """

    action: str
    coordinate: tuple[int, int] | None = None
    coordinate2: tuple[int, int] | None = None
    text: str | None = None
    time: float | None = None
    button: str | None = None
    status: str | None = None

    @property
    def direction(self) -> str | None:
        """Where a swipe's finger mainly moves: `"up"`, `"down"`, `"left"` or `"right"`; `None` for other actions."""
        if self.coordinate is None or self.coordinate2 is None:
            return None
        across, along = self.coordinate2[0] - self.coordinate[0], self.coordinate2[1] - self.coordinate[1]
        if abs(along) >= abs(across):
            return "down" if along > 0 else "up"
        return "right" if across > 0 else "left"

    def arguments(self) -> dict[str, Any]:
        """The arguments that are set, points as lists."""
        arguments: dict[str, Any] = {"action": self.action}
        for name in ("coordinate", "coordinate2", "text", "time", "button", "status"):
            value = getattr(self, name)
            if value is not None:
                arguments[name] = list(value) if isinstance(value, tuple) else value
        return arguments

    def to_call(self) -> dict[str, Any]:
        """The call as a JSON object: `name` and `arguments`."""
        return {"name": TOOL_NAME, "arguments": self.arguments()}


def check_action(arguments: Any, size: tuple[int, int], coordinate_space: CoordinateSpace = "pixel") -> Action:
    """
    Check the arguments of a call.

    Args:
        arguments (`dict`):
            Arguments by name. One that is `None` counts as not given.
        size (`tuple[int, int]`):
            Width and height of the screen in pixels.
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            `"pixel"`, or `"norm1000"` for points from 0 to 1000 along either edge.

    Returns:
        [`Action`]: The action, its points in pixels.

    Raises:
        [`ActionError`]: For an unknown action, an argument that is missing, not taken by the action, of the wrong type or
            outsized, and for a point off the screen.
    """
    if not isinstance(arguments, Mapping):
        raise ActionError(f"The arguments must be an object, got {kind(arguments)}.")
    given = {name: value for name, value in arguments.items() if value is not None}
    action = given.pop("action", None)
    if action is None:
        raise ActionError(f"The argument action is missing. It is one of {', '.join(ARGUMENTS)}.")
    if not isinstance(action, str) or action not in ARGUMENTS:
        raise ActionError(f"action must be one of {', '.join(ARGUMENTS)}, got {shown(action)}.")
    takes = ARGUMENTS[action]
    for name in given:
        if name not in takes:
            raise ActionError(f"{action} takes no argument {shown(name)}. It takes {' and '.join(takes)}.")
    for name in takes:
        if name not in given:
            raise ActionError(f"{action} needs the argument {name}. It takes {' and '.join(takes)}.")
    values = {name: _CHECKS[name](name, given[name]) for name in takes}
    for name in ("coordinate", "coordinate2"):
        if name in values:
            values[name] = _on_screen(name, values[name], size, coordinate_space)
    if action == "swipe" and values["coordinate"] == values["coordinate2"]:
        raise ActionError("coordinate and coordinate2 are the same point: a swipe must go somewhere.")
    if action == "key" and not _KEY.fullmatch(values["text"]):
        raise ActionError(f"The text of key must be the name of a key such as enter, got {shown(values['text'])}.")
    return Action(action, **values)


def scale_action(action: Action, size: tuple[int, int], new_size: tuple[int, int]) -> Action:
    """
    The same action on a screenshot of another size.

    Args:
        action ([`Action`]):
            Action with points in pixels of `size`.
        size (`tuple[int, int]`):
            Width and height that its points belong to.
        new_size (`tuple[int, int]`):
            Width and height to bring them to; `(1000, 1000)` gives points in the space `"norm1000"`.

    Returns:
        [`Action`]: The action. A way to a larger size and back ends where it began.
    """

    def scale(point: tuple[int, int] | None) -> tuple[int, int] | None:
        if point is None:
            return None
        return _rescale(point[0], size[0], new_size[0]), _rescale(point[1], size[1], new_size[1])

    moved = (scale(action.coordinate), scale(action.coordinate2))
    return Action(action.action, *moved, action.text, action.time, action.button, action.status)


# --- arguments


def _point(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ActionError(f"{name} must be a list of two whole numbers [x, y], got {shown(value)}.")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int):
            raise ActionError(f"{name} must hold whole numbers, got {shown(number)}.")
    return value[0], value[1]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ActionError(f"{name} must be text, got {kind(value)}.")
    if len(value) > MAX_TEXT_CHARS:
        raise ActionError(f"{name} has {len(value)} characters; at most {MAX_TEXT_CHARS} are allowed.")
    if not value.strip():
        raise ActionError(f"{name} must not be empty.")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ActionError(f"{name} must hold no control characters, not even the end of a line.")
    return value


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ActionError(f"{name} must be a number of seconds, got {shown(value)}.")
    if not 0 < value <= MAX_SECONDS:
        raise ActionError(f"{name} must be more than 0 and at most {MAX_SECONDS} seconds, got {shown(value)}.")
    return value


def _choice(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ActionError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}.")
        return value

    return check


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "coordinate": _point,
    "coordinate2": _point,
    "text": _text,
    "time": _seconds,
    "button": _choice(*BUTTONS),
    "status": _choice(*STATUSES),
}


def _on_screen(name: str, point: tuple[int, int], size: tuple[int, int], space: CoordinateSpace) -> tuple[int, int]:
    # The far edge of the pixel grid is off the screen; that of the 0..1000 grid is the last pixel.
    most = (1000, 1000) if space == "norm1000" else (size[0] - 1, size[1] - 1)
    for axis, value, largest in zip("xy", point, most, strict=True):
        if not 0 <= value <= largest:
            raise ActionError(f"{name} is off the screen: {axis} must be from 0 to {largest}, got {shown(value)}.")
    if space == "pixel":
        return point
    return _rescale(point[0], 1000, size[0]), _rescale(point[1], 1000, size[1])


def _rescale(value: int, old: int, new: int) -> int:
    # Middle of the cell, so that a way there and back ends in the same cell.
    return min((2 * value + 1) * new // (2 * old), new - 1)


# --- messages


def shown(value: Any) -> str:
    """A value from a model, short enough for a message."""
    if isinstance(value, str):
        return json.dumps(value if len(value) <= 40 else f"{value[:40]}...")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**15 else "a very large number"
    return str(value) if isinstance(value, float) else kind(value)


def kind(value: Any) -> str:
    """What a value from a model is, in words."""
    kinds = {str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    kinds.update({list: "a list", tuple: "a list", dict: "an object"})
    return kinds.get(type(value), f"a {type(value).__name__}")
