"""IGPO through `trainer.train()`: gains, outcomes, weights, and what it refuses."""

import math
from functools import partial

import pytest
import torch
from datasets import IterableDataset
from peft import LoraConfig

from tests.tiny import (
    Counter,
    QuietCounter,
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
from trl_multiturn import IGPOConfig, IGPOTrainer
from trl_multiturn.advantages import igpo_turn_advantages


ANSWERS = [["Paris", "the city of Paris"], ["Rome"], ["42"], ["Astana", "Nur-Sultan"]] * 2
run = partial(train, trainer_class=IGPOTrainer)


def questions(rows=8, **columns):
    return dataset(rows, **{"answers": ANSWERS[:rows], **columns})


def constant(completions, **kwargs):
    return [1.0] * len(completions)


def ragged_script(text, turn, rng):
    if turn < 4 and rng.random() < 0.7:
        return call(amount=rng.randint(1, 9))
    return f"<answer>{rng.randint(0, 3)}</answer>"


def belief(trainer, context, answer):
    """Mean log-probability of the answer, one plain forward pass, written down again from the definition."""
    prefix, suffix = trainer.args.belief_prefix, trainer.args.belief_suffix
    encoding = trainer.processing_class(
        prefix + answer + suffix, add_special_tokens=False, return_offsets_mapping=True
    )
    spans = encoding["offset_mapping"]
    picked = [i for i, (s, e) in enumerate(spans) if e > len(prefix) and s < len(prefix) + len(answer)]
    ids = torch.tensor([context + encoding["input_ids"]])
    with torch.no_grad():
        log_probs = (trainer.model(input_ids=ids).logits[0] / trainer.temperature).log_softmax(-1)
    return sum(log_probs[len(context) + i - 1, ids[0, len(context) + i]].item() for i in picked) / len(picked)


class TestGains:
    @pytest.mark.parametrize("gain_type", ["log_prob_diff", "prob_diff"])
    @pytest.mark.parametrize("method", ["single_pass", "per_turn"])
    def test_by_hand(self, tmp_path, gain_type, method):
        trainer = run(
            tmp_path,
            QuietCounter,
            ragged_script,
            data=questions(),
            info_gain_type=gain_type,
            belief_method=method,
            learning_rate=0.0,
            temperature=0.8,
        )
        rollouts, rewards, advantages = trainer.batches[0]
        assert len({len(turns) for turns in rollouts.turns}) > 2
        level = math.exp if gain_type == "prob_diff" else float
        for row, turns in enumerate(rollouts.turns):
            context = rollouts.prompt_ids[row] + rollouts.completion_ids[row]
            start = len(rollouts.prompt_ids[row])
            answer = rollouts.rows[row]["answers"][0]
            levels = [level(belief(trainer, context[: start + turn.start], answer)) for turn in turns]
            for k in range(len(turns) - 1):
                assert rewards[row, k].item() == pytest.approx(levels[k + 1] - levels[k], abs=2e-5)
            assert rewards[row, len(turns) - 1] == rollouts.outcomes[row]
        expected = igpo_turn_advantages(rewards.double(), rollouts.turn_mask, torch.arange(8) // 4)
        torch.testing.assert_close(advantages, expected.float())
        tokens = trainer.output["advantages"]
        for row, turns in enumerate(rollouts.turns):
            for k, turn in enumerate(turns):
                assert torch.all(tokens[row, turn.start : turn.end] == advantages[row, k])
                assert torch.all(tokens[row, turn.end : turn.context_end] == 0)

    def test_the_last_tool_turn_of_a_cut_rollout_is_scored(self, tmp_path):
        """The budget ends right after the tool's result: the call that brought it still gets its gain."""
        tokenizer, lengths = build_tokenizer(), {}

        def script(text, turn, rng):
            lengths[turn] = len(tokenizer(text)["input_ids"])
            return call(amount=1) if turn == 0 else "<answer>1</answer>"

        run(tmp_path, QuietCounter, script, data=questions())
        trainer = run(tmp_path, QuietCounter, script, data=questions(), max_completion_length=lengths[1] - lengths[0])
        rollouts, rewards, _ = trainer.batches[0]
        assert [message["role"] for message in rollouts.completions[0]] == ["assistant", "tool"]
        assert rewards.shape == (8, 2)
        assert rewards[:, 0].isfinite().all() and (rewards[:, 0] != 0).all()
        assert torch.equal(rewards[:, 1], rollouts.outcomes)

    def test_turn_limit(self, tmp_path):
        trainer = run(
            tmp_path, QuietCounter, lambda *_: call(amount=1), data=questions(), max_tool_calling_iterations=2
        )
        rollouts, rewards, _ = trainer.batches[0]
        assert rewards.shape == (8, 3)
        assert {reason.value for reason in rollouts.stop_reasons} == {"max_turns"}
        assert rewards.isfinite().all()

    def test_single_turns_are_grpo(self, tmp_path):
        trainer = run(tmp_path, QuietCounter, lambda t, k, rng: f"<answer>{rng.random()}</answer>", data=questions())
        rollouts, rewards, advantages = trainer.batches[0]
        assert rewards.shape == (8, 1)
        grouped = rollouts.outcomes.view(2, 4)
        z = (grouped - grouped.mean(1, keepdim=True)) / (grouped.var(1, correction=0, keepdim=True) + 1e-8).sqrt()
        torch.testing.assert_close(advantages.view(2, 4), z, atol=1e-4, rtol=1e-4)

    def test_aliases(self, tmp_path):
        scores = {}
        for rule in ("first", "max", "mean"):
            trainer = make_trainer(
                tmp_path,
                QuietCounter,
                ragged_script,
                IGPOTrainer,
                dataset(8, answers=[ANSWERS[0]] * 8),
                belief_aliases=rule,
                learning_rate=0.0,
            )
            trainer.train()
            rollouts = trainer.rollouts
            scores[rule] = trainer.score_turns(rollouts)
        context = rollouts.prompt_ids[0]
        by_alias = [belief(trainer, context, alias) for alias in ANSWERS[0]]
        assert scores["first"][0, 0].item() == pytest.approx(by_alias[0], abs=1e-5)
        assert scores["max"][0, 0].item() == pytest.approx(max(by_alias), abs=1e-5)
        assert scores["mean"][0, 0].item() == pytest.approx(sum(by_alias) / 2, abs=1e-5)

    def test_unmeasurable_gains_are_dropped_counted_and_do_no_harm(self, tmp_path, monkeypatch):
        def broken(self, rollouts):
            beliefs = torch.zeros(rollouts.turn_mask.shape, dtype=torch.float64)
            beliefs[:, 1] = math.nan
            return beliefs

        monkeypatch.setattr(IGPOTrainer, "score_turns", broken)

        def script(text, turn, rng):
            return call(amount=1) if turn < 3 else f"<answer>{rng.random()}</answer>"

        trainer = run(tmp_path, QuietCounter, script, data=questions())
        log = last_log(trainer)
        assert log["igpo/dropped_gains"] == 16  # into turn 2, and out of it
        assert torch.isfinite(trainer.output["advantages"]).all()
        assert math.isfinite(log["loss"])

    def test_environment_turn_rewards_are_part_of_the_outcome(self, tmp_path):
        script = lambda text, turn, rng: call(amount=3) if turn == 0 else "<answer>1</answer>"  # noqa: E731
        trainer = run(tmp_path, Counter, script, data=questions(), reward_funcs=constant)
        _, rewards, _ = trainer.batches[0]
        assert torch.all(rewards[:, -1] == 4.0)


class TestWeights:
    def test_no_gain_weight_scores_nothing_and_is_the_z_score(self, tmp_path, monkeypatch):
        monkeypatch.setattr(IGPOTrainer, "score_turns", lambda *_: pytest.fail("scored for nothing"))
        trainer = run(tmp_path, QuietCounter, ragged_script, data=questions(), gain_weight=0.0)
        rollouts, _, advantages = trainer.batches[0]
        grouped = rollouts.outcomes.double().view(2, 4)
        z = (grouped - grouped.mean(1, keepdim=True)) / (
            (grouped.var(1, correction=0, keepdim=True) + 1e-8).sqrt() + 1e-6
        )
        expected = (z.view(8, 1) * rollouts.turn_mask).float()
        torch.testing.assert_close(advantages, expected)
        assert "igpo/gain_mean" not in last_log(trainer)

    def test_curriculum(self, tmp_path):
        seen = []

        class Watched(IGPOTrainer):
            def _weights(self):
                seen.append(super()._weights())
                return seen[-1]

        run(
            tmp_path,
            QuietCounter,
            trainer_class=Watched,
            data=questions(),
            max_steps=4,
            gain_weight=1.0,
            final_gain_weight=0.5,
            outcome_weight=0.5,
            final_outcome_weight=1.0,
        )
        assert seen == [(1.0, 0.5), (0.875, 0.625), (0.75, 0.75), (0.625, 0.875)]

    def test_signal_where_all_outcomes_are_equal(self, tmp_path):
        trainer = run(tmp_path, QuietCounter, ragged_script, data=questions(), reward_funcs=constant)
        log = last_log(trainer)
        assert log["igpo/zero_advantage_groups_outcome_only"] == log["frac_reward_zero_std"] == 1.0
        assert log["igpo/zero_advantage_groups"] == log["turn_advantage/zero_groups"] == 0.0
        assert log["grad_norm"] > 0

    def test_return_baseline(self, tmp_path):
        trainer = run(tmp_path, QuietCounter, ragged_script, data=questions(), baseline="return", gamma=0.9)
        rollouts, rewards, advantages = trainer.batches[0]
        expected = igpo_turn_advantages(
            rewards.double(), rollouts.turn_mask, torch.arange(8) // 4, gamma=0.9, baseline="return"
        )
        torch.testing.assert_close(advantages, expected.float())
        assert last_log(trainer)["igpo/baseline_bias"] >= 0


class TestFormatPenalty:
    def test_replaces_the_outcome_of_malformed_rollouts(self, tmp_path):
        replies = [
            "<answer>1</answer>",
            "no tags",
            "<answer>1</answer><answer>2</answer>",
            "<think>x<answer>1</answer>",
        ]

        def script(text, turn, rng):
            script.count += 1
            return replies[script.count % 4]

        script.count = -1
        trainer = run(tmp_path, QuietCounter, script, data=questions(), reward_funcs=constant, format_penalty=-2.0)
        assert trainer.batches[0][1].flatten().tolist() == [1.0, -2.0, -2.0, -2.0] * 2

    def test_a_rollout_that_did_not_complete_is_malformed(self, tmp_path):
        trainer = run(
            tmp_path,
            QuietCounter,
            lambda *_: "<answer>1</answer>" + call(amount=1),
            data=questions(),
            max_tool_calling_iterations=1,
            format_penalty=-1.0,
        )
        assert torch.all(trainer.batches[0][1][:, -1] == -1.0)


class TestModels:
    def test_peft_trains_and_saves_the_adapter_alone(self, tmp_path):
        trainer = run(
            tmp_path,
            QuietCounter,
            ragged_script,
            data=questions(),
            peft_config=LoraConfig(target_modules=["q_proj", "v_proj"], r=4),
            max_steps=2,
            save_strategy="steps",
            save_steps=2,
        )
        moved = [p.abs().sum() > 0 for name, p in trainer.model.named_parameters() if "lora_B" in name]
        assert all(moved)
        names = {path.name for path in (tmp_path / "checkpoint-2").iterdir()}
        assert "adapter_model.safetensors" in names
        assert "model.safetensors" not in names

    def test_reference_belief_of_an_adapter(self, tmp_path):
        """The reference is the model without the adapter: its belief does not move while the policy learns."""
        options = {"data": questions(), "peft_config": LoraConfig(target_modules=["q_proj", "v_proj"], r=4)}
        trainer = run(
            tmp_path, QuietCounter, ragged_script, belief_model="reference", max_steps=5, learning_rate=0.1, **options
        )
        rollouts = trainer.rollouts
        reference = trainer.score_turns(rollouts)
        trainer.args.belief_model = "policy"
        policy = trainer.score_turns(rollouts)
        base = build_model(build_tokenizer())
        trainer.model = base  # nothing but the untrained model
        untrained = trainer.score_turns(rollouts)
        torch.testing.assert_close(reference, untrained, atol=1e-5, rtol=0, equal_nan=True)
        assert (policy - reference).abs().nan_to_num().max() > 1e-3

    def test_reference_belief_without_a_reference(self, tmp_path):
        with pytest.raises(ValueError, match="needs a reference model: set beta above 0"):
            run(tmp_path, QuietCounter, data=questions(), belief_model="reference")

    def test_reference_belief_of_a_full_model(self, tmp_path):
        build_model(build_tokenizer()).save_pretrained(tmp_path / "model")
        build_tokenizer().save_pretrained(tmp_path / "model")
        model = type(build_model()).from_pretrained(tmp_path / "model")
        trainer = run(
            tmp_path,
            QuietCounter,
            ragged_script,
            data=questions(),
            model=model,
            belief_model="reference",
            beta=0.01,
            max_steps=3,
            learning_rate=0.05,
        )
        rollouts = trainer.rollouts
        row = rollouts.prompt_ids[0]
        reference = trainer.score_turns(rollouts)[0, 0].item()
        answer = rollouts.rows[0]["answers"][0]
        assert belief(trainer, row, answer) != pytest.approx(reference, abs=1e-3)
        trainer.model = build_model(build_tokenizer())
        assert belief(trainer, row, answer) == pytest.approx(reference, abs=1e-5)

    @pytest.mark.parametrize(
        "options",
        [
            {"num_iterations": 2},
            {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
            {"steps_per_generation": 4, "per_device_train_batch_size": 4},
            {"gradient_checkpointing": True},
            {"loss_type": "dr_grpo", "mask_truncated_completions": True},
            {"importance_sampling_level": "sequence", "loss_type": "cispo"},
            {"scale_rewards": "none", "normalization": "joint"},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_trains(self, tmp_path, options):
        trainer = run(tmp_path, QuietCounter, ragged_script, data=questions(), max_steps=4, **options)
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert len(history) == 4
        assert all(math.isfinite(entry["loss"]) and entry["grad_norm"] > 0 for entry in history)

    def test_vision_language_models_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            IGPOTrainer, "is_vision_language", property(lambda self: True, lambda self, value: None), raising=False
        )
        with pytest.raises(ValueError, match="does not support vision-language models yet"):
            run(tmp_path, QuietCounter, data=questions())


class TestAnswers:
    @pytest.mark.parametrize("column", ["answers", "answer", "solution"])
    def test_the_usual_columns_are_found(self, tmp_path, column):
        run(tmp_path, QuietCounter, data=dataset(8, **{column: ["Paris"] * 8}))

    def test_a_column_of_any_name(self, tmp_path):
        run(tmp_path, QuietCounter, data=dataset(8, gold=["Paris"] * 8), answer_column="gold")

    def test_streams(self, tmp_path):
        rows = list(questions())
        stream = IterableDataset.from_generator(lambda: iter(rows))
        run(tmp_path, QuietCounter, data=stream)

    @pytest.mark.parametrize(
        ("data", "options", "message"),
        [
            (dataset(8), {}, "none of the columns.*it has.*answer_column"),
            (questions(), {"answer_column": "gold"}, "no answer column 'gold'"),
            (dataset(8, answers=["a"] * 7 + [" "]), {}, r"train_dataset\[7\] has no usable answer"),
            (dataset(8, answers=[["a"]] * 7 + [[]]), {}, r"train_dataset\[7\] has no usable answer"),
        ],
    )
    def test_missing_answers(self, tmp_path, data, options, message):
        with pytest.raises(ValueError, match=message):
            run(tmp_path, QuietCounter, data=data, **options)

    def test_evaluation_set_without_answers(self, tmp_path):
        with pytest.raises(ValueError, match="hard has no answer column"):
            make_trainer(
                tmp_path, QuietCounter, trainer_class=IGPOTrainer, data=questions(), eval_dataset={"hard": dataset(4)}
            )

    def test_no_dataset(self, tmp_path):
        with pytest.raises(ValueError, match="IGPO needs a train_dataset"):
            IGPOTrainer(
                build_model(), answer_length, IGPOConfig(**settings(tmp_path)), environment_factory=QuietCounter
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"info_gain_type": "none"}, "info_gain_type must be one of"),
        ({"normalization": "batch"}, "normalization must be one of"),
        ({"baseline": "group"}, "baseline must be one of"),
        ({"belief_aliases": "all"}, "belief_aliases must be one of"),
        ({"belief_model": "teacher"}, "belief_model must be one of"),
        ({"belief_method": "fast"}, "belief_method must be one of"),
        ({"gain_weight": -1.0}, "gain_weight must be a number of at least 0"),
        ({"final_outcome_weight": math.nan}, "final_outcome_weight must be a number of at least 0"),
        ({"scale_rewards": "batch"}, "not 'batch'"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "has no effect"),
        ({"remove_unused_columns": True}, "set remove_unused_columns=False"),
        ({"importance_sampling_level": "sequence"}, "information gains would make no difference between turns"),
    ],
)
def test_settings_that_cannot_take_effect(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        IGPOConfig(**settings(tmp_path), **options)


def test_evaluation_scores_too(tmp_path):
    trainer = make_trainer(
        tmp_path,
        QuietCounter,
        ragged_script,
        IGPOTrainer,
        questions(),
        eval_dataset=questions(4),
        per_device_eval_batch_size=4,
        num_generations_eval=1,
    )
    metrics = trainer.evaluate()
    assert math.isfinite(metrics["eval_igpo/gain_mean"])
    assert trainer.model.training is False or metrics["eval_igpo/dropped_gains"] == 0


def test_model_card_cites_the_paper(tmp_path):
    trainer = run(tmp_path, QuietCounter, data=questions())
    trainer.create_model_card(model_name="searcher")
    card = (tmp_path / "README.md").read_text()
    assert "Information Gain-based Policy Optimization" in card
    assert "arXiv:2510.14967" in card
    assert "igpo" in card and "trl_multiturn" in card


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path):
    def go(resume=None, **options):
        trainer = IGPOTrainer(
            build_model(),
            answer_length,
            IGPOConfig(
                **settings(
                    tmp_path, max_steps=6, save_strategy="steps", save_steps=3, max_completion_length=12, **options
                ),
                final_gain_weight=0.5,
            ),
            questions(),
            processing_class=build_tokenizer(),
            environment_factory=QuietCounter,
        )
        trainer.train(resume_from_checkpoint=resume)
        return [(e["step"], e["loss"], e["grad_norm"]) for e in trainer.state.log_history if "loss" in e]

    whole = go()
    assert len(whole) == 6
    assert go(resume=str(tmp_path / "checkpoint-3")) == whole
