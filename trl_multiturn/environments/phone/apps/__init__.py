"""The apps of the phone."""

from .alarms import Alarms
from .app import App
from .hotels import Hotels
from .live import Live
from .messages import Messages
from .music import Music
from .notes import Notes
from .settings import Settings
from .shop import Shop


# In the order of the home screen.
APPS: dict[str, App] = {
    app.name: app for app in (Shop(), Hotels(), Notes(), Settings(), Messages(), Alarms(), Music(), Live())
}
