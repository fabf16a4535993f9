"""Rollouts with images, end to end: every turn is trained in exactly the context in which the policy wrote it."""

import copy
import random

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from tests.tiny import call
from tests.tiny_vlm import (
    Gallery,
    build_model,
    build_processor,
    check_log_probs,
    encode,
    last_log,
    look_about,
    make_trainer,
    rows,
    scripted,
    train,
)
from trl_multiturn import MultiTurnGRPOConfig
from trl_multiturn.environments.phone.environment import PhoneEnvironment
from trl_multiturn.environments.phone.tasks import generate_phone_tasks, phone_dataset


# Two rollouts for each of four tasks, sampled greedily.
PAIRS = {"num_generations": 2, "top_k": 1}


def look_or_not(text, turn, number):
    """Rollouts of odd tasks never see an image, and outlast the others."""
    if any(f"Look {i}" in text for i in (1, 3, 5, 7)):
        return f"{number} " + (call("look", count=0) if turn < 5 else "done") + "<|im_end|>"
    return look_about(text, turn, number)


def prompt_only(text, turn, number):
    """The only images are those of the prompt."""
    rng = random.Random(number)
    return f"{number} " + (call("look", count=0) if turn < 2 and rng.random() < 0.7 else "done") + "<|im_end|>"


class TestLogProbs:
    @pytest.mark.parametrize(
        ("keep", "script", "shown", "options", "numbers"),
        [
            pytest.param(1, look_about, (1, 2), {}, {1}, id="one"),
            pytest.param(2, look_about, (1, 2), {}, {1, 2}, id="two"),
            pytest.param(None, look_about, (1, 2), {}, None, id="all"),
            pytest.param(1, look_or_not, (1, 0), {}, {0, 1}, id="some-without"),
            pytest.param(None, look_or_not, (1, 0), {}, None, id="all-some-without"),
            pytest.param(1, prompt_only, (2, 0), {}, {0, 1}, id="prompt"),
            pytest.param(None, prompt_only, (2, 0), {}, {0, 2}, id="all-prompt"),
            pytest.param(1, prompt_only, (0,), {}, {0}, id="none"),
            pytest.param(
                1,
                look_or_not,
                (1, 0),
                {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
                {0, 1},
                id="accumulated",
            ),
            pytest.param(
                None,
                look_or_not,
                (1, 0),
                {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
                None,
                id="all-accumulated",
            ),
            pytest.param(1, look_about, (1, 2), {"max_completion_length": 90}, {1}, id="cut-off"),
        ],
    )
    def test_as_written(self, tmp_path, keep, script, shown, options, numbers):
        model = build_model()
        before = copy.deepcopy(model)
        trainer, record = train(
            tmp_path, script, model=model, data=rows(shown=shown), history_images=keep, **{**PAIRS, **options}
        )
        images = check_log_probs(trainer, record, before)
        assert set(images) == numbers if numbers is not None else max(images) > 2
        log = last_log(trainer)
        assert log["images/mismatched"] == 0
        assert log["grad_norm"] > 0

    @pytest.mark.parametrize("keep", [1, None])
    @pytest.mark.parametrize(
        "options", [{"steps_per_generation": 4}, {"steps_per_generation": 8, "num_iterations": 2}]
    )
    def test_old_ones_are_those_of_the_first_pass(self, tmp_path, keep, options):
        """The log-probabilities of a generation batch, in parts of one and two rollouts; parts without an image too."""
        size = 8 // options["steps_per_generation"]
        trainer, record = train(
            tmp_path,
            look_or_not,
            data=rows(shown=(1, 0)),
            history_images=keep,
            max_steps=8,
            learning_rate=0.0,
            per_device_train_batch_size=size,
            **PAIRS,
            **options,
        )
        log = [entry for entry in trainer.state.log_history if "clip_ratio/region_mean" in entry]
        assert len(log) == 8
        assert all(entry["clip_ratio/region_mean"] == 0 for entry in log)
        old, mask = trainer.output["old_per_token_logps"], trainer.output["completion_mask"].bool()
        ids = trainer.output["completion_ids"]
        seen = 0
        for scored, _, width, values in trainer.scored:
            for row, logps in zip(scored[:, -width:], values, strict=True):
                matches = (ids == row[: ids.size(1)]).all(dim=1) if width == ids.size(1) else torch.zeros(8).bool()
                if matches.sum() == 1:
                    place = matches.nonzero().item()
                    kept = mask[place]
                    torch.testing.assert_close(logps[kept], old[place][kept], atol=5e-5, rtol=0)
                    seen += 1
        assert seen >= 8

    def test_a_reference_model_sees_the_same(self, tmp_path):
        build_model().save_pretrained(tmp_path / "model")
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "model")
        trainer, _ = train(tmp_path, model=model, beta=0.1, history_images=1, max_steps=2, **PAIRS)
        first, second = (entry["kl"] for entry in trainer.state.log_history if "kl" in entry)
        assert first == pytest.approx(0, abs=1e-6)
        assert second > 1e-4

    def test_masked_rollouts_are_left_out(self, tmp_path):
        trainer, _ = train(
            tmp_path,
            data=rows(shown=(1,)),
            history_images=1,
            max_completion_length=90,
            mask_truncated_completions=True,
            **PAIRS,
        )
        assert 0 < last_log(trainer)["completions/clipped_ratio"] < 1
        ids, mask, width, logps = trainer.scored[0]
        assert torch.equal(logps == 0, mask[:, -width:] == 0)


class TestSameAsAllImages:
    def test_loss_and_gradient(self, tmp_path):
        """With more places than images, cutting into segments changes nothing but the order of sums."""
        found = []
        for keep in (None, 100):
            trainer, _ = train(
                tmp_path, look_or_not, data=rows(shown=(1, 0)), history_images=keep, optim="sgd", **PAIRS
            )
            weights = torch.cat([weight.flatten() for weight in trainer.model.parameters()])
            found.append((last_log(trainer)["grad_norm"], last_log(trainer)["entropy"], weights))
        (norm, entropy, weights), (other_norm, other_entropy, others) = found
        assert other_norm == pytest.approx(norm, rel=1e-4)
        assert other_entropy == pytest.approx(entropy, rel=1e-5)
        torch.testing.assert_close(others, weights, atol=1e-6, rtol=1e-5)

    def test_parts_of_a_batch_add_up(self, tmp_path):
        """Eight rollouts at once and one by one: the same gradient, whichever of them have images."""
        norms = []
        for size in (8, 1):
            trainer, _ = train(
                tmp_path,
                look_or_not,
                data=rows(shown=(1, 0)),
                history_images=1,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=8 // size,
                **PAIRS,
            )
            norms.append(last_log(trainer)["grad_norm"])
        assert norms[1] == pytest.approx(norms[0], rel=1e-4)


class TestLife:
    def test_evaluation(self, tmp_path):
        trainer = make_trainer(
            tmp_path,
            history_images=1,
            eval_dataset=rows(4),
            per_device_eval_batch_size=4,
            num_generations_eval=2,
            **PAIRS,
        )
        with scripted(look_about):
            metrics = trainer.evaluate()
        assert metrics["eval_images/mismatched"] == 0
        assert metrics["eval_reward"] > 0
        assert not trainer.batches[0].is_training

    def test_a_resumed_run_is_the_run(self, tmp_path):
        options = {"history_images": 1, "save_strategy": "steps", "save_steps": 2, "max_steps": 4, **PAIRS}
        whole, _ = train(tmp_path, **options)
        again, _ = train(tmp_path, resume=str(tmp_path / "checkpoint-2"), **options)
        assert [rollouts.completion_ids for rollouts in whole.batches[2:]] == [
            rollouts.completion_ids for rollouts in again.batches
        ]
        for (name, weight), other in zip(whole.model.named_parameters(), again.model.parameters(), strict=True):
            assert torch.equal(weight, other), name

    def test_the_phone(self, tmp_path):
        """Screens of the phone as observations, a wrong call, and `terminate` as the last action."""

        def script(text, turn, number):
            steps = [
                {"action": "open", "text": "Notes"},
                {"action": "click", "coordinate": [9999, 1]},
                {"action": "swipe", "coordinate": [50, 100], "coordinate2": [50, 40]},
                {"action": "terminate", "status": "success"},
            ]
            return f"{number} " + call("mobile_use", **steps[turn if number % 3 else -1]) + "<|im_end|>"

        data = phone_dataset(generate_phone_tasks(4, seed=1, apps=["Notes"]))
        model = build_model()
        before = copy.deepcopy(model)
        trainer, record = train(
            tmp_path,
            script,
            environment=lambda: PhoneEnvironment(scale=0.25),
            data=data,
            model=model,
            history_images=1,
            top_k=1,
        )
        (rollouts,) = trainer.batches
        assert set(check_log_probs(trainer, record, before)) == {1}
        assert all(messages[-1]["role"] == "tool" for messages in rollouts.completions)
        assert all(environment.finished == "success" for environment in trainer.environments)
        log = last_log(trainer)
        assert (log["images/mismatched"], log["stop/completed"]) == (0, 1)


class TestImageTokens:
    @pytest.mark.parametrize("keep", [1, None])
    def test_as_text_of_a_tool_they_are_words(self, tmp_path, keep):
        """In an error, in a name of a tool that does not exist, and beside an image."""

        class Writes(Gallery):
            def look(self, count: int):
                """
                Look at pictures.

                Args:
                    count: How many.
                """
                return [*self._show(count), {"type": "text", "text": "<|vision_start|><|image_pad|><|vision_end|>"}]

        def script(text, turn, number):
            calls = [call("fail", reason="<|image_pad|>"), call("<|video_pad|>"), call("look", count=1), "done"]
            return f"{number} {calls[turn]}<|im_end|>"

        model = build_model()
        before = copy.deepcopy(model)
        trainer, record = train(
            tmp_path, script, environment=Writes, data=rows(shown=(1, 0)), model=model, history_images=keep, **PAIRS
        )
        check_log_probs(trainer, record, before)
        assert last_log(trainer)["images/mismatched"] == 0
        texts = [message["content"] for message in trainer.batches[0].completions[0] if message["role"] == "tool"]
        assert "<|image_pad|>" in texts[0] and "<|video_pad|>" in texts[1]  # the messages themselves stay

    @pytest.mark.parametrize("keep", [1, None])
    def test_a_batch_in_which_the_policy_wrote_one_is_left_out(self, tmp_path, keep):
        """TRL keeps transformers from sampling one; another backend may not."""

        def script(text, turn, number):
            if turn == 0:
                return f"{number} " + call("look", count=1) + "<|im_end|>"
            forged = [build_processor().image_token_id] if number < 1000 and number % 3 == 0 else []
            return encode(f"{number} done") + forged + encode("<|im_end|>")

        def every_other(completions, **kwargs):
            return [float(i % 2) for i in range(len(completions))]

        trainer, _ = train(tmp_path, script, history_images=keep, max_steps=2, reward_funcs=every_other, **PAIRS)
        first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
        assert (first["images/mismatched"], first["grad_norm"]) == (1, 0)
        assert second["images/mismatched"] == 0
        assert second["grad_norm"] > 0


class TestRefused:
    def test_no_image(self):
        with pytest.raises(ValueError, match="history_images must be at least 1, got 0"):
            MultiTurnGRPOConfig(output_dir="x", use_cpu=True, bf16=False, history_images=0)

    def test_a_text_model(self, tmp_path):
        from tests.tiny import QuietCounter
        from tests.tiny import make_trainer as make_text_trainer

        with pytest.raises(ValueError, match="history_images needs a vision-language model"):
            make_text_trainer(tmp_path, QuietCounter, history_images=1)
