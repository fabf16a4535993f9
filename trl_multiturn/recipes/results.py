"""What a recipe leaves in its output folder beside the model: the logged values as a table, and the curves as a picture."""

import csv
import json
from pathlib import Path
from typing import Any

from transformers.utils import logging


logger = logging.get_logger(__name__)


def save_history(log_history: list[dict[str, Any]], path: str | Path) -> None:
    """
    Write everything a trainer has logged as CSV, a row for each step.

    Args:
        log_history (`list[dict]`):
            `trainer.state.log_history`.
        path (`str` or `Path`):
            File to write.
    """
    rows: dict[int, dict[str, Any]] = {}
    for entry in log_history:
        rows.setdefault(entry["step"], {}).update(entry)
    names = sorted({name for row in rows.values() for name in row} - {"step", "epoch"})
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", "epoch", *names])
        writer.writeheader()
        writer.writerows(rows[step] for step in sorted(rows))


def save_json(values: dict[str, Any], path: str | Path) -> None:
    """
    Write values as JSON, readable.

    Args:
        values (`dict[str, Any]`):
            JSON values by name.
        path (`str` or `Path`):
            File to write.
    """
    Path(path).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def plot_curves(
    log_history: list[dict[str, Any]], panels: dict[str, dict[str, str]], path: str | Path, title: str = ""
) -> bool:
    """
    Draw logged values over the steps, a panel for each subject.

    Args:
        log_history (`list[dict]`):
            `trainer.state.log_history`.
        panels (`dict[str, dict[str, str]]`):
            Title of each panel, and the metrics it shows with their labels. Metrics that were not logged are left out.
        path (`str` or `Path`):
            PNG file to write.
        title (`str`, *optional*, defaults to `""`):
            Heading of the picture.

    Returns:
        `bool`: Whether the picture was drawn: `False`, with a warning, if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("No curves: matplotlib is not installed. `pip install trl-multiturn[plot]` brings it.")
        return False
    series = {
        name: [(entry["step"], entry[name]) for entry in log_history if entry.get(name) is not None]
        for metrics in panels.values()
        for name in metrics
    }
    panels = {panel: metrics for panel, metrics in panels.items() if any(series[name] for name in metrics)}
    figure = Figure(figsize=(4.6 * max(len(panels), 1), 3.6), layout="constrained")
    axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
    for axis, (panel, metrics) in zip(axes, panels.items(), strict=False):
        for name, label in metrics.items():
            if series[name]:
                steps, values = zip(*series[name], strict=True)
                axis.plot(steps, values, marker="o" if len(steps) < 12 else None, markersize=3, label=label)
        axis.set_title(panel)
        axis.set_xlabel("training step")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    return True
