"""What the ArCHer tests train, beside `tests.tiny`: a trainer whose model is scripted and whose critic is quick."""

from pathlib import Path

import torch
from transformers import RobertaConfig, RobertaModel

from tests.tiny import Counter, Recorded, add_some, build_model, build_tokenizer, dataset, settings
from trl_multiturn import ArCHerConfig, ArCHerTrainer


QUICK = {
    "critic_steps": 2,
    "critic_batch_size": 16,
    "critic_warmup_iterations": 0,
    "critic_learning_rate": 1e-3,
}


class Run(Recorded, ArCHerTrainer):
    script = staticmethod(add_some)


def make(folder, *, trainer_class=Run, model=None, environment=Counter, rows=16, reward_funcs=None, **overrides):
    """A trainer on the counting environment, whose turn rewards are the amounts that were added."""
    own = {
        key: overrides.pop(key)
        for key in ("peft_config", "callbacks", "train_dataset", "eval_dataset")
        if key in overrides
    }
    tokenizer = build_tokenizer()
    return trainer_class(
        model=model or build_model(tokenizer),
        reward_funcs=reward_funcs,
        args=ArCHerConfig(**settings(folder, **{**QUICK, **overrides})),
        train_dataset=own.pop("train_dataset", None) or dataset(rows),
        processing_class=tokenizer,
        environment_factory=environment,
        **own,
    )


def save_encoder(folder: Path) -> Path:
    """A random encoder with the shape of the paper's, and a tokenizer of its own."""
    tokenizer = build_tokenizer()
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=514,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
