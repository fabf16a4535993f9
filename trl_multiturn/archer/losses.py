"""ArCHer's losses and targets as pure functions: no model, no trainer, no state.

Shapes: B transitions (utterances with the state before and after them), T tokens of an utterance, N rollouts, K turns.
"Section" refers to [ArCHer](https://huggingface.co/papers/2402.19446); file names to its code at YifeiZhou02/ArCHer.
"""

import torch
from torch import nn


def q_targets(reward: torch.Tensor, terminated: torch.Tensor, next_value: torch.Tensor, gamma: float) -> torch.Tensor:
    """
    What the value of an utterance is regressed on: its reward and the discounted value of the state after it.

    Args:
        reward (`torch.Tensor`):
            Reward of each utterance.
        terminated (`torch.Tensor`):
            `True` where the episode ended with the utterance: no value comes after it. Same shape.
        next_value (`torch.Tensor`):
            Value of the state after it, from the target network. Same shape.
        gamma (`float`):
            Discount per turn.

    Returns:
        `torch.Tensor`: Same shape, detached.
    """
    # Not a product with 0: a value of infinity or NaN behind the end of an episode must not leak through.
    following = torch.where(terminated.bool(), torch.zeros_like(next_value), next_value)
    return (reward + gamma * following).detach()


def critic_losses(
    q1: torch.Tensor,
    q2: torch.Tensor,
    v1: torch.Tensor,
    v2: torch.Tensor,
    *,
    target_q1: torch.Tensor,
    target_q2: torch.Tensor,
    next_v1: torch.Tensor,
    next_v2: torch.Tensor,
    reward: torch.Tensor,
    terminated: torch.Tensor,
    gamma: float,
) -> dict[str, torch.Tensor]:
    """
    Squared temporal-difference errors of the double critic (section 3.3; `critic_loss` in `trainer.py`).

    Head `i` of Q bootstraps from head `i` of the target V, and head `i` of V regresses on head `i` of the target Q: no
    minimum is taken here. No gradient flows into the targets.

    Args:
        q1, q2 (`torch.Tensor` of shape `(B,)`):
            Values of the stored utterances.
        v1, v2 (`torch.Tensor` of shape `(B,)`):
            Values of the states before them.
        target_q1, target_q2 (`torch.Tensor` of shape `(B,)`):
            Target network's values of utterances that the *current* policy would write in those states.
        next_v1, next_v2 (`torch.Tensor` of shape `(B,)`):
            Target network's values of the states after the stored utterances.
        reward (`torch.Tensor` of shape `(B,)`):
            Reward of each stored utterance.
        terminated (`torch.Tensor` of shape `(B,)`):
            Where the episode ended with it.
        gamma (`float`):
            Discount per turn.

    Returns:
        `dict[str, torch.Tensor]`: `q1_loss`, `q2_loss`, `v1_loss`, `v2_loss`, and `loss`, their sum; scalars.
    """
    losses = {
        "q1_loss": (q1 - q_targets(reward, terminated, next_v1, gamma)).square().mean(),
        "q2_loss": (q2 - q_targets(reward, terminated, next_v2, gamma)).square().mean(),
        "v1_loss": (v1 - target_q1.detach()).square().mean(),
        "v2_loss": (v2 - target_q2.detach()).square().mean(),
    }
    losses["loss"] = torch.stack(list(losses.values())).sum()
    return losses


def utterance_advantages(q1: torch.Tensor, q2: torch.Tensor, v1: torch.Tensor, v2: torch.Tensor) -> torch.Tensor:
    """
    How much better an utterance is than what the policy does there: `min(Q1, Q2) - min(V1, V2)`.

    The two minima may come from different heads (`update` in `trainer.py`).

    Args:
        q1, q2 (`torch.Tensor`):
            Values of the utterances.
        v1, v2 (`torch.Tensor`):
            Values of the states before them. Same shape.

    Returns:
        `torch.Tensor`: Same shape, detached.
    """
    return (torch.minimum(q1, q2) - torch.minimum(v1, v2)).detach()


