"""Trains with ArCHer, sampling for real. Usage: resume_worker.py FOLDER [die|resume]: `die` ends the process by SIGKILL."""

import hashlib
import json
import sys
from pathlib import Path

from tests.archer.tiny import QUICK
from tests.killing import Die
from tests.tiny import QuietCounter, answer_length, build_model, build_tokenizer, dataset, settings
from trl_multiturn import ArCHerConfig, ArCHerTrainer


def digest(state: dict) -> dict[str, str]:
    """A hash of each tensor, and the other values as they are."""
    return {
        name: hashlib.sha256(value.cpu().contiguous().numpy().tobytes()).hexdigest()
        if hasattr(value, "numpy")
        else value
        for name, value in state.items()
    }


def main(folder: str, how: str = "") -> None:
    trainer = ArCHerTrainer(
        build_model(),
        answer_length,
        ArCHerConfig(
            **settings(
                folder,
                max_steps=6,
                save_strategy="steps",
                save_steps=2,
                max_completion_length=12,
                per_device_train_batch_size=4,
                gradient_accumulation_steps=2,
                critic_lr_scheduler_type="cosine",
                token_baseline=True,
                **{**QUICK, "critic_warmup_iterations": 1, "replay_capacity": 20},
            )
        ),
        dataset(64),
        processing_class=build_tokenizer(),
        environment_factory=QuietCounter,
        callbacks=[Die(3)] if how == "die" else None,
    )
    trainer.train(resume_from_checkpoint=how == "resume")
    result = {
        "curve": [(e["step"], e["loss"], e["grad_norm"]) for e in trainer.state.log_history if "loss" in e],
        "weights": {name: value.sum().item() for name, value in trainer.model.state_dict().items()},
        "state": digest(trainer.method_state()),
        "buffer": digest(trainer.shard_state()),
        "draws": trainer.buffer.draw_transitions(20),
    }
    Path(folder, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
