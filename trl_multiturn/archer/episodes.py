"""From rollouts to the trajectories that the critic reads, and back to turns and tokens."""

from typing import Any

import torch

from ..rollouts import Rollouts, StopReason, TrainingBatch
from .buffer import Trajectory


# The policy itself ended these: nothing would have come after. The others were cut off.
_ENDED_BY_POLICY = (StopReason.COMPLETED, StopReason.PARSE_ERROR)


def read_trajectories(rollouts: Rollouts, turn_rewards: torch.Tensor, policy_version: int) -> list[Trajectory | None]:
    """
    Trajectories of one process's rollouts.

    Args:
        rollouts ([`Rollouts`]):
            B rollouts.
        turn_rewards (`torch.Tensor` of shape `(B, K)`):
            Reward of each turn.
        policy_version (`int`):
            Optimizer steps of the policy so far.

    Returns:
        `list[Trajectory | None]`: One for each rollout; `None` where no reward was measured. A last turn that never came (the
        rollout was cut off right after a tool's answer), or that the model only wrote after the environment had
        terminated, is none: its reward goes to the turn before it.
    """
    trajectories: list[Trajectory | None] = []
    for row, turns in enumerate(rollouts.turns):
        rewards = turn_rewards[row, : len(turns)].float().cpu().clone()
        if len(turns) > 1 and (turns[-1].start == turns[-1].end or _is_after_the_end(rollouts, row)):
            rewards[-2] += rewards[-1]
            rewards, turns = rewards[:-1], turns[:-1]
        if rewards.isnan().any():
            trajectories.append(None)
            continue
        offset = len(rollouts.prompt_ids[row])
        spans = [[offset + t.start, offset + t.end, offset + t.context_end] for t in turns]
        terminated, truncated = _ending(rollouts, row)
        trajectories.append(
            Trajectory(
                torch.tensor([*rollouts.prompt_ids[row], *rollouts.completion_ids[row]], dtype=torch.int32),
                torch.tensor(spans, dtype=torch.int32),
                rewards,
                terminated,
                truncated,
                policy_version,
            )
        )
    return trajectories


def _is_after_the_end(rollouts: Rollouts, row: int) -> bool:
    """
    Whether the last turn came after the environment had ended the episode: it called no tool, so an earlier one ended it.

    As a turn of the episode it would be worth 0 in every rollout that reached the end, and the critic would take saying the
    same in the middle of an episode for worth as much: for better than going on, where rewards are negative.
    """
    environment: Any = None if rollouts.environments is None else rollouts.environments[row]
    ended = bool(getattr(environment, "terminated", False)) or bool(getattr(environment, "truncated", False))
    return ended and rollouts.stop_reasons[row] is StopReason.COMPLETED


def _ending(rollouts: Rollouts, row: int) -> tuple[bool, bool]:
    """Whether the rollout's episode terminated, and whether it was cut off; the environment knows best."""
    environment: Any = None if rollouts.environments is None else rollouts.environments[row]
    if bool(getattr(environment, "terminated", False)):
        return True, False
    if bool(getattr(environment, "truncated", False)):
        return False, True
    ended = rollouts.stop_reasons[row] in _ENDED_BY_POLICY
    return ended, not ended


def pad_turns(values: torch.Tensor, trajectories: list[Trajectory | None], num_turns: int) -> torch.Tensor:
    """
    Flat values of turns as a table.

    Args:
        values (`torch.Tensor` of shape `(n,)`):
            One for each turn of the trajectories that there are, in order.
        trajectories (`list[Trajectory | None]`):
            One for each of B rollouts.
        num_turns (`int`):
            K, at least the longest trajectory's.

    Returns:
        `torch.Tensor` of shape `(B, K)`: 0 where there is no turn.
    """
    table = values.new_zeros(len(trajectories), num_turns)
    taken = 0
    for row, trajectory in enumerate(trajectories):
        if trajectory is not None:
            table[row, : len(trajectory)] = values[taken : taken + len(trajectory)]
            taken += len(trajectory)
    return table


def training_batch(trajectories: list[Trajectory], weights: list[torch.Tensor]) -> TrainingBatch:
    """
    Stored trajectories as something to train on.

    Args:
        trajectories (`list[Trajectory]`):
            B trajectories.
        weights (`list[torch.Tensor]`):
            For each, `(K,)`: what multiplies the log-probability of each turn's tokens.

    Returns:
        [`TrainingBatch`]
    """
    batch = TrainingBatch([], [], [], [])
    for trajectory, turn_weights in zip(trajectories, weights, strict=True):
        prompt, length = trajectory.prompt_length, len(trajectory.tokens)
        mask, advantages = [0] * (length - prompt), [0.0] * (length - prompt)
        for (start, end, _), weight in zip(trajectory.turns.tolist(), turn_weights.tolist(), strict=True):
            mask[start - prompt : end - prompt] = [1] * (end - start)
            advantages[start - prompt : end - prompt] = [weight] * (end - start)
        tokens = trajectory.tokens.tolist()
        batch.prompt_ids.append(tokens[:prompt])
        batch.completion_ids.append(tokens[prompt:])
        batch.model_masks.append(mask)
        batch.token_advantages.append(advantages)
    return batch


def utterance(prompt: list[int], written: list[int]) -> Trajectory:
    """A state and what is said in it, as a trajectory of one turn."""
    start, end = len(prompt), len(prompt) + len(written)
    return Trajectory(
        torch.tensor([*prompt, *written], dtype=torch.int32),
        torch.tensor([[start, end, end]], dtype=torch.int32),
        torch.zeros(1),
        terminated=True,
        truncated=False,
        policy_version=0,
    )
