"""What makes two tool calls the same call: normalised arguments, and the key made from them."""

import hashlib
import json
import unicodedata
from typing import Any

from .errors import ToolError


MAX_ARGUMENT_CHARS = 10_000
MAX_ARGUMENT_DEPTH = 16


def normalize_arguments(arguments: Any) -> dict[str, Any]:
    """
    The form in which the arguments of a call are compared, stored and passed on.

    Keys are sorted and entries that are `None` dropped. In strings, Unicode is composed (NFC) and runs of white space become
    one space; upper and lower case stay. A float without a fraction is an integer. Tools whose arguments mean something by
    their white space, such as program text, therefore do not belong behind a cache.

    Args:
        arguments (`dict[str, Any]`):
            Arguments of a tool call, JSON values all the way down.

    Returns:
        `dict[str, Any]`: The arguments in normal form.

    Raises:
        [`ToolError`]: `"bad_arguments"` if they are not an object of JSON values, `"arguments_too_large"` if they are longer than
            10,000 characters as JSON or nested deeper than 16.
    """
    if not isinstance(arguments, dict):
        raise ToolError("bad_arguments", f"the arguments must be an object, got {type(arguments).__name__}.")
    return _normalize(arguments, MAX_ARGUMENT_DEPTH)


def canonical_json(value: Any) -> str:
    """
    JSON text of normalised arguments: sorted, without spaces, and the same for the same value.

    Args:
        value (`Any`):
            Arguments from [`normalize_arguments`].

    Returns:
        `str`: The text, at most 10,000 characters.

    Raises:
        [`ToolError`]: `"bad_arguments"` or `"arguments_too_large"`.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        text.encode()  # half a surrogate pair, which "\ud83d" in a model's JSON gives, has no UTF-8
    except ValueError as error:
        raise ToolError("bad_arguments", f"the arguments are no JSON: {str(error)[:200]}.") from None
    if len(text) > MAX_ARGUMENT_CHARS:
        raise _too_large(f"{len(text):,} characters")
    return text


def call_key(tool: str, arguments: str, version: str) -> str:
    """
    Key of a call.

    Args:
        tool (`str`):
            Name of the tool.
        arguments (`str`):
            Its arguments as [`canonical_json`].
        version (`str`):
            Version of the world that answers.

    Returns:
        `str`: SHA-256 in hexadecimal.
    """
    return hashlib.sha256(json.dumps([tool, arguments, version]).encode()).hexdigest()


def chance(seed: int, key: str, *more: int) -> float:
    """
    A number from 0 to 1 that depends on nothing but the arguments: uniform over keys, and the same on every process.

    Args:
        seed (`int`):
            Seed.
        key (`str`):
            Key of a call.
        *more (`int`):
            What else tells draws apart, such as the number of the attempt.

    Returns:
        `float`: At least 0, less than 1.
    """
    digest = hashlib.sha256(":".join((str(seed), key, *map(str, more))).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def _normalize(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        if len(value) > MAX_ARGUMENT_CHARS:
            raise _too_large(f"a string of {len(value):,} characters")
        return " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if not isinstance(value, dict | list | tuple):
        raise ToolError("bad_arguments", f"{type(value).__name__} is no JSON value.")
    if depth == 0 or len(value) > MAX_ARGUMENT_CHARS:
        raise _too_large(f"{len(value):,} entries" if depth else f"nested deeper than {MAX_ARGUMENT_DEPTH}")
    if not isinstance(value, dict):
        return [_normalize(item, depth - 1) for item in value]
    if not all(isinstance(name, str) for name in value):
        raise ToolError("bad_arguments", "the names of arguments must be strings.")
    return {name: _normalize(value[name], depth - 1) for name in sorted(value) if value[name] is not None}


def _too_large(what: str) -> ToolError:
    limit = f"at most {MAX_ARGUMENT_CHARS:,} characters, {MAX_ARGUMENT_DEPTH} levels deep"
    return ToolError("arguments_too_large", f"{what}, but the arguments may be {limit}.")
