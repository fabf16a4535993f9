"""A small policy for the search environment, and the command that makes it.

A random model never writes a tool call, and no hub is needed for a demonstration: this module trains a tokenizer, writes
a chat template, and warm-starts a small Qwen3 by TRL's `SFTTrainer` on the scripted episodes of
[`trl_multiturn.recipes.search_episodes`], mistakes included: choosing well is left to reinforcement learning.

```shell
python -m trl_multiturn.recipes.search_policy --output_dir search_policy
```
"""

from __future__ import annotations

import argparse
import functools
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


logger = logging.getLogger(__name__)

SEARCH_POLICY = Path(__file__).parent / "assets" / "search_policy"

# What stands around the answer in the policy's last message, and so around the gold answer when its belief is scored.
BELIEF_PREFIX = "<answer>"
BELIEF_SUFFIX = "</answer>"

SPLITS: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")

# Longest message it is allowed to write. Its own are about 15 tokens; one that rambles would hold up the whole batch.
MAX_TURN_TOKENS = 40

_SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Pieces of their own, yet not special: decoding with `skip_special_tokens` must keep them.
_TAGS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", BELIEF_PREFIX, BELIEF_SUFFIX]

# How text is cut before pieces are learned, first match wins. Codes and numbers are cut into letters and digits, as unseen
# ones would be. What lies between names (" is the capital of ") may become one piece, and so may the opening of a call:
# sequences stay short.
_PIECES = "|".join(
    [
        r"""\{"name": "\w+", "arguments": \{"\w+": \"""",
        r"""", "top_k": |\}\}|\[\d\] """,
        r"""(?<=\.)\p{Ll}(?=\p{Ll})|(?<=\.\p{Ll})\p{Ll}""",
        r"""\p{Lu}[\p{Ll}\p{M}'’]+|\p{Lu}|\p{N}""",
        r"""[^\p{Lu}\p{N}"{}\[.?]+|.""",
    ]
)

# ChatML with tool results in tags of their own. It is short, renders a message the same whatever follows it, and marks
# what the assistant writes. Tools are not listed: the policy knows one.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<tool_response>' + message.content + '</tool_response>' -}}
{%- elif message.role == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- generation -%}
{{- message.content or '' -}}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function or call -%}
{{- '<tool_call>{"name": "' + function.name + '", "arguments": ' -}}
{{- function.arguments if function.arguments is string else function.arguments | tojson -}}
{{- '}</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>' -}}
{%- endgeneration -%}
{%- else -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open": "<tool_call>",
            "close_pattern": r"</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"<\|im_end\|>", "content": "text"},
    },
}


