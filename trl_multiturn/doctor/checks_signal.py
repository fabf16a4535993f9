"""Is there anything to learn from the batch: do rewards differ, and where they should?"""

import math

import torch

from .observation import Observation
from .report import Finding


_MANY_DEAD = 0.5
_MISSING = 0.1


def check_signal(seen: Observation) -> Finding:
    """
    Some group has rollouts that are worth more than others.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "signal"
    if seen.rollouts is None or seen.signal is None or seen.all_outcomes is None:
        return Finding(name, "skipped", "Nothing was rolled out.")
    size = seen.rollouts.group_size
    alive = (seen.signal.view(-1, size) > 1e-6).any(dim=1)
    if "archer" in seen.method:
        return _signal_of_rewards(seen)
    dead = 1 - alive.float().mean().item()
    told = f"{int((~alive).sum())} of {len(alive)} groups have no turn with an advantage"
    if not alive.any():
        return Finding(name, "error", f"{told}: no gradient comes from the rewards.", _more_spread(seen))
    if dead > _MANY_DEAD:
        return Finding(name, "warning", f"{told}.", _more_spread(seen))
    return Finding(name, "ok", f"{told}.")


def _signal_of_rewards(seen: Observation) -> Finding:
    """The critic compares all rollouts, not those of a group."""
    name = "signal"
    assert seen.turn_rewards is not None and seen.rollouts is not None
    rewards = seen.turn_rewards[seen.rollouts.turn_mask.cpu()]
    measured = rewards[~rewards.isnan()]
    if not len(measured):
        return Finding(name, "error", "No turn has a reward.", _more_spread(seen))
    if measured.min() == measured.max():
        return Finding(
            name,
            "warning",  # the buffer holds other batches, too
            f"Every turn's reward is {measured[0]:.4g}: the critic can only learn how many turns are left.",
            _more_spread(seen),
        )
    return Finding(name, "ok", f"Rewards of turns reach from {measured.min():.4g} to {measured.max():.4g}.")


def _more_spread(seen: Observation) -> str:
    """What makes rollouts of a task differ in what they are worth."""
    outcomes, size = seen.all_outcomes, seen.rollouts.group_size if seen.rollouts is not None else 1
    assert outcomes is not None and seen.rollouts is not None
    texts = [str(completion) for completion in seen.rollouts.completions]
    whole = len(texts) // size * size
    groups = [texts[i : i + size] for i in range(0, whole, size)]
    if groups and all(len(set(group)) == 1 for group in groups):
        return (
            f"All rollouts of a task are the same text: raise temperature ({seen.setup.sampling['temperature']}), and set "
            "top_k: 0 and top_p: 1.0."
        )
    measured = outcomes[~outcomes.isnan()]
    if not len(measured):
        return "Let some reward function return a number: see the finding about rewards."
    if measured.max() <= 0:
        advice = "No rollout succeeds: begin with easier tasks or a cold start (SFT), or reward parts of the way"
    elif measured.min() == measured.max():
        advice = "Every rollout gets the same reward: look at what the reward function compares"
    else:
        advice = "Tasks are too easy or too hard: choose tasks that are solved sometimes"
    return f"{advice}; or raise num_generations from {size} to {2 * size}."


def check_rewards(seen: Observation) -> list[Finding]:
    """
    Each reward function gives numbers, and not always the same one.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name = "rewards"
    if seen.rollouts is None or seen.all_rewards is None:
        return [Finding(name, "skipped", "Nothing was rolled out.")]
    found = [
        finding
        for column, function in enumerate(seen.rollouts.reward_names)
        if (finding := _check_function(function, seen.all_rewards[:, column], len(seen.rollouts.reward_names)))
        is not None
    ]
    if found:
        return found
    return [Finding(name, "ok", "; ".join(_told(seen)))]


def _told(seen: Observation) -> list[str]:
    assert seen.rollouts is not None and seen.all_rewards is not None
    told = []
    for column, function in enumerate(seen.rollouts.reward_names):
        values = seen.all_rewards[:, column]
        values = values[~values.isnan()]
        span = f"{values.min():.4g} to {values.max():.4g}, mean {values.mean():.4g}" if len(values) else "no number"
        told.append(f"{function}: {span}")
    return told


def _check_function(function: str, values: torch.Tensor, functions: int) -> Finding | None:
    name = "rewards"
    missing = values.isnan().float().mean().item()
    measured = values[~values.isnan()]
    if not len(measured):
        return Finding(
            name,
            "error" if functions == 1 else "warning",
            f"{function} gave no number for any rollout (None, NaN or infinite).",
            f"Let {function} return a float for each rollout; None is for rollouts it does not apply to.",
        )
    if function == "stop_penalty":  # no rollout need end for a reason that is penalised
        return None
    if len(measured) > 1 and math.isclose(measured.min().item(), measured.max().item(), abs_tol=1e-9):
        return Finding(
            name,
            "warning",
            f"{function} gave {measured[0].item():.4g} for every rollout.",
            f"Look at what {function} compares; if no rollout can earn anything yet, begin with easier tasks or a cold start (SFT).",
        )
    if missing > _MISSING:
        return Finding(
            name,
            "warning",
            f"{function} gave no number for {missing:.0%} of the rollouts; they count as if it did not apply.",
            f"Let {function} return 0.0 where a rollout has failed.",
        )
    return None
