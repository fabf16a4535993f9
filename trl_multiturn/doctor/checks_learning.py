"""Does a step move the weights, and in numbers that the machine can hold?"""

import math

from .observation import Observation
from .report import Finding


def check_gradient(seen: Observation) -> Finding:
    """
    The gradient is finite, is not zero, and reaches every tensor that is trained.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name, gradient = "gradient", seen.gradient
    if gradient.failed:
        return Finding(
            name,
            "error",
            f"The loss cannot be computed: {gradient.failed}",
            "If memory is short: per_device_train_batch_size: 1 with more gradient_accumulation_steps, activation_checkpointing: "
            "true, or a smaller max_completion_length. Otherwise see the other findings.",
        )
    if not gradient.trained:
        return Finding(
            name,
            "error",
            "No parameter is trained.",
            "Do not freeze the model; with PEFT pass the adapter's configuration as peft_config (use_peft: true), or load the "
            "adapter with is_trainable=True.",
        )
    if gradient.broken or not math.isfinite(gradient.loss):
        return Finding(
            name,
            "error",
            f"Loss {gradient.loss:g}; the gradient of {len(gradient.broken)} tensors is not finite"
            + (f", such as {gradient.broken[0]}." if gradient.broken else "."),
            "bf16: true in place of fp16; or a look at advantages and rewards, of which one may be huge.",
        )
    told = f"Norm {gradient.norm:.3g}, loss {gradient.loss:.3g}, {gradient.trained:,} of {gradient.total:,} parameters"
    if gradient.norm == 0.0:
        return Finding(name, "error", f"{told}: a step would change nothing.", _why_zero(seen))
    of_images = [n for n in gradient.untouched if "visual" in n or "vision" in n]
    if len(gradient.untouched) > len(of_images):
        other = next(n for n in gradient.untouched if n not in of_images)
        return Finding(
            name,
            "warning",
            f"{told}; {len(gradient.untouched)} trained tensors get none, such as {other}.",
            "Freeze what the loss does not reach (requires_grad_(False)): it takes optimizer memory, and DDP waits for it.",
        )
    return Finding(name, "ok", f"{told}.")


def _why_zero(seen: Observation) -> str:
    if seen.signal is not None and not (seen.signal > 1e-6).any():
        return "No rollout has an advantage: see the finding about signal."
    if not any(scored is not None and any(scored.trained) for scored in seen.scored):
        return "No token is trained: see the finding about rollouts that are left out."
    return "Look at what computes the loss: gradients are lost under torch.no_grad() or detach()."


def check_adapters(seen: Observation) -> Finding:
    """
    The adapters, if there are any, are what is trained.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name, setup = "adapters", seen.setup
    if not setup.adapters:
        return Finding(name, "skipped", "There are no adapters: all weights are trained.")
    share = seen.gradient.trained / max(seen.gradient.total, 1)
    told = f"{', '.join(setup.adapters)}: {seen.gradient.trained:,} parameters are trained, {share:.2%} of all"
    if not seen.gradient.trained:
        return Finding(
            name,
            "error",
            f"The adapters {', '.join(setup.adapters)} are frozen.",
            "PeftModel.from_pretrained(..., is_trainable=True), or pass peft_config to the trainer.",
        )
    return Finding(name, "ok", f"{told}.")


def check_precision(seen: Observation) -> Finding:
    """
    The machine has instructions for the precision, and the weights can hold a step.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name, setup, args = "precision", seen.setup, seen.args
    told = ", ".join(f"{count:,} parameters in {dtype}" for dtype, count in setup.dtypes.items())
    if setup.emulates_bf16:
        return Finding(
            name,
            "warning",
            f"{told}; this CPU has no instructions for bfloat16 and emulates it, up to 160 times slower.",
            "bf16: false, and dtype: float32.",
        )
    if "float16" in setup.dtypes and args.fp16 and not setup.adapters:
        return Finding(
            name,
            "error",
            f"{told}; fp16: true needs weights in float32.",
            "dtype: float32 with fp16: true, or dtype: bfloat16 with bf16: true.",
        )
    pure = set(setup.dtypes) <= {"bfloat16"}
    if pure and not setup.adapters and 0 < args.learning_rate < 1e-6:
        return Finding(
            name,
            "warning",
            f"{told}: a step of learning_rate={args.learning_rate:g} is mostly rounded away.",
            "dtype: float32 with bf16: true (weights in float32, arithmetic in bfloat16).",
        )
    return Finding(name, "ok", f"{told}.")


def check_learning_rate(seen: Observation) -> Finding:
    """
    The learning rate is neither 0 nor of another kind of training.

    Args:
        seen ([`Observation`]):
            The batch.

    Returns:
        [`Finding`]
    """
    name, rate = "learning rate", seen.args.learning_rate
    if rate <= 0:
        return Finding(
            name, "error", f"learning_rate is {rate:g}: nothing is learnt.", f"learning_rate: {_usual_rate(seen):.0e}."
        )
    # A random model of a test or a demonstration learns at rates that would destroy a pretrained one.
    if seen.gradient.total > 50_000_000 and rate > (1e-3 if seen.setup.adapters else 1e-4):
        return Finding(
            name,
            "warning",
            f"learning_rate is {rate:g}, which destroys most pretrained models within a few steps.",
            f"learning_rate: {_usual_rate(seen):.0e}.",
        )
    return Finding(
        name, "ok", f"{rate:g}, {getattr(seen.args.lr_scheduler_type, 'value', seen.args.lr_scheduler_type)}."
    )


def _usual_rate(seen: Observation) -> float:
    return 1e-5 if seen.setup.adapters else 1e-6
