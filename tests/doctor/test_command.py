"""`trl-multiturn doctor` on each example's recipe file, with small models."""

import json
from pathlib import Path

import pytest

from tests.phone_vlm import tiny_vlm
from tests.travel_tiny import CITIES, QUICK, command_line, save_travel_model
from trl_multiturn.cli import main
from trl_multiturn.recipes.doctor import find_recipe
from trl_multiturn.recipes.search_policy import BELIEF_PREFIX, BELIEF_SUFFIX, SEARCH_POLICY
from trl_multiturn.recipes.search_policy import MAX_TURN_TOKENS as MAX_SEARCH_TOKENS
from trl_multiturn.recipes.word_game_policy import MAX_TURN_TOKENS, WORD_GAME_POLICY


EXAMPLES = Path(__file__).parents[2] / "examples"
COMMON = {"use_cpu": "true", "bf16": "false", "disable_tqdm": "true", "activation_checkpointing": "false"}


def run(folder, recipe, **values):
    """Exit status, findings by name, and what was printed is on the screen."""
    arguments = command_line(**{"output_dir": folder / "out", **values})
    if recipe == "mobile_r1":
        arguments = [a for a in arguments if not a.startswith("--use_cpu")]
    status = main(
        ["doctor", "--config", str(EXAMPLES / f"{recipe}.yaml"), "--json", str(folder / "report.json"), *arguments]
    )
    report = json.loads((folder / "report.json").read_text())
    assert report["errors"] == sum(finding["severity"] == "error" for finding in report["findings"])
    assert status == int(report["errors"] > 0)
    return status, {finding["check"]: finding for finding in report["findings"]}, report


def severities(found, severity):
    return {name for name, finding in found.items() if finding["severity"] == severity}


@pytest.mark.slow
def test_igpo(tmp_path, capsys):
    """A policy that can search: nothing is wrong, and nothing is made on the Hub or left in the output folder."""
    status, found, report = run(
        tmp_path,
        "igpo",
        **COMMON,
        model_name_or_path=SEARCH_POLICY,
        per_device_train_batch_size=32,
        num_generations=8,
        gradient_accumulation_steps=1,
        max_completion_length=192,
        generation_kwargs=json.dumps({"max_new_tokens": MAX_SEARCH_TOKENS}),
        system_prompt="",
        belief_prefix=BELIEF_PREFIX,
        belief_suffix=BELIEF_SUFFIX,
        push_to_hub="true",
    )
    assert status == 0 and severities(found, "error") == set()
    assert severities(found, "warning") <= {"signal"}  # a question in two is answered always or never
    assert {"sampling and scoring", "IGPO gains", "IGPO belief prefix", "adapters"} <= severities(found, "ok")
    assert (report["batch"]["rollouts"], report["batch"]["group_size"]) == (32, 8)
    assert not list((tmp_path / "out").glob("*"))
    shown = capsys.readouterr().out
    for text in ("<tool_call>", "[turn 1: reward", "sampling and scoring", "0 errors"):
        assert text in shown


@pytest.mark.slow
def test_archer(tmp_path):
    status, found, report = run(
        tmp_path,
        "archer",
        **COMMON,
        model_name_or_path=WORD_GAME_POLICY,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=1,
        max_completion_length=700,
        generation_kwargs=json.dumps({"max_new_tokens": MAX_TURN_TOKENS}),
        critic_steps=1,
        critic_batch_size=8,
    )
    assert status == 0
    assert {"ArCHer critic", "ArCHer returns", "sampling and scoring"} <= severities(found, "ok")
    assert len(report["example"]["turns"]) == max(report["batch"]["turns"])


@pytest.fixture(scope="module")
def travel_folder(tmp_path_factory):
    return save_travel_model(tmp_path_factory.mktemp("travel"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["replay", "deeptravel"])
def test_travel(tmp_path, travel_folder, recipe, capsys):
    """A random model plans nothing: there is nothing to learn from, and the command says so."""
    options = {"eval_samples": 2} if recipe == "deeptravel" else {"eval_strategy": "no", "use_peft": "false"}
    status, found, _ = run(
        tmp_path,
        recipe,
        model_name_or_path=travel_folder,
        cities=CITIES,
        **QUICK,
        **options,
        gradient_accumulation_steps=1,
    )
    assert status == 1 and severities(found, "error") == {"signal", "stop reasons", "gradient"}
    assert found["stop reasons"]["change"].startswith("generation_kwargs: {max_new_tokens: 4}")
    assert {"replay tasks", "replay failures", "tool call round trip"} <= severities(found, "ok")
    assert "3 errors" in capsys.readouterr().out


@pytest.mark.slow
def test_mobile_r1(tmp_path):
    task = {
        "use_cpu": True,
        "bf16": False,
        "dataloader_pin_memory": False,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 500,
        "generation_kwargs": {"max_new_tokens": 16},
        "push_to_hub": True,
    }
    status, found, report = run(
        tmp_path,
        "mobile_r1",
        model=tiny_vlm(tmp_path / "model"),
        scale=0.25,
        tasks=4,
        episode_steps=3,
        task=json.dumps(task),
    )
    assert status == 1
    assert {"images", "sampling and scoring", "trained tokens"} <= severities(found, "ok")
    assert found["images"]["measured"].startswith("4 images in 4 rollouts")


# --- which recipe, and what is refused


@pytest.mark.parametrize("recipe", ["igpo", "archer", "replay", "deeptravel", "mobile_r1"])
def test_examples_say_what_they_are_for(recipe):
    assert find_recipe(str(EXAMPLES / f"{recipe}.yaml")) == recipe.replace("_", "-")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model_name_or_path: some/model\n", "igpo or archer or replay or deeptravel: say which with --recipe"),
        ("gain_weigth: 1.0\n", "no recipe knows all fields"),
        ("- a list\n", "must hold fields and values"),
        ("a: [", "is no YAML file"),
        (None, "No such file"),
    ],
)
def test_files_that_say_nothing_are_refused(tmp_path, capsys, text, said):
    config = tmp_path / "run.yaml"
    if text is not None:
        config.write_text(text)
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor", "--config", str(config)])
    assert exit_status.value.code == 2
    assert said in capsys.readouterr().err


def test_recipe_by_name(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("output_dir: nowhere\n")
    with pytest.raises(SystemExit):
        main(["doctor", "--recipe", "igpo", "--config", str(tmp_path / "run.yaml")])
    assert "name the model to train" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor", "--help"])
    assert exit_status.value.code == 0
    shown = capsys.readouterr().out
    for text in ("--config", "--recipe", "--json", "diagnose(trainer)", "Exits with 1"):
        assert text in " ".join(shown.split())
