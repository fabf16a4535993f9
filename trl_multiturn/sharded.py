"""Rollouts of several turns by a policy whose weights are spread over processes (DeepSpeed's ZeRO-3, FSDP).

Every pass of such a model collects its weights from all processes, so all of them must run it equally often. TRL's tool
loop runs it once for each turn of this process's rollouts, and other processes' rollouts have other numbers of turns.
"""

from collections.abc import Callable
from typing import Any

from accelerate.utils import DistributedType


def is_sharded(accelerator: Any) -> bool:
    """
    Whether the policy's weights are spread over processes.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Knows the processes, and what has been made of the model.

    Returns:
        `bool`
    """
    if accelerator.num_processes == 1:
        return False
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return accelerator.state.deepspeed_plugin.zero_stage == 3
    return accelerator.distributed_type == DistributedType.FSDP


class SharedPasses:
    """
    Has all processes generate equally often.

    Args:
        synchronize (`Callable[[int], int]`):
            The largest value that any process calls it with.
        idle (`Callable[[], None]`):
            Runs the model for the sake of the others.
    """

    def __init__(self, synchronize: Callable[[int], int], idle: Callable[[], None]):
        self.synchronize = synchronize
        self.idle = idle

    def join(self) -> None:
        """Say that this process runs the model next. Every other one then does too, for itself or in [`finish`]."""
        self.synchronize(1)

    def finish(self) -> None:
        """Run the model for the sake of other processes, whose rollouts go on for longer, until they end."""
        while self.synchronize(0):
            self.idle()
