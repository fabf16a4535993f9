"""Trains with IGPO and pushes. Usage: push.py FOLDER [lora]"""

import sys

from peft import LoraConfig

from tests.tiny import QuietCounter, answer_length, build_model, build_tokenizer, dataset, settings
from trl_multiturn import IGPOConfig, IGPOTrainer


def main(folder: str, adapter: str = "") -> None:
    trainer = IGPOTrainer(
        build_model(),
        answer_length,
        IGPOConfig(
            **settings(folder, max_steps=2, save_strategy="steps", save_steps=1, max_completion_length=12),
            push_to_hub=True,
            hub_model_id="tester/searcher",
        ),
        dataset(8, answers=["Paris"] * 8),
        processing_class=build_tokenizer(),
        environment_factory=QuietCounter,
        peft_config=LoraConfig(target_modules=["q_proj"], r=2) if adapter else None,
    )
    trainer.train()
    trainer.push_to_hub(dataset_name="tester/questions")


if __name__ == "__main__":
    main(*sys.argv[1:])
