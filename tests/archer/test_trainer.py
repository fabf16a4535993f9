"""ArCHer through `trainer.train()`: its gradient, its warm-up, its variants, and what it refuses."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import GRPOTrainer

from tests.archer.tiny import QUICK, Run, make, save_encoder
from tests.tiny import (
    Counter,
    QuietCounter,
    add_some,
    answer_length,
    build_model,
    build_tokenizer,
    call,
    dataset,
    settings,
)
from trl_multiturn import ArCHerConfig, ArCHerTrainer
from trl_multiturn.archer import trainer as archer_trainer
from trl_multiturn.archer.buffer import ReplayBuffer
from trl_multiturn.archer.episodes import utterance
from trl_multiturn.archer.logged import logged_trajectories
from trl_multiturn.archer.saving import load_critic
from trl_multiturn.checkpoints import FILES
from trl_multiturn.state import load_shards, load_state, save_shard


GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())["trl_equivalence"]


def weights_of(module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def logged(trainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


class TestGradient:
    def test_equals_the_references(self, tmp_path):
        """TRL's own loss on our token advantages gives each token the gradient of ArCHer's code."""
        trainer = make(tmp_path)
        turn_ids = torch.tensor(GOLDEN["turn_id"])
        log_probs = torch.tensor(GOLDEN["token_logps"], requires_grad=True)
        spans = [
            [(row.tolist().index(k), len(row) - row.flip(0).tolist().index(k)) for k in (0, 1)] for row in turn_ids
        ]
        rollouts = SimpleNamespace(turn_spans=spans, is_training=True)
        trainer._loss_scale = 2 / GOLDEN["n_turns"]
        advantages = trainer.token_advantages(rollouts, torch.tensor(GOLDEN["turn_advantage"]), turn_ids.size(1))
        trainer._get_per_token_logps_and_entropies = lambda *a, **k: (log_probs, torch.zeros_like(log_probs), None)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        inputs = {
            "prompt_ids": torch.zeros(2, 1, dtype=torch.long),
            "prompt_mask": torch.ones(2, 1, dtype=torch.long),
            "completion_ids": torch.zeros_like(turn_ids),
            "completion_mask": (turn_ids != -2).long(),
            "tool_mask": (turn_ids >= 0).long(),
            "advantages": advantages,
            "num_items_in_batch": torch.tensor(8.0),
        }
        trainer._compute_loss(trainer.model, inputs).backward()
        torch.testing.assert_close(log_probs.grad, torch.tensor(GOLDEN["official_grad_per_token"]))

    def test_scale_counts_all_written_turns(self, tmp_path):
        trainer = make(tmp_path, max_steps=1)
        trainer.train()
        turns = sum(len(turns) for turns in trainer.rollouts.turns)
        assert trainer._loss_scale == pytest.approx(8 / turns)
        advantages = trainer.batches[-1][2]
        row, span = 3, trainer.rollouts.turn_spans[3][0]
        token = trainer.output["advantages"][row, span[0]].item()
        assert token == pytest.approx(advantages[row, 0].item() * 8 / turns)


class TestWarmUp:
    def test_leaves_the_actor_alone(self, tmp_path):
        trainer = make(tmp_path, critic_warmup_iterations=3, max_steps=1)
        seen = {}

        def step_begin(args, state, control, **kwargs):
            if not seen:
                seen["model"] = weights_of(trainer.model)
                seen["optimizer"] = len(trainer.optimizer.state_dict()["state"])
                seen["schedule"] = trainer.lr_scheduler.state_dict()["last_epoch"]
                seen["step"] = state.global_step
                seen["critic_steps"] = trainer.learner.steps_taken

        before, critic_before = weights_of(trainer.model), weights_of(trainer.learner.critic)
        trainer.callback_handler.callbacks[-1].on_step_begin = step_begin
        trainer.train()
        assert same(seen["model"], before)
        assert (seen["optimizer"], seen["schedule"], seen["step"]) == (0, 0, 0)
        assert seen["critic_steps"] == 3 * QUICK["critic_steps"]
        assert not same(weights_of(trainer.learner.critic), critic_before)
        assert not same(weights_of(trainer.model), before)
        assert len(logged(trainer, "archer/warmup/q_loss")) == 3
        assert len(trainer.batches) == 3 + 1

    def test_plays_other_tasks_each_time(self, tmp_path):
        trainer = make(tmp_path, critic_warmup_iterations=4, max_steps=1, rows=8)
        trainer.train()
        groups = [{row["number"] for row in rollouts.rows} for rollouts, _, _ in trainer.batches[:4]]
        assert set.union(*groups) == set(range(8))
        assert all(len(group) == 2 for group in groups)

    def test_not_repeated_on_resume(self, tmp_path):
        make(tmp_path, critic_warmup_iterations=2, max_steps=1, save_strategy="steps", save_steps=1).train()
        resumed = make(tmp_path, critic_warmup_iterations=2, max_steps=2, save_strategy="steps", save_steps=1)
        resumed.train(resume_from_checkpoint=True)
        assert len(resumed.batches) == 1
        assert resumed.learner.steps_taken == 4 * QUICK["critic_steps"]


class TestCriticUpdates:
    @pytest.mark.parametrize("accumulation", [1, 4])
    def test_number_does_not_depend_on_gradient_accumulation(self, tmp_path, accumulation):
        """A prepared optimizer silently takes no step while the policy's gradients accumulate."""
        trainer = make(
            tmp_path,
            max_steps=2,
            per_device_train_batch_size=8 // accumulation,
            gradient_accumulation_steps=accumulation,
        )
        before = weights_of(trainer.learner.critic)
        trainer.train()
        assert trainer.learner.steps_taken == 2 * QUICK["critic_steps"]
        steps = {int(s["step"]) for s in trainer.learner.optimizer.optimizer.state_dict()["state"].values()}
        assert steps == {2 * QUICK["critic_steps"]}
        changed = [n for n, v in weights_of(trainer.learner.critic).items() if not torch.equal(v, before[n])]
        assert len(changed) > len(before) / 2

    def test_evaluation_leaves_buffer_and_critic_untouched(self, tmp_path):
        trainer = make(tmp_path, max_steps=1, eval_dataset=dataset(8), per_device_eval_batch_size=4)
        trainer.train()
        before = (weights_of(trainer.learner.critic), trainer.buffer.shard_state(), trainer.learner.steps_taken)
        metrics = trainer.evaluate()
        assert same(weights_of(trainer.learner.critic), before[0])
        after = trainer.buffer.shard_state()
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(after[k])) for k, v in before[1].items())
        assert trainer.learner.steps_taken == before[2]
        assert "eval_archer/explained_variance" in metrics

    @pytest.mark.exhaustive
    def test_learns_what_turns_are_worth(self, tmp_path):
        """The amount that a turn adds is in its tokens: after some steps the advantage is higher for more."""

        class Deep(Run):
            @staticmethod
            def script(text, turn, rng):
                return call(amount=rng.choice([1, 9])) if turn < 2 else "<answer>0</answer>"

        trainer = make(
            tmp_path,
            trainer_class=Deep,
            max_steps=2,
            critic_steps=40,
            critic_warmup_iterations=4,
            critic_batch_size=32,
            critic_learning_rate=3e-3,
            gamma=0.5,
        )
        trainer.train()
        rollouts, rewards, advantages = trainer.batches[-1]
        assert set(rewards[:, :2].flatten().tolist()) == {1.0, 9.0}
        high, low = (advantages[:, :2][rewards[:, :2] == amount] for amount in (9.0, 1.0))
        assert high.mean() - low.mean() > 2.0
        assert logged(trainer, "archer/explained_variance")[-1] > 0.3


