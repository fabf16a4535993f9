"""Running cells, and what came of each."""

import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.matrix.cells import Cell, refusal


ROOT = Path(__file__).parents[2]
# Seconds for a part of a cell on two processes, their start included.
GANG_TIMEOUT = 240


class Outcome(NamedTuple):
    """`ok`; `refused` with the name of the refusal and what was said; or `defect` with what went wrong."""

    status: str
    name: str = ""
    message: str = ""


def judge(cell: Cell, error: str | None, stepped: bool, text: str = "") -> Outcome:
    """
    What came of a cell.

    Args:
        cell (`Cell`):
            The cell.
        error (`str` or `None`):
            Type of the exception it ended with.
        stepped (`bool`):
            Whether a training step had begun by then.
        text (`str`):
            What the exception says.
    """
    expected = refusal(cell)
    if error is None:
        if expected is not None:
            return Outcome("defect", "", f"it ran, though it is to be refused ({expected.name})")
        return Outcome("ok")
    line = " ".join(text.split())[:500]
    if expected is not None and not stepped and re.search(expected.pattern, " ".join(text.split())):
        return Outcome("refused", expected.name, line)
    when = "after the first step had begun" if stepped else "before the first step"
    return Outcome("defect", "", f"{error} {when}: {line}")


def run_cell(cell: Cell, folder: Path, hub: Any = None) -> Outcome:
    """Run a cell that one process can run. What an unexpected exception says goes to standard error."""
    from tests.matrix.bench import Bench
    from tests.matrix.building import scripted
    from tests.matrix.checks import CHECKS

    bench = Bench(cell, folder, hub)
    try:
        with scripted(cell):
            CHECKS[cell.lifecycle](bench)
    except Exception as error:
        return _judge_error(bench, error)
    return judge(cell, None, bench.stepped)


def run_on_processes(cells: Sequence[Cell], folder: Path) -> Iterator[tuple[Cell, Outcome]]:
    """Run cells whose runs are begun and ended by different numbers of processes. Gives each as soon as it is known."""
    from tests.matrix.resuming import PHASES, compare_phases, processes_of

    left = list(cells)
    for phase in PHASES:
        alone = [cell for cell in left if processes_of(cell.lifecycle, phase) == 1]
        together = [cell for cell in left if cell not in alone]
        results = [(cell, _run_phase_alone(cell, folder, phase)) for cell in alone]
        results += _run_phase_together(together, folder, phase)
        for cell, outcome in results:
            if outcome.status != "ok":
                left.remove(cell)
                yield cell, outcome
    for cell in left:
        try:
            compare_phases(_folder_of(cell, folder))
        except Exception as error:
            traceback.print_exc()
            yield cell, judge(cell, type(error).__name__, True, str(error))
        else:
            yield cell, judge(cell, None, True)


def phase_in_this_process(cell: Cell, folder: Path, phase: str) -> Outcome:
    """Run a phase of a cell; `ok` says no more than that it ended."""
    from tests.matrix.bench import Bench
    from tests.matrix.building import scripted
    from tests.matrix.resuming import run_phase

    bench = Bench(cell, _folder_of(cell, folder))
    bench.folder.mkdir(exist_ok=True, parents=True)
    try:
        with scripted(cell):
            run_phase(bench, phase)
    except Exception as error:
        return _judge_error(bench, error)
    return Outcome("ok")


def _run_phase_alone(cell: Cell, folder: Path, phase: str) -> Outcome:
    return phase_in_this_process(cell, folder, phase)


def _run_phase_together(cells: Sequence[Cell], folder: Path, phase: str) -> list[tuple[Cell, Outcome]]:
    """Two processes for all cells. One that fails ends both: then two new ones for those that are left."""
    from tests.matrix.gang import read_results

    found: list[tuple[Cell, Outcome]] = []
    while left := [cell for cell in cells if cell not in dict(found)]:
        with tempfile.TemporaryDirectory() as results:
            end = _start_gang(left, folder, phase, Path(results))
            told = read_results(Path(results))
        if not told or told[-1][1].status == "ok" and len(told) < len(left):
            told.append((left[len(told)], Outcome("defect", "", f"two processes ended with {end}")))
        found += told
    return found


def _start_gang(cells: Sequence[Cell], folder: Path, phase: str, results: Path) -> str:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, "-m", "tests.matrix.gang", str(folder), phase, str(results), *map(str, cells)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=GANG_TIMEOUT + 60 * len(cells)
        )
    except subprocess.TimeoutExpired:
        return "no end in time"
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
    return f"status {done.returncode}"


def _folder_of(cell: Cell, folder: Path) -> Path:
    return folder / str(cell).replace("/", "-")


def _judge_error(bench: Any, error: Exception) -> Outcome:
    found = judge(bench.cell, type(error).__name__, bench.stepped, str(error))
    if found.status == "defect":
        traceback.print_exception(error)
        if isinstance(error, AssertionError) and not str(error):
            place = traceback.extract_tb(error.__traceback__)[-1]
            found = found._replace(message=f"{found.message}{place.line}")
    return found
