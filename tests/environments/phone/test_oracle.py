import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.environments.phone.oracle import Oracle, Step, apply, steps_from
from trl_multiturn.environments.phone.tasks import TEMPLATES, generate_phone_tasks

from .walks import walk


TASKS = generate_phone_tasks(2 * len(TEMPLATES), seed=11)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_is_solved(task):
    oracle, state = Oracle(task), task.initial_state()
    way = oracle.solve(state)
    assert way is not None and 2 <= len(way) <= 9
    assert oracle.distance(state) == len(way)
    for i, step in enumerate(way):
        assert not task.is_done(state)
        assert step in steps_from(state, task)
        assert oracle.distance(state) == len(way) - i
        assert oracle.optimal_steps(state)[0] == step
        if step.kind == "type":
            assert step.target in task.texts
        state = apply(state, step)
    assert task.is_done(state)
    assert task.side_effects(state) == []
    assert oracle.distance(state) == 0 and oracle.optimal_steps(state) == [] and oracle.solve(state) == []
    # The same from scratch: nothing depends on what was searched before.
    assert Oracle(task).solve(task.initial_state()) == way


def plain_distance(task, state, limit):
    """Breadth-first search with none of the oracle's shortcuts but the rule of side effects."""
    level, seen = [state], {repr(state.to_dict())}
    for depth in range(limit + 1):
        if any(task.is_done(each) for each in level):
            return depth
        following = []
        for each in level:
            for step in steps_from(each, task):
                child = apply(each, step)
                if set(task.side_effects(child)) <= set(task.side_effects(each)):
                    key = repr({**child.to_dict(), "toast": ""})
                    if key not in seen:
                        seen.add(key)
                        following.append(child)
        level = following
    return None


SHORT = [
    task
    for task in TASKS
    if task.name
    in {
        "notes.rename",
        "notes.restore",
        "settings.rename_phone",
        "settings.two_switches",
        "alarms.start_timer",
        "alarms.repeat",
        "messages.send",
        "messages.pin",
    }
]


@settings(max_examples=8, deadline=None)
@given(task=st.sampled_from(SHORT), seed=st.integers(0, 10**6))
def test_distances_are_those_of_a_plain_search(task, seed):
    states = [task.initial_state(), *walk(task.initial_state(), seed, 6, task.texts)]
    state = random.Random(seed).choice(states)
    distance = Oracle(task).distance(state)
    expected = plain_distance(task, state, 4)
    if distance is not None and distance <= 4:
        assert expected == distance
    else:
        assert expected is None


@settings(max_examples=8, deadline=None)
@given(task=st.sampled_from(TASKS), seed=st.integers(0, 10**6))
def test_optimal_steps_from_anywhere(task, seed):
    oracle = Oracle(task)
    state = list(walk(task.initial_state(), seed, 6, task.texts))[-1]
    distance = oracle.distance(state)
    if not distance:
        return
    best = oracle.optimal_steps(state)
    assert best
    for step in best:
        assert Oracle(task).distance(apply(state, step)) == distance - 1
    # No other step is as good.
    effects = set(task.side_effects(state))
    for step in steps_from(state, task):
        child = apply(state, step)
        if step not in best and set(task.side_effects(child)) <= effects:
            nearer = oracle.distance(child)
            assert nearer is None or nearer >= distance
    way = oracle.solve(state)
    for step in way:
        state = apply(state, step)
    assert task.is_done(state)
    assert set(task.side_effects(state)) <= effects


def test_a_mistake_makes_the_way_longer():
    task = next(task for task in TASKS if task.name == "notes.delete")
    oracle, start = Oracle(task), task.initial_state()
    away = apply(start, Step("tap", "app:Alarms"))
    assert oracle.distance(away) == oracle.distance(start)  # an app can be opened from anywhere
    in_notes = apply(start, Step("open", "Notes"))
    assert oracle.distance(in_notes) == oracle.distance(start) - 1
    in_bin = apply(in_notes, Step("tap", "tab:bin"))
    assert oracle.distance(in_bin) == oracle.distance(in_notes) + 1


def test_limits():
    task = next(task for task in TASKS if task.name == "messages.new_contact")
    state = task.initial_state()
    assert Oracle(task, max_depth=3).solve(state) is None
    assert Oracle(task, max_depth=3).optimal_steps(state) == []
    assert Oracle(task, max_states=20).distance(state) is None


def test_a_goal_that_cannot_be_reached():
    task = next(task for task in TASKS if task.name == "alarms.turn_on")
    state = task.initial_state()
    state.remove(*task.goal[0].path[:-1])
    assert Oracle(task).distance(state) is None
    assert Oracle(task).solve(state) is None


def test_steps_leave_the_state_as_it_is():
    task = TASKS[0]
    state = task.initial_state()
    before = state.to_dict()
    for step in steps_from(state, task):
        apply(state, step)
    assert state.to_dict() == before
    with pytest.raises(KeyError):
        apply(state, Step("shake"))
