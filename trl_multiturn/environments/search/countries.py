"""Countries and airports, read from packages and cleaned by the rules written here."""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ..requirements import require
from .index import fold


# Names of currencies, and corrections of the packages: entries that are no countries any more, in dispute or without
# inhabitants ("dropped"), names and currencies that have changed, capitals that moved or (`null`) are no single answer,
# borders that do not exist or lie within one state, capitals with airports that the data places elsewhere.
_TABLES = Path(__file__).parent / "data" / "countries.json"


@cache
def key(text: str) -> str:
    """Form under which two spellings are one entity: words and digits only, no accents, no articles."""
    words = re.findall(r"\w+", fold(text).replace("'", ""))
    return " ".join(word for word in words if word not in ("a", "an", "the")) or fold(text).strip()


@dataclass
class Country:
    """
    A country or territory with a code of its own in ISO 3166.

    What is not known, not clear or not unique is `None`, and no fact is made of it. `calling_codes` are all that the
    package lists, `calling_code` the only one. `aliases` maps a value (the name, the capital, the currency) to its
    other spellings.
    """

    code: str
    name: str
    iso: str
    subregion: str | None = None
    capital: str | None = None
    currency: str | None = None
    domain: str | None = None
    calling_code: str | None = None
    calling_codes: tuple[str, ...] = ()
    only_neighbour: str | None = None
    largest_neighbour: str | None = None
    smallest_neighbour: str | None = None
    aliases: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Airport:
    """An international airport; `country` is the country's two-letter code, `city` `None` if not given plainly."""

    code: str
    country: str
    city: str | None


