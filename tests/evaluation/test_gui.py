import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_multiturn.environments.phone.environment import PhoneEnvironment
from trl_multiturn.environments.phone.oracle import Oracle
from trl_multiturn.environments.phone.tasks import generate_phone_tasks
from trl_multiturn.evaluation import (
    GuiEpisode,
    GuiMatch,
    find_errors,
    summarize_episodes,
    summarize_matches,
    wilson_interval,
)
from trl_multiturn.evaluation.gui import ErrorEpisode, record_episode


def episode(task="a", distances=(2, 1, 0), app="Notes", unseen=False, success=True, claimed=True, **values):
    values = {"side_effects": 0, "steps": 2, "invalid_actions": 0} | values
    return GuiEpisode(task, app, unseen, list(distances), success, claimed, **values)


@pytest.mark.parametrize(
    "distances, expected",
    [
        ([], []),
        ([3], []),
        ([3, 2, 1, 0], []),
        ([3, 3, 3, 2], []),
        ([3, 4, 3, 2], [(0, 2)]),
        ([3, 4, 3, 3], [(0, None)]),
        ([3, 4, 5, 4, 3, 2, 1], [(0, 4)]),
        ([3, 2, 3, 1, 2, 0], [(1, 1), (3, 1)]),
        ([3, None, None, 2], [(0, 2)]),
        ([3, None], [(0, None)]),
        ([None, None, 3, 2], []),
        ([None, 4, 5, 3], [(1, 1)]),
        # Left after it was reached: nearer than reached is not possible.
        ([1, 0, 1, 0], [(1, 1)]),
    ],
)
def test_errors_and_recoveries(distances, expected):
    assert find_errors(distances) == [ErrorEpisode(*error) for error in expected]


@given(st.lists(st.none() | st.integers(0, 12), max_size=20))
def test_properties_of_errors(distances):
    errors = find_errors(distances)
    far = [float("inf") if distance is None else distance for distance in distances]
    end = -1
    for error in errors:
        assert error.start >= end
        assert far[error.start + 1] > far[error.start]
        if error.steps_to_recover is None:
            assert error is errors[-1]
            assert all(distance >= far[error.start] and distance for distance in far[error.start + 1 :])
        else:
            end = error.start + error.steps_to_recover + 1
            assert far[end] < far[error.start] or far[end] == 0
            assert all(distance >= far[error.start] and distance for distance in far[error.start + 1 : end])
    if not errors:
        assert far == sorted(far, reverse=True)


def test_summary_of_episodes():
    told = summarize_episodes(
        [
            episode("a"),
            episode("b", [2, 3, 2, 1, 0], steps=4, invalid_actions=1),
            episode("c", [2, 3, 3], app="Shop", unseen=True, success=False, side_effects=2),
            episode("d", [2, 3, 1, 2], app="Shop", unseen=True, success=False, claimed=False, steps=2),
        ]
    )
    values = {name: (estimate.value, estimate.count) for name, estimate in told.items()}
    assert values == {
        "success": (0.5, 4),
        "success/seen": (1.0, 2),
        "success/unseen": (0.0, 2),
        "success/Notes": (1.0, 2),
        "success/Shop": (0.0, 2),
        "false_completion": (0.25, 4),
        "side_effects": (0.25, 4),
        "invalid_actions": (0.1, 10),
        "errors": (0.75, 4),
        "success/after_error": (pytest.approx(1 / 3), 3),
        "recovery_rate": (0.5, 4),
        "steps": (2.5, 4),
        "steps_to_recover": (1.5, 2),
    }
    assert (told["success"].low, told["success"].high) == wilson_interval(2, 4)
    assert told["steps"].low <= 2.5 <= told["steps"].high


def test_what_there_is_nothing_of_is_missing():
    assert summarize_episodes([]) == {} and summarize_matches([]) == {}
    told = summarize_episodes([episode(distances=[])])
    assert "errors" not in told and "recovery_rate" not in told and "success/unseen" not in told
    told = summarize_episodes([episode(), episode("b")])
    assert told["errors"].value == 0.0 and "recovery_rate" not in told and "steps_to_recover" not in told


def test_episodes_of_one_task_are_not_independent():
    one = [episode("a")] * 50 + [episode("b", success=False)] * 50
    told = summarize_episodes(one)["success"]
    assert (told.value, told.low, told.high, told.count) == (0.5, 0.0, 1.0, 100)
    same = summarize_episodes([episode("a")] * 50 + [episode("b")] * 50)["success"]
    assert (same.low, same.high) == wilson_interval(2, 2)
    alone = summarize_episodes([episode("a")] * 50)["success"]
    assert (alone.value, alone.low, alone.high) == (1.0, None, None)


def test_summary_of_matches():
    matches = [GuiMatch(i, i % 4 != 0, i % 2 == 1, unseen=i >= 150) for i in range(200)]
    told = summarize_matches(matches)
    assert told["action_accuracy"].value == 0.5 and told["type_match"].value == 0.75
    assert told["action_accuracy/unseen"].count == 50
    assert (told["action_accuracy"].low, told["action_accuracy"].high) == wilson_interval(100, 200)
    # Ten steps of a trajectory that are right or wrong together say no more than one.
    clustered = summarize_matches([GuiMatch(i // 10, True, i // 10 % 2 == 1) for i in range(200)], seed=1)
    single = summarize_matches([GuiMatch(i, True, i % 2 == 1) for i in range(20)])
    width, expected = (e.high - e.low for e in (clustered["action_accuracy"], single["action_accuracy"]))
    assert width == pytest.approx(expected, rel=0.25)
    assert clustered == summarize_matches([GuiMatch(i // 10, True, i // 10 % 2 == 1) for i in range(200)], seed=1)


def test_a_recorded_episode_of_a_phone():
    (task,) = generate_phone_tasks(1, seed=1)
    environment = PhoneEnvironment()
    environment.reset(task=task.to_json())
    environment.mobile_use("open", text="Music" if "Music" not in task.apps else "Alarms")
    environment.mobile_use("terminate", status="success")
    told = record_episode(environment, replies=3, unseen=True)
    start = Oracle(task).distance(task.initial_state())
    assert told.app == task.app and told.unseen and told.claimed and not told.success
    assert (told.steps, told.invalid_actions, told.side_effects) == (3, 1, 0)
    assert told.distances[0] == start and len(told.distances) == 3
    assert told.distances[1] == told.distances[2]
    with pytest.raises(ValueError, match="no task"):
        record_episode(PhoneEnvironment(), replies=0)
