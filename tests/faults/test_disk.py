"""A disk that is full while a checkpoint is saved: a clear error, nothing half-written, and the earlier checkpoint to go on from."""

import resource
import signal
import subprocess

import pytest
from transformers import TrainerCallback

from tests.tiny import QuietCounter, train
from trl_multiturn.checkpoints import CheckpointError, check_checkpoint


def go_on_from_the_second(folder) -> None:
    assert sorted(path.name for path in folder.glob("*checkpoint*")) == ["checkpoint-1", "checkpoint-2"]
    assert not (folder / "_incomplete").exists()
    check_checkpoint(folder / "checkpoint-2")
    trainer = train(folder, QuietCounter, max_steps=3, save_strategy="steps", save_steps=1, resume=True)
    assert trainer.state.global_step == 3 and (folder / "checkpoint-3").is_dir()


def refused(folder, **options) -> str:
    with pytest.raises(CheckpointError) as error:
        train(folder, QuietCounter, max_steps=3, save_strategy="steps", save_steps=1, **options)
    message = str(error.value)
    assert message.startswith(f"checkpoint-3 could not be saved in {folder}, which has ") and "\n" not in message
    assert message.endswith(f"Free some space and resume from {folder / 'checkpoint-2'}.")
    return message


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for two checkpoints; `mount` needs a privilege that not every machine gives."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1400k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk):
    message = refused(small_disk)
    assert "which has 0." in message
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    go_on_from_the_second(small_disk)


class Limit(TrainerCallback):
    """From the third step on no file may be as large as the optimizer's state."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_file_that_cannot_be_written(tmp_path):
    """Everywhere, since it needs no privilege: a limit on the size of files."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        refused(tmp_path, callbacks=[Limit()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    go_on_from_the_second(tmp_path)
