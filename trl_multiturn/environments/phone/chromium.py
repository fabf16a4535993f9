"""[`ChromiumBackend`]: the phone's screen as a page of headless Chromium, which is touched and typed into for real."""

import base64
import io
import logging
from dataclasses import asdict
from typing import Any

from PIL import Image

from ..lost import EnvironmentLostError
from .actions import Action
from .backend import (
    LONG_PRESS_SECONDS,
    NOTHING,
    check_focus,
    is_enter,
    is_long_press,
    key_of,
    point,
    system_action,
)
from .browser import Browser, BrowserPage, drag, screenshot_png, tap
from .chromium_page import PAGE
from .layout import HEIGHT, LINE, WIDTH, Box, Widget, body_box, body_boxes, place_parts, popup_box
from .pillow_renderer import scroll_bar, tile_colour, toast_box
from .state import PhoneState


logger = logging.getLogger(__name__)

# How long a page may take to report a touch, in milliseconds.
REPORT_MILLISECONDS = 2000


class ChromiumBackend:
    """
    A phone whose state is a [`PhoneState`], shown and touched in headless Chromium.

    Every touch, swipe, text and key goes through the browser, which finds what lies under the finger, scrolls and edits text. The
    page reports what that came to, the state follows, and the page is drawn anew from the state. All backends of a process share
    one browser, each with a page of its own; they may be used from different threads.

    Needs `pip install trl-multiturn[browser]` and a Chromium: see [`browser.find_chromium`]. If the browser dies in an episode,
    [`EnvironmentLostError`] is raised, and the next reset starts a new one.

    Args:
        executable (`str`, *optional*):
            Path of the browser's program.

    Attributes:
        restarts (`int`):
            How often a dead page or browser was replaced.

    Example:

    ```python
    >>> backend = ChromiumBackend()
    >>> backend.reset(task.initial_state())
    >>> backend.perform(Action("swipe", coordinate=(196, 600), coordinate2=(196, 200)))
    ''
    ```
    """

    size = (WIDTH, HEIGHT)

    def __init__(self, executable: str | None = None) -> None:
        self._executable = executable
        self._state: PhoneState | None = None
        self._page: BrowserPage | None = None
        self._shown = False
        self.restarts = 0

    @property
    def state(self) -> PhoneState:
        """State of the phone."""
        if self._state is None:
            raise RuntimeError("The phone must be reset before it is used.")
        return self._state

    def reset(self, state: PhoneState | None) -> None:
        """Start an episode in a state, in a new browser if the old one has died."""
        if state is None:
            raise ValueError("`state` must be given: this phone follows its state.")
        self._state, self._shown = state, False
        if self._page is not None:
            try:
                self._show(self._page)
                return
            except EnvironmentLostError as error:
                self.restarts += 1
                logger.warning("%s A new one is started.", error)
                self.close()
        page = Browser.shared_page(self._executable, self.size, touch=True)
        code = PAGE.replace("LONG_PRESS", str(int(1000 * LONG_PRESS_SECONDS)))
        page.run(lambda handle, _: handle.set_content(code))
        self._page = page
        self._show(page)

    def screenshot(self) -> Image.Image:
        """What the screen shows now."""
        page = self._ready()
        png = page.run(lambda _, session: screenshot_png(session))
        return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")

    def perform(self, action: Action) -> str:
        """Carry out an action: see [`PhoneBackend.perform`]."""
        state, page = self.state, self._ready()
        if action.action in ("click", "long_press"):
            x, y = point(action)
            seconds = 2 * LONG_PRESS_SECONDS if is_long_press(action) else 0.05
            changed = self._touch(page, x, y, seconds)
        elif action.action == "swipe":
            changed = self._swipe(page, action)
        elif action.action == "type":
            check_focus(state)
            changed = self._type(page, action.text or "")
        elif is_enter(action):
            changed = self._key(page, "Enter")
        elif action.action == "key" and key_of(action) == "backspace":
            changed = self._key(page, "Backspace")
        else:
            changed = system_action(state, action)
        self._shown = False
        return "" if changed else NOTHING

    def close(self) -> None:
        """Close the page. The browser runs on for others."""
        if self._page is not None:
            self._page.close()
            self._page = None

    def _ready(self) -> BrowserPage:
        """The page, showing the state."""
        if self._page is None:
            raise RuntimeError("The phone must be reset before it is used.")
        if not self._shown:
            self._show(self._page)
        return self._page

    def _show(self, page: BrowserPage) -> None:
        screen = describe(self.state)
        page.run(lambda handle, _: handle.evaluate("screen => show(screen)", screen))
        self._shown = True

    def _touch(self, page: BrowserPage, x: int, y: int, seconds: float) -> bool:
        async def work(handle: Any, session: Any) -> list[dict[str, Any]]:
            await tap(session, x, y, seconds)
            return await handle.evaluate("take", REPORT_MILLISECONDS)

        for event in page.run(work):
            if event["kind"] == "tap":
                return self.state.tap(event["id"])
            if event["kind"] == "long_press":
                return self.state.long_press(event["id"])
        raise EnvironmentLostError("The browser is lost: its page did not notice a touch.")

    def _swipe(self, page: BrowserPage, action: Action) -> bool:
        start, end = point(action), point(action, "coordinate2")
        vertical = action.direction in ("up", "down")
        across, along = (0, end[1] - start[1]) if vertical else (end[0] - start[0], 0)

        async def work(handle: Any, session: Any) -> float:
            await drag(session, start, across, along)
            return await handle.evaluate("scrolled")

        return self.state.scroll_by(round(page.run(work)) - self.state.scroll)

    def _type(self, page: BrowserPage, text: str) -> bool:
        async def work(handle: Any, _: Any) -> list[dict[str, Any]]:
            await handle.keyboard.insert_text(text)
            return await handle.evaluate("take", REPORT_MILLISECONDS)

        for event in page.run(work):
            if event["kind"] == "text":
                # The whole text of the field, old and new.
                self.state.fresh = True
                return self.state.type_text(event["text"])
        return False

    def _key(self, page: BrowserPage, key: str) -> bool:
        async def work(handle: Any, _: Any) -> list[dict[str, Any]]:
            await handle.keyboard.press(key)
            return await handle.evaluate("take", REPORT_MILLISECONDS)

        for event in page.run(work):
            if event["kind"] == "key":
                return self.state.enter() if event["key"] == "Enter" else self.state.delete_character()
        return False


