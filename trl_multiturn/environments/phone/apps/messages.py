"""The app Messages: chats, contacts, an archive, and menus behind a long press."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..layout import Popup, Screen, Widget
from .app import App
from .common import CANCEL, field, next_id, tabs


if TYPE_CHECKING:
    from ..state import PhoneState

_TABS = (("main", "Chats"), ("contacts", "Contacts"), ("archive", "Archive"))
_EMPTY_CHAT: dict[str, Any] = {"messages": {}, "pinned": False, "muted": False, "archived": False}


class Messages(App):
    """Chats and contacts. A chat has the id of its contact."""

    name = "Messages"

    def data(self) -> dict[str, Any]:
        hello = {"1": {"from": "them", "text": "Hello!"}, "2": {"from": "me", "text": "How are you?"}}
        return {
            "contacts": {
                "1": {"name": "Anna Berg", "number": "555 0101", "blocked": False},
                "2": {"name": "Anna Bergman", "number": "555 0102", "blocked": False},
                "3": {"name": "Tom Hill", "number": "555 0103", "blocked": False},
            },
            "chats": {"1": {**_EMPTY_CHAT, "messages": hello}, "2": {**_EMPTY_CHAT, "messages": hello}},
            "offer_backup": False,
            "backup": False,
        }

    def screen(self, state: PhoneState, name: str, params: dict[str, Any]) -> Screen:
        if name == "chat":
            return self._chat(state, params["id"])
        if name == "info":
            return self._info(state, params["id"])
        if name in ("pick", "forward"):
            rows = _contacts(state, "pick")
            return Screen("New chat" if name == "pick" else "Forward to", rows)
        if name == "contact":
            contact = self._contact(state, params["id"])
            fields = (
                field(state, "name", "Name", contact.get("name", "")),
                field(state, "number", "Number", contact.get("number", "")),
            )
            rest = (Widget("chat", "button", "Send a message"),) if params["id"] is not None else ()
            title = "Contact" if rest else "New contact"
            return Screen(title, (*fields, *rest), actions=(Widget("save", "button", "Save"),))
        new = (Widget("new", "button", "New"),)
        if name == "contacts":
            return Screen("Contacts", _contacts(state, "contact"), new, tabs(_TABS, name))
        archived = name == "archive"
        chats = [(i, chat) for i, chat in state.get("Messages", "chats").items() if chat["archived"] == archived]
        chats.sort(key=lambda item: not item[1]["pinned"])
        rows = tuple(Widget(f"chat:{i}", "row", self._contact(state, i)["name"], _preview(chat)) for i, chat in chats)
        return Screen("Archive" if archived else "Messages", rows, () if archived else new, tabs(_TABS, name))

    def tap(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> None:
        kind, _, target = widget.partition(":")
        if kind == "tab":
            state.replace(target)
        elif kind == "chat" and target:
            state.push("chat", id=target)
        elif widget == "chat":
            state.push("chat", id=params["id"])
        elif kind == "contact":
            state.push("contact", id=target)
        elif kind == "pick" and screen == "pick":
            state.replace("chat", id=target)
        elif kind == "pick":
            state.pop()
            self._send(state, target, params["text"])
        elif widget == "new" and screen == "contacts":
            state.push("contact", id=None)
        elif widget == "new":
            state.push("pick")
        elif widget == "info":
            state.push("info", id=params["id"])
        elif widget == "send":
            self._send_typed(state, params["id"])
        elif widget == "save":
            self._save(state, params["id"])
        elif widget in ("pinned", "muted", "archived"):
            self._toggle(state, params["id"], widget)
        elif widget == "blocked":
            state.show_popup("block", id=params["id"])
        elif widget == "delete":
            state.show_popup("delete", id=params["id"])

    def long_press(self, state: PhoneState, screen: str, params: dict[str, Any], widget: str) -> bool:
        kind, _, target = widget.partition(":")
        if kind == "chat" and target:
            state.show_popup("menu", id=target)
        elif kind == "message" and target:
            state.show_popup("message", id=params["id"], message=target)
        else:
            return False
        return True

    def submit(self, state: PhoneState, screen: str, params: dict[str, Any], field: str) -> bool:
        if screen != "chat":
            return False
        self._send_typed(state, params["id"])
        return True

    def opened(self, state: PhoneState) -> None:
        if state.get("Messages", "offer_backup"):
            state.show_popup("backup")

    def popup(self, state: PhoneState, name: str, params: dict[str, Any]) -> Popup:
        buttons: tuple[Widget, ...]
        if name == "backup":
            buttons = (Widget("backup", "button", "Back up"), Widget("cancel", "button", "Later"))
            return Popup("Back up your chats?", "They are sent to the cloud.", buttons)
        contact = self._contact(state, params["id"])
        if name == "block":
            label = "Unblock" if contact["blocked"] else "Block"
            return Popup(f"{label} this contact?", contact["name"], (Widget("block", "button", label), CANCEL))
        if name == "delete":
            return Popup("Delete this chat?", contact["name"], (Widget("delete", "button", "Delete"), CANCEL))
        chat = state.get("Messages", "chats", params["id"])
        if name == "message":
            buttons = (Widget("forward", "button", "Forward"), Widget("unsend", "button", "Delete"), CANCEL)
            return Popup("Message", chat["messages"][params["message"]]["text"][:30], buttons)
        buttons = (
            Widget("pinned", "button", "Unpin" if chat["pinned"] else "Pin"),
            Widget("archived", "button", "Take out of archive" if chat["archived"] else "Archive"),
            Widget("delete", "button", "Delete"),
        )
        return Popup(contact["name"], _preview(chat), (*buttons, CANCEL))

    def tap_popup(self, state: PhoneState, name: str, params: dict[str, Any], widget: str) -> None:
        if widget == "backup":
            state.set("Messages", "backup", value=True)
        elif widget == "block":
            blocked = not self._contact(state, params["id"])["blocked"]
            state.set("Messages", "contacts", params["id"], "blocked", value=blocked)
        elif widget in ("pinned", "archived"):
            self._toggle(state, params["id"], widget)
        elif widget == "forward":
            text = state.get("Messages", "chats", params["id"], "messages", params["message"], "text")
            state.push("forward", text=text)
        elif widget == "unsend":
            state.remove("Messages", "chats", params["id"], "messages", params["message"])
        elif widget == "delete" and name == "menu":
            state.show_popup("delete", id=params["id"])
        elif widget == "delete":
            state.remove("Messages", "chats", params["id"])
            while state.top["screen"] in ("info", "chat"):
                state.pop()
            state.show_toast("Chat deleted")

    def _contact(self, state: PhoneState, contact: str | None) -> dict[str, Any]:
        return state.get("Messages", "contacts", contact) if contact is not None else {}

    def _chat(self, state: PhoneState, contact: str) -> Screen:
        name = self._contact(state, contact)["name"]
        chat = state.get("Messages", "chats", contact) or _EMPTY_CHAT
        rows = tuple(
            Widget(f"message:{i}", "row", sent["text"], "You" if sent["from"] == "me" else name)
            for i, sent in chat["messages"].items()
        )
        message = field(state, "message", "Message")
        send = Widget("send", "button", "Send")
        # There is nothing to say about a chat that has not begun.
        actions = (Widget("info", "button", "Info"),) if chat is not _EMPTY_CHAT else ()
        return Screen(name, (*rows, message, send), actions)

    def _info(self, state: PhoneState, contact: str) -> Screen:
        chat = state.get("Messages", "chats", contact)
        entry = self._contact(state, contact)
        body = (
            Widget("number", "label", "Number", entry["number"]),
            Widget("pinned", "switch", "Pin to top", on=chat["pinned"]),
            Widget("muted", "switch", "Mute", on=chat["muted"]),
            Widget("archived", "switch", "Archive", on=chat["archived"]),
            Widget("blocked", "button", "Unblock" if entry["blocked"] else "Block"),
            Widget("delete", "button", "Delete chat"),
        )
        return Screen(entry["name"], body)

    def _toggle(self, state: PhoneState, contact: str, key: str) -> None:
        state.set("Messages", "chats", contact, key, value=not state.get("Messages", "chats", contact, key))

    def _send_typed(self, state: PhoneState, contact: str) -> None:
        text = state.field("message")
        if text and self._send(state, contact, text):
            state.fill("message", "")

    def _send(self, state: PhoneState, contact: str, text: str) -> bool:
        if self._contact(state, contact)["blocked"]:
            state.show_toast("This contact is blocked")
            return False
        chat = state.get("Messages", "chats", contact) or _EMPTY_CHAT
        messages = {**chat["messages"], next_id(chat["messages"]): {"from": "me", "text": text}}
        state.set("Messages", "chats", contact, value={**chat, "messages": messages})
        state.show_toast("Sent")
        return True

    def _save(self, state: PhoneState, contact: str | None) -> None:
        old = {"name": "", "number": "", "blocked": False, **self._contact(state, contact)}
        new = {key: old[key] if state.field(key) is None else state.field(key) for key in ("name", "number")}
        if not new["name"] or not new["number"]:
            state.show_toast("Type name and number")
            return
        contact = contact or next_id(state.get("Messages", "contacts"))
        state.set("Messages", "contacts", contact, value={**old, **new})
        state.pop()
        state.show_toast("Contact saved")


def _contacts(state: PhoneState, prefix: str) -> tuple[Widget, ...]:
    """Rows of all contacts by name."""
    contacts = sorted(state.get("Messages", "contacts").items(), key=lambda item: (item[1]["name"], int(item[0])))
    return tuple(
        Widget(f"{prefix}:{i}", "row", contact["name"], "Blocked" if contact["blocked"] else contact["number"])
        for i, contact in contacts
    )


def _preview(chat: dict[str, Any]) -> str:
    """What a list says about a chat: its last message, and whether it is pinned or muted."""
    marks = [word for word in ("pinned", "muted") if chat[word]]
    last = list(chat["messages"].values())[-1]["text"][:16] if chat["messages"] else "No messages"
    return last + (f" ({', '.join(marks)})" if marks else "")
