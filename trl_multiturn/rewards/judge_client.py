"""Asks a judge over HTTP, and reads its verdict."""

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..environments.requirements import require
from .verdicts import VerdictUnavailable


T = TypeVar("T")

KEY_VARIABLE = "OPENAI_API_KEY"
MAX_ANSWER_BYTES = 1_000_000
MAX_REASON_CHARS = 500
MAX_WAIT_SECONDS = 60.0

_FIRST_WAIT_SECONDS = 0.5
_RETRIED = {408, 429}
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"\A```(?:json)?\n(.*)\n```\Z", re.DOTALL)


class JudgeError(RuntimeError):
    """The judge refuses what it is sent, such as a wrong key or an unknown model. Trying again would not help."""


class JudgeUnavailable(VerdictUnavailable):
    """The judge could not be reached, or not in time, also when tried again."""


@dataclass(frozen=True)
class Judgement:
    """
    What a judge said.

    Args:
        passed (`bool`):
            Its verdict; `False` if its answer could not be read.
        reason (`str`):
            Its reason, cut to 500 characters.
        counts (`dict[str, int]`):
            `"judge/calls"` (requests that were answered), `"judge/retries"` (requests made again because of the network
            or the server) and `"judge/unparsable"` (1 if no verdict could be read, also when asked again).
    """

    passed: bool
    reason: str
    counts: dict[str, int]


class _Failure(Exception):
    """A request that may succeed when made again, `wait` seconds later at the earliest."""

    def __init__(self, told: str, wait: float = 0.0) -> None:
        super().__init__(told)
        self.wait = wait


