"""A method's state in a checkpoint folder: tensors as safetensors, the rest as JSON, each written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


METHOD = "method_state"


def save_state(folder: str | os.PathLike, state: dict[str, Any], name: str = METHOD) -> None:
    """
    Write a method's state.

    Args:
        folder (`str` or `os.PathLike`):
            Checkpoint folder.
        state (`dict[str, Any]`):
            Tensors and JSON values by name.
        name (`str`, *optional*, defaults to `"method_state"`):
            Name of the two files, without suffix.
    """
    tensors = {name: value.contiguous() for name, value in state.items() if isinstance(value, torch.Tensor)}
    values = {name: value for name, value in state.items() if name not in tensors}
    text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / f"{name}.safetensors", lambda path: save_file(tensors, path))
    _replace(folder / f"{name}.json", lambda path: path.write_text(text, encoding="utf-8"))


def load_state(folder: str | os.PathLike, name: str = METHOD) -> dict[str, Any] | None:
    """
    Read a method's state.

    Args:
        folder (`str` or `os.PathLike`):
            Checkpoint folder.
        name (`str`, *optional*, defaults to `"method_state"`):
            Name of the two files, without suffix.

    Returns:
        `dict[str, Any]` or `None`: What [`save_state`] was given, or `None` if the folder holds no state.
    """
    folder = Path(folder)
    if not (folder / f"{name}.json").exists():
        return None
    values = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return {**values, **load_file(folder / f"{name}.safetensors")}


def save_shard(folder: str | os.PathLike, state: dict[str, Any], rank: int, world_size: int) -> None:
    """
    Write one process's part of a method's state.

    Args:
        folder (`str` or `os.PathLike`):
            Checkpoint folder, which all processes see.
        state (`dict[str, Any]`):
            Tensors and JSON values by name.
        rank (`int`):
            This process.
        world_size (`int`):
            Number of processes.
    """
    save_state(folder, state, _shard(rank, world_size))


def load_shards(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """
    Read all processes' parts.

    Args:
        folder (`str` or `os.PathLike`):
            Checkpoint folder.

    Returns:
        `list[dict]`: What each process gave [`save_shard`], in order; empty if there is none.

    Raises:
        `FileNotFoundError`: If the part of a process is missing.
    """
    found = sorted(Path(folder).glob(f"{METHOD}_*_of_*.json"))
    if not found:
        return []
    world_size = int(found[0].stem.rpartition("_")[2])
    shards = [load_state(folder, _shard(rank, world_size)) for rank in range(world_size)]
    missing = [rank for rank, shard in enumerate(shards) if shard is None]
    if missing:
        raise FileNotFoundError(
            f"{folder} was written by {world_size} processes, but the parts of processes {missing} are missing. On several "
            "machines the output folder must be on a file system that all of them share."
        )
    return [shard for shard in shards if shard is not None]


def _shard(rank: int, world_size: int) -> str:
    return f"{METHOD}_{rank:05d}_of_{world_size:05d}"


def _replace(path: Path, write: Any) -> None:
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)
