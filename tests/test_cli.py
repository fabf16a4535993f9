"""The command line: help, a run from a YAML file, errors, and the launchers."""

import csv
import dataclasses
import json
import subprocess
import sys

import pytest
import yaml

from tests.tiny import build_model, build_tokenizer
from trl_multiturn import ArCHerConfig, IGPOConfig, cli
from trl_multiturn.recipes.archer import ArCHerScriptArguments
from trl_multiturn.recipes.igpo import SYSTEM_PROMPT, IGPOScriptArguments, _load_task
from trl_multiturn.recipes.word_game_policy import MAX_TURN_TOKENS, WORD_GAME_POLICY


QUICK = {
    "dataset_name": "facts",
    "hops": [1],
    "eval_limit": 4,
    "use_cpu": True,
    "bf16": False,
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 16,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "gradient_checkpointing": False,
}

QUICK_ARCHER = {
    "model_name_or_path": str(WORD_GAME_POLICY),
    **{key: value for key, value in QUICK.items() if key not in ("dataset_name", "hops")},
    "num_generations": 2,
    "max_completion_length": 48,
    "generation_kwargs": {"max_new_tokens": MAX_TURN_TOKENS},
    "max_tool_calling_iterations": 4,
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


def write_recipe(tmp_path, model, **values):
    path = tmp_path / "recipe.yaml"
    recipe = {**QUICK, "model_name_or_path": str(model), "output_dir": str(tmp_path / "out"), **values}
    path.write_text(yaml.safe_dump(recipe))
    return path


def write_archer_recipe(tmp_path, **values):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**QUICK_ARCHER, "output_dir": str(tmp_path / "out"), **values}))
    return path


def check_archer_results(folder):
    assert (folder / "model.safetensors").is_file()
    card = (folder / "README.md").read_text()
    assert "2402.19446" in card and "archer" in card
    assert "huggingface.co/datasets" not in card  # the game is no Hub dataset
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "1"]
    assert rows[0]["archer/warmup/q_loss"] != "" and rows[1]["archer/explained_variance"] != ""
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 1


def check_results(folder):
    assert (folder / "model.safetensors").is_file()
    card = (folder / "README.md").read_text()
    assert "2510.14967" in card and "igpo" in card
    assert "datasets/facts" not in card  # the embedded questions are no Hub dataset
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["step"] == "1" and rows[-1]["igpo/zero_advantage_groups"] != ""
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 1


def launch(*command):
    process = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True, timeout=280)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in cli.COMMANDS)


def test_without_a_command_help_is_shown(capsys):
    assert cli.main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


def test_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["igpoo"])
    assert stop.value.code == 2
    assert "igpo" in capsys.readouterr().err


def test_unsupported_trl_is_one_line(monkeypatch, capsys):
    def refuse():
        raise ImportError("trl_multiturn supports another trl")

    monkeypatch.setattr("trl_multiturn.compat.check_trl", refuse)
    assert cli.main(["igpo"]) == 2
    assert capsys.readouterr().err == "trl-multiturn: trl_multiturn supports another trl\n"


def test_igpo_help_mentions_every_field_of_ours(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["igpo", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    own = [field for cls in IGPOConfig.__mro__[:2] for field in cls.__annotations__]
    for name in [
        *own,
        *(field.name for field in dataclasses.fields(IGPOScriptArguments)),
        "model_name_or_path",
        "lora_r",
    ]:
        assert f"--{name}" in text, name


def test_igpo_from_a_recipe(tmp_path, tiny_folder, capsys):
    recipe = write_recipe(tmp_path, tiny_folder, eval_strategy="steps", eval_steps=1, num_generations_eval=1)
    assert cli.main(["igpo", "--config", str(recipe), "--seed", "3"]) == 0
    check_results(tmp_path / "out")
    assert str(tmp_path / "out") in capsys.readouterr().out


def test_wrong_field_in_a_recipe_is_refused(tmp_path, tiny_folder, capsys):
    recipe = write_recipe(tmp_path, tiny_folder, gamme=0.5)
    with pytest.raises(SystemExit) as stop:
        cli.main(["igpo", "--config", str(recipe)])
    assert stop.value.code == 2
    assert "gamme" in capsys.readouterr().err


def test_wrong_argument_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["igpo", "--gamme=0.5", "--use_cpu", "--bf16=false"])
    assert stop.value.code == 2
    assert "gamme" in capsys.readouterr().err


def test_missing_recipe_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["igpo", "--config", str(tmp_path / "no.yaml")])
    assert stop.value.code == 2
    assert "no.yaml" in capsys.readouterr().err


