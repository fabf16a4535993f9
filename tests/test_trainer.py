"""The base trainer: turns, turn rewards, stop reasons, hooks, state."""

import json
import math

import pytest
import torch
from transformers import TrainerCallback

from tests.tiny import (
    Counter,
    QuietCounter,
    add_some,
    answer_length,
    build_model,
    build_tokenizer,
    call,
    dataset,
    last_log,
    make_trainer,
    settings,
    train,
)
from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer
from trl_multiturn.rollouts import StopReason, find_turns
from trl_multiturn.state import load_state, save_state


def zero(completions, **kwargs):
    return [0.0] * len(completions)


class TestTurns:
    def test_spans_are_the_assistant_messages(self, tmp_path):
        trainer = train(tmp_path, QuietCounter)
        rollouts = trainer.rollouts
        decode = trainer.processing_class.decode
        assert len({len(turns) for turns in rollouts.turns}) > 1
        for messages, ids, turns in zip(rollouts.completions, rollouts.completion_ids, rollouts.turns, strict=True):
            written = [message for message in messages if message["role"] == "assistant"]
            assert len(written) == len(turns)
            for turn, message in zip(turns, written, strict=True):
                text = decode(ids[turn.start : turn.end])
                assert text.endswith("<|im_end|>")
                assert text.startswith("<tool_call>") == bool(message.get("tool_calls"))
            for turn in turns[:-1]:
                between = decode(ids[turn.end : turn.context_end])
                assert "The counter is" in between
                assert between.endswith("<|im_start|>assistant\n")

    @pytest.mark.parametrize(
        ("mask", "expected"),
        [
            ([1, 1], [(0, 2, 2)]),
            ([1, 0, 0, 1, 1], [(0, 1, 3), (3, 5, 5)]),
            ([1, 0, 0], [(0, 1, 3), (3, 3, 3)]),
            ([0, 1], [(1, 2, 2)]),
            ([0, 0], [(2, 2, 2)]),
        ],
    )
    def test_find_turns(self, mask, expected):
        assert [(turn.start, turn.end, turn.context_end) for turn in find_turns(mask)] == expected


