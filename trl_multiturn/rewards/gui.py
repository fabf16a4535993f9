"""Reward functions for GUI agents: is the action right, is the reply well-formed, is the task done?"""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from ..environments.phone.actions import Action, ActionError, CoordinateSpace, parse_action
from .answers import message_text
from .gui_judges import GuiVerdict, StateJudge, TrajectoryJudge
from .verdicts import VerdictUnavailable


_MAX_TOLD = 300


def match_action(action: Action, truth: Mapping[str, Any]) -> tuple[bool, bool]:
    """
    Compare an action with the recorded one.

    Points count if they lie in the box, its border included; a swipe if it starts in the box and goes mainly in the direction.
    Texts must be equal up to blanks around them and Unicode's compatible forms; buttons and statuses equal.

    Args:
        action ([`Action`]):
            What the agent did.
        truth (`dict`):
            What [`GuiStep.ground_truth`] gives.

    Returns:
        `tuple[bool, bool]`: Whether it is an action of the same type, and whether it is the right one.
    """
    if action.action != truth["action"]:
        return False, False
    if action.coordinate is not None:
        left, top, right, bottom = truth["box"]
        x, y = action.coordinate
        if not (left <= x <= right and top <= y <= bottom):
            return True, False
    if action.text is not None and _normal(action.text) != _normal(truth["text"]):
        return True, False
    same = all(getattr(action, name) == truth.get(name) for name in ("direction", "button", "status"))
    return True, same


def action_reward(
    completions: list[Any],
    ground_truth: list[str],
    image_size: list[Sequence[int]],
    coordinate_space: list[CoordinateSpace] | None = None,
    log_metric: Callable[[str, float], None] | None = None,
    **kwargs: Any,
) -> list[float]:
    """
    Reward function for single steps: 1 if the reply's action is the recorded one ([`match_action`]), 0 if it is not or the
    reply is malformed.

    Logs `action/type`, the share of replies with an action of the right type.

    Args:
        completions (`list`):
            Completions: text, or one message of the assistant each.
        ground_truth (`list[str]`):
            Dataset column: what [`GuiStep.ground_truth`] gives, as JSON.
        image_size (`list[list[int]]`):
            Dataset column: width and height of the screenshot in pixels.
        coordinate_space (`list[str]`, *optional*):
            Dataset column: `"pixel"` (the default) or `"norm1000"`.
        log_metric (`Callable`, *optional*):
            TRL's function that logs a number.
        **kwargs:
            What else TRL passes to reward functions.

    Returns:
        `list[float]`: One reward for each completion.

    Raises:
        `ValueError`: If a row's ground truth is none. The message names the row.
    """
    spaces = coordinate_space or ["pixel"] * len(completions)
    rewards = []
    for row, (completion, truth, size, space) in enumerate(
        zip(completions, ground_truth, image_size, spaces, strict=True)
    ):
        try:
            wanted = _read_truth(truth)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"Row {row} of the batch, column `ground_truth`: {error}") from None
        same_type, same = False, False
        for reply in _replies(completion)[-1:]:
            try:
                action = parse_action(reply, (size[0], size[1]), space).action
            except ActionError:
                continue
            same_type, same = match_action(action, wanted)
        if log_metric is not None:
            log_metric("action/type", float(same_type))
        rewards.append(float(same))
    return rewards


def gui_format_reward(
    completions: list[Any],
    environments: list[Any] | None = None,
    image_size: list[Sequence[int]] | None = None,
    coordinate_space: list[CoordinateSpace] | None = None,
    **kwargs: Any,
) -> list[float]:
    """
    Reward function: is every reply well-formed, which is what [`parse_action`] can read?

    For single steps it is 1 or 0. In rollouts (with environments) it is the mean over the assistant's messages of 1 and -1.

    Args:
        completions (`list`):
            Completions: text or messages.
        environments (`list`, *optional*):
            The environments of the rollouts, with an `image_size` and maybe a `coordinate_space`.
        image_size (`list[list[int]]`, *optional*):
            Dataset column: width and height of the screenshot in pixels. Needed without environments.
        coordinate_space (`list[str]`, *optional*):
            Dataset column: `"pixel"` (the default) or `"norm1000"`.
        **kwargs:
            What else TRL passes to reward functions.

    Returns:
        `list[float]`: One reward for each completion.

    Raises:
        `ValueError`: If there are neither environments nor a column `image_size`.
    """
    if environments is not None:
        rewards = []
        for completion, environment in zip(completions, environments, strict=True):
            space: CoordinateSpace = getattr(environment, "coordinate_space", "pixel")
            scores = [_is_well_formed(reply, environment.image_size, space) for reply in _replies(completion)]
            rewards.append(2.0 * sum(scores) / len(scores) - 1.0 if scores else -1.0)
        return rewards
    if image_size is None:
        raise ValueError("gui_format_reward needs environments or the dataset column `image_size`")
    spaces: list[CoordinateSpace] = coordinate_space or ["pixel"] * len(completions)
    singles = zip(completions, image_size, spaces, strict=True)
    return [
        float(any(_is_well_formed(reply, (size[0], size[1]), space) for reply in _replies(completion)[-1:]))
        for completion, size, space in singles
    ]


