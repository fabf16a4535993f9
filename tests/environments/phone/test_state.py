"""What a state keeps of its screen is what it would make anew."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.environments.phone import PhoneState
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.layout import tappable
from trl_multiturn.environments.phone.oracle import apply
from trl_multiturn.environments.phone.tasks import TEMPLATES

from .walks import random_step


def check(state):
    anew = PhoneState.from_dict(APPS, state.to_dict())
    assert state.screen() == anew.screen()
    assert list(state.in_sight()) == tappable(anew.screen(), anew.scroll)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(TEMPLATES)), st.integers(0, 10**6))
def test_the_screen_kept_is_the_screen_made_anew(name, seed):
    rng = random.Random(seed)
    task = TEMPLATES[name](rng)
    state = task.initial_state()
    states = [state]
    for _ in range(12):
        # From any state so far: copies share what they keep until one of them changes.
        state = apply(rng.choice((state, rng.choice(states))), random_step(state, rng, task.texts))
        states.append(state)
    for state in states:
        check(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.set("Shop", "products", "p1", "name", value="Other"),
        lambda state: state.remove("Shop", "products", "p1"),
        lambda state: state.push("cart"),
        lambda state: state.replace("orders"),
        lambda state: state.go_home(),
        lambda state: state.fill("search", "text"),
        lambda state: state.show_popup("coupon"),
        lambda state: state.show_toast("Hello"),
        lambda state: setattr(state, "focus", "search"),
        lambda state: state.open_app("Settings"),
    ],
)
def test_every_change_is_seen(change):
    state = PhoneState(APPS)
    state.open_app("Shop")
    before, kept = state.screen(), state.copy()
    assert state.screen() is before is kept.screen()
    change(state)
    check(state)
    assert kept.screen() is before
    check(kept)


def test_scrolling_moves_what_is_in_sight():
    state = PhoneState(APPS)
    state.open_app("Settings")
    for _ in range(3):
        seen = state.in_sight()
        assert state.scroll_by(20)
        assert state.in_sight() != seen
        check(state)
