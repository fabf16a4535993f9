"""Trains with failure replay, sampling for real. Usage: resume_worker.py FOLDER [die|resume]: `die` ends it by SIGKILL."""

import json
import sys
from pathlib import Path

from tests.killing import Die
from tests.tiny import build_model, build_tokenizer, dataset, settings
from trl_multiturn import ReplayGRPOConfig, ReplayGRPOTrainer


def even_length(completion_ids, **kwargs) -> list[float]:
    """Differs between rollouts; about a third of the groups of two fail."""
    return [float(sum(ids) % 2) for ids in completion_ids]


def main(folder: str, how: str = "") -> None:
    trainer = ReplayGRPOTrainer(
        build_model(),
        even_length,
        ReplayGRPOConfig(
            **settings(
                folder,
                max_steps=8,
                save_strategy="steps",
                save_steps=2,
                max_completion_length=12,
                num_generations=2,
                per_device_train_batch_size=8,
                gradient_accumulation_steps=2,
                replay_every=2,
                replay_ratio=0.5,
                replay_sampling="failure_count",
                replay_max_replays=2,
                replay_capacity=6,
            )
        ),
        dataset(32),
        processing_class=build_tokenizer(),
        callbacks=[Die(5)] if how == "die" else None,
    )
    trainer.train(resume_from_checkpoint=how == "resume")
    result = {
        "curve": [(e["step"], e["loss"], e["grad_norm"]) for e in trainer.state.log_history if "loss" in e],
        "replayed": [e["replay/share"] for e in trainer.state.log_history if "loss" in e],
        "weights": {name: value.sum().item() for name, value in trainer.model.state_dict().items()},
        "state": trainer.method_state(),
        "draws": [task.task_id for task in trainer.failures.sample(4, 99)],
    }
    Path(folder, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
