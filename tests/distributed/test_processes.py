"""Two processes (gloo) equal one on the same global batch, whose only group is spread over both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]


def run(method: str, folder: Path, processes: int, worker: str = "worker.py") -> dict:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(Path(__file__).with_name(worker)), method, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / f"result_{processes}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["neutral", "base", "igpo", "archer", "replay"])
def test_two_processes_equal_one(tmp_path, method):
    one, two = (run(method, tmp_path, processes) for processes in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len({len(row) for batch in one["advantages"] for row in batch}) > 1
    for expected, found in zip(one["advantages"], two["advantages"], strict=True):
        for row, other in zip(expected, found, strict=True):
            assert other == pytest.approx(row, abs=1e-4 if method == "archer" else 1e-5)
    for expected, found in zip(one["logs"], two["logs"], strict=True):
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, rel=1e-5, abs=2e-4, nan_ok=True)
    for name, weights in one["weights"].items():
        assert two["weights"][name] == pytest.approx(weights, abs=1e-4 if method == "archer" else 1e-5)
    if method == "archer":
        check_critic(one["critic"], two["critic"])
    if method == "replay":
        (state,) = one["failures"]
        assert two["failures"] == [state] * 2
        assert state["tasks"] and state["graduated"] and max(entry["replay/share"] for entry in two["logs"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["images", "lone_images"])
def test_images_on_two_processes_equal_one(tmp_path, method):
    """The second process has rollouts without images, or no image at all."""
    one, two = (run(method, tmp_path, processes, "image_worker.py") for processes in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["lengths"] == one["lengths"]
    assert len(set(one["lengths"][0])) > 1
    for expected, found in zip(one["logs"], two["logs"], strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=2e-4, nan_ok=True)
    for name, weights in one["weights"].items():
        assert two["weights"][name] == pytest.approx(weights, abs=1e-5), name


def check_critic(one: dict, two: dict) -> None:
    """The same critic on both processes, from the same minibatches as one process has, each trajectory on one of them."""
    assert len(two["fingerprints"]) == 2 and len(set(two["fingerprints"])) == 1
    assert one["held"] == two["held"] == list(range(3 * 8))
    assert two["draws"] == one["draws"] * 2
    for name, weights in one["weights"].items():
        assert two["weights"][name] == pytest.approx(weights, abs=1e-4)
