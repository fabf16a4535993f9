"""Random requests of a level: feasible ones, and ones that break exactly one thing."""

import hashlib
import random
from collections.abc import Callable
from datetime import date, timedelta
from itertools import combinations
from typing import Any

from .arguments import CATEGORIES
from .query import Level, Stay, TravelQuery
from .solver import Solution, Undecided, solve
from .solver_options import find_legs
from .world import TravelWorld


SPLITS = {"train": 0.8, "dev": 0.1, "test": 0.1}

_ATTEMPTS = 2_000
# Some breaches are seldom possible: a few tries more keep them from being outnumbered.
_ATTEMPTS_AT_A_BREACH = 20
_FIRST_DAY, _LAST_DAY = 7, 300
_PARTIES = (1, 1, 2, 2, 2, 3, 4)
_OPTIONS = ("transport", "cabin", "budget", "min_star", "depart_after", "return_before", "categories", "meals")
_OPTIONS_WITH_LOAD = (*_OPTIONS, "max_active_hours")
_WEEK = 7

Pair = tuple[str, str]
Values = dict[str, Any]

_networks: dict[str, "Network"] = {}


class Network:
    """
    Which cities of a world have direct flights or trains between them, and which split each pair of cities is in.

    Args:
        world ([`TravelWorld`]):
            The world.

    Attributes:
        neighbours (`dict[str, list[str]]`):
            For each city, those that can be reached from it.
        connected (`dict[str, list[tuple[str, str]]]`):
            For each split, its pairs of cities that are connected in both directions.
        unconnected (`dict[str, list[tuple[str, str]]]`):
            For each split, its other pairs.

    Raises:
        `ValueError`: If fewer than three pairs of its cities are connected, one for each split.
    """

    def __init__(self, world: TravelWorld) -> None:
        days = [world.today + timedelta(days=_FIRST_DAY + i) for i in range(_WEEK)]  # timetables go by the week
        self.neighbours: dict[str, list[str]] = {city: [] for city in world.cities}
        connected: list[Pair] = []
        others: list[Pair] = []
        for pair in combinations(world.cities, 2):
            ways = [(here, there) for here, there in (pair, pair[::-1]) if _is_connected(world, here, there, days)]
            for here, there in ways:
                self.neighbours[here].append(there)
            (connected if len(ways) == 2 else others).append(pair)
        if len(connected) < len(SPLITS):
            raise ValueError(f"{len(connected)} pairs of cities are connected; tasks need at least {len(SPLITS)}.")
        self.connected, self.unconnected = _split(connected), _split(others)


def network(world: TravelWorld) -> Network:
    """
    The network of a world, looked up once for all worlds of one version.

    Args:
        world ([`TravelWorld`]):
            The world.

    Returns:
        [`Network`]: Its network.
    """
    if world.version not in _networks:
        _networks[world.version] = Network(world)
    return _networks[world.version]


def _is_connected(world: TravelWorld, here: str, there: str, days: list[date]) -> bool:
    return any(world.search_flights(here, there, day) or world.search_trains(here, there, day) for day in days)


def _split(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """In the order of a hash of the pair, so that a pair is likely to be in the same split in a smaller world."""
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256("/".join(pair).encode()).digest())
    small = max(1, round(len(ordered) * SPLITS["dev"]))
    return {"dev": ordered[:small], "test": ordered[small : 2 * small], "train": ordered[2 * small :]}


