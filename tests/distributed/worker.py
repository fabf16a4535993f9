"""One training run, on as many processes as it is started with; rank 0 writes what came out as JSON.

Usage: worker.py METHOD FOLDER (METHOD: archer, base, igpo, neutral or replay)
"""

import json
import os
import random
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object

from tests.tiny import (
    Counter,
    QuietCounter,
    Recorded,
    answer_length,
    build_model,
    build_tokenizer,
    call,
    dataset,
    settings,
)
from trl_multiturn import (
    ArCHerConfig,
    ArCHerTrainer,
    IGPOConfig,
    IGPOTrainer,
    MultiTurnGRPOConfig,
    MultiTurnGRPOTrainer,
    ReplayGRPOConfig,
    ReplayGRPOTrainer,
)


class Placed(Recorded):
    """Scripts each rollout by its place in the global batch, so that any number of processes has the same rollouts."""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        first = self.accelerator.process_index * len(prompt_ids)
        completions = []
        for place, ids in enumerate(prompt_ids):
            text = self.processing_class.decode(ids)
            turn = text.count("<|im_start|>assistant") - 1
            # Later turns are told apart by their history.
            rng = random.Random(f"{text} {first + place if turn == 0 else ''}")
            # The last rows of the batch, all on the last process, never call a tool.
            silent = turn == 0 and first + place >= 4 and self.state.global_step == 1
            if turn < 3 and rng.random() < 0.7 and not silent:
                message = call(amount=rng.randint(1, 99))
            else:
                message = f"<answer>{rng.randint(0, 99)}</answer>"
            completions.append(self.processing_class(message + "<|im_end|>", add_special_tokens=False)["input_ids"])
        return completions, None


def main(method: str, folder: str) -> None:
    trainer_class, config_class = {
        "base": (MultiTurnGRPOTrainer, MultiTurnGRPOConfig),
        "neutral": (MultiTurnGRPOTrainer, MultiTurnGRPOConfig),
        "igpo": (IGPOTrainer, IGPOConfig),
        "archer": (ArCHerTrainer, ArCHerConfig),
        "replay": (ReplayGRPOTrainer, ReplayGRPOConfig),
    }[method]
    extra = {}
    if method == "archer":
        extra = {
            "critic_steps": 3,
            "critic_batch_size": 16,
            "critic_warmup_iterations": 1,
            "critic_learning_rate": 1e-3,
            "save_strategy": "steps",
            "save_steps": 1,
        }
    rollouts, steps = 8, 2  # one group over all processes
    if method == "replay":
        rollouts, steps = 24, 6  # the second of three groups begins on one process and ends on the other
        extra = {
            "replay_every": 2,
            "replay_ratio": 0.4,
            "replay_admission": "any_fail",
            "replay_sampling": "uniform",
            "replay_graduate_at": 0.6,
            "replay_max_replays": 2,
            "success_threshold": 3.0,
        }
    processes = PartialState(cpu=True).num_processes
    tokenizer = build_tokenizer()
    trainer = type("Run", (Placed, trainer_class), {})(
        model=build_model(tokenizer),
        reward_funcs=answer_length,
        args=config_class(
            **settings(
                folder,
                max_steps=steps,
                per_device_train_batch_size=rollouts // processes,
                num_generations=8,
                learning_rate=1e-3,
                **extra,
            )
        ),
        train_dataset=dataset(16, answers=["Paris"] * 16),
        processing_class=tokenizer,
        environment_factory=Counter if method in ("archer", "base") else QuietCounter,
    )
    trainer.train()
    advantages = []
    for rollouts, _, values in trainer.batches:
        rows = [row[: len(turns)].tolist() for row, turns in zip(values, rollouts.turns, strict=True)]
        advantages.append(gather_object(rows))
    critic: dict = {}
    if method == "archer":
        held = sorted(gather_object([i for i in range(trainer.buffer.next_id) if trainer.buffer.get(i) is not None]))
        critic = {
            "fingerprints": gather_object([trainer.learner.fingerprint()]),
            "held": held,
            "draws": gather_object([trainer.buffer.draw_transitions(20)]),
            "weights": {
                name: value.flatten()[:8].tolist() for name, value in trainer.learner.critic.state_dict().items()
            },
        }
    failures = gather_object([trainer.failures.state()]) if method == "replay" else []
    if trainer.accelerator.is_main_process:
        skipped = ("time", "runtime", "per_second", "seconds")
        logs = [
            {key: value for key, value in entry.items() if not key.endswith(skipped)}
            for entry in trainer.state.log_history
            if "loss" in entry
        ]
        weights = {name: value.flatten()[:8].tolist() for name, value in trainer.model.state_dict().items()}
        result = {
            "processes": processes,
            "advantages": advantages,
            "logs": logs,
            "weights": weights,
            "critic": critic,
            "failures": failures,
        }
        Path(folder, f"result_{processes}.json").write_text(json.dumps(result))
    # No finalization, and the trainer stays alive: a thread of gloo's may ask for the interpreter's lock to drop its last
    # tensors just when the process group is destroyed with the lock held (the process hangs) or the interpreter ends (it
    # aborts). One run in ten did, with torch 2.13 and CPython 3.11.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