class JudgeClient:
    """
    Asks a judge at `POST {base_url}/chat/completions`. Needs the package `httpx2` (extra `judge`).

    The judge must answer `{"verdict": 0 or 1, "reason": "..."}`, after thoughts between `<think>` tags and in a fence at
    most. An answer that is not that is asked for once more; then it counts as 0. A judge that does not answer is another
    matter: network failures, timeouts and the statuses 408, 429 and 5xx are retried with growing waits (as long as
    `Retry-After` says, up to 60 seconds), then [`JudgeUnavailable`] is raised. Any other status raises [`JudgeError`] at once.

    It may be used by several threads; requests beyond `concurrency` wait. The key is shown nowhere.

    Args:
        base_url (`str`):
            Address that `/chat/completions` is below, such as `"http://localhost:8000/v1"`.
        model (`str`):
            Name of the model there.
        api_key (`str`, *optional*):
            Key. The environment variable `OPENAI_API_KEY` if `None`, and no key if that is not set.
        timeout (`float`, *optional*, defaults to `60.0`):
            Seconds that one answer may take.
        max_retries (`int`, *optional*, defaults to `2`):
            How often a request is made again.
        concurrency (`int`, *optional*, defaults to `8`):
            How many requests may run at once.

    Raises:
        `ValueError`: If an argument makes no sense.
        `ImportError`: If `httpx2` is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
        concurrency: int = 8,
    ) -> None:
        _check_arguments(base_url, model, timeout, max_retries, concurrency)
        self._httpx = require("httpx2", "judge")
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.concurrency = concurrency
        self._timeout = timeout
        self._max_retries = max_retries
        self._slots = threading.BoundedSemaphore(concurrency)
        # Kept only where the client hides it from its own `repr`.
        headers = _headers(os.environ.get(KEY_VARIABLE) if api_key is None else api_key)
        limits = self._httpx.Limits(max_connections=concurrency)
        self._client = self._httpx.Client(timeout=timeout, follow_redirects=False, headers=headers, limits=limits)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, {self.model!r})"

    def judge(self, instructions: str, case: str) -> Judgement:
        """
        Ask for one verdict.

        Args:
            instructions (`str`):
                What the judge is to do: the system message.
            case (`str`):
                What it is to judge: the user message.

        Returns:
            [`Judgement`]

        Raises:
            [`JudgeUnavailable`]: If the judge could not be reached.
            [`JudgeError`]: If it refuses the request.
        """
        verdict, answer, counts = self.ask(instructions, case, read_verdict)
        if verdict is not None:
            return Judgement(*verdict, counts)
        return Judgement(False, f"the judge's answer is no verdict: {answer[:100]!r}", counts)

    def ask(
        self, instructions: str, case: str | list[dict[str, Any]], read: Callable[[str], T | None]
    ) -> tuple[T | None, str, dict[str, int]]:
        """
        Ask for an answer of any form; once more if it cannot be read.

        Args:
            instructions (`str`):
                What the judge is to do: the system message.
            case (`str` or `list[dict]`):
                What it is to judge: the user message, as text or as content parts.
            read (`Callable`):
                Reads an answer; `None` if it is not what was asked for.

        Returns:
            `tuple[Any, str, dict[str, int]]`: What was read, or `None`; the last answer; and the counts of [`Judgement`].

        Raises:
            [`JudgeUnavailable`]: If the judge could not be reached.
            [`JudgeError`]: If it refuses the request.
        """
        counts = {"judge/calls": 0, "judge/retries": 0, "judge/unparsable": 0}
        messages = [{"role": "system", "content": instructions}, {"role": "user", "content": case}]
        body = {"model": self.model, "messages": messages, "temperature": 0}
        answer = ""
        for _ in range(2):
            answer = self._ask(body, counts)
            counts["judge/calls"] += 1
            if (value := read(answer)) is not None:
                return value, answer, counts
        counts["judge/unparsable"] = 1
        return None, answer, counts

    def _ask(self, body: dict[str, Any], counts: dict[str, int]) -> str:
        """The judge's answer; tries again where that may help."""
        wait = _FIRST_WAIT_SECONDS
        for attempt in range(self._max_retries + 1):
            try:
                with self._slots:
                    return self._post(body)
            except _Failure as failure:
                if attempt == self._max_retries:
                    raise JudgeUnavailable(f"{failure} (tried {attempt + 1} times)") from None
                counts["judge/retries"] += 1
                time.sleep(min(max(wait, failure.wait), MAX_WAIT_SECONDS))
                wait *= 2
        raise AssertionError("unreachable")

    def _post(self, body: dict[str, Any]) -> str:
        # The errors of the client are never chained: their texts are not ours, and may quote what was sent.
        try:
            status, retry_after, answer = self._exchange(body)
        except self._httpx.TimeoutException:
            raise _Failure(f"the judge did not answer within {self._timeout:g} seconds") from None
        except self._httpx.HTTPError as error:
            raise _Failure(f"the judge cannot be reached ({type(error).__name__})") from None
        if status in _RETRIED or status >= 500:
            raise _Failure(f"the judge answered with HTTP {status}", _seconds(retry_after))
        if status in (401, 403):
            raise JudgeError(
                f"the judge at {self.base_url} refuses the key (HTTP {status}): set api_key or {KEY_VARIABLE}"
            )
        if status != 200:
            raise JudgeError(f"the judge at {self.base_url} refuses the request for {self.model!r} (HTTP {status})")
        try:
            content = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise _Failure("what answered is no chat-completions endpoint") from None
        return content if isinstance(content, str) else ""

    def _exchange(self, body: dict[str, Any]) -> tuple[int, str | None, bytes]:
        deadline = time.monotonic() + self._timeout
        answer = bytearray()
        with self._client.stream("POST", f"{self.base_url}/chat/completions", json=body) as response:
            # The client's own limit is for each read: a server that sends a byte now and then would hold us for ever.
            for chunk in response.iter_bytes():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise _Failure(f"the judge's answer has more than {MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise _Failure(f"the judge did not answer within {self._timeout:g} seconds")
            return response.status_code, response.headers.get("retry-after"), bytes(answer)


def read_object(answer: str) -> dict[str, Any] | None:
    """
    Read a JSON object from a judge's answer, after thoughts and in a fence at most.

    Args:
        answer (`str`):
            What it wrote.

    Returns:
        `dict[str, Any]` or `None`: The object; `None` if the answer is anything else.
    """
    text = _THOUGHTS.sub("", answer, count=1).strip()
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_verdict(answer: str) -> tuple[bool, str] | None:
    """
    Read a judge's answer.

    Args:
        answer (`str`):
            What it wrote.

    Returns:
        `tuple[bool, str]` or `None`: Verdict and reason; `None` if it is not exactly what was asked for.
    """
    value = read_object(answer)
    if value is None or set(value) != {"verdict", "reason"}:
        return None
    verdict, reason = value["verdict"], value["reason"]
    if type(verdict) is not int or verdict not in (0, 1) or not isinstance(reason, str):
        return None
    return bool(verdict), reason[:MAX_REASON_CHARS]


def data_block(text: str, limit: int) -> str:
    """
    Untrusted text between tags that it cannot hold itself, because they depend on it.

    Args:
        text (`str`):
            Text from a model or a tool.
        limit (`int`):
            Characters shown.

    Returns:
        `str`: The text, cut to length and said to be, between its tags.
    """
    text = text.encode("utf-8", errors="replace").decode()
    tag = f"data-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    cut = "" if len(text) <= limit else f"\n[cut: {limit} of {len(text)} characters are shown]"
    return f"<{tag}>\n{text[:limit]}\n</{tag}>{cut}"


def _check_arguments(base_url: str, model: str, timeout: float, max_retries: int, concurrency: int) -> None:
    try:
        parts = urlsplit(base_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError("base_url must be an http or https address, such as 'http://localhost:8000/v1'")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("base_url must hold neither a name, a password nor a query: give the key as api_key")
    if not model:
        raise ValueError("model must name a model")
    if not 0 < timeout < float("inf") or max_retries < 0 or concurrency < 1:
        raise ValueError(
            "timeout must be positive, max_retries not negative and concurrency at least 1, got "
            f"{timeout}, {max_retries} and {concurrency}"
        )


def _headers(key: str | None) -> dict[str, str]:
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        # A client's own error about such a header would quote it.
        raise ValueError("the key holds characters that no key has, such as a space or the end of a line")
    return {"Authorization": f"Bearer {key}"}


def _seconds(retry_after: str | None) -> float:
    """Seconds that a server asks to wait; 0 where it does not, or names a date."""
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
