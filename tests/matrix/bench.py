"""What a check of a cell works with: its trainers, whether one has taken a step, and comparisons."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from peft import get_peft_model_state_dict
from transformers import TrainerCallback

from tests.matrix.building import build, outcome, rows
from tests.matrix.cells import Cell


_TIMES = ("time", "runtime", "per_second", "seconds")


class Bench:
    """
    A cell and the folder that its runs write into.

    Args:
        cell (`Cell`):
            The cell.
        folder (`Path`):
            An empty folder.
        hub (`HubStandIn`, *optional*):
            Where this process pushes to.
    """

    def __init__(self, cell: Cell, folder: Path, hub: Any = None):
        self.cell = cell
        self.folder = folder
        self.hub = hub
        self.stepped = False

    def trainer(self, run: str = "run", callbacks: tuple = (), **options: Any) -> Any:
        """A new trainer with the cell's untrained model, that writes into the folder of a run."""
        return build(self.cell, self.folder / run, callbacks=[_Steps(self), *callbacks], **options)

    def train(self, run: str = "run", **options: Any) -> Any:
        """Train as the options say and check that it was trained."""
        trainer = self.trainer(run, **options)
        before = weights(trainer)
        trainer.train()
        self.check_trained(trainer, before)
        return trainer

    def check_trained(self, trainer: Any, before: dict[str, torch.Tensor]) -> None:
        """The steps were taken, what is to be trained has changed and is finite, and nothing else has changed."""
        assert trainer.state.global_step == trainer.args.max_steps
        adapted = self.cell.adapter != "full"
        changed = set()
        for name, parameter in model_of(trainer).named_parameters():
            assert not adapted or parameter.requires_grad == ("lora_" in name), name
            assert not parameter.is_floating_point() or torch.isfinite(parameter).all(), name
            if not torch.equal(parameter.data, before[name]):
                assert parameter.requires_grad, f"{name} is frozen, but has changed"
                changed.add(name)
        assert changed, "nothing has changed"
        for log in training_logs(trainer):
            assert all(map(_is_finite, (log["loss"], log["grad_norm"]))), log
        if self.cell.environment != "prompts":
            turns = [log.get("turns/mean", 0) for log in training_logs(trainer)]  # not every step has a new batch
            assert max(turns) > 1, "no tool was called"

    def evaluation(self) -> dict[str, Any]:
        """Options of a trainer that has something to evaluate on."""
        return {"eval_dataset": rows(self.cell, 2)}


class _Steps(TrainerCallback):
    """Tells a bench that training has begun its first step: what is raised later is no refusal."""

    def __init__(self, bench: Bench):
        self.bench = bench

    def on_step_begin(self, args, state, control, **kwargs):
        self.bench.stepped = True


def model_of(trainer: Any) -> Any:
    """The trainer's model, not wrapped."""
    return trainer.accelerator.unwrap_model(trainer.model)


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    """A copy of all weights, quantized ones as they are stored."""
    return {name: parameter.data.clone() for name, parameter in model_of(trainer).named_parameters()}


def saved_weights(model: Any) -> dict[str, torch.Tensor]:
    """What saving a model keeps: the adapter's weights, or all."""
    return get_peft_model_state_dict(model) if is_peft_model(model) else model.state_dict()


def training_logs(trainer: Any) -> list[dict[str, Any]]:
    """The logs of steps, without what measures time."""
    return [
        {key: value for key, value in log.items() if not key.endswith(_TIMES)}
        for log in trainer.state.log_history
        if "loss" in log
    ]


def same(one: Any, other: Any) -> bool:
    """Whether two nested values with tensors in them are equal bit for bit; NaN equals NaN."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and bool(_equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def falling_outcome(completions, trainer_state, **kwargs) -> list[float]:
    """A reward that is worse at every step, by the same for all rollouts."""
    return [value - 100.0 * trainer_state.global_step for value in outcome(completions)]


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))


def _is_finite(value: Any) -> bool:
    return bool(torch.isfinite(torch.tensor(float(value))))
