"""Metrics of a generation batch, from values gathered over all processes."""

import torch

from .advantages import groups_without_signal
from .rollouts import StopReason


def rollout_metrics(
    turn_rewards: torch.Tensor,
    turn_advantages: torch.Tensor,
    written: torch.Tensor,
    stop_codes: torch.Tensor,
    group_size: int,
) -> dict[str, float]:
    """
    What happened in the turns of N rollouts.

    Args:
        turn_rewards (`torch.Tensor` of shape `(N, K)`):
            Reward of each turn, NaN where none was measured.
        turn_advantages (`torch.Tensor` of shape `(N, K)`):
            Advantage of each turn.
        written (`torch.Tensor` of shape `(N, K)`):
            Non-zero where the model wrote a turn.
        stop_codes (`torch.Tensor` of shape `(N,)`):
            Position of each rollout's reason in [`StopReason`].
        group_size (`int`):
            Rollouts per prompt, consecutive.

    Returns:
        `dict[str, float]`: `turns/*`, `turn_reward/*`, `turn_advantage/*` and `stop/*`.
    """
    written = written.bool()
    turns = written.sum(dim=1).double()
    measured = turn_rewards[written & ~turn_rewards.isnan()]
    trained = turn_advantages[written].abs()
    group_ids = torch.arange(len(written), device=written.device) // group_size
    metrics = {
        "turns/mean": turns.mean().item(),
        "turns/min": turns.min().item(),
        "turns/max": turns.max().item(),
        "turn_advantage/zero_groups": groups_without_signal(turn_advantages, written, group_ids),
    }
    if len(measured):
        metrics["turn_reward/mean"] = measured.mean().item()
        metrics["turn_reward/std"] = measured.std(correction=0).item()
    if len(trained):
        metrics["turn_advantage/abs_mean"] = trained.mean().item()
        metrics["turn_advantage/abs_max"] = trained.max().item()
    for code, reason in enumerate(StopReason):
        metrics[f"stop/{reason.value}"] = (stop_codes == code).double().mean().item()
    return metrics
