"""Hierarchical actor-critic training of agents (ArCHer, https://huggingface.co/papers/2402.19446)."""

from .config import ArCHerConfig
from .trainer import ArCHerTrainer


__all__ = ["ArCHerConfig", "ArCHerTrainer"]
