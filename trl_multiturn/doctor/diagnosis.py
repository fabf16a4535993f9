"""[`diagnose`]: one real batch through a trainer, and what would fail silently in it."""

from collections.abc import Callable
from typing import Any

from accelerate.utils import gather_object

from .checks_calls import check_calls
from .checks_critic import check_critic, check_returns
from .checks_igpo import check_belief_prefix, check_beliefs, check_leaks
from .checks_images import check_images
from .checks_learning import check_adapters, check_gradient, check_learning_rate, check_precision
from .checks_replay import check_failures, check_tasks
from .checks_sampling import check_importance_sampling, check_sampling
from .checks_signal import check_rewards, check_signal
from .checks_stops import check_context_window, check_stops
from .checks_template import check_prefixes, check_tool_calls, check_tools_in_context
from .checks_tokens import check_left_out, check_spans, check_special_tokens, check_trained_tokens, check_turn_ends
from .collection import observe
from .observation import Observation
from .report import Finding, Report, merge
from .summary import summarize


__all__ = ["CHECKS", "Finding", "Observation", "Report", "diagnose"]

# In the order in which they are told.
CHECKS: tuple[Callable[[Observation], Finding | list[Finding]], ...] = (
    check_trained_tokens,
    check_left_out,
    check_spans,
    check_turn_ends,
    check_special_tokens,
    check_prefixes,
    check_tool_calls,
    check_tools_in_context,
    check_calls,
    check_stops,
    check_context_window,
    check_rewards,
    check_signal,
    check_images,
    check_sampling,
    check_importance_sampling,
    check_gradient,
    check_adapters,
    check_precision,
    check_learning_rate,
    check_beliefs,
    check_belief_prefix,
    check_leaks,
    check_critic,
    check_returns,
    check_tasks,
    check_failures,
)


def diagnose(trainer: Any) -> Report:
    """
    Take one real batch through a trainer, and check what fails silently: rollouts in the real environments, rewards,
    advantages, loss and gradient, but no step. Weights, random generators, the replay buffer and the critic are afterwards
    what they were before. What reward functions, tools and a vLLM server remember by themselves is not put back.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            A trainer that has not begun to train. With several processes, every one must call it.

    Returns:
        [`Report`]: Findings, each with what to change. The same on every process.

    Raises:
        `ValueError`: If the trainer has trained already, or is to shard its model (DeepSpeed, FSDP).

    Example:

    ```python
    >>> from trl_multiturn import diagnose

    >>> report = diagnose(trainer)
    >>> report.print()
    >>> assert not report.has_errors
    >>> trainer.train()
    ```
    """
    seen = observe(trainer)
    findings: list[Finding] = []
    for check in CHECKS:
        found = check(seen)
        findings += found if isinstance(found, list) else [found]
    batch, example = summarize(seen)
    return merge(gather_object([Report(findings, batch, example)]))
