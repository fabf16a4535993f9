"""One day of a trip: whether its leg, check-in, visits and meals fit, and when each of them is."""

from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from .catalog import WEEKDAYS
from .query import TravelQuery
from .solver_options import Bed, LegOption, to_utc
from .world import TravelWorld


BUFFER_MINUTES = {"flight": 90, "train": 30}
MEAL_STARTS = {"lunch": (time(11), time(14, 30)), "dinner": (time(17), time(21))}
MEAL_MINUTES = 45
# Spare minutes on every way, tried in this order. What is feasible at all is decided by the last.
_SLACKS = (60, 30, 0)
_ROUND_TO = 5


@dataclass(frozen=True, slots=True)
class Poi:
    """
    A point of interest on a day on which it is open.

    Args:
        id (`str`):
            Its id.
        city (`str`):
            English name of its city.
        ticket (`int`):
            US dollars for one person.
        minutes (`int`):
            Length of a visit.
        opens (`time`):
            Local time.
        closes (`time`):
            Local time.
        closed_days (`tuple[str]`):
            English names of weekdays.
    """

    id: str
    city: str
    ticket: int
    minutes: int
    opens: time
    closes: time
    closed_days: tuple[str, ...]

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Poi":
        """
        From a record of `search_pois`.

        Args:
            row (`dict`):
                The record.

        Returns:
            [`Poi`]: What the solver needs of it.
        """
        hours = time.fromisoformat(row["open"]), time.fromisoformat(row["close"])
        return cls(row["poi_id"], row["city"], row["ticket"], row["visit_min"], *hours, tuple(row["closed_days"]))

    def is_open(self, day: date) -> bool:
        """Whether it is open on a day at all."""
        return WEEKDAYS[day.weekday()] not in self.closed_days


@dataclass(frozen=True, slots=True)
class Frame:
    """
    What is fixed about a day.

    Args:
        day (`date`):
            The day.
        before (`str` or `None`):
            City in which visits can be before the leg; `None` on the first day, and if there is no leg.
        leg (`LegOption` or `None`):
            Flight or train of the day.
        after (`str` or `None`):
            City in which visits can be after the leg, or all day if there is none; `None` on the last day.
        bed (`Bed` or `None`):
            Check-in of the day.
        meals (`bool`):
            Whether the day needs lunch and dinner.
    """

    day: date
    before: str | None
    leg: LegOption | None
    after: str | None
    bed: Bed | None
    meals: bool


@dataclass(frozen=True, slots=True)
class Timed:
    """
    An item with its time.

    Args:
        item (`LegOption`, `Bed`, `Poi` or `str`):
            What it is; a meal by its name.
        start (`int`):
            Minutes of UTC since 1970.
        end (`int`):
            Likewise.
        tz (`str`, *optional*):
            Name of the zone whose clock it goes by; `None` for a leg, which has two.
    """

    item: Any
    start: int
    end: int
    tz: str | None


def schedule_day(query: TravelQuery, world: TravelWorld, frame: Frame, visits: tuple[Poi, ...]) -> list[Timed] | None:
    """
    Times for everything on a day.

    All orders are tried, each item as early as the ones before it allow, which for a given order and earliest start of the
    day is the earliest end. If that makes the day too long, a day that is not must start later than it could: the
    earliest end less the longest day is a bound on its start, with which all orders are tried again. So a day for
    which `None` is returned has no schedule.

    Args:
        query ([`TravelQuery`]):
            What is asked for.
        world ([`TravelWorld`]):
            Where travel times are looked up.
        frame ([`Frame`]):
            The day.
        visits (`tuple[Poi]`):
            What is visited.

    Returns:
        `list[Timed]` or `None`: Items in order; `None` if they do not fit.
    """
    items: list[Any] = [*((frame.leg,) if frame.leg else ()), *((frame.bed,) if frame.bed else ()), *visits]
    if frame.meals:
        items += MEAL_STARTS
    if not items:
        return []
    for slack in _SLACKS:
        found = _Orders(query, world, frame, slack).find(items)
        if found is not None:
            return found
    return None


class _Orders:
    """The search over the orders of a day's items."""

    def __init__(self, query: TravelQuery, world: TravelWorld, frame: Frame, slack: int) -> None:
        self._world, self._frame, self._slack = world, frame, slack
        self._limit = int(query.max_active_hours * 60)
        self._release = -(10**12)  # no item starts before it
        self._earliest_end = 10**12  # among the orders that made the day too long

    def find(self, items: list[Any]) -> list[Timed] | None:
        while True:
            self._earliest_end = 10**12
            found = self._extend([], items, None, 0, 0)
            if found is not None or self._earliest_end == 10**12:
                return found
            self._release = self._earliest_end - self._limit

    def _extend(
        self, done: list[Timed], left: list[Any], place: str | None, end: int, ready: int
    ) -> list[Timed] | None:
        """
        `end` is when the last item ends; `ready` is when the way from `place` could begin if no time were spent waiting:
        the end of the last item that is somewhere, and the meals since.
        """
        if not left:
            if done[-1].end - done[0].start <= self._limit:
                return done
            self._earliest_end = min(self._earliest_end, done[-1].end)
            return None
        after_leg = self._frame.leg is None or self._frame.leg not in left
        choices = []
        for item in left:
            timed = self._place(item, place, end, ready, after_leg)
            if timed is not None:
                choices.append(timed)
        for timed in sorted(choices, key=lambda timed: timed.start):
            rest = [item for item in left if item is not timed.item]
            here = _place_after(timed.item, place)
            ready_then = ready + MEAL_MINUTES if isinstance(timed.item, str) else timed.end
            found = self._extend([*done, timed], rest, here, timed.end, ready_then)
            if found is not None:
                return found
        return None

    def _place(self, item: Any, place: str | None, end: int, ready: int, after_leg: bool) -> Timed | None:
        """The item as early as possible, `None` if it cannot be next."""
        if isinstance(item, LegOption):
            way = self._minutes(place, item.origin)
            soonest = max(self._release, end)
            if place is not None:
                soonest = max(soonest, ready + way + BUFFER_MINUTES[item.type])
            return Timed(item, item.start, item.end, None) if soonest <= item.start else None
        city = self._frame.after if after_leg else self._frame.before
        if city is None:
            return None
        tz = self._world.city(city).tz
        opens, closes, minutes, target = self._window(item, tz)
        if isinstance(item, Poi) and item.city != city or isinstance(item, Bed) and not after_leg:
            return None
        start = max(opens, end, self._release, ready + self._minutes(place, target) if target else 0)
        if self._slack:
            start += -start % _ROUND_TO
        return Timed(item, start, start + minutes, tz) if start <= closes else None

    def _window(self, item: Any, tz: str) -> tuple[int, int, int, str | None]:
        """Earliest and latest start, length and place."""
        day = self._frame.day
        if isinstance(item, Bed):
            return item.opens, item.closes, 0, item.hotel
        if isinstance(item, Poi):
            opens, closes = (to_utc(datetime.combine(day, clock), tz) for clock in (item.opens, item.closes))
            return opens, closes - item.minutes, item.minutes, item.id
        first, last = (to_utc(datetime.combine(day, clock), tz) for clock in MEAL_STARTS[item])
        return first, last, MEAL_MINUTES, None

    def _minutes(self, place: str | None, target: str) -> int:
        if place is None or place == target:
            return 0
        return self._world.route_minutes(place, target) + self._slack


def _place_after(item: Any, place: str | None) -> str | None:
    if isinstance(item, LegOption):
        return item.destination
    if isinstance(item, Bed):
        return item.hotel
    return item.id if isinstance(item, Poi) else place
