"""Flights and trains: who goes from where to where at which times, and what a seat costs on a day."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from statistics import NormalDist
from typing import Any
from zoneinfo import ZoneInfo

from .draws import draw, left, spread, whole
from .geography import City, Geography, distance_km
from .routes import Fare, RouteData, find_routes


_MOST_FLIGHTS = 4
_FEWEST_TRAINS, _MOST_TRAINS = 3, 6
_FARTHEST_TRAIN_KM = 1_500
_STEP = 5
_NORMAL = NormalDist()
# Speed in km/h, US dollars a kilometre and first letters of train numbers.
_RAIL = {
    "CN": (220, 0.07, "G"), "EU": (150, 0.16, "EC"), "JP": (200, 0.19, "N"), "KR": (190, 0.12, "K"), "TW": (190, 0.13, "T"),
    "US": (100, 0.17, "AM"), "CA": (100, 0.17, "VR"), "IN": (80, 0.03, "IR"), "AU": (90, 0.12, "XP"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Service:
    """
    A flight or train that runs under one number.

    Args:
        type (`str`):
            `"flight"` or `"train"`.
        number (`str`):
            Flight or train number.
        carrier (`str`):
            Airline or railway network.
        origin (`str`):
            Place id it leaves from.
        destination (`str`):
            Place id it arrives at.
        slot (`int`):
            Position among the services of this pair of places.
        slots (`int`):
            Number of services of this pair of places.
        fare (`Fare`, *optional*):
            Real fares, where known.
    """

    type: str
    number: str
    carrier: str
    origin: str
    destination: str
    slot: int
    slots: int
    fare: Fare | None


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What stays the same on every day a service runs."""

    leaves: int  # minutes after midnight
    minutes: int
    weekdays: frozenset[int]
    price: float
    upper: float  # price of the upper class as a multiple


class Timetable:
    """
    All flights and trains of a world.

    Args:
        seed (`int`):
            Seed of the world.
        geography ([`Geography`]):
            The cities.
        data ([`RouteData`]):
            What is known of air routes.
    """

    def __init__(self, seed: int, geography: Geography, data: RouteData) -> None:
        self._seed = seed
        self._geography = geography
        self._by_number: dict[str, Service] = {}
        self._by_cities: dict[tuple[str, str, str], list[Service]] = {}
        for service in (*_flights(seed, geography, data), *_trains(seed, geography)):
            places = geography.places
            key = service.type, places[service.origin].city, places[service.destination].city
            self._by_number[service.number] = service
            self._by_cities.setdefault(key, []).append(service)
        self._schedule = lru_cache(maxsize=32_768)(self._make_schedule)
        self._leg = lru_cache(maxsize=16_384)(self._make_leg)
        self._rows = lru_cache(maxsize=4_096)(self._make_rows)

    def leg(self, number: str, day: date) -> dict[str, Any] | None:
        """
        A flight or train on a day.

        Args:
            number (`str`):
                Flight or train number.
            day (`date`):
                Local date on which it leaves.

        Returns:
            `dict` or `None`: The leg with all its classes; `None` if there is none. It is shared: copy it to change
            it.
        """
        service = self._by_number.get(number)
        return None if service is None else self._leg(service, day)

    def rows(self, type: str, origin: str, destination: str, day: date, seat: str) -> tuple[dict[str, Any], ...]:
        """
        Records between two cities on a day.

        Args:
            type (`str`):
                `"flight"` or `"train"`.
            origin (`str`):
                English name of a city.
            destination (`str`):
                English name of a city.
            day (`date`):
                Local date of departure.
            seat (`str`):
                Cabin or seat class.

        Returns:
            `tuple[dict]`: Records in order. They are shared: copy them to change them.
        """
        return self._rows(type, origin, destination, day, seat)

    def _make_rows(self, type: str, origin: str, destination: str, day: date, seat: str) -> tuple[dict[str, Any], ...]:
        number, kind = ("flight_no", "cabin") if type == "flight" else ("train_no", "seat_class")
        rows = []
        for service in self._by_cities.get((type, origin, destination), ()):
            leg = self._leg(service, day)
            if leg is None:
                continue
            row = {number: leg["number"], "carrier": leg["carrier"]}
            row |= {name: leg[name] for name in ("origin", "destination", "depart", "arrive", "duration_min")}
            rows.append(row | {kind: seat} | leg["classes"][seat] | {"synthetic": True})
        return tuple(sorted(rows, key=lambda row: (row["price"], row["depart"], row[number])))

    def _make_leg(self, service: Service, day: date) -> dict[str, Any] | None:
        schedule = self._schedule(service)
        if day.weekday() not in schedule.weekdays:
            return None
        u = draw(self._seed, "leg", service.number, day.toordinal())
        depart, arrive, minutes = self._times(service, schedule, day, u[0])
        price = schedule.price * _demand(day) * spread(0.85, 1.25, u[1])
        lower, upper = ("economy", "business") if service.type == "flight" else ("second", "first")
        return {
            "type": service.type,
            "number": service.number,
            "carrier": service.carrier,
            "origin": service.origin,
            "destination": service.destination,
            "depart": depart,
            "arrive": arrive,
            "duration_min": minutes,
            "classes": {
                lower: {"price": max(5, round(price)), "seats_left": left(40, u[2])},
                upper: {"price": max(8, round(price * schedule.upper)), "seats_left": left(12, u[3])},
            },
            "synthetic": True,
        }

    def _times(self, service: Service, schedule: _Schedule, day: date, u: float) -> tuple[str, str, int]:
        places = self._geography.places
        here, there = ZoneInfo(places[service.origin].tz), ZoneInfo(places[service.destination].tz)
        # Some minutes earlier or later than usual, so that no two days need be alike.
        leaves = datetime.combine(day, time()) + timedelta(minutes=schedule.leaves + _STEP * whole(-1, 1, u))
        start = leaves.replace(tzinfo=here).astimezone(timezone.utc)
        minutes = schedule.minutes
        arrives = (start + timedelta(minutes=minutes)).astimezone(there)
        if arrives.fold:
            # The hour that the clock shows twice: a local time would not say which is meant, so it arrives after it.
            minutes += 60
            arrives = (start + timedelta(minutes=minutes)).astimezone(there)
        return (
            leaves.isoformat(timespec="minutes"),
            arrives.replace(tzinfo=None).isoformat(timespec="minutes"),
            minutes,
        )

    def _make_schedule(self, service: Service) -> _Schedule:
        u = draw(self._seed, "service", service.number)
        here, there = (self._geography.places[place] for place in (service.origin, service.destination))
        km = distance_km(here, there)
        # The day is cut into as many parts as there are services, one in each.
        opens, closes = (6 * 60, 23 * 60) if service.type == "flight" else (6 * 60 + 30, 20 * 60)
        part = (closes - opens) / service.slots
        leaves = _step(opens + part * (service.slot + spread(0.05, 0.95, u[0])))
        if service.type == "flight":
            minutes = _step(40 + km / 13.2 + spread(0, 15, u[1]))
            days = _days(spread(0.35, 1.5, u[2]), u[3:10])
            price = _flight_price(km, service.fare, u[11])
            return _Schedule(leaves, minutes, days, price, spread(2.2, 3.8, u[12]))
        speed, per_km, _ = _RAIL[service.carrier]
        minutes = _step(10 + 1.2 * km / speed * 60 * spread(0.9, 1.35, u[1]))
        price = 4 + 1.2 * km * per_km * spread(0.8, 1.2, u[11])
        return _Schedule(leaves, minutes, _days(spread(0.9, 1.6, u[2]), u[3:10]), price, spread(1.5, 1.9, u[12]))


