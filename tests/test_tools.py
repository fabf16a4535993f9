"""Tool calls of all rollouts at once: order, time limits, nothing twice."""

import asyncio
import threading
import time
from random import Random

import pytest

from tests.tiny import QuietCounter, call, last_log, settings, train
from trl_multiturn import MultiTurnGRPOConfig


def results(trainer):
    return [[m["content"] for m in messages if m["role"] == "tool"] for messages in trainer.rollouts.completions]


class Overlap:
    """Counts how many calls run at the same time."""

    running = most = 0
    lock = threading.Lock()

    def __enter__(self):
        with self.lock:
            Overlap.running += 1
            Overlap.most = max(Overlap.most, Overlap.running)

    def __exit__(self, *exception):
        with self.lock:
            Overlap.running -= 1


class Slow(QuietCounter):
    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        with Overlap():
            time.sleep(0.3)
        return super().add(amount)


class SlowAsync(QuietCounter):
    async def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        with Overlap():
            await asyncio.sleep(0.3)
        return QuietCounter.add(self, amount)


def once(text, turn, rng):
    return call(amount=rng.randint(1, 9)) if turn == 0 else "<answer>1</answer>"


@pytest.mark.parametrize("environment", [Slow, SlowAsync])
@pytest.mark.parametrize(("concurrency", "expected"), [(1, 1), (3, 3), (64, 8)])
def test_calls_of_different_rollouts_overlap(tmp_path, environment, concurrency, expected):
    Overlap.most = 0
    trainer = train(tmp_path, environment, once, tool_concurrency=concurrency)
    assert Overlap.most == expected
    assert all(len(answers) == 1 and answers[0].startswith("The counter is") for answers in results(trainer))


def test_results_do_not_depend_on_concurrency(tmp_path):
    class Jittered(QuietCounter):
        """Answers after a time, and with a number, that its own generator draws."""

        def reset(self, number, **row):
            super().reset()
            self._rng = Random(number)

        def add(self, amount: int) -> str:
            """
            Add to the counter.

            Args:
                amount: How much to add.
            """
            time.sleep(self._rng.random() * 0.01)
            return f"{super().add(amount)} {self._rng.random()}"

    def many(text, turn, rng):
        if turn < 3 and rng.random() < 0.8:
            return call(amount=rng.randint(1, 9)) * rng.randint(1, 3)
        return "<answer>1</answer>"

    runs = [
        train(tmp_path, Jittered, many, tool_concurrency=n, max_completion_length=512, max_steps=3) for n in (1, 2, 64)
    ]
    assert runs[0].histories == runs[1].histories == runs[2].histories
    assert sum(map(len, results(runs[0]))) > 8


@pytest.mark.parametrize("concurrency", [1, 64])
def test_each_call_runs_once_and_in_order(tmp_path, concurrency):
    seen = []

    class Logged(QuietCounter):
        def add(self, amount: int) -> str:
            """
            Add to the counter.

            Args:
                amount: How much to add.
            """
            seen.append((id(self), amount))
            return super().add(amount)

    def three(text, turn, rng):
        return "".join(call(amount=10 * turn + i) for i in range(3)) if turn < 2 else "<answer>1</answer>"

    trainer = train(tmp_path, Logged, three, tool_concurrency=concurrency, max_completion_length=768)
    assert len(seen) == 8 * 6
    by_environment = {}
    for owner, amount in seen:
        by_environment.setdefault(owner, []).append(amount)
    assert all(amounts == [0, 1, 2, 10, 11, 12] for amounts in by_environment.values())
    assert [str(stop) for stop in {r.value for r in trainer.rollouts.stop_reasons}] == ["completed"]


@pytest.mark.parametrize("concurrency", [1, 64])
def test_nothing_runs_twice_when_a_result_overflows(tmp_path, concurrency):
    calls = []

    class Long(QuietCounter):
        def reset(self, number, **row):
            self.number = number

        def add(self, amount: int) -> str:
            """
            Add to the counter.

            Args:
                amount: How much to add.
            """
            calls.append(id(self))
            return "x " * 300 if self.number % 2 else "short"

    def twice(text, turn, rng):
        return call(amount=1) if turn < 2 else "<answer>1</answer>"

    trainer = train(tmp_path, Long, twice, tool_concurrency=concurrency, max_completion_length=200)
    counts = sorted(calls.count(owner) for owner in set(calls))
    overflown = [reason.value for reason in trainer.rollouts.stop_reasons].count("tool_overflow")
    assert overflown == 4
    assert counts == [1] * 4 + [2] * 4
    assert last_log(trainer)["stop/tool_overflow"] == 0.5


