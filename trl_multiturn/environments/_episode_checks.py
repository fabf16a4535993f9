"""Checks of what an environment does: `reset`, tool calls, rewards."""

import asyncio
import inspect
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ._class_checks import VALUE_NAMES, functions_of
from ._findings import Report


def run_episode(
    instance: Any,
    row: dict[str, Any],
    tools: dict[str, Callable],
    calls: list[tuple[str, dict[str, Any]]],
    report: Report,
) -> bool:
    """
    Play one episode: `reset`, the example calls, and `get_reward`, checking what each leaves behind.

    Args:
        instance (`Any`):
            Environment.
        row (`dict[str, Any]`):
            What `reset` is called with.
        tools (`dict[str, Callable]`):
            Names of the environment's tools.
        calls (`list[tuple[str, dict]]`):
            Tool calls: name and arguments.
        report ([`Report`]):
            Takes the findings.

    Returns:
        `bool`: Whether the episode could begin.
    """
    try:
        observation = instance.reset(**row)
    except Exception as error:  # the environment's own; reported, not hidden
        report.error(f"`reset` raised {_describe(error)}. It must begin an episode for every row of the dataset.")
        return False
    if inspect.isawaitable(observation):
        _discard(observation)
        report.error("`reset` returned something to await, and TRL does not await it. Make it an ordinary method.")
        return False
    if (problem := _content_problem(observation)) and observation is not None:
        report.error(
            f"`reset` returned {problem}. Return `None`, text, or a list of content blocks: it is appended to the last "
            "message of the prompt."
        )
    rewards = _check_values_after_reset(instance, report)
    before = rewards
    for name, arguments in calls:
        if name not in tools:
            report.error(
                f"The example call names `{name}`, which is no tool. The tools are: {', '.join(tools) or 'none'}."
            )
            continue
        _check_call(name, arguments, getattr(instance, name), report)
        rewards = _check_growth(instance, name, rewards, report)
    if calls and before is not None and rewards == before:
        report.warning(
            "`turn_rewards` did not grow during the example calls. Append one number for each turn with tool calls (0 if it "
            "was worth nothing)."
        )
    _check_reward(instance, report)
    return True


def check_values_before_reset(instance: Any, report: Report) -> set[str]:
    """
    Note which of the optional values a new environment has.

    Args:
        instance (`Any`):
            Environment that was not reset yet.
        report ([`Report`]):
            Takes the findings.

    Returns:
        `set[str]`: Names among `turn_rewards`, `terminated` and `truncated`.
    """
    return {name for name in VALUE_NAMES if _read(instance, name, "before `reset`", report)[0]}


def check_values_appear_early(instance: Any, early: set[str], report: Report) -> None:
    """
    Check that `turn_rewards` exists from construction on if it exists at all.

    Args:
        instance (`Any`):
            Environment after an episode.
        early (`set[str]`):
            What [`check_values_before_reset`] returned.
        report ([`Report`]):
            Takes the findings.
    """
    if "turn_rewards" not in early and _read(instance, "turn_rewards", "after `reset`", report)[0]:
        report.error(
            "`turn_rewards` exists only after `reset`, but the trainer looks for it on a new environment and would ignore "
            "it. Set it in `__init__` too."
        )


def _check_values_after_reset(instance: Any, report: Report) -> list[float] | None:
    for name in ("terminated", "truncated"):
        found, value = _read(instance, name, "after `reset`", report)
        if not found or callable(value):
            continue
        if type(value).__name__ not in ("bool", "bool_"):
            report.error(f"`{name}` is {_kind(value)} after `reset`. Make it `True` or `False`.")
        elif value:
            report.error(
                f"`{name}` is true right after `reset`, as if the episode were over. Set it to `False` in `reset`."
            )
    rewards = _turn_rewards(instance, "after `reset`", report)
    if rewards:
        report.error(
            f"`turn_rewards` holds {len(rewards)} value(s) right after `reset`; they would be credited to the first turn. "
            "Empty the list in `reset`: TRL reuses instances."
        )
    return rewards


