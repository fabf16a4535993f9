"""The buffer of failed tasks: which are stored, replayed, and let go. Pure Python, equal on every process."""

import math
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class FailedTask:
    """
    A task that was failed. Times are numbers of generation batches since the training began.

    Args:
        task_id (`str`):
            Its name.
        row (`str`):
            Its dataset row as text ([`encode_row`]).
        admitted_at (`int`):
            When it was stored.
        rolled_out_at (`int`):
            When it was last rolled out, as a replay or otherwise.
        failures (`int`):
            How often its group met the rule of admission.
        replays (`int`):
            How often it was replayed.
        best_outcome (`float`):
            Highest outcome of any of its rollouts since it was stored, that batch included.
        stop_reason (`str`):
            Why most of its rollouts that did not succeed ended, when it last failed.
        first_bad_turn (`int` or `None`):
            In which turn, counted from 0, most of them went wrong.
    """

    task_id: str
    row: str
    admitted_at: int
    rolled_out_at: int
    failures: int
    replays: int
    best_outcome: float
    stop_reason: str
    first_bad_turn: int | None


@dataclass(frozen=True)
class TaskResult:
    """
    How the group of a task fared in one generation batch.

    Args:
        task_id (`str`):
            Name of the task.
        row (`str` or `None`):
            Its dataset row as text; `None` if [`FailureBuffer.wants`] said that it isn't needed.
        outcomes (`Sequence[float]`):
            Outcome of each rollout; NaN for a missing one.
        stop_reasons (`Sequence[str]`):
            Why each rollout ended.
        bad_turns (`Sequence[int | None]`):
            For each rollout, the turn in which it went wrong.
        replayed (`bool`):
            Whether it was rolled out because the buffer asked for it.
    """

    task_id: str
    row: str | None
    outcomes: Sequence[float]
    stop_reasons: Sequence[str]
    bad_turns: Sequence[int | None]
    replayed: bool


