"""[`ArCHerTrainer`]: a critic of whole utterances, learnt from a replay buffer, over a policy of tokens."""

import random
import textwrap
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.utils import logging

from ..hooks import Sampler
from ..rollouts import Rollouts, TrainingBatch
from ..trainer import MultiTurnGRPOTrainer
from .backbones import build_causal_backbone, build_critic
from .baseline import TokenBaseline
from .buffer import ReplayBuffer, Trajectory
from .config import ArCHerConfig
from .episodes import pad_turns, read_trajectories, training_batch
from .learner import CriticLearner, single_turn, turn_outcomes
from .logged import logged_trajectories
from .losses import monte_carlo_returns, turn_gae, utterance_advantages
from .metrics import critic_metrics
from .saving import save_critic


logger = logging.get_logger(__name__)

_MAX_AWR_WEIGHT = 20.0


class ArCHerTrainer(MultiTurnGRPOTrainer):
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
            reward_funcs = _no_reward  # TRL asks for one; the rewards are in the dataset
        super().__init__(model, reward_funcs, args, train_dataset, **kwargs)
        if self.is_vision_language:
            raise ValueError(
                "ArCHerTrainer does not support vision-language models yet: the critic would not see the images. Use "
                "MultiTurnGRPOTrainer."
            )
        if args.load_best_model_at_end:
            logger.warning("load_best_model_at_end restores the policy alone: the critic stays the last one.")
        self.buffer = ReplayBuffer(args.replay_capacity, args.replay_max_bytes, seed=args.seed)
        critic = build_critic(args, self.model, self.processing_class)
        self.learner = CriticLearner(critic, args, self.buffer, self.accelerator, self._num_critic_steps())
        self._baseline = None
        if args.token_baseline:
            backbone, width = build_causal_backbone(args, self.model)
            self._baseline = TokenBaseline(backbone, width, args, self.accelerator)
        self._iterations = 0
        self._warmed_up = args.critic_warmup_iterations == 0
        self._trajectories: list[Trajectory | None] = []
        self._loss_scale = 1.0
        self.add_callback(_BeforeTraining(self))

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
            self._train_critic(fresh_id)
        advantages = self._advantages(rollouts)
        self._log_rates(rollouts)
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

    def stored_batch(self, rows: list[dict[str, Any]]) -> TrainingBatch | None:
        """
        Logged trajectories, weighted by their utterances' advantages, if `algorithm="offline"`.

        Args:
            rows (`list[dict]`):
                This process's rows; only their number matters.

        Returns:
            [`TrainingBatch`] or `None`
        """
        if self.args.algorithm != "offline":
            return None
        self._train_critic(self.buffer.first_id)
        trajectories = self._own_part(self.buffer.draw(len(rows) * self.accelerator.num_processes))
        values = self.learner.values(trajectories)
        advantages = utterance_advantages(values.q1, values.q2, values.v1, values.v2)
        weights = (self.args.awr_temperature * advantages).exp().clamp(max=_MAX_AWR_WEIGHT)
        self._log_mean("archer/awr_weight", weights)
        self._log_mean("archer/advantage_mean", advantages)
        return self._weighted_batch(trajectories, list(weights.split([len(t) for t in trajectories])))

    def replace_batch(self, rollouts: Rollouts) -> TrainingBatch | None:
        """
        The best trajectories so far, if `algorithm="filtered_bc"`.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process; only their number matters.

        Returns:
            [`TrainingBatch`] or `None`
        """
        if self.args.algorithm != "filtered_bc":
            return None
        best = self.buffer.best(self.args.filter_quantile)
        self.log_metric("archer/kept", len(best) / len(self.buffer))
        trajectories = self._own_part(self.buffer.draw_among(best, len(rollouts) * self.accelerator.num_processes))
        return self._weighted_batch(trajectories, [torch.ones(len(t)) for t in trajectories])

    def choose_turns(self, prompt_ids: list[list[int]], sample: Sampler) -> list[list[int]] | None:
        """
        The utterance with the highest Q of the target network among several, if `algorithm="chai"`.

        Args:
            prompt_ids (`list[list[int]]`):
                Tokens of each rollout that goes on, up to the turn.
            sample (`Callable`):
                Samples utterances from the policy.

        Returns:
            `list[list[int]]` or `None`
        """
        if self.args.algorithm != "chai":
            return None
        candidates = sample(self.args.num_candidates)
        values = self.learner.values(
            [_utterance(prompt, ids) for prompt, some in zip(prompt_ids, candidates, strict=True) for ids in some],
            target=True,
        )
        best = torch.minimum(values.q1, values.q2).view(-1, self.args.num_candidates).argmax(dim=1)
        return [some[choice] for some, choice in zip(candidates, best.tolist(), strict=True)]

    # --- one iteration

    def _store(self, trajectories: list[Trajectory | None]) -> int:
        """Put a batch of all processes into the buffer; returns the id of its first trajectory."""
        start = self.accelerator.process_index * len(trajectories)
        known = [
            None if t is None else (len(t.tokens), len(t), t.total_reward, t.policy_version) for t in trajectories
        ]
        known = gather_object(known)
        places = [i for i, entry in enumerate(known) if entry is not None]
        own = {
            place: trajectory
            for place, i in enumerate(places)
            if 0 <= i - start < len(trajectories) and (trajectory := trajectories[i - start]) is not None
        }
        fresh_id = self.buffer.next_id
        self.buffer.extend([known[i] for i in places], own)
        self.log_metric("archer/unscored", 1.0 - len(places) / len(known))
        if self.args.critic_head == "hl_gauss":
            self._check_support([t for t in trajectories if t is not None])
        turns = sum(entry[1] for entry in known if entry is not None)
        self._loss_scale = len(known) / max(turns, 1) if self.args.loss_type == "luspo" else 1.0
        return fresh_id

    def _train_critic(self, fresh_id: int) -> None:
        if self.args.algorithm == "filtered_bc":
            return
        self._iterations += 1
        if fresh_id == self.buffer.next_id:
            logger.warning("No rollout of this batch had a reward: the critic was not trained.")
            return
        start = time.perf_counter()
        resampled = self._resample() if self.args.value_target == "resample" else None
        found = self.learner.update(self.args.critic_steps, fresh_id, resampled)
        self.log_metric("archer/critic_seconds", time.perf_counter() - start)
        for name, value in found.items():
            self.log_metric(f"archer/{name}", value)

    def _check_support(self, trajectories: list[Trajectory]) -> None:
        """Returns that the bins do not cover would be learnt as the nearest that they do."""
        returns = torch.cat([torch.zeros(0), *(monte_carlo_returns(t.rewards, self.args.gamma) for t in trajectories)])
        low, high = self.args.value_min or 0.0, self.args.value_max or 0.0
        # A return may leave the range by rounding.
        outside = (returns < low - 1e-4) | (returns > high + 1e-4)
        _, share, _ = _moments(self.accelerator, outside.float().to(self.accelerator.device))
        self.log_metric("archer/outside_support", share.item())
        if share > 0 and self._iterations == 0:
            raise ValueError(
                f"The first batch has returns outside of value_min={low} to value_max={high}, {100 * share:.0f}% of them; "
                f"on this process they reach from {returns.min():.4g} to {returns.max():.4g}. Widen the range."
            )
        if share > 0:
            logger.warning_once(
                f"Returns outside of value_min={low} to value_max={high} count as the nearest value inside."
            )

    def _resample(self) -> list[Trajectory]:
        """Stored states with an utterance each that the policy writes there now; this process's share."""
        world = self.accelerator.num_processes
        count = -(-self.args.resample_states // world) * world
        drawn = self.buffer.draw_transitions(count)
        turns = {trajectory_id: self.buffer.get(trajectory_id) for trajectory_id, _ in drawn}
        states = self._own_part(
            [i for i, _ in drawn],
            [None if (t := turns[i]) is None else single_turn(t, k) for i, k in drawn],
        )
        prompts = [state.tokens[: state.prompt_length].tolist() for state in states]
        return [_utterance(prompt, ids) for prompt, ids in zip(prompts, self.sample_turns(prompts), strict=True)]

    def _advantages(self, rollouts: Rollouts) -> torch.Tensor:
        device = rollouts.outcomes.device
        scored = [t for t in self._trajectories if t is not None]
        if self.args.algorithm == "filtered_bc":
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
            count, mean, std = _moments(self.accelerator, advantages[mask])
            advantages = torch.where(mask, (advantages - mean) / (std + 1e-8), 0.0)
        return advantages

    def _subtract_baseline(self, rollouts: Rollouts, advantages: torch.Tensor) -> torch.Tensor:
        assert self._baseline is not None
        written = (
            super()
            .token_advantages(
                rollouts, torch.ones_like(rollouts.written_mask, dtype=torch.float32), advantages.size(1)
            )
            .bool()
        )
        trajectories = [
            _utterance(prompt, completion)
            for prompt, completion in zip(rollouts.prompt_ids, rollouts.completion_ids, strict=True)
        ]
        # Before it learns from them: afterwards it would know these advantages, and take away what there is to learn.
        expected = self._baseline.values(trajectories, advantages.size(1))
        self.log_metric("archer/baseline_loss", self._baseline.update(trajectories, advantages, written))
        return torch.where(written, advantages - expected, 0.0)

    def _own_part(self, ids: list[int], found: list[Trajectory | None] | None = None) -> list[Trajectory]:
        """This process's share of drawn trajectories, fetched from the processes that hold them."""
        if found is None:
            found = [self.buffer.get(i) for i in ids]
        if self.accelerator.num_processes > 1:
            held = gather_object([(place, t) for place, t in enumerate(found) if t is not None])
            found = [trajectory for _, trajectory in sorted(held, key=lambda item: item[0])]
        share = len(ids) // self.accelerator.num_processes
        start = share * self.accelerator.process_index
        return [t for t in found[start : start + share] if t is not None]

    def _weighted_batch(self, trajectories: list[Trajectory], weights: list[torch.Tensor]) -> TrainingBatch:
        turns = self.accelerator.reduce(
            torch.tensor([sum(map(len, trajectories))], device=self.accelerator.device).float(), "sum"
        ).item()
        rows = len(trajectories) * self.accelerator.num_processes
        scale = rows / turns if self.args.loss_type == "luspo" else 1.0
        return training_batch(trajectories, [scale * weight for weight in weights])

    # --- before the first step

    def _before_training(self) -> None:
        """Fill the buffer and train the critic while the policy stands still. A resumed run has done so already."""
        if self.args.algorithm == "offline" and not len(self.buffer):
            self._load_logged()
        if self._warmed_up:
            return
        batches = self._warmup_rows() if self.args.algorithm != "offline" else iter(lambda: [], None)
        for rows in tqdm(
            islice(batches, self.args.critic_warmup_iterations),
            total=self.args.critic_warmup_iterations,
            desc="Warming up the critic",
            disable=self.args.disable_tqdm or not self.accelerator.is_main_process,
        ):
            if rows:
                self.roll_out(rows)
            else:
                self._train_critic(self.buffer.first_id)
            self.log(
                {
                    f"archer/warmup/{name.removeprefix('archer/')}": value
                    for name, value in self.pop_metrics().items()
                    if _is_told(name)
                }
            )
        self._warmed_up = True

    def _warmup_rows(self) -> Iterator[list[dict[str, Any]]]:
        """This process's rows of generation batches of their own, in a random order that is the same on each process."""
        assert self.args.generation_batch_size is not None
        groups = self.args.generation_batch_size // self.num_generations
        share = self.args.generation_batch_size // self.accelerator.num_processes
        start = share * self.accelerator.process_index
        prompts = _endless(self.train_dataset, self.args.seed)
        while True:
            rows = [row for row in islice(prompts, groups) for _ in range(self.num_generations)]
            yield [dict(row) for row in rows[start : start + share]]

    def _load_logged(self) -> None:
        trajectories = logged_trajectories(self.train_dataset, self.processing_class, self.tools)
        transitions = sum(map(len, trajectories))
        if transitions > self.args.replay_capacity:
            raise ValueError(
                f"The dataset holds {transitions} transitions, more than replay_capacity={self.args.replay_capacity}: "
                "raise it, or the first ones are never learnt from."
            )
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.buffer.extend(
            [(len(t.tokens), len(t), t.total_reward, 0) for t in trajectories],
            {place: t for place, t in enumerate(trajectories) if place % world == rank},
        )

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

    def _log_rates(self, rollouts: Rollouts) -> None:
        if not rollouts.is_training:
            return
        self.log_metric("archer/buffer_transitions", self.buffer.num_transitions)
        self.log_metric("archer/buffer_bytes", self.buffer.num_bytes)
        self.log_metric("archer/buffer_age", self.buffer.mean_age(self.state.global_step))

    def _log_mean(self, name: str, values: torch.Tensor) -> None:
        self.log_metric(name, _moments(self.accelerator, values)[1].item())

    def method_state(self) -> dict[str, Any]:
        prints = gather_object([self.learner.fingerprint()])
        if len(set(prints)) > 1:
            raise RuntimeError("The critic is not the same on all processes: nothing it says can be trusted.")
        state = self.learner.state() | {"iterations": self._iterations, "warmed_up": self._warmed_up}
        state["critic_fingerprint"] = prints[0]
        return state if self._baseline is None else state | self._baseline.state()

    def load_method_state(self, state: dict[str, Any]) -> None:
        self.learner.load_state(state)
        if self._baseline is not None:
            self._baseline.load_state(state)
        self._iterations = state["iterations"]
        self._warmed_up = state["warmed_up"]

    def shard_state(self) -> dict[str, Any]:
        return self.buffer.shard_state() if self.args.save_replay_buffer else {}

    def load_shard_states(self, states: list[dict[str, Any]]) -> None:
        self.buffer.load_shard_states(states, self.accelerator.process_index, self.accelerator.num_processes)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, and the critic in the folder `critic` next to it if `push_critic` is set."""
        super().save_model(output_dir, _internal_call)
        if self.args.push_critic and self.args.should_save:
            # What is pushed is the output folder, also when a checkpoint is saved.
            for folder in {str(output_dir or self.args.output_dir), str(self.args.output_dir)}:
                save_critic(self.learner.critic, self.args, Path(folder) / "critic")


class _BeforeTraining(TrainerCallback):
    """The policy is wrapped and a checkpoint loaded by now; no step has been taken."""

    def __init__(self, trainer: ArCHerTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer._before_training()


def _utterance(prompt: list[int], utterance: list[int]) -> Trajectory:
    """A state and what is said in it, as a trajectory of one turn."""
    start, end = len(prompt), len(prompt) + len(utterance)
    return Trajectory(
        torch.tensor([*prompt, *utterance], dtype=torch.int32),
        torch.tensor([[start, end, end]], dtype=torch.int32),
        torch.zeros(1),
        terminated=True,
        truncated=False,
        policy_version=0,
    )


def _moments(accelerator: Any, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count, mean and population standard deviation over all processes' values."""
    sums = torch.stack([values.new_tensor(float(len(values))), values.sum(), values.square().sum()])
    count, total, squares = accelerator.reduce(sums.float(), "sum")
    mean = total / count.clamp(min=1)
    return count, mean, (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()


def _endless(dataset: Any, seed: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(seed)
    while True:
        if isinstance(dataset, Dataset):
            order = list(range(len(dataset)))
            rng.shuffle(order)
            yield from (dataset[i] for i in order)
        else:
            yield from dataset


def _is_told(name: str) -> bool:
    """Which metrics of a warm-up batch are logged: those of the critic, and how the policy as it is fares."""
    return name in ("reward", "turns/mean", "tools/call_frequency") or name.startswith("archer/")


def _no_reward(completions: list[Any], **kwargs: Any) -> list[None]:
    """The rewards of logged trajectories are in the dataset."""
    return [None] * len(completions)
