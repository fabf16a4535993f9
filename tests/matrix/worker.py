"""Runs cells one after another. Usage: python -m tests.matrix.worker LINES CELL... (LINES: a file that gets a line for each)"""

import gc
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.hub.stand_in import HubStandIn


def main(lines: str, *names: str) -> None:
    with HubStandIn() as hub, tempfile.TemporaryDirectory(prefix="matrix_") as folder:
        tempfile.tempdir = folder
        # All of it before anything of Hugging Face's is imported.
        os.environ.update(
            HF_ENDPOINT=hub.url,
            HF_TOKEN="hf_not_a_real_token",
            HF_HUB_OFFLINE="0",
            HF_HUB_DISABLE_XET="1",
            HF_HOME=str(Path(folder, "home")),
            NO_PROXY="127.0.0.1",
            TRL_EXPERIMENTAL_SILENCE="1",
            TOKENIZERS_PARALLELISM="false",
        )
        _run(hub, Path(folder), Path(lines), list(names))


def _run(hub: HubStandIn, folder: Path, lines: Path, names: list[str]) -> None:
    import tests.matrix.checks  # noqa: F401  # imported before the garbage collector is told to leave it alone
    from tests.matrix.cells import Cell
    from tests.matrix.running import run_cell, run_on_processes

    def tell(name: str, *outcome: str) -> None:
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, *outcome]) + "\n")

    # Each training collects garbage: a quarter of a second for all that the libraries have loaded.
    gc.collect()
    gc.freeze()
    cells = [Cell.parse(name) for name in names]
    for number, cell in enumerate(cells):
        if cell.group == "processes":
            continue
        tell(str(cell))
        with tempfile.TemporaryDirectory(prefix=f"cell_{number}_") as own:
            tell(str(cell), *run_cell(cell, Path(own), hub))
        hub.repos.clear()
    for cell, outcome in run_on_processes([cell for cell in cells if cell.group == "processes"], folder / "processes"):
        tell(str(cell), *outcome)


if __name__ == "__main__":
    main(*sys.argv[1:])
