"""Ratios of whole sequences: in which losses they make all turns of a rollout the same, and that those are refused."""

import pytest
import torch

from tests.matrix.cells import LOSSES
from tests.tiny import Counter, QuietCounter, answer_length, build_model, build_tokenizer, dataset, settings, train
from trl_multiturn import ArCHerConfig, IGPOConfig, MultiTurnGRPOConfig, MultiTurnGRPOTrainer
from trl_multiturn.advantages import broadcast_to_tokens


class Mean(MultiTurnGRPOTrainer):
    """Trains every token on the mean advantage of its rollout."""

    def token_advantages(self, rollouts, turn_advantages, num_tokens):
        advantages = super().token_advantages(rollouts, turn_advantages, num_tokens)
        written = broadcast_to_tokens(torch.ones_like(turn_advantages), rollouts.turn_spans, num_tokens)
        return (advantages.sum(1) / written.sum(1)).unsqueeze(1) * written


def trained_weights(folder, trainer_class, loss):
    options = {"loss_type": loss, "importance_sampling_level": "sequence", "max_grad_norm": 0}
    # The trainer of the tests has advantages of its own, as far as a trainer can know: nothing is refused.
    trainer = train(folder, Counter, trainer_class=trainer_class, optim="sgd", learning_rate=0.1, **options)
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize("loss", LOSSES)
def test_turns_are_told_apart_where_the_ratio_is_a_weight(tmp_path, loss):
    by_turn, by_mean = (
        trained_weights(tmp_path, trainer_class, loss) for trainer_class in (MultiTurnGRPOTrainer, Mean)
    )
    difference = (by_turn - by_mean).abs().max()
    if loss in ("cispo", "vespo"):
        assert difference > 1e-4
    else:
        assert difference < 1e-6
        assert (by_turn - torch.cat([p.detach().flatten() for p in build_model().parameters()])).abs().max() > 1e-3


def make(folder, environment, **options):
    return MultiTurnGRPOTrainer(
        build_model(),
        answer_length,
        MultiTurnGRPOConfig(**settings(folder, **options)),
        dataset(),
        processing_class=build_tokenizer(),
        environment_factory=environment,
    )


def test_turn_rewards_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match="`turn_rewards` would make no difference between turns. To credit turns, leave"
    ):
        make(tmp_path, Counter, importance_sampling_level="sequence")
    make(tmp_path, QuietCounter, importance_sampling_level="sequence")
    make(tmp_path, Counter, importance_sampling_level="sequence", loss_type="cispo")


@pytest.mark.parametrize("config_class", [IGPOConfig, ArCHerConfig])
def test_methods_that_credit_turns_are_refused(tmp_path, config_class):
    for loss in LOSSES:
        options = settings(tmp_path, importance_sampling_level="sequence", loss_type=loss)
        if loss in ("cispo", "vespo"):
            config_class(**options)
        else:
            with pytest.raises(ValueError, match="would make no difference between turns"):
                config_class(**options)


def test_igpo_without_gains_is_grpo(tmp_path):
    IGPOConfig(**settings(tmp_path, importance_sampling_level="sequence", gain_weight=0.0))
