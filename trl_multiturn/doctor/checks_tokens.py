"""Is what is trained what the policy sampled, and does each of its messages end where it should?"""

from typing import Any

from .observation import Observation
from .report import Finding


def check_trained_tokens(seen: Observation) -> Finding:
    """
    The loss takes exactly the tokens that the policy sampled.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "trained tokens"
    if seen.rollouts is None or all(scored is None for scored in seen.scored):
        return Finding(name, "skipped", "The loss is not taken of this batch's rollouts.")
    if seen.sampled is None:
        return Finding(name, "skipped", "What the policy sampled was not seen: rollout_func does that by itself.")
    foreign, left_out, total = [], 0, 0
    for row, (scored, sampled) in enumerate(zip(seen.scored, seen.sampled, strict=True)):
        if scored is None or not any(scored.trained):
            continue
        pairs = list(zip(scored.trained, sampled, strict=True))
        foreign += [(row, i) for i, (trained, own) in enumerate(pairs) if trained and not own]
        # The last token of a rollout that its environment has ended stands for what was not written.
        left_out += sum(own and not trained for trained, own in pairs[:-1])
        total += sum(scored.trained)
    if foreign:
        row, first = foreign[0]
        text = seen.chat.decode(seen.rollouts.completion_ids[row][first : first + 12])
        return Finding(
            name,
            "error",
            f"{len(foreign)} of {total} trained tokens were not sampled by the policy, such as {text!r} in rollout {row}.",
            "Give each token that the policy did not sample a 0 in the mask: `env_mask` of a rollout_func, the tool mask of an "
            "overridden `_tool_call_loop` or `_generate`, `model_masks` of a TrainingBatch.",
        )
    if left_out:
        share = left_out / (left_out + total)
        return Finding(
            name,
            "warning",
            f"{share:.0%} of the sampled tokens are not trained, in rollouts that are.",
            "Give the tokens that the policy sampled a 1 in the mask that your trainer or rollout_func returns.",
        )
    return Finding(name, "ok", f"{total} tokens are trained, all of them sampled by the policy.")


def check_left_out(seen: Observation) -> Finding:
    """
    Not too many rollouts are left out of the loss.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "rollouts left out"
    trained = [scored for scored in seen.scored if scored is not None]
    if not trained:
        return Finding(name, "skipped", "The loss is not taken of this batch's rollouts.")
    out = sum(not any(scored.trained) for scored in trained)
    told = f"{out} of {len(trained)} rollouts are left out of the loss."
    if out == 0 or out / len(trained) <= 0.25:
        return Finding(name, "ok", told)
    change = f"Look at the stop reasons, and then at stop_policies ({seen.args.stop_policies or 'unset'})"
    if seen.args.mask_truncated_completions:
        change += ", or set mask_truncated_completions: false"
    return Finding(name, "error" if out == len(trained) else "warning", told, change + ".")


