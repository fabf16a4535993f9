"""What an evaluation of GUI agents leaves behind: measures with intervals, as a table, as JSON and as a picture."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..evaluation.gui import GuiEpisode, GuiMatch, summarize_episodes, summarize_matches
from .results import save_json


logger = logging.get_logger(__name__)

Report = dict[str, dict[str, Any]]

# What is counted, not a share of something.
_MEANS = ("steps", "steps_to_recover")


def report(matches: Sequence[GuiMatch] = (), episodes: Sequence[GuiEpisode] = (), seed: int = 0) -> Report:
    """
    All measures of an agent, ready for JSON.

    Args:
        matches (`Sequence[GuiMatch]`, *optional*):
            What [`~recipes.gui_evaluation.evaluate_actions`] gives.
        episodes (`Sequence[GuiEpisode]`, *optional*):
            What [`~recipes.gui_evaluation.evaluate_tasks`] gives.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the intervals.

    Returns:
        `dict[str, dict]`: `value`, `low`, `high` and `count` of each measure of [`summarize_matches`] and [`summarize_episodes`].
    """
    estimates = {**summarize_matches(matches, seed), **summarize_episodes(episodes, seed)}
    return {name: asdict(estimate) for name, estimate in estimates.items()}


def print_report(reports: dict[str, Report], title: str = "GUI agent") -> None:
    """
    Print the measures of some agents as a table, each with its 95 percent interval and what it was taken over.

    Args:
        reports (`dict[str, dict]`):
            What [`report`] gives, by name of the agent.
        title (`str`, *optional*, defaults to `"GUI agent"`):
            Heading.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    table.add_column("")
    for agent in reports:
        table.add_column(agent.replace("_", " "), justify="right")
    for name in _names(reports):
        table.add_row(name.replace("_", " "), *(_cell(name, values.get(name)) for values in reports.values()))
    Console().print(table)


def save_report(reports: dict[str, Report], folder: str | Path, title: str = "Task success") -> list[Path]:
    """
    Write the measures of some agents as `evaluation.json`, and their success in each app as `evaluation.png`.

    Args:
        reports (`dict[str, dict]`):
            What [`report`] gives, by name of the agent.
        folder (`str` or `Path`):
            Where to write; made if it is missing.
        title (`str`, *optional*, defaults to `"Task success"`):
            Heading of the picture.

    Returns:
        `list[Path]`: Files written. There is no picture without matplotlib, which is warned of, or without episodes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "evaluation.json"]
    save_json(reports, files[0])
    names = [name for name in _names(reports) if name.split("/")[0] == "success" and name != "success/after_error"]
    if names and _plot(reports, names, folder / "evaluation.png", title):
        files.append(folder / "evaluation.png")
    return files


# --- tables and pictures


def _names(reports: dict[str, Report]) -> list[str]:
    """Measures that any of the agents has, in order."""
    return list(dict.fromkeys(name for values in reports.values() for name in values))


def _cell(name: str, told: dict[str, Any] | None) -> str:
    if told is None:
        return "-"
    form = "{:.1f}" if name in _MEANS else "{:.1%}"
    low, high = told["low"], told["high"]
    interval = "" if low is None else f" ({form.format(low)} to {form.format(high)})"
    return f"{form.format(told['value'])}{interval}, n={told['count']}"


def _plot(reports: dict[str, Report], names: list[str], path: Path, title: str) -> bool:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("No picture: matplotlib is not installed. `pip install trl-multiturn[plot]` brings it.")
        return False
    figure = Figure(figsize=(1.2 + len(names), 3.6), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(reports)
    for i, (agent, values) in enumerate(reports.items()):
        for j, name in enumerate(names):
            if (told := values.get(name)) is None:
                continue
            place = j + (i - (len(reports) - 1) / 2) * width
            axis.bar(place, told["value"], width, color=f"C{i}", label=agent if j == 0 else None)
            if told["low"] is not None:
                axis.vlines(place, told["low"], told["high"], color="black", linewidth=1)
    axis.set_xticks(range(len(names)), [name.removeprefix("success/").replace("success", "all") for name in names])
    axis.set_ylim(0, 1.05)
    axis.set_title(title)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    return True
