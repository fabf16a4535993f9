"""The benchmark of costs runs at toy size on a CPU: what it prints for a GPU is what these runs print."""

import json

import pytest

from benchmarks import gpu_cost


def run(monkeypatch, tmp_path, *arguments: str) -> tuple[int, list[dict]]:
    output = tmp_path / "results.json"
    monkeypatch.setattr("sys.argv", ["gpu_cost", *arguments, "--output", str(output), "--device", "cpu"])
    return gpu_cost.main(), json.loads(output.read_text())["results"]


def test_scoring(monkeypatch, tmp_path):
    status, (result,) = run(
        monkeypatch, tmp_path, "scoring", "--size", "tiny", "--tokens", "400", "--turns", "4", "--repeats", "1"
    )
    assert status == 0
    assert result["largest_difference"] < 1e-5
    assert all(result["seconds"][name] > 0 for name in ("plain", "single_pass", "per_turn"))
    # What a pass a turn needs at a time is the longest of its passes: the backbone's.
    peaks = result["peak_bytes"]
    assert 0.8 < peaks["per_turn"] / peaks["backbone"] < 1.3
    assert peaks["plain"] > peaks["backbone"]


STEP = ("--size", "tiny", "--tokens", "160", "--turns", "3", "--turn_tokens", "4", "--rollouts", "4", "--rows", "2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "part"), [("grpo", None), ("igpo", "scoring"), ("replay", "replay"), ("archer", "critic")]
)
def test_a_step(monkeypatch, method, part):
    monkeypatch.setattr(
        "sys.argv", ["gpu_cost", "step", *STEP, "--steps", "1", "--critic_steps", "1", "--one", method]
    )
    monkeypatch.setattr(gpu_cost, "measure_method", measured := Kept(gpu_cost.measure_method))
    assert gpu_cost.main() == 0
    result = measured.result
    assert list(result["parts_seconds"]) == ([part] if part else [])
    assert 0 < result["generation_seconds"] < result["step_seconds"]
    assert sum(result["parts_seconds"].values()) < result["step_seconds"] - result["generation_seconds"]
    assert result["peak_bytes"] > 0


class Kept:
    """A function that keeps what it returned last."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        self.result = self.function(*args)
        return self.result


def test_aims_that_are_missed_are_told():
    good = {"tokens": 8192, "times_faster": 5.1, "peak_against_backbone": 1.05}
    assert gpu_cost.missed_aims("scoring", [good]) == []
    (slow,) = gpu_cost.missed_aims("scoring", [{**good, "times_faster": 4.0}])
    assert "8192 tokens: 4.00 times faster" in slow
    (large,) = gpu_cost.missed_aims("scoring", [{**good, "peak_against_backbone": 1.2}])
    assert "1.20" in large
    step = {"method": "igpo", "shares": {"scoring": 0.04}, "peak_against_grpo": 1.0}
    assert gpu_cost.missed_aims("step", [step]) == []
    assert len(gpu_cost.missed_aims("step", [{**step, "shares": {"scoring": 0.2}, "peak_against_grpo": 1.3}])) == 2