def check_spans(seen: Observation) -> Finding:
    """
    The turns cover the mask: every model token is in one turn, and no other token is.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "turns"
    if seen.rollouts is None:
        return Finding(name, "skipped", "Nothing was rolled out.")
    wrong = []
    for row, (turns, mask) in enumerate(zip(seen.rollouts.turns, seen.rollouts.model_masks, strict=True)):
        covered = [0] * len(mask)
        for turn in turns:
            covered[turn.start : turn.end] = [1] * (turn.end - turn.start)
        wrong += [row] if covered != [int(bool(m)) for m in mask] else []
    counts = [sum(turn.end > turn.start for turn in turns) for turns in seen.rollouts.turns]
    told = f"{min(counts)} to {max(counts)} turns, {sum(counts) / len(counts):.1f} on average"
    if wrong:
        return Finding(
            name,
            "error",
            f"In {len(wrong)} of {len(counts)} rollouts the turns do not cover the model's tokens (rollout {wrong[0]}).",
            "Let `rollouts.turns` be `find_turns(mask)` of the mask that is trained: something has changed one of them.",
        )
    return Finding(name, "ok", f"{told}; they cover the model's tokens.")


def check_turn_ends(seen: Observation) -> Finding:
    """
    The template's end of turn ends a message, and each message of the policy ends with it.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "end of turn"
    chat = seen.chat
    if chat.tokenizer.chat_template is None:
        return Finding(name, "skipped", "There is no chat template.")
    end = chat.turn_end()
    eos = chat.tokenizer.eos_token
    if end is None:
        return Finding(
            name,
            "error",
            "The chat template puts nothing after an assistant message: the policy cannot learn to stop.",
            f"Let the template end assistant messages with {eos!r}.",
        )
    token = chat.tokenizer.convert_ids_to_tokens(end)
    if end not in chat.end_ids:
        return Finding(
            name,
            "error",
            f"The chat template ends a message with {token!r}, but generation stops at {eos!r}: the policy writes on until "
            "max_completion_length, and makes up what the tools and the user say.",
            f"processing_class.eos_token = {token!r} before the trainer is built (or add it to the model's "
            "generation_config.eos_token_id).",
        )
    return _ends_of_messages(seen, end, token)


def _ends_of_messages(seen: Observation, end: int, token: str) -> Finding:
    name = "end of turn"
    if seen.rollouts is None:
        return Finding(name, "ok", f"Messages end with {token!r}, where generation stops.")
    open_ended, through, total = 0, 0, 0
    for ids, turns in zip(seen.rollouts.completion_ids, seen.rollouts.turns, strict=True):
        written = [ids[turn.start : turn.end] for turn in turns if turn.end > turn.start]
        total += len(written)
        # The last message may have been cut off: that is a stop reason.
        open_ended += sum(message[-1] not in seen.chat.end_ids for message in written[:-1])
        through += sum(end in message[:-1] for message in written)
    if through:
        return Finding(
            name,
            "error",
            f"{through} of {total} messages go on after {token!r}.",
            f"Let generation stop at {token!r}: its id {end} must be in generation_kwargs.eos_token_id.",
        )
    if open_ended:
        return Finding(
            name,
            "warning",
            f"{open_ended} of {total} messages that something was answered to do not end with {token!r}: the next turn begins "
            "in the middle of a message.",
            "Raise generation_kwargs.max_new_tokens, which cuts messages off, or leave it unset.",
        )
    return Finding(name, "ok", f"Messages end with {token!r}, where generation stops.")


def check_special_tokens(seen: Observation) -> list[Finding]:
    """
    Padding is neither the end of a turn nor on the side that shifts tokens.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name, tokenizer = "padding", seen.chat.tokenizer
    found = []
    if tokenizer.pad_token_id in seen.chat.end_ids:
        found.append(
            Finding(
                name,
                "warning",
                f"pad_token and the end of a message are both {tokenizer.pad_token!r}. The loss here is not masked by it, but a "
                "cold start with SFT is: the model then does not learn to stop.",
                f"processing_class.pad_token = {_unused_token(tokenizer)!r}, a token that the template does not use.",
            )
        )
    if tokenizer.padding_side != "left":
        found.append(
            Finding(
                name,
                "error" if seen.chat.is_vision_language else "warning",
                f"padding_side is {tokenizer.padding_side!r}; prompts are padded on the left.",
                'processing_class.padding_side = "left" before the trainer is built'
                + (" (of its tokenizer too)." if seen.chat.is_vision_language else "."),
            )
        )
    return found or [Finding(name, "ok", f"pad_token {tokenizer.pad_token!r}, on the left.")]


def _unused_token(tokenizer: Any) -> str:
    ends = {tokenizer.eos_token, tokenizer.pad_token}
    names = [t for t in tokenizer.all_special_tokens if t not in ends]
    likely = [t for t in names if "pad" in t.lower() or "endoftext" in t.lower() or "unk" in t.lower()]
    return next(iter([*likely, *names]), "<|pad|>")
