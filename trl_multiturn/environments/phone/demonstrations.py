"""Demonstrations on the phone, made by the oracle: shortest ways to the goal, and mistakes that are noticed and put right."""

import difflib
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from PIL import Image

from .actions import Action, CoordinateSpace, scale_action
from .backend import StateBackend
from .demonstration_texts import Language, widget_of, write_end, write_step
from .layout import HEIGHT, LINE, WIDTH, Box, body_box
from .oracle import Oracle, Step, apply
from .pillow_renderer import render as render_state
from .prompt import system_prompt
from .state import PhoneState
from .task import PhoneTask
from .trajectory import GuiStep, GuiTrajectory


# Apps that no training task is about, and the share of the other tasks that is kept for tests.
UNSEEN_APPS = ("Messages", "Live")
TEST_SHARE = 0.2

MAX_MISTAKES = 3

# Steps of the longest demonstration, and by how much a mistake may lengthen the way to the goal.
MAX_STEPS = 40
MAX_DETOUR = 4

# Seconds for which something is held.
HOLD = 1.0


def demonstrate(
    task: PhoneTask,
    rng: random.Random,
    mistakes: float = 0.0,
    language: Language = "en",
    scale: float = 1.0,
    render: Callable[[PhoneState], Image.Image] | None = render_state,
    coordinate_space: CoordinateSpace = "pixel",
) -> GuiTrajectory:
    """
    Do a task on the phone as the oracle would.

    Args:
        task ([`PhoneTask`]):
            What is to be done.
        rng (`random.Random`):
            Where wording and mistakes are drawn from. Which right step is taken never depends on it: the same screen of the same task
            has the same answer in every demonstration.
        mistakes (`float`, *optional*, defaults to `0.0`):
            Probability at each step of a wrong but likely one instead: something with a similar name, another tab, a stray Back, half
            of a text. It never does harm that lasts. At most [`MAX_MISTAKES`], never two in a row.
        language (`str`, *optional*, defaults to `"en"`):
            `"en"` or `"zh"`: language of the instruction and of what is said.
        scale (`float`, *optional*, defaults to `1.0`):
            Size of the screenshots relative to the screen, as for [`PhoneEnvironment`].
        render (`Callable`, *optional*, defaults to [`pillow_renderer.render`]):
            Draws a state; `None` for trajectories without images.
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            What the system prompt says of points. The calls are in pixels of the screenshots anyway.

    Returns:
        [`GuiTrajectory`]: The way to the goal, with `terminate` at the end.

    Raises:
        `ValueError`: If an argument is out of its range, or the oracle knows no way.
    """
    if not 0 <= mistakes < 1:
        raise ValueError(f"`mistakes` must be at least 0 and less than 1, got {mistakes!r}.")
    if not 0.1 <= scale <= 1:
        raise ValueError(f"`scale` must be from 0.1 to 1, got {scale!r}.")
    oracle, backend = Oracle(task), StateBackend()
    backend.reset(task.initial_state())
    size = round(WIDTH * scale), round(HEIGHT * scale)
    steps: list[GuiStep] = []
    # Distance of the goal when the mistake was made that is not yet put right.
    lost_at: int | None = None
    while (distance := oracle.distance(backend.state)) != 0:
        if distance is None or len(steps) == MAX_STEPS:
            raise ValueError(f"The oracle knows no way to the goal of {task.name}: {task.instruction}")
        before = backend.state.copy()
        right = oracle.optimal_steps(before)[0]
        wrong = None
        if lost_at is None and sum(step.mistake for step in steps) < MAX_MISTAKES and rng.random() < mistakes:
            wrong = _wrong_step(before, right, oracle, rng)
        call, box = call_of_step(before, wrong or right, size)
        backend.perform(scale_action(call, size, backend.size))
        done = task.is_done(backend.state)
        after_mistake = bool(steps) and steps[-1].mistake
        texts = write_step(before, wrong or right, backend.state, done, after_mistake, language, rng)
        image = _draw(before, size, render)
        steps.append(GuiStep(image, *texts, call, box, wrong is not None, lost_at is not None))
        if wrong is not None:
            lost_at = distance
        elif lost_at is not None and distance <= lost_at + 1:
            lost_at = None
    end = Action("terminate", status="success")
    steps.append(GuiStep(_draw(backend.state, size, render), *write_end(backend.state, language, rng), end))
    instruction = task.instruction if language == "en" else task.instruction_zh
    system = system_prompt(size, coordinate_space)
    return GuiTrajectory(task.app, instruction, system, *size, steps, task.to_json(), task_split(task))


def demonstrations(
    tasks: Iterable[PhoneTask],
    seed: int = 0,
    mistakes: float = 0.0,
    language: Language = "en",
    scale: float = 1.0,
    render: Callable[[PhoneState], Image.Image] | None = render_state,
    coordinate_space: CoordinateSpace = "pixel",
) -> Iterator[GuiTrajectory]:
    """
    Do tasks one after the other: see [`demonstrate`].

    Args:
        tasks (`Iterable[PhoneTask]`):
            The tasks.
        seed (`int`, *optional*, defaults to `0`):
            Seed of wording and mistakes. They do not depend on which other tasks there are.
        mistakes, language, scale, render, coordinate_space (*optional*):
            As for [`demonstrate`].

    Yields:
        [`GuiTrajectory`]: A demonstration of each.
    """
    for task in tasks:
        rng = random.Random(f"{seed}/{task.name}/{task.instruction}")
        yield demonstrate(task, rng, mistakes, language, scale, render, coordinate_space)


