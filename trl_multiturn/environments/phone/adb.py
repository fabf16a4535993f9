"""[`AdbBackend`]: a real phone or an emulator, over Android's debug bridge."""

import io
import re
import shlex
import subprocess
import time
from collections.abc import Mapping

from PIL import Image, UnidentifiedImageError

from ..lost import EnvironmentLostError
from .actions import Action, ActionError
from .backend import KEYS, LONG_PRESS_SECONDS, is_long_press, point
from .state import PhoneState


# What the keys of the phone's other backends are called on Android, and some that only a real phone has.
_KEYCODES = {
    "enter": "KEYCODE_ENTER",
    "backspace": "KEYCODE_DEL",
    "back": "KEYCODE_BACK",
    "home": "KEYCODE_HOME",
    "menu": "KEYCODE_MENU",
    "tab": "KEYCODE_TAB",
    "volume_up": "KEYCODE_VOLUME_UP",
    "volume_down": "KEYCODE_VOLUME_DOWN",
}

_SWIPE_MILLISECONDS = 400

# Largest screenshot that is read, in bytes of PNG.
_MAX_SCREENSHOT = 64 * 2**20

_PACKAGE = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)
_SIZE = re.compile(r"(Physical|Override) size: (\d{1,5})x(\d{1,5})")


class AdbBackend:
    """
    A phone or an emulator that `adb` is connected to. Nothing is known of its state: it cannot be put into one, and what the model
    has reached must be judged from the screenshots. What it does there stays done.

    Args:
        serial (`str`, *optional*):
            The device's serial number, as `adb devices` lists it; may be left out if there is one device only.
        adb (`str`, *optional*, defaults to `"adb"`):
            Path of the program.
        apps (`dict[str, str]`, *optional*):
            Android package of each app that the model may open by its name, such as `{"Clock": "com.android.deskclock"}`.
        settle (`float`, *optional*, defaults to `1.0`):
            Seconds to wait after an action, until the screen has stopped moving.
        timeout (`float`, *optional*, defaults to `30.0`):
            Seconds after which a device that does not answer counts as lost.

    Raises:
        `ValueError`: For an app whose package has no valid name.
        [`EnvironmentLostError`]: From every method, if the device does not answer as it should.
    """

    def __init__(
        self,
        serial: str | None = None,
        adb: str = "adb",
        apps: Mapping[str, str] | None = None,
        settle: float = 1.0,
        timeout: float = 30.0,
    ) -> None:
        for name, package in (apps or {}).items():
            if not _PACKAGE.fullmatch(package):
                raise ValueError(
                    f"`apps` must give packages such as 'com.android.deskclock', got {package!r} for {name}."
                )
        self._command = [adb, *(["-s", serial] if serial is not None else [])]
        self._apps = dict(apps or {})
        self._settle = settle
        self._timeout = timeout
        self._size: tuple[int, int] | None = None

    @property
    def state(self) -> PhoneState | None:
        """Unknown."""
        return None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the device's screen in pixels."""
        if self._size is None:
            sizes = {
                kind: (int(x), int(y))
                for kind, x, y in _SIZE.findall(self._shell("wm", "size").decode("ascii", "replace"))
            }
            size = sizes.get("Override", sizes.get("Physical"))
            if size is None or 0 in size:
                raise EnvironmentLostError("The device does not say how large its screen is.")
            self._size = size
        return self._size

    def reset(self, state: PhoneState | None) -> None:
        """Start an episode on the home screen. A `state` cannot be given."""
        if state is not None:
            raise ValueError("A real device cannot be put into a state: its rows must have no task.")
        self._key("home")
        time.sleep(self._settle)

    def screenshot(self) -> Image.Image:
        """What the screen shows now."""
        png = self._run("exec-out", "screencap", "-p")
        if len(png) > _MAX_SCREENSHOT:
            raise EnvironmentLostError(f"The device sent a screenshot of {len(png)} bytes.")
        try:
            return Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise EnvironmentLostError("The device sent a screenshot that is no PNG.") from error

    def perform(self, action: Action) -> str:
        """Carry out an action: see [`PhoneBackend.perform`]."""
        if action.action == "terminate":
            return ""
        if action.action == "wait":
            time.sleep(action.time or 0)
            return ""
        if action.action in ("click", "long_press"):
            self._press(action)
        elif action.action == "swipe":
            self._input("swipe", *point(action), *point(action, "coordinate2"), _SWIPE_MILLISECONDS)
        elif action.action == "type":
            self._type(action.text or "")
        elif action.action == "open":
            self._open(action.text or "")
        else:
            name = (action.button or action.text or "").lower()
            self._key(KEYS.get(name, name))
        time.sleep(self._settle)
        return ""

    def close(self) -> None:
        """Nothing to give up."""

    def _press(self, action: Action) -> None:
        x, y = point(action)
        if is_long_press(action):
            # A swipe that goes nowhere holds the finger down.
            seconds = max(action.time or 2 * LONG_PRESS_SECONDS, LONG_PRESS_SECONDS)
            self._input("swipe", x, y, x, y, round(1000 * seconds))
        else:
            self._input("tap", x, y)

    def _type(self, text: str) -> None:
        if not text.isascii() or not text.isprintable():
            raise ActionError("This phone's keyboard has only the letters and signs of ASCII.")
        # Android reads %s as a blank. Where the text itself says so, it is sent in two parts.
        for part in text.replace("%s", "%\ns").split("\n"):
            self._input("text", part.replace(" ", "%s"))

    def _open(self, name: str) -> None:
        packages = {app.casefold(): package for app, package in self._apps.items()}
        package = packages.get(name.strip().casefold())
        if package is None:
            known = ", ".join(self._apps) or "none that can be opened by name"
            raise ActionError(f"There is no such app on the phone. There are {known}.")
        self._shell("monkey", "-p", package, "-c", "android.intent.category.LAUNCHER", "1")

    def _key(self, name: str) -> None:
        code = _KEYCODES.get(name)
        if code is None:
            raise ActionError(f"The keys of this phone are {', '.join(_KEYCODES)}.")
        self._input("keyevent", code)

    def _input(self, *arguments: str | int) -> None:
        self._shell("input", *(str(argument) for argument in arguments))

    def _shell(self, *arguments: str) -> bytes:
        # The device's shell reads the words again.
        return self._run("shell", *(shlex.quote(argument) for argument in arguments))

    def _run(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(
                [*self._command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=self._timeout
            )
        except FileNotFoundError:
            raise FileNotFoundError(
                f"There is no program {self._command[0]!r}. Install Android's platform tools (`apt install adb`)."
            ) from None
        except subprocess.TimeoutExpired:
            raise EnvironmentLostError(f"The device did not answer within {self._timeout:g} seconds.") from None
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[:200]
            raise EnvironmentLostError(f"The device refused `{arguments[0]}`: {said or done.returncode}")
        return done.stdout
