"""What a method of credit assignment overrides, and what it may call: no private name of TRL is in here."""

from collections.abc import Callable
from typing import Any

import torch

from .advantages import broadcast_to_tokens, environment_turn_advantages
from .rollouts import Rollouts, TrainingBatch


# Gives, for each rollout, a number of utterances.
Sampler = Callable[[int], list[list[list[int]]]]


class TurnHooks:
    """
    The part of [`MultiTurnGRPOTrainer`] that methods override. After each generation batch the trainer calls, in this
    order, [`compute_turn_rewards`], [`compute_turn_advantages`], [`token_advantages`], [`replace_batch`] and
    [`after_rollouts`]; before it, [`stored_batch`] and [`select_rows`]; and while it is generated, [`choose_turns`].
    """

    args: Any
    model: Any
    ref_model: Any
    accelerator: Any
    processing_class: Any
    environments: Any
    num_generations: Any
    num_generations_eval: Any
    scale_rewards: Any

    @property
    def rolls_out(self) -> bool:
        """Whether the trainer rolls out prompts, rather than train on what [`stored_batch`] gives alone."""
        return True

    def select_rows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """
        Choose the dataset rows of the next generation batch. Called before generation, during training only.

        Args:
            rows (`list[dict]`):
                This process's rows as the sampler drew them. Each prompt comes `num_generations` times in a row,
                counted over all processes.

        Returns:
            `list[dict]`: As many rows, grouped in the same way.
        """
        return rows

    def compute_turn_rewards(self, rollouts: Rollouts) -> torch.Tensor:
        """
        Reward of every turn: the outcome on the last, plus what the environment says each turn was worth.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.

        Returns:
            `torch.Tensor` of shape `(B, K)`, float32: NaN where nothing was measured, any value where there is no turn.
        """
        rewards = torch.zeros(rollouts.turn_mask.shape, device=rollouts.outcomes.device)
        rows = torch.arange(len(rollouts))
        last = torch.tensor([len(turns) - 1 for turns in rollouts.turns])
        rewards[rows, last] = rollouts.outcomes
        if rollouts.environment_rewards is not None:
            for row, values in enumerate(rollouts.environment_rewards):
                rewards[row, : len(values)] = rewards[row, : len(values)].nan_to_num(nan=0.0) + rewards.new_tensor(
                    values
                )
        return rewards

    def compute_turn_advantages(self, rollouts: Rollouts, turn_rewards: torch.Tensor) -> torch.Tensor:
        """
        Advantage of every turn: GRPO's group advantage on each, or the centred return-to-go if the environment gives
        turn rewards.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.
            turn_rewards (`torch.Tensor` of shape `(B, K)`):
                What [`compute_turn_rewards`] returned.

        Returns:
            `torch.Tensor` of shape `(B, K)`.
        """
        if rollouts.environment_rewards is None:
            return rollouts.advantages.unsqueeze(1).expand(-1, rollouts.max_turns)
        rewards, mask, group_ids = self.gather_turns(rollouts, turn_rewards)
        scale = self.scale_rewards
        advantages = environment_turn_advantages(rewards, mask, group_ids, gamma=self.args.gamma, scale=scale)
        return self.local_turns(rollouts, advantages)

    def token_advantages(self, rollouts: Rollouts, turn_advantages: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """
        What the loss multiplies each token's log-probability with: the advantage of its turn.

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
        return broadcast_to_tokens(turn_advantages, rollouts.turn_spans, num_tokens)

    def stored_batch(self, rows: list[dict[str, Any]]) -> TrainingBatch | None:
        """
        Train on something stored in place of a generation batch. Called during training only.

        Args:
            rows (`list[dict]`):
                This process's rows as the sampler drew them.

        Returns:
            [`TrainingBatch`] or `None`: As many rows; `None` (the default) to roll out as usual.
        """
        return None

    def replace_batch(self, rollouts: Rollouts) -> TrainingBatch | None:
        """
        Train on something else than what was just rolled out. Called during training only.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.

        Returns:
            [`TrainingBatch`] or `None`: As many rows; `None` (the default) to train on the rollouts.
        """
        return None

    def choose_turns(self, prompt_ids: list[list[int]], sample: Sampler) -> list[list[int]] | None:
        """
        Choose what the model writes next in each rollout. Called once a turn, during training and evaluation.

        Args:
            prompt_ids (`list[list[int]]`):
                Tokens of each rollout that goes on, up to the turn.
            sample (`Callable[[int], list[list[list[int]]]]`):
                Samples a number of utterances for each rollout from the policy.

        Returns:
            `list[list[int]]` or `None`: An utterance for each rollout; `None` (the default) for TRL's own, a single one.
        """
        return None

    def after_rollouts(self, rollouts: Rollouts) -> None:
        """
        Learn from the rollouts or store them. Called once a generation batch, during training only.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.
        """

    def method_state(self) -> dict[str, Any]:
        """
        What must be in a checkpoint beside TRL's own state for a resumed run to equal the uninterrupted one.

        Returns:
            `dict[str, Any]`: Tensors and JSON values by name. Called on every process, written by the main one.
        """
        return {}

    def load_method_state(self, state: dict[str, Any]) -> None:
        """
        Take up what [`method_state`] returned when the checkpoint was written.

        Args:
            state (`dict[str, Any]`):
                Tensors and JSON values by name.
        """

    def shard_state(self) -> dict[str, Any]:
        """
        What each process must write of its own into a checkpoint.

        Returns:
            `dict[str, Any]`: Tensors and JSON values by name. Called and written on every process.
        """
        return {}

    def load_shard_states(self, states: list[dict[str, Any]]) -> None:
        """
        Take up what every process's [`shard_state`] returned, on each process.

        Args:
            states (`list[dict]`):
                One for each process of the run that wrote the checkpoint, which may have had another number of them.
        """

    # --- what hooks may call

    def gather_turns(
        self, rollouts: Rollouts, turn_values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Collect turn values of all processes, since a group's rollouts may be spread over several. Every process must
        call it.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.
            turn_values (`torch.Tensor` of shape `(B, K)`):
                A value for each turn.

        Returns:
            `tuple`: Values `(N, K)`, the mask of real turns `(N, K)` and the group ids `(N,)` of all N rollouts, K being
            the longest rollout's turns over all processes; on the CPU, since not every accelerator has float64.
        """
        # One collective pair for both: the mask rides along as a second plane.
        stacked = torch.stack([turn_values.float(), rollouts.turn_mask.float()], dim=1)
        stacked = self.accelerator.gather(self.accelerator.pad_across_processes(stacked, dim=2)).cpu()
        values, mask = stacked.unbind(dim=1)
        return values, mask.bool(), torch.arange(len(values)) // rollouts.group_size

    def local_turns(self, rollouts: Rollouts, turn_values: torch.Tensor) -> torch.Tensor:
        """
        This process's part of gathered turn values.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.
            turn_values (`torch.Tensor` of shape `(N, K)`):
                A value for each turn of all processes' rollouts.

        Returns:
            `torch.Tensor` of shape `(B, K)`, float32, with this process's K, on its device.
        """
        start = self.accelerator.process_index * len(rollouts)
        mine = turn_values[start : start + len(rollouts), : rollouts.max_turns]
        return mine.float().to(rollouts.outcomes.device)

    def max_over_processes(self, value: int) -> int:
        """Largest value that any process has. Every process must call it."""
        return int(self.accelerator.gather(torch.tensor([value], device=self.accelerator.device)).max().item())
