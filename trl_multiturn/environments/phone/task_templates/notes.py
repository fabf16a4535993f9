"""Templates of tasks in Notes."""

import random
from functools import partial
from typing import Any

from ..apps.notes import ORDERS
from ..task import Condition, Path, PhoneTask
from .common import app_task


TITLES = (
    "Groceries",
    "Meeting",
    "Ideas",
    "Recipes",
    "Books to read",
    "Gift list",
    "Packing list",
    "Garden plan",
    "Car repair",
    "Birthday",
    "Films",
    "Budget",
    "Training plan",
    "House rules",
    "Questions",
    "Travel plan",
)
TEXTS = (
    "Call back on Monday",
    "Milk, eggs and rice",
    "Ask Nora for the key",
    "Two tickets, row 7",
    "Blue paint, 2 litres",
    "Meet at gate B",
    "Water the plants",
    "Pay before the 15th",
    "Bring warm clothes",
    "Check the tyres",
    "Send photos to Omar",
    "Order more filters",
)
FOLDERS = ("School", "Travel", "Health", "Garden", "Money", "Music", "Sport", "Family", "Letters", "Recipes book")
ORDERS_ZH = ("最新的在前", "最早的在前", "按标题")

_NOTES: Path = ("Notes", "notes")


def _some_notes(rng: random.Random, count: int = 6, target: str | None = None) -> dict[str, Any]:
    """Notes by id, among them some that are named almost alike; `target` is the title that has a near namesake."""
    titles = rng.sample([title for title in TITLES if title != target], count - 2)
    near = target or titles.pop()
    titles += [near, f"{near} 2"]
    rng.shuffle(titles)
    texts = rng.choices(TEXTS, k=len(titles))
    return {
        str(i + 1): {"title": title, "text": text, "folder": rng.choice(("Home", "Work")), "pinned": False}
        for i, (title, text) in enumerate(zip(titles, texts, strict=True))
    }


def _pick(rng: random.Random) -> tuple[dict[str, Any], str, str]:
    """Notes, the id of the one that the task is about, and its title: one of a pair of near namesakes."""
    target = rng.choice(TITLES)
    title = rng.choice((target, f"{target} 2"))
    notes = _some_notes(rng, rng.randint(4, 14), target)
    return notes, next(i for i, note in notes.items() if note["title"] == title), title


_task = partial(app_task, "Notes")


