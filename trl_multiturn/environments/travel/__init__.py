"""A travel-planning sandbox: a deterministic world, its tools, a cache for any tool, tasks and a solver."""

from .errors import ToolError
from .itinerary import Itinerary, ItineraryError, itinerary_schema, parse_itinerary
from .query import Stay, TravelQuery


__all__ = [
    "Itinerary",
    "ItineraryError",
    "Stay",
    "ToolError",
    "TravelQuery",
    "itinerary_schema",
    "parse_itinerary",
]
