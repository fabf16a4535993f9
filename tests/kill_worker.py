"""Trains with IGPO, sampling for real. Usage: kill_worker.py FOLDER [die|resume]: `die` ends the process by SIGKILL."""

import json
import sys
from pathlib import Path

from tests.killing import Die
from tests.tiny import QuietCounter, answer_length, build_model, build_tokenizer, dataset, settings
from trl_multiturn import IGPOConfig, IGPOTrainer


def main(folder: str, how: str = "") -> None:
    trainer = IGPOTrainer(
        build_model(),
        answer_length,
        IGPOConfig(
            **settings(
                folder,
                max_steps=8,
                save_strategy="steps",
                save_steps=2,
                max_completion_length=12,
                per_device_train_batch_size=4,
                gradient_accumulation_steps=2,
            )
        ),
        dataset(64, answers=["Paris"] * 64),
        processing_class=build_tokenizer(),
        environment_factory=QuietCounter,
        callbacks=[Die(5)] if how == "die" else None,
    )
    trainer.train(resume_from_checkpoint=how == "resume")
    curve = [(e["step"], e["loss"], e["grad_norm"]) for e in trainer.state.log_history if "loss" in e]
    weights = {name: value.sum().item() for name, value in trainer.model.state_dict().items()}
    Path(folder, "curve.json").write_text(json.dumps({"curve": curve, "weights": weights}))


if __name__ == "__main__":
    main(*sys.argv[1:])
