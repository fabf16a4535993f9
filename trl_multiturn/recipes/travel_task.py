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
        train (`Dataset`):
            Tasks to train on.
        eval (`Dataset`):
            Held-out tasks.
        environment_factory (`Callable`):
            Makes the environment of a rollout.
        reward ([`HierarchicalReward`]):
            Reward function.
    """

    world: TravelWorld
    train: Dataset
    eval: Dataset
    environment_factory: Callable[[], Any]
    reward: Any


def make_world(arguments: TravelArguments) -> TravelWorld:
    """
    The world that the arguments describe.

    Args:
        arguments ([`TravelArguments`]):
            Cities and seed.

    Returns:
        [`TravelWorld`]

    Raises:
        `ValueError`: If there is no such city, or a number or a mode is none.
    """
    from ..environments.travel import TravelWorld

    for name in ("train_tasks", "eval_tasks", "max_results"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(arguments, name)}.")
    if arguments.cache_mode not in CACHE_MODES:
        raise ValueError(f"cache_mode must be one of {list(CACHE_MODES)}, got {arguments.cache_mode!r}.")
    if arguments.cache is None and arguments.cache_mode != "record":
        raise ValueError(f"cache_mode={arguments.cache_mode!r} has no effect without a cache: name its file.")
    return TravelWorld(seed=arguments.world_seed, cities=arguments.cities)


def load_travel_task(arguments: TravelArguments, seed: int) -> TravelTask:
    """
    Generate the tasks, and put together what they are played in and judged by.

    Args:
        arguments ([`TravelArguments`]):
            What to make.
        seed (`int`):
            Seed of the tasks to train on. The held-out ones are the same for every seed.

    Returns:
        [`TravelTask`]
    """
    from ..environments.travel import TravelEnvironment, generate_tasks
    from ..rewards.verifiers import HierarchicalReward, TrajectoryVerifier

    world = make_world(arguments)
    backend: Any = world
    if arguments.cache is not None:
        from ..environments.travel import ToolCache

        mode: Any = arguments.cache_mode  # checked above
        backend = ToolCache(arguments.cache, world, mode=mode)
    options: dict[str, Any] = {"levels": arguments.levels, "language": arguments.language, "world": world}
    return TravelTask(
        world=world,
        train=generate_tasks(arguments.train_tasks, split="train", seed=seed, **options),
        eval=generate_tasks(arguments.eval_tasks, split="test", seed=0, **options),
        environment_factory=partial(TravelEnvironment, backend, max_results=arguments.max_results),
        reward=HierarchicalReward(trajectory=TrajectoryVerifier(world)),
    )
