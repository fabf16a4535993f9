"""A random Qwen2.5-VL of some ten thousand weights with a real image processor, for tests."""

from functools import lru_cache
from pathlib import Path

import torch

from trl_multiturn.environments.phone import PhoneEnvironment, demonstrations, generate_phone_tasks, write_reply
from trl_multiturn.environments.phone.prompt import system_prompt
from trl_multiturn.recipes.processors import tools_as_system_text
from trl_multiturn.recipes.small_vlm import build_model, build_processor


SCALE = 0.25
SIZE = (98, 196)

# A forward pass of it takes a millisecond a screenshot.
TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 3, 3]},
    "max_position_embeddings": 8192,
    "vision_depth": 1,
    "vision_hidden_size": 32,
    "vision_intermediate_size": 48,
    "vision_num_heads": 2,
}


@lru_cache
def tiny_processor():
    """A processor whose tokenizer has learnt the words of a few demonstrations, and the tool's description as one piece."""
    tasks = generate_phone_tasks(40)
    episodes = list(demonstrations(tasks, mistakes=0.1, scale=SCALE, render=None))
    texts = [episode.instruction for episode in episodes]
    texts += [write_reply(s.thought, s.action, s.call) for episode in episodes for s in episode.trajectory]
    system = system_prompt(SIZE)
    tool = PhoneEnvironment(scale=SCALE).mobile_use
    whole = tools_as_system_text(build_processor(texts), system, [tool])
    return build_processor(texts, [system, whole[len(system) :]])


def tiny_vlm(folder: Path) -> Path:
    """Save a random model with its processor."""
    torch.manual_seed(0)
    processor = tiny_processor()
    build_model(processor, **TINY).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
