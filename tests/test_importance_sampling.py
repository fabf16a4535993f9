"""How much of a batch importance sampling takes away: counted, logged, and said once."""

import random

import pytest
import torch

from tests.test_docs import unexplained
from tests.test_vllm import run
from tests.tiny import add_some
from tests.vllm_stand_in import Engine, save_model
from trl_multiturn import MultiTurnGRPOTrainer
from trl_multiturn import trainer as trainer_module
from trl_multiturn.importance_sampling import (
    count_dropped_tokens,
    count_lost_tokens,
    lost_token_metrics,
    lost_tokens_warning,
)


def batch(rollouts=7, tokens=12, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mask = (torch.rand(rollouts, tokens, generator=rng) < 0.7).long()
    ratio = torch.rand(rollouts, tokens, generator=rng)
    return torch.where(ratio < 0.3, 0.0, ratio - 0.25), mask


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_counts(level):
    ratio, mask = batch()
    if level == "sequence":
        ratio = torch.tensor([0.0, 0.05, 0.1, 0.5, 0.0, 2.0, 0.09])[:, None]
    counts = count_lost_tokens(ratio, mask)
    for row, (trained, masked, lost) in enumerate(counts.tolist()):
        values = [ratio[row, i if level == "token" else 0].item() for i in range(mask.size(1)) if mask[row, i]]
        assert trained == len(values)
        assert masked == sum(value == 0 for value in values)
        assert lost == sum(value < 0.1 for value in values)
    assert counts[:, 2].sum() > counts[:, 1].sum() > 0


def test_shares_of_halves():
    counts = torch.tensor([[10, 1, 2], [2, 2, 2], [30, 0, 15], [4, 0, 0], [20, 10, 10]])
    expected = {
        "sampling/masked_tokens": 13 / 66,
        "sampling/lost_tokens": 29 / 66,
        "sampling/lost_tokens/short": 2 / 6,
        "sampling/lost_tokens/long": 27 / 60,
    }
    for seed in range(3):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        assert lost_token_metrics(counts[order]) == pytest.approx(expected)


def test_nothing_is_trained():
    assert set(lost_token_metrics(count_lost_tokens(torch.zeros(2, 1), torch.zeros(2, 3))).values()) == {0.0}


@pytest.mark.parametrize("mode", ["sequence_mask", "sequence_truncate", "token_mask", "token_truncate"])
def test_what_is_said(mode):
    metrics = lost_token_metrics(torch.tensor([[10, 0, 1], [30, 9, 11]]))
    assert lost_tokens_warning(metrics, 0.3, mode) is None
    told = lost_tokens_warning(metrics, 0.29, mode)
    assert "masked 22%" in told and "30% weigh" in told and "37% in the longer half" in told and "0.29" in told
    assert ("'token_truncate'" in told) and ("A whole rollout's" in told) == mode.startswith("sequence")


def test_dropped_tokens():
    keep, mask = torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]])
    assert count_dropped_tokens(keep, mask).tolist() == [2.0, 4.0]
    assert count_dropped_tokens(torch.tensor([[1, 0, 0]] * 3), mask).tolist() == [2.0, 4.0]


def noisy(folder, spread):
    noise = random.Random(0)
    return Engine(save_model(folder), add_some, perturb=lambda token, logprob: logprob + noise.gauss(0, spread))


@pytest.fixture
def warnings(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(trainer_module.logger, "warning", lambda text, *args: said.append(text))
    return said


def test_lost_tokens_of_a_run(tmp_path, warnings):
    options = {"max_steps": 3, "vllm_importance_sampling_clip_max": 2.0}
    trainer = run(tmp_path, noisy(tmp_path, 0.5), **options)
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry, output in zip(log, trainer.outputs, strict=True):
        mask = (output["completion_mask"] * output["tool_mask"]).bool()
        ratio = output["importance_sampling_ratio"].expand(mask.shape)
        assert entry["sampling/masked_tokens"] == pytest.approx((ratio[mask] == 0).double().mean().item())
        assert entry["sampling/lost_tokens"] == pytest.approx((ratio[mask] < 0.1).double().mean().item())
    shares = [entry["sampling/lost_tokens"] for entry in log]
    assert sum(share > 0.1 for share in shares) > 1
    assert len([text for text in warnings if "max_lost_share=0.1" in text]) == 1
    assert unexplained({name for name in log[0] if name.startswith("sampling/") and "lost" in name}) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("options", [{"vllm_importance_sampling_mode": "token_truncate"}, {"max_lost_share": 1.0}])
def test_nothing_is_said_where_enough_is_left(tmp_path, warnings, options):
    trainer = run(tmp_path, noisy(tmp_path, 0.5), max_steps=1, **options)
    assert not [text for text in warnings if "lost" in text]
    shares = [entry["sampling/lost_tokens"] for entry in trainer.state.log_history if "loss" in entry]
    assert (shares[0] == 0) == ("max_lost_share" not in options)


def test_rollouts_that_are_left_out_are_not_counted(tmp_path):
    options = {"max_completion_length": 60, "stop_policies": {"tool_overflow": "mask", "max_tokens": "mask"}}
    trainer = run(tmp_path, noisy(tmp_path, 0.5), max_steps=1, **options)
    (output,) = trainer.outputs
    kept = output["tool_mask"].bool().any(1)
    assert 0 < kept.sum() < len(kept)
    mask = (output["completion_mask"] * output["tool_mask"]).bool()
    lost = output["importance_sampling_ratio"].expand(mask.shape)[mask] < 0.1
    (log,) = (entry for entry in trainer.state.log_history if "loss" in entry)
    assert log["sampling/lost_tokens"] == pytest.approx(lost.double().mean().item())


class Masks(MultiTurnGRPOTrainer):
    """Computes the share of tokens that are left out by itself."""

    def get_off_policy_mask(self, *, mask, **inputs):
        keep = super().get_off_policy_mask(mask=mask, **inputs)
        self.shares = [*getattr(self, "shares", []), 1 - (keep * mask).sum().item() / mask.sum().item()]
        return keep


@pytest.mark.parametrize("threshold", [0.01, pytest.param(50.0, marks=pytest.mark.exhaustive)])
def test_off_policy_masking(tmp_path, threshold):
    options = {"off_policy_mask_threshold": threshold, "vllm_importance_sampling_correction": False, "max_steps": 1}
    trainer = run(tmp_path, noisy(tmp_path, 0.5), trainer_class=Masks, **options)
    (log,) = (entry for entry in trainer.state.log_history if "loss" in entry)
    assert log["sampling/off_policy_masked_tokens"] == pytest.approx(sum(trainer.shares) / len(trainer.shares))
    assert (log["sampling/off_policy_masked_tokens"] > 0) == (threshold < 1)
    assert unexplained({"sampling/off_policy_masked_tokens"}) == []