def draw_query(rng: random.Random, level: Level, split: str, world: TravelWorld) -> tuple[TravelQuery, Solution]:
    """
    A random request.

    Args:
        rng (`random.Random`):
            Decides everything.
        level (`str`):
            `"easy"`, `"medium"`, `"hard"` or `"infeasible"`.
        split (`str`):
            `"train"`, `"dev"` or `"test"`: where the pair of its origin and first city must be.
        world ([`TravelWorld`]):
            Where it must be feasible, or not.

    Returns:
        `tuple[TravelQuery, Solution]`: The request, without an id, and its solution.

    Raises:
        `RuntimeError`: If no request of this level is found in this world.
    """
    draw = _draw_infeasible if level == "infeasible" else _draw_feasible
    for _ in range(_ATTEMPTS):
        try:
            found = draw(rng, level, split, world)
        except Undecided:
            continue
        if found is not None:
            return found
    raise RuntimeError(f"No {level} request of the split {split} was found in this world in {_ATTEMPTS} attempts.")


def _draw_feasible(
    rng: random.Random, level: Level, split: str, world: TravelWorld
) -> tuple[TravelQuery, Solution] | None:
    """A request that can be met; `None` if the one drawn cannot."""
    cities = rng.choice((2, 2, 3, 1)) if level == "hard" else 1
    count = {"easy": 0, "medium": rng.choice((1, 2)), "hard": rng.choice((1, 2, 3) if cities > 1 else (3, 4))}[level]
    values = _draw_trip(rng, level, split, world, cities)
    if values is None:
        return None
    fields = rng.sample(_OPTIONS_WITH_LOAD, count)
    for field in fields:
        if field != "budget":
            values |= _draw_value(rng, field, values, level)
    query = _query(values)
    if query is None or ("meals" in fields and not query.meals):
        return None
    solution = solve(query, world)
    if "budget" in fields and solution.cost is not None:
        query = query.model_copy(update={"budget": _up(solution.cost * rng.uniform(1.0, 1.3), 10)})
        solution = solve(query, world)
    return (query, solution) if solution.feasible else None


def _draw_trip(rng: random.Random, level: Level, split: str, world: TravelWorld, cities: int) -> Values | None:
    """Cities, days and party, with nothing else asked for."""
    net = network(world)
    route = list(rng.choice(net.connected[split]))
    rng.shuffle(route)
    while len(route) <= cities:
        following = [city for city in net.neighbours[route[-1]] if city not in route]
        if not following:
            return None
        route.append(rng.choice(following))
    return _trip_values(rng, world, route, 2 if level == "easy" or cities > 2 else 3) | {"level": level}


def _trip_values(rng: random.Random, world: TravelWorld, route: list[str], most_nights: int) -> Values:
    return {
        "id": "-",
        "level": "easy",
        "origin": route[0],
        "stays": [Stay(city=city, nights=rng.randint(1, most_nights)) for city in route[1:]],
        "start_date": world.today + timedelta(days=rng.randint(_FIRST_DAY, _LAST_DAY)),
        "adults": rng.choice(_PARTIES),
    }


def _draw_value(rng: random.Random, field: str, values: Values, level: Level) -> Values:
    """A value for a field of the query, drawn without a look at the world."""
    if field == "transport":
        return {field: rng.choice(("flight", "train"))}
    if field == "cabin":
        return {field: rng.choice(("economy", "business"))}
    if field == "min_star":
        return {field: rng.choice((3, 4, 4, 5))}
    if field == "depart_after":
        return {field: _clock(rng.randrange(7 * 60, 14 * 60, 30))}
    if field == "return_before":
        return {field: _clock(rng.randrange(13 * 60, 23 * 60, 30))}
    if field == "categories":
        return {field: sorted(rng.sample(CATEGORIES, rng.choice((1, 2) if level == "medium" else (1, 2, 3))))}
    if field == "meals":
        return {field: sum(stay.nights for stay in values["stays"]) > 1}
    return {field: float(rng.choice((8, 9, 10, 12)))}


