"""Random actions on a phone, and what tests in a browser share."""

import os
import random

import pytest

from trl_multiturn.environments.phone.actions import Action, ActionError
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.browser import find_chromium
from trl_multiturn.environments.phone.layout import HEIGHT, WIDTH, tappable


TEXTS = ("abc", " 07:30", "Straße 北京 😀", "<b>&amp;", "x" * 150)


def require_browser():
    """Skip the test if there is no browser; fail where there must be one."""
    try:
        import playwright  # noqa: F401

        missing = None if find_chromium() else "no Chromium is installed"
    except ImportError:
        missing = "playwright is not installed"
    if missing and os.environ.get("TRL_MULTITURN_REQUIRE_BROWSER") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


def random_action(rng, state):
    """An action that is likely to do something: most touches hit a widget, and text is typed where a field has the focus."""
    number = rng.random()
    if state.focus is not None and number < 0.5:
        key = Action("key", text=rng.choice(["Enter", "Backspace"]))
        return Action("type", text=rng.choice(TEXTS)) if number < 0.35 else key
    if number < 0.6:
        return Action("click", coordinate=_point(rng, state))
    if number < 0.68:
        return Action("long_press", coordinate=_point(rng, state), time=rng.choice([0.2, 1, 2]))
    if number < 0.84:
        start, end = [(rng.randrange(WIDTH), rng.randrange(HEIGHT)) for _ in range(2)]
        return Action("swipe", coordinate=start, coordinate2=end)
    if number < 0.87:
        return Action("system_button", button=rng.choice(["Back", "Home", "Menu", "Enter"]))
    if number < 0.96:
        return Action("open", text=rng.choice([*APPS, "Bank"]))
    return rng.choice([Action("type", text="lost"), Action("wait", time=1)])


def _point(rng: random.Random, state):
    boxes = tappable(state.screen(), state.scroll)
    if boxes and rng.random() < 0.8:
        box = rng.choice(boxes)[1]
        return rng.randrange(box.left, box.right), rng.randrange(box.top, box.bottom)
    return rng.randrange(WIDTH), rng.randrange(HEIGHT)


def outcome(backend, action):
    """What a backend answers to an action, errors included."""
    try:
        return backend.perform(action)
    except ActionError as error:
        return f"error: {error}"
