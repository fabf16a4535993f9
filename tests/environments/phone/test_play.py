"""A person at the phone: what is listed, what each command does, and what is said at the end."""

import io
import random
import re
import subprocess
import sys
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trl_multiturn.environments.phone import PhoneEnvironment
from trl_multiturn.environments.phone.layout import tappable
from trl_multiturn.environments.phone.oracle import Oracle
from trl_multiturn.environments.phone.play import main, play
from trl_multiturn.environments.phone.tasks import TEMPLATES


def draw(name="notes.delete", seed=3):
    return TEMPLATES[name](random.Random(seed))


@pytest.fixture
def game(tmp_path):
    """Plays lines and gives whether it was won, what was written, and the environment."""

    def run(lines, task=None, **settings):
        environment = PhoneEnvironment(**settings)
        remaining = iter(lines)

        def read(prompt):
            try:
                return next(remaining)
            except StopIteration:
                raise EOFError from None

        output = io.StringIO()
        row = {"task": (task or draw()).to_json()}
        return play(environment, row, tmp_path / "shots", read, output), output.getvalue(), environment

    return run


def follow_the_oracle(task):
    """Lines of a person who does what the oracle would, read lazily from the state that a line leads to."""
    oracle = Oracle(task)

    def lines(environment):
        while steps := oracle.optimal_steps(environment.state):
            step, state = steps[0], environment.state
            ids = [widget.id for widget, _ in tappable(state.screen(), state.scroll)]
            if step.kind in ("tap", "long_press"):
                yield ("hold " if step.kind == "long_press" else "") + str(ids.index(step.target) + 1)
            elif step.kind == "scroll":
                yield "swipe up" if step.amount > 0 else "swipe down"
            else:
                yield f"{step.kind} {step.target}".strip()
        yield "done"

    return lines


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.4), (1, 0.1)])
def test_every_kind_of_task_can_be_done(tmp_path, seed, scale):
    used = set()
    for name in list(TEMPLATES)[seed::4]:
        task, environment = draw(name, seed), PhoneEnvironment(scale=scale, max_steps=40)
        lines = follow_the_oracle(task)(environment)

        def read(prompt, lines=lines):
            line = next(lines)
            used.add(line.split()[0] if not line.split()[0].isdecimal() else "number")
            return line

        output = io.StringIO()
        assert play(environment, {"task": task.to_json()}, tmp_path, read, output), output.getvalue()
        assert "The goal is reached.\nSide effects, changes that nobody asked for: none.\n" in output.getvalue()
    assert {"number", "type", "done", "swipe", "hold"} <= used


def test_what_is_shown(game, tmp_path):
    won, text, environment = game(["3", "quit"])
    assert not won
    assert text.startswith("Delete the note 'Garden plan'.\n\n")
    assert "  3  Notes\n" in text and "--- Notes" in text
    names = [widget.text for widget, _ in tappable(environment.state.screen(), 0)]
    for number, name in enumerate(names, 1):
        assert f"{number:3}  {name}" in text.split("--- Notes")[1]
    shots = sorted((tmp_path / "shots").iterdir())
    assert [path.name for path in shots] == ["step_00.png", "step_01.png"]
    for path, seen in zip(shots, environment.screenshots, strict=True):
        assert str(path) in text
        with Image.open(path) as image:
            assert image.tobytes() == seen.tobytes()


def test_fields_switches_and_boxes(game):
    _, text, _ = game(["open Shop", "1", "type kettle", "quit"])
    shown = [line for line in text.splitlines() if "Search products" in line]
    assert [line.split(":")[1] for line in shown] == [" []", " [] *", " [kettle] *"]
    _, text, _ = game(["open Settings", "1", "1", "quit"])
    assert "  1  Wi-Fi: on\n" in text and "  1  Wi-Fi: off\n" in text
    _, text, environment = game(["open Notes", "hold 4", "quit"])
    assert environment.state.popup is not None
    box = environment.state.screen().popup
    assert text.split("\n--- Notes")[-1].splitlines()[1] == f"{box.title}: {box.text}"
    assert f"  1  {box.buttons[0].text}" in text


def test_a_hint_is_no_step(game):
    _, text, environment = game(["hint", "hint", "quit"])
    assert text.count("Tap Notes. (4 to go)") == 2 and environment.actions == []


