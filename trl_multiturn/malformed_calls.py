"""Tool calls that cannot be parsed, answered like any other call instead of ending the rollout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .stopping import tool_call_opening


# Name of the call that stands for one that could not be parsed.
MALFORMED_CALL = "malformed_tool_call"

_ANSWER = (
    'The tool call could not be parsed. Write one JSON object with the keys "name" and "arguments", the way the tools '
    "were introduced, and close it."
)


def refuse_malformed_call() -> str:
    """
    The tool behind [`MALFORMED_CALL`].

    Raises:
        `ValueError`: Always, with what the model is to do.
    """
    raise ValueError(_ANSWER)


@contextmanager
def malformed_calls_as_calls(tokenizer: Any, end_ids: set[int]) -> Iterator[None]:
    """
    Context manager in which `tokenizer.parse_response` gives a message with a call of [`MALFORMED_CALL`] for a message
    that opens a tool call and holds one that cannot be executed. A message that was cut off stays as it is: it has used up
    the rollout's tokens.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the policy, with a response template.
        end_ids (`set[int]`):
            Token ids that end a message.
    """
    opening = tool_call_opening(tokenizer)
    parse = tokenizer.parse_response

    def parse_response(ids: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            message = parse(ids, *args, **kwargs)
        except (ValueError, TypeError):
            message = None
        calls = (message or {}).get("tool_calls") or []
        if message is not None and calls and all(_is_executable(call) for call in calls):
            return message
        text = tokenizer.decode(ids, skip_special_tokens=True)
        if opening is None or not opening.search(text) or ids[-1] not in end_ids:
            return message if message is not None else {"role": "assistant", "content": text}
        call = {"type": "function", "function": {"name": MALFORMED_CALL, "arguments": {}}}
        return {"role": "assistant", "content": text, "tool_calls": [call]}

    tokenizer.parse_response = parse_response
    try:
        yield
    finally:
        del tokenizer.parse_response


def _is_executable(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments"), dict)
    )
