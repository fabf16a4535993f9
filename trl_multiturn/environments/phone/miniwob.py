"""[`MiniWoBEnvironment`]: third-party web tasks of the `miniwob` package, operated as the phone is."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..lost import EnvironmentLostError
from ..requirements import require
from .actions import Action, ActionError, check_action
from .backend import is_enter, key_of, point
from .browser import Browser, BrowserPage
from .environment import without_tokens


if TYPE_CHECKING:
    from datasets import Dataset

# Tasks that need nothing but clicks, text and the Enter key. Others want a mouse held down, or lists that only a browser with a
# window draws.
TASKS = (
    "click-button",
    "click-button-sequence",
    "click-checkboxes",
    "click-collapsible",
    "click-color",
    "click-dialog",
    "click-dialog-2",
    "click-link",
    "click-option",
    "click-shape",
    "click-tab",
    "click-test",
    "click-test-2",
    "click-widget",
    "enter-password",
    "enter-text",
    "focus-text",
    "focus-text-2",
    "grid-coordinate",
    "login-user",
    "navigate-tree",
    "simple-arithmetic",
)

# Part of the page that belongs to the task, in pixels.
SIZE = (160, 210)

# How long `wait` waits at most, in seconds: nothing on these pages takes longer.
LONGEST_WAIT = 2.0

# Starts a task. The pages' own limit of ten seconds is for people: it is set as high as a timer can be.
_START = """seed => {
  core.EPISODE_MAX_TIME = 2147483647;
  Math.seedrandom(seed);
  core.startEpisodeReal();
  return core.getUtterance();
}"""
_RESULT = "() => [WOB_DONE_GLOBAL, WOB_RAW_REWARD_GLOBAL]"


class MiniWoBEnvironment:
    """
    A task of MiniWoB++ as a TRL environment: a web page of 160 by 210 pixels in headless Chromium, an instruction, and the tool of the
    phone. Clicks, text and keys are real ones; a swipe turns the mouse's wheel. The page itself says when the task is over and what
    was reached, from -1 to 1. See [Reinforcement Learning on Web Interfaces using Workflow-Guided
    Exploration](https://huggingface.co/papers/1802.08802).

    Needs `pip install trl-multiturn[browser,miniwob]` and a Chromium. The row must have the columns `task_name` and `seed`; see
    [`miniwob_dataset`].

    Args:
        max_steps (`int`, *optional*, defaults to `10`):
            Actions after which the episode is cut off.
        executable (`str`, *optional*):
            Path of the browser's program.

    Raises:
        `ValueError`: For `max_steps` out of its range, and from `reset` for a row whose columns are none of these.
        [`EnvironmentLostError`]: From the tool, if the browser fails.

    Attributes:
        instruction (`str`):
            What the page asks for.
        screenshots (`list[PIL.Image.Image]`):
            What the model has seen, in order.
        actions (`list[tuple[Action | None, str | None]]`):
            What the model did, and the error if there was one.
        turn_rewards (`list[float]`):
            One number an action: what the page gave for it, 0 while the task goes on.
        success (`bool`):
            Whether the page gave more than 0.
        terminated (`bool`):
            Whether the page or the model has ended the episode.
        truncated (`bool`):
            Whether `max_steps` actions are done.
    """

    def __init__(self, max_steps: int = 10, executable: str | None = None) -> None:
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise ValueError(f"`max_steps` must be a whole number from 1 on, got {max_steps!r}.")
        self._pages = Path(str(require("miniwob", "miniwob").__file__)).parent / "html" / "miniwob"
        self._max_steps = max_steps
        self._executable = executable
        self._page: BrowserPage | None = None
        self.instruction = ""
        self.screenshots: list[Image.Image] = []
        self.actions: list[tuple[Action | None, str | None]] = []
        self.turn_rewards: list[float] = []
        self.terminated = False

    def reset(self, **row: Any) -> list[dict[str, Any]]:
        name, seed = row.get("task_name"), row.get("seed")
        if name not in TASKS:
            raise ValueError(f"`task_name` must be one of {', '.join(TASKS)}, got {name!r}.")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"`seed` must be a whole number, got {seed!r}.")
        self.screenshots, self.actions, self.turn_rewards, self.terminated = [], [], [], False
        try:
            self.instruction = self._start(self._page, name, seed)
        except EnvironmentLostError:
            self._page = Browser.shared_page(self._executable, SIZE, touch=False)
            self.instruction = self._start(self._page, name, seed)
        return [*self._look(), {"type": "text", "text": self.instruction}]

    def mobile_use(
        self,
        action: str,
        coordinate: list[int] | None = None,
        coordinate2: list[int] | None = None,
        text: str | None = None,
        time: float | None = None,
        button: str | None = None,
        status: str | None = None,
    ) -> list[dict[str, Any]]:
        """
        Do one action on the page.

        Args:
            action: What to do. (choices: ["click", "swipe", "type", "key", "system_button", "wait", "terminate"])
            coordinate: [x, y] to click, or where a swipe starts.
            coordinate2: [x, y] where a swipe ends.
            text: Text to type, or name of a key.
            time: Seconds to wait.
            button: System button to press. (choices: ["Enter"])
            status: How the task ended. (choices: ["success", "failure"])

        Returns:
            The page after the action.
        """
        if self.terminated or self.truncated:
            raise ActionError("The episode is over.")
        given = {"action": action, "coordinate": coordinate, "coordinate2": coordinate2, "text": text, "time": time}
        checked = None
        try:
            checked = check_action({**given, "button": button, "status": status}, SIZE)
            done, reward = self._perform(checked)
        except ActionError as error:
            safe = without_tokens(str(error))
            self._record(checked, safe, 0.0)
            raise ActionError(safe) from None
        except EnvironmentLostError:
            self._record(checked, "The page is gone.", 0.0)
            raise
        self._record(checked, None, reward)
        self.terminated = done or checked.action == "terminate"
        if self.terminated or self.truncated:
            return [{"type": "text", "text": "The episode is over."}]
        return self._look()

    @property
    def success(self) -> bool:
        """Whether the page gave more than 0."""
        return sum(self.turn_rewards) > 0

    @property
    def truncated(self) -> bool:
        """Whether the steps are used up."""
        return not self.terminated and len(self.actions) >= self._max_steps

    def _start(self, page: BrowserPage | None, name: str, seed: int) -> str:
        if page is None:
            raise EnvironmentLostError("There is no page yet.")
        url = (self._pages / f"{name}.html").as_uri()

        async def work(handle: Any, _: Any) -> str:
            await handle.goto(url)
            return await handle.evaluate(_START, str(seed))

        return without_tokens(page.run(work))

    def _perform(self, action: Action) -> tuple[bool, float]:
        """Carry out an action; whether the task is over, and what for."""
        assert self._page is not None
        if action.action == "open" or (action.action == "system_button" and not is_enter(action)):
            raise ActionError("This is a page, not a phone: there are no apps, and no buttons but Enter.")
        if action.action == "key" and key_of(action) not in ("enter", "backspace"):
            raise ActionError("The keys of this page are enter and backspace.")

        async def work(handle: Any, _: Any) -> list[Any]:
            await _act(handle, action)
            return await handle.evaluate(_RESULT)

        done, reward = self._page.run(work)
        return bool(done), float(reward) if done else 0.0

    def _look(self) -> list[dict[str, Any]]:
        assert self._page is not None
        self.screenshots.append(self._page.screenshot())
        return [{"type": "image", "image": self.screenshots[-1]}]

    def _record(self, action: Action | None, error: str | None, reward: float) -> None:
        self.actions.append((action, error))
        self.turn_rewards.append(reward)


async def _act(handle: Any, action: Action) -> None:
    if action.action in ("click", "long_press"):
        # Nothing on these pages tells a long press from a click.
        await handle.mouse.click(*point(action))
    elif action.action == "swipe":
        start, end = point(action), point(action, "coordinate2")
        await handle.mouse.move(*start)
        await handle.mouse.wheel(start[0] - end[0], start[1] - end[1])
        await handle.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    elif action.action == "type":
        await handle.keyboard.type(action.text or "")
    elif action.action == "wait":
        await handle.wait_for_timeout(1000 * min(action.time or 0, LONGEST_WAIT))
    elif action.action != "terminate":
        await handle.keyboard.press("Enter" if is_enter(action) else "Backspace")


def miniwob_dataset(names: Sequence[str] = TASKS, seeds: Sequence[int] = range(10)) -> "Dataset":
    """
    Tasks of MiniWoB++ as a dataset.

    Args:
        names (sequence of `str`, *optional*, defaults to [`TASKS`]):
            Names of tasks.
        seeds (sequence of `int`, *optional*, defaults to `range(10)`):
            Seeds of each task: other words, other places on the page.

    Returns:
        `datasets.Dataset`: Columns `prompt` (one user message), `task_name` and `seed`. The page's own instruction comes with its first
        screenshot.
    """
    from datasets import Dataset

    prompt = [{"role": "user", "content": [{"type": "text", "text": "Do what the page asks for."}]}]
    rows = [{"prompt": prompt, "task_name": name, "seed": seed} for seed in seeds for name in names]
    return Dataset.from_list(rows)
