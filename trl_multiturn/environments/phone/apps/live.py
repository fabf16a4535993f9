"""Live: streams by category, hosts that can be followed, gifts that cost coins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen, Widget
from .app import App
from .common import field, listed, tabs, toggle


if TYPE_CHECKING:
    from ..state import PhoneState

TABS = (("main", "Home"), ("following", "Following"), ("me", "Me"))
CATEGORIES = ("Hotel packages", "Flights", "Cooking", "Fitness", "Games", "Fashion")
SECTIONS = (("hot", "Hot"), ("new", "New"), ("replay", "Replay"))
GIFTS = {"Rose": 1, "Cake": 10, "Rocket": 100}


class Live(App):
    """
    Live streams. Hosts in its data have a `name`, a `category`, a `section` (key of [`SECTIONS`]; `""` if they are not live),
    a `level` (`"Super VIP"`, `"VIP"` or `""`) and `viewers`.
    """

    name = "Live"

    def data(self) -> dict[str, Any]:
        rows = (("Anna Travels", "Super VIP"), ("Anna Travel", "VIP"), ("Ana Travels", ""))
        hosts = {
            f"v{i}": {"name": name, "category": CATEGORIES[0], "section": "hot", "level": level, "viewers": 100 * i}
            for i, (name, level) in enumerate(rows, start=1)
        }
        settings = {"saver": False, "muted": {}, "reminders": {}, "blocked": {}}
        return {"hosts": hosts, "following": {}, "coins": 200, "gifts": {}, "notice": False, **settings}

    # --- what is shown

    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        hosts = state.get("Live", "hosts")
        if name == "main":
            rows = (Widget(f"category:{c}", "row", c) for c in CATEGORIES)
            return Screen("Live", tuple(rows), (Widget("find", "button", "Search"),), tabs(TABS, name))
        if name == "category":
            shown = (params["category"], params["section"])
            rows = (_host_row(key, h) for key, h in hosts.items() if (h["category"], h["section"]) == shown)
            return Screen(
                params["category"], listed(tuple(rows), "No streams"), tabs=tabs(SECTIONS, params["section"])
            )
        if name == "find":
            return Screen("Search", (field(state, "name", "Name of a host"), Widget("go", "button", "Search")))
        if name == "found":
            words = params["query"].casefold()
            rows = (_host_row(key, h) for key, h in hosts.items() if words in h["name"].casefold())
            return Screen("Hosts", listed(tuple(rows), "Nobody found"))
        if name == "following":
            rows = (_host_row(key, hosts[key]) for key in state.get("Live", "following"))
            return Screen("Following", listed(tuple(rows), "Nobody yet"), tabs=tabs(TABS, name))
        if name == "me":
            coins = f"{state.get('Live', 'coins')} coins"
            return Screen(
                "Me",
                (Widget("coins", "row", "Wallet", coins), Widget("settings", "row", "Settings")),
                tabs=tabs(TABS, name),
            )
        if name == "settings":
            body = (Widget("playback", "row", "Playback"), Widget("notices", "row", "Notices"))
            return Screen("Settings", body)
        if name == "playback":
            return Screen("Playback", (Widget("saver", "switch", "Data saver", on=state.get("Live", "saver")),))
        if name == "stream":
            return self._stream(state, params["host"])
        if name == "host":
            return self._host(state, params["host"])
        return Screen("Nothing new", (Widget("none", "label", "Come back later."),))

    def _stream(self, state: PhoneState, key: str) -> Screen:
        host = state.get("Live", "hosts", key)
        body = (
            Widget("what", "label", host["name"], _about(host)),
            Widget("follow", "button", _follow_text(state, key)),
            Widget("host", "row", "About the host"),
            Widget("mute", "switch", "Mute the chat", on=state.get("Live", "muted", key) is not None),
            Widget("gift", "button", "Send a gift"),
        )
        return Screen("Live now" if host["section"] != "replay" else "Replay", body)

    def _host(self, state: PhoneState, key: str) -> Screen:
        host = state.get("Live", "hosts", key)
        body = (
            Widget("what", "label", host["name"], host["level"] or host["category"]),
            Widget("follow", "button", _follow_text(state, key)),
            Widget("remind", "switch", "Remind me of streams", on=state.get("Live", "reminders", key) is not None),
            Widget("block", "button", "Unblock" if state.get("Live", "blocked", key) else "Block"),
        )
        return Screen("Host", body)

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        if name == "notice":
            buttons = (Widget("wallet", "button", "See wallet"), Widget("close", "button", "Later"))
            return Popup("Gifts are half price", "Today only.", buttons)
        if name == "gift":
            gifts = (Widget(f"send:{gift}", "button", f"{gift}, price {price}") for gift, price in GIFTS.items())
            return Popup(
                "Which gift?",
                f"You have {state.get('Live', 'coins')} coins.",
                (*gifts, Widget("close", "button", "Close")),
            )
        if name == "unfollow":
            buttons = (Widget("unfollow", "button", "Unfollow"), Widget("close", "button", "Keep following"))
            return Popup("Stop following?", state.get("Live", "hosts", params["host"], "name"), buttons)
        buttons = (Widget("block", "button", "Block"), Widget("close", "button", "Do not block"))
        return Popup("Block this host?", "You will not see each other.", buttons)

    # --- what is done

    def opened(self, state: PhoneState) -> None:
        if state.get("Live", "notice"):
            state.show_popup("notice")

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        query = (state.field("name") or "").strip()
        if query:
            state.push("found", query=query)
        return bool(query)

    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        kind, _, key = widget.partition(":")
        if kind == "tab" and screen == "category":
            state.replace("category", category=params["category"], section=key)
        elif kind == "tab":
            state.replace(key)
        elif kind == "category":
            state.push("category", category=key, section="hot")
        elif kind == "go":
            self.submit(state, screen, params, "name")
        elif kind == "stream":
            live = screen != "following" and state.get("Live", "hosts", key, "section")
            state.push("stream" if live else "host", host=key)
        elif kind == "host":
            state.push("host", host=params["host"])
        elif kind in ("find", "settings", "playback", "notices", "coins"):
            state.push(kind)
        elif kind == "saver":
            state.set("Live", "saver", value=not state.get("Live", "saver"))
        elif kind == "follow" and state.get("Live", "following", params["host"]):
            state.show_popup("unfollow", host=params["host"])
        elif kind == "follow":
            state.set("Live", "following", params["host"], value=True)
        elif kind == "mute":
            toggle(state, "Live", "muted", params["host"])
        elif kind == "remind":
            toggle(state, "Live", "reminders", params["host"])
        elif kind == "block" and state.get("Live", "blocked", params["host"]):
            state.remove("Live", "blocked", params["host"])
        elif kind in ("block", "gift"):
            state.show_popup(kind, host=params["host"])

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        kind, _, key = widget.partition(":")
        if kind == "wallet":
            state.push("coins")
        elif kind == "send" and state.get("Live", "coins") < GIFTS[key]:
            state.show_toast("Not enough coins")
        elif kind == "send":
            gift = f"{params['host']}:{key}"
            state.set("Live", "coins", value=state.get("Live", "coins") - GIFTS[key])
            state.set("Live", "gifts", gift, value=(state.get("Live", "gifts", gift) or 0) + 1)
            state.show_toast("Sent")
        elif kind == "unfollow":
            state.remove("Live", "following", params["host"])
        elif kind == "block":
            state.set("Live", "blocked", params["host"], value=True)


def _about(host: dict[str, Any]) -> str:
    """Level and viewers of a host in words."""
    crowd = f"{host['viewers']} watching" if host["section"] else "not live"
    return ", ".join(part for part in (host["level"], crowd) if part)


def _host_row(key: str, host: dict[str, Any]) -> Widget:
    return Widget(f"stream:{key}", "row", host["name"], _about(host))


def _follow_text(state: PhoneState, key: str) -> str:
    return "Following" if state.get("Live", "following", key) else "Follow"
