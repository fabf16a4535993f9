"""Hotels and points of interest: all of them generated."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from .arguments import CATEGORIES
from .draws import draw, left, spread, whole
from .geography import City, Geography, Place, near_centre


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# No 0, 1, I or O: they are read wrongly.
_SIGNS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_FEWEST_HOTELS, _MOST_HOTELS = 6, 12
_FEWEST_POIS, _MOST_POIS = 10, 16
_STARS = (1, 2, 3, 3, 4, 4, 4, 5, 5)
_STAR_PRICE = {1: 38, 2: 58, 3: 90, 4: 145, 5: 270}
# What things cost in a country, as a multiple; 1 elsewhere.
_COST = {
    "AE": 1.2, "AU": 1.3, "CH": 1.6, "CN": 0.7, "DK": 1.4, "EG": 0.5, "GB": 1.4, "HK": 1.4, "ID": 0.5, "IN": 0.5, "JP": 1.1,
    "KE": 0.6, "MX": 0.7, "MY": 0.6, "NO": 1.5, "PH": 0.6, "SG": 1.5, "TH": 0.6, "TR": 0.6, "US": 1.5, "VN": 0.5, "ZA": 0.6,
}  # fmt: skip
_WORDS = (
    "Amber", "Bamboo", "Bell", "Bridge", "Canal", "Cedar", "Cloud", "Copper", "Crane", "Dawn", "Garden", "Harbour", "Heron",
    "Hill", "Iris", "Jade", "Lake", "Lantern", "Linden", "Lotus", "Magnolia", "Maple", "Mill", "Moon", "North", "Olive",
    "Orchid", "Pearl", "Pine", "River", "Rose", "Silk", "Silver", "South", "Spring", "Star", "Stone", "Sun", "Swan", "Willow",
)  # fmt: skip
_HOTEL_KINDS = {
    1: ("Hostel",),
    2: ("Inn", "Lodge"),
    3: ("Hotel", "House"),
    4: ("Hotel", "Plaza"),
    5: ("Grand Hotel", "Palace"),
}
_POI_KINDS = {
    "museum": ("Museum", "Museum of History", "Science Museum", "Railway Museum"),
    "park": ("Park", "Gardens", "Botanical Garden"),
    "temple": ("Temple", "Shrine", "Monastery"),
    "gallery": ("Gallery", "Gallery of Modern Art", "Art House"),
    "market": ("Market", "Night Market", "Bazaar"),
    "zoo": ("Zoo", "Aquarium", "Wildlife Park"),
    "tower": ("Tower", "Observation Tower", "Belfry"),
    "palace": ("Palace", "Castle", "Royal Residence"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Habits:
    """Hours and prices of a category: earliest and latest opening, hours open, most a ticket costs, minutes of a visit."""

    opens: tuple[int, int]
    hours: tuple[int, int]
    ticket: int
    minutes: tuple[int, int]
    closes: float  # how likely it has a closed day


_HABITS = {
    "museum": _Habits((9, 10), (7, 8), 25, (90, 180), 0.85),
    "park": _Habits((6, 8), (10, 13), 5, (60, 120), 0.1),
    "temple": _Habits((7, 9), (8, 10), 12, (45, 90), 0.2),
    "gallery": _Habits((10, 11), (6, 9), 22, (60, 120), 0.85),
    "market": _Habits((8, 16), (5, 7), 0, (60, 90), 0.5),
    "zoo": _Habits((9, 10), (7, 8), 35, (120, 210), 0.3),
    "tower": _Habits((9, 11), (10, 12), 30, (45, 75), 0.1),
    "palace": _Habits((9, 10), (6, 8), 30, (90, 150), 0.7),
}


class Catalog:
    """
    Hotels and points of interest of a world, made city by city when first asked for.

    What it returns is shared: copy it to change it.

    Args:
        seed (`int`):
            Seed of the world.
        geography ([`Geography`]):
            The cities.
    """

    def __init__(self, seed: int, geography: Geography) -> None:
        self._seed = seed
        self._by_code = {city.code: city for city in geography.cities.values()}
        # One entry for each city, of which there are never many.
        self._hotels = lru_cache(maxsize=None)(self._make_hotels)
        self._pois = lru_cache(maxsize=None)(self._make_pois)
        self._places = lru_cache(maxsize=None)(self._make_places)

    def hotels(self, city: City) -> dict[str, dict[str, Any]]:
        """
        Hotels of a city.

        Args:
            city ([`City`]):
                The city.

        Returns:
            `dict[str, dict]`: What never changes about each, by id.
        """
        return self._hotels(city)

    def pois(self, city: City) -> dict[str, dict[str, Any]]:
        """
        Points of interest of a city.

        Args:
            city ([`City`]):
                The city.

        Returns:
            `dict[str, dict]`: Their records, by id.
        """
        return self._pois(city)

    def city_of(self, id: str) -> City | None:
        """
        The city that an id of a hotel or a point of interest speaks of, whether there is such a thing or not.

        Args:
            id (`str`):
                The id.

        Returns:
            [`City`] or `None`: The city, `None` if the id has another form.
        """
        return self._by_code.get(id[2:5]) if id[:2] in ("H-", "P-") else None

    def place(self, id: str) -> Place | None:
        """
        Where a hotel or a point of interest is.

        Args:
            id (`str`):
                Its id.

        Returns:
            [`Place`] or `None`: The place, `None` if there is none.
        """
        city = self.city_of(id)
        return None if city is None else self._places(city).get(id)

    def night(self, hotel: dict[str, Any], city: City, night: date) -> dict[str, int]:
        """
        A night in a hotel.

        Args:
            hotel (`dict`):
                One of [`Catalog.hotels`].
            city ([`City`]):
                Its city.
            night (`date`):
                Date on which the night begins.

        Returns:
            `dict[str, int]`: `price` of one room a night for a stay that begins with this night, and `rooms_left` in
            this night.
        """
        id, usual = hotel["hotel_id"], _STAR_PRICE[hotel["star"]] * _COST.get(city.country, 1.0)
        level, u = draw(self._seed, "hotel price", id), draw(self._seed, "night", id, night.toordinal())
        price = usual * spread(0.75, 1.45, level[0]) * spread(0.9, 1.2, u[0])
        return {"price": round(price * (1.15 if night.weekday() in (4, 5) else 1.0)), "rooms_left": left(12, u[1])}

    def _make_places(self, city: City) -> dict[str, Place]:
        kinds = {"hotel": self.hotels(city), "poi": self.pois(city)}
        return {
            id: Place(id, city.name, kind, row["lat"], row["lon"], city.tz)
            for kind, rows in kinds.items()
            for id, row in rows.items()
        }

    def _make_hotels(self, city: City) -> dict[str, dict[str, Any]]:
        count = whole(_FEWEST_HOTELS, _MOST_HOTELS, draw(self._seed, "hotels", city.name)[0])
        hotels: dict[str, dict[str, Any]] = {}
        names: set[str] = set()
        for number in range(count):
            u = draw(self._seed, "hotel", city.name, number)
            # The first ones see to it that there is something cheap, something good and something between.
            star = (2, 5, 3, 4)[number] if number < 4 else _STARS[int(u[0] * len(_STARS))]
            kinds = _HOTEL_KINDS[star]
            name = _name(names, city, u[1], kinds[int(u[2] * len(kinds))])
            lat, lon = near_centre(city, 9.0, u[3], u[4])
            id = self._id("H", city, number, hotels)
            hotels[id] = {
                "hotel_id": id,
                "name": name,
                "city": city.name,
                "lat": lat,
                "lon": lon,
                "star": star,
                "check_in_from": ("13:00", "14:00", "14:00", "15:00")[int(u[5] * 4)],
                "check_out_until": ("10:00", "11:00", "12:00", "12:00")[int(u[6] * 4)],
                "synthetic": True,
            }
        return dict(sorted(hotels.items()))

    def _make_pois(self, city: City) -> dict[str, dict[str, Any]]:
        count = whole(_FEWEST_POIS, _MOST_POIS, draw(self._seed, "pois", city.name)[0])
        pois: dict[str, dict[str, Any]] = {}
        names: set[str] = set()
        for number in range(count):
            u = draw(self._seed, "poi", city.name, number)
            category = CATEGORIES[number if number < len(CATEGORIES) else int(u[0] * len(CATEGORIES))]
            id, kinds = self._id("P", city, number, pois), _POI_KINDS[category]
            name = _name(names, city, u[1], kinds[int(u[2] * len(kinds))])
            lat, lon = near_centre(city, 14.0, u[3], u[4])
            pois[id] = {"poi_id": id, "name": name, "city": city.name, "category": category, "lat": lat, "lon": lon}
            pois[id] |= _hours(_HABITS[category], city, u[5:])
        return dict(sorted(pois.items()))

    def _id(self, letter: str, city: City, number: int, taken: dict[str, Any]) -> str:
        """An id that cannot be guessed from another one."""
        for attempt in range(1_000):
            u = draw(self._seed, "id", letter, city.name, number, attempt)
            id = f"{letter}-{city.code}" + "".join(_SIGNS[int(x * len(_SIGNS))] for x in u[:3])
            if id not in taken:
                return id
        raise RuntimeError(f"No free id left in {city.name}.")


def _name(taken: set[str], city: City, u: float, kind: str) -> str:
    """A name that no other one of the city has."""
    start = int(u * len(_WORDS))
    for step in range(len(_WORDS)):
        name = f"{city.name} {_WORDS[(start + step) % len(_WORDS)]} {kind}"
        if name not in taken:
            taken.add(name)
            return name
    raise RuntimeError(f"No free name left in {city.name}.")


def _hours(habits: _Habits, city: City, u: tuple[float, ...]) -> dict[str, Any]:
    opens = 60 * whole(*habits.opens, u[0]) + (30 if u[1] < 0.3 else 0)
    closes = min(opens + 60 * whole(*habits.hours, u[2]), 23 * 60)
    closed = []
    if u[3] < habits.closes:
        # Monday in every other case, as in life; any day otherwise.
        closed.append("Monday" if u[4] < 0.5 else WEEKDAYS[int(u[5] * 7)])
        if u[6] < 0.15 and (second := WEEKDAYS[int(u[7] * 7)]) not in closed:
            closed.append(second)
    ticket = 0 if u[8] < 0.25 else round(habits.ticket * _COST.get(city.country, 1.0) * spread(0.3, 1.0, u[9]))
    return {
        "open": f"{opens // 60:02d}:{opens % 60:02d}",
        "close": f"{closes // 60:02d}:{closes % 60:02d}",
        "closed_days": sorted(closed, key=WEEKDAYS.index),
        "ticket": ticket,
        "visit_min": 15 * whole(habits.minutes[0] // 15, habits.minutes[1] // 15, u[10]),
        "synthetic": True,
    }
