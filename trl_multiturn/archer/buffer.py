"""The replay buffer: trajectories as token ids, uniform over what it holds, bounded by transitions and by bytes."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Trajectory:
    """
    One episode as the critic reads it: L tokens, K turns. Positions count from the first token of the prompt.

    Args:
        tokens (`torch.Tensor` of shape `(L,)`, int32):
            Prompt and completion as they were generated.
        turns (`torch.Tensor` of shape `(K, 3)`, int32):
            Start and end of each turn's utterance, and the end of what the environment answered to it: the state before
            turn k is `tokens[:turns[k, 0]]`, its action `tokens[turns[k, 0]:turns[k, 1]]`, the state after it
            `tokens[:turns[k, 2]]`.
        rewards (`torch.Tensor` of shape `(K,)`, float32):
            Reward of each turn.
        terminated (`bool`):
            Whether the episode ended with the last turn, so that nothing comes after it.
        truncated (`bool`):
            Whether it was cut off instead.
        policy_version (`int`):
            Optimizer steps of the policy that generated it.
    """

    tokens: torch.Tensor
    turns: torch.Tensor
    rewards: torch.Tensor
    terminated: bool
    truncated: bool
    policy_version: int

    def __len__(self) -> int:
        return len(self.turns)

    @property
    def num_bytes(self) -> int:
        """Bytes of its tensors."""
        return trajectory_bytes(len(self.tokens), len(self))

    @property
    def total_reward(self) -> float:
        """Undiscounted return."""
        return self.rewards.double().sum().item()

    @property
    def summary(self) -> tuple[int, int, float, int]:
        """What every process knows of it: tokens, turns, undiscounted return and policy version."""
        return len(self.tokens), len(self), self.total_reward, self.policy_version

    @property
    def prompt_length(self) -> int:
        """Tokens before the first turn."""
        return int(self.turns[0, 0])


def trajectory_bytes(num_tokens: int, num_turns: int) -> int:
    """Bytes that a trajectory takes: four a token, and sixteen a turn for its positions and reward."""
    return 4 * num_tokens + 16 * num_turns


@dataclass
class _Entry:
    """What every process knows of a trajectory; its tokens are with the process that rolled it out."""

    num_turns: int
    num_bytes: int
    total_reward: float
    policy_version: int
    trajectory: Trajectory | None


class ReplayBuffer:
    """
    Trajectories of all processes in the order in which they came, each kept by the process that rolled it out.

    Every process draws the same ids from the same generator, and looks up those that are its own: a run on two processes
    learns from the same minibatches as a run on one.

    Args:
        capacity (`int`):
            Most transitions, over all processes. The oldest trajectories leave first.
        max_bytes (`int`):
            Most bytes of trajectories, over all processes.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draws; the same on every process.
    """

    def __init__(self, capacity: int, max_bytes: int, seed: int = 0):
        self.capacity = capacity
        self.max_bytes = max_bytes
        self.first_id = 0
        self.num_transitions = 0
        self.num_bytes = 0
        self._entries: list[_Entry] = []
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_id(self) -> int:
        """Id that the next trajectory gets; ids count up from 0 over the whole run."""
        return self.first_id + len(self._entries)

    def mean_turns(self, first_id: int | None = None) -> float:
        """Turns of the average trajectory, of all or of those from an id on."""
        if first_id is None or first_id <= self.first_id:
            return self.num_transitions / len(self)
        newest = self._entries[first_id - self.first_id :]
        return sum(entry.num_turns for entry in newest) / len(newest)

    def extend(self, entries: list[tuple[int, int, float, int]], own: dict[int, Trajectory]) -> None:
        """
        Add one batch's trajectories of all processes.

        Args:
            entries (`list[tuple]`):
                [`Trajectory.summary`] of each, the same list on every process.
            own (`dict[int, Trajectory]`):
                This process's trajectories by their place in `entries`.

        Raises:
            `ValueError`: If the newest trajectories alone do not fit.
        """
        for place, (num_tokens, num_turns, total_reward, policy_version) in enumerate(entries):
            num_bytes = trajectory_bytes(num_tokens, num_turns)
            self._entries.append(_Entry(num_turns, num_bytes, total_reward, policy_version, own.get(place)))
            self.num_transitions += num_turns
            self.num_bytes += num_bytes
        self._evict(keep=len(entries))

    def _evict(self, keep: int) -> None:
        gone = 0
        while self.num_transitions > self.capacity or self.num_bytes > self.max_bytes:
            if len(self) - gone <= keep:
                raise ValueError(
                    f"One batch of {keep} trajectories ({self.num_transitions} transitions, {self.num_bytes} bytes) does "
                    f"not fit into the replay buffer: raise replay_capacity={self.capacity} or "
                    f"replay_max_bytes={self.max_bytes}."
                )
            self.num_transitions -= self._entries[gone].num_turns
            self.num_bytes -= self._entries[gone].num_bytes
            gone += 1
        del self._entries[:gone]
        self.first_id += gone

    def draw(self, count: int, first_id: int | None = None) -> list[int]:
        """
        Draw trajectories uniformly, with replacement.

        All turns of what was drawn are used, so that each transition has the same chance as any other.

        Args:
            count (`int`):
                Number of draws.
            first_id (`int`, *optional*):
                Draw from this trajectory on only.

        Returns:
            `list[int]`: Ids, the same on every process.
        """
        low = self.first_id if first_id is None else max(first_id, self.first_id)
        return torch.randint(low, self.next_id, (count,), generator=self._generator).tolist()

    def draw_transitions(self, count: int) -> list[tuple[int, int]]:
        """
        Draw transitions uniformly, with replacement.

        Args:
            count (`int`):
                Number of draws.

        Returns:
            `list[tuple[int, int]]`: Trajectory id and turn of each, the same on every process.
        """
        ends = torch.tensor([entry.num_turns for entry in self._entries]).cumsum(0)
        drawn = torch.randint(int(ends[-1]), (count,), generator=self._generator)
        rows = torch.searchsorted(ends, drawn, right=True)
        turns = drawn - torch.where(rows > 0, ends[rows - 1], 0)
        return [(self.first_id + row, turn) for row, turn in zip(rows.tolist(), turns.tolist(), strict=True)]

    def draw_among(self, ids: list[int], count: int) -> list[int]:
        """Draw `count` of the given ids uniformly, with replacement; the same on every process."""
        return [ids[i] for i in torch.randint(len(ids), (count,), generator=self._generator).tolist()]

    def get(self, trajectory_id: int) -> Trajectory | None:
        """The trajectory with this id, or `None` if another process has it."""
        return self._entries[trajectory_id - self.first_id].trajectory

    def best(self, quantile: float) -> list[int]:
        """
        Ids of the trajectories with the highest undiscounted returns.

        Args:
            quantile (`float`):
                Share between 0 and 1 of all held trajectories that lies below them.

        Returns:
            `list[int]`: Those at the quantile or above, in order; the same on every process.
        """
        returns = torch.tensor([entry.total_reward for entry in self._entries], dtype=torch.float64)
        # The value of a real trajectory, not one between two: with many equal returns a share of none would be above.
        threshold = torch.quantile(returns, quantile, interpolation="lower")
        return [self.first_id + i for i in (returns >= threshold).nonzero().flatten().tolist()]

    def mean_age(self, policy_version: int) -> float:
        """Optimizer steps of the policy since the average trajectory."""
        total = sum(entry.policy_version for entry in self._entries)
        return policy_version - total / max(len(self), 1)

    # --- checkpoint

    def shard_state(self) -> dict[str, Any]:
        """
        This process's part: its trajectories as flat tensors, and what is the same on every process.

        Returns:
            `dict[str, Any]`: Tensors and JSON values by name.
        """
        own = [(i, e.trajectory) for i, e in enumerate(self._entries) if e.trajectory is not None]
        flags = [[t.terminated, t.truncated] for _, t in own]
        return {
            "first_id": self.first_id,
            "num_trajectories": len(self),
            "generator": self._generator.get_state(),
            "places": torch.tensor([i for i, _ in own], dtype=torch.int64),
            "lengths": torch.tensor([[len(t.tokens), len(t)] for _, t in own], dtype=torch.int64).view(-1, 2),
            "versions": torch.tensor([t.policy_version for _, t in own], dtype=torch.int64),
            "flags": torch.tensor(flags, dtype=torch.bool).view(-1, 2),
            "tokens": torch.cat([t.tokens for _, t in own]) if own else torch.zeros(0, dtype=torch.int32),
            "turns": torch.cat([t.turns for _, t in own]) if own else torch.zeros(0, 3, dtype=torch.int32),
            "rewards": torch.cat([t.rewards for _, t in own]) if own else torch.zeros(0),
        }

    def load_shard_states(self, states: list[dict[str, Any]], rank: int, world_size: int) -> None:
        """
        Take up what all processes wrote, whatever their number was.

        Args:
            states (`list[dict]`):
                What each process's [`shard_state`] returned.
            rank (`int`):
                This process.
            world_size (`int`):
                Number of processes now. If it is another than when the shards were written, trajectories are dealt out
                in turn.

        Raises:
            `ValueError`: If a shard is missing.
        """
        entries: dict[int, _Entry] = {}
        for shard, state in enumerate(states):
            for place, trajectory in _unpack(state).items():
                owner = shard if len(states) == world_size else place % world_size
                entries[place] = _Entry(
                    len(trajectory),
                    trajectory.num_bytes,
                    trajectory.total_reward,
                    trajectory.policy_version,
                    trajectory if owner == rank else None,
                )
        expected = states[0]["num_trajectories"]
        if sorted(entries) != list(range(expected)):
            raise ValueError(f"The replay buffer's shards hold {len(entries)} of {expected} trajectories.")
        self._entries = [entries[place] for place in range(expected)]
        self.first_id = states[0]["first_id"]
        self.num_transitions = sum(entry.num_turns for entry in self._entries)
        self.num_bytes = sum(entry.num_bytes for entry in self._entries)
        self._generator.set_state(states[0]["generator"])
        self._evict(keep=0)


def _unpack(state: dict[str, Any]) -> dict[int, Trajectory]:
    lengths = state["lengths"].tolist()
    tokens = state["tokens"].split([length for length, _ in lengths])
    turns = state["turns"].split([count for _, count in lengths])
    rewards = state["rewards"].split([count for _, count in lengths])
    flags, versions = state["flags"].tolist(), state["versions"].tolist()
    return {
        place: Trajectory(
            tokens[i].clone(), turns[i].clone(), rewards[i].clone(), flags[i][0], flags[i][1], versions[i]
        )
        for i, place in enumerate(state["places"].tolist())
    }
