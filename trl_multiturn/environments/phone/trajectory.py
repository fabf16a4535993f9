"""Recorded episodes of a GUI agent: [`GuiStep`] and [`GuiTrajectory`], in the form of the published Mobile-R1 data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
from PIL.Image import Image

from .actions import Action
from .layout import Box


@dataclass(frozen=True)
class GuiStep:
    """
    One step: what was seen, thought and done.

    Args:
        image (`PIL.Image.Image`, `Path` or `None`):
            Screenshot before the action, or the file it is in; `None` where it was not drawn.
        thought (`str`):
            State of the screen, next action and what it is for.
        action (`str`):
            The action as one sentence.
        call ([`Action`]):
            The action as a call, in pixels of the screenshot.
        box ([`Box`] or `None`, *optional*):
            What the call has to hit: the widget to tap or hold, or the area in which a swipe starts. `None` for calls without
            coordinates.
        mistake (`bool`, *optional*, defaults to `False`):
            Whether the action leads away from the goal on purpose. Such a step is part of the history, and never a target.
        correction (`bool`, *optional*, defaults to `False`):
            Whether the action undoes a mistake.
    """

    image: Image | Path | None
    thought: str
    action: str
    call: Action
    box: Box | None = None
    mistake: bool = False
    correction: bool = False

    def open_image(self) -> Image:
        """
        The screenshot.

        Returns:
            `PIL.Image.Image`: The image, read from its file if it is in one.

        Raises:
            `ValueError`: If it was not drawn.
        """
        if self.image is None:
            raise ValueError("the step has no screenshot")
        if isinstance(self.image, Image):
            return self.image
        with PIL.Image.open(self.image) as image:
            return image.convert("RGB")

    def ground_truth(self) -> dict[str, Any]:
        """
        What [`~trl_multiturn.rewards.gui.action_reward`] compares a reply with.

        Returns:
            `dict[str, Any]`: `"action"` and what counts of its arguments: `"box"`, `"direction"`, `"text"`, `"button"` or
            `"status"`.

        Raises:
            `ValueError`: If the call has coordinates and there is no box to hit.
        """
        truth: dict[str, Any] = {"action": self.call.action}
        if self.call.coordinate is not None:
            if self.box is None:
                raise ValueError(f"a {self.call.action} needs the box that it has to hit")
            truth["box"] = list(self.box)
        for name in ("direction", "text", "button", "status"):
            if getattr(self.call, name) is not None:
                truth[name] = getattr(self.call, name)
        return truth


@dataclass(frozen=True)
class GuiTrajectory:
    """
    An episode from the instruction to the last call.

    Args:
        app_name (`str`):
            App that it is about.
        instruction (`str`):
            What the user asked for.
        system (`str`):
            System prompt; may be empty.
        image_width (`int`):
            Width of every screenshot in pixels.
        image_height (`int`):
            Height of every screenshot in pixels.
        trajectory (`list[GuiStep]`):
            The steps, the last of them a `terminate`.
        task (`str`, *optional*, defaults to `""`):
            The phone's task as JSON; empty where it was no task of the phone.
        split (`str`, *optional*, defaults to `""`):
            Part of the data that it belongs to, such as `"train"`.
    """

    app_name: str
    instruction: str
    system: str
    image_width: int
    image_height: int
    trajectory: list[GuiStep] = field(default_factory=list)
    task: str = ""
    split: str = ""
