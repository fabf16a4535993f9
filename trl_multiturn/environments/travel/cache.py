"""A cache for the tools of any environment: records what a backend answers, and replays it without the backend."""

import json
import logging
import threading
import time
from collections import Counter, OrderedDict
from os import PathLike, getpid
from typing import Any, Literal, NamedTuple

from .backend import Backend, TransientError, ask
from .cache_store import CacheError, CacheStore, Record
from .call_keys import call_key, canonical_json, chance, normalize_arguments
from .errors import ToolError


logger = logging.getLogger(__name__)

_HITS_PER_FLUSH = 1000
_LOCKS = 64
_MISS_CANDIDATES = 200
_MISS_EXAMPLES = 3


class _Answer(NamedTuple):
    """What is known of a call in memory. `refreshes` is how many refreshes `epoch` has taken into account."""

    refreshes: int
    epoch: int
    response: str
    error: bool


class ToolCache:
    """
    A backend that answers tool calls from a file, and another backend where the file has no answer.

    A call is known by its tool, its arguments in normal form ([`normalize_arguments`], which is also how the backend gets them) and
    the version of the world. Whoever records a call first decides its answer for every process and thread; errors of the kind
    [`ToolError`] are answers too and replayed as such, unless they are a [`TransientError`]. Any other exception of the backend
    passes through and nothing is stored.

    Only tools that read belong behind a cache: of a tool that changes something, such as a booking, the second call would not reach
    the backend.

    Args:
        path (`str` or `Path`):
            File of the cache, on a local disk. One file may hold several versions.
        backend ([`Backend`], *optional*):
            What answers a call that is not in the file. `"replay"` needs none.
        mode (`str`, *optional*, defaults to `"replay"`):
            - `"replay"`: the file only; the backend is never asked. What is not there is a [`ToolError`] `"cache_miss"` that names
              similar calls that are.
            - `"record"`: the file, and on a miss the backend, whose answer is stored.
            - `"live"`: the backend only; the file is neither read nor written, nor opened.
        version (`str`, *optional*):
            Version of the world. The backend's by default; without a backend, the one version that the file holds.
        memory (`int`, *optional*, defaults to `10000`):
            Number of answers, the last used, that are kept in memory too.

    Raises:
        [`CacheError`]: If the file cannot be used.
        `ValueError`: If an argument is wrong, or the version is not clear.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        backend: Backend | None = None,
        mode: Literal["replay", "record", "live"] = "replay",
        version: str | None = None,
        memory: int = 10_000,
    ) -> None:
        if mode not in ("replay", "record", "live"):
            raise ValueError(f"`mode` must be 'replay', 'record' or 'live', got {mode!r}.")
        if backend is None and mode != "replay":
            raise ValueError(f"mode {mode!r} needs a backend to ask.")
        if memory < 0:
            raise ValueError(f"`memory` must not be negative, got {memory}.")
        self.mode = mode
        self._backend = backend
        self._store = None if mode == "live" else CacheStore(str(path), create=mode == "record")
        self._memory_size = memory
        self._memory: OrderedDict[str, _Answer] = OrderedDict()
        self._start_process()
        if version is None:
            version = backend.version if backend is not None else self._only_version()
        self.version = version

    def __enter__(self) -> "ToolCache":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """
        Answers a call.

        Args:
            name (`str`):
                Name of the tool.
            arguments (`dict[str, Any]`):
                Arguments of the tool.

        Returns:
            A JSON value, the caller's own to change.

        Raises:
            [`ToolError`]: What was recorded as an error, a miss in replay, or arguments that are too large or no JSON.
            [`CacheError`]: If the file fails, or the backend's answer is no JSON.
        """
        arguments = normalize_arguments(arguments)
        text = canonical_json(arguments)
        if getpid() != self._pid:
            self._start_process()
        if self._store is None:
            self._count_miss(name)
            return json.loads(_dump(name, self._require_backend().call(name, arguments)))
        key = call_key(name, text, self.version)
        answer = self._recall(self._store, key)
        if answer is not None:
            self._count_hit(name, key)
        elif self.mode == "replay":
            self._count_miss(name)
            raise ToolError("cache_miss", self._miss_message(self._store, name, arguments, text))
        else:
            answer = self._record(self._store, key, name, arguments, text)
        if answer.error:
            raise ToolError(*json.loads(answer.response))
        return json.loads(answer.response)

    def refresh(self, fraction: float, seed: int) -> int:
        """
        Makes a part of the answers old, as the daily update of a live service does: the next recording asks the backend anew.

        A call is chosen by the seed and its key alone, so recorded or not, on this process or another, now or later, the same calls
        change and no other. In replay, a call that was refreshed is a miss until it has been recorded again. The pair of fraction and
        seed names the update: giving it again changes nothing, so that every process of a run may do so.

        Args:
            fraction (`float`):
                Share of the calls, from 0 to 1.
            seed (`int`):
                What chooses them.

        Returns:
            `int`: How many of the recorded calls of this version are chosen.

        Raises:
            [`CacheError`]: If the file cannot be written to.
            `ValueError`: If the fraction is out of range, or the mode is `"live"`.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"`fraction` must be from 0 to 1, got {fraction}.")
        if self._store is None:
            raise ValueError("a live cache has nothing to refresh.")
        self._store.add_refresh(float(fraction), int(seed))
        keys = self._store.query("SELECT key FROM responses WHERE version = ?", self.version)
        return sum(chance(seed, key) < fraction for (key,) in keys)

    @property
    def stats(self) -> dict[str, Any]:
        """
        What the cache holds and did.

        `records` counts answers of this version in the file, `stale` those among them that a refresh made old, `refreshes` the
        refreshes; `hits` and `misses` count calls of this process, and `by_tool` has the same for each tool.
        """
        records: Counter[str] = Counter()
        stale: Counter[str] = Counter()
        refreshes: tuple[tuple[float, int], ...] = ()
        if self._store is not None:
            refreshes = self._store.refreshes()
            for key, tool, epoch in self._store.query(
                "SELECT key, tool, epoch FROM responses WHERE version = ?", self.version
            ):
                records[tool] += 1
                stale[tool] += epoch < _epoch(key, refreshes)
        counts = {"records": records, "stale": stale, "hits": self._hits, "misses": self._misses}
        tools = sorted(set().union(*counts.values()))
        return {
            "mode": self.mode,
            "version": self.version,
            "refreshes": len(refreshes),
            **{name: sum(count.values()) for name, count in counts.items()},
            "by_tool": {tool: {name: count[tool] for name, count in counts.items()} for tool in tools},
        }

    def flush(self) -> None:
        """Writes the numbers of hits to the file, which otherwise happens every 1,000 hits. Does nothing if it is read-only."""
        if self._store is None or self._store.read_only:
            return
        with self._lock:
            unsaved = dict(self._unsaved_hits)
            self._unsaved_hits.clear()
            self._unsaved = 0
        if not unsaved:
            return
        try:
            self._store.add_hits(unsaved)
        except CacheError as error:  # answers do not depend on these numbers
            logger.warning("The hits were not stored: %s", error)

    def close(self) -> None:
        """Writes the numbers of hits and closes the file."""
        self.flush()
        if self._store is not None:
            self._store.close()

    def _start_process(self) -> None:
        """State that a forked child must not share: locks that another thread may hold, and counts that the parent will store."""
        self._pid = getpid()
        self._lock = threading.Lock()
        self._recording = [threading.RLock() for _ in range(_LOCKS)]
        self._unsaved_hits: Counter[str] = Counter()
        self._unsaved = 0
        self._hits: Counter[str] = Counter()
        self._misses: Counter[str] = Counter()

    def _only_version(self) -> str:
        assert self._store is not None
        versions = [row[0] for row in self._store.query("SELECT DISTINCT version FROM responses ORDER BY version")]
        if len(versions) != 1:
            found = ", ".join(map(repr, versions)) or "none"
            raise ValueError(
                f"the cache must hold one version if `version` and `backend` are not given; it holds {found}."
            )
        return versions[0]

    def _recall(self, store: CacheStore, key: str) -> _Answer | None:
        """The answer from memory or the file, if it is there and not old."""
        refreshes = store.refreshes()
        with self._lock:
            known = self._memory.get(key)
            if known is not None:
                self._memory.move_to_end(key)
        if known is not None and known.refreshes == len(refreshes):
            return known
        return self._remember(store.get(key), refreshes)

    def _remember(self, record: Record | None, refreshes: tuple[tuple[float, int], ...]) -> _Answer | None:
        if record is None or record.epoch < _epoch(record.key, refreshes):
            return None
        answer = _Answer(len(refreshes), record.epoch, record.response, record.error)
        with self._lock:
            self._memory[record.key] = answer
            self._memory.move_to_end(record.key)
            while len(self._memory) > self._memory_size:
                self._memory.popitem(last=False)
        return answer

    def _record(self, store: CacheStore, key: str, name: str, arguments: dict[str, Any], text: str) -> _Answer:
        """Asks the backend and stores what it says; if somebody else was faster, what they stored."""
        with self._recording[int(key[:8], 16) % _LOCKS]:
            answer = self._recall(store, key)
            if answer is not None:  # another thread has asked meanwhile
                self._count_hit(name, key)
                return answer
            self._count_miss(name)
            refreshes = store.refreshes()
            epoch = _epoch(key, refreshes)
            created_at, start, error = time.time(), time.perf_counter(), False
            try:
                value = ask(self._require_backend(), name, arguments, epoch)
            except TransientError:
                raise
            except ToolError as answered:
                value, error = [answered.code, answered.message], True
            latency = time.perf_counter() - start
            record = Record(key, name, text, _dump(name, value), error, self.version, epoch, latency, created_at)
            answer = self._remember(record if store.add(record) else store.get(key), refreshes)
        if answer is None:
            raise CacheError(f"{store.path}: the record of {name} was deleted while it was read.")
        return answer

    def _miss_message(self, store: CacheStore, name: str, arguments: dict[str, Any], text: str) -> str:
        """Says what was asked for, and the recorded calls of the tool that share the most arguments with it."""
        refreshes = store.refreshes()
        rows = store.query(
            "SELECT key, arguments, epoch FROM responses WHERE version = ? AND tool = ? ORDER BY key LIMIT ?",
            self.version,
            name,
            _MISS_CANDIDATES,
        )
        found = [known for key, known, epoch in rows if epoch >= _epoch(key, refreshes)]
        asked = f"{name} with {_short(text)} was not recorded."
        if not found:
            return f"{asked} Nothing was recorded for {name}."
        wanted = arguments.items()
        found.sort(key=lambda known: -sum(pair in wanted for pair in json.loads(known).items()))
        return f"{asked} Recorded for {name}, for instance: {'; '.join(map(_short, found[:_MISS_EXAMPLES]))}."

    def _require_backend(self) -> Backend:
        assert self._backend is not None  # checked at construction
        return self._backend

    def _count_hit(self, name: str, key: str) -> None:
        with self._lock:
            self._hits[name] += 1
            self._unsaved_hits[key] += 1
            self._unsaved += 1
            full = self._unsaved >= _HITS_PER_FLUSH
        if full:
            self.flush()

    def _count_miss(self, name: str) -> None:
        with self._lock:
            self._misses[name] += 1


def _epoch(key: str, refreshes: tuple[tuple[float, int], ...]) -> int:
    """How many of the refreshes chose a key."""
    return sum(chance(seed, key) < fraction for fraction, seed in refreshes)


def _dump(name: str, value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()  # half a surrogate pair has no UTF-8
    except (TypeError, ValueError, RecursionError) as error:
        raise CacheError(f"The backend's answer to {name} is no JSON and was not stored: {error}.") from error
    return text


def _short(arguments: str) -> str:
    return arguments if len(arguments) <= 150 else f"{arguments[:150]}..."
