"""Rollouts by a vLLM server: two processes (gloo) equal one, though their rollouts end after different numbers of turns."""

import json

import pytest

from tests.distributed.forked import run_all, written
from tests.vllm_stand_in import save_model


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["archer", "base", "igpo", "replay"])
def test_two_processes_equal_one(tmp_path, method):
    save_model(tmp_path)
    codes = run_all("tests.distributed.vllm_worker", [(method, 1, tmp_path), (method, 2, tmp_path)])
    assert codes == [[0], [0, 0]], written(tmp_path, 2)
    one, two = (json.loads((tmp_path / f"result_{processes}.json").read_text()) for processes in (1, 2))

    assert two["rollouts"] == one["rollouts"]
    assert two["updates"] == one["updates"] == 2
    for expected, found in zip(one["logs"], two["logs"], strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=2e-4, nan_ok=True)
        assert abs(expected["sampling/importance_sampling_ratio/mean"] - 1) > 1e-3
    for name, weights in one["weights"].items():
        assert two["weights"][name] == pytest.approx(weights, abs=1e-4)
    # The same is asked for, and in some turns an odd number of prompts, which two processes cannot have in equal parts.
    asked = [{(str(prompt), n) for prompts, n in found["requests"] for prompt in prompts} for found in (one, two)]
    assert asked[0] == asked[1]
    assert any(len(prompts) % 2 for prompts, n in one["requests"] if n == 1)
    assert max(n for _, n in two["requests"]) == 8
