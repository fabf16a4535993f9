"""A report on a terminal."""

import re
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .report import Report


_MARKS = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "error": ("ERROR", "bold red"),
    "skipped": ("-", "dim"),
}
# (sampled by the policy, trained): how the text is shown.
_STYLES = {
    (True, True): "green",
    (True, False): "yellow",
    (False, True): "bold white on red",
    (False, False): "bright_black",
}
_LONGEST = 1200
_MOST_TURNS = 6


def print_report(report: Report, console: Console | None = None) -> None:
    """
    Print a report.

    Args:
        report ([`Report`]):
            The report.
        console ([`~rich.console.Console`], *optional*):
            Where to; standard output if `None`.
    """
    console = console or Console()
    if report.example is not None:
        console.print(_example_panel(report.example))
    console.print(_table(report))
    console.print(_verdict(report))


def _table(report: Report) -> Table:
    table = Table(title=_title(report.batch), title_justify="left", expand=True)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("measured, and what to change", ratio=1)
    skipped = []
    for finding in report.findings:
        if finding.severity == "skipped":
            skipped.append(finding.check)
            continue
        mark, style = _MARKS[finding.severity]
        told = Text(finding.measured)
        if finding.change:
            told.append(f"\n-> {finding.change}", style="bold")
        table.add_row(finding.check, Text(mark, style=style), told)
    if skipped:
        table.caption = f"Not for this run: {', '.join(skipped)}."
        table.caption_justify = "left"
    return table


def _title(batch: dict[str, Any]) -> str:
    if not batch.get("rollouts"):
        return "Nothing was rolled out."
    reasons = ", ".join(f"{count} {reason}" for reason, count in batch["stop_reasons"].items())
    low, high = batch["turns"]
    return f"{batch['rollouts']} rollouts in groups of {batch['group_size']}, {low} to {high} turns: {reasons}"


def _verdict(report: Report) -> Text:
    errors, warnings = len(report.of("error")), len(report.of("warning"))
    text = Text(f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}.")
    text.stylize("bold red" if errors else "yellow" if warnings else "green")
    return text


def _example_panel(example: dict[str, Any]) -> Panel:
    text = Text()
    text.append(_shortened(example["prompt"]), style="bright_black")
    turns = list(enumerate(example["turns"], start=1))
    for number, turn in turns:
        if len(turns) > _MOST_TURNS and _MOST_TURNS // 2 < number <= len(turns) - _MOST_TURNS // 2:
            if number == _MOST_TURNS // 2 + 1:
                text.append(f"\n[... {len(turns) - 2 * (_MOST_TURNS // 2)} turns ...]", "bold")
            continue
        text.append(
            f"\n[turn {number}: reward {_number(turn['reward'])}, advantage {_number(turn['advantage'])}]\n", "bold"
        )
        for segment in turn["segments"]:
            text.append(_shortened(segment["text"]), style=_STYLES[segment["sampled"], segment["trained"]])
    rewards = ", ".join(f"{name} {_number(value)}" for name, value in example["rewards"].items())
    legend = Text.assemble(
        ("trained", _STYLES[True, True]),
        "  ",
        ("sampled, not trained", _STYLES[True, False]),
        "  ",
        ("trained, not sampled", _STYLES[False, True]),
        "  ",
        ("context", _STYLES[False, False]),
    )
    title = f"rollout {example['rollout']}: {example['stop_reason']}; {rewards}"
    return Panel(text, title=Text(title), title_align="left", subtitle=legend, subtitle_align="left")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _shortened(text: str) -> str:
    text = re.sub(r"(<\|\w+\|>)\1{2,}", lambda m: f"{m[1]}[... {len(m[0]) // len(m[1])} times ...]", text)
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n[... {len(text) - _LONGEST} characters ...]\n{text[-half:]}"
