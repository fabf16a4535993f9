"""What the tests of images train: a random Qwen2.5-VL of a few thousand weights, its processor, and an environment to see.

A random model never writes a tool call. `scripted` replaces what TRL samples for a turn, below everything that this package
adds, by messages that a script chooses, and keeps the context that each was to be written in.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import torch
from datasets import Dataset
from PIL import Image
from trl import GRPOTrainer

from tests.tiny import call, settings
from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer
from trl_multiturn.environments.phone.environment import PhoneEnvironment
from trl_multiturn.image_fields import patch_rows
from trl_multiturn.recipes.processors import tools_as_system_text
from trl_multiturn.recipes.small_vlm import build_model as build_vlm
from trl_multiturn.recipes.small_vlm import build_processor as build_vlm_processor


PIXELS = 28


@lru_cache
def build_processor():
    """A processor for which the description of an environment's tools is one token, so that prompts are short."""
    texts = ["Look at the screen and say what you see. Seen 0 1 2 3 times. nothing done"] * 3
    plain, tools = build_vlm_processor(texts), ([Gallery().fail, Gallery().look], [PhoneEnvironment().mobile_use])
    described = [tools_as_system_text(plain, "", of_one).strip() for of_one in tools]
    return build_vlm_processor(texts, described, vocab_size=400)


def build_model(seed: int = 0):
    torch.manual_seed(seed)
    return build_vlm(
        build_processor(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [1, 1, 2]},
        initializer_range=0.3,
        vision_depth=1,
        vision_hidden_size=32,
        vision_intermediate_size=32,
        vision_num_heads=2,
        vision_initializer_range=0.3,
    )


def picture(seed: str) -> Image.Image:
    """One to four tokens of noise, never twice the same."""
    rng = random.Random(seed)
    width, height = rng.choice([1, 2]) * PIXELS, rng.choice([1, 2]) * PIXELS
    return Image.frombytes("RGB", (width, height), rng.randbytes(3 * width * height))


class Gallery:
    """Shows as many pictures as it is asked for; a row says how many there are to begin with."""

    def __init__(self):
        self.number, self.seen = 0, 0

    def reset(self, number=0, shown=1, **row):
        self.number, self.seen = number, 0
        return self._show(shown) or None

    def look(self, count: int):
        """
        Look at pictures.

        Args:
            count: How many.
        """
        return [*self._show(count), {"type": "text", "text": f"Seen {self.seen}"}] if count else "Seen nothing"

    def fail(self, reason: str):
        """
        Fail.

        Args:
            reason: Why.
        """
        raise ValueError(reason)

    def _show(self, count):
        shown = range(self.seen, self.seen + count)
        self.seen += count
        return [{"type": "image", "image": picture(f"{self.number}.{i}")} for i in shown]


@dataclass
class Written:
    """A message, what the model was given to write it, and the first token that it really sampled then."""

    context: list[int]
    pixel_values: torch.Tensor | None
    image_grid_thw: torch.Tensor | None
    ids: list[int]
    sampled: int


def encode(message: str) -> list[int]:
    """Tokens of a message as a model writes it: an image token in its text is a word like any other."""
    tokenizer = build_processor().tokenizer
    text, end, _ = message.partition("<|im_end|>")
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids + [tokenizer.eos_token_id] * bool(end)


def messages_like(script):
    """A stand-in for `GRPOTrainer._generate_single_turn`, and the list of what it writes, a list for each time it is called."""
    tokenizer = build_processor().tokenizer
    sample = GRPOTrainer._generate_single_turn
    record: list[list[Written]] = []
    numbers: dict[int, Iterator[int]] = {}

    def generate(self, prompt_ids, images, fields, num_generations, has_tool_images=False):
        counts = [len(row or []) for row in images] if images else [0] * len(prompt_ids)
        step = numbers.setdefault(self.state.global_step, count(1000 * self.state.global_step))
        self.generation_config.max_new_tokens = 1
        firsts, _ = sample(self, prompt_ids, images, fields, num_generations, has_tool_images)
        grid = fields.get("image_grid_thw")
        rows = patch_rows(grid) if grid is not None else []
        assert len(rows) == sum(counts)
        batch, first = [], 0
        for ids, shown, (token,) in zip(prompt_ids, counts, firsts, strict=True):
            text = tokenizer.decode(ids)
            message = script(text, text.count("<|im_start|>assistant") - 1, next(step))
            written = message if isinstance(message, list) else encode(message)
            pixels = fields["pixel_values"][rows[first][0] : rows[first + shown - 1][1]] if shown else None
            batch.append(Written(ids, pixels, grid[first : first + shown] if shown else None, written, token))
            first += shown
        record.append(batch)
        return [list(written.ids) for written in batch], None

    return generate, record


def look_about(text: str, turn: int, number: int) -> str:
    """Looks at none to two pictures up to four times. Every message is another one."""
    rng = random.Random(number)
    if turn < 4 and rng.random() < 0.8:
        return f"{number} " + call("look", count=rng.choice([0, 1, 1, 1, 2])) + "<|im_end|>"
    return f"{number} done <|im_end|>"


