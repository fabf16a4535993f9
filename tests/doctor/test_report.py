"""How a report reads, on a terminal and as JSON; and what several processes make of theirs."""

import json
from io import StringIO

from rich.console import Console

from tests.doctor.test_signal import constant
from tests.doctor.test_tokens import TrainsOnTools
from tests.tiny import Counter, QuietCounter, call, make_trainer
from trl_multiturn import diagnose
from trl_multiturn.doctor.report import Finding, Report, merge


def printed(report, **options) -> str:
    file = StringIO()
    report.print(Console(file=file, width=120, **options))
    return file.getvalue()


def test_rollout_with_its_turns(tmp_path):
    report = diagnose(make_trainer(tmp_path, Counter))
    shown = printed(report)
    assert "[turn 1: reward " in shown and ", advantage " in shown
    assert "The counter is" in shown and "<tool_call>" in shown
    assert "0 errors, 0 warnings." in shown
    example = report.example
    assert len(example["turns"]) == max(report.batch["turns"])
    kinds = [(s["sampled"], s["trained"]) for turn in example["turns"] for s in turn["segments"]]
    assert set(kinds) == {(True, True), (False, False)}


def test_colours_tell_what_is_trained(tmp_path):
    """Tool results that are trained are white on red, what the policy wrote is green."""
    report = diagnose(make_trainer(tmp_path, QuietCounter, trainer_class=TrainsOnTools))
    shown = printed(report, force_terminal=True, color_system="standard")
    before = shown.partition("The counter is")[0]
    assert before.rpartition("\x1b[1;37;41m")[2].count("\x1b[32m") == 0
    assert "\x1b[32m" in before


def test_findings_with_what_to_change(tmp_path):
    report = diagnose(make_trainer(tmp_path, QuietCounter, reward_funcs=constant))
    assert report.has_errors and {f.check for f in report.of("error")} == {"signal", "gradient"}
    shown = printed(report)
    assert "-> Every rollout gets the same reward" in shown
    assert "2 errors, 1 warning." in shown
    assert "Not for this run: " in shown and "IGPO gains" in shown


def test_long_rollouts_are_shortened(tmp_path):
    def goes_on(text, turn, rng):
        return call(amount=rng.randint(1, 5)) if turn < 11 else f"<answer>{rng.randint(0, 3)}</answer>"

    report = diagnose(make_trainer(tmp_path, Counter, script=goes_on, max_completion_length=1024))
    shown = printed(report)
    assert len(report.example["turns"]) == 12
    assert "[turn 3:" in shown and "[... 6 turns ...]" in shown and "[turn 10:" in shown
    assert "[turn 4:" not in shown and "[turn 9:" not in shown


def test_json(tmp_path):
    report = diagnose(make_trainer(tmp_path, Counter))
    report.save(tmp_path / "report.json")
    loaded = json.loads((tmp_path / "report.json").read_text())
    assert loaded == report.to_dict()
    assert (loaded["errors"], loaded["warnings"]) == (0, 0)
    assert set(loaded["findings"][0]) == {"check", "severity", "measured", "change"}
    assert loaded["batch"]["stop_reasons"] == {"completed": 8}


def test_the_worst_of_all_processes():
    fine = [Finding("one", "ok", "fine"), Finding("two", "skipped", "nothing")]
    other = [
        Finding("one", "warning", "so so", "a"),
        Finding("one", "error", "bad", "b"),
        Finding("two", "ok", "fine"),
    ]
    report = merge([Report(fine, {"rollouts": 1}), Report(other, {"rollouts": 2})])
    assert report.findings == other
    assert report.batch == {"rollouts": 1}
