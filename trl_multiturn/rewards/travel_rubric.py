"""Does a plan hold together? The rubric T1 to T10, each item a function of a trip that says why.

The items follow the notes on [DeepTravel](https://huggingface.co/papers/2509.21842)'s trajectory verifier, whose own rubric
is not public: this one is ours.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

from ..environments.travel import Itinerary, TravelQuery
from ..environments.travel.itinerary import Hotel, Leg, Meal, Transfer, Visit
from ..environments.travel.world import default_world
from .travel_constraints import constraint_problems
from .travel_trip import Step, Trip, minutes_between, nights_from
from .verdicts import Check, Verdict


BUFFER_MINUTES = {"flight": 90, "train": 30}
MEAL_MINUTES = 45
MEAL_STARTS = {"lunch": ("11:00", "14:30"), "dinner": ("17:00", "21:00")}
_MAX_PROBLEMS = 3


class TrajectoryVerifier:
    """
    Judges a plan as a whole: whether it is what was asked for, and whether it can be carried out.

    | item | passes if |
    |---|---|
    | T1 | the days are exactly those asked for, and each item starts on its day |
    | T2 | one direct leg each leads from the origin through the stays in their order, for the nights asked, and back |
    | T3 | no item starts before the one listed before it has ended, all times in UTC |
    | T4 | the way from each item to the next fits between them, by taxi or as the listed transfer goes, and no city is changed without a leg |
    | T5 | before each departure there is time for the taxi and a buffer of 90 minutes (flights) or 30 (trains), and each leg arrives after it left |
    | T6 | each visit is within the opening hours of an open day and long enough |
    | T7 | each night of each stay has one bed, in its city, taken not before the arrival and not before the hotel's check-in time |
    | T8 | nothing is visited twice, each category asked for is visited during the stays, and middle days have the meals asked for, 45 minutes or more |
    | T9 | budget, total price, stars, cabin, means of transport, seats, rooms and the times of the first and last leg |
    | T10 | no day is longer than the traveller wants |

    An item that has nothing to look at is `"na"`. What the world does not know is judged by what the itinerary itself says:
    whether such a thing exists at all is for the [`TurnVerifier`] to tell.

    If the request is infeasible by its level, saying so passes. If it is not, saying so fails T1.

    Args:
        world ([`TravelWorld`], *optional*):
            Where places, timetables, hotels and opening hours are looked up. The default world if `None`.
    """

    def __init__(self, world: Any = None) -> None:
        self.world = default_world() if world is None else world

    def __call__(self, query: TravelQuery, itinerary: Itinerary) -> Verdict:
        """
        Judge a plan.

        Args:
            query ([`TravelQuery`]):
                What was asked for.
            itinerary ([`Itinerary`]):
                The plan.

        Returns:
            [`Verdict`]: With the items `"T1"` to `"T10"`.
        """
        if not itinerary.feasible:
            right = query.level == "infeasible"
            told = "said to be infeasible, which is right" if right else f"said to be infeasible, but is {query.level}"
            return _only_first(Check("pass" if right else "fail", told))
        trip = Trip(query, itinerary, self.world)
        if trip.far:
            return _only_first(Check("fail", f"{trip.far}: far from the trip, which begins on {query.start_date}"))
        return Verdict({name: check(trip) for name, check in RUBRIC.items()})


def check_days(trip: Trip) -> Check:
    """T1: exactly the days asked for, each item on its day."""
    asked, given = trip.query.dates, [day.date for day in trip.itinerary.days]
    problems = []
    if given != asked:
        wrong = next((i for i, (a, g) in enumerate(zip(asked, given, strict=False)) if a != g), None)
        problems.append(
            f"{len(given)} days instead of {len(asked)}"
            if wrong is None
            else f"day {wrong + 1} is {given[wrong]} instead of {asked[wrong]}"
        )
    for step in trip.steps:
        starts = step.item.span[0]
        if starts.date() != given[step.day]:
            problems.append(f"{step.where}: starts {_at(starts)}, but stands on {given[step.day]}")
    return _check(problems, f"{len(asked)} days from {asked[0]}")


def check_route(trip: Trip) -> Check:
    """T2: the legs chain through the stays in their order, from the origin and back."""
    query, legs = trip.query, trip.legs
    if not legs:
        return Check("fail", "there is no flight or train")
    ends = [(_city(leg.origin), _city(leg.destination)) for leg in legs]
    problems = []
    for leg, (left, reached) in zip(legs, ends, strict=True):
        for city, place in ((left, leg.item.origin), (reached, leg.item.destination)):
            if city is None:
                problems.append(f"{leg.where}: {place} is no airport or station that is known")
    if ends[0][0] not in (query.origin, None):
        problems.append(f"{legs[0].where}: leaves {ends[0][0]} instead of {query.origin}")
    if ends[-1][1] not in (query.origin, None):
        problems.append(f"{legs[-1].where}: arrives in {ends[-1][1]} instead of {query.origin}")
    for leg, (_, reached), (left, _) in zip(legs[1:], ends, ends[1:], strict=False):
        if None not in (reached, left) and reached != left:
            problems.append(f"{leg.where}: leaves {left}, but the leg before arrived in {reached}")
    if len(legs) != len(query.stays) + 1:
        problems.append(
            f"{len(legs)} legs for {len(query.stays) + 1} ways, each of which is one direct flight or train"
        )
    if not problems:
        asked, given = [(stay.city, stay.nights) for stay in query.stays], _stays(legs, ends)
        if asked != given:
            problems.append(f"stays {_listed(given)} instead of {_listed(asked)}")
    return _check(problems, f"{len(legs)} legs, stays {_listed([(s.city, s.nights) for s in query.stays])}")


def check_order(trip: Trip) -> Check:
    """T3: nothing starts before what is listed before it has ended."""
    problems: list[str] = []
    latest: Step | None = None
    for step in trip.steps:
        if latest is not None and step.start < latest.end:
            early = minutes_between(step.start, latest.end)
            problems.append(f"{step.where}: starts {early} min before {latest.where} ends")
        if step.end < step.start and not isinstance(step.item, Leg):
            problems.append(f"{step.where}: ends {minutes_between(step.end, step.start)} min before it starts")
        if latest is None or step.end >= latest.end:
            latest = step
    return _check(problems, f"{len(trip.steps)} items in order")


def check_ways(trip: Trip) -> Check:
    """T4: every way within a city fits, and no city is changed without a leg."""
    problems, ways = [], 0
    for step, before, free in _moves(trip):
        if isinstance(step.item, Leg):
            continue
        elsewhere = next((p for p in (step.origin, step.destination) if p and step.city and p.city != step.city), None)
        if elsewhere is not None:
            problems.append(f"{step.where}: {elsewhere.id} is in {elsewhere.city}, the party in {step.city}")
            continue
        if before is not None and before.destination and step.origin and before.destination.city == step.origin.city:
            ways += 1
            need = trip.minutes(before.destination.id, step.origin.id)
            if need is None or free < need:
                way = f"{before.destination.id} to {step.origin.id}"
                problems.append(f"{step.where}: {free} min for {way}, which takes {need} min")
        if isinstance(step.item, Transfer) and step.origin and step.destination:
            ways += 1
            need = trip.minutes(step.origin.id, step.destination.id, step.item.mode)
            takes = minutes_between(step.start, step.end)
            if need is None or takes < need:
                problems.append(f"{step.where}: {takes} min for a way that takes {need} min by {step.item.mode}")
    return _check(problems, f"{ways} ways", nothing=None if ways else "there is no way within a city")


def check_departures(trip: Trip) -> Check:
    """T5: time for the taxi and the buffer before each departure, and legs that arrive after they left."""
    problems = []
    for leg in trip.legs:
        if leg.end <= leg.start:
            problems.append(f"{leg.where}: arrives {minutes_between(leg.end, leg.start)} min before it leaves (UTC)")
    for step, before, free in _moves(trip):
        if not isinstance(step.item, Leg) or before is None:
            continue
        buffer, taxi = BUFFER_MINUTES[step.item.type], 0
        if before.destination and step.origin and before.destination.city == step.origin.city:
            # A way that does not exist is for T4; here the buffer alone must be left then.
            taxi = trip.minutes(before.destination.id, step.origin.id) or 0
        if free < taxi + buffer:
            problems.append(
                f"{step.where}: {free} min from {before.where} to the departure, {taxi} min taxi and {buffer} min "
                "buffer are needed"
            )
    return _check(problems, f"{len(trip.legs)} legs", nothing=None if trip.legs else "there is no leg")


def check_visits(trip: Trip) -> Check:
    """T6: every visit within the opening hours of an open day, long enough, in the city where the party is."""
    problems, known, unknown = [], 0, []
    for step in trip.steps:
        if not isinstance(step.item, Visit):
            continue
        poi = trip.world.poi(step.item.id)
        if poi is None:
            unknown.append(f"{step.where}: {step.item.id} is not known")
            continue
        known += 1
        start, end = step.item.span
        weekday = start.strftime("%A")
        if weekday in poi["closed_days"]:
            problems.append(f"{step.where}: {poi['poi_id']} is closed on {weekday}")
        if f"{start:%H:%M}" < poi["open"] or end.date() != start.date() or f"{end:%H:%M}" > poi["close"]:
            hours = f"{poi['open']} to {poi['close']}"
            problems.append(f"{step.where}: {_at(start)} to {_at(end)}, but {poi['poi_id']} is open {hours}")
        if minutes_between(start, end) < poi["visit_min"]:
            problems.append(f"{step.where}: {minutes_between(start, end)} min for a visit of {poi['visit_min']} min")
        if step.city is not None and poi["city"] != step.city:
            problems.append(f"{step.where}: {poi['poi_id']} is in {poi['city']}, the party in {step.city}")
    told = "; ".join(unknown[:_MAX_PROBLEMS])
    return _check(problems, f"{known} visits", nothing=None if known else told or "there is no visit")


def check_beds(trip: Trip) -> Check:
    """T7: one bed for each night of each stay, in its city, not before the arrival and the hotel's hour."""
    nights: dict[date, str] = {}
    for stay in trip.query.stays:
        first = trip.query.start_date + timedelta(days=len(nights))
        nights.update(dict.fromkeys(nights_from(first, stay.nights), stay.city))
    beds: dict[date, list[str]] = {night: [] for night in nights}
    problems = []
    for step in trip.steps:
        if not isinstance(step.item, Hotel):
            continue
        hotel = trip.world.hotel(step.item.id)
        problems += _check_in_problems(trip, step, hotel, nights)
        for night in nights_from(step.item.check_in.date(), step.item.nights):
            if night not in nights:
                problems.append(f"{step.where}: a bed on {night}, which is no night of the trip")
            elif hotel is not None and hotel["city"] != nights[night]:
                problems.append(f"{step.where}: a bed in {hotel['city']} on {night}, the stay is in {nights[night]}")
            else:
                beds[night].append(step.where)
    for night, where in beds.items():
        if len(where) != 1:
            beds_there = f"beds twice ({' and '.join(where)})" if where else "no bed"
            problems.append(f"{night} in {nights[night]}: {beds_there}")
    return _check(problems, f"{len(nights)} nights, each with a bed")


