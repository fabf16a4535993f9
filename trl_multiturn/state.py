"""A method's state in a checkpoint folder: tensors as safetensors, the rest as JSON, each written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


_TENSORS = "method_state.safetensors"
_VALUES = "method_state.json"


def save_state(folder: str | os.PathLike, state: dict[str, Any]) -> None:
    """
    Write a method's state.

    Args:
        folder (`str` or `os.PathLike`):
            Checkpoint folder.
        state (`dict[str, Any]`):
            Tensors and JSON values by name.
    """
    tensors = {name: value.contiguous() for name, value in state.items() if isinstance(value, torch.Tensor)}
    values = {name: value for name, value in state.items() if name not in tensors}
    text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / _TENSORS, lambda path: save_file(tensors, path))
    _replace(folder / _VALUES, lambda path: path.write_text(text, encoding="utf-8"))


def load_state(folder: str | os.PathLike) -> dict[str, Any] | None:
    """
    Read a method's state.

    Args:
        folder (`str` or `os.PathLike`):
            Checkpoint folder.

    Returns:
        `dict[str, Any]` or `None`: What [`save_state`] was given, or `None` if the folder holds no state.
    """
    folder = Path(folder)
    if not (folder / _VALUES).exists():
        return None
    values = json.loads((folder / _VALUES).read_text(encoding="utf-8"))
    return {**values, **load_file(folder / _TENSORS)}


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)
