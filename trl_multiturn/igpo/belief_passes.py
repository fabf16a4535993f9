"""The forward passes behind [`~trl_multiturn.igpo.belief.score_probes`]: what is fed, under which mask, and what is read.

Shapes: B rows of a pass, W columns of the trajectory, P columns of the copies, V vocabulary.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel


# Padded tokens of one forward pass: enough to keep an accelerator busy, and a bound of the keys and values kept for the
# second pass (1 GB at 64 kB each). A longer trajectory goes alone.
MAX_BATCH_TOKENS = 16384
# Padded answer tokens of one forward pass; bounds the logits (about 1.2 GB in float32 at a vocabulary of 150,000).
MAX_PROBE_TOKENS = 2048
# Tokens of a trajectory fed at a time where the rest can follow on the cache without a mask of query times key.
MAX_PREFILL_TOKENS = 8192
# Shortest trajectory whose copies are fed one by one: below it, whole contexts side by side in one pass take less time.
MIN_CROPPED_TOKENS = 4096
# A pass of this many tokens is worth its overhead; below it, rows are taken in even if they are short.
MIN_BATCH_TOKENS = 1024
# Shortest row of a pass as a share of its longest.
MIN_FILLED = 0.75
# Rows of logits turned into float32 at a time.
_LOGIT_ROWS = 256


def unwrap(model: nn.Module) -> tuple[PreTrainedModel, bool]:
    """The Transformers model inside the wrappers, and whether PEFT puts virtual tokens before its input."""
    # Kept compiled, `OptimizedModule` would hide the model's class.
    model = extract_model_from_parallel(model, keep_torch_compile=False)
    if isinstance(model, PeftModel):
        return cast(PreTrainedModel, model.get_base_model()), bool(model.active_peft_config.is_prompt_learning)
    return cast(PreTrainedModel, model), False


def forward_arguments(base: PreTrainedModel) -> set[str]:
    """Names that the forward takes, whatever has been wrapped around it (accelerate's casts, TRL's fused head)."""
    return set(inspect.signature(type(base).forward).parameters)


def rope_follows_length(config: PreTrainedConfig) -> bool:
    """Whether a token's rotary embedding depends on the length of the input it stands in."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    kinds = [str(entry.get("rope_type", "default")) for entry in nested or [parameters]]
    return any("dynamic" in kind or kind == "longrope" for kind in kinds)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No dropout, and no gradient checkpointing: Transformers checkpoints, and drops the cache, in training mode only."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@dataclass(frozen=True)
class Copy:
    """
    A probe as it is fed. The last context token goes in again as the first token of the copy: what follows it is the
    first prediction that is needed. The last probe token is predicted, never fed.
    """

    index: int  # in the flat list of all probes
    sequence: int
    start: int  # position of the first fed token; the copy sees the context before it
    fed: list[int]
    targets: list[int]