def _open(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    goal = (Condition(("ui", "app"), "equals", "Notes"), Condition(("ui", "screen"), "equals", "note"))
    return _task(
        "open",
        f"Show me the note '{title}'.",
        f"打开便签“{title}”。",
        setup=((_NOTES, notes),),
        goal=(*goal, Condition(("ui", "params", "id"), "equals", note)),
    )


def _delete(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    return _task(
        "delete",
        f"Delete the note '{title}'.",
        f"删除便签“{title}”。",
        setup=((_NOTES, notes),),
        goal=(Condition((*_NOTES, note), "absent"), Condition(("Notes", "bin", note), "exists")),
        allowed=((*_NOTES, note), ("Notes", "bin", note)),
    )


def _create(rng: random.Random) -> PhoneTask:
    title, text = rng.choice(TITLES), rng.choice(TEXTS)
    notes = _some_notes(rng)
    notes = {i: note for i, note in notes.items() if note["title"] != title}
    return _task(
        "create",
        f"Write a new note with the title '{title}' and the text '{text}'.",
        f"新建一条便签，标题为“{title}”，内容为“{text}”。",
        setup=((_NOTES, notes),),
        goal=(Condition(_NOTES, "contains", {"title": title, "text": text}),),
        allowed=((*_NOTES, str(max(map(int, notes)) + 1)),),
        texts=(title, text),
    )


def _create_in_folder(rng: random.Random) -> PhoneTask:
    title, folder = rng.choice(TITLES), rng.choice(FOLDERS)
    notes = {i: note for i, note in _some_notes(rng).items() if note["title"] != title}
    return _task(
        "create_in_folder",
        f"Add a note called '{title}' in the folder '{folder}'.",
        f"在文件夹“{folder}”里新建名为“{title}”的便签。",
        setup=((_NOTES, notes), (("Notes", "folders", "3"), {"name": folder})),
        goal=(Condition(_NOTES, "contains", {"title": title, "folder": folder}),),
        allowed=((*_NOTES, str(max(map(int, notes)) + 1)),),
        texts=(title,),
    )


def _rename(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    new = rng.choice([other for other in TITLES if other != title])
    return _task(
        "rename",
        f"Change the title of the note '{title}' to '{new}'.",
        f"把便签“{title}”的标题改为“{new}”。",
        setup=((_NOTES, notes),),
        goal=(Condition((*_NOTES, note, "title"), "equals", new),),
        allowed=((*_NOTES, note, "title"),),
        texts=(new,),
    )


def _rewrite(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    new = rng.choice([text for text in TEXTS if text != notes[note]["text"]])
    return _task(
        "rewrite",
        f"Replace the text of the note '{title}' by '{new}'.",
        f"把便签“{title}”的内容换成“{new}”。",
        setup=((_NOTES, notes),),
        goal=(Condition((*_NOTES, note, "text"), "equals", new),),
        allowed=((*_NOTES, note, "text"),),
        texts=(new,),
    )


def _pin(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    return _task(
        "pin",
        f"Pin the note '{title}' to the top.",
        f"把便签“{title}”置顶。",
        setup=((_NOTES, notes),),
        goal=(Condition((*_NOTES, note, "pinned"), "equals", True),),
        allowed=((*_NOTES, note, "pinned"),),
    )


def _unpin(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    for i in {note, *rng.sample(sorted(notes), 2)}:
        notes[i]["pinned"] = True
    return _task(
        "unpin",
        f"The note '{title}' need not be at the top any more: unpin it.",
        f"取消便签“{title}”的置顶。",
        setup=((_NOTES, notes),),
        goal=(Condition((*_NOTES, note, "pinned"), "equals", False),),
        allowed=((*_NOTES, note, "pinned"),),
    )


def _move(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    folder = rng.choice(FOLDERS)
    return _task(
        "move",
        f"Move the note '{title}' to the folder '{folder}'.",
        f"把便签“{title}”移到文件夹“{folder}”。",
        setup=((_NOTES, notes), (("Notes", "folders", "3"), {"name": folder})),
        goal=(Condition((*_NOTES, note, "folder"), "equals", folder),),
        allowed=((*_NOTES, note, "folder"),),
    )


def _restore(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    # Its near namesake is often deleted, too.
    deleted = {note, *rng.sample(sorted(notes), 2)}
    kept = {i: entry for i, entry in notes.items() if i not in deleted}
    return _task(
        "restore",
        f"I deleted the note '{title}' by mistake. Get it back.",
        f"我误删了便签“{title}”，请恢复它。",
        setup=((_NOTES, kept), (("Notes", "bin"), {i: notes[i] for i in sorted(deleted)})),
        goal=(Condition((*_NOTES, note), "exists"),),
        allowed=((*_NOTES, note), ("Notes", "bin", note)),
    )


def _erase(rng: random.Random) -> PhoneTask:
    notes, note, title = _pick(rng)
    deleted = {note, *rng.sample(sorted(notes), 2)}
    kept = {i: entry for i, entry in notes.items() if i not in deleted}
    return _task(
        "erase",
        f"Delete the note '{title}' in the bin for good, and only that one.",
        f"把回收站里的便签“{title}”彻底删除，其他的保留。",
        setup=((_NOTES, kept), (("Notes", "bin"), {i: notes[i] for i in sorted(deleted)})),
        goal=(Condition(("Notes", "bin", note), "absent"), Condition((*_NOTES, note), "absent")),
        allowed=(("Notes", "bin", note),),
    )


def _new_folder(rng: random.Random) -> PhoneTask:
    folder = rng.choice(FOLDERS)
    return _task(
        "new_folder",
        f"Make a folder called '{folder}' for my notes.",
        f"在便签里新建文件夹“{folder}”。",
        setup=((_NOTES, _some_notes(rng)),),
        goal=(Condition(("Notes", "folders"), "contains", {"name": folder}),),
        allowed=(("Notes", "folders", "3"),),
        texts=(folder,),
    )


def _sort(rng: random.Random) -> PhoneTask:
    old, new = rng.sample(range(len(ORDERS)), 2)
    return _task(
        "sort",
        f"Sort my notes: {ORDERS[new].lower()}.",
        f"把便签排序改为：{ORDERS_ZH[new]}。",
        setup=((_NOTES, _some_notes(rng)), (("Notes", "order"), ORDERS[old])),
        goal=(Condition(("Notes", "order"), "equals", ORDERS[new]),),
        allowed=(("Notes", "order"),),
    )


TEMPLATES = {
    "notes.open": _open,
    "notes.delete": _delete,
    "notes.create": _create,
    "notes.create_in_folder": _create_in_folder,
    "notes.rename": _rename,
    "notes.rewrite": _rewrite,
    "notes.pin": _pin,
    "notes.unpin": _unpin,
    "notes.move": _move,
    "notes.restore": _restore,
    "notes.erase": _erase,
    "notes.new_folder": _new_folder,
    "notes.sort": _sort,
}
