"""What one of two processes has not: the run goes on on both."""

import json

import pytest

from .forked import run_all, written


CASES = [
    "no_tool_calls",
    "no_tool_calls_at_all",
    "max_turns",
    "max_tokens",
    "truncated_group",
    "no_rewards",
    "no_rewards_at_all",
    "failures_on_one",
    "no_failures",
]


def told(folder, methods: str) -> dict:
    """What was logged and how rollouts ended, by case and trainer."""
    runs = [(f"{methods}:{case}", 2, folder / case) for case in CASES]
    ended = run_all("tests.distributed.mismatch_worker", runs)
    for (_, _, place), codes in zip(runs, ended, strict=True):
        assert codes == [0, 0], (place.name, codes, *(text[-2000:] for text in written(place, 2)))
    return {case: json.loads((folder / case / "told.json").read_text()) for case in CASES}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "methods",
    # Both hold all that the others have.
    ["replay_igpo,replay_archer", pytest.param("base,igpo,archer,replay", marks=pytest.mark.exhaustive)],
)
def test_what_one_process_lacks_does_not_hold_up_the_other(tmp_path, methods):
    for case, by_method in told(tmp_path, methods).items():
        for method, found in by_method.items():
            check(case, method, found["logs"], found["stop_reasons"])


def check(case: str, method: str, logs: list[dict], reasons: list[str]) -> None:
    """The case is what its name says, and was logged as such."""
    log = logs[-1]
    share = {reason: reasons.count(reason) / len(reasons) for reason in set(reasons)}
    if case == "no_tool_calls_at_all":
        assert log["tools/call_frequency"] == 0 and log["turns/max"] == 1
    elif case in ("no_tool_calls", "max_turns", "max_tokens"):
        assert log["tools/call_frequency"] > 0
    if case in ("max_turns", "max_tokens"):
        assert share[case] == log[f"stop/{case}"] == 0.5
    if case == "truncated_group":
        assert share == {"max_tokens": 1.0}
        assert log["grad_norm"] == 0
    if "archer" in method:
        assert log["archer/unscored"] == {"no_rewards": 0.5, "no_rewards_at_all": 1.0}.get(case, 0.0)
        assert ("archer/q_loss" in log) == (case != "no_rewards_at_all")
    if "replay" in method and case in ("no_failures", "failures_on_one"):
        assert any(entry["replay/size"] > 0 for entry in logs) == (case == "failures_on_one")
