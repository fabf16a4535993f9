"""IGPO's advantages against the reference implementation's numbers, and what must hold for any numbers."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_multiturn.advantages import (
    baseline_bias,
    broadcast_to_tokens,
    centered_returns,
    environment_turn_advantages,
    groups_without_signal,
    igpo_turn_advantages,
    last_turn_mask,
    returns_to_go,
)


CASES = json.loads((Path(__file__).parent / "golden_advantages.json").read_text())["cases"]


def ragged(rows):
    width = max(map(len, rows))
    values = torch.zeros(len(rows), width, dtype=torch.float64)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        values[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
        mask[i, : len(row)] = True
    return values, mask


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden(case):
    rewards, mask = ragged(case["turn_rewards"])
    expected, _ = ragged(case["expected"])
    assert case["curriculum_f1_weight"] == case["curriculum_ig_weight"] == 1.0
    advantages = igpo_turn_advantages(
        rewards,
        mask,
        torch.tensor(case["group_ids"]),
        gamma=case["gamma"],
        normalization=case["norm_mode"],
        scale=case["std_norm"],
    )
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-6)


@st.composite
def batches(draw):
    groups = draw(st.integers(1, 3))
    size = draw(st.integers(1, 5))
    number = st.floats(-3, 3, width=32)
    rows = [draw(st.lists(number, min_size=1, max_size=5)) for _ in range(groups * size)]
    rewards, mask = ragged(rows)
    options = {
        "gamma": draw(st.sampled_from([0.0, 0.7, 1.0])),
        "normalization": draw(st.sampled_from(["separate", "joint"])),
        "scale": draw(st.booleans()),
        "gain_weight": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "outcome_weight": draw(st.sampled_from([0.5, 1.0])),
        "baseline": draw(st.sampled_from(["turn", "return"])),
    }
    return rewards, mask, torch.arange(groups).repeat_interleave(size), options


@given(batches(), st.randoms())
def test_order_of_rollouts_does_not_matter(batch, random):
    rewards, mask, groups, options = batch
    order = list(range(len(rewards)))
    random.shuffle(order)
    permuted = igpo_turn_advantages(rewards[order], mask[order], groups[order], **options)
    torch.testing.assert_close(permuted, igpo_turn_advantages(rewards, mask, groups, **options)[order])


@given(batches(), st.integers(1, 4))
def test_padding_does_not_matter(batch, padding):
    rewards, mask, groups, options = batch
    wide = torch.nn.functional.pad(rewards, (0, padding), value=7.0)
    wide_mask = torch.nn.functional.pad(mask, (0, padding), value=False)
    advantages = igpo_turn_advantages(wide, wide_mask, groups, **options)
    torch.testing.assert_close(
        advantages[:, : rewards.shape[1]], igpo_turn_advantages(rewards, mask, groups, **options)
    )
    assert torch.all(advantages[~wide_mask] == 0)


@given(batches())
def test_groups_do_not_mix(batch):
    rewards, mask, groups, options = batch
    whole = igpo_turn_advantages(rewards, mask, groups, **options)
    for group in groups.unique():
        rows = groups == group
        torch.testing.assert_close(
            whole[rows], igpo_turn_advantages(rewards[rows], mask[rows], groups[rows], **options)
        )


@given(batches(), st.floats(-2, 2, width=32))
def test_shifting_a_pool_does_not_matter_when_turns_are_centred(batch, shift):
    rewards, mask, groups, options = batch
    options = {**options, "baseline": "turn"}
    outcomes = last_turn_mask(mask)
    moved = rewards + shift * (outcomes | (options["normalization"] == "joint"))
    torch.testing.assert_close(
        igpo_turn_advantages(moved, mask, groups, **options),
        igpo_turn_advantages(rewards, mask, groups, **options),
        rtol=1e-4,
        atol=1e-4,
    )


@given(batches())
def test_no_gain_weight_is_grpo_with_population_std(batch):
    rewards, mask, groups, _ = batch
    advantages = igpo_turn_advantages(rewards, mask, groups, gain_weight=0.0)
    outcome = rewards[last_turn_mask(mask)]
    for group in groups.unique():
        rows = groups == group
        z = (outcome[rows] - outcome[rows].mean()) / ((outcome[rows].var(correction=0) + 1e-8).sqrt() + 1e-6)
        expected = torch.zeros_like(z) if rows.sum() == 1 else z
        torch.testing.assert_close(advantages[rows], expected.unsqueeze(1) * mask[rows])


@given(batches())
def test_unmeasured_gains_are_left_out_but_their_turn_stays(batch):
    rewards, mask, groups, options = batch
    gains = mask & ~last_turn_mask(mask)
    without = igpo_turn_advantages(rewards.masked_fill(gains, torch.nan), mask, groups, **options)
    weightless = igpo_turn_advantages(
        rewards, mask, groups, **{**options, "gain_weight": 0.0, "normalization": "separate"}
    )
    assert torch.isfinite(without).all()
    torch.testing.assert_close(without, weightless)


def test_float32_round_off_gives_no_advantage():
    rewards = torch.full((8, 3), 0.1)
    mask = torch.ones_like(rewards, dtype=torch.bool)
    advantages = igpo_turn_advantages(rewards, mask, torch.zeros(8, dtype=torch.long))
    assert advantages.dtype == torch.float32
    assert advantages.abs().max() < 1e-9


def test_return_baseline_by_hand():
    rewards, mask = ragged([[1.0, 0.0], [2.0, 1.0, 1.0], [0.0]])
    advantages = igpo_turn_advantages(rewards, mask, torch.zeros(3, dtype=torch.long), scale=False, baseline="return")
    #        returns: [1, 0], [4, 2, 1], [0]; the others' means: [2, 1], [.5, 0, 0], [2.5]
    expected, _ = ragged([[-1.0, -1.0], [3.5, 2.0, 1.0], [-2.5]])
    torch.testing.assert_close(advantages, expected)


def test_group_of_one_has_no_return_baseline_advantage():
    rewards, mask = ragged([[1.0, 5.0]])
    assert torch.all(igpo_turn_advantages(rewards, mask, torch.zeros(1), baseline="return") == 0)


def policy_gradient(baseline: str, stop: float, seed: int, num_groups: int = 4000, group: int = 4) -> float:
    """
    Mean score-function estimate of d E[sum of rewards] / d theta of a policy that goes on with probability
    1 - sigmoid(theta) after each of at most three turns, every turn being worth 1. The outcome is 0.
    """
    generator = torch.Generator().manual_seed(seed)
    n, k = num_groups * group, 4
    stops = torch.rand(n, k, generator=generator) < stop
    stops[:, -1] = True
    length = stops.int().argmax(dim=1) + 1
    mask = torch.arange(k) < length.unsqueeze(1)
    rewards = (mask & ~last_turn_mask(mask)).double()
    groups = torch.arange(n) // group
    advantages = igpo_turn_advantages(rewards, mask, groups, scale=False, baseline=baseline)
    # d log pi / d theta with p(stop) = sigmoid(theta); the last possible turn is not a choice.
    score = torch.where(stops, 1 - stop, -stop) * mask
    score[:, -1] = 0
    return ((advantages * score).sum() / n).item()


def test_the_papers_baseline_is_biased_and_the_return_baseline_is_not():
    """Going on is worth 1 a turn, so stopping more often must lower the return: the gradient is negative."""
    stop = 0.5
    # E[gains] = q + q^2 + q^3 with q = 1 - stop, so d/d theta = -(1 + 2q + 3q^2) q (1 - q).
    q = 1 - stop
    exact = -(1 + 2 * q + 3 * q * q) * q * stop
    unbiased = sum(policy_gradient("return", stop, seed) for seed in range(5)) / 5
    biased = sum(policy_gradient("turn", stop, seed) for seed in range(5)) / 5
    assert unbiased == pytest.approx(exact, rel=0.05)
    # All gains are equal, so the per-turn baseline takes the whole signal away.
    assert abs(biased) < 1e-6


def test_baseline_bias():
    groups = torch.zeros(4, dtype=torch.long)
    same_length, mask = ragged([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [3.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    assert baseline_bias(same_length, mask, groups) == pytest.approx(0.0, abs=1e-12)
    lengths_differ, mask = ragged([[1.0, 2.0, 0.0], [2.0, 0.0], [1.0], [3.0, 0.0]])
    mean, std = 2.0, (0.5 + 1e-8) ** 0.5 + 1e-6
    subtracted = [2 * mean / std, mean / std, 0.0, mean / std]
    average = sum(subtracted) / 4
    expected = sum(abs(value - average) for value in subtracted) / 4
    assert baseline_bias(lengths_differ, mask, groups).item() == pytest.approx(expected)


def test_groups_without_signal():
    advantages = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    groups = torch.tensor([0, 0, 1, 1])
    mask = torch.ones_like(advantages, dtype=torch.bool)
    assert groups_without_signal(advantages, mask, groups) == 0.5
    mask[2, 1] = False
    assert groups_without_signal(advantages, mask, groups) == 1.0


def test_broadcast_to_tokens():
    values = torch.tensor([[1.0, 2.0], [3.0, 9.0]])
    tokens = broadcast_to_tokens(values, [[(0, 2), (3, 4)], [(1, 2), (2, 2)]], 5)
    assert tokens.tolist() == [[1, 1, 0, 2, 0], [0, 3, 0, 0, 0]]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_environment_advantages_scale_as_trl_does(scale):
    rewards = torch.tensor([[1.0], [0.0], [3.0], [2.0], [5.0], [5.0]])
    mask, groups = torch.ones_like(rewards, dtype=torch.bool), torch.tensor([0, 0, 0, 1, 1, 1])
    advantages = environment_turn_advantages(rewards, mask, groups, scale=scale)
    centred = centered_returns(rewards, mask, groups)
    std = {"none": 1 - 1e-4, "batch": rewards.double().std().expand(6, 1)}.get(scale)
    if std is None:
        std = rewards.double().view(2, 3).std(dim=1).repeat_interleave(3).unsqueeze(1)
    torch.testing.assert_close(advantages, centred / (std + 1e-4))


def test_returns_to_go():
    rewards, mask = ragged([[1.0, 2.0, 4.0], [8.0]])
    assert returns_to_go(rewards, mask, 0.5).tolist() == [[3.0, 4.0, 4.0], [8.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalization": "both"}, "normalization must be"),
        ({"baseline": "none"}, "baseline must be"),
        ({"turn_mask": torch.ones(2, 3)}, "bool tensor"),
        ({"turn_mask": torch.tensor([[True, False, True]] * 2)}, "after a gap"),
        ({"group_ids": torch.zeros(3)}, "Expected turn_rewards"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "turn_rewards": torch.zeros(2, 3),
        "turn_mask": torch.ones(2, 3, dtype=torch.bool),
        "group_ids": torch.zeros(2),
        **change,
    }
    rewards, mask, groups = (arguments.pop(name) for name in ("turn_rewards", "turn_mask", "group_ids"))
    with pytest.raises(ValueError, match=message):
        igpo_turn_advantages(rewards, mask, groups, **arguments)
