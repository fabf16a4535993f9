"""
Travel plans judged by a language model at an OpenAI-compatible endpoint, in place of the sandbox's own verifiers.

    pip install ".[travel,judge]"
    python examples/travel_judge.py --judge_url http://localhost:8000/v1 --judge_model Qwen/Qwen3-32B
    accelerate launch examples/travel_judge.py --judge_url http://localhost:8000/v1 --judge_model Qwen/Qwen3-32B

A key is read from `OPENAI_API_KEY`. The turns are only judged if the whole plan passes. Plans without a verdict, because the
judge cannot be reached, get no reward and are counted as `verifier/unavailable`.
"""

from dataclasses import dataclass
from typing import Literal

from trl import TrlParser

from trl_multiturn import ReplayGRPOConfig, ReplayGRPOTrainer
from trl_multiturn.environments.travel import TravelEnvironment, generate_tasks
from trl_multiturn.rewards.judge import JudgeClient, JudgeTrajectoryVerifier, JudgeTurnVerifier
from trl_multiturn.rewards.verifiers import HierarchicalReward


@dataclass
class Arguments:
    judge_url: str
    judge_model: str
    model: str = "Qwen/Qwen3-4B"
    tasks: int = 1000
    levels: Literal["both", "plan"] = "both"


def make_reward(arguments: Arguments) -> HierarchicalReward:
    client = JudgeClient(arguments.judge_url, arguments.judge_model, timeout=60.0, max_retries=2, concurrency=16)
    # Claims can be checked without a judge, for nothing: the default for `turn` compares them with what the tools said.
    turn = JudgeTurnVerifier(client) if arguments.levels == "both" else None
    return HierarchicalReward("gated_product", trajectory=JudgeTrajectoryVerifier(client), turn=turn)


if __name__ == "__main__":
    parser = TrlParser((Arguments, ReplayGRPOConfig))
    parser.set_defaults(output_dir="travel-judged", max_steps=200, max_completion_length=8192, learning_rate=1e-6)
    parser.set_defaults(task_id_column="task_id", chat_template_kwargs={"enable_thinking": False})
    arguments, training_args = parser.parse_args_and_config()
    trainer = ReplayGRPOTrainer(
        model=arguments.model,
        reward_funcs=make_reward(arguments),
        args=training_args,
        train_dataset=generate_tasks(arguments.tasks),
        environment_factory=TravelEnvironment,
    )
    trainer.train()
    trainer.save_model()
