"""What tests of single apps share: a phone with an app open, what it shows, and taps on it."""

from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.state import PhoneState


def phone(app, **data):
    """A phone with an open app, some of whose data is not what it starts with."""
    state = PhoneState(APPS)
    for key, value in data.items():
        state.set(app, key, value=value)
    state.open_app(app)
    return state


def shown(state):
    """Ids of what stands in the body."""
    return [widget.id for widget in state.screen().body]


def rows(state):
    """Texts of what stands in the body."""
    return [widget.text for widget in state.screen().body]


def buttons(state):
    """Texts of a pop-up's buttons."""
    return [widget.text for widget in state.screen().popup.buttons]


def type_into(state, field, text):
    assert state.tap(field)
    assert state.type_text(text)


def tap_all(state, *widgets):
    for widget in widgets:
        assert state.tap(widget), widget
