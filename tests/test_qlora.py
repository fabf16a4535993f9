"""Adapters on 4-bit models: gradients after an evaluation, and the same types after loading."""

import pytest
import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from tests.tiny import QuietCounter, Scripted, add_some, answer_length, build_model, build_tokenizer, dataset, settings
from trl_multiturn import IGPOConfig, IGPOTrainer
from trl_multiturn.qlora import keep_differentiable


@pytest.fixture
def folder(tmp_path):
    build_model(hidden_size=64, intermediate_size=64).save_pretrained(tmp_path / "base")
    return tmp_path


def make(folder, **options):
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    options["model_init_kwargs"] = {"dtype": "float32", "quantization_config": quantization}
    return type("Run", (Scripted, IGPOTrainer), {"script": staticmethod(add_some)})(
        str(folder / "base"),
        answer_length,
        IGPOConfig(**settings(folder / "run", **options)),
        dataset(8, answers=["Paris"] * 8),
        processing_class=build_tokenizer(),
        environment_factory=QuietCounter,
        peft_config=LoraConfig(r=2, target_modules=["q_proj"]),
    )


def gradients(trainer):
    """Of the first layer's adapter, through the second layer's 4-bit weights."""
    model = trainer.model
    ids = torch.arange(20)[None]
    model.train()
    model.zero_grad()
    model.base_model.model.model(input_ids=ids).last_hidden_state.pow(3).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and "layers.0" in name}


def test_gradients_flow_after_an_evaluation(folder):
    trainer = make(folder)
    before = gradients(trainer)
    trainer.model.eval()
    with torch.no_grad():
        trainer.model(input_ids=torch.arange(20)[None])
    after = gradients(trainer)
    assert before.keys() == after.keys() and before
    assert any(gradient.abs().sum() > 0 for gradient in before.values())
    for name, gradient in before.items():
        assert torch.equal(after[name], gradient), name
    layers = [module for module in trainer.model.modules() if hasattr(module, "support_avx512bf16_for_cpu")]
    assert layers and not any(module.support_avx512bf16_for_cpu for module in layers)


def test_models_without_4_bit_layers_stay_as_they_are():
    model = build_model()
    keep_differentiable(model)
    assert not any(hasattr(module, "support_avx512bf16_for_cpu") for module in model.modules())


def test_adapters_keep_their_type_when_they_are_loaded(folder):
    options = {"save_strategy": "steps", "save_steps": 1}
    trainer = make(folder, max_steps=1, **options)
    trainer.train()
    resumed = make(folder, max_steps=2, **options)
    resumed.train(resume_from_checkpoint=True)
    types = {name: p.dtype for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert set(types.values()) == {torch.bfloat16}
    assert {name: p.dtype for name, p in resumed.model.named_parameters() if p.requires_grad} == types
