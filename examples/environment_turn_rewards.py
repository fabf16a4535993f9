"""
An environment that says what each turn was worth, trained with `MultiTurnGRPOTrainer`:

    python examples/environment_turn_rewards.py --model Qwen/Qwen3-0.6B
    accelerate launch examples/environment_turn_rewards.py --model Qwen/Qwen3-0.6B
"""

import random
from dataclasses import dataclass
from typing import Literal

from datasets import Dataset
from trl import TrlParser

from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer


class TreasureWalk:
    """A field of 5 x 5 squares with a treasure. A step is worth what it brings one nearer, and finding it 3."""

    def __init__(self):
        self.turn_rewards: list[float] = []  # an attribute: a method would become a tool

    def reset(self, treasure: list[int], **row) -> str:
        self._place, self._treasure, self.turn_rewards = [2, 2], treasure, []
        return "You stand in the middle of a field of 5 x 5 squares. Walk to the treasure buried in one of them."

    def walk(self, direction: Literal["north", "east", "south", "west"]) -> str:
        """
        Walk one square.

        Args:
            direction: Where to.
        """
        step = {"north": (0, 1), "east": (1, 0), "south": (0, -1), "west": (-1, 0)}[direction]
        before = self._distance()
        self._place = [min(max(place + by, 0), 4) for place, by in zip(self._place, step, strict=True)]
        left = self._distance()
        self.turn_rewards.append(before - left + 3.0 * (left == 0 < before))
        return "You found it!" if left == 0 else "Warmer." if left < before else "Not warmer."

    def _distance(self) -> int:
        return sum(abs(place - goal) for place, goal in zip(self._place, self._treasure, strict=True))


@dataclass
class Arguments:
    model: str = "Qwen/Qwen3-0.6B"


if __name__ == "__main__":
    parser = TrlParser((Arguments, MultiTurnGRPOConfig))
    parser.set_defaults(output_dir="treasure-walk", max_steps=100, max_tool_calling_iterations=8)
    arguments, training_args = parser.parse_args_and_config()
    rng, prompt = random.Random(0), [{"role": "user", "content": "Use the tool."}]
    data = Dataset.from_list([{"prompt": prompt, "treasure": rng.sample(range(5), k=2)} for _ in range(1000)])
    trainer = MultiTurnGRPOTrainer(arguments.model, None, training_args, data, environment_factory=TreasureWalk)
    trainer.train()
    trainer.save_model()
