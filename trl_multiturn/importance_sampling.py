"""How much of a batch importance sampling leaves to train on, when vLLM writes the rollouts."""

from typing import Any

import torch


LOST_BELOW = 0.1

_ADVICE = {
    "sequence": (
        "A whole rollout's ratio is a product over its tokens and drifts away from 1 with their number: set "
        "vllm_importance_sampling_mode='token_truncate', which has a ratio for each token."
    ),
    "token_mask": "Set vllm_importance_sampling_mode='token_truncate', or move the clip values apart.",
    "token_truncate": (
        "vLLM gives single tokens a very different probability than the training model: look at "
        "sampling/sampling_logp_difference, and at whether both have the same weights, dtype and sampling settings."
    ),
}


def count_lost_tokens(ratio: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Count what importance sampling does to B rollouts of T tokens.

    Args:
        ratio (`torch.Tensor` of shape `(B, T)` or `(B, 1)`):
            What each token's loss is multiplied with, 0 where it was masked.
        mask (`torch.Tensor` of shape `(B, T)`):
            Non-zero for the tokens that are trained.

    Returns:
        `torch.Tensor` of shape `(B, 3)`, int64: For each rollout, its trained tokens, those that were masked, and those
        whose ratio is below 0.1, which are lost: they weigh less than a tenth of a token that nothing had to be corrected
        for.
    """
    trained = mask.bool()
    ratio = ratio.expand(trained.shape)
    return torch.stack(
        [trained.sum(1), (trained & (ratio == 0)).sum(1), (trained & (ratio < LOST_BELOW)).sum(1)], dim=1
    )


def lost_token_metrics(counts: torch.Tensor) -> dict[str, float]:
    """
    Shares of the trained tokens of N rollouts that importance sampling takes away.

    Args:
        counts (`torch.Tensor` of shape `(N, 3)`):
            What [`count_lost_tokens`] returned, of all processes.

    Returns:
        `dict[str, float]`: `sampling/masked_tokens` and `sampling/lost_tokens`, and the latter of the shorter and of the
        longer half of the rollouts, `sampling/lost_tokens/short` and `sampling/lost_tokens/long`.
    """
    by_length = counts[counts[:, 0].argsort(stable=True)].double()
    short, long = by_length[: len(counts) // 2], by_length[len(counts) // 2 :]

    def share(rollouts: torch.Tensor, column: int) -> float:
        trained, *taken = rollouts.sum(0).tolist()
        return taken[column - 1] / max(trained, 1.0)

    return {
        "sampling/masked_tokens": share(by_length, 1),
        "sampling/lost_tokens": share(by_length, 2),
        "sampling/lost_tokens/short": share(short, 2),
        "sampling/lost_tokens/long": share(long, 2),
    }


def lost_tokens_warning(metrics: dict[str, float], max_lost_share: float, mode: str) -> str | None:
    """
    What to say when too much is lost.

    Args:
        metrics (`dict[str, float]`):
            What [`lost_token_metrics`] returned.
        max_lost_share (`float`):
            Share of the trained tokens, between 0 and 1, that may be lost.
        mode (`str`):
            `vllm_importance_sampling_mode` of the run.

    Returns:
        `str` or `None`: `None` if no more than that is lost.
    """
    lost = metrics["sampling/lost_tokens"]
    if lost <= max_lost_share:
        return None
    advice = _ADVICE["sequence" if mode.startswith("sequence") else mode]
    return (
        f"Importance sampling (vllm_importance_sampling_mode={mode!r}) masked {metrics['sampling/masked_tokens']:.0%} of the "
        f"trained tokens of this batch, and {lost:.0%} weigh less than a tenth or nothing "
        f"({metrics['sampling/lost_tokens/long']:.0%} in the longer half of the rollouts): more than "
        f"max_lost_share={max_lost_share}. {advice}"
    )


def count_dropped_tokens(keep: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Count what off-policy sequence masking (`off_policy_mask_threshold`) leaves out of the loss.

    Args:
        keep (`torch.Tensor` of shape `(B, T)` or `(B, 1)`):
            0 where a token is left out.
        mask (`torch.Tensor` of shape `(B, T)`):
            Non-zero for the tokens that are trained.

    Returns:
        `torch.Tensor` of shape `(2,)`, float32: Tokens left out, and all trained tokens.
    """
    trained = mask.bool()
    return torch.stack([(trained & (keep == 0)).sum(), trained.sum()]).float()


def trained_tokens(output: dict[str, Any]) -> torch.Tensor:
    """Mask `(B, T)` of the tokens of TRL's output that the loss is summed over."""
    mask = output["completion_mask"]
    return mask * output["tool_mask"] if output.get("tool_mask") is not None else mask