def test_wrong_value_in_a_recipe_is_refused(tmp_path, tiny_folder, capsys):
    recipe = write_recipe(tmp_path, tiny_folder, gamma=2.0)
    with pytest.raises(SystemExit) as stop:
        cli.main(["igpo", "--config", str(recipe)])
    assert stop.value.code == 2
    assert "gamma must be between 0 and 1" in capsys.readouterr().err


def test_missing_model_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["igpo", "--output_dir", str(tmp_path), "--use_cpu", "--bf16=false"])
    assert stop.value.code == 2
    assert "model_name_or_path" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, SYSTEM_PROMPT), ("Be short.", "Be short."), ("", None)],
    ids=["default", "own", "none"],
)
def test_system_prompt(given, expected):
    train, held_out, _ = _load_task(IGPOScriptArguments(hops=[1], eval_limit=2, system_prompt=given), seed=0)
    for dataset in (train, held_out):
        first = dataset[0]["prompt"][0]
        assert first["role"] == ("user" if expected is None else "system")
        assert expected is None or first["content"] == expected


@pytest.mark.slow
def test_igpo_under_accelerate_launch(tmp_path, tiny_folder):
    recipe = write_recipe(tmp_path, tiny_folder)
    launch(
        *("accelerate.commands.launch", "--cpu", "--num_processes=1", "--num_machines=1", "--mixed_precision=no"),
        *("--dynamo_backend=no", "-m", "trl_multiturn.cli", "igpo", "--config", recipe),
    )
    check_results(tmp_path / "out")


@pytest.mark.slow
def test_igpo_on_two_processes(tmp_path, tiny_folder):
    recipe = write_recipe(tmp_path, tiny_folder, per_device_train_batch_size=2)
    printed = launch(
        *("torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "trl_multiturn.cli", "igpo", "--config", recipe),
    )
    check_results(tmp_path / "out")
    assert printed.count("curves saved to") == 1


def test_archer_help_mentions_every_field_of_ours(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["archer", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    own = [field for cls in ArCHerConfig.__mro__[:2] for field in cls.__annotations__]
    fields = [field.name for field in dataclasses.fields(ArCHerScriptArguments)]
    for name in [*own, *fields, "model_name_or_path", "lora_r"]:
        assert f"--{name}" in text, name


def test_archer_from_a_recipe(tmp_path, capsys):
    recipe = write_archer_recipe(tmp_path, eval_strategy="steps", eval_steps=1, num_generations_eval=1)
    assert cli.main(["archer", "--config", str(recipe), "--environment", "twenty_questions"]) == 0
    check_archer_results(tmp_path / "out")
    assert str(tmp_path / "out") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--critic_stepz=3"], "critic_stepz"),
        (["--algorithm=iql"], "algorithm must be one of"),
        (["--environment=hangman"], "'hangman' is neither one of"),
        (["--environment=guess_my_city", "--algorithm=offline"], "leave environment='guess_my_city'"),
        (["--environment=tests.tiny.Counter"], "needs a dataset"),
        (["--story_file=game.z5"], "story_file and the environment 'jericho' belong together"),
        (["--config=no.yaml"], "no.yaml"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_archer_arguments_are_one_line(arguments, said, tmp_path, capsys):
    given = ["--model_name_or_path", str(WORD_GAME_POLICY), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        cli.main(["archer", *given, "--use_cpu", "--bf16=false", *arguments])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("trl-multiturn archer: error: ") and said in last
    assert not (tmp_path / "out").exists()


def test_archer_names_a_missing_model(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["archer", "--output_dir", str(tmp_path), "--use_cpu", "--bf16=false"])
    assert stop.value.code == 2
    assert "model_name_or_path" in capsys.readouterr().err


@pytest.mark.slow
def test_archer_on_two_processes(tmp_path):
    recipe = write_archer_recipe(tmp_path, per_device_train_batch_size=2)
    printed = launch(
        *("torch.distributed.run", "--standalone", "--nproc_per_node=2"),
        *("-m", "trl_multiturn.cli", "archer", "--config", recipe),
    )
    check_archer_results(tmp_path / "out")
    assert printed.count("curves saved to") == 1
