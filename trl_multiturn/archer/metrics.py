"""What a generation batch says about the critic."""

from typing import Any

import torch

from .buffer import Trajectory
from .critic import CriticValues
from .losses import monte_carlo_returns


def critic_metrics(
    accelerator: Any,
    trajectories: list[Trajectory],
    values: CriticValues,
    advantages: torch.Tensor,
    gamma: float,
) -> dict[str, float]:
    """
    Advantages, and how the values of states compare with the returns that the rollouts then had.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Sums over processes.
        trajectories (`list[Trajectory]`):
            This process's trajectories with n turns together.
        values ([`CriticValues`]):
            Values of their turns.
        advantages (`torch.Tensor` of shape `(n,)`):
            Advantages of their turns.
        gamma (`float`):
            Discount per turn.

    Returns:
        `dict[str, float]`: By name, without prefix; over all processes.
    """
    state_values = torch.minimum(values.v1, values.v2)
    returns = torch.cat([torch.zeros(0), *(monte_carlo_returns(t.rewards, gamma) for t in trajectories)]).to(
        state_values
    )
    error = returns - state_values
    columns = [
        torch.ones_like(returns),
        advantages.to(returns),
        advantages.to(returns).square(),
        (values.q1 - values.q2).abs(),
        state_values,
        returns,
        returns.square(),
        error,
        error.square(),
    ]
    sums = accelerator.reduce(torch.stack(columns, dim=1).double().sum(dim=0).float(), "sum").double()
    means = (sums / sums[0].clamp(min=1)).tolist()
    _, advantage, squared_advantage, q_gap, value, mean_return, squared_return, bias, squared_error = means
    variance = squared_return - mean_return**2
    return {
        "advantage_mean": advantage,
        "advantage_std": max(squared_advantage - advantage**2, 0.0) ** 0.5,
        "q_gap": q_gap,
        "value_mean": value,
        "return_mean": mean_return,
        "value_bias": -bias,
        # 1: the values say all there is to say about the returns; 0: no more than their mean does.
        "explained_variance": 1.0 - (squared_error - bias**2) / variance if variance > 1e-8 else 0.0,
    }


def moments(accelerator: Any, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Count, mean and population standard deviation over all processes' values.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Sums over processes.
        values (`torch.Tensor` of shape `(n,)`):
            This process's values, on its device.

    Returns:
        `tuple`: Three scalars.
    """
    sums = torch.stack([values.new_tensor(float(len(values))), values.sum(), values.square().sum()])
    count, total, squares = accelerator.reduce(sums.float(), "sum")
    mean = total / count.clamp(min=1)
    return count, mean, (squares / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
