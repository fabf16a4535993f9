"""[`check_setup`]: whether what a task puts into the apps' data is something that the apps can work with."""

import json
from collections.abc import Iterator

from .layout import KINDS, Screen, Widget
from .oracle import Step, apply
from .state import AppError, PhoneState
from .task import PhoneTask


# How far the phone is tried out: inputs one after the other, and states looked at in each app.
MAX_DEPTH = 3
MAX_STATES = 400

# A word to search for, which many things have in their names.
_SEARCHED = "e"


def check_setup(task: PhoneTask) -> None:
    """
    Try a task's phone out: open the apps that its setup changes, and look at the screens that a few taps lead to.

    Args:
        task ([`PhoneTask`]):
            Task from a file, whose data may be anything.

    Raises:
        `ValueError`: If an app fails on the data, or shows what is no text.
    """
    for app in dict.fromkeys(path[0] for path, _ in task.setup):
        try:
            _try_out(task, app)
        except AppError as error:
            raise ValueError(f"The task's `setup` does not fit: {error}") from error


def _try_out(task: PhoneTask, app: str) -> None:
    """Look at states of an app in the order of their distance from its first screen."""
    level = [apply(task.initial_state(), Step("open", app))]
    seen = {_key(level[0])}
    for depth in range(MAX_DEPTH + 1):
        following = []
        for state in level:
            check_screen(state.screen())
            if depth == MAX_DEPTH:
                continue
            for child in _children(state, task):
                key = _key(child)
                if key not in seen and len(seen) < MAX_STATES and child.app == app:
                    seen.add(key)
                    following.append(child)
        level = following


def _children(state: PhoneState, task: PhoneTask) -> Iterator[PhoneState]:
    for widget, _ in state.in_sight():
        yield (tapped := apply(state, Step("tap", widget.id)))
        if widget.kind == "field":
            for text in (_SEARCHED, *task.texts[:2]):
                yield apply(apply(tapped, Step("type", text)), Step("enter"))
        elif state.popup is None:
            yield apply(state, Step("long_press", widget.id))
    yield apply(state, Step("scroll", amount=500))


def _key(state: PhoneState) -> str:
    return json.dumps([state.app, state.stack, state.popup])


def check_screen(screen: Screen) -> None:
    """
    Whether a screen can be drawn.

    Args:
        screen ([`Screen`]):
            What an app made of its data.

    Raises:
        [`AppError`]: If there is something else than a text where one is drawn, or no known kind of widget.
    """
    popup = screen.popup
    texts = [screen.title, screen.toast, *([popup.title, popup.text] if popup is not None else [])]
    buttons = popup.buttons if popup is not None else ()
    if not all(isinstance(text, str) for text in texts) or (popup is not None and not buttons):
        raise AppError(f"the screen {screen.title!r:.100} has no text where there must be one")
    for widget in (*screen.body, *screen.actions, *screen.tabs, *buttons):
        if not _can_be_drawn(widget):
            raise AppError(f"the screen {screen.title!r:.100} has something that cannot be drawn: {widget!r:.200}")


def _can_be_drawn(widget: Widget) -> bool:
    texts = (widget.id, widget.text, widget.detail, widget.value)
    return (
        all(isinstance(text, str) for text in texts)
        and widget.kind in KINDS
        and (widget.on is None or isinstance(widget.on, bool))
    )
