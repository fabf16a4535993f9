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


def check_rollouts(accelerator: Any, gathers_for_generation: bool, is_vision_language: bool, has_tools: bool) -> None:
    """
    Refuse rollouts that would wait for ever: of a sharded vision-language model, whose processes run its vision part only
    where there are images. A process that has ended its own rollouts has none to show.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Knows the processes, and what has been made of the model.
        gathers_for_generation (`bool`):
            Whether ZeRO-3 collects all weights before a turn is generated (`ds3_gather_for_generation`).
        is_vision_language (`bool`):
            Whether the policy takes images.
        has_tools (`bool`):
            Whether a rollout may have more than one turn.

    Raises:
        `ValueError`: If they would.
    """
    is_fsdp = accelerator.distributed_type == DistributedType.FSDP
    if is_sharded(accelerator) and is_vision_language and has_tools and (is_fsdp or not gathers_for_generation):
        raise ValueError(
            "A vision-language model cannot roll out several turns under FSDP, nor under ZeRO-3 with "
            "ds3_gather_for_generation=False: processes whose rollouts have ended would wait for ever. Roll out with "
            "use_vllm=True, or use ZeRO-2, DDP, or ZeRO-3 with ds3_gather_for_generation=True."
        )


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
