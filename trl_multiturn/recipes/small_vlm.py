"""A vision-language model small enough for a CPU: Qwen2.5-VL's architecture with random weights, and a processor for it.

It stands in for a real one where nothing can be downloaded: in tests, and in the benchmark of the Mobile-R1 recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .processors import chat_template, make_processor, pillow_image_processor
from .small_policy import build_tokenizer


if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


PATCH_SIZE = 14
MERGE_SIZE = 2
# Edge of the square of pixels that becomes one token.
TOKEN_PIXELS = PATCH_SIZE * MERGE_SIZE

_VISION_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]

# What is written around every call, each a single piece: a reply is then short enough to be learnt in minutes.
_CALL_PIECES = (
    "</think>\n<action>",
    '</action>\n<tool_call>\n{"name": "mobile_use", "arguments": {"action": "',
    '", "coordinate": [',
    '], "coordinate2": [',
    '], "time": ',
    '", "text": "',
    '", "button": "',
    '", "status": "',
    "]}}\n</tool_call>",
    '"}}\n</tool_call>',
    "}}\n</tool_call>",
    "<tool_response>\n",
    "\n</tool_response>",
    "<think>",
    "</think>",
    "<action>",
    "</action>",
    "<tool_call>",
    "</tool_call>",
)

# Numbers are whole, words go with the blank before them, every other sign is alone.
_PIECES = r" ?[A-Za-z']+|[0-9]+| ?[^ A-Za-z0-9]| "


def build_processor(texts: Sequence[str], tags: Sequence[str] = (), vocab_size: int = 3000) -> ProcessorMixin:
    """
    Train a tokenizer and make a processor with the chat template of Qwen3-VL, which knows tools.

    Args:
        texts (`Sequence[str]`):
            What the pieces are learned from.
        tags (`Sequence[str]`, *optional*):
            Texts that never change, such as the tool's description: each becomes one piece.
        vocab_size (`int`, *optional*, defaults to `3000`):
            Number of learned pieces.

    Returns:
        `ProcessorMixin`: The processor.
    """
    tokenizer = build_tokenizer(texts, _PIECES, (*_CALL_PIECES, *tags), [str(n) for n in range(1000)], vocab_size)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *_VISION_TOKENS]})
    tokenizer.chat_template = chat_template("qwen3_vl")
    tokenizer.response_template = None  # TRL knows the one of this chat template
    return make_processor(tokenizer, pillow_image_processor(PATCH_SIZE, MERGE_SIZE))


def build_model(processor: Any, **overrides: Any) -> PreTrainedModel:
    """
    Make the random model: a Qwen2.5-VL of about 2.5 million parameters.

    Args:
        processor (`ProcessorMixin`):
            Gives the vocabulary.
        overrides (`Any`):
            Settings to change: those of the vision model with a prefix `vision_`, the others of the text model.

    Returns:
        `PreTrainedModel`: A `Qwen2_5_VLForConditionalGeneration` in float32.
    """
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = processor.tokenizer
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 160,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [4, 8, 8]},
        "initializer_range": 0.04,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "tie_word_embeddings": True,
    }
    vision: dict[str, Any] = {
        "depth": 3,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_heads": 4,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE_SIZE,
        "temporal_patch_size": 2,
        # No windows: a screen is small.
        "window_size": 100 * TOKEN_PIXELS,
        "initializer_range": 0.04,
    }
    for name, value in overrides.items():
        prefix, _, rest = name.partition("_")
        (vision if prefix == "vision" else text)[rest if prefix == "vision" else name] = value
    vision["out_hidden_size"] = text["hidden_size"]
    vision["fullatt_block_indexes"] = list(range(vision["depth"]))
    ids = tokenizer.convert_tokens_to_ids
    top: dict[str, Any] = {
        "tie_word_embeddings": True,
        # Wider than usual: with the default of 0.02 a model this narrow takes long to leave its first plateau.
        "initializer_range": 0.04,
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **top)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