def build_tokenizer(texts: Sequence[str], words: Sequence[str], vocab_size: int = 1000) -> PreTrainedTokenizerFast:
    """
    Train a byte-level BPE tokenizer and give it the policy's chat template.

    Args:
        texts (`Sequence[str]`):
            What the pieces are learned from.
        words (`Sequence[str]`):
            Words of names, each a piece of its own: to copy a name is then to repeat a token or two, which a model this
            small learns in minutes.
        vocab_size (`int`, *optional*, defaults to `1000`):
            Number of learned pieces, the special tokens included, the tags and words not.

    Returns:
        `PreTrainedTokenizerFast`: A tokenizer that pads on the left, ends messages with `<|im_end|>` and parses responses.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=_SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, *["user\n", "assistant\n"] * 100], trainer)
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in _TAGS])
    bpe.add_tokens([AddedToken(word, special=False, normalized=False, single_word=True) for word in words])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        response_template=RESPONSE_TEMPLATE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, **overrides: Any) -> PreTrainedModel:
    """
    Make the random model that the warm start begins with: a Qwen3 of about 1.2 million parameters.

    Args:
        tokenizer (`PreTrainedTokenizerFast`):
            Gives the vocabulary and the ids that end and pad a text.
        overrides (`Any`):
            Settings of `Qwen3Config` to change.

    Returns:
        `PreTrainedModel`: A `Qwen3ForCausalLM` in float32.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    settings = {
        "hidden_size": 160,
        "intermediate_size": 384,
        # Generation takes time by the layer; copying takes two, and one more to know what to copy.
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        # Contexts are short: more of the frequencies then tell one position from the next.
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
        # Wider than usual: with the default of 0.02 a model this narrow takes long to leave its first plateau.
        "initializer_range": 0.04,
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
    return Qwen3ForCausalLM(config)


def warm_start(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    episodes: Dataset,
    output_dir: str | Path,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    max_steps: int = -1,
    seed: int = 0,
    assistant_only: bool = True,
) -> list[dict[str, float]]:
    """
    Fine-tune a model on episodes by TRL's `SFTTrainer`.

    Args:
        model (`PreTrainedModel`):
            Model to train, in place.
        tokenizer (`PreTrainedTokenizerFast`):
            Its tokenizer, with a chat template that marks the assistant's text.
        episodes (`Dataset`):
            Conversations, in the column `messages`.
        output_dir (`str` or `Path`):
            Working folder of the trainer; nothing is saved there.
        batch_size (`int`, *optional*, defaults to `16`):
            Episodes a step.
        learning_rate (`float`, *optional*, defaults to `3e-3`):
            Highest learning rate.
        max_steps (`int`, *optional*, defaults to `-1`):
            Number of steps; -1 passes over the episodes once.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order of the episodes.
        assistant_only (`bool`, *optional*, defaults to `True`):
            Whether the loss is on what the assistant writes alone, with a learning rate that falls to 0. Otherwise it is
            on every token, at a constant rate.

    Returns:
        `list[dict]`: The trainer's log.
    """
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(
        output_dir=str(output_dir),
        assistant_only_loss=assistant_only,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="linear" if assistant_only else "constant_with_warmup",
        warmup_steps=0.05,
        adam_beta2=0.98,
        weight_decay=0.01,
        num_train_epochs=1,
        max_steps=max_steps,
        max_length=512,
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        logging_steps=50,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
    trainer = SFTTrainer(model=model, args=args, train_dataset=episodes, processing_class=tokenizer)
    trainer.train()
    return trainer.state.log_history


def build_policy(
    output_dir: str | Path, episodes: int = 24_000, batch_size: int = 16, seed: int = 0, max_steps: int = -1
) -> list[dict[str, float]]:
    """
    Make the policy from nothing: tokenizer, scripted episodes of the train split, warm start.

    Args:
        output_dir (`str` or `Path`):
            Where the policy is saved: weights in half precision, loaded to float32.
        episodes (`int`, *optional*, defaults to `24000`):
            Number of scripted episodes.
        batch_size (`int`, *optional*, defaults to `16`):
            Episodes a step.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the episodes, the weights and the order.
        max_steps (`int`, *optional*, defaults to `-1`):
            Number of steps; -1 passes over the episodes once.

    Returns:
        `list[dict]`: The log of the warm start.
    """
    import torch
    from datasets import Dataset
    from transformers import set_seed

    from trl_multiturn.environments.search import BM25Index, load_fact_corpus, load_fact_questions

    from .search_episodes import EpisodeWriter

    set_seed(seed)
    index = BM25Index.from_dataset(load_fact_corpus())
    # Words of all splits' names are words of the language; what is true of them is told of the train split alone.
    names = [
        name for split in SPLITS for row in load_fact_questions(split, hops=[1, 2, 3]) for name in row["entities"]
    ]
    writer = EpisodeWriter(load_fact_questions("train", hops=[1, 2, 3]), index, names)
    tokenizer = build_tokenizer(list(writer.texts()), writer.words)
    model = build_model(tokenizer)
    rng = random.Random(seed)
    start = functools.partial(
        warm_start, model, tokenizer, output_dir=output_dir, batch_size=batch_size, max_steps=max_steps, seed=seed
    )
    # Every token first: a passage repeats the name it is about, so copying is learned from the results too, and sooner.
    whole = Dataset.from_list([{"messages": writer.write(rng)} for _ in range(episodes // 3)])
    log = start(episodes=whole, assistant_only=False)
    answers = Dataset.from_list([{"messages": writer.write(rng)} for _ in range(episodes - episodes // 3)])
    log += start(episodes=answers)
    # The config keeps saying float32, which is what `from_pretrained` then makes of the smaller file.
    halves = {
        name: weight.to(torch.float16) for name, weight in model.state_dict().items() if name != "lm_head.weight"
    }
    model.save_pretrained(output_dir, state_dict=halves)
    tokenizer.save_pretrained(output_dir)
    return log


def measure_policy(
    policy: str | Path,
    split: Literal["train", "validation", "test"] = "test",
    questions: int = 64,
    samples: int = 2,
    seed: int = 0,
) -> dict[int, float]:
    """
    Sample rollouts of a policy by TRL's `GRPOTrainer`, at temperature 1.

    Args:
        policy (`str` or `Path`):
            Folder of the policy.
        split (`str`, *optional*, defaults to `"test"`):
            Split of the questions.
        questions (`int`, *optional*, defaults to `64`):
            Number of questions for each number of hops.
        samples (`int`, *optional*, defaults to `2`):
            Rollouts of each question.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the questions and of sampling.

    Returns:
        `dict[int, float]`: Share of exactly right answers, by number of hops.
    """
    import tempfile

    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from trl_multiturn.environments.search import BM25Index, SearchEnvironment, load_fact_corpus, load_fact_questions
    from trl_multiturn.rewards import exact_match_reward

    rows = {hops: load_fact_questions(split, hops=hops, seed=seed, limit=questions) for hops in (1, 2, 3)}
    reward: Any = exact_match_reward  # to a type checker, a list of floats is no list of optional floats
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(policy, dtype="float32"),
            processing_class=AutoTokenizer.from_pretrained(policy),
            reward_funcs=reward,
            train_dataset=rows[1],
            eval_dataset=rows[1],
            environment_factory=functools.partial(SearchEnvironment, BM25Index.from_dataset(load_fact_corpus())),
            args=GRPOConfig(
                output_dir=folder,
                num_generations=samples,
                per_device_train_batch_size=samples,
                per_device_eval_batch_size=64,
                max_completion_length=192,
                generation_kwargs={"max_new_tokens": MAX_TURN_TOKENS},
                max_tool_calling_iterations=6,
                use_cpu=True,
                bf16=False,
                activation_checkpointing=False,
                dataloader_pin_memory=False,
                report_to=[],
                disable_tqdm=True,
                seed=seed,
            ),
        )
        return {hops: trainer.evaluate(asked)["eval_reward"] for hops, asked in rows.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """
    The command.

    Args:
        arguments (`Sequence[str]`, *optional*):
            Command line; `sys.argv` by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trl_multiturn.recipes.search_policy",
        description="Make the small policy of the search demonstration: tokenizer, warm start, measurement.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output_dir", required=True, help="folder that the policy is saved in")
    parser.add_argument("--episodes", type=int, default=24_000, help="number of scripted episodes")
    parser.add_argument("--batch_size", type=int, default=16, help="episodes a step")
    parser.add_argument("--max_steps", type=int, default=-1, help="number of steps; -1 passes over the episodes once")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything")
    parser.add_argument(
        "--questions", type=int, default=64, help="held-out questions a number of hops; 0: no measuring"
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build_policy(args.output_dir, args.episodes, args.batch_size, args.seed, args.max_steps)
    if args.questions:
        for hops, share in measure_policy(args.output_dir, questions=args.questions, seed=args.seed).items():
            logger.info("%d hop%s: %.0f%% right", hops, "s" if hops > 1 else "", 100 * share)


if __name__ == "__main__":
    main()
