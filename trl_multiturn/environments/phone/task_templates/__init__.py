"""Templates of tasks on the phone, a module for each app."""

import random
from collections.abc import Callable

from ..task import PhoneTask
from .notes import TEMPLATES as NOTES
from .settings import TEMPLATES as SETTINGS


ALL_TEMPLATES: dict[str, Callable[[random.Random], PhoneTask]] = {**NOTES, **SETTINGS}
