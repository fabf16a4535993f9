"""What the stages of `trl-multiturn deeptravel` leave, how they go on, and what the command refuses."""

import csv
import json
import logging
import random
import re
import shutil
from itertools import groupby

import pytest
from safetensors.torch import load_file
from trl.chat_template_utils import get_training_chat_template

from tests.tiny import Scripted, call
from tests.travel_tiny import CITIES, QUICK, command_line, save_travel_model, travel_tokenizer, travel_world
from trl_multiturn.environments.travel import ToolCache, demonstrations
from trl_multiturn.recipes import deeptravel
from trl_multiturn.replay.trainer import ReplayGRPOTrainer


STAGES = {"demonstrations": 2, "sft_max_length": 2500, "sft_epochs": 2, "eval_samples": 2, "sft_learning_rate": 0.01}


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    return save_travel_model(tmp_path_factory.mktemp("tiny"))


def run(folder, model, **values):
    given = {"model_name_or_path": model, "output_dir": folder, "cities": CITIES, **QUICK, **STAGES, **values}
    deeptravel.run(command_line(**given))


def make_task(folder, model, **values):
    """What the stages get."""
    given = {"model_name_or_path": model, "output_dir": folder, "cities": CITIES, **QUICK, **STAGES, **values}
    script_args, *others = deeptravel.make_parser().parse_args_and_config(command_line(**given))
    return script_args, *others, deeptravel.load_travel_task(script_args)


def read_report(folder):
    return json.loads((folder / "evaluation.json").read_text())


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(one, other):
    return all((one[name] == other[name]).all() for name in one)


