"""Runs in which one process has what another has not: a collective that only one of them joins would wait for ever."""

import json
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object

from tests.tiny import Counter, QuietCounter, Recorded, build_model, build_tokenizer, call, dataset, settings

from .worker import CRITIC, REPLAY, TRAINERS


STEPS = 2


class OneSided(Recorded):
    """What a rollout does depends on its process."""

    case = ""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        on_last = self.accelerator.process_index == self.accelerator.num_processes - 1
        completions = []
        for place, ids in enumerate(prompt_ids):
            turn = self.processing_class.decode(ids).count("<|im_start|>assistant") - 1
            completions.append(self.say(turn, place, on_last))
        return completions, None

    def say(self, turn: int, place: int, on_last: bool) -> list[int]:
        ends = "<|im_end|>"
        message = call(amount=place + 1) if turn < 1 + place % 2 else f"<answer>{place}</answer>"
        if self.case == "no_tool_calls" and on_last:
            message = f"<answer>{place}</answer>"
        if self.case == "no_tool_calls_at_all":
            message = f"<answer>{place}</answer>"
        if self.case == "max_turns" and on_last:
            message = call(amount=1)
        if self.case == "max_tokens" and on_last or self.case == "truncated_group":
            message, ends = "word " * 60 * (place + 1), ""
        return self.processing_class(message + ends, add_special_tokens=False)["input_ids"][
            : self.max_completion_length
        ]


def rewards(case: str, method: str):
    def reward(completions, **kwargs) -> list[float | None]:
        last = PartialState().process_index == PartialState().num_processes - 1
        if case == "no_rewards_at_all" or case == "no_rewards" and last:
            return [None] * len(completions)
        if case == "no_failures" or case == "failures_on_one" and not last:
            return [9.0] * len(completions)
        return [float(i % 3) for i in range(len(completions))]

    return reward


def main(case: str, folder: str) -> None:
    """`case`: the trainers, joined by commas, then a colon and what is one-sided."""
    methods, _, case = case.partition(":")
    told = {}
    for method in methods.split(","):
        trainer = make(case, method, folder)
        trainer.train()
        assert trainer.state.global_step == STEPS
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        reasons = gather_object([reason.value for batch, _, _ in trainer.batches for reason in batch.stop_reasons])
        told[method] = {"logs": logs, "stop_reasons": reasons}
    if PartialState().is_main_process:
        Path(folder, "told.json").write_text(json.dumps(told))


def make(case: str, method: str, folder: str):
    processes = PartialState(cpu=True).num_processes
    trainer_class, config_class = TRAINERS[method]
    options: dict = {"save_strategy": "steps", "save_steps": 1}
    if "archer" in method:
        options |= CRITIC
    if "replay" in method:
        options |= REPLAY | {"replay_every": 1}
    if case == "truncated_group":
        options |= {"mask_truncated_completions": True}
    tokenizer = build_tokenizer()
    # With rewards for turns no rollout would be without a reward, and few would be failures.
    quiet = "igpo" in method or "no_rewards" in case or "failures" in case
    return type("Run", (OneSided, trainer_class), {"case": case})(
        model=build_model(tokenizer),
        reward_funcs=rewards(case, method),
        args=config_class(
            **settings(
                Path(folder, method),
                max_steps=STEPS,
                per_device_train_batch_size=8 // processes,
                max_tool_calling_iterations=2,
                max_completion_length=160,
                num_generations=4,
                **options,
            )
        ),
        train_dataset=dataset(16, answers=["Paris"] * 16),
        processing_class=tokenizer,
        environment_factory=QuietCounter if quiet else Counter,
    )
