"""Failure replay through `trainer.train()`: what is stored, what comes back and when, over GRPO, IGPO and ArCHer."""

import datetime
import json
from dataclasses import dataclass

import pytest
import torch
from datasets import Dataset, IterableDataset
from trl import GRPOConfig, GRPOTrainer

from tests.archer.tiny import QUICK
from tests.tiny import (
    Counter,
    QuietCounter,
    Scripted,
    add_some,
    build_model,
    build_tokenizer,
    call,
    dataset,
    make_trainer,
    settings,
    train,
)
from trl_multiturn import (
    ArCHerConfig,
    ArCHerTrainer,
    MultiTurnGRPOConfig,
    MultiTurnGRPOTrainer,
    ReplayArCHerConfig,
    ReplayArCHerTrainer,
    ReplayArguments,
    ReplayGRPOConfig,
    ReplayGRPOTrainer,
    ReplayIGPOConfig,
    ReplayIGPOTrainer,
    ReplayMixin,
)
from trl_multiturn.replay.rows import decode_row


def answer(text, turn, rng):
    return f"<answer>{rng.randint(0, 9)}</answer>"


def solves_multiples_of(divisor):
    def solved(number, **kwargs):
        return [float(n % divisor == 0) for n in number]

    return solved


def batches(trainer) -> list[list[int]]:
    """The numbers of the tasks of each generation batch, one for each group."""
    size = trainer.num_generations
    for rollouts, _, _ in trainer.batches:
        numbers = [row["number"] for row in rollouts.rows]
        assert all(len(set(numbers[i : i + size])) == 1 for i in range(0, len(numbers), size))
    return [[row["number"] for row in rollouts.rows[::size]] for rollouts, _, _ in trainer.batches]


def logged(trainer, name: str) -> list[float]:
    return [float(entry[name]) for entry in trainer.state.log_history if name in entry]


def replay(folder, **options):
    """Batches of 4 tasks, 4 rollouts of each."""
    defaults = {"rows": 24, "script": answer, "per_device_train_batch_size": 16, "max_steps": 6, "replay_every": 2}
    return train(folder, trainer_class=ReplayGRPOTrainer, **{**defaults, **options})