class Scorer:
    """The model's own forward, and what is read from its logits."""

    def __init__(self, model: nn.Module, temperature: float, device: torch.device | str | None):
        base, is_prompt_learning = unwrap(model)
        arguments = forward_arguments(base)
        self.model = model
        self.temperature = temperature
        self.device = base.device if device is None else torch.device(device)
        self.config = base.config.get_text_config()
        # PEFT shifts positions and logits by its virtual tokens: its own defaults are the right ones then.
        self.takes_position_ids = "position_ids" in arguments and not is_prompt_learning
        self.takes_logits_to_keep = "logits_to_keep" in arguments and not is_prompt_learning
        self.rope_follows_length = rope_follows_length(self.config)
        # A bool mask is right under any autocast; eager attention adds the mask to its scores.
        self.mask_dtype = torch.bool if self.config._attn_implementation == "sdpa" else base.dtype

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Logits `(B, columns, V)`: the columns of `logits_to_keep` if the model takes it, else all."""
        if self.takes_position_ids:
            kwargs["position_ids"] = position_ids.to(self.device)
        if not self.takes_logits_to_keep:
            kwargs.pop("logits_to_keep")
        kwargs.setdefault("use_cache", False)
        return self.model(input_ids=input_ids.to(self.device), **kwargs).logits

    def extend(self, cache: DynamicCache, input_ids: torch.Tensor, start: int = 0) -> None:
        """Put the keys and values of tokens into the cache, which holds the `start` tokens before them."""
        positions = _positions(input_ids, start)
        self.forward(input_ids, positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        if cache.get_seq_length() != start + input_ids.shape[1]:
            raise RuntimeError(
                "The model ran without filling its key-value cache. Score with method='per_turn', and check that "
                "nothing in its forward switches the cache off, such as gradient checkpointing."
            )

    def score(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        placed: list[tuple[int, int, Copy]],
        **kwargs: Any,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """`(probe index, mean log-probability)` of each copy, given as (row, column of its first fed token, copy)."""
        rows: list[int] = []
        columns: list[int] = []
        targets: list[int] = []
        for row, column, copy in placed:
            first = column + len(copy.fed) - len(copy.targets)
            rows += [row] * len(copy.targets)
            columns += range(first, first + len(copy.targets))
            targets += copy.targets
        kept, kept_columns = torch.unique(torch.tensor(columns), return_inverse=True)
        logits = self.forward(input_ids, position_ids, logits_to_keep=kept.to(self.device), **kwargs)
        if not self.takes_logits_to_keep:
            # Counted from the end: PEFT's virtual tokens come first.
            logits = logits[:, (kept - input_ids.shape[1]).to(logits.device)]
        cells = torch.stack([torch.tensor(rows), kept_columns, torch.tensor(targets)]).to(logits.device)
        log_probs = torch.cat([self._log_probs(logits, *block) for block in cells.split(_LOGIT_ROWS, dim=1)]).cpu()
        for (_, _, copy), of_copy in zip(placed, log_probs.split([len(c.targets) for _, _, c in placed]), strict=True):
            yield copy.index, of_copy.mean()

    def _log_probs(self, logits: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, targets: torch.Tensor):
        scores = logits[rows, columns].float() / self.temperature
        return scores.gather(-1, targets[:, None]).squeeze(-1) - scores.logsumexp(-1)


@dataclass(frozen=True)
class PerTurnBatch:
    """Whole inputs, one per copy: its context and itself."""

    inputs: list[tuple[list[int], Copy]]
    num_forwards: int = 1

    def score(self, scorer: Scorer) -> Iterator[tuple[int, torch.Tensor]]:
        # Right padding needs no mask: under causality no real token sees it, in attention and recurrent layers alike.
        input_ids = _pad([context[: copy.start] + copy.fed for context, copy in self.inputs])
        placed = [(row, copy.start, copy) for row, (_, copy) in enumerate(self.inputs)]
        yield from scorer.score(input_ids, _positions(input_ids), placed)


@dataclass(frozen=True)
class SinglePassBatch:
    """Trajectories, and the copies to feed after them: `chunks[i][row]` are those of the i-th pass."""

    contexts: list[list[int]]
    chunks: list[list[list[Copy]]]

    @property
    def num_forwards(self) -> int:
        return 1 + len(self.chunks)

    def score(self, scorer: Scorer) -> Iterator[tuple[int, torch.Tensor]]:
        # Nothing before a copy's own first token still needs one column, which no copy sees.
        input_ids = _pad([context or [0] for context in self.contexts])
        width = input_ids.shape[1]
        cache = DynamicCache(config=scorer.config)
        scorer.extend(cache, input_ids)
        for number, rows in enumerate(self.chunks):
            yield from self._score_chunk(scorer, cache, width, rows)
            if number + 1 < len(self.chunks):
                cache.crop(width - cache.get_seq_length())

    def _score_chunk(self, scorer: Scorer, cache: DynamicCache, width: int, rows: list[list[Copy]]):
        placed, ids, positions, starts, numbers = [], [], [], [], []
        for row, copies in enumerate(rows):
            columns = [0]
            for copy in copies:
                placed.append((row, columns[-1], copy))
                columns.append(columns[-1] + len(copy.fed))
            ids.append([token for copy in copies for token in copy.fed])
            positions.append([copy.start + i for copy in copies for i in range(len(copy.fed))])
            starts.append([copy.start for copy in copies for _ in copy.fed])
            numbers.append([number for number, copy in enumerate(copies) for _ in copy.fed])
        start, number = _pad(starts).to(scorer.device), _pad(numbers, -1).to(scorer.device)
        context = torch.arange(width, device=scorer.device) < start[:, :, None]
        # Padding is a copy of its own that sees itself: a query that sees nothing turns into NaN.
        itself = (number[:, :, None] == number[:, None, :]).tril()
        mask = torch.cat([context, itself], dim=-1)[:, None]
        if scorer.mask_dtype != torch.bool:
            mask = torch.zeros(mask.shape, dtype=scorer.mask_dtype, device=mask.device).masked_fill_(
                ~mask, torch.finfo(scorer.mask_dtype).min
            )
        return scorer.score(
            _pad(ids), _pad(positions), placed, attention_mask=mask, past_key_values=cache, use_cache=True
        )


@dataclass(frozen=True)
class CroppedCacheBatch:
    """
    One trajectory, and its copies one after another, the last context first: the cache is cut back to what each may see.
    For attention that takes no 4-D mask (flash attention, FlexAttention): causality alone is right for every pass, so no
    mask is made, however long the trajectory.
    """

    context: list[int]
    copies: list[Copy]

    @property
    def num_forwards(self) -> int:
        return -(-len(self.context) // MAX_PREFILL_TOKENS) + len(self.copies)

    def score(self, scorer: Scorer) -> Iterator[tuple[int, torch.Tensor]]:
        cache = DynamicCache(config=scorer.config)
        for start in range(0, len(self.context), MAX_PREFILL_TOKENS):
            input_ids = _pad([self.context[start : start + MAX_PREFILL_TOKENS]])
            scorer.extend(cache, input_ids, start)
        for copy in self.copies:
            cache.crop(copy.start - cache.get_seq_length())
            input_ids = _pad([copy.fed])
            yield from scorer.score(
                input_ids, _positions(input_ids, copy.start), [(0, 0, copy)], past_key_values=cache, use_cache=True
            )


def plan_single_pass(contexts: list[list[int]], copies: list[Copy], batch_size: int) -> list[SinglePassBatch]:
    of_sequence = _by_sequence(copies)
    needed = {sequence: max(copy.start for copy in of_sequence[sequence]) for sequence in of_sequence}
    batches = []
    for batch in _group(sorted(needed, key=lambda sequence: -needed[sequence]), needed.__getitem__, batch_size):
        budget = max(MAX_PROBE_TOKENS // len(batch), 1)
        chunked = [_chunk(of_sequence[sequence], budget) for sequence in batch]
        passes = range(max(len(chunks) for chunks in chunked))
        chunks = [[chunks[i] if i < len(chunks) else [] for chunks in chunked] for i in passes]
        batches.append(SinglePassBatch([contexts[s][: needed[s]] for s in batch], chunks))
    return batches


def plan_cropped_cache(
    contexts: list[list[int]], copies: list[Copy], batch_size: int, min_tokens: int
) -> list[CroppedCacheBatch | PerTurnBatch]:
    """Trajectories of at least `min_tokens` on their cache, the others' contexts side by side."""
    batches: list[CroppedCacheBatch | PerTurnBatch] = []
    others: list[Copy] = []
    for sequence, of_sequence in _by_sequence(copies).items():
        latest_first = sorted(of_sequence, key=lambda copy: -copy.start)
        needed = latest_first[0].start
        if needed < min_tokens:
            others += of_sequence
        else:
            batches.append(CroppedCacheBatch(contexts[sequence][:needed], latest_first))
    return [*batches, *plan_per_turn(contexts, others, batch_size)]


