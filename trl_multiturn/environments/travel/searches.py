"""The six tools on checked arguments, and what they share: places, ways within a city and dates."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from .arguments import TOOL_NAMES
from .catalog import Catalog
from .errors import ToolError
from .geography import City, Geography, Place, distance_km, shown
from .guides import Guides
from .timetables import Timetable


MOST_NIGHTS = 30

_TRANSIT_FROM = "05:00"
# Ways are longer than the crow flies.
_DETOUR = 1.3
# Minutes to begin with, minutes a kilometre, US dollars to begin with, US dollars a kilometre.
_MODES = {"walk": (0.0, 12.0, 0.0, 0.0), "transit": (8.0, 2.4, 2.0, 0.1), "taxi": (4.0, 1.6, 3.0, 1.3)}

Rows = list[dict[str, Any]]


class Searches:
    """
    What a world answers its tools with. [`TravelWorld`] documents each tool.

    Args:
        geography ([`Geography`]):
            Cities, airports and stations.
        timetable ([`Timetable`]):
            Flights and trains.
        catalog ([`Catalog`]):
            Hotels and points of interest.
        today (`date`):
            First day that can be searched.
        last_day (`date`):
            Last day that can be searched.
    """

    def __init__(
        self, geography: Geography, timetable: Timetable, catalog: Catalog, today: date, last_day: date
    ) -> None:
        self._geography = geography
        self._timetable = timetable
        self._catalog = catalog
        self._guides = Guides(geography, catalog)
        self._today, self._last_day = today, last_day
        self._stays = lru_cache(maxsize=4_096)(self._make_stays)
        self._near = lru_cache(maxsize=4_096)(self._make_near)
        self._find = lru_cache(maxsize=1_024)(geography.find)
        self._tools = {name: getattr(self, f"_{name}") for name in TOOL_NAMES}

    def run(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """
        Answer a call.

        Args:
            name (`str`):
                Name of a tool.
            arguments (`Mapping`):
                Arguments as [`check_arguments`] returns them.

        Returns:
            The tool's records, which belong to the caller.

        Raises:
            [`ToolError`]: As the tool.
        """
        return self._tools[name](**arguments)

    def city(self, name: str) -> City:
        """
        A city by one of its names.

        Args:
            name (`str`):
                As for [`Geography.find`].

        Returns:
            [`City`]: The city.

        Raises:
            [`ToolError`]: `unknown_city`, with the nearest names.
        """
        return self._find(name)

    def place(self, place_id: str) -> Place | None:
        """
        A place by its id.

        Args:
            place_id (`str`):
                Id of an airport, station, hotel or point of interest.

        Returns:
            [`Place`] or `None`: The place; `None` if there is none.
        """
        return self._geography.places.get(place_id) or self._catalog.place(place_id)

    def way(self, origin_id: str, destination_id: str, mode: str) -> tuple[float, int, int]:
        """
        The way between two places of a city.

        Args:
            origin_id (`str`):
                Id of a place.
            destination_id (`str`):
                Id of the other one.
            mode (`str`):
                `"walk"`, `"transit"` or `"taxi"`.

        Returns:
            `tuple[float, int, int]`: Kilometres, minutes and US dollars; all 0 if both are the same place.

        Raises:
            [`ToolError`]: `bad_argument`, `unknown_place` or `different_cities`.
        """
        if mode not in _MODES:
            raise ToolError("bad_argument", f"mode must be one of {', '.join(_MODES)}, got {shown(str(mode))}.")
        here, there = self._known(origin_id), self._known(destination_id)
        if here.city != there.city:
            where = f"{origin_id} is in {here.city}, {destination_id} in {there.city}"
            raise ToolError("different_cities", f"{where}. Take a flight or a train between cities.")
        if origin_id == destination_id:
            return 0.0, 0, 0
        km = round(_DETOUR * distance_km(here, there), 1)
        wait, pace, fee, rate = _MODES[mode]
        return km, max(1, round(wait + pace * km)), round(fee + rate * km)

    def _search_flights(
        self,
        origin: str,
        destination: str,
        date: str,
        depart_after: str = "00:00",
        depart_before: str = "23:59",
        cabin: str = "economy",
        max_price: float | None = None,
    ) -> Rows:
        here, there, day = self._trip(origin, destination, date)
        from_airport, to_airport = self._airport(origin), self._airport(destination)
        return [
            row.copy()
            for row in self._timetable.rows("flight", here.name, there.name, day, cabin)
            if depart_after <= row["depart"][11:] <= depart_before
            and (max_price is None or row["price"] <= max_price)
            and from_airport in (None, row["origin"])
            and to_airport in (None, row["destination"])
        ]

    def _search_trains(self, origin: str, destination: str, date: str, seat_class: str = "second") -> Rows:
        here, there, day = self._trip(origin, destination, date)
        return [row.copy() for row in self._timetable.rows("train", here.name, there.name, day, seat_class)]

    def _plan_route(
        self, origin_place_id: str, destination_place_id: str, mode: str, depart_at: str | None = None
    ) -> dict[str, Any]:
        km, minutes, cost = self.way(origin_place_id, destination_place_id, mode)
        if mode == "transit" and depart_at is not None and depart_at < _TRANSIT_FROM:
            raise ToolError(
                "no_service", f"transit runs from {_TRANSIT_FROM} to midnight. Take a taxi or leave later."
            )
        return {
            "origin": origin_place_id,
            "destination": destination_place_id,
            "mode": mode,
            "distance_km": km,
            "duration_min": minutes,
            "cost": cost,
            "synthetic": True,
        }

    def _search_hotels(
        self,
        city: str,
        check_in: str,
        check_out: str,
        near: str | None = None,
        max_price: float | None = None,
        min_star: int = 1,
    ) -> Rows:
        found = self._find(city)
        first, last = self._day("check_in", check_in), self._day("check_out", check_out)
        if last <= first:
            raise ToolError("bad_dates", f"check_out {check_out} must be after check_in {check_in}.")
        nights = (last - first).days
        if nights > MOST_NIGHTS:
            raise ToolError("too_long", f"a stay has at most {MOST_NIGHTS} nights, got {nights}.")
        return [
            row.copy()
            for row in self._nearest(found, near, "hotel_id", self._stays(found, first, nights))
            if row["star"] >= min_star and (max_price is None or row["nightly_price"] <= max_price)
        ]

    def _search_pois(
        self,
        city: str,
        category: str | None = None,
        keyword: str | None = None,
        near: str | None = None,
        radius_km: float | None = None,
    ) -> Rows:
        found = self._find(city)
        rows = self._nearest(found, near, "poi_id", list(self._catalog.pois(found).values()))
        if radius_km is not None:
            away = self._near(found, near)
            rows = [row for row in rows if away[row["poi_id"]] <= radius_km]
        return [
            row | {"closed_days": list(row["closed_days"])}
            for row in rows
            if category in (None, row["category"])
            and (keyword is None or keyword.casefold() in row["name"].casefold())
        ]

    def _search_web(self, query: str, top_k: int = 3) -> Rows:
        return self._guides.search(query, top_k)

    def _nearest(
        self, city: City, near: str | None, id: str, rows: Sequence[dict[str, Any]]
    ) -> Sequence[dict[str, Any]]:
        """The records as they are, or with the distance from a place and by it."""
        if near is None:
            return rows
        away = self._near(city, near)
        return sorted((row | {"distance_km": away[row[id]]} for row in rows), key=lambda row: row["distance_km"])

    def _known(self, place_id: str) -> Place:
        place = self.place(place_id)
        if place is None:
            raise unknown_place(place_id)
        return place

    def _trip(self, origin: str, destination: str, day: str) -> tuple[City, City, date]:
        here, there = self._find(origin), self._find(destination)
        if here is there:
            message = f"origin and destination are both {here.name}. Use plan_route within a city."
            raise ToolError("same_city", message)
        return here, there, self._day("date", day)

    def _day(self, name: str, text: str) -> date:
        day = date.fromisoformat(text)
        if day < self._today:
            raise ToolError("past_date", f"{name} {text} is past: today is {self._today}.")
        if day > self._last_day:
            message = f"{name} {text} is too far ahead: the last day on sale is {self._last_day}."
            raise ToolError("beyond_horizon", message)
        return day

    def _airport(self, name: str) -> str | None:
        """The airport that is named; `None` if a city is."""
        place = self._geography.places.get(name.upper())
        return place.id if place is not None and place.kind == "airport" else None

    def _make_stays(self, city: City, first: date, nights: int) -> tuple[dict[str, Any], ...]:
        dates = {"check_in": str(first), "check_out": str(first + timedelta(days=nights)), "synthetic": True}
        rows = []
        for hotel in self._catalog.hotels(city).values():
            found = [self._catalog.night(hotel, city, first + timedelta(days=i)) for i in range(nights)]
            prices = {
                "nightly_price": found[0]["price"],
                "rooms_left": min(night["rooms_left"] for night in found),
            }
            rows.append({name: value for name, value in hotel.items() if name != "synthetic"} | prices | dates)
        return tuple(sorted(rows, key=lambda row: (row["nightly_price"], row["hotel_id"])))

    def _make_near(self, city: City, near: str | None) -> dict[str, float]:
        """Kilometres from a place, or from the city's centre, to each hotel and point of interest of the city."""
        here: City | Place = city if near is None else self._known(near)
        if isinstance(here, Place) and here.city != city.name:
            raise ToolError("different_cities", f"near {near} is in {here.city}, not in {city.name}.")
        ids = [*self._catalog.hotels(city), *self._catalog.pois(city)]
        return {id: round(distance_km(here, self._known(id)), 1) for id in ids}


def unknown_place(id: str) -> ToolError:
    """
    What an unknown id is answered with.

    Args:
        id (`str`):
            The id.

    Returns:
        [`ToolError`]: The error to raise.
    """
    hint = "Use an id that a search tool returned, such as an IATA code, a hotel_id or a poi_id."
    return ToolError("unknown_place", f"{shown(id)} is no place id of this world. {hint}")
