"""How likely the model finds the gold answer at each turn: the belief that IGPO's information gain is the change of.

The belief at a context end is the mean log-probability of the answer's tokens, teacher forced after the context and a
prefix such as `"<answer>"` (section 3 of https://huggingface.co/papers/2510.14967). A rollout has one belief per turn,
and a pass per turn would run its first turn's tokens once for every turn. `single_pass` runs the trajectory once, keeps
its keys and values, and then feeds the answers of all context ends side by side: each copy sees the context up to its
own end, and itself. Attention that takes no mask for that gets them one after another, on a cache that is cut back.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from . import belief_passes
from .belief_passes import (
    Copy,
    CroppedCacheBatch,
    PerTurnBatch,
    Scorer,
    SinglePassBatch,
    evaluation_mode,
    forward_arguments,
    plan_cropped_cache,
    plan_per_turn,
    plan_single_pass,
    rope_follows_length,
    unwrap,
)


TokenIds = Sequence[int] | torch.Tensor

_METHODS = ("auto", "single_pass", "per_turn")
_fallbacks_announced: set[str] = set()


@dataclass(frozen=True)
class Probe:
    """
    Tokens whose probability is asked for after part of a sequence.

    Args:
        context_end (`int`):
            How many tokens of the sequence come before the probe, from 1 to the sequence's length.
        token_ids (`list[int]`):
            The tokens to feed: usually a prefix and the answer.
        num_scored (`int`):
            How many of the last tokens are averaged, at least 1: the answer's.
    """

    context_end: int
    token_ids: Sequence[int]
    num_scored: int


def score_beliefs(
    model: nn.Module,
    sequences: Sequence[TokenIds],
    context_ends: Sequence[Sequence[int]],
    answers: Sequence[TokenIds],
    *,
    prefix: TokenIds | Sequence[TokenIds] | None = None,
    suffix: TokenIds | Sequence[TokenIds] | None = None,
    temperature: float = 1.0,
    batch_size: int = 8,
    method: str = "auto",
    synchronize: Callable[[int], int] | None = None,
    device: torch.device | str | None = None,
) -> list[torch.Tensor]:
    """
    Mean log-probability of each sequence's answer at each of its context ends, as in section 3 of
    https://huggingface.co/papers/2510.14967.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal language model, wrapped or not (PEFT, DDP, FSDP, DeepSpeed). Scored in evaluation mode, without
            gradients; the mode is restored.
        sequences (list of token ids):
            One trajectory each: prompt and completion, ragged, without padding.
        context_ends (`list[list[int]]`):
            For each sequence, after how many of its tokens the answer is asked for: any order, repeats allowed.
        answers (list of token ids):
            The answer of each sequence. Only these tokens are averaged.
        prefix (token ids, or one list of them per sequence, *optional*):
            Tokens between the context and the answer.
        suffix (token ids, or one list of them per sequence, *optional*):
            Tokens after the answer. They cannot change its probability under causal attention and are never fed;
            accepted so that a whole template can be passed.
        temperature (`float`, *optional*, defaults to `1.0`):
            What the logits are divided by.
        batch_size (`int`, *optional*, defaults to `8`):
            Most sequences (contexts, for `"per_turn"`) of one forward pass; fewer are taken where they are long.
        method (`str`, *optional*, defaults to `"auto"`):
            `"single_pass"` runs each trajectory once, `"per_turn"` runs every context by itself, `"auto"` takes
            `"single_pass"` where [`supports_single_pass`] allows it and says once why not elsewhere. With attention that
            takes no 4-D mask it is for trajectories of 4,096 tokens and more: each answer then needs a short pass.
        synchronize (`Callable[[int], int]`, *optional*):
            Called once with the number of forward passes this process needs; returns the most that any process needs.
            Empty passes make up the difference, as sharded parameters are gathered by all processes together. Pass it
            whenever there is more than one process, also for a process without sequences.
        device (`torch.device`, *optional*):
            Where the inputs go, the model's own device by default.

    Returns:
        `list[torch.Tensor]`: For each sequence a float32 tensor of shape `(T_i,)` on the CPU, in nats per token, in the
        order of `context_ends[i]`. What the model makes of it is returned as it is, NaN included.

    Raises:
        `ValueError`: If the lists differ in length, a sequence or an answer is empty, a context end is out of range, or
        the model cannot be scored with `method`.

    Example:

    ```python
    >>> prompt_end, tool_result_end = 31, 87
    >>> score_beliefs(model, [token_ids], [[prompt_end, tool_result_end]], [answer_ids], prefix=prefix_ids)
    [tensor([-4.1250, -1.0625])]
    ```
    """
    count = len(sequences)
    _check_lengths(count, context_ends=context_ends, answers=answers)
    prefixes = _per_sequence(prefix, count, "prefix")
    _per_sequence(suffix, count, "suffix")
    probes = []
    for ends, answer, before in zip(context_ends, answers, prefixes, strict=True):
        scored = _as_list(answer)
        probes.append([Probe(int(end), before + scored, len(scored)) for end in ends])
    return score_probes(
        model,
        sequences,
        probes,
        temperature=temperature,
        batch_size=batch_size,
        method=method,
        synchronize=synchronize,
        device=device,
    )


def score_probes(
    model: nn.Module,
    sequences: Sequence[TokenIds],
    probes: Sequence[Sequence[Probe]],
    *,
    temperature: float = 1.0,
    batch_size: int = 8,
    method: str = "auto",
    synchronize: Callable[[int], int] | None = None,
    device: torch.device | str | None = None,
) -> list[torch.Tensor]:
    """
    The general form of [`score_beliefs`]: any probes at any context ends, such as several aliases of an answer at every
    turn, on one pass over each trajectory.

    Args:
        probes (`list[list[Probe]]`):
            For each sequence what to score, in any order.
        model, sequences, temperature, batch_size, method, synchronize, device:
            As in [`score_beliefs`].

    Returns:
        `list[torch.Tensor]`: For each sequence a float32 tensor of shape `(len(probes[i]),)` on the CPU.

    Raises:
        `ValueError`: As [`score_beliefs`].
    """
    _check_lengths(len(sequences), probes=probes)
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, not {method!r}.")
    if temperature <= 0 or batch_size < 1:
        raise ValueError(f"temperature ({temperature}) and batch_size ({batch_size}) must be positive.")
    contexts = [_as_list(sequence) for sequence in sequences]
    copies = _make_copies(contexts, probes)

    scorer = Scorer(model, temperature, device)
    batches = _plan(model, method, contexts, copies, 1 if scorer.rope_follows_length else batch_size)
    num_forwards = sum(batch.num_forwards for batch in batches)
    num_forwards_of_all = num_forwards if synchronize is None else synchronize(num_forwards)
    if num_forwards_of_all < num_forwards:
        raise ValueError(
            f"synchronize({num_forwards}) must return at least {num_forwards}, not {num_forwards_of_all}."
        )

    scores = torch.empty(len(copies), dtype=torch.float32)
    with torch.no_grad(), evaluation_mode(model):
        for batch in batches:
            for index, score in batch.score(scorer):
                scores[index] = score
        for _ in range(num_forwards_of_all - num_forwards):
            scorer.forward(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long), logits_to_keep=1)
    return list(scores.split([len(of_sequence) for of_sequence in probes]))


def supports_single_pass(model: nn.Module) -> tuple[bool, str]:
    """
    Whether a model can read all context ends of a trajectory off one pass. Judged from its config and code, so every
    process comes to the same answer.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal language model, wrapped or not.

    Returns:
        `tuple[bool, str]`: The answer, and the reason if it is no.
    """
    base, is_prompt_learning = unwrap(model)
    config = base.config.get_text_config()
    attention = getattr(config, "_attn_implementation", None)
    modules = [sys.modules.get(cls.__module__) for cls in type(base).__mro__]
    missing = {"past_key_values", "position_ids", "attention_mask"} - forward_arguments(base)
    if is_prompt_learning:
        return False, "its PEFT adapter puts virtual tokens before the prompt"
    if getattr(base, "_is_stateful", False):
        return False, "it has state-space or other recurrent layers"
    if getattr(config, "add_cross_attention", False) or not getattr(config, "is_causal", True):
        return False, "its attention is not purely causal self-attention"
    if not _takes_mask(attention) and not _continues_cache(attention):
        return False, f"how its attention implementation {attention!r} treats masks and caches is not known"
    # `create_causal_mask` hands a 4-D mask through as it is; what a model with its own mask code makes of one is unknown.
    if not any(hasattr(module, "create_causal_mask") for module in modules):
        return False, "its code does not build masks the way transformers does, so it may not take a 4-D mask"
    if missing:
        return False, f"its forward does not take {', '.join(sorted(missing))}"
    if getattr(config, "alibi", False):
        return False, "its ALiBi biases follow the order of the inputs, not position_ids"
    if rope_follows_length(config):
        return False, "its rotary embedding changes with the length of the input"
    kinds = {type(layer).__name__ for layer in DynamicCache(config=config).layers if type(layer) is not DynamicLayer}
    if kinds:
        return False, f"not all its layers attend to the full context (cache layers: {', '.join(sorted(kinds))})"
    return True, ""


def _takes_mask(attention: str | None) -> bool:
    """Whether the implementation attends as a 4-D mask of zeros and ones says."""
    return attention in ("sdpa", "eager")


def _continues_cache(attention: str | None) -> bool:
    """Whether several new tokens attend causally to each other and to all that is cached, when no mask is given."""
    name = attention or ""
    return name == "flex_attention" or name.startswith("flash_attention_") or "/flash-attn" in name


def _plan(
    model: nn.Module, method: str, contexts: list[list[int]], copies: list[Copy], batch_size: int
) -> Sequence[SinglePassBatch | CroppedCacheBatch | PerTurnBatch]:
    if not _use_single_pass(model, method):
        return plan_per_turn(contexts, copies, batch_size)
    if _takes_mask(unwrap(model)[0].config.get_text_config()._attn_implementation):
        return plan_single_pass(contexts, copies, batch_size)
    min_tokens = 0 if method == "single_pass" else belief_passes.MIN_CROPPED_TOKENS
    return plan_cropped_cache(contexts, copies, batch_size, min_tokens)


def _use_single_pass(model: nn.Module, method: str) -> bool:
    base, _ = unwrap(model)
    if base.config.is_encoder_decoder:
        raise ValueError(f"Beliefs need a decoder-only model; {type(base).__name__} has an encoder.")
    if method == "per_turn":
        return False
    supported, reason = supports_single_pass(model)
    if supported:
        return True
    message = f"{type(base).__name__} cannot score all turns of a rollout in one pass: {reason}."
    if method == "single_pass":
        raise ValueError(f"{message} Use method='auto' or method='per_turn'.")
    if message not in _fallbacks_announced:
        _fallbacks_announced.add(message)
        warnings.warn(f"{message} Each turn is scored by a pass of its own: the same values, slower.")
    return False


def _make_copies(contexts: list[list[int]], probes: Sequence[Sequence[Probe]]) -> list[Copy]:
    copies: list[Copy] = []
    for i, (context, of_sequence) in enumerate(zip(contexts, probes, strict=True)):
        if not context:
            raise ValueError(f"Sequence {i} is empty.")
        for probe in of_sequence:
            ids, end, num_scored = _as_list(probe.token_ids), probe.context_end, probe.num_scored
            if num_scored < 1:
                raise ValueError(f"The answer of sequence {i} is empty: no token's probability can be averaged.")
            if num_scored > len(ids):
                raise ValueError(f"Sequence {i}: {num_scored} tokens are to be scored, the probe has {len(ids)}.")
            if not 1 <= end <= len(context):
                raise ValueError(f"Sequence {i} has {len(context)} tokens: context end {end} is not from 1 to that.")
            copies.append(Copy(len(copies), i, end - 1, [context[end - 1], *ids[:-1]], ids[-num_scored:]))
    return copies


def _per_sequence(ids: TokenIds | Sequence[TokenIds] | None, count: int, name: str) -> list[list[int]]:
    """One list of ids for all sequences, or one per sequence, as the latter."""
    if ids is None:
        return [[]] * count
    if isinstance(ids, torch.Tensor) or all(isinstance(entry, int) for entry in ids):
        return [_as_list(cast(TokenIds, ids))] * count
    _check_lengths(count, **{name: ids})
    return [_as_list(entry) for entry in cast(Sequence[TokenIds], ids)]


def _check_lengths(count: int, **lists: Sequence) -> None:
    for name, values in lists.items():
        if len(values) != count:
            raise ValueError(f"There are {count} sequences, but {name} has {len(values)} entries.")


def _as_list(ids: TokenIds) -> list[int]:
    values = ids if isinstance(ids, torch.Tensor) else torch.tensor(ids, dtype=torch.long)
    if values.ndim != 1:
        raise ValueError(f"Token ids must be a flat list or a 1-D tensor, not of shape {tuple(values.shape)}.")
    return values.tolist()
