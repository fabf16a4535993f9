"""Diagnoses trainers on this process, then trains them, and writes what came out: `worker.py FOLDER`."""

import json
import sys
from pathlib import Path

from tests.tiny import Counter, make_trainer
from trl_multiturn import ArCHerTrainer, diagnose


TRAINERS = {
    "base": {},
    "archer": {
        "trainer_class": ArCHerTrainer,
        "reward_funcs": None,
        "critic_steps": 1,
        "critic_batch_size": 8,
        "critic_warmup_iterations": 0,
    },
}


def main(folder: Path) -> None:
    results = {}
    for name, options in TRAINERS.items():
        for doctor in (False, True):
            trainer = make_trainer(folder, Counter, per_device_train_batch_size=4, num_generations=8, **options)
            if doctor:
                results[name] = diagnose(trainer).to_dict()
            trainer.train()
            results[f"{name}/loss/{doctor}"] = trainer.state.log_history[0]["loss"]
    rank = trainer.accelerator.process_index
    (folder / f"result_{rank}.json").write_text(json.dumps(results))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
