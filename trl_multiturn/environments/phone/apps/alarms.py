"""The app Alarms: alarms, clocks of other cities, and timers, each on its tab."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen, Widget
from .app import App
from .common import CANCEL, choices, field, next_id, tabs


if TYPE_CHECKING:
    from ..state import PhoneState

REPEATS = ("Once", "Every day", "Weekdays", "Weekends")
SOUNDS = ("Bells", "Birds", "Piano", "Piano soft", "Waves")
SNOOZES = ("5 minutes", "10 minutes", "15 minutes", "30 minutes")
CITIES = (
    "Accra",
    "Auckland",
    "Bogota",
    "Cairo",
    "Delhi",
    "Dublin",
    "Hanoi",
    "Istanbul",
    "Jakarta",
    "Lagos",
    "Lima",
    "Lisbon",
    "Manila",
    "Nairobi",
    "Oslo",
    "Perth",
    "Prague",
    "Quito",
    "Seoul",
    "Tokyo",
    "Toronto",
    "Vienna",
)

_TABS = (("main", "Alarms"), ("clock", "Clocks"), ("timer", "Timers"))
_CHOICES = {"repeat": ("Repeat", REPEATS), "sound": ("Sound", SOUNDS), "snooze": ("Snooze", SNOOZES)}
_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
_MINUTES = re.compile(r"[1-9][0-9]{0,2}")


class Alarms(App):
    """Alarms with a time, a label, days and a sound; clocks; timers."""

    name = "Alarms"

    def data(self) -> dict[str, Any]:
        return {
            "alarms": {
                "1": {"time": "06:45", "label": "Work", "repeat": "Weekdays", "sound": "Bells", "on": True},
                "2": {"time": "09:00", "label": "Sunday run", "repeat": "Weekends", "sound": "Birds", "on": False},
            },
            "cities": {"1": {"name": "Oslo"}},
            "timers": {},
            "snooze": "10 minutes",
        }

    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        data = state.data["Alarms"]
        if name == "alarm":
            return self._alarm(state, params["id"])
        if name == "choice":
            title, options = _CHOICES[params["key"]]
            return Screen(title, choices(options, self._chosen(state, params)))
        if name == "options":
            return Screen("Options", (Widget("snooze", "row", "Snooze", data["snooze"]),))
        if name == "cities":
            return Screen("Add a city", tuple(Widget(f"add:{city}", "row", city) for city in CITIES))
        if name == "clock":
            rows = tuple(Widget(f"city:{i}", "row", city["name"]) for i, city in data["cities"].items())
            return Screen("Clocks", rows, (Widget("add", "button", "Add"),), tabs(_TABS, name))
        if name == "timer":
            minutes = field(state, "minutes", "Minutes")
            rows = tuple(
                Widget(f"timer:{i}", "row", f"{t['minutes']} min", "Running") for i, t in data["timers"].items()
            )
            return Screen("Timers", (minutes, Widget("start", "button", "Start"), *rows), tabs=tabs(_TABS, name))
        rows = tuple(
            Widget(f"alarm:{i}", "row", alarm["time"], _summary(alarm))
            for i, alarm in sorted(data["alarms"].items(), key=lambda item: (item[1]["time"], int(item[0])))
        )
        actions = (Widget("options", "button", "Options"), Widget("new", "button", "New"))
        return Screen("Alarms", rows, actions, tabs(_TABS, name))

    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        kind, _, target = widget.partition(":")
        if kind == "tab":
            state.replace(target)
        elif kind == "alarm":
            state.push("alarm", id=target)
        elif kind == "city":
            state.show_popup("city", id=target)
        elif kind == "timer":
            state.show_popup("timer", id=target)
        elif kind == "add" and target:
            if all(city["name"] != target for city in state.get("Alarms", "cities").values()):
                state.set("Alarms", "cities", next_id(state.get("Alarms", "cities")), value={"name": target})
            state.pop()
        elif widget == "add":
            state.push("cities")
        elif widget == "new":
            state.push("alarm", id=None)
        elif widget == "options":
            state.push("options")
        elif widget in _CHOICES:
            state.push("choice", key=widget, id=params.get("id"))
        elif kind == "choice":
            self._choose(state, params, _CHOICES[params["key"]][1][int(target)])
        elif widget == "on":
            self._toggle(state, params["id"])
        elif widget == "delete":
            state.show_popup("delete", id=params["id"])
        elif widget == "save":
            self._save(state, params["id"])
        elif widget == "start":
            self._start(state)

    def long_press(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> bool:
        kind, _, target = widget.partition(":")
        if kind == "alarm":
            state.show_popup("menu", id=target)
            return True
        return False

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        if screen != "timer":
            return False
        self._start(state)
        return True

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        if name == "city":
            city = state.get("Alarms", "cities", params["id"])["name"]
            return Popup(city, "A clock of this city.", (Widget("remove_city", "button", "Remove"), CANCEL))
        if name == "timer":
            minutes = state.get("Alarms", "timers", params["id"])["minutes"]
            return Popup(f"Timer, {minutes} min", "It is running.", (Widget("stop", "button", "Stop"), CANCEL))
        alarm = state.get("Alarms", "alarms", params["id"])
        delete = Widget("delete", "button", "Delete")
        if name == "menu":
            toggle = Widget("toggle", "button", "Turn off" if alarm["on"] else "Turn on")
            return Popup(alarm["time"], _summary(alarm), (toggle, delete, CANCEL))
        return Popup("Delete this alarm?", alarm["time"], (delete, CANCEL))

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        if widget == "remove_city":
            state.remove("Alarms", "cities", params["id"])
        elif widget == "stop":
            state.remove("Alarms", "timers", params["id"])
        elif widget == "toggle":
            self._toggle(state, params["id"])
        elif widget == "delete" and name == "menu":
            state.show_popup("delete", id=params["id"])
        elif widget == "delete":
            state.remove("Alarms", "alarms", params["id"])
            if state.top["screen"] == "alarm":
                state.pop()
            state.show_toast("Alarm deleted")

    def _alarm(self, state: PhoneState, alarm_id: str | None) -> Screen:
        alarm: dict[str, Any] = state.get("Alarms", "alarms", alarm_id) if alarm_id is not None else {}
        fields = (
            field(state, "time", "Time (HH:MM)", alarm.get("time", "")),
            field(state, "label", "Label", alarm.get("label", "")),
        )
        repeat = alarm.get("repeat") or state.field("repeat") or "Once"
        body = [*fields, Widget("repeat", "row", "Repeat", str(repeat))]
        if alarm_id is not None:
            body += [
                Widget("sound", "row", "Sound", alarm["sound"]),
                Widget("on", "switch", "On", on=alarm["on"]),
                Widget("delete", "button", "Delete"),
            ]
        title = "New alarm" if alarm_id is None else "Alarm"
        return Screen(title, tuple(body), actions=(Widget("save", "button", "Save"),))

    def _chosen(self, state: PhoneState, params: dict[str, Any]) -> str:
        if params["key"] == "snooze":
            return state.get("Alarms", "snooze")
        if params["id"] is not None:
            return state.get("Alarms", "alarms", params["id"], params["key"])
        return state.stack[-2]["fields"].get("repeat", "Once")

    def _choose(self, state: PhoneState, params: dict[str, Any], value: str) -> None:
        state.pop()
        if params["key"] == "snooze":
            state.set("Alarms", "snooze", value=value)
        elif params["id"] is not None:
            state.set("Alarms", "alarms", params["id"], params["key"], value=value)
        else:
            state.fill("repeat", value)

    def _toggle(self, state: PhoneState, alarm: str) -> None:
        on = not state.get("Alarms", "alarms", alarm, "on")
        state.set("Alarms", "alarms", alarm, "on", value=on)
        state.show_toast("Alarm on" if on else "Alarm off")

    def _save(self, state: PhoneState, alarm_id: str | None) -> None:
        new = {"time": "", "label": "", "repeat": state.field("repeat") or "Once", "sound": "Bells", "on": True}
        alarm: dict[str, Any] = state.get("Alarms", "alarms", alarm_id) if alarm_id is not None else new
        alarm = {**alarm, **{key: text for key in ("time", "label") if (text := state.field(key)) is not None}}
        if not _TIME.fullmatch(alarm["time"]):
            state.show_toast("Time must be HH:MM")
            return
        alarm_id = alarm_id or next_id(state.get("Alarms", "alarms"))
        state.set("Alarms", "alarms", alarm_id, value=alarm)
        state.pop()
        state.show_toast("Alarm saved")

    def _start(self, state: PhoneState) -> None:
        minutes = state.field("minutes") or ""
        if not _MINUTES.fullmatch(minutes):
            state.show_toast("Type 1 to 999 minutes")
            return
        state.set("Alarms", "timers", next_id(state.get("Alarms", "timers")), value={"minutes": minutes})
        state.fill("minutes", "")


def _summary(alarm: dict[str, Any]) -> str:
    """Label, days and whether an alarm is on, in a line."""
    label = f"{alarm['label'][:14]}, " if alarm["label"] else ""
    return f"{label}{alarm['repeat']}, {'on' if alarm['on'] else 'off'}"
