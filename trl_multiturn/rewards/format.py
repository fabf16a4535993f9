"""Is the completion well-formed? Tags that open are closed, in every message that the model wrote."""

import re
from typing import Any

from .answers import extract_answer, message_text


_TAG = re.compile(r"<(/?)(think|answer|tool_call)>")


def has_valid_format(completion: str | list[dict[str, Any]], *, think_prefilled: bool = False) -> bool:
    """
    Whether a completion is well-formed: it ends with an assistant message that holds exactly one non-empty
    `<answer>...</answer>`, and in every assistant message each `<think>`, `<answer>` and `<tool_call>` is closed before
    the next one opens.

    Tool results are never looked at: a retrieved text may hold any tags, and the policy did not write it. Nor are the
    message fields that a chat template's parser has already taken apart (`tool_calls`, `reasoning_content`), as those
    were well-formed. Tags are recognised in lower case only.

    Args:
        completion (`str` or `list[dict]`):
            A completion as TRL passes it to reward functions: text, or messages with text or content blocks. Text
            counts as one assistant message.
        think_prefilled (`bool`, *optional*, defaults to `False`):
            Whether the chat template itself opens `<think>` at the start of each assistant message, so that the model
            only closes it.

    Returns:
        `bool`: `True` if the completion is well-formed.

    Example:

    ```python
    >>> has_valid_format([{"role": "assistant", "content": "<think>Easy.</think><answer>Paris</answer>"}])
    True
    >>> has_valid_format([{"role": "assistant", "content": "<think>Easy.<answer>Paris</answer>"}])
    False
    ```
    """
    messages = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
    if not messages or messages[-1].get("role") != "assistant" or not extract_answer(messages):
        return False
    opened = "<think>" if think_prefilled else ""
    return all(_is_balanced(opened + message_text(m)) for m in messages if m.get("role") == "assistant")


def format_reward(completions: list[Any], think_prefilled: bool = False, **kwargs) -> list[float]:
    """
    Reward function: 1 for a completion with [valid format][`has_valid_format`], 0 for others.

    Args:
        completions (`list`):
            Completions: text or messages.
        think_prefilled (`bool`, *optional*, defaults to `False`):
            See [`has_valid_format`]. Set it with `functools.partial`.
        **kwargs:
            What else TRL passes to reward functions.

    Returns:
        `list[float]`: One reward for each completion.
    """
    return [float(has_valid_format(completion, think_prefilled=think_prefilled)) for completion in completions]


def _is_balanced(text: str) -> bool:
    """Whether each tag closes the one before it: the three kinds of sections follow one another and never nest."""
    opened = None
    for closing, name in _TAG.findall(text):
        if bool(closing) != (opened is not None) or (closing and name != opened):
            return False
        opened = None if closing else name
    return opened is None