class TestTurnRewards:
    def test_return_to_go_by_hand(self, tmp_path):
        """Rewards of 2 and 3 for the calls, 0 for the answer; the group's other rollouts stop earlier."""

        written = [0] * 4

        def script(text, turn, rng):
            # Of the rollouts that are left at a turn, every group's first one answers.
            written[turn] += 1
            return call(amount=turn + 2) if (written[turn] - 1) % (4 - turn) else "<answer>1</answer>"

        trainer = train(tmp_path, Counter, script, reward_funcs=zero, scale_rewards="none")
        rollouts, rewards, advantages = trainer.batches[0]
        assert rollouts.environment_rewards[:4] == [[0.0], [2.0, 0.0], [2.0, 3.0, 0.0], [2.0, 3.0, 4.0, 0.0]]
        returns = [[0, 0, 0, 0], [2, 0, 0, 0], [5, 3, 0, 0], [9, 7, 4, 0]]
        for row in range(4):
            for turn in range(row + 1):
                others = sum(returns[i][turn] for i in range(4) if i != row) / 3
                assert advantages[row, turn].item() == pytest.approx(returns[row][turn] - others, abs=1e-5)
        # Each token of a turn has the turn's advantage, the environment's tokens have none.
        tokens = trainer.output["advantages"]
        turn = rollouts.turns[3][1]
        assert torch.all(tokens[3, turn.start : turn.end] == advantages[3, 1])
        assert torch.all(tokens[3, turn.end : turn.context_end] == 0)
        assert last_log(trainer)["reward"] == pytest.approx((0 + 2 + 5 + 9) / 4)

    @pytest.mark.parametrize("concurrency", [1, 64])
    def test_several_calls_of_a_turn_are_summed(self, tmp_path, concurrency):
        def script(text, turn, rng):
            return (
                call(amount=1) + call(amount=2) if turn == 0 else call(amount=5) if turn == 1 else "<answer>1</answer>"
            )

        trainer = train(tmp_path, Counter, script, reward_funcs=zero, tool_concurrency=concurrency)
        assert trainer.rollouts.environment_rewards == [[3.0, 5.0, 0.0]] * 8

    def test_a_turn_whose_calls_never_reach_the_environment_is_worth_nothing(self, tmp_path):
        def script(text, turn, rng):
            return [call("subtract", amount=1), call(amount=4), "<answer>1</answer>"][turn]

        trainer = train(tmp_path, Counter, script, reward_funcs=zero)
        assert trainer.rollouts.environment_rewards == [[0.0, 4.0, 0.0]] * 8

    def test_what_comes_after_the_last_call_belongs_to_the_answer(self, tmp_path):
        class Late(Counter):
            def get_reward(self) -> float:
                self.turn_rewards.append(10.0)
                return 0.5

        trainer = train(
            tmp_path, Late, lambda text, turn, rng: call(amount=1) if turn == 0 else "x", reward_funcs=None
        )
        rollouts, rewards, _ = trainer.batches[0]
        assert rollouts.environment_rewards == [[1.0, 10.0]] * 8
        assert rewards.tolist() == [[1.0, 10.5]] * 8

    def test_it_learns_what_each_turn_was_worth(self, tmp_path):
        """Adding 9 pays at once, adding 1 costs: the log-probability of the first must rise against the second."""

        class Pays(Counter):
            def add(self, amount: int) -> str:
                """
                Add to the counter.

                Args:
                    amount: How much to add.
                """
                self.turn_rewards.append(1.0 if amount == 9 else -1.0)
                return "ok"

        def script(text, turn, rng):
            return call(amount=rng.choice([1, 9])) if turn < 2 else "<answer>1</answer>"

        trainer = train(
            tmp_path, Pays, script, reward_funcs=None, max_steps=20, per_device_train_batch_size=16, rows=16
        )
        prompt = trainer.processing_class.apply_chat_template(
            dataset(1)[0]["prompt"], tools=trainer.tools, add_generation_prompt=True, return_dict=False
        )
        head = trainer.processing_class(call(amount=1).split("1}")[0], add_special_tokens=False)["input_ids"]
        one, nine = (trainer.processing_class(d, add_special_tokens=False)["input_ids"][0] for d in ("1", "9"))
        with torch.no_grad():
            logits = trainer.model(input_ids=torch.tensor([prompt + head])).logits[0, -1]
        assert logits[nine] - logits[one] > 1.0

    def test_no_reward_source(self, tmp_path):
        with pytest.raises(ValueError, match="No reward source provided"):
            train(tmp_path, QuietCounter, reward_funcs=None)

    def test_turn_rewards_alone_are_a_reward_source(self, tmp_path):
        trainer = train(tmp_path, Counter, reward_funcs=None)
        log = last_log(trainer)
        assert log["rewards/turn_rewards/mean"] == log["reward"] > 0

    def test_not_a_list(self, tmp_path):
        class Scalar(QuietCounter):
            turn_rewards = 3.0

        with pytest.raises(TypeError, match="Scalar.turn_rewards must be a list of numbers, got float"):
            train(tmp_path, Scalar)

    def test_nan_counts_as_nothing(self, tmp_path):
        class Broken(QuietCounter):
            turn_rewards = [math.nan, 1.0]

        trainer = train(tmp_path, Broken)
        assert all(sum(values) == 1.0 for values in trainer.rollouts.environment_rewards)
        assert torch.isfinite(trainer.output["advantages"]).all()

    def test_discount_without_turn_rewards_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="gamma=0.9 has no effect"):
            MultiTurnGRPOTrainer(
                build_model(),
                answer_length,
                MultiTurnGRPOConfig(**settings(tmp_path), gamma=0.9),
                dataset(),
                processing_class=build_tokenizer(),
                environment_factory=QuietCounter,
            )
        train(tmp_path, Counter, gamma=0.9)

    def test_weights_and_dict_environments(self, tmp_path):
        data = dataset(8, environment=["loud", "quiet"] * 4)
        trainer = train(
            tmp_path,
            {"loud": Counter, "quiet": QuietCounter},
            data=data,
            reward_funcs=[answer_length, zero],
            reward_weights=[0.5, 2.0],
        )
        rollouts = trainer.rollouts
        for row, rewards in zip(rollouts.rows, rollouts.environment_rewards, strict=True):
            assert (sum(rewards) > 0) == (row["environment"] == "loud")
        expected = torch.tensor(answer_length(rollouts.completions)) * 0.5
        assert torch.equal(rollouts.outcomes, expected)


