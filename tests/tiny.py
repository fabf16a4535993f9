"""What the tests train: a random model of a few thousand weights, its tokenizer, and environments.

A random model never writes a tool call. `Scripted` replaces what the model samples, and nothing else, by messages that a
script chooses, so that TRL's tool loop, the environments and the loss are the real ones.
"""

import json
import random
from functools import lru_cache
from pathlib import Path

import torch
import trl
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from trl_multiturn import MultiTurnGRPOTrainer


TEMPLATES = Path(trl.__file__).parent / "chat_templates"


@lru_cache
def _trained_tokenizer(template: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [
        (TEMPLATES / template).read_text(),
        "Search the corpus. What is the capital of France? Paris. <answer>",
    ] * 3
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    added = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    return tokenizer


def build_tokenizer(template: str = "qwen2_5.jinja") -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_trained_tokenizer(template),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
    )
    tokenizer.chat_template = (TEMPLATES / template).read_text()
    return tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast | None = None, seed: int = 0, **overrides) -> Qwen3ForCausalLM:
    tokenizer = tokenizer or build_tokenizer()
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        **overrides,
    }
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **settings,
    )
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(config)


def call(name: str = "add", **arguments) -> str:
    """A message with one tool call, as the model would write it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def dataset(rows: int = 8, **columns) -> Dataset:
    prompts = [[{"role": "user", "content": f"Task {i}"}] for i in range(rows)]
    return Dataset.from_dict({"prompt": prompts, "number": list(range(rows)), **columns})


class QuietCounter:
    """Adds numbers: an environment as TRL knows it."""

    def __init__(self):
        self.total = 0

    def reset(self, **row) -> str | None:
        self.total = 0

    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        self.total += amount
        return f"The counter is {self.total}"


class Counter(QuietCounter):
    """Also says what each turn was worth."""

    def __init__(self):
        super().__init__()
        self.turn_rewards: list[float] = []

    def reset(self, **row) -> str | None:
        self.turn_rewards = []
        return super().reset(**row)

    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        self.turn_rewards.append(float(amount))
        return super().add(amount)


class EndsOnEven(Counter):
    """Is over when the sum is even."""

    terminated = truncated = False

    def reset(self, **row):
        self.terminated = False
        return super().reset(**row)

    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        answer = super().add(amount)
        self.terminated = self.total % 2 == 0
        return answer


class Scripted:
    """Mixin for a trainer: the sampled messages come from `script(prompt_text, turn, rng) -> str`."""

    script = None

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        if not hasattr(self, "_script_rng"):
            self._script_rng = random.Random(0)
        completions = []
        for ids in prompt_ids:
            text = self.processing_class.decode(ids)
            turn = text.count("<|im_start|>assistant") - 1
            message = type(self).script(text, turn, self._script_rng)
            tokens = self.processing_class(message + "<|im_end|>", add_special_tokens=False)["input_ids"]
            completions.append(tokens[: self.max_completion_length])
        return completions, None


def add_some(text: str, turn: int, rng: random.Random) -> str:
    """Adds one to three times, then answers with a number."""
    if turn == 0 or (turn < 3 and rng.random() < 0.6):
        return call(amount=rng.randint(1, 5))
    return f"<answer>{rng.randint(0, 3)}</answer>"


def answer_length(completions, **kwargs) -> list[float]:
    """A reward that differs between rollouts."""
    return [float(sum(map(ord, str(messages[-1]["content"])))) % 7 for messages in completions]


def settings(folder, **overrides) -> dict:
    """Arguments of a quick CPU run."""
    return {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 256,
        "learning_rate": 1e-2,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        **overrides,
    }


class Recorded(Scripted):
    """Keeps the rollouts of every generation batch, and what was computed from them."""

    def compute_turn_advantages(self, rollouts, turn_rewards):
        advantages = super().compute_turn_advantages(rollouts, turn_rewards)
        self.batches = [*getattr(self, "batches", []), (rollouts, turn_rewards, advantages)]
        self.rollouts = rollouts
        return advantages

    @property
    def histories(self):
        return [rollouts.completions for rollouts, _, _ in self.batches]

    def _generate_and_score_completions(self, inputs):
        self.output = super()._generate_and_score_completions(inputs)
        return self.output


def train(folder, environment=None, script=add_some, resume=None, **options):
    """Train a scripted policy for a step (or as `options` say) and return the trainer."""
    trainer = make_trainer(folder, environment, script, **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def make_trainer(
    folder,
    environment=None,
    script=add_some,
    trainer_class=MultiTurnGRPOTrainer,
    data=None,
    reward_funcs=answer_length,
    callbacks=None,
    peft_config=None,
    model=None,
    rows=8,
    eval_dataset=None,
    **options,
):
    tokenizer = build_tokenizer()
    return type(trainer_class.__name__, (Recorded, trainer_class), {"script": staticmethod(script)})(
        model=model or build_model(tokenizer),
        reward_funcs=reward_funcs,
        args=trainer_class._config_class(**settings(folder, **{"max_steps": 1, **options})),
        train_dataset=dataset(rows) if data is None else data,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        environment_factory=environment,
        callbacks=callbacks,
        peft_config=peft_config,
    )


def last_log(trainer) -> dict:
    return next(entry for entry in reversed(trainer.state.log_history) if "reward" in entry)
