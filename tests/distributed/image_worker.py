"""One training run with images, on as many processes as it is started with; rank 0 writes what came out as JSON.

Usage: image_worker.py METHOD FOLDER (METHOD: images, or lone_images for images on the first process alone)
"""

import json
import os
import random
import re
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from trl import GRPOTrainer

from tests.tiny import call
from tests.tiny_vlm import build_processor, encode, make_trainer, rows


METHOD, FOLDER = sys.argv[1:]


def generate(self, prompt_ids, images, fields, num_generations, has_tool_images=False):
    """Scripts each rollout by its place in the global batch, which is in its first message."""
    first, completions = self.accelerator.process_index * len(prompt_ids), []
    for i, ids in enumerate(prompt_ids):
        text = build_processor().tokenizer.decode(ids)
        place = int((re.findall(r"assistant\n(\d+) ", text) or [first + i])[0])
        turn = text.count("<|im_start|>assistant") - 1
        rng = random.Random(f"{self.state.global_step} {place} {turn}")
        looks = turn < 3 and rng.random() < 0.8
        # The last rows of the batch, all on the last process, see few images or none.
        count = rng.choice([1, 1, 2]) if place < 4 else int(METHOD == "images" and place == 5)
        said = call("look", count=count) if looks else f"done {rng.randint(0, 99)}"
        completions.append(encode(f"{place} {said}<|im_end|>"))
    return completions, None


def main() -> None:
    GRPOTrainer._generate_single_turn = generate
    processes = PartialState(cpu=True).num_processes
    trainer = make_trainer(
        FOLDER,
        data=rows(16, shown=(0,)),
        history_images=1,
        max_steps=2,
        num_iterations=2 if METHOD == "images" else 1,
        gradient_checkpointing=METHOD == "lone_images",
        per_device_train_batch_size=8 // processes,
        num_generations=8,
        learning_rate=1e-3,
    )
    trainer.train()
    lengths = [gather_object([len(ids) for ids in rollouts.completion_ids]) for rollouts in trainer.batches]
    if trainer.accelerator.is_main_process:
        logs = [
            {key: value for key, value in entry.items() if not key.endswith(("time", "runtime", "per_second"))}
            for entry in trainer.state.log_history
            if "loss" in entry
        ]
        weights = {name: value.flatten()[:8].tolist() for name, value in trainer.model.state_dict().items()}
        result = {"processes": processes, "lengths": lengths, "logs": logs, "weights": weights}
        Path(FOLDER, f"result_{processes}.json").write_text(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # as in worker.py


if __name__ == "__main__":
    main()