class TestStopReasons:
    def run(self, tmp_path, script, environment=QuietCounter, **options):
        trainer = train(tmp_path, environment, script, **options)
        reasons = {reason.value for reason in trainer.rollouts.stop_reasons}
        assert len(reasons) == 1
        log = last_log(trainer)
        assert log[f"stop/{next(iter(reasons))}"] == 1.0
        assert sum(log[f"stop/{reason.value}"] for reason in StopReason) == 1.0
        return next(iter(reasons))

    def test_completed(self, tmp_path):
        assert self.run(tmp_path, add_some) == "completed"

    def test_max_turns(self, tmp_path):
        script = lambda text, turn, rng: call(amount=1)  # noqa: E731
        assert self.run(tmp_path, script, max_tool_calling_iterations=2) == "max_turns"

    def test_max_tokens(self, tmp_path):
        assert self.run(tmp_path, lambda *_: "so many words " * 50, max_completion_length=32) == "max_tokens"

    def test_max_tokens_right_after_a_result(self, tmp_path):
        """The result fits exactly: the answer's turn is there, without a token."""
        tokenizer = build_tokenizer()
        lengths = {}

        def script(text, turn, rng):
            lengths[turn] = len(tokenizer(text)["input_ids"])
            return call(amount=1) if turn == 0 else "<answer>1</answer>"

        train(tmp_path, QuietCounter, script)
        assert self.run(tmp_path, script, max_completion_length=lengths[1] - lengths[0]) == "max_tokens"

        trainer = train(tmp_path, Counter, script, max_completion_length=lengths[1] - lengths[0])
        turns = trainer.rollouts.turns[0]
        assert turns[1].start == turns[1].end == len(trainer.rollouts.completion_ids[0])
        assert last_log(trainer)["turns/mean"] == 1.0

    def test_parse_error(self, tmp_path):
        assert self.run(tmp_path, lambda *_: '<tool_call>\n{"name": add}\n</tool_call>') == "parse_error"

    def test_reward_functions_get_them(self, tmp_path):
        seen = []

        def reward(completions, stop_reason, num_turns, **kwargs):
            seen.extend(zip(stop_reason, num_turns, strict=True))
            return [0.0] * len(completions)

        trainer = train(tmp_path, QuietCounter, reward_funcs=reward)
        assert seen == [("completed", len(turns)) for turns in trainer.rollouts.turns]

    def test_penalty_is_a_reward(self, tmp_path):
        trainer = train(
            tmp_path,
            QuietCounter,
            lambda text, turn, rng: call(amount=1) if rng.random() < 0.5 else "<answer>1</answer>",
            reward_funcs=[zero],
            reward_weights=[1.0],
            max_tool_calling_iterations=1,
            stop_policies={"max_turns": -0.5},
        )
        at_limit = torch.tensor([reason == "max_turns" for reason in trainer.rollouts.stop_reasons])
        assert 0 < at_limit.sum() < 8
        assert torch.equal(trainer.rollouts.outcomes, torch.where(at_limit, -0.5, 0.0))
        assert last_log(trainer)["rewards/stop_penalty/mean"] == pytest.approx(-0.5 * at_limit.float().mean().item())

    @pytest.mark.parametrize("environment", [QuietCounter, None])
    def test_masked_rollouts_are_out_of_numerator_and_denominator(self, tmp_path, environment):
        trainer = train(
            tmp_path,
            environment,
            lambda text, turn, rng: "word " * 60 if rng.random() < 0.5 else "<answer>1</answer>",
            max_completion_length=40,
            stop_policies='{"max_tokens": "mask"}',
        )
        cut = torch.tensor([reason == "max_tokens" for reason in trainer.rollouts.stop_reasons])
        assert 0 < cut.sum() < 8
        mask = trainer.output["completion_mask"] * trainer.output["tool_mask"]
        assert torch.equal(mask.sum(dim=1) == 0, cut)
        assert trainer.output["num_items_in_batch"] == mask.sum()

    @pytest.mark.parametrize(
        ("policies", "message"),
        [
            ({"late": "mask"}, "unknown stop reason 'late'"),
            ({"max_turns": "drop"}, "must be 'keep', 'mask' or a number"),
            ({"max_turns": True}, "must be 'keep', 'mask' or a number"),
            ("[1]", "stop_policies must be a dictionary"),
        ],
    )
    def test_bad_policies(self, tmp_path, policies, message):
        with pytest.raises(ValueError, match=message):
            MultiTurnGRPOConfig(**settings(tmp_path), stop_policies=policies)