class FailureBuffer:
    """
    Failed tasks, each under its name. What it holds and draws is a function of what it was told, so that every process of a
    run has the same one.

    Args:
        capacity (`int`):
            Largest number of tasks.
        admission (`str`):
            `"all_fail"`, `"mean_below"` or `"any_fail"`: see [`ReplayArguments`].
        sampling (`str`):
            `"least_recent"`, `"uniform"` or `"failure_count"`: see [`ReplayArguments`].
        graduate_at (`float`):
            Success rate from which a task is let go.
        max_replays (`int`):
            Replays after which a task is given up.
        success_threshold (`float`):
            Outcome from which a rollout succeeds.
        seed (`int`):
            Seed of what is drawn.

    Attributes:
        graduated (`int`):
            Number of tasks that were let go because they are solved often enough.
        retired (`set[str]`):
            Names of the tasks that were given up. They are not stored again.
        evicted (`int`):
            Number of tasks that were dropped for want of room.
    """

    def __init__(
        self,
        capacity: int,
        admission: str,
        sampling: str,
        graduate_at: float,
        max_replays: int,
        success_threshold: float,
        seed: int,
    ) -> None:
        self.capacity = capacity
        self.admission = admission
        self.sampling = sampling
        self.graduate_at = graduate_at
        self.max_replays = max_replays
        self.success_threshold = success_threshold
        self.seed = seed
        self.graduated = 0
        self.evicted = 0
        self.retired: set[str] = set()
        self._tasks: dict[str, FailedTask] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._tasks

    @property
    def tasks(self) -> list[FailedTask]:
        """The stored tasks, in the order in which they came."""
        return list(self._tasks.values())

    def mean_age(self, now: int) -> float:
        """Mean number of generation batches since the tasks were stored; 0 if there are none."""
        return sum(now - task.admitted_at for task in self.tasks) / len(self) if self._tasks else 0.0

    def success_rate(self, outcomes: Sequence[float]) -> float:
        """
        Share of the rollouts that succeeded.

        Args:
            outcomes (`Sequence[float]`):
                Outcome of each rollout; missing ones (NaN) don't count.

        Returns:
            `float`: NaN if all are missing.
        """
        known = [outcome for outcome in outcomes if not math.isnan(outcome)]
        return sum(map(self._succeeds, known)) / len(known) if known else math.nan

    def wants(self, task_id: str, outcomes: Sequence[float]) -> bool:
        """
        Whether [`update`] will store this task, and so needs its row.

        Args:
            task_id (`str`):
                Name of the task.
            outcomes (`Sequence[float]`):
                Outcome of each rollout.

        Returns:
            `bool`
        """
        return task_id not in self._tasks and task_id not in self.retired and self._is_failure(outcomes)

    def update(self, results: Sequence[TaskResult], now: int) -> None:
        """
        Take in a generation batch: store, let go, give up, and drop what is too much.

        Args:
            results (`Sequence[TaskResult]`):
                Every group of the batch, in its order.
            now (`int`):
                Number of the batch.
        """
        for result in results:
            task = self._tasks.get(result.task_id)
            if task is not None:
                self._revise(task, result, now)
            elif self.wants(result.task_id, result.outcomes):
                self._admit(result, now)
        while len(self._tasks) > self.capacity:
            # `max` takes the first of equals, which is the one that came first.
            del self._tasks[max(self.tasks, key=lambda task: task.replays).task_id]
            self.evicted += 1

    def sample(self, count: int, now: int, exclude: Collection[str] = ()) -> list[FailedTask]:
        """
        Draw tasks to replay, none twice.

        Args:
            count (`int`):
                How many, if there are as many.
            now (`int`):
                Number of the generation batch; with the seed it decides what is drawn.
            exclude (`Collection[str]`, *optional*):
                Names of tasks that must not be drawn.

        Returns:
            `list[FailedTask]`
        """
        tasks = [task for task in self.tasks if task.task_id not in exclude]
        count = min(count, len(tasks))
        rng = random.Random(f"{self.seed} {now}")
        if self.sampling == "least_recent":
            return sorted(tasks, key=lambda task: task.rolled_out_at)[:count]
        if self.sampling == "uniform":
            return rng.sample(tasks, count)
        # Without replacement, in proportion to the failures (Efraimidis and Spirakis, 2006).
        keys = {task.task_id: math.log(1.0 - rng.random()) / task.failures for task in tasks}
        return sorted(tasks, key=lambda task: keys[task.task_id], reverse=True)[:count]

    def state(self) -> dict[str, Any]:
        """All that the buffer holds, as JSON values."""
        return {
            "tasks": [asdict(task) for task in self.tasks],
            "retired": sorted(self.retired),
            "graduated": self.graduated,
            "evicted": self.evicted,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """
        Take up what [`state`] returned.

        Args:
            state (`dict[str, Any]`):
                JSON values.
        """
        tasks = [FailedTask(**task) for task in state["tasks"]]
        self._tasks = {task.task_id: task for task in tasks}
        self.retired = set(state["retired"])
        self.graduated = state["graduated"]
        self.evicted = state["evicted"]

    def _succeeds(self, outcome: float) -> bool:
        return outcome >= self.success_threshold

    def _is_failure(self, outcomes: Sequence[float]) -> bool:
        known = [outcome for outcome in outcomes if not math.isnan(outcome)]
        if not known:
            return False  # nothing was measured
        if self.admission == "mean_below":
            return sum(known) / len(known) < self.success_threshold
        return not (any if self.admission == "all_fail" else all)(map(self._succeeds, known))

    def _admit(self, result: TaskResult, now: int) -> None:
        assert result.row is not None
        reason, turn = self._why(result)
        self._tasks[result.task_id] = FailedTask(
            task_id=result.task_id,
            row=result.row,
            admitted_at=now,
            rolled_out_at=now,
            failures=1,
            replays=0,
            best_outcome=_best(result.outcomes),
            stop_reason=reason,
            first_bad_turn=turn,
        )

    def _revise(self, task: FailedTask, result: TaskResult, now: int) -> None:
        task.rolled_out_at = now
        task.replays += result.replayed
        success = self.success_rate(result.outcomes)
        if success >= self.graduate_at:
            del self._tasks[task.task_id]
            self.graduated += 1
            return
        if not math.isnan(success):
            task.best_outcome = max(task.best_outcome, _best(result.outcomes))
        if self._is_failure(result.outcomes):
            task.failures += 1
            task.stop_reason, task.first_bad_turn = self._why(result)
        if task.replays >= self.max_replays:
            del self._tasks[task.task_id]
            self.retired.add(task.task_id)

    def _why(self, result: TaskResult) -> tuple[str, int | None]:
        """Why and where most rollouts that did not succeed went wrong; of equals, what comes first in the group."""
        failed = [
            (reason, turn)
            for outcome, reason, turn in zip(result.outcomes, result.stop_reasons, result.bad_turns, strict=True)
            if not math.isnan(outcome) and not self._succeeds(outcome)
        ]
        return Counter(failed).most_common(1)[0][0]


def _best(outcomes: Sequence[float]) -> float:
    return max(outcome for outcome in outcomes if not math.isnan(outcome))
