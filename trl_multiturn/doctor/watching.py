"""Looking on while a trainer takes a batch: what the policy sampled and how likely, what was scored, what the hooks gave."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..rollouts import Rollouts


@dataclass
class Written:
    """
    One message that the policy was asked for.

    Args:
        context (`tuple[int, ...]`):
            Prompt and completion tokens before it.
        ids (`tuple[int, ...]`):
            Its tokens.
        logps (`list[float]`):
            Log-probability with which each was sampled; empty if that could not be seen.
    """

    context: tuple[int, ...]
    ids: tuple[int, ...]
    logps: list[float] = field(default_factory=list)


class Watch:
    """What was seen: messages in the order in which they were sampled, scored log-probabilities, values of hooks."""

    def __init__(self) -> None:
        self.written: list[Written] = []
        self.logps: torch.Tensor | None = None
        self.hooks: dict[str, Any] = {}
        self.rollouts: Rollouts | None = None
        self._sampled: list[tuple[tuple[int, ...], list[float]]] = []

    def on_written(self, prompt_ids: list[list[int]], completion_ids: list[list[int]]) -> None:
        """Messages for some contexts, as TRL got them from its backend."""
        left = list(self._sampled)
        for context, ids in zip(prompt_ids, completion_ids, strict=True):
            written = Written(tuple(context), tuple(ids))
            found = next((i for i, (tokens, _) in enumerate(left) if tokens[: len(ids)] == written.ids), None)
            if found is not None:
                written.logps = left.pop(found)[1][: len(ids)]
            self.written.append(written)
        self._sampled = []

    def on_scored(self, logps: torch.Tensor) -> None:
        """Log-probabilities of completion tokens, of the newest pass."""
        self.logps = logps.detach().float().cpu()

    def on_generated(self, ids: torch.Tensor, logps: torch.Tensor) -> None:
        """Tokens that transformers' `generate` gave, and their log-probabilities, padding included."""
        self._sampled += [(tuple(row), values) for row, values in zip(ids.tolist(), logps.tolist(), strict=True)]

    @contextmanager
    def of_trainer(self, trainer: Any, writes: str, scores: str) -> Iterator[None]:
        """
        Context manager in which [`on_written`] and [`on_scored`] are called.

        Args:
            trainer ([`MultiTurnGRPOTrainer`]):
                Trainer to watch.
            writes (`str`):
                Its method that samples a message for each context.
            scores (`str`):
                Its method that gives tokens their log-probabilities.
        """
        write, score = getattr(trainer, writes), getattr(trainer, scores)

        def watched_write(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            written = write(prompt_ids, *args, **kwargs)
            self.on_written(prompt_ids, written[0])
            return written

        def watched_score(*args: Any, **kwargs: Any) -> Any:
            scored = score(*args, **kwargs)
            self.on_scored(scored[0])
            return scored

        vars(trainer)[writes], vars(trainer)[scores] = watched_write, watched_score
        try:
            yield
        finally:
            for name in (writes, scores):
                vars(trainer).pop(name, None)

    @contextmanager
    def of_hooks(self, trainer: Any, *names: str) -> Iterator[None]:
        """
        Context manager in which what hooks return is kept in [`hooks`], and the rollouts in [`rollouts`].

        Args:
            trainer ([`MultiTurnGRPOTrainer`]):
                Trainer to watch.
            names (`str`):
                Methods of it that take the rollouts first.
        """
        for name in names:
            vars(trainer)[name] = self._kept(name, getattr(trainer, name))
        try:
            yield
        finally:
            for name in names:
                vars(trainer).pop(name, None)

    def _kept(self, name: str, method: Callable) -> Callable:
        @wraps(method)
        def call(rollouts: Rollouts, *args: Any, **kwargs: Any) -> Any:
            self.rollouts = rollouts
            self.hooks[name] = method(rollouts, *args, **kwargs)
            return self.hooks[name]

        return call


@contextmanager
def watched_generation(model: Any, watch: Watch) -> Iterator[None]:
    """
    Context manager in which `model.generate` tells the watch how likely each token was when it was sampled.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            The policy, without wrappers.
        watch ([`Watch`]):
            Gets the log-probabilities.
    """
    generate = model.generate

    def watched(*args: Any, **kwargs: Any) -> Any:
        config = kwargs.get("generation_config")
        if config is None:  # not TRL's call
            return generate(*args, **kwargs)
        recorder = _Recorder(config)
        sequences = generate(*args, **kwargs, logits_processor=LogitsProcessorList([recorder]))
        watch.on_generated(*recorder.finish(sequences))
        return sequences

    model.generate = watched
    try:
        yield
    finally:
        del model.generate


class _Recorder(LogitsProcessor):
    """Keeps the log-probability of each sampled token: known when the next one is asked for."""

    def __init__(self, config: Any):
        self.warpers = _warpers(config)
        self.logps: list[torch.Tensor] = []
        self.prompt_length: int | None = None
        self._last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self.prompt_length is None:
            self.prompt_length = input_ids.size(1)
        self._take(input_ids)
        # transformers puts processors of the caller's before its own of temperature, top-k and so on.
        self._last = self.warpers(input_ids, scores.float()).log_softmax(-1)
        return scores

    def _take(self, input_ids: torch.Tensor) -> None:
        if self._last is not None:
            self.logps.append(self._last.gather(1, input_ids[:, -1:]).cpu())

    def finish(self, sequences: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sampled tokens and their log-probabilities, once `generate` has returned."""
        self._take(sequences)
        return sequences[:, self.prompt_length :].cpu(), torch.cat(self.logps, dim=1)


def _warpers(config: Any) -> LogitsProcessorList:
    """What transformers does to the scores before it samples, by the settings that TRL knows."""
    warpers = LogitsProcessorList()
    if not config.do_sample:
        return warpers
    if config.temperature not in (None, 1.0):
        warpers.append(TemperatureLogitsWarper(config.temperature))
    if config.top_k not in (None, 0):
        warpers.append(TopKLogitsWarper(config.top_k))
    if config.top_p not in (None, 1.0):
        warpers.append(TopPLogitsWarper(config.top_p))
    if config.min_p is not None:
        warpers.append(MinPLogitsWarper(config.min_p))
    return warpers


def sampled_tokens(rollouts: Rollouts, written: list[Written]) -> tuple[list[list[bool]], list[list[float]]]:
    """
    Which completion tokens the policy sampled, and how likely they were then.

    Args:
        rollouts ([`Rollouts`]):
            B rollouts.
        written (`list[Written]`):
            Everything that the policy was asked for.

    Returns:
        `tuple`: For each token whether it was sampled, and the log-probability, NaN where it was not seen.
    """
    sampled, logps = [], []
    for prompt, completion in zip(rollouts.prompt_ids, rollouts.completion_ids, strict=True):
        whole, start = (*prompt, *completion), len(prompt)
        marks, values = [False] * len(completion), [float("nan")] * len(completion)
        for message in written:
            first = len(message.context)
            # A message may have been cut off at the rollout's limit.
            fits = message.ids[: len(whole) - first]
            if not start <= first < len(whole) or whole[first : first + len(fits)] != fits:
                continue
            if whole[:first] != message.context:
                continue
            for i in range(len(fits)):
                marks[first - start + i] = True
                if message.logps:
                    values[first - start + i] = message.logps[i]
        sampled.append(marks)
        logps.append(values)
    return sampled, logps
