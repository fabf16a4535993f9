"""The three stages of Mobile-R1, trained with a tiny model on real screens: each from the last one's model, and resumable."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import Dataset
from safetensors.torch import load_file

from tests.phone_vlm import SCALE, tiny_vlm
from trl_multiturn.checkpoints import FILES
from trl_multiturn.cli import main
from trl_multiturn.environments.phone import demonstrations, generate_phone_tasks, task_split
from trl_multiturn.recipes import mobile_r1_evaluation
from trl_multiturn.recipes.gui_data import save_mobile_r1
from trl_multiturn.recipes.gui_report import report
from trl_multiturn.recipes.mobile_r1 import MobileR1Config, run_stage


STAGES = ("sft", "action", "task")

COMMON = {
    "use_cpu": True,
    "bf16": False,
    "dataloader_pin_memory": False,
    "report_to": [],
    "disable_tqdm": True,
    "logging_steps": 1,
}


def make_config(folder: Path, **changes) -> MobileR1Config:
    settings = {
        "model": str(folder / "start"),
        "output_dir": str(folder / "run"),
        "data": str(folder / "data"),
        "tasks": 4,
        "scale": SCALE,
        "episode_steps": 3,
        "eval_tasks": 3,
        "eval_states": 6,
        "sft": {
            **COMMON,
            "per_device_train_batch_size": 4,
            "max_steps": 60,
            "learning_rate": 2e-2,
            "logging_steps": 20,
            "save_steps": 40,
        },
        "action": {
            **COMMON,
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "max_steps": 2,
            "save_steps": 1,
            "learning_rate": 1e-3,
            "max_completion_length": 64,
        },
        "task": {
            **COMMON,
            "per_device_train_batch_size": 4,
            "num_generations": 4,
            "max_steps": 2,
            "save_steps": 1,
            "learning_rate": 1e-3,
            "max_completion_length": 500,
            "generation_kwargs": {"max_new_tokens": 64},
        },
        **changes,
    }
    return MobileR1Config(**settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder after all stages and the evaluation: two short ways through the phone, learnt by heart."""
    folder = tmp_path_factory.mktemp("mobile_r1")
    tiny_vlm(folder / "start")
    drawn = generate_phone_tasks(20, names=["settings.turn_on"])
    tasks = [task for task in drawn if task_split(task) == "train"][:2]
    trajectories = [replace(t, split="") for t in demonstrations(tasks, scale=SCALE)]
    save_mobile_r1(trajectories, folder / "data")
    config = make_config(folder)
    for stage in (*STAGES, "evaluate"):
        run_stage(config, stage)
    return folder


def history(folder: Path, stage: str) -> list[dict[str, str]]:
    with open(folder / "run" / stage / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name)]


def test_each_stage_starts_from_the_last_ones_model(trained):
    starts = {stage: json.loads((trained / "run" / stage / "stage.json").read_text())["start"] for stage in STAGES}
    assert starts == {
        "sft": str(trained / "start"),
        "action": str(trained / "run" / "sft"),
        "task": str(trained / "run" / "action"),
    }
    for stage in STAGES:
        assert (trained / "run" / stage / "curves.png").stat().st_size > 1000
        assert "trl" in (trained / "run" / stage / "README.md").read_text()


def test_the_first_stage_learns_the_replies(trained):
    losses = numbers(history(trained, "sft"), "loss")
    assert losses[-1] < 0.5 * losses[0]


def test_the_second_stage_rewards_actions_and_format(trained):
    rows = history(trained, "action")
    assert max(numbers(rows, "rewards/gui_format_reward/mean")) > 0
    assert max(numbers(rows, "action/type")) > 0


def test_the_third_stage_acts_on_the_phone_and_keeps_images_in_step(trained):
    rows = history(trained, "task")
    assert max(numbers(rows, "tools/call_frequency")) > 0
    assert max(numbers(rows, "turns/max")) > 1
    assert set(numbers(rows, "images/mismatched")) == {0.0}
    assert all(-1 <= value <= 1 for value in numbers(rows, "rewards/gui_format_reward/mean"))


def test_the_evaluation_measures_every_stage_beside_an_oracle_and_chance(trained):
    report = json.loads((trained / "run" / "evaluation" / "evaluation.json").read_text())
    assert list(report) == ["oracle", "random", *STAGES]
    assert report["sft"]["action_accuracy"]["count"] == 6
    assert report["sft"]["success"]["count"] == 3
    assert report["oracle"]["side_effects"]["value"] == 0


@pytest.mark.parametrize("is_main", [True, False])
def test_one_process_plays_the_baselines_and_writes(monkeypatch, tmp_path, is_main):
    played = []
    play = mobile_r1_evaluation.play_baseline
    tasks = generate_phone_tasks(2, names=["settings.turn_on"])
    monkeypatch.setattr(
        mobile_r1_evaluation, "play_baseline", lambda name, *rest: played.append(name) or play(name, *rest)
    )
    monkeypatch.setattr(mobile_r1_evaluation, "PartialState", lambda: SimpleNamespace(is_main_process=is_main))
    monkeypatch.setattr(mobile_r1_evaluation, "load_processor", lambda model: None)
    monkeypatch.setattr(mobile_r1_evaluation, "held_out_tasks", lambda config: tasks)
    states = Dataset.from_dict({"prompt": ["p"], "completion": ["c"]})
    monkeypatch.setattr(mobile_r1_evaluation, "held_out_steps", lambda *given: states)
    measured = report(episodes=play("random", tasks))
    monkeypatch.setattr(mobile_r1_evaluation, "_measure", lambda *given: measured)
    folder = mobile_r1_evaluation.evaluate(make_config(tmp_path))
    assert played == (["oracle", "random"] if is_main else [])
    if is_main:
        assert list(json.loads((folder / "evaluation.json").read_text())) == ["oracle", "random", "start"]
    assert folder.exists() == is_main


@pytest.mark.parametrize(("stage", "step"), [("sft", 40), ("action", 1), ("task", 1)])
def test_a_stage_that_was_cut_off_ends_like_one_that_was_not(trained, stage, step, tmp_path):
    for earlier in STAGES[: STAGES.index(stage)]:
        shutil.copytree(trained / "run" / earlier, tmp_path / "run" / earlier)
    checkpoint = f"checkpoint-{step}"
    assert (trained / "run" / stage / checkpoint / FILES).is_file()  # it was written whole, by the stock trainers too
    shutil.copytree(trained / "run" / stage / checkpoint, tmp_path / "run" / stage / checkpoint)
    config = replace(make_config(trained), output_dir=str(tmp_path / "run"))
    run_stage(config, stage)
    whole = load_file(trained / "run" / stage / "model.safetensors")
    resumed = load_file(tmp_path / "run" / stage / "model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all((whole[name] == resumed[name]).all() for name in whole)


def test_the_command_says_what_is_wrong(capsys):
    for argv, told in [
        ([], "name the model"),
        (["--model", "m", "--mistakes", "1"], "mistakes"),
        (["--model", "m", "--judge", "gpt"], "go together"),
        (["--model", "m", "--sft", '{"seed": 1}'], "set by the recipe"),
        (["--model", "m", "--task", '{"nothing": 1}'], "no argument of MultiTurnGRPOConfig"),
        (["--model", "m", "--lora", "{"], "JSON object"),
    ]:
        with pytest.raises(SystemExit):
            main(["mobile-r1", *argv])
        assert told in capsys.readouterr().err


def test_an_unknown_stage_is_refused(trained):
    with pytest.raises(ValueError, match="stage must be one of"):
        run_stage(make_config(trained), "reward")
