"""Templates of tasks in Messages."""

import random
from functools import partial
from typing import Any

from ..task import Condition, Path, PhoneTask
from .common import app_task


# Pairs of names that are easily taken for each other.
NEAR_NAMES = (
    ("Anna Berg", "Anna Bergman"),
    ("Tom Hill", "Tom Hills"),
    ("Li Wei", "Li Wen"),
    ("Maria Costa", "Mario Costa"),
    ("Jan Novak", "Jana Novak"),
    ("Sam Reed", "Sam Reid"),
    ("Omar Aziz", "Omar Azizi"),
    ("Eva Lind", "Eva Lindt"),
)
OTHER_NAMES = ("Dr Moore", "Garage", "Aunt Rosa", "Coach Pete", "Landlord", "Library", "Bakery", "Nina", "Post office")
REPLIES = (
    "I am on my way",
    "See you at seven",
    "Happy birthday!",
    "Please call me",
    "Thank you so much",
    "I will be late",
    "The key is outside",
    "Bring the tickets",
    "Good luck today",
    "Dinner is ready",
)
THEIR_TEXTS = (
    "Where are you?",
    "The train is late",
    "Door code is 4711",
    "Lunch on Friday?",
    "Got your parcel",
    "Room 12 at nine",
    "Call me later",
    "Nice photos!",
    "Gate B, row 7",
    "The shop is shut",
)

_CHATS: Path = ("Messages", "chats")
_CONTACTS: Path = ("Messages", "contacts")


class _Phone:
    """Contacts and chats drawn for a task, and the contact it is about: one of two with near names."""

    def __init__(self, rng: random.Random) -> None:
        pair = rng.choice(NEAR_NAMES)
        others = rng.sample(OTHER_NAMES, rng.randint(3, 7))
        names = [*pair, *others]
        rng.shuffle(names)
        self.name = rng.choice(pair)
        self.contacts = {
            str(i): {"name": name, "number": f"555 {rng.randint(0, 9999):04}", "blocked": False}
            for i, name in enumerate(names, 1)
        }
        self.contact = self.id_of(self.name)
        self.chats = {contact: self._chat(rng) for contact in self.contacts}
        self.pair = tuple(self.id_of(name) for name in pair)
        # Another contact, who is no namesake.
        self.other = self.id_of(rng.choice(others))

    def id_of(self, name: str) -> str:
        return next(i for i, contact in self.contacts.items() if contact["name"] == name)

    def setup(self, rng: random.Random) -> tuple[tuple[Path, Any], ...]:
        """What a task puts into the app; now and then a pop-up is in the way."""
        offer = (("Messages", "offer_backup"), rng.random() < 0.3)
        return (_CONTACTS, self.contacts), (_CHATS, self.chats), offer

    def new_message(self, contact: str) -> Path:
        """Where the next message of a chat will lie."""
        return (*_CHATS, contact, "messages", str(len(self.chats[contact]["messages"]) + 1))

    def _chat(self, rng: random.Random) -> dict[str, Any]:
        texts = rng.sample(THEIR_TEXTS, rng.randint(1, 4))
        messages = {
            str(i): {"from": rng.choice(("me", "them")) if i > 1 else "them", "text": text}
            for i, text in enumerate(texts, 1)
        }
        return {"messages": messages, "pinned": False, "muted": False, "archived": False}


_task = partial(app_task, "Messages")


def _sent(contact: str, text: str) -> Condition:
    return Condition((*_CHATS, contact, "messages"), "contains", {"from": "me", "text": text})


def _send(rng: random.Random) -> PhoneTask:
    phone, text = _Phone(rng), rng.choice(REPLIES)
    return _task(
        "send",
        f"Send {phone.name} the message '{text}'.",
        f"给{phone.name}发消息“{text}”。",
        setup=phone.setup(rng),
        goal=(_sent(phone.contact, text),),
        allowed=(phone.new_message(phone.contact),),
        texts=(text,),
    )


def _send_new(rng: random.Random) -> PhoneTask:
    phone, text = _Phone(rng), rng.choice(REPLIES)
    del phone.chats[phone.contact]
    return _task(
        "start_chat",
        f"Start a chat with {phone.name}: write '{text}'.",
        f"与{phone.name}开始新聊天，发送“{text}”。",
        setup=phone.setup(rng),
        goal=(_sent(phone.contact, text),),
        allowed=((*_CHATS, phone.contact),),
        texts=(text,),
    )


def _forward(rng: random.Random) -> PhoneTask:
    phone = _Phone(rng)
    source, target = phone.other, phone.contact
    mine = {message["text"] for message in phone.chats[target]["messages"].values()}
    texts = [m["text"] for m in phone.chats[source]["messages"].values() if m["text"] not in mine]
    if not texts:
        texts = ["Bus stop is closed"]
        phone.chats[source]["messages"] = {"1": {"from": "them", "text": texts[0]}}
    text, source_name = rng.choice(texts), phone.contacts[source]["name"]
    return _task(
        "forward",
        f"Forward the message '{text}' from the chat with {source_name} to {phone.name}.",
        f"把与{source_name}聊天中的消息“{text}”转发给{phone.name}。",
        setup=phone.setup(rng),
        goal=(_sent(target, text),),
        allowed=(phone.new_message(target),),
    )