class TestReplay:
    def test_failed_tasks_come_back_in_the_last_places_of_every_second_batch(self, tmp_path):
        trainer = replay(tmp_path, reward_funcs=solves_multiples_of(2), replay_ratio=0.5, max_steps=4)
        plain = train(
            tmp_path, rows=24, script=answer, per_device_train_batch_size=16, max_steps=4, reward_funcs=answer_zero
        )
        found, drawn = batches(trainer), batches(plain)
        assert found[0] == drawn[0] and found[2] == drawn[2]
        failed = {n for n in found[0] if n % 2}
        assert failed and found[1][:2] == drawn[1][:2]
        replayed = [n for n, fresh in zip(found[1], drawn[1], strict=True) if n != fresh]
        assert replayed and set(replayed) <= failed
        assert found[1][4 - len(replayed) :] == replayed  # the last places
        assert logged(trainer, "replay/share") == [0.0, len(replayed) / 4, 0.0, 0.5]

    def test_a_replayed_row_is_the_row(self, tmp_path):
        data = dataset(24, extra=[{"a": [i, None], "b": "ä"} for i in range(24)])
        trainer = replay(tmp_path, data=data, reward_funcs=answer_zero, replay_every=1, replay_ratio=1.0)
        for rollouts, _, _ in trainer.batches:
            for row in rollouts.rows:
                assert row == data[row["number"]]

    @pytest.mark.parametrize("sampling", ["least_recent", "uniform", "failure_count"])
    def test_never_the_same_task_twice_in_a_batch(self, tmp_path, sampling):
        trainer = replay(
            tmp_path,
            rows=8,  # every other batch, a failed task is among the fresh ones
            max_steps=12,
            reward_funcs=answer_zero,
            replay_every=1,
            replay_ratio=0.5,
            replay_sampling=sampling,
            replay_max_replays=100,
        )
        assert all(len(set(batch)) == 4 for batch in batches(trainer))
        assert max(logged(trainer, "replay/share")) == 0.5

    def test_a_task_that_is_solved_graduates(self, tmp_path):
        solved = []

        def reward(number, trainer_state, **kwargs):
            solved.append(trainer_state.global_step >= 2)
            return [float(solved[-1])] * len(number)

        trainer = replay(tmp_path, reward_funcs=reward, replay_every=1, replay_ratio=1.0, max_steps=4)
        assert logged(trainer, "replay/size") == [4.0, 4.0, 0.0, 0.0]
        assert logged(trainer, "replay/graduated") == [0.0, 0.0, 4.0, 4.0]
        assert logged(trainer, "replay/success") == [0.0, 1.0]
        assert logged(trainer, "replay/age") == [0.0, 1.0, 0.0, 0.0]
        assert batches(trainer)[0] == batches(trainer)[1] == batches(trainer)[2]

    def test_a_task_that_stays_unsolved_retires_and_never_comes_back(self, tmp_path):
        trainer = replay(
            tmp_path,
            rows=4,
            reward_funcs=answer_zero,
            replay_every=1,
            replay_ratio=1.0,
            replay_max_replays=1,
            replay_capacity=2,
        )
        # All four are always among the fresh ones, so that nothing can be replayed; two have no room.
        assert logged(trainer, "replay/share") == [0.0] * 6
        assert logged(trainer, "replay/size") == [2.0] * 6
        assert logged(trainer, "replay/evicted")[0] == 2.0
        trainer = replay(
            tmp_path,
            rows=400,
            max_steps=3,
            reward_funcs=answer_zero,
            replay_every=1,
            replay_ratio=1.0,
            replay_max_replays=1,
        )
        first, second, third = batches(trainer)
        assert set(first) == set(second) and not set(first) & set(third)
        assert logged(trainer, "replay/retired") == [0.0, 4.0, 4.0]

    def test_why_and_where_are_kept(self, tmp_path):
        def script(text, turn, rng):
            return call(amount=1) if turn == 0 else call(wrong=1) if turn == 1 else "<answer>1</answer>"

        trainer = replay(
            tmp_path,
            environment=QuietCounter,
            script=script,
            reward_funcs=answer_zero,
            max_steps=1,
            max_completion_length=512,
        )
        assert {(task.stop_reason, task.first_bad_turn) for task in trainer.failures.tasks} == {("completed", 1)}

        def endless(text, turn, rng):
            return call(amount=2 - 3 * (turn == 2))

        trainer = replay(
            tmp_path,
            environment=Counter,
            script=endless,
            reward_funcs=answer_zero,
            max_steps=1,
            max_completion_length=512,
            max_tool_calling_iterations=4,
            success_threshold=100.0,
        )
        (why,) = {(task.stop_reason, task.first_bad_turn, task.best_outcome) for task in trainer.failures.tasks}
        assert why == ("max_turns", 2, 2 + 2 - 1 + 2)  # the outcome has the environment's turn rewards in it

    def test_tasks_named_by_a_column(self, tmp_path):
        data = dataset(24, name=[f"task {i}" for i in range(24)])
        trainer = replay(tmp_path, data=data, task_id_column="name", reward_funcs=answer_zero, max_steps=1)
        for task in trainer.failures.tasks:
            assert task.task_id == decode_row(task.row)["name"]

    def test_streamed_plain_prompts(self, tmp_path):
        data = IterableDataset.from_generator(lambda: ({"prompt": f"Task {i}", "number": i} for i in range(24)))
        trainer = train_plain(tmp_path, data)
        assert len(trainer.failures) > 0 and max(logged(trainer, "replay/share")) > 0

    def test_evaluation_leaves_the_buffer_alone(self, tmp_path):
        trainer = replay(tmp_path, reward_funcs=answer_zero, eval_dataset=dataset(8), max_steps=2)
        before = json.dumps(trainer.failures.state())
        metrics = trainer.evaluate()
        assert json.dumps(trainer.failures.state()) == before
        assert not any("replay" in name for name in metrics)

    def test_with_iterations_the_batches_count_and_not_the_steps(self, tmp_path):
        trainer = replay(
            tmp_path,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=1,
            steps_per_generation=2,
            num_iterations=2,
            max_steps=8,
            reward_funcs=answer_zero,
            replay_ratio=1.0,
        )
        assert len(trainer.batches) == 2
        assert set(batches(trainer)[0]) == set(batches(trainer)[1])


