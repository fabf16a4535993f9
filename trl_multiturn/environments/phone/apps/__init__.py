"""The apps of the phone."""

from .app import App
from .notes import Notes
from .settings import Settings


APPS: dict[str, App] = {app.name: app for app in (Notes(), Settings())}
