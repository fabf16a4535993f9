"""Headless Chromium for the whole process: one browser on a thread of its own, and pages that any thread may use."""

import asyncio
import atexit
import base64
import io
import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from PIL import Image

from ..lost import EnvironmentLostError
from ..requirements import require


logger = logging.getLogger(__name__)

T = TypeVar("T")

# Names of browsers on the path, those made for running without a screen first.
EXECUTABLES = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
EXECUTABLE_VARIABLE = "TRL_MULTITURN_CHROMIUM"

# After this many seconds without an answer a browser counts as lost.
ANSWER_SECONDS = 30.0

# Chromium takes a finger for a swipe once it has moved by more than this many pixels, and scrolls by what it moves on.
TOUCH_SLOP = 15


def find_chromium(executable: str | None = None) -> str | None:
    """
    Where Chromium is: the argument, or the environment variable `TRL_MULTITURN_CHROMIUM`, or what is on the path.

    Args:
        executable (`str`, *optional*):
            Path of the program.

    Returns:
        `str` or `None`: Its path; `None` if none is named or on the path, so that playwright has to look for its own.

    Raises:
        `FileNotFoundError`: If a path was given and nothing is there.
    """
    named = executable or os.environ.get(EXECUTABLE_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise FileNotFoundError(f"There is no program {named!r} to run as Chromium.")
        return found
    return next((path for path in map(shutil.which, EXECUTABLES) if path is not None), None)


class Browser:
    """
    A running Chromium. [`Browser.shared_page`] opens pages of the one that all environments of a process use.

    Args:
        executable (`str`, *optional*):
            Path of the program; see [`find_chromium`].

    Raises:
        `ImportError`: If playwright is not installed.
        `FileNotFoundError`: If no browser is found.
        [`EnvironmentLostError`]: If it does not start.
    """

    _shared: "dict[str | None, Browser]" = {}
    _lock = threading.Lock()

    def __init__(self, executable: str | None = None) -> None:
        require("playwright", "browser")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chromium", daemon=True)
        self._thread.start()
        self._driver: Any = None
        self._browser: Any = None
        try:
            self.run(self._start(find_chromium(executable)))
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    @classmethod
    def shared_page(cls, executable: str | None, size: tuple[int, int], touch: bool) -> "BrowserPage":
        """
        Open a page of the browser that all environments of this process share. It is started if there is none, or if it has died.

        Args:
            executable (`str` or `None`):
                Path of the program; see [`find_chromium`].
            size (`tuple[int, int]`):
                Width and height of the page in pixels.
            touch (`bool`):
                Whether it behaves as a phone with a touch screen.

        Returns:
            [`BrowserPage`]: The page.
        """
        program = find_chromium(executable)
        with cls._lock:
            browser = cls._shared.get(program)
            if browser is not None and browser.alive:
                try:
                    return browser.open_page(size, touch)
                except EnvironmentLostError as error:
                    # A browser whose driver has died does not know it until it is asked for something.
                    logger.warning("%s A new one is started.", error)
            if browser is not None:
                browser.close()
            cls._shared[program] = browser = cls(program)
            return browser.open_page(size, touch)

    @property
    def alive(self) -> bool:
        """Whether the browser still runs."""
        return self._browser is not None and self._browser.is_connected() and not self._loop.is_closed()

    def run(self, work: Coroutine[Any, Any, T], crashed: "asyncio.Future[None] | None" = None) -> T:
        """
        Run a coroutine on the browser's thread and wait for it.

        Args:
            work (coroutine):
                What to do.
            crashed (`asyncio.Future`, *optional*):
                Done when the page that is worked on is dead: playwright may wait for an answer all the same.

        Returns:
            What it returns.

        Raises:
            [`EnvironmentLostError`]: If the browser fails or does not answer in time.
        """
        from playwright.async_api import Error

        async def limited() -> T:
            task = asyncio.ensure_future(work)
            waited: set[asyncio.Future[Any]] = {task, crashed} if crashed is not None else {task}
            await asyncio.wait(waited, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            task.cancel()
            if crashed is not None and crashed.done():
                raise Error("its page has crashed.")
            raise Error(f"no answer within {ANSWER_SECONDS:g} seconds.")

        try:
            return asyncio.run_coroutine_threadsafe(limited(), self._loop).result()
        # Of a dead browser or driver playwright speaks with its own errors, or the pipe with those of the system.
        except (Error, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EnvironmentLostError(f"The browser is lost: {reason}") from error

    def open_page(self, size: tuple[int, int], touch: bool) -> "BrowserPage":
        """
        Open an empty page that sees no network, apart from all others.

        Args:
            size (`tuple[int, int]`):
                Width and height in pixels.
            touch (`bool`):
                Whether it behaves as a phone with a touch screen.

        Returns:
            [`BrowserPage`]: The page.
        """

        async def work() -> tuple[Any, ...]:
            context = await self._browser.new_context(
                viewport={"width": size[0], "height": size[1]}, has_touch=touch, is_mobile=touch, offline=True
            )
            page = await context.new_page()
            crashed = asyncio.get_running_loop().create_future()

            def note(_: Any) -> None:
                if not crashed.done():
                    crashed.set_result(None)

            page.on("crash", note)
            return context, page, await context.new_cdp_session(page), crashed

        return BrowserPage(self, *self.run(work()))

    def close(self) -> None:
        """End the browser."""
        atexit.unregister(self.close)
        if self._loop.is_closed():
            return
        try:
            self.run(self._stop())
        except EnvironmentLostError:
            # It has died before: nothing is left to end.
            self._browser = None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()

    async def _start(self, executable: str | None) -> None:
        from playwright.async_api import async_playwright

        self._driver = await async_playwright().start()
        chromium = self._driver.chromium
        if executable is None and not os.path.exists(chromium.executable_path):
            raise FileNotFoundError(
                "No Chromium was found. Install one (`apt install chromium-headless-shell`, or `playwright install "
                f"chromium`), or name its program in the environment variable {EXECUTABLE_VARIABLE}."
            )
        # As root Chromium runs without its sandbox only.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        arguments = ["--hide-scrollbars", *(["--no-sandbox"] if root else [])]
        self._browser = await chromium.launch(executable_path=executable, args=arguments)

    async def _stop(self) -> None:
        if self._browser is not None:
            await self._browser.close()
        if self._driver is not None:
            await self._driver.stop()


class BrowserPage:
    """
    A page of a [`Browser`]. It is closed when nothing refers to it any more.

    Args:
        browser ([`Browser`]):
            Browser that it belongs to.
        context (`playwright.async_api.BrowserContext`):
            The page's context, which holds no other page.
        page (`playwright.async_api.Page`):
            The page.
        session (`playwright.async_api.CDPSession`):
            Its session of the DevTools protocol.
        crashed (`asyncio.Future`):
            Done when the page is dead.
    """

    def __init__(
        self, browser: Browser, context: Any, page: Any, session: Any, crashed: "asyncio.Future[None]"
    ) -> None:
        self._browser, self._page, self._session, self._crashed = browser, page, session, crashed
        self._lost = False
        self._close = weakref.finalize(self, _close_context, browser, context)
        self._close.atexit = False

    def run(self, work: Callable[[Any, Any], Coroutine[Any, Any, T]]) -> T:
        """Run `work(page, session)` on the browser's thread and wait for it; see [`Browser.run`]."""
        if self._lost or not self._browser.alive:
            raise EnvironmentLostError("The browser is lost: it has ended.")
        try:
            return self._browser.run(work(self._page, self._session), self._crashed)
        except EnvironmentLostError:
            self._lost = True
            raise

    def screenshot(self) -> Image.Image:
        """What the page shows, in RGB."""

        async def work(_: Any, session: Any) -> dict[str, Any]:
            return await session.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True})

        return Image.open(io.BytesIO(base64.b64decode(self.run(work)["data"]))).convert("RGB")

    def close(self) -> None:
        """Close the page."""
        self._close()


def _close_context(browser: Browser, context: Any) -> None:
    # Not waited for: the garbage collector may call this on the browser's own thread.
    if browser.alive:
        asyncio.run_coroutine_threadsafe(_ignore_errors(context.close()), browser._loop)


async def _ignore_errors(work: Awaitable[Any]) -> None:
    await asyncio.gather(work, return_exceptions=True)


# --- touches. Times are given along with them, so that holding takes no time and the finger stands still before it is lifted:
# the page is not thrown on.


async def tap(session: Any, x: int, y: int, seconds: float = 0.05) -> None:
    """Touch a point for some seconds."""
    start = time.time()
    await _touch(session, "touchStart", start, (x, y))
    await _touch(session, "touchEnd", start + seconds)


async def drag(session: Any, start: tuple[int, int], across: int, along: int) -> None:
    """Touch a point and move the finger so that what lies under it moves by so many pixels, to the right or down."""
    (x, y), now = start, time.time()
    slop_x, slop_y = (_sign(across) * TOUCH_SLOP, _sign(along) * TOUCH_SLOP)
    end = x + slop_x + across, y + slop_y + along
    await _touch(session, "touchStart", now, (x, y))
    await _touch(session, "touchMove", now + 0.05, (x + slop_x, y + slop_y))
    await _touch(session, "touchMove", now + 0.2, end)
    await _touch(session, "touchMove", now + 0.6, end)
    await _touch(session, "touchEnd", now + 0.9)


async def _touch(session: Any, kind: str, seconds: float, *points: tuple[int, int]) -> None:
    touches = [{"x": x, "y": y} for x, y in points]
    await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches, "timestamp": seconds})


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
