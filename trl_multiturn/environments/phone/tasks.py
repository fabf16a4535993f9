"""Tasks on the phone by number, and as a dataset."""

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .apps import APPS
from .task import Condition, PhoneTask
from .task_templates import ALL_TEMPLATES


if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["TEMPLATES", "Condition", "PhoneTask", "generate_phone_tasks", "phone_dataset"]

TEMPLATES: dict[str, Callable[[random.Random], PhoneTask]] = ALL_TEMPLATES

LANGUAGES = ("en", "zh", "both")

# How often a template may repeat instructions in a row before it counts as exhausted.
_PATIENCE = 50


def generate_phone_tasks(
    count: int,
    seed: int = 0,
    apps: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[PhoneTask]:
    """
    Draw tasks, no two with the same instruction.

    The templates take turns, so that each has the same share until it has no new instruction left. The first tasks of a longer
    list are those of a shorter one.

    Args:
        count (`int`):
            Number of tasks.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the tasks.
        apps (sequence of `str`, *optional*):
            Apps that the tasks are about; all by default.
        names (sequence of `str`, *optional*):
            Names of templates to draw from; all by default.

    Returns:
        `list[PhoneTask]`: The tasks.

    Raises:
        `ValueError`: If an argument is out of its range, or there are fewer instructions than `count`.
    """
    if count < 0:
        raise ValueError(f"`count` must not be negative, got {count}.")
    _check_known("apps", apps, APPS)
    _check_known("names", names, TEMPLATES)
    # A template's name starts with its app's in small letters.
    chosen = [
        name
        for name in TEMPLATES
        if (names is None or name in names) and (apps is None or name.split(".")[0] in {app.lower() for app in apps})
    ]
    draws = {name: random.Random(f"{seed}/{name}") for name in chosen}
    tasks: list[PhoneTask] = []
    seen: set[str] = set()
    while len(tasks) < count:
        if not draws:
            raise ValueError(f"`count` is {count}, but there are no more than {len(tasks)} different tasks.")
        for name, rng in list(draws.items()):
            task = next(
                (t for t in (TEMPLATES[name](rng) for _ in range(_PATIENCE)) if t.instruction not in seen), None
            )
            if task is None:
                del draws[name]
            else:
                seen.add(task.instruction)
                tasks.append(task)
    return tasks[:count]


def phone_dataset(tasks: Sequence[PhoneTask], language: str = "en") -> "Dataset":
    """
    Tasks as a dataset for training on the phone.

    Args:
        tasks (sequence of [`PhoneTask`]):
            The tasks, one a row.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the instructions: `"en"`, `"zh"`, or `"both"` in turns.

    Returns:
        `datasets.Dataset`: Columns `prompt` (one user message with the instruction), `task` (the task as JSON), `app`, `name` and
        `instruction`.

    Raises:
        `ValueError`: If `language` is none of these.
    """
    from datasets import Dataset

    if language not in LANGUAGES:
        raise ValueError(f"`language` must be one of {', '.join(LANGUAGES)}, got {language!r}.")
    rows = []
    for i, task in enumerate(tasks):
        chinese = language == "zh" or (language == "both" and i % 2 == 1)
        instruction = task.instruction_zh if chinese else task.instruction
        prompt = [{"role": "user", "content": [{"type": "text", "text": instruction}]}]
        row = {"prompt": prompt, "task": task.to_json(), "app": task.app, "name": task.name}
        rows.append({**row, "instruction": instruction})
    return Dataset.from_list(rows)


def _check_known(argument: str, values: Sequence[str] | None, known: dict) -> None:
    unknown = [value for value in values or () if value not in known]
    if unknown:
        raise ValueError(f"`{argument}` must be among {', '.join(known)}, got {', '.join(map(repr, unknown))}.")
