"""The app Settings: pages below pages, networks with passwords, devices to pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen, Widget
from .app import App
from .common import CANCEL, choices, field
from .settings_pages import PAGES, SETTINGS, Setting


if TYPE_CHECKING:
    from ..state import PhoneState

# Switches that ask before they are turned on (`True`) or off (`False`).
QUESTIONS = {
    ("aeroplane", True): "Calls and data stop.",
    ("location", False): "Apps can find you no more.",
    ("find", False): "A lost phone stays lost.",
    ("roaming", True): "This may cost you extra.",
}


class Settings(App):
    """Switches and choices on pages, Wi-Fi networks, Bluetooth devices, and the phone's name."""

    name = "Settings"

    def data(self) -> dict[str, Any]:
        return {
            "values": {key: setting.start for key, setting in SETTINGS.items()},
            "networks": {
                "1": {"name": "Home 5G", "password": "redkettle", "saved": True},
                "2": {"name": "Home 2G", "password": "redkettle", "saved": True},
                "3": {"name": "Cafe guest", "password": "espresso", "saved": False},
            },
            "network": "1",
            "devices": {"1": {"name": "Speaker", "paired": False}, "2": {"name": "Speaker mini", "paired": True}},
            "phone_name": "My phone",
            "low_battery": False,
        }

    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        data = state.data["Settings"]
        if name == "choice":
            setting = SETTINGS[params["key"]]
            return Screen(setting.label, choices(setting.options, data["values"][setting.key]))
        if name == "join":
            title = data["networks"][params["id"]]["name"]
            return Screen(title, (field(state, "password", "Password"),), actions=(Widget("join", "button", "Join"),))
        body = [_row(SETTINGS[key], data["values"][key]) for key in SETTINGS if SETTINGS[key].page == name]
        body += [Widget(f"page:{p.name}", "row", p.label) for p in PAGES.values() if p.parent == name]
        if name == "wifi" and data["values"]["wifi"]:
            body += [_network(i, network, i == data["network"]) for i, network in data["networks"].items()]
        elif name == "bluetooth" and data["values"]["bluetooth"]:
            body += [
                Widget(f"device:{i}", "row", device["name"], "Paired" if device["paired"] else "")
                for i, device in data["devices"].items()
            ]
        elif name == "about":
            phone_name = field(state, "phone_name", "Name", data["phone_name"])
            body += [phone_name, Widget("version", "label", "Version 14")]
            return Screen(PAGES[name].label, tuple(body), actions=(Widget("save", "button", "Save"),))
        elif name == "system":
            body.append(Widget("reset", "button", "Reset all settings"))
        return Screen("Settings" if name == "main" else PAGES[name].label, tuple(body))

    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        kind, _, target = widget.partition(":")
        if kind == "page":
            state.push(target)
        elif kind == "setting":
            self._change(state, target)
        elif kind == "choice":
            setting = SETTINGS[params["key"]]
            state.set("Settings", "values", setting.key, value=setting.options[int(target)])
            state.pop()
        elif kind == "network":
            saved = state.get("Settings", "networks", target, "saved")
            if saved:
                state.show_popup("network", id=target)
            else:
                state.push("join", id=target)
        elif kind == "device":
            state.show_popup("device", id=target)
        elif widget == "join":
            self._join(state, params["id"])
        elif widget == "save":
            self._rename(state)
        elif widget == "reset":
            state.show_popup("reset")

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        if screen == "join":
            self._join(state, params["id"])
        else:
            self._rename(state)
        return True

    def opened(self, state: PhoneState) -> None:
        if state.get("Settings", "low_battery"):
            state.show_popup("low_battery")

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        if name == "low_battery":
            later = Widget("cancel", "button", "Not now")
            return Popup("Battery low", "Use the battery saver?", (Widget("saver", "button", "Turn on"), later))
        if name == "reset":
            return Popup("Reset all settings?", "You cannot undo this.", (Widget("reset", "button", "Reset"), CANCEL))
        if name == "ask":
            label = "Turn on" if params["on"] else "Turn off"
            title = f"{label} {SETTINGS[params['key']].label}?"
            return Popup(title, QUESTIONS[params["key"], params["on"]], (Widget("yes", "button", label), CANCEL))
        if name == "device":
            device = state.get("Settings", "devices", params["id"])
            label = "Unpair" if device["paired"] else "Pair"
            return Popup(device["name"], f"{label} this device?", (Widget("pair", "button", label), CANCEL))
        network = state.get("Settings", "networks", params["id"])
        buttons = (Widget("connect", "button", "Connect"), Widget("forget", "button", "Forget"), CANCEL)
        return Popup(network["name"], "This network is saved.", buttons)

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        if widget == "saver":
            state.set("Settings", "values", "saver", value=True)
        elif widget == "reset":
            state.set("Settings", "values", value={key: setting.start for key, setting in SETTINGS.items()})
            state.show_toast("Settings reset")
        elif widget == "yes":
            state.set("Settings", "values", params["key"], value=params["on"])
        elif widget == "pair":
            paired = not state.get("Settings", "devices", params["id"], "paired")
            state.set("Settings", "devices", params["id"], "paired", value=paired)
        elif widget == "connect":
            state.set("Settings", "network", value=params["id"])
        elif widget == "forget":
            state.set("Settings", "networks", params["id"], "saved", value=False)
            if state.get("Settings", "network") == params["id"]:
                state.set("Settings", "network", value="")

    def _change(self, state: PhoneState, key: str) -> None:
        if SETTINGS[key].options:
            state.push("choice", key=key)
            return
        on = not state.get("Settings", "values", key)
        if (key, on) in QUESTIONS:
            state.show_popup("ask", key=key, on=on)
        else:
            state.set("Settings", "values", key, value=on)

    def _join(self, state: PhoneState, network: str) -> None:
        if state.field("password") != state.get("Settings", "networks", network, "password"):
            state.show_toast("Wrong password")
            return
        state.set("Settings", "networks", network, "saved", value=True)
        state.set("Settings", "network", value=network)
        state.pop()
        state.show_toast("Connected")

    def _rename(self, state: PhoneState) -> None:
        name = state.field("phone_name")
        if name == "":
            state.show_toast("Type a name")
        elif name is not None:
            state.set("Settings", "phone_name", value=name)
            state.show_toast("Saved")


def _row(setting: Setting, value: Any) -> Widget:
    if setting.options:
        return Widget(f"setting:{setting.key}", "row", setting.label, value)
    return Widget(f"setting:{setting.key}", "switch", setting.label, on=value)


def _network(network_id: str, network: dict[str, Any], connected: bool) -> Widget:
    detail = "Connected" if connected else "Saved" if network["saved"] else "Needs a password"
    return Widget(f"network:{network_id}", "row", network["name"], detail)
