"""What the variants of ArCHer train on, or say, in place of what was rolled out: filtered BC, CHAI and the offline form."""

from typing import Any

import torch
from accelerate.utils import gather_object

from ..hooks import Sampler, TurnHooks
from ..rollouts import Rollouts, TrainingBatch
from .buffer import ReplayBuffer, Trajectory
from .config import ArCHerConfig
from .episodes import training_batch, utterance
from .learner import CriticLearner, single_turn
from .logged import logged_trajectories
from .losses import utterance_advantages
from .metrics import moments


_MAX_AWR_WEIGHT = 20.0


class ArCHerVariants(TurnHooks):
    """The part of [`ArCHerTrainer`] that `algorithm` and `value_target="resample"` choose from."""

    args: ArCHerConfig
    buffer: ReplayBuffer
    learner: CriticLearner | None
    train_dataset: Any
    tools: Any
    log_metric: Any
    sample_turns: Any
    train_critic: Any
    check_support: Any

    @property
    def rolls_out(self) -> bool:
        """Whether the trainer rolls out prompts: not if `algorithm="offline"`."""
        return self.args.algorithm != "offline"

    def stored_batch(self, rows: list[dict[str, Any]]) -> TrainingBatch | None:
        """
        Logged trajectories, weighted by their utterances' advantages, if `algorithm="offline"`.

        Args:
            rows (`list[dict]`):
                This process's rows; only their number matters.

        Returns:
            [`TrainingBatch`] or `None`
        """
        if self.rolls_out:
            return None
        self.train_critic(self.buffer.first_id)
        trajectories = self._fetch(self.buffer.draw(len(rows) * self.accelerator.num_processes))
        assert self.learner is not None
        values = self.learner.values(trajectories)
        advantages = utterance_advantages(values.q1, values.q2, values.v1, values.v2)
        weights = (self.args.awr_temperature * advantages).exp().clamp(max=_MAX_AWR_WEIGHT)
        self.log_metric("archer/awr_weight", moments(self.accelerator, weights)[1].item())
        self.log_metric("archer/advantage_mean", moments(self.accelerator, advantages)[1].item())
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
        trajectories = self._fetch(self.buffer.draw_among(best, len(rollouts) * self.accelerator.num_processes))
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
        assert self.learner is not None
        candidates = sample(self.args.num_candidates)
        values = self.learner.values(
            [utterance(prompt, ids) for prompt, some in zip(prompt_ids, candidates, strict=True) for ids in some],
            target=True,
        )
        best = torch.minimum(values.q1, values.q2).view(-1, self.args.num_candidates).argmax(dim=1)
        return [some[choice] for some, choice in zip(candidates, best.tolist(), strict=True)]

    def resample(self) -> list[Trajectory]:
        """Stored states with an utterance each that the policy writes there now; this process's share."""
        world = self.accelerator.num_processes
        count = -(-self.args.resample_states // world) * world
        drawn = self.buffer.draw_transitions(count)
        held = [(self.buffer.get(trajectory_id), turn) for trajectory_id, turn in drawn]
        states = self._own_part([None if trajectory is None else single_turn(trajectory, k) for trajectory, k in held])
        prompts = [state.tokens[: state.prompt_length].tolist() for state in states]
        return [utterance(prompt, ids) for prompt, ids in zip(prompts, self.sample_turns(prompts), strict=True)]

    def _fetch(self, ids: list[int]) -> list[Trajectory]:
        return self._own_part([self.buffer.get(i) for i in ids])

    def _own_part(self, drawn: list[Trajectory | None]) -> list[Trajectory]:
        """This process's share of drawn trajectories, each given by the process that holds it."""
        found = drawn
        if self.accelerator.num_processes > 1:
            held = gather_object([(place, t) for place, t in enumerate(found) if t is not None])
            found = [trajectory for _, trajectory in sorted(held, key=lambda item: item[0])]
        share = len(drawn) // self.accelerator.num_processes
        start = share * self.accelerator.process_index
        return [t for t in found[start : start + share] if t is not None]

    def _weighted_batch(self, trajectories: list[Trajectory], weights: list[torch.Tensor]) -> TrainingBatch:
        turns = self.accelerator.reduce(
            torch.tensor([sum(map(len, trajectories))], device=self.accelerator.device).float(), "sum"
        ).item()
        rows = len(trajectories) * self.accelerator.num_processes
        scale = self.loss_scale(rows, int(turns))
        return training_batch(trajectories, [scale * weight for weight in weights])

    def loss_scale(self, num_rows: int, num_turns: int) -> float:
        """
        Factor that turns TRL's mean over rows into ArCHer's mean over turns; both counted over all processes.

        Args:
            num_rows (`int`):
                Rows of the batch.
            num_turns (`int`):
                Turns that are trained on.

        Returns:
            `float`: 1 for a `loss_type` other than `"luspo"`, which normalises by itself.
        """
        return num_rows / max(num_turns, 1) if self.args.loss_type == "luspo" else 1.0

    def load_logged(self) -> None:
        """
        Fill the buffer with the dataset's trajectories.

        Raises:
            `ValueError`: If a row lacks what is needed, or the buffer is too small.
        """
        trajectories = logged_trajectories(self.train_dataset, self.processing_class, self.tools)
        transitions = sum(map(len, trajectories))
        if transitions > self.args.replay_capacity:
            raise ValueError(
                f"The dataset holds {transitions} transitions, more than replay_capacity={self.args.replay_capacity}: "
                "raise it, or the first ones are never learnt from."
            )
        self.check_support(trajectories)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.buffer.extend(
            [t.summary for t in trajectories],
            {place: t for place, t in enumerate(trajectories) if place % world == rank},
        )
