"""Why rollouts end, and which numbers to raise if they end too early."""

from ..rollouts import Rollouts, StopReason
from .observation import Observation
from .report import Finding


_ROUND = 256


def check_stops(seen: Observation) -> list[Finding]:
    """
    Rollouts end because they are done, not because they are cut off.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name = "stop reasons"
    if seen.rollouts is None:
        return [Finding(name, "skipped", "Nothing was rolled out.")]
    reasons = [reason.value for reason in seen.rollouts.stop_reasons]
    shares = {reason: reasons.count(reason) / len(reasons) for reason in dict.fromkeys(reasons)}
    checks = (_max_tokens, _tool_overflow, _max_turns, _environment_error)
    found = [finding for check in checks if (finding := check(seen, shares)) is not None]
    told = ", ".join(f"{reason} {share:.0%}" for reason, share in shares.items())
    return found or [Finding(name, "ok", f"{told}.")]


def _max_tokens(seen: Observation, shares: dict[str, float]) -> Finding | None:
    share = shares.get("max_tokens", 0.0)
    if share <= 0.1:
        return None
    rollouts = seen.rollouts
    assert rollouts is not None
    limit = seen.args.max_completion_length
    cut_off = [
        len(ids)
        for ids, why in zip(rollouts.completion_ids, rollouts.stop_reasons, strict=True)
        if why == "max_tokens"
    ]
    own_limit = (seen.args.generation_kwargs or {}).get("max_new_tokens")
    if own_limit is not None and max(cut_off) < limit:
        told = (
            f"{share:.0%} of the rollouts end in a message that generation_kwargs.max_new_tokens={own_limit} cuts off."
        )
        change = f"generation_kwargs: {{max_new_tokens: {min(2 * own_limit, limit)}}}, or leave it unset."
    else:
        told = f"{share:.0%} of the rollouts run out of max_completion_length={limit}."
        change = f"max_completion_length: {needed_tokens(seen)} (tool results count), or stop_policies: {{max_tokens: mask}}."
        if _never_ends(rollouts):
            change = (
                "No message of the policy ends by itself: look at the finding about the end of turn and at the model. Then "
                + change
            )
    return Finding("stop reasons", "error" if share > 0.9 else "warning", told, change)


def _never_ends(rollouts: Rollouts) -> bool:
    return all(reason is StopReason.MAX_TOKENS for reason in rollouts.stop_reasons) and all(
        sum(turn.end > turn.start for turn in turns) <= 1 for turns in rollouts.turns
    )


def needed_tokens(seen: Observation) -> int:
    """
    Completion length that would hold as many turns as are allowed, at the length that they have in this batch.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `int`: At least twice the limit there is, at most what the context window holds beside the prompts.
    """
    rollouts, limit = seen.rollouts, seen.args.max_completion_length
    assert rollouts is not None
    steps = [
        turn.context_end - turn.start for turns in rollouts.turns for turn in turns if turn.context_end > turn.start
    ]
    turns = min((seen.args.max_tool_calling_iterations or 10) + 1, 64) if seen.chat.tools else 1
    wanted = max(2 * limit, int(sum(steps) / max(len(steps), 1) * turns))
    wanted = -(-wanted // _ROUND) * _ROUND
    window = seen.setup.context_window
    longest = max(len(ids) for ids in rollouts.prompt_ids)
    return wanted if window is None else max(limit, min(wanted, window - longest))


def _tool_overflow(seen: Observation, shares: dict[str, float]) -> Finding | None:
    share = shares.get("tool_overflow", 0.0)
    if not share:
        return None
    change = (
        f"max_completion_length: {needed_tokens(seen)}, or let the tools return less; and stop_policies: "
        "{tool_overflow: mask}, so that the turns before are not blamed for it."
    )
    told = (
        f"In {share:.0%} of the rollouts a tool's result does not fit into what is left of max_completion_length="
        f"{seen.args.max_completion_length}: TRL drops it, and the rollout ends."
    )
    masked = StopReason.TOOL_OVERFLOW in seen.args.masked_stop_reasons()
    if masked and share <= 0.25:
        return None
    return Finding("stop reasons", "error" if share > 0.9 else "warning", told, change)


def _max_turns(seen: Observation, shares: dict[str, float]) -> Finding | None:
    share = shares.get("max_turns", 0.0)
    if share <= 0.25:
        return None
    limit = seen.args.max_tool_calling_iterations
    if limit is None or not _at_limit(seen, limit):
        told = f"{share:.0%} of the rollouts are cut off by their environment (`truncated`)."
        change = "Raise the environment's own limit of turns, or say in the prompt how many there are."
    else:
        told = f"{share:.0%} of the rollouts still call a tool after max_tool_calling_iterations={limit}."
        change = f"max_tool_calling_iterations: {2 * limit}, or say in the prompt how many calls there are."
    return Finding("stop reasons", "error" if share > 0.9 else "warning", told, change)


def _at_limit(seen: Observation, limit: int) -> bool:
    assert seen.rollouts is not None
    return any(len(turns) > limit for turns in seen.rollouts.turns)


def _environment_error(seen: Observation, shares: dict[str, float]) -> Finding | None:
    share = shares.get("environment_error", 0.0)
    if not share:
        return None
    return Finding(
        "stop reasons",
        "error" if share > 0.5 else "warning",
        f"{share:.0%} of the rollouts lost their environment: a tool did not answer within tool_timeout="
        f"{seen.args.tool_timeout} seconds, or said that it is gone.",
        f"tool_timeout: {2 * (seen.args.tool_timeout or 60):g} if the tools are slow, and stop_policies: "
        "{environment_error: mask}; `check_environment` finds tools that hang.",
    )


def check_context_window(seen: Observation) -> Finding:
    """
    Prompt and completion fit into the positions that the model knows.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "context window"
    window = seen.setup.context_window
    if window is None or seen.rollouts is None:
        return Finding(
            name, "skipped", "The model does not say how many positions it knows, or nothing was rolled out."
        )
    longest = max(len(ids) for ids in seen.rollouts.prompt_ids)
    needed = longest + seen.args.max_completion_length
    if needed > window:
        return Finding(
            name,
            "error" if longest >= window else "warning",
            f"The longest prompt has {longest} tokens; with max_completion_length={seen.args.max_completion_length} a rollout "
            f"may have {needed}, but the model knows {window} positions.",
            f"max_completion_length: {max(window - longest, 1)}, or shorter prompts.",
        )
    served = getattr(seen.args, "vllm_max_model_length", None)
    if seen.args.use_vllm and served is not None and needed > served:
        return Finding(
            name,
            "warning",
            f"A rollout may have {needed} tokens, vLLM takes {served}.",
            f"vllm_max_model_length: {needed}.",
        )
    return Finding(name, "ok", f"Up to {needed} of {window} positions.")
