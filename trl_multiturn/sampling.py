"""The order of the tasks, epoch by epoch, as a resumed run must find it; and batches of them beside that order."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler


class EpochSampler(Sampler):
    """
    TRL's `RepeatSampler` with an order that depends on the epoch alone. TRL's own draws one order after another from a
    generator, which starts anew when a run is resumed: the second epoch then has the first one's order again.

    Args:
        sampler (`RepeatSampler`):
            TRL's sampler. The orders are the ones it would have drawn.
    """

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[int]:
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)

    def set_epoch(self, epoch: int) -> None:
        """
        Go to an epoch's order.

        Args:
            epoch (`int`):
                The epoch, counted from 0.
        """
        if not self._sampler.shuffle:
            return
        self._sampler.generator.manual_seed(self._sampler.seed)
        for _ in range(epoch):
            torch.randperm(self._sampler.num_samples, generator=self._sampler.generator)


def generation_batches(trainer: Any) -> Iterator[list[dict[str, Any]]]:
    """
    This process's rows of one generation batch after another, without end and without touching the trainer's own order.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            Trainer with the dataset.

    Yields:
        `list[dict]`: Rows grouped as the sampler groups them. Their order is random, and the same on every process.
    """
    groups = trainer.args.generation_batch_size // trainer.num_generations
    share = trainer.args.generation_batch_size // trainer.accelerator.num_processes
    start = share * trainer.accelerator.process_index
    prompts = _endless(trainer.train_dataset, trainer.args.seed)
    while True:
        rows = [row for row in islice(prompts, groups) for _ in range(trainer.num_generations)]
        yield [dict(row) for row in rows[start : start + share]]


def _endless(dataset: Any, seed: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(seed)
    while True:
        if isinstance(dataset, Dataset):
            order = list(range(len(dataset)))
            rng.shuffle(order)
            yield from (dataset[i] for i in order)
        else:
            yield from dataset
