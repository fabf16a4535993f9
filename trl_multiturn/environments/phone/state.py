"""[`PhoneState`]: a phone as a state machine. What is on the screen follows from it, and every input changes it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .apps.app import App
from .layout import Box, Screen, Widget, max_scroll, tappable


# The longest text that a field takes, in characters.
MAX_FIELD_LENGTH = 200


class AppError(RuntimeError):
    """An app that fails, on data that it does not know what to do with."""


class PhoneState:
    """
    A phone: which app is open, its screens one over the other, what stands in fields, and the data of every app.

    Everything is JSON. The data is never changed in place: [`set`] replaces what lies on the path, so that a copy costs
    nothing and a search over states is cheap. Inputs that hit nothing change nothing and return `False`. Where an app fails
    on its data, they raise [`AppError`].

    Args:
        apps (`Mapping[str, App]`):
            Apps on the phone by name, as they stand on the home screen.
        data (`dict`, *optional*):
            Data of each app; what the apps start with by default.

    Attributes:
        app (`str` or `None`):
            Name of the open app; `None` on the home screen.
        stack (`tuple[dict, ...]`):
            Screens of the open app, the one shown last. Each has a `screen` (its name), `params`, `scroll` (pixels) and
            `fields` (texts not yet saved).
        focus (`str` or `None`):
            Id of the field that takes text.
        fresh (`bool`):
            Whether the field was only just tapped: its text is selected, and typing replaces it.
        popup (`dict` or `None`):
            `name` and `params` of the box over the screen.
        toast (`str`):
            Message shown until the next input.
        data (`dict[str, Any]`):
            Data of each app by the app's name. To be changed with [`set`] and [`remove`] only.
    """

    def __init__(self, apps: Mapping[str, App], data: dict[str, Any] | None = None) -> None:
        self._apps = apps
        self.app: str | None = None
        self.stack: tuple[dict[str, Any], ...] = (_entry("home", {}),)
        self.focus: str | None = None
        self.fresh = False
        self.popup: dict[str, Any] | None = None
        self.toast = ""
        self._made: _View | None = None
        self.data: dict[str, Any] = data if data is not None else {name: app.data() for name, app in apps.items()}

    @property
    def app_names(self) -> tuple[str, ...]:
        """Names of the apps on the phone, as they stand on the home screen."""
        return tuple(self._apps)

    # --- what apps use

    @property
    def top(self) -> dict[str, Any]:
        """The screen shown: its `screen`, `params`, `scroll` and `fields`."""
        return self.stack[-1]

    def get(self, *path: str) -> Any:
        """The data at a path of keys, first of them the app's name; `None` if there is nothing."""
        value: Any = self.data
        for key in path:
            if not isinstance(value, dict) or key not in value:
                return None
            value = value[key]
        return value

    def set(self, *path: str, value: Any) -> None:
        """Put a JSON value at a path of keys, first of them the app's name."""
        self.data = _with(self.data, path, value)

    def remove(self, *path: str) -> None:
        """Take out what is at a path of keys."""
        parent = self.get(*path[:-1])
        if isinstance(parent, dict) and path[-1] in parent:
            self.data = _with(self.data, path[:-1], {k: v for k, v in parent.items() if k != path[-1]})

    def push(self, screen: str, **params: Any) -> None:
        """Open a screen of the app over the one shown."""
        self.stack = (*self.stack, _entry(screen, params))
        self.focus, self.popup = None, None

    def replace(self, screen: str, **params: Any) -> None:
        """Open a screen of the app in place of the one shown, as tabs do."""
        self.stack = (*self.stack[:-1], _entry(screen, params))
        self.focus, self.popup = None, None

    def pop(self) -> None:
        """Go back to the screen below; from an app's first one to the home screen."""
        self.focus, self.popup = None, None
        if len(self.stack) > 1:
            self.stack = self.stack[:-1]
        else:
            self.go_home()

    def go_home(self) -> None:
        """Leave the open app for the home screen."""
        self.app, self.stack = None, (_entry("home", {}),)
        self.focus, self.popup = None, None

    def field(self, name: str) -> str | None:
        """Text that stands in a field of the screen shown; `None` if nothing was typed there."""
        return self.top["fields"].get(name)

    def fill(self, name: str, text: str) -> None:
        """Write text into a field of the screen shown."""
        fields = {**self.top["fields"], name: text[:MAX_FIELD_LENGTH]}
        self.stack = (*self.stack[:-1], {**self.top, "fields": fields})

    def show_popup(self, name: str, **params: Any) -> None:
        """Put a box over the screen: the app's [`App.popup`] says what is in it."""
        self.popup, self.focus = {"name": name, "params": params}, None

    def show_toast(self, text: str) -> None:
        """Show a message until the next input."""
        self.toast = text

    # --- what is seen

    def screen(self) -> Screen:
        """What the phone shows now."""
        return self._view().screen

    def in_sight(self) -> tuple[tuple[Widget, Box], ...]:
        """The widgets in sight that react to a tap, and where they are: see [`layout.tappable`]."""
        view = self._view()
        if view.in_sight is None:
            view.in_sight = tuple(tappable(view.screen, self.scroll))
        return view.in_sight

    def _view(self) -> "_View":
        """What was last made of the state, as long as that is the same. None of its parts is ever changed in place."""
        view = self._made
        if (
            view is None
            or view.data is not self.data
            or view.stack is not self.stack
            or view.popup is not self.popup
            or (view.app, view.focus, view.toast) != (self.app, self.focus, self.toast)
        ):
            parts = (self.data, self.stack, self.popup, self.app, self.focus, self.toast)
            view = self._made = _View(*parts, self._make_screen())
        return view

    def _make_screen(self) -> Screen:
        if self.app is None:
            icons = tuple(Widget(f"app:{name}", "icon", name) for name in self._apps)
            return Screen("Home", icons, toast=self.toast)
        app = self._apps[self.app]
        shown = self._ask(app.screen, self.top["screen"], self.top["params"])
        popup = self._ask(app.popup, self.popup["name"], self.popup["params"]) if self.popup is not None else None
        return Screen(shown.title, shown.body, shown.actions, shown.tabs, popup, self.toast)

    @property
    def scroll(self) -> int:
        """Pixels by which the screen's body is scrolled up."""
        return self.top["scroll"]

    # --- inputs

    def tap(self, widget_id: str) -> bool:
        """Tap on a widget in sight."""
        widget = self._in_sight(widget_id)
        self.toast = ""
        if widget is None:
            self.focus = None
            return False
        if widget.kind == "field":
            self.focus, self.fresh = widget.id, True
            if self.field(widget.id) is None:
                # Data from a file may have something else there.
                self.fill(widget.id, str(widget.value))
            return True
        self.focus = None
        if self.app is None:
            return self.open_app(widget.text)
        app = self._apps[self.app]
        if self.popup is not None:
            popup, self.popup = self.popup, None
            self._ask(app.tap_popup, popup["name"], popup["params"], widget.id)
        else:
            self._ask(app.tap, self.top["screen"], self.top["params"], widget.id)
        return True

    def long_press(self, widget_id: str) -> bool:
        """Hold a widget in sight."""
        widget = self._in_sight(widget_id)
        self.toast, self.focus = "", None
        if widget is None or self.app is None or self.popup is not None:
            return False
        return self._ask(self._apps[self.app].long_press, self.top["screen"], self.top["params"], widget.id)

    def type_text(self, text: str) -> bool:
        """Type into the field that has the focus: over its text if it was only just tapped, else behind it."""
        self.toast = ""
        if self.focus is None:
            return False
        self.fill(self.focus, text if self.fresh else (self.field(self.focus) or "") + text)
        self.fresh = False
        return True

    def delete_character(self) -> bool:
        """Backspace: deletes the last character of the field that has the focus, or all of it if it is selected."""
        self.toast = ""
        if self.focus is None:
            return False
        self.fill(self.focus, "" if self.fresh else (self.field(self.focus) or "")[:-1])
        self.fresh = False
        return True

    def enter(self) -> bool:
        """The Enter key: submits the field that has the focus."""
        self.toast = ""
        if self.focus is None or self.app is None:
            return False
        field, self.focus = self.focus, None
        return self._ask(self._apps[self.app].submit, self.top["screen"], self.top["params"], field)

    def back(self) -> bool:
        """The Back button: closes the pop-up, or else the screen."""
        self.toast = ""
        if self.popup is not None:
            self.popup = None
        elif self.app is None:
            return False
        else:
            self.pop()
        return True

    def home(self) -> bool:
        """The Home button."""
        self.toast = ""
        changed = self.app is not None
        self.go_home()
        return changed

    def open_app(self, name: str) -> bool:
        """Start an app from its first screen."""
        self.toast = ""
        if name not in self._apps:
            return False
        self.go_home()
        self.app = name
        self.stack = (_entry("main", {}),)
        self._ask(self._apps[name].opened)
        return True

    def scroll_by(self, pixels: int) -> bool:
        """Scroll the screen's body: down to later lines for a positive number of pixels, up for a negative one."""
        self.toast = ""
        if self.popup is not None:
            return False
        scroll = min(max(self.scroll + pixels, 0), max_scroll(self.screen()))
        changed = scroll != self.scroll
        self.stack = (*self.stack[:-1], {**self.top, "scroll": scroll})
        return changed

    def wait(self) -> None:
        """Let some time pass: a toast goes away."""
        self.toast = ""

    # --- as data

    def copy(self) -> "PhoneState":
        """A phone in the same state; the data is shared until one of them changes it."""
        other = PhoneState(self._apps, self.data)
        other.app, other.stack, other.focus, other.fresh = self.app, self.stack, self.focus, self.fresh
        other.popup, other.toast, other._made = self.popup, self.toast, self._made
        return other

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON: what [`from_dict`] reads."""
        names = ("app", "stack", "focus", "fresh", "popup", "toast", "data")
        return json.loads(json.dumps({name: getattr(self, name) for name in names}))

    @classmethod
    def from_dict(cls, apps: Mapping[str, App], values: dict[str, Any]) -> "PhoneState":
        """A phone in a state that [`to_dict`] wrote."""
        state = cls(apps, values["data"])
        for name in ("app", "focus", "fresh", "popup", "toast"):
            setattr(state, name, values[name])
        state.stack = tuple(values["stack"])
        return state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PhoneState) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def _ask(self, method: Callable, *arguments: Any) -> Any:
        """Call a method of the open app."""
        try:
            return method(self, *arguments)
        except Exception as error:  # whatever it is: the app's code meets data that may come from a file
            said = f"{type(error).__name__}: {error}"
            raise AppError(
                f"the app {self.app} failed at `{method.__name__}` {arguments!r:.100}: {said:.200}"
            ) from error

    def _in_sight(self, widget_id: str) -> Widget | None:
        return next((widget for widget, _ in self.in_sight() if widget.id == widget_id), None)


@dataclass(slots=True)
class _View:
    """A screen, and what it was made of. Copies of a state share it."""

    data: dict[str, Any]
    stack: tuple[dict[str, Any], ...]
    popup: dict[str, Any] | None
    app: str | None
    focus: str | None
    toast: str
    screen: Screen
    in_sight: tuple[tuple[Widget, Box], ...] | None = None


def _entry(screen: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"screen": screen, "params": params, "scroll": 0, "fields": {}}


def _with(value: Any, path: tuple[str, ...], new: Any) -> Any:
    if not path:
        return new
    base = value if isinstance(value, dict) else {}
    return {**base, path[0]: _with(base.get(path[0]), path[1:], new)}
