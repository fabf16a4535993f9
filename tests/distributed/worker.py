"""One training run, on as many processes as it is started with; rank 0 writes what came out as JSON."""

import json
import random
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object

from tests.tiny import (
    Counter,
    QuietCounter,
    Recorded,
    answer_length,
    build_model,
    build_tokenizer,
    call,
    dataset,
    settings,
)
from trl_multiturn import (
    ArCHerConfig,
    ArCHerTrainer,
    IGPOConfig,
    IGPOTrainer,
    MultiTurnGRPOConfig,
    MultiTurnGRPOTrainer,
    ReplayArCHerConfig,
    ReplayArCHerTrainer,
    ReplayGRPOConfig,
    ReplayGRPOTrainer,
    ReplayIGPOConfig,
    ReplayIGPOTrainer,
)


TRAINERS = {
    "base": (MultiTurnGRPOTrainer, MultiTurnGRPOConfig),
    "neutral": (MultiTurnGRPOTrainer, MultiTurnGRPOConfig),
    "igpo": (IGPOTrainer, IGPOConfig),
    "archer": (ArCHerTrainer, ArCHerConfig),
    "replay": (ReplayGRPOTrainer, ReplayGRPOConfig),
    "replay_igpo": (ReplayIGPOTrainer, ReplayIGPOConfig),
    "replay_archer": (ReplayArCHerTrainer, ReplayArCHerConfig),
}
CRITIC = {"critic_steps": 3, "critic_batch_size": 16, "critic_warmup_iterations": 1, "critic_learning_rate": 1e-3}
REPLAY = {
    "replay_every": 2,
    "replay_ratio": 0.4,
    "replay_admission": "any_fail",
    "replay_sampling": "uniform",
    "replay_graduate_at": 0.6,
    "replay_max_replays": 2,
    "success_threshold": 3.0,
}
TIMES = ("time", "runtime", "per_second", "seconds")


class Placed(Recorded):
    """Scripts each rollout by its place in the global batch, so that any number of processes has the same rollouts."""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        first = self.accelerator.process_index * len(prompt_ids)
        completions = []
        for place, ids in enumerate(prompt_ids):
            text = self.processing_class.decode(ids)
            turn = text.count("<|im_start|>assistant") - 1
            # Later turns are told apart by their history.
            rng = random.Random(f"{text} {first + place if turn == 0 else ''}")
            # The last rows of the batch, all on the last process, never call a tool.
            silent = turn == 0 and first + place >= 4 and self.state.global_step == 1
            if turn < 3 and rng.random() < 0.7 and not silent:
                message = call(amount=rng.randint(1, 99))
            else:
                message = f"<answer>{rng.randint(0, 99)}</answer>"
            completions.append(self.processing_class(message + "<|im_end|>", add_special_tokens=False)["input_ids"])
        return completions, None


def make_placed(method: str, folder: str, processes: int, **options):
    """A trainer of some kind, whose only group (of three, with replay) is spread over all processes."""
    trainer_class, config_class = TRAINERS[method]
    rollouts, steps, extra = 8, 2, {}
    if "archer" in method:
        extra |= CRITIC | {"save_strategy": "steps", "save_steps": 1}
    if "replay" in method:
        rollouts, steps = 24, 6  # the second of three groups begins on one process and ends on the other
        extra |= REPLAY
    if method == "replay_archer":  # three times as many rollouts and steps as ArCHer has above
        extra |= {"critic_steps": 1, "save_steps": 3}
    options = {"max_steps": steps, "num_generations": 8, "learning_rate": 1e-3} | extra | options
    data = dataset(16, answers=["Paris"] * 16)
    tokenizer = build_tokenizer()
    streaming = options.pop("streaming", False)
    return type("Run", (Placed, trainer_class), {})(
        model=build_model(tokenizer),
        reward_funcs=answer_length,
        args=config_class(**settings(folder, per_device_train_batch_size=rollouts // processes, **options)),
        train_dataset=data.to_iterable_dataset() if streaming else data,
        eval_dataset=data.select(range(8)) if options.get("eval_strategy") else None,
        processing_class=tokenizer,
        environment_factory=Counter if method in ("archer", "base", "replay_archer") else QuietCounter,
    )


def main(method: str, folder: str) -> None:
    processes = PartialState(cpu=True).num_processes
    options = {}
    if method == "evaluation":
        method, options = (
            "base",
            {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 8 // processes},
        )
    elif method == "streaming":
        method, options = "igpo", {"streaming": True}
    trainer = make_placed(method, folder, processes, **options)
    trainer.train()
    advantages = []
    for rollouts, _, values in trainer.batches:
        rows = [row[: len(turns)].tolist() for row, turns in zip(values, rollouts.turns, strict=True)]
        advantages.append(gather_object(rows))
    critic: dict = {}
    if "archer" in method:
        held = sorted(gather_object([i for i in range(trainer.buffer.next_id) if trainer.buffer.get(i) is not None]))
        critic = {
            "fingerprints": gather_object([trainer.learner.fingerprint()]),
            "held": held,
            "draws": gather_object([trainer.buffer.draw_transitions(20)]),
            "weights": {
                name: value.flatten()[:8].tolist() for name, value in trainer.learner.critic.state_dict().items()
            },
        }
    failures = gather_object([trainer.failures.state()]) if "replay" in method else []
    if trainer.accelerator.is_main_process:
        logs = [
            {key: value for key, value in entry.items() if not key.endswith(TIMES)}
            for entry in trainer.state.log_history
            if "loss" in entry or "eval_loss" in entry
        ]
        weights = {name: value.flatten()[:8].tolist() for name, value in trainer.model.state_dict().items()}
        result = {
            "processes": processes,
            "advantages": advantages,
            "logs": logs,
            "weights": weights,
            "critic": critic,
            "failures": failures,
        }
        Path(folder, f"result_{processes}.json").write_text(json.dumps(result))
