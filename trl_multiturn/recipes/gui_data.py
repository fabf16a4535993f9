"""Trajectories of a GUI agent on disk, in the form of the published Mobile-R1 data."""

import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import PIL.Image
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..environments.phone.actions import Action, read_call, scale_action, write_reply
from ..environments.phone.layout import Box
from ..environments.phone.trajectory import GuiStep, GuiTrajectory
from ..environments.search.jsonl import read_jsonl
from .gui_rows import step_dataset, step_rows


__all__ = [
    "StepRecord",
    "TrajectoryRecord",
    "load_mobile_r1",
    "resize_trajectory",
    "save_mobile_r1",
    "step_dataset",
    "step_rows",
]

logger = logging.getLogger(__name__)

MAX_PIXELS = 10_000
MAX_STEPS = 1_000


class StepRecord(BaseModel):
    """
    One step of a record. `box`, `mistake` and `correction` are ours; fields that are not listed are passed over.

    Args:
        image (`str`):
            File name in `images/`.
        thought (`str`):
            The thought.
        subtask (`str`):
            The action as a sentence.
        action (`str`):
            The call as JSON, with `name` and `arguments`.
        response (`str`, *optional*, defaults to `""`):
            The whole reply; it is made of the three parts before, and not read.
        box (`tuple[int, int, int, int]`, *optional*):
            What the call has to hit: left, top, right and bottom edge in pixels.
        mistake (`bool`, *optional*, defaults to `False`):
            See [`GuiStep`].
        correction (`bool`, *optional*, defaults to `False`):
            See [`GuiStep`].
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    image: str
    thought: str
    subtask: str
    action: str
    response: str = ""
    box: tuple[int, int, int, int] | None = Field(default=None, strict=False)
    mistake: bool = False
    correction: bool = False


class TrajectoryRecord(BaseModel):
    """
    One line of `data.jsonl`. `task` and `split` are ours; fields that are not listed are passed over.

    Args:
        app_name (`str`):
            App that it is about.
        trajectory_length (`int`):
            Number of steps.
        instruction (`str`):
            What the user asked for.
        system (`str`, *optional*, defaults to `""`):
            System prompt.
        image_width (`int`):
            Width of every screenshot in pixels.
        image_height (`int`):
            Height of every screenshot in pixels.
        trajectory (`list[StepRecord]`):
            The steps.
        task (`str`, *optional*, defaults to `""`):
            See [`GuiTrajectory`].
        split (`str`, *optional*, defaults to `""`):
            See [`GuiTrajectory`].
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    app_name: str
    trajectory_length: int
    instruction: str = Field(min_length=1)
    system: str = ""
    image_width: int = Field(ge=1, le=MAX_PIXELS)
    image_height: int = Field(ge=1, le=MAX_PIXELS)
    trajectory: list[StepRecord] = Field(min_length=1, max_length=MAX_STEPS)
    task: str = ""
    split: str = ""

    @model_validator(mode="after")
    def _check_length(self) -> "TrajectoryRecord":
        if self.trajectory_length != len(self.trajectory):
            raise ValueError(
                f"trajectory_length is {self.trajectory_length}, but there are {len(self.trajectory)} steps"
            )
        return self


def load_mobile_r1(
    folder: str | Path, skip_bad: bool = False, point_margin: float | None = None
) -> list[GuiTrajectory]:
    """
    Read trajectories in the form of the published Mobile-R1 data: a folder with `data.jsonl` and `images/`. Screenshots
    stay in their files; only their sizes are read.

    Args:
        folder (`str` or `Path`):
            The folder.
        skip_bad (`bool`, *optional*, defaults to `False`):
            Whether trajectories that cannot be used are left out, and how many and why is logged as a warning, instead of an
            error for the first of them.
        point_margin (`float`, *optional*):
            The published data has points and no boxes. With a margin, a step without a box gets one around its point that
            reaches as far to each side, as a share of the screen's width: 0.06 is half an icon.

    Returns:
        `list[GuiTrajectory]`: The trajectories in the order of the file.

    Raises:
        `ValueError`: If a trajectory cannot be used. The message names file, line and step.
        `FileNotFoundError`: If there is no `data.jsonl`.
    """
    root = Path(folder)
    trajectories: list[GuiTrajectory] = []
    problems: Counter[str] = Counter()
    for record, where in read_jsonl(root / "data.jsonl"):
        try:
            trajectories.append(_read(record, root / "images", point_margin))
        except _BadRecord as error:
            if not skip_bad:
                raise ValueError(f"{where}: {error}") from None
            problems[error.reason] += 1
    if problems:
        counts = ", ".join(f"{count} for {reason}" for reason, count in problems.most_common())
        logger.warning(
            "Left out %d of %d trajectories: %s", problems.total(), problems.total() + len(trajectories), counts
        )
    return trajectories


def save_mobile_r1(trajectories: Iterable[GuiTrajectory], folder: str | Path) -> int:
    """
    Write trajectories in the form that [`load_mobile_r1`] reads.

    Args:
        trajectories (`Iterable[GuiTrajectory]`):
            The trajectories, every step with its screenshot.
        folder (`str` or `Path`):
            Folder to make `data.jsonl` and `images/` in.

    Returns:
        `int`: Number of trajectories.

    Raises:
        `FileExistsError`: If there is a `data.jsonl` already.
        `ValueError`: If a step has no screenshot, or one of another size than its trajectory says.
    """
    root = Path(folder)
    data = root / "data.jsonl"
    if data.exists():
        raise FileExistsError(f"{data} is there already")
    (root / "images").mkdir(parents=True, exist_ok=True)
    # Under its name only when it is complete.
    unfinished = root / "data.jsonl.part"
    count = 0
    with open(unfinished, "w", encoding="utf-8") as file:
        for trajectory in trajectories:
            file.write(json.dumps(_record(trajectory, count, root / "images"), ensure_ascii=False) + "\n")
            count += 1
    os.replace(unfinished, data)
    return count


