"""What the environment checker has found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """
    One thing that is wrong with an environment, or looks so.

    Args:
        level (`str`):
            `"error"`: training fails, or trains on something other than what was meant. `"warning"`: probably not what
            was meant.
        message (`str`):
            What is wrong and what to do about it.
    """

    level: Literal["error", "warning"]
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


class EnvironmentCheckError(ValueError):
    """
    An environment that TRL cannot train on.

    Args:
        findings (`list[Finding]`):
            What [`check_environment`] has found. The message lists the errors.
    """

    def __init__(self, findings: list[Finding]):
        self.findings = findings
        errors = [finding.message for finding in findings if finding.level == "error"]
        listed = "".join(f"\n- {message}" for message in errors)
        super().__init__(f"The environment has {len(errors)} error{'s' if len(errors) > 1 else ''}:{listed}")


class Report:
    """Collects findings, each once."""

    def __init__(self):
        self.findings: list[Finding] = []

    def error(self, message: str) -> None:
        self._add(Finding("error", message))

    def warning(self, message: str) -> None:
        self._add(Finding("warning", message))

    @property
    def has_errors(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)

    def _add(self, finding: Finding) -> None:
        if finding not in self.findings:
            self.findings.append(finding)