def _delete_message(rng: random.Random) -> PhoneTask:
    phone = _Phone(rng)
    message, entry = rng.choice(list(phone.chats[phone.contact]["messages"].items()))
    path = (*_CHATS, phone.contact, "messages", message)
    return _task(
        "delete_message",
        f"Delete the message '{entry['text']}' in the chat with {phone.name}.",
        f"删除与{phone.name}聊天中的消息“{entry['text']}”。",
        setup=phone.setup(rng),
        goal=(Condition(path, "absent"), Condition((*_CHATS, phone.contact), "exists")),
        allowed=(path,),
    )


def _delete_chat(rng: random.Random) -> PhoneTask:
    phone = _Phone(rng)
    return _task(
        "delete_chat",
        f"Delete the whole chat with {phone.name}.",
        f"删除与{phone.name}的整个聊天。",
        setup=phone.setup(rng),
        goal=(Condition((*_CHATS, phone.contact), "absent"),),
        allowed=((*_CHATS, phone.contact),),
    )


def _flag(rng: random.Random, name: str, key: str, on: bool, english: str, chinese: str) -> PhoneTask:
    """A task of switching something of a chat. Both chats of the pair of namesakes are alike at the start."""
    phone = _Phone(rng)
    for contact in phone.pair:
        phone.chats[contact][key] = not on
    return _task(
        name,
        english.format(name=phone.name),
        chinese.format(name=phone.name),
        setup=phone.setup(rng),
        goal=(Condition((*_CHATS, phone.contact, key), "equals", on),),
        allowed=((*_CHATS, phone.contact, key),),
    )


def _pin(rng: random.Random) -> PhoneTask:
    return _flag(rng, "pin", "pinned", True, "Pin the chat with {name} to the top.", "把与{name}的聊天置顶。")


def _mute(rng: random.Random) -> PhoneTask:
    return _flag(rng, "mute", "muted", True, "Mute the chat with {name}.", "把与{name}的聊天设为静音。")


def _unmute(rng: random.Random) -> PhoneTask:
    return _flag(
        rng, "unmute", "muted", False, "I want to hear from {name} again: unmute the chat.", "取消{name}的静音。"
    )


def _archive(rng: random.Random) -> PhoneTask:
    return _flag(rng, "archive", "archived", True, "Archive the chat with {name}.", "把与{name}的聊天归档。")


def _unarchive(rng: random.Random) -> PhoneTask:
    english = "Take the chat with {name} out of the archive."
    return _flag(rng, "unarchive", "archived", False, english, "把与{name}的聊天移出归档。")


def _block(rng: random.Random) -> PhoneTask:
    phone = _Phone(rng)
    path = (*_CONTACTS, phone.contact, "blocked")
    return _task(
        "block",
        f"Block {phone.name}.",
        f"屏蔽{phone.name}。",
        setup=phone.setup(rng),
        goal=(Condition(path, "equals", True),),
        allowed=(path,),
    )


def _new_contact(rng: random.Random) -> PhoneTask:
    phone = _Phone(rng)
    # The namesake stays.
    del phone.contacts[phone.contact], phone.chats[phone.contact]
    number = f"555 {rng.randint(0, 9999):04}"
    return _task(
        "new_contact",
        f"Save {phone.name} as a new contact with the number {number}.",
        f"新建联系人{phone.name}，号码为{number}。",
        setup=phone.setup(rng),
        goal=(Condition(_CONTACTS, "contains", {"name": phone.name, "number": number}),),
        allowed=((*_CONTACTS, str(max(map(int, phone.contacts)) + 1)),),
        texts=(phone.name, number),
    )


def _change_number(rng: random.Random) -> PhoneTask:
    phone = _Phone(rng)
    number = f"556 {rng.randint(0, 9999):04}"
    path = (*_CONTACTS, phone.contact, "number")
    return _task(
        "change_number",
        f"Change the number of {phone.name} to {number}.",
        f"把{phone.name}的号码改为{number}。",
        setup=phone.setup(rng),
        goal=(Condition(path, "equals", number),),
        allowed=(path,),
        texts=(number,),
    )


def _rename_contact(rng: random.Random) -> PhoneTask:
    phone = _Phone(rng)
    old = phone.contacts[phone.other]["name"]
    new = rng.choice([name for name in OTHER_NAMES if all(c["name"] != name for c in phone.contacts.values())])
    path = (*_CONTACTS, phone.other, "name")
    return _task(
        "rename_contact",
        f"Rename the contact '{old}' to '{new}'.",
        f"把联系人“{old}”改名为“{new}”。",
        setup=phone.setup(rng),
        goal=(Condition(path, "equals", new),),
        allowed=(path,),
        texts=(new,),
    )


def _open(rng: random.Random) -> PhoneTask:
    phone = _Phone(rng)
    goal = tuple(
        Condition(("ui", *path), "equals", value)
        for path, value in ((("app",), "Messages"), (("screen",), "chat"), (("params", "id"), phone.contact))
    )
    return _task(
        "open",
        f"Open the chat with {phone.name}.",
        f"打开与{phone.name}的聊天。",
        setup=phone.setup(rng),
        goal=goal,
    )


TEMPLATES = {
    "messages.send": _send,
    "messages.start_chat": _send_new,
    "messages.forward": _forward,
    "messages.delete_message": _delete_message,
    "messages.delete_chat": _delete_chat,
    "messages.pin": _pin,
    "messages.mute": _mute,
    "messages.unmute": _unmute,
    "messages.archive": _archive,
    "messages.unarchive": _unarchive,
    "messages.block": _block,
    "messages.new_contact": _new_contact,
    "messages.change_number": _change_number,
    "messages.rename_contact": _rename_contact,
    "messages.open": _open,
}
