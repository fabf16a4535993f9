"""Checkpoints of models that `save_pretrained` gives other weight names than they have, as it does for Qwen2.5-VL.

`from_pretrained` names them back, the Trainer does not: resuming it goes on from the weights it was built with, and says so in
a warning only (https://github.com/huggingface/transformers/issues/43701, transformers 5.23).
"""

from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from safetensors import safe_open


def has_renamed_weights(model: Any, folder: str | Path) -> bool:
    """
    Whether a checkpoint's weights have other names than the model's.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model, not wrapped.
        folder (`str` or `Path`):
            Checkpoint. One without safetensors files is left to the Trainer.

    Returns:
        `bool`: Never for an adapter.
    """
    files = sorted(Path(folder).glob("model*.safetensors"))
    if is_peft_model(model) or not files:
        return False
    saved: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            saved.update(tensors.keys())
    return not saved <= set(model.state_dict())


def load_renamed_weights(model: Any, folder: str | Path) -> None:
    """
    Load a checkpoint's weights by the names that the model has.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model, not wrapped; changed in place.
        folder (`str` or `Path`):
            Checkpoint.
    """
    saved = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())
