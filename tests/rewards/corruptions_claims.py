"""Corruptions of what the tools said."""

import json
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from .corruption_cases import CALL, UNGROUNDED, corruption, insert, other_poi, pick, place, shift, visit


@corruption(CALL)
def times_shifted(case, rng):
    leg = rng.choice(case.legs())
    minutes = rng.choice([-1, 1]) * rng.randint(1, 60)
    leg |= {name: shift(leg[name], minutes) for name in ("depart", "arrive")}
    return case


@corruption(CALL)
def time_zone_ignored(case, rng):
    """The arrival by the clock of the origin."""
    zones = {end: [ZoneInfo(place(case, leg, end).tz) for leg in case.legs()] for end in ("origin", "destination")}
    for leg, here, there in zip(case.legs(), zones["origin"], zones["destination"], strict=True):
        arrives = datetime.fromisoformat(leg["arrive"]).replace(tzinfo=there)
        wrong = arrives.astimezone(here).replace(tzinfo=None).isoformat(timespec="minutes")
        if wrong != leg["arrive"]:
            leg["arrive"] = wrong
            return case
    return None


@corruption(CALL)
def fare_invented(case, rng):
    leg = rng.choice(case.legs())
    leg["price"] += rng.choice([-1, 1]) * rng.randint(1, max(1, leg["price"] // 2))
    return case


@corruption(CALL)
def fare_of_another_flight(case, rng):
    """All claims are in the response, but not in one record."""
    for leg in case.legs():
        rows = next(json.loads(turn.response) for turn in case.turns if leg["id"] in turn.response)
        prices = [row["price"] for row in rows if abs(row["price"] - leg["price"]) > 0.5]
        if prices:
            leg["price"] = rng.choice(prices)
            return case
    return None


@corruption(CALL)
def another_airport(case, rng):
    for leg in rng.sample(case.legs(), len(case.legs())):
        others = [code for code in case.world.city(place(case, leg).city).airports if code != leg["destination"]]
        if others:
            leg["destination"] = rng.choice(others)
            return case
    return None


@corruption(CALL)
def room_rate_invented(case, rng):
    rng.choice(case.items("hotel"))["price"] += rng.randint(1, 30)
    return case


@corruption(CALL)
def stay_not_searched(case, rng):
    """The hotel was searched for other nights, on which it may cost something else."""
    hotel = rng.choice(case.items("hotel"))
    i = next(i for i, t in enumerate(case.turns) if hotel["id"] in t.response and t.name == "search_hotels")
    days = {name: shift(f"{case.turns[i].arguments[name]}T00:00", 1440)[:10] for name in ("check_in", "check_out")}
    rows = [row | days for row in json.loads(case.turns[i].response)]
    turn = replace(case.turns[i], arguments=case.turns[i].arguments | days, response=json.dumps(rows))
    return replace(case, turns=(*case.turns[:i], turn, *case.turns[i + 1 :]))


@corruption(CALL)
def ticket_invented(case, rng):
    found = pick(rng, case.items("visit"))
    if found is None:
        return None
    found["price"] += rng.randint(1, 20)
    return case


def misspelt(id, rng):
    """An id of the same form that is not this one."""
    i = len(id) - 1
    return id[:i] + rng.choice([sign for sign in "23456789" if sign != id[i]])


@corruption(UNGROUNDED)
def flight_that_does_not_exist(case, rng):
    leg = rng.choice(case.legs())
    leg["id"] = misspelt(leg["id"], rng)
    return case if not any(leg["id"] in turn.response for turn in case.turns) else None


@corruption(UNGROUNDED)
def hotel_that_does_not_exist(case, rng):
    hotel = rng.choice(case.items("hotel"))
    hotel["id"] = misspelt(hotel["id"], rng)
    return case if not any(hotel["id"] in turn.response for turn in case.turns) else None


@corruption(UNGROUNDED)
def sight_that_was_never_searched(case, rng):
    """It exists, and its ticket is right, but no tool said so."""
    hotel = rng.choice(case.items("hotel"))
    poi = other_poi(case, place(case, hotel).city)
    if poi is None or any(poi["poi_id"] in turn.response for turn in case.turns):
        return None
    insert(case, visit(poi, hotel["check_in"]), hotel)
    return case


@corruption(UNGROUNDED)
def answer_of_another_rollout(case, rng):
    """The plan is right in every detail, but the call that says so was never made here."""
    item = rng.choice(case.items("flight", "train", "hotel", "visit"))
    return replace(case, turns=tuple(turn for turn in case.turns if item["id"] not in turn.response))


@corruption(UNGROUNDED)
def transfer_never_planned(case, rng):
    hotel = rng.choice(case.items("hotel"))
    poi = other_poi(case, place(case, hotel).city)
    if poi is None:
        return None
    minutes = case.world.route_minutes(hotel["id"], poi["poi_id"])
    way = {"type": "transfer", "mode": "taxi", "origin": hotel["id"], "destination": poi["poi_id"]}
    insert(case, way | {"start": hotel["check_in"], "end": shift(hotel["check_in"], minutes), "price": 9}, hotel)
    return case
