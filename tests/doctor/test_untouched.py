"""A trainer that was diagnosed trains as if it had not been: the same weights and logs, to the last bit."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests.archer.tiny import QUICK
from tests.archer.tiny import make as make_archer
from tests.doctor.test_methods import make_igpo, make_replay
from tests.doctor.test_sampling import plain_trainer
from tests.tiny import Counter, QuietCounter, make_trainer
from tests.tiny_vlm import make_trainer as make_image_trainer
from tests.tiny_vlm import scripted
from trl_multiturn import ReplayArCHerTrainer, diagnose


STEPS = {"max_steps": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}
TRAINERS = {
    "sampled": lambda folder: plain_trainer(folder, **STEPS),
    "base": lambda folder: make_trainer(folder, Counter, **STEPS),
    "igpo": lambda folder: make_igpo(folder, **STEPS),
    "archer": lambda folder: make_archer(folder, critic_warmup_iterations=1, token_baseline=True, **STEPS),
    "archer_without_saved_buffer": lambda folder: make_archer(folder, save_replay_buffer=False, **STEPS),
    "replay": lambda folder: make_replay(folder, replay_every=1, success_threshold=100.0, rows=24, **STEPS),
    "replay_archer": lambda folder: make_trainer(
        folder, Counter, trainer_class=ReplayArCHerTrainer, rows=24, **{**QUICK, **STEPS, "success_threshold": 100.0}
    ),
    "images": lambda folder: make_image_trainer(folder, history_images=1, **STEPS),
}


def outcome(trainer):
    """What training leaves, and where it leaves the random generators."""
    trainer.train()
    told = [
        {
            name: value
            for name, value in entry.items()
            if not name.endswith(("_seconds", "_time", "runtime", "_per_second"))
        }
        for entry in trainer.state.log_history
    ]
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())
    return told, {**trainer.model.state_dict(), **trainer.method_state()}, drawn


# The others have these in them.
RARE = ("archer_without_saved_buffer", "replay_archer")


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        pytest.param(build, id=name, marks=pytest.mark.exhaustive if name in RARE else ())
        for name, build in TRAINERS.items()
    ],
)
def test_training_is_the_same(tmp_path, build):
    results = []
    for doctor in (False, True):
        trainer = build(tmp_path)
        if doctor:
            before = dict(vars(trainer))
            with scripted() if trainer.is_vision_language else nullcontext():
                diagnose(trainer)
            assert vars(trainer).keys() == before.keys()
            assert all(vars(trainer)[name] is value for name, value in before.items())
            assert all(parameter.grad is None for parameter in trainer.model.parameters())
        with scripted() if trainer.is_vision_language else nullcontext():
            results.append(outcome(trainer))
    (told, state, drawn), (told_after, state_after, drawn_after) = results
    assert told and told_after == told
    assert drawn_after == drawn
    assert state_after.keys() == state.keys()
    for name, value in state.items():
        same = torch.equal(value, state_after[name]) if isinstance(value, torch.Tensor) else value == state_after[name]
        assert same, name


def test_environments_are_new_ones(tmp_path):
    """What an environment remembers of its episodes is not what the doctor played."""
    built = []

    class Remembers(QuietCounter):
        def __init__(self):
            super().__init__()
            self.resets = 0
            built.append(self)

        def reset(self, **row):
            self.resets += 1
            return super().reset(**row)

    trainer = make_trainer(tmp_path, Remembers)
    diagnose(trainer)
    assert [environment.resets for environment in built] == [0] + [1] * 8


def test_buffers_are_put_back(tmp_path):
    trainer = make_trainer(tmp_path, QuietCounter)
    trainer.model.register_buffer("seen", torch.zeros(1))
    passes = []

    def count(model, args):
        model.seen.add_(1)
        passes.append(model.seen.item())

    trainer.model.register_forward_pre_hook(count)
    diagnose(trainer)
    assert passes and trainer.model.seen.item() == 0


def test_after_training_it_is_refused(tmp_path):
    trainer = make_trainer(tmp_path, QuietCounter)
    trainer.train()
    with pytest.raises(ValueError, match="before trainer.train"):
        diagnose(trainer)


def test_sharded_models_are_refused(tmp_path):
    trainer = make_trainer(tmp_path, QuietCounter)
    trainer.is_fsdp_enabled = True
    with pytest.raises(ValueError, match="without DeepSpeed and FSDP"):
        diagnose(trainer)


def test_an_error_of_the_batch_leaves_no_trace(tmp_path):
    def fails(completions, **kwargs):
        raise LookupError("no reward")

    trainer = make_trainer(tmp_path, QuietCounter, reward_funcs=fails)
    before = dict(vars(trainer))
    with pytest.raises(LookupError, match="no reward"):
        diagnose(trainer)
    assert all(vars(trainer)[name] is value for name, value in before.items())
    assert "generate" not in vars(trainer.model)
