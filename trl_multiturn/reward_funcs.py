"""Reward functions of our own beside the user's."""

import copy
from collections.abc import Callable
from typing import Any

import torch

from .config import MultiTurnGRPOConfig
from .rollouts import StopReason


def make_stop_penalty(penalties: dict[StopReason, float]) -> Callable:
    """
    Reward function that gives a rollout a number for the reason for which it ended.

    Args:
        penalties (`dict[StopReason, float]`):
            Number by reason; 0 for the others.

    Returns:
        `Callable`: Reward function named `stop_penalty`.
    """

    def stop_penalty(stop_reason: list[str], **kwargs) -> list[float]:
        return [penalties.get(StopReason(reason), 0.0) for reason in stop_reason]

    return stop_penalty


def append_reward_funcs(
    args: MultiTurnGRPOConfig, reward_funcs: Any, extra: list[Callable], kwargs: dict[str, Any]
) -> tuple[MultiTurnGRPOConfig, Any, dict[str, Any]]:
    """
    Put reward functions behind the user's, with weight 1, and leave the user's objects as they were.

    Args:
        args ([`MultiTurnGRPOConfig`]):
            The user's configuration.
        reward_funcs (`Any`):
            The user's reward functions, as TRL takes them.
        extra (`list[Callable]`):
            Functions to add.
        kwargs (`dict[str, Any]`):
            The trainer's other arguments.

    Returns:
        `tuple`: Configuration, reward functions and other arguments to pass to TRL.
    """
    if not extra:
        return args, reward_funcs, kwargs
    if reward_funcs is None:
        reward_funcs = []
    elif not isinstance(reward_funcs, list):
        reward_funcs = [reward_funcs]
    if args.reward_weights is not None:
        if len(args.reward_weights) != len(reward_funcs):
            raise ValueError(
                f"Number of reward weights ({len(args.reward_weights)}) must match number of reward functions "
                f"({len(reward_funcs)})"
            )
        weights = args.reward_weights + [1.0] * len(extra)
        args = copy.copy(args)
        args.reward_weights = weights
    processing_classes = kwargs.get("reward_processing_classes")
    if processing_classes is not None:
        if not isinstance(processing_classes, list):
            processing_classes = [processing_classes]
        kwargs = {**kwargs, "reward_processing_classes": [*processing_classes, *([None] * len(extra))]}
    return args, [*reward_funcs, *extra], kwargs


def weighted_rewards(rewards: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """
    Weighted sum of the rewards of each rollout. B rollouts, F reward functions.

    Args:
        rewards (`torch.Tensor` of shape `(B, F)`):
            Reward by function, NaN where a function does not apply.
        weights (`torch.Tensor` of shape `(F,)`):
            Weight of each function.

    Returns:
        `torch.Tensor` of shape `(B,)`: NaN where no function applied.
    """
    outcomes = (rewards * weights.to(rewards.device)).nansum(dim=1)
    outcomes[rewards.isnan().all(dim=1)] = torch.nan
    return outcomes