class TestWhatIsStored:
    def test_turns_rewards_and_endings(self, tmp_path):
        trainer = make(tmp_path, max_steps=1)
        trainer.train()
        rollouts = trainer.rollouts
        for row in range(8):
            stored = trainer.buffer.get(row)
            assert stored.tokens.tolist() == [*rollouts.prompt_ids[row], *rollouts.completion_ids[row]]
            assert stored.rewards.tolist() == rollouts.environment_rewards[row]
            assert (stored.terminated, stored.truncated) == (True, False)
            for (start, end, context_end), turn in zip(stored.turns.tolist(), rollouts.turns[row], strict=True):
                offset = len(rollouts.prompt_ids[row])
                assert (start, end, context_end) == (offset + turn.start, offset + turn.end, offset + turn.context_end)

    def test_outcome_alone(self, tmp_path):
        trainer = make(tmp_path, max_steps=1, environment=QuietCounter, reward_funcs=answer_length)
        trainer.train()
        for row in range(8):
            rewards = trainer.buffer.get(row).rewards.tolist()
            assert rewards == [0.0] * (len(rewards) - 1) + [trainer.rollouts.outcomes[row].item()]

    def test_cut_off_rollouts(self, tmp_path):
        class Endless(Run):
            script = staticmethod(lambda text, turn, rng: call(amount=1))

        trainer = make(tmp_path, trainer_class=Endless, max_steps=1, max_tool_calling_iterations=2)
        trainer.train()
        stored = trainer.buffer.get(0)
        assert (stored.terminated, stored.truncated, len(stored)) == (False, True, 3)

    def test_the_environment_knows_how_it_ended(self, tmp_path):
        class Ended(Counter):
            terminated = False
            truncated = True

        trainer = make(tmp_path, environment=Ended, max_steps=1)
        trainer.train()
        assert (trainer.buffer.get(0).terminated, trainer.buffer.get(0).truncated) == (False, True)

    def test_what_is_said_after_the_end_is_no_turn(self, tmp_path):
        """A game that is over leaves the model one message more, which is worth nothing and must not look like a move."""

        class Short(Counter):
            def __init__(self):
                super().__init__()
                self.terminated = False

            def reset(self, **row):
                self.terminated = False
                return super().reset(**row)

            def add(self, amount: int) -> str:
                """
                Add to the counter.

                Args:
                    amount: How much to add.
                """
                self.terminated = len(self.turn_rewards) == 1
                return super().add(amount)

        class TwoCalls(Run):
            script = staticmethod(lambda text, turn, rng: call(amount=1) if turn < 2 - rng.randint(0, 1) else "Done.")

        trainer = make(tmp_path, trainer_class=TwoCalls, environment=Short, max_steps=1)
        trainer.train()
        calls = [len(e.turn_rewards) for e in trainer.rollouts.environments]
        assert set(calls) == {1, 2}
        for row, number in enumerate(calls):
            # One call does not end the game: there the last message is what ended the rollout, and a turn.
            stored = trainer.buffer.get(row)
            assert len(stored) == 2 and stored.terminated
            assert stored.rewards.tolist() == ([1.0, 1.0] if number == 2 else [1.0, 0.0])
            if number == 2:
                assert trainer.batches[-1][2][row, 2] == 0

    def test_a_turn_that_never_came_is_none(self, tmp_path):
        whole = make(tmp_path, max_steps=1)
        whole.train()
        answered = next(turns[0].context_end for turns in whole.rollouts.turns if len(turns) > 1)
        # The same rollouts again, in a budget that ends with what the tool answered.
        trainer = make(tmp_path, max_steps=1, max_completion_length=answered)
        trainer.train()
        empty = [row for row, turns in enumerate(trainer.rollouts.turns) if turns[-1].start == turns[-1].end]
        assert empty
        for row in empty:
            stored = trainer.buffer.get(row)
            assert len(stored) == len(trainer.rollouts.turns[row]) - 1
            assert stored.rewards.sum().item() == sum(trainer.rollouts.environment_rewards[row])

    def test_rollouts_without_reward_are_left_out(self, tmp_path):
        def sometimes(completions, **kwargs):
            return [None if i % 2 else 1.0 for i in range(len(completions))]

        trainer = make(tmp_path, max_steps=1, environment=QuietCounter, reward_funcs=sometimes)
        trainer.train()
        assert len(trainer.buffer) == 4
        assert logged(trainer, "archer/unscored") == [0.5]
        assert trainer.batches[-1][2][1].abs().sum() == 0


