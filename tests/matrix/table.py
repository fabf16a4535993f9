"""The page of the support matrix, made from the results and from nothing else."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from math import prod
from pathlib import Path

from tests.matrix.cells import ADAPTERS, ENVIRONMENTS, REFUSALS, TRAINERS, Cell, lifecycles
from tests.matrix.results import Results
from tests.matrix.running import Outcome


PATH = Path(__file__).parents[2] / "docs" / "support_matrix.md"
NOT_RUN = "not run"
_NOTHING = Outcome(NOT_RUN)

_HEAD = """\
# Support matrix

What works with what, as the tests found it. `python -m tests.matrix` made this page from [its results](results/support_matrix.json); a test fails if it was
edited by hand. `make matrix` runs what has not been run yet.

A cell is one small model, trained for real on a CPU: {trainers} trainers, {lifecycles} lifecycles, {adapters} adapters, {environments} environments. It is

- **ok** if the row's check passed ([what is checked](#what-is-checked)),
- **refused** if an error came before the first step and says what [it must say](#what-is-refused),
- **defect** if anything else happened,
- **not run** if nobody ran it.

A cell of the tables stands for several of these: `ok (2 of 5)` is ok in two environments and was not run in three, and a note under the table says in which.

{total} cells: {counts}. Of all pairs of a trainer, a lifecycle, an adapter and an environment, {pairs} met in a cell that was run; of all triples, {triples}.
Last run {date}, {versions}.
"""


def make_page(results: Results) -> str:
    """
    The page.

    Args:
        results (`Results`):
            Outcomes of those cells that were run.

    Returns:
        `str`: Markdown.
    """
    rows = lifecycles(results.losses)
    total = len(TRAINERS) * len(rows) * len(ADAPTERS) * len(ENVIRONMENTS)
    counts = Counter(outcome.status for outcome in results.outcomes.values())
    counts[NOT_RUN] = total - counts.total()
    parts = [
        _HEAD.format(
            trainers=len(TRAINERS),
            lifecycles=len(rows),
            adapters=len(ADAPTERS),
            environments=len(ENVIRONMENTS),
            total=total,
            counts=_counted(counts),
            pairs=_coverage(results, rows, 2),
            triples=_coverage(results, rows, 3),
            date=results.date or "never",
            versions=", ".join(f"{name} {version}" for name, version in results.versions.items()),
        )
    ]
    parts += [_trainer_part(results, trainer) for trainer in TRAINERS]
    parts += [_refusals(results), _defects(results), _checked(rows)]
    return "\n".join(parts)


def _coverage(results: Results, rows: Iterable[str], size: int) -> str:
    """How many combinations of so many values have been in a cell."""
    values = (TRAINERS, rows, ADAPTERS, ENVIRONMENTS)
    axes = list(combinations(range(len(values)), size))
    met = {(chosen, tuple(cell[axis] for axis in chosen)) for cell in results.outcomes for chosen in axes}
    return f"{len(met)} of {sum(prod(len(list(values[axis])) for axis in chosen) for chosen in axes)}"


def _trainer_part(results: Results, trainer: str) -> str:
    rows = lifecycles(results.losses)
    lines = [f"## {trainer}Trainer", "", "Environments by adapters, over all lifecycles:", ""]
    lines += _table_head("environment")
    for environment, title in ENVIRONMENTS.items():
        found = [
            Counter(_outcome(results, Cell(trainer, row, adapter, environment)).status for row in rows)
            for adapter in ADAPTERS
        ]
        lines.append(f"| {title} | " + " | ".join(map(_counted, found)) + " |")
    lines += ["", "Lifecycles by adapters, over all environments:", ""]
    lines += _table_head("lifecycle")
    notes: dict[str, int] = {}
    for row, (title, _) in rows.items():
        cells = [_over_environments(results, trainer, row, adapter, notes) for adapter in ADAPTERS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{number}. {note}" for note, number in notes.items())]
    return "\n".join(lines).rstrip() + "\n"


def _over_environments(results: Results, trainer: str, row: str, adapter: str, notes: dict[str, int]) -> str:
    """What came of a row and a column; exceptions go into the notes."""
    by_outcome: dict[str, list[str]] = {}
    for environment in ENVIRONMENTS:
        outcome = _outcome(results, Cell(trainer, row, adapter, environment))
        what = f"{outcome.status} (`{outcome.name}`)" if outcome.name else outcome.status
        by_outcome.setdefault(what, []).append(environment)
    main = min(by_outcome, key=_rank)
    status = main.partition(" (")[0]
    others = [f"{', '.join(names)}: {what}" for what, names in by_outcome.items() if what != main]
    if status != main:
        others.insert(0, f"{', '.join(by_outcome[main])}: {main}")
    if not others:
        return status
    run = len(ENVIRONMENTS) - len(by_outcome.get(NOT_RUN, []))
    if run < len(ENVIRONMENTS):
        status += f" ({run} of {len(ENVIRONMENTS)})"
    number = notes.setdefault("; ".join(others), len(notes) + 1)
    return f"{status} <sup>{number}</sup>"


def _rank(what: str) -> int:
    """A defect shows before anything else."""
    return ("defect", "ok", "refused", NOT_RUN).index(what.partition(" (")[0])


def _table_head(first: str) -> list[str]:
    return [f"| {first} | " + " | ".join(ADAPTERS.values()) + " |", "|---" * (len(ADAPTERS) + 1) + "|"]


def _outcome(results: Results, cell: Cell) -> Outcome:
    return results.outcomes.get(cell, _NOTHING)


def _counted(counts: Counter) -> str:
    return ", ".join(f"{counts[s]} {s}" for s in ("ok", "refused", "defect", NOT_RUN) if counts[s]) or "none"


def _refusals(results: Results) -> str:
    lines = ["## What is refused", "", "| name | cells | why | what it says |", "|---|---|---|---|"]
    found = Counter(outcome.name for outcome in results.outcomes.values() if outcome.status == "refused")
    for refusal in REFUSALS:
        message = results.messages.get(refusal.name, "").replace("|", "\\|")
        lines.append(f"| `{refusal.name}` | {found[refusal.name]} | {refusal.reason} | {message} |")
    return "\n".join(lines) + "\n"


def _defects(results: Results) -> str:
    found = [(cell, outcome) for cell, outcome in sorted(results.outcomes.items()) if outcome.status == "defect"]
    if not found:
        return "## Defects\n\nNone in the cells that were run.\n"
    lines = [f"- `{cell}`: {outcome.message}" for cell, outcome in found]
    return "\n".join(["## Defects", "", *lines]) + "\n"


def _checked(rows: dict[str, tuple[str, str]]) -> str:
    lines = ["## What is checked", "", "| lifecycle | what must hold |", "|---|---|"]
    return "\n".join([*lines, *(f"| {title} | {what} |" for title, what in rows.values())]) + "\n"
