"""Runs the cells of the support matrix that have not been run, and writes results and table: python -m tests.matrix --help"""

import argparse
import fnmatch
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.matrix import results as results_file
from tests.matrix import table
from tests.matrix.cells import Cell, run_order, selection
from tests.matrix.driving import run_cells
from tests.matrix.results import Results
from tests.matrix.running import Outcome


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__.partition(":")[0])
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="cells whose name, TRAINER/LIFECYCLE/ADAPTER/ENVIRONMENT, matches, as in 'IGPO/*/lora/*'; may be given again",
    )
    parser.add_argument("--ci", action="store_true", help="the cells that CI runs, and no others")
    parser.add_argument("--again", action="store_true", help="also those that have been run")
    parser.add_argument("--list", action="store_true", help="print their names and run nothing")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at a time (default: 1)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after this time")
    parser.add_argument("--results", type=Path, default=results_file.PATH, help="results, read and written")
    parser.add_argument("--table", type=Path, default=table.PATH, help="table, written")
    return parser.parse_args()


def main() -> int:
    arguments, console = parse_arguments(), Console()
    results = Results.read(arguments.results)
    if not results.is_of_these_versions:
        console.print(f"{arguments.results} was made with other versions: begun afresh.")
        results = Results()
    todo = [
        cell
        for cell in (selection() if arguments.ci else run_order())
        if (arguments.again or cell not in results.outcomes)
        and (not arguments.only or any(fnmatch.fnmatch(str(cell), pattern) for pattern in arguments.only))
    ]
    if arguments.list:
        for cell in todo:
            print(cell)
        return 0
    counts: Counter = Counter()
    try:
        run(todo, results, counts, arguments, console)
    finally:
        write(results, arguments)
    console.print(", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "nothing to run")
    return int(counts["defect"] > 0)


def run(todo: list[Cell], results: Results, counts: Counter, arguments: argparse.Namespace, console: Console) -> None:
    """Run cells; results and table are written now and then, and what is no success is printed."""
    lock, written = threading.Lock(), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("cells", total=len(todo))

        def tell(cell: Cell, outcome: Outcome) -> None:
            nonlocal written
            with lock:
                results.add(cell, outcome)
                counts[outcome.status] += 1
                progress.update(bar, advance=1, description=str(cell))
                if outcome.status == "defect":
                    console.print(f"[red]defect[/red] {cell}: {outcome.message}", markup=True, highlight=False)
                if time.monotonic() - written > 20:
                    write(results, arguments)
                    written = time.monotonic()

        run_cells(todo, tell, arguments.jobs, time.monotonic() + 60 * arguments.minutes)


def write(results: Results, arguments: argparse.Namespace) -> None:
    results.write(arguments.results)
    arguments.table.write_text(table.make_page(results), encoding="utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an interrupt: what was found is written
    raise SystemExit(main())
