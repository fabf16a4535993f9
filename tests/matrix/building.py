"""A cell's trainer: model, adapter, dataset, environment and the script of what the policy writes."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import GRPOTrainer

import trl_multiturn
from tests import tiny, tiny_vlm
from tests.matrix.cells import Cell


# What each trainer needs to be quick, and to have something to do in a few batches.
_REPLAY = {
    "replay_every": 2,
    "replay_ratio": 0.5,
    "replay_admission": "any_fail",
    "replay_max_replays": 2,
    "success_threshold": 3.0,
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "MultiTurnGRPO": {},
    "IGPO": {},
    "ArCHer": {
        "critic_steps": 1,
        "critic_batch_size": 8,
        "critic_warmup_iterations": 0,
        "critic_learning_rate": 1e-3,
    },
    "ReplayGRPO": _REPLAY,
    "ReplayIGPO": _REPLAY,
}
_SIZE = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "num_generations": 2}


def add(amount: int) -> str:
    """
    Add to nothing.

    Args:
        amount: How much to add.
    """
    return f"The sum is {amount}"


def outcome(completions, **kwargs) -> list[float]:
    """A reward between 0 and 6 that differs between rollouts and depends on their texts alone."""
    written = [
        "".join(f"{m.get('content')}{m.get('tool_calls')}" for m in messages if m["role"] == "assistant")
        for messages in completions
    ]
    return [float(sum(map(ord, text)) % 7) for text in written]


class Observed:
    """Counts the generation batches that were trained on."""

    generated = 0

    def compute_turn_rewards(self, rollouts):
        self.generated += rollouts.is_training
        return super().compute_turn_rewards(rollouts)


def build(cell: Cell, folder: Path, **options: Any) -> Any:
    """
    The trainer of a cell.

    Args:
        cell (`Cell`):
            Trainer, adapter and environment.
        folder (`Path`):
            Output folder.
        **options:
            `callbacks`, `data`, `eval_dataset`, `reward_funcs`, and fields of the trainer's configuration.

    Returns:
        The trainer, which is not yet scripted ([`scripted`]).
    """
    images = cell.environment == "images"
    keywords = {key: options.pop(key) for key in ("callbacks", "eval_dataset") if key in options}
    data, reward = options.pop("data", None), options.pop("reward_funcs", outcome)
    trainer_class = getattr(trl_multiturn, f"{cell.trainer}Trainer")
    length = {"prompts": 8, "images": 300}.get(cell.environment, 160)
    own = {**_SIZE, "max_completion_length": length, "max_steps": 2, **_OPTIONS[cell.trainer], **options}
    if images:
        own["dataloader_pin_memory"] = False
    if cell.adapter != "full":
        keywords["peft_config"] = adapter(cell)
    if cell.adapter == "qlora":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        )
        own["model_init_kwargs"] = {"dtype": "float32", "quantization_config": quantization}
    return type(trainer_class.__name__, (Observed, trainer_class), {})(
        model=saved_base(images) if cell.adapter == "qlora" else base(images),
        reward_funcs=reward,
        args=trainer_class._config_class(**tiny.settings(folder, **own)),
        train_dataset=rows(cell) if data is None else data,
        processing_class=tiny_vlm.build_processor() if images else tiny.build_tokenizer(),
        **_environment(cell),
        **keywords,
    )


def base(images: bool) -> Any:
    """The model before it is trained, always with the same weights."""
    return tiny_vlm.build_model() if images else tiny.build_model()


def saved_base(images: bool) -> str:
    """A folder with [`base`]: bitsandbytes quantizes while it loads."""
    return _saved_base(images).name


@lru_cache
def _saved_base(images: bool) -> tempfile.TemporaryDirectory:
    folder = tempfile.TemporaryDirectory(prefix="matrix_base_")
    base(images).save_pretrained(folder.name)
    return folder


def adapter(cell: Cell) -> LoraConfig:
    """The adapter of a cell, on the language model alone."""
    targets = r".*(language_model|model)\.layers.*\.(q_proj|v_proj)"
    return LoraConfig(r=2, target_modules=targets, use_dora=cell.adapter == "dora", task_type="CAUSAL_LM")


def rows(cell: Cell, count: int = 16, answers: bool = True) -> Dataset:
    """Tasks with what each environment needs in them."""
    columns: dict[str, list] = {"answers": ["Paris"] * count} if answers else {}
    if cell.environment == "environments":
        columns["environment"] = ["loud", "quiet"] * (count // 2)
    if cell.environment != "images":
        return tiny.dataset(count, **columns)
    data = tiny_vlm.rows(count)
    return data.add_column("answers", columns["answers"]) if answers else data


def _environment(cell: Cell) -> dict[str, Any]:
    return {
        "prompts": {},
        "tools": {"tools": [add]},
        "environment": {"environment_factory": tiny.Counter},
        "environments": {"environment_factory": {"loud": tiny.Counter, "quiet": tiny.QuietCounter}},
        "images": {"environment_factory": tiny_vlm.Gallery},
    }[cell.environment]


def _write(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
    """In place of TRL's sampling: calls a tool up to three times. The same on any number of processes."""
    tokenizer = getattr(self.processing_class, "tokenizer", self.processing_class)
    pictures = tokenizer is not self.processing_class
    first = self.accelerator.process_index * len(prompt_ids)
    completions = []
    for place, ids in enumerate(prompt_ids):
        text = tokenizer.decode(ids)
        turn = text.count("<|im_start|>assistant") - 1
        # A rollout is known by its place in the global batch, later by what it has written.
        rng = random.Random(f"{self.state.global_step} {text} {first + place if turn == 0 else ''}")
        said = f"{rng.randint(0, 99)} "
        if self.tools and turn < 3 and rng.random() < 0.7:
            said += tiny.call("look", count=rng.choice([0, 1])) if pictures else tiny.call(amount=rng.randint(1, 9))
        if pictures:
            completions.append(
                tiny_vlm.encode(f"{said} done <|im_end|>" if "look" not in said else f"{said}<|im_end|>")
            )
        else:
            completions.append(tokenizer(f"{said}<|im_end|>", add_special_tokens=False)["input_ids"])
    return [ids[: self.max_completion_length] for ids in completions], None


@contextmanager
def scripted(cell: Cell) -> Iterator[None]:
    """
    Context manager in which the policy writes by a script, below everything that this package adds. Prompts alone are answered
    by the model itself, unless two processes have to write what one did.
    """
    if cell.environment == "prompts" and cell.group != "processes":
        yield
        return
    sample = GRPOTrainer._generate_single_turn
    GRPOTrainer._generate_single_turn = _write
    try:
        yield
    finally:
        GRPOTrainer._generate_single_turn = sample
