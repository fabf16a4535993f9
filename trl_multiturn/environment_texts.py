"""What environments say, made fit for a tokenizer: texts that cannot fit, and characters that are none."""

from collections.abc import Callable
from typing import Any


def valid_text(text: str) -> str:
    """
    A text without lone surrogates, which no tokenizer takes. JSON can hold them, and so can the names of files.

    Args:
        text (`str`):
            Any text.

    Returns:
        `str`: With U+FFFD in their place.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def make_valid(content: str | list[Any]) -> str | list[Any]:
    """
    The content of a message without lone surrogates.

    Args:
        content (`str` or `list`):
            Text, or content blocks, which are changed in place.
    """
    if isinstance(content, str):
        return valid_text(content)
    for block in content:
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            block["text"] = valid_text(block["text"])
    return content


def tokenize_in_bounds(
    tokenize: Callable[[list[dict[str, Any]]], list[int]],
    messages: list[dict[str, Any]],
    max_tokens: int,
    longest_token: int,
) -> list[int]:
    """
    Tokens of what tools have said. Of a text that has more than `max_tokens` however it is tokenized, only so much is.

    TRL drops such a text: without this it would first take its time, and many times its memory, to count the tokens.

    Args:
        tokenize (`Callable`):
            Gives the tokens of messages.
        messages (`list[dict]`):
            Messages of tools. Lone surrogates in them are replaced in place.
        max_tokens (`int`):
            Tokens beyond which the messages are dropped.
        longest_token (`int`):
            Characters of the longest token.
    """
    for message in messages:
        message["content"] = make_valid(message["content"])
    limit = (max_tokens + 1) * longest_token
    if all(_length(message) <= limit for message in messages):
        return tokenize(messages)
    ids = tokenize([_cut(message, limit) for message in messages])
    return ids if len(ids) > max_tokens else tokenize(messages)


def _length(message: dict[str, Any]) -> int:
    content = message.get("content") or ""
    texts = [content] if isinstance(content, str) else [b.get("text") or "" for b in content if isinstance(b, dict)]
    return max(map(len, texts), default=0)


def _cut(message: dict[str, Any], limit: int) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content[:limit]}
    blocks = [{**b, "text": b["text"][:limit]} if isinstance(b, dict) and "text" in b else b for b in content]
    return {**message, "content": blocks}


def tokenize_prompts_in_bounds(
    tokenize: Callable[[list[Any]], tuple],
    prompts: list[Any],
    environments: list[Any] | None,
    max_tokens: int | None,
    longest_token: int,
) -> tuple:
    """
    Tokens of prompts, of which none may be longer than the model's context for what an environment's reset has added.

    Args:
        tokenize (`Callable`):
            Gives the tokens of prompts, and more.
        prompts (`list`):
            Messages of each prompt.
        environments (`list` or `None`):
            Environment of each rollout.
        max_tokens (`int` or `None`):
            Tokens that the model reads.
        longest_token (`int`):
            Characters of the longest token.

    Raises:
        `ValueError`: If a prompt leaves no room for an answer.
    """
    if not environments or max_tokens is None:
        return tokenize(prompts)
    limit = max_tokens * longest_token
    for messages, environment in zip(prompts, environments, strict=False):
        length = max(map(_length, messages))
        if length > limit:
            raise ValueError(_too_long(f"{length:,} characters", environment, max_tokens))
    tokenized = tokenize(prompts)
    for ids, environment in zip(tokenized[0], environments, strict=False):
        if len(ids) >= max_tokens:
            raise ValueError(_too_long(f"{len(ids):,} tokens", environment, max_tokens))
    return tokenized


def _too_long(length: str, environment: Any, max_tokens: int) -> str:
    return (
        f"A prompt has {length} with what {type(environment).__name__}.reset has added to it, and the model reads "
        f"{max_tokens:,} tokens. Let reset return less."
    )
