"""A run that is killed and resumed ends as the uninterrupted one does, failed tasks and next draws included."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def run(folder: Path, how: str = "") -> int:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(Path(__file__).with_name("resume_worker.py")), str(folder), how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    if done.returncode not in (0, -signal.SIGKILL):
        pytest.fail(done.stderr[-3000:])
    return done.returncode


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    assert run(tmp_path / "whole") == 0
    assert run(tmp_path / "killed", "die") == -signal.SIGKILL
    assert run(tmp_path / "killed", "resume") == 0
    whole, resumed = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed"))
    assert [step for step, *_ in whole["curve"]] == list(range(1, 9))
    assert max(map(float, whole["replayed"])) > 0 and whole["state"]["replay"]["tasks"] and whole["draws"]
    assert resumed == whole
