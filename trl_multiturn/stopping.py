"""Why a rollout ended, read off the traces that TRL's tool loop leaves."""

import re
from typing import Any

from .rewards.answers import message_text
from .rollouts import StopReason


def find_stop_reasons(
    completions: list[Any],
    completion_ids: list[list[int]],
    *,
    end_ids: set[int],
    max_tool_calling_iterations: int,
    tokenizer: Any,
    lost_rows: set[int],
) -> list[StopReason]:
    """
    Reason for which each rollout ended.

    Args:
        completions (`list`):
            Messages (or text) of each rollout, as TRL's tool loop left them.
        completion_ids (`list[list[int]]`):
            Completion tokens of each rollout.
        end_ids (`set[int]`):
            Token ids that end a message.
        max_tool_calling_iterations (`int`):
            Turns with tool calls that TRL executes.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the policy; its `response_template` says how a tool call opens.
        lost_rows (`set[int]`):
            Rollouts whose environment was given up.

    Returns:
        `list[StopReason]`: One reason a rollout.
    """
    opens_call = tool_call_opening(tokenizer)
    reasons = []
    for row, (messages, ids) in enumerate(zip(completions, completion_ids, strict=True)):
        ended = bool(ids) and ids[-1] in end_ids
        if row in lost_rows:
            reasons.append(StopReason.ENVIRONMENT_ERROR)
        elif isinstance(messages, str):
            reasons.append(StopReason.COMPLETED if ended else StopReason.MAX_TOKENS)
        elif messages[-1]["role"] == "tool":
            reasons.append(StopReason.MAX_TOKENS)  # the result filled the budget, no token was left for an answer
        elif messages[-1].get("tool_calls"):
            # TRL leaves a call unanswered at the turn limit, and where it has dropped an overlong result.
            written = sum(message["role"] == "assistant" for message in messages)
            at_limit = written > max_tool_calling_iterations
            reasons.append(StopReason.MAX_TURNS if at_limit else StopReason.TOOL_OVERFLOW)
        elif not ended:
            reasons.append(StopReason.MAX_TOKENS)
        elif opens_call is not None and opens_call.search(message_text(messages[-1])):
            reasons.append(StopReason.PARSE_ERROR)
        else:
            reasons.append(StopReason.COMPLETED)
    return reasons


def tool_call_opening(tokenizer: Any) -> re.Pattern | None:
    """
    What opens a tool call in the policy's messages.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the policy.

    Returns:
        `re.Pattern` or `None`: `None` without a response template that knows tool calls.
    """
    field = ((getattr(tokenizer, "response_template", None) or {}).get("fields") or {}).get("tool_calls") or {}
    if "open_pattern" in field:
        return re.compile(field["open_pattern"])
    return re.compile(re.escape(field["open"])) if "open" in field else None
