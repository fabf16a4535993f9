"""Does ArCHer's critic see the turns, at rewards and a discount that it can learn?"""

import torch

from .observation import Observation
from .report import Finding


_LARGE_RETURN = 50.0


def check_critic(seen: Observation) -> Finding:
    """
    The critic reads every turn of every rollout, and tells them apart.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "ArCHer critic"
    if "archer" not in seen.method or seen.rollouts is None:
        return Finding(name, "skipped", "There is no critic, or nothing was rolled out.")
    trajectories = seen.extra["trajectories"]
    scored = [t for t in trajectories if t is not None]
    if len(scored) < len(trajectories):
        return Finding(
            name,
            "error" if not scored else "warning",
            f"{len(trajectories) - len(scored)} of {len(trajectories)} rollouts have no reward: the critic does not learn from "
            "them.",
            "Let a reward function, or the environment's `turn_rewards`, give a number for every rollout.",
        )
    window, kind = seen.extra["critic_window"], seen.args.critic_kind
    long = 0 if window is None else sum(len(t.tokens) > window for t in scored)
    told = f"{sum(map(len, scored))} turns in {len(scored)} rollouts"
    if long and kind == "causal":
        return Finding(
            name,
            "warning",
            f"{told}; {long} rollouts are longer than the critic reads at once ({window} tokens): it sees the newest part.",
            f"critic_max_length: {max(len(t.tokens) for t in scored)}.",
        )
    return _values(seen, told)


def _values(seen: Observation, told: str) -> Finding:
    name, values = "ArCHer critic", seen.extra["values"]
    if values is None:
        return Finding(name, "ok", f"{told}; this algorithm asks no critic.")
    everything = torch.cat([values[key] for key in ("q1", "q2", "v1", "v2")])
    loss = seen.metrics.get("archer/q_loss", 0.0)
    if not everything.isfinite().all() or not loss < float("inf"):
        return Finding(
            name,
            "error",
            f"{told}; the critic's values or its loss ({loss:g}) are not finite.",
            f"critic_learning_rate: {seen.args.critic_learning_rate / 10:g}.",
        )
    spread = values["q1"].std(correction=0).item()
    if len(values["q1"]) > 1 and spread == 0.0:
        return Finding(
            name,
            "error",
            f"{told}; the critic gives all of them the same value: it does not see what differs.",
            "Name another backbone as critic_model, or raise critic_max_length.",
        )
    return Finding(name, "ok", f"{told}; values spread by {spread:.3g}, loss {loss:.3g}.")


def check_returns(seen: Observation) -> list[Finding]:
    """
    Rewards reach the first turn through the discount, at a scale that the critic can learn.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name = "ArCHer returns"
    if "archer" not in seen.method or seen.rollouts is None:
        return [Finding(name, "skipped", "There is no critic, or nothing was rolled out.")]
    scored = [t for t in seen.extra["trajectories"] if t is not None]
    if not scored:
        return [Finding(name, "skipped", "No rollout has a reward.")]
    gamma, turns = seen.args.gamma, max(map(len, scored))
    largest = max(abs(t.total_reward) for t in scored)
    left = gamma ** (turns - 1)
    found = []
    if left < 0.05:
        wanted = round(0.2 ** (1 / (turns - 1)), 3)
        found.append(
            Finding(
                name,
                "warning",
                f"gamma={gamma:g}: of what the last of {turns} turns brings, the first sees {left:.1%}.",
                f"gamma: {wanted:g}.",
            )
        )
    if largest > _LARGE_RETURN and seen.args.critic_head != "hl_gauss":
        found.append(
            Finding(
                name,
                "warning",
                f"Returns reach {largest:.4g}: a critic that begins near 0 takes long to get there.",
                f"Divide the rewards by {largest:.2g}, or critic_head: hl_gauss with value_min and value_max around them.",
            )
        )
    return found or [
        Finding(name, "ok", f"Returns up to {largest:.4g}; the first of {turns} turns sees {left:.0%} of the last.")
    ]
