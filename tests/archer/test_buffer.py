"""The replay buffer draws uniformly over what it holds, keeps to its bounds, and comes back from a checkpoint."""

from collections import Counter

import pytest
import torch

from trl_multiturn.archer.buffer import ReplayBuffer, Trajectory
from trl_multiturn.state import load_shards, save_shard


def trajectory(number: int, num_turns: int, version: int = 0) -> Trajectory:
    spans = [[2 + 3 * k, 4 + 3 * k, 5 + 3 * k] for k in range(num_turns)]
    tokens = torch.full((spans[-1][2],), number, dtype=torch.int32)
    rewards = torch.full((num_turns,), 0.7 * number)
    return Trajectory(
        tokens, torch.tensor(spans, dtype=torch.int32), rewards, number % 2 == 0, number % 2 == 1, version
    )


def fill(buffer: ReplayBuffer, numbers: range, rank: int = 0, world: int = 1) -> None:
    """One batch; trajectory `i` has `i % 4 + 1` turns and belongs to process `i % world`."""
    batch = [trajectory(i, i % 4 + 1, version=i) for i in numbers]
    own = {place: t for place, t in enumerate(batch) if numbers[place] % world == rank}
    buffer.extend([(len(t.tokens), len(t), t.total_reward, t.policy_version) for t in batch], own)


def chi_square(counts: Counter, cells: list) -> float:
    expected = sum(counts.values()) / len(cells)
    assert set(counts) <= set(cells)
    return sum((counts[cell] - expected) ** 2 / expected for cell in cells)


class TestUniform:
    def test_transitions_after_the_oldest_have_left(self):
        buffer = ReplayBuffer(capacity=40, max_bytes=10**9, seed=1)
        for start in range(0, 60, 6):
            fill(buffer, range(start, start + 6))
        cells = [(i, k) for i in range(buffer.first_id, buffer.next_id) for k in range(i % 4 + 1)]
        assert buffer.first_id > 0 and len(cells) == buffer.num_transitions <= 40
        counts = Counter(buffer.draw_transitions(40_000))
        # 99.9 % of uniform draws stay below: 39 degrees of freedom at most.
        assert chi_square(counts, cells) < 72

    def test_trajectories_and_the_newest_alone(self):
        buffer = ReplayBuffer(capacity=40, max_bytes=10**9, seed=1)
        for start in range(0, 60, 6):
            fill(buffer, range(start, start + 6))
        assert chi_square(Counter(buffer.draw(20_000)), list(range(buffer.first_id, 60))) < 40
        assert chi_square(Counter(buffer.draw(20_000, first_id=54)), list(range(54, 60))) < 21

    def test_every_process_draws_the_same(self):
        whole, parts = ReplayBuffer(40, 10**9), [ReplayBuffer(40, 10**9) for _ in range(2)]
        for start in range(0, 60, 6):
            fill(whole, range(start, start + 6))
            for rank, part in enumerate(parts):
                fill(part, range(start, start + 6), rank, world=2)
        ids = whole.draw(200)
        assert [part.draw(200) for part in parts] == [ids, ids]
        for i in ids:
            held = [part.get(i) for part in parts]
            assert sum(t is not None for t in held) == 1 and held[i % 2].tokens[0] == i == whole.get(i).tokens[0]


