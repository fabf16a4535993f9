"""What a verifier says, and what it is shown: verdicts with evidence, and the tool calls of a rollout."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from .answers import message_text


Status = Literal["pass", "fail", "na"]


class VerdictUnavailable(RuntimeError):
    """There is no verdict, through no fault of the rollout. [`HierarchicalReward`] then gives no reward at all."""


@dataclass(frozen=True)
class Check:
    """
    One thing that was looked at.

    Args:
        status (`str`):
            `"pass"`, `"fail"` or `"na"` (there was nothing to look at).
        evidence (`str`):
            Why: day, item and numbers.
    """

    status: Status
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """
    What a verifier says about an itinerary or about one tool call.

    Args:
        items (`dict[str, Check]`):
            Every [`Check`] by name: `"T1"` to `"T10"` at the trajectory level, `"day 2 item 1"` at the turn level.
        counts (`dict[str, int]`, *optional*):
            What it took to get there, such as how often a judge's answer could not be read. Logged as metrics.
    """

    items: dict[str, Check]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "fail" for check in self.items.values())

    @property
    def failures(self) -> dict[str, str]:
        """Evidence of every check that failed, by name."""
        return {name: check.evidence for name, check in self.items.items() if check.status == "fail"}


@dataclass(frozen=True)
class ToolTurn:
    """
    One tool call of a rollout.

    Args:
        name (`str`):
            Name of the tool.
        arguments (`dict[str, Any]`):
            What it was called with; empty where that cannot be told.
        response (`str`):
            What it answered, as the model saw it.
        turn (`int`):
            Assistant message that made the call, counted from 0 as the turns of [`Rollouts`].
    """

    name: str
    arguments: dict[str, Any]
    response: str
    turn: int


def tool_turns(completion: Any) -> list[ToolTurn]:
    """
    The tool calls before the last assistant message. What came after it, nobody can have relied on.

    Args:
        completion (`list[dict]`):
            Messages of a completion as TRL passes them to reward functions. Anything else holds no tool call, and
            messages that make no sense are skipped.

    Returns:
        `list[ToolTurn]`: One for each response, in order.
    """
    messages = _messages(completion)
    last = _last_assistant(messages)
    turns: list[ToolTurn] = []
    pending: list[tuple[Any, dict[str, Any]]] = []
    turn = -1
    for message in messages[: max(last, 0)]:
        if message.get("role") == "assistant":
            turn += 1
            pending = _calls(message)
        elif message.get("role") == "tool":
            name = message.get("name")
            # TRL answers the synchronous tools first, so the order alone does not say which call it was.
            mine = next((i for i, (called, _) in enumerate(pending) if called == name), None)
            arguments = {} if mine is None else pending.pop(mine)[1]
            turns.append(ToolTurn(name if isinstance(name, str) else "", arguments, message_text(message), turn))
    return turns


def last_answer(completion: Any) -> str:
    """
    The text of the last assistant message.

    Args:
        completion (`str` or `list[dict]`):
            A completion as TRL passes it to reward functions.

    Returns:
        `str`: The text; empty if there is none.
    """
    if isinstance(completion, str):
        return completion
    messages = _messages(completion)
    last = _last_assistant(messages)
    return message_text(messages[last]) if last >= 0 else ""


def _messages(completion: Any) -> list[dict[str, Any]]:
    return [m for m in completion if isinstance(m, dict)] if isinstance(completion, (list, tuple)) else []


def _last_assistant(messages: list[dict[str, Any]]) -> int:
    return next((i for i in reversed(range(len(messages))) if messages[i].get("role") == "assistant"), -1)


def _calls(message: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Name and arguments of each call that a message makes."""
    calls = message.get("tool_calls")
    found = []
    for call in calls if isinstance(calls, (list, tuple)) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found.append((function.get("name"), _arguments(function.get("arguments"))))
    return found


def _arguments(arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return arguments if isinstance(arguments, dict) else {}
