"""The command that writes demonstrations on the phone."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn import cli
from trl_multiturn.environments.phone import PhoneEnvironment, PhoneTask, generate_phone_tasks, task_split
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.recipes import gui_benchmark
from trl_multiturn.recipes.gui_benchmark import phone_benchmark
from trl_multiturn.recipes.gui_data import load_mobile_r1


def is_chinese(text):
    return re.search("[一-鿿]", text) is not None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark") / "new" / "data"
    arguments = ["--count", "18", "--mistakes", "0.3", "--scale", "0.25", "--seed", "2", "--language", "both"]
    return folder, gui_benchmark.run([*arguments, "--output_dir", str(folder)])


def test_it_is_read_back_balanced_and_with_splits(written):
    folder, summary = written
    trajectories = load_mobile_r1(folder)
    assert len(trajectories) == 18
    assert [trajectory.app_name for trajectory in trajectories] == [*APPS, *APPS, *list(APPS)[:2]]
    assert all(t.split == task_split(PhoneTask.from_json(t.task)) for t in trajectories)
    assert {t.app_name for t in trajectories if t.split == "unseen"} == {"Messages", "Live"}
    assert len({t.task for t in trajectories}) == 18
    assert {(t.image_width, t.image_height) for t in trajectories} == {(98, 196)}
    assert sum(is_chinese(t.instruction) for t in trajectories) == 8  # of three in one app, one
    for app, count in summary["apps"].items():
        own = [t for t in trajectories if t.app_name == app]
        assert count["train"] + count["test"] + count["unseen"] == len(own)
        assert count["steps"] == sum(len(t.trajectory) for t in own)
        assert count["mistakes"] == sum(step.mistake for t in own for step in t.trajectory)
    assert sum(count["mistakes"] for count in summary["apps"].values()) > 0
    assert json.loads((folder / "summary.json").read_text()) == summary


def test_every_trajectory_reaches_its_goal(written):
    for trajectory in load_mobile_r1(written[0]):
        phone = PhoneEnvironment(scale=0.25, max_steps=60)
        phone.reset(task=trajectory.task)
        for step in trajectory.trajectory:
            phone.mobile_use(**step.call.arguments())
        assert phone.is_done and phone.finished == "success" and phone.side_effects == []


def test_nothing_is_overwritten(written, capsys):
    folder, _ = written
    before = (folder / "data.jsonl").read_bytes()
    with pytest.raises(SystemExit) as stop:
        cli.main(["phone-data", "--count", "8", "--output_dir", str(folder)])
    assert stop.value.code == 2
    assert "is not empty, and nothing is overwritten" in capsys.readouterr().err
    assert (folder / "data.jsonl").read_bytes() == before


def test_the_table_adds_up(tmp_path, capsys):
    assert cli.main(["phone-data", "--count", "8", "--scale", "0.1", "--output_dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    table = {
        cells[0]: [int(cell) for cell in cells[1:]]
        for line in printed.splitlines()
        if len(cells := line.replace("│", " ").split()) == 7 and cells[1].isdecimal()
    }
    assert list(table) == [*APPS, "all"]
    assert table["all"] == [sum(column) for column in zip(*(table[app] for app in APPS), strict=True)]
    assert table["all"][0] == 8 == sum(table["all"][1:4])
    assert "seconds" in printed and (tmp_path / "summary.json").is_file()


def test_a_seed_gives_the_same_trajectories():
    def drawn(seed):
        return [(t.task, t.instruction, [s.thought for s in t.trajectory]) for t in phone_benchmark(8, seed, 0.5)]

    assert drawn(1) == drawn(1) != drawn(2)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 200), st.integers(0, 3), st.sampled_from(["en", "zh", "both"]))
def test_shares_differ_by_one_at_most(count, seed, language):
    counts = [(count + len(APPS) - 1 - i) // len(APPS) for i in range(len(APPS))]
    drawn = [gui_benchmark._tasks(app, n, seed, language) for app, n in zip(APPS, counts, strict=True)]
    assert sum(map(len, drawn)) == count and max(counts) - min(counts) <= 1
    for app, pairs in zip(APPS, drawn, strict=True):
        assert [task for task, _ in pairs] == generate_phone_tasks(len(pairs), seed, apps=[app])
        chinese = sum(said == "zh" for _, said in pairs)
        assert chinese == {"en": 0, "zh": len(pairs), "both": len(pairs) // 2}[language]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--count", "0"], "`count` must be at least 1"),
        (["--count", "3000"], "The app Settings has too few tasks for its share of 375"),
        (["--mistakes", "1"], "`mistakes` must be at least 0 and less than 1"),
        (["--mistakes", "nan"], "`mistakes` must be at least 0 and less than 1"),
        (["--scale", "2"], "`scale` must be from 0.1 to 1"),
        (["--language", "fr"], "invalid choice: 'fr'"),
        (["--output_dir", "file"], "Not a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        cli.main(["phone-data", *arguments])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("trl-multiturn phone-data: error: ") and said in last
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
