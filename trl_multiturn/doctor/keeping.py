"""Taking a batch without a trace: what it changes in a trainer, its model and the random generators is put back."""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object


@contextmanager
def put_back(trainer: Any, copied: tuple[str, ...], emptied: str) -> Iterator[None]:
    """
    Context manager after which a trainer is what it was before: its attributes, and what its method has learnt.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            The trainer.
        copied (`tuple[str, ...]`):
            Attributes that a batch changes in place: it works on copies.
        emptied (`str`):
            Attribute with the environments by name: the batch gets new ones.
    """
    method, shards = copy.deepcopy(trainer.method_state()), gather_object([trainer.shard_state()])
    attributes = vars(trainer)
    before = dict(attributes)
    attributes |= {name: copy.deepcopy(before[name]) for name in copied}
    if emptied in before:
        attributes[emptied] = {name: [] for name in before[emptied]}
    try:
        yield
    finally:
        attributes.clear()
        attributes |= before
        if method:
            trainer.load_method_state(method)
        if any(shards):
            trainer.load_shard_states(shards)


@contextmanager
def untouched(trainer: Any) -> Iterator[None]:
    """
    Context manager after which training goes on as if it had not been: random generators, the model's buffers, its mode and
    its gradients, and what [`put_back`] does.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            A trainer that has not begun to train.
    """
    model = trainer.model
    was_training = model.training
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with _random_state(), trainer.set_aside():
            yield
    finally:
        model.train(was_training)
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers and buffer.shape == buffers[name].shape:
                    buffer.copy_(buffers[name])


@contextmanager
def _random_state() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def checkpointed(model: Any, args: Any) -> Iterator[None]:
    """
    Context manager in which the model keeps as few activations as it will in training.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model.
        args ([`~transformers.TrainingArguments`]):
            Say whether and how.
    """
    if not getattr(args, "activation_checkpointing", False) or not hasattr(model, "activation_checkpointing_enable"):
        yield
        return
    settings = dict(args.activation_checkpointing_kwargs or {})
    layers, offload = settings.pop("every_n_layers", 1), settings.pop("offload", False)
    model.activation_checkpointing_enable(
        activation_checkpointing_kwargs=settings or None, every_n_layers=layers, offload=offload
    )
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