class TestBounds:
    def test_transitions(self):
        buffer = ReplayBuffer(capacity=10, max_bytes=10**9)
        fill(buffer, range(4))
        assert (buffer.num_transitions, buffer.first_id) == (10, 0)
        fill(buffer, range(4, 5))
        assert (buffer.num_transitions, buffer.first_id, len(buffer)) == (10, 1, 4)

    def test_bytes(self):
        buffer = ReplayBuffer(capacity=10**6, max_bytes=300)
        fill(buffer, range(3))
        fill(buffer, range(3, 4))
        held = [buffer.get(i) for i in range(buffer.first_id, buffer.next_id)]
        assert buffer.first_id > 0 and buffer.num_bytes <= 300
        assert buffer.num_bytes == sum(t.tokens.nbytes + t.turns.nbytes + t.rewards.nbytes for t in held)

    @pytest.mark.parametrize("limits", [(5, 10**9), (10**6, 100)])
    def test_a_batch_that_does_not_fit(self, limits):
        with pytest.raises(ValueError, match="does not fit into the replay buffer"):
            fill(ReplayBuffer(*limits), range(4))

    def test_fractions_survive_a_whole_number_before_them(self):
        buffer = ReplayBuffer(10, 10**9)
        fill(buffer, range(2))
        assert buffer.get(0).rewards.dtype == buffer.get(1).rewards.dtype == torch.float32
        assert buffer.get(1).rewards.tolist() == pytest.approx([0.7, 0.7])


def test_mean_turns_and_age():
    buffer = ReplayBuffer(100, 10**9)
    fill(buffer, range(4))
    fill(buffer, range(4, 6))
    assert buffer.mean_turns() == pytest.approx((1 + 2 + 3 + 4 + 1 + 2) / 6)
    assert buffer.mean_turns(first_id=4) == pytest.approx(1.5)
    assert buffer.mean_age(policy_version=6) == pytest.approx(6 - 2.5)


def test_best():
    buffer = ReplayBuffer(100, 10**9)
    fill(buffer, range(8))
    returns = [0.7 * i * (i % 4 + 1) for i in range(8)]
    assert buffer.best(0.0) == list(range(8))
    assert buffer.best(1.0) == [max(range(8), key=returns.__getitem__)]
    assert all(returns[i] >= sorted(returns)[3] for i in buffer.best(0.5))


class TestCheckpoint:
    def written(self, folder, world: int) -> list[ReplayBuffer]:
        buffers = [ReplayBuffer(40, 10**9, seed=3) for _ in range(world)]
        for rank, buffer in enumerate(buffers):
            for start in range(0, 60, 6):
                fill(buffer, range(start, start + 6), rank, world)
            buffer.draw(7)
            save_shard(folder, buffer.shard_state(), rank, world)
        return buffers

    @pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (2, 1), (1, 3), (3, 2)])
    def test_round_trip(self, tmp_path, before, after):
        original = self.written(tmp_path, before)
        expected = original[0].draw_transitions(50)
        held = Counter()
        for rank in range(after):
            buffer = ReplayBuffer(40, 10**9, seed=99)
            buffer.load_shard_states(load_shards(tmp_path), rank, after)
            assert buffer.draw_transitions(50) == expected
            assert (buffer.first_id, buffer.num_transitions, buffer.num_bytes) == (
                original[0].first_id,
                original[0].num_transitions,
                original[0].num_bytes,
            )
            for i in range(buffer.first_id, buffer.next_id):
                found = buffer.get(i)
                if found is not None:
                    held[i] += 1
                    source = next(t for b in original if (t := b.get(i)) is not None)
                    assert torch.equal(found.tokens, source.tokens) and torch.equal(found.turns, source.turns)
                    assert torch.equal(found.rewards, source.rewards)
                    assert (found.terminated, found.truncated) == (source.terminated, source.truncated)
                    assert found.policy_version == source.policy_version == i
        assert held == Counter(range(original[0].first_id, original[0].next_id))

    def test_nothing_is_pickled(self, tmp_path):
        self.written(tmp_path, 2)
        assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}

    def test_missing_shard(self, tmp_path):
        self.written(tmp_path, 2)
        next(tmp_path.glob("*00001_of_*.json")).unlink()
        with pytest.raises(FileNotFoundError, match=r"processes \[1\] are missing"):
            load_shards(tmp_path)

    def test_smaller_capacity(self, tmp_path):
        self.written(tmp_path, 1)
        buffer = ReplayBuffer(12, 10**9)
        buffer.load_shard_states(load_shards(tmp_path), 0, 1)
        assert buffer.num_transitions <= 12 and buffer.next_id == 60
