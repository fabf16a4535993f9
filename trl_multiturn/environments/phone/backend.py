"""What carries out actions on a phone and shows its screen: [`PhoneBackend`], and [`StateBackend`], which is Python alone."""

from typing import Protocol

from PIL import Image

from .actions import Action, ActionError
from .layout import HEIGHT, WIDTH, body_box, widget_at
from .pillow_renderer import render
from .state import PhoneState


# A touch of less than this many seconds is a tap.
LONG_PRESS_SECONDS = 0.5

# What the model reads after an action without effect.
NOTHING = "Nothing happened."

# Names of keys in lower case, as Qwen's function and Android call them, and what each does.
KEYS = {
    "enter": "enter",
    "return": "enter",
    "backspace": "backspace",
    "delete": "backspace",
    "del": "backspace",
    "back": "back",
    "escape": "back",
    "home": "home",
    "menu": "menu",
    "keycode_enter": "enter",
    "keycode_del": "backspace",
    "keycode_back": "back",
    "keycode_home": "home",
    "keycode_menu": "menu",
}


class PhoneBackend(Protocol):
    """
    A phone that actions are carried out on.

    Attributes:
        state ([`PhoneState`] or `None`):
            State of the phone; `None` where it cannot be known, as on a real device.
        size (`tuple[int, int]`):
            Width and height of the screen in pixels: those of screenshots and of the actions' points.
    """

    @property
    def state(self) -> PhoneState | None:
        """State of the phone, or `None`."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the screen in pixels."""

    def reset(self, state: PhoneState | None) -> None:
        """Start an episode: in the given state, which is changed by the actions, or from a real phone's home screen."""

    def screenshot(self) -> Image.Image:
        """What the screen shows now, in RGB."""

    def perform(self, action: Action) -> str:
        """
        Carry out an action. The end of the episode, `terminate`, changes nothing.

        Args:
            action ([`Action`]):
                The action, its points in pixels of [`size`].

        Returns:
            `str`: What the model should know beside the next screenshot; often nothing.

        Raises:
            [`ActionError`]: If the phone cannot do that; the message says why.
        """

    def close(self) -> None:
        """Give up what the backend holds: a page of a browser, for instance."""


class StateBackend:
    """
    A phone that is a [`PhoneState`] and nothing else, its screen drawn with Pillow. Fast, and the same on every machine.

    Args:
        font (`str`, *optional*):
            Path of a font; needed for texts in Chinese. See [`pillow_renderer.render`].

    Example:

    ```python
    >>> backend = StateBackend()
    >>> backend.reset(task.initial_state())
    >>> backend.perform(Action("click", coordinate=(65, 112)))
    ''
    >>> backend.screenshot().size
    (392, 784)
    ```
    """

    size = (WIDTH, HEIGHT)

    def __init__(self, font: str | None = None) -> None:
        self._font = font
        self._state: PhoneState | None = None

    @property
    def state(self) -> PhoneState:
        """State of the phone."""
        if self._state is None:
            raise RuntimeError("The phone must be reset before it is used.")
        return self._state

    def reset(self, state: PhoneState | None) -> None:
        """Start an episode in a state."""
        if state is None:
            raise ValueError("`state` must be given: this phone is nothing but its state.")
        self._state = state

    def screenshot(self) -> Image.Image:
        """What the screen shows now."""
        return render(self.state, font=self._font)

    def perform(self, action: Action) -> str:
        """Carry out an action: see [`PhoneBackend.perform`]."""
        state = self.state
        if action.action in ("click", "long_press"):
            x, y = point(action)
            widget = widget_at(state.screen(), state.scroll, x, y)
            press = state.long_press if is_long_press(action) else state.tap
            changed = press(widget.id if widget is not None else "")
        elif action.action == "swipe":
            start, end = point(action), point(action, "coordinate2")
            in_body = body_box(state.screen()).contains(*start)
            # The finger moves the body along: upwards to see later lines.
            changed = state.scroll_by(start[1] - end[1] if in_body and action.direction in ("up", "down") else 0)
        elif action.action == "type":
            check_focus(state)
            changed = state.type_text(action.text or "")
        elif action.action == "key" and key_of(action) == "backspace":
            changed = state.delete_character()
        elif is_enter(action):
            changed = state.enter()
        else:
            changed = system_action(state, action)
        return "" if changed else NOTHING

    def close(self) -> None:
        """Nothing to give up."""


# --- what all backends have in common


def point(action: Action, name: str = "coordinate") -> tuple[int, int]:
    """A point of an action, which checked actions have."""
    value = getattr(action, name)
    if value is None:
        raise ActionError(f"{action.action} needs the argument {name}.")
    return value


def key_of(action: Action) -> str:
    """What the key of an action does."""
    key = KEYS.get((action.text or "").lower())
    if key is None:
        raise ActionError("The keys of this phone are enter, backspace, back, home and menu.")
    return key


def is_long_press(action: Action) -> bool:
    """Whether a touch holds long enough to be more than a tap."""
    return action.action == "long_press" and (action.time is None or action.time >= LONG_PRESS_SECONDS)


def is_enter(action: Action) -> bool:
    """Whether an action is the Enter key or button."""
    return action.button == "Enter" or (action.action == "key" and key_of(action) == "enter")


def check_focus(state: PhoneState) -> None:
    """Refuse to type where there is nothing to type into."""
    if state.focus is None:
        raise ActionError("No field is chosen to type into: tap a field first.")


def system_action(state: PhoneState, action: Action) -> bool:
    """Carry out what a phone does apart from its screen: Back, Home and Menu, opening an app, waiting."""
    name = key_of(action) if action.action == "key" else (action.button or "").lower()
    if action.action == "open":
        wanted = (action.text or "").strip().casefold()
        found = next((app for app in state.app_names if app.casefold() == wanted), None)
        if found is None:
            raise ActionError(f"There is no such app on the phone. There are {', '.join(state.app_names)}.")
        return state.open_app(found)
    if action.action == "wait":
        # That nothing changes while one waits need not be said.
        state.wait()
        return True
    if action.action == "terminate":
        return True
    if name == "back":
        return state.back()
    return state.home() if name == "home" else False
