"""Parser games, on a story of our own (stories/cellar.inf) that Jericho reads as one of TextWorld's."""

import functools
import io
import shutil
import sys
import threading
from pathlib import Path

import pytest

from trl_multiturn import check_environment
from trl_multiturn.environments.adapters import JerichoEnvironment, play
from trl_multiturn.environments.adapters.__main__ import main
from trl_multiturn.environments.adapters.commands import find_valid_actions, is_refused


pytest.importorskip("jericho", reason="the extra `jericho` is not installed (it needs make and a C compiler)")

STORY = Path(__file__).parent / "stories" / "tw-cellar.z5"
HALL = "Hall\nA bare hall. A stair leads down, a door north."
SOLUTION = ["take lamp", "down", "open chest", "take coin"]
SOLUTION_REWARDS = [1.0, 0.0, 2.0, 2.0]


@pytest.fixture
def environment():
    return JerichoEnvironment(STORY)


def state_of(environment):
    game = environment._game
    return [part.tobytes() if hasattr(part, "tobytes") else part for part in game.get_state()]


def transcript(environment, commands):
    return [environment.reset()] + [environment.act(command) for command in commands]


def test_contract():
    calls = [("act", {"command": command}) for command in SOLUTION]
    assert check_environment(functools.partial(JerichoEnvironment, STORY), example_calls=calls) == []


def test_observation_is_place_inventory_answer_and_valid_actions(environment):
    assert environment.reset() == (
        f"{HALL}\n  brass lamp\nYou carry:\n  nothing\nA lamp, a chest, a coin.\n\n{HALL}\n  brass lamp\n"
        "Valid actions: down, north, take lamp"
    )
    assert environment.act("take lamp") == (
        f"{HALL}\nYou carry:\n  brass lamp\nTaken.\nValid actions: down, drop lamp, north"
    )


def test_solution(environment):
    answers = transcript(environment, SOLUTION)
    assert environment.turn_rewards == SOLUTION_REWARDS
    assert environment.score == environment.max_score == 5
    assert environment.won and environment.terminated and not environment.truncated
    assert answers[-1] == "Taken.\n\n*** The End ***"  # nothing to look at any more


def test_lost_points_and_lost_game(environment):
    environment.reset()
    for command in ("take lamp", "drop lamp", "north", "enter well"):
        answer = environment.act(command)
    assert environment.turn_rewards == [1.0, -1.0, 0.0, 0.0]
    assert environment.terminated and not environment.won
    assert answer == "You fall.\n\n*** You lost! ***"


def test_turn_after_the_end_is_refused(environment):
    transcript(environment, SOLUTION)
    with pytest.raises(ValueError, match="over"):
        environment.act("look")
    assert environment.turn_rewards == [*SOLUTION_REWARDS, 0.0]


def test_horizon():
    environment = JerichoEnvironment(STORY, max_turns=2)
    environment.reset()
    environment.act("look")
    assert not environment.truncated
    environment.act("look")
    assert environment.truncated and not environment.terminated
    with pytest.raises(ValueError, match="over"):
        environment.act("look")


def test_victory_on_the_last_turn_is_no_truncation():
    environment = JerichoEnvironment(STORY, max_turns=4)
    transcript(environment, SOLUTION)
    assert environment.terminated and not environment.truncated


def test_refused_command_on_the_last_turn_truncates():
    environment = JerichoEnvironment(STORY, max_turns=1)
    environment.reset()
    with pytest.raises(ValueError, match="non-empty"):
        environment.act("")
    assert environment.truncated and environment.turn_rewards == [0.0]


