"""Rows whose task is JSON of the right form and nonsense inside: refused at the reset, or the end of one episode."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.environments.lost import EnvironmentLostError
from trl_multiturn.environments.phone import Oracle, PhoneEnvironment, generate_phone_tasks
from trl_multiturn.environments.phone.actions import ActionError, scale_action
from trl_multiturn.environments.phone.layout import HEIGHT, WIDTH
from trl_multiturn.environments.phone.state import AppError, PhoneState
from trl_multiturn.environments.phone.task_check import check_setup
from trl_multiturn.environments.phone.tasks import TEMPLATES

from .phones import random_action


TASKS = generate_phone_tasks(len(TEMPLATES), seed=5)
NOTE = {"title": "A", "text": "b", "folder": "Home", "pinned": False}
JUNK = (None, 3, -1, 1.5, "", "x", "²", True, [], {}, [1], {"1": 3}, {"a": {}}, "\0", "a\nb", "x" * 3000, float("nan"))


def notes_task(value, path=("Notes", "notes"), **changes):
    """A task whose notes are something else."""
    values = json.loads(next(task for task in TASKS if task.name == "notes.delete").to_json())
    return json.dumps({**values, "setup": [[list(path), value]], **changes})


def places(value, path=()):
    """Paths of everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, v in inner for place in places(v, (*path, key)))]


def spoil(value, rng):
    """Take out, rename or replace one thing in a JSON value."""
    *way, last = rng.choice(places(value)[1:])
    for key in way:
        value = value[key]
    kind = rng.random()
    if kind < 0.3:
        del value[last]
    elif kind < 0.4 and isinstance(value, dict):
        value[rng.choice(("x", "²", "-1", ""))] = value.pop(last)
    else:
        value[last] = rng.choice(JUNK)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (notes_task({"1": 3}), "The task's `setup` does not fit: the app Notes failed at `screen`"),
        (notes_task({"1": {**NOTE, "title": 3}}), "the screen 'Notes' has something that cannot be drawn"),
        (notes_task({"x": NOTE}), "the app Notes failed at `screen`"),
        (notes_task({"1": {"title": "A", "text": "b", "pinned": False}}), "KeyError: 'folder'"),
        (notes_task({"1": {**NOTE, "pinned": []}}), "cannot be drawn"),
        (notes_task({"1": None}, ("Notes", "bin")), "the app Notes failed at `screen`"),
        (notes_task({}, ("Notes", *"abcdefghijklmnopq")), "have at most 16 keys"),
        (notes_task({"1": {**NOTE, "title": "\ud800"}}), "A task must be JSON"),
        (notes_task(json.loads('{"a":' * 40 + "1" + "}" * 40)), "nested at most 16 levels deep, got 4"),
        ("[" * 50_000, "A task must be JSON"),
        (3, "must hold texts, got int"),
        ({"name": "x"}, "must hold texts, got dict"),
    ],
    ids=["number", "no_text", "id", "key", "switch", "bin", "path", "surrogate", "deep", "brackets", "int", "dict"],
)
def test_nonsense_is_refused_at_the_reset(text, said):
    with pytest.raises(ValueError, match="task") as caught:
        PhoneEnvironment(scale=0.1).reset(task=text)
    assert said in str(caught.value) and len(str(caught.value)) < 800


def test_a_refused_row_does_not_spoil_the_next():
    phone = PhoneEnvironment(scale=0.1)
    for _ in range(2):
        with pytest.raises(ValueError, match="does not fit"):
            phone.reset(task=notes_task({"1": 3}))
        assert phone.reset(task=notes_task({"1": NOTE}))[0]["type"] == "image"


@pytest.mark.parametrize("name", list(TEMPLATES)[::6])
def test_sound_tasks_pass(name):
    check_setup(TEMPLATES[name](random.Random(1)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(TASKS), st.integers(1, 3), st.booleans())
def test_whatever_a_task_holds_no_other_error_comes_out(seed, task, count, everywhere):
    rng, values = random.Random(seed), json.loads(task.to_json())
    for _ in range(count):
        if everywhere or values["setup"]:
            spoil(values if everywhere else values["setup"], rng)
    phone = PhoneEnvironment(scale=0.1, max_steps=15)
    try:
        phone.reset(task=json.dumps(values))
    except ValueError as error:
        assert len(str(error)) < 800
        return
    try:
        while not phone.truncated:
            action = scale_action(random_action(rng, phone.state), (WIDTH, HEIGHT), phone.image_size)
            try:
                phone.mobile_use(**action.arguments())
            except ActionError:
                pass
    except EnvironmentLostError as error:
        assert str(error).startswith("The phone is lost: ")
    assert phone.is_done in (True, False) and isinstance(phone.side_effects, list)
    Oracle(phone.task, max_depth=2, max_states=200).distance(phone.states[-1])


class TestAnAppThatFailsInTheMiddle:
    @pytest.fixture
    def phone(self):
        """A phone whose notes are spoilt behind its back after the reset."""
        phone = PhoneEnvironment(scale=0.25, progress_reward=1.0)
        phone.reset(task=notes_task({"1": NOTE}))
        phone.mobile_use("open", text="Notes")
        return phone

    def test_it_is_the_end_of_the_episode(self, phone):
        phone.state.set("Notes", "notes", "1", value={"title": "A"})
        with pytest.raises(EnvironmentLostError) as caught:
            phone.mobile_use("click", coordinate=[20, 30])
        assert str(caught.value).startswith(
            "The phone is lost: the app Notes failed at `screen` ('main', {}): KeyError: '"
        )
        assert len(phone.actions) == len(phone.turn_rewards) == len(phone.states) - 1 == 2
        assert phone.is_done is False
        assert len(phone.reset(task=notes_task({"1": NOTE}))) == 1 and phone.turn_rewards == []

    def test_what_cannot_be_drawn_is_so_too(self, phone):
        phone.state.set("Notes", "notes", "1", "title", value=3)
        with pytest.raises(EnvironmentLostError, match="The phone is lost: AttributeError: 'int' object"):
            phone.mobile_use("wait", time=1)
        assert phone.actions[-1][0].action == "wait"

    def test_the_oracle_finds_no_way_through_it(self, phone):
        state = phone.state.copy()
        oracle = Oracle(phone.task)
        assert oracle.distance(state) is not None
        state.set("Notes", "notes", "9", value=3)
        assert oracle.distance(state) is None and oracle.solve(state) is None and oracle.optimal_steps(state) == []

    @pytest.mark.parametrize(
        "act",
        [
            PhoneState.screen,
            PhoneState.back,
            lambda state: state.tap("note:1"),
            lambda state: state.long_press("note:1"),
            lambda state: state.scroll_by(10),
        ],
    )
    def test_inputs_raise_one_kind_of_error(self, phone, act):
        state = phone.state.copy()
        state.push("note", id="none")
        if act is PhoneState.back:
            assert act(state)
            assert state.screen().title == "Notes"
        else:
            with pytest.raises(AppError, match="the app Notes failed at `screen` .'note', .'id': 'none'.*: TypeError"):
                act(state)
