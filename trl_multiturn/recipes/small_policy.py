"""What the small policies of the recipes share: a tokenizer, a chat template, a tiny Qwen3 and its warm start.

[`trl_multiturn.recipes.search_policy`] and [`trl_multiturn.recipes.word_game_policy`] are made of these.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from trl import GRPOTrainer


# Pieces of their own, yet not special: decoding with `skip_special_tokens` must keep them.
TOOL_TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

_SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

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


def build_tokenizer(
    texts: Sequence[str], pieces: str, tags: Sequence[str], words: Sequence[str], vocab_size: int = 1000
) -> PreTrainedTokenizerFast:
    """
    Train a byte-level BPE tokenizer and give it the policy's chat template.

    Args:
        texts (`Sequence[str]`):
            What the pieces are learned from.
        pieces (`str`):
            Regular expression that cuts text before pieces are learned: no piece crosses a cut.
        tags (`Sequence[str]`):
            Texts that are one piece wherever they stand, such as [`TOOL_TAGS`]; the longest comes first.
        words (`Sequence[str]`):
            ASCII words of names, each a piece of its own: to copy a name is then to repeat a token or two, which a model this
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
            pre_tokenizers.Split(Regex(pieces), behavior="isolated"),
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
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
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
    max_length: int = 512,
    group_by_length: bool = False,
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
        max_length (`int`, *optional*, defaults to `512`):
            Tokens after which an episode is cut off.
        group_by_length (`bool`, *optional*, defaults to `False`):
            Whether a batch is made of episodes of about one length, where they differ much: padding takes time.

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
        max_length=max_length,
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        logging_steps=50,
        train_sampling_strategy="group_by_length" if group_by_length else "random",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
    trainer = SFTTrainer(model=model, args=args, train_dataset=episodes, processing_class=tokenizer)
    trainer.train()
    return trainer.state.log_history


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, output_dir: str | Path) -> None:
    """
    Save a policy as it is shipped: weights in half precision, which `from_pretrained` loads to float32.

    Args:
        model (`PreTrainedModel`):
            Model of [`build_model`].
        tokenizer (`PreTrainedTokenizerFast`):
            Its tokenizer.
        output_dir (`str` or `Path`):
            Folder that is written.
    """
    import torch

    # The config keeps saying float32, which is what `from_pretrained` then makes of the smaller file.
    halves = {
        name: weight.to(torch.float16) for name, weight in model.state_dict().items() if name != "lm_head.weight"
    }
    model.save_pretrained(output_dir, state_dict=halves)
    tokenizer.save_pretrained(output_dir)


@contextmanager
def sampling_trainer(
    policy: str | Path,
    rows: Dataset,
    environment_factory: Callable[[], Any],
    reward_func: Any,
    *,
    samples: int,
    max_completion_length: int,
    max_turn_tokens: int,
    max_turns: int,
    seed: int = 0,
    temperature: float = 1.0,
) -> Iterator[GRPOTrainer]:
    """
    A `GRPOTrainer` whose `evaluate` samples rollouts of a policy on the CPU.

    Args:
        policy (`str` or `Path`):
            Folder of the policy.
        rows (`Dataset`):
            Prompts, and what the environment's `reset` reads.
        environment_factory (`Callable`):
            Makes the environment of a rollout.
        reward_func (`Callable`):
            Reward function of the rollouts.
        samples (`int`):
            Rollouts of each prompt.
        max_completion_length (`int`):
            Longest rollout in tokens, tool results included.
        max_turn_tokens (`int`):
            Longest message of the policy in tokens.
        max_turns (`int`):
            Most rounds of tool calls.
        seed (`int`, *optional*, defaults to `0`):
            Seed of sampling.
        temperature (`float`, *optional*, defaults to `1.0`):
            Temperature of sampling.

    Yields:
        `GRPOTrainer`: The trainer. Its working folder, in which nothing is saved, is removed at the end.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    with tempfile.TemporaryDirectory() as folder:
        yield GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(policy, dtype="float32"),
            processing_class=AutoTokenizer.from_pretrained(policy),
            reward_funcs=reward_func,
            train_dataset=rows,
            eval_dataset=rows,
            environment_factory=environment_factory,
            args=GRPOConfig(
                output_dir=folder,
                num_generations=samples,
                per_device_train_batch_size=samples,
                per_device_eval_batch_size=64,
                max_completion_length=max_completion_length,
                generation_kwargs={"max_new_tokens": max_turn_tokens},
                max_tool_calling_iterations=max_turns,
                temperature=temperature,
                use_cpu=True,
                bf16=False,
                activation_checkpointing=False,
                dataloader_pin_memory=False,
                report_to=[],
                disable_tqdm=True,
                seed=seed,
            ),
        )