def _draw_infeasible(
    rng: random.Random, level: Level, split: str, world: TravelWorld
) -> tuple[TravelQuery, Solution] | None:
    """A request that could be met but for one thing; `None` if none was found at this attempt."""
    breach = rng.choice((None, *_BREACHES))
    for _ in range(_ATTEMPTS_AT_A_BREACH):
        if breach is None:
            changed = _unconnected_trip(rng, split, world)
        else:
            base = _draw_feasible(rng, rng.choice(("easy", "medium", "medium", "hard")), split, world)
            changed = breach(rng, base[0], world) if base is not None else None
        query = None if changed is None else _query(changed | {"level": level})
        if query is not None:
            solution = solve(query, world)
            if not solution.feasible:
                return query, solution
    return None


def _under_budget(rng: random.Random, query: TravelQuery, world: TravelWorld) -> Values | None:
    obstacle = solve(query.model_copy(update={"budget": 1}), world).obstacle
    if obstacle is None or obstacle.cheapest is None:
        return None
    return _values(query) | {"budget": max(10, _up(obstacle.cheapest * rng.uniform(0.5, 0.9), 10) - 10)}


def _back_too_early(rng: random.Random, query: TravelQuery, world: TravelWorld) -> Values | None:
    legs = find_legs(query.model_copy(update={"return_before": None}), world, len(query.stays))
    soonest = min(leg.arrive for leg in legs)
    if soonest.date() != query.end_date:
        return None
    minutes = 30 * ((60 * soonest.hour + soonest.minute - rng.randint(1, 180)) // 30)
    return _values(query) | {"return_before": _clock(minutes)} if minutes >= 0 else None


def _away_too_late(rng: random.Random, query: TravelQuery, world: TravelWorld) -> Values | None:
    legs = find_legs(query.model_copy(update={"depart_after": None}), world, 0)
    latest = max(leg.depart for leg in legs)
    minutes = -30 * (-(60 * latest.hour + latest.minute + rng.randint(1, 180)) // 30)
    return _values(query) | {"depart_after": _clock(minutes)} if minutes < 24 * 60 else None


def _no_transport(rng: random.Random, query: TravelQuery, world: TravelWorld) -> Values | None:
    return _values(query) | {"transport": rng.choice(("flight", "train"))}


def _no_hotel(rng: random.Random, query: TravelQuery, world: TravelWorld) -> Values | None:
    return _values(query) | {"min_star": rng.choice((4, 5))}


def _no_sights(rng: random.Random, query: TravelQuery, world: TravelWorld) -> Values | None:
    return _values(query) | {"categories": sorted(rng.sample(CATEGORIES, rng.choice((1, 2, 3))))}


def _too_long(rng: random.Random, query: TravelQuery, world: TravelWorld) -> Values | None:
    hop = rng.randrange(len(query.stays) + 1)
    shortest = min(leg.end - leg.start for leg in find_legs(query, world, hop))
    hours = (shortest - 1) // 60
    return _values(query) | {"max_active_hours": float(hours)} if hours >= 2 else None


def _too_many(rng: random.Random, query: TravelQuery, world: TravelWorld) -> Values | None:
    return _values(query) | {"adults": rng.choice((5, 6, 7, 8))}


_BREACHES: tuple[Callable[[random.Random, TravelQuery, TravelWorld], Values | None], ...] = (
    _under_budget,
    _under_budget,
    _back_too_early,
    _away_too_late,
    _no_transport,
    _no_hotel,
    _no_sights,
    _too_long,
    _too_many,
)


def _unconnected_trip(rng: random.Random, split: str, world: TravelWorld) -> Values | None:
    """Between two cities that have no direct connection, nothing else asked for."""
    pairs = network(world).unconnected[split]
    if not pairs:
        return None
    return _trip_values(rng, world, rng.sample(rng.choice(pairs), 2), 2)


def _values(query: TravelQuery) -> Values:
    return {name: getattr(query, name) for name in TravelQuery.model_fields}


def _query(values: Values) -> TravelQuery | None:
    """The query; `None` if its fields contradict each other."""
    if values.get("cabin") is not None and values.get("transport") == "train":
        return None
    return TravelQuery(**values)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _up(value: float, step: int) -> int:
    return step * -int(-value // step)
