"""Runs that are killed: the worker process of a test, and the callback that ends it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import TrainerCallback


class Die(TrainerCallback):
    """Ends the process by SIGKILL in the middle of a step, between two checkpoints."""

    def __init__(self, step: int):
        self.step = step

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def run_worker(worker: Path, folder: Path, how: str = "") -> int:
    """Run `worker FOLDER [die|resume]` in a process of its own; its exit status, 0 or that of a killed process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(worker), str(folder), how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    if done.returncode not in (0, -signal.SIGKILL):
        pytest.fail(done.stderr[-3000:])
    return done.returncode
