"""The losses return what the reference implementation returned, and hold what they promise."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from trl_multiturn.archer.losses import (
    actor_loss,
    critic_losses,
    expectile_weights,
    monte_carlo_returns,
    polyak_update,
    turn_gae,
    utterance_advantages,
)


GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
DTYPES = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


def tensor(values, dtype, grad=False):
    return torch.tensor(values, dtype=dtype, requires_grad=grad)


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES)
@pytest.mark.parametrize("case", GOLDEN["critic_loss"])
def test_critic_losses(case, dtype, rtol):
    given, expected = GOLDEN["critic_loss"][case]["inputs"], GOLDEN["critic_loss"][case]
    heads = {name: tensor(given[name], dtype, grad=True) for name in ("q1", "q2", "v1", "v2")}
    targets = {
        "target_q1": tensor(given["target_q1_at_s_with_policy_action"], dtype, grad=True),
        "target_q2": tensor(given["target_q2_at_s_with_policy_action"], dtype, grad=True),
        "next_v1": tensor(given["target_v1_at_next_s"], dtype, grad=True),
        "next_v2": tensor(given["target_v2_at_next_s"], dtype, grad=True),
    }
    losses = critic_losses(
        **heads,
        **targets,
        reward=tensor(given["reward"], dtype),
        terminated=torch.tensor(given["done"]),
        gamma=given["gamma"],
    )
    for name, value in expected["outputs"].items():
        assert losses[name].item() == pytest.approx(value, rel=rtol)
    assert losses["loss"].item() == pytest.approx(expected["total_loss"], rel=rtol)
    losses["loss"].backward()
    for name, value in expected["grads"].items():
        assert heads[name].grad.tolist() == pytest.approx(value, rel=rtol)
    assert all(target.grad is None for target in targets.values())


def ragged(rows, dtype, fill=-50.0):
    longest = max(map(len, rows))
    padded = tensor([row + [fill] * (longest - len(row)) for row in rows], dtype, grad=True)
    return padded, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES)
def test_actor_loss_reinforce(dtype, rtol):
    case = GOLDEN["actor_loss"]["reinforce"]
    heads = [tensor(case["inputs"][name], dtype) for name in ("q1", "q2", "v1", "v2")]
    advantages = utterance_advantages(*heads)
    assert advantages.tolist() == pytest.approx(case["advantage_min_q_minus_min_v"], rel=rtol)
    assert advantages.tolist() == pytest.approx(GOLDEN["advantage"]["update"]["advantage"], rel=rtol)
    log_probs, mask = ragged(case["inputs"]["token_logps"], dtype, fill=-torch.inf)
    loss = actor_loss(log_probs, advantages, mask)
    assert loss["policy_loss"].item() == pytest.approx(case["pg_loss"], rel=rtol)
    assert loss["value_loss"].item() == case["value_loss"]
    loss["loss"].backward()
    for grad, row, expected in zip(log_probs.grad, mask, case["grad_wrt_summed_logp"], strict=True):
        assert grad.tolist() == pytest.approx((row * expected).tolist(), rel=rtol)


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES)
def test_actor_loss_with_token_baseline(dtype, rtol):
    case = GOLDEN["actor_loss"]["token_baseline"]
    log_probs = tensor(case["inputs"]["token_logps_masked_entries_ignored"], dtype, grad=True)
    values = tensor(case["inputs"]["values"], dtype, grad=True)
    mask = tensor(case["inputs"]["mask"], dtype)
    loss = actor_loss(log_probs, tensor(case["inputs"]["advantage"], dtype), mask, values)
    assert loss["policy_loss"].item() == pytest.approx(case["pg_loss"], rel=rtol)
    assert loss["value_loss"].item() == pytest.approx(case["value_loss"], rel=rtol)
    assert loss["loss"].item() == pytest.approx(case["total"], rel=rtol)
    loss["loss"].backward()
    for found, expected in ((log_probs.grad, case["grad_wrt_logp"]), (values.grad, case["grad_wrt_values"])):
        for row, expected_row in zip(found.tolist(), expected, strict=True):
            assert row == pytest.approx(expected_row, rel=rtol)


@pytest.mark.parametrize("case", GOLDEN["polyak"], ids=lambda case: f"tau={case['tau']}")
def test_polyak_update(case):
    def linear(weights):
        module = nn.Linear(2, 2, dtype=torch.float64)
        module.load_state_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items()})
        return module

    target, online = linear(case["target0"]), linear(case["online"])
    for expected in case["target_after_1_2_3_updates"]:
        polyak_update(target, online, case["tau"])
        for name, value in expected.items():
            torch.testing.assert_close(
                target.state_dict()[name], torch.tensor(value, dtype=torch.float64), rtol=1e-9, atol=0
            )


def test_polyak_update_leaves_shared_parameters():
    online, target = nn.Linear(2, 2), nn.Linear(2, 2)
    target.weight = online.weight
    before = online.weight.clone()
    polyak_update(target, online, 0.3)
    assert torch.equal(online.weight, before)


@pytest.mark.parametrize(("dtype", "rtol"), DTYPES)
@pytest.mark.parametrize("case", GOLDEN["mc_return"], ids=lambda case: f"gamma={case['gamma']}")
def test_monte_carlo_returns(case, dtype, rtol):
    returns = monte_carlo_returns(tensor([float(r) for r in case["reward"]], dtype), case["gamma"])
    assert returns.tolist() == pytest.approx(case["mc_return"], rel=rtol)
    assert sum(case["reward"]) == case["trajectory_reward"]


def test_expectile_weights():
    prediction, target = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([2.0, -2.0, 1.0])
    assert expectile_weights(prediction, target, 0.9).tolist() == pytest.approx([0.9, 0.1, 0.9])


class TestTurnGae:
    rewards = torch.tensor([[1.0, -1.0, 2.0], [0.5, 9.0, 9.0]])
    values = torch.tensor([[0.3, 0.1, -0.2, 7.0], [0.4, 8.0, 8.0, 8.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    ended = torch.tensor([[False, False, True], [True, False, False]])

    def test_lambda_one_is_the_return_minus_the_value(self):
        found = turn_gae(self.rewards, self.values, self.mask, self.ended, gamma=0.9, gae_lambda=1.0)
        returns = monte_carlo_returns(self.rewards[0], 0.9)
        torch.testing.assert_close(found[0], returns - self.values[0, :3])
        torch.testing.assert_close(found[1], torch.tensor([0.1, 0.0, 0.0]))

    def test_lambda_zero_is_the_one_step_error(self):
        found = turn_gae(self.rewards, self.values, self.mask, self.ended, gamma=0.9, gae_lambda=0.0)
        expected = torch.tensor([1.0 + 0.9 * 0.1 - 0.3, -1.0 - 0.9 * 0.2 - 0.1, 2.0 + 0.2])
        torch.testing.assert_close(found[0], expected)

    def test_truncated_rollouts_bootstrap(self):
        cut = torch.zeros_like(self.ended)
        found = turn_gae(self.rewards, self.values, self.mask, cut, gamma=0.9, gae_lambda=0.0)
        assert found[0, 2].item() == pytest.approx(2.0 + 0.9 * 7.0 + 0.2)
