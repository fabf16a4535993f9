"""The training that the fault tests kill: ArCHer with failure replay, tools, a critic, and both buffers filled and drawn from.

Every attempt is a process of its own, forked from a server that has imported everything: it starts in a tenth of a second.
"""

import hashlib
import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import torch

from tests.archer.tiny import QUICK
from tests.tiny import QuietCounter, Scripted, build_model, build_tokenizer, call, dataset, settings
from trl_multiturn import ReplayArCHerConfig, ReplayArCHerTrainer


# Seconds are never the same twice, and the Trainer takes the mean of `train_loss` over the steps since it was started.
OTHERWISE = (
    "step_time",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
    "archer/critic_seconds",
    "archer/warmup/critic_seconds",
)


def draw(text: str, turn: int, rng) -> str:
    """Calls a tool or answers by chance, from the generator that checkpoints hold."""
    amount, going_on = int(torch.randint(1, 6, ())), float(torch.rand(()))
    if turn == 0 or (turn < 2 and going_on < 0.5):
        return call(amount=amount)
    return f"<answer>{amount}</answer>"


def few_succeed(completions, **kwargs) -> list[float]:
    """About half of the groups of two fail."""
    return [float(sum(map(ord, str(messages[-1]["content"]))) % 3 == 0) for messages in completions]


class Run(Scripted, ReplayArCHerTrainer):
    script = staticmethod(draw)


def build(folder: Path, steps: int, trainer_class: type = Run) -> Run:
    return trainer_class(
        build_model(),
        few_succeed,
        ReplayArCHerConfig(
            **settings(
                folder,
                max_steps=steps,
                save_strategy="steps",
                save_steps=1,
                save_total_limit=2,
                num_generations=2,
                per_device_train_batch_size=4,
                replay_every=2,
                replay_ratio=0.5,
                replay_sampling="failure_count",
                critic_lr_scheduler_type="cosine",
                token_baseline=True,
                **{**QUICK, "critic_warmup_iterations": 1, "replay_capacity": 20},
            )
        ),
        dataset(32),
        processing_class=build_tokenizer(),
        environment_factory=QuietCounter,
    )


def digest(state: dict) -> dict:
    """A hash of each tensor, and the other values as they are."""
    return {
        name: hashlib.sha256(value.cpu().contiguous().numpy().tobytes()).hexdigest()
        if isinstance(value, torch.Tensor)
        else value
        for name, value in sorted(state.items())
    }


def outcome(trainer: Run) -> dict:
    """All that a run leaves: weights, critic and its optimizers, both buffers, the next draws, the log."""
    return {
        "weights": digest(trainer.model.state_dict()),
        "optimizer": [digest(state) for state in trainer.optimizer.state_dict()["state"].values()],
        "method": digest(trainer.method_state()),
        "buffer": digest(trainer.shard_state()),
        "draws": [trainer.buffer.draw_transitions(20), [task.task_id for task in trainer.failures.sample(4, 99)]],
        "log": [{k: v for k, v in entry.items() if k not in OTHERWISE} for entry in trainer.state.log_history],
        "rng": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
    }


def run(folder: Path, steps: int, trainer_class: type = Run) -> None:
    """Train, from the last checkpoint if there is one, and write what came out."""
    sys.stdout = sys.stderr = open(folder / "output.txt", "a", buffering=1)
    torch.set_num_threads(1)
    trainer = build(folder, steps, trainer_class)
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    (folder / "result.json").write_text(json.dumps(outcome(trainer)))


def start(*args) -> Any:
    """Start `run` in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.training"])
    process = context.Process(target=run, args=args)
    process.start()
    return process


def finish(folder: Path, *args) -> dict:
    """Run to the end and read what came out."""
    process = start(folder, *args)
    process.join()
    assert process.exitcode == 0, (folder / "output.txt").read_text()[-3000:]
    return json.loads((folder / "result.json").read_text())
