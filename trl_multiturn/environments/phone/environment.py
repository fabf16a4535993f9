"""[`PhoneEnvironment`]: a phone as a TRL environment, with a screenshot for an observation and one tool to act with."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from PIL import Image

from ..lost import EnvironmentLostError
from .actions import Action, ActionError, CoordinateSpace, check_action, scale_action
from .backend import PhoneBackend, StateBackend
from .oracle import Oracle
from .state import AppError, PhoneState
from .task import PhoneTask
from .task_check import check_setup


class PhoneEnvironment:
    """
    A phone that a vision-language model operates. It sees a screenshot after each action and acts through one tool in the
    schema of Qwen's `mobile_use`. An action that cannot be carried out is answered with an error in words; the screen stays.

    The row must have a column `task`, what [`PhoneTask.to_json`] gives; without one the backend is used as it is, and nothing
    is known about success. Pass a class or `functools.partial(PhoneEnvironment, scale=0.5)` as `environment_factory`.

    Args:
        backend (`Callable[[], PhoneBackend]`, *optional*, defaults to [`StateBackend`]):
            Makes what carries out actions and draws the screen: [`StateBackend`], `ChromiumBackend` or `AdbBackend`.
        scale (`float`, *optional*, defaults to `1.0`):
            Size of the screenshots relative to the screen.
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            Points of the model are in pixels of the screenshot; or `"norm1000"`: from 0 to 1000 along either edge.
        max_steps (`int`, *optional*, defaults to `15`):
            Actions after which the episode is cut off.
        progress_reward (`float`, *optional*, defaults to `0.0`):
            What a turn is worth for each step by which it brings the phone nearer to the goal, counted by the shortest
            way; minus as much for a step away. 0 leaves all credit to the reward functions: there are no `turn_rewards` then.

    Raises:
        `ValueError`: For an argument out of its range, and from `reset` for a row whose `task` is none, or one that its apps
            cannot show.
        [`EnvironmentLostError`]: From the tool, if the phone fails.

    Attributes:
        task ([`PhoneTask`] or `None`):
            What is to be done.
        instruction (`str`):
            The row's column `instruction`, or the task's in English.
        screenshots (`list[PIL.Image.Image]`):
            What the model has seen, in order.
        states (`list[PhoneState]`):
            The phone at the start and after each action; empty on a real device.
        actions (`list[tuple[Action | None, str | None]]`):
            What the model did, in pixels of the screenshot, and the error if there was one.
        finished (`str` or `None`):
            What the model said when it ended the episode: `"success"` or `"failure"`.
        terminated (`bool`):
            Whether the model has ended the episode.
        truncated (`bool`):
            Whether `max_steps` actions are done.
        turn_rewards (`list[float]`):
            One number an action. Only with a `progress_reward`.
    """

    def __init__(
        self,
        backend: Callable[[], PhoneBackend] = StateBackend,
        scale: float = 1.0,
        coordinate_space: CoordinateSpace = "pixel",
        max_steps: int = 15,
        progress_reward: float = 0.0,
    ) -> None:
        if not 0.1 <= scale <= 1.0:
            raise ValueError(f"`scale` must be from 0.1 to 1, got {scale!r}.")
        if coordinate_space not in ("pixel", "norm1000"):
            raise ValueError(f"`coordinate_space` must be 'pixel' or 'norm1000', got {coordinate_space!r}.")
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise ValueError(f"`max_steps` must be a whole number from 1 on, got {max_steps!r}.")
        self._backend = backend()
        self._scale = scale
        self._space: CoordinateSpace = coordinate_space
        self._max_steps = max_steps
        self._progress_reward = progress_reward
        self._oracle: Oracle | None = None
        self.task: PhoneTask | None = None
        self.instruction = ""
        self.screenshots: list[Image.Image] = []
        self.states: list[PhoneState] = []
        self.actions: list[tuple[Action | None, str | None]] = []
        self.finished: str | None = None
        if progress_reward:
            self.turn_rewards: list[float] = []

    def reset(self, **row: Any) -> list[dict[str, Any]]:
        # No docstring section for arguments: of the columns that TRL passes, `task` and `instruction` matter.
        text = row.get("task")
        if not isinstance(text, str | None):
            raise ValueError(f"The column `task` must hold texts, got {type(text).__name__}.")
        self.task = _read_task(text) if text is not None else None
        self._oracle = Oracle(self.task) if self.task is not None and self._progress_reward else None
        self.instruction = row.get("instruction") or (self.task.instruction if self.task is not None else "")
        self.screenshots, self.states, self.actions, self.finished = [], [], [], None
        if self._progress_reward:
            self.turn_rewards = []
        self._backend.reset(self.task.initial_state() if self.task is not None else None)
        self._remember_state()
        return self._look()

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
        Do one action on the phone.

        Args:
            action: What to do. (choices: ["click", "long_press", "swipe", "type", "key", "system_button", "open", "wait", "terminate"])
            coordinate: [x, y] to click or hold, or where a swipe starts.
            coordinate2: [x, y] where a swipe ends.
            text: Text to type, name of a key, or name of an app to open.
            time: Seconds to hold or wait.
            button: System button to press. (choices: ["Back", "Home", "Menu", "Enter"])
            status: How the task ended. (choices: ["success", "failure"])

        Returns:
            The screen after the action.
        """
        if self.terminated or self.truncated:
            raise ActionError("The episode is over.")
        given = (action, coordinate, coordinate2, text, time, button, status)
        names = ("action", "coordinate", "coordinate2", "text", "time", "button", "status")
        checked = None
        try:
            checked = check_action(dict(zip(names, given, strict=True)), self._size, self._space)
            message = self._perform(checked)
        except ActionError as error:
            safe = without_tokens(str(error))
            self._record(checked, safe)
            raise ActionError(safe) from None
        except EnvironmentLostError:
            self._record(checked, "The phone is gone.")
            raise
        self._record(checked, None)
        if self.terminated or self.truncated:
            return [{"type": "text", "text": "The episode is over."}]
        seen = self._look()
        return [*seen, {"type": "text", "text": without_tokens(message)}] if message else seen

    @property
    def state(self) -> PhoneState | None:
        """The phone now; `None` on a real device, and before the first reset."""
        # TRL 1.14 reads all properties of an environment while it looks for tools, before any reset.
        return self._backend.state if self.task is not None else None

    @property
    def is_done(self) -> bool | None:
        """Whether the goal is reached; `None` if that cannot be known."""
        if self.task is None or self.state is None:
            return None
        return self.task.is_done(self.state)

    @property
    def side_effects(self) -> list[str]:
        """Paths of data that has changed though the task did not ask for it."""
        return self.task.side_effects(self.state) if self.task is not None and self.state is not None else []

    @property
    def terminated(self) -> bool:
        """Whether the model has ended the episode."""
        return self.finished is not None

    @property
    def truncated(self) -> bool:
        """Whether the steps are used up."""
        return not self.terminated and len(self.actions) >= self._max_steps

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the screenshots in pixels."""
        return self._size

    @property
    def coordinate_space(self) -> CoordinateSpace:
        """What the points of the model's actions are in."""
        return self._space

    @property
    def _size(self) -> tuple[int, int]:
        width, height = self._backend.size
        return round(width * self._scale), round(height * self._scale)

    def _perform(self, action: Action) -> str:
        if action.action == "terminate":
            self.finished = action.status
            return ""
        return self._ask(self._backend.perform, scale_action(action, self._size, self._backend.size))

    def _look(self) -> list[dict[str, Any]]:
        screenshot = self._ask(self._backend.screenshot)
        if screenshot.size != self._size:
            screenshot = screenshot.resize(self._size, Image.Resampling.BOX)
        self.screenshots.append(screenshot)
        return [{"type": "image", "image": screenshot}]

    def _ask(self, method: Callable, *arguments: Any) -> Any:
        """Call a method of the backend. What breaks in there ends this episode, and neither the others nor the training."""
        try:
            return method(*arguments)
        except (ActionError, EnvironmentLostError):
            raise
        except Exception as error:  # an app or a renderer, at data that may come from a file
            said = str(error) if isinstance(error, AppError) else f"{type(error).__name__}: {error}"
            raise EnvironmentLostError(f"The phone is lost: {said:.500}") from error

    def _record(self, action: Action | None, error: str | None) -> None:
        self.actions.append((action, error))
        before = self.states[-1] if self.states else None
        self._remember_state()
        if self._progress_reward:
            self.turn_rewards.append(self._progress(before))

    def _remember_state(self) -> None:
        if self.state is not None:
            self.states.append(self.state.copy())

    def _progress(self, before: PhoneState | None) -> float:
        if self._oracle is None or before is None:
            return 0.0
        # With no way to the goal left, the phone counts as farther away than before it was lost by one step.
        far, near = self._oracle.distance(before), self._oracle.distance(self.states[-1])
        if far is None or near is None:
            return self._progress_reward * ((far is None) - (near is None))
        return self._progress_reward * (far - near)


@lru_cache(maxsize=1024)
def _read_task(text: str) -> PhoneTask:
    """A task of a row; rows come again and again, and it takes a while to try a phone out."""
    task = PhoneTask.from_json(text)
    check_setup(task)
    return task


def without_tokens(text: str) -> str:
    """Text that came from a model or an app, with nothing in it that a tokenizer takes for a special token."""
    return text.replace("<|", "< |").replace("<tool_", "< tool_").replace("</tool_", "< /tool_")
