"""Teaches a small vision-language model to read a phone's screen, before it learns to use one: what a pretrained model can do.

A lesson is a screen, and the text and place of some of its widgets. Half of the screens are made up of random words, half are
met on random walks through the apps.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from ..environments.phone.layout import Screen, Widget, tappable
from ..environments.phone.oracle import apply, steps_from
from ..environments.phone.pillow_renderer import render_screen
from ..environments.phone.task import PhoneTask


if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import PreTrainedModel


# Widgets named in a lesson, and steps of a walk.
MAX_WIDGETS = 10
WALK_STEPS = 8

Lesson = tuple["Image", str]


def words_of(tasks: Sequence[PhoneTask]) -> list[str]:
    """Words that stand in the instructions and on the screens of some tasks, sorted."""
    rng = random.Random(0)
    words = {word for task in tasks for word in re.findall(r"[A-Za-z0-9]+(?:'[a-z]+)?", task.instruction)}
    for task in tasks:
        for screen, _ in _walk(task, rng):
            words.update(word for w, _ in tappable(screen) for word in re.findall(r"[A-Za-z0-9]+(?:'[a-z]+)?", w.text))
    return sorted(words)


def lessons(
    tasks: Sequence[PhoneTask], words: Sequence[str], rng: random.Random, scale: float = 0.5
) -> Iterator[Lesson]:
    """
    Lessons without end.

    Args:
        tasks (sequence of [`PhoneTask`]):
            Tasks whose phones are walked through.
        words (sequence of `str`):
            Words of made-up screens.
        rng (`random.Random`):
            What is drawn from.
        scale (`float`, *optional*, defaults to `0.5`):
            Size of the screenshots relative to the screen.

    Yields:
        `tuple[Image, str]`: A screenshot, and what is on it.
    """
    while True:
        for screen, scroll in _walk(rng.choice(tasks), rng):
            yield _lesson(screen, scroll, rng, scale)
            yield _lesson(_made_up_screen(words, rng), 0, rng, scale)


def encode_lesson(processor: Any, text: str, image_tokens: int) -> tuple[list[int], list[int]]:
    """
    A lesson as tokens.

    Args:
        processor (`ProcessorMixin`):
            Processor of the model.
        text (`str`):
            What is on the screen.
        image_tokens (`int`):
            Tokens of the screenshot.

    Returns:
        `tuple[list[int], list[int]]`: Token ids, and labels with -100 where nothing is to be learnt.
    """
    tokenizer = processor.tokenizer
    pads = "<|image_pad|>" * image_tokens
    prompt = tokenizer(f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|><|im_end|>\n<|im_start|>assistant\n")
    reply = tokenizer(f"{text}<|im_end|>")["input_ids"]
    return [*prompt["input_ids"], *reply], [*[-100] * len(prompt["input_ids"]), *reply]


def teach_reading(
    model: PreTrainedModel,
    processor: Any,
    stream: Iterator[Lesson],
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 1.5e-3,
    progress: bool = True,
) -> list[float]:
    """
    Train a model on lessons.

    Args:
        model (`PreTrainedModel`):
            Model of [`~recipes.small_vlm.build_model`], trained in place.
        processor (`ProcessorMixin`):
            Its processor.
        stream (`Iterator[Lesson]`):
            What [`lessons`] yields.
        steps (`int`):
            Number of steps.
        batch_size (`int`, *optional*, defaults to `32`):
            Lessons a step.
        learning_rate (`float`, *optional*, defaults to `1.5e-3`):
            Highest learning rate; it rises for a twentieth of the steps and falls along a cosine.
        progress (`bool`, *optional*, defaults to `True`):
            Whether a progress bar is shown.

    Returns:
        `list[float]`: Loss of each step.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * max(0, step - warmup) / steps)),
    )
    losses = []
    model.train()
    bar = tqdm(range(steps), desc="reading", disable=not progress)
    for _ in bar:
        batch = collate(processor, [next(stream) for _ in range(batch_size)])
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    return losses


def _patches(processor: Any, images: list[Image]) -> dict[str, torch.Tensor]:
    """What the image processor makes of screenshots of one size that it need not resize, without its loop over them."""
    settings = processor.image_processor
    patch, merge, frames = settings.patch_size, settings.merge_size, settings.temporal_patch_size
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image in images]).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (settings.image_mean, settings.image_std))
    pixels = (pixels - mean) / std
    rows, columns = pixels.size(2) // patch, pixels.size(3) // patch
    pixels = pixels.view(-1, 3, rows // merge, merge, patch, columns // merge, merge, patch)
    # Patches by merged square, each with its channels, the frames of a still image, and its pixels.
    pixels = pixels.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, frames, -1, -1)
    return {
        "pixel_values": pixels.reshape(len(images) * rows * columns, -1),
        "image_grid_thw": torch.tensor([[1, rows, columns]] * len(images)),
    }


def collate(processor: Any, batch: list[Lesson]) -> dict[str, torch.Tensor]:
    """
    Lessons as a batch for the model.

    Args:
        processor (`ProcessorMixin`):
            Processor of the model.
        batch (`list[Lesson]`):
            Lessons, with screenshots of one size.

    Returns:
        `dict[str, torch.Tensor]`: What the model takes, `labels` included, padded on the right.
    """
    images = _patches(processor, [image for image, _ in batch])
    tokens = [int(n) // processor.image_processor.merge_size**2 for n in images["image_grid_thw"].prod(dim=-1)]
    rows = [encode_lesson(processor, text, count) for (_, text), count in zip(batch, tokens, strict=True)]
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), processor.tokenizer.pad_token_id)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for i, (row, targets) in enumerate(rows):
        ids[i, : len(row)], labels[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), torch.tensor(targets), 1
    pads = (ids == processor.image_token_id).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "mm_token_type_ids": pads, **images}


def _lesson(screen: Screen, scroll: int, rng: random.Random, scale: float) -> Lesson:
    widgets = tappable(screen, scroll)
    chosen = rng.sample(widgets, min(MAX_WIDGETS, len(widgets)))
    title = screen.popup.title if screen.popup is not None else screen.title
    lines = [f"I see {title}."]
    for widget, box in chosen:
        x, y = (int(value * scale) for value in box.center)
        lines.append(f"Tap {widget.text}. [{x}, {y}]")
    return render_screen(screen, scroll, scale=scale), "\n".join(lines)


def _walk(task: PhoneTask, rng: random.Random) -> list[tuple[Screen, int]]:
    state = task.initial_state()
    met = []
    for _ in range(WALK_STEPS):
        met.append((state.screen(), state.scroll))
        steps = steps_from(state, task)
        if not steps:
            break
        state = apply(state, rng.choice(steps))
    return met


def _made_up_screen(words: Sequence[str], rng: random.Random) -> Screen:
    def text() -> str:
        return " ".join(rng.choices(words, k=rng.choice((1, 1, 2, 2, 3))))[:22]

    def widgets(kinds: tuple[str, ...], count: int, name: str) -> tuple[Widget, ...]:
        return tuple(Widget(f"{name}{i}", rng.choice(kinds), text()) for i in range(count))

    body = widgets(("row", "row", "button", "field", "switch"), rng.randint(3, 11), "w")
    if rng.random() < 0.1:
        body = widgets(("icon",), rng.randint(4, 12), "w")
    tabs = tuple(Widget(f"t{i}", "button", rng.choice(words)[:9]) for i in range(rng.choice((0, 0, 2, 3, 4))))
    actions = tuple(Widget(f"a{i}", "button", rng.choice(words)[:9]) for i in range(rng.choice((0, 0, 1, 2))))
    return Screen(text(), body, actions, tabs)
