"""Tool calls of all rollouts of a turn at once, under TRL's own tool loop.

TRL's loop looks every call up in a dictionary per rollout and calls what it finds, one rollout after another. The
executor puts proxies into those dictionaries. The first proxy that the loop reaches in a turn starts the calls of every
rollout; each proxy then hands out its own call's result as the loop comes to it. So the loop sees the results in its
own order, whatever the order in which they came.
"""

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .environments.lost import LOST


_CLOSED = "The environment did not answer an earlier call and is closed for this rollout."


@dataclass(eq=False)
class _Call:
    """A tool call on its way. Everything below `arguments` is guarded by the executor's condition."""

    row: int
    name: str
    function: Callable
    arguments: dict[str, Any]
    is_async: bool
    started_at: float | None = None
    done: bool = False
    result: Any = None
    error: BaseException | None = None


@dataclass(eq=False)
class _Job:
    """The calls of one rollout's turn, in the order in which they must run. One worker runs one job at a time."""

    row: int
    calls: list[_Call]
    abandoned: bool = False


@dataclass
class ToolExecutor:
    """
    Runs the tool calls of one generation batch. One executor serves one run of TRL's tool loop.

    Calls of different rollouts overlap; those of one rollout run in TRL's order (sync calls one by one, then its async
    calls together). A call that takes longer than `timeout` becomes an error message to the model, and its rollout's
    environment is given up: later calls of that rollout are refused at once, since a thread cannot be stopped and may
    still be changing the environment. So are those of a rollout whose tool has raised [`EnvironmentLostError`] or
    met a broken pipe.

    A tool that draws from a *global* random generator gets its draws in the order in which calls happen to run; with a
    generator of its own (one per environment) the results do not depend on the order.

    Args:
        completions (`list[list[dict]]`):
            Messages of each rollout, as TRL's loop appends to them.
        sync_tools (`list[dict[str, Callable]]`):
            For each rollout, its synchronous tools by name.
        async_tools (`list[dict[str, Callable]]`):
            For each rollout, its coroutine functions by name.
        environments (`list` or `None`):
            Environment of each rollout. One with an attribute `thread_safe = False` is called on the main thread when
            TRL's loop reaches it, without time limit; so is a tool function that has that attribute.
        concurrency (`int`):
            Rollouts whose calls run at the same time. 1: each call runs when TRL's loop reaches it, without time limit.
        timeout (`float` or `None`):
            Seconds a call may take, counted from its own start.
        loop (`asyncio.AbstractEventLoop` or `None`):
            Running event loop of another thread, for async tools.
    """

    completions: list[list[dict[str, Any]]]
    sync_tools: list[dict[str, Callable]]
    async_tools: list[dict[str, Callable]]
    environments: list[Any] | None
    concurrency: int
    timeout: float | None
    loop: asyncio.AbstractEventLoop | None
    lost_rows: set[int] = field(default_factory=set)
    executed: set[tuple[int, int]] = field(default_factory=set)
    reward_counts: dict[tuple[int, int], int] = field(default_factory=dict)
    timeouts: int = 0

    def __post_init__(self):
        self._changed = threading.Condition()
        self._pending: dict[tuple[int, str], deque[_Call]] = {}
        self._queue: deque[_Job] = deque()
        self._running: dict[int, _Job] = {}
        self._asked: set[tuple[int, int]] = set()

    def rows_in_turn(self) -> list[int]:
        """The rollouts whose next message is generated now, in TRL's order. To be asked once a turn."""
        # A row that TRL has rolled back ends in an assistant message; one whose last message was cut off to nothing ends
        # in the tool message for which it was asked before.
        rows = [
            row
            for row, messages in enumerate(self.completions)
            if messages[-1]["role"] == "tool" and (row, len(messages)) not in self._asked
        ]
        self._asked.update((row, len(self.completions[row])) for row in rows)
        return rows

    def sync_proxies(self) -> list[dict[str, Callable]]:
        """For each rollout, what TRL's loop is to find in place of its synchronous tools."""
        return [{name: self._proxy(row, name) for name in tools} for row, tools in enumerate(self.sync_tools)]

    def async_proxies(self) -> list[dict[str, Callable]]:
        """For each rollout, what TRL's loop is to find in place of its coroutine functions."""
        return [{name: self._async_proxy(row, name) for name in tools} for row, tools in enumerate(self.async_tools)]

    def _proxy(self, row: int, name: str) -> Callable:
        def call_tool(**arguments):
            try:
                call = self._take(row, name)
                if call is None:
                    return self._checked(self.sync_tools[row][name](**arguments))
                return self._checked(self._wait(call))
            except LOST:
                self.lost_rows.add(row)
                raise
            finally:
                self._count_rewards(row)

        return call_tool

    def _async_proxy(self, row: int, name: str) -> Callable:
        # Called on the main thread as the loop reaches the call, awaited on the event loop's thread later.
        def start(**arguments):
            call = self._take(row, name)

            async def result():
                try:
                    if call is None:
                        return self._checked(await self.async_tools[row][name](**arguments))
                    # The wait blocks, so it must not sit on the event loop that runs the tool itself.
                    return self._checked(await asyncio.to_thread(self._wait, call))
                except LOST:
                    self.lost_rows.add(row)
                    raise
                finally:
                    self._count_rewards(row)

            return result()

        return start

    def _take(self, row: int, name: str) -> _Call | None:
        """The started call that the loop has reached; `None` if the proxy is to run the tool itself."""
        pending = self._pending.setdefault((row, name), deque())
        if pending:
            return pending.popleft()
        if row in self.lost_rows:
            raise TimeoutError(_CLOSED)
        if (row, len(self.completions[row])) not in self.executed:
            if self.concurrency > 1:
                self._start_turn()
            self.executed.add((row, len(self.completions[row])))
        return pending.popleft() if pending else None

    def _start_turn(self) -> None:
        """Start the calls of every rollout whose last message holds calls that have not been executed yet."""
        jobs = []
        for row, messages in enumerate(self.completions):
            key = (row, len(messages))
            # A rollout that TRL has rolled back ends in an assistant message with calls too, but those have run.
            if key in self.executed or row in self.lost_rows:
                continue
            calls = self._calls_of(row, messages[-1])
            if calls and self._is_thread_safe(row, calls):
                self.executed.add(key)
                for call in calls:
                    self._pending.setdefault((row, call.name), deque()).append(call)
                jobs.append(_Job(row, [c for c in calls if not c.is_async] + [c for c in calls if c.is_async]))
        with self._changed:
            self._queue.extend(jobs)
        for _ in range(min(self.concurrency, len(jobs))):
            self._add_worker()

    def _calls_of(self, row: int, message: dict[str, Any]) -> list[_Call]:
        """The calls of a message that TRL's loop will look up and find; it answers the others itself."""
        calls = []
        for tool_call in (message.get("tool_calls") or []) if message.get("role") == "assistant" else []:
            function = tool_call.get("function") if tool_call.get("type") == "function" else None
            if not isinstance(function, dict):
                continue
            name, arguments = function.get("name"), function.get("arguments")
            if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
                continue
            if name in self.sync_tools[row]:
                calls.append(_Call(row, name, self.sync_tools[row][name], dict(arguments), is_async=False))
            elif name in self.async_tools[row]:
                calls.append(_Call(row, name, self.async_tools[row][name], dict(arguments), is_async=True))
        return calls

    def _is_thread_safe(self, row: int, calls: list[_Call]) -> bool:
        owners: list[Any] = [call.function for call in calls]
        if self.environments is not None:
            owners.append(self.environments[row])
        return all(getattr(owner, "thread_safe", True) for owner in owners)

    def _add_worker(self) -> None:
        # A daemon thread, since a tool that hangs for ever must not keep the process from ending. Context variables
        # (tracing, request ids) reach the tool as they would without threads.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work,), name="tool-call", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    return
                job = self._queue.popleft()
                self._running[job.row] = job
            self._run(job)
            with self._changed:
                if job.abandoned:
                    return  # another worker has taken this one's place
                del self._running[job.row]

    def _run(self, job: _Job) -> None:
        for call in job.calls:
            if call.is_async:
                break
            if self._begin(job, call):
                result: Any = None
                error: BaseException | None = None
                try:
                    result = call.function(**call.arguments)
                except BaseException as raised:  # raised again where TRL's loop asks for the result
                    error = raised
                self._finish(call, result, error)
                if isinstance(error, LOST):
                    for later in job.calls:
                        self._finish(later, None, TimeoutError(_CLOSED))
        futures = []
        for call in job.calls:
            if call.is_async and self._begin(job, call):
                assert self.loop is not None, "async tools need an event loop"
                futures.append(asyncio.run_coroutine_threadsafe(self._run_async(call), self.loop))
        for future in futures:
            future.result()

    async def _run_async(self, call: _Call) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = await asyncio.wait_for(call.function(**call.arguments), self.timeout)
        except asyncio.TimeoutError:  # cancelled in good order: nothing is left running, the environment stays
            self.timeouts += 1
            error = self._timeout_error(call)
        except Exception as raised:
            error = raised
        self._finish(call, result, error)

    def _begin(self, job: _Job, call: _Call) -> bool:
        with self._changed:
            if job.abandoned or call.done:
                return False
            call.started_at = time.monotonic()
            self._changed.notify_all()
            return True

    def _finish(self, call: _Call, result: Any, error: BaseException | None) -> None:
        with self._changed:
            if not call.done:  # else it was given up meanwhile
                call.result, call.error, call.done = result, error, True
            self._changed.notify_all()

    def _wait(self, call: _Call) -> Any:
        with self._changed:
            while not call.done:
                next_deadline = self._expire()
                if not call.done:
                    self._changed.wait(next_deadline)
        if call.error is not None:
            raise call.error
        return call.result

    def _expire(self) -> float | None:
        """Give up every call that is over its time; returns the seconds to the next one's limit. Lock held."""
        if self.timeout is None:
            return None
        now, next_deadline = time.monotonic(), self.timeout
        for job in list(self._running.values()):
            for call in job.calls:
                if call.started_at is not None and not call.done and not call.is_async:
                    left = call.started_at + self.timeout - now
                    if left <= 0:
                        self._give_up(job, call)
                    else:
                        next_deadline = min(next_deadline, left)
        return next_deadline

    def _give_up(self, job: _Job, call: _Call) -> None:
        with self._changed:
            if job.abandoned or call.done:
                return
            self.timeouts += 1
            self.lost_rows.add(job.row)
            call.error = self._timeout_error(call)
            for other in job.calls:
                if other is not call and not other.done:
                    other.error = TimeoutError(_CLOSED)
                other.done = True
            job.abandoned = True
            self._running.pop(job.row, None)
            self._changed.notify_all()
            if self._queue:
                self._add_worker()

    def _timeout_error(self, call: _Call) -> TimeoutError:
        return TimeoutError(f"The tool {call.name!r} did not answer within {self.timeout:g} seconds.")

    def _checked(self, result: Any) -> Any:
        """Refuse or rewrite results that TRL would turn into nonsense; at a concurrency of 1 they pass as in TRL."""
        if self.concurrency == 1:
            return result
        if isinstance(result, (bytes, bytearray, memoryview)):
            raise TypeError(f"The tool returned {type(result).__name__}, not text.")
        if isinstance(result, list) and not all(isinstance(block, dict) and "type" in block for block in result):
            return str(result)  # TRL takes every list for content blocks
        return result

    def _count_rewards(self, row: int) -> None:
        """Remember how many turn rewards the environment had given by the end of this turn."""
        if self.environments is None or row in self.lost_rows:
            return
        turn_rewards = getattr(self.environments[row], "turn_rewards", None)
        if turn_rewards is not None:
            turn = sum(message["role"] == "assistant" for message in self.completions[row]) - 1
            self.reward_counts[row, turn] = len(turn_rewards)
