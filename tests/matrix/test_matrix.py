"""Cells of the support matrix: a selection in CI, in which every trainer meets every lifecycle, adapter and environment; all of them
by `python -m tests.matrix`, which makes the table."""

import gc
import sys

import pytest
import torch

import trl_multiturn
from tests.matrix import driving
from tests.matrix.__main__ import main
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
from tests.matrix.results import Results
from tests.matrix.resuming import PROCESSES
from tests.matrix.running import Outcome, judge, run_cell, run_on_processes


PLAIN = [cell for cell in selection() if cell.group == "plain"]
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
@pytest.mark.timeout(900)
def test_cells_on_two_processes(tmp_path, quick_collection):
    cells = [cell for cell in selection() if cell.group == "processes"]
    found = dict(run_on_processes(cells, tmp_path))
    assert found.keys() == set(cells)
    for cell in cells:
        check(cell, found[cell])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hub_cells_by_the_command(tmp_path, monkeypatch, capsys):
    """It runs what is asked for, goes on with what it has, and says by its exit status if there is a defect."""
    files = ["--results", str(tmp_path / "results.json"), "--table", str(tmp_path / "table.md")]
    monkeypatch.setattr(sys, "argv", ["matrix", *files, "--ci", "--only", "*/hub_*/*"])
    cells = [cell for cell in selection() if cell.group == "hub"]
    for said in (f"{len(cells)} ok", "nothing to run"):
        status = main()
        told = capsys.readouterr().out
        assert status == 0 and said in told, told
    found = Results.read(tmp_path / "results.json").outcomes
    assert found.keys() == set(cells)
    for cell in cells:
        check(cell, found[cell])
    assert f"{len(cells)} ok, {len(all_cells()) - len(cells)} not run" in (tmp_path / "table.md").read_text()


@pytest.mark.exhaustive
@pytest.mark.timeout(2 * 3600)
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_every_other_cell(trainer, adapter):
    cells = [cell for cell in REST if (cell.trainer, cell.adapter) == (trainer, adapter)]
    found: dict[Cell, Outcome] = {}
    run_cells(cells, found.__setitem__)
    wrong = [f"{cell}: {outcome.message}" for cell, outcome in found.items() if outcome.status == "defect"]
    assert not wrong, "\n".join(wrong)
    assert found.keys() == set(cells)


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


def _still(trainer):
    """An optimizer that moves nothing."""
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.0)
    return trainer.optimizer


class TestChecks:
    """They fail where what they look at is broken."""

    BROKEN = [
        ("ReplayGRPO/resume/full/tools", "load_method_state", lambda self, state: None),
        ("ArCHer/resume/full/prompts", "load_shard_states", lambda self, states: None),
        ("MultiTurnGRPO/load_best/full/tools", "_load_best_model", lambda self: None),
        ("MultiTurnGRPO/save_only_model/lora/tools", "_load_from_checkpoint", lambda self, *arguments: None),
        ("IGPO/streaming/full/tools", "create_optimizer", lambda self, *arguments: _still(self)),
    ]

    @pytest.mark.parametrize(("name", "method", "broken"), BROKEN, ids=[name for name, *_ in BROKEN])
    def test_broken(self, tmp_path, monkeypatch, quick_collection, name, method, broken):
        cell = Cell.parse(name)
        monkeypatch.setattr(getattr(trl_multiturn, f"{cell.trainer}Trainer"), method, broken)
        assert run_cell(cell, tmp_path).status == "defect"

    def test_another_model_is_saved(self, tmp_path, monkeypatch, quick_collection):
        save = trl_multiturn.MultiTurnGRPOTrainer.save_model

        def save_and_go_on(self, *arguments, **options):
            save(self, *arguments, **options)
            next(self.model.parameters()).data.add_(1)

        monkeypatch.setattr(trl_multiturn.MultiTurnGRPOTrainer, "save_model", save_and_go_on)
        assert run_cell(Cell.parse("MultiTurnGRPO/save/full/prompts"), tmp_path).status == "defect"


class TestWorkers:
    """A process that dies or hangs costs the cell that it had begun, and no other."""

    CELLS = [cell for cell in all_cells() if cell.group == "plain"][:5]

    def test_one_dies(self, monkeypatch):
        started = []

        def watch(cells, lines, errors, tell, over):
            """Ends two cells and dies in the third, if there are so many."""
            started.append(list(cells))
            with lines.open("w") as file:
                for cell in cells[:2]:
                    file.write(f'["{cell}"]\n["{cell}", "ok", "", ""]\n')
                    tell(cell, Outcome("ok"))
                file.writelines(f'["{cell}"]\n' for cell in cells[2:3])
            errors.write_text("a warning\nSegmentation fault\n")
            return "status -11"

        monkeypatch.setattr(driving, "_watch", watch)
        found = {}
        run_cells(self.CELLS, found.__setitem__)
        assert started == [self.CELLS, self.CELLS[3:]]
        assert [found[cell].status for cell in self.CELLS] == ["ok", "ok", "defect", "ok", "ok"]
        assert found[self.CELLS[2]].message == "the process ended with status -11: Segmentation fault"

    def test_one_does_not_even_start(self, monkeypatch):
        monkeypatch.setattr(
            driving, "_watch", lambda cells, lines, errors, tell, over: errors.write_text("no") and "x"
        )
        found = {}
        run_cells(self.CELLS[:2], found.__setitem__)
        assert [found[cell].message for cell in self.CELLS[:2]] == ["the process ended with x: no"] * 2

    def test_one_says_nothing_more(self, monkeypatch):
        monkeypatch.setattr(driving, "_PATIENCE", {"plain": 0.0})
        found = {}
        run_cells(self.CELLS[:1], found.__setitem__)
        assert found[self.CELLS[0]].status == "defect" and "nothing for 0.0 s" in found[self.CELLS[0]].message

    def test_time_is_up(self):
        found = {}
        run_cells(self.CELLS, found.__setitem__, until=0.0)
        assert not found