class Hanging(QuietCounter):
    made = 0
    release = threading.Event()

    def __init__(self):
        super().__init__()
        Hanging.made += 1

    def reset(self, number, **row):
        self.number = number

    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        if self.number % 2:
            self.release.wait(30)
        return "done"


@pytest.mark.parametrize("concurrency", [2, 64])
def test_a_hanging_tool_becomes_an_error_message(tmp_path, concurrency):
    def twice(text, turn, rng):
        return call(amount=1) * 2 if turn < 2 else "<answer>1</answer>"

    Hanging.made = 0
    Hanging.release.clear()
    start = time.perf_counter()
    trainer = train(
        tmp_path, Hanging, twice, tool_concurrency=concurrency, tool_timeout=1.0, max_completion_length=600
    )
    assert time.perf_counter() - start < 20
    for reason, answers in zip(trainer.rollouts.stop_reasons, results(trainer), strict=True):
        if reason == "environment_error":
            assert "did not answer within 1 seconds" in answers[0]
            assert all("closed for this rollout" in answer for answer in answers[1:])
        else:
            assert answers == ["done"] * 4
    log = last_log(trainer)
    assert log["stop/environment_error"] == 0.5
    assert log["tools/timeouts"] == 4
    assert Hanging.made == 8 + 4  # the environments that may still be busy are replaced
    Hanging.release.set()


def test_async_time_limit_cancels(tmp_path):
    cancelled = []

    class Stuck(QuietCounter):
        async def add(self, amount: int) -> str:
            """
            Add to the counter.

            Args:
                amount: How much to add.
            """
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(amount)
                raise
            return "never"

    trainer = train(tmp_path, Stuck, once, tool_timeout=0.2)
    assert all("did not answer within" in answers[0] for answers in results(trainer))
    assert len(cancelled) == 8
    assert last_log(trainer)["tools/timeouts"] == 8


def test_bad_results_are_errors_or_text(tmp_path):
    class Odd(QuietCounter):
        def add(self, amount: int) -> str:
            """
            Add to the counter.

            Args:
                amount: How much to add.
            """
            if amount == 1:
                return b"bytes"
            if amount == 2:
                raise RuntimeError("broken")
            return ["a", "b"]

    def odd(text, turn, rng):
        return call(amount=1) + call(amount=2) + call(amount=3) if turn == 0 else "<answer>1</answer>"

    trainer = train(tmp_path, Odd, odd)
    for answers in results(trainer):
        assert "returned bytes, not text" in answers[0]
        assert "broken" in answers[1]
        assert answers[2] == "['a', 'b']"
    assert last_log(trainer)["tools/failure_frequency"] == pytest.approx(2 / 3)


def test_a_megabyte_overflows_and_training_goes_on(tmp_path):
    class Flood(QuietCounter):
        def add(self, amount: int) -> str:
            """
            Add to the counter.

            Args:
                amount: How much to add.
            """
            return "x" * 1_000_000

    trainer = train(tmp_path, Flood, once, max_steps=2)
    assert last_log(trainer)["stop/tool_overflow"] == 1.0
    assert trainer.state.global_step == 2


def test_thread_bound_environments_stay_on_the_main_thread(tmp_path):
    threads = set()

    class Bound(QuietCounter):
        thread_safe = False

        def add(self, amount: int) -> str:
            """
            Add to the counter.

            Args:
                amount: How much to add.
            """
            threads.add(threading.current_thread())
            return super().add(amount)

    train(tmp_path, Bound, once)
    assert threads == {threading.main_thread()}


def test_unknown_tools_and_bad_arguments_are_answered_by_trl(tmp_path):
    def wrong(text, turn, rng):
        if turn == 0:
            return call("subtract", amount=1) + call(amount=2) + call(total=1)
        return "<answer>1</answer>"

    trainer = train(tmp_path, QuietCounter, wrong)
    for answers in results(trainer):
        assert "not found" in answers[0]
        assert answers[1] == "The counter is 2"
        assert "unexpected keyword argument" in answers[2]


def test_time_limit_without_concurrency_is_refused(tmp_path):
    with pytest.raises(ValueError, match="tool_timeout has no effect with tool_concurrency=1"):
        MultiTurnGRPOConfig(**settings(tmp_path), tool_concurrency=1, tool_timeout=5)
