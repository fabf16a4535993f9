"""The apps of the phone."""

from .app import App
from .hotels import Hotels
from .live import Live
from .music import Music
from .notes import Notes
from .settings import Settings
from .shop import Shop


APPS: dict[str, App] = {app.name: app for app in (Shop(), Hotels(), Notes(), Settings(), Music(), Live())}
