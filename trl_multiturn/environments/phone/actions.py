"""Reading and writing the replies of a GUI agent: a thought, a sentence, and a call of `mobile_use`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .mobile_use import (
    TOOL_NAME,
    Action,
    ActionError,
    CoordinateSpace,
    check_action,
    kind,
    scale_action,
    shown,
)


__all__ = [
    "Action",
    "ActionError",
    "CoordinateSpace",
    "ParsedReply",
    "check_action",
    "parse_action",
    "read_call",
    "scale_action",
    "write_reply",
]

MAX_REPLY_CHARS = 20_000

_TAGS = ("think", "action", "tool_call")
_REPLY = re.compile(r"\s*".join(["", *(rf"<{tag}>(.*)</{tag}>" for tag in _TAGS), ""]), re.DOTALL)


@dataclass(frozen=True)
class ParsedReply:
    """
    The three parts of a reply.

    Args:
        thought (`str`):
            What stands in `<think>`.
        description (`str`):
            What stands in `<action>`: the action as a sentence.
        action ([`Action`]):
            What stands in `<tool_call>`.
    """

    thought: str
    description: str
    action: Action


def parse_action(
    reply: str | Mapping[str, Any], size: tuple[int, int], coordinate_space: CoordinateSpace = "pixel"
) -> ParsedReply:
    """
    Read a reply: `<think>...</think><action>...</action><tool_call>{json}</tool_call>`, each part once, in this order, with
    nothing but blanks between them.

    Args:
        reply (`str` or `dict`):
            The reply's text; or an assistant message as a chat template's parser gives it, with the call in `tool_calls`
            and the thought in `reasoning_content` or still in `content`.
        size (`tuple[int, int]`):
            Width and height of the screen in pixels.
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            See [`check_action`].

    Returns:
        [`ParsedReply`]: Thought, description and action.

    Raises:
        [`ActionError`]: For every other reply, saying what is wrong with it.

    Example:

    ```python
    >>> reply = '<think>Done.</think><action>End.</action><tool_call>{"name": "mobile_use", "arguments": \
    {"action": "terminate", "status": "success"}}</tool_call>'
    >>> parse_action(reply, size=(392, 784)).action
    Action(action='terminate', ..., status='success')
    ```
    """
    if isinstance(reply, str):
        thought, description, call = _split(reply)
        return ParsedReply(thought, description, read_call(call, size, coordinate_space))
    if not isinstance(reply, Mapping):
        raise ActionError(f"A reply must be text or a message, got {kind(reply)}.")
    calls = reply.get("tool_calls")
    if not calls:
        # A call that the template's parser could not read is still in the text, which says better what is wrong.
        return parse_action(_thought_tag(reply) + _content(reply), size, coordinate_space)
    if not isinstance(calls, list) or len(calls) != 1:
        raise ActionError("A reply must hold exactly one call of mobile_use.")
    thought, description, _ = _split(f"{_thought_tag(reply)}{_content(reply)}<tool_call> </tool_call>")
    call = calls[0]
    if isinstance(call, Mapping) and "function" in call:
        call = call["function"]
    return ParsedReply(thought, description, read_call(call, size, coordinate_space))


def write_reply(thought: str, description: str, action: Action) -> str:
    """
    Write the reply that [`parse_action`] reads, as Qwen's chat templates write the call.

    Args:
        thought (`str`):
            The thought.
        description (`str`):
            The action as a sentence.
        action ([`Action`]):
            The call.

    Returns:
        `str`: The reply.

    Raises:
        `ValueError`: If a part is empty or holds one of the tags.
    """
    call = json.dumps(action.to_call(), ensure_ascii=False)
    for part in (thought, description, call):
        if not part.strip() or any(f"<{end}{tag}>" in part for tag in _TAGS for end in ("", "/")):
            raise ValueError(f"a part of a reply must hold text and none of its tags, got {part!r:.200}")
    return f"<think>{thought}</think>\n<action>{description}</action>\n<tool_call>\n{call}\n</tool_call>"


# --- the text of a reply


def _split(reply: str) -> tuple[str, str, str]:
    """Thought, description and the call's JSON."""
    if len(reply) > MAX_REPLY_CHARS:
        raise ActionError(f"The reply has {len(reply)} characters; at most {MAX_REPLY_CHARS} are allowed.")
    for tag in _TAGS:
        opened, closed = reply.count(f"<{tag}>"), reply.count(f"</{tag}>")
        if (opened, closed) != (1, 1):
            raise ActionError(
                f"A reply needs <{tag}> and </{tag}> once each, got {opened} of <{tag}> and {closed} of </{tag}>. "
                "Write <think>...</think><action>...</action><tool_call>{...}</tool_call>."
            )
    found = _REPLY.fullmatch(reply)
    if found is None:
        raise ActionError(
            "The parts of a reply must be <think>...</think><action>...</action><tool_call>{...}</tool_call>, in this "
            "order and with nothing else before, between or after them."
        )
    thought, description, call = (part.strip() for part in found.groups())
    for tag, part in (("think", thought), ("action", description)):
        if not part:
            raise ActionError(f"There must be some text between <{tag}> and </{tag}>.")
    return thought, description, call


def _thought_tag(message: Mapping[str, Any]) -> str:
    """A message's thought in its tag, where the chat template's parser took it out of the text."""
    thought = message.get("reasoning_content")
    if not thought:
        return ""
    if not isinstance(thought, str):
        raise ActionError(f"The thought must be text, got {kind(thought)}.")
    return f"<think>{thought}</think>"


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        texts = [block.get("text") for block in content if isinstance(block, Mapping) and block.get("type") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


# --- the call


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ActionError(f"The call is no JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise ActionError("The call is no JSON that can be read: it is nested too deep.") from None
    except ActionError:
        raise
    except ValueError:
        # Python reads no number of more than some thousand digits.
        raise ActionError("The call is no JSON that can be read: it holds a number with too many digits.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ActionError(f"The call names {shown(twice)} twice in one object.")
    return dict(pairs)


def _refuse(name: str) -> Any:
    raise ActionError(f"The call is no JSON: {name} is no number.")


def read_call(call: Any, size: tuple[int, int], coordinate_space: CoordinateSpace = "pixel") -> Action:
    """
    Read a call: an object with `name` and `arguments`.

    Args:
        call (`str` or `dict`):
            The call, as JSON or parsed.
        size (`tuple[int, int]`):
            Width and height of the screen in pixels.
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            See [`check_action`].

    Returns:
        [`Action`]: The action, its points in pixels.

    Raises:
        [`ActionError`]: If it is no call of `mobile_use`.
    """
    if isinstance(call, str):
        call = _read_json(call)
    if not isinstance(call, Mapping):
        raise ActionError(f"The call must be a JSON object, got {kind(call)}.")
    if "name" not in call or "arguments" not in call:
        raise ActionError('The call must have a name and arguments: {"name": "mobile_use", "arguments": {...}}.')
    for name in call:
        if name not in ("name", "arguments"):
            raise ActionError(f"The call must have a name and arguments and nothing else, got {shown(name)}.")
    if call["name"] != TOOL_NAME:
        raise ActionError(f"The only function is {TOOL_NAME}, got {shown(call['name'])}.")
    arguments = call["arguments"]
    if isinstance(arguments, str):
        arguments = _read_json(arguments[: MAX_REPLY_CHARS + 1])
    return check_action(arguments, size, coordinate_space)