def task_split(task: PhoneTask, unseen_apps: Sequence[str] = UNSEEN_APPS, test_share: float = TEST_SHARE) -> str:
    """
    Which part of the data a task belongs to. It follows from the task's instruction alone, so that tasks drawn with other seeds or
    counts never stand in two parts.

    Args:
        task ([`PhoneTask`]):
            The task.
        unseen_apps (sequence of `str`, *optional*, defaults to [`UNSEEN_APPS`]):
            Apps that no training task is about.
        test_share (`float`, *optional*, defaults to [`TEST_SHARE`]):
            Share of the tasks in other apps that is for tests.

    Returns:
        `str`: `"train"`, `"test"`, or `"unseen"` for a test in an unseen app.
    """
    if task.app in unseen_apps:
        return "unseen"
    digest = hashlib.sha256(f"{task.name}/{task.instruction}".encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2**64 else "train"


# --- from steps to calls


def call_of_step(state: PhoneState, step: Step, size: tuple[int, int]) -> tuple[Action, Box | None]:
    """
    A step as a call.

    Args:
        state ([`PhoneState`]):
            The phone when it is taken: what is to be tapped or held must be in sight.
        step ([`Step`]):
            The step.
        size (`tuple[int, int]`):
            Width and height of the screenshot in pixels.

    Returns:
        `tuple[Action, Box | None]`: The call in pixels of the screenshot, and the box that it has to hit.
    """
    box: Box | None = None
    if step.kind in ("tap", "long_press"):
        box = next(box for widget, box in state.in_sight() if widget.id == step.target)
        action = Action("click", box.center) if step.kind == "tap" else Action("long_press", box.center, time=HOLD)
    elif step.kind == "scroll":
        box = body_box(state.screen())
        x, low, high = box.center[0], box.bottom - LINE // 2, box.top + LINE // 2
        # All but a line of what is in sight; what goes beyond the end of the list is lost.
        start, end = (low, high) if step.amount > 0 else (high, low)
        action = Action("swipe", (x, start), (x, end))
    elif step.kind in ("type", "open"):
        action = Action(step.kind, text=step.target)
    else:
        action = Action("system_button", button=step.kind.capitalize())
    scaled = scale_action(action, (WIDTH, HEIGHT), size)
    return scaled, _scale_box(box, size) if box is not None else None


def _scale_box(box: Box, size: tuple[int, int]) -> Box:
    across, along = size[0] / WIDTH, size[1] / HEIGHT
    return Box(round(box.left * across), round(box.top * along), round(box.right * across), round(box.bottom * along))


def _draw(
    state: PhoneState, size: tuple[int, int], render: Callable[[PhoneState], Image.Image] | None
) -> Image.Image | None:
    if render is None:
        return None
    image = render(state)
    return image if image.size == size else image.resize(size, Image.Resampling.BOX)


# --- mistakes


def _wrong_step(state: PhoneState, right: Step, oracle: Oracle, rng: random.Random) -> Step | None:
    """A likely mistake in place of a right step, from which there is a way back; `None` if there is none."""
    distance = oracle.distance(state) or 0
    weights = _candidates(state, right)
    for optimal in oracle.optimal_steps(state):
        weights.pop(optimal, None)
    while weights:
        step = rng.choices(list(weights), list(weights.values()))[0]
        del weights[step]
        after = apply(state, step)
        detour = oracle.distance(after) if not oracle.task.side_effects(after) and _differs(state, after) else None
        if detour is not None and distance <= detour <= distance + MAX_DETOUR:
            return step
    return None


def _candidates(state: PhoneState, right: Step) -> dict[Step, float]:
    """Steps that a distracted person might take in place of the right one, with how likely they are."""
    if right.kind == "type":
        words = right.target.split()
        shorter = " ".join(words[:-1]) if len(words) > 1 else right.target[: len(right.target) // 2]
        return {Step("type", shorter): 1.0} if shorter else {}
    touched = right.kind in ("tap", "long_press")
    meant = widget_of(state, right.target).text if touched else ""
    weights: dict[Step, float] = {}
    for widget, _ in state.in_sight():
        alike = difflib.SequenceMatcher(None, meant.casefold(), widget.text.casefold()).ratio()
        weights[Step(right.kind if right.kind == "long_press" else "tap", widget.id)] = 0.1 + 3 * alike**3
    if state.app is not None:
        weights[Step("back")] = 0.3
    return weights


def _differs(before: PhoneState, after: PhoneState) -> bool:
    """Whether a step changed anything that can be seen."""
    return (before.screen(), before.scroll, before.focus) != (after.screen(), after.scroll, after.focus)
