"""Music: songs, the player, liked songs, playlists and a sleep timer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen, Widget
from .app import App
from .common import field, listed, tabs, toggle


if TYPE_CHECKING:
    from ..state import PhoneState

TABS = (("main", "Songs"), ("lists", "Lists"), ("liked", "Liked"), ("more", "More"))
TIMES = ("Off", "10 minutes", "15 minutes", "30 minutes", "45 minutes", "60 minutes")
MODES = {"repeat": "Repeat", "shuffle": "Shuffle"}


class Music(App):
    """
    A music player. Songs in its data have a `title` and an `artist`, playlists a `name` and a set of `songs`. A tap on a song plays
    it, holding it opens a menu.
    """

    name = "Music"

    def data(self) -> dict[str, Any]:
        titles = (("Blue River", "Nora Lane"), ("Blue River Live", "Nora Lane"), ("Night Train", "The Tides"))
        songs = {f"s{i}": {"title": title, "artist": artist} for i, (title, artist) in enumerate(titles, start=1)}
        lists = {"l1": {"name": "Morning", "songs": {"s1": True}}, "l2": {"name": "Morning Run", "songs": {}}}
        return {
            "songs": songs,
            "liked": {},
            "lists": lists,
            "playing": "",
            "modes": {},
            "timer": TIMES[0],
            "saver": False,
        }

    # --- what is shown

    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        lists = state.get("Music", "lists")
        if name == "main":
            return Screen("Songs", self._songs(state, state.get("Music", "songs")), tabs=tabs(TABS, name))
        if name == "liked":
            return Screen("Liked", self._songs(state, state.get("Music", "liked")), tabs=tabs(TABS, name))
        if name == "lists":
            new = (Widget("new", "button", "New"),)
            return Screen("Playlists", listed(_list_rows(lists, "list"), "No playlists"), new, tabs(TABS, name))
        if name == "more":
            rows = (
                Widget("timer", "row", "Sleep timer", state.get("Music", "timer")),
                Widget("saver", "switch", "Data saver", on=state.get("Music", "saver")),
                Widget("help", "row", "Help"),
            )
            return Screen("More", rows, tabs=tabs(TABS, name))
        if name == "player":
            return self._player(state, params["song"])
        if name == "list":
            playlist = lists[params["list"]]
            actions = (Widget("rename", "button", "Rename"), Widget("delete", "button", "Delete"))
            return Screen(playlist["name"], self._songs(state, playlist["songs"]), actions)
        if name == "choose":
            return Screen("Add to playlist", listed(_list_rows(lists, "into"), "No playlists"))
        if name == "name":
            old = lists[params["list"]]["name"] if params["list"] else ""
            title = "Rename playlist" if params["list"] else "New playlist"
            return Screen(title, (field(state, "name", "Name of the playlist", old), Widget("keep", "button", "Save")))
        if name == "timer":
            chosen = state.get("Music", "timer")
            return Screen("Sleep timer", tuple(Widget(f"time:{t}", "row", t, on=t == chosen) for t in TIMES))
        return Screen("Help", (Widget("text", "label", "Hold a song for more."),))

    def _songs(self, state: PhoneState, keys: dict[str, Any]) -> tuple[Widget, ...]:
        songs, playing = state.get("Music", "songs"), state.get("Music", "playing")
        rows = []
        for key in keys:
            detail = songs[key]["artist"] + (", playing" if key == playing else "")
            rows.append(Widget(f"song:{key}", "row", songs[key]["title"], detail))
        return listed(rows, "No songs")

    def _player(self, state: PhoneState, key: str) -> Screen:
        song, modes = state.get("Music", "songs", key), state.get("Music", "modes")
        body = (
            Widget("what", "label", song["title"], song["artist"]),
            Widget("like", "switch", "Liked", on=state.get("Music", "liked", key) is not None),
            *(Widget(f"mode:{mode}", "switch", text, on=mode in modes) for mode, text in MODES.items()),
            Widget("stop", "button", "Stop"),
        )
        return Screen("Playing" if state.get("Music", "playing") == key else "Stopped", body)

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        if name == "delete":
            buttons = (Widget("delete", "button", "Delete"), Widget("close", "button", "Keep"))
            return Popup("Delete the playlist?", "Its songs stay on the phone.", buttons)
        song = state.get("Music", "songs", params["song"])
        like = "Unlike" if state.get("Music", "liked", params["song"]) is not None else "Like"
        menu = [Widget("like", "button", like), Widget("add", "button", "Add to playlist")]
        if params["list"]:
            menu.append(Widget("take", "button", "Remove from playlist"))
        return Popup(song["title"], song["artist"], (*menu, Widget("close", "button", "Close")))

    # --- what is done

    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        kind, _, key = widget.partition(":")
        if kind == "tab":
            state.replace(key)
        elif kind == "song":
            state.set("Music", "playing", value=key)
            state.push("player", song=key)
        elif kind == "list":
            state.push("list", list=key)
        elif kind in ("timer", "help"):
            state.push(kind)
        elif kind in ("new", "rename"):
            state.push("name", list=params.get("list", ""))
        elif kind == "keep":
            self._keep_name(state, params["list"])
        elif kind == "delete":
            state.show_popup("delete", list=params["list"])
        elif kind == "into":
            state.pop()
            state.set("Music", "lists", key, "songs", params["song"], value=True)
            state.show_toast("Added")
        elif kind == "time":
            state.pop()
            state.set("Music", "timer", value=key)
        elif kind == "saver":
            state.set("Music", "saver", value=not state.get("Music", "saver"))
        elif kind == "like":
            toggle(state, "Music", "liked", params["song"])
        elif kind == "mode":
            toggle(state, "Music", "modes", key)
        elif kind == "stop":
            state.set("Music", "playing", value="")

    def long_press(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> bool:
        kind, _, key = widget.partition(":")
        if kind != "song":
            return False
        state.show_popup("song", song=key, list=params.get("list", ""))
        return True

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        return self._keep_name(state, params["list"])

    def _keep_name(self, state: PhoneState, key: str) -> bool:
        name, lists = (state.field("name") or "").strip(), state.get("Music", "lists")
        if not name:
            state.show_toast("Enter a name")
            return False
        if name in (playlist["name"] for other, playlist in lists.items() if other != key):
            state.show_toast("This name is taken")
            return False
        state.pop()
        if key:
            state.set("Music", "lists", key, "name", value=name)
        else:
            state.set("Music", "lists", f"new-{name}", value={"name": name, "songs": {}})
        return True

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        if widget == "delete":
            state.pop()
            state.remove("Music", "lists", params["list"])
        elif widget == "like":
            toggle(state, "Music", "liked", params["song"])
        elif widget == "add":
            state.push("choose", song=params["song"])
        elif widget == "take":
            state.remove("Music", "lists", params["list"], "songs", params["song"])


def _list_rows(lists: dict[str, Any], prefix: str) -> list[Widget]:
    return [Widget(f"{prefix}:{key}", "row", v["name"], f"{len(v['songs'])} songs") for key, v in lists.items()]
