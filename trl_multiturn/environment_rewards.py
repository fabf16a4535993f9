"""Rewards that an environment gives turn by turn, through its attribute or property `turn_rewards`."""

from typing import Any

import torch
from transformers.utils import logging


logger = logging.get_logger(__name__)


def turn_rewards_total(environments: list[Any], **kwargs) -> list[float | None]:
    """
    Reward function: the sum of each environment's turn rewards, so that TRL's `reward` is the rollout's whole return.

    Args:
        environments (`list`):
            Environment of each rollout.
        **kwargs:
            What else TRL passes to reward functions.

    Returns:
        `list[float | None]`: `None` for an environment without `turn_rewards`.
    """
    return [sum(read_turn_rewards(e)) if has_turn_rewards(e) else None for e in environments]


# The name under which TRL logs it.
turn_rewards_total.__name__ = "turn_rewards"


def has_turn_rewards(environment: Any) -> bool:
    """
    Whether an environment says what its turns were worth. A property counts even if it cannot be read yet, or has a bug.

    Args:
        environment (`Any`):
            Environment.
    """
    return hasattr(type(environment), "turn_rewards") or hasattr(environment, "turn_rewards")


def read_turn_rewards(environment: Any) -> list[float]:
    """
    An environment's turn rewards so far, checked.

    Args:
        environment (`Any`):
            Environment with or without `turn_rewards`.

    Returns:
        `list[float]`: NaN and infinities replaced by 0, with a warning.

    Raises:
        `TypeError`: If `turn_rewards` is not a list of numbers.
    """
    given = environment.turn_rewards if has_turn_rewards(environment) else None
    if given is None:
        return []
    if not isinstance(given, (list, tuple)):
        raise TypeError(
            f"{type(environment).__name__}.turn_rewards must be a list of numbers, got {type(given).__name__}. If it is "
            "a method, make it a property: TRL turns public methods into tools."
        )
    try:
        values = torch.tensor([float(value) for value in given], dtype=torch.float64)
    except (TypeError, ValueError):
        kinds = sorted({type(value).__name__ for value in given})
        raise TypeError(
            f"{type(environment).__name__}.turn_rewards must hold numbers, got {', '.join(kinds)}."
        ) from None
    if not values.isfinite().all():
        logger.warning_once(f"{type(environment).__name__}.turn_rewards holds NaN or infinity: counted as 0.")
    return values.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).tolist()


def rewards_by_turn(environment: Any, num_turns: int, counts: dict[int, int]) -> list[float]:
    """
    What each turn of a rollout was worth to its environment.

    An environment sees tool calls, not turns: one turn may hold several calls, or none that reached it. Its rewards are
    therefore attributed by how many it had given at the end of each turn.

    Args:
        environment (`Any`):
            Environment at the end of the rollout.
        num_turns (`int`):
            Turns of the rollout.
        counts (`dict[int, int]`):
            Number of turn rewards given by the end of a turn, for the turns whose calls reached the environment.

    Returns:
        `list[float]`: One sum for each turn. What was given after the last call belongs to the last turn.
    """
    given = read_turn_rewards(environment)
    rewards, taken = [0.0] * num_turns, 0
    for turn in range(num_turns):
        upto = len(given) if turn == num_turns - 1 else max(taken, counts.get(turn, taken))
        rewards[turn] = sum(given[taken:upto])
        taken = upto
    return rewards