def test_episodes_are_the_same(environment):
    commands = ["roll", "roll", "take lamp", "roll", "north", "roll", "roll"]
    first = transcript(environment, commands)
    assert transcript(environment, commands) == first
    assert environment.turn_rewards == [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert transcript(JerichoEnvironment(STORY), commands) == first


def test_seed_changes_the_dice():
    rolls = {
        seed: transcript(JerichoEnvironment(STORY, seed=seed, show_valid_actions=False), ["roll"] * 8)
        for seed in (1, 2)
    }
    assert rolls[1] != rolls[2]


def test_probing_does_not_change_the_game(environment):
    bare = JerichoEnvironment(STORY, show_valid_actions=False)
    for played in (environment, bare):
        transcript(played, ["roll", "take lamp", "down"])
    before = state_of(environment)
    environment._observe("")
    assert state_of(environment) == before == state_of(bare)
    # Candidates that were tried must not count as points either: dropping the lamp is among them.
    environment.act("look")
    assert environment.turn_rewards == [0.0, 1.0, 0.0, 0.0] and environment.score == 1


def test_valid_actions_follow_the_state(environment):
    found = []
    environment.reset()
    for command in [*SOLUTION[:-1], "up", "north"]:
        environment.act(command)
        found.append(find_valid_actions(environment._game))
    assert found == [
        ["down", "drop lamp", "north"],
        ["drop lamp", "open chest", "up"],
        ["drop lamp", "take coin", "up"],
        ["down", "drop lamp", "north"],
        ["drop lamp", "enter well", "south"],
    ]


def test_own_and_no_valid_actions():
    own = JerichoEnvironment(STORY, valid_actions=lambda game: ["xyzzy", f"look at {game.get_player_location().name}"])
    assert own.reset().endswith("\nValid actions: xyzzy, look at Hall")
    assert "Valid actions" not in JerichoEnvironment(STORY, show_valid_actions=False).reset()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (None, "non-empty"),
        (["look"], "non-empty"),
        ("  \n ", "non-empty"),
        ("x" * 101, "too long"),
        ("look\ntake lamp", "one line"),
        ("look\0", "one line"),
        ("öffne Truhe", "one line"),
        ("save", "not part of the game"),
        ("look. then script", "not part of the game"),
        ("#record", "not part of the game"),
        ("TW-PRINT player id", "not part of the game"),
    ],
)
def test_hostile_commands_cost_a_turn(environment, command, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment.reset()
    before = state_of(environment)
    with pytest.raises(ValueError, match=message):
        environment.act(command)
    assert environment.turn_rewards == [0.0]
    assert state_of(environment) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", ["look", "again", "ask bob about save", "talk to bob. north", "help", "restaurant"]
)
def test_ordinary_commands_are_not_refused(command):
    assert not is_refused(command)


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(100), b"\x05"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "tw-not.z5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a Z-machine story"):
        JerichoEnvironment(path)


def test_game_without_known_score_is_refused(tmp_path):
    path = shutil.copy(STORY, tmp_path / "cellar.z5")
    with pytest.raises(ValueError, match="cannot read the score"):
        JerichoEnvironment(path)


def test_arguments(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="max_turns"):
        JerichoEnvironment(STORY, max_turns=0)
    with pytest.raises(ValueError, match="seed"):
        JerichoEnvironment(STORY, seed=0)
    with pytest.raises(FileNotFoundError):
        JerichoEnvironment(tmp_path / "none.z5")
    monkeypatch.setitem(sys.modules, "jericho", None)
    with pytest.raises(ImportError, match=r"trl-multiturn\[jericho\]"):
        JerichoEnvironment(STORY)


def test_two_environments_do_not_meet():
    first, second = JerichoEnvironment(STORY), JerichoEnvironment(STORY)
    alone = transcript(first, SOLUTION)
    answers = ([first.reset()], [second.reset()])
    for index, command in enumerate(SOLUTION):
        answers[0].append(first.act(command))
        second.act(["roll", "north", "look", "south"][index])
    assert answers[0] == alone
    assert first.turn_rewards == SOLUTION_REWARDS and second.turn_rewards == [0.0] * 4


def test_threads():
    scripts = [["roll", *SOLUTION], ["north", "roll", "enter well"], ["take lamp", "roll", "drop lamp", "roll"]] * 3
    expected = [transcript(JerichoEnvironment(STORY), script) for script in scripts]
    environments = [JerichoEnvironment(STORY) for _ in scripts]
    results = [[] for _ in scripts]

    def run(index):
        for _ in range(3):
            results[index].append(transcript(environments[index], scripts[index]))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(scripts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[answers] * 3 for answers in expected]


def test_play(environment):
    lines = iter([*SOLUTION, "never read"])
    output = io.StringIO()
    assert play(environment, read=lambda prompt: next(lines), output=output) == 5.0
    assert output.getvalue().endswith("*** The End ***\n[Reward: 2]\nTurns: 4. Sum of rewards: 5.\n")


def test_play_from_the_command_line(monkeypatch, capsys):
    lines = iter(["take lamp", "save", "exit"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    main(["jericho", str(STORY), "--hide-valid-actions"])
    shown = capsys.readouterr().out
    assert "[Reward: 1]" in shown and "not part of the game" in shown and "Valid actions" not in shown
    with pytest.raises(SystemExit, match="error: .*none.z5"):
        main(["jericho", "none.z5"])
