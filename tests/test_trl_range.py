"""The supported versions: said the same everywhere, and the script that tries them counts right."""

import importlib.metadata
import re

import pytest

from tests import trl_range
from tests.trl_range import ROOT, Outcome, read_report, supported, table
from trl_multiturn import compat


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
REPORT = """<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="5" time="12.4">
<testcase classname="tests.test_a" name="test_one"/>
<testcase classname="tests.test_a" name="test_two"/>
<testcase classname="tests.test_a" name="test_three"><failure message="TypeError: a|b&#10;more">Traceback</failure></testcase>
<testcase classname="tests.test_a" name="test_four"><skipped message="no browser"/></testcase>
<testcase classname="" name="tests.test_b"><error message="collection failure">ImportError</error></testcase>
</testsuite></testsuites>"""


def test_the_range_is_the_same_everywhere():
    assert compat.SUPPORTED_TRL == supported("trl")
    for package in ("trl", "transformers"):
        told = {
            page.name: re.findall(rf"`{package}([<>=!][^`]*)`", page.read_text(encoding="utf-8")) for page in PAGES
        }
        for name, ranges in told.items():
            assert all(text == declared(package) for text in ranges), name
        assert told["README.md"] and told["CHANGELOG.md"] and told["trl_range.md"]


def declared(package: str) -> str:
    """As pyproject writes it: a set of specifiers prints them in another order."""
    return re.search(rf'^    "{package}([^"a-z]*)",$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)[1]


def test_the_pinned_versions_are_inside():
    pinned = dict(re.findall(r"^(trl|transformers)==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    for package, version in pinned.items():
        assert supported(package).contains(version)
        assert supported(package).contains(importlib.metadata.version(package))


def test_the_ends_are_the_oldest_and_the_newest_inside(monkeypatch):
    from packaging.version import Version

    released = {"trl": ["1.2", "1.14.2", "1.15.0", "1.16.0", "1.16.3", "1.17.0"], "transformers": ["4.9", "5.23.0"]}
    monkeypatch.setattr(trl_range, "released", lambda package: [Version(text) for text in released[package]])
    assert trl_range.ends_of_the_range() == ["1.14.2/5.23.0", "1.16.3/5.23.0"]


def test_every_test_that_is_listed_exists():
    assert trl_range.TESTS and all((ROOT / test).exists() for test in trl_range.TESTS)


def test_a_report_is_counted_and_told(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    outcome = Outcome("1.0", "5.0", contract=["GRPOTrainer.f is gone"])
    read_report(tmp_path / "report.xml", outcome)
    assert (outcome.passed, outcome.skipped, outcome.seconds) == (2, 1, 12.4)
    assert outcome.failed == {"tests.test_a::test_three": "TypeError: a|b", "tests.test_b": "collection failure"}
    shown = "\n".join(table([outcome]))
    assert "| 1.0 | 5.0 | `GRPOTrainer.f is gone` | 2 | 2 | 1 | 12 |" in shown
    assert "trl 1.0, 1 tests, first tests.test_a::test_three: `TypeError: a|b`" in shown


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_version_is_installed_apart_and_tried():
    installed = [importlib.metadata.version(package) for package in ("trl", "transformers")]
    outcome = trl_range.try_versions(*installed, ["tests/test_contract.py"])
    assert not outcome.contract and not outcome.failed and outcome.passed >= 10
