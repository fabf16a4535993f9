import random

import pytest

from trl_multiturn.environments.phone.actions import Action, ActionError
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.apps.app import App
from trl_multiturn.environments.phone.backend import NOTHING, StateBackend
from trl_multiturn.environments.phone.layout import HEIGHT, WIDTH, Popup, Screen, Widget
from trl_multiturn.environments.phone.state import PhoneState

from .phones import outcome, random_action


class Plain(App):
    """A field, a long list, tabs, and a pop-up behind a long press; it writes down what happened."""

    name = "Plain"

    def data(self):
        return {"log": ""}

    def screen(self, state, name, params):
        field = Widget("text", "field", "Text", value=state.field("text") or "")
        rows = tuple(Widget(f"row:{i}", "row", f"Row {i}") for i in range(30))
        return Screen("Plain", (field, *rows), tabs=(Widget("tab", "button", "Tab", on=True),))

    def tap(self, state, screen, params, widget):
        self._write(state, f"tap {widget}")

    def long_press(self, state, screen, params, widget):
        state.show_popup("ask", id=widget)
        return True

    def popup(self, state, name, params):
        return Popup("Sure?", params["id"], (Widget("yes", "button", "Yes"), Widget("no", "button", "No")))

    def tap_popup(self, state, name, params, widget):
        self._write(state, f"{widget} {params['id']}")

    def submit(self, state, screen, params, field):
        self._write(state, f"submit {state.field(field)}")
        return True

    def _write(self, state, event):
        state.set("Plain", "log", value=f"{state.get('Plain', 'log')}{event}; ")


@pytest.fixture
def phone():
    backend = StateBackend()
    backend.reset(PhoneState({"Plain": Plain()}))
    backend.perform(Action("open", text="plain"))
    return backend


def log(backend):
    return backend.state.get("Plain", "log")


def swipe(start, end):
    return Action("swipe", coordinate=start, coordinate2=end)


def test_taps_and_long_presses(phone):
    assert phone.perform(Action("click", coordinate=(100, 56 * 2 + 1))) == ""
    assert phone.perform(Action("long_press", coordinate=(100, 56 * 3), time=0.4)) == ""
    assert phone.perform(Action("long_press", coordinate=(100, 56 * 4), time=0.5)) == ""
    assert phone.state.popup is not None
    # Under a pop-up there is nothing to tap or to scroll.
    assert phone.perform(Action("click", coordinate=(5, 200))) == NOTHING
    assert phone.perform(swipe((100, 600), (100, 200))) == NOTHING
    assert phone.perform(Action("click", coordinate=(100, 56 * 7 + 20))) == ""
    assert log(phone) == "tap row:0; tap row:1; yes row:2; "


@pytest.mark.parametrize(
    ("start", "end", "scroll"),
    [
        ((100, 600), (100, 200), 400),
        ((100, 600), (300, 590), 0),
        ((100, 600), (110, 590), 10),
        ((100, 20), (100, 700), 0),
        ((100, 760), (100, 100), 0),
        ((100, 200), (100, 600), 0),
        ((0, 727), (0, 0), 727),
    ],
)
def test_swipes_scroll_if_they_start_in_the_body_and_go_up_or_down(phone, start, end, scroll):
    assert phone.perform(swipe(start, end)) == ("" if scroll else NOTHING)
    assert phone.state.scroll == scroll


def test_scrolling_ends_at_the_last_row(phone):
    for _ in range(5):
        phone.perform(swipe((100, 700), (100, 60)))
    assert phone.state.scroll == 31 * 56 - 12 * 56
    phone.perform(Action("click", coordinate=(100, HEIGHT - 57)))
    assert log(phone) == "tap row:29; "
    assert phone.perform(swipe((100, 700), (100, 60))) == NOTHING


def test_typing(phone):
    field = Action("click", coordinate=(100, 60))
    with pytest.raises(ActionError, match="tap a field first"):
        phone.perform(Action("type", text="abc"))
    phone.perform(field)
    phone.perform(Action("type", text="ab"))
    phone.perform(Action("type", text="cd"))
    phone.perform(Action("key", text="BackSpace"))
    assert phone.state.field("text") == "abc"
    phone.perform(field)
    phone.perform(Action("type", text="new"))
    assert phone.perform(Action("key", text="enter")) == ""
    assert phone.perform(Action("system_button", button="Enter")) == NOTHING
    assert log(phone) == "submit new; "


def test_system(phone):
    phone.state.toast = "Saved"
    assert phone.perform(Action("wait", time=2)) == ""
    assert phone.state.toast == "" and log(phone) == ""
    assert phone.perform(Action("system_button", button="Menu")) == NOTHING
    assert phone.perform(Action("key", text="keycode_back")) == ""
    assert phone.state.app is None
    assert phone.perform(Action("system_button", button="Home")) == NOTHING
    assert phone.perform(Action("terminate", status="success")) == ""
    with pytest.raises(ActionError, match="There are Plain"):
        phone.perform(Action("open", text="Bank"))
    with pytest.raises(ActionError, match="keys of this phone"):
        phone.perform(Action("key", text="F5"))


def test_it_must_be_reset_with_a_state():
    backend = StateBackend()
    with pytest.raises(RuntimeError, match="reset"):
        backend.screenshot()
    with pytest.raises(ValueError, match="state"):
        backend.reset(None)


def test_no_random_action_breaks_the_phone():
    for seed in range(20):
        backend, rng = StateBackend(), random.Random(seed)
        backend.reset(PhoneState(APPS))
        for _ in range(100):
            before = backend.state.to_dict()
            answer = outcome(backend, random_action(rng, backend.state))
            if answer.startswith("error: "):
                assert backend.state.to_dict() == before
    assert backend.size == (WIDTH, HEIGHT)
