"""The travel sandbox as a TRL environment."""

import json
from typing import Any

from ..requirements import require
from .arguments import check_arguments
from .backend import Backend, begin
from .world import TravelWorld, default_world


class TravelEnvironment:
    """
    Six tools to plan a trip with. Their answers are JSON; a bad call raises [`ToolError`], which TRL passes on to the
    model.

    The backend is shared, the state of a rollout is only what it called. Pass a class or
    `functools.partial(TravelEnvironment, backend)` as `environment_factory`.

    Args:
        backend ([`Backend`], *optional*):
            What answers the calls; one [`TravelWorld`] for all environments by default.
        max_results (`int`, *optional*, defaults to `5`):
            Most records of one answer. There is no way to see the others but to search more narrowly.

    Raises:
        `ImportError`: If the backend is a [`TravelWorld`] and `bm25s` is not installed.

    Attributes:
        query (`str` or `None`):
            The row's column `query`.
        tool_calls (`list[tuple[str, dict, str]]`):
            Name, arguments and answer of each call that was answered, in order.
    """

    def __init__(self, backend: Backend | None = None, max_results: int = 5) -> None:
        if isinstance(max_results, bool) or not isinstance(max_results, int) or max_results < 1:
            raise ValueError(f"`max_results` must be a whole number from 1 on, got {max_results!r}.")
        self._shared = backend if backend is not None else default_world()
        self._backend: Backend = self._shared
        if isinstance(self._shared, TravelWorld):
            # Missing, it would only show as an error that the model sees.
            require("bm25s", "travel")
        self._max_results = max_results
        self.query: str | None = None
        self.tool_calls: list[tuple[str, dict[str, Any], str]] = []

    def reset(self, **row: Any) -> None:
        # No docstring section for arguments: of the columns that TRL passes, `query` is the only one that matters.
        self._backend = begin(self._shared)
        self.query = row.get("query")
        self.tool_calls = []

    def search_flights(
        self,
        origin: str,
        destination: str,
        date: str,
        depart_after: str | None = None,
        depart_before: str | None = None,
        cabin: str | None = None,
        max_price: float | None = None,
    ) -> str:
        """
        Search direct flights on a day, cheapest first.

        Args:
            origin: City name or IATA code of an airport.
            destination: City name or IATA code of an airport.
            date: Local date of departure, YYYY-MM-DD.
            depart_after: Earliest local departure, HH:MM.
            depart_before: Latest local departure, HH:MM.
            cabin: Cabin; economy if not given. (choices: ["economy", "business"])
            max_price: Highest price for one person in US dollars.

        Returns:
            A JSON list of flights. The price is for one person, one way; times are local.
        """
        return self._call(
            "search_flights",
            origin=origin,
            destination=destination,
            date=date,
            depart_after=depart_after,
            depart_before=depart_before,
            cabin=cabin,
            max_price=max_price,
        )

    def search_trains(self, origin: str, destination: str, date: str, seat_class: str | None = None) -> str:
        """
        Search direct trains on a day, cheapest first.

        Args:
            origin: City name.
            destination: City name.
            date: Local date of departure, YYYY-MM-DD.
            seat_class: Class; second if not given. (choices: ["second", "first"])

        Returns:
            A JSON list of trains. The price is for one person, one way; times are local.
        """
        return self._call("search_trains", origin=origin, destination=destination, date=date, seat_class=seat_class)

    def plan_route(
        self, origin_place_id: str, destination_place_id: str, mode: str, depart_at: str | None = None
    ) -> str:
        """
        Plan the way between two places in one city.

        Args:
            origin_place_id: Id of an airport, station, hotel or point of interest.
            destination_place_id: Id of another one in the same city.
            mode: How to go. (choices: ["walk", "transit", "taxi"])
            depart_at: Local time, HH:MM.

        Returns:
            A JSON object with distance, duration and cost for the whole party.
        """
        return self._call(
            "plan_route",
            origin_place_id=origin_place_id,
            destination_place_id=destination_place_id,
            mode=mode,
            depart_at=depart_at,
        )

    def search_hotels(
        self,
        city: str,
        check_in: str,
        check_out: str,
        near: str | None = None,
        max_price: float | None = None,
        min_star: int | None = None,
    ) -> str:
        """
        Search hotels for a stay, cheapest first, or nearest first if a place is given.

        Args:
            city: City name.
            check_in: Date of the first night, YYYY-MM-DD.
            check_out: Date of departure, YYYY-MM-DD.
            near: Id of a place in the city.
            max_price: Highest price of a room for one night in US dollars.
            min_star: Fewest stars, 1 to 5.

        Returns:
            A JSON list of hotels. The price is for one room and one night.
        """
        return self._call(
            "search_hotels",
            city=city,
            check_in=check_in,
            check_out=check_out,
            near=near,
            max_price=max_price,
            min_star=min_star,
        )

    def search_pois(
        self,
        city: str,
        category: str | None = None,
        keyword: str | None = None,
        near: str | None = None,
        radius_km: float | None = None,
    ) -> str:
        """
        Search points of interest.

        Args:
            city: City name.
            category: Kind. (choices: ["museum", "park", "temple", "gallery", "market", "zoo", "tower", "palace"])
            keyword: Part of the name.
            near: Id of a place in the city; the nearest come first.
            radius_km: Largest distance in kilometres from that place, or from the centre.

        Returns:
            A JSON list of points of interest. The ticket is for one person.
        """
        return self._call("search_pois", city=city, category=category, keyword=keyword, near=near, radius_km=radius_km)

    def search_web(self, query: str, top_k: int = 3) -> str:
        """
        Search travel guides.

        Args:
            query: Words to look for.
            top_k: Number of results, 1 to 10.

        Returns:
            A JSON list of guides.
        """
        return self._call("search_web", query=query, top_k=top_k)

    def _call(self, name: str, **arguments: Any) -> str:
        # Checked here as well, so that no backend, cache or log ever sees an argument of 1 MB.
        checked = check_arguments(name, arguments)
        answer = self._backend.call(name, checked)
        if isinstance(answer, list):
            answer = answer[: self._max_results]
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        self.tool_calls.append((name, checked, text))
        return text
