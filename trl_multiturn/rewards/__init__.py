"""Reward functions for `reward_funcs`, and the pure functions that they are made of."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .answers import (
    exact_match,
    exact_match_reward,
    extract_answer,
    f1,
    f1_reward,
    igpo_exact_match_reward,
    igpo_f1_reward,
    normalize_igpo,
    normalize_squad,
)
from .format import format_reward, has_valid_format


if TYPE_CHECKING:
    from .judge import JudgeClient, JudgeTrajectoryVerifier, JudgeTurnVerifier
    from .verifiers import HierarchicalReward, TrajectoryVerifier, TurnVerifier

# Imported on first use, because they bring the travel sandbox along.
_NAMES = {
    "HierarchicalReward": "verifiers",
    "JudgeClient": "judge",
    "JudgeTrajectoryVerifier": "judge",
    "JudgeTurnVerifier": "judge",
    "TrajectoryVerifier": "verifiers",
    "TurnVerifier": "verifiers",
}

__all__ = [
    "HierarchicalReward",
    "JudgeClient",
    "JudgeTrajectoryVerifier",
    "JudgeTurnVerifier",
    "TrajectoryVerifier",
    "TurnVerifier",
    "exact_match",
    "exact_match_reward",
    "extract_answer",
    "f1",
    "f1_reward",
    "format_reward",
    "has_valid_format",
    "igpo_exact_match_reward",
    "igpo_f1_reward",
    "normalize_igpo",
    "normalize_squad",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value
