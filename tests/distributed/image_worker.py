"""One training run with images, on as many processes as it is started with; rank 0 writes what came out as JSON."""

import json
import random
import re
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from trl import GRPOTrainer

from tests.tiny import call
from tests.tiny_vlm import build_processor, encode, make_trainer, rows


def generate(self, prompt_ids, images, fields, num_generations, has_tool_images=False):
    """Scripts each rollout by its place in the global batch, which is in its first message."""
    lone = self.args.gradient_checkpointing
    first, completions = self.accelerator.process_index * len(prompt_ids), []
    for i, ids in enumerate(prompt_ids):
        text = build_processor().tokenizer.decode(ids)
        place = int((re.findall(r"assistant\n(\d+) ", text) or [first + i])[0])
        turn = text.count("<|im_start|>assistant") - 1
        rng = random.Random(f"{self.state.global_step} {place} {turn}")
        looks = turn < 3 and rng.random() < 0.8
        # The last rows of the batch, all on the last process, see few images or none.
        count = rng.choice([1, 1, 2]) if place < 4 else int(not lone and place == 5)
        said = call("look", count=count) if looks else f"done {rng.randint(0, 99)}"
        completions.append(encode(f"{place} {said}<|im_end|>"))
    return completions, None


def main(method: str, folder: str) -> None:
    """`method`: images, or lone_images for images on the first process alone."""
    GRPOTrainer._generate_single_turn = generate
    processes = PartialState(cpu=True).num_processes
    trainer = make_trainer(
        folder,
        data=rows(16, shown=(0,)),
        history_images=1,
        max_steps=2,
        num_iterations=2 if method == "images" else 1,
        gradient_checkpointing=method == "lone_images",
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
        Path(folder, f"result_{processes}.json").write_text(json.dumps(result))
