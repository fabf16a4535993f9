"""Cells of the support matrix: a selection in CI, in which every trainer meets every lifecycle, adapter and environment; all of them
by `python -m tests.matrix`, which makes the table."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.matrix.cells import (
    ADAPTERS,
    ENVIRONMENTS,
    LIFECYCLES,
    LOSSES,
    REFUSALS,
    TRAINERS,
    Cell,
    all_cells,
    refusal,
    run_order,
    selection,
)
from tests.matrix.checks import CHECKS
from tests.matrix.driving import run_cells
from tests.matrix.resuming import PROCESSES
from tests.matrix.running import Outcome, judge, run_cell


PLAIN = [cell for cell in selection() if cell.group == "plain"]
ELSEWHERE = [cell for cell in selection() if cell.group != "plain"]
REST = [cell for cell in run_order() if cell not in selection()]


@pytest.fixture(scope="module")
def quick_collection():
    """Each training collects garbage: a quarter of a second for all that the libraries have loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def check(cell: Cell, outcome: Outcome) -> None:
    expected = refusal(cell)
    assert (outcome.status, outcome.name) == (("refused", expected.name) if expected else ("ok", "")), outcome.message


@pytest.mark.parametrize("cell", PLAIN, ids=str)
def test_cell(cell, tmp_path, quick_collection):
    check(cell, run_cell(cell, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("group", ["hub", "processes"])
def test_cells_in_processes_of_their_own(group):
    """Pushes to a stand-in of the Hub, and runs that go on with another number of processes."""
    cells = [cell for cell in ELSEWHERE if cell.group == group]
    found: dict[Cell, Outcome] = {}
    run_cells(cells, found.__setitem__)
    assert found.keys() == set(cells)
    for cell in cells:
        check(cell, found[cell])


@pytest.mark.exhaustive
@pytest.mark.timeout(4 * 3600)
def test_every_other_cell():
    found: dict[Cell, Outcome] = {}
    run_cells(REST, found.__setitem__)
    wrong = [f"{cell}: {outcome}" for cell, outcome in found.items() if outcome.status == "defect"]
    assert not wrong, "\n".join(wrong)
    assert found.keys() == set(REST)


class TestSelection:
    def test_every_trainer_meets_everything(self):
        for place, values in ((1, LIFECYCLES), (2, ADAPTERS), (3, ENVIRONMENTS)):
            assert {(cell.trainer, cell[place]) for cell in selection()} == {(t, v) for t in TRAINERS for v in values}

    def test_a_lifecycle_is_shown_by_a_cell_that_works_if_one_does(self):
        for trainer in TRAINERS:
            for lifecycle in LIFECYCLES:
                same = [cell for cell in all_cells() if cell[:2] == (trainer, lifecycle)]
                if any(refusal(cell) is None for cell in same):
                    assert any(refusal(cell) is None for cell in selection() if cell[:2] == (trainer, lifecycle))

    def test_every_reason_to_refuse(self):
        assert {refusal(cell) for cell in selection()} == {None, *REFUSALS}

    def test_all_cells_once(self):
        assert len(set(all_cells())) == len(all_cells()) == len(run_order())
        assert len(all_cells()) == len(TRAINERS) * len(LIFECYCLES) * len(ADAPTERS) * len(ENVIRONMENTS)

    def test_five_passes_hold_every_triple(self):
        passes = all_cells()[: 5 * len(TRAINERS) * len(LIFECYCLES)]
        for left_out in range(4):
            expected = {cell[:left_out] + cell[left_out + 1 :] for cell in all_cells()}
            assert {cell[:left_out] + cell[left_out + 1 :] for cell in passes} == expected


class TestCells:
    def test_every_lifecycle_has_a_check(self):
        assert CHECKS.keys() | PROCESSES.keys() == LIFECYCLES.keys()

    def test_losses_are_those_that_the_trainer_computes(self):
        import inspect
        import re

        from trl import GRPOTrainer

        source = inspect.getsource(GRPOTrainer._compute_loss)
        computed = re.findall(r"self\.loss_type (?:==|in) (\[.*?\]|\".*?\")", source)
        assert set(LOSSES) == {name for names in computed for name in re.findall(r'"(\w+)"', names)}

    def test_names(self):
        cell = all_cells()[7]
        assert Cell.parse(str(cell)) == cell
        with pytest.raises(ValueError, match="'PPO' of 'PPO/train/full/tools' is none of"):
            Cell.parse("PPO/train/full/tools")


class TestJudgement:
    """What counts as a success, a refusal and a defect."""

    WORKS = Cell("IGPO", "train", "full", "tools")
    REFUSED = Cell("IGPO", "train", "full", "images")
    SAYS = "IGPOTrainer does not support vision-language models yet: sorry"

    @pytest.mark.parametrize(
        ("cell", "error", "stepped", "text", "status"),
        [
            (WORKS, None, True, "", "ok"),
            (WORKS, "ValueError", False, SAYS, "defect"),
            (REFUSED, "ValueError", False, SAYS, "refused"),
            (REFUSED, "ValueError", True, SAYS, "defect"),
            (REFUSED, "ValueError", False, "something else", "defect"),
            (REFUSED, None, True, "", "defect"),
        ],
    )
    def test_judge(self, cell, error, stepped, text, status):
        outcome = judge(cell, error, stepped, text)
        assert outcome.status == status
        assert outcome.name == ("igpo-images" if status == "refused" else "")

    def test_a_check_that_fails_is_a_defect(self, tmp_path, monkeypatch):
        monkeypatch.setitem(CHECKS, "train", lambda bench: bench.train(learning_rate=0.0, max_steps=1))
        outcome = run_cell(self.WORKS, tmp_path)
        assert outcome.status == "defect" and "nothing has changed" in outcome.message

    def test_a_frozen_weight_that_changes_is_a_defect(self, tmp_path, monkeypatch):
        def touch(bench):
            trainer = bench.trainer()
            before = {name: p.data.clone() for name, p in trainer.model.named_parameters()}
            trainer.train()
            next(trainer.model.parameters()).data.add_(1)
            bench.check_trained(trainer, before)

        monkeypatch.setitem(CHECKS, "train", touch)
        outcome = run_cell(Cell("IGPO", "train", "lora", "tools"), tmp_path)
        assert outcome.status == "defect" and "is frozen, but has changed" in outcome.message


@pytest.mark.slow
def test_command(tmp_path):
    """It runs what is asked for, goes on with what it has, and says by its exit status if there is a defect."""
    files = ["--results", str(tmp_path / "results.json"), "--table", str(tmp_path / "table.md")]
    command = [sys.executable, "-m", "tests.matrix", *files, "--only", "IGPO/train/full/images"]
    for said in ("1 refused", "nothing to run"):
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    cells = json.loads((tmp_path / "results.json").read_text())["cells"]
    assert cells == {"IGPO/full/images": {"refused": {"igpo-images": "train"}}}
    assert "0 refused" not in (tmp_path / "table.md").read_text()
