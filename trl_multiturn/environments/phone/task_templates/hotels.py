"""Tasks with hotels."""

import random
from functools import partial
from typing import Any

from ..apps.hotels import DAYS, FILTERS, NIGHTS
from ..task import Condition, Path, PhoneTask
from .common import app_task


CITIES = ("Bern", "Bergen", "Basel", "Brest", "Bristol", "Lyon", "Leon", "Lucca", "Linz", "Porto", "Parma", "Padua")
FAMILIES = (
    ("Harbor Inn", "Harbor Inn West", "Harbour Hotel"),
    ("Park Hotel", "Park Hotel Garden", "Hotel at the Park"),
    ("Grand Plaza", "Grand Plaza Suites", "Grand Palace"),
    ("Old Mill Hotel", "Old Mill Hostel", "Mill Hotel"),
    ("Station Hotel", "Station Hotel 2", "Station House"),
    ("Blue Lake Lodge", "Blue Lake Hotel", "Lake Lodge"),
)
ROOMS = ("Single room", "Double room", "Double room, sea", "Family room", "Small single room")
DAYS_ZH = ("6月1日", "6月2日", "6月3日", "6月4日", "6月5日", "6月6日", "6月7日", "6月8日")
FILTERS_ZH = {"breakfast": "含早餐", "pool": "有泳池", "pets": "可带宠物"}


class _Town:
    """Hotels drawn at random: six in the city that the task is about, in two of three names almost alike, and three elsewhere."""

    def __init__(self, rng: random.Random) -> None:
        self.city, other = rng.sample(CITIES, 2)
        near, far, rest = rng.sample(FAMILIES, 3)
        chosen = [(name, self.city) for name in (*near, *far)] + [(name, other) for name in rest]
        rng.shuffle(chosen)
        self.hotels: dict[str, dict[str, Any]] = {}
        for i, (name, city) in enumerate(chosen):
            rooms = {room: rng.randrange(50, 180) for room in sorted(rng.sample(ROOMS, 3), key=ROOMS.index)}
            offers = {offer: True for offer in FILTERS if rng.random() < 0.5}
            self.hotels[f"h{i}"] = {"name": name, "city": city, "offers": offers, "rooms": rooms}
        keys = {hotel["name"]: key for key, hotel in self.hotels.items()}
        self.name = rng.choice(near)
        self.key = keys[self.name]
        self.room = rng.choice(list(self.hotels[self.key]["rooms"]))
        self.similar = [keys[name] for name in near if name != self.name]
        self.far = [keys[name] for name in far]
        self.setup: tuple[tuple[Path, Any], ...] = ((("Hotels", "hotels"), self.hotels),)

    def some(self, rng: random.Random) -> list[str]:
        """Keys of the hotel that the task is about, of one with almost the same name, and of two others, in any order."""
        keys = [self.key, rng.choice(self.similar), *rng.sample(self.far, 2)]
        rng.shuffle(keys)
        return keys

    def bookings(self, rng: random.Random) -> dict[str, dict[str, Any]]:
        """Bookings of some hotels."""
        found = {}
        for key in self.some(rng):
            room = self.room if key == self.key else rng.choice(list(self.hotels[key]["rooms"]))
            booking = {
                "hotel": key,
                "room": room,
                "day": rng.choice(DAYS),
                "nights": rng.choice(NIGHTS),
                "late": False,
            }
            found[f"{key}:{room}"] = booking
        return found

    def booked(self, rng: random.Random) -> tuple[tuple[tuple[Path, Any], ...], Path]:
        """A start with bookings, and the path of the one that the task is about."""
        bookings = self.bookings(rng)
        return (*self.setup, (("Hotels", "bookings"), bookings)), ("Hotels", "bookings", f"{self.key}:{self.room}")


_task = partial(app_task, "Hotels")


def _book(name: str, town: _Town, texts: tuple[str, str], changed: dict[str, str]) -> PhoneTask:
    """Book a room, with a day or a length other than the ones that are filled in."""
    path = ("Hotels", "bookings", f"{town.key}:{town.room}")
    wanted = {"day": DAYS[0], "nights": NIGHTS[0], **changed}
    goal = tuple(Condition((*path, key), "equals", value) for key, value in wanted.items())
    allowed = (path, *(("Hotels", "search", key) for key in changed))
    return _task(name, *texts, town.setup, goal, allowed, (town.city,))


def book(rng: random.Random) -> PhoneTask:
    """Book a room for the dates that are filled in."""
    town = _Town(rng)
    texts = (
        f"In Hotels, book this room at {town.name} in {town.city}: {town.room}. Leave the dates as they are.",
        f"在Hotels里预订{town.city}的{town.name}，房型{town.room}，日期不变。",
    )
    return _book("book", town, texts, {})


def book_day(rng: random.Random) -> PhoneTask:
    """Book a room for another day."""
    town, day = _Town(rng), rng.randrange(1, len(DAYS))
    texts = (
        f"Book a night in {town.city} at {town.name} from {DAYS[day]} in Hotels: {town.room}.",
        f"在Hotels里预订{town.city}的{town.name}，{DAYS_ZH[day]}入住一晚，房型{town.room}。",
    )
    return _book("book_day", town, texts, {"day": DAYS[day]})