def answer_zero(completions, **kwargs):
    return [0.0] * len(completions)


def train_plain(folder, data):
    tokenizer = build_tokenizer()
    trainer = ReplayGRPOTrainer(
        model=build_model(tokenizer),
        reward_funcs=answer_zero,
        args=ReplayGRPOConfig(**settings(folder, max_completion_length=8, replay_every=1)),
        train_dataset=data,
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer


class TestNeutral:
    @pytest.mark.parametrize("environment", [None, QuietCounter])
    def test_a_ratio_of_0_is_grpo_bit_for_bit(self, tmp_path, environment):
        def run(trainer_class, config_class, folder, **options):
            tokenizer = build_tokenizer()
            scripted = type("Run", (Scripted, trainer_class), {"script": staticmethod(add_some)})
            trainer = (scripted if environment else trainer_class)(
                model=build_model(tokenizer),
                reward_funcs=answer_sum,
                args=config_class(
                    **settings(folder, max_steps=4, max_completion_length=256 if environment else 16, **options)
                ),
                train_dataset=dataset(),
                processing_class=tokenizer,
                environment_factory=environment,
            )
            trainer.train()
            keys = ("loss", "grad_norm", "reward")
            return [[e[k] for k in keys] for e in trainer.state.log_history if "loss" in e], trainer.model.state_dict()

        history, weights = run(ReplayGRPOTrainer, ReplayGRPOConfig, tmp_path, replay_ratio=0.0, replay_every=1)
        for other in ((MultiTurnGRPOTrainer, MultiTurnGRPOConfig), (GRPOTrainer, GRPOConfig)):
            expected_history, expected = run(*other, tmp_path)
            assert history == expected_history
            assert all(torch.equal(weights[name], expected[name]) for name in expected)

    def test_a_ratio_of_0_stores_nothing(self, tmp_path):
        trainer = replay(
            tmp_path, reward_funcs=answer_zero, replay_ratio=0.0, max_steps=2, save_strategy="steps", save_steps=2
        )
        assert len(trainer.failures) == 0 and trainer.method_state() == {}
        assert not list(tmp_path.glob("checkpoint-2/method_state*"))

    def test_until_something_failed_it_is_grpo_bit_for_bit(self, tmp_path):
        one = replay(tmp_path, reward_funcs=answer_sum, success_threshold=0.0, replay_every=1)
        other = train(
            tmp_path, rows=24, script=answer, per_device_train_batch_size=16, max_steps=6, reward_funcs=answer_sum
        )
        assert len(one.failures) == 0
        assert batches(one) == batches(other)
        weights = other.model.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in one.model.state_dict().items())


def answer_sum(completions, **kwargs):
    """A reward that differs between rollouts and is never below 0."""
    texts = [c if isinstance(c, str) else str(c[-1]["content"]) for c in completions]
    return [float(sum(map(ord, text)) % 7) for text in texts]


