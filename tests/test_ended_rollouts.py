"""Rollouts that their environment ends: nothing is written after that, and what stands for it is not trained."""

import copy
import re

import pytest
import torch

from tests.tiny import call
from tests.tiny_vlm import Gallery, build_model, check_log_probs, last_log, rows, train
from trl_multiturn.environments.lost import EnvironmentLostError
from trl_multiturn.rollouts import StopReason


class Ends(Gallery):
    """Fails for a reason: it is over then, or gone."""

    def __init__(self):
        super().__init__()
        self.terminated = self.truncated = False

    def reset(self, **row):
        self.terminated = self.truncated = False
        return super().reset(**row)

    def fail(self, reason: str):
        """
        Fail.

        Args:
            reason: Why.
        """
        if reason == "lost":
            raise EnvironmentLostError("The gallery is gone.")
        self.terminated, self.truncated = reason == "terminated", reason == "truncated"
        return [*self._show(1), {"type": "text", "text": "over"}]


class Paid(Ends):
    """Also says what each turn was worth."""

    def __init__(self):
        super().__init__()
        self.turn_rewards: list[float] = []

    def reset(self, **row):
        self.turn_rewards = []
        return super().reset(**row)

    def fail(self, reason: str):
        """
        Fail.

        Args:
            reason: Why.
        """
        self.turn_rewards.append(5.0)
        return super().fail(reason)

    def look(self, count: int):
        """
        Look at pictures.

        Args:
            count: How many.
        """
        self.turn_rewards.append(1.0)
        return super().look(count)


def follow(plans):
    """A script: each rollout of a batch has a plan, with a word for each of its turns. It is written with it, and known by it."""

    def script(text, turn, number):
        numbers = [int(found) for found in re.findall(r"assistant\n(\d+) ", text)]
        plan = plans[(numbers[0] if turn else number) % 1000 % len(plans)]
        word = plan[turn]
        body = {"look": call("look", count=1), "nothing": call("look", count=0)}.get(word)
        return f"{number} {body or (word if word == 'done' else call('fail', reason=word))}<|im_end|>"

    return script