class TestVariants:
    @pytest.mark.parametrize(
        "overrides",
        [
            {"value_target": "expectile"},
            {"value_target": "resample", "resample_states": 6},
            {"advantage_estimator": "gae"},
            {"whiten_advantages": True},
            {"bootstrap_truncated": True},
            {"critic_head": "hl_gauss", "value_min": -1.0, "value_max": 20.0},
            {"critic_lora_r": 4},
            {"critic_micro_batch_size": 3},
            {"critic_lr_scheduler_type": "cosine", "critic_head_learning_rate": 1e-2},
            {"loss_type": "dapo"},
            {"num_iterations": 2},
            {"token_baseline": True},
            {"critic_max_length": 300},
        ],
        ids=lambda overrides: next(iter(overrides)),
    )
    def test_trains(self, tmp_path, overrides):
        trainer = make(tmp_path, critic_warmup_iterations=1, max_steps=2, **overrides)
        before, critic = weights_of(trainer.model), weights_of(trainer.learner.critic)
        trainer.train()
        assert not same(weights_of(trainer.model), before)
        assert not same(weights_of(trainer.learner.critic), critic)
        assert not same(weights_of(trainer.learner.critic), weights_of(trainer.learner.target))
        assert all(value == value for value in logged(trainer, "loss"))

    @pytest.mark.parametrize("value_target", ["onpolicy", "expectile"])
    def test_the_papers_critic(self, tmp_path, value_target):
        encoder = save_encoder(tmp_path / "encoder")
        trainer = make(
            tmp_path,
            critic_kind="pair",
            critic_model=str(encoder),
            value_target=value_target,
            critic_warmup_iterations=1,
            max_steps=2,
            push_critic=True,
        )
        critic = weights_of(trainer.learner.critic)
        trainer.train()
        assert not same(weights_of(trainer.learner.critic), critic)
        assert trainer.batches[-1][2].abs().sum() > 0
        trainer.save_model()
        with pytest.raises(ValueError, match="policy_tokenizer"):
            load_critic(tmp_path / "critic")
        loaded = load_critic(tmp_path / "critic", trainer.processing_class)
        trajectories = [trainer.buffer.get(i) for i in range(4)]
        with torch.no_grad():
            found = loaded.values(loaded(trajectories))
        torch.testing.assert_close(found.q1, trainer.learner.values(trajectories).q1)

    def test_whitened(self, tmp_path):
        trainer = make(tmp_path, max_steps=1, whiten_advantages=True, critic_warmup_iterations=1)
        trainer.train()
        advantages = trainer.batches[-1][2][trainer.rollouts.turn_mask]
        assert advantages.mean().item() == pytest.approx(0.0, abs=1e-4)
        assert advantages.std(correction=0).item() == pytest.approx(1.0, abs=1e-2)

    def test_lora_policy_saves_the_adapter_alone(self, tmp_path):
        trainer = make(tmp_path, peft_config=LoraConfig(r=4, target_modules="all-linear"), max_steps=1)
        trainer.train()
        trainer.save_model(str(tmp_path / "saved"))
        assert (tmp_path / "saved" / "adapter_model.safetensors").exists()
        assert not (tmp_path / "saved" / "model.safetensors").exists()

    def test_frozen_backbone_is_shared_with_the_target(self, tmp_path):
        trainer = make(tmp_path, critic_lora_r=4)
        pairs = zip(trainer.learner.critic.parameters(), trainer.learner.target.parameters(), strict=True)
        assert {online.requires_grad for online, target in pairs if online is target} == {False}
        assert any(p.requires_grad for p in trainer.learner.critic.backbone.parameters())

    def test_gae_trusts_the_rewards_at_lambda_one(self, tmp_path):
        trainer = make(tmp_path, max_steps=1, advantage_estimator="gae", gae_lambda=1.0, critic_steps=1)
        trainer.train()
        _, rewards, advantages = trainer.batches[-1]
        values = trainer.learner.values([t for t in trainer._trajectories if t is not None])
        first = torch.minimum(values.v1, values.v2)[0].item()
        turns = len(trainer.rollouts.turns[0])
        expected = sum(rewards[0, k].item() * 0.95**k for k in range(turns)) - first
        assert advantages[0, 0].item() == pytest.approx(expected, abs=1e-3)

    def test_token_baseline_draws_nothing_from_the_global_generator(self, tmp_path):
        after = []
        for token_baseline in (False, True):
            make(tmp_path, token_baseline=token_baseline)
            after.append(torch.get_rng_state())
        assert torch.equal(*after)

    def test_token_baseline_is_learnt_and_subtracted(self, tmp_path):
        trainer = make(tmp_path, max_steps=3, token_baseline=True, critic_steps=10, critic_warmup_iterations=3)
        trainer.train()
        span = trainer.rollouts.turn_spans[0][0]
        tokens = trainer.output["advantages"][0, span[0] : span[1]]
        assert len(set(tokens.tolist())) > 1
        assert len(logged(trainer, "archer/baseline_loss")) == 3


