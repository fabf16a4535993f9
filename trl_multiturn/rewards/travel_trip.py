"""An itinerary laid out on one clock: for each item where it is, and when it starts and ends in UTC."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from ..environments.travel import Itinerary, ToolError, TravelQuery
from ..environments.travel.itinerary import Leg, Meal, Transfer


# Further from the trip than this, nothing is judged but the dates: arithmetic ends at the years 1 and 9999.
_MARGIN = timedelta(days=45)


@dataclass(frozen=True)
class Step:
    """
    One item of an itinerary.

    Args:
        where (`str`):
            Its place in the itinerary, such as `"day 2 item 1"`.
        day (`int`):
            Day it is listed on, from 0.
        item (`Item`):
            The item.
        start (`datetime`):
            When it starts, in UTC, without a zone.
        end (`datetime`):
            When it ends.
        city (`str`, *optional*):
            City that the legs before it have brought the party to; `None` if that is unknown.
        origin (`Place`, *optional*):
            Where it starts; `None` for meals and for what the world does not know.
        destination (`Place`, *optional*):
            Where it ends.
    """

    where: str
    day: int
    item: Any
    start: datetime
    end: datetime
    city: str | None
    origin: Any
    destination: Any


class Trip:
    """
    An itinerary with what the world knows about it.

    Args:
        query ([`TravelQuery`]):
            What was asked for.
        itinerary ([`Itinerary`]):
            A plan.
        world ([`TravelWorld`]):
            Where places, timetables and opening hours are looked up.

    Attributes:
        steps (`list[Step]`):
            Every item, in the order of the itinerary; empty if `far` is set.
        legs (`list[Step]`):
            Those that are flights or trains.
        far (`str`, *optional*):
            The item that is so far from the asked dates that nothing can be said about it.
    """

    def __init__(self, query: TravelQuery, itinerary: Itinerary, world: Any) -> None:
        self.query = query
        self.itinerary = itinerary
        self.world = world
        first, last = query.start_date - _MARGIN, query.end_date + _MARGIN
        self.far = next(
            (
                where
                for where, item in itinerary.items()
                if not (first <= item.span[0].date() <= last and first <= item.span[1].date() <= last)
            ),
            None,
        )
        self.steps = [] if self.far else self._lay_out()
        self.legs = [step for step in self.steps if isinstance(step.item, Leg)]

    def minutes(self, origin: str, destination: str, mode: str = "taxi") -> int | None:
        """
        How long a way within a city takes.

        Args:
            origin (`str`):
                Place id.
            destination (`str`):
                Place id.
            mode (`str`, *optional*, defaults to `"taxi"`):
                `"walk"`, `"transit"` or `"taxi"`.

        Returns:
            `int` or `None`: Minutes; `None` if there is no such way.
        """
        if origin == destination:
            return 0
        try:
            return self.world.route_minutes(origin, destination, mode)
        except ToolError:
            return None

    def _lay_out(self) -> list[Step]:
        # The cities as asked stand in for those that the world does not know.
        route = [self.query.origin, *(stay.city for stay in self.query.stays), self.query.origin]
        city: str | None = self.query.origin
        zone = self._zone_of(self.query.origin)
        steps, legs = [], 0
        for d, day in enumerate(self.itinerary.days):
            for i, item in enumerate(day.items, start=1):
                origin, destination = self._ends(item)
                here = _zone(origin.tz) if origin else zone
                there = _zone(destination.tz) if destination else here
                before = city
                if isinstance(item, Leg):
                    legs += 1
                    city = destination.city if destination else None
                    zone = there = there if destination else self._zone_of(route[min(legs, len(route) - 1)])
                start, end = item.span
                where = f"day {d + 1} item {i}"
                steps.append(Step(where, d, item, _utc(start, here), _utc(end, there), before, origin, destination))
        return steps

    def _ends(self, item: Any) -> tuple[Any, Any]:
        if isinstance(item, Meal):
            return None, None
        if isinstance(item, (Leg, Transfer)):
            return self.world.place(item.origin), self.world.place(item.destination)
        place = self.world.place(item.id)
        return place, place

    def _zone_of(self, city: str) -> ZoneInfo:
        return _zone(self.world.city(city).tz)


def nights_from(day: date, nights: int) -> list[date]:
    """
    The nights of a stay, each by the day on which it begins.

    Args:
        day (`date`):
            First night.
        nights (`int`):
            How many.

    Returns:
        `list[date]`: Every night.
    """
    return [day + timedelta(days=i) for i in range(nights)]


def minutes_between(start: datetime, end: datetime) -> int:
    """
    Length of a span.

    Args:
        start (`datetime`):
            Where it starts.
        end (`datetime`):
            Where it ends.

    Returns:
        `int`: Minutes; negative if it ends before it starts.
    """
    return round((end - start).total_seconds() / 60)


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _utc(local: datetime, zone: ZoneInfo) -> datetime:
    return local - local.replace(tzinfo=zone).utcoffset()  # type: ignore[operator]  # a zone has an offset at any time
