"""What the doctor says: findings with a severity, what was measured, and what to change."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal


Severity = Literal["skipped", "ok", "warning", "error"]
_ORDER: tuple[Severity, ...] = ("skipped", "ok", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """
    Result of one check.

    Args:
        check (`str`):
            Name of the check.
        severity (`str`):
            `"ok"`; `"warning"`: training works, but probably not as it could; `"error"`: training learns nothing, or
            something other than what was meant; `"skipped"`: the check does not apply to this run, or could not be made.
        measured (`str`):
            What was measured, or why nothing was.
        change (`str`, *optional*, defaults to `""`):
            Setting and value, or line of code, to change; empty if there is nothing to.
    """

    check: str
    severity: Severity
    measured: str
    change: str = ""


@dataclass
class Report:
    """
    What [`diagnose`] found.

    Args:
        findings (`list[Finding]`):
            One or more for each check.
        batch (`dict[str, Any]`):
            The batch in numbers: rollouts, groups, turns, stop reasons, rewards.
        example (`dict[str, Any]` or `None`):
            One rollout with its turns, as shown by [`Report.print`]; `None` if nothing was rolled out.
    """

    findings: list[Finding]
    batch: dict[str, Any] = field(default_factory=dict)
    example: dict[str, Any] | None = None

    @property
    def has_errors(self) -> bool:
        """Whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def of(self, severity: Severity) -> list[Finding]:
        """
        Findings of one severity.

        Args:
            severity (`str`):
                `"ok"`, `"warning"`, `"error"` or `"skipped"`.

        Returns:
            `list[Finding]`
        """
        return [finding for finding in self.findings if finding.severity == severity]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "errors": len(self.of("error")),
            "warnings": len(self.of("warning")),
            "findings": [asdict(finding) for finding in self.findings],
            "batch": self.batch,
            "example": self.example,
        }

    def save(self, path: str | PathLike) -> None:
        """
        Write the report as JSON.

        Args:
            path (`str` or `os.PathLike`):
                File to write.
        """
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def print(self, console: Any = None) -> None:
        """
        Print findings and example to a terminal.

        Args:
            console ([`~rich.console.Console`], *optional*):
                Where to; standard output if `None`.
        """
        from .view import print_report

        print_report(self, console)


def merge(reports: Iterable[Report]) -> Report:
    """
    One report of all processes': each check with the worst that any process found, in the main process's order.

    Args:
        reports (`Iterable[Report]`):
            Reports, the main process's first.

    Returns:
        [`Report`]
    """
    reports = list(reports)
    names = list(dict.fromkeys(finding.check for report in reports for finding in report.findings))
    findings: list[Finding] = []
    for name in names:
        of_check = [[f for f in report.findings if f.check == name] for report in reports]
        findings += max(of_check, key=lambda found: max((_ORDER.index(f.severity) for f in found), default=-1))
    return Report(findings, reports[0].batch, reports[0].example)
