"""The examples of GUI agents: a tiny vision-language model in three stages, and a scripted agent on the phone."""

import json
import runpy
import sys

import pytest
import yaml
from PIL import Image
from trl import GRPOTrainer

from tests.environments.phone.phones import require_browser
from tests.examples.test_examples import EXAMPLES, run_example
from tests.phone_vlm import SCALE, tiny_vlm
from trl_multiturn import MultiTurnGRPOTrainer
from trl_multiturn.recipes import mobile_r1


def test_mobile_r1(monkeypatch, tmp_path):
    losses, train = {}, GRPOTrainer.train

    def recorded(trainer, *args, **kwargs):
        train(trainer, *args, **kwargs)
        losses[type(trainer)] = trainer.state.log_history[0]

    monkeypatch.setattr(GRPOTrainer, "train", recorded)
    quick = {"per_device_train_batch_size": 2, "num_generations": 2, "max_completion_length": 320}
    model = tiny_vlm(tmp_path / "tiny")
    run_example(monkeypatch, "mobile_r1.py", tmp_path / "out", model=model, tasks=2, scale=SCALE, **quick)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "processor_config.json").is_file()
    assert losses[GRPOTrainer]["rewards/gui_format_reward/mean"] == 0.0  # a random model has no format
    assert losses[MultiTurnGRPOTrainer]["rewards/gui_format_reward/mean"] == -1.0
    assert losses[MultiTurnGRPOTrainer]["task/completed"] == 0.0


def run_phone_agent(monkeypatch, capsys, folder, renderer):
    arguments = ["--renderer", renderer, "--seed", "6", "--output_dir", str(folder)]
    monkeypatch.setattr(sys, "argv", ["phone_agent.py", *arguments])
    runpy.run_path(str(EXAMPLES / "phone_agent.py"), run_name="__main__")
    return capsys.readouterr().out


def test_phone_agent_with_pillow(monkeypatch, capsys, tmp_path):
    said = run_phone_agent(monkeypatch, capsys, tmp_path, "pillow")
    assert "goal reached: True, side effects: [], said: success" in said
    assert said.count("  wrong: ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["phone_pillow.png"]
    # The picture of the docs: a change of the phone's look has to be drawn anew.
    shown = Image.open(EXAMPLES.parent / "docs" / "images" / "phone_pillow.png")
    assert Image.open(tmp_path / "phone_pillow.png").size == shown.size


@pytest.mark.needs_browser
def test_phone_agent_in_chromium(monkeypatch, capsys, tmp_path):
    require_browser()
    said = run_phone_agent(monkeypatch, capsys, tmp_path, "both")
    assert said.count("goal reached: True, side effects: [], said: success") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"phone_pillow.png", "phone_chromium.png"}


def test_recipe_file_of_mobile_r1_is_one_that_the_command_takes(tmp_path):
    values = yaml.safe_load((EXAMPLES / "mobile_r1.yaml").read_text())
    for stage in mobile_r1.STAGES:
        values[stage] |= {"use_cpu": True, "bf16": False}  # for the machine that tests
    path = tmp_path / "mobile_r1.yaml"
    path.write_text(yaml.safe_dump(values))
    task = json.dumps(values["task"] | {"learning_rate": 2e-6})
    (config,) = mobile_r1.make_parser().parse_args_and_config(["--config", str(path), "--task", task])
    action = config.trainer_config("action")
    assert action.generation_batch_size == 16 * action.num_generations
    task = config.trainer_config("task")
    assert task.generation_batch_size == 4 * task.num_generations
    assert task.learning_rate == 2e-6 and config.trainer_config("sft").learning_rate == 1e-5
    assert config.space == "norm1000"