def describe(state: PhoneState) -> dict[str, Any]:
    """What the page needs to draw a phone's screen: its widgets with their boxes."""
    screen = state.screen()
    _, actions, tabs, buttons = place_parts(screen, state.scroll)
    bar = scroll_bar(screen, state.scroll)
    popup = None
    if screen.popup is not None:
        box = popup_box(screen.popup)
        popup = {"title": screen.popup.title, "text": screen.popup.text, "box": box, "buttons": _widgets(buttons)}
    return {
        "title": screen.title,
        "bar_box": Box(0, 0, WIDTH, LINE),
        "bar_taken": WIDTH - actions[0][1].left if actions else 0,
        "body": _widgets(list(zip(screen.body, body_boxes(screen.body), strict=True))),
        "body_box": body_box(screen),
        "actions": _widgets(actions),
        "tabs": _widgets(tabs),
        "popup": popup,
        "toast": screen.toast,
        "toast_box": toast_box(screen),
        "scroll": state.scroll,
        "track": bar and bar[0],
        "thumb": bar and Box(0, bar[1].top - bar[0].top, bar[1].right - bar[1].left, bar[1].bottom - bar[0].top),
        "focus": state.focus,
        "selected": state.fresh,
    }


def _widgets(placed: list[tuple[Widget, Box]]) -> list[dict[str, Any]]:
    return [{**asdict(widget), "box": box, "colour": tile_colour(widget.text)} for widget, box in placed]
