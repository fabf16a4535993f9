"""What the doctor finds wrong with gradients, adapters, precision and learning rates."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.doctor.cases import bad, found_in, only, says
from tests.tiny import QuietCounter, build_model, make_trainer
from trl_multiturn import diagnose
from trl_multiturn.doctor import collection


def test_learning_rate_of_zero(tmp_path):
    only(make_trainer(tmp_path, QuietCounter, learning_rate=0.0), "learning rate", "error", "learning_rate: 1e-06")


def test_nothing_is_trained(tmp_path):
    model = build_model().requires_grad_(False)
    only(make_trainer(tmp_path, QuietCounter, model=model), "gradient", "error", "Do not freeze", "use_peft")


def test_adapters_are_frozen(tmp_path):
    model = get_peft_model(build_model(), LoraConfig(r=2, target_modules="all-linear"))
    model.requires_grad_(False)
    found = found_in(make_trainer(tmp_path, QuietCounter, model=model))
    assert set(found) == {"gradient", "adapters"}
    says(found["adapters"], "error", "is_trainable=True")


def test_adapters_that_are_trained(tmp_path):
    config = LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.0)
    report = diagnose(make_trainer(tmp_path, QuietCounter, peft_config=config))
    assert bad(report) == {}
    (finding,) = [finding for finding in report.findings if finding.check == "adapters"]
    assert finding.severity == "ok" and finding.measured.startswith("default: ")


def test_gradient_is_not_finite(tmp_path):
    def huge(completions, **kwargs):
        return [3e38 * (-1) ** i for i in range(len(completions))]

    found = found_in(make_trainer(tmp_path, QuietCounter, reward_funcs=huge, scale_rewards="none"))
    says(found["gradient"], "error", "advantages and rewards")


def test_weights_without_gradient(tmp_path):
    model = build_model()
    model.forgotten = torch.nn.Linear(4, 4)
    finding = only(make_trainer(tmp_path, QuietCounter, model=model), "gradient", "warning", "requires_grad_(False)")
    assert "forgotten.weight" in finding.measured


def test_bfloat16_on_a_cpu_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "cpu_has_bf16", lambda: False)
    trainer = make_trainer(tmp_path, QuietCounter, model=build_model().to(torch.bfloat16))
    only(trainer, "precision", "warning", "bf16: false")


def test_bfloat16_weights_swallow_small_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "cpu_has_bf16", lambda: True)
    trainer = make_trainer(tmp_path, QuietCounter, model=build_model().to(torch.bfloat16), learning_rate=1e-7)
    only(trainer, "precision", "warning", "weights in float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_precision_is_told(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(collection, "cpu_has_bf16", lambda: True)
    report = diagnose(make_trainer(tmp_path, QuietCounter, model=build_model().to(getattr(torch, dtype))))
    (finding,) = [finding for finding in report.findings if finding.check == "precision"]
    assert (finding.severity, finding.measured) == ("ok", f"34,176 parameters in {dtype}.")
