"""[`ReplayMixin`]: makes a trainer roll the tasks it failed out again."""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers.utils import logging

from ..hooks import TurnHooks
from ..reward_funcs import weighted_rewards
from ..rollouts import Rollouts, StopReason
from .blame import first_bad_turn
from .config import ReplayArguments
from .failures import FailureBuffer, TaskResult
from .rows import content_hash, decode_row, encode_row


logger = logging.get_logger(__name__)


class ReplayMixin(TurnHooks):
    """
    Adds failure replay to a trainer of this package. Put it first, and give the trainer a configuration that has
    [`ReplayArguments`]:

    ```python
    @dataclass
    class MyReplayConfig(ReplayArguments, MyConfig):
        pass


    class MyReplayTrainer(ReplayMixin, MyTrainer):
        _config_class = MyReplayConfig
    ```

    What is stored are tasks (dataset rows), not tokens: a replayed task is rolled out anew by the policy as it is now, so
    that nothing has to be corrected for. Replayed tasks take the place of the last ones of a generation batch.

    Attributes:
        failures ([`FailureBuffer`]):
            The failed tasks, the same on every process.

    Raises:
        `TypeError`: If the configuration has no [`ReplayArguments`].
        `ValueError`: If `task_id_column` is not in the dataset, or the trainer rolls nothing out.
    """

    failures: FailureBuffer
    log_metric: Any
    train_dataset: Any
    reward_weights: torch.Tensor

    def __init__(
        self, model: Any, reward_funcs: Any = None, args: Any = None, train_dataset: Any = None, **kwargs: Any
    ):
        super().__init__(model, reward_funcs, args, train_dataset, **kwargs)  # type: ignore[call-arg]
        args = self.args
        if not isinstance(args, ReplayArguments):
            raise TypeError(
                f"{type(self).__name__} needs a configuration with ReplayArguments, got a {type(args).__name__}: set "
                f"`_config_class` to a dataclass of (ReplayArguments, {type(args).__name__})."
            )
        if not self.rolls_out:
            raise ValueError("Failure replay has no effect on a trainer that rolls nothing out.")
        columns = getattr(self.train_dataset, "column_names", None)
        if args.task_id_column is not None and columns is not None and args.task_id_column not in columns:
            raise ValueError(f"task_id_column={args.task_id_column!r} is not among the dataset's columns {columns}.")
        self.failures = FailureBuffer(
            capacity=args.replay_capacity,
            admission=args.replay_admission,
            sampling=args.replay_sampling,
            graduate_at=args.replay_graduate_at,
            max_replays=args.replay_max_replays,
            success_threshold=args.success_threshold,
            seed=self.args.seed,
        )
        self._batches = 0
        self._replayed: set[int] = set()  # places of replayed tasks among the groups of the current batch

    # --- hooks

    def select_rows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """
        Put failed tasks in the place of the last ones, when it is time to.

        Args:
            rows (`list[dict]`):
                This process's rows as the sampler drew them.

        Returns:
            `list[dict]`: As many rows.
        """
        rows = super().select_rows(rows)
        if not self.args.replay_ratio:
            return rows
        if self._batches == 0:
            encode_row(rows[0])  # a column that no checkpoint can hold is found before the first step
        self._batches += 1
        self._replayed = set()
        if self._batches % self.args.replay_every or not len(self.failures):
            return rows
        fresh = set(gather_object([self._identify(rows[i])[0] for _, i in self._own_groups(len(rows))]))
        total = self._num_groups(len(rows))
        count = max(1, round(self.args.replay_ratio * total))
        # A failed task that is in the batch anyway is rolled out as it is, or waits for its next turn.
        drawn = self.failures.sample(count, self._batches, exclude=fresh)
        replays = dict(zip(range(total - len(drawn), total), drawn, strict=True))
        self._replayed = set(replays)
        groups = [place // self.num_generations for place in self._places(len(rows))]
        return [decode_row(replays[g].row) if g in replays else row for g, row in zip(groups, rows, strict=True)]

    def after_rollouts(self, rollouts: Rollouts) -> None:
        """
        Store the tasks that were failed, and let go of those that no longer are.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.
        """
        super().after_rollouts(rollouts)
        if not self.args.replay_ratio:
            return
        results = self._results(rollouts)
        self.failures.update(results, self._batches)
        rates = [self.failures.success_rate(result.outcomes) for result in results if result.replayed]
        rates = [rate for rate in rates if rate == rate]
        if rates:
            self.log_metric("replay/success", sum(rates) / len(rates))
        self.log_metric("replay/share", len(self._replayed) / len(results))
        self.log_metric("replay/size", len(self.failures))
        self.log_metric("replay/age", self.failures.mean_age(self._batches))
        self.log_metric("replay/graduated", self.failures.graduated)
        self.log_metric("replay/retired", len(self.failures.retired))
        self.log_metric("replay/evicted", self.failures.evicted)

    def method_state(self) -> dict[str, Any]:
        state = super().method_state()
        if not self.args.replay_ratio:
            return state
        return state | {"replay": self.failures.state() | {"batches": self._batches}}

    def load_method_state(self, state: dict[str, Any]) -> None:
        super().load_method_state(state)
        if not self.args.replay_ratio:
            return
        if "replay" not in state:
            logger.warning("The checkpoint was written without failure replay: it starts with no failed tasks.")
            return
        self.failures.load_state(state["replay"])
        self._batches = state["replay"]["batches"]

    # --- from rollouts to results, over all processes

    def _results(self, rollouts: Rollouts) -> list[TaskResult]:
        """How every group of all processes fared, the same list on each."""
        outcomes = weighted_rewards(rollouts.rewards, self.reward_weights)
        reasons = list(StopReason)
        told = torch.tensor(
            [
                [reasons.index(reason), first_bad_turn(rollouts, row)]
                for row, reason in enumerate(rollouts.stop_reasons)
            ],
            device=outcomes.device,
        )
        outcomes = self.accelerator.gather(outcomes).cpu()
        size = rollouts.group_size
        groups = outcomes.view(-1, size).tolist()
        told = self.accelerator.gather(told).cpu().view(-1, size, 2).tolist()
        own = []
        for group, i in self._own_groups(len(rollouts)):
            task_id, text = self._identify(rollouts.rows[i])
            if not self.failures.wants(task_id, groups[group]):
                text = None
            elif text is None:
                text = encode_row(rollouts.rows[i])
            own.append((task_id, text))
        return [
            TaskResult(
                task_id=task_id,
                row=row,
                outcomes=groups[group],
                stop_reasons=[reasons[code].value for code, _ in told[group]],
                bad_turns=[turn for _, turn in told[group]],
                replayed=group in self._replayed,
            )
            for group, (task_id, row) in enumerate(gather_object(own))
        ]

    def _places(self, count: int) -> range:
        """Places of this process's rows among those of all processes."""
        start = self.accelerator.process_index * count
        return range(start, start + count)

    def _num_groups(self, count: int) -> int:
        return count * self.accelerator.num_processes // self.num_generations

    def _own_groups(self, count: int) -> Iterator[tuple[int, int]]:
        """Number and first own row of each group that begins on this process, so that each group is told of once."""
        for i, place in enumerate(self._places(count)):
            if place % self.num_generations == 0:
                yield place // self.num_generations, i

    def _identify(self, row: dict[str, Any]) -> tuple[str, str | None]:
        """Name of a row's task; and the row as text, if the name was made from that."""
        column = self.args.task_id_column
        if column is None:
            text = encode_row(row)
            return content_hash(text), text
        if row.get(column) is None:
            raise ValueError(f"A row has no {column!r}, which task_id_column says names the task.")
        return str(row[column]), None