def check_programme(trip: Trip) -> Check:
    """T8: nothing twice, every category in the cities of the stays, and the meals of the middle days."""
    query = trip.query
    seen: dict[str, str] = {}
    visited, problems = set(), []
    cities = {stay.city for stay in query.stays}
    meals: set[tuple[date, str]] = set()
    for step in trip.steps:
        if isinstance(step.item, Visit):
            if step.item.id in seen:
                problems.append(f"{step.where}: {step.item.id} again, after {seen[step.item.id]}")
            seen[step.item.id] = step.where
            poi = trip.world.poi(step.item.id)
            if poi and poi["city"] in cities:
                visited.add(poi["category"])
        elif isinstance(step.item, Meal):
            earliest, latest = MEAL_STARTS[step.item.meal]
            long_enough = minutes_between(step.start, step.end) >= MEAL_MINUTES
            if long_enough and earliest <= f"{step.item.start:%H:%M}" <= latest:
                meals.add((step.item.start.date(), step.item.meal))
    problems += [f"no {category} is visited" for category in query.categories if category not in visited]
    if query.meals:
        for number, day in enumerate(query.dates[1:-1], start=2):
            problems += [
                f"day {number} has no {meal} of {MEAL_MINUTES} min that starts from {first} to {last}"
                for meal, (first, last) in MEAL_STARTS.items()
                if (day, meal) not in meals
            ]
    asked = bool(seen or query.categories or query.meals)
    return _check(problems, f"{len(seen)} visits", nothing=None if asked else "nothing is visited or asked for")


