"""Checkpoints that are there whole or not at all, and that are looked at before anything is read from them.

The Trainer writes straight into `checkpoint-N`: a run that is killed meanwhile leaves a folder that looks like the newest
checkpoint and is not one. Here everything goes to a folder of another name first, which is renamed when all of it is on disk.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import get_last_checkpoint, sort_checkpoints

from .state import METHOD


# A name that `get_last_checkpoint` does not take for a checkpoint and that the Trainer does not push ("_*").
INCOMPLETE = "_incomplete"
# Names and sizes of a checkpoint's files, written last.
FILES = "checkpoint_files.json"
_STATE = "trainer_state.json"
# Files that a person may edit. Whether they are whole shows when they are read.
_TEXT = (".json", ".jinja", ".md", ".txt")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or is damaged and was not read."""


@contextmanager
def whole_checkpoint(run_dir: str, state: Any, args: Any, wait: Callable[[], None]) -> Iterator[str]:
    """
    Context manager in which a checkpoint is written. Every process enters it.

    What a killed save has left is removed first. When every process is done, the folder is written through to the disk and
    gets its name. If a process fails, nothing of it stays.

    Args:
        run_dir (`str`):
            Folder of the run's checkpoints, on a file system that all processes see.
        state ([`~transformers.TrainerState`]):
            The Trainer's state, which names the best checkpoint.
        args ([`~transformers.TrainingArguments`]):
            The Trainer's arguments.
        wait (`Callable[[], None]`):
            Waits for all processes.

    Yields:
        `str`: Folder to write `checkpoint-N` into.

    Raises:
        [`CheckpointError`]: If the disk is full or fails.
    """
    incomplete = Path(run_dir, INCOMPLETE)
    final = Path(checkpoint_path(run_dir, state))
    folder = incomplete / final.name
    try:
        if args.should_save and incomplete.exists():
            shutil.rmtree(incomplete)
        wait()
        yield str(incomplete)
        wait()  # every process's part is there
        if _name_best(run_dir, state, args) and args.should_save:
            state.save_to_json(str(folder / _STATE))
        if args.should_save:
            _publish(folder, final)
    except BaseException as error:
        if args.should_save:
            shutil.rmtree(incomplete, ignore_errors=True)
        if not _is_of_the_disk(error):
            raise
        raise CheckpointError(_not_saved(run_dir, final.name, error)) from error
    wait()


def checkpoint_path(run_dir: str, state: Any) -> str:
    """
    Where the checkpoint of the step that was just taken is, or will be.

    Args:
        run_dir (`str`):
            Folder of the run's checkpoints.
        state ([`~transformers.TrainerState`]):
            The Trainer's state.
    """
    return os.path.join(run_dir, f"checkpoint-{state.global_step}")


def rotate(run_dir: str, limit: int | None, best: str | None) -> None:
    """
    Delete the oldest checkpoints, which lose their name first: one that is half deleted must not look like one.

    Args:
        run_dir (`str`):
            Folder of the run's checkpoints.
        limit (`int` or `None`):
            How many to keep; all, if `None` or 0. The newest and the best are always kept.
        best (`str` or `None`):
            The best checkpoint.
    """
    checkpoints = sort_checkpoints(run_dir, use_mtime=True)
    if not limit or limit < 0 or len(checkpoints) <= limit:
        return
    kept = {checkpoints[-1], str(Path(best))} if best is not None else {checkpoints[-1]}
    surplus = [checkpoint for checkpoint in checkpoints if checkpoint not in kept]
    for checkpoint in surplus[: len(checkpoints) - max(limit, len(kept))]:
        removed = Path(run_dir, INCOMPLETE, Path(checkpoint).name)
        try:
            removed.parent.mkdir(exist_ok=True)
            os.replace(checkpoint, removed)
        except OSError:  # of a disk that is full, which deleting may help
            shutil.rmtree(checkpoint, ignore_errors=True)
        shutil.rmtree(removed.parent, ignore_errors=True)