class TestOtherTrainers:
    def test_igpo(self, tmp_path):
        trainer = train(
            tmp_path,
            environment=QuietCounter,
            trainer_class=ReplayIGPOTrainer,
            data=dataset(24, answers=["Paris"] * 24),
            reward_funcs=answer_zero,
            per_device_train_batch_size=16,
            max_completion_length=512,
            max_steps=2,
            replay_every=2,
        )
        assert logged(trainer, "replay/share")[-1] == 0.25
        assert any(name.startswith("igpo/") for name in trainer.state.log_history[1])
        assert isinstance(trainer.args, ReplayIGPOConfig)

    def test_archer_keeps_both_states_in_a_checkpoint(self, tmp_path):
        options = {
            **QUICK,
            "environment": Counter,
            "trainer_class": ReplayArCHerTrainer,
            "reward_funcs": None,
            "success_threshold": 1e9,
            "rows": 24,
            "per_device_train_batch_size": 16,
            "replay_every": 2,
            "save_strategy": "steps",
            "save_steps": 2,
        }
        trainer = train(tmp_path, **{**options, "max_steps": 2})
        assert logged(trainer, "replay/share")[-1] == 0.25 and logged(trainer, "archer/buffer_transitions")[-1] > 0
        assert trainer.args.replay_capacity == ArCHerConfig(output_dir=str(tmp_path), bf16=False).replay_capacity
        resumed = train(tmp_path, resume=True, **{**options, "max_steps": 3})
        assert len(resumed.failures) > 4 and len(resumed.buffer) > len(trainer.buffer)

    def test_offline_archer_has_nothing_to_replay(self, tmp_path):
        with pytest.raises(ValueError, match="rolls nothing out"):
            make_trainer(
                tmp_path,
                trainer_class=ReplayArCHerTrainer,
                reward_funcs=None,
                data=logged_data(),
                **{**QUICK, "algorithm": "offline"},
            )

    def test_a_trainer_of_ones_own(self, tmp_path):
        @dataclass
        class Config(ReplayArguments, MultiTurnGRPOConfig):
            pass

        class Trainer(ReplayMixin, MultiTurnGRPOTrainer):
            _config_class = Config

        trainer = train(tmp_path, trainer_class=Trainer, script=answer, reward_funcs=answer_zero)
        assert len(trainer.failures) == 2

    def test_without_the_arguments(self, tmp_path):
        class Forgetful(ReplayMixin, ArCHerTrainer):
            pass

        with pytest.raises(TypeError, match="_config_class"):
            make_trainer(tmp_path, environment=Counter, trainer_class=Forgetful, reward_funcs=None, **QUICK)


def logged_data() -> Dataset:
    episode = [
        {"role": "user", "content": "Task"},
        {"role": "assistant", "content": "One"},
        {"role": "user", "content": "Go on"},
        {"role": "assistant", "content": "Two"},
    ]
    return Dataset.from_list([{"messages": episode, "turn_rewards": [0.0, 1.0]}] * 40)


class TestConfig:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"replay_every": 0}, "replay_every must be at least 1"),
            ({"replay_capacity": 0}, "replay_capacity must be"),
            ({"replay_max_replays": 0}, "replay_max_replays must be at least 1"),
            ({"replay_ratio": 1.5}, "replay_ratio must be between 0 and 1"),
            ({"replay_graduate_at": 0.0}, "replay_graduate_at must be above 0"),
            ({"replay_admission": "some"}, "replay_admission must be one of"),
            ({"replay_sampling": "some"}, "replay_sampling must be one of"),
        ],
    )
    def test_refused(self, tmp_path, settings, message):
        for config in (ReplayGRPOConfig, ReplayIGPOConfig, ReplayArCHerConfig):
            with pytest.raises(ValueError, match=message):
                config(output_dir=str(tmp_path), bf16=False, **settings)

    def test_a_missing_column_is_found_at_construction(self, tmp_path):
        with pytest.raises(ValueError, match="task_id_column='name'"):
            make_trainer(tmp_path, trainer_class=ReplayGRPOTrainer, task_id_column="name")

    def test_a_row_without_a_name(self, tmp_path):
        data = dataset(8, name=[None] * 8)
        with pytest.raises(ValueError, match="has no 'name'"):
            replay(tmp_path, data=data, task_id_column="name", reward_funcs=answer_zero)

    def test_a_column_that_cannot_be_stored_is_found_before_the_first_step(self, tmp_path):
        data = dataset(8, when=[datetime.datetime(2026, 1, 1)] * 8)
        with pytest.raises(TypeError, match="'when'.*datetime"):
            replay(tmp_path, data=data, reward_funcs=solves_multiples_of(1))


def test_a_checkpoint_without_replay_starts_it_afresh(tmp_path, caplog):
    options = {"script": answer, "reward_funcs": answer_zero, "save_strategy": "steps", "save_steps": 1}
    train(tmp_path, **options, max_steps=1)
    trainer = train(tmp_path, **options, max_steps=2, trainer_class=ReplayGRPOTrainer, resume=True)
    assert len(trainer.failures) == 2
