"""What the stages of the Mobile-R1 recipe train and are tested on: trajectories, and tasks on the phone."""

from dataclasses import replace
from typing import Any

from ..environments.phone import (
    GuiTrajectory,
    Oracle,
    PhoneTask,
    demonstrations,
    generate_phone_tasks,
    phone_dataset,
    system_prompt,
    task_split,
)
from .gui_data import load_mobile_r1
from .gui_rows import step_dataset
from .mobile_r1_config import MobileR1Config
from .processors import tools_as_system_text


# Box around the point of a step of the published data, which has no boxes: half an icon to each side.
POINT_MARGIN = 0.06

# Seed of the held-out tasks: the same for every run.
HELD_OUT_SEED = 0

# Tasks that are drawn at a time.
_DRAWN = 200


def train_tasks(config: MobileR1Config, count: int) -> list[PhoneTask]:
    """
    Tasks on the phone to train on.

    Args:
        config ([`MobileR1Config`]):
            Settings; its seed is the tasks'.
        count (`int`):
            Number of tasks.

    Returns:
        `list[PhoneTask]`: Tasks of the split `"train"` ([`task_split`]).
    """
    return _tasks(config, config.seed + 1, {"train": count})["train"]


def held_out_tasks(config: MobileR1Config) -> list[PhoneTask]:
    """
    Tasks on the phone to test on, a third of them in apps that no training task is about: the same for every seed.

    Args:
        config ([`MobileR1Config`]):
            Settings; `eval_tasks` is their number.

    Returns:
        `list[PhoneTask]`: None has its instruction in common with a training task.
    """
    unseen = config.eval_tasks // 3
    found = _tasks(config, HELD_OUT_SEED, {"test": config.eval_tasks - unseen, "unseen": unseen})
    return [*found["test"], *found["unseen"]]


def task_rows(config: MobileR1Config, tasks: list[PhoneTask]) -> Any:
    """
    Tasks as a dataset for rollouts: the instruction after the agent's system prompt.

    Args:
        config ([`MobileR1Config`]):
            Settings.
        tasks (`list[PhoneTask]`):
            The tasks.

    Returns:
        `Dataset`: What [`phone_dataset`] gives, with the prompt before.
    """
    text = system_prompt(config.environment()().image_size, config.space)
    system = {"role": "system", "content": [{"type": "text", "text": text}]}
    return phone_dataset(tasks, config.language).map(lambda row: {"prompt": [system, *row["prompt"]]})


def train_steps(config: MobileR1Config, processor: Any) -> Any:
    """
    Recorded states to train on: those of the folder that the settings name, or of the oracle.

    Args:
        config ([`MobileR1Config`]):
            Settings.
        processor (`ProcessorMixin`):
            Has the chat template.

    Returns:
        `Dataset`: What [`step_dataset`] gives.

    Raises:
        `ValueError`: If the folder has no trajectories to train on.
    """
    if config.data is None:
        found = _demonstrations(config, train_tasks(config, config.trajectories), config.mistakes)
    else:
        loaded = load_mobile_r1(config.data, skip_bad=True, point_margin=POINT_MARGIN)
        found = [trajectory for trajectory in loaded if trajectory.split in ("", "train")]
        if not found:
            raise ValueError(f"{config.data} holds no trajectory that can be trained on.")
    return _step_dataset(config, found, processor)


def held_out_steps(config: MobileR1Config, tasks: list[PhoneTask], processor: Any) -> Any:
    """
    States to test on, of the oracle's ways through some tasks.

    Args:
        config ([`MobileR1Config`]):
            Settings; `eval_states` is their number.
        tasks (`list[PhoneTask]`):
            What [`held_out_tasks`] gives.
        processor (`ProcessorMixin`):
            Has the chat template.

    Returns:
        `Dataset`: States spread evenly over the tasks.
    """
    rows = _step_dataset(config, _demonstrations(config, tasks, 0.0), processor)
    count = min(config.eval_states, len(rows))
    return rows.select([i * len(rows) // count for i in range(count)])


def _tasks(config: MobileR1Config, seed: int, wanted: dict[str, int]) -> dict[str, list[PhoneTask]]:
    """As many tasks of each split as are wanted. The first ones of a longer draw are those of a shorter one."""
    splits: dict[str, list[PhoneTask]] = {name: [] for name in wanted}
    drawn = 0
    while any(len(splits[name]) < count for name, count in wanted.items()):
        tasks = generate_phone_tasks(drawn + _DRAWN, seed=seed)[drawn:]
        drawn += _DRAWN
        for task in tasks:
            split = task_split(task)
            if len(splits.get(split, ())) < wanted.get(split, 0) and _is_short(config, task):
                splits[split].append(task)
    return splits


def _is_short(config: MobileR1Config, task: PhoneTask) -> bool:
    if config.longest_way is None:
        return True
    way = Oracle(task).distance(task.initial_state())
    return way is not None and way <= config.longest_way


def _demonstrations(config: MobileR1Config, tasks: list[PhoneTask], mistakes: float) -> list[GuiTrajectory]:
    language: Any = config.language
    return list(demonstrations(tasks, config.seed, mistakes, language, config.scale, coordinate_space=config.space))


def _step_dataset(config: MobileR1Config, trajectories: list[GuiTrajectory], processor: Any) -> Any:
    """
    Steps whose system prompt is the phone's agent's, with the tool as the chat template describes it: all stages see the same
    tokens, whatever was recorded.
    """
    tool = config.environment()().mobile_use
    prompts = {
        size: tools_as_system_text(processor, system_prompt(size, config.space), [tool])
        for size in {(trajectory.image_width, trajectory.image_height) for trajectory in trajectories}
    }
    told = [replace(t, system=prompts[t.image_width, t.image_height]) for t in trajectories]
    return step_dataset(told, config.history_images, config.space)
