"""What a request can choose from: the flights and trains of each hop, and the beds of each stay, cheapest first."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

from .arguments import CABINS, SEATS
from .query import TravelQuery
from .world import TravelWorld


_EPOCH = datetime(1970, 1, 1)
_MINUTE = timedelta(minutes=1)
_LAST_MINUTE = time(23, 59)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """
    Why a request cannot be met.

    Args:
        kind (`str`):
            `"connection"`, `"transport"`, `"seats"`, `"depart_after"`, `"return_before"`, `"arrival"`, `"load"`,
            `"stars"`, `"rooms"`, `"category"`, `"schedule"` or `"budget"`.
        position (`int`):
            Hop or stay it is at, from 0; for a category its position in the query; 0 if it is the trip as a whole.
        text (`str`):
            The reason in words.
        cheapest (`int`, *optional*):
            For `"budget"`: US dollars that the cheapest plan costs.
    """

    kind: str
    position: int
    text: str
    cheapest: int | None = None


class Infeasible(Exception):
    """
    Raised inside the solver where a request turns out to be impossible.

    Args:
        obstacle ([`Obstacle`]):
            Why.
    """

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.text)
        self.obstacle = obstacle


@dataclass(frozen=True, slots=True)
class LegOption:
    """
    A flight or train of a hop, in the cheapest class that is allowed and has the seats.

    Args:
        type (`str`):
            `"flight"` or `"train"`.
        number (`str`):
            Flight or train number.
        seat (`str`):
            Cabin or class.
        origin (`str`):
            Place id.
        destination (`str`):
            Place id.
        depart (`datetime`):
            Local time.
        arrive (`datetime`):
            Local time.
        start (`int`):
            Departure in minutes of UTC since 1970.
        end (`int`):
            Arrival likewise.
        price (`int`):
            US dollars for one person.
        cost (`int`):
            US dollars for the party.
    """

    type: Literal["flight", "train"]
    number: str
    seat: str
    origin: str
    destination: str
    depart: datetime
    arrive: datetime
    start: int
    end: int
    price: int
    cost: int


@dataclass(frozen=True, slots=True)
class Bed:
    """
    Some nights in one hotel.

    Args:
        hotel (`str`):
            Hotel id.
        check_in (`date`):
            First night.
        nights (`int`):
            Number of nights.
        price (`int`):
            US dollars for one room and night.
        opens (`int`):
            Earliest check-in in minutes of UTC since 1970.
        closes (`int`):
            Last minute of the first day likewise.
    """

    hotel: str
    check_in: date
    nights: int
    price: int
    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class StayOption:
    """
    Beds for all nights of a stay.

    Args:
        cost (`int`):
            US dollars for the party.
        beds (`tuple[Bed]`):
            One hotel after another.
    """

    cost: int
    beds: tuple[Bed, ...]


@lru_cache(maxsize=256)
def _zone(tz: str) -> ZoneInfo:
    return ZoneInfo(tz)


def to_utc(local: datetime, tz: str) -> int:
    """
    Minutes of UTC since 1970.

    Args:
        local (`datetime`):
            Local time without a zone.
        tz (`str`):
            IANA name of the zone.

    Returns:
        `int`: Minutes.
    """
    return round((local.replace(tzinfo=_zone(tz)).astimezone(timezone.utc).replace(tzinfo=None) - _EPOCH) / _MINUTE)


def to_local(minutes: int, tz: str) -> datetime:
    """
    Local time of a moment.

    Args:
        minutes (`int`):
            Minutes of UTC since 1970.
        tz (`str`):
            IANA name of the zone.

    Returns:
        `datetime`: Local time without a zone.
    """
    moment = (_EPOCH + minutes * _MINUTE).replace(tzinfo=timezone.utc)
    return moment.astimezone(_zone(tz)).replace(tzinfo=None)


def hops(query: TravelQuery) -> list[tuple[str, str, date]]:
    """
    The ways between cities, each with its day: to the first stay, from stay to stay, and home.

    Args:
        query ([`TravelQuery`]):
            What is asked for.

    Returns:
        `list[tuple[str, str, date]]`: Cities it leads from and to, and the day.
    """
    route = [query.origin, *(stay.city for stay in query.stays), query.origin]
    day, found = query.start_date, []
    for here, there, nights in zip(route, route[1:], [*(stay.nights for stay in query.stays), 0], strict=False):
        found.append((here, there, day))
        day += timedelta(days=nights)
    return found


def find_legs(query: TravelQuery, world: TravelWorld, hop: int) -> list[LegOption]:
    """
    Every flight and train that a hop can take.

    Args:
        query ([`TravelQuery`]):
            What is asked for.
        world ([`TravelWorld`]):
            Where it is looked up.
        hop (`int`):
            Which hop, from 0.

    Returns:
        `list[LegOption]`: One for each number, cheapest first.

    Raises:
        [`Infeasible`]: If there is none.
    """
    here, there, day = hops(query)[hop]
    way, first, last = f"from {here} to {there} on {day}", hop == 0, hop == len(query.stays)
    rows = _leg_rows(query, world, here, there, day)
    if not rows:
        raise Infeasible(Obstacle("connection", hop, f"There is no direct flight or train {way}."))

    def keep(kind: str, text: Callable[[], str], test: Callable[[dict[str, Any]], bool]) -> None:
        kept = [row for row in rows if test(row)]
        if not kept:
            raise Infeasible(Obstacle(kind, hop, text()))
        rows[:] = kept

    if query.transport is not None:
        keep("transport", lambda: f"There is no {query.transport} {way}.", lambda row: row["type"] == query.transport)
    wanted = f"{query.cabin} class" if query.cabin else "seat"
    keep(
        "seats",
        lambda: f"Nothing {way} has {query.adults} {wanted} seats left.".replace("seat seats", "seats"),
        lambda row: (
            row["seats_left"] >= query.adults
            and (row["type"] == "train" or query.cabin is None or row["seat"] == query.cabin)
        ),
    )
    if first and query.depart_after is not None:
        earliest = f"{day}T{query.depart_after}"
        latest = max(row["depart"] for row in rows)
        keep(
            "depart_after",
            lambda: f"The last departure {way} is at {latest[11:]}, before {query.depart_after}.",
            lambda row: row["depart"] >= earliest,
        )
    if last and query.return_before is not None:
        limit, soonest = f"{day}T{query.return_before}", min(row["arrive"] for row in rows)
        keep(
            "return_before",
            lambda: f"Nothing {way} arrives by {query.return_before}; the earliest arrival is {soonest}.",
            lambda row: row["arrive"] <= limit,
        )
    if not last:
        keep(
            "arrival",
            lambda: f"Nothing {way} arrives on the same day, as the first night in {there} needs.",
            lambda row: row["arrive"][:10] == day.isoformat(),
        )
    keep(
        "load",
        lambda: f"Every connection {way} takes longer than {query.max_active_hours:g} hours.",
        lambda row: row["duration_min"] <= query.max_active_hours * 60,
    )
    options: dict[str, LegOption] = {}
    for row in sorted(rows, key=lambda row: (row["price"], row["depart"], row["number"])):
        options.setdefault(row["number"], _leg_option(query, world, row))
    return list(options.values())


def _leg_rows(query: TravelQuery, world: TravelWorld, here: str, there: str, day: date) -> list[dict[str, Any]]:
    """Rows of all classes, with the number and the class under the same names for flights and trains."""
    found = []
    for cabin in CABINS:
        for row in world.search_flights(here, there, day.isoformat(), cabin=cabin):
            found.append(row | {"type": "flight", "number": row["flight_no"], "seat": cabin})
    for seat in SEATS:
        for row in world.search_trains(here, there, day.isoformat(), seat_class=seat):
            found.append(row | {"type": "train", "number": row["train_no"], "seat": seat})
    return found


def _leg_option(query: TravelQuery, world: TravelWorld, row: dict[str, Any]) -> LegOption:
    depart, arrive = datetime.fromisoformat(row["depart"]), datetime.fromisoformat(row["arrive"])
    start, end = to_utc(depart, _tz(world, row["origin"])), to_utc(arrive, _tz(world, row["destination"]))
    return LegOption(
        type=row["type"],
        number=row["number"],
        seat=row["seat"],
        origin=row["origin"],
        destination=row["destination"],
        depart=depart,
        arrive=arrive,
        start=start,
        end=end,
        price=row["price"],
        cost=row["price"] * query.adults,
    )


def _tz(world: TravelWorld, place_id: str) -> str:
    place = world.place(place_id)
    assert place is not None, f"the world returned a row with an unknown place {place_id}"
    return place.tz


def find_stays(query: TravelQuery, world: TravelWorld, stay: int, change_hotels: bool) -> list[StayOption]:
    """
    Ways to spend the nights of a stay.

    With `change_hotels`, one for each hotel and number of nights to begin with, the rest of the nights in the cheapest way.

    Args:
        query ([`TravelQuery`]):
            What is asked for.
        world ([`TravelWorld`]):
            Where it is looked up.
        stay (`int`):
            Which stay, from 0.
        change_hotels (`bool`):
            Whether the hotel may change during the stay.

    Returns:
        `list[StayOption]`: Cheapest first.

    Raises:
        [`Infeasible`]: If there is none.
    """
    city, nights, first = query.stays[stay].city, query.stays[stay].nights, hops(query)[stay][2]
    beds = {
        (start, end): _find_beds(query, world, city, first + timedelta(days=start), end - start)
        for start in range(nights)
        for end in range(start + 1, nights + 1)
        if change_hotels or end - start == nights
    }
    cheapest: list[StayOption | None] = [None] * nights + [StayOption(0, ())]
    options: list[StayOption] = []
    for start in range(nights - 1, -1, -1):
        options = []
        for end in range(nights, start, -1):
            rest = cheapest[end]
            if rest is not None:
                for bed in beds.get((start, end), ()):
                    cost = bed.price * bed.nights * query.rooms + rest.cost
                    options.append(StayOption(cost, (bed, *rest.beds)))
        cheapest[start] = min(options, key=_order, default=None)
    if not options:
        raise Infeasible(_no_bed(query, world, stay, city, nights, first))
    return sorted(options, key=_order)


def _order(option: StayOption) -> tuple[int, int, str]:
    return option.cost, len(option.beds), option.beds[0].hotel


def _find_beds(query: TravelQuery, world: TravelWorld, city: str, day: date, nights: int) -> list[Bed]:
    tz, check_out = world.city(city).tz, day + timedelta(days=nights)
    closes = to_utc(datetime.combine(day, _LAST_MINUTE), tz)
    found = []
    for row in world.search_hotels(city, day.isoformat(), check_out.isoformat(), min_star=query.min_star):
        if row["rooms_left"] >= query.rooms:
            opens = to_utc(datetime.combine(day, time.fromisoformat(row["check_in_from"])), tz)
            found.append(Bed(row["hotel_id"], day, nights, row["nightly_price"], opens, closes))
    return found


def _no_bed(query: TravelQuery, world: TravelWorld, stay: int, city: str, nights: int, first: date) -> Obstacle:
    stars = f" with {query.min_star} or more stars" if query.min_star else ""
    days = first.isoformat(), (first + timedelta(days=nights)).isoformat()
    if not world.search_hotels(city, *days, min_star=query.min_star):
        return Obstacle("stars", stay, f"There is no hotel{stars} in {city}.")
    rooms = "a room" if query.rooms == 1 else f"{query.rooms} rooms"
    return Obstacle("rooms", stay, f"No hotel{stars} in {city} has {rooms} left from {days[0]} to {days[1]}.")
