"""The examples of failure replay and of the travel sandbox. A random model calls no tool, so what they are made of is also used
by a script in its place."""

import json
import runpy
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import yaml

from tests.examples.test_examples import EXAMPLES, run_example
from tests.rewards.judge_server import serve, verdict
from tests.tiny import QuietCounter, build_model, build_tokenizer, call, dataset, train
from tests.travel_tiny import save_travel_model, travel_world
from trl_multiturn import check_environment
from trl_multiturn.environments.travel import ToolCache, ToolError, TransientError, demonstrations
from trl_multiturn.recipes import deeptravel, replay


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = build_tokenizer()
    build_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def travel_folder(tmp_path_factory):
    return save_travel_model(tmp_path_factory.mktemp("travel"))


def load(name):
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / name)))


def test_replay_grpo(monkeypatch, tmp_path, tiny_folder):
    options = {"max_steps": 2, "per_device_train_batch_size": 8, "save_strategy": "steps", "save_steps": 2}
    run_example(monkeypatch, "replay_grpo.py", tmp_path / "out", model=tiny_folder, **options)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    state = json.loads((tmp_path / "out" / "checkpoint-2" / "method_state.json").read_text())["replay"]
    assert len(state["tasks"]) == 3  # of the second batch's two sums, one was a failed one
    assert all(task["task_id"].startswith("sum-") for task in state["tasks"])


def test_sums_of_the_example():
    example = load("replay_grpo.py")
    sums = example.make_sums(50)
    assert len(set(sums["id"])) == 50
    asked, total = sums[0]["prompt"][0]["content"], sums[0]["total"]
    a, b, c = (int(word.strip("?")) for word in asked.split() if word.strip("?").isdigit())
    assert a + b + c == total
    answers = [[{"role": "assistant", "content": text}] for text in (f" {total}\n", f"It is {total}", str(total + 1))]
    assert example.exact_reward(answers, total=[total] * 3) == [1.0, 0.0, 0.0]


def test_replay_own_trainer(monkeypatch, tmp_path, travel_folder):
    run_example(monkeypatch, "replay_own_trainer.py", tmp_path / "out", model=travel_folder, tasks=2)
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_own_trainer_discounts_and_replays(tmp_path):
    example = load("replay_own_trainer.py")
    trainer = train(
        tmp_path,
        QuietCounter,
        trainer_class=example.ReplayDiscountedTrainer,
        discount=0.5,
        max_steps=2,
        replay_every=1,
        success_threshold=100.0,  # every task is failed
    )
    rollouts, _, advantages = trainer.batches[0]
    assert rollouts.max_turns > 2
    for own, outcome, turns in zip(advantages, rollouts.advantages, rollouts.turns, strict=True):
        for turn in range(len(turns)):
            assert own[turn] == pytest.approx(outcome.item() * 0.5 ** (len(turns) - 1 - turn))
    shares = [entry["replay/share"] for entry in trainer.state.log_history if "replay/share" in entry]
    assert shares == [0.0, 0.5]


# --- an API of one's own


class Timetable(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        status = 503 if "city=Busy" in self.path else 404 if "city=Atlantis" in self.path else 200
        content = b'[{"train": "T1"}]'
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def timetable():
    with ThreadingHTTPServer(("127.0.0.1", 0), Timetable) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_travel_live_api(monkeypatch, tmp_path, tiny_folder):
    files = {"cache": tmp_path / "trains.sqlite", "model": tiny_folder}
    for mode in ("record", "replay"):
        run_example(monkeypatch, "travel_live_api.py", tmp_path / mode, mode=mode, **files)
        assert (tmp_path / mode / "model.safetensors").is_file()


def test_api_is_asked_once(tmp_path, timetable):
    example = load("travel_live_api.py")
    url = f"http://127.0.0.1:{timetable.server_port}"
    api = SimpleNamespace(call=partial(example.ask, url), version="trains-1")
    day = {"city": "Paris", "date": "2026-05-01"}
    row = [("trains", day), ("trains", day)]
    with ToolCache(tmp_path / "trains.sqlite", api, "record") as cache:
        assert check_environment(partial(example.Trains, cache), reset_kwargs=day, example_calls=row) == []
        assert timetable.asked == ["/trains?city=Paris&date=2026-05-01"]
        for city, kind in (("Atlantis", ToolError), ("Busy", TransientError)):
            for _ in range(2):
                with pytest.raises(kind, match="refused"):
                    cache.call("trains", {**day, "city": city})
        assert sum("Atlantis" in path for path in timetable.asked) == 1  # an error that was recorded
        assert sum("Busy" in path for path in timetable.asked) == 2

    def script(text, turn, rng):
        return "T1" if turn else call("trains", city="Paris", date=rng.choice(["2026-05-01", "2026-05-02"]))

    asked = len(timetable.asked)
    cache = ToolCache(tmp_path / "trains.sqlite", api)
    data = dataset(4, city=["Paris"] * 4, date=["2026-05-01"] * 4)
    trainer = train(tmp_path / "out", partial(example.Trains, cache), script, reward_funcs=None, data=data)
    assert len(timetable.asked) == asked  # replayed, or a miss
    told = [message["content"] for messages in trainer.rollouts.completions for message in messages]
    assert any("T1" in text for text in told) and any("cache_miss" in text for text in told)
    assert set(trainer.rollouts.rewards.flatten().tolist()) == {0.0, 1.0}


# --- a judge


def test_travel_judge(monkeypatch, tmp_path, travel_folder):
    with serve(verdict(1)) as server:
        judge = {"judge_url": server.url, "judge_model": "judge-1"}
        run_example(monkeypatch, "travel_judge.py", tmp_path / "out", model=travel_folder, tasks=2, **judge)
        assert server.requests == []  # a random model writes no plan
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_judge_of_the_example_rewards_plans():
    example = load("travel_judge.py")
    shown = demonstrations(1, levels=["easy"], world=travel_world(), error_rate=0.0)
    plan, query = [shown["messages"][0][2:]], shown["query"][:]
    with serve(verdict(1), verdict(0)) as server:
        arguments = {"judge_url": server.url, "judge_model": "judge-1"}
        # The second question is about the first call.
        assert example.make_reward(example.Arguments(**arguments))(plan, query=query) == [0.0]
        assert len(server.requests) > 1 and server.requests[0]["model"] == "judge-1"
    with serve(verdict(1), verdict(0)) as server:
        arguments = {"judge_url": server.url, "judge_model": "judge-1", "levels": "plan"}
        assert example.make_reward(example.Arguments(**arguments))(plan, query=query) == [1.0]
        assert len(server.requests) == 1


# --- recipe files


@pytest.mark.parametrize("recipe", [replay, deeptravel], ids=["replay", "deeptravel"])
def test_recipe_file_is_one_that_the_command_takes(recipe):
    path = EXAMPLES / f"{recipe.__name__.rpartition('.')[2]}.yaml"
    parser = recipe.make_parser()
    assert set(yaml.safe_load(path.read_text())) <= {action.dest for action in parser._actions}
    script_args, training_args, _ = parser.parse_args_and_config(
        ["--config", str(path), "--use_cpu=true", "--bf16=false"]
    )
    recipe.check_arguments(script_args, training_args)
    assert training_args.generation_batch_size == 4 * training_args.num_generations
    assert training_args.chat_template_kwargs == {"enable_thinking": False}
