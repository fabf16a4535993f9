"""Solver of requests: the cheapest plan, or why there is none."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from .itinerary import DayPlan, Hotel, Itinerary, Leg, Meal, Visit
from .query import TravelQuery
from .solver_days import Frame, Poi, Timed, schedule_day
from .solver_options import Bed, Infeasible, LegOption, Obstacle, StayOption, find_legs, find_stays, hops, to_local
from .world import TravelWorld, default_world


# Combinations of connections and hotels that are tried before the solver gives up.
MAX_CHAINS = 5_000
# Obstacles that may go away if the hotel can change during a stay.
_OF_HOTELS = ("rooms", "arrival", "schedule", "budget")


class Undecided(RuntimeError):
    """Raised if a request is neither solved nor proven infeasible after [`MAX_CHAINS`] combinations."""


@dataclass(frozen=True)
class Solution:
    """
    What the solver found.

    Args:
        itinerary ([`Itinerary`]):
            The plan, or the statement that there is none with the reason.
        cost (`int`, *optional*):
            US dollars of the plan; `None` if there is none.
        obstacle ([`Obstacle`], *optional*):
            What makes the request infeasible; `None` if it is feasible.
    """

    itinerary: Itinerary
    cost: int | None = None
    obstacle: Obstacle | None = None

    @property
    def feasible(self) -> bool:
        """Whether there is a plan."""
        return self.obstacle is None

    @property
    def proof(self) -> str:
        """Why there is no plan, or what the plan that there is costs."""
        return f"A plan for {self.cost} US dollars." if self.obstacle is None else self.obstacle.text


def solve(query: TravelQuery, world: TravelWorld | None = None) -> Solution:
    """
    Find the cheapest plan for a request, or prove that there is none.

    The model: every hop is one direct flight or train on its day; it arrives on that day except on the way home. Every night
    of a stay has a bed, as a rule all in one hotel; hotels are changed only where nothing else works. The categories asked
    for are visited in the cities of the stays, one point of interest each, since more would only cost more. Ways are by taxi.

    That the answer is right within the model rests on this. A hop's leg and the beds after it meet only in the check-in, and
    the night before a leg is longer than any way and buffer (no flight leaves before 06:00 but for minutes, no day goes on
    after midnight), so without visits each hop can be settled by itself, and the cheapest chain is the sum of the cheapest
    pairs. Chains are taken in order of their cost; each gets the visits with the cheapest tickets that fit, all days and
    orders tried. The search ends when the next chain, with the cheapest ticket of each category, costs no less than the best
    plan. A hotel changed during the stay is taken with the cheapest beds for the nights after the first hotel: a dearer
    one could only help if a visit fits with it that does not fit with any other plan, which is not looked for.

    Args:
        query ([`TravelQuery`]):
            What is asked for.
        world ([`TravelWorld`], *optional*):
            Where it is looked up. The default world if `None`.

    Returns:
        [`Solution`]: The plan or the reason.

    Raises:
        [`ToolError`]: If a city is not known, or a day cannot be searched.
        [`Undecided`]: If too many combinations of connections and hotels would have to be tried.
    """
    world = world if world is not None else default_world()
    try:
        plan = _Search(query, world, change_hotels=False).best()
    except Infeasible as found:
        if found.obstacle.kind not in _OF_HOTELS or all(stay.nights == 1 for stay in query.stays):
            return _refusal(found.obstacle)
        try:
            plan = _Search(query, world, change_hotels=True).best()
        except Infeasible as found:
            return _refusal(found.obstacle)
    return Solution(_itinerary(plan), plan.cost)


def _refusal(obstacle: Obstacle) -> Solution:
    return Solution(Itinerary(feasible=False, reason=obstacle.text), None, obstacle)


@dataclass(frozen=True, slots=True)
class _Hop:
    """A leg, and the beds it leads to; `None` on the way home."""

    cost: int
    leg: LegOption
    stay: StayOption | None


@dataclass(frozen=True, slots=True)
class _Plan:
    cost: int
    days: list[tuple[date, list[Timed]]]


class _Search:
    """One search for the cheapest plan."""

    def __init__(self, query: TravelQuery, world: TravelWorld, change_hotels: bool) -> None:
        self._query, self._world = query, world
        self._legs = [find_legs(query, world, hop) for hop in range(len(query.stays) + 1)]
        self._stays = [find_stays(query, world, stay, change_hotels) for stay in range(len(query.stays))]
        self._pois = [self._find_pois(position) for position in range(len(query.categories))]

    def best(self) -> _Plan:
        """
        The cheapest plan within the budget.

        Raises:
            [`Infeasible`]: If there is none.
        """
        query = self._query
        choices = [self._hop_choices(hop) for hop in range(len(self._legs))]
        self._check_free_days()
        tickets = sum(pois[0].ticket for pois in self._pois) * query.adults
        best: _Plan | None = None
        for count, chain in enumerate(_in_order(choices)):
            cost = sum(choice.cost for choice in chain)
            if best is not None and cost + tickets >= best.cost:
                break
            if count == MAX_CHAINS:
                raise Undecided(f"no answer for {query.id} after {count} combinations of connections and hotels.")
            plan = self._with_visits(chain, cost, best)
            best = plan or best
        if best is None:
            raise Infeasible(
                Obstacle("schedule", 0, "No choice of connections and hotels leaves time for everything.")
            )
        if query.budget is not None and best.cost > query.budget:
            text = f"The cheapest plan costs {best.cost} US dollars, more than the budget of {query.budget}."
            raise Infeasible(Obstacle("budget", 0, text, best.cost))
        return best

    def _hop_choices(self, hop: int) -> list[_Hop]:
        """Legs with the beds that can be reached from them, cheapest first."""
        query, legs = self._query, self._legs[hop]
        here, there, day = hops(query)[hop]
        if hop == len(query.stays):
            return [_Hop(leg.cost, leg, None) for leg in legs]
        meals = query.meals and hop > 0
        found = []
        for leg in legs:
            for stay in self._stays[hop]:
                frame = Frame(day, here if hop else None, leg, there, stay.beds[0], meals)
                if self._check_in_fits(frame) and (
                    not meals or schedule_day(query, self._world, frame, ()) is not None
                ):
                    found.append(_Hop(leg.cost + stay.cost, leg, stay))
        if not found:
            text = f"No arrival in {there} on {day} leaves time for the rest of that day, from the check-in on."
            raise Infeasible(Obstacle("arrival", hop, text))
        return sorted(found, key=lambda choice: choice.cost)

    def _check_free_days(self) -> None:
        """Whether a day without leg is long enough for its meals."""
        day = hops(self._query)[0][2] + timedelta(days=1)
        frame = Frame(day, None, None, self._query.stays[0].city, None, self._query.meals)
        if (
            any(stay.nights > 1 for stay in self._query.stays)
            and schedule_day(self._query, self._world, frame, ()) is None
        ):
            text = f"Lunch and dinner do not fit into a day of {self._query.max_active_hours:g} hours."
            raise Infeasible(Obstacle("load", 0, text))

    def _check_in_fits(self, frame: Frame) -> bool:
        leg, bed = frame.leg, frame.bed
        assert leg is not None and bed is not None
        check_in = max(leg.end + self._world.route_minutes(leg.destination, bed.hotel), bed.opens)
        return check_in <= bed.closes and check_in - leg.start <= self._query.max_active_hours * 60

    def _find_pois(self, position: int) -> list[Poi]:
        """Points of interest of a category that are open on a day of their stay, cheapest first."""
        category = self._query.categories[position]
        found = {}
        for stay, (_, city, first) in zip(self._query.stays, hops(self._query), strict=False):
            for row in self._world.search_pois(city, category=category):
                poi = Poi.of(row)
                if any(poi.is_open(first + timedelta(days=i)) for i in range(stay.nights + 1)):
                    found[poi.id] = poi
        if not found:
            cities = " or ".join(dict.fromkeys(stay.city for stay in self._query.stays))
            text = f"There is no {category} in {cities} that is open on a day of the stay."
            raise Infeasible(Obstacle("category", position, text))
        return sorted(found.values(), key=lambda poi: (poi.ticket, poi.id))

    def _with_visits(self, chain: Sequence[_Hop], cost: int, best: _Plan | None) -> _Plan | None:
        """The chain with the cheapest visits that fit; `None` if none fit or the best plan so far is as cheap."""
        frames = self._frames(chain)
        visits: list[tuple[Poi, ...]] = [() for _ in frames]
        found: list[list[Timed]] | None = None
        limit = best.cost if best is not None else None
        # The category with the fewest candidates first: it is the one that fails.
        pois = sorted(self._pois, key=len)

        def extend(position: int, cost: int) -> None:
            nonlocal found, limit
            if limit is not None and cost + sum(group[0].ticket for group in pois[position:]) * adults >= limit:
                return
            if position == len(pois):
                days = [schedule_day(self._query, self._world, *day) for day in zip(frames, visits, strict=True)]
                complete = [day for day in days if day is not None]
                if len(complete) == len(days):
                    found, limit = complete, cost
                return
            for poi in pois[position]:
                for day in sorted(
                    range(len(frames)), key=lambda day: (len(visits[day]), frames[day].leg is not None, day)
                ):
                    frame, before = frames[day], visits[day]
                    if poi.city not in (frame.before, frame.after) or not poi.is_open(frame.day):
                        continue
                    visits[day] = (*before, poi)
                    if schedule_day(self._query, self._world, frame, visits[day]) is not None:
                        extend(position + 1, cost + poi.ticket * adults)
                    visits[day] = before

        adults = self._query.adults
        extend(0, cost)
        if found is None or limit is None:
            return None
        return _Plan(limit, [(frame.day, day) for frame, day in zip(frames, found, strict=True)])

    def _frames(self, chain: Sequence[_Hop]) -> list[Frame]:
        query, frames = self._query, []
        for number, (choice, (here, there, day)) in enumerate(zip(chain, hops(query), strict=True)):
            first, last = number == 0, choice.stay is None
            beds = {bed.check_in: bed for bed in choice.stay.beds} if choice.stay else {}
            meals = query.meals and not first and not last
            frames.append(
                Frame(day, None if first else here, choice.leg, None if last else there, beds.get(day), meals)
            )
            for i in range(1, query.stays[number].nights if not last else 0):
                free = day + timedelta(days=i)
                frames.append(Frame(free, None, None, there, beds.get(free), query.meals))
        return frames


def _in_order(choices: list[list[_Hop]]) -> Iterator[tuple[_Hop, ...]]:
    """Every combination of one choice for each hop, cheapest first."""
    start = (0,) * len(choices)
    heap = [(sum(group[0].cost for group in choices), start, 0)]
    while heap:
        cost, chosen, since = heapq.heappop(heap)
        yield tuple(group[i] for group, i in zip(choices, chosen, strict=True))
        # Only the hop that was moved last and those after it move on, so that no combination comes twice.
        for hop in range(since, len(choices)):
            i = chosen[hop]
            if i + 1 < len(choices[hop]):
                dearer = cost - choices[hop][i].cost + choices[hop][i + 1].cost
                heapq.heappush(heap, (dearer, (*chosen[:hop], i + 1, *chosen[hop + 1 :]), hop))


def _itinerary(plan: _Plan) -> Itinerary:
    days = [DayPlan(date=day, items=[_item(timed) for timed in items]) for day, items in plan.days]
    return Itinerary(feasible=True, days=days, total_price=float(plan.cost))


def _item(timed: Timed) -> Leg | Hotel | Visit | Meal:
    item = timed.item
    if isinstance(item, LegOption):
        return Leg(
            type=item.type,
            id=item.number,
            origin=item.origin,
            destination=item.destination,
            depart=item.depart,
            arrive=item.arrive,
            price=float(item.price),
        )
    assert timed.tz is not None
    start, end = to_local(timed.start, timed.tz), to_local(timed.end, timed.tz)
    if isinstance(item, Bed):
        return Hotel(type="hotel", id=item.hotel, check_in=start, nights=item.nights, price=float(item.price))
    if isinstance(item, Poi):
        return Visit(type="visit", id=item.id, start=start, end=end, price=float(item.ticket))
    return Meal(type="meal", meal="lunch" if item == "lunch" else "dinner", start=start, end=end)
