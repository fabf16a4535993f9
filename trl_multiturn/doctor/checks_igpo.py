"""Do IGPO's gains measure what the rollouts found out?"""

import re

import torch

from ..rewards.answers import message_text
from ..rollouts import StopReason
from .observation import Observation
from .report import Finding


_KNOWN = -0.105  # nats a token: a probability of 0.9
_LEAKED = 0.1


def check_beliefs(seen: Observation) -> list[Finding]:
    """
    Beliefs are finite, and move from turn to turn.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name = "IGPO gains"
    if "igpo" not in seen.method or seen.rollouts is None:
        return [Finding(name, "skipped", "The method is not IGPO.")]
    if not all(seen.extra["answers"]):
        missing = sum(not aliases for aliases in seen.extra["answers"])
        return [
            Finding(
                name,
                "error",
                f"{missing} of {len(seen.rollouts)} rows have no answer to believe in.",
                "Give each row an answer in answer_column, a text or a list of aliases, or leave the row out.",
            )
        ]
    beliefs = seen.extra["beliefs"]
    if beliefs is None:
        return [Finding(name, "warning", "gain_weight is 0: the method is GRPO.", "gain_weight: 1.0.")]
    return [_gains(seen, beliefs.float().cpu())]


def _gains(seen: Observation, beliefs: torch.Tensor) -> Finding:
    name = "IGPO gains"
    assert seen.rollouts is not None
    of_turns = beliefs[seen.rollouts.turn_mask.cpu()]
    broken = (~of_turns.isfinite()).float().mean().item()
    if broken:
        return Finding(
            name,
            "error" if broken > 0.5 else "warning",
            f"{broken:.0%} of the beliefs are not finite.",
            "belief_method: per_turn, and a model in float32 or bfloat16: the answer's probability is lost in rounding.",
        )
    gains = (beliefs[:, 1:] - beliefs[:, :-1])[seen.rollouts.turn_mask.cpu()[:, 1:]]
    if not len(gains):
        return Finding(
            name,
            "error",
            "No rollout has a second turn: there is no gain, and the method is GRPO.",
            "Let the policy call its tools first (prompt or cold start), or take MultiTurnGRPOTrainer.",
        )
    spread, before = gains.std(correction=0).item(), beliefs[:, 0].mean().item()
    told = f"{len(gains)} gains, mean {gains.mean():.3g}, spread {spread:.3g}; belief before the first turn {before:.3g} a token"
    if spread < 1e-6:
        return Finding(
            name,
            "error",
            f"{told}: nothing that the tools say changes the belief.",
            "Look at what the tools return and at belief_prefix: the context may never reach the answer.",
        )
    if before > _KNOWN:
        return Finding(
            name,
            "warning",
            f"{told}: the answers are known before anything is searched, so gains are small and noisy.",
            "Take questions that the model cannot answer by itself, or gain_weight: 0.0.",
        )
    return Finding(name, "ok", f"{told}.")


def check_belief_prefix(seen: Observation) -> Finding:
    """
    The policy writes its answers the way the belief asks for them.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "IGPO belief prefix"
    if "igpo" not in seen.method or seen.rollouts is None:
        return Finding(name, "skipped", "The method is not IGPO.")
    prefix = seen.args.belief_prefix
    opens = [seen.chat.decode(ids[-8:]).rstrip().endswith("<think>") for ids in seen.rollouts.prompt_ids]
    if any(opens) and "<think>" in prefix:
        return Finding(
            name,
            "warning",
            f"The chat template opens the thinking, and belief_prefix {prefix!r} opens it again.",
            f"belief_prefix: {prefix.replace('<think>', '', 1).lstrip()!r}.",
        )
    written = _last_messages(seen)
    tags = re.findall(r"<\w+>", prefix)
    if not written or not tags:
        return Finding(name, "ok", "No rollout has ended by itself, or the prefix has no tags: nothing to compare.")
    missing = [tag for tag in tags if not any(tag in text for text in written)]
    if missing == tags:
        return Finding(
            name,
            "warning",
            f"Of {len(written)} last messages none has {' or '.join(missing)}, with which belief_prefix {prefix!r} asks for the "
            "answer: the belief is measured in a place that the policy does not know.",
            "Say in the prompt (system_prompt) that the answer goes between <answer> and </answer>, or set belief_prefix to what "
            "the policy writes before its answer.",
        )
    if "<think>" in missing:
        kept = re.sub(r"<think>.*?</think>\s*", "", prefix, flags=re.DOTALL)
        return Finding(
            name,
            "warning",
            f"The policy does not think before it answers, and belief_prefix {prefix!r} does.",
            f"belief_prefix: {kept!r}.",
        )
    share = sum(all(tag in text for tag in tags) for text in written) / len(written)
    return Finding(name, "ok", f"{share:.0%} of the last messages have {' and '.join(tags)}, as belief_prefix does.")


def _last_messages(seen: Observation) -> list[str]:
    """Texts with which rollouts ended that came to an end by themselves, thoughts included."""
    assert seen.rollouts is not None
    texts = []
    rollouts = seen.rollouts
    for ids, turns, reason, messages in zip(
        rollouts.completion_ids, rollouts.turns, rollouts.stop_reasons, rollouts.completions, strict=True
    ):
        written = [turn for turn in turns if turn.end > turn.start]
        if reason is StopReason.COMPLETED and written and isinstance(messages, list) and message_text(messages[-1]):
            texts.append(seen.chat.decode(ids[written[-1].start : written[-1].end]))
    return texts


def check_leaks(seen: Observation) -> Finding:
    """
    The answer does not stand in the prompt.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "IGPO leaks"
    if "igpo" not in seen.method or seen.rollouts is None or not all(seen.extra["answers"]):
        return Finding(name, "skipped", "The method is not IGPO, or rows have no answer.")
    prompts = [seen.chat.decode(ids).casefold() for ids in seen.rollouts.prompt_ids]
    rows = list(zip(prompts, seen.extra["answers"], strict=True))[:: seen.rollouts.group_size]
    leaked = [aliases[0] for prompt, aliases in rows if _has_word(prompt, aliases[0].casefold())]
    share = len(leaked) / len(rows)
    if share > _LEAKED:
        return Finding(
            name,
            "warning",
            f"The answer stands in the prompt of {share:.0%} of the tasks, such as {leaked[0]!r}: the belief is high before the "
            "first turn, and gains measure nothing.",
            "Take it out of the prompt and of what the environment's `reset` returns, or leave yes-or-no questions out.",
        )
    return Finding(name, "ok", f"The answer stands in the prompt of {share:.0%} of the tasks.")


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
