"""Templates of tasks in Settings."""

import random
from functools import partial
from typing import Any

from ..apps.common import APP_NAMES
from ..apps.settings_pages import PAGES, SETTINGS, Setting
from ..task import Condition, Path, PhoneTask
from .common import app_task


NETWORKS = ("Harbour", "Linden", "Library", "Studio 12", "Old mill", "Terrace", "Rooftop", "North wing")
DEVICES = ("Speaker", "Headset", "Car radio", "Watch", "Keyboard", "Earbuds", "Printer", "Lamp")
PASSWORDS = ("maple-41", "river2030", "greenDoor", "tulip-77", "9lanterns", "quietfox", "sevenoaks", "pebble88")
PHONE_NAMES = ("Work phone", "Nora's phone", "Blue phone", "Spare phone", "Kitchen phone", "Travel phone")

_VALUES: Path = ("Settings", "values")
# Notifications have a template of their own.
_SWITCHES = [s for s in SETTINGS.values() if not s.options and s.page != "notifications"]
_CHOICES = [s for s in SETTINGS.values() if s.options]

# What a choice is called in Chinese; names of places, pictures and languages stay as the phone shows them.
_OPTIONS_ZH = {
    "Low": "低（Low）",
    "Medium": "中（Medium）",
    "High": "高（High）",
    "Small": "小（Small）",
    "Large": "大（Large）",
}


_task = partial(app_task, "Settings")


def _battery(rng: random.Random) -> tuple[Path, Any]:
    """Now and then a pop-up is in the way."""
    return ("Settings", "low_battery"), rng.random() < 0.3


def _is(key: str, value: Any) -> Condition:
    return Condition((*_VALUES, key), "equals", value)


def _turn(rng: random.Random, on: bool) -> PhoneTask:
    setting = rng.choice(_SWITCHES)
    word, word_zh = ("on", "打开") if on else ("off", "关闭")
    return _task(
        f"turn_{word}",
        f"Turn {word} '{setting.label}'.",
        f"{word_zh}“{setting.label_zh}”。",
        setup=(_battery(rng), ((*_VALUES, setting.key), not on)),
        goal=(_is(setting.key, on),),
        allowed=((*_VALUES, setting.key),),
    )


def _turn_on(rng: random.Random) -> PhoneTask:
    return _turn(rng, True)


def _turn_off(rng: random.Random) -> PhoneTask:
    return _turn(rng, False)


def _two(rng: random.Random) -> PhoneTask:
    # Both on one page: else the way is long, and the instruction reads as two tasks.
    pages = [page for page in PAGES if sum(s.page == page for s in _SWITCHES) > 1]
    page = rng.choice(pages)
    first, second = rng.sample([s for s in _SWITCHES if s.page == page], 2)
    return _task(
        "two_switches",
        f"Turn on '{first.label}' and turn off '{second.label}'.",
        f"打开“{first.label_zh}”，并关闭“{second.label_zh}”。",
        setup=(((*_VALUES, first.key), False), ((*_VALUES, second.key), True)),
        goal=(_is(first.key, True), _is(second.key, False)),
        allowed=((*_VALUES, first.key), (*_VALUES, second.key)),
    )


def _drawn_choice(rng: random.Random) -> tuple[Setting, str, str]:
    setting = rng.choice(_CHOICES)
    old, new = rng.sample(setting.options, 2)
    return setting, old, new


def _choose(rng: random.Random) -> PhoneTask:
    setting, old, new = _drawn_choice(rng)
    return _task(
        "choose",
        f"Set '{setting.label}' to '{new}'.",
        f"把“{setting.label_zh}”设为“{_OPTIONS_ZH.get(new, new)}”。",
        setup=(_battery(rng), ((*_VALUES, setting.key), old)),
        goal=(_is(setting.key, new),),
        allowed=((*_VALUES, setting.key),),
    )


def _notifications(rng: random.Random) -> PhoneTask:
    app = rng.choice(APP_NAMES)
    on = rng.random() < 0.5
    return _task(
        "notifications",
        f"I want notifications from {app} again." if on else f"Stop notifications from {app}.",
        f"重新打开{app}的通知。" if on else f"关闭{app}的通知。",
        setup=(_battery(rng), ((*_VALUES, f"notify {app}"), not on)),
        goal=(_is(f"notify {app}", on),),
        allowed=((*_VALUES, f"notify {app}"),),
    )


