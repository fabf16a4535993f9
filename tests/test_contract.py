"""What we stand on in TRL, and what a user sees when it is not there."""

import importlib.metadata
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
import trl

import trl_multiturn
from tests.tiny import QuietCounter, make_trainer, train
from trl_multiturn import compat


def test_the_installed_trl_keeps_the_contract():
    assert compat.contract_changes() == []
    compat.check_trl()
    assert compat.SUPPORTED_TRL.contains(trl.__version__)


def test_attributes_and_output_keys(tmp_path):
    trainer = train(tmp_path, QuietCounter)
    missing = [name for name in compat.ATTRIBUTES if not hasattr(trainer, name)]
    assert missing == []
    assert set(compat.OUTPUT_KEYS) <= trainer.output.keys()
    assert trainer.output["advantages"].dim() == 1


def test_private_names_are_touched_in_one_file():
    """Those of TRL in trainer.py, and those of transformers' Trainer in checkpointing.py."""
    private = {name for name in dir(trl.GRPOTrainer) if name.startswith("_") and not name.startswith("__")}
    private |= {name for name in compat.ATTRIBUTES if name.startswith("_")}
    of_transformers = {name for name in dir(transformers.Trainer) if name.startswith("_")}
    allowed = {"_tag_names", "_name", "_paper"}  # TRL's way to describe a trainer
    package = Path(trl_multiturn.__file__).parent
    for file in package.rglob("*.py"):
        knows_no_trainer = package / "environments" in file.parents  # and may have such names of its own
        if file == package / "trainer.py" or knows_no_trainer:
            continue
        own = private - of_transformers if file.name == "checkpointing.py" else private
        names = re.findall(r"\b(?:self|super\(\)|trainer)\.(_\w+)", file.read_text(encoding="utf-8"))
        assert own.intersection(names) <= allowed, file


SCORING = "_get_per_token_logps_and_entropies"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda patch: patch.delattr(trl.GRPOTrainer, "_tool_call_loop"), "GRPOTrainer._tool_call_loop is gone"),
        (
            lambda patch: patch.setattr(trl.GRPOTrainer, "_generate", lambda self, prompts, images: None),
            r"GRPOTrainer._generate takes \(prompts, images\) instead of \(prompts\)",
        ),
        (
            lambda patch: patch.setattr(
                trl.GRPOTrainer, SCORING, lambda self, model, input_ids, *rest, batch_size: None
            ),
            rf"GRPOTrainer.{SCORING} does not take \(model, input_ids, .*\)",
        ),
        (
            lambda patch: patch.setattr(
                trl.GRPOTrainer, SCORING, lambda self, model, attention_mask, *ids, **rest: None
            ),
            rf"GRPOTrainer.{SCORING} does not take \(model, input_ids, .*\)",
        ),
        (
            lambda patch: patch.delattr(trl.GRPOTrainer, SCORING),
            f"GRPOTrainer.{SCORING} is gone",
        ),
        (
            lambda patch: patch.setattr(importlib.metadata, "version", lambda name: "2.0.0"),
            "trl 2.0.0 is installed: the version is outside the range",
        ),
    ],
)
def test_an_unsupported_trl_gives_one_clear_line(monkeypatch, change, message):
    change(monkeypatch)
    monkeypatch.delitem(vars(trl_multiturn), "IGPOTrainer", raising=False)
    with pytest.raises(ImportError, match=message) as caught:
        trl_multiturn.__getattr__("IGPOTrainer")
    assert "\n" not in str(caught.value)
    assert f"pip install 'trl{compat.SUPPORTED_TRL}'" in str(caught.value)


def test_importing_the_package_is_light():
    code = (
        "import sys, trl_multiturn; "
        "assert not {'torch', 'trl', 'transformers'} & set(sys.modules); "
        "assert {'IGPOTrainer', 'check_environment'} <= set(dir(trl_multiturn))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names():
    for name in trl_multiturn.__all__:
        value = getattr(trl_multiturn, name)
        assert inspect.getdoc(value)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        trl_multiturn.Nothing  # noqa: B018


def test_every_setting_is_documented():
    for config in (trl_multiturn.MultiTurnGRPOConfig, trl_multiturn.IGPOConfig):
        own = [name for name in config.__annotations__ if not name.startswith("_")]
        for name in own:
            assert f"        {name} (`" in inspect.getdoc(config).replace("\n    ", "\n        "), name
            assert config.__dataclass_fields__[name].metadata.get("help"), name


def test_a_subclass_that_returns_the_wrong_shape_is_told_so(tmp_path):
    class Wrong(trl_multiturn.MultiTurnGRPOTrainer):
        def compute_turn_advantages(self, rollouts, turn_rewards):
            return rollouts.advantages

    trainer = make_trainer(tmp_path, QuietCounter, trainer_class=Wrong)
    with pytest.raises(ValueError, match="compute_turn_advantages must return a tensor of shape"):
        trainer.train()
