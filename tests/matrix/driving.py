"""Worker processes for many cells: what they tell, and what becomes of those that hang or die."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
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
    stopped = threading.Event()

    def over() -> bool:
        return stopped.is_set() or time.monotonic() > until

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in [pool.submit(_run_block, block, tell, over) for block in _blocks(cells)]:
                done.result()
        finally:
            stopped.set()  # an interrupt must not wait for the blocks


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


def _run_block(block: list[Cell], tell: Tell, over: Callable[[], bool]) -> None:
    """Run a block. A worker that hangs or dies costs the cell that it had begun; another one does the rest."""
    left = list(block)
    while left and not over():
        with tempfile.TemporaryDirectory() as folder:
            lines, errors = Path(folder, "lines"), Path(folder, "errors")
            end = _watch(left, lines, errors, tell, over)
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


def _watch(cells: Sequence[Cell], lines: Path, errors: Path, tell: Tell, over: Callable[[], bool]) -> str | None:
    """Start a worker and pass on what it tells. How it ended, or `None` if it was stopped because all is over."""
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
            if over():
                return None
            if time.monotonic() - heard > patience:
                return f"nothing for {patience} s"
            time.sleep(0.5)
    finally:
        if worker.poll() is None:
            _end(worker)


def _end(worker: subprocess.Popen) -> None:
    """End a worker and what it has started, which shares its session; torchrun, asked to end, ends its own processes."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(worker.pid, how)
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            continue
        return


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