class TestFilteredBC:
    def test_clones_the_best_so_far(self, tmp_path):
        trainer = make(tmp_path, algorithm="filtered_bc", filter_quantile=0.9, max_steps=3)
        assert trainer.learner is None
        trainer.train()
        best = trainer.buffer.best(0.9)
        threshold = min(trainer.buffer.get(i).total_reward for i in best)
        returns = sorted(trainer.buffer.get(i).total_reward for i in range(trainer.buffer.next_id))
        assert threshold >= returns[int(0.9 * (len(returns) - 1))]
        kept = {tuple(trainer.buffer.get(i).tokens.tolist()) for i in best}
        output = trainer.output
        for row in range(8):
            prompt = output["prompt_ids"][row][output["prompt_mask"][row].bool()].tolist()
            completion = output["completion_ids"][row][output["completion_mask"][row].bool()].tolist()
            assert tuple(prompt + completion) in kept
            trained = output["advantages"][row] > 0
            assert torch.equal(trained, output["tool_mask"][row].bool())

    def test_has_no_critic_to_build_train_or_save(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archer_trainer, "build_critic", None)
        saved = {"algorithm": "filtered_bc", "save_strategy": "steps", "save_steps": 1, "critic_warmup_iterations": 1}
        make(tmp_path, max_steps=1, **saved).train()
        assert load_state(tmp_path / "checkpoint-1") == {"warmed_up": True}
        resumed = make(tmp_path, max_steps=2, **saved)
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
        assert resumed.warmed_up and len(resumed.buffer) == 24

    def test_raises_the_probability_of_what_it_clones(self, tmp_path):
        trainer = make(tmp_path, algorithm="filtered_bc", max_steps=8, learning_rate=5e-3)
        trainer.train()
        losses = logged(trainer, "entropy")
        assert losses[-1] < losses[0]


