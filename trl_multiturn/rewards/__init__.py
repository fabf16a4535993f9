"""Reward functions for `reward_funcs`, and the pure functions that they are made of."""

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


__all__ = [
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
