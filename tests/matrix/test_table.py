"""The page of the support matrix is what its results say, no more."""

import random
import re

import pytest

from tests.matrix import results as results_file
from tests.matrix import table
from tests.matrix.cells import ADAPTERS, ENVIRONMENTS, LIFECYCLES, LOSSES, REFUSALS, TRAINERS, Cell, all_cells, refusal
from tests.matrix.results import Results
from tests.matrix.running import Outcome


@pytest.fixture
def committed() -> Results:
    return Results.read(results_file.PATH)


def counted(page: str, status: str) -> int:
    """Sum of what the tables of environments by adapters say, the only ones with numbers."""
    return sum(int(number) for number in re.findall(rf"(?<=[|,]) (\d+) {status}(?=[,| ])", page.partition("## ")[2]))


def marked(page: str) -> int:
    """Cells of the tables of lifecycles by adapters that say ok."""
    return sum(
        re.match(r" ok( \(\d of 5\))?( <sup>| $)", entry) is not None
        for line in page.splitlines()
        if line.startswith("| ")
        for entry in line.split("|")[2:-1]
    )


def some_results(count: int, seed: int = 0) -> Results:
    results = Results()
    for cell in random.Random(seed).sample(all_cells(), count):
        expected = refusal(cell)
        results.add(cell, Outcome("refused", expected.name, "No.") if expected else Outcome("ok"))
    return results


def test_the_page_is_made_from_the_results(committed):
    assert table.PATH.read_text(encoding="utf-8") == table.make_page(committed)


def test_the_results_hold_what_was_declared(committed):
    names = {refusal.name: refusal for refusal in REFUSALS}
    assert committed.outcomes
    for cell, outcome in committed.outcomes.items():
        assert outcome.status != "refused" or names[outcome.name].covers(cell), cell
        assert outcome.status != "ok" or not any(refusal.covers(cell) for refusal in REFUSALS), cell
    for name, message in committed.messages.items():
        assert re.search(names[name].pattern, message)


def test_no_cell_is_green_that_was_not_run(committed):
    page = table.make_page(committed)
    found = [outcome.status for outcome in committed.outcomes.values()]
    for status in ("ok", "refused", "defect"):
        assert counted(page, status) == found.count(status)


def test_nothing_was_run():
    results = Results()
    results.losses = list(LOSSES)
    page = table.make_page(results)
    assert marked(page) == counted(page, "ok") == 0
    assert counted(page, "not run") == len(all_cells())
    assert re.search(r" 0 of \d+ met in a cell that was run; of all triples, 0 of \d+\.", page)


@pytest.mark.parametrize("count", [1, 7, 400])
def test_a_part_was_run(count):
    results = some_results(count)
    page = table.make_page(results)
    found = [outcome.status for outcome in results.outcomes.values()]
    assert counted(page, "ok") == found.count("ok")
    assert counted(page, "not run") == len(all_cells()) - count
    assert marked(page) == len({cell[:3] for cell, outcome in results.outcomes.items() if outcome.status == "ok"})


def test_one_cell_is_six_pairs_and_four_triples():
    results = Results()
    results.add(Cell("IGPO", "train", "lora", "tools"), Outcome("ok"))
    assert re.search(r" 6 of \d+ met in a cell that was run; of all triples, 4 of \d+\.", table.make_page(results))


def test_a_cell_that_is_taken_away_is_no_longer_green():
    results = Results()
    for environment in ENVIRONMENTS:
        results.add(Cell("MultiTurnGRPO", "train", "full", environment), Outcome("ok"))
    assert "| train | ok | not run | not run | not run |" in table.make_page(results)
    del results.outcomes[Cell("MultiTurnGRPO", "train", "full", "tools")]
    page = table.make_page(results)
    assert "| train | ok (4 of 5) <sup>1</sup> | not run |" in page
    assert "1. tools: not run" in page


def test_a_defect_shows_before_all_that_works():
    results = Results()
    for environment in ENVIRONMENTS:
        results.add(Cell("ArCHer", "save", "lora", environment), Outcome("ok"))
    results.add(Cell("ArCHer", "save", "lora", "tools"), Outcome("defect", "", "it fell over"))
    page = table.make_page(results)
    assert "| save and load | not run | defect <sup>1</sup> |" in page
    assert "prompts, environment, environments, images: ok" in page
    assert "- `ArCHer/save/lora/tools`: it fell over" in page


def test_the_file_keeps_everything(tmp_path):
    results = some_results(300)
    results.add(Cell("ArCHer", "save", "lora", "tools"), Outcome("defect", "", "it fell over"))
    results.write(tmp_path / "results.json")
    read = Results.read(tmp_path / "results.json")
    assert {cell: (o.status, o.name) for cell, o in read.outcomes.items()} == {
        cell: (o.status, o.name) for cell, o in results.outcomes.items()
    }
    assert read.outcomes[Cell("ArCHer", "save", "lora", "tools")].message == "it fell over"
    assert read.content() == results.content()
    assert read.is_of_these_versions
    read.versions["trl"] = "0.1"
    assert not read.is_of_these_versions


def test_the_page_names_every_lifecycle_and_adapter():
    page = table.make_page(some_results(1))
    for trainer in TRAINERS:
        assert f"## {trainer}Trainer" in page
    for title, what in LIFECYCLES.values():
        assert page.count(f"| {title} |") == len(TRAINERS) + 1
        assert what in page
    assert all(title in page for title in ADAPTERS.values())