class TestChai:
    def make(self, tmp_path, monkeypatch, **overrides):
        def sampled(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
            import random

            self._rng = getattr(self, "_rng", random.Random(0))
            written = []
            for ids in prompt_ids:
                text = self.processing_class.decode(ids)
                message = add_some(text, text.count("<|im_start|>assistant") - 1, self._rng)
                written.append(self.processing_class(message + "<|im_end|>", add_special_tokens=False)["input_ids"])
            self.sizes = [*getattr(self, "sizes", []), len(prompt_ids)]
            return written, None

        monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", sampled)
        tokenizer = build_tokenizer()
        return ArCHerTrainer(
            model=build_model(tokenizer),
            args=ArCHerConfig(**settings(tmp_path, algorithm="chai", weight_decay=0.1, **{**QUICK, **overrides})),
            train_dataset=dataset(16),
            processing_class=tokenizer,
            environment_factory=Counter,
        )

    def test_frozen_actor_says_the_best_of_several(self, tmp_path, monkeypatch):
        trainer = self.make(tmp_path, monkeypatch, num_candidates=3)
        before, chosen = weights_of(trainer.model), []
        inner = trainer.choose_turns

        def recorded(prompt_ids, sample):
            offered = []

            def sample_once(count):
                offered.append(sample(count))
                return offered[-1]

            picked = inner(prompt_ids, sample_once)
            chosen.append((prompt_ids, offered[0], list(picked)))  # TRL goes on writing into its list
            return picked

        trainer.choose_turns = recorded
        passes = []
        trainer.model.register_forward_hook(lambda *given: passes.append(1))
        trainer.train()
        assert not passes  # no utterance is sampled by the model here, so a pass would be one for the loss
        assert same(weights_of(trainer.model), before)
        assert trainer.sizes[0] == 8 * 3
        assert all(
            choice in some for _, offered, picked in chosen for some, choice in zip(offered, picked, strict=True)
        )
        # With the target as it is now, the choice is the argmax of min Q.
        trainer.choose_turns = inner
        prompts = chosen[0][0][:2]
        best = trainer.choose_turns(prompts, lambda count: chosen[0][1][:2])
        for prompt, some, picked in zip(prompts, chosen[0][1][:2], best, strict=True):
            values = trainer.learner.values([utterance(prompt, ids) for ids in some], target=True)
            assert picked == some[torch.minimum(values.q1, values.q2).argmax()]


def logged_dataset(rows: int = 24) -> Dataset:
    """Two kinds of conversations: adding 9 is worth 9, adding 1 is worth 1."""
    prompts, completions, rewards = [], [], []
    for i in range(rows):
        amount = 9 if i % 2 else 1
        prompts.append([{"role": "user", "content": f"Task {i // 2 % 4}"}])
        completions.append(
            [
                {"role": "assistant", "content": f"add {amount}"},
                {"role": "user", "content": "Added."},
                {"role": "assistant", "content": "done"},
            ]
        )
        rewards.append([float(amount), 0.0])
    return Dataset.from_dict({"prompt": prompts, "completion": completions, "turn_rewards": rewards})


class TestOffline:
    def make(self, tmp_path, train_dataset=None, **overrides):
        tokenizer = build_tokenizer()
        return ArCHerTrainer(
            model=build_model(tokenizer),
            args=ArCHerConfig(**settings(tmp_path, algorithm="offline", **{**QUICK, **overrides})),
            train_dataset=train_dataset or logged_dataset(),
            processing_class=tokenizer,
        )

    def probability(self, trainer, amount: int) -> float:
        tokenizer = trainer.processing_class
        prompt = [{"role": "user", "content": "Task 1"}]
        before = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        after = tokenizer.apply_chat_template(
            [*prompt, {"role": "assistant", "content": f"add {amount}"}], return_dict=False
        )
        with torch.no_grad():
            logits = trainer.model(torch.tensor([after])).logits[0, :-1].log_softmax(-1)
        return sum(logits[i - 1, after[i]].item() for i in range(len(before), len(before) + 4))

    def test_prefers_what_was_better(self, tmp_path):
        trainer = self.make(
            tmp_path,
            max_steps=25,
            critic_steps=10,
            critic_warmup_iterations=5,
            critic_learning_rate=3e-3,
            learning_rate=5e-3,
            awr_temperature=0.5,
        )
        before = self.probability(trainer, 9) - self.probability(trainer, 1)
        trainer.train()
        assert self.probability(trainer, 9) - self.probability(trainer, 1) > before + 0.5
        assert trainer.buffer.next_id == 24
        assert len(logged(trainer, "archer/awr_weight")) == 25

    def test_tokens_in_place_of_messages(self, tmp_path):
        rows = {
            "prompt": ["a"] * 8,
            "prompt_ids": [[5, 6, 7]] * 8,
            "completion_ids": [[8, 9, 20, 21, 10]] * 8,
            "completion_mask": [[1, 1, 0, 0, 1]] * 8,
            "reward": [1.0] * 8,
            "terminated": [False] * 8,
        }
        trainer = self.make(tmp_path, Dataset.from_dict(rows), max_steps=1)
        trainer.train()
        stored = trainer.buffer.get(0)
        assert stored.turns.tolist() == [[3, 5, 7], [7, 8, 8]]
        assert stored.rewards.tolist() == [0.0, 1.0]
        assert stored.truncated

    def test_messages_are_cut_where_the_assistant_wrote(self, tmp_path):
        trainer = self.make(tmp_path, max_steps=1)
        trainer.train()
        stored = trainer.buffer.get(1)
        said = [trainer.processing_class.decode(stored.tokens[start:end]) for start, end, _ in stored.turns.tolist()]
        assert said == ["add 9<|im_end|>", "done<|im_end|>"]
        assert "Added." in trainer.processing_class.decode(stored.tokens[stored.turns[0, 1] : stored.turns[1, 0]])

    def test_qwen3_template_and_calls_with_different_arguments(self, tmp_path):
        """Qwen3's own template drops earlier thinking; `datasets` fills in nulls for arguments of other calls."""
        tokenizer = build_tokenizer("qwen3.jinja")
        names = ["x", "y"]
        rows = {
            "prompt": [[{"role": "user", "content": "hi"}]] * 2,
            "completion": [
                [
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {name: 1}}}],
                    },
                    {"role": "tool", "name": "f", "content": "ok"},
                    {"role": "assistant", "content": "done"},
                ]
                for name in names
            ],
            "reward": [1.0, 1.0],
        }
        for name, trajectory in zip(names, logged_trajectories(Dataset.from_dict(rows), tokenizer), strict=True):
            start, end, _ = trajectory.turns[0].tolist()
            said = tokenizer.decode(trajectory.tokens[start:end])
            assert f'"arguments": {{"{name}": 1}}' in said and "null" not in said
            assert len(trajectory) == 2

    def test_warm_up_is_logged(self, tmp_path):
        trainer = self.make(tmp_path, max_steps=1, critic_warmup_iterations=2)
        trainer.train()
        assert len(logged(trainer, "archer/warmup/q_loss")) == 2
        assert not logged(trainer, "eval_archer/q_loss")

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({}, "has no column 'completion'"),
            ({"completion": [[{"role": "user", "content": "x"}]] * 4}, "no message of the assistant"),
            ({"completion": [[{"role": "assistant", "content": "x"}]] * 4}, "neither turn_rewards nor reward"),
            (
                {"completion": [[{"role": "assistant", "content": "x"}]] * 4, "turn_rewards": [[1.0, 2.0]] * 4},
                "has 2 turn_rewards for 1 turns",
            ),
            (
                {"completion": [[{"role": "assistant", "content": "x"}]] * 4, "reward": [float("inf")] * 4},
                "not a finite number",
            ),
        ],
    )
    def test_bad_rows(self, tmp_path, columns, message):
        rows = {"prompt": [[{"role": "user", "content": "hi"}]] * 4, **columns}
        with pytest.raises(ValueError, match=message):
            self.make(tmp_path, Dataset.from_dict(rows), max_steps=1).train()

    def test_more_than_the_buffer_holds(self, tmp_path):
        with pytest.raises(ValueError, match="raise it, or the first ones are never learnt from"):
            self.make(tmp_path, replay_capacity=10, max_steps=1).train()


