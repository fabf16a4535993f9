"""How good is a GUI agent? Rates over recorded steps and over live episodes, errors and recoveries among them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .statistics import wilson_interval


if TYPE_CHECKING:
    from ..environments.phone.environment import PhoneEnvironment

_RESAMPLES = 2_000

# What belongs together, what is counted, and out of how much.
_Row = tuple[int | str, float, float]


@dataclass(frozen=True)
class GuiMatch:
    """
    One reply compared with the recorded step.

    Args:
        trajectory (`int` or `str`):
            Trajectory that the step is from: steps of one trajectory are not independent.
        type_match (`bool`):
            Whether the action is of the right type; `False` for a malformed reply.
        match (`bool`):
            Whether it is the right action.
        unseen (`bool`, *optional*, defaults to `False`):
            Whether the app was left out of training.
    """

    trajectory: int | str
    type_match: bool
    match: bool
    unseen: bool = False


@dataclass(frozen=True)
class GuiEpisode:
    """
    One live episode.

    Args:
        task (`str`):
            The task, so that several episodes of one are not taken for independent.
        app (`str`):
            App that it is mainly about.
        unseen (`bool`):
            Whether the app was left out of training.
        distances (`list[int | None]`):
            Fewest steps to the goal, at the start and after each step, as [`Oracle.distance`] tells; `None` where the goal is
            out of reach. Empty where that cannot be known.
        success (`bool`):
            Whether the task is done at the end.
        claimed (`bool`):
            Whether the agent ended with `terminate` and `success`.
        side_effects (`int`):
            Data changed that must not.
        steps (`int`):
            Replies.
        invalid_actions (`int`):
            Replies that could not be read or carried out.
    """

    task: str
    app: str
    unseen: bool
    distances: list[int | None]
    success: bool
    claimed: bool
    side_effects: int
    steps: int
    invalid_actions: int


@dataclass(frozen=True)
class ErrorEpisode:
    """
    A stretch of an episode that leads away from the goal.

    Args:
        start (`int`):
            Step after which the goal is farther away than before it, counted from 0.
        steps_to_recover (`int` or `None`):
            Steps from there until it is nearer than it was before the error; `None` if it never is.
    """

    start: int
    steps_to_recover: int | None


@dataclass(frozen=True)
class Estimate:
    """
    A rate or mean with its 95 percent interval.

    Args:
        value (`float`):
            The estimate.
        low (`float` or `None`):
            Lower end; `None` if all comes from a single task or trajectory, which says nothing about others.
        high (`float` or `None`):
            Upper end.
        count (`int`):
            What it was taken over: episodes, errors or steps.
    """

    value: float
    low: float | None
    high: float | None
    count: int


def find_errors(distances: Sequence[int | None]) -> list[ErrorEpisode]:
    """
    The errors of an episode and whether they were put right.

    An error starts with a step after which the goal is farther away than before. It is put right once the goal is nearer than
    before it, or reached; until then, further steps away belong to it.

    Args:
        distances (`Sequence[int | None]`):
            Fewest steps to the goal, at the start and after each step; `None` where it is out of reach.

    Returns:
        `list[ErrorEpisode]`: In order.

    Example:

    ```python
    >>> find_errors([3, 4, 3, 2])
    [ErrorEpisode(start=0, steps_to_recover=2)]
    ```
    """
    errors: list[ErrorEpisode] = []
    far = [math.inf if distance is None else distance for distance in distances]
    start: int | None = None
    for step, (before, after) in enumerate(zip(far, far[1:], strict=False)):
        if start is None and after > before:
            start = step
        elif start is not None and (after < far[start] or after == 0):
            errors.append(ErrorEpisode(start, step - start))
            start = None
    if start is not None:
        errors.append(ErrorEpisode(start, None))
    return errors


def summarize_matches(matches: Sequence[GuiMatch], seed: int = 0) -> dict[str, Estimate]:
    """
    Accuracy over recorded steps.

    Args:
        matches (`Sequence[GuiMatch]`):
            Every step.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the intervals.

    Returns:
        `dict[str, Estimate]`: `"action_accuracy"` and `"type_match"`, and `"action_accuracy/unseen"` over the apps left out of
        training. Where there is nothing to take a number over, it is missing.
    """
    rows = [(match.trajectory, float(match.match), 1.0) for match in matches]
    types = [(match.trajectory, float(match.type_match), 1.0) for match in matches]
    unseen = [(match.trajectory, float(match.match), 1.0) for match in matches if match.unseen]
    return _estimates({"action_accuracy": rows, "type_match": types, "action_accuracy/unseen": unseen}, {}, seed)


def summarize_episodes(episodes: Sequence[GuiEpisode], seed: int = 0) -> dict[str, Estimate]:
    """
    What happened in live episodes.

    Args:
        episodes (`Sequence[GuiEpisode]`):
            Every episode.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the intervals.

    Returns:
        `dict[str, Estimate]`: Where there is nothing to take a number over, it is missing.

        - `"success"`, `"success/seen"`, `"success/unseen"` and `"success/<app>"`: share of episodes;
        - `"false_completion"`: share of episodes that the agent claims to have done and has not;
        - `"side_effects"`: share with any;
        - `"steps"`: mean number of steps; `"invalid_actions"`: share of steps;
        - `"errors"`: share of episodes with at least one error ([`find_errors`]), of those whose distances are known;
        - `"success/after_error"`: share of these with success;
        - `"recovery_rate"`: share of errors put right; `"steps_to_recover"`: mean steps that took.
    """

    def rate(holds: Callable[[GuiEpisode], bool], among: Callable[[GuiEpisode], bool] = lambda e: True) -> list[_Row]:
        return [(episode.task, float(holds(episode)), 1.0) for episode in episodes if among(episode)]

    errors = [(episode, find_errors(episode.distances)) for episode in episodes if episode.distances]
    found = [(episode.task, error) for episode, those in errors for error in those]
    recovered = [(task, error.steps_to_recover) for task, error in found if error.steps_to_recover is not None]
    rates: dict[str, Sequence[_Row]] = {
        "success": rate(lambda e: e.success),
        "success/seen": rate(lambda e: e.success, lambda e: not e.unseen),
        "success/unseen": rate(lambda e: e.success, lambda e: e.unseen),
        "false_completion": rate(lambda e: e.claimed and not e.success),
        "side_effects": rate(lambda e: e.side_effects > 0),
        "invalid_actions": [(e.task, float(e.invalid_actions), float(e.steps)) for e in episodes if e.steps],
        "errors": [(episode.task, float(bool(those)), 1.0) for episode, those in errors],
        "success/after_error": [(episode.task, float(episode.success), 1.0) for episode, those in errors if those],
        "recovery_rate": [(task, float(error.steps_to_recover is not None), 1.0) for task, error in found],
    }
    for app in sorted({episode.app for episode in episodes}):
        rates[f"success/{app}"] = [(e.task, float(e.success), 1.0) for e in episodes if e.app == app]
    means: dict[str, Sequence[_Row]] = {
        "steps": [(episode.task, float(episode.steps), 1.0) for episode in episodes],
        "steps_to_recover": [(task, float(steps), 1.0) for task, steps in recovered],
    }
    return _estimates(rates, means, seed)


def record_episode(environment: "PhoneEnvironment", replies: int, unseen: bool = False) -> GuiEpisode:
    """
    What happened on a phone, at the end of an episode.

    Args:
        environment ([`PhoneEnvironment`]):
            The phone, which must have a task and a state.
        replies (`int`):
            Replies of the agent, those that never became an action included.
        unseen (`bool`, *optional*, defaults to `False`):
            Whether the app was left out of training.

    Returns:
        [`GuiEpisode`]: With success as [`StateJudge`] sees it.

    Raises:
        `ValueError`: If the environment has no task or no state.
    """
    from ..environments.phone.oracle import Oracle
    from ..rewards.gui_judges import StateJudge

    task = environment.task
    if task is None or environment.state is None:
        raise ValueError("the environment has no task or no state: only a simulated phone's episode can be recorded")
    oracle = Oracle(task)
    carried_out = sum(action is not None and error is None for action, error in environment.actions)
    return GuiEpisode(
        task=task.to_json(),
        app=task.app,
        unseen=unseen,
        distances=[oracle.distance(state) for state in environment.states],
        success=StateJudge().score(environment.instruction, [], [], environment).completed,
        claimed=environment.finished == "success",
        side_effects=len(environment.side_effects),
        steps=replies,
        invalid_actions=replies - carried_out,
    )


def _estimates(
    rates: Mapping[str, Sequence[_Row]], means: Mapping[str, Sequence[_Row]], seed: int
) -> dict[str, Estimate]:
    found = {name: _estimate(rows, seed, is_rate=True) for name, rows in rates.items() if rows}
    return found | {name: _estimate(rows, seed, is_rate=False) for name, rows in means.items() if rows}


def _estimate(rows: Sequence[_Row], seed: int, is_rate: bool) -> Estimate:
    """
    A ratio of sums. Wilson's interval where every row is one independent trial; otherwise what belongs together is drawn again
    as a whole, which gives too narrow an interval where there is little of it.
    """
    clusters: dict[int | str, np.ndarray] = {}
    for cluster, part, whole in rows:
        clusters[cluster] = clusters.get(cluster, np.zeros(2)) + (part, whole)
    part, whole = np.sum(list(clusters.values()), axis=0)
    count = round(whole)
    low: float | None = None
    high: float | None = None
    if is_rate and len(clusters) == len(rows) == count:
        low, high = wilson_interval(round(part), count)
    elif is_rate and part in (0, whole) and len(clusters) > 1:
        # Drawn again, all of one kind would be an interval of no width.
        low, high = wilson_interval(len(clusters) if part else 0, len(clusters))
    elif len(clusters) > 1:
        low, high = _bootstrap(np.array(list(clusters.values())), seed)
    return Estimate(float(part / whole), low, high, count)


def _bootstrap(sums: np.ndarray, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    ratios = []
    for _ in range(_RESAMPLES):
        part, whole = sums[generator.integers(len(sums), size=len(sums))].sum(axis=0)
        ratios.append(part / whole)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