def _check_call(name: str, arguments: dict[str, Any], tool: Callable, report: Report) -> None:
    try:
        result = tool(**arguments)
        if inspect.isawaitable(result):
            result = _run(result)
    except Exception as error:  # TRL hands it to the model as the tool's answer; in an example it is a mistake
        report.error(f"`{name}` raised {_describe(error)} in the example call. Mend the tool or the example.")
        return
    if result is None:
        report.warning(f"`{name}` returned `None`: the model reads the word None. Return what happened as text.")
    elif isinstance(result, (bytes, bytearray, memoryview)):
        report.error(f"`{name}` returned {_kind(result)}: the model reads its Python form. Decode it to text.")
    elif problem := _content_problem(result):
        advice = "Return text, or a list of content blocks such as `[{'type': 'text', 'text': ...}]`."
        if isinstance(result, list):
            report.error(f"`{name}` returned {problem}. TRL takes every list for content blocks. {advice}")
        else:
            report.warning(f"`{name}` returned {problem}: the model reads its Python form (`str`). {advice}")


def _check_growth(instance: Any, name: str, before: list[float] | None, report: Report) -> list[float] | None:
    after = _turn_rewards(instance, f"after `{name}`", report)
    if before is not None and after is not None and after[: len(before)] != before:
        report.error(
            f"`turn_rewards` changed what it had said before when `{name}` was called. Only append to it: the trainer "
            "attributes each value to the turn in which it was added."
        )
    return after


def _check_reward(instance: Any, report: Report) -> None:
    get_reward = functions_of(instance).get("get_reward")
    if get_reward is None or _takes_arguments(get_reward):
        return  # none, or already reported
    try:
        reward = get_reward()
        if inspect.isawaitable(reward):
            reward = _run(reward)
    except Exception as error:  # the environment's own; reported, not hidden
        report.error(f"`get_reward` raised {_describe(error)}. It must work at the end of every episode.")
        return
    if reward is not None and not _is_number(reward):
        report.error(f"`get_reward` returned {_kind(reward)}. Return one number, or `None` where it does not apply.")
    elif reward is not None and not math.isfinite(reward):
        report.error(f"`get_reward` returned {reward}. Return a finite number, or `None` where it does not apply.")


def _turn_rewards(instance: Any, when: str, report: Report) -> list[float] | None:
    found, value = _read(instance, "turn_rewards", when, report)
    if not found or callable(value):
        return None
    if not isinstance(value, (list, tuple)):
        report.error(f"`turn_rewards` is {_kind(value)} {when}. Make it a list of numbers, empty after `reset`.")
        return None
    if not all(_is_number(number) and math.isfinite(number) for number in value):
        report.error(f"`turn_rewards` holds {value!r:.100} {when}. Every value must be a finite number.")
        return None
    return [float(number) for number in value]


def _read(instance: Any, name: str, when: str, report: Report) -> tuple[bool, Any]:
    try:
        return True, getattr(instance, name)
    except AttributeError:
        return False, None
    except Exception as error:  # a property of the environment; the trainer would meet it too
        report.error(f"Reading `{name}` {when} raised {_describe(error)}. Give it a value from `__init__` on.")
        return False, None


def _content_problem(content: Any) -> str | None:
    """What `content` is, if it is neither text nor content blocks that a chat template can render."""
    if isinstance(content, str):
        return None
    if isinstance(content, tuple) and len(content) in (2, 4, 5):
        return f"a tuple of {len(content)}, as Gymnasium environments do"
    if not isinstance(content, list):
        return _kind(content)
    for block in content:
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            return f"a list that holds {_kind(block)} instead of a content block with a `type`"
        if block["type"] in ("text", "image") and block["type"] not in block:
            return f"a content block of type {block['type']} without the key `{block['type']}`"
        if block["type"] == "text" and not isinstance(block["text"], str):
            return f"a text block that holds {_kind(block['text'])}"
        if block["type"] == "image" and isinstance(block["image"], (type(None), bytes, bytearray, dict)):
            return f"an image block that holds {_kind(block['image'])} instead of an image, as of PIL, or its path"
        if block["type"] != "image" and ("image" in block or "image_url" in block):
            # Chat templates write an image for it, and TRL passes none on.
            return f"a content block of type {block['type']} with an image, which TRL does not find: its type must be image"
    return None


def _run(awaitable: Any) -> Any:
    """Await it on a thread of its own: the caller may be in a notebook, whose thread already runs an event loop."""

    async def wait() -> Any:
        return await awaitable

    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, wait()).result()


def _discard(awaitable: Any) -> None:
    if inspect.iscoroutine(awaitable):
        awaitable.close()  # else Python complains later that it was never awaited


def _takes_arguments(function: Callable) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    return False


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and getattr(value, "shape", ()) == ()


def _kind(value: Any) -> str:
    return f"`{type(value).__name__}`"


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