def task_reward(completions: list[Any], environments: list[Any], **kwargs: Any) -> list[float | None]:
    """
    Reward function for rollouts: 1 if the phone's own state says that the task is done ([`StateJudge`]), 0 if not.

    Takes, returns and logs what the functions of [`make_task_reward`] do.
    """
    return _task_rewards(StateJudge(), completions, environments, **kwargs)


def make_task_reward(judge: TrajectoryJudge) -> Callable[..., list[float | None]]:
    """
    A reward function for rollouts: 1 if a judge says that the task is done, 0 if not.

    It logs `task/completed` and `task/consistency`, `task/claimed` (share of rollouts that the agent ended with success),
    `task/false_completion` (share that it did though the judge says no), `task/unavailable` (share without a verdict, which get
    no reward), and what the judge counts. To the table of completions it adds the column `verdict`: in words, why.

    Args:
        judge ([`TrajectoryJudge`]):
            The judge.

    Returns:
        `Callable`: `task_reward(completions, environments, **kwargs) -> list[float | None]`. Environments need `instruction`,
        `screenshots` and `finished`.
    """

    def task_reward(completions: list[Any], environments: list[Any], **kwargs: Any) -> list[float | None]:
        return _task_rewards(judge, completions, environments, **kwargs)

    return task_reward


def reply_text(message: Mapping[str, Any]) -> str:
    """
    A reply as text, also where a chat template's parser has taken it apart.

    Args:
        message (`dict`):
            Message of the assistant.

    Returns:
        `str`: Thought, content and calls.
    """
    parts = []
    if isinstance(thought := message.get("reasoning_content"), str) and thought:
        parts.append(f"<think>{thought}</think>")
    parts.append(message_text(dict(message)))
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function", call) if isinstance(call, Mapping) else call
        parts.append(f"<tool_call>\n{json.dumps(function, ensure_ascii=False, default=str)}\n</tool_call>")
    return "\n".join(part for part in parts if part)


def _task_rewards(
    judge: TrajectoryJudge,
    completions: list[Any],
    environments: list[Any],
    log_metric: Callable[[str, float], None] | None = None,
    log_extra: Callable[[str, list[Any]], None] | None = None,
    **kwargs: Any,
) -> list[float | None]:
    cases = list(zip(completions, environments, strict=True))
    with ThreadPoolExecutor(max(1, min(judge.concurrency, len(cases)))) as pool:
        verdicts = list(pool.map(lambda case: _judge(judge, *case), cases))
    if log_metric is not None:
        for (_, environment), verdict in zip(cases, verdicts, strict=True):
            for name, value in _task_metrics(environment, verdict).items():
                log_metric(name, value)
    if log_extra is not None:
        log_extra("verdict", [_told(verdict) for verdict in verdicts])
    return [float(verdict.completed) if isinstance(verdict, GuiVerdict) else None for verdict in verdicts]


def _judge(judge: TrajectoryJudge, completion: Any, environment: Any) -> GuiVerdict | VerdictUnavailable:
    steps = [reply if isinstance(reply, str) else reply_text(reply) for reply in _replies(completion)]
    try:
        return judge.score(environment.instruction, steps, environment.screenshots, environment)
    except VerdictUnavailable as error:
        return error


def _task_metrics(environment: Any, verdict: GuiVerdict | VerdictUnavailable) -> dict[str, float]:
    claimed = environment.finished == "success"
    metrics = {"task/claimed": float(claimed), "task/unavailable": float(not isinstance(verdict, GuiVerdict))}
    if isinstance(verdict, GuiVerdict):
        metrics["task/completed"] = float(verdict.completed)
        metrics["task/consistency"] = verdict.consistency
        metrics["task/false_completion"] = float(claimed and not verdict.completed)
    metrics.update({name: float(count) for name, count in getattr(verdict, "counts", {}).items()})
    return metrics


def _told(verdict: GuiVerdict | VerdictUnavailable) -> str:
    if not isinstance(verdict, GuiVerdict):
        return f"no verdict: {verdict}"[:_MAX_TOLD]
    return f"{'completed' if verdict.completed else 'not completed'}: {verdict.reason}"[:_MAX_TOLD]


def _replies(completion: Any) -> list[Any]:
    """What the assistant said: texts or messages, as [`parse_action`] takes them."""
    if isinstance(completion, str):
        return [completion]
    messages = completion if isinstance(completion, (list, tuple)) else []
    return [m for m in messages if isinstance(m, Mapping) and m.get("role") == "assistant"]


def _is_well_formed(reply: Any, size: tuple[int, int], space: CoordinateSpace) -> bool:
    try:
        parse_action(reply, size, space)
    except ActionError:
        return False
    return True


@lru_cache(maxsize=4096)
def _read_truth(text: str) -> dict[str, Any]:
    truth = json.loads(text)
    if not isinstance(truth, dict) or not isinstance(truth.get("action"), str):
        raise ValueError('must be a JSON object with an "action"')
    needed = {
        "click": ("box",),
        "long_press": ("box",),
        "swipe": ("box", "direction"),
        "system_button": ("button",),
        "terminate": ("status",),
        "wait": (),
    }.get(truth["action"], ("text",))
    for name in needed:
        if not isinstance(truth.get(name), list if name == "box" else str):
            raise ValueError(f"a {truth['action']} needs {name!r}")
    if "box" in needed:
        numbers = truth["box"]
        if len(numbers) != 4 or not all(type(number) in (int, float) for number in numbers):
            raise ValueError(f"the box must be four numbers, got {numbers!r:.100}")
    return truth


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()