class TestRefused:
    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            ({"algorithm": "ppo"}, "algorithm must be one of"),
            ({"critic_kind": "shared"}, "critic_kind must be one of"),
            ({"critic_tau": 0.0}, "critic_tau must be above 0"),
            ({"critic_steps": 0}, "critic_steps must be positive"),
            ({"expectile": 1.0}, "expectile must be above 0 and below 1"),
            ({"gae_lambda": 1.5}, "gae_lambda must be between 0 and 1"),
            ({"critic_warmup_iterations": -1}, "must not be negative"),
            ({"num_candidates": 1}, "at least 2 to choose from"),
            ({"critic_lr_scheduler_type": "polynomial"}, "critic_lr_scheduler_type must be"),
            ({"replay_capacity": 4}, "smaller than one generation batch of 8"),
            ({"critic_head": "hl_gauss"}, "needs value_min and value_max"),
            ({"critic_head": "hl_gauss", "value_min": 1.0, "value_max": 0.0}, "value_min must be below value_max"),
            ({"critic_head": "hl_gauss", "value_min": 0.0, "value_max": 1.0, "value_bins": 1}, "at least 2"),
            ({"value_min": -1.0}, "no effect with critic_head='regression'"),
            ({"scale_rewards": "none"}, "scale_rewards='none' has no effect"),
            ({"scale_rewards": False}, "scale_rewards='none' has no effect"),
            ({"push_critic": True, "algorithm": "filtered_bc"}, "push_critic has no effect"),
            ({"token_baseline": True, "algorithm": "chai"}, "token_baseline has no effect"),
            ({"algorithm": "filtered_bc", "beta": 0.1}, "has no KL penalty"),
            ({"algorithm": "offline", "value_target": "resample"}, "leave value_target"),
            ({"importance_sampling_level": "sequence"}, "leave importance_sampling_level at 'token'"),
        ],
    )
    def test_settings(self, tmp_path, overrides, message):
        with pytest.raises(ValueError, match=message):
            ArCHerConfig(**settings(tmp_path, **overrides))

    def test_no_reward_at_all(self, tmp_path):
        with pytest.raises(ValueError, match="No reward source provided"):
            make(tmp_path, environment=QuietCounter)

    def test_support_that_does_not_cover_the_returns(self, tmp_path):
        trainer = make(tmp_path, critic_head="hl_gauss", value_min=-1.0, value_max=0.5, max_steps=1)
        with pytest.raises(ValueError, match="returns outside of value_min=-1.0 to value_max=0.5"):
            trainer.train()

    def test_configuration_of_another_trainer(self, tmp_path):
        from trl_multiturn import IGPOConfig

        with pytest.raises(TypeError, match="needs a ArCHerConfig"):
            ArCHerTrainer(build_model(), answer_length, IGPOConfig(**settings(tmp_path)), dataset())


