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
    from .gui import action_reward, gui_format_reward, make_task_reward, task_reward
    from .gui_judges import MultimodalJudge, NoisyJudge, StateJudge, TrajectoryJudge
    from .judge import JudgeClient, JudgeTrajectoryVerifier, JudgeTurnVerifier
    from .verifiers import HierarchicalReward, TrajectoryVerifier, TurnVerifier

# Imported on first use, because they bring the travel sandbox or the phone along.
_NAMES = {
    "HierarchicalReward": "verifiers",
    "JudgeClient": "judge",
    "JudgeTrajectoryVerifier": "judge",
    "JudgeTurnVerifier": "judge",
    "MultimodalJudge": "gui_judges",
    "NoisyJudge": "gui_judges",
    "StateJudge": "gui_judges",
    "TrajectoryJudge": "gui_judges",
    "TrajectoryVerifier": "verifiers",
    "TurnVerifier": "verifiers",
    "action_reward": "gui",
    "gui_format_reward": "gui",
    "make_task_reward": "gui",
    "task_reward": "gui",
}

__all__ = [
    "HierarchicalReward",
    "JudgeClient",
    "JudgeTrajectoryVerifier",
    "JudgeTurnVerifier",
    "MultimodalJudge",
    "NoisyJudge",
    "StateJudge",
    "TrajectoryJudge",
    "TrajectoryVerifier",
    "TurnVerifier",
    "action_reward",
    "exact_match",
    "exact_match_reward",
    "extract_answer",
    "f1",
    "f1_reward",
    "format_reward",
    "gui_format_reward",
    "has_valid_format",
    "igpo_exact_match_reward",
    "igpo_f1_reward",
    "make_task_reward",
    "normalize_igpo",
    "normalize_squad",
    "task_reward",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = value
    return value
