import json
import sys
from pathlib import Path

import pytest

from trl_multiturn.environments.lost import EnvironmentLostError
from trl_multiturn.environments.phone.actions import Action, ActionError
from trl_multiturn.environments.phone.adb import AdbBackend
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.environment import PhoneEnvironment
from trl_multiturn.environments.phone.state import PhoneState


class Device:
    """The fake device, and a backend for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        program = folder / "adb"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_adb.py")} "$@"\n')
        program.chmod(0o755)
        self.program = str(program)
        self.backend = self.connect()

    def connect(self, serial="emulator-5554", timeout=20.0):
        apps = {"Clock": "com.android.deskclock"}
        return AdbBackend(serial, self.program, apps, settle=0.0, timeout=timeout)

    def misbehave(self, mode):
        (self._folder / "mode").write_text(mode)

    @property
    def log(self):
        path = self._folder / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def device(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_ADB", str(tmp_path))
    return Device(tmp_path)


def test_size_is_the_one_set_for_the_screen(device):
    assert device.backend.size == device.backend.size == (540, 1200)
    assert device.log == [["shell", "wm", "size"]]


def test_screenshot(device):
    screenshot = device.backend.screenshot()
    assert screenshot.mode == "RGB"
    assert screenshot.size == device.backend.size
    assert screenshot.getpixel((5, 5)) == (0, 128, 128)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Action("click", coordinate=(12, 34)), "input tap 12 34"),
        (Action("long_press", coordinate=(12, 34), time=1.5), "input swipe 12 34 12 34 1500"),
        (Action("long_press", coordinate=(12, 34), time=0.2), "input tap 12 34"),
        (Action("swipe", coordinate=(1, 900), coordinate2=(2, 100)), "input swipe 1 900 2 100 400"),
        (Action("system_button", button="Back"), "input keyevent KEYCODE_BACK"),
        (Action("system_button", button="Enter"), "input keyevent KEYCODE_ENTER"),
        (Action("key", text="volume_up"), "input keyevent KEYCODE_VOLUME_UP"),
        (Action("key", text="KEYCODE_DEL"), "input keyevent KEYCODE_DEL"),
        (Action("open", text="clock"), "monkey -p com.android.deskclock -c android.intent.category.LAUNCHER 1"),
        (Action("type", text="two words"), "input text two%swords"),
    ],
)
def test_actions(device, action, words):
    assert device.backend.perform(action) == ""
    assert device.log == [["shell", *words.split()]]


@pytest.mark.parametrize(
    "text", ["; reboot", "$(reboot) `reboot`", "a'b\"c", "-n *.txt > /sdcard/x & | \\", "100%sure %%s"]
)
def test_text_reaches_the_device_as_it_is(device, text):
    device.backend.perform(Action("type", text=text))
    parts = [words[-1] for words in device.log]
    assert all(words[:3] == ["shell", "input", "text"] and len(words) == 4 for words in device.log)
    # Android's `input text` reads %s as a blank.
    assert "".join(part.replace("%s", " ") for part in parts) == text


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Action("type", text="北京"), "only the letters and signs of ASCII"),
        (Action("open", text="Bank"), "There are Clock"),
        (Action("key", text="power"), "keys of this phone are enter, backspace"),
    ],
)
def test_what_the_phone_cannot_do(device, action, message):
    with pytest.raises(ActionError, match=message):
        device.backend.perform(action)
    assert device.log == []


def test_wait_and_terminate_send_nothing(device):
    device.backend.perform(Action("wait", time=0.01))
    device.backend.perform(Action("terminate", status="success"))
    assert device.log == []


def test_package_names_are_checked():
    with pytest.raises(ValueError, match="packages such as"):
        AdbBackend(apps={"Clock": "com.x; reboot"})


def test_no_state_can_be_given(device):
    assert device.backend.state is None
    with pytest.raises(ValueError, match="cannot be put into a state"):
        device.backend.reset(PhoneState(APPS))


@pytest.mark.parametrize(
    ("mode", "message"),
    [("offline", "device offline"), ("garbage", "no PNG"), ("cut", "no PNG"), ("hang", "did not answer")],
)
def test_lost_device(device, mode, message):
    device.misbehave(mode)
    with pytest.raises(EnvironmentLostError, match=message):
        device.connect(timeout=2.0 if mode == "hang" else 20.0).screenshot()


def test_size_that_cannot_be_read(device):
    device.misbehave("garbage")
    with pytest.raises(EnvironmentLostError, match="how large"):
        _ = device.backend.size


def test_unknown_device_and_missing_program(device):
    with pytest.raises(EnvironmentLostError, match="no such device"):
        device.connect(serial="other").screenshot()
    with pytest.raises(FileNotFoundError, match="platform tools"):
        AdbBackend(adb="no-such-adb").screenshot()


def test_environment_on_a_device(device):
    environment = PhoneEnvironment(lambda: device.backend, scale=0.5)
    (image,) = environment.reset(instruction="Open the clock")
    assert image["image"].size == (270, 600)
    environment.mobile_use("click", coordinate=[100, 200])
    assert environment.is_done is None
    x, y = map(int, [words[-2:] for words in device.log if "tap" in words][0])
    assert (x // 2, y // 2) == (100, 200)
