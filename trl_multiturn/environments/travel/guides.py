"""Guides to the cities, written from the world's own facts, and their search."""

import re
from threading import Lock
from typing import Any

from ..search.index import BM25Index, Document
from .arguments import CATEGORIES
from .catalog import Catalog
from .geography import City, Geography, distance_km


_SNIPPET_CHARS = 400
# Words of the guides that a Chinese query may have.
_ENGLISH = {
    "博物馆": "museum", "公园": "park", "寺": "temple", "画廊": "gallery", "美术馆": "gallery", "市场": "market",
    "动物园": "zoo", "塔": "tower", "宫": "palace", "酒店": "hotels", "机场": "airports", "火车": "trains",
}  # fmt: skip


class Guides:
    """
    Guides of all cities, searched by BM25. They are written and indexed at the first search.

    Args:
        geography ([`Geography`]):
            The cities.
        catalog ([`Catalog`]):
            Their hotels and points of interest.
    """

    def __init__(self, geography: Geography, catalog: Catalog) -> None:
        self._geography = geography
        self._catalog = catalog
        self._english = _ENGLISH | {city.zh: city.name for city in geography.cities.values()}
        self._chinese = re.compile("|".join(sorted(self._english, key=len, reverse=True)))
        self._lock = Lock()
        self._index: BM25Index | None = None

    def search(self, query: str, top_k: int) -> list[dict[str, Any]]:
        """
        Find guides.

        Args:
            query (`str`):
                Words to look for. Chinese names of cities and of what the guides are about are understood.
            top_k (`int`):
                Largest number of results.

        Returns:
            `list[dict]`: `doc_id`, `title`, `snippet` and `synthetic`, best first.

        Raises:
            `ImportError`: If `bm25s` is not installed.
        """
        # Chinese is written without spaces, which the index splits at.
        query = self._chinese.sub(lambda found: f" {self._english[found[0]]} ", query)
        return [
            {"doc_id": found.id, "title": found.title, "snippet": found.text[:_SNIPPET_CHARS], "synthetic": True}
            for found in self._built().search(query, top_k)
        ]

    def _built(self) -> BM25Index:
        with self._lock:
            if self._index is None:
                cities = self._geography.cities.values()
                self._index = BM25Index(document for city in cities for document in self._write(city))
            return self._index

    def _write(self, city: City) -> list[Document]:
        pois = list(self._catalog.pois(city).values())
        documents = [
            Document(f"W-{city.code}-1", f"{city.name} ({city.zh}): getting there", self._arrival(city)),
            Document(f"W-{city.code}-2", f"{city.name} ({city.zh}): where to stay", self._hotels(city)),
        ]
        for number, category in enumerate(CATEGORIES, start=3):
            told = " ".join(_opening(poi) for poi in pois if poi["category"] == category)
            documents.append(Document(f"W-{city.code}-{number}", f"{city.name} ({city.zh}): {category}", told))
        return documents

    def _arrival(self, city: City) -> str:
        airports = ", ".join(
            f"{code} ({distance_km(city, self._geography.places[code]):.0f} km from the centre)"
            for code in city.airports
        )
        rail = f"Trains stop at {city.stations[0]}." if city.stations else "It is on no railway of this guide."
        return f"Airports of {city.name}: {airports}. {rail} The time zone is {city.tz}."

    def _hotels(self, city: City) -> str:
        told = ". ".join(
            f"{row['name']} ({row['hotel_id']}): {row['star']} stars" for row in self._catalog.hotels(city).values()
        )
        return f"Hotels in {city.name}: {told}. Ask for prices and rooms before you book."


def _opening(poi: dict[str, Any]) -> str:
    closed = f"closed on {' and '.join(poi['closed_days'])}" if poi["closed_days"] else "open every day"
    ticket = f"a ticket is {poi['ticket']} dollars" if poi["ticket"] else "entry is free"
    return f"{poi['name']} ({poi['poi_id']}): {poi['open']} to {poi['close']}, {closed}; {ticket}; plan {poi['visit_min']} minutes."