def actor_loss(
    token_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    values: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """
    REINFORCE inside an utterance, whose one reward is its advantage (section 3.4; `actor_loss` in `trainer.py`).

    [`ArCHerTrainer`] gets the same gradient out of TRL's loss; this is the reference that it is tested against.

    Args:
        token_log_probs (`torch.Tensor` of shape `(B, T)`):
            Log-probability of each token in nats.
        advantages (`torch.Tensor` of shape `(B,)`):
            Advantage of each utterance.
        mask (`torch.Tensor` of shape `(B, T)`):
            Non-zero where there is a token.
        values (`torch.Tensor` of shape `(B, T)`, *optional*):
            Token-level baseline: the advantage expected before each token was chosen.

    Returns:
        `dict[str, torch.Tensor]`: `policy_loss` (sum over tokens, mean over utterances), `value_loss` (mean over all
        `B * T` cells, padding included; 0 without `values`), and `loss`, their sum.
    """
    mask = mask.bool()
    residual = advantages.detach().unsqueeze(1).expand_as(token_log_probs)
    value_loss = token_log_probs.new_zeros(())
    if values is not None:
        value_loss = torch.where(mask, residual - values, torch.zeros_like(values)).square().mean()
        residual = residual - values.detach()
    # `where`, not a product: a masked log-probability may be -inf.
    terms = torch.where(mask, token_log_probs, torch.zeros_like(token_log_probs)) * residual
    policy_loss = -torch.where(mask, terms, torch.zeros_like(terms)).sum(dim=1).mean()
    return {"policy_loss": policy_loss, "value_loss": value_loss, "loss": policy_loss + value_loss}


def expectile_weights(prediction: torch.Tensor, target: torch.Tensor, expectile: float) -> torch.Tensor:
    """
    Weights of squared errors that pull a prediction towards the upper end of its targets
    ([IQL](https://huggingface.co/papers/2110.06169), equation 5).

    Args:
        prediction (`torch.Tensor`):
            Values of states.
        target (`torch.Tensor`):
            Values of utterances in them. Same shape.
        expectile (`float`):
            Weight of targets above the prediction, those below having `1 - expectile`.

    Returns:
        `torch.Tensor`: Same shape, detached.
    """
    weights = torch.full_like(prediction, expectile)
    weights[target < prediction] = 1.0 - expectile
    return weights.detach()


def monte_carlo_returns(rewards: torch.Tensor, gamma: float) -> torch.Tensor:
    """
    Discounted return from each turn on.

    Args:
        rewards (`torch.Tensor` of shape `(K,)`):
            Reward of each turn of one episode.
        gamma (`float`):
            Discount per turn.

    Returns:
        `torch.Tensor` of shape `(K,)`.
    """
    returns = torch.empty_like(rewards)
    following = rewards.new_zeros(())
    for k in range(len(rewards) - 1, -1, -1):
        following = rewards[k] + gamma * following
        returns[k] = following
    return returns


def turn_gae(
    rewards: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    terminated: torch.Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> torch.Tensor:
    """
    Generalized advantage estimation with turns as steps: `A_k = d_k + gamma * lambda * A_{k+1}`.

    Args:
        rewards (`torch.Tensor` of shape `(N, K)`):
            Reward of each turn.
        values (`torch.Tensor` of shape `(N, K + 1)`):
            Value of the state before each turn, and of the one after the last.
        mask (`torch.Tensor` of shape `(N, K)`):
            `True` where the turn exists; a row's turns come first.
        terminated (`torch.Tensor` of shape `(N, K)`):
            Where the episode ended with the turn.
        gamma (`float`):
            Discount per turn.
        gae_lambda (`float`):
            0 trusts the values (one step), 1 the rewards of the rollout.

    Returns:
        `torch.Tensor` of shape `(N, K)`: 0 where there is no turn.
    """
    errors = q_targets(rewards, terminated, values[:, 1:], gamma) - values[:, :-1]
    advantages = torch.zeros_like(errors)
    following = torch.zeros_like(errors[:, 0])
    for k in range(errors.size(1) - 1, -1, -1):
        following = torch.where(mask[:, k], errors[:, k] + gamma * gae_lambda * following, 0.0)
        advantages[:, k] = following
    return advantages.detach()


@torch.no_grad()
def polyak_update(target_module: nn.Module, online_module: nn.Module, tau: float) -> None:
    """
    Move a target network towards the online one, in place: `target = (1 - tau) * target + tau * online`.

    Parameters only, as `soft_update_target_critic` does; those that both modules share are left alone.

    Args:
        target_module (`torch.nn.Module`):
            Network that follows.
        online_module (`torch.nn.Module`):
            Network that is trained, of the same structure.
        tau (`float`):
            Step between 0 (stay) and 1 (copy).
    """
    for target, online in zip(target_module.parameters(), online_module.parameters(), strict=True):
        if target is not online:
            # One rounding less than `lerp_`, and exact at both ends.
            target.mul_(1.0 - tau).add_(online, alpha=tau)
