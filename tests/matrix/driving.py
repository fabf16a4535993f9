"""Worker processes for many cells: what they tell, and what becomes of those that hang or die."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.matrix.cells import Cell
from tests.matrix.running import GANG_TIMEOUT, ROOT, Outcome


# Cells of one process, which loads the libraries once.
_BLOCK = {"plain": 120, "processes": 10}
# Seconds without news.
_PATIENCE = {"plain": 180, "processes": 6 * GANG_TIMEOUT}

Tell = Callable[[Cell, Outcome], None]


def run_cells(cells: Sequence[Cell], tell: Tell, jobs: int = 1, until: float = float("inf")) -> None:
    """
    Run cells in processes of their own.

    Args:
        cells (`Sequence[Cell]`):
            What to run, in this order.
        tell (`Callable`):
            Is called with each cell and what came of it, as soon as it is known.
        jobs (`int`):
            Number of processes at a time.
        until (`float`):
            Time, as `time.monotonic` counts it, after which nothing new is begun.
    """
    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(_run_block, block, tell, until) for block in _blocks(cells)]:
            done.result()


def _blocks(cells: Sequence[Cell]) -> list[list[Cell]]:
    blocks: list[list[Cell]] = []
    for cell in cells:
        kind = _kind(cell)
        if not blocks or _kind(blocks[-1][0]) != kind or len(blocks[-1]) == _BLOCK[kind]:
            blocks.append([])
        blocks[-1].append(cell)
    return blocks


def _kind(cell: Cell) -> str:
    return "processes" if cell.group == "processes" else "plain"


def _run_block(block: list[Cell], tell: Tell, until: float) -> None:
    """Run a block. A worker that hangs or dies costs the cell that it had begun; another one does the rest."""
    left = list(block)
    while left and time.monotonic() < until:
        with tempfile.TemporaryDirectory() as folder:
            lines, errors = Path(folder, "lines"), Path(folder, "errors")
            end = _watch(left, lines, errors, tell, until)
            if end is None:
                return
            told, begun = _read(lines)
            left = [cell for cell in left if cell not in told]
            if not left:
                return
            lost = begun if begun in left else left[0]
            last = errors.read_text(errors="replace").strip().splitlines()[-1:] or [""]
            tell(lost, Outcome("defect", "", f"the process ended with {end}: {last[0][:300]}"))
            left.remove(lost)


def _watch(cells: Sequence[Cell], lines: Path, errors: Path, tell: Tell, until: float) -> str | None:
    """Start a worker and pass on what it tells. How it ended, or `None` if it was stopped because time is up."""
    command = [sys.executable, "-m", "tests.matrix.worker", str(lines), *map(str, cells)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    patience = _PATIENCE[_kind(cells[0])]
    with errors.open("w") as log:
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    known: dict[Cell, Outcome] = {}
    heard, size = time.monotonic(), 0
    try:
        while True:
            status = worker.poll()
            if lines.exists() and lines.stat().st_size != size:
                heard, size = time.monotonic(), lines.stat().st_size
            told, _ = _read(lines)
            for cell, outcome in told.items():
                if cell not in known:
                    if outcome.status == "defect":
                        print(errors.read_text(errors="replace")[-4000:], file=sys.stderr)
                    tell(cell, outcome)
            known = told
            if status is not None:
                return f"status {status}"
            if time.monotonic() > until:
                return None
            if time.monotonic() - heard > patience:
                return f"nothing for {patience} s"
            time.sleep(0.5)
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)  # with the processes that it has started, which share its session
            worker.wait()


def _read(lines: Path) -> tuple[dict[Cell, Outcome], Cell | None]:
    """What a worker has told, and the cell that it began last."""
    found: dict[Cell, Outcome] = {}
    begun = None
    for line in lines.read_text(encoding="utf-8").splitlines(True) if lines.exists() else []:
        if not line.endswith("\n"):
            break  # it is being written
        name, *outcome = json.loads(line)
        if outcome:
            found[Cell.parse(name)] = Outcome(*outcome)
        else:
            begun = Cell.parse(name)
    return found, begun
