"""Adapters on 4-bit models: what bitsandbytes and PEFT do to a model that is trained, and must not (bitsandbytes 0.50, PEFT 0.21)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def keep_differentiable(model: Any) -> None:
    """
    Have 4-bit layers leave their weights as they are.

    On a CPU with bfloat16 instructions the first forward pass without gradients rearranges the weights for inference and
    rounds their scales. They stay so, and later passes through them give no gradient to what comes before, without an error.
    An evaluation between two steps is enough for that, and so is a belief that is scored.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, changed in place. One without 4-bit layers stays as it is.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


@contextmanager
def dtypes_kept(model: Any) -> Iterator[None]:
    """
    Context manager in which weights are loaded and keep the types that they had.

    TRL trains adapters on quantized models in bfloat16. PEFT makes those that it loads float32: a resumed run would not go on
    as the one that was stopped.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model whose weights are loaded.
    """
    before = {name: parameter.dtype for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if name in before and parameter.dtype != before[name]:
            parameter.data = parameter.data.to(before[name])
