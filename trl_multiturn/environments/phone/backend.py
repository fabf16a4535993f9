"""What carries out actions on a phone and shows its screen: [`PhoneBackend`], and [`StateBackend`], which is Python alone."""

from abc import ABC, abstractmethod
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


class SimulatedPhone(ABC):
    """
    A phone whose state is a [`PhoneState`], whatever draws and touches it. What an action comes to is decided here, so that it is
    the same for all.
    """

    size = (WIDTH, HEIGHT)

    def __init__(self) -> None:
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
            raise ValueError("`state` must be given: a simulated phone has no other.")
        self._state = state

    def perform(self, action: Action) -> str:
        """Carry out an action: see [`PhoneBackend.perform`]."""
        if action.action in ("click", "long_press"):
            changed = self._press(point(action), is_long_press(action))
        elif action.action == "swipe":
            changed = self._swipe(point(action), point(action, "coordinate2"), action.direction in ("up", "down"))
        elif action.action == "type":
            check_focus(self.state)
            changed = self._type(action.text or "")
        elif is_enter(action):
            changed = self._enter()
        elif action.action == "key" and key_of(action) == "backspace":
            changed = self._delete_character()
        else:
            changed = system_action(self.state, action)
        return "" if changed else NOTHING

    @abstractmethod
    def _press(self, where: tuple[int, int], long: bool) -> bool:
        """Tap or hold a point; `False` if nothing changed, as for all of these."""

    @abstractmethod
    def _swipe(self, start: tuple[int, int], end: tuple[int, int], vertical: bool) -> bool:
        """Draw a finger over the screen."""

    @abstractmethod
    def _type(self, text: str) -> bool:
        """Type into the field that has the focus."""

    @abstractmethod
    def _enter(self) -> bool:
        """Press Enter."""

    @abstractmethod
    def _delete_character(self) -> bool:
        """Press Backspace."""


class StateBackend(SimulatedPhone):
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

    def __init__(self, font: str | None = None) -> None:
        super().__init__()
        self._font = font

    def screenshot(self) -> Image.Image:
        """What the screen shows now."""
        return render(self.state, font=self._font)

    def close(self) -> None:
        """Nothing to give up."""

    def _press(self, where: tuple[int, int], long: bool) -> bool:
        widget = widget_at(self.state.screen(), self.state.scroll, *where)
        press = self.state.long_press if long else self.state.tap
        return press(widget.id if widget is not None else "")

    def _swipe(self, start: tuple[int, int], end: tuple[int, int], vertical: bool) -> bool:
        in_body = body_box(self.state.screen()).contains(*start)
        # The finger moves the body along: upwards to see later lines.
        return self.state.scroll_by(start[1] - end[1] if in_body and vertical else 0)

    def _type(self, text: str) -> bool:
        return self.state.type_text(text)

    def _enter(self) -> bool:
        return self.state.enter()

    def _delete_character(self) -> bool:
        return self.state.delete_character()


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
