"""What the doctor finds wrong between the model that writes and the one that is trained; for models that are really sampled."""

import pytest
from peft import LoraConfig

from tests.doctor.cases import only, says
from tests.tiny import answer_length, build_model, build_tokenizer, dataset, settings
from tests.vllm_stand_in import Engine, colocate
from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer, diagnose


def plain_trainer(folder, trainer_class=MultiTurnGRPOTrainer, model=None, peft_config=None, **options):
    """A random model that is really sampled: its messages hardly ever end by themselves."""
    tokenizer = build_tokenizer()
    model = model or build_model(tokenizer, initializer_range=0.2)
    return trainer_class(
        model=model,
        reward_funcs=answer_length,
        args=MultiTurnGRPOConfig(**settings(folder, **{"max_steps": 1, "max_completion_length": 24, **options})),
        train_dataset=dataset(8),
        processing_class=tokenizer,
        peft_config=peft_config,
    )


def of(trainer, name):
    return [finding for finding in diagnose(trainer).findings if finding.check == name]


def test_sampling_equals_scoring(tmp_path):
    (finding,) = of(plain_trainer(tmp_path, temperature=0.7), "sampling and scoring")
    assert finding.severity == "ok"
    number = float(finding.measured.split(" differ by ")[1].split()[0])
    assert 0 <= number < 1e-5


@pytest.mark.parametrize(
    ("generation_kwargs", "said"),
    [
        ({"temperature": 0.5}, "temperature: 0.5, and no temperature in generation_kwargs"),
        ({"top_p": 0.3}, "top_p: 1.0"),
        ({"top_k": 5}, "top_k: 0"),
        ({"min_p": 0.3}, "min_p: null"),
        ({"do_sample": False}, "Leave do_sample out"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_sampled_otherwise_than_scored(tmp_path, generation_kwargs, said):
    (finding,) = of(plain_trainer(tmp_path, generation_kwargs=generation_kwargs), "sampling and scoring")
    assert finding.severity in ("warning", "error")
    assert said in finding.change
    assert "Log-probabilities of" in finding.measured and "differ by 0 " not in finding.measured


def test_dropout(tmp_path):
    model = build_model(initializer_range=0.2, attention_dropout=0.3)
    (finding,) = of(plain_trainer(tmp_path, model=model), "sampling and scoring")
    assert finding.severity in ("warning", "error") and finding.change == "disable_dropout: true."


def test_dropout_of_adapters(tmp_path):
    config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.05)
    (finding,) = of(plain_trainer(tmp_path, peft_config=config), "sampling and scoring")
    assert finding.severity == "warning" and finding.change == "lora_dropout: 0.0."


class ScoresOtherwise(MultiTurnGRPOTrainer):
    """Scores each token by what the model expects one position earlier."""

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        logps, *others = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return logps.roll(1, dims=1), *others


def test_scores_of_other_positions(tmp_path):
    (finding,) = of(plain_trainer(tmp_path, ScoresOtherwise), "sampling and scoring")
    assert finding.severity == "error" and "position ids" in finding.change


# --- vLLM


def backend_trainer(folder, off, **options):
    """Takes its messages from a backend whose log-probabilities are off by a little, as in another precision."""
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, initializer_range=0.2)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    engine = Engine(str(folder / "model"), perturb=lambda token, logprob: logprob - off)
    with colocate(engine) as vllm:
        trainer = plain_trainer(folder, model=str(folder / "model"), **vllm, **options)
        return {finding.check: finding for finding in diagnose(trainer).findings}


def test_importance_sampling_drops_long_rollouts(tmp_path):
    found = backend_trainer(tmp_path, off=0.08)
    says(found["importance sampling"], "error", "vllm_importance_sampling_mode: token_truncate")
    assert "of those of the longer half" in found["importance sampling"].measured
    says(found["sampling and scoring"], "warning", "vLLM's dtype")


def test_importance_sampling_by_token_keeps_them(tmp_path):
    found = backend_trainer(tmp_path, off=0.01, vllm_importance_sampling_mode="token_truncate")
    assert found["importance sampling"].severity == "ok"
    assert found["importance sampling"].measured.startswith("100% of the trained tokens are kept")
    assert found["sampling and scoring"].severity == "ok"
    assert found["trained tokens"].severity == "ok"


def test_importance_sampling_mask_by_token(tmp_path):
    found = backend_trainer(tmp_path, off=2.0, vllm_importance_sampling_mode="token_mask")
    says(found["importance sampling"], "error", "vllm_importance_sampling_clip_max: 6")
    says(found["sampling and scoring"], "error", "vLLM's dtype")


def test_a_random_model_never_stops(tmp_path):
    """Everything else about it is healthy."""
    only(plain_trainer(tmp_path), "stop reasons", "error", "No message of the policy ends by itself")