def every_other(completions, **kwargs):
    return [float(i // 2 % 2) for i in range(len(completions))]


MIXED = [
    ["terminated"],
    ["truncated"],
    ["lost"],
    ["look", "terminated"],
    ["look", "nothing", "look", "done"],
    ["done"],
    ["nothing", "truncated"],
    ["look", "look", "lost"],
]
PAIRS = {"num_generations": 2, "top_k": 1}


class TestOver:
    @pytest.mark.parametrize("keep", [1, None])
    @pytest.mark.parametrize("concurrency", [1, 64])
    def test_a_mixed_batch(self, tmp_path, keep, concurrency):
        model = build_model()
        before = copy.deepcopy(model)
        trainer, record = train(
            tmp_path,
            follow(MIXED),
            environment=Ends,
            data=rows(shown=(1, 0)),
            model=model,
            history_images=keep,
            tool_concurrency=concurrency,
            **PAIRS,
        )
        (rollouts,) = trainer.batches
        assert [len(turns) for turns in rollouts.turns] == [len(plan) for plan in MIXED]
        assert rollouts.stop_reasons == [
            StopReason.COMPLETED,
            StopReason.MAX_TURNS,
            StopReason.ENVIRONMENT_ERROR,
            StopReason.COMPLETED,
            StopReason.COMPLETED,
            StopReason.COMPLETED,
            StopReason.MAX_TURNS,
            StopReason.ENVIRONMENT_ERROR,
        ]
        # Asked for messages: everybody, those who looked, those not over after that, and the one that is left.
        assert [len(batch) for batch in record] == [8, 4, 2, 1]
        images = check_log_probs(trainer, record, before)
        assert max(images) == (1 if keep else 3)
        log = last_log(trainer)
        assert log["images/mismatched"] == 0
        assert (log["stop/completed"], log["stop/max_turns"], log["stop/environment_error"]) == (0.5, 0.25, 0.25)
        assert log["grad_norm"] > 0

    def test_what_stands_for_the_end_is_not_trained(self, tmp_path):
        trainer, _ = train(tmp_path, follow(MIXED), environment=Ends, history_images=1, **PAIRS)
        (rollouts,) = trainer.batches
        for row, plan in enumerate(MIXED):
            ids, mask = rollouts.completion_ids[row], rollouts.model_masks[row]
            messages, turns = rollouts.completions[row], rollouts.turns[row]
            is_over = plan[-1] != "done"
            assert messages[-1]["role"] == ("tool" if is_over else "assistant")
            assert ids[-1] == trainer.processing_class.tokenizer.eos_token_id
            assert mask[-1] == (not is_over)
            assert sum(mask) == sum(turn.end - turn.start for turn in turns)
            assert trainer.output["tool_mask"][row, : len(mask)].tolist() == mask

    def test_nothing_is_generated_when_all_are_over(self, tmp_path):
        trainer, record = train(
            tmp_path, follow([["terminated"], ["truncated"]]), environment=Ends, history_images=1, **PAIRS
        )
        assert [len(batch) for batch in record] == [8]
        assert last_log(trainer)["stop/completed"] == last_log(trainer)["stop/max_turns"] == 0.5

    def test_rollouts_left_without_images(self, tmp_path):
        """The others have seen some, and are over: TRL says that there are images in the batch, but not in these rows."""
        plans = [["terminated"], ["nothing", "nothing", "done"]]
        model = build_model()
        before = copy.deepcopy(model)
        for keep in (1, None):
            trainer, record = train(
                tmp_path,
                follow(plans),
                environment=Ends,
                data=rows(shown=(0,)),
                model=copy.deepcopy(model),
                history_images=keep,
                **PAIRS,
            )
            assert [len(batch) for batch in record] == [8, 4, 4]
            assert set(check_log_probs(trainer, record, before)) == {0}

    def test_truncated_rollouts_can_be_masked(self, tmp_path):
        plans = [["terminated"], ["truncated"]]
        trainer, _ = train(
            tmp_path, follow(plans), environment=Ends, stop_policies={"max_turns": "mask"}, history_images=1, **PAIRS
        )
        assert [bool(row.any()) for row in trainer.output["tool_mask"]] == [True, False] * 4

    def test_each_turn_has_its_reward(self, tmp_path):
        plans = [["terminated"], ["look", "truncated"], ["look", "nothing", "done"]]
        trainer, _ = train(tmp_path, follow(plans), environment=Paid, history_images=1, **PAIRS)
        expected = [[5.0], [1.0, 5.0], [1.0, 1.0, 0.0]]
        assert trainer.batches[0].environment_rewards == [expected[i % 3] for i in range(8)]

    @pytest.mark.parametrize(
        ("spare", "reason", "last"),
        [(0, StopReason.COMPLETED, "tool"), (-1, StopReason.TOOL_OVERFLOW, "assistant")],
    )
    def test_at_the_end_of_the_budget(self, tmp_path, spare, reason, last):
        """The last result just fits, without a token to stand for the end; or it does not, and TRL takes it back."""
        plans = [["look", "terminated"], ["done"]]
        options = {"environment": Ends, "data": rows(1), "history_images": 1, **PAIRS}
        options["per_device_train_batch_size"] = 2
        trainer, _ = train(tmp_path, follow(plans), **options)
        length = len(trainer.batches[0].completion_ids[0]) - 1
        trainer, record = train(tmp_path, follow(plans), max_completion_length=length + spare, **options)
        (rollouts,) = trainer.batches
        assert rollouts.stop_reasons == [reason, StopReason.COMPLETED]
        assert rollouts.completions[0][-1]["role"] == last
        assert len(rollouts.turns[0]) == 2
        assert [len(batch) for batch in record] == [2, 1]
        assert last_log(trainer)["images/mismatched"] == 0


class TestLost:
    @pytest.mark.parametrize("concurrency", [1, 64])
    def test_the_next_batch_has_another_environment(self, tmp_path, concurrency):
        plans = [["lost"], ["look", "done"]]
        trainer, _ = train(
            tmp_path,
            follow(plans),
            environment=Ends,
            history_images=1,
            num_generations=4,
            top_k=1,
            max_steps=3,
            reward_funcs=every_other,
            tool_concurrency=concurrency,
        )
        first, second, third = trainer.batches
        for row in range(8):
            same = first.environments[row] is second.environments[row]
            assert same == bool(row % 2)
            assert (first.stop_reasons[row] == StopReason.ENVIRONMENT_ERROR) == (row % 2 == 0)
        assert third.environments[0] is not first.environments[0]
        assert "The gallery is gone." in first.completions[0][-1]["content"]
        assert last_log(trainer)["grad_norm"] > 0

    @pytest.mark.parametrize("concurrency", [1, 64])
    def test_later_calls_of_the_turn_are_refused(self, tmp_path, concurrency):
        def script(text, turn, number):
            return f"{number} " + call("fail", reason="lost") + call("look", count=1) + "<|im_end|>"

        trainer, record = train(
            tmp_path, script, environment=Ends, data=rows(shown=(1,)), tool_concurrency=concurrency, **PAIRS
        )
        (rollouts,) = trainer.batches
        assert "closed for this rollout" in rollouts.completions[0][-1]["content"]
        assert [environment.seen for environment in rollouts.environments] == [1] * 8
        assert len(record) == 1
        assert set(rollouts.stop_reasons) == {StopReason.ENVIRONMENT_ERROR}

    def test_evaluation_goes_on(self, tmp_path):
        from tests.tiny_vlm import make_trainer, scripted

        trainer = make_trainer(
            tmp_path,
            environment=Ends,
            history_images=1,
            eval_dataset=rows(4),
            per_device_eval_batch_size=4,
            num_generations_eval=2,
            **PAIRS,
        )
        with scripted(follow([["lost"], ["look", "done"]])):
            metrics = trainer.evaluate()
        assert metrics["eval_stop/environment_error"] == 0.5
        first, second = trainer.batches[0].environments, trainer.batches[-1].environments
        assert len(trainer.batches) > 1
        assert first[0] is not second[0]
        assert first[1] is second[1]
        assert torch.isfinite(torch.tensor(metrics["eval_reward"]))
