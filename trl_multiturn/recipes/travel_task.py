"""The travel sandbox as a task to train on: what the commands `replay` and `deeptravel` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from datasets import Dataset

    from ..environments.travel import TravelWorld


CACHE_MODES = ("replay", "record", "live")


@dataclass
class TravelArguments:
    """
    What the sandbox is made of.

    Args:
        train_tasks (`int`, *optional*, defaults to `1000`):
            Number of generated tasks to train on.
        eval_tasks (`int`, *optional*, defaults to `200`):
            Number of generated tasks to evaluate on, between cities that no task to train on connects.
        levels (`list[str]`, *optional*):
            Levels of the tasks: `"easy"`, `"medium"`, `"hard"`, `"infeasible"`. All if `None`.
        language (`str`, *optional*):
            Language of the user's text, `"en"` or `"zh"`. Both if `None`.
        cities (`list[str]`, *optional*):
            Cities of the world. All that it knows if `None`.
        world_seed (`int`, *optional*, defaults to `0`):
            Seed of timetables, hotels, prices and so on.
        max_results (`int`, *optional*, defaults to `5`):
            Most rows of a tool's answer.
        cache (`str`, *optional*):
            SQLite file in which tool calls are kept. None if `None`: the sandbox is fast without it.
        cache_mode (`str`, *optional*, defaults to `"record"`):
            `"replay"`, `"record"` or `"live"`: see [`ToolCache`].
    """

    train_tasks: int = field(default=1000, metadata={"help": "Number of generated tasks to train on."})
    eval_tasks: int = field(
        default=200,
        metadata={
            "help": "Number of generated tasks to evaluate on, between cities that no task to train on connects."
        },
    )
    levels: list[str] | None = field(
        default=None, metadata={"help": "Levels of the tasks: easy, medium, hard, infeasible. All if unset."}
    )
    language: str | None = field(
        default=None, metadata={"help": "Language of the user's text, 'en' or 'zh'. Both if unset."}
    )
    cities: list[str] | None = field(
        default=None, metadata={"help": "Cities of the world. All that it knows if unset."}
    )
    world_seed: int = field(default=0, metadata={"help": "Seed of timetables, hotels, prices and so on."})
    max_results: int = field(default=5, metadata={"help": "Most rows of a tool's answer."})
    cache: str | None = field(
        default=None,
        metadata={"help": "SQLite file in which tool calls are kept. None if unset: the sandbox is fast without it."},
    )
    cache_mode: str = field(
        default="record",
        metadata={
            "help": "'replay' (answers from the file alone), 'record' (keeps what is new) or 'live' (neither).",
            "choices": list(CACHE_MODES),
        },
    )


@dataclass(frozen=True)
class TravelTask:
    """
    All that a trainer needs of the sandbox.

    Args:
        world ([`TravelWorld`]):
            The world.
        environment_factory (`Callable`):
            Makes the environment of a rollout.
        reward ([`HierarchicalReward`]):
            Reward function.
        options (`dict[str, Any]`):
            What [`generate_tasks`] takes beside number, split and seed.
    """

    world: TravelWorld
    environment_factory: Callable[[], Any]
    reward: Any
    options: dict[str, Any]

    def tasks(self, n: int, split: Any, seed: int = 0) -> Dataset:
        """
        Generate tasks.

        Args:
            n (`int`):
                Number of tasks.
            split (`str`):
                `"train"`, `"dev"` or `"test"`.
            seed (`int`, *optional*, defaults to `0`):
                Seed of the tasks.

        Returns:
            `Dataset`: Columns `prompt`, `query`, `level` and `task_id`.
        """
        from ..environments.travel import generate_tasks

        return generate_tasks(n, split=split, seed=seed, **self.options)


def check_travel_arguments(arguments: TravelArguments) -> None:
    """
    Try out what the arguments ask for, before a model is loaded.

    Args:
        arguments ([`TravelArguments`]):
            What to try.

    Raises:
        `ValueError`: If a number, a level, a language or a mode is none, a city is unknown, the cities are too few for tasks,
            the cache cannot be used or, to replay from, holds nothing of this world, or a package is missing.
    """
    for name in ("train_tasks", "eval_tasks", "max_results"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(arguments, name)}.")
    if arguments.cache_mode not in CACHE_MODES:
        raise ValueError(f"cache_mode must be one of {list(CACHE_MODES)}, got {arguments.cache_mode!r}.")
    if arguments.cache is None and arguments.cache_mode != "record":
        raise ValueError(f"cache_mode={arguments.cache_mode!r} has no effect without a cache: name its file.")
    try:
        task = load_travel_task(arguments)
        task.environment_factory()
        # One task of each level shows whether the cities are enough for them.
        for split in ("train", "dev", "test"):
            task.tasks(len(arguments.levels or ()) or 4, split)
        if arguments.cache is not None:
            _check_cache(arguments, task.world)
    except (ImportError, RuntimeError) as error:  # the world has no task of a level, the cache cannot be used
        raise ValueError(str(error)) from error


def _check_cache(arguments: TravelArguments, world: TravelWorld) -> None:
    with _open_cache(arguments, world) as cache:
        if arguments.cache_mode == "replay" and not cache.stats["records"]:
            raise ValueError(
                f"{arguments.cache} holds no call of this world: record first, with the same cities and seed."
            )


def _open_cache(arguments: TravelArguments, world: TravelWorld) -> Any:
    from ..environments.travel import ToolCache

    mode: Any = arguments.cache_mode
    return ToolCache(str(arguments.cache), world, mode=mode)


def load_travel_task(arguments: TravelArguments) -> TravelTask:
    """
    Put together what the tasks are played in and judged by.

    Args:
        arguments ([`TravelArguments`]):
            What to make, which [`check_travel_arguments`] has passed.

    Returns:
        [`TravelTask`]
    """
    from ..environments.travel import TravelEnvironment, TravelWorld
    from ..rewards.verifiers import HierarchicalReward, TrajectoryVerifier

    world = TravelWorld(seed=arguments.world_seed, cities=arguments.cities)
    backend: Any = world if arguments.cache is None else _open_cache(arguments, world)
    return TravelTask(
        world=world,
        environment_factory=partial(TravelEnvironment, backend, max_results=arguments.max_results),
        reward=HierarchicalReward(trajectory=TrajectoryVerifier(world)),
        options={"levels": arguments.levels, "language": arguments.language, "world": world},
    )