def book_nights(rng: random.Random) -> PhoneTask:
    """Book a room for several nights."""
    town, nights = _Town(rng), rng.randrange(1, len(NIGHTS))
    texts = (
        f"Book {NIGHTS[nights]} in {town.city} at {town.name} in Hotels: {town.room}. Keep the check-in day.",
        f"在Hotels里预订{town.city}的{town.name}，住{nights + 1}晚，房型{town.room}，入住日期不变。",
    )
    return _book("book_nights", town, texts, {"nights": NIGHTS[nights]})


def dates(rng: random.Random) -> PhoneTask:
    """Fill in day and length of a stay."""
    day, nights = rng.randrange(1, len(DAYS)), rng.randrange(1, len(NIGHTS))
    wanted = {"day": DAYS[day], "nights": NIGHTS[nights]}
    paths: dict[str, Path] = {key: ("Hotels", "search", key) for key in wanted}
    goal = tuple(Condition(paths[key], "equals", value) for key, value in wanted.items())
    texts = (
        f"Set the dates in Hotels to {DAYS[day]}, {NIGHTS[nights]}.",
        f"把Hotels里的日期设为{DAYS_ZH[day]}入住，住{nights + 1}晚。",
    )
    return _task("dates", *texts, _Town(rng).setup, goal, tuple(paths.values()))


def only(rng: random.Random) -> PhoneTask:
    """Show a city's hotels with a filter."""
    town, offer = _Town(rng), rng.choice(list(FILTERS))
    path = ("Hotels", "search", "filters", offer)
    goal = (
        Condition(("ui", "screen"), "equals", "results"),
        Condition(("ui", "params", "city"), "equals", town.city),
        Condition(path, "exists"),
    )
    texts = (
        f"Show me hotels in {town.city} with the filter {FILTERS[offer]} in Hotels.",
        f"在Hotels里筛选{town.city}{FILTERS_ZH[offer]}的酒店。",
    )
    return _task("only", *texts, town.setup, goal, (path,), (town.city,))


def look(rng: random.Random) -> PhoneTask:
    """Open a hotel's page."""
    town = _Town(rng)
    goal = (Condition(("ui", "screen"), "equals", "hotel"), Condition(("ui", "params", "hotel"), "equals", town.key))
    texts = (
        f"Open the page of {town.name} in {town.city} in Hotels.",
        f"在Hotels里打开{town.city}的{town.name}的页面。",
    )
    return _task("look", *texts, town.setup, goal, texts=(town.city,))


def save(rng: random.Random) -> PhoneTask:
    """Save a hotel."""
    town = _Town(rng)
    path = ("Hotels", "saved", town.key)
    texts = (f"Save {town.name} ({town.city}) in Hotels.", f"在Hotels里收藏{town.city}的{town.name}。")
    return _task("save", *texts, town.setup, (Condition(path, "exists"),), (path,), (town.city,))


def unsave(rng: random.Random) -> PhoneTask:
    """Take a hotel off the saved ones."""
    town = _Town(rng)
    path = ("Hotels", "saved", town.key)
    setup = (*town.setup, (("Hotels", "saved"), dict.fromkeys(town.some(rng), True)))
    texts = (f"Remove {town.name} from the saved hotels in Hotels.", f"在Hotels里取消收藏{town.name}。")
    return _task("unsave", *texts, setup, (Condition(path, "absent"),), (path,))


def cancel(rng: random.Random) -> PhoneTask:
    """Cancel a booking."""
    town = _Town(rng)
    setup, path = town.booked(rng)
    texts = (f"Cancel my booking at {town.name} in Hotels.", f"在Hotels里取消{town.name}的预订。")
    return _task("cancel", *texts, setup, (Condition(path, "absent"),), (path,))


def late(rng: random.Random) -> PhoneTask:
    """Ask for a late check-out."""
    town = _Town(rng)
    setup, path = town.booked(rng)
    path = (*path, "late")
    texts = (
        f"Turn on late check-out for my stay at {town.name} in Hotels.",
        f"在Hotels里为{town.name}的预订打开延迟退房。",
    )
    return _task("late", *texts, setup, (Condition(path, "equals", True),), (path,))


def forget(rng: random.Random) -> PhoneTask:
    """Cancel a booking and take the hotel off the saved ones."""
    town = _Town(rng)
    setup, path = town.booked(rng)
    saved = ("Hotels", "saved", town.key)
    setup = (*setup, (("Hotels", "saved"), {town.key: True, town.similar[0]: True}))
    texts = (
        f"In Hotels, cancel my booking at {town.name} and take it off the saved hotels.",
        f"在Hotels里取消{town.name}的预订，并取消收藏该酒店。",
    )
    goal = (Condition(path, "absent"), Condition(saved, "absent"))
    return _task("forget", *texts, setup, goal, (path, saved))


TEMPLATES = {
    f"hotels.{template.__name__}": template
    for template in (book, book_day, book_nights, dates, only, look, save, unsave, cancel, late, forget)
}
