"""What is collected of the methods: IGPO's beliefs, ArCHer's critic, the replay buffer."""

from typing import Any

from ..archer.config import ArCHerConfig
from ..archer.episodes import read_trajectories
from ..igpo.config import IGPOConfig
from ..replay.config import ReplayArguments
from ..rewards.answers import accepted_answers
from .observation import Observation
from .watching import Watch


def methods_of(trainer: Any) -> set[str]:
    """
    Methods that a trainer trains with beside GRPO.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            The trainer.

    Returns:
        `set[str]`: Of `"igpo"`, `"archer"` and `"replay"`.
    """
    kinds = {"igpo": IGPOConfig, "archer": ArCHerConfig, "replay": ReplayArguments}
    found = {name for name, kind in kinds.items() if isinstance(trainer.args, kind)}
    if "replay" in found and not trainer.args.replay_ratio:
        found.discard("replay")
    return found


def method_hooks(trainer: Any) -> tuple[str, ...]:
    """
    Methods of the trainer, beside the common hooks, whose results are kept.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            The trainer.

    Returns:
        `tuple[str, ...]`
    """
    return ("score_turns",) if "igpo" in methods_of(trainer) else ()


def before_batch(trainer: Any) -> None:
    """
    Bring a trainer to where its first step begins.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            The trainer.
    """
    if not trainer.rolls_out and not len(trainer.buffer):
        trainer.load_logged()


def after_batch(trainer: Any, seen: Observation, watch: Watch) -> dict[str, Any]:
    """
    What only a method has.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            The trainer, right after its batch.
        seen ([`Observation`]):
            What was seen so far.
        watch ([`Watch`]):
            Results of hooks.

    Returns:
        `dict[str, Any]`: Values by name.
    """
    extra: dict[str, Any] = {}
    if "igpo" in seen.method:
        extra |= _of_igpo(trainer, seen, watch)
    if "archer" in seen.method:
        extra |= _of_archer(trainer, seen)
    if "replay" in seen.method:
        extra |= _of_replay(trainer)
    return extra


def _of_igpo(trainer: Any, seen: Observation, watch: Watch) -> dict[str, Any]:
    assert seen.rollouts is not None
    answers: list[list[str]] = []
    for row in seen.rollouts.rows:
        try:
            answers.append(accepted_answers(row[trainer.answer_column]))
        except (KeyError, TypeError, ValueError):
            answers.append([])
    return {"beliefs": watch.hooks.get("score_turns"), "answers": answers}


def _of_archer(trainer: Any, seen: Observation) -> dict[str, Any]:
    assert seen.rollouts is not None and seen.turn_rewards is not None
    trajectories = read_trajectories(seen.rollouts, seen.turn_rewards, 0)
    scored = [t for t in trajectories if t is not None]
    learner = trainer.learner  # filtered behaviour cloning has none
    values = learner.values(scored) if learner is not None and scored else None
    return {
        "trajectories": trajectories,
        "values": None if values is None else {name: value.float().cpu() for name, value in vars(values).items()},
        "critic_window": None if learner is None else learner.critic.max_length,
    }


def _of_replay(trainer: Any) -> dict[str, Any]:
    column, dataset = trainer.args.task_id_column, trainer.train_dataset
    rows = len(dataset) if hasattr(dataset, "__len__") else None
    names = dataset[column] if rows is not None and column in (dataset.column_names or []) else None
    return {
        "stored": len(trainer.failures),
        "rows": rows,
        "names": None if names is None else len(set(map(str, names))),
    }
