"""A travel-planning sandbox: a deterministic world, its tools, a cache for any tool, tasks and a solver."""

from .arguments import CATEGORIES
from .backend import Backend, TransientError
from .cache import ToolCache
from .cache_store import CacheError
from .demonstrations import demonstrate, demonstrations
from .environment import TravelEnvironment
from .errors import ToolError
from .faults import RateLimit, TransientFailures, Truncation
from .geography import City, Place
from .itinerary import Itinerary, ItineraryError, itinerary_schema, parse_itinerary
from .play import play
from .query import Stay, TravelQuery
from .routes import RouteData
from .solver import Solution, solve
from .tasks import TRAVEL_SYSTEM_PROMPT, generate_tasks
from .world import TravelWorld


__all__ = [
    "Backend",
    "CATEGORIES",
    "CacheError",
    "City",
    "Itinerary",
    "ItineraryError",
    "Place",
    "RateLimit",
    "RouteData",
    "Solution",
    "Stay",
    "ToolCache",
    "ToolError",
    "TRAVEL_SYSTEM_PROMPT",
    "TransientError",
    "TransientFailures",
    "TravelEnvironment",
    "TravelQuery",
    "TravelWorld",
    "Truncation",
    "demonstrate",
    "demonstrations",
    "generate_tasks",
    "itinerary_schema",
    "parse_itinerary",
    "play",
    "solve",
]