def rows(count: int = 8, shown=(1, 0, 2, 1)) -> Dataset:
    """Tasks with different numbers of pictures to begin with."""
    prompts = [[{"role": "user", "content": [{"type": "text", "text": f"Look {i}"}]}] for i in range(count)]
    return Dataset.from_dict(
        {"prompt": prompts, "number": list(range(count)), "shown": [shown[i % len(shown)] for i in range(count)]}
    )


def differs(completions, **kwargs) -> list[float]:
    """A reward that differs between rollouts."""
    return [float(len(str(messages)) % 7) for messages in completions]


class Watched(MultiTurnGRPOTrainer):
    """Keeps the rollouts of each batch and everything that the model scored."""

    def compute_turn_advantages(self, rollouts, turn_rewards):
        self.batches = [*getattr(self, "batches", []), rollouts]
        return super().compute_turn_advantages(rollouts, turn_rewards)

    def _generate_and_score_completions(self, inputs):
        self.output = super()._generate_and_score_completions(inputs)
        return self.output

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs):
        scored = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        values = (input_ids, attention_mask, logits_to_keep, scored[0].detach())
        self.scored = [*getattr(self, "scored", []), values]
        return scored


def make_trainer(
    folder, environment=Gallery, trainer_class=Watched, model=None, data=None, reward_funcs=differs, **options
):
    keywords = {key: options.pop(key) for key in ("eval_dataset", "callbacks", "tools") if key in options}
    arguments = {"max_steps": 1, "max_completion_length": 600, "dataloader_pin_memory": False, **options}
    return trainer_class(
        model=model or build_model(),
        reward_funcs=reward_funcs,
        args=MultiTurnGRPOConfig(**settings(folder, **arguments)),
        train_dataset=rows() if data is None else data,
        processing_class=build_processor(),
        environment_factory=environment,
        **keywords,
    )


@contextmanager
def scripted(script=look_about):
    """Context manager in which TRL samples what a script says; gives the record of [`messages_like`]."""
    generate, record = messages_like(script)
    sample = GRPOTrainer._generate_single_turn
    GRPOTrainer._generate_single_turn = generate
    try:
        yield record
    finally:
        GRPOTrainer._generate_single_turn = sample


def train(folder, script=look_about, resume=None, **options):
    """Train a scripted policy for a step (or as `options` say); returns the trainer and the record of what was written."""
    trainer = make_trainer(folder, **options)
    with scripted(script) as record:
        trainer.train(resume_from_checkpoint=resume)
    return trainer, record


def first_choice(model, written: Written) -> int:
    """The token that the model finds likeliest after exactly the context that it was given."""
    with torch.no_grad():
        return model(**_inputs(model, written.context, written)).logits[0, -1].argmax().item()


def score_alone(model, written: Written) -> torch.Tensor:
    """Log-probabilities of a message, by one pass over exactly the context in which it was written."""
    fields = _inputs(model, written.context + written.ids, written)
    with torch.no_grad():
        logits = model(**fields).logits[0]
    chosen = logits[:-1].log_softmax(-1).gather(1, fields["input_ids"][0, 1:, None])[:, 0]
    return chosen[-len(written.ids) :]


def _inputs(model, ids: list[int], written: Written) -> dict:
    whole = torch.tensor([ids])
    fields = {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
    if written.pixel_values is not None:
        fields["mm_token_type_ids"] = (whole == model.config.image_token_id).long()
        fields |= {"pixel_values": written.pixel_values, "image_grid_thw": written.image_grid_thw}
    return fields


def check_log_probs(trainer, record, model):
    """
    Compare what was trained with passes over each turn's context alone, as it was given to `generate`; returns the numbers of
    images in those.
    """
    (rollouts,) = trainer.batches
    scored = {}
    for ids, _, size, logps in trainer.scored:
        for row, values in zip(ids[:, -size:].tolist(), logps, strict=True):
            scored[tuple(row)] = values
    everything = [written for batch in record for written in batch]
    images = []
    for ids, turns in zip(rollouts.completion_ids, rollouts.turns, strict=True):
        (values,) = (values for row, values in scored.items() if list(row[: len(ids)]) == ids)
        for turn in turns:
            (written,) = (w for w in everything if w.ids[: turn.end - turn.start] == ids[turn.start : turn.end])
            expected = score_alone(model, written)[: turn.end - turn.start]
            torch.testing.assert_close(values[turn.start : turn.end], expected, atol=5e-5, rtol=0)
            assert written.sampled == first_choice(model, written)
            images.append(0 if written.image_grid_thw is None else len(written.image_grid_thw))
    assert len(images) == sum(map(len, rollouts.turns))
    return images


def last_log(trainer) -> dict:
    return next(entry for entry in reversed(trainer.state.log_history) if "loss" in entry)
