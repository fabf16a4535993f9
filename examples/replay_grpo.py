"""
GRPO with failure replay on plain prompts: sums that no rollout of a group got right come back until they are learnt.

    python examples/replay_grpo.py --model Qwen/Qwen2.5-0.5B-Instruct
    accelerate launch examples/replay_grpo.py --model Qwen/Qwen2.5-0.5B-Instruct --replay_ratio 0.5

`--help` lists what else can be set: every field of `ReplayGRPOConfig`. With `--replay_ratio 0` it is TRL's GRPO.
"""

# Against a script for TRL's GRPO, two names change:
#     from trl import GRPOConfig, GRPOTrainer  ->  from trl_multiturn import ReplayGRPOConfig, ReplayGRPOTrainer
import random
from dataclasses import dataclass

from datasets import Dataset
from trl import TrlParser

from trl_multiturn import ReplayGRPOConfig, ReplayGRPOTrainer


@dataclass
class Arguments:
    model: str = "Qwen/Qwen2.5-0.5B-Instruct"


def make_sums(count: int) -> Dataset:
    rng = random.Random(0)
    rows = []
    for number in range(count):
        a, b, c = (rng.randrange(10 ** rng.randint(1, 4)) for _ in range(3))
        question = f"What is {a} + {b} + {c}? Answer with the number alone."
        rows.append({"id": f"sum-{number}", "prompt": [{"role": "user", "content": question}], "total": a + b + c})
    return Dataset.from_list(rows)


def exact_reward(completions: list, total: list[int], **kwargs) -> list[float]:
    return [float(messages[-1]["content"].strip() == str(n)) for messages, n in zip(completions, total, strict=True)]


if __name__ == "__main__":
    parser = TrlParser((Arguments, ReplayGRPOConfig))
    parser.set_defaults(output_dir="replay-sums", max_completion_length=64, max_steps=200, learning_rate=1e-5)
    # Every second batch, a quarter of it are failed sums. A row is known by its id.
    parser.set_defaults(replay_every=2, replay_ratio=0.25, task_id_column="id")
    arguments, training_args = parser.parse_args_and_config()
    trainer = ReplayGRPOTrainer(arguments.model, exact_reward, training_args, make_sums(2000))
    trainer.train()
    trainer.save_model()
