"""What a solver and a verifier look up in a world: one leg, hotel, night, place or way at a time."""

from datetime import date
from typing import Any

from .catalog import Catalog
from .geography import City, Place
from .searches import Searches, unknown_place
from .timetables import Timetable


class Lookups:
    """
    The look-ups of [`TravelWorld`]. They agree with what its tools return.

    Attributes:
        today (`date`):
            First day of the world.
        last_day (`date`):
            Last day of the world.
    """

    today: date
    last_day: date
    _timetable: Timetable
    _catalog: Catalog
    _searches: Searches

    def leg(self, number: str, day: date) -> dict[str, Any] | None:
        """
        A flight or train by its number.

        Args:
            number (`str`):
                Flight or train number.
            day (`date`):
                Local date on which it leaves.

        Returns:
            `dict` or `None`: `type`, `number`, `carrier`, `origin`, `destination`, `depart`, `arrive`, `duration_min`,
            `classes` (`price` and `seats_left` by cabin or seat class) and `synthetic`; `None` if it does not leave on
            that day.
        """
        if not self.today <= day <= self.last_day:
            return None
        leg = self._timetable.leg(number, day)
        return None if leg is None else leg | {"classes": {name: dict(seat) for name, seat in leg["classes"].items()}}

    def hotel(self, hotel_id: str) -> dict[str, Any] | None:
        """
        A hotel by its id.

        Args:
            hotel_id (`str`):
                The id.

        Returns:
            `dict` or `None`: What never changes about it; `None` if there is none.
        """
        city = self._catalog.city_of(hotel_id)
        found = None if city is None else self._catalog.hotels(city).get(hotel_id)
        return None if found is None else found.copy()

    def hotel_night(self, hotel_id: str, night: date) -> dict[str, int]:
        """
        A night in a hotel.

        Args:
            hotel_id (`str`):
                Id of the hotel.
            night (`date`):
                Date on which the night begins.

        Returns:
            `dict[str, int]`: `price` of one room a night for a stay that begins with this night, however long it is,
            and `rooms_left` in this night. A stay has as many rooms as its scarcest night.

        Raises:
            [`ToolError`]: `unknown_place` if there is no such hotel.
        """
        city = self._catalog.city_of(hotel_id)
        hotel = None if city is None else self._catalog.hotels(city).get(hotel_id)
        if city is None or hotel is None:
            raise unknown_place(hotel_id)
        return self._catalog.night(hotel, city, night)

    def poi(self, poi_id: str) -> dict[str, Any] | None:
        """
        A point of interest by its id.

        Args:
            poi_id (`str`):
                The id.

        Returns:
            `dict` or `None`: Its record; `None` if there is none.
        """
        city = self._catalog.city_of(poi_id)
        found = None if city is None else self._catalog.pois(city).get(poi_id)
        return None if found is None else found | {"closed_days": list(found["closed_days"])}

    def place(self, place_id: str) -> Place | None:
        """
        A place by its id.

        Args:
            place_id (`str`):
                Id of an airport, station, hotel or point of interest.

        Returns:
            [`Place`] or `None`: The place; `None` if there is none.
        """
        return self._searches.place(place_id)

    def city(self, name: str) -> City:
        """
        A city by its name.

        Args:
            name (`str`):
                English or Chinese name in any case, IATA code or id of a station.

        Returns:
            [`City`]: The city.

        Raises:
            [`ToolError`]: `unknown_city`, with the nearest names.
        """
        return self._searches.city(name)

    def route_minutes(self, origin_id: str, destination_id: str, mode: str = "taxi") -> int:
        """
        Minutes that [`plan_route`] says, without the record around them.

        Args:
            origin_id (`str`):
                Id of a place.
            destination_id (`str`):
                Id of a place in the same city.
            mode (`str`, *optional*, defaults to `"taxi"`):
                `"walk"`, `"transit"` or `"taxi"`.

        Returns:
            `int`: Minutes; 0 if both are the same place.

        Raises:
            [`ToolError`]: `unknown_place` or `different_cities`.
        """
        return self._searches.way(origin_id, destination_id, mode)[1]
