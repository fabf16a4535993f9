"""A training run with rollouts by a stand-in for a vLLM server, on any number of processes (see forked.py)."""

import json
import random
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import AutoModelForCausalLM

from tests.tiny import EndsOnEven, answer_length, build_tokenizer, call, dataset, settings
from tests.vllm_stand_in import Engine, serve
from trl_multiturn import ArCHerTrainer, IGPOTrainer, MultiTurnGRPOTrainer, ReplayGRPOTrainer


CRITIC = {"critic_steps": 2, "critic_batch_size": 16, "critic_warmup_iterations": 0, "critic_learning_rate": 1e-3}
METHODS = {
    "base": (MultiTurnGRPOTrainer, {}),
    "igpo": (IGPOTrainer, {}),
    "archer": (ArCHerTrainer, {**CRITIC, "value_target": "resample", "resample_states": 6}),
    "replay": (ReplayGRPOTrainer, {"replay_every": 1, "replay_admission": "any_fail", "success_threshold": 9.0}),
}


class Scripts:
    """What is written depends on the text before it, and in the first turn on how often it was asked for."""

    def __init__(self):
        self.asked: dict[str, int] = {}

    def __call__(self, text: str, turn: int, rng: random.Random) -> str:
        count = self.asked[text] = self.asked.get(text, -1) + 1
        place = count % 8 if turn == 0 else 0
        rng = random.Random(f"{text} {place}")
        # Of each prompt's eight rollouts the last ones, which are the second process's, never call a tool.
        if turn < 3 and place < 5 and rng.random() < 0.8:
            return call(amount=rng.randint(1, 99))
        return f"<answer>{rng.randint(0, 99)}</answer>"


def main(method: str, folder: str) -> None:
    """Train, and write what came out of it."""
    state = PartialState(cpu=True)
    trainer_class, own = METHODS[method]
    engine = Engine(
        str(Path(folder, "model")), Scripts(), perturb=lambda token, logprob: logprob + 0.01 * (token % 5 - 2)
    )
    with serve(engine) as vllm:  # the first process's is the one that is asked
        found = run(trainer_class, folder, engine, vllm | own, state.num_processes)
    found |= {"requests": [(request.prompts, request.n) for request in engine.requests], "updates": engine.updates}
    if state.is_main_process:
        Path(folder, f"result_{state.num_processes}.json").write_text(json.dumps(found))


def run(trainer_class, folder: str, engine: Engine, options: dict, processes: int) -> dict:
    class Watched(trainer_class):
        rollouts: list = []

        def compute_turn_rewards(self, rollouts):
            rows = zip(rollouts.prompt_ids, rollouts.completion_ids, rollouts.model_masks, strict=True)
            self.rollouts = [*self.rollouts, gather_object([list(row) for row in rows])]
            return super().compute_turn_rewards(rollouts)

    trainer = Watched(
        model=AutoModelForCausalLM.from_pretrained(engine.folder),
        reward_funcs=answer_length,
        args=trainer_class._config_class(
            **settings(
                folder,
                max_steps=2,
                per_device_train_batch_size=16 // processes,
                num_generations=8,
                learning_rate=1e-3,
                **options,
            )
        ),
        train_dataset=dataset(4, answers=["Paris"] * 4),
        processing_class=build_tokenizer(),
        environment_factory=EndsOnEven,
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    timed = ("time", "seconds", "per_second", "runtime")
    return {
        "rollouts": trainer.rollouts,
        "logs": [{name: value for name, value in entry.items() if not name.endswith(timed)} for entry in logs],
        "weights": {name: value.flatten()[:8].tolist() for name, value in trainer.model.state_dict().items()},
    }
