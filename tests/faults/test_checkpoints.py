"""A checkpoint is there whole or not at all; one that is damaged nevertheless is refused before anything of it is loaded."""

import json
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from tests.archer.tiny import make
from tests.tiny import QuietCounter, dataset, make_trainer, train
from trl_multiturn.checkpoints import FILES, INCOMPLETE, CheckpointError, check_checkpoint, rotate, whole_checkpoint
from trl_multiturn.state import save_shard


class State(SimpleNamespace):
    def save_to_json(self, path):
        Path(path).write_text(json.dumps(vars(self)))


def state(step: int, **values) -> State:
    return State(**{"global_step": step, "best_global_step": None, "best_model_checkpoint": None, **values})


def process(rank: int = 0) -> SimpleNamespace:
    return SimpleNamespace(should_save=rank == 0, save_strategy="steps")


def save(folder: Path, step: int, text: str = "{}", **values) -> Path:
    with whole_checkpoint(str(folder), state(step, **values), process(), lambda: None) as incomplete:
        written = Path(incomplete, f"checkpoint-{step}")
        written.mkdir(parents=True)
        (written / "trainer_state.json").write_text(text)
    return folder / written.name


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two checkpoints of a run with critic and buffer."""
    folder = tmp_path_factory.mktemp("run")
    make(folder, max_steps=2, save_strategy="steps", save_steps=1, token_baseline=True).train()
    return folder


# --- writing


def test_no_name_before_all_of_it_is_there(tmp_path):
    saving = whole_checkpoint(str(tmp_path), state(3), process(), lambda: None)
    incomplete = Path(saving.__enter__())
    (incomplete / "checkpoint-3").mkdir(parents=True)
    (incomplete / "checkpoint-3" / "trainer_state.json").write_text("{}")
    assert get_last_checkpoint(str(tmp_path)) is None and incomplete.name.startswith("_")
    saving.__exit__(None, None, None)
    assert get_last_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-3")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_waits_for_every_process(tmp_path):
    """The slowest process writes its part last, and its part is in the folder when that gets its name."""
    barrier = threading.Barrier(3, timeout=30)
    seen = []

    def one(rank: int) -> None:
        with whole_checkpoint(str(tmp_path), state(1), process(rank), barrier.wait) as incomplete:
            if rank == 0:
                Path(incomplete, "checkpoint-1").mkdir(parents=True)
                Path(incomplete, "checkpoint-1", "trainer_state.json").write_text("{}")
            else:
                threading.Event().wait(0.2 * rank)
                seen.append((tmp_path / "checkpoint-1").exists())
            save_shard(Path(incomplete, "checkpoint-1"), {"part": torch.tensor(rank)}, rank, 3)
        seen.append((tmp_path / "checkpoint-1" / "method_state_00002_of_00003.json").exists())

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [False, False, True, True, True]
    assert len(json.loads((tmp_path / "checkpoint-1" / FILES).read_text())) == 7


def test_leftovers_of_a_killed_save_are_removed(tmp_path):
    (tmp_path / INCOMPLETE / "checkpoint-2").mkdir(parents=True)
    (tmp_path / INCOMPLETE / "checkpoint-2" / "stale.pt").write_text("half")
    save(tmp_path, 2)
    assert not (tmp_path / INCOMPLETE).exists()
    assert sorted(path.name for path in (tmp_path / "checkpoint-2").iterdir()) == [FILES, "trainer_state.json"]


def test_a_failed_save_leaves_nothing(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(KeyError):
        with whole_checkpoint(str(tmp_path), state(2), process(), lambda: None) as incomplete:
            Path(incomplete, "checkpoint-2").mkdir(parents=True)
            raise KeyError("of the method")
    with pytest.raises(
        CheckpointError, match=r"checkpoint-2 could not be saved .* MiB free: .*resume from .*checkpoint-1\.$"
    ):
        with whole_checkpoint(str(tmp_path), state(2), process(), lambda: None) as incomplete:
            Path(incomplete, "checkpoint-2").mkdir(parents=True)
            raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_step_that_is_saved_again_takes_the_place(tmp_path):
    save(tmp_path, 1, '{"first": 1}')
    save(tmp_path, 1, '{"second": 2}')
    assert json.loads((tmp_path / "checkpoint-1" / "trainer_state.json").read_text()) == {"second": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_the_old_one_stays_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    save(tmp_path, 1, '{"first": 1}')
    replace = os.replace

    def fail(source, target):
        if Path(target).name == "checkpoint-1" and Path(source).name == "checkpoint-1":
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save(tmp_path, 1, '{"second": 2}')
    assert json.loads((tmp_path / "checkpoint-1" / "trainer_state.json").read_text()) == {"first": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_rotation_keeps_the_best_and_the_newest(tmp_path):
    for step in range(1, 6):
        save(tmp_path, step)
    rotate(str(tmp_path), None, None)
    assert len(list(tmp_path.iterdir())) == 5
    rotate(str(tmp_path), 3, str(tmp_path / "checkpoint-2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    rotate(str(tmp_path), 1, str(tmp_path / "checkpoint-2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-5"]
    rotate(str(tmp_path), 1, None)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


class Seen(TrainerCallback):
    """What callbacks find when they are told of a save."""

    def __init__(self):
        self.found = []

    def on_save(self, args, state, control, **kwargs):
        folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
        self.found.append((check_checkpoint(folder), (folder / FILES).is_file(), state.best_model_checkpoint))


def test_callbacks_and_the_best_checkpoint_see_the_final_name(tmp_path):
    seen = Seen()
    trainer = make_trainer(
        tmp_path,
        QuietCounter,
        max_steps=3,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=1,
        eval_strategy="steps",
        eval_steps=1,
        eval_dataset=dataset(4),
        per_device_eval_batch_size=4,
        load_best_model_at_end=True,
        metric_for_best_model="reward",
        use_adaptive_entropy=True,
        callbacks=[seen],
    )
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best is not None and Path(best).parent == tmp_path and Path(best).is_dir()
    assert all(whole for _, whole, _ in seen.found) and len(seen.found) == 3
    last = next(tmp_path.glob("checkpoint-*"))
    assert json.loads((last / "trainer_state.json").read_text())["best_model_checkpoint"] is not None
    # TRL writes this file when Transformers has finished the checkpoint.
    assert "entropy_ctrl_state.json" in json.loads((last / FILES).read_text())
    assert INCOMPLETE not in (last / "trainer_state.json").read_text()


# --- reading


def test_each_file_is_missed(checkpoints, tmp_path):
    names = sorted(json.loads((checkpoints / "checkpoint-2" / FILES).read_text()))
    assert {"method_state.json", "method_state_00000_of_00001.safetensors", "optimizer.pt", "rng_state.pth"} <= {
        *names
    }
    for name in names:
        copy = shutil.copytree(checkpoints / "checkpoint-2", tmp_path / "checkpoint-2")
        (copy / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} is missing. Delete it and start the run again"):
            check_checkpoint(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize("listed", [True, False])
def test_each_cut_file_is_found(checkpoints, tmp_path, listed):
    """Without a list of the files, as another trainer leaves it, at least those that are read."""
    for path in sorted((checkpoints / "checkpoint-2").iterdir()):
        copy = shutil.copytree(checkpoints / "checkpoint-2", tmp_path / "checkpoint-2")
        if not listed:
            (copy / FILES).unlink()
        check_checkpoint(copy)
        whole = path.read_bytes()
        for size in (0, len(whole) // 2, len(whole) - 1):
            if size == len(whole) - 1 and path.suffix == ".json":  # a line break
                continue
            if path.suffix == ".jinja" or (not listed and path.name in ("training_args.bin", FILES)):
                continue
            (copy / path.name).write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=f"nothing of it was loaded: {path.name} "):
                check_checkpoint(copy)
        shutil.rmtree(copy)


def test_a_method_state_without_its_other_half(checkpoints, tmp_path):
    for name in ("method_state.json", "method_state.safetensors", "method_state_00000_of_00001.json"):
        copy = shutil.copytree(checkpoints / "checkpoint-2", tmp_path / "checkpoint-2")
        (copy / FILES).unlink()
        (copy / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            check_checkpoint(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize("given", [True, "path"])
def test_a_damaged_checkpoint_is_not_half_loaded(checkpoints, tmp_path, given):
    shutil.copytree(checkpoints, tmp_path / "run")
    damaged = tmp_path / "run" / "checkpoint-2"
    (damaged / "method_state.safetensors").write_bytes((damaged / "method_state.safetensors").read_bytes()[:-100])
    trainer = make(tmp_path / "run", max_steps=3, token_baseline=True)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(CheckpointError) as refused:
        trainer.train(resume_from_checkpoint=given if given is True else str(damaged))
    assert "\n" not in str(refused.value) and "method_state.safetensors" in str(refused.value)
    assert f"such as {tmp_path / 'run' / 'checkpoint-1'}" in str(refused.value)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert trainer.state.global_step == 0 and len(trainer.buffer) == 0


def test_a_checkpoint_of_trl_itself_is_read(tmp_path):
    """It has no list of its files."""
    trainer = train(tmp_path, QuietCounter, max_steps=1, save_strategy="steps", save_steps=1)
    (tmp_path / "checkpoint-1" / FILES).unlink()
    resumed = train(tmp_path, QuietCounter, max_steps=2, resume=True)
    assert trainer.state.global_step == 1 and resumed.state.global_step == 2
