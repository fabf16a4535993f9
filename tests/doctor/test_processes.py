"""The doctor on two processes, whose only group is spread over both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]


@pytest.mark.exhaustive
def test_two_processes_tell_the_same(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, str(Path(__file__).with_name("worker.py")), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"result_{rank}.json").read_text()) for rank in range(2))
    for name in ("base", "archer"):
        assert first[name] == second[name]
        assert (first[name]["errors"], first[name]["warnings"]) == (0, 0)
        batch = first[name]["batch"]
        assert (batch["rollouts"], batch["rollouts_of_all_processes"], batch["group_size"]) == (4, 8, 8)
        assert first[f"{name}/loss/True"] == first[f"{name}/loss/False"]
