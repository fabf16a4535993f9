"""An error on one of two processes ends the run on both, soon, and is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .failing_worker import MESSAGE
from .forked import ROOT, run_all, written


PLACES = {
    "reward": MESSAGE,
    "reset": MESSAGE,
    "environment": MESSAGE,
    "hook": MESSAGE,
    "critic": MESSAGE,
    "answer": "there is no accepted answer",
}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"]


@pytest.mark.slow
def test_without_a_launcher_each_process_ends_by_itself(tmp_path, subtests):
    """Nothing kills the first process here: it ends because its next collective fails."""
    runs = [(place, 2, tmp_path / place) for place in PLACES]
    ended = run_all("tests.distributed.failing_worker", runs)
    for place, codes in zip(PLACES, ended, strict=True):
        with subtests.test(place):
            first, second = written(tmp_path / place, 2)
            assert codes == [1, 1], (codes, first[-2000:], second[-2000:])
            assert f"Error: {PLACES[place]}" in second
            assert PLACES[place] not in first


def check_launcher(launcher: list[str], place: str, folder: Path) -> None:
    command = [sys.executable, *launcher, "-m", "tests.distributed.failing_worker", place, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert PLACES[place] in done.stderr


@pytest.mark.slow
def test_torchrun_ends_with_the_error(tmp_path):
    check_launcher(TORCHRUN, "reward", tmp_path)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_every_launcher_ends_with_the_error(tmp_path, launcher, place):
    check_launcher(launcher, place, tmp_path)
