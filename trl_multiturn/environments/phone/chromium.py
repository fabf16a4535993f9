"""[`ChromiumBackend`]: the phone's screen as a page of headless Chromium, which is touched and typed into for real."""

import logging
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

from PIL import Image

from ..lost import EnvironmentLostError
from .actions import Action
from .backend import LONG_PRESS_SECONDS, SimulatedPhone
from .browser import Browser, BrowserPage, drag, tap
from .chromium_page import PAGE
from .layout import LINE, WIDTH, Box, Widget, body_box, body_boxes, place_parts, popup_box
from .pillow_renderer import scroll_bar, tile_colour, toast_box
from .state import PhoneState


logger = logging.getLogger(__name__)

# How long a page may take to report a touch, in milliseconds: on a busy machine that takes much longer than usual.
REPORT_MILLISECONDS = 10_000


class ChromiumBackend(SimulatedPhone):
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

    def __init__(self, executable: str | None = None) -> None:
        super().__init__()
        self._executable = executable
        self._page: BrowserPage | None = None
        self._shown = False
        self.restarts = 0

    def reset(self, state: PhoneState | None) -> None:
        """Start an episode in a state, in a new browser if the old one has died."""
        super().reset(state)
        self._shown = False
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
        return self._ready().screenshot()

    def perform(self, action: Action) -> str:
        """Carry out an action: see [`PhoneBackend.perform`]."""
        self._ready()
        answer = super().perform(action)
        self._shown = False
        return answer

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

    def _press(self, where: tuple[int, int], long: bool) -> bool:
        async def work(_: Any, session: Any) -> None:
            await tap(session, *where, 2 * LONG_PRESS_SECONDS if long else 0.05)

        for event in self._reports(work):
            if event["kind"] == "tap":
                return self.state.tap(event["id"])
            if event["kind"] == "long_press":
                return self.state.long_press(event["id"])
        raise EnvironmentLostError("The browser is lost: its page did not notice a touch.")

    def _swipe(self, start: tuple[int, int], end: tuple[int, int], vertical: bool) -> bool:
        across, along = (0, end[1] - start[1]) if vertical else (end[0] - start[0], 0)

        async def work(handle: Any, session: Any) -> float:
            await drag(session, start, across, along)
            return await handle.evaluate("scrolled")

        return self.state.scroll_by(round(self._ready().run(work)) - self.state.scroll)

    def _type(self, text: str) -> bool:
        for event in self._reports(lambda handle, _: handle.keyboard.insert_text(text)):
            if event["kind"] == "text":
                # The whole text of the field, old and new.
                self.state.fresh = True
                return self.state.type_text(event["text"])
        return False

    def _enter(self) -> bool:
        return self._noticed_key("Enter") and self.state.enter()

    def _delete_character(self) -> bool:
        return self._noticed_key("Backspace") and self.state.delete_character()

    def _noticed_key(self, key: str) -> bool:
        """Press a key; whether it arrived at the page."""
        reports = self._reports(lambda handle, _: handle.keyboard.press(key))
        return any(event["kind"] == "key" and event["key"] == key for event in reports)

    def _reports(self, work: Callable[[Any, Any], Coroutine[Any, Any, None]]) -> list[dict[str, Any]]:
        """Do something with the page, and what the page says happened to it."""

        async def observed(handle: Any, session: Any) -> list[dict[str, Any]]:
            await work(handle, session)
            return await handle.evaluate("take", REPORT_MILLISECONDS)

        return self._ready().run(observed)


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
