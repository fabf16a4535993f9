"""Corruptions of the plan as such: days, route, order, ways, departures, visits and beds (T1 to T7)."""

from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from trl_multiturn.environments.travel import Stay

from .corruption_cases import another_city, corruption, day_of, insert, other_poi, pick, place, shift, visit


# --- T1: days


@corruption("T1")
def extra_day(case, rng):
    last = datetime.fromisoformat(case.plan["days"][-1]["date"])
    case.plan["days"].append({"date": str((last + timedelta(days=1)).date()), "items": []})
    return case


@corruption("T1")
def missing_day(case, rng):
    del case.plan["days"][rng.randrange(len(case.plan["days"]))]
    return case


@corruption("T1")
def item_on_the_wrong_day(case, rng):
    days = [day for day in case.plan["days"] if day["items"]]
    day = rng.choice(days)
    other = rng.choice([other for other in case.plan["days"] if other is not day])
    other["items"].append(day["items"].pop(rng.randrange(len(day["items"]))))
    return case


@corruption("T1")
def dates_shifted(case, rng):
    by = rng.choice([-7, -1, 1, 7]) * 24 * 60
    for day in case.plan["days"]:
        day["date"] = shift(f"{day['date']}T00:00", by)[:10]
    return case


@corruption("T1")
def feasible_said_to_be_infeasible(case, rng):
    return replace(case, plan={"feasible": False, "reason": "It cannot be done."})


# --- T2: route


@corruption("T2")
def no_way_back(case, rng):
    last = case.legs()[-1]
    day_of(case, last)["items"].remove(last)
    return case


@corruption("T2")
def another_origin(case, rng):
    city = another_city(case, rng, case.query.origin, case.query.stays[0].city)
    return replace(case, query=case.query.model_copy(update={"origin": city}))


@corruption("T2")
def another_order_of_cities(case, rng):
    stays = case.query.stays
    if len(stays) < 2 or stays[::-1] == stays:
        return None
    return replace(case, query=case.query.model_copy(update={"stays": stays[::-1]}))


@corruption("T2")
def nights_moved_between_stays(case, rng):
    stays = case.query.stays
    longer = next((i for i, stay in enumerate(stays) if stay.nights > 1), None)
    if longer is None or len(stays) < 2:
        return None
    nights = [stay.nights for stay in stays]
    nights[longer] -= 1
    nights[longer - 1] += 1
    changed = [Stay(city=stay.city, nights=n) for stay, n in zip(stays, nights, strict=True)]
    return replace(case, query=case.query.model_copy(update={"stays": changed}))


@corruption("T2")
def leg_from_another_city(case, rng):
    leg = rng.choice(case.legs())
    leg["origin"] = case.world.city(another_city(case, rng, place(case, leg, "origin").city)).airports[0]
    return case


# --- T3: overlaps


@corruption("T3")
def overlap(case, rng):
    found = pick(rng, case.items("visit", "meal"))
    if found is None:
        return None
    insert(
        case,
        {"type": "meal", "meal": "lunch", "start": shift(found["end"], -10), "end": shift(found["end"], 35)},
        found,
    )
    return case


@corruption("T3")
def ends_before_it_starts(case, rng):
    found = pick(rng, case.items("visit", "meal"))
    if found is None:
        return None
    found["start"], found["end"] = found["end"], found["start"]
    return case


@corruption("T3")
def meal_on_the_flight(case, rng):
    leg = rng.choice(case.legs())
    start = shift(leg["depart"], 5)
    if start[:10] != leg["depart"][:10]:
        return None
    insert(case, {"type": "meal", "meal": "lunch", "start": start, "end": shift(start, 45)}, leg)
    # A meal after a flight goes by the clock there: only where that is the clock of the origin is it in the air for sure.
    return case if place(case, leg, "origin").tz == place(case, leg).tz else None


# --- T4: ways


@corruption("T4")
def teleporting(case, rng):
    """A visit in a city where the party never is."""
    found = pick(rng, case.items("hotel"))
    city = another_city(case, rng, case.query.origin, *(stay.city for stay in case.query.stays))
    insert(case, visit(case.world.search_pois(city)[0], found["check_in"]), found)
    return case


@corruption("T4")
def no_time_for_the_way(case, rng):
    """From the hotel's door to a sight in no time."""
    found = pick(rng, case.items("hotel"))
    poi = other_poi(case, place(case, found).city)
    if poi is None:
        return None
    insert(case, visit(poi, found["check_in"]), found)
    return case