def _networks(rng: random.Random, saved: bool = False) -> tuple[dict[str, Any], str, str]:
    """Networks of which the first is connected, and the id and name of another that has a near namesake."""
    name, other, connected = rng.sample(NETWORKS, 3)
    names = [name, f"{name} guest", other]
    rng.shuffle(names)
    networks = {
        str(i): {"name": each, "password": rng.choice(PASSWORDS), "saved": saved or i == 1}
        for i, each in enumerate([connected, *names], 1)
    }
    wanted = rng.choice((name, f"{name} guest"))
    return networks, next(i for i, network in networks.items() if network["name"] == wanted), wanted


def _join(rng: random.Random) -> PhoneTask:
    networks, network, name = _networks(rng)
    password = networks[network]["password"]
    return _task(
        "join",
        f"Connect to the Wi-Fi network '{name}'. The password is '{password}'.",
        f"连接无线网络“{name}”，密码是“{password}”。",
        setup=((("Settings", "networks"), networks), ((*_VALUES, "wifi"), rng.random() < 0.6)),
        goal=(Condition(("Settings", "network"), "equals", network), _is("wifi", True)),
        allowed=(("Settings", "network"), ("Settings", "networks", network, "saved"), (*_VALUES, "wifi")),
        texts=(password,),
    )


def _switch_network(rng: random.Random) -> PhoneTask:
    networks, network, name = _networks(rng, saved=True)
    return _task(
        "switch_network",
        f"Use the Wi-Fi network '{name}' now.",
        f"切换到无线网络“{name}”。",
        setup=(_battery(rng), (("Settings", "networks"), networks)),
        goal=(Condition(("Settings", "network"), "equals", network),),
        allowed=(("Settings", "network"),),
    )


def _forget(rng: random.Random) -> PhoneTask:
    networks, network, name = _networks(rng, saved=True)
    return _task(
        "forget",
        f"Make the phone forget the Wi-Fi network '{name}'.",
        f"让手机忘记无线网络“{name}”。",
        setup=(_battery(rng), (("Settings", "networks"), networks)),
        goal=(Condition(("Settings", "networks", network, "saved"), "equals", False),),
        allowed=(("Settings", "networks", network, "saved"),),
    )


def _pairing(rng: random.Random, pair: bool) -> PhoneTask:
    near, *others = rng.sample(DEVICES, 4)
    names = [near, f"{near} mini", *others]
    rng.shuffle(names)
    wanted = rng.choice((near, f"{near} mini"))
    devices = {str(i): {"name": name, "paired": not pair} for i, name in enumerate(names, 1)}
    device = next(i for i, entry in devices.items() if entry["name"] == wanted)
    return _task(
        "pair" if pair else "unpair",
        f"Pair the phone with '{wanted}'." if pair else f"Unpair '{wanted}' from the phone.",
        f"让手机与“{wanted}”配对。" if pair else f"取消手机与“{wanted}”的配对。",
        setup=((("Settings", "devices"), devices), ((*_VALUES, "bluetooth"), rng.random() < 0.5)),
        goal=(Condition(("Settings", "devices", device, "paired"), "equals", pair),),
        allowed=(("Settings", "devices", device, "paired"), (*_VALUES, "bluetooth")),
    )


def _pair(rng: random.Random) -> PhoneTask:
    return _pairing(rng, True)


def _unpair(rng: random.Random) -> PhoneTask:
    return _pairing(rng, False)


def _rename(rng: random.Random) -> PhoneTask:
    name = rng.choice(PHONE_NAMES)
    return _task(
        "rename_phone",
        f"Rename the phone to '{name}'.",
        f"把手机名称改为“{name}”。",
        setup=(_battery(rng),),
        goal=(Condition(("Settings", "phone_name"), "equals", name),),
        allowed=(("Settings", "phone_name"),),
        texts=(name,),
    )


def _open_page(rng: random.Random) -> PhoneTask:
    page = rng.choice(list(PAGES.values()))
    return _task(
        "open_page",
        f"Show me the settings page '{page.label}'.",
        f"打开设置里的“{page.label_zh}”页面。",
        setup=(_battery(rng),),
        goal=(
            Condition(("ui", "app"), "equals", "Settings"),
            Condition(("ui", "screen"), "equals", page.name),
        ),
    )


TEMPLATES = {
    "settings.turn_on": _turn_on,
    "settings.turn_off": _turn_off,
    "settings.two_switches": _two,
    "settings.choose": _choose,
    "settings.notifications": _notifications,
    "settings.join": _join,
    "settings.switch_network": _switch_network,
    "settings.forget": _forget,
    "settings.pair": _pair,
    "settings.unpair": _unpair,
    "settings.rename_phone": _rename,
    "settings.open_page": _open_page,
}