def check_constraints(trip: Trip) -> Check:
    """T9: what the traveller insists on."""
    return _check(*constraint_problems(trip))


def check_day_load(trip: Trip) -> Check:
    """T10: from the start of a day's first item to the end of its last, no more hours than wanted."""
    problems, longest = [], 0.0
    for day, group in groupby(trip.steps, key=lambda step: step.day):
        steps = list(group)
        first, last = min(step.start for step in steps), max(step.end for step in steps)
        hours = (last - first).total_seconds() / 3600
        longest = max(longest, hours)
        if hours > trip.query.max_active_hours:
            problems.append(f"day {day + 1} has {hours:.1f} h, more than {trip.query.max_active_hours:g} h")
    return _check(problems, f"longest day {longest:.1f} h of {trip.query.max_active_hours:g} h")


RUBRIC = {
    "T1": check_days,
    "T2": check_route,
    "T3": check_order,
    "T4": check_ways,
    "T5": check_departures,
    "T6": check_visits,
    "T7": check_beds,
    "T8": check_programme,
    "T9": check_constraints,
    "T10": check_day_load,
}


def _only_first(first: Check) -> Verdict:
    rest = Check("na", "not looked at")
    return Verdict({name: first if name == "T1" else rest for name in RUBRIC})


def _check(problems: list[str], told: str, nothing: str | None = None) -> Check:
    """Fails if there are problems; not applicable if there was `nothing` to look at."""
    if problems:
        more = len(problems) - _MAX_PROBLEMS
        return Check("fail", "; ".join(problems[:_MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else ""))
    return Check("pass", told) if nothing is None else Check("na", nothing)


def _moves(trip: Trip) -> Iterator[tuple[Step, Step | None, int]]:
    """Each item that is somewhere, the one before it, and the minutes between them that no meal takes."""
    before: Step | None = None
    meals = 0
    for step in trip.steps:
        if isinstance(step.item, Meal):
            meals += minutes_between(step.start, step.end)
            continue
        yield step, before, minutes_between(before.end, step.start) - meals if before else 0
        before, meals = step, 0


def _stays(legs: list[Step], ends: list[tuple[str | None, str | None]]) -> list[tuple[str | None, int]]:
    """City and nights between the legs."""
    return [
        (city, (following.item.depart.date() - leg.item.arrive.date()).days)
        for leg, following, (_, city) in zip(legs, legs[1:], ends, strict=False)
    ]


def _check_in_problems(trip: Trip, step: Step, hotel: dict[str, Any] | None, nights: dict[date, str]) -> list[str]:
    clock, day = f"{step.item.check_in:%H:%M}", step.item.check_in.date()
    problems = []
    if hotel is not None and clock < hotel["check_in_from"]:
        problems.append(f"{step.where}: check-in at {clock}, possible from {hotel['check_in_from']}")
    city = hotel["city"] if hotel is not None else nights.get(day)
    for leg in trip.legs:
        if _city(leg.destination) == city and leg.item.arrive.date() == day and step.start < leg.end:
            problems.append(
                f"{step.where}: check-in at {clock}, before {leg.where} arrives at {leg.item.arrive:%H:%M}"
            )
    return problems


def _city(place: Any) -> str | None:
    """City of an airport or a station."""
    return place.city if place is not None and place.kind in ("airport", "station") else None


def _listed(stays: Sequence[tuple[str | None, int]]) -> str:
    return ", ".join(f"{city} {nights}" for city, nights in stays) or "none"


def _at(time: datetime) -> str:
    return time.isoformat(timespec="minutes")