def resize_trajectory(trajectory: GuiTrajectory, size: tuple[int, int]) -> GuiTrajectory:
    """
    The same trajectory with screenshots, points and boxes of another size.

    Args:
        trajectory ([`GuiTrajectory`]):
            The trajectory.
        size (`tuple[int, int]`):
            Width and height to bring it to.

    Returns:
        [`GuiTrajectory`]: A point that was in its box still is.
    """
    old = (trajectory.image_width, trajectory.image_height)
    across, along = size[0] / old[0], size[1] / old[1]

    def resize(step: GuiStep) -> GuiStep:
        box = step.box and Box(
            math.floor(step.box[0] * across),
            math.floor(step.box[1] * along),
            math.ceil(step.box[2] * across),
            math.ceil(step.box[3] * along),
        )
        image = None if step.image is None else step.open_image().resize(size, PIL.Image.Resampling.BILINEAR)
        return replace(step, image=image, call=scale_action(step.call, old, size), box=box)

    steps = [resize(step) for step in trajectory.trajectory]
    return replace(trajectory, image_width=size[0], image_height=size[1], trajectory=steps)


class _BadRecord(Exception):
    """A trajectory that cannot be used: `reason` in a few words that many may share, the text in full."""

    def __init__(self, reason: str, told: str) -> None:
        super().__init__(told)
        self.reason = reason


def _read(values: dict[str, Any], images: Path, point_margin: float | None) -> GuiTrajectory:
    try:
        record = TrajectoryRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "record"
        raise _BadRecord("another form", f"{place}: {first['msg']}") from None
    size = (record.image_width, record.image_height)
    steps = []
    for number, step in enumerate(record.trajectory):
        try:
            steps.append(_read_step(step, images, size, point_margin))
        except _BadRecord as error:
            raise _BadRecord(error.reason, f"trajectory.{number}: {error}") from None
    texts = (record.app_name, record.instruction, record.system)
    return GuiTrajectory(*texts, *size, steps, task=record.task, split=record.split)


def _read_step(record: StepRecord, images: Path, size: tuple[int, int], point_margin: float | None) -> GuiStep:
    try:
        call = read_call(record.action, size)
        write_reply(record.thought, record.subtask, call)
    except ValueError as error:
        raise _BadRecord("a call or text that no reply can hold", str(error)) from None
    path = _image_path(record.image, images)
    try:
        with PIL.Image.open(path) as image:
            found = image.size
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise _BadRecord(
            "an image that cannot be read", f"image {record.image!r:.100}: {type(error).__name__}"
        ) from None
    if found != size:
        raise _BadRecord("an image of another size", f"image {record.image!r:.100} is {found}, not {size}")
    box = Box(*record.box) if record.box is not None else _box_around(call, size, point_margin)
    if box is not None and not (0 <= box.left <= box.right <= size[0] and 0 <= box.top <= box.bottom <= size[1]):
        raise _BadRecord("a box off the screen", f"box {list(box)} is none on a screen of {size}")
    return GuiStep(path, record.thought, record.subtask, call, box, record.mistake, record.correction)


def _image_path(name: str, images: Path) -> Path:
    """Where an image is. A name from a file must not lead anywhere else, not even by a link."""
    parts = PurePosixPath(name).parts
    path = images.joinpath(*(parts[1:] if parts[:1] == ("images",) else parts))
    if "\0" in name or not parts or not path.resolve().is_relative_to(images.resolve()):
        raise _BadRecord("an image outside images/", f"image {name!r:.100} is not a file of images/")
    return path


def _box_around(call: Action, size: tuple[int, int], margin: float | None) -> Box | None:
    if call.coordinate is None or margin is None:
        return None
    reach = round(margin * size[0])
    x, y = call.coordinate
    return Box(max(x - reach, 0), max(y - reach, 0), min(x + reach, size[0]), min(y + reach, size[1]))


def _record(trajectory: GuiTrajectory, number: int, images: Path) -> dict[str, Any]:
    size = (trajectory.image_width, trajectory.image_height)
    steps = []
    for i, step in enumerate(trajectory.trajectory):
        image: Image = step.open_image()
        if image.size != size:
            raise ValueError(f"trajectory {number}, step {i}: the screenshot is {image.size}, not {size}")
        name = f"{number:05d}_{i:02d}.png"
        image.save(images / name)
        steps.append(
            StepRecord(
                image=name,
                thought=step.thought,
                subtask=step.action,
                action=json.dumps(step.call.to_call(), ensure_ascii=False),
                response=write_reply(step.thought, step.action, step.call),
                box=step.box,
                mistake=step.mistake,
                correction=step.correction,
            )
        )
    record = TrajectoryRecord(
        app_name=trajectory.app_name,
        trajectory_length=len(steps),
        instruction=trajectory.instruction,
        system=trajectory.system,
        image_width=size[0],
        image_height=size[1],
        trajectory=steps,
        task=trajectory.task,
        split=trajectory.split,
    )
    return record.model_dump(exclude_none=True)