class TestBadRewards:
    def test_missing_and_infinite_rewards_are_counted_and_training_goes_on(self, tmp_path):
        def odd(completions, **kwargs):
            return [None, math.inf, math.nan, 1.0, 2.0, 0.0, 1.0, 0.5]

        trainer = train(tmp_path, QuietCounter, reward_funcs=odd, max_steps=2)
        log = last_log(trainer)
        assert log["rewards/missing"] == 3 / 8
        assert math.isfinite(log["loss"])
        assert torch.isfinite(trainer.output["advantages"]).all()


class TestConstruction:
    def test_config_of_another_trainer(self, tmp_path):
        from trl import GRPOConfig

        with pytest.raises(TypeError, match="needs a MultiTurnGRPOConfig, got a GRPOConfig"):
            MultiTurnGRPOTrainer(build_model(), answer_length, GRPOConfig(**settings(tmp_path)), dataset())

    def test_default_config(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        model, tokenizer = build_model(), build_tokenizer()
        model.config.name_or_path = "org/tiny"
        trainer = MultiTurnGRPOTrainer(model, answer_length, train_dataset=dataset(), processing_class=tokenizer)
        assert type(trainer.args) is MultiTurnGRPOConfig
        assert trainer.args.output_dir == "tiny-Multi-turn-GRPO"

    def test_the_users_arguments_are_left_alone(self, tmp_path):
        args = MultiTurnGRPOConfig(**settings(tmp_path), reward_weights=[2.0], stop_policies={"max_turns": -1})
        functions = [answer_length]
        for _ in range(2):
            MultiTurnGRPOTrainer(
                build_model(),
                functions,
                args,
                dataset(),
                processing_class=build_tokenizer(),
                environment_factory=Counter,
            )
        assert args.reward_weights == [2.0]
        assert functions == [answer_length]

    def test_environment_without_reset(self, tmp_path):
        class NoReset:
            turn_rewards: list = []

        with pytest.raises(ValueError, match="must define a callable `reset`"):
            train(tmp_path, NoReset)

    def test_template_without_tools(self, tmp_path):
        tokenizer = build_tokenizer()
        tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
        with pytest.raises(ValueError, match="does not support tool calling"):
            MultiTurnGRPOTrainer(
                build_model(),
                answer_length,
                MultiTurnGRPOConfig(**settings(tmp_path)),
                dataset(),
                processing_class=tokenizer,
                environment_factory=Counter,
            )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gamma": 1.5}, "gamma must be between 0 and 1"),
            ({"tool_concurrency": 0}, "tool_concurrency must be at least 1"),
            ({"tool_timeout": 0}, "tool_timeout must be positive"),
        ],
    )
    def test_bad_settings(self, tmp_path, options, message):
        with pytest.raises(ValueError, match=message):
            MultiTurnGRPOConfig(**settings(tmp_path), **options)


