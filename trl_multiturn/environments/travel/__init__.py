"""A travel-planning sandbox: a deterministic world, its tools, a cache for any tool, tasks and a solver."""

from .backend import Backend, TransientError
from .cache import ToolCache
from .cache_store import CacheError
from .errors import ToolError
from .faults import RateLimit, TransientFailures, Truncation
from .itinerary import Itinerary, ItineraryError, itinerary_schema, parse_itinerary
from .query import Stay, TravelQuery


__all__ = [
    "Backend",
    "CacheError",
    "Itinerary",
    "ItineraryError",
    "RateLimit",
    "Stay",
    "ToolCache",
    "ToolError",
    "TransientError",
    "TransientFailures",
    "TravelQuery",
    "Truncation",
    "itinerary_schema",
    "parse_itinerary",
]
