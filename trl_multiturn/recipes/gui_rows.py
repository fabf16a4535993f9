"""Rows to train on, made from trajectories of a GUI agent: one for each step, with the conversation before it."""

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..environments.phone.actions import CoordinateSpace, scale_action, write_reply
from ..environments.phone.trajectory import GuiStep, GuiTrajectory
from ..image_history import OMITTED_IMAGE


if TYPE_CHECKING:
    from datasets import Dataset


def step_rows(
    trajectories: Iterable[GuiTrajectory], history_images: int = 1, coordinate_space: CoordinateSpace = "pixel"
) -> Iterator[dict[str, Any]]:
    """
    One row for each step that is no mistake on purpose: such a step is part of later rows' history, and never to be learnt.

    TRL fills images into messages of the user alone, so the screenshots that the tool returned stand in messages of the user
    too, in the words with which Qwen's chat templates write a tool's answer: the tokens are those of a live rollout.

    Args:
        trajectories (`Iterable[GuiTrajectory]`):
            The trajectories.
        history_images (`int`, *optional*, defaults to `1`):
            Number of newest screenshots in a row, the current one included; each older one is replaced by
            [`~trl_multiturn.image_history.OMITTED_IMAGE`].
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            Space of the points in the replies, `"pixel"` or `"norm1000"`.

    Yields:
        `dict[str, Any]`: A row with the columns

        - `prompt`: system prompt if there is one, instruction, and earlier replies and screenshots;
        - `completion`: the reply, as a message of the assistant;
        - `images`: the screenshots shown, oldest first (where a trajectory's are in files, their paths);
        - `ground_truth`: what [`~trl_multiturn.rewards.gui.action_reward`] compares with, as JSON;
        - `image_size`: width and height in pixels; `coordinate_space`;
        - `app`, `instruction`, `split`, `correction`, and `trajectory` and `step`, counted from 0.

    Raises:
        `ValueError`: If a screenshot or a box is missing, or `history_images` is not positive.
    """
    if history_images < 1:
        raise ValueError(f"history_images must be at least 1, got {history_images}: the agent has to see the screen")
    for number, trajectory in enumerate(trajectories):
        for i, step in enumerate(trajectory.trajectory):
            if step.mistake:
                continue
            try:
                yield _row(trajectory, i, history_images, coordinate_space) | {"trajectory": number, "step": i}
            except ValueError as error:
                raise ValueError(f"Trajectory {number}, step {i}: {error}") from None


def step_dataset(
    trajectories: Iterable[GuiTrajectory], history_images: int = 1, coordinate_space: CoordinateSpace = "pixel"
) -> "Dataset":
    """
    [`step_rows`] as a dataset, for SFT and single-step GRPO alike. Screenshots in files are read when a row is.

    Args:
        trajectories (`Iterable[GuiTrajectory]`):
            The trajectories.
        history_images (`int`, *optional*, defaults to `1`):
            See [`step_rows`].
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            See [`step_rows`].

    Returns:
        `Dataset`: One row for each step.

    Raises:
        `ValueError`: As [`step_rows`] does.
    """
    from datasets import Dataset, Features, Image, List, Value

    messages = List({"role": Value("string"), "content": List({"type": Value("string"), "text": Value("string")})})
    texts = ("ground_truth", "coordinate_space", "app", "instruction", "split")
    features = Features(
        {
            "prompt": messages,
            "completion": messages,
            "images": List(Image()),
            "image_size": List(Value("int32")),
            **{name: Value("string") for name in texts},
            "correction": Value("bool"),
            "trajectory": Value("int32"),
            "step": Value("int32"),
        }
    )
    rows = [
        row | {"images": [_as_png(image) for image in row["images"]]}
        for row in step_rows(trajectories, history_images, coordinate_space)
    ]
    return Dataset.from_list(rows, features=features)


def _row(trajectory: GuiTrajectory, index: int, history_images: int, space: CoordinateSpace) -> dict[str, Any]:
    size = (trajectory.image_width, trajectory.image_height)
    shown = range(max(0, index + 1 - history_images), index + 1)
    steps = trajectory.trajectory
    prompt = [_message("system", trajectory.system)] if trajectory.system else []
    prompt.append(_message("user", trajectory.instruction, _screenshot(0 in shown)))
    for i in range(index):
        prompt.append(_message("assistant", _reply(steps[i], size, space)))
        screenshot = _screenshot(i + 1 in shown)
        prompt.append(_message("user", "<tool_response>\n", screenshot, "\n</tool_response>"))
    images = []
    for i in shown:
        image = steps[i].image
        if image is None:
            raise ValueError("a step has no screenshot")
        images.append(str(image) if isinstance(image, Path) else image)
    return {
        "prompt": prompt,
        "completion": [_message("assistant", _reply(steps[index], size, space))],
        "images": images,
        "ground_truth": json.dumps(steps[index].ground_truth(), ensure_ascii=False),
        "image_size": list(size),
        "coordinate_space": space,
        "app": trajectory.app_name,
        "instruction": trajectory.instruction,
        "split": trajectory.split,
        "correction": steps[index].correction,
    }


def _as_png(image: Any) -> Any:
    """An image in the form that a dataset keeps it in; left to itself it takes three times as long. A path stays a path."""
    if isinstance(image, str):
        return image
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return {"bytes": buffer.getvalue(), "path": None}


def _reply(step: GuiStep, size: tuple[int, int], space: CoordinateSpace) -> str:
    call = step.call if space == "pixel" else scale_action(step.call, size, (1000, 1000))
    return write_reply(step.thought, step.action, call)


def _screenshot(shown: bool) -> dict[str, str]:
    return {"type": "image"} if shown else {"type": "text", "text": OMITTED_IMAGE}


def _message(role: str, *parts: str | dict[str, str]) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": role, "content": content}
