"""Corruptions that break what the traveller insists on: programme, constraints and day load (T8 to T10)."""

from dataclasses import replace
from datetime import date, timedelta

from trl_multiturn.rewards.travel_constraints import trip_price
from trl_multiturn.rewards.travel_trip import Trip

from .corruption_cases import corruption, insert, pick, shift


# --- T8: programme


@corruption("T8")
def visited_twice(case, rng):
    found = pick(rng, case.items("visit"))
    if found is None:
        return None
    insert(case, dict(found), found)
    return case


@corruption("T8")
def category_missing(case, rng):
    if not case.query.categories:
        return None
    category = rng.choice(case.query.categories)
    for day in case.plan["days"]:
        day["items"] = [
            i for i in day["items"] if i["type"] != "visit" or case.world.poi(i["id"])["category"] != category
        ]
    return case


@corruption("T8")
def meal_missing(case, rng):
    if not case.query.meals:
        return None
    found = rng.choice([item for day in case.plan["days"][1:-1] for item in day["items"] if item["type"] == "meal"])
    for day in case.plan["days"]:
        day["items"] = [item for item in day["items"] if item is not found]
    return case


@corruption("T8")
def meal_at_the_wrong_hour(case, rng):
    if not case.query.meals:
        return None
    found = rng.choice([item for day in case.plan["days"][1:-1] for item in day["items"] if item["type"] == "meal"])
    start = f"{found['start'][:10]}T{rng.choice(['09:00', '14:31', '16:59', '21:01'])}"
    found |= {"start": start, "end": shift(start, 45)}
    return case


# --- T9: constraints


def asking(case, **changes):
    return replace(case, query=case.query.model_copy(update=changes))


@corruption("T9")
def budget_broken(case, rng):
    cost = trip_price(Trip(case.query, case.itinerary, case.world))
    return asking(case, budget=int(cost) - rng.randint(1, 50))


@corruption("T9")
def wrong_total(case, rng):
    case.plan["total_price"] += rng.choice([-1, 1]) * rng.randint(2, 50)
    return case


@corruption("T9")
def too_few_stars(case, rng):
    star = min(case.world.hotel(item["id"])["star"] for item in case.items("hotel"))
    return asking(case, min_star=star + 1) if star < 5 else None


@corruption("T9")
def wrong_cabin(case, rng):
    found = pick(rng, case.items("flight"))
    if found is None:
        return None
    sold = case.world.leg(found["id"], date.fromisoformat(found["depart"][:10]))["classes"]
    bought = next(cabin for cabin in sold if sold[cabin]["price"] == found["price"])
    others = [cabin for cabin in sold if cabin != bought and sold[cabin]["price"] != found["price"]]
    return asking(case, cabin=others[0]) if others else None


@corruption("T9")
def wrong_transport(case, rng):
    return asking(case, transport="train" if rng.choice(case.legs())["type"] == "flight" else "flight")


@corruption("T9")
def leaves_too_early(case, rng):
    later = shift(case.legs()[0]["depart"], rng.randint(1, 120))
    return asking(case, depart_after=later[11:]) if later[:10] == str(case.query.start_date) else None


@corruption("T9")
def comes_back_too_late(case, rng):
    earlier = shift(case.legs()[-1]["arrive"], -rng.randint(1, 120))
    if earlier[:10] == str(case.query.end_date):
        return asking(case, return_before=earlier[11:])
    return asking(case, return_before="23:59") if earlier[:10] > str(case.query.end_date) else None


@corruption("T9")
def more_people_than_seats(case, rng):
    def seats(leg):
        sold = case.world.leg(leg["id"], date.fromisoformat(leg["depart"][:10]))["classes"].values()
        return max(seat["seats_left"] for seat in sold if seat["price"] == leg["price"])

    fewest = min(seats(leg) for leg in case.legs())
    return asking(case, adults=fewest + 1) if fewest < 8 else None


@corruption("T9")
def more_people_than_beds(case, rng):
    hotel = rng.choice(case.items("hotel"))
    first = date.fromisoformat(hotel["check_in"][:10])
    rooms = min(
        case.world.hotel_night(hotel["id"], first + timedelta(days=i))["rooms_left"] for i in range(hotel["nights"])
    )
    return asking(case, adults=2 * rooms + 1) if rooms < 4 else None


# --- T10: day load


@corruption("T10")
def day_too_long(case, rng):
    found = rng.choice(case.items("hotel"))
    start = found["check_in"]
    end = shift(start, int(case.query.max_active_hours * 60) + rng.randint(1, 60))
    items = next(day for day in case.plan["days"] if found in day["items"])["items"]
    items.append({"type": "meal", "meal": "dinner", "start": max(start, items[-1].get("end", start)), "end": end})
    return case


@corruption("T10")
def less_stamina(case, rng):
    trip = Trip(case.query, case.itinerary, case.world)
    days = {step.day for step in trip.steps}
    spans = [[s for s in trip.steps if s.day == day] for day in days]
    longest = max((max(s.end for s in steps) - min(s.start for s in steps)).total_seconds() / 3600 for steps in spans)
    return asking(case, max_active_hours=longest - 0.25)
