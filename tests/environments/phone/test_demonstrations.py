import random
from collections import Counter
from dataclasses import replace

import pytest

from trl_multiturn.environments.phone.actions import parse_action, scale_action, write_reply
from trl_multiturn.environments.phone.backend import StateBackend
from trl_multiturn.environments.phone.demonstrations import (
    MAX_MISTAKES,
    UNSEEN_APPS,
    demonstrate,
    demonstrations,
    task_split,
)
from trl_multiturn.environments.phone.environment import PhoneEnvironment
from trl_multiturn.environments.phone.oracle import Oracle
from trl_multiturn.environments.phone.task import Condition, PhoneTask
from trl_multiturn.environments.phone.tasks import generate_phone_tasks


@pytest.fixture(scope="module")
def tasks():
    return generate_phone_tasks(90, seed=3)


@pytest.fixture(scope="module")
def erring(tasks):
    """Demonstrations of every second task with many mistakes, half of them in Chinese, on a screen of an odd size."""
    return [
        demonstrate(task, random.Random(i), 0.35, "zh" if i % 2 else "en", scale=0.57, render=None)
        for i, task in enumerate(tasks[::2])
    ]


def replay(trajectory):
    """States before each call of a trajectory and the last one."""
    backend = StateBackend()
    backend.reset(PhoneTask.from_json(trajectory.task).initial_state())
    states = [backend.state.copy()]
    for step in trajectory.trajectory:
        size = trajectory.image_width, trajectory.image_height
        backend.perform(scale_action(step.call, size, backend.size))
        states.append(backend.state.copy())
    return states


def test_a_demonstration_without_mistakes_is_a_shortest_way(tasks):
    for task in tasks[::6]:
        trajectory = demonstrate(task, random.Random(0), render=None)
        assert len(trajectory.trajectory) == Oracle(task).distance(task.initial_state()) + 1
        assert not any(step.mistake or step.correction for step in trajectory.trajectory)
        state = replay(trajectory)[-1]
        assert task.is_done(state) and task.side_effects(state) == []


def test_every_demonstration_with_mistakes_reaches_the_goal_and_does_no_harm(erring):
    for trajectory in erring:
        task = PhoneTask.from_json(trajectory.task)
        states = replay(trajectory)
        assert task.is_done(states[-1]) and task.side_effects(states[-1]) == []
        assert not any(task.is_done(state) for state in states[:-2])
        assert trajectory.trajectory[-1].call.status == "success"


def test_a_mistake_does_not_bring_the_goal_nearer_and_every_other_step_does(erring):
    for trajectory in erring[::3]:
        oracle = Oracle(PhoneTask.from_json(trajectory.task))
        distances = [oracle.distance(state) for state in replay(trajectory)]
        for step, before, after in zip(trajectory.trajectory[:-1], distances, distances[1:], strict=False):
            assert after >= before if step.mistake else after == before - 1


def test_mistakes_are_followed_by_corrections_until_what_was_lost_is_won_back(erring):
    kinds = Counter()
    for trajectory in erring:
        steps = trajectory.trajectory
        assert sum(step.mistake for step in steps) <= MAX_MISTAKES
        for step, following in zip(steps, steps[1:], strict=False):
            assert not (step.mistake and step.correction)
            if step.mistake:
                assert following.correction and not following.mistake
                kinds[step.call.action] += 1
    assert sum(kinds.values()) > len(erring) / 2
    assert {"click", "system_button"} <= set(kinds)


def test_every_call_is_written_and_read_and_hits_its_box(erring):
    for trajectory in erring:
        size = trajectory.image_width, trajectory.image_height
        for step in trajectory.trajectory:
            reply = parse_action(write_reply(step.thought, step.action, step.call), size)
            assert (reply.thought, reply.description, reply.action) == (step.thought, step.action, step.call)
            truth = step.ground_truth()
            if step.box is not None:
                left, top, right, bottom = truth["box"]
                x, y = step.call.coordinate
                assert 0 <= left <= x < right <= size[0] and 0 <= top <= y < bottom <= size[1]


def test_a_correction_says_that_something_went_wrong(tasks):
    words = ("wrong", "not the right place", "mistake")
    for trajectory in demonstrations(tasks[:20], mistakes=0.4, render=None):
        steps = trajectory.trajectory
        for step, following in zip(steps, steps[1:], strict=False):
            assert any(word in following.thought for word in words) == step.mistake


def test_the_right_step_does_not_depend_on_the_draws(tasks):
    task = tasks[4]
    one, other = (demonstrate(task, random.Random(seed), render=None).trajectory for seed in (1, 2))
    assert [step.call for step in one] == [step.call for step in other]
    assert [step.thought for step in one] != [step.thought for step in other]


def test_demonstrations_do_not_depend_on_the_other_tasks(tasks):
    alone = next(demonstrations([tasks[5]], seed=7, mistakes=0.5, render=None))
    assert list(demonstrations(tasks[:6], seed=7, mistakes=0.5, render=None))[5] == alone
    others = [next(demonstrations([tasks[5]], seed=seed, mistakes=0.5, render=None)) for seed in range(5)]
    assert any(other.trajectory != alone.trajectory for other in others)


def test_images_are_the_screenshots_before_each_call(tasks):
    trajectory = demonstrate(tasks[0], random.Random(0), mistakes=0.3, scale=0.5)
    assert (trajectory.image_width, trajectory.image_height) == (196, 392)
    assert {step.image.size for step in trajectory.trajectory} == {(196, 392)}
    environment = PhoneEnvironment(scale=0.5)
    environment.reset(task=trajectory.task)
    for step in trajectory.trajectory[:-1]:
        environment.mobile_use(**step.call.arguments())
    assert [image.tobytes() for image in environment.screenshots] == [s.image.tobytes() for s in trajectory.trajectory]


def test_the_language_is_that_of_all_texts(tasks):
    trajectory = demonstrate(tasks[0], random.Random(0), language="zh", render=None)
    assert trajectory.instruction == tasks[0].instruction_zh
    assert all("。" in step.thought and step.action.endswith("。") for step in trajectory.trajectory)


@pytest.mark.parametrize("arguments", [{"mistakes": -0.1}, {"mistakes": 1.0}, {"scale": 0.05}, {"scale": 1.5}])
def test_arguments_out_of_range_are_refused(tasks, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        demonstrate(tasks[0], random.Random(0), render=None, **arguments)


def test_a_task_without_a_way_is_refused(tasks):
    hopeless = replace(tasks[0], goal=(Condition(("Notes", "notes", "of nobody"), "exists"),))
    with pytest.raises(ValueError, match=f"no way to the goal of {hopeless.name}"):
        demonstrate(hopeless, random.Random(0), render=None)


def test_splits_are_disjoint_and_follow_from_the_task_alone():
    first = generate_phone_tasks(300, seed=0)
    parts = {task.instruction: task_split(task) for task in first}
    assert all(
        parts.get(task.instruction, task_split(task)) == task_split(task) for task in generate_phone_tasks(300, seed=1)
    )
    counts = Counter(parts.values())
    assert {task.app for task in first if task_split(task) == "unseen"} <= set(UNSEEN_APPS)
    assert 0.1 < counts["test"] / (counts["test"] + counts["train"]) < 0.3
    assert all(task_split(task, unseen_apps=(), test_share=0) == "train" for task in first)
