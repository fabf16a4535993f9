"""Turn-level advantages as pure functions.

Shapes: N rollouts (of all processes), K turns (the longest rollout's), T completion tokens. A turn reward of NaN means
"no reward was measured for this turn": the turn stays, its reward is left out of every statistic and counts as 0.
Statistics are computed in float64: identical float32 rewards must give an advantage of exactly 0, not round-off.
"""

import torch


_VARIANCE_FLOOR = 1e-8
_STD_FLOOR = 1e-6


def returns_to_go(turn_rewards: torch.Tensor, turn_mask: torch.Tensor, gamma: float = 1.0) -> torch.Tensor:
    """
    Discounted sum of the rewards from each turn to the last.

    Args:
        turn_rewards (`torch.Tensor` of shape `(N, K)`):
            Reward of each turn; NaN counts as 0.
        turn_mask (`torch.Tensor` of shape `(N, K)`):
            `True` where the turn exists.
        gamma (`float`, *optional*, defaults to `1.0`):
            Discount per turn.

    Returns:
        `torch.Tensor` of shape `(N, K)`, float64: `G_t = r_t + gamma * G_{t+1}`, 0 where there is no turn.

    Example:

    ```python
    >>> import torch
    >>> from trl_multiturn.advantages import returns_to_go

    >>> returns_to_go(torch.tensor([[0.0, 0.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool), gamma=0.5)
    tensor([[0.2500, 0.5000, 1.0000]], dtype=torch.float64)
    ```
    """
    rewards = torch.nan_to_num(turn_rewards.double(), nan=0.0) * turn_mask
    returns = torch.zeros_like(rewards)
    following = rewards.new_zeros(rewards.shape[0])
    for k in range(rewards.shape[1] - 1, -1, -1):
        following = rewards[:, k] + gamma * following
        returns[:, k] = following
    return returns * turn_mask


def centered_returns(
    turn_rewards: torch.Tensor, turn_mask: torch.Tensor, group_ids: torch.Tensor, gamma: float = 1.0
) -> torch.Tensor:
    """
    Return-to-go of each turn against the other rollouts of its group at the same turn.

    The baseline of rollout i at turn t is the mean return-to-go of the *other* rollouts at turn t, where a rollout that
    has already ended counts 0. It depends on nothing that rollout i did, so it leaves the policy gradient unbiased even
    though the policy itself decides when a rollout stops.

    Args:
        turn_rewards (`torch.Tensor` of shape `(N, K)`):
            Reward of each turn; NaN counts as 0.
        turn_mask (`torch.Tensor` of shape `(N, K)`):
            `True` where the turn exists.
        group_ids (`torch.Tensor` of shape `(N,)`):
            Integer id of each rollout's group.
        gamma (`float`, *optional*, defaults to `1.0`):
            Discount per turn.

    Returns:
        `torch.Tensor` of shape `(N, K)`, float64; a group of one gives 0.
    """
    returns = returns_to_go(turn_rewards, turn_mask, gamma)
    index, num_groups = _group_index(group_ids)
    group_sum = returns.new_zeros(num_groups, returns.shape[1]).index_add_(0, index, returns)
    group_size = torch.bincount(index, minlength=num_groups)[index].unsqueeze(1)
    baseline = (group_sum[index] - returns) / (group_size - 1).clamp(min=1)
    return torch.where(group_size > 1, returns - baseline, 0.0) * turn_mask


def environment_turn_advantages(
    turn_rewards: torch.Tensor,
    turn_mask: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    gamma: float = 1.0,
    scale: str = "group",
) -> torch.Tensor:
    """
    Advantages for rewards that an environment gives turn by turn: the centred return-to-go, scaled as TRL scales.

    Args:
        turn_rewards (`torch.Tensor` of shape `(N, K)`):
            Reward of each turn; NaN counts as 0.
        turn_mask (`torch.Tensor` of shape `(N, K)`):
            `True` where the turn exists.
        group_ids (`torch.Tensor` of shape `(N,)`):
            Integer id of each rollout's group.
        gamma (`float`, *optional*, defaults to `1.0`):
            Discount per turn.
        scale (`str`, *optional*, defaults to `"group"`):
            TRL's `scale_rewards`: divide by the sample standard deviation of the rollouts' whole returns within the
            `"group"`, within the `"batch"`, or not at all (`"none"`).

    Returns:
        `torch.Tensor` of shape `(N, K)`, float64.
    """
    advantages = centered_returns(turn_rewards, turn_mask, group_ids, gamma)
    if scale == "none":
        return advantages
    whole_returns = returns_to_go(turn_rewards, turn_mask, gamma)[:, :1]
    pool = torch.zeros_like(group_ids) if scale == "batch" else group_ids
    everyone = torch.ones_like(whole_returns, dtype=torch.bool)
    count, _, variance = _pool_moments(whole_returns, everyone, pool)
    std = (variance * count / (count - 1).clamp(min=1)).sqrt()
    return advantages / (std.unsqueeze(1) + 1e-4)


