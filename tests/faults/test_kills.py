"""Runs that are killed at any point, also in the middle of a save, and resumed: nothing damaged is loaded, nothing is lost."""

import hashlib
import json
import random
import shutil
import time
from pathlib import Path

import pytest
from transformers.trainer_utils import get_last_checkpoint

from tests.faults.points import die, fail, fault_at_every_point
from tests.faults.training import Run, finish, start
from trl_multiturn.checkpoints import INCOMPLETE, CheckpointError, check_checkpoint


def last_step(folder: Path) -> int:
    found = get_last_checkpoint(str(folder))
    return int(found.rpartition("-")[2]) if found else 0


def wait_for(condition, process) -> bool:
    """Whether it came true while the process was alive."""
    while process.is_alive():
        if condition():
            return True
        time.sleep(0.001)
    return False


def seconds_of_a_step_and_a_save(folder: Path, steps: int) -> tuple[float, float]:
    """What both take on this machine now, of a run that goes on meanwhile."""
    process, saves = start(folder, steps), []
    incomplete = folder / INCOMPLETE
    assert wait_for(incomplete.exists, process)
    began = begins = time.monotonic()
    while wait_for(lambda: not incomplete.exists(), process):
        saves.append(time.monotonic() - begins)
        if not wait_for(incomplete.exists, process):
            break
        begins = time.monotonic()
    process.join()
    assert process.exitcode == 0, (folder / "output.txt").read_text()[-3000:]
    return (time.monotonic() - began) / (steps - 1), sorted(saves)[len(saves) // 2]


def kill_once(folder: Path, steps: int, spans: tuple[float, float], rng: random.Random) -> dict:
    """Start or resume the run, kill it at a random point of a step or of a save, and say where it was."""
    before, in_save = last_step(folder), rng.random() < 0.5
    process = start(folder, steps)
    to_come = min(rng.choice((0, 0, 1, 1, 2)), steps - 2 - before)
    assert wait_for(lambda: last_step(folder) >= before + to_come, process)
    if in_save:
        assert wait_for((folder / INCOMPLETE / f"checkpoint-{before + to_come + 1}").exists, process)
    time.sleep(rng.random() * spans[in_save])
    process.kill()
    process.join()
    left = [path.name for path in (folder / INCOMPLETE).glob("*")]
    checkpoints = sorted(path.name for path in folder.glob("checkpoint-*"))
    return {"from": before, "to": last_step(folder), "killed": process.exitcode, "left": left, "kept": checkpoints}


def kill_often(folder: Path, kills: int, steps: int, seed: int) -> list[dict]:
    """Kill a run again and again; each kill is checked, and the run's end is compared with that of one left alone."""
    (folder / "whole").mkdir()
    (folder / "killed").mkdir()
    spans = seconds_of_a_step_and_a_save(folder / "whole", steps)
    rng, record = random.Random(seed), []
    for _ in range(kills):
        record.append(kill_once(folder / "killed", steps, spans, rng))
        assert record[-1]["killed"] == -9, (folder / "killed" / "output.txt").read_text()[-3000:]
        assert record[-1]["to"] >= record[-1]["from"]
        for checkpoint in (folder / "killed").glob("checkpoint-*"):
            check_checkpoint(checkpoint)
    resumed = finish(folder / "killed", steps)
    whole = json.loads((folder / "whole" / "result.json").read_text())
    assert {name for name in whole if whole[name] != resumed[name]} == set()
    assert not (folder / "killed" / INCOMPLETE).exists()
    assert sorted(path.name for path in (folder / "killed").glob("checkpoint-*")) == [
        f"checkpoint-{step}" for step in (steps - 1, steps)
    ]
    return record


@pytest.mark.slow
def test_three_random_kills(tmp_path):
    kill_often(tmp_path, kills=3, steps=5, seed=1)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_thirty_random_kills(tmp_path):
    record = kill_often(tmp_path, kills=30, steps=42, seed=0)
    for number, kill in enumerate(record, 1):
        print(
            f"kill {number}: checkpoint {kill['from']} to {kill['to']}, left unfinished: {kill['left'] or 'nothing'}"
        )
    assert any(kill["left"] for kill in record) and any(not kill["left"] for kill in record)


# --- every point of one save


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Swept(Run):
    """The third save is tried by children that are interrupted at every point of it, before it is done for real."""

    fault = staticmethod(die)
    stride = 1

    def _save_checkpoint(self, model, trial):
        if self.state.global_step == 3:
            self.sweep(Path(self.args.output_dir), lambda: super(Swept, self)._save_checkpoint(model, trial))
        super()._save_checkpoint(model, trial)

    def sweep(self, folder: Path, save) -> None:
        kept = folder.with_name("kept")
        found: dict[str, int] = {}
        known: dict[int, dict] = {}

        def look(point, status):
            assert status in ((0, -9) if self.fault is die else (0, 2)), f"point {point} ended with {status}"
            steps = sorted(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))
            name = " ".join(map(str, steps))
            found[name] = found.get(name, 0) + 1
            for step in steps:
                check_checkpoint(folder / f"checkpoint-{step}")
                now = contents(folder / f"checkpoint-{step}")
                expected = known.setdefault(step, now)
                differing = {name for name in expected | now if expected.get(name) != now.get(name)}
                assert not differing, f"checkpoint-{step} differs at point {point}: {differing}"
            for path in folder.glob("checkpoint-*"):  # what else is left, the next one must deal with
                shutil.rmtree(path)
            shutil.copytree(kept, folder, dirs_exist_ok=True)

        kept.mkdir()
        for path in folder.glob("checkpoint-*"):
            shutil.copytree(path, kept / path.name)
            known[int(path.name.rpartition("-")[2])] = contents(path)
        fault_at_every_point(folder, self.fault, lambda: self.attempt(save), look, self.stride)
        (folder / "sweep.json").write_text(json.dumps(found))

    def attempt(self, save) -> None:
        save()


class Full(Swept):
    """The disk is full at each point."""

    fault = staticmethod(fail)

    def attempt(self, save) -> None:
        try:
            save()
        except CheckpointError as error:
            last = Path(self.args.output_dir, "checkpoint-2")
            assert str(error).startswith("checkpoint-3 could not be saved") and f"resume from {last}." in str(error)
            assert not last.with_name(INCOMPLETE).exists()


class SweptSparsely(Swept):
    stride = 9


class FullSparsely(Full):
    stride = 23


@pytest.mark.slow
@pytest.mark.parametrize(
    "trainer_class",
    [
        SweptSparsely,
        FullSparsely,
        pytest.param(Swept, marks=pytest.mark.exhaustive),
        pytest.param(Full, marks=pytest.mark.exhaustive),
    ],
)
def test_interrupted_at_every_point_of_a_save(tmp_path, trainer_class):
    for name in ("whole", "swept"):
        (tmp_path / name).mkdir()
    whole = finish(tmp_path / "whole", 4)
    swept = finish(tmp_path / "swept", 4, trainer_class)
    found = json.loads((tmp_path / "swept" / "sweep.json").read_text())
    # Only before the new checkpoint has its name, after it, and after the oldest has lost its own.
    assert {"1 2", "2 3"} <= set(found) <= {"1 2", "1 2 3", "2 3"}
    assert sum(found.values()) > 75 / trainer_class.stride
    assert {name for name in whole if whole[name] != swept[name]} == set()
