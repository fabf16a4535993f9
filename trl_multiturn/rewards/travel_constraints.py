"""T9: what a plan costs, and whether it keeps to what the traveller insists on."""

from typing import Any

from ..environments.travel.itinerary import Hotel, Leg, Transfer, Visit
from .travel_claims import PRICE_TOLERANCE
from .travel_trip import Step, Trip, nights_from


TOTAL_TOLERANCE = 1.0


def constraint_problems(trip: Trip) -> tuple[list[str], str]:
    """
    What a plan does that the traveller ruled out.

    Args:
        trip ([`Trip`]):
            The plan.

    Returns:
        `tuple[list[str], str]`: Problems, and what was looked at.
    """
    query = trip.query
    total = trip_price(trip)
    problems = []
    if query.budget is not None and total > query.budget:
        problems.append(f"costs {total:.10g}, budget {query.budget}")
    declared = trip.itinerary.total_price
    if declared is not None and abs(declared - total) > TOTAL_TOLERANCE:
        problems.append(f"says it costs {declared:.10g}, the items add up to {total:.10g}")
    for step in trip.legs:
        problems += _leg_problems(trip, step)
    for step in trip.steps:
        if isinstance(step.item, Hotel):
            problems += _hotel_problems(trip, step)
    problems += _clock_problems(trip)
    return problems, f"costs {total:.10g}" + ("" if query.budget is None else f" of {query.budget}")


def trip_price(trip: Trip) -> float:
    """
    What the whole party pays, by the prices that the itinerary states.

    Args:
        trip ([`Trip`]):
            The plan.

    Returns:
        `float`: US dollars.
    """
    query, total = trip.query, 0.0
    for step in trip.steps:
        item = step.item
        if isinstance(item, Hotel):
            total += item.price * item.nights * query.rooms
        elif isinstance(item, Transfer):
            total += item.price
        elif isinstance(item, (Leg, Visit)):
            total += item.price * query.adults
    return total


def _leg_problems(trip: Trip, step: Step) -> list[str]:
    query, item = trip.query, step.item
    problems = []
    if query.transport is not None and item.type != query.transport:
        problems.append(f"{step.where}: a {item.type}, {query.transport} is asked for")
    leg = trip.world.leg(item.id, item.depart.date())
    if leg is None:
        return problems
    classes: dict[str, Any] = leg["classes"]
    paid = {name for name, sold in classes.items() if abs(sold["price"] - item.price) <= PRICE_TOLERANCE}
    if query.cabin is not None and item.type == "flight" and query.cabin not in paid:
        sold = {name: value["price"] for name, value in classes.items()}
        problems.append(
            f"{step.where}: {query.cabin} is asked for, {item.id} at {item.price:.10g} is not that: {sold}"
        )
    seats = max((classes[name]["seats_left"] for name in paid), default=None)
    if seats is not None and seats < query.adults:
        problems.append(f"{step.where}: {seats} seats left for {query.adults} adults")
    return problems


def _hotel_problems(trip: Trip, step: Step) -> list[str]:
    query, item = trip.query, step.item
    hotel = trip.world.hotel(item.id)
    if hotel is None:
        return []
    problems = []
    if query.min_star is not None and hotel["star"] < query.min_star:
        problems.append(f"{step.where}: {item.id} has {hotel['star']} stars, {query.min_star} are asked for")
    for night in nights_from(item.check_in.date(), item.nights):
        rooms = trip.world.hotel_night(item.id, night)["rooms_left"]
        if rooms < query.rooms:
            problems.append(f"{step.where}: {rooms} rooms left on {night}, {query.rooms} are needed")
            break
    return problems


def _clock_problems(trip: Trip) -> list[str]:
    query, problems = trip.query, []
    if not trip.legs:
        return []
    first, last = trip.legs[0], trip.legs[-1]
    leaves, arrives = (time.isoformat(timespec="minutes") for time in (first.item.depart, last.item.arrive))
    if query.depart_after is not None and leaves < (earliest := f"{query.start_date}T{query.depart_after}"):
        problems.append(f"{first.where}: leaves {leaves}, before {earliest}")
    if query.return_before is not None and arrives > (latest := f"{query.end_date}T{query.return_before}"):
        problems.append(f"{last.where}: arrives {arrives}, after {latest}")
    return problems