def igpo_turn_advantages(
    turn_rewards: torch.Tensor,
    turn_mask: torch.Tensor,
    group_ids: torch.Tensor,
    *,
    gamma: float = 1.0,
    normalization: str = "separate",
    scale: bool = True,
    gain_weight: float = 1.0,
    outcome_weight: float = 1.0,
    baseline: str = "turn",
) -> torch.Tensor:
    """
    Advantage of every turn from information gains and the outcome
    ([IGPO](https://huggingface.co/papers/2510.14967), equations 5 and 6).

    Rewards are normalised within their group first, accumulated to the end of the rollout second. Gains and outcomes
    are normalised in pools of their own (`"separate"`, equation 5) or in one (`"joint"`); every turn counts once, with
    the population standard deviation `sqrt(var + 1e-8) + 1e-6`. A pool of one cell gives 0. The weights apply after
    the normalisation, since a z-score would cancel them.

    With `baseline="turn"` (the paper) each turn's reward is centred and then summed: the sum subtracts a baseline with
    as many terms as turns are left, and the policy decides how many those are, so the estimator is biased whenever a
    pool's mean is not 0. `baseline="return"` leaves the rewards uncentred (each pool divided by its root mean square,
    which unlike the standard deviation cannot vanish under a large mean) and centres the return-to-go against the other
    rollouts of the group: unbiased, see [`centered_returns`].

    Args:
        turn_rewards (`torch.Tensor` of shape `(N, K)`):
            Information gain of each turn; a row's last real turn holds the outcome. NaN: not measured.
        turn_mask (`torch.Tensor` of shape `(N, K)`):
            `True` where the turn exists; the turns of a row come first.
        group_ids (`torch.Tensor` of shape `(N,)`):
            Integer id of each rollout's group, in any order.
        gamma (`float`, *optional*, defaults to `1.0`):
            Discount per turn.
        normalization (`str`, *optional*, defaults to `"separate"`):
            `"separate"` or `"joint"`.
        scale (`bool`, *optional*, defaults to `True`):
            Whether to divide by the pool's standard deviation (root mean square with `baseline="return"`).
        gain_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the normalised gains.
        outcome_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the normalised outcomes.
        baseline (`str`, *optional*, defaults to `"turn"`):
            `"turn"` (the paper) or `"return"` (unbiased).

    Returns:
        `torch.Tensor` of shape `(N, K)`, in the dtype of `turn_rewards`; 0 where there is no turn.

    Raises:
        `ValueError`: For an unknown option or shapes that do not fit.
    """
    _check(turn_rewards, turn_mask, group_ids)
    if normalization not in ("separate", "joint"):
        raise ValueError(f"normalization must be 'separate' or 'joint', got {normalization!r}.")
    if baseline not in ("turn", "return"):
        raise ValueError(f"baseline must be 'turn' or 'return', got {baseline!r}.")

    rewards = turn_rewards.double()
    is_outcome = last_turn_mask(turn_mask)
    measured = turn_mask & ~torch.isnan(rewards)
    pools = [measured] if normalization == "joint" else [measured & is_outcome, measured & ~is_outcome]
    normalize = _standardize if baseline == "turn" else _divide_by_rms
    normalized = sum(normalize(rewards, pool, group_ids, scale) for pool in pools)
    weighted = normalized * torch.where(is_outcome, float(outcome_weight), float(gain_weight))

    if baseline == "turn":
        advantages = returns_to_go(weighted, turn_mask, gamma)
    else:
        advantages = centered_returns(weighted, turn_mask, group_ids, gamma)
    return advantages.to(turn_rewards.dtype)


def baseline_bias(
    turn_rewards: torch.Tensor, turn_mask: torch.Tensor, group_ids: torch.Tensor, *, gamma: float = 1.0
) -> torch.Tensor:
    """
    How much of the first turn's advantage under `baseline="turn"` comes from the number of turns alone.

    The per-turn baseline subtracts the gain pool's mean once for every turn that is left. Its sum from the first turn
    on therefore differs between rollouts of different length; this is the mean absolute deviation of that sum from its
    group mean, in units of the gain pool's standard deviation. 0 when the gains of every group average 0 or its
    rollouts are equally long.

    Args:
        turn_rewards, turn_mask, group_ids, gamma:
            As in [`igpo_turn_advantages`] with separate pools.

    Returns:
        `torch.Tensor`: Scalar, float64.
    """
    rewards = turn_rewards.double()
    gains = turn_mask & ~last_turn_mask(turn_mask) & ~torch.isnan(rewards)
    count, mean, variance = _pool_moments(rewards, gains, group_ids)
    # A pool of one cell is never scaled: its normalised value is 0 whatever the baseline.
    subtracted = torch.where(count > 1, mean / _std(variance), 0.0).unsqueeze(1) * gains
    first = returns_to_go(subtracted, turn_mask, gamma)[:, :1]
    _, group_mean, _ = _pool_moments(first, torch.ones_like(first, dtype=torch.bool), group_ids)
    return (first.squeeze(1) - group_mean).abs().mean()


