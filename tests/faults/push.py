"""Trains and pushes every checkpoint to a Hub that fails. Usage: push.py FOLDER"""

import sys

from tests.tiny import QuietCounter, answer_length, build_model, build_tokenizer, dataset, settings
from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer


def main(folder: str) -> None:
    trainer = MultiTurnGRPOTrainer(
        build_model(),
        answer_length,
        MultiTurnGRPOConfig(
            **settings(folder, max_steps=3, save_strategy="steps", save_steps=1, max_completion_length=12),
            push_to_hub=True,
            hub_model_id="tester/failing",
            hub_strategy="checkpoint",
            hub_always_push=True,
        ),
        dataset(8),
        processing_class=build_tokenizer(),
        environment_factory=QuietCounter,
    )
    trainer.train()
    print("trained", trainer.state.global_step, [e.get("hub/failed_pushes") for e in trainer.state.log_history])
    trainer.push_to_hub()


if __name__ == "__main__":
    main(*sys.argv[1:])
