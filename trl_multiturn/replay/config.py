"""Configuration of failure replay, for any trainer of this package."""

from dataclasses import dataclass, field

from ..archer.config import ArCHerConfig
from ..config import MultiTurnGRPOConfig
from ..igpo.config import IGPOConfig


ADMISSIONS = ("all_fail", "mean_below", "any_fail")
SAMPLINGS = ("least_recent", "uniform", "failure_count")


@dataclass
class ReplayArguments:
    r"""
    Parameters of failure replay, to put before the configuration of a trainer: `class ReplayIGPOConfig(ReplayArguments,
    IGPOConfig)`.

    A task is a dataset row. The *outcome* of a rollout is the weighted sum of its rewards, as GRPO sees it; a rollout
    *succeeds* from `success_threshold` on; a task's *success rate* is the share of its group that succeeds.

    The paper ([DeepTravel](https://huggingface.co/papers/2509.21842)) replays failed queries periodically and gives no
    numbers: the rules and defaults here are this library's.

    Args:
        replay_every (`int`, *optional*, defaults to `4`):
            Failed tasks are replayed in every such generation batch; 1 is every batch.
        replay_ratio (`float`, *optional*, defaults to `0.25`):
            Share of that batch's tasks, between 0 and 1, that failed ones take the place of; at least one task. At 0
            nothing is stored, and the trainer is the one without replay, bit for bit.
        replay_capacity (`int`, *optional*, defaults to `512`):
            Largest number of failed tasks. Beyond it, the one that was replayed most often without graduating is dropped
            (of several, the one that came first).
        replay_admission (`str`, *optional*, defaults to `"all_fail"`):
            Which tasks are stored: those of which no rollout succeeded (`"all_fail"`), at least one did not (`"any_fail"`),
            or the mean outcome is below `success_threshold` (`"mean_below"`).
        replay_sampling (`str`, *optional*, defaults to `"least_recent"`):
            Which stored tasks are replayed: those not rolled out for longest (`"least_recent"`), any (`"uniform"`), or any
            with a probability in proportion to how often they have failed (`"failure_count"`).
        replay_graduate_at (`float`, *optional*, defaults to `0.5`):
            Success rate, above 0 and up to 1, from which a stored task is let go.
        replay_max_replays (`int`, *optional*, defaults to `5`):
            Number of replays after which a task that has not graduated is given up for good, as infeasible or too noisy to
            learn from. It is not stored again.
        task_id_column (`str`, *optional*):
            Dataset column that names the task. If `None`, a hash of the row's content does.
        success_threshold (`float`, *optional*, defaults to `0.5`):
            Outcome from which a rollout succeeds.
    """

    replay_every: int = field(
        default=4,
        metadata={"help": "Failed tasks are replayed in every such generation batch; 1 is every batch."},
    )
    replay_ratio: float = field(
        default=0.25,
        metadata={
            "help": "Share of that batch's tasks, between 0 and 1, that failed ones take the place of; at least one task. "
            "At 0 nothing is stored or replayed."
        },
    )
    replay_capacity: int = field(default=512, metadata={"help": "Largest number of failed tasks that are stored."})
    replay_admission: str = field(
        default="all_fail",
        metadata={
            "help": "Which tasks are stored: those of which no rollout succeeded ('all_fail'), at least one did not "
            "('any_fail'), or the mean outcome is below success_threshold ('mean_below').",
            "choices": list(ADMISSIONS),
        },
    )
    replay_sampling: str = field(
        default="least_recent",
        metadata={
            "help": "Which stored tasks are replayed: those not rolled out for longest ('least_recent'), any ('uniform'), "
            "or by how often they have failed ('failure_count').",
            "choices": list(SAMPLINGS),
        },
    )
    replay_graduate_at: float = field(
        default=0.5,
        metadata={"help": "Success rate, above 0 and up to 1, from which a stored task is let go."},
    )
    replay_max_replays: int = field(
        default=5,
        metadata={"help": "Number of replays after which a task that has not graduated is given up for good."},
    )
    task_id_column: str | None = field(
        default=None,
        metadata={"help": "Dataset column that names the task. If unset, a hash of the row's content does."},
    )
    success_threshold: float = field(default=0.5, metadata={"help": "Outcome from which a rollout succeeds."})

    def __post_init__(self):
        super().__post_init__()  # type: ignore[misc]  # the trainer's configuration, which comes next
        for name in ("replay_every", "replay_capacity", "replay_max_replays"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 0.0 <= self.replay_ratio <= 1.0:
            raise ValueError(f"replay_ratio must be between 0 and 1, got {self.replay_ratio}.")
        if not 0.0 < self.replay_graduate_at <= 1.0:
            raise ValueError(f"replay_graduate_at must be above 0 and at most 1, got {self.replay_graduate_at}.")
        for name, allowed in (("replay_admission", ADMISSIONS), ("replay_sampling", SAMPLINGS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {getattr(self, name)!r}.")


@dataclass
class ReplayGRPOConfig(ReplayArguments, MultiTurnGRPOConfig):
    r"""
    Configuration class for the [`ReplayGRPOTrainer`]: [`ReplayArguments`] and everything that [`MultiTurnGRPOConfig`] takes.
    """


@dataclass
class ReplayIGPOConfig(ReplayArguments, IGPOConfig):
    r"""
    Configuration class for the [`ReplayIGPOTrainer`]: [`ReplayArguments`] and everything that [`IGPOConfig`] takes.
    """


@dataclass
class ReplayArCHerConfig(ReplayArguments, ArCHerConfig):
    r"""
    Configuration class for the [`ReplayArCHerTrainer`]: [`ReplayArguments`] and everything that [`ArCHerConfig`] takes.

    Args:
        replay_capacity (`int`, *optional*, defaults to `100000`):
            Largest number of transitions that the critic learns from, and of failed tasks: both methods have a setting of
            this name.
    """

    replay_capacity: int = field(
        default=100_000,
        metadata={"help": "Largest number of transitions that the critic learns from, and of failed tasks."},
    )
