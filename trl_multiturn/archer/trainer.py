"""[`ArCHerTrainer`]: a critic of whole utterances, learnt from a replay buffer, over a policy of tokens."""

import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers.utils import logging

from ..advantages import broadcast_to_tokens
from ..rollouts import Rollouts
from ..trainer import MultiTurnGRPOTrainer
from .backbones import build_causal_backbone, build_critic
from .baseline import TokenBaseline
from .buffer import ReplayBuffer, Trajectory
from .config import ArCHerConfig
from .episodes import pad_turns, read_trajectories, utterance
from .learner import CriticLearner, turn_outcomes
from .logged import no_reward
from .losses import monte_carlo_returns, turn_gae, utterance_advantages
from .metrics import critic_metrics, moments
from .saving import save_critic
from .variants import ArCHerVariants
from .warmup import WarmUp


logger = logging.get_logger(__name__)


class ArCHerTrainer(ArCHerVariants, MultiTurnGRPOTrainer):
    """
    Trainer for the Actor-Critic framework with a Hierarchical structure (ArCHer), proposed in [ArCHer: Training Language
    Model Agents via Hierarchical Multi-Turn RL](https://huggingface.co/papers/2402.19446).

    A critic learns, off-policy and by temporal differences, what each utterance (one turn of the rollout) is worth. Its
    tokens are trained on the utterance's advantage, min Q - min V. One iteration is one generation batch: the rollouts go
    into the replay buffer, the critic takes `critic_steps` steps, then the policy is trained on the rollouts. Rewards come
    from the environment's `turn_rewards`, from reward functions (the outcome, on the last turn), or from both.

    Example:

    ```python
    >>> from trl_multiturn import ArCHerConfig, ArCHerTrainer
    >>> from trl_multiturn.environments.word_games import GuessMyCity, load_word_game

    >>> trainer = ArCHerTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     args=ArCHerConfig(output_dir="city-guesser", max_tool_calling_iterations=20),
    ...     train_dataset=load_word_game("guess_my_city"),
    ...     environment_factory=GuessMyCity,
    ... )
    >>> trainer.train()
    ```

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, as for [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc | list[RewardFunc]`, *optional*):
            Reward functions of the outcome, as for [`~trl.GRPOTrainer`].
        args ([`ArCHerConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Prompts; for `algorithm="offline"` a dataset of logged trajectories (see [`logged_trajectories`]).
        **kwargs:
            The other arguments of [`~trl.GRPOTrainer`].

    Raises:
        `ValueError`: For a setting that cannot take effect, a critic that cannot read the policy's tokens, or a logged
            dataset without what is needed.
    """

    _tag_names = ["trl", "trl_multiturn", "archer"]
    _name = "ArCHer"
    _paper = {
        "title": "ArCHer: Training Language Model Agents via Hierarchical Multi-Turn RL",
        "id": "2402.19446",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @inproceedings{zhou2024archer,
                title        = {{ArCHer: Training Language Model Agents via Hierarchical Multi-Turn RL}},
                author       = {Yifei Zhou and Andrea Zanette and Jiayi Pan and Sergey Levine and Aviral Kumar},
                booktitle    = {International Conference on Machine Learning},
                year         = 2024,
                eprint       = {arXiv:2402.19446},
            }"""),
    }
    _config_class = ArCHerConfig
    args: ArCHerConfig

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: ArCHerConfig | None = None,
        train_dataset: Any = None,
        **kwargs: Any,
    ):
        args = self._check_args(model, args)
        assert args is not None
        if args.algorithm == "offline" and reward_funcs is None and kwargs.get("environment_factory") is None:
            reward_funcs = no_reward  # TRL asks for one; the rewards are in the dataset
        super().__init__(model, reward_funcs, args, train_dataset, **kwargs)
        if self.is_vision_language:
            raise ValueError(
                "ArCHerTrainer does not support vision-language models yet: the critic would not see the images. Use "
                "MultiTurnGRPOTrainer."
            )
        if args.load_best_model_at_end:
            logger.warning("load_best_model_at_end restores the policy alone: the critic stays the last one.")
        self.buffer = ReplayBuffer(args.replay_capacity, args.replay_max_bytes, seed=args.seed)
        self.learner = None
        if args.algorithm != "filtered_bc":
            critic = build_critic(args, self.model, self.processing_class)
            self.learner = CriticLearner(critic, args, self.buffer, self.accelerator, self._num_critic_steps())
        self._baseline = None
        if args.token_baseline:
            backbone, width = build_causal_backbone(args, self.model)
            self._baseline = TokenBaseline(backbone, width, args, self.accelerator)
        self.warmed_up = args.critic_warmup_iterations == 0
        self._trajectories: list[Trajectory | None] = []
        self._loss_scale = 1.0
        self.add_callback(WarmUp(self))

    # --- hooks

    def compute_turn_advantages(self, rollouts: Rollouts, turn_rewards: torch.Tensor) -> torch.Tensor:
        """
        Store the rollouts and train the critic (during training), then ask it what each turn is worth.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.
            turn_rewards (`torch.Tensor` of shape `(B, K)`):
                What [`compute_turn_rewards`] returned.

        Returns:
            `torch.Tensor` of shape `(B, K)`.
        """
        self._trajectories = read_trajectories(rollouts, turn_rewards, self.state.global_step)
        if rollouts.is_training:
            fresh_id = self._store(self._trajectories)
            self.train_critic(fresh_id)
        advantages = self._advantages(rollouts)
        self._log_buffer(rollouts)
        return advantages

    def token_advantages(self, rollouts: Rollouts, turn_advantages: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """
        Advantages of tokens, less the baseline, in the scale at which TRL's loss gives ArCHer's gradient.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.
            turn_advantages (`torch.Tensor` of shape `(B, K)`):
                What [`compute_turn_advantages`] returned.
            num_tokens (`int`):
                T, the padded completion length.

        Returns:
            `torch.Tensor` of shape `(B, T)`.
        """
        advantages = super().token_advantages(rollouts, turn_advantages, num_tokens)
        if self._baseline is not None and rollouts.is_training:
            advantages = self._subtract_baseline(rollouts, advantages)
        return advantages * self._loss_scale

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """
        TRL's loss. A step of CHAI, whose policy is frozen, saves the pass over the batch: its loss is 0.

        Args:
            model (`torch.nn.Module`):
                The policy.
            inputs (`dict`):
                One micro-batch.
            return_outputs (`bool`, *optional*, defaults to `False`):
                Not supported by TRL.
            num_items_in_batch (`torch.Tensor`, *optional*):
                Not used by TRL.

        Returns:
            `torch.Tensor` of shape `()`.
        """
        if self.args.algorithm == "chai" and self.is_in_train and self.model.training and self._needs_no_gradient():
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _needs_no_gradient(self) -> bool:
        """Whether an optimizer may step without one. Sharded models and the scaler of float16 wait for a backward pass."""
        plain = ("NO", "MULTI_GPU", "MULTI_CPU")
        return self.accelerator.scaler is None and self.accelerator.distributed_type.value in plain

    # --- one iteration

    def _store(self, trajectories: list[Trajectory | None]) -> int:
        """Put a batch of all processes into the buffer; returns the id of its first trajectory."""
        start = self.accelerator.process_index * len(trajectories)
        known = gather_object([None if t is None else t.summary for t in trajectories])
        places = [i for i, entry in enumerate(known) if entry is not None]
        own = {
            place: trajectory
            for place, i in enumerate(places)
            if 0 <= i - start < len(trajectories) and (trajectory := trajectories[i - start]) is not None
        }
        fresh_id = self.buffer.next_id
        self.buffer.extend([known[i] for i in places], own)
        self.log_metric("archer/unscored", 1.0 - len(places) / len(known))
        self.check_support([t for t in trajectories if t is not None])
        turns = sum(entry[1] for entry in known if entry is not None)
        self._loss_scale = self.loss_scale(len(known), turns)
        return fresh_id

    def train_critic(self, fresh_id: int) -> None:
        """
        Take `critic_steps` steps of the critic. Every process must call it.

        Args:
            fresh_id (`int`):
                First trajectory of the newest generation batch.
        """
        if self.learner is None:
            return
        if fresh_id == self.buffer.next_id:
            logger.warning("No rollout of this batch had a reward: the critic was not trained.")
            return
        start = time.perf_counter()
        resampled = self.resample() if self.args.value_target == "resample" else None
        found = self.learner.update(self.args.critic_steps, fresh_id, resampled)
        self.log_metric("archer/critic_seconds", time.perf_counter() - start)
        for name, value in found.items():
            self.log_metric(f"archer/{name}", value)

    def check_support(self, trajectories: list[Trajectory]) -> None:
        """
        Make sure that the bins of `critic_head="hl_gauss"` cover the returns: others are learnt as the nearest covered.

        Args:
            trajectories (`list[Trajectory]`):
                This process's part of a batch.

        Raises:
            `ValueError`: If the first batch has returns outside. Later ones are counted and logged.
        """
        if self.args.critic_head != "hl_gauss" or self.learner is None:
            return
        returns = torch.cat([torch.zeros(0), *(monte_carlo_returns(t.rewards, self.args.gamma) for t in trajectories)])
        low, high = self.args.value_min or 0.0, self.args.value_max or 0.0
        # A return may leave the range by rounding.
        outside = (returns < low - 1e-4) | (returns > high + 1e-4)
        _, share, _ = moments(self.accelerator, outside.float().to(self.accelerator.device))
        self.log_metric("archer/outside_support", share.item())
        if share > 0 and self.learner.steps_taken == 0:
            raise ValueError(
                f"The first batch has returns outside of value_min={low} to value_max={high}, {100 * share:.0f}% of them; "
                f"on this process they reach from {returns.min():.4g} to {returns.max():.4g}. Widen the range."
            )
        if share > 0:
            logger.warning_once(
                f"Returns outside of value_min={low} to value_max={high} count as the nearest value inside."
            )

    def _advantages(self, rollouts: Rollouts) -> torch.Tensor:
        device = rollouts.outcomes.device
        scored = [t for t in self._trajectories if t is not None]
        if self.learner is None:
            return torch.zeros(rollouts.turn_mask.shape, device=device)
        values = self.learner.values(scored)

        def table(flat: torch.Tensor) -> torch.Tensor:
            return pad_turns(flat, self._trajectories, rollouts.max_turns)

        rewards, ended = (x.to(device) for x in turn_outcomes(scored, self.args.bootstrap_truncated))
        mask = table(torch.ones_like(rewards)).bool()
        state_values = torch.minimum(values.v1, values.v2)
        if self.args.advantage_estimator == "gae":
            # Values of states before the turns, and behind them that of the state after the last one.
            before, after = table(state_values), table(torch.minimum(values.next_v1, values.next_v2))
            chained = torch.cat([before, torch.zeros_like(before[:, :1])], dim=1)
            rows = torch.arange(len(before), device=device)
            lengths = mask.sum(dim=1)
            chained[rows, lengths] = after[rows, (lengths - 1).clamp(min=0)]
            advantages = turn_gae(
                table(rewards),
                chained,
                mask,
                table(ended.float()).bool(),
                gamma=self.args.gamma,
                gae_lambda=self.args.gae_lambda,
            )
        else:
            advantages = table(utterance_advantages(values.q1, values.q2, values.v1, values.v2))
        for name, value in critic_metrics(self.accelerator, scored, values, advantages[mask], self.args.gamma).items():
            self.log_metric(f"archer/{name}", value)
        if self.args.whiten_advantages:
            count, mean, std = moments(self.accelerator, advantages[mask])
            advantages = torch.where(mask, (advantages - mean) / (std + 1e-8), 0.0)
        return advantages

    def _subtract_baseline(self, rollouts: Rollouts, advantages: torch.Tensor) -> torch.Tensor:
        assert self._baseline is not None
        ones = torch.ones_like(rollouts.written_mask, dtype=torch.float32)
        written = broadcast_to_tokens(ones, rollouts.turn_spans, advantages.size(1)).bool()
        trajectories = [
            utterance(prompt, completion)
            for prompt, completion in zip(rollouts.prompt_ids, rollouts.completion_ids, strict=True)
        ]
        # Before it learns from them: afterwards it would know these advantages, and take away what there is to learn.
        expected = self._baseline.values(trajectories, advantages.size(1))
        self.log_metric("archer/baseline_loss", self._baseline.update(trajectories, advantages, written))
        return torch.where(written, advantages - expected, 0.0)

    def _num_critic_steps(self) -> int:
        """Critic steps of the whole training, for its schedule."""
        args = self.args
        assert args.steps_per_generation is not None
        if args.max_steps > 0:
            updates = args.max_steps
        else:
            rows = len(self.train_dataset) if isinstance(self.train_dataset, Dataset) else 0
            per_batch = args.generation_batch_size // self.num_generations
            updates = int(
                args.num_train_epochs
                * rows
                / per_batch
                * args.steps_per_generation
                * self.num_iterations
                / args.gradient_accumulation_steps
            )
        batches = updates * args.gradient_accumulation_steps / (args.steps_per_generation * self.num_iterations)
        return max(1, int(batches + args.critic_warmup_iterations) * args.critic_steps)

    # --- metrics and state

    def _log_buffer(self, rollouts: Rollouts) -> None:
        if not rollouts.is_training:
            return
        self.log_metric("archer/buffer_transitions", self.buffer.num_transitions)
        self.log_metric("archer/buffer_bytes", self.buffer.num_bytes)
        self.log_metric("archer/buffer_age", self.buffer.mean_age(self.state.global_step))

    def method_state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"warmed_up": self.warmed_up}
        if self.learner is None:
            return state
        prints = gather_object([self.learner.fingerprint()])
        if len(set(prints)) > 1:
            raise RuntimeError("The critic is not the same on all processes: nothing it says can be trusted.")
        state |= self.learner.state()
        state["critic_fingerprint"] = prints[0]
        return state if self._baseline is None else state | self._baseline.state()

    def load_method_state(self, state: dict[str, Any]) -> None:
        if self.learner is not None:
            self.learner.load_state(state)
        if self._baseline is not None:
            self._baseline.load_state(state)
        self.warmed_up = state["warmed_up"]

    def shard_state(self) -> dict[str, Any]:
        return self.buffer.shard_state() if self.args.save_replay_buffer else {}

    def load_shard_states(self, states: list[dict[str, Any]]) -> None:
        self.buffer.load_shard_states(states, self.accelerator.process_index, self.accelerator.num_processes)

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Context manager after which the trainer is what it was before, the replay buffer included."""
        shards = gather_object([self.buffer.shard_state()])
        with super().set_aside():
            yield
        self.load_shard_states(shards)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and the critic in the folder `critic` next to it if `push_critic` is set."""
        super().save_model(output_dir, _internal_call)
        if self.learner is not None and self.args.push_critic and self.args.should_save:
            # What is pushed is the output folder, also when a checkpoint is saved.
            for folder in {str(output_dir or self.args.output_dir), str(self.args.output_dir)}:
                save_critic(self.learner.critic, self.args, Path(folder) / "critic")