def _flights(seed: int, geography: Geography, data: RouteData) -> Iterator[Service]:
    """Numbers are counted up along the sorted routes of each airline, so that no two flights share one."""
    last: dict[str, int] = {}
    for route in find_routes(seed, geography, data):
        u = draw(seed, "slots", route.origin, route.destination)
        slots = whole(1, _MOST_FLIGHTS, u[0])
        for slot in range(slots):
            carrier = route.carriers[int(u[slot + 1] * len(route.carriers))]
            last[carrier] = last.get(carrier, 100) + 1
            number = f"{carrier}{last[carrier]}"
            yield Service("flight", number, carrier, route.origin, route.destination, slot, slots, route.fare)


def _trains(seed: int, geography: Geography) -> Iterator[Service]:
    last: dict[str, int] = {}
    cities = [city for city in geography.cities.values() if city.rail is not None]
    for here in cities:
        for there in cities:
            if here is there or not _rail_between(here, there):
                continue
            origin, destination, network = here.stations[0], there.stations[0], str(here.rail)
            u = draw(seed, "slots", origin, destination)
            slots = whole(_FEWEST_TRAINS, _MOST_TRAINS, u[0])
            for slot in range(slots):
                last[network] = last.get(network, 100) + 1
                number = f"{_RAIL[network][2]}-{last[network]}"
                yield Service("train", number, network, origin, destination, slot, slots, None)


def _rail_between(here: City, there: City) -> bool:
    return here.rail == there.rail and distance_km(here, there) < _FARTHEST_TRAIN_KM


def _flight_price(km: float, fare: Fare | None, u: float) -> float:
    deviation = _NORMAL.inv_cdf(spread(0.05, 0.95, u))
    if fare is None:
        return (40 + 0.065 * km) * math.exp(0.25 * deviation)
    # Log-normal around the real median; its quartiles are 0.674 standard deviations away.
    below, above = math.log(fare.median / fare.p25) / 0.674, math.log(fare.p75 / fare.median) / 0.674
    return fare.median * math.exp(deviation * (below if deviation < 0 else above))


def _demand(day: date) -> float:
    """Fridays, Sundays, summer and the turn of the year cost more."""
    season = 1.15 if day.month in (7, 8) or (day.month, day.day) >= (12, 18) else 1.0
    return season * (1.1 if day.weekday() in (4, 6) else 1.0)


def _days(likely: float, u: tuple[float, ...]) -> frozenset[int]:
    """Days of the week on which a service runs, at least one."""
    days = {day for day, number in enumerate(u) if number < likely}
    return frozenset(days or {min(range(7), key=lambda day: u[day])})


def _step(minutes: float) -> int:
    return _STEP * round(minutes / _STEP)
