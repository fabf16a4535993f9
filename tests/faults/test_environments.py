"""Environments that raise, hang, leak, say too much or die: training goes on, or stops with a clear error (docs/faults.md)."""

import copy
import gc
import inspect
import math
import resource
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
import torch

from tests.archer.tiny import QUICK
from tests.faults.broken import Broken, InProcess, Leaky, Tool, broken, hang, raise_error, tool
from tests.tiny import QuietCounter, call, dataset, last_log, train
from trl_multiturn import ArCHerTrainer, IGPOTrainer, MultiTurnGRPOTrainer, ReplayArCHerTrainer, ReplayGRPOTrainer
from trl_multiturn.environments.lost import EnvironmentLostError
from trl_multiturn.tools import ToolExecutor


def finite(trainer) -> bool:
    return all(bool(value.isfinite().all()) for value in trainer.model.state_dict().values())


# --- it stops, and says why


@pytest.mark.parametrize("method", ["reset", "get_reward", "turn_rewards"])
def test_an_error_outside_of_a_tool_ends_the_run_with_it(tmp_path, method):
    value = property(raise_error) if method == "turn_rewards" else raise_error
    with pytest.raises(RuntimeError, match="the database is gone"):
        train(tmp_path, broken(**{method: value}))


def test_a_property_with_a_bug_is_not_taken_for_none(tmp_path):
    """`hasattr` is false for it."""
    with pytest.raises(AttributeError, match="misspelt"):
        train(tmp_path, broken(turn_rewards=property(lambda self: self.misspelt)))


def test_a_reset_that_hangs_ends_the_run(tmp_path):
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"Broken\.reset did not return within 0\.3 seconds.*tool_timeout"):
        train(tmp_path, broken(reset=lambda self, **row: time.sleep(3600)), tool_timeout=0.3)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("limited", [True, False])
def test_where_a_reset_runs(tmp_path, limited):
    """On a thread, if it can be given up; on the main thread, if the environment asks for it."""
    threads = []

    def reset(self, **row):
        threads.append(threading.current_thread() is threading.main_thread())
        self.total = 0

    train(tmp_path, broken(reset=reset, thread_safe=limited))
    assert set(threads) == {not limited}


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"reset": lambda self, **row: b"text"}, "reset returned bytes: it must be text"),
        ({"reset": lambda self, **row: 7}, "reset returned int: it must be text"),
        ({"get_reward": lambda self: "good"}, "get_reward returned str: it must be a number or None"),
        ({"turn_rewards": ["good"]}, "turn_rewards must hold numbers, got str"),
    ],
)
def test_a_value_of_the_wrong_type_ends_the_run(tmp_path, methods, message):
    with pytest.raises(TypeError, match=message):
        train(tmp_path, broken(**methods))


@pytest.mark.parametrize("text", ["word " * 2_000_000, "word " * 3_000])
def test_a_reset_that_says_too_much_ends_the_run(tmp_path, text):
    begin = time.monotonic()
    with pytest.raises(
        ValueError, match=r"A prompt has .* with what Broken\.reset has added to it, and the model reads 4,096"
    ):
        train(tmp_path, broken(reset=lambda self, **row: text))
    assert time.monotonic() - begin < 60


# --- it goes on


def test_a_tool_that_raises_is_an_answer_to_the_model(tmp_path):
    def act(amount):
        raise RuntimeError("the database is gone")

    trainer = train(tmp_path, tool(act))
    answers = [m["content"] for row in trainer.rollouts.completions for m in row if m["role"] == "tool"]
    assert set(answers) == {"{'error': 'the database is gone'}"}
    assert last_log(trainer)["tools/failure_frequency"] == 1 and last_log(trainer)["stop/completed"] == 1


def test_a_tool_that_hangs_costs_its_rollout(tmp_path):
    trainer = train(tmp_path, tool(hang), tool_timeout=0.3, max_steps=2)
    log = last_log(trainer)
    assert log["stop/environment_error"] == 1 and log["tools/timeouts"] == 8 and finite(trainer)