class TestCheckpoint:
    KEPT = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "critic_warmup_iterations": 1}

    def test_another_critic(self, tmp_path):
        make(tmp_path, **self.KEPT).train()
        other = make(tmp_path, **{**self.KEPT, "critic_lora_r": 4})
        with pytest.raises(ValueError, match="critic has another shape"):
            other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))

    def test_of_two_processes_is_taken_up_by_one(self, tmp_path):
        trainer = make(tmp_path, **self.KEPT)
        trainer.train()
        folder = tmp_path / "checkpoint-2"
        whole = load_shards(folder)
        for path in folder.glob("method_state_00000_of_00001.*"):
            path.unlink()
        (folder / FILES).unlink()  # it names the files of one process
        for rank in range(2):
            half = ReplayBuffer(100_000, 2**30)
            half.load_shard_states(whole, rank, 2)
            assert 0 < sum(half.get(i) is not None for i in range(half.next_id)) < len(half)
            save_shard(folder, half.shard_state(), rank, 2)
        resumed = make(tmp_path, **self.KEPT)
        resumed.train(resume_from_checkpoint=str(folder))
        assert resumed.buffer.next_id == trainer.buffer.next_id == 5 * 8
        # A warm-up batch and two of training were saved; what came later was rolled out anew.
        for i in range(3 * 8):
            assert torch.equal(resumed.buffer.get(i).tokens, trainer.buffer.get(i).tokens)

    def test_no_pickle_of_ours(self, tmp_path):
        make(tmp_path, **{**self.KEPT, "token_baseline": True}).train()
        ours = [path for path in (tmp_path / "checkpoint-2").iterdir() if path.name.startswith("method_state")]
        assert {path.suffix for path in ours} == {".json", ".safetensors"} and len(ours) == 4

    def test_without_the_buffer(self, tmp_path):
        make(tmp_path, **{**self.KEPT, "save_replay_buffer": False}).train()
        assert len(list((tmp_path / "checkpoint-2").glob("method_state*"))) == 2
        resumed = make(tmp_path, **{**self.KEPT, "save_replay_buffer": False})
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        assert len(resumed.buffer) == 2 * 8

    def test_critic_next_to_the_model(self, tmp_path):
        trainer = make(tmp_path, push_critic=True, **self.KEPT)
        trainer.train()
        trainer.save_model()
        loaded = load_critic(tmp_path / "critic")
        trajectories = [trainer.buffer.get(i) for i in range(4)]
        with torch.no_grad():
            found = loaded.values(loaded(trajectories))
        torch.testing.assert_close(found.q1, trainer.learner.values(trajectories).q1)
        assert (tmp_path / "checkpoint-2" / "critic" / "critic.safetensors").exists()

    def test_model_card_cites_the_paper(self, tmp_path):
        trainer = make(tmp_path, max_steps=1)
        trainer.train()
        trainer.create_model_card(model_name="guesser")
        card = (tmp_path / "README.md").read_text()
        assert "2402.19446" in card and "zhou2024archer" in card and "archer" in card
