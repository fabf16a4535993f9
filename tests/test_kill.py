"""A run that is killed and resumed from its last checkpoint ends as the uninterrupted one does."""

import json
import signal
from pathlib import Path

import pytest

from tests.killing import run_worker


WORKER = Path(__file__).with_name("kill_worker.py")


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    assert run_worker(WORKER, tmp_path / "whole") == 0
    assert run_worker(WORKER, tmp_path / "killed", "die") == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "killed").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert run_worker(WORKER, tmp_path / "killed", "resume") == 0
    whole, resumed = (json.loads((tmp_path / name / "curve.json").read_text()) for name in ("whole", "killed"))
    assert [step for step, *_ in whole["curve"]] == list(range(1, 9))
    assert resumed == whole
