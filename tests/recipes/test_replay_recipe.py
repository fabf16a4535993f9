"""What `trl-multiturn replay` trains on, what a run leaves, how it goes on, and what it refuses."""

import csv
import json

import pytest

from tests.tiny import build_model, build_tokenizer
from tests.travel_tiny import CITIES, QUICK, command_line, save_travel_model
from trl_multiturn.environments.travel import ToolCache, TravelWorld
from trl_multiturn.recipes import replay
from trl_multiturn.recipes.results import REPLAY_PANELS
from trl_multiturn.recipes.travel_task import check_travel_arguments, load_travel_task


OWN = {name: value for name, value in QUICK.items() if name not in ("train_tasks", "eval_tasks")}


@pytest.fixture(scope="module")
def travel_folder(tmp_path_factory):
    return save_travel_model(tmp_path_factory.mktemp("travel"))


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer()
    build_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A dataset of one's own, with a split to evaluate on."""
    folder = tmp_path_factory.mktemp("rows")
    for split, count in (("train", 8), ("test", 2)):
        lines = [
            json.dumps({"prompt": [{"role": "user", "content": f"{split} {i}"}], "name": f"{split}-{i}"})
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def run(folder, model, quick, **values):
    replay.run(command_line(**{"model_name_or_path": model, "output_dir": folder, **quick, **values}))
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def never(completions, **kwargs):
    """A reward function: every task is failed."""
    return [0.0] * len(completions)


def script_arguments(**values):
    return replay.ReplayScriptArguments(cities=CITIES, **values)


def test_travel_sandbox(tmp_path, travel_folder):
    history = run(
        tmp_path,
        travel_folder,
        QUICK,
        cities=CITIES,
        levels=["easy", "hard"],
        cache=tmp_path / "cache.sqlite",
        eval_strategy="steps",
        eval_steps=2,
    )
    for metrics in REPLAY_PANELS.values():
        for name in metrics:
            assert any(row.get(name) for row in history), name
    assert history[0]["verifier/pass/easy"] == "0.0" and "verifier/pass/medium" not in history[0]
    card = (tmp_path / "README.md").read_text()
    assert "2509.21842" in card and "datasets:" not in card
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert (tmp_path / "cache.sqlite").is_file()


def test_resumed_run_knows_the_failed_tasks(tmp_path, tiny_folder, rows):
    options = {
        "dataset_name": rows,
        "reward_funcs": f"{__name__}.never",
        "task_id_column": "name",
        "save_strategy": "steps",
        "save_steps": 1,
    }
    whole = run(tmp_path / "whole", tiny_folder, OWN, **options, max_steps=4)
    run(tmp_path / "parts", tiny_folder, OWN, **options, max_steps=2, lr_scheduler_type="constant")
    state = json.loads((tmp_path / "parts" / "checkpoint-2" / "method_state.json").read_text())["replay"]
    assert {task["task_id"] for task in state["tasks"]} <= {f"train-{i}" for i in range(8)} and state["tasks"]
    parts = run(tmp_path / "parts", tiny_folder, OWN, **options, max_steps=4, resume_from_checkpoint="true")
    for name in ("step", "replay/size", "replay/share", "replay/success", "replay/age"):
        assert [row[name] for row in parts] == [row[name] for row in whole]
    states = [
        json.loads((tmp_path / run / "checkpoint-4" / "method_state.json").read_text()) for run in ("whole", "parts")
    ]
    assert states[0] == states[1]
    assert str(rows) not in (tmp_path / "whole" / "README.md").read_text()  # a folder is no Hub dataset


def test_own_environment_on_a_dataset(tmp_path, tiny_folder, rows):
    history = run(
        tmp_path,
        tiny_folder,
        OWN,
        dataset_name=rows,
        environment="tests.tiny.Counter",
        reward_funcs="tests.tiny.answer_length",
        eval_strategy="steps",
        eval_steps=2,
        eval_limit=1,
    )
    assert history[-1]["rewards/answer_length/mean"] and history[-1]["eval_rewards/answer_length/mean"]
    assert "tools/call_frequency" in history[-1]


def test_adapter(tmp_path, tiny_folder, rows):
    options = {"dataset_name": rows, "reward_funcs": f"{__name__}.never"}
    run(tmp_path, tiny_folder, OWN, **options, use_peft="true", lora_target_modules="all-linear")
    assert (tmp_path / "adapter_model.safetensors").is_file()


# --- the cache


def play(factory, query):
    environment = factory()
    environment.reset(query=query)
    return environment.search_flights("Beijing", "Tokyo", "2026-05-01") + environment.search_pois("Tokyo", "museum")


def test_recorded_calls_are_replayed(tmp_path):
    recording = script_arguments(cache=str(tmp_path / "cache.sqlite"))
    check_travel_arguments(recording)
    task = load_travel_task(recording)
    query = task.tasks(1, "train")["query"][0]
    answers = play(task.environment_factory, query)
    replaying = script_arguments(cache=str(tmp_path / "cache.sqlite"), cache_mode="replay")
    check_travel_arguments(replaying)
    task = load_travel_task(replaying)
    assert task.tasks(1, "train")["query"][0] == query
    assert play(task.environment_factory, query) == answers
    with pytest.raises(Exception, match="cache_miss"):
        task.environment_factory().search_pois("Paris", "museum")


def test_cache_of_another_world_is_refused(tmp_path):
    path = tmp_path / "cache.sqlite"
    with ToolCache(path, TravelWorld(seed=1, cities=CITIES), "record") as cache:
        cache.call("search_pois", {"city": "Paris"})
    check_travel_arguments(script_arguments(cache=str(path), cache_mode="replay", world_seed=1))
    with pytest.raises(ValueError, match="holds no call of this world"):
        check_travel_arguments(script_arguments(cache=str(path), cache_mode="replay"))


def test_file_that_is_no_cache_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("Not a database, but long enough to be taken for one. " * 100)
    with pytest.raises(ValueError, match="notes.txt"):
        check_travel_arguments(script_arguments(cache=str(path)))


# --- arguments


def test_tasks_are_of_the_sandbox_asked_for():
    task = load_travel_task(script_arguments(levels=["hard"], language="zh", world_seed=3, max_results=2))
    train = task.tasks(4, "train", seed=5)
    assert set(train["level"]) == {"hard"} and train["prompt"][0][1]["content"][0] > "\u3000"
    assert task.tasks(4, "train", seed=5)["task_id"][:] == train["task_id"][:]
    assert task.world.version == TravelWorld(seed=3, cities=CITIES).version
    assert len(json.loads(task.environment_factory().search_pois("Paris"))) == 2


def test_own_environment_may_reward_alone():
    arguments = replay.ReplayScriptArguments(dataset_name="some/rows", environment="tests.tiny.Counter")
    replay.check_arguments(arguments, None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_name_or_path": None}, "name the model to train"),
        ({"cities": ["Paris", "Atlantis"]}, "not in the table: Atlantis"),
        ({"cities": ["Beijing", "Shanghai"]}, "tasks need at least 3"),
        ({"levels": "impossible"}, "`levels` must be among"),
        ({"max_results": 0}, "max_results must be at least 1"),
        ({"cache_mode": "live"}, "no effect without a cache"),
        ({"cache_mode": "sometimes"}, "invalid choice: 'sometimes'"),
        ({"cache": "no/such/folder/cache.sqlite"}, "no/such/folder"),
        ({"environment": "tests.tiny.Counter"}, "environment is for a dataset of your own"),
        ({"reward_funcs": "f1_reward"}, "reward_funcs is for a dataset of your own"),
        ({"eval_limit": 0}, "eval_limit must be at least 1"),
        ({"dataset_name": "some/rows"}, "needs reward_funcs, or an environment that rewards"),
        ({"dataset_name": "some/rows", "reward_funcs": "f2_reward"}, "'f2_reward' is neither one of"),
        ({"dataset_name": "some/rows", "environment": "no_module.Env"}, "'no_module.Env' cannot be imported"),
        ({"dataset_name": "some/rows", "reward_funcs": "f1_reward", "cities": "Paris"}, "cities is for the dataset"),
        ({"replay_sampling": "newest"}, "invalid choice: 'newest'"),
        ({"replay_graduate_at": 0}, "replay_graduate_at must be above 0"),
        ({"replay_size": 5}, "--replay_size=5"),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_one_line(tmp_path, capsys, values, said):
    given = {"model_name_or_path": "a-model", "output_dir": tmp_path, **OWN, **values}
    with pytest.raises(SystemExit) as stopped:
        replay.run(command_line(**{name: value for name, value in given.items() if value is not None}))
    assert stopped.value.code == 2
    usage, error = capsys.readouterr().err.strip().splitlines()[-2:]
    assert usage.startswith("usage: trl-multiturn replay")
    assert error.startswith("trl-multiturn replay: error: ") and said in error
    assert not list(tmp_path.iterdir())


def test_help_lists_all_there_is(capsys):
    with pytest.raises(SystemExit) as stopped:
        replay.run(["--help"])
    assert stopped.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for text in (
        "'travel' (generated tasks of the travel sandbox)",
        "--cache_mode {replay,record,live}",
        "--replay_every",
    ):
        assert text in told
