"""`trl-multiturn phone-data`: demonstrations of tasks in all apps of the phone, in the form of the published Mobile-R1 data."""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm.auto import tqdm

from ..environments.phone import GuiTrajectory, PhoneTask, demonstrations, generate_phone_tasks
from ..environments.phone.apps import APPS
from ..environments.phone.tasks import LANGUAGES
from .gui_data import save_mobile_r1
from .results import save_json


SPLITS = ("train", "test", "unseen")


def phone_benchmark(
    count: int = 500, seed: int = 0, mistakes: float = 0.15, language: str = "en", scale: float = 1.0
) -> Iterator[GuiTrajectory]:
    """
    Demonstrations of different tasks, the same number in each app of the phone.

    Args:
        count (`int`, *optional*, defaults to `500`):
            Number of trajectories. If it is no multiple of the number of apps, the first apps have one more.
        seed (`int`, *optional*, defaults to `0`):
            Seed of tasks, wording and mistakes.
        mistakes (`float`, *optional*, defaults to `0.15`):
            Probability of a mistake at each step, as for [`demonstrate`].
        language (`str`, *optional*, defaults to `"en"`):
            `"en"`, `"zh"`, or `"both"` for one half of each app's trajectories each.
        scale (`float`, *optional*, defaults to `1.0`):
            Size of the screenshots relative to the screen.

    Returns:
        `Iterator[GuiTrajectory]`: The trajectories, the apps in turns. [`task_split`] says what split each belongs to.

    Raises:
        `ValueError`: If an argument is out of its range, or an app has fewer tasks than its share.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1, got {count}.")
    if not 0 <= mistakes < 1:
        raise ValueError(f"`mistakes` must be at least 0 and less than 1, got {mistakes!r}.")
    if language not in LANGUAGES:
        raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {language!r}.")
    if not 0.1 <= scale <= 1:
        raise ValueError(f"`scale` must be from 0.1 to 1, got {scale!r}.")
    by_app = [_tasks(app, (count + len(APPS) - 1 - i) // len(APPS), seed, language) for i, app in enumerate(APPS)]
    in_turns = [tasks[i] for i in range(len(by_app[0])) for tasks in by_app if i < len(tasks)]
    return (_demonstrate(task, seed, mistakes, said, scale) for task, said in in_turns)


def _tasks(app: str, count: int, seed: int, language: str) -> list[tuple[PhoneTask, Any]]:
    """Tasks in one app, each with its language."""
    try:
        tasks = generate_phone_tasks(count, seed, apps=[app])
    except ValueError as error:
        raise ValueError(f"The app {app} has too few tasks for its share of {count}: {error}") from None
    languages = ["en", "zh"] * (count // 2 + 1) if language == "both" else [language] * count
    languages = languages[:count]
    # In turns, a template would always speak the same language where an app has an even number of them.
    random.Random(f"{seed}/{app}").shuffle(languages)
    return list(zip(tasks, languages, strict=True))


def _demonstrate(task: PhoneTask, seed: int, mistakes: float, language: Any, scale: float) -> GuiTrajectory:
    return next(demonstrations([task], seed, mistakes, language, scale))


# --- the command


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """
    Parser of the command's arguments.

    Args:
        prog (`str`, *optional*):
            Program name for the help.

    Returns:
        `argparse.ArgumentParser`: With the settings of the benchmark as defaults.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Write demonstrations of tasks in all eight apps of the phone to a folder, in the form of the "
        "published Mobile-R1 data. `trl-multiturn mobile-r1 --data FOLDER` trains on those of the split train.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=500, help="number of trajectories, spread evenly over the apps")
    parser.add_argument("--output_dir", default="runs/phone-data", help="folder to write; must be new or empty")
    parser.add_argument("--seed", type=int, default=0, help="of tasks, wording and mistakes")
    parser.add_argument(
        "--mistakes", type=float, default=0.15, help="probability that a step is a mistake which is then put right"
    )
    parser.add_argument(
        "--language", choices=LANGUAGES, default="en", help="of instructions and thoughts; both: one half each"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="size of the screenshots relative to 392 by 784 pixels"
    )
    return parser


def run(argv: list[str]) -> dict[str, Any]:
    """
    Write the trajectories and say what they are.

    Args:
        argv (`list[str]`):
            Command-line arguments after `trl-multiturn phone-data`.

    Returns:
        `dict[str, Any]`: What is written to `summary.json`: `apps` (for each its trajectories by split, steps and mistakes),
        `seconds` and `arguments`.
    """
    parser = make_parser("trl-multiturn phone-data")
    options = parser.parse_args(argv)
    folder = Path(options.output_dir)
    try:
        if folder.exists() and any(folder.iterdir()):
            parser.error(f"{folder} is not empty, and nothing is overwritten: name another --output_dir.")
        shown = phone_benchmark(options.count, options.seed, options.mistakes, options.language, options.scale)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    started = time.perf_counter()
    counts: dict[str, Counter[str]] = {app: Counter() for app in APPS}
    # Shown on a terminal only.
    progress = tqdm(_count(shown, counts), total=options.count, unit=" trajectories", leave=False, disable=None)
    save_mobile_r1(progress, folder)
    summary = {
        "apps": {app: {**dict.fromkeys((*SPLITS, "steps", "mistakes"), 0), **count} for app, count in counts.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "arguments": vars(options),
    }
    save_json(summary, folder / "summary.json")
    _report(summary, folder)
    return summary


def _count(trajectories: Iterator[GuiTrajectory], counts: dict[str, Counter[str]]) -> Iterator[GuiTrajectory]:
    """Pass trajectories on, and count what is in them on the way: their images need not all be kept."""
    for trajectory in trajectories:
        count = counts[trajectory.app_name]
        count[trajectory.split] += 1
        count["steps"] += len(trajectory.trajectory)
        count["mistakes"] += sum(step.mistake for step in trajectory.trajectory)
        yield trajectory


def _report(summary: dict[str, Any], folder: Path) -> None:
    console = Console()
    table = Table()
    table.add_column("app")
    columns = ("trajectories", *SPLITS, "steps", "mistakes")
    for column in columns:
        table.add_column(column, justify="right")
    total: Counter[str] = Counter()
    for app, count in summary["apps"].items():
        count = {**count, "trajectories": sum(count[split] for split in SPLITS)}
        total.update(count)
        table.add_row(app, *(str(count[column]) for column in columns))
    table.add_section()
    table.add_row("all", *(str(total[column]) for column in columns))
    console.print(table)
    console.print(f"{summary['seconds']:.0f} seconds. Trajectories and screenshots: {folder.resolve()}")


if __name__ == "__main__":
    run(sys.argv[1:])
