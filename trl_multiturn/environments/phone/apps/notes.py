"""The app Notes: notes in folders, a bin, and menus behind a long press."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen, Widget
from .app import App
from .common import CANCEL, field, next_id, tabs


if TYPE_CHECKING:
    from ..state import PhoneState

ORDERS = ("Newest first", "Oldest first", "By title")

_TABS = (("main", "Notes"), ("folders", "Folders"), ("bin", "Bin"))


class Notes(App):
    """Notes with a title, a text and a folder; those deleted lie in a bin."""

    name = "Notes"

    def data(self) -> dict[str, Any]:
        return {
            "notes": {
                "1": {"title": "Groceries", "text": "Milk, bread, tea", "folder": "Home", "pinned": False},
                "2": {"title": "Ideas", "text": "A swing in the garden", "folder": "Home", "pinned": False},
                "3": {"title": "Meeting", "text": "Room 4 at ten", "folder": "Work", "pinned": False},
            },
            "bin": {},
            "folders": {"1": {"name": "Home"}, "2": {"name": "Work"}},
            "order": "Newest first",
        }

    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        data = state.data["Notes"]
        if name == "note":
            return self._note(state, params["id"])
        if name == "move":
            rows = tuple(Widget(f"folder:{i}", "row", f["name"]) for i, f in data["folders"].items())
            return Screen("Move to", rows)
        if name == "folder":
            folder = data["folders"][params["id"]]["name"]
            notes = {i: note for i, note in data["notes"].items() if note["folder"] == folder}
            return Screen(folder, _rows(notes, data["order"]), actions=(Widget("new", "button", "New"),))
        if name == "new_folder":
            return Screen("New folder", (field(state, "name", "Name"),), actions=(Widget("save", "button", "Save"),))
        if name == "folders":
            counts = [note["folder"] for note in data["notes"].values()]
            rows = tuple(
                Widget(f"folder:{i}", "row", f["name"], f"Notes: {counts.count(f['name'])}")
                for i, f in data["folders"].items()
            )
            return Screen("Folders", rows, (Widget("new", "button", "New"),), tabs(_TABS, name))
        if name == "bin":
            rows = _rows(data["bin"], data["order"])
            return Screen("Bin", rows, (Widget("empty", "button", "Empty"),), tabs(_TABS, name))
        actions = (Widget("sort", "button", "Sort"), Widget("new", "button", "New"))
        return Screen("Notes", _rows(data["notes"], data["order"]), actions, tabs(_TABS, name))

    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        kind, _, target = widget.partition(":")
        if kind == "tab":
            state.replace(target)
        elif kind == "note" and screen == "bin":
            state.show_popup("deleted", id=target)
        elif kind == "note":
            state.push("note", id=target)
        elif kind == "folder" and screen == "move":
            folder = state.get("Notes", "folders", target, "name")
            state.set("Notes", "notes", params["id"], "folder", value=folder)
            state.pop()
            state.show_toast(f"Moved to {folder}")
        elif kind == "folder":
            state.push("folder", id=target)
        elif widget == "new":
            if screen == "folders":
                state.push("new_folder")
            else:
                folder = state.get("Notes", "folders", params["id"], "name") if screen == "folder" else "Home"
                state.push("note", id=None, folder=folder)
        elif widget == "sort":
            state.show_popup("sort")
        elif widget == "empty":
            state.show_popup("empty")
        elif widget == "save":
            self._save(state, screen, params)
        elif widget == "pinned":
            state.set("Notes", "notes", params["id"], "pinned", value=not self._of(state, params["id"])["pinned"])
        elif widget == "move":
            state.push("move", id=params["id"])
        elif widget == "delete":
            state.show_popup("delete", id=params["id"])

    def long_press(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> bool:
        kind, _, target = widget.partition(":")
        if kind == "note" and screen != "bin":
            state.show_popup("menu", id=target)
            return True
        return False

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        if screen != "new_folder":
            return False
        self._save(state, screen, params)
        return True

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        if name == "sort":
            buttons = tuple(Widget(f"order:{i}", "button", order) for i, order in enumerate(ORDERS))
            return Popup("Sort notes", f"Now: {state.get('Notes', 'order')}", (*buttons, CANCEL))
        if name == "empty":
            return Popup("Empty the bin?", "Its notes are lost.", (Widget("empty", "button", "Empty"), CANCEL))
        if name == "deleted":
            buttons = (Widget("restore", "button", "Restore"), Widget("erase", "button", "Delete for good"))
            return Popup(state.get("Notes", "bin", params["id"])["title"], "This note is deleted.", (*buttons, CANCEL))
        note = self._of(state, params["id"])
        if name == "menu":
            pin = Widget("pin", "button", "Unpin" if note["pinned"] else "Pin to top")
            buttons = (pin, Widget("move", "button", "Move"), Widget("delete", "button", "Delete"))
            return Popup(note["title"], f"In {note['folder']}", (*buttons, CANCEL))
        return Popup("Delete this note?", note["title"], (Widget("delete", "button", "Delete"), CANCEL))

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        if widget.startswith("order:"):
            state.set("Notes", "order", value=ORDERS[int(widget.partition(":")[2])])
        elif name == "empty" and widget == "empty":
            state.set("Notes", "bin", value={})
        elif widget == "restore":
            state.set("Notes", "notes", params["id"], value=state.get("Notes", "bin", params["id"]))
            state.remove("Notes", "bin", params["id"])
            state.show_toast("Restored")
        elif widget == "erase":
            state.remove("Notes", "bin", params["id"])
        elif widget == "pin":
            state.set("Notes", "notes", params["id"], "pinned", value=not self._of(state, params["id"])["pinned"])
        elif widget == "move":
            state.push("move", id=params["id"])
        elif widget == "delete" and name == "menu":
            state.show_popup("delete", id=params["id"])
        elif widget == "delete":
            state.set("Notes", "bin", params["id"], value=self._of(state, params["id"]))
            state.remove("Notes", "notes", params["id"])
            if state.top["screen"] == "note":
                state.pop()
            state.show_toast("Note deleted")

    def _of(self, state: PhoneState, note: str) -> dict[str, Any]:
        return state.get("Notes", "notes", note)

    def _note(self, state: PhoneState, note_id: str | None) -> Screen:
        note: dict[str, Any] = self._of(state, note_id) if note_id is not None else {"title": "", "text": ""}
        fields = (field(state, "title", "Title", note["title"]), field(state, "text", "Text", note["text"]))
        save = (Widget("save", "button", "Save"),)
        if note_id is None:
            return Screen("New note", fields, save)
        rest = (
            Widget("pinned", "switch", "Pin to top", on=note["pinned"]),
            Widget("move", "row", "Move to folder", f"In {note['folder']}"),
            Widget("delete", "button", "Delete"),
        )
        return Screen("Note", (*fields, *rest), save)

    def _save(self, state: PhoneState, screen: str, params: dict[str, Any]) -> None:
        if screen == "new_folder":
            name = (state.field("name") or "").strip()
            if not name or any(folder["name"] == name for folder in state.get("Notes", "folders").values()):
                state.show_toast("This folder exists" if name else "Type a name")
                return
            state.set("Notes", "folders", next_id(state.get("Notes", "folders")), value={"name": name})
            state.pop()
            return
        old = self._of(state, params["id"]) if params["id"] is not None else {"title": "", "text": "", "pinned": False}
        texts = {name: old[name] if state.field(name) is None else state.field(name) for name in ("title", "text")}
        if not texts["title"]:
            state.show_toast("Type a title")
            return
        # Ids of notes in the bin stay taken, for they may come back.
        new = next_id({**state.get("Notes", "notes"), **state.get("Notes", "bin")})
        folder = {} if params["id"] is not None else {"folder": params["folder"]}
        state.set("Notes", "notes", params["id"] or new, value={**old, **folder, **texts})
        state.pop()
        state.show_toast("Saved")


def _rows(notes: dict[str, Any], order: str) -> tuple[Widget, ...]:
    """Rows of a list of notes: those pinned first, then in the chosen order."""
    items = sorted(notes.items(), key=lambda item: int(item[0]), reverse=order == "Newest first")
    if order == "By title":
        items = sorted(notes.items(), key=lambda item: item[1]["title"])
    items.sort(key=lambda item: not item[1]["pinned"])
    return tuple(
        Widget(f"note:{i}", "row", note["title"], ("Pinned: " if note["pinned"] else "") + note["text"][:22])
        for i, note in items
    )
