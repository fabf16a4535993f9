"""Processors of vision-language models: saved and loaded, and what they make of tools."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.phone_vlm import tiny_processor
from trl_multiturn.environments.phone import PhoneEnvironment
from trl_multiturn.recipes.processors import chat_template, load_processor, tools_as_system_text
from trl_multiturn.recipes.small_vlm_lessons import collate


TOOL = PhoneEnvironment().mobile_use


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (84, 56, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_a_saved_processor_gives_the_same(tmp_path):
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    text = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Tap Shop.<|im_end|>"
    given = {"text": [text], "images": [[picture(0)]], "return_tensors": "pt"}
    first, second = processor(**given), load_processor(tmp_path)(**given)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_template_without_tools_is_replaced(tmp_path, caplog):
    processor = load_processor(_saved(tmp_path, "qwen2_5_vl"))
    assert processor.chat_template == chat_template("qwen3_vl")
    assert tools_as_system_text(processor, "Act.", [TOOL]).startswith("Act.")
    assert load_processor(_saved(tmp_path / "other", "qwen3_vl")).chat_template == chat_template("qwen3_vl")


def test_tools_in_the_system_message_have_the_same_tokens():
    processor = tiny_processor()
    messages = [{"role": "system", "content": "Act."}, {"role": "user", "content": "Open Shop."}]
    whole = processor.apply_chat_template(messages, tools=[TOOL], tokenize=False)
    text = tools_as_system_text(processor, "Act.", [TOOL])
    assert processor.apply_chat_template([{**messages[0], "content": text}, messages[1]], tokenize=False) == whole


def test_a_template_that_writes_tools_elsewhere_is_refused():
    processor = tiny_processor()
    kept = processor.chat_template
    processor.chat_template = "{{ messages[0].content[0].text }}{{ messages[1].content[0].text }}{{ tools }}"
    try:
        with pytest.raises(ValueError, match="elsewhere than in the system message"):
            tools_as_system_text(processor, "Act.", [TOOL])
    finally:
        processor.chat_template = kept


def test_lessons_are_cut_into_patches_as_the_processor_does():
    processor = tiny_processor()
    images = [picture(seed) for seed in range(3)]
    expected = processor.image_processor(images=images, return_tensors="pt")
    batch = collate(processor, [(image, "Tap Shop. [1, 2]") for image in images])
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    assert torch.equal(batch["image_grid_thw"], expected["image_grid_thw"])
    assert (batch["input_ids"] == processor.image_token_id).sum() == 3 * 2 * 3


def _saved(folder, template):
    processor = tiny_processor()
    kept = processor.chat_template
    processor.chat_template = processor.tokenizer.chat_template = chat_template(template)
    try:
        processor.save_pretrained(folder)
    finally:
        processor.chat_template = processor.tokenizer.chat_template = kept
    return folder
