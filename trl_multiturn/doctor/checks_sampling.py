"""Does the model that is trained find the rollouts as likely as the one that wrote them did?"""

import math
from typing import Any

from .observation import Observation, Scored
from .report import Finding, Severity


# Mean absolute difference of a token's two log-probabilities that rounding explains.
_ROUNDING = {"float32": 1e-3, "half": 0.05}
_BAD = 0.5
_KEPT = 0.75


def check_sampling(seen: Observation) -> list[Finding]:
    """
    Log-probabilities with which tokens were sampled are those that the loss finds.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        `list[Finding]`
    """
    name = "sampling and scoring"
    causes = _settings(seen)
    pairs = _pairs(seen)
    if not pairs:
        if causes:
            return [Finding(name, "warning", told, change) for told, change in causes]
        return [Finding(name, "skipped", "The generation backend does not say how likely its tokens were.")]
    differences = [abs(a - b) for a, b in pairs]
    mean, worst = sum(differences) / len(differences), max(differences)
    allowed = _ROUNDING["half" if _is_half(seen) else "float32"]
    told = f"Log-probabilities of {len(pairs)} trained tokens differ by {mean:.2g} on average, {worst:.2g} at most"
    severity: Severity = "error" if mean > _BAD else "warning"
    if causes:
        return [Finding(name, severity, f"{told}: {cause}", change) for cause, change in causes]
    if mean <= allowed or (mean <= 0.05 and not math.isfinite(worst)):
        return [Finding(name, "ok", f"{told}.")]
    return [Finding(name, severity, f"{told}, where rounding explains {allowed:g}.", _unexplained(seen))]


def _pairs(seen: Observation) -> list[tuple[float, float]]:
    if seen.sampling_logps is None:
        return []
    pairs = []
    for scored, sampling in zip(seen.scored, seen.sampling_logps, strict=True):
        if scored is not None and scored.logps:
            triples = zip(scored.trained, sampling, scored.logps, strict=True)
            pairs += [(s, t) for trained, s, t in triples if trained and math.isfinite(s)]
    return pairs


def _is_half(seen: Observation) -> bool:
    used = seen.setup.dtypes
    return bool(seen.args.bf16 or seen.args.fp16 or "bfloat16" in used or "float16" in used or seen.args.use_vllm)


def _settings(seen: Observation) -> list[tuple[str, str]]:
    """Settings that make sampling and scoring differ: what they do, and what to set."""
    causes: list[tuple[str, str]] = []
    sampling, temperature = seen.setup.sampling, seen.args.temperature
    if not sampling["do_sample"]:
        causes.append(
            (
                "generation_kwargs.do_sample is off, so all rollouts of a task are the same.",
                "Leave do_sample out of generation_kwargs.",
            )
        )
    if sampling["temperature"] != temperature:
        causes.append(
            (
                f"generation_kwargs samples at temperature {sampling['temperature']}, the loss scores at {temperature}.",
                f"temperature: {sampling['temperature']}, and no temperature in generation_kwargs.",
            )
        )
    cuts = {name: sampling[name] for name in ("top_p", "top_k", "min_p", "repetition_penalty")}
    neutral = {"top_p": (None, 1.0), "top_k": (None, 0, -1), "min_p": (None, 0.0), "repetition_penalty": (None, 1.0)}
    changed = {name: value for name, value in cuts.items() if value not in neutral[name]}
    if changed:
        told = ", ".join(f"{name}={value}" for name, value in changed.items())
        values = {"top_p": 1.0, "top_k": 0, "min_p": "null", "repetition_penalty": 1.0}
        causes.append(
            (
                f"{told} cuts or bends the distribution that is sampled from, and the loss scores with the whole one.",
                ", ".join(f"{name}: {values[name]}" for name in changed) + ".",
            )
        )
    if seen.setup.dropout:
        causes.append(_dropout(seen.setup.dropout))
    return causes


def _dropout(dropout: dict[str, float]) -> tuple[str, str]:
    of_adapters = [name for name in dropout if "lora_dropout" in name]
    told = f"{len(dropout)} dropout layers are active (p={max(dropout.values()):g}), in rollouts and in the loss, each time anew."
    if len(of_adapters) == len(dropout):
        return told, "lora_dropout: 0.0."
    change = "disable_dropout: true"
    return told, f"{change}, and lora_dropout: 0.0." if of_adapters else f"{change}."


def _unexplained(seen: Observation) -> str:
    if seen.args.use_vllm:
        return (
            "Serve the model in the precision that it is trained in (vLLM's dtype, no quantization), and keep "
            "vllm_importance_sampling_correction: true."
        )
    if seen.chat.is_vision_language:
        return (
            "Look at images and padding: a rollout is scored with other images or positions than it was written with."
        )
    return (
        "Look at what wraps the model: padding, position ids or a cast to another precision make a token's probability depend on "
        "the batch that it is in."
    )


def check_importance_sampling(seen: Observation) -> Finding:
    """
    The correction for the generation backend's probabilities keeps most of the tokens, also those of long rollouts.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name = "importance sampling"
    scored: list[Scored] = [s for s in seen.scored if s is not None and s.ratio is not None and any(s.trained)]
    if not scored:
        return Finding(name, "skipped", "The loss is not corrected for another backend's probabilities (use_vllm).")
    longest = sorted(scored, key=lambda s: sum(s.trained))[len(scored) // 2 :]
    kept, kept_of_long = _kept_share(scored), _kept_share(longest)
    mode = seen.args.vllm_importance_sampling_mode
    told = f"{kept:.0%} of the trained tokens are kept, {kept_of_long:.0%} of those of the longer half of the rollouts ({mode})"
    if min(kept, kept_of_long) >= _KEPT:
        return Finding(name, "ok", f"{told}.")
    change = (
        "vllm_importance_sampling_mode: token_truncate: the ratio of a whole rollout is the product of all its tokens' and leaves "
        "any interval when it is long enough"
        if mode.startswith("sequence")
        else f"vllm_importance_sampling_clip_max: {2 * (seen.args.vllm_importance_sampling_clip_max or 1.0):g}, or the same "
        "precision in vLLM and in training"
    )
    return Finding(name, "error" if kept_of_long < 0.1 else "warning", f"{told}.", f"{change}.")


def _kept_share(scored: list[Scored]) -> float:
    """Share of trained tokens whose weight is not 0."""
    kept = total = 0
    for s in scored:
        ratio: Any = s.ratio
        for i, trained in enumerate(s.trained):
            if trained:
                total += 1
                kept += ratio[i if len(ratio) > 1 else 0] > 0
    return kept / max(total, 1)
