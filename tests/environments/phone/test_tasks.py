import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.state import PhoneState
from trl_multiturn.environments.phone.task import MAX_JSON_LENGTH
from trl_multiturn.environments.phone.tasks import (
    TEMPLATES,
    Condition,
    PhoneTask,
    generate_phone_tasks,
    phone_dataset,
)

from .walks import walk


TASKS = generate_phone_tasks(2 * len(TEMPLATES), seed=3)


def small_task(**changes):
    parts = {
        "name": "notes.try",
        "app": "Notes",
        "instruction": "Do it.",
        "instruction_zh": "做。",
        "setup": ((("Notes", "order"), "By title"),),
        "goal": (Condition(("Notes", "notes", "1"), "absent"),),
        "allowed": (("Notes", "notes", "1"),),
        "apps": ("Notes",),
    }
    return PhoneTask(**{**parts, **changes})


def test_there_are_enough_templates_for_each_app():
    assert list(APPS) == ["Shop", "Hotels", "Notes", "Settings", "Messages", "Alarms", "Music", "Live"]
    for name in APPS:
        assert sum(template.startswith(name.lower() + ".") for template in TEMPLATES) >= 8
    assert len(TEMPLATES) >= 60


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_start_of_every_task(task):
    state = task.initial_state()
    assert not task.is_done(state)
    assert task.side_effects(state) == []
    assert state.app is None
    assert task.name in TEMPLATES and task.app.lower() == task.name.split(".")[0]
    assert task.app in task.apps
    assert task.instruction.isascii() and not task.instruction_zh.isascii()
    assert PhoneTask.from_json(task.to_json()) == task
    # The order of things on the screens survives, too.
    assert json.dumps(PhoneTask.from_json(task.to_json()).initial_state().data) == json.dumps(state.data)


def test_instructions_are_distinct_and_depend_on_the_seed_alone():
    tasks = generate_phone_tasks(300, seed=5)
    assert len({task.instruction for task in tasks}) == 300
    assert tasks[:40] == generate_phone_tasks(40, seed=5)
    assert tasks[:40] != generate_phone_tasks(40, seed=6)
    assert {task.name for task in tasks[: len(TEMPLATES)]} == set(TEMPLATES)


def test_tasks_of_some_apps_or_templates():
    tasks = generate_phone_tasks(50, apps=["Notes", "Alarms"])
    assert {task.app for task in tasks} == {"Notes", "Alarms"}
    tasks = generate_phone_tasks(6, names=["notes.pin", "alarms.delete"])
    assert [task.name for task in tasks] == ["notes.pin", "alarms.delete"] * 3


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`apps` must be among Shop, .*'Mail'"):
        generate_phone_tasks(1, apps=["Mail"])
    with pytest.raises(ValueError, match="`names` must be among .*'notes.burn'"):
        generate_phone_tasks(1, names=["notes.burn"])
    with pytest.raises(ValueError, match="must not be negative"):
        generate_phone_tasks(-1)
    with pytest.raises(ValueError, match="no more than 3 different tasks"):
        generate_phone_tasks(100, names=["notes.sort"])
    with pytest.raises(ValueError, match="`language` must be one of"):
        phone_dataset(TASKS[:1], "fr")


def test_dataset():
    tasks = TASKS[:5]
    rows = phone_dataset(tasks, "both").to_list()
    for i, (row, task) in enumerate(zip(rows, tasks, strict=True)):
        instruction = task.instruction_zh if i % 2 else task.instruction
        assert row["instruction"] == instruction
        assert row["prompt"] == [{"role": "user", "content": [{"type": "text", "text": instruction}]}]
        assert PhoneTask.from_json(row["task"]) == task
        assert (row["app"], row["name"]) == (task.app, task.name)
    assert phone_dataset(tasks, "zh")["instruction"] == [task.instruction_zh for task in tasks]


def test_conditions():
    state = PhoneState(APPS)
    notes = ("Notes", "notes")
    holding = [
        Condition(("Notes", "order"), "equals", "Newest first"),
        Condition((*notes, "1"), "exists"),
        Condition((*notes, "9"), "absent"),
        Condition(notes, "contains", {"title": "Ideas", "folder": "Home"}),
        Condition(notes, "lacks", {"title": "Ideas", "folder": "Work"}),
        Condition(notes, "count", 3),
        Condition(("ui", "app"), "equals", None),
        Condition(("ui", "screen"), "equals", "home"),
        Condition(("ui", "params", "id"), "absent"),
    ]
    for condition in holding:
        assert condition.holds(state), condition
    failing = [
        Condition(("Notes", "order"), "equals", "By title"),
        Condition(("Notes", "nothing"), "equals", None),
        Condition((*notes, "9"), "exists"),
        Condition((*notes, "1"), "absent"),
        Condition(notes, "contains", {"title": "Ideas", "folder": "Work"}),
        Condition(notes, "contains", {"nothing": None}),
        Condition(notes, "lacks", {"title": "Ideas"}),
        Condition(notes, "count", 2),
        Condition(("Notes", "order", "deeper"), "exists"),
        Condition(("ui", "app"), "equals", "Notes"),
    ]
    for condition in failing:
        assert not condition.holds(state), condition
    state.open_app("Notes")
    state.tap("note:3")
    assert Condition(("ui", "params", "id"), "equals", "3").holds(state)


def test_side_effects_are_named():
    task = small_task()
    state = task.initial_state()
    state.set("Notes", "notes", "1", "title", value="Other")
    state.remove("Notes", "notes", "1")
    assert task.side_effects(state) == []
    state.remove("Notes", "notes", "2")
    state.set("Notes", "notes", "3", "pinned", value=True)
    state.set("Notes", "bin", "2", value={"title": "Ideas"})
    state.set("Alarms", "snooze", value="5 minutes")
    effects = ["Alarms.snooze", "Notes.bin.2", "Notes.notes.2", "Notes.notes.3.pinned"]
    assert task.side_effects(state) == effects
    state.set("Alarms", "snooze", value="10 minutes")
    assert task.side_effects(state) == effects[1:]


