"""Processors of vision-language models for agents: loaded with or without torchvision, and what they make of tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trl
from transformers.utils import logging


if TYPE_CHECKING:
    from transformers import ProcessorMixin

logger = logging.get_logger(__name__)


def chat_template(name: str) -> str:
    """One of the chat templates that TRL ships, which it knows by their text."""
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def pillow_image_processor(patch_size: int, merge_size: int, max_pixels: int = 1_000_000) -> Any:
    """
    Qwen2-VL's image processor, on Pillow alone.

    Args:
        patch_size (`int`):
            Edge of a patch in pixels.
        merge_size (`int`):
            Patches along the edge of the square that becomes one token.
        max_pixels (`int`, *optional*, defaults to `1_000_000`):
            Largest image; a larger one is made smaller.

    Returns:
        `Qwen2VLImageProcessorPil`.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=patch_size,
        merge_size=merge_size,
        temporal_patch_size=2,
        size={"shortest_edge": (patch_size * merge_size) ** 2, "longest_edge": max_pixels},
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
    Load a processor: a real model's as `AutoProcessor` does, one of [`make_processor`] without its part for videos. Where the
    chat template knows no tools, as that of Qwen2.5-VL, the one of Qwen3-VL takes its place: it has the same tokens.

    Args:
        folder (`str` or `Path`):
            Hub id or folder.

    Returns:
        `ProcessorMixin`: The processor.
    """
    from transformers import AutoProcessor, AutoTokenizer

    config = Path(folder) / "processor_config.json"
    if config.is_file() and json.loads(config.read_text()).get("processor_class") == "ImageTextProcessor":
        saved = json.loads(config.read_text())["image_processor"]
        images = pillow_image_processor(saved["patch_size"], saved["merge_size"], saved["size"]["longest_edge"])
        processor = make_processor(AutoTokenizer.from_pretrained(folder), images)
    else:
        processor = AutoProcessor.from_pretrained(folder)
    vocabulary = processor.tokenizer.get_vocab()
    if "tools" not in (processor.chat_template or "") and {"<|im_start|>", "<|vision_start|>"} <= set(vocabulary):
        logger.warning(f"The chat template of {folder} knows no tools: it is replaced by that of Qwen3-VL.")
        processor.chat_template = processor.tokenizer.chat_template = chat_template("qwen3_vl")
    return processor


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
