"""Replay of failed tasks, for any trainer of this package (after DeepTravel, https://huggingface.co/papers/2509.21842)."""

from .config import ReplayArCHerConfig, ReplayArguments, ReplayGRPOConfig, ReplayIGPOConfig
from .failures import FailedTask, FailureBuffer, TaskResult
from .mixin import ReplayMixin
from .trainer import ReplayArCHerTrainer, ReplayGRPOTrainer, ReplayIGPOTrainer


__all__ = [
    "FailedTask",
    "FailureBuffer",
    "ReplayArCHerConfig",
    "ReplayArCHerTrainer",
    "ReplayArguments",
    "ReplayGRPOConfig",
    "ReplayGRPOTrainer",
    "ReplayIGPOConfig",
    "ReplayIGPOTrainer",
    "ReplayMixin",
    "TaskResult",
]
