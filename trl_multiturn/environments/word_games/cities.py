"""Cities to guess, and what is known about them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .text import tokens


_TABLE = Path(__file__).parent / "data" / "cities.json"


@dataclass(frozen=True)
class CityFacts:
    """
    A city and its country.

    Attributes:
        name (`str`):
            The city.
        aliases (`tuple[str, ...]`):
            Other spellings that count when it is guessed.
        country (`str`):
            Name of the country.
        country_names (`tuple[str, ...]`):
            All its names.
        adjectives (`tuple[str, ...]`):
            `"French"`.
        continents (`tuple[str, ...]`):
            One continent; two for Istanbul.
        region (`str`):
            Part of the continent, by the United Nations: `"Western Europe"`.
        state (`str` or `None`):
            State, for cities in the United States.
        capital (`bool`):
            Whether it is its country's capital.
        largest (`bool`):
            Whether it is its country's largest city.
        population (`int`):
            People in the city.
        latitude (`float`), longitude (`float`):
            Degrees, positive to the north and to the east.
        utc_offset (`float`):
            Hours ahead of UTC, outside of summer time.
        currency (`str`):
            Name without the country: `"dollar"`.
        languages (`tuple[str, ...]`):
            Official or commonly spoken languages of the country.
        country_population (`int`):
            People in the country.
        borders (`tuple[str, ...]`):
            Countries that its country has a border with.
        landlocked (`bool`):
            Whether its country has no coast.
    """

    name: str
    aliases: tuple[str, ...]
    country: str
    country_names: tuple[str, ...]
    adjectives: tuple[str, ...]
    continents: tuple[str, ...]
    region: str
    state: str | None
    capital: bool
    largest: bool
    population: int
    latitude: float
    longitude: float
    utc_offset: float
    currency: str
    languages: tuple[str, ...]
    country_population: int
    borders: tuple[str, ...]
    landlocked: bool


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table


@cache
def _load_cities() -> Mapping[str, CityFacts]:
    found = {}
    for name, row in _table()["cities"].items():
        country = _table()["countries"][row["country"]]
        found[name] = CityFacts(
            name=name,
            aliases=tuple(row["aliases"]),
            country=country["names"][0],
            country_names=tuple(country["names"]),
            adjectives=tuple(country["adjectives"]),
            continents=tuple(row["continents"]),
            region=country["region"],
            state=row["state"],
            capital=row["capital"],
            largest=row["largest"],
            population=row["population"],
            latitude=row["latitude"],
            longitude=row["longitude"],
            utc_offset=row["utc_offset"],
            currency=country["currency"],
            languages=tuple(country["languages"]),
            country_population=country["population"],
            borders=tuple(country["borders"]),
            landlocked=country["landlocked"],
        )
    return MappingProxyType(found)


def load_cities() -> dict[str, CityFacts]:
    """
    Loads the cities of Guess My City.

    Returns:
        `dict[str, CityFacts]`: The 91 cities by name.
    """
    return dict(_load_cities())


@cache
def country_names() -> Mapping[str, str]:
    """
    Lists the names of all countries.

    Returns:
        `Mapping[str, str]`: First name of a country by each of its names, in lower case without accents.
    """
    rows = _table()["countries"].values()
    return {" ".join(tokens(name)): row["names"][0] for row in rows for name in reversed(row["names"])}


@cache
def state_names() -> Mapping[str, str]:
    """
    Lists the names of the American states.

    Returns:
        `Mapping[str, str]`: Name of a state by its form in lower case.
    """
    return {" ".join(tokens(name)): name for name in _table()["states"]}