@corruption("T4")
def slow_transfer_in_a_hurry(case, rng):
    found = pick(rng, case.items("hotel"))
    poi = other_poi(case, place(case, found).city)
    if poi is None:
        return None
    start, ends = found["check_in"], {"origin": found["id"], "destination": poi["poi_id"]}
    minutes = case.world.route_minutes(found["id"], poi["poi_id"], "walk") - 1
    way = {"type": "transfer", "mode": "walk", **ends, "start": start, "end": shift(start, minutes), "price": 0}
    insert(case, way, found)
    return case


# --- T5: departures


@corruption("T5")
def late_for_the_departure(case, rng):
    """A visit that ends with less than the buffer left."""
    leg = rng.choice(case.legs()[1:])
    poi = other_poi(case, place(case, leg, "origin").city)
    if poi is None:
        return None
    way = case.world.route_minutes(poi["poi_id"], leg["origin"])
    buffer = 90 if leg["type"] == "flight" else 30
    last = visit(poi, shift(leg["depart"], -way - buffer + rng.randint(1, buffer) - poi["visit_min"]))
    items = day_of(case, leg)["items"]
    items.insert(items.index(leg), last)
    return case


@corruption("T5")
def arrives_before_it_leaves(case, rng):
    leg = rng.choice(case.legs())
    zones = [ZoneInfo(place(case, leg, end).tz) for end in ("origin", "destination")]
    leaves = datetime.fromisoformat(leg["depart"]).replace(tzinfo=zones[0])
    arrives = (leaves - timedelta(minutes=rng.randint(0, 300))).astimezone(zones[1])
    leg["arrive"] = arrives.replace(tzinfo=None).isoformat(timespec="minutes")
    return case


# --- T6: visits


@corruption("T6")
def closed_day(case, rng):
    for hotel in rng.sample(case.items("hotel"), len(case.items("hotel"))):
        weekday = f"{datetime.fromisoformat(hotel['check_in']):%A}"
        poi = other_poi(case, place(case, hotel).city, lambda poi, day=weekday: day in poi["closed_days"])
        if poi is not None:
            insert(case, visit(poi, hotel["check_in"]), hotel)
            return case
    return None


@corruption("T6")
def before_it_opens(case, rng):
    found = pick(rng, case.items("visit"))
    if found is None:
        return None
    found["start"] = shift(f"{found['start'][:10]}T{case.world.poi(found['id'])['open']}", -rng.randint(1, 120))
    return case


@corruption("T6")
def after_it_closes(case, rng):
    found = pick(rng, case.items("visit"))
    if found is None:
        return None
    found["end"] = shift(f"{found['end'][:10]}T{case.world.poi(found['id'])['close']}", rng.randint(1, 120))
    return case


@corruption("T6")
def too_short_a_visit(case, rng):
    found = pick(rng, case.items("visit"))
    if found is None:
        return None
    found["end"] = shift(found["start"], case.world.poi(found["id"])["visit_min"] - rng.randint(1, 40))
    return case


# --- T7: beds


@corruption("T7")
def a_night_without_bed(case, rng):
    found = rng.choice(case.items("hotel"))
    if found["nights"] > 1:
        found["nights"] -= 1
    else:
        day_of(case, found)["items"].remove(found)
    return case


@corruption("T7")
def a_night_too_many(case, rng):
    rng.choice(case.items("hotel"))["nights"] += 1
    return case


@corruption("T7")
def two_hotels_at_once(case, rng):
    found = rng.choice(case.items("hotel"))
    insert(case, dict(found), found)
    return case


@corruption("T7")
def hotel_in_another_city(case, rng):
    found = rng.choice(case.items("hotel"))
    city = another_city(case, rng, place(case, found).city)
    found["id"] = case.world.search_hotels(city, "2026-05-05", "2026-05-06")[0]["hotel_id"]
    return case


@corruption("T7")
def check_in_before_the_arrival(case, rng):
    for day in case.plan["days"]:
        leg = next((item for item in day["items"] if item["type"] in ("flight", "train")), None)
        hotel = next((item for item in day["items"] if item["type"] == "hotel"), None)
        early = shift(leg["arrive"], -rng.randint(1, 30)) if leg and hotel else None
        if early and early[:10] == day["date"]:
            hotel["check_in"] = early
            return case
    return None


@corruption("T7")
def check_in_before_the_hour(case, rng):
    found = rng.choice(case.items("hotel"))
    hour = case.world.hotel(found["id"])["check_in_from"]
    found["check_in"] = shift(f"{found['check_in'][:10]}T{hour}", -rng.randint(1, 180))
    return case
