"""Information Gain-based Policy Optimization (https://huggingface.co/papers/2510.14967)."""

from .config import IGPOConfig
from .trainer import IGPOTrainer


__all__ = ["IGPOConfig", "IGPOTrainer"]
