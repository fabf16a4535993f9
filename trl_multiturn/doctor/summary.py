"""The batch in numbers, and one rollout of it as plain data."""

from itertools import groupby
from typing import Any

import torch

from .observation import Observation, Scored


def summarize(seen: Observation) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """
    What the report tells beside its findings.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `tuple`: The batch in numbers, and one rollout, or `None` if nothing was rolled out; JSON values.
    """
    if seen.rollouts is None:
        return {"rollouts": 0}, None
    rollouts = seen.rollouts
    reasons = [reason.value for reason in rollouts.stop_reasons]
    counts = [sum(turn.end > turn.start for turn in turns) for turns in rollouts.turns]
    assert seen.all_outcomes is not None
    batch = {
        "rollouts": len(rollouts),
        "rollouts_of_all_processes": len(seen.all_outcomes),
        "group_size": rollouts.group_size,
        "turns": [min(counts), max(counts)],
        "tokens": [min(map(len, rollouts.completion_ids)), max(map(len, rollouts.completion_ids))],
        "stop_reasons": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        "outcomes": _numbers(seen.all_outcomes),
    }
    return batch, _example(seen, _interesting(seen, counts))


def _interesting(seen: Observation, counts: list[int]) -> int:
    """The rollout with the most turns; of those, the one that is trained on most."""
    assert seen.turn_advantages is not None
    strength = seen.turn_advantages.abs().amax(dim=1).tolist()
    return max(range(len(counts)), key=lambda row: (counts[row], strength[row]))


def _example(seen: Observation, row: int) -> dict[str, Any]:
    rollouts = seen.rollouts
    assert rollouts is not None and seen.turn_rewards is not None and seen.turn_advantages is not None
    scored = seen.scored[row]
    sampled = None if seen.sampled is None else seen.sampled[row]
    turns = []
    for k, turn in enumerate(rollouts.turns[row]):
        reward, advantage = _numbers(seen.turn_rewards[row, k : k + 1]), _numbers(seen.turn_advantages[row, k : k + 1])
        turns.append(
            {
                "reward": reward[0],
                "advantage": advantage[0],
                "tokens": turn.end - turn.start,
                "segments": _segments(seen, row, turn.start, turn.context_end, scored, sampled),
            }
        )
    return {
        "rollout": row,
        "stop_reason": rollouts.stop_reasons[row].value,
        "prompt": seen.chat.decode(rollouts.prompt_ids[row]),
        "rewards": dict(zip(rollouts.reward_names, _numbers(rollouts.rewards[row]), strict=True)),
        "turns": turns,
    }


def _segments(
    seen: Observation, row: int, start: int, end: int, scored: Scored | None, sampled: list[bool] | None
) -> list[dict[str, Any]]:
    """Runs of tokens that are treated alike: their text, whether the policy sampled them, whether they are trained."""
    assert seen.rollouts is not None
    ids = seen.rollouts.completion_ids[row]

    def kind(i: int) -> tuple[bool, bool]:
        own = bool(seen.rollouts is not None and seen.rollouts.model_masks[row][i]) if sampled is None else sampled[i]
        return own, scored is not None and scored.trained[i]

    runs = [(key, list(places)) for key, places in groupby(range(start, end), key=kind)]
    return [
        {"text": seen.chat.decode([ids[i] for i in places]), "sampled": own, "trained": trained}
        for (own, trained), places in runs
    ]


def _numbers(values: torch.Tensor) -> list[float | None]:
    """As JSON has them: a missing one is `None`."""
    return [value if value == value and abs(value) != float("inf") else None for value in values.double().tolist()]
