"""One of two processes that run phases of many cells. Usage: torchrun -m tests.matrix.gang FOLDER RESULTS PHASE:CELL..."""

import gc
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.matrix.building import saved_base
from tests.matrix.cells import Cell
from tests.matrix.running import Outcome, phase_in_this_process


def main(folder: str, results: str, *names: str) -> None:
    rank = int(os.environ["RANK"])
    tempfile.tempdir = results  # is removed by who started this, which ends without removing anything
    gc.collect()
    gc.freeze()
    parts = [(phase, Cell.parse(name)) for phase, _, name in (text.partition(":") for text in names)]
    for _, cell in parts:
        if cell.adapter == "qlora":  # once the processes know of each other, only the first of them saves a model
            saved_base(cell.environment == "images")
    for number, (phase, cell) in enumerate(parts):
        outcome = phase_in_this_process(cell, Path(folder), phase)
        path = Path(results, f"{number:04d}_{rank}")
        path.with_suffix(".tmp").write_text(json.dumps([str(cell), *outcome]))
        path.with_suffix(".tmp").replace(path.with_suffix(".json"))
        if outcome.status != "ok":
            # The other process may wait for this one in a collective: torchrun ends it.
            os._exit(1)
    sys.stdout.flush()
    os._exit(0)  # as in tests/distributed/worker.py


def read_results(folder: Path) -> list[tuple[Cell, Outcome]]:
    """What the processes have written, a cell each: what went wrong on one of them, if it did."""
    found: dict[str, Outcome] = {}
    for path in sorted(folder.glob("*.json")):
        name, *outcome = json.loads(path.read_text())
        if name not in found or found[name].status == "ok":
            found[name] = Outcome(*outcome)
    return [(Cell.parse(name), outcome) for name, outcome in found.items()]


if __name__ == "__main__":
    main(*sys.argv[1:])
