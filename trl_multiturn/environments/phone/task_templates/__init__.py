"""Templates of tasks on the phone, a module for each app."""

import random
from collections.abc import Callable

from ..task import PhoneTask
from .hotels import TEMPLATES as HOTELS
from .live import TEMPLATES as LIVE
from .music import TEMPLATES as MUSIC
from .notes import TEMPLATES as NOTES
from .settings import TEMPLATES as SETTINGS
from .shop import TEMPLATES as SHOP


ALL_TEMPLATES: dict[str, Callable[[random.Random], PhoneTask]] = {
    **SHOP,
    **MUSIC,
    **LIVE,
    **HOTELS,
    **NOTES,
    **SETTINGS,
}
