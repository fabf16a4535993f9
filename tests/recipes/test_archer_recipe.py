"""What `trl-multiturn archer` trains on, what it refuses, and what a run leaves."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import load_dataset

from tests.tiny import Counter
from trl_multiturn import ArCHerConfig
from trl_multiturn.environments.word_games import GuessMyCity, TwentyQuestions, load_cities
from trl_multiturn.recipes import archer, script
from trl_multiturn.recipes.archer import ArCHerScriptArguments, check_arguments
from trl_multiturn.recipes.results import ARCHER_PANELS, save_history
from trl_multiturn.recipes.word_game_policy import MAX_TURN_TOKENS, WORD_GAME_POLICY
from trl_multiturn.rewards import f1_reward


STORY = str(Path(__file__).parents[1] / "environments" / "stories" / "tw-cellar.z5")
QUICK = {
    "model_name_or_path": WORD_GAME_POLICY,
    "use_cpu": "true",
    "bf16": "false",
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "num_generations": 2,
    "max_completion_length": 48,
    "generation_kwargs": f'{{"max_new_tokens": {MAX_TURN_TOKENS}}}',
    "max_tool_calling_iterations": 2,
    "critic_steps": 1,
    "critic_batch_size": 8,
    "critic_warmup_iterations": 0,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": "true",
    "gradient_checkpointing": "false",
}


def run(tmp_path, **values):
    given = {**QUICK, "output_dir": tmp_path / "out", **values}
    archer.run([f"--{name}={value}" for name, value in given.items()])
    with open(tmp_path / "out" / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def check(tmp_path, algorithm="archer", eval_strategy="no", **values):
    training_args = ArCHerConfig(
        output_dir=str(tmp_path), algorithm=algorithm, eval_strategy=eval_strategy, use_cpu=True, bf16=False
    )
    return check_arguments(ArCHerScriptArguments(**values), training_args)


def own_rows(**values):
    return archer._own_rows(ArCHerScriptArguments(**values), seed=0)


def write_logged(folder):
    """Games in the documented form, as files that `datasets.load_dataset` reads."""
    folder.mkdir()
    ask = {"role": "assistant", "content": "Is it in Europe?"}
    rows = [
        {
            "prompt": [{"role": "user", "content": "I think of a city."}],
            "completion": [ask, {"role": "user", "content": "Yes."}] * turns + [ask],
            "turn_rewards": [-1.0] * turns + [0.0],
        }
        for turns in range(1, 5)
    ]
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.mark.parametrize(
    ("environment", "factory"),
    [
        (None, GuessMyCity),
        ("guess_my_city", GuessMyCity),
        ("twenty_questions", TwentyQuestions),
        ("twenty_questions_subset", TwentyQuestions),
    ],
)
def test_games_by_name(tmp_path, environment, factory):
    assert check(tmp_path, environment=environment) is factory
    train, held_out = own_rows(environment=environment, eval_limit=3)
    assert len(held_out) == 3 < len(train)
    assert held_out[0] == train[0]
    factory().reset(**train[0])


def test_limit_above_the_number_of_targets(tmp_path):
    assert len(own_rows(eval_limit=200)[1]) == len(own_rows(eval_limit=None)[1]) == len(load_cities())


def test_environment_of_ones_own(tmp_path):
    assert check(tmp_path, environment="tests.tiny.Counter", dataset_name="some/rows") is Counter


def test_webshop_trains_on_archers_goals(tmp_path):
    pytest.importorskip("bs4")
    pytest.importorskip("httpx2")
    factory = check(tmp_path, environment="webshop", base_url="http://127.0.0.1:3000")
    assert factory().turn_rewards == []
    train, held_out = own_rows(environment="webshop", base_url="http://127.0.0.1:3000", eval_limit=2)
    assert (train[0]["session"], train[-1]["session"]) == ("fixed_2000", "fixed_2099")
    assert held_out["session"][:] == ["fixed_0", "fixed_1"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"environment": "hangman"}, "'hangman' is neither one of"),
        ({"environment": "no_such_module.Game"}, "'no_such_module.Game' cannot be imported"),
        ({"environment": "tests.tiny.NoSuchGame"}, "'tests.tiny.NoSuchGame' cannot be imported"),
        ({"environment": "tests.tiny.Counter"}, "needs a dataset to be reset with"),
        ({"environment": "jericho"}, "story_file and the environment 'jericho' belong together"),
        ({"story_file": STORY}, "story_file and the environment 'jericho' belong together"),
        ({"environment": "webshop"}, "base_url and the environment 'webshop' belong together"),
        ({"environment": "webshop", "base_url": "ftp://shop"}, "must begin with http"),
        ({"reward_funcs": ["f2_reward"]}, "'f2_reward' is neither one of"),
        ({"eval_limit": 0}, "eval_limit must be at least 1"),
        ({"algorithm": "offline"}, "needs a dataset of logged trajectories"),
        ({"algorithm": "offline", "environment": "guess_my_city", "dataset_name": "games"}, "leave environment="),
        ({"algorithm": "offline", "dataset_name": "games", "reward_funcs": ["f1_reward"]}, "leave reward_funcs"),
        ({"algorithm": "offline", "dataset_name": "games", "eval_strategy": "epoch"}, "needs reward_funcs"),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused(tmp_path, values, said):
    with pytest.raises(ValueError) as refusal:
        check(tmp_path, **values)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_missing_package_of_an_environment_is_named(tmp_path, monkeypatch):
    def missing(*args):
        raise ImportError("pip install trl-multiturn[webshop]")

    monkeypatch.setattr("trl_multiturn.environments.adapters.WebShopEnvironment", missing)
    with pytest.raises(ValueError, match="pip install"):
        check(tmp_path, environment="webshop", base_url="http://shop")


def test_rewards_of_the_outcome_are_found():
    assert archer._reward_funcs(ArCHerScriptArguments()) is None
    found = archer._reward_funcs(ArCHerScriptArguments(reward_funcs=["f1_reward", "tests.tiny.answer_length"]))
    assert found[0] is f1_reward and found[1].__name__ == "answer_length"


def test_offline_on_logged_trajectories(tmp_path):
    rows = run(tmp_path, algorithm="offline", dataset_name=write_logged(tmp_path / "games"))
    assert rows[-1]["archer/awr_weight"] != ""
    assert "games" not in (tmp_path / "out" / "README.md").read_text()  # a folder is no Hub dataset


def test_own_environment_on_a_dataset(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    row = {"prompt": [{"role": "user", "content": "Count."}]}
    (folder / "train.jsonl").write_text("\n".join([json.dumps(row)] * 4))
    assert len(load_dataset(str(folder))["train"]) == 4
    rows = run(
        tmp_path, environment="tests.tiny.Counter", dataset_name=folder, reward_funcs="tests.tiny.answer_length"
    )
    assert rows[-1]["rewards/answer_length/mean"] != ""


def test_every_curve_is_of_a_logged_metric(tmp_path):
    rows = run(tmp_path, eval_strategy="steps", eval_steps=1, eval_limit=2, num_generations_eval=1)
    for metrics in ARCHER_PANELS.values():
        for name in metrics:
            assert any(row.get(name) for row in rows), name


@pytest.mark.slow
def test_jericho(tmp_path):
    pytest.importorskip("jericho")
    rows = run(tmp_path, environment="jericho", story_file=STORY, max_completion_length=256)
    assert rows[-1]["rewards/turn_rewards/mean"] != ""


def test_history_keeps_every_batch_of_a_warm_up(tmp_path):
    logs = [{"step": 0, "epoch": 0, "a": 1}, {"step": 0, "epoch": 0, "a": 2}, {"step": 1, "epoch": 1, "b": 3}]
    save_history([*logs, {"step": 1, "epoch": 1, "eval_b": 4}], tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines == ["step,epoch,a,b,eval_b", "0,0,1,,", "0,0,2,,", "1,1,,3,4"]


@pytest.mark.parametrize(("processes", "device", "waits"), [(1, "cpu", False), (2, "cpu", True), (2, "cuda", False)])
def test_processes_on_the_cpu_wait_for_gloo(tmp_path, monkeypatch, processes, device, waits):
    events = []
    monkeypatch.setattr(script.time, "sleep", events.append)
    trainer = SimpleNamespace(
        args=SimpleNamespace(output_dir=str(tmp_path), push_to_hub=False),
        accelerator=SimpleNamespace(
            num_processes=processes, device=torch.device(device), is_main_process=False, print=lambda text: None
        ),
        save_model=lambda folder: None,
        save_state=lambda: None,
        end=lambda: events.append("end"),
    )
    script.finish(trainer, {}, "", None)
    assert events == ([0.5, "end"] if waits else ["end"])
