"""Before the first step of the policy: fill the replay buffer, and train the critic while the policy stands still."""

from itertools import islice
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from ..sampling import generation_batches


class WarmUp(TrainerCallback):
    """
    Runs when the policy is wrapped and a checkpoint loaded, and no step has been taken. A resumed run has warmed up already.

    Args:
        trainer ([`ArCHerTrainer`]):
            Trainer to warm up.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer = self.trainer
        offline = args.algorithm == "offline"
        if offline and not len(trainer.buffer):
            trainer.load_logged()
        if trainer.warmed_up:
            return
        batches = islice(generation_batches(trainer), args.critic_warmup_iterations)
        for rows in tqdm(
            batches,
            total=args.critic_warmup_iterations,
            desc="Warming up the critic",
            disable=args.disable_tqdm or not trainer.accelerator.is_main_process,
        ):
            if offline:
                trainer.model.train()  # what is logged now is of training
                trainer.train_critic(trainer.buffer.first_id)
            else:
                trainer.roll_out(rows)
            metrics = {name: value for name, value in trainer.pop_metrics().items() if _is_told(name)}
            trainer.log({f"archer/warmup/{name.removeprefix('archer/')}": value for name, value in metrics.items()})
        trainer.warmed_up = True


def _is_told(name: str) -> bool:
    """Which metrics of a warm-up batch are logged: those of the critic, and how the policy as it is fares."""
    return name in ("reward", "turns/mean", "tools/call_frequency") or name.startswith("archer/")
