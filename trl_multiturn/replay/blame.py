"""Where a rollout went wrong, as far as it shows."""

from typing import Any

from ..rollouts import Rollouts


def first_bad_turn(rollouts: Rollouts, row: int) -> int:
    """
    The first turn whose tool call failed or that the environment gave a negative reward; the last one if there is none.

    Args:
        rollouts ([`Rollouts`]):
            B rollouts of this process.
        row (`int`):
            One of them.

    Returns:
        `int`: Number of the turn, counted from 0.
    """
    last = len(rollouts.turns[row]) - 1
    bad = [last, *_failed_calls(rollouts.completions[row])]
    if rollouts.environment_rewards is not None:
        bad += [turn for turn, reward in enumerate(rollouts.environment_rewards[row]) if reward < 0.0]
    return min(bad)


def _failed_calls(completion: Any) -> list[int]:
    if not isinstance(completion, list):
        return []
    failed, turn = [], -1
    for message in completion:
        if message.get("role") == "assistant":
            turn += 1
        # TRL puts what a tool raised into a dictionary with this one key, as text.
        elif message.get("role") == "tool" and str(message.get("content")).startswith(("{'error': ", '{"error": ')):
            failed.append(turn)
    return failed
