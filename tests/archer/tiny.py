"""What the ArCHer tests train, beside `tests.tiny`: a trainer whose model is scripted and whose critic is quick."""

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
