"""
The contract test and the fast tests that stand on TRL, on other versions of TRL and transformers than those installed:
`make trl-range`, or `python -m tests.trl_range --versions 1.13.0 1.16.0/5.24.0`.

Each version is installed alone into a temporary folder that comes first on the path; everything else is what is installed. A
version outside the supported range is run as if it were inside: its table row says what that costs.
"""

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version


ROOT = Path(__file__).parents[1]

# What cannot depend on TRL is left out: mathematics, environments, rewards, metrics, pages.
TESTS = [
    "tests/test_contract.py",
    "tests/test_neutral.py",
    "tests/test_trainer.py",
    "tests/test_tools.py",
    "tests/test_ended_rollouts.py",
    "tests/test_malformed_calls.py",
    "tests/test_image_rollouts.py",
    "tests/test_qlora.py",
    "tests/test_cli.py",
    "tests/igpo/test_belief.py",
    "tests/igpo/test_trainer.py",
    "tests/archer/test_trainer.py",
    "tests/replay/test_trainer.py",
    "tests/recipes/test_processors.py",
    "tests/recipes/test_search_policy.py",
    "tests/recipes/test_travel_policy.py",
    "tests/recipes/test_word_game_policy.py",
    "tests/recipes/test_gui_evaluation.py",
    "tests/test_vllm.py",
]


@dataclass
class Outcome:
    """What came of the tests on one pair of versions."""

    trl: str
    transformers: str
    contract: list[str] = field(default_factory=list)
    passed: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def supported(package: str) -> SpecifierSet:
    """The range of a package that pyproject declares."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(rf'^    "({package}[^"]*)",$', text, flags=re.MULTILINE)
    assert declared is not None, f"{package} is no dependency in pyproject.toml"
    return Requirement(declared[1]).specifier


def released(package: str) -> list[Version]:
    """Versions on the package index, oldest first."""
    command = [sys.executable, "-m", "pip", "index", "versions", package, "--disable-pip-version-check"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"^Available versions: (.*)$", shown, flags=re.MULTILINE)
    assert found is not None, shown
    return sorted(Version(text) for text in found[1].split(", "))


def ends_of_the_range() -> list[str]:
    """The oldest TRL with the oldest transformers that are supported, and the newest with the newest."""
    inside = [[str(v) for v in supported(name).filter(released(name))] for name in ("trl", "transformers")]
    return ["/".join(versions[0] for versions in inside), "/".join(versions[-1] for versions in inside)]


def try_versions(trl: str, transformers: str, selection: list[str]) -> Outcome:
    """Install a pair of versions into a folder of its own and run the tests on it."""
    outcome = Outcome(trl, transformers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        wanted = [f"trl=={trl}", f"transformers=={transformers}"]
        subprocess.run([*pip, "--target", str(folder / "packages"), *wanted], check=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "packages"), str(ROOT)])}
        contract = "from trl_multiturn.compat import contract_changes; print(*contract_changes(), sep='\\n')"
        shown = subprocess.run(
            [sys.executable, "-c", contract], check=True, capture_output=True, text=True, env=environment, cwd=ROOT
        )
        outcome.contract = shown.stdout.split("\n")[:-1] if shown.stdout.strip() else []
        report = folder / "report.xml"
        pytest = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "-p",
            "tests.trl_range",
        ]
        chosen = ["-m", "not slow and not exhaustive", "--continue-on-collection-errors", f"--junitxml={report}"]
        status = subprocess.run([*pytest, *chosen, *selection], env=environment, cwd=ROOT).returncode
        if status not in (0, 1):  # all passed, some failed; others did not run
            raise RuntimeError(f"pytest ended with status {status} on trl {trl}, transformers {transformers}.")
        read_report(report, outcome)
    return outcome


def read_report(report: Path, outcome: Outcome) -> None:
    """Count what pytest reported."""
    suite = next(ElementTree.parse(report).iter("testsuite"))
    outcome.seconds = float(suite.attrib["time"])
    for case in suite.iter("testcase"):
        problem = next((child for child in case if child.tag in ("failure", "error")), None)
        if problem is not None:
            said = problem.attrib.get("message") or problem.text or ""
            outcome.failed["::".join(filter(None, (case.attrib["classname"], case.attrib["name"])))] = (
                said.strip().split("\n")[0]
            )
        elif any(child.tag == "skipped" for child in case):
            outcome.skipped += 1
        else:
            outcome.passed += 1


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """The outcomes as Markdown, and below it what failed, the commonest reasons first."""
    yield "| trl | transformers | contract | passed | failed | skipped | seconds |"
    yield "|---|---|---|---|---|---|---|"
    for o in outcomes:
        contract = "; ".join(f"`{change}`" for change in o.contract) or "kept"
        counts = f"{o.passed} | {len(o.failed)} | {o.skipped} | {o.seconds:.0f}"
        yield f"| {o.trl} | {o.transformers} | {contract} | {counts} |"
    for o in outcomes:
        reasons: dict[str, list[str]] = {}
        for test, reason in o.failed.items():
            reasons.setdefault(reason, []).append(test)
        for reason, tests in sorted(reasons.items(), key=lambda item: -len(item[1])):
            yield f"\ntrl {o.trl}, {len(tests)} tests, first {tests[0]}: `{reason}`"


def pytest_configure(config: object) -> None:
    """As a plugin of pytest: a version outside the range is tried out, not refused for its number."""
    from trl_multiturn import compat

    installed = importlib.metadata.version("trl")
    if not compat.SUPPORTED_TRL.contains(installed, prereleases=True):
        compat.SUPPORTED_TRL = SpecifierSet(f"=={installed}")


def main() -> int:
    """Returns 0 if every test passed on every version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--versions",
        nargs="+",
        metavar="TRL[/TRANSFORMERS]",
        help="Versions to try. Without transformers' the installed one is taken. By default the oldest of both that are "
        "supported, and the newest of both.",
    )
    parser.add_argument("tests", nargs="*", default=TESTS, help="Tests to run, as pytest takes them.")
    arguments = parser.parse_args()
    outcomes = []
    for pair in arguments.versions or ends_of_the_range():
        trl, _, transformers = pair.partition("/")
        transformers = transformers or importlib.metadata.version("transformers")
        outcomes.append(try_versions(trl, transformers, arguments.tests))
        print("\n".join(table(outcomes)), flush=True)
    return int(any(outcome.failed or outcome.contract for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
