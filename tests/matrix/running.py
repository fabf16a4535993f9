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
    from tests.matrix.resuming import STAGES, compare_phases

    left = list(cells)
    for stage in range(3):
        parts = [(cell, phase) for cell in left for phase in STAGES[cell.lifecycle][stage]]
        run = _run_together if stage == 1 else _run_alone
        for cell, outcome in run(parts, folder):
            if outcome.status != "ok" and cell in left:
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


def _run_alone(parts: Sequence[tuple[Cell, str]], folder: Path) -> Iterator[tuple[Cell, Outcome]]:
    for cell, phase in parts:
        yield cell, phase_in_this_process(cell, folder, phase)


def _run_together(parts: Sequence[tuple[Cell, str]], folder: Path) -> Iterator[tuple[Cell, Outcome]]:
    """Two processes for all cells. One that fails ends both: then two new ones for those that are left."""
    from tests.matrix.gang import read_results

    left = list(parts)
    while left:
        with tempfile.TemporaryDirectory() as results:
            end = _start_gang(left, folder, Path(results))
            told = read_results(Path(results))
        if all(outcome.status == "ok" for _, outcome in told) and len(told) < len(left):
            told.append((left[len(told)][0], Outcome("defect", "", f"two processes ended with {end}")))
        yield from told
        left = left[len(told) :]


def _start_gang(parts: Sequence[tuple[Cell, str]], folder: Path, results: Path) -> str:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    names = [f"{phase}:{cell}" for cell, phase in parts]
    command = [*launcher, "-m", "tests.matrix.gang", str(folder), str(results), *names]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as gang:
        try:
            _, errors = gang.communicate(timeout=GANG_TIMEOUT + 60 * len(parts))
        except subprocess.TimeoutExpired:
            gang.terminate()  # torchrun then ends the processes that it has started
            return "no end in time"
    if gang.returncode:
        print(errors[-3000:], file=sys.stderr)
    return f"status {gang.returncode}"


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
