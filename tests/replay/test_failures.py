"""The buffer of failed tasks by itself: its rules, its draws, and that it is a function of what it was told."""

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_multiturn.replay.failures import FailureBuffer, TaskResult


def buffer(**overrides) -> FailureBuffer:
    settings = {
        "capacity": 100,
        "admission": "all_fail",
        "sampling": "least_recent",
        "graduate_at": 0.5,
        "max_replays": 3,
        "success_threshold": 0.5,
        "seed": 0,
    }
    return FailureBuffer(**{**settings, **overrides})


def result(task_id: str, *outcomes: float, replayed: bool = False, reasons=None, turns=None) -> TaskResult:
    return TaskResult(
        task_id,
        f'{{"name": "{task_id}"}}',
        outcomes,
        reasons or ["completed"] * len(outcomes),
        turns or [0] * len(outcomes),
        replayed,
    )


def names(failures: FailureBuffer) -> list[str]:
    return [task.task_id for task in failures.tasks]


class TestAdmission:
    @pytest.mark.parametrize(
        ("admission", "outcomes", "stored"),
        [
            ("all_fail", (0.0, 0.49), True),
            ("all_fail", (0.0, 0.5), False),
            ("any_fail", (1.0, 0.49), True),
            ("any_fail", (1.0, 0.5), False),
            ("mean_below", (0.0, 0.98), True),
            ("mean_below", (0.0, 1.0), False),
            ("all_fail", (math.nan, 0.0), True),
            ("all_fail", (math.nan, math.nan), False),
            ("mean_below", (math.nan, math.nan), False),
            ("any_fail", (math.nan, 1.0), False),
        ],
    )
    def test_rules(self, admission, outcomes, stored):
        failures = buffer(admission=admission)
        assert failures.wants("a", outcomes) == stored
        failures.update([result("a", *outcomes)], 1)
        assert names(failures) == ["a"] * stored

    def test_why_and_where_most_of_the_failed_went_wrong(self):
        failures = buffer(admission="any_fail")
        reasons = ["completed", "max_turns", "max_turns", "completed"]
        failures.update([result("a", 0.0, 0.0, 0.0, 1.0, reasons=reasons, turns=[3, 2, 2, 3])], 1)
        (task,) = failures.tasks
        assert (task.stop_reason, task.first_bad_turn, task.best_outcome) == ("max_turns", 2, 1.0)

    def test_failing_again_counts_and_tells_the_newest_reason(self):
        failures = buffer()
        failures.update([result("a", 0.0, 0.1)], 1)
        failures.update([result("a", 0.2, 0.0, reasons=["max_tokens"] * 2, turns=[1, 1])], 4)
        (task,) = failures.tasks
        assert (task.failures, task.replays, task.admitted_at, task.rolled_out_at) == (2, 0, 1, 4)
        assert (task.stop_reason, task.first_bad_turn, task.best_outcome) == ("max_tokens", 1, 0.2)


class TestLeaving:
    def test_graduates(self):
        failures = buffer()
        failures.update([result("a", 0.0, 0.0), result("b", 0.0, 0.0)], 1)
        failures.update([result("a", 1.0, 0.0, replayed=True), result("b", 0.0, 0.0, replayed=True)], 2)
        assert names(failures) == ["b"]
        assert failures.graduated == 1 and not failures.retired

    def test_graduates_when_it_is_solved_without_a_replay(self):
        failures = buffer()
        failures.update([result("a", 0.0)], 1)
        failures.update([result("a", 1.0)], 2)
        assert names(failures) == [] and failures.graduated == 1

    def test_what_graduated_may_fail_again(self):
        failures = buffer()
        for now, outcome in enumerate((0.0, 1.0, 0.0), start=1):
            failures.update([result("a", outcome)], now)
        assert names(failures) == ["a"] and failures.tasks[0].admitted_at == 3

    def test_between_failure_and_graduation_it_stays_and_does_not_count_as_failed(self):
        failures = buffer(graduate_at=1.0)
        failures.update([result("a", 0.0, 0.0)], 1)
        failures.update([result("a", 1.0, 0.0, replayed=True)], 2)
        assert (failures.tasks[0].failures, failures.tasks[0].replays) == (1, 1)

    def test_retires_after_max_replays_for_good(self):
        failures = buffer(max_replays=2)
        failures.update([result("a", 0.0)], 1)
        failures.update([result("a", 0.0)], 2)  # a fresh rollout is no replay
        failures.update([result("a", 0.0, replayed=True)], 3)
        assert names(failures) == ["a"]
        failures.update([result("a", 0.0, replayed=True)], 4)
        assert names(failures) == [] and failures.retired == {"a"}
        failures.update([result("a", 0.0)], 5)
        assert names(failures) == []

    def test_graduates_at_its_last_replay(self):
        failures = buffer(max_replays=1)
        failures.update([result("a", 0.0)], 1)
        failures.update([result("a", 1.0, replayed=True)], 2)
        assert failures.graduated == 1 and not failures.retired

    def test_a_replay_without_rewards_counts_as_one(self):
        failures = buffer(max_replays=1)
        failures.update([result("a", 0.0)], 1)
        failures.update([result("a", math.nan, replayed=True)], 2)
        assert failures.retired == {"a"}

    def test_evicts_the_most_replayed_then_the_first(self):
        failures = buffer(capacity=3, max_replays=9)
        failures.update([result(name, 0.0) for name in "abc"], 1)
        failures.update([result("b", 0.0, replayed=True)], 2)
        failures.update([result("d", 0.0)], 3)
        assert names(failures) == ["a", "c", "d"]
        failures.update([result("e", 0.0)], 4)
        assert names(failures) == ["c", "d", "e"]
        assert failures.evicted == 2 and not failures.retired


