"""Cities, airports and stations: where they are, what they are called and which time it is there."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from difflib import get_close_matches
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import airportsdata

from ..search.index import fold
from .draws import draw, spread
from .errors import ToolError


_EARTH_DIAMETER_KM = 12_742.0
_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class City:
    """
    A city.

    Args:
        name (`str`):
            English name.
        zh (`str`):
            Chinese name.
        country (`str`):
            ISO 3166 code of two letters.
        airports (`tuple[str]`):
            IATA codes, the main airport first.
        stations (`tuple[str]`):
            Ids of railway stations; none where the sandbox has no trains.
        lat (`float`):
            Latitude of the centre in degrees.
        lon (`float`):
            Longitude of the centre in degrees.
        tz (`str`):
            IANA name of the time zone.
        rank (`int`):
            1 for a hub of air traffic, 2 for a large airport, 3 for a small one.
        rail (`str` or `None`):
            Name of the railway network the city is on.
    """

    name: str
    zh: str
    country: str
    airports: tuple[str, ...]
    stations: tuple[str, ...]
    lat: float
    lon: float
    tz: str
    rank: int
    rail: str | None

    @property
    def code(self) -> str:
        """The three letters that stand for the city in ids."""
        return self.airports[0]


@dataclass(frozen=True, slots=True)
class Place:
    """
    A place with an id.

    Args:
        id (`str`):
            Id, such as `"PEK"`, `"ST-PEK"`, `"H-PEK3K7"` or `"P-PEKQ2M"`.
        city (`str`):
            English name of the city it belongs to.
        kind (`str`):
            `"airport"`, `"station"`, `"hotel"` or `"poi"`.
        lat (`float`):
            Latitude in degrees.
        lon (`float`):
            Longitude in degrees.
        tz (`str`):
            IANA name of the time zone.
    """

    id: str
    city: str
    kind: str
    lat: float
    lon: float
    tz: str


def distance_km(a: City | Place, b: City | Place) -> float:
    """
    Great-circle distance.

    Args:
        a (`City` or `Place`):
            One end.
        b (`City` or `Place`):
            The other end.

    Returns:
        `float`: Kilometres.
    """
    rad = math.pi / 180
    lat_a, lat_b = a.lat * rad, b.lat * rad
    h = math.sin((lat_b - lat_a) / 2) ** 2
    h += math.cos(lat_a) * math.cos(lat_b) * math.sin((b.lon - a.lon) * rad / 2) ** 2
    return _EARTH_DIAMETER_KM * math.asin(min(1.0, math.sqrt(h)))


def near_centre(city: City, far_km: float, u: float, v: float) -> tuple[float, float]:
    """
    A point in a city, the likelier the nearer to the centre.

    Args:
        city (`City`):
            The city.
        far_km (`float`):
            Largest distance from the centre.
        u (`float`):
            Uniform number that decides the distance.
        v (`float`):
            Uniform number that decides the direction.

    Returns:
        `tuple[float, float]`: Latitude and longitude in degrees, four decimals.
    """
    degrees, angle = far_km * u / 111.2, 2 * math.pi * v
    lon = city.lon + degrees * math.sin(angle) / math.cos(math.radians(city.lat))
    return round(city.lat + degrees * math.cos(angle), 4), round(lon, 4)


def shown(text: str) -> str:
    """
    What an error repeats of an argument, so that a long one does not fill the context.

    Args:
        text (`str`):
            The argument.

    Returns:
        `str`: Its first characters, in quotes.
    """
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "...")


class Geography:
    """
    The cities of a world with their airports and stations.

    Coordinates and time zones of airports are `airportsdata`'s; centres and names are the table's in
    `data/cities.json`. Stations stand at generated points.

    Args:
        seed (`int`):
            Seed of the world.
        names (sequence of `str`, *optional*):
            English names of the cities; all of the table by default.

    Raises:
        `ValueError`: If a name is not in the table, or fewer than two are given.
    """

    def __init__(self, seed: int, names: Sequence[str] | None = None) -> None:
        rows, airports = _table()
        chosen = sorted(rows) if names is None else sorted(set(names))
        if isinstance(names, str) or len(chosen) < 2:
            raise ValueError("`cities` must hold at least two names of cities.")
        if unknown := [name for name in chosen if name not in rows]:
            raise ValueError(f"`cities` has names that are not in the table: {', '.join(map(str, unknown))}.")
        self.cities: dict[str, City] = {}
        self.places: dict[str, Place] = {}
        self._aliases: dict[str, str] = {}
        for name in chosen:
            self._add(seed, name, rows[name], airports)

    def _add(self, seed: int, name: str, row: dict[str, Any], airports: dict[str, tuple[float, float, str]]) -> None:
        codes = tuple(row["airports"])
        tz = airports[codes[0]][2]
        stations = (f"ST-{codes[0]}",) if row["rail"] else ()
        city = City(
            name, row["zh"], row["country"], codes, stations, row["lat"], row["lon"], tz, row["rank"], row["rail"]
        )
        self.cities[name] = city
        for code in codes:
            lat, lon, zone = airports[code]
            self.places[code] = Place(code, name, "airport", lat, lon, zone)
        for station in stations:
            u = draw(seed, "station", station)
            self.places[station] = Place(
                station, name, "station", *near_centre(city, spread(1, 6, u[0]), 1.0, u[1]), tz
            )
        for alias in (name, row["zh"], row["zh"] + "市", *codes, *stations):
            self._aliases[_key(alias)] = name

    def find(self, name: str) -> City:
        """
        Look a city up.

        Args:
            name (`str`):
                English or Chinese name in any case and with or without accents, an IATA code, or a station's id.

        Returns:
            [`City`]: The city.

        Raises:
            [`ToolError`]: `unknown_city`, with the nearest names.
        """
        city = self.cities.get(name)
        if city is not None:
            return city
        key = _key(name)
        if key in self._aliases:
            return self.cities[self._aliases[key]]
        near = dict.fromkeys(self._aliases[alias] for alias in get_close_matches(key, self._aliases, n=5, cutoff=0.6))
        hint = f"Close matches: {', '.join(list(near)[:3])}." if near else f"Known are, among others, {self._some()}."
        raise ToolError("unknown_city", f"{shown(name)} is no city of this world. {hint}")

    def digest(self, first: date, days: int) -> str:
        """
        What stands for all that is known of cities and places, and for the clocks of their time zones.

        Args:
            first (`date`):
                First day of interest.
            days (`int`):
                Number of days of interest.

        Returns:
            `str`: Twelve hexadecimal digits.
        """
        zones = sorted({place.tz for place in self.places.values()})
        known = [*self.cities.values(), *self.places.values(), *(_clock_changes(zone, first, days) for zone in zones)]
        return blake2b(repr(known).encode(), digest_size=6).hexdigest()

    def _some(self) -> str:
        names = [city.name for city in self.cities.values() if city.rank == 1] or list(self.cities)
        return ", ".join(names[:: max(1, len(names) // 5)][:5])


def known_airports() -> frozenset[str]:
    """
    The airports of the table.

    Returns:
        `frozenset[str]`: IATA codes.
    """
    return frozenset(_table()[1])


def _key(name: str) -> str:
    return "".join(sign for sign in fold(name) if sign.isalnum())


@lru_cache(maxsize=1_024)
def _clock_changes(zone: str, first: date, days: int) -> str:
    """The offset from UTC on the first day and wherever it changes: what the time-zone database says about these days."""
    tz, noon = ZoneInfo(zone), datetime.combine(first, time(12))
    offsets = [(noon + timedelta(days=i)).replace(tzinfo=tz).utcoffset() for i in range(days)]
    changes = [f"{i}:{offsets[i]}" for i in range(days) if i == 0 or offsets[i] != offsets[i - 1]]
    return f"{zone} {' '.join(changes)}"


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, dict[str, Any]], dict[str, tuple[float, float, str]]]:
    """Rows of the table by name, and latitude, longitude and zone of the airports that it names."""
    path = Path(__file__).parent / "data" / "cities.json"
    rows = {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))}
    known = airportsdata.load("IATA")
    codes = [code for row in rows.values() for code in row["airports"]]
    return rows, {c: (round(known[c]["lat"], 4), round(known[c]["lon"], 4), known[c]["tz"]) for c in codes}
