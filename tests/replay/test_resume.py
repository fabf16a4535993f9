"""A run that is killed and resumed ends as the uninterrupted one does, failed tasks and next draws included."""

import json
import signal
from pathlib import Path

import pytest

from tests.killing import run_worker


WORKER = Path(__file__).with_name("resume_worker.py")


@pytest.mark.exhaustive
def test_killed_and_resumed(tmp_path):
    assert run_worker(WORKER, tmp_path / "whole") == 0
    assert run_worker(WORKER, tmp_path / "killed", "die") == -signal.SIGKILL
    assert run_worker(WORKER, tmp_path / "killed", "resume") == 0
    whole, resumed = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed"))
    assert [step for step, *_ in whole["curve"]] == list(range(1, 9))
    assert max(map(float, whole["replayed"])) > 0 and whole["state"]["replay"]["tasks"] and whole["draws"]
    assert resumed == whole
