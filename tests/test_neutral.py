"""With nothing configured, MultiTurnGRPOTrainer is trl.GRPOTrainer bit for bit."""

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from tests.tiny import QuietCounter, Scripted, add_some, answer_length, build_model, build_tokenizer, dataset, settings
from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer


LOSSES = ["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"]


def multiply(a: int, b: int) -> int:
    """
    Multiply two numbers.

    Args:
        a: First number.
        b: Second number.
    """
    return a * b


def run(trainer_class, config_class, folder, scripted, **options):
    trainer_options = {key: options.pop(key) for key in ("tools", "environment_factory") if key in options}
    tokenizer = build_tokenizer()
    if scripted:
        trainer_class = type("Run", (Scripted, trainer_class), {"script": staticmethod(add_some)})
    trainer = trainer_class(
        model=build_model(tokenizer),
        reward_funcs=answer_length,
        args=config_class(**settings(folder, max_completion_length=96 if scripted else 16, **options)),
        train_dataset=dataset(),
        processing_class=tokenizer,
        **trainer_options,
    )
    trainer.train()
    keys = ("loss", "grad_norm", "reward", "entropy", "completions/mean_length")
    history = [{key: entry.get(key) for key in keys} for entry in trainer.state.log_history if "loss" in entry]
    return history, trainer.model.state_dict()


@pytest.mark.parametrize(
    ("scripted", "options"),
    [pytest.param(True, {"environment_factory": QuietCounter, "loss_type": loss}, id=f"env-{loss}") for loss in LOSSES]
    + [
        pytest.param(False, {}, id="plain"),
        pytest.param(False, {"num_iterations": 2, "max_steps": 4}, id="plain-iterations"),
        pytest.param(False, {"tools": [multiply]}, id="tools"),
        pytest.param(
            True, {"environment_factory": QuietCounter, "num_iterations": 2, "max_steps": 4}, id="iterations"
        ),
        pytest.param(
            True,
            {"environment_factory": QuietCounter, "importance_sampling_level": "sequence", "num_iterations": 2},
            id="sequence",
        ),
        pytest.param(
            True,
            {"environment_factory": QuietCounter, "mask_truncated_completions": True, "scale_rewards": "batch"},
            id="truncated",
        ),
        pytest.param(
            True,
            {"environment_factory": QuietCounter, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
            id="accumulation",
        ),
    ],
)
def test_equals_grpo(tmp_path, scripted, options):
    expected_history, expected = run(GRPOTrainer, GRPOConfig, tmp_path, scripted, **options)
    history, weights = run(MultiTurnGRPOTrainer, MultiTurnGRPOConfig, tmp_path, scripted, **options)
    assert len(history) >= 3
    assert history == expected_history
    assert any(entry["grad_norm"] > 0 for entry in history)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
