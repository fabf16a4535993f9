"""Losses in which the advantage of a turn reaches that turn's tokens, and those in which it does not."""

from typing import Any


# In these the ratio is a weight, and the gradient is that of the log-probabilities. In the others it goes through the ratio.
_RATIO_IS_A_WEIGHT = ("cispo", "vespo")


def check_turn_credit(args: Any, what: str) -> None:
    """
    Make sure that turns can be told apart by the loss.

    A ratio of the whole sequence is the mean over its tokens: through it, every token gets the same gradient, whatever the
    advantages of the single tokens are.

    Args:
        args ([`MultiTurnGRPOConfig`]):
            Configuration.
        what (`str`):
            What says how much each turn was worth, for the message.

    Raises:
        `ValueError`: If every token of a rollout would be trained on the mean of its turns' advantages.
    """
    if args.importance_sampling_level == "sequence" and args.loss_type not in _RATIO_IS_A_WEIGHT:
        raise ValueError(
            f"importance_sampling_level='sequence' with loss_type={args.loss_type!r} trains every token of a rollout on the "
            f"mean of its turns' advantages: {what} would make no difference between turns. To credit turns, leave "
            "importance_sampling_level at 'token' or set loss_type to 'cispo' or 'vespo'."
        )