@settings(max_examples=40, deadline=None)
@given(task=st.sampled_from(TASKS), seed=st.integers(0, 10**6))
def test_side_effects_on_random_walks(task, seed):
    start = task.initial_state()
    nothing_allowed = replace(task, allowed=())
    for state in walk(start, seed, 25, task.texts):
        changed = _leaves(start.data) ^ _leaves(state.data)
        allowed = {path for path, _ in changed if any(path[: len(prefix)] == prefix for prefix in task.allowed)}
        forbidden = {path for path, _ in changed} - allowed
        assert bool(task.side_effects(state)) == bool(forbidden)
        assert bool(nothing_allowed.side_effects(state)) == bool(changed)


def _leaves(value, path=()):
    if isinstance(value, dict):
        return {leaf for key, inner in value.items() for leaf in _leaves(inner, (*path, key))}
    return {(path, json.dumps(value))}


@settings(max_examples=40, deadline=None)
@given(task=st.sampled_from(TASKS), seed=st.integers(0, 10**6))
def test_states_as_json_on_random_walks(task, seed):
    for state in walk(task.initial_state(), seed, 20, task.texts):
        again = PhoneState.from_dict(APPS, json.loads(json.dumps(state.to_dict())))
        assert again == state
        assert again.screen() == state.screen()
        assert task.is_done(again) == task.is_done(state)
        assert task.side_effects(again) == task.side_effects(state)


@settings(max_examples=60, deadline=None)
@given(task=st.sampled_from(TASKS), seed=st.integers(0, 10**6))
def test_labels_fit_and_ids_are_unique(task, seed):
    for state in walk(task.initial_state(), seed, 40):
        screen = state.screen()
        popup = screen.popup.buttons if screen.popup else ()
        widgets = (*screen.body, *screen.actions, *screen.tabs)
        assert len({widget.id for widget in widgets}) == len(widgets)
        assert len({widget.id for widget in popup}) == len(popup)
        assert len(screen.actions) <= 2 and len(screen.tabs) <= 4 and len(popup) <= 4
        for widget in (*widgets, *popup):
            typed_by_walk = len(widget.text) > 100 or len(widget.value) > 100
            assert typed_by_walk or len(widget.text) <= 22, widget
            assert len(widget.detail) <= 34 or len(widget.detail) > 100, widget
        for widget in screen.actions:
            assert len(widget.text) <= 8, widget
        for widget in screen.tabs:
            assert len(widget.text) <= 30 // len(screen.tabs), widget


BROKEN = [
    ("[]", "must be an object with"),
    ("{", "must be JSON"),
    ("[" * 5000, "must be JSON"),
    ("x" * (MAX_JSON_LENGTH + 1), "at most"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_text_that_is_no_task(text, message):
    with pytest.raises(ValueError, match=message):
        PhoneTask.from_json(text)


BROKEN_FIELDS = [
    ("instruction", "", "`instruction` must be a text"),
    ("name", 3, "`name` must be a text"),
    ("app", "Mail", "`app` must be one of"),
    ("apps", ["Mail"], "`apps` must be among"),
    ("apps", "Notes", "`apps` must be a list"),
    ("texts", [3], "`texts` must hold texts"),
    ("texts", ["x"] * 65, "at most 64 entries"),
    ("allowed", [[]], "`allowed` must start with an app's name"),
    ("allowed", [["ui"]], "`allowed` must start with an app's name"),
    ("setup", [["Notes", "order"]], "`setup` must hold texts"),
    ("setup", [[["Notes", "order"]]], "pairs of a path and a value"),
    ("setup", [[["Notes", "order"], 3]], "does not fit the app's data"),
    ("setup", [[["Notes", "nothing"], {}]], "does not fit the app's data"),
    ("setup", [[["Notes"], {}]], "does not fit the app's data"),
    ("setup", [[["Notes", "order", "x"], "y"]], "does not fit the app's data"),
    ("goal", [{"path": ["ui"], "op": "equals"}], "condition must be an object"),
    ("goal", [{"path": ["Mail"], "op": "equals", "value": 1}], "condition's path must start"),
    ("goal", [{"path": ["ui", "app"], "op": "is", "value": 1}], "`op` must be one of"),
    ("goal", [{"path": ["Notes", "notes"], "op": "contains", "value": 1}], "must be an object"),
    ("goal", [{"path": ["Notes", "notes"], "op": "count", "value": True}], "must be a whole number"),
]


@pytest.mark.parametrize(("field", "value", "message"), BROKEN_FIELDS)
def test_task_with_a_broken_field(field, value, message):
    values = json.loads(small_task().to_json())
    values[field] = value
    with pytest.raises(ValueError, match=message):
        PhoneTask.from_json(json.dumps(values))


def test_task_with_a_key_too_many():
    values = {**json.loads(small_task().to_json()), "reward": 1}
    with pytest.raises(ValueError, match="must be an object with"):
        PhoneTask.from_json(json.dumps(values))


def test_an_empty_goal_is_no_task():
    values = {**json.loads(small_task().to_json()), "goal": []}
    with pytest.raises(ValueError, match="`goal` must not be empty"):
        PhoneTask.from_json(json.dumps(values))


def test_templates_draw_from_their_generator_alone():
    for template in TEMPLATES.values():
        random.seed(1)
        first = template(random.Random(9))
        random.seed(2)
        assert template(random.Random(9)) == first