def groups_without_signal(
    advantages: torch.Tensor, mask: torch.Tensor, group_ids: torch.Tensor, tolerance: float = 1e-6
) -> float:
    """
    Share of groups in which no turn of any rollout has an advantage: prompts that teach nothing in this batch.

    Args:
        advantages (`torch.Tensor` of shape `(N, K)`):
            Advantage of each turn.
        mask (`torch.Tensor` of shape `(N, K)`):
            `True` where a turn is trained on.
        group_ids (`torch.Tensor` of shape `(N,)`):
            Integer id of each rollout's group.
        tolerance (`float`, *optional*, defaults to `1e-6`):
            Advantages up to this size count as none.

    Returns:
        `float`: Share between 0 and 1.
    """
    index, num_groups = _group_index(group_ids)
    has_signal = ((advantages.abs() > tolerance) & mask).any(dim=1).double()
    return (torch.zeros_like(has_signal[:num_groups]).index_add_(0, index, has_signal) == 0).double().mean().item()


def last_turn_mask(turn_mask: torch.Tensor) -> torch.Tensor:
    """
    Where each rollout's last turn is.

    Args:
        turn_mask (`torch.Tensor` of shape `(N, K)`):
            `True` where the turn exists.

    Returns:
        `torch.Tensor` of shape `(N, K)`, bool: `True` at the last real turn of each row.
    """
    following = torch.cat([turn_mask[:, 1:], torch.zeros_like(turn_mask[:, :1])], dim=1)
    return turn_mask & ~following


def broadcast_to_tokens(
    turn_values: torch.Tensor, turn_spans: list[list[tuple[int, int]]], num_tokens: int
) -> torch.Tensor:
    """
    Give every token of a turn the turn's value.

    Args:
        turn_values (`torch.Tensor` of shape `(B, K)`):
            Value of each turn.
        turn_spans (`list[list[tuple[int, int]]]`):
            For each rollout, `(start, end)` of each turn in completion tokens, end excluded.
        num_tokens (`int`):
            T, the padded completion length.

    Returns:
        `torch.Tensor` of shape `(B, T)`: 0 on tokens that belong to no turn.
    """
    tokens = turn_values.new_zeros(len(turn_spans), num_tokens)
    for row, spans in enumerate(turn_spans):
        for k, (start, end) in enumerate(spans):
            tokens[row, start:end] = turn_values[row, k]
    return tokens


def _standardize(rewards: torch.Tensor, pool: torch.Tensor, group_ids: torch.Tensor, scale: bool) -> torch.Tensor:
    count, mean, variance = _pool_moments(rewards, pool, group_ids)
    divisor = torch.where(count > 1, _std(variance), 1.0) if scale else torch.ones_like(mean)
    return torch.where(pool, (rewards - mean.unsqueeze(1)) / divisor.unsqueeze(1), 0.0)


def _divide_by_rms(rewards: torch.Tensor, pool: torch.Tensor, group_ids: torch.Tensor, scale: bool) -> torch.Tensor:
    if not scale:
        return torch.where(pool, rewards, 0.0)
    _, mean, variance = _pool_moments(rewards, pool, group_ids)
    return torch.where(pool, rewards / _std(variance + mean.square()).unsqueeze(1), 0.0)


def _std(variance: torch.Tensor) -> torch.Tensor:
    return (variance + _VARIANCE_FLOOR).sqrt() + _STD_FLOOR


def _pool_moments(
    values: torch.Tensor, pool: torch.Tensor, group_ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Count, mean and population variance of each row's group over the cells in `pool`, each of shape `(N,)`."""
    index, num_groups = _group_index(group_ids)

    def group_sum(cells: torch.Tensor) -> torch.Tensor:
        return cells.new_zeros(num_groups).index_add_(0, index, cells.sum(dim=1))[index]

    count = group_sum(pool.double())
    mean = group_sum(torch.where(pool, values, 0.0)) / count.clamp(min=1)
    deviation = torch.where(pool, values - mean.unsqueeze(1), 0.0)
    return count, mean, group_sum(deviation.square()) / count.clamp(min=1)


def _group_index(group_ids: torch.Tensor) -> tuple[torch.Tensor, int]:
    unique, index = torch.unique(group_ids, return_inverse=True)
    return index, len(unique)


def _check(turn_rewards: torch.Tensor, turn_mask: torch.Tensor, group_ids: torch.Tensor) -> None:
    if turn_rewards.dim() != 2 or turn_mask.shape != turn_rewards.shape or group_ids.shape != turn_rewards.shape[:1]:
        raise ValueError(
            "Expected turn_rewards (N, K), turn_mask (N, K) and group_ids (N,), got "
            f"{tuple(turn_rewards.shape)}, {tuple(turn_mask.shape)} and {tuple(group_ids.shape)}."
        )
    if turn_mask.dtype != torch.bool:
        raise ValueError(f"turn_mask must be a bool tensor, got {turn_mask.dtype}.")
    if (turn_mask[:, 1:] & ~turn_mask[:, :-1]).any():
        raise ValueError("The turns of a row must come first: turn_mask has a turn after a gap.")