class TestSampling:
    def test_least_recent(self):
        failures = buffer()
        for now, name in enumerate("abcd", start=1):
            failures.update([result(name, 0.0)], now)
        failures.update([result("a", 0.0, replayed=True)], 5)
        assert [task.task_id for task in failures.sample(3, 6)] == ["b", "c", "d"]
        assert [task.task_id for task in failures.sample(9, 6, exclude={"c"})] == ["b", "d", "a"]

    def test_uniform(self):
        failures = buffer(sampling="uniform")
        failures.update([result(name, 0.0) for name in "abcd"], 1)
        drawn = Counter(task.task_id for now in range(2000) for task in failures.sample(1, now))
        assert all(count == pytest.approx(500, abs=100) for count in drawn.values()) and len(drawn) == 4

    def test_in_proportion_to_the_failures(self):
        failures = buffer(sampling="failure_count")
        failures.update([result(name, 0.0) for name in "ab"], 1)
        for now in range(2, 4):
            failures.update([result("b", 0.0)], now)
        drawn = Counter(task.task_id for now in range(2000) for task in failures.sample(1, now))
        assert drawn["b"] / 2000 == pytest.approx(0.75, abs=0.04)

    @pytest.mark.parametrize("sampling", ["least_recent", "uniform", "failure_count"])
    def test_none_twice_and_never_the_excluded(self, sampling):
        failures = buffer(sampling=sampling)
        failures.update([result(name, 0.0) for name in "abcdefgh"], 1)
        for now in range(50):
            drawn = [task.task_id for task in failures.sample(5, now, exclude={"a", "z"})]
            assert len(drawn) == len(set(drawn)) == 5 and "a" not in drawn

    @pytest.mark.parametrize("sampling", ["uniform", "failure_count"])
    def test_the_seed_and_the_batch_decide(self, sampling):
        def draws(seed):
            failures = buffer(sampling=sampling, seed=seed)
            failures.update([result(name, 0.0) for name in "abcdefgh"], 1)
            return [[task.task_id for task in failures.sample(3, now)] for now in range(5)]

        assert draws(0) == draws(0) != draws(1)
        assert len({tuple(drawn) for drawn in draws(0)}) > 1


events = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from("abcdefghij"),
            st.lists(st.sampled_from([0.0, 0.4, 0.6, 1.0, math.nan]), min_size=3, max_size=3),
            st.booleans(),
        ),
        max_size=4,
    ),
    max_size=20,
)


@given(
    events,
    st.integers(0, 20),
    st.sampled_from(["all_fail", "any_fail", "mean_below"]),
    st.sampled_from(["least_recent", "uniform", "failure_count"]),
    st.integers(1, 5),
)
def test_saved_and_loaded_it_goes_on_as_it_would_have(history, cut, admission, sampling, capacity):
    options = {"admission": admission, "sampling": sampling, "capacity": capacity}
    whole, loaded = buffer(**options), buffer(**options)
    for now, batch in enumerate(history):
        if now == cut:
            loaded.load_state(json.loads(json.dumps(whole.state(), allow_nan=False)))
        results = [result(name, *outcomes, replayed=replayed) for name, outcomes, replayed in batch]
        whole.update(results, now)
        assert len(whole) <= capacity
        assert not whole.retired & set(names(whole))
        assert all(task.replays < whole.max_replays for task in whole.tasks)
        if now >= cut:
            loaded.update(results, now)
            assert loaded.state() == whole.state()
            assert loaded.sample(3, now) == whole.sample(3, now)
