"""What real services do to their callers, as wrappers of a backend: limited rates, failures that pass, cut answers."""

import copy
import json
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any

from .backend import Backend, TransientError, ask, begin
from .call_keys import call_key, canonical_json, chance, normalize_arguments


if TYPE_CHECKING:
    from typing_extensions import Self


class _Wrapper(ABC):
    """A backend around a backend that changes how or what it answers."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def version(self) -> str:
        return self.backend.version

    def session(self) -> "Self":
        """The same wrapper for one rollout."""
        session = copy.copy(self)
        session.backend = begin(self.backend)
        return session

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        return self.call_at(name, arguments, 0)

    @abstractmethod
    def call_at(self, name: str, arguments: dict[str, Any], epoch: int) -> Any:
        """Answers at an epoch (see [`Backend`]), in the wrapper's way."""


class RateLimit(_Wrapper):
    """
    Token bucket in front of a backend: callers wait for their turn, but not for long.

    Put it between a cache and the backend, so that only calls that reach the backend count. Threads of one process share the
    bucket; processes do not, so give each its part of the rate.

    Args:
        backend ([`Backend`]):
            What is asked.
        rate (`float`):
            Calls per second in the long run.
        burst (`int`, *optional*, defaults to `1`):
            Calls that may come at once after a rest.
        max_wait (`float`, *optional*, defaults to `10.0`):
            Seconds that a call waits at most. One that would wait longer fails at once with a [`TransientError`] `"rate_limited"`.

    Raises:
        `ValueError`: If an argument is out of range.
    """

    def __init__(self, backend: Backend, rate: float, burst: int = 1, max_wait: float = 10.0) -> None:
        if not (rate > 0 and burst >= 1 and max_wait >= 0):
            raise ValueError(f"rate > 0, burst >= 1 and max_wait >= 0 are needed, got {rate}, {burst}, {max_wait}.")
        super().__init__(backend)
        self._bucket = _TokenBucket(rate, burst, max_wait)  # one for all sessions

    def call_at(self, name: str, arguments: dict[str, Any], epoch: int) -> Any:
        """Answers as the backend does, when it is this call's turn."""
        time.sleep(self._bucket.take())
        return ask(self.backend, name, arguments, epoch)


class _TokenBucket:
    def __init__(self, rate: float, burst: int, max_wait: float) -> None:
        self._rate, self._burst, self._max_wait = rate, burst, max_wait
        self._tokens, self._filled_at = float(burst), time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Takes a token, on credit if there is none, and returns the seconds until it exists."""
        with self._lock:
            now = time.monotonic()
            tokens = min(float(self._burst), self._tokens + (now - self._filled_at) * self._rate)
            wait = max(0.0, (1 - tokens) / self._rate)
            if wait > self._max_wait:
                raise TransientError("rate_limited", f"too many calls. Try again in {wait:.0f} seconds.")
            self._tokens, self._filled_at = tokens - 1, now
        return wait


class TransientFailures(_Wrapper):
    """
    Makes some calls fail in a way that passes: the same call made again may succeed.

    Whether attempt number n of a call fails is a function of the seed, the call and n. The attempts are counted in a session, of
    which each rollout needs its own ([`session`]): then all rollouts of a group meet the same failures, whatever the others did
    before. Put it around a cache, in front of the environment.

    Args:
        backend ([`Backend`]):
            What is asked.
        probability (`float`):
            Share of attempts that fail, from 0 to 1.
        seed (`int`, *optional*, defaults to `0`):
            Chooses which fail.

    Raises:
        `ValueError`: If the probability is out of range.
    """

    def __init__(self, backend: Backend, probability: float, seed: int = 0) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"`probability` must be from 0 to 1, got {probability}.")
        super().__init__(backend)
        self._probability, self._seed = probability, seed
        self._forget()

    def _forget(self) -> None:
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def session(self) -> "Self":
        """
        The same backend for one rollout, with no attempts made yet.

        Returns:
            [`TransientFailures`]: To be asked in place of this one until the rollout ends.
        """
        session = super().session()
        session._forget()
        return session

    def call_at(self, name: str, arguments: dict[str, Any], epoch: int) -> Any:
        """Answers as the backend does, or fails with a [`TransientError`] `"unavailable"`."""
        key = call_key(name, canonical_json(normalize_arguments(arguments)), self.version)
        with self._lock:
            attempt = self._attempts[key]
            self._attempts[key] += 1
        if chance(self._seed, key, attempt) < self._probability:
            raise TransientError("unavailable", f"{name} did not answer. Try again.")
        return ask(self.backend, name, arguments, epoch)


class Truncation(_Wrapper):
    """
    Cuts long answers, and says so at the cut.

    Of a list, the first `rows` are kept, fewer if they are longer than `characters` as JSON, and a row `{"truncated": ...}` is
    added. Any other value that is too long becomes the beginning of its text with a note. The version says what is cut, so that
    a cache around it keeps whole and cut answers apart.

    Args:
        backend ([`Backend`]):
            What is asked.
        rows (`int`, *optional*):
            Most elements of a list.
        characters (`int`, *optional*):
            Most characters of an answer as JSON, without the note.

    Raises:
        `ValueError`: If a limit is below 1.
    """

    def __init__(self, backend: Backend, rows: int | None = None, characters: int | None = None) -> None:
        if any(limit is not None and limit < 1 for limit in (rows, characters)):
            raise ValueError(f"limits must be at least 1, got {rows} rows and {characters} characters.")
        super().__init__(backend)
        self._rows, self._characters = rows, characters

    @property
    def version(self) -> str:
        """Version of the backend and the limits."""
        return f"{self.backend.version}+truncated:{self._rows},{self._characters}"

    def call_at(self, name: str, arguments: dict[str, Any], epoch: int) -> Any:
        """Answers as the backend does, within the limits."""
        answer = ask(self.backend, name, arguments, epoch)
        if isinstance(answer, list | tuple):
            kept = self._fitting(list(answer))
            if len(kept) == len(answer):
                return answer
            return [*kept, {"truncated": f"{len(kept)} of {len(answer)} rows"}]
        if self._characters is None:
            return answer
        text = answer if isinstance(answer, str) else _dump(answer)
        if len(text) <= self._characters:
            return answer
        return f"{text[: self._characters]}... [truncated: {self._characters:,} of {len(text):,} characters]"

    def _fitting(self, rows: list[Any]) -> list[Any]:
        rows = rows[: self._rows]
        if self._characters is None:
            return rows
        length = 1
        for count, row in enumerate(rows):
            length += len(_dump(row)) + 1
            if length > self._characters:
                return rows[:count]
        return rows


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
