"""A vision-language model small enough for a CPU: Qwen2.5-VL's architecture with random weights, and a processor for it.

It stands in for a real one where nothing can be downloaded: in tests, and in the benchmark of the Mobile-R1 recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def image_processor(max_pixels: int = 1_000_000) -> Any:
    """
    Qwen2-VL's image processor, on Pillow alone.

    Args:
        max_pixels (`int`, *optional*, defaults to `1_000_000`):
            Largest image; a larger one is made smaller.

    Returns:
        `Qwen2VLImageProcessorPil`.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=PATCH_SIZE,
        merge_size=MERGE_SIZE,
        temporal_patch_size=2,
        size={"shortest_edge": TOKEN_PIXELS**2, "longest_edge": max_pixels},
    )


def make_processor(tokenizer: Any, images: Any) -> ProcessorMixin:
    """
    Qwen2.5-VL's processor without its part for videos, which needs torchvision.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            Tokenizer with Qwen's vision tokens and a chat template.
        images (`Qwen2VLImageProcessorPil`):
            Image processor.

    Returns:
        `ProcessorMixin`: A `Qwen2_5_VLProcessor` for images and text.
    """
    from transformers import ProcessorMixin, Qwen2_5_VLProcessor

    class ImageTextProcessor(Qwen2_5_VLProcessor):
        def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)

        @classmethod
        def get_attributes(cls):
            return ["image_processor", "tokenizer"]

    return ImageTextProcessor(images, tokenizer, chat_template=tokenizer.chat_template)


def load_processor(folder: str | Path) -> ProcessorMixin:
    """
    Load a processor: a real model's as `AutoProcessor` does, one of [`make_processor`] without its part for videos.

    Args:
        folder (`str` or `Path`):
            Hub id or folder.

    Returns:
        `ProcessorMixin`: The processor.
    """
    import json

    from transformers import AutoProcessor, AutoTokenizer

    config = Path(folder) / "processor_config.json"
    if config.is_file() and json.loads(config.read_text()).get("processor_class") == "ImageTextProcessor":
        images = image_processor()
        saved = json.loads(config.read_text())["image_processor"]
        images.size = type(images.size)(**saved["size"])
        return make_processor(AutoTokenizer.from_pretrained(folder), images)
    return AutoProcessor.from_pretrained(folder)


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
    import trl

    tokenizer = build_tokenizer(texts, _PIECES, (*_CALL_PIECES, *tags), [str(n) for n in range(1000)], vocab_size)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *_VISION_TOKENS]})
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen3_vl.jinja").read_text()
    tokenizer.response_template = None  # TRL knows the one of this chat template
    return make_processor(tokenizer, image_processor())


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


def tools_as_system_text(processor: Any, system: str, tools: Sequence[Callable[..., Any]]) -> str:
    """
    What a chat template writes into the system message for some tools, as text: a prompt with it and without tools has the
    same tokens as one with the tools. SFT and single-step GRPO then see what a rollout with tools sees.

    Args:
        processor (`ProcessorMixin` or `PreTrainedTokenizerBase`):
            Has the chat template.
        system (`str`):
            System prompt.
        tools (`Sequence[Callable]`):
            Functions with docstrings, bound to an environment or not.

    Returns:
        `str`: System prompt with the tools.

    Raises:
        `ValueError`: If the template writes tools elsewhere than in the system message.
    """

    def render(text: str, with_tools: bool) -> str:
        messages = [
            {"role": "system", "content": [{"type": "text", "text": text}]},
            {"role": "user", "content": [{"type": "text", "text": "?"}]},
        ]
        return processor.apply_chat_template(messages, tools=list(tools) if with_tools else None, tokenize=False)

    mark = "SYSTEM-PROMPT-MARK"
    before, _, after = render(mark, False).partition(mark)
    whole = render(system, True)
    text = whole[len(before) : len(whole) - len(after)]
    if not whole.startswith(before) or not whole.endswith(after) or render(text, False) != whole:
        raise ValueError(
            "The chat template writes tools elsewhere than in the system message. Use a model whose template does (the "
            "Qwen-VL family with tools), or set TRL's qwen3_vl.jinja as the processor's chat_template."
        )
    return text
