"""Templates of tasks on the phone, a module for each app."""

import random
from collections.abc import Callable

from ..task import PhoneTask
from .alarms import TEMPLATES as ALARMS
from .hotels import TEMPLATES as HOTELS
from .live import TEMPLATES as LIVE
from .messages import TEMPLATES as MESSAGES
from .music import TEMPLATES as MUSIC
from .notes import TEMPLATES as NOTES
from .settings import TEMPLATES as SETTINGS
from .shop import TEMPLATES as SHOP


# In the apps' order on the home screen.
ALL_TEMPLATES: dict[str, Callable[[random.Random], PhoneTask]] = {
    **SHOP,
    **HOTELS,
    **NOTES,
    **SETTINGS,
    **MESSAGES,
    **ALARMS,
    **MUSIC,
    **LIVE,
}