def check_checkpoint(folder: str | os.PathLike) -> None:
    """
    Look at a checkpoint before anything of it is loaded.

    Args:
        folder (`str` or `os.PathLike`):
            Checkpoint. One that is no folder is left to the Trainer.

    Raises:
        [`CheckpointError`]: If a file is missing, cut off or cannot be read: which, and what to do.
    """
    folder = Path(folder)
    if folder.is_dir() and (damage := _damage(folder)) is not None:
        earlier = [path for path in sort_checkpoints(str(folder.parent)) if Path(path) != folder]
        instead = f"resume from another checkpoint, such as {earlier[-1]}" if earlier else "start the run again"
        raise CheckpointError(f"{folder} is damaged and nothing of it was loaded: {damage}. Delete it and {instead}.")


def check_resumed(resume_from_checkpoint: str | bool | None, output_dir: str | None) -> None:
    """
    Look at the checkpoint that a run is to be resumed from.

    Args:
        resume_from_checkpoint (`str` or `bool` or `None`):
            As for [`~transformers.Trainer.train`].
        output_dir (`str`):
            Where the newest one is looked for, if `resume_from_checkpoint` is `True`.

    Raises:
        [`CheckpointError`]: If it is damaged.
    """
    if resume_from_checkpoint is True:
        resume_from_checkpoint = get_last_checkpoint(output_dir) if output_dir and os.path.isdir(output_dir) else None
    if resume_from_checkpoint:
        check_checkpoint(resume_from_checkpoint)


# --- writing


def _name_best(run_dir: str, state: Any, args: Any) -> bool:
    """The Trainer has looked for the best checkpoint in the folder of another name: whether it is named anew."""
    if args.save_strategy == "no" or not state.best_global_step:
        return False
    best = os.path.join(run_dir, f"checkpoint-{state.best_global_step}")
    if best == state.best_model_checkpoint:
        return False
    if state.best_global_step != state.global_step and not os.path.isdir(best):
        return False
    state.best_model_checkpoint = best
    return True


def _publish(folder: Path, final: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    (folder / FILES).write_text(json.dumps(sizes, indent=2), encoding="utf-8")
    for path in [*files, folder / FILES]:
        _sync(path)
    for path in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        _sync_folder(path)
    replaced = folder.with_name("replaced")
    if final.exists():  # a folder cannot be renamed onto another
        os.replace(final, replaced)
    try:
        os.replace(folder, final)
    except OSError:
        if replaced.exists():
            os.replace(replaced, final)
        raise
    _sync_folder(final.parent)
    shutil.rmtree(folder.parent, ignore_errors=True)


def _sync(path: Path) -> None:
    """Write through to the disk, so that a crash of the machine does not leave a name without its content."""
    if os.name == "nt":  # opens no folders, and files only for writing
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    with suppress(OSError):  # some file systems of networks cannot
        _sync(path)


def _is_of_the_disk(error: BaseException) -> bool:
    # torch says of a full disk that its writer's position is not the expected one.
    return isinstance(error, (OSError, SafetensorError)) or (
        isinstance(error, RuntimeError) and ("inline_container" in str(error) or "PytorchStreamWriter" in str(error))
    )


def _not_saved(run_dir: str, name: str, error: BaseException) -> str:
    last = get_last_checkpoint(run_dir)
    free = shutil.disk_usage(run_dir).free
    resume = f"Free some space and resume from {last}" if last else "There is no earlier checkpoint"
    return (
        f"{name} could not be saved in {run_dir}, which has {free / 2**20:,.1f} MiB free: {error}. Nothing of it was kept. "
        f"{resume}."
    )


# --- reading


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint; `None` if nothing was found."""
    if not (folder / _STATE).is_file():
        return f"{_STATE} is missing"
    for path in sorted(folder.iterdir()):
        if path.is_file() and (damage := _damage_of_file(path)) is not None:
            return damage
        for part, other in ((".json", ".safetensors"), (".safetensors", ".json")):
            if path.name.startswith(METHOD) and path.suffix == part and not path.with_suffix(other).is_file():
                return f"{path.with_suffix(other).name} is missing"
    if not (folder / FILES).is_file():  # written by another trainer, or before there was such a list
        return None
    for name, size in json.loads((folder / FILES).read_text(encoding="utf-8")).items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.suffix not in _TEXT and path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    return None


def _damage_of_file(path: Path) -> str | None:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                pass
        elif path.suffix in (".pt", ".pth") and not zipfile.is_zipfile(path):
            return f"{path.name} is cut off"
    except (ValueError, SafetensorError, OSError) as error:
        return f"{path.name} cannot be read ({error})"
    return None