@cache
def load_countries() -> dict[str, Country]:
    """
    Reads the countries of `countryinfo`, with the corrections of `data/countries.json`.

    Returns:
        `dict[str, Country]`: Countries by two-letter code, in order of the code.
    """
    # The package's own class looks up one country by name and hides rows that share a name.
    base = Path(str(require("countryinfo", "search").__file__)).parent / "data"
    tables = json.loads(_TABLES.read_text(encoding="utf-8"))
    fixes = tables["corrections"]
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(base.glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        code = row.get("ISO", {}).get("alpha2")
        if not code or not row.get("name"):
            continue
        # Some countries have two rows, one of which knows less.
        if code not in rows or len(str(row.get("borders"))) > len(str(rows[code].get("borders"))):
            rows[code] = row
    rows = dict(sorted(rows.items()))
    # Dropped ones stay among the rows, because the borders of others depend on them.
    countries = {code: _read(code, row, tables) for code, row in rows.items() if code not in fixes["dropped"]}
    _set_currencies(countries, rows, tables)
    _set_neighbours(countries, rows, fixes)
    return countries


def _read(code: str, row: dict[str, Any], tables: dict[str, Any]) -> Country:
    fixes = tables["corrections"]
    name = fixes["names"].get(code, row["name"])
    country = Country(code=code, name=name, iso=row["ISO"]["alpha3"], subregion=row.get("subregion") or None)
    country.aliases[name] = list(fixes["aliases"].get(code, []))
    if name != row["name"] and key(row["name"]) != key(name):
        country.aliases[name].append(row["name"])

    capital = fixes["capitals"].get(code, row.get("capital")) if code in fixes["capitals"] else row.get("capital")
    # "A / B" names several; a capital named as its country is an answer that the question gives away.
    if isinstance(capital, str) and capital and "/" not in capital and key(capital) != key(name):
        country.capital = capital
        country.aliases[capital] = list(fixes["capital_aliases"].get(code, []))
    domains = [domain for domain in row.get("tld") or [] if re.fullmatch(r"\.[a-z]{2}", domain)]
    country.domain = domains[0] if domains else None
    digits = [re.sub(r"\D", "", number) for number in row.get("callingCodes") or []]
    country.calling_codes = tuple(f"+{number}" for number in digits if number)
    if len(country.calling_codes) == 1 and code not in fixes["calling_codes"]:
        country.calling_code = country.calling_codes[0]
    return country


def _set_currencies(countries: dict[str, Country], rows: dict[str, dict[str, Any]], tables: dict[str, Any]) -> None:
    names: dict[str, str] = tables["currencies"]
    fixes = tables["corrections"]["currencies"]
    units = [name.split()[-1] for name in names.values()]
    for code, country in countries.items():
        listed = [fixes[code]] if code in fixes else rows[code].get("currencies") or []
        # Several currencies side by side are no single answer; codes without a name are out of use.
        if len(listed) != 1 or listed[0] not in names:
            continue
        name = names[listed[0]]
        unit = name.split()[-1]
        country.currency = name
        country.aliases[name] = [listed[0], *([unit] if units.count(unit) == 1 and unit != name else [])]


def _set_neighbours(countries: dict[str, Country], rows: dict[str, dict[str, Any]], fixes: dict[str, Any]) -> None:
    by_iso = {row["ISO"]["alpha3"]: code for code, row in rows.items()}
    borders = {iso: set(rows[code].get("borders") or []) for iso, code in by_iso.items()}
    for one, other in fixes["not_bordering"]:
        borders[one].discard(other)
        borders[other].discard(one)
    for country in countries.values():
        # Some borders of the package are listed by one side only: claims, or omissions on the other side. A neighbour
        # counts as the only, largest or smallest one if it is so with and without them.
        certain = {other for other in borders[country.iso] if country.iso in borders.get(other, ())}
        possible = borders[country.iso] | {other for other, listed in borders.items() if country.iso in listed}
        # A neighbour that became no country here (dropped, or unknown to the package) might be the answer itself.
        if not certain or any(by_iso.get(other) not in countries for other in possible):
            continue
        areas = {by_iso[iso]: rows[by_iso[iso]].get("area") for iso in sorted(possible)}
        if len(possible) == 1:
            country.only_neighbour = next(iter(areas))
        elif len(certain) > 1 and all(areas.values()):
            sure = {by_iso[iso] for iso in certain}
            ordered = sorted(areas, key=lambda other: float(areas[other] or 0))
            smallest, largest = ordered[0], ordered[-1]
            country.smallest_neighbour = smallest if smallest in sure else None
            country.largest_neighbour = largest if largest in sure else None


@cache
def load_airports() -> tuple[Airport, ...]:
    """
    Reads the international airports of `airportsdata`.

    Returns:
        `tuple[Airport, ...]`: Airports with a code of IATA, in order of the code.
    """
    countries = load_countries()
    airports = []
    for code, row in sorted(require("airportsdata", "search").load("IATA").items()):
        # Smaller fields have many doubtful cities; "International" in the name is a rule a reader can check.
        if (
            "International" not in row["name"]
            or row["country"] not in countries
            or not re.fullmatch(r"[A-Z]{3}", code)
        ):
            continue
        city = row["city"].strip()
        # No brackets and slashes, and none of "St Petersburg-Clearwater" or "Ujung Pandang-Celebes Island".
        plain = re.fullmatch(r"[^\W\d_]+(?:[ .'’-]+[^\W\d_]+)*\.?", city) and not ("-" in city and " " in city)
        airports.append(Airport(code, row["country"], city if plain else None))
    return tuple(airports)


@cache
def capital_airports() -> dict[str, str]:
    """
    Finds the airport of each capital that has exactly one.

    Returns:
        `dict[str, str]`: Code of the airport by two-letter code of the country.
    """
    # Airports of any name count here: a capital with a second, smaller airport has no single answer.
    by_city: dict[tuple[str, str], list[str]] = {}
    for code, row in require("airportsdata", "search").load("IATA").items():
        by_city.setdefault((row["country"], key(row["city"])), []).append(code)
    codes = {airport.code for airport in load_airports()}
    excluded = json.loads(_TABLES.read_text(encoding="utf-8"))["corrections"]["capital_airports"]
    found = {}
    for country in load_countries().values():
        if country.capital is None or country.code in excluded:
            continue
        airports = by_city.get((country.code, key(country.capital)), [])
        if len(airports) == 1 and airports[0] in codes:
            found[country.code] = airports[0]
    return found