def plan_per_turn(contexts: list[list[int]], copies: list[Copy], batch_size: int) -> list[PerTurnBatch]:
    def length(copy: Copy) -> int:
        return copy.start + len(copy.fed)

    groups = _group(sorted(copies, key=lambda copy: -length(copy)), length, batch_size)
    return [PerTurnBatch([(contexts[copy.sequence], copy) for copy in group]) for group in groups]


def _by_sequence(copies: list[Copy]) -> dict[int, list[Copy]]:
    of_sequence: dict[int, list[Copy]] = {}
    for copy in copies:
        of_sequence.setdefault(copy.sequence, []).append(copy)
    return of_sequence


def _group(items: list[Any], length: Callable[[Any], int], batch_size: int) -> Iterator[list[Any]]:
    """
    Split items, longest first, so that no group is padded to more than the token budget (unless it is one item), and a
    group that is large enough for one pass takes no item that would be mostly padding.
    """
    start = 0
    while start < len(items):
        longest = max(length(items[start]), 1)
        size = max(min(batch_size, MAX_BATCH_TOKENS // longest), 1)
        group = items[start : start + size]
        alike = sum(length(item) >= MIN_FILLED * longest for item in group)
        if alike * longest >= MIN_BATCH_TOKENS:
            group = group[:alike]
        yield group
        start += len(group)


def _chunk(copies: list[Copy], budget: int) -> list[list[Copy]]:
    """Split the copies of a sequence so that each chunk feeds at most `budget` tokens (unless it is one copy)."""
    chunks: list[list[Copy]] = []
    filled = budget
    for copy in copies:
        if not chunks or filled + len(copy.fed) > budget:
            chunks.append([])
            filled = 0
        chunks[-1].append(copy)
        filled += len(copy.fed)
    return chunks


def _pad(rows: Sequence[Sequence[int]], value: int = 0) -> torch.Tensor:
    """Ragged rows as one `(B, longest)` tensor, padded on the right."""
    return pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True, padding_value=value)


def _positions(input_ids: torch.Tensor, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + input_ids.shape[1]).expand_as(input_ids)
