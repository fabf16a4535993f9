"""A Hub that answers 500: training goes on, each failed push is told and counted, and a push that is waited for raises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.stand_in import HubStandIn
from trl_multiturn.checkpoints import check_checkpoint


ROOT = Path(__file__).parents[2]


def push(hub: HubStandIn, folder: Path) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": "hf_not_a_real_token",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, str(Path(__file__).with_name("push.py")), str(folder / "out")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


@pytest.mark.slow
def test_pushes_that_fail(tmp_path):
    with HubStandIn() as hub:
        hub.fails = "/commit/"
        done = push(hub, tmp_path)
    # A push of the model and one of the checkpoint for each save; the last two are told at the end of training.
    assert "trained 3 [None, 0.0, 2.0, 4.0]" in done.stdout, done.stderr[-3000:]
    assert (
        done.stderr.count("A push to the Hub failed, and training goes on (Server error '500 Internal Server Error'")
        == 6
    )
    for step in (1, 2, 3):
        check_checkpoint(tmp_path / "out" / f"checkpoint-{step}")
    # The push at the end, which the script waits for.
    assert done.returncode == 1 and "HfHubHTTPError: Server error '500 Internal Server Error'" in done.stderr
    assert hub.repos == {"tester/failing": {}}


@pytest.mark.exhaustive
def test_pushes_have_the_names_of_checkpoints(tmp_path):
    """What is pushed is the folder that has its final name, all of it, and nothing of one that is being written."""
    with HubStandIn() as hub:
        done = push(hub, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    files = hub.repos["tester/failing"]
    assert {"last-checkpoint/trainer_state.json", "last-checkpoint/checkpoint_files.json", "model.safetensors"} <= {
        *files
    }
    assert not any("_incomplete" in name for name in files)
    listed = (tmp_path / "out" / "checkpoint-3" / "checkpoint_files.json").read_bytes()
    assert files["last-checkpoint/checkpoint_files.json"] == listed
    assert "trained 3 [None, 0.0, 0.0, 0.0]" in done.stdout


@pytest.mark.exhaustive
def test_a_hub_that_cannot_be_reached_at_the_start(tmp_path):
    with HubStandIn() as hub:
        hub.fails = "/repos/create"
        done = push(hub, tmp_path)
    assert done.returncode == 1 and "HfHubHTTPError: Server error '500 Internal Server Error'" in done.stderr
    assert "trained" not in done.stdout and not list((tmp_path / "out").glob("checkpoint-*"))
