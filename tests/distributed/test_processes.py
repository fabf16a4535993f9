"""Two processes (gloo) equal one on the same global batch, whose only group is spread over both."""

import json
from pathlib import Path

import pytest

from .forked import run_all, written


METHODS = ["neutral", "base", "igpo", "archer", "replay", "replay_igpo", "replay_archer", "evaluation", "streaming"]


def one_and_two(module: str, methods: list[str], folder: Path):
    """What came out of each method's run on one process, and on two."""
    runs = [(method, processes, folder / method) for method in methods for processes in (1, 2)]
    codes = run_all(f"tests.distributed.{module}", runs, seconds=240)
    for (method, processes, place), ended in zip(runs, codes, strict=True):
        assert not any(ended), (method, ended, written(place, processes)[-1][-3000:])
    for method in methods:
        one, two = (json.loads((folder / method / f"result_{n}.json").read_text()) for n in (1, 2))
        assert (one["processes"], two["processes"]) == (1, 2)
        yield method, one, two


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_equal_one(tmp_path, subtests):
    for method, one, two in one_and_two("worker", METHODS, tmp_path):
        with subtests.test(method):
            check_equal(method, one, two)


def check_equal(method: str, one: dict, two: dict) -> None:
    critic = "archer" in method
    # Gains of an untrained model differ by 1e-3 within a group, which divides their rounding errors by as much.
    tolerance = {"replay_igpo": 5e-3}.get(method, 1e-4 if critic else 1e-5)
    assert len({len(row) for batch in one["advantages"] for row in batch}) > 1
    for expected, found in zip(one["advantages"], two["advantages"], strict=True):
        for row, other in zip(expected, found, strict=True):
            assert other == pytest.approx(row, abs=tolerance)
    assert any("eval_loss" in entry for entry in one["logs"]) == (method == "evaluation")
    for expected, found in zip(one["logs"], two["logs"], strict=True):
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, rel=1e-5, abs=max(2e-4, tolerance), nan_ok=True)
    for name, weights in one["weights"].items():
        assert two["weights"][name] == pytest.approx(weights, abs=1e-4 if critic else 1e-5)
    if critic:
        check_critic(one["critic"], two["critic"])
    if "replay" in method:
        (state,) = one["failures"]
        assert two["failures"] == [state] * 2
        assert state["tasks"] and state["graduated"] and max(entry["replay/share"] for entry in two["logs"]) > 0


def check_critic(one: dict, two: dict) -> None:
    """The same critic on both processes, from the same minibatches as one process has, each trajectory on one of them."""
    assert len(two["fingerprints"]) == 2 and len(set(two["fingerprints"])) == 1
    assert one["held"] == two["held"] == list(range(len(one["held"])))
    assert two["draws"] == one["draws"] * 2
    for name, weights in one["weights"].items():
        assert two["weights"][name] == pytest.approx(weights, abs=1e-4)


@pytest.mark.slow
def test_images_on_two_processes_equal_one(tmp_path, subtests):
    """The second process has rollouts without images, or no image at all."""
    for method, one, two in one_and_two("image_worker", ["images", "lone_images"], tmp_path):
        with subtests.test(method):
            assert two["lengths"] == one["lengths"]
            assert len(set(one["lengths"][0])) > 1
            for expected, found in zip(one["logs"], two["logs"], strict=True):
                assert found == pytest.approx(expected, rel=1e-4, abs=2e-4, nan_ok=True)
            for name, weights in one["weights"].items():
                assert two["weights"][name] == pytest.approx(weights, abs=1e-5), name
