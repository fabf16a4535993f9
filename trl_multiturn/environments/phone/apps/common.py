"""What several apps share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..layout import Widget


# In the order in which they stand on the home screen.
APP_NAMES = ("Shop", "Hotels", "Notes", "Settings", "Messages", "Alarms", "Music", "Live")

# The button of a pop-up that does no more than close it.
CANCEL = Widget("cancel", "button", "Cancel")


if TYPE_CHECKING:
    from ..state import PhoneState


def next_id(things: Iterable[str]) -> str:
    """The id of a new thing: one more than the highest."""
    return str(max((int(i) for i in things), default=0) + 1)


def tabs(names: Sequence[tuple[str, str]], shown: str) -> tuple[Widget, ...]:
    """Tabs `tab:<screen>` from pairs of a screen's name and a label."""
    return tuple(Widget(f"tab:{screen}", "button", label, on=screen == shown) for screen, label in names)


def choices(values: Sequence[str], chosen: Any) -> tuple[Widget, ...]:
    """Rows `choice:<number>` of which one is chosen."""
    return tuple(
        Widget(f"choice:{i}", "row", value, "Chosen" if value == chosen else "") for i, value in enumerate(values)
    )


def field(state: PhoneState, name: str, label: str, value: str = "") -> Widget:
    """A field that shows what was typed into it, and a value until something was."""
    typed = state.field(name)
    return Widget(name, "field", label, value=value if typed is None else typed)


def listed(rows: Sequence[Widget], empty: str) -> tuple[Widget, ...]:
    """The rows of a list, or a label that says that there are none."""
    return tuple(rows) or (Widget("empty", "label", empty),)


def toggle(state: PhoneState, *path: str) -> None:
    """Put the last key of a path into the set before it, a dictionary of `True`, or take it out."""
    if state.get(*path) is None:
        state.set(*path, value=True)
    else:
        state.remove(*path)