class TestFloat32OnOldCpus:
    @pytest.fixture
    def old_cpu(self, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)

    @staticmethod
    def options(tmp_path, **overrides):
        options = {**settings(tmp_path), **overrides}
        return {name: value for name, value in options.items() if value is not ...}

    def test_default_is_float32_and_says_so_once(self, tmp_path, old_cpu, monkeypatch):
        from trl_multiturn import config

        said = []
        monkeypatch.setattr(config.logger, "warning_once", said.append)
        assert MultiTurnGRPOConfig(**self.options(tmp_path, bf16=...)).bf16 is False
        assert "Training in float32" in said[0]

    def test_what_the_user_sets_stays(self, tmp_path, old_cpu):
        assert MultiTurnGRPOConfig(**self.options(tmp_path, bf16=True)).bf16 is True
        assert MultiTurnGRPOConfig(**self.options(tmp_path, bf16=False)).bf16 is False

    def test_a_cpu_with_the_instructions_keeps_the_default(self, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
        assert MultiTurnGRPOConfig(**self.options(tmp_path, bf16=...)).bf16 is True


class Memory(MultiTurnGRPOTrainer):
    """A method with a state: counts rollouts, keeps a tensor, and asks for rows in its own order."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen, self.mean = 0, torch.zeros(3)

    def select_rows(self, rows):
        return [{**row, "selected": True} for row in rows]

    def after_rollouts(self, rollouts):
        assert all(row["selected"] for row in rollouts.rows)
        self.seen += len(rollouts)
        self.mean = self.mean + rollouts.outcomes.mean()

    def method_state(self):
        return {"seen": self.seen, "mean": self.mean, "names": ["a", None]}

    def load_method_state(self, state):
        assert state["names"] == ["a", None]
        self.seen, self.mean = state["seen"], state["mean"]


class TestState:
    def test_round_trip(self, tmp_path):
        state = {"a": 1, "b": torch.arange(6).view(2, 3).t(), "c": {"d": [1.5, None]}}
        save_state(tmp_path, state)
        loaded = load_state(tmp_path)
        assert loaded.keys() == state.keys()
        assert torch.equal(loaded["b"], state["b"])
        assert loaded["c"] == state["c"]
        assert load_state(tmp_path / "nothing") is None

    def test_hooks_and_checkpoints(self, tmp_path):
        options = {"save_strategy": "steps", "save_steps": 2, "trainer_class": Memory, "environment": QuietCounter}
        first = train(tmp_path, max_steps=4, **options)
        assert first.seen == 32
        saved = json.loads((tmp_path / "checkpoint-2" / "method_state.json").read_text())
        assert saved == {"seen": 16, "names": ["a", None]}
        resumed = make_trainer(tmp_path, max_steps=4, **options)
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        assert resumed.seen == 32

    def test_evaluation_does_not_learn(self, tmp_path):
        trainer = make_trainer(
            tmp_path, QuietCounter, trainer_class=Memory, eval_dataset=dataset(4), per_device_eval_batch_size=4
        )
        metrics = trainer.evaluate()
        assert trainer.seen == 0
        assert metrics["eval_turns/mean"] >= 1
        assert "eval_stop/completed" in metrics

    def test_nothing_is_written_without_a_state(self, tmp_path):
        train(tmp_path, QuietCounter, save_strategy="steps", save_steps=1)
        assert not (tmp_path / "checkpoint-1" / "method_state.json").exists()


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 4


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (64, {}),
        (64, {"num_iterations": 2}),
        (64, {"gradient_accumulation_steps": 2}),
        (8, {}),  # two epochs behind: TRL's sampler would begin with the first one's order again
        (6, {}),  # in the middle of the second epoch
    ],
)
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, rows, options):
    """Real sampling: the curve must depend on the restored random state, weights and data order alone."""

    def run(resume=None, callbacks=None):
        tokenizer = build_tokenizer()
        trainer = MultiTurnGRPOTrainer(
            model=build_model(tokenizer),
            reward_funcs=answer_length,
            args=MultiTurnGRPOConfig(
                **settings(
                    tmp_path, max_steps=8, save_strategy="steps", save_steps=4, max_completion_length=12, **options
                )
            ),
            train_dataset=dataset(rows),
            processing_class=tokenizer,
            environment_factory=Counter,
            callbacks=callbacks,
        )
        trainer.train(resume_from_checkpoint=resume)
        history = [(e["step"], e["loss"], e["grad_norm"]) for e in trainer.state.log_history if "loss" in e]
        return history, trainer.model.state_dict()

    whole, weights = run()
    run(callbacks=[Stop()])
    resumed, resumed_weights = run(resume=str(tmp_path / "checkpoint-4"))
    assert [step for step, *_ in whole] == list(range(1, 9))
    assert resumed == whole
    assert all(torch.equal(weights[name], resumed_weights[name]) for name in weights)


def test_completions_table_holds_the_credit(tmp_path):
    import pandas as pd

    trainer = train(tmp_path, Counter, log_completions=True, num_completions_to_print=0)
    table = pd.read_parquet(tmp_path / "completions" / "completions_00001.parquet")
    assert list(table["stop_reason"]) == ["completed"] * 8
    for values, turns in zip(table["turn_advantages"], trainer.rollouts.turns, strict=True):
        assert len(values) == len(turns)
