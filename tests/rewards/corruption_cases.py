"""What corruptions are made of: a good case, a register, and small helpers.

A corruption is a pure function of a [`Case`] and a random generator. It returns the corrupted case, or `None` where it does
not apply, such as a second hotel in a trip without one.
"""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from trl_multiturn.environments.travel import Itinerary, TravelQuery, TravelWorld, parse_itinerary
from trl_multiturn.rewards.verifiers import ToolTurn


CALL, UNGROUNDED = "call", "ungrounded"


@dataclass(frozen=True)
class Case:
    """A plan as plain values, what the tools said before it, and what was asked for."""

    plan: dict[str, Any]
    turns: tuple[ToolTurn, ...]
    query: TravelQuery
    world: TravelWorld

    @property
    def itinerary(self) -> Itinerary:
        return parse_itinerary(json.dumps(self.plan))

    def items(self, *types: str) -> list[dict[str, Any]]:
        return [item for day in self.plan["days"] for item in day["items"] if item["type"] in types]

    def legs(self) -> list[dict[str, Any]]:
        return self.items("flight", "train")


Corruption = Callable[[Case, random.Random], Case | None]
CORRUPTIONS: dict[str, tuple[str, Corruption]] = {}


def corruption(expected: str) -> Callable[[Corruption], Corruption]:
    """Registers a corruption under the name of its function; it is given its own copy of the plan."""

    def register(function: Corruption) -> Corruption:
        def corrupt(case: Case, rng: random.Random) -> Case | None:
            return function(replace(case, plan=copy.deepcopy(case.plan)), rng)

        CORRUPTIONS[function.__name__] = (expected, corrupt)
        return corrupt

    return register


def make_case(query: TravelQuery, itinerary: Itinerary, world: TravelWorld, rows: int = 5) -> Case:
    """A plan, and one call for each thing in it, answered with at most so many records as the environment does."""
    plan = json.loads(itinerary.to_json())
    found = []

    def search(name: str, key: str, id: str, **arguments: Any) -> None:
        records = world.call(name, arguments)
        mine = [record for record in records if record[key] == id]
        shown = mine + [record for record in records if record[key] != id][: rows - 1]
        response = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
        found.append(ToolTurn(name, arguments, response, len(found)))

    for day in plan.get("days", []):
        for item in day["items"]:
            if item["type"] in ("flight", "train"):
                name, key, kind = _SEARCHES[item["type"]]
                sold = world.leg(item["id"], datetime.fromisoformat(item["depart"]).date())["classes"]
                seat = next(seat for seat in sold if sold[seat]["price"] == item["price"])
                cities = {end: world.place(item[end]).city for end in ("origin", "destination")}
                search(name, key, item["id"], **cities, date=item["depart"][:10], **{kind: seat})
            elif item["type"] == "hotel":
                first = datetime.fromisoformat(item["check_in"]).date()
                nights = {"check_in": str(first), "check_out": str(first + timedelta(days=item["nights"]))}
                search("search_hotels", "hotel_id", item["id"], city=world.hotel(item["id"])["city"], **nights)
            elif item["type"] == "visit":
                poi = world.poi(item["id"])
                search("search_pois", "poi_id", item["id"], city=poi["city"], category=poi["category"])
    return Case(plan, tuple(found), query, world)


_SEARCHES = {"flight": ("search_flights", "flight_no", "cabin"), "train": ("search_trains", "train_no", "seat_class")}


def shift(time: str, minutes: int) -> str:
    return (datetime.fromisoformat(time) + timedelta(minutes=minutes)).isoformat(timespec="minutes")


def place(case: Case, item: dict[str, Any], end: str = "destination") -> Any:
    """Where an item is, or where a leg starts or ends."""
    return case.world.place(item[end] if item["type"] in ("flight", "train") else item["id"])


def pick(rng: random.Random, items: list[Any]) -> Any:
    return rng.choice(items) if items else None


def another_city(case: Case, rng: random.Random, *but: str) -> str:
    return rng.choice([city for city in case.world.cities if city not in but])


def other_poi(case: Case, city: str, wanted: Callable[[dict[str, Any]], bool] = lambda poi: True) -> Any:
    """A point of interest of a city that the plan does not visit; `None` if there is none."""
    visited = {item["id"] for item in case.items("visit")}
    rows = (poi for poi in case.world.search_pois(city) if poi["poi_id"] not in visited and wanted(poi))
    return next(rows, None)


def visit(poi: dict[str, Any], start: str, minutes: int | None = None) -> dict[str, Any]:
    end = shift(start, poi["visit_min"] if minutes is None else minutes)
    return {"type": "visit", "id": poi["poi_id"], "start": start, "end": end, "price": poi["ticket"]}


def day_of(case: Case, item: dict[str, Any]) -> dict[str, Any]:
    return next(day for day in case.plan["days"] if any(item is other for other in day["items"]))


def insert(case: Case, item: dict[str, Any], after: dict[str, Any]) -> None:
    items = day_of(case, after)["items"]
    items.insert(next(i for i, other in enumerate(items) if other is after) + 1, item)
