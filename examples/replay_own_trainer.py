"""
Failure replay for a trainer of one's own, on the travel sandbox: put `ReplayMixin` first.

    pip install ".[travel]"
    python examples/replay_own_trainer.py --model Qwen/Qwen3-4B
    accelerate launch examples/replay_own_trainer.py --model Qwen/Qwen3-4B --discount 0.9

The trainer here gives early turns less of the outcome. `ReplayGRPOTrainer` and the others are made in the same way.
"""

from dataclasses import dataclass, field

import torch
from trl import TrlParser

from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer, ReplayMixin
from trl_multiturn.environments.travel import TravelEnvironment, generate_tasks
from trl_multiturn.replay import ReplayArguments
from trl_multiturn.rewards.verifiers import HierarchicalReward


@dataclass
class DiscountedConfig(MultiTurnGRPOConfig):
    discount: float = field(default=0.95, metadata={"help": "What a turn's advantage is worth one turn earlier."})


class DiscountedTrainer(MultiTurnGRPOTrainer):
    _config_class = DiscountedConfig

    def compute_turn_advantages(self, rollouts, turn_rewards: torch.Tensor) -> torch.Tensor:
        advantages = super().compute_turn_advantages(rollouts, turn_rewards)  # (B, K)
        turns_left = [[max(len(own) - 1 - k, 0) for k in range(rollouts.max_turns)] for own in rollouts.turns]
        return advantages * self.args.discount ** torch.tensor(turns_left, device=advantages.device)


@dataclass
class ReplayDiscountedConfig(ReplayArguments, DiscountedConfig):
    pass


class ReplayDiscountedTrainer(ReplayMixin, DiscountedTrainer):
    _config_class = ReplayDiscountedConfig


@dataclass
class Arguments:
    model: str = "Qwen/Qwen3-4B"
    tasks: int = 1000


if __name__ == "__main__":
    parser = TrlParser((Arguments, ReplayDiscountedConfig))
    parser.set_defaults(output_dir="replay-own", max_steps=200, max_completion_length=8192, learning_rate=1e-6)
    parser.set_defaults(task_id_column="task_id", chat_template_kwargs={"enable_thinking": False})
    arguments, args = parser.parse_args_and_config()
    tasks, reward = generate_tasks(arguments.tasks), HierarchicalReward()
    trainer = ReplayDiscountedTrainer(arguments.model, reward, args, tasks, environment_factory=TravelEnvironment)
    trainer.train()
    trainer.save_model()
