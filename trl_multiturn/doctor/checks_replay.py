"""Would failed tasks be stored under their own names, and let go when they are solved?"""

import torch

from .observation import Observation
from .report import Finding


def check_tasks(seen: Observation) -> Finding:
    """
    Each task has a name of its own.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "replay tasks"
    if "replay" not in seen.method:
        return Finding(name, "skipped", "Failures are not replayed.")
    column, rows, names = seen.args.task_id_column, seen.extra.get("rows"), seen.extra.get("names")
    if column is None:
        return Finding(name, "ok", "Tasks are named by their content.")
    if rows is None or names is None:
        return Finding(name, "skipped", f"The dataset is a stream: the names in {column!r} were not counted.")
    if names < rows:
        return Finding(
            name,
            "warning" if names > 1 else "error",
            f"{rows} rows have {names} different names in {column!r}: rows of the same name are taken for one task.",
            f"Give each row its own {column}, or leave task_id_column unset: then the content names a task.",
        )
    return Finding(name, "ok", f"{rows} rows, each with a name of its own in {column!r}.")


def check_failures(seen: Observation) -> Finding:
    """
    Failed tasks are stored, and a success is within reach of the rewards.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "replay failures"
    if "replay" not in seen.method or seen.rollouts is None or seen.all_outcomes is None:
        return Finding(name, "skipped", "Failures are not replayed.")
    threshold, admission = seen.args.success_threshold, seen.args.replay_admission
    groups = seen.all_outcomes.view(-1, seen.rollouts.group_size)
    failed = _failed(groups, admission, threshold)
    stored, best = seen.extra["stored"], groups.nan_to_num(nan=float("-inf")).max().item()
    told = f"{failed} of {len(groups)} tasks failed ({admission}), {stored} were stored"
    if failed and not stored:
        return Finding(
            name,
            "error",
            f"{told}.",
            "Call super().after_rollouts(rollouts) in your trainer: failures are recorded there.",
        )
    if failed == len(groups) and best < threshold and (groups == groups).any() and _varies(groups):
        return Finding(
            name,
            "warning",
            f"{told}: the best outcome is {best:.3g}, below success_threshold={threshold:g}.",
            f"success_threshold: {_between(groups):.3g}, if outcomes like these are successes.",
        )
    if not failed and groups.nan_to_num(nan=float("inf")).min().item() >= threshold:
        return Finding(
            name,
            "warning",
            f"{told}: every outcome is at least success_threshold={threshold:g}, so that nothing is ever stored.",
            f"success_threshold: {_between(groups):.3g}, or harder tasks.",
        )
    return Finding(name, "ok", f"{told}.")


def _failed(groups: torch.Tensor, admission: str, threshold: float) -> int:
    """Groups that the rule of admission takes."""
    failed = 0
    for group in groups:
        known = group[~group.isnan()]
        if not len(known):
            continue
        succeeds = known >= threshold
        rules = {
            "all_fail": not succeeds.any(),
            "any_fail": not succeeds.all(),
            "mean_below": known.mean() < threshold,
        }
        failed += bool(rules[admission])
    return failed


def _varies(groups: torch.Tensor) -> bool:
    known = groups[~groups.isnan()]
    return bool(known.max() > known.min())


def _between(groups: torch.Tensor) -> float:
    """Between the worst and the best outcome."""
    known = groups[~groups.isnan()]
    return ((known.max() + known.min()) / 2).item()