def test_hints_until_it_is_done(tmp_path):
    task, environment, output = draw(), PhoneEnvironment(), io.StringIO()
    lines = (line for told in follow_the_oracle(task)(environment) for line in ("hint", told))
    assert play(environment, {"task": task.to_json()}, tmp_path, lambda prompt: next(lines), output)
    assert re.findall(r"\((\d) to go\)", output.getvalue()) == ["4", "3", "2", "1"]
    assert "The goal is reached: done.\n" in output.getvalue()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "'' is no command"),
        ("dance", "'dance' is no command. Type a number of the list, or `help`."),
        ("0", "There is no number 0: they go from 1 to 8."),
        ("9", "There is no number 9: they go from 1 to 8."),
        ("-1", "'-1' is no command"),
        ("9" * 10_000, "is no command"),
        ("hold", "hold needs a number of the list"),
        ("hold me", "hold needs a number of the list"),
        ("hold 12", "There is no number 12"),
        ("type", "type needs a text"),
        ("open", "open needs a text"),
        ("swipe left", "'swipe left' is no command"),
    ],
    ids=lambda value: value[:12],
)
def test_a_wrong_line_is_no_step(game, line, said):
    won, text, environment = game([line, "quit"])
    assert said in text and not won
    assert environment.actions == [] and len(text) < 3000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("open Bank", "There is no such app on the phone."),
        ("type hello", "No field is chosen to type into"),
        ("back", "Nothing happened."),
        ("type " + "x" * 100_000, "text"),
    ],
    ids=lambda value: value[:12],
)
def test_what_the_phone_cannot_do_is_a_step(game, line, said):
    _, text, environment = game([line, "quit"])
    assert said in text and len(environment.actions) == 1 and len(text) < 4000


def test_the_end_tells_goal_and_side_effects(game):
    won, text, environment = game(["open Settings", "1", "1", "fail", "never read"])
    assert not won and environment.finished == "failure"
    assert "The goal is not reached.\n" in text
    assert environment.side_effects
    assert f"Side effects, changes that nobody asked for: {', '.join(environment.side_effects)}.\n" in text
    won, text, _ = game([])
    assert not won and text.endswith("The goal is not reached.\nSide effects, changes that nobody asked for: none.\n")


def test_steps_are_bounded(game):
    won, text, environment = game(["home"] * 10, max_steps=3)
    assert not won and len(environment.actions) == 3
    assert "All 3 steps are used up.\n" in text


def test_interrupt_ends_it(tmp_path):
    def read(prompt):
        raise KeyboardInterrupt

    assert not play(PhoneEnvironment(), {"task": draw().to_json()}, tmp_path, read, io.StringIO())


@pytest.mark.parametrize(
    ("make", "row", "said"),
    [
        (partial(PhoneEnvironment, coordinate_space="norm1000"), {"task": draw().to_json()}, "points in pixels"),
        (PhoneEnvironment, {"task": "{}"}, "A task must be an object"),
    ],
    ids=["norm1000", "no task"],
)
def test_what_cannot_be_played_is_refused(make, row, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        play(make(), row, tmp_path, lambda prompt: "quit", io.StringIO())


WORDS = st.sampled_from(
    "1 2 3 4 5 hold type open swipe up down back home enter hint help Notes x 07:30 ☃ <|im_end|>".split()
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(list(TEMPLATES)), st.lists(st.lists(WORDS, max_size=3).map(" ".join), max_size=12))
def test_any_lines_are_answered(tmp_path_factory, name, lines):
    remaining = iter([*lines, "done"])
    output = io.StringIO()
    folder = tmp_path_factory.mktemp("shots")
    environment = PhoneEnvironment(scale=0.1)
    won = play(environment, {"task": draw(name).to_json()}, folder, lambda prompt: next(remaining), output)
    assert won == (environment.is_done and not environment.side_effects)
    assert "The goal is " in output.getvalue()


def test_from_the_command_line(monkeypatch, capsys, tmp_path):
    lines = iter(["3", "fail"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert main(["--task", "notes.delete", "--seed", "3", "--output_dir", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("Delete the note 'Garden plan'.")
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(SystemExit) as stop:
        main(["--task", "notes.eat"])
    assert stop.value.code == 2
    assert "'notes.eat'" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("hold N", "type TEXT", "swipe up", "back, home", "enter", "open APP", "done, fail", "hint", "--seed"):
        assert word in text


def test_as_a_module(tmp_path):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "trl_multiturn.environments.phone.play"]
    options = ["--task", "notes.delete", "--seed", "3", "--output_dir", str(tmp_path)]
    done = subprocess.run([*command, *options], input="done\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "The goal is not reached." in done.stdout, done.stderr
