"""What real services do: limited rates, failures that pass, cut answers."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from trl_multiturn.environments.travel import (
    Backend,
    RateLimit,
    ToolCache,
    ToolError,
    TransientError,
    TransientFailures,
    Truncation,
)
from trl_multiturn.environments.travel.backend import begin

from .backends import Constant, Prices


def fails(backend, calls):
    """Which of the calls fail, each made once."""
    found = []
    for number in calls:
        try:
            backend.call("search", {"number": number})
        except TransientError:
            found.append(number)
    return found


class TestRateLimit:
    def test_the_rate_is_kept_by_threads_together(self):
        backend = RateLimit(Prices(), rate=200, burst=5)
        start = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: backend.call("search", {"number": number}), range(45)))
        # 5 at once, 40 at 200 a second
        assert 0.2 <= time.monotonic() - start < 2

    def test_a_rest_fills_the_bucket_but_no_more(self):
        backend = RateLimit(Prices(), rate=50, burst=3)
        time.sleep(0.2)  # 10 tokens' worth
        start = time.monotonic()
        for number in range(4):
            backend.call("search", {"number": number})
        assert time.monotonic() - start >= 0.019

    def test_waiting_is_bounded_and_a_refused_call_costs_no_token(self):
        inner = Prices()
        backend = RateLimit(inner, rate=0.5, max_wait=0.0)
        backend.call("search", {})
        start = time.monotonic()
        for _ in range(100):
            with pytest.raises(TransientError, match="^rate_limited: .*Try again in [12] seconds"):
                backend.call("search", {})
        assert time.monotonic() - start < 1 and len(inner.asked) == 1

    def test_threads_that_wait_together_are_bounded_too(self):
        backend, outcomes, lock = RateLimit(Prices(), rate=10, max_wait=0.35), [], threading.Lock()

        def call(number):
            try:
                backend.call("search", {"number": number})
                outcome = "answered"
            except TransientError:
                outcome = "refused"
            with lock:
                outcomes.append(outcome)

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(call, range(20)))
        assert 4 <= outcomes.count("answered") <= 8 and len(outcomes) == 20

    def test_hits_of_a_cache_around_it_are_free_and_refusals_are_not_stored(self, tmp_path):
        with ToolCache(tmp_path / "cache", RateLimit(Prices(), rate=0.1, max_wait=0.0), "record") as cache:
            for _ in range(100):
                cache.call("search", {})
            with pytest.raises(TransientError):
                cache.call("search", {"number": 1})
            assert cache.stats["records"] == 1

    @pytest.mark.parametrize("arguments", [{"rate": 0}, {"rate": 1, "burst": 0}, {"rate": 1, "max_wait": -1}])
    def test_wrong_arguments(self, arguments):
        with pytest.raises(ValueError):
            RateLimit(Prices(), **arguments)


class TestTransientFailures:
    def test_the_share_that_fails(self):
        assert 0.17 < len(fails(TransientFailures(Prices(), 0.2), range(2000))) / 2000 < 0.23
        assert fails(TransientFailures(Prices(), 0.0), range(100)) == []
        assert fails(TransientFailures(Prices(), 1.0), range(100)) == list(range(100))

    def test_all_rollouts_of_a_group_meet_the_same_failures_in_any_order(self):
        shared = TransientFailures(Prices(), 0.3, seed=1)
        one, two = shared.session(), shared.session()
        forwards = fails(one, range(200))
        fails(shared.session(), range(50))  # what other rollouts do does not matter
        assert sorted(fails(two, reversed(range(200)))) == forwards
        assert fails(shared.session(), [7, 7, 7, 7]) == fails(shared.session(), [7, 7, 7, 7])

    def test_a_session_begins_anew_under_other_wrappers_too(self):
        shared = Truncation(RateLimit(TransientFailures(Prices(), 0.3, seed=1), rate=1e6), rows=3)
        forwards = fails(begin(shared), range(200))
        assert (
            forwards == fails(begin(shared), range(200)) != fails(shared, [*range(200), *range(200)])[len(forwards) :]
        )
        assert begin(shared.backend.backend.backend) is shared.backend.backend.backend

    def test_sessions_share_one_rate(self):
        shared = RateLimit(Prices(), rate=0.1, max_wait=0.0)
        begin(shared).call("search", {})
        with pytest.raises(TransientError):
            begin(shared).call("search", {})

    def test_another_seed_and_another_version_fail_elsewhere(self):
        kinds = [(Prices("a"), 0), (Prices("a"), 1), (Prices("b"), 0)]
        found = [fails(TransientFailures(backend, 0.3, seed), range(100)) for backend, seed in kinds]
        assert found[0] != found[1] != found[2] != found[0]

    def test_trying_again_helps(self):
        backend = TransientFailures(Prices(), 0.5)
        attempts = []
        for number in range(200):
            for attempt in range(1, 50):
                try:
                    backend.call("search", {"number": number})
                except TransientError:
                    continue
                attempts.append(attempt)
                break
        assert len(attempts) == 200 and 1.6 < sum(attempts) / 200 < 2.4

    def test_around_a_cache_and_inside_one(self, tmp_path):
        with ToolCache(tmp_path / "cache", TransientFailures(Prices(), 0.5), "record") as cache:
            missing = fails(cache, range(100))
            assert 20 < len(missing) < 80 and cache.stats["records"] == 100 - len(missing)
            around = TransientFailures(cache, 0.5, seed=9)
            assert set(fails(around, set(range(100)) - set(missing))) != set()

    def test_bad_arguments_are_the_callers_mistake(self):
        with pytest.raises(ToolError, match="^bad_arguments"):
            TransientFailures(Prices(), 0.5).call("search", {"a": object()})

    @pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
    def test_wrong_arguments(self, probability):
        with pytest.raises(ValueError):
            TransientFailures(Prices(), probability)


class TestTruncation:
    def test_rows(self):
        rows = list(range(5))
        assert Truncation(Constant(rows), rows=5).call("f", {}) == rows
        assert Truncation(Constant(rows), rows=2).call("f", {}) == [0, 1, {"truncated": "2 of 5 rows"}]

    def test_rows_that_fit(self):
        rows = [{"a": "x" * 20}] * 4  # 28 characters each
        for characters in range(1, 117):  # 4 rows, 3 commas and 2 brackets are 117
            *kept, mark = Truncation(Constant(rows), characters=characters).call("f", {})
            assert mark == {"truncated": f"{len(kept)} of 4 rows"}
            assert len(json.dumps(kept, separators=(",", ":"))) <= max(characters, 2)
            assert len(json.dumps([*kept, rows[0]], separators=(",", ":"))) > characters
        assert Truncation(Constant(rows), characters=117).call("f", {}) == rows

    def test_text_and_objects(self):
        assert Truncation(Constant("x" * 10), characters=10).call("f", {}) == "x" * 10
        assert (
            Truncation(Constant("x" * 1100), characters=3).call("f", {}) == "xxx... [truncated: 3 of 1,100 characters]"
        )
        assert (
            Truncation(Constant({"北": "京"}), characters=5).call("f", {})
            == '{"北":... [truncated: 5 of 9 characters]'
        )
        assert Truncation(Constant({"a": 1}), characters=7).call("f", {}) == {"a": 1}

    def test_errors_pass(self):
        with pytest.raises(ToolError, match="closed"):
            Truncation(Prices(), rows=1).call("closed", {})

    def test_a_cache_keeps_whole_and_cut_answers_apart(self, tmp_path):
        with ToolCache(tmp_path / "cache", Prices(), "record") as whole:
            with ToolCache(tmp_path / "cache", Truncation(Prices(), rows=1), "record") as cut:
                assert len(whole.call("search", {})) == 3
                assert len(cut.call("search", {})) == 2
                assert whole.stats["records"] == cut.stats["records"] == 1

    @pytest.mark.parametrize("limits", [{"rows": 0}, {"characters": 0}])
    def test_wrong_arguments(self, limits):
        with pytest.raises(ValueError):
            Truncation(Prices(), **limits)


def test_epochs_reach_the_backend_through_every_wrapper(tmp_path):
    wrapped: Backend = Truncation(TransientFailures(RateLimit(Prices(), rate=1e6), 0.0), rows=3)
    with ToolCache(tmp_path / "cache", wrapped, "record") as cache:
        assert cache.call("search", {})[0]["price"] == 0
        cache.refresh(1.0, seed=0)
        assert cache.call("search", {})[0]["price"] == 1000