def test_what_a_tool_may_return(tmp_path):
    results = [None, 7, b"bytes", ["a", "b"], {"a": 1}, "\ud800"]
    trainer = train(
        tmp_path,
        tool(lambda amount: results[amount]),
        script=lambda text, turn, rng: call(amount=turn) if turn < len(results) else "x",
        max_completion_length=1024,
    )
    told = ["None", "7", "{'error': 'The tool returned bytes, not text.'}", "['a', 'b']", "{'a': 1}", "\ufffd"]
    for row in trainer.rollouts.completions:
        assert [m["content"] for m in row if m["role"] == "tool"] == told
    assert last_log(trainer)["tools/failure_frequency"] == pytest.approx(1 / 6)


def test_a_tool_that_says_too_much(tmp_path):
    """Ten megabytes for each of the eight rollouts: dropped, as TRL does, but not tokenized first."""
    tracemalloc.start()
    begin = time.monotonic()
    trainer = train(tmp_path, tool(lambda amount: "word " * 2_000_000), max_steps=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last_log(trainer)["stop/tool_overflow"] == 1 and last_log(trainer)["completions/max_length"] <= 256
    assert peak < 250e6 and time.monotonic() - begin < 60


def test_a_text_is_cut_only_if_it_cannot_fit(tmp_path):
    """With one token of text for each of its characters, a tool's answer that just fits stays whole."""
    trainer = train(
        tmp_path, tool(lambda amount: "é" * 60), script=lambda text, turn, rng: call(amount=1) if turn == 0 else "x"
    )
    assert last_log(trainer)["stop/completed"] == 1
    assert all("é" * 60 in trainer.processing_class.decode(ids) for ids in trainer.rollouts.completion_ids)


@pytest.mark.parametrize("reward", [math.nan, None, math.inf])
def test_rewards_that_are_none(tmp_path, reward):
    trainer = train(tmp_path, broken(get_reward=lambda self: reward), reward_funcs=None, max_steps=2)
    assert last_log(trainer)["rewards/missing"] == 1 and finite(trainer)


def test_turn_rewards_that_are_not_numbers_to_learn_from(tmp_path):
    trainer = train(tmp_path, broken(turn_rewards=[math.nan, 1.0, -math.inf]), max_steps=2)
    assert finite(trainer) and last_log(trainer)["reward"] == last_log(trainer)["reward"]


def test_a_reset_with_characters_that_are_none(tmp_path):
    """Lone surrogates come from JSON and from file names; no tokenizer takes them."""
    trainer = train(tmp_path, broken(reset=lambda self, **row: "\ud83d\ude00 \ud800"))
    assert "😀 \ufffd" in trainer.rollouts.prompts[0][0]["content"]


# --- it dies


def ask_for_three(text, turn, rng):
    """Half of the rollouts ask for what kills the environment."""
    return call(amount=rng.choice((2, 3))) if turn < 2 else "<answer>1</answer>"


@pytest.mark.parametrize("concurrency", [1, 64])
def test_an_environment_whose_process_is_killed(tmp_path, concurrency):
    InProcess.built = 0
    trainer = train(tmp_path, InProcess, script=ask_for_three, tool_concurrency=concurrency, max_steps=2)
    lost = [reason == "environment_error" for rollouts, *_ in trainer.batches for reason in rollouts.stop_reasons]
    assert 4 <= sum(lost) < 16 and last_log(trainer)["stop/environment_error"] > 0
    assert InProcess.built == 8 + sum(lost)  # a new one for each
    rewards = torch.cat([rollouts.rewards for rollouts, *_ in trainer.batches])
    own = rewards[:, trainer.reward_func_names.index("InProcess")]
    assert own.isnan().tolist() == lost and finite(trainer)


@pytest.mark.parametrize("error", [EnvironmentLostError("gone"), BrokenPipeError(), EOFError()])
def test_an_environment_that_dies_before_its_reward(tmp_path, error):
    """The rollout has no reward from it, and the next batch gets a new environment; other errors end the run."""
    built = []

    class Dying(Broken):
        def __init__(self):
            super().__init__()
            built.append(self)

        def get_reward(self):
            raise error

    trainer = train(tmp_path, Dying)
    assert len(built) == 16 and trainer.rollouts.rewards[:, trainer.reward_func_names.index("Dying")].isnan().all()


def test_an_async_reward_of_an_environment_that_died(tmp_path):
    async def get_reward(self):
        raise BrokenPipeError

    trainer = train(tmp_path, broken(get_reward=get_reward))
    assert last_log(trainer)["rewards/missing"] == 0 and finite(trainer)


# --- it leaks


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_environment_that_leaks_until_no_file_can_be_opened(tmp_path):
    """The model is told, and training goes on; what can no longer be opened then is the run's own files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 12, hard))
    try:
        trainer = train(tmp_path, Leaky, max_steps=2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in Leaky.opened:
            file.close()
        Leaky.opened.clear()
    answers = [m["content"] for row in trainer.rollouts.completions for m in row if m["role"] == "tool"]
    assert set(answers) == {"{'error': \"[Errno 24] Too many open files: '/dev/null'\"}"}
    assert last_log(trainer)["tools/failure_frequency"] == 1 and trainer.state.global_step == 2


def count(folder, trainer_class, steps: int, early: int) -> list[tuple[int, int]]:
    """Open files and threads after `early` steps and at the end."""
    counts = []

    class Counted(trainer_class):
        def training_step(self, *args, **kwargs):
            if self.state.global_step in (early, steps - 1):
                counts.append((open_files(), threading.active_count()))
            return super().training_step(*args, **kwargs)

    options = QUICK if issubclass(trainer_class, ArCHerTrainer) else {}
    data = dataset(16, answers=["Paris"] * 16)
    train(
        folder,
        QuietCounter,
        trainer_class=Counted,
        max_steps=steps,
        data=data,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
        **options,
    )
    return counts


def test_the_trainer_leaks_no_files_or_threads(tmp_path):
    early, late = count(tmp_path, ReplayArCHerTrainer, steps=8, early=2)
    assert early == late


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "trainer_class", [MultiTurnGRPOTrainer, IGPOTrainer, ArCHerTrainer, ReplayGRPOTrainer, ReplayArCHerTrainer]
)
def test_no_trainer_leaks_over_fifty_steps(tmp_path, trainer_class):
    early, late = count(tmp_path, trainer_class, steps=50, early=2)
    assert early == late


def test_the_tool_executor_leaks_no_files_or_threads():
    environments = [Tool() for _ in range(8)]
    for environment in environments:
        environment._act = str
    message = {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"amount": 1}}}],
    }
    before = open_files(), threading.active_count()
    for _ in range(50):
        executor = ToolExecutor(
            completions=[[message] for _ in environments],
            sync_tools=[{"add": environment.add} for environment in environments],
            async_tools=[{} for _ in environments],
            environments=environments,
            concurrency=4,
            timeout=10,
            loop=None,
        )
        assert [tools["add"](amount=1) for tools in executor.sync_proxies()] == ["1"] * 8
    deadline = time.monotonic() + 10
    while threading.active_count() > before[1] and time.monotonic() < deadline:  # the last workers are just ending
        time.sleep(0.01)
    assert (open_files(), threading.active_count()) == before


def test_a_guarded_environment_is_still_its_own(tmp_path):
    """Its methods are bound ones, as TRL 1.14 looks for, and a copy resets itself, not what it was copied from."""
    environment = train(tmp_path, Broken).environments[0]
    twin = copy.deepcopy(environment)
    environment.total = twin.total = 7
    twin.reset()
    assert (environment.total, twin.total, twin.get_reward()) == (7, 0, 0.0)
    assert inspect.ismethod(environment.reset) and inspect.ismethod(environment.get_reward)
