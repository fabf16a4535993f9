"""The order of the tasks, epoch by epoch, as a resumed run must find it."""

from collections.abc import Iterator
from typing import Any

import torch
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
