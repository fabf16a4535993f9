"""A tiny model for the travel sandbox: its tokenizer has learnt the tools' names, so that a prompt is short enough to be quick."""

import json
from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from tests.tiny import build_model, build_tokenizer
from trl_multiturn.environments.travel import TravelWorld, demonstrations


CITIES = ["Beijing", "Paris", "Shanghai", "Tokyo"]


@lru_cache
def travel_world() -> TravelWorld:
    return TravelWorld(cities=CITIES)


@lru_cache
def travel_tokenizer() -> PreTrainedTokenizerFast:
    shown = demonstrations(8, world=travel_world())
    texts = [json.dumps(messages, ensure_ascii=False) for messages in shown["messages"]]
    tools = json.loads(shown["tools"][0])
    plain = build_tokenizer()
    tokenizer = plain.train_new_from_iterator(
        [*texts, json.dumps(tools), json.dumps(tools)] * 3, 3000, show_progress=False
    )
    tags = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    tokenizer.chat_template = plain.chat_template
    return tokenizer


def save_travel_model(folder: Path) -> Path:
    tokenizer = travel_tokenizer()
    build_model(tokenizer, max_position_embeddings=16384).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# Arguments of a quick run of `trl-multiturn replay` and `deeptravel` on a CPU.
QUICK = {
    "use_cpu": "true",
    "bf16": "false",
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 48,
    "generation_kwargs": '{"max_new_tokens": 2}',
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": "true",
    "activation_checkpointing": "false",
    "train_tasks": 6,
    "eval_tasks": 4,
    "replay_every": 1,
}


def command_line(**values) -> list[str]:
    """Arguments as typed; a list is several values of one field."""
    typed = []
    for name, value in values.items():
        typed += [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]
    return typed
