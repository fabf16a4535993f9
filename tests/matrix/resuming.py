"""Runs that are stopped and resumed: by as many processes, or by another number of them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from tests.matrix.bench import Bench, model_of, same, saved_weights, training_logs, weights


# The checkpoint is between two generation batches, of two steps each in one process and of one in several.
_SAVING = {"save_strategy": "steps", "gradient_accumulation_steps": 2}
_ALONE = {**_SAVING, "steps_per_generation": 4, "save_steps": 2, "max_steps": 4}
# With as many accumulated as generated, their order, which each process draws by itself, makes no difference. Adam's first steps
# are as long for the smallest gradient, whose sign may hang on the order of a sum: the larger epsilon keeps those short.
_SHARED = {
    **_SAVING,
    "steps_per_generation": 2,
    "save_steps": 1,
    "max_steps": 2,
    "learning_rate": 1e-3,
    "adam_epsilon": 1e-3,
}

# Processes that begin a run and that end it, and what is done when: by one process, then by two, then by one.
PROCESSES = {"resume_1_to_2": (1, 2), "resume_2_to_1": (2, 1)}
STAGES = {
    "resume_1_to_2": (("whole", "begin"), ("end",), ()),
    "resume_2_to_1": (("whole",), ("begin",), ("end",)),
}
TOLERANCE = 1e-4


class Stopped(Exception):
    """The run ends here."""


class _Stop(TrainerCallback):
    """Ends the run inside the accumulation window that follows a checkpoint."""

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step == args.save_steps:
            raise Stopped


def check_resume(bench: Bench) -> None:
    """The resumed run equals the uninterrupted one bit for bit, what the method has learnt included."""
    whole = bench.train("whole", **_ALONE)
    try:
        bench.trainer(callbacks=(_Stop(),), **_ALONE).train()
    except Stopped:
        pass  # as it was meant to be
    else:
        raise AssertionError("the run was not stopped")
    assert sorted(path.name for path in (bench.folder / "run").glob("checkpoint-*")) == ["checkpoint-2"]
    resumed = bench.trainer(**_ALONE)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.generated == 1
    assert same(weights(resumed), weights(whole)), "the weights are different"
    assert same(training_logs(resumed), training_logs(whole)), "the logs are different"
    for name in ("method_state", "shard_state"):
        assert same(getattr(resumed, name)(), getattr(whole, name)()), f"{name} is different"


def run_phase(bench: Bench, phase: str) -> None:
    """A part of a resumed run, or the uninterrupted one, on as many processes as this is called on."""
    first, last = PROCESSES[bench.cell.lifecycle]
    processes = {"whole": 1, "begin": first, "end": last}[phase]
    trainer = bench.trainer(
        "whole" if phase == "whole" else "run",
        callbacks=(_Stop(),) if phase == "begin" else (),
        per_device_train_batch_size=4 // processes,
        **_SHARED,
    )
    assert trainer.accelerator.num_processes == processes
    if phase == "begin":
        try:
            trainer.train()
        except Stopped:
            return
        raise AssertionError("the run was not stopped")
    trainer.train(resume_from_checkpoint=phase == "end")
    assert trainer.state.global_step == trainer.args.max_steps
    if trainer.accelerator.is_main_process:
        _write(bench.folder / phase, trainer)


def compare_phases(folder: Path) -> None:
    """The resumed run equals the uninterrupted one, up to the order of sums."""
    one, other = (load_file(folder / f"{phase}.safetensors") for phase in ("whole", "end"))
    assert one.keys() == other.keys()
    for name, expected in one.items():
        # Adapters on quantized models are trained in bfloat16, which has eight binary digits: two of the last ones may differ.
        allowed = TOLERANCE + expected.float().abs() * (2**-6 if expected.dtype is torch.bfloat16 else 0)
        difference = (other[name].float() - expected.float()).abs()
        assert (difference <= allowed).all(), f"{name} differs by {difference.max():.2g}"
    logs, resumed = (json.loads((folder / f"{phase}.json").read_text()) for phase in ("whole", "end"))
    assert [log["step"] for log in logs] == [log["step"] for log in resumed] == [1, 2]
    for log, again in zip(logs, resumed, strict=True):
        for key in ("reward", "turns/mean", "completions/mean_length"):
            assert abs(log[key] - again[key]) <= TOLERANCE, (key, log[key], again[key])


def _write(path: Path, trainer: Any) -> None:
    kept = {name: value.detach().clone().contiguous() for name, value in saved_weights(model_of(trainer)).items()}
    save_file({name: value for name, value in kept.items() if isinstance(value, torch.Tensor)}, f"{path}.safetensors")
    Path(f"{path}.json").write_text(json.dumps(training_logs(trainer)))