def test_all_stages_and_how_they_go_on(tmp_path, tiny_folder, caplog, capfd):
    options = {"save_strategy": "steps", "save_steps": 1, "learning_rate": 0}
    run(tmp_path, tiny_folder, **options)
    cold_start, policy = tmp_path / "cold_start", tmp_path / "policy"
    # Reinforcement learning began with the cold start: at a rate of 0 its weights are still the same.
    assert same(weights(cold_start), weights(policy)) and not same(weights(cold_start), weights(tiny_folder))

    with open(policy / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    assert history[1]["replay/share"] == "0.5" and history[1]["verifier/format"] == "0.0"
    assert (policy / "curves.png").stat().st_size > 10_000
    card = (policy / "README.md").read_text()
    assert "2509.21842" in card and "ning2025deeptravel" in card and "replay-grpo" in card
    state = json.loads((policy / "checkpoint-2" / "method_state.json").read_text())
    assert state["replay"]["batches"] == 2 and state["replay"]["tasks"]

    report = read_report(tmp_path)
    assert set(report) == {"cold_start", "policy"}
    rates = report["policy"]["pass"]
    assert list(rates) == ["all", "easy", "medium", "hard", "infeasible"]
    assert rates["all"] == {"rate": 0.0, "low": 0.0, "high": 0.0, "tasks": 4}
    assert rates["easy"] == {"rate": 0.0, "low": None, "high": None, "tasks": 1}  # no interval for one task
    assert report["policy"]["verifier/ungrounded_claims"] is None  # nothing was claimed
    assert "ungrounded claims" in capfd.readouterr().out

    # The same command after a run that was killed in its second stage, with a step left.
    (policy / "trainer_state.json").unlink()
    before = (cold_start / "model.safetensors").stat().st_mtime_ns
    with caplog.at_level(logging.WARNING, logger="trl_multiturn"):
        run(tmp_path, tiny_folder, **options | {"max_steps": 3, "eval_tasks": 1})
    assert (cold_start / "model.safetensors").stat().st_mtime_ns == before
    with open(policy / "history.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    state = json.loads((policy / "checkpoint-3" / "method_state.json").read_text())
    assert state["replay"]["batches"] == 3


def test_stages_by_name(tmp_path, tiny_folder):
    run(tmp_path, tiny_folder, stage="sft")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cold_start"]
    first = weights(tmp_path / "cold_start")
    run(tmp_path, tiny_folder, stage="sft", demonstrations=1)  # named, it is run again
    assert not same(first, weights(tmp_path / "cold_start"))
    run(tmp_path, tiny_folder, stage="rl", learning_rate=0, max_steps=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cold_start", "policy"]
    assert same(weights(tmp_path / "cold_start"), weights(tmp_path / "policy"))


def test_reinforcement_learning_without_a_cold_start(tmp_path, tiny_folder):
    run(
        tmp_path,
        tiny_folder,
        stage="rl",
        learning_rate=0,
        max_steps=1,
        eval_tasks=1,
        eval_strategy="steps",
        eval_steps=1,
    )
    assert same(weights(tiny_folder), weights(tmp_path / "policy"))
    with open(tmp_path / "policy" / "history.csv", newline="") as file:
        assert any(row["eval_verifier/pass"] for row in csv.DictReader(file))


@pytest.mark.slow
def test_adapters(tmp_path, tiny_folder):
    run(tmp_path, tiny_folder, use_peft="true", lora_target_modules="all-linear", max_steps=1)
    cold_start, policy = tmp_path / "cold_start", tmp_path / "policy"
    assert (policy / "adapter_model.safetensors").is_file() and not (policy / "model.safetensors").exists()
    # The cold start is a whole model, which the policy's adapter is for.
    assert not same(weights(cold_start), weights(tiny_folder))
    assert not list(cold_start.glob("adapter_*")) and "peft" not in (cold_start / "README.md").read_text()
    assert json.loads((policy / "adapter_config.json").read_text())["base_model_name_or_path"] == str(cold_start)
    assert set(read_report(tmp_path)) == {"cold_start", "policy"}


# --- the cold start


def test_only_what_the_assistant_says_is_learnt(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr("trl.SFTTrainer.train", lambda self: None)
    *arguments, task = make_task(tmp_path, tiny_folder, error_rate=0.5, sft_max_length=10240)
    trainer = deeptravel.cold_start(*arguments, task)
    shown = demonstrations(2, world=task.world, error_rate=0.5, seed=43)
    tokenizer = travel_tokenizer()
    assert any(
        '{"error"' in str(shown["messages"]) or "error" in message["content"] for message in shown["messages"][0]
    )
    for messages, row in zip(shown["messages"], trainer.train_dataset, strict=True):
        runs = groupby(row["labels"], key=lambda label: label != -100)
        spans = [tokenizer.decode(list(run)) for is_learnt, run in runs if is_learnt]
        said = [message for message in messages if message["role"] == "assistant"]
        assert len(spans) == len(said)
        for span, message in zip(spans, said, strict=True):
            assert "<tool_response>" not in span and span.rstrip().endswith("<|im_end|>")
            for called in message["tool_calls"] or ():
                assert json.loads(re.search(r"<tool_call>\n(.*)\n</tool_call>", span)[1]) == called["function"]
            assert message["content"] in span
        # And all of it stands in a text with everything that the tools said.
        assert tokenizer.decode(row["input_ids"]).count("<tool_response>") == sum(
            m["role"] == "tool" for m in messages
        )


def test_prompts_look_as_in_reinforcement_learning(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr("trl.SFTTrainer.train", lambda self: None)
    model = shutil.copytree(tiny_folder, tmp_path / "model")
    template = get_training_chat_template(travel_tokenizer())
    (model / "chat_template.jinja").write_text("{% if calm %}Keep calm.{% endif %}" + template)
    *arguments, task = make_task(tmp_path, model, chat_template_kwargs='{"calm": true}')
    trainer = deeptravel.cold_start(*arguments, task)
    assert travel_tokenizer().decode(trainer.train_dataset[0]["input_ids"]).startswith("Keep calm.")


def test_demonstrations_are_of_other_tasks(tmp_path, tiny_folder):
    script_args, training_args, _, task = make_task(tmp_path, tiny_folder)
    trained = set(task.tasks(20, "train", training_args.seed)["task_id"])
    shown = set(demonstrations(20, world=task.world, seed=training_args.seed + 1)["task_id"])
    held_out = {*task.tasks(20, "dev")["task_id"], *task.tasks(20, "test")["task_id"]}
    assert len(trained) == len(shown) == 20 and len(held_out) == 40
    assert not trained & shown and not held_out & (trained | shown)


def test_demonstrations_that_are_cut_off_are_counted(tmp_path, tiny_folder, monkeypatch, caplog):
    monkeypatch.setattr("trl.SFTTrainer.train", lambda self: None)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    *arguments, task = make_task(tmp_path, tiny_folder, demonstrations=3, sft_max_length=2300)
    deeptravel.cold_start(*arguments, task)
    assert re.search("cuts off [123] of 3 demonstrations", caplog.text)
    *arguments, task = make_task(tmp_path, tiny_folder, sft_max_length=100)
    with pytest.raises(ValueError, match="sft_max_length=100 leaves nothing"):
        deeptravel.cold_start(*arguments, task)


# --- the evaluation


class Player(Scripted, ReplayGRPOTrainer):
    """Plays the demonstrations; every second rollout invents a price."""

    @staticmethod
    def script(text: str, turn: int, rng: random.Random) -> str:
        messages = next(m for request, m in Player.demonstrations.items() if request in text)
        message = [message for message in messages if message["role"] == "assistant"][turn]
        if message["tool_calls"]:
            function = message["tool_calls"][0]["function"]
            return call(function["name"], **function["arguments"])
        Player.answers += 1
        invented = re.sub(r'"price":(\d+)', r'"price":\g<1>9', message["content"], count=1)
        return invented if Player.answers % 2 else message["content"]


def test_report_tells_what_passed_and_what_was_invented(tmp_path, tiny_folder, monkeypatch):
    shown = demonstrations(4, split="test", world=travel_world(), error_rate=0.0)
    Player.demonstrations = {messages[1]["content"]: messages for messages in shown["messages"]}
    Player.answers = 0
    monkeypatch.setattr("trl_multiturn.replay.trainer.ReplayGRPOTrainer", Player)
    options = {"stage": "eval", "max_completion_length": 8000, "cache": tmp_path / "cache.sqlite"}
    run(tmp_path, tiny_folder, **options)
    report = read_report(tmp_path)["model"]  # there is no cold start and no policy
    assert report["pass"]["infeasible"]["rate"] == 1.0  # no price to invent
    for level in ("easy", "medium", "hard"):
        assert report["pass"][level] == {"rate": 0.5, "low": None, "high": None, "tasks": 1}
    assert report["pass"]["all"]["rate"] == (0.5 * 3 + 1.0) / 4
    assert 0.5 <= report["pass"]["all"]["low"] <= report["pass"]["all"]["high"] <= 1.0
    assert report["verifier/format"] == 1.0
    assert 0.0 < report["verifier/ungrounded_claims"] < 0.2
    assert report["verifier/pass"] == report["pass"]["all"]["rate"]

    # The same calls are answered from the file alone: with too few of them in it, most plans would miss something.
    with ToolCache(tmp_path / "cache.sqlite", travel_world()) as cache:
        assert cache.stats["records"] > 8
    run(tmp_path, tiny_folder, **options, cache_mode="replay")
    assert read_report(tmp_path)["model"] == report


# --- arguments


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_name_or_path": None}, "name the model to train"),
        ({"stage": "grpo"}, "invalid choice: 'grpo'"),
        ({"demonstrations": 0}, "demonstrations must be at least 1"),
        ({"sft_epochs": 0}, "sft_epochs must be above 0"),
        ({"error_rate": 1.5}, "error_rate must be at least 0 and below 1"),
        ({"eval_samples": 3}, "no whole number of tasks of eval_samples=3"),
        ({"dataset_name": "some/rows"}, "the recipe generates its tasks"),
        ({"cities": ["Paris", "Atlantis"]}, "not in the table: Atlantis"),
        ({"cities": ["Beijing", "Shanghai"]}, "tasks need at least 3"),
        ({"levels": ["easy", "impossible"]}, "`levels` must be among"),
        ({"language": "fr"}, "`language` must be"),
        ({"train_tasks": 0}, "train_tasks must be at least 1"),
        ({"cache_mode": "replay"}, "no effect without a cache"),
        ({"cache": "missing.sqlite", "cache_mode": "replay"}, "missing.sqlite"),
        ({"replay_ratio": 2}, "replay_ratio must be between 0 and 1"),
        ({"resume_from_checkpoint": "nowhere"}, "'nowhere' is no folder"),
        ({"demos": 5}, "--demos=5"),
        ({"config": "missing.yaml"}, "missing.yaml"),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_one_line(tmp_path, capsys, values, said):
    given = {"model_name_or_path": "a-model", "output_dir": tmp_path, **QUICK, **values}
    with pytest.raises(SystemExit) as stopped:
        deeptravel.run(command_line(**{name: value for name, value in given.items() if value is not None}))
    assert stopped.value.code == 2
    usage, error = capsys.readouterr().err.strip().splitlines()[-2:]
    assert usage.startswith("usage: trl-multiturn deeptravel")
    assert error.startswith("trl-multiturn deeptravel: error: ") and said in error
    assert not list(tmp_path.iterdir())


def test_help_lists_all_there_is(capsys):
    with pytest.raises(SystemExit) as stopped:
        deeptravel.run(["--help"])
    assert stopped.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for text in (
        "--stage {sft,rl,eval,all}",
        "goes on where an earlier run stopped",
        "--cache_mode",
        "--replay_every",
    ):
        assert text in told
