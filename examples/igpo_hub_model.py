"""
IGPO on a Hub model: a search agent learns from how much each search raised its belief in the right answer.

    pip install ".[search]"
    python examples/igpo_hub_model.py --model Qwen/Qwen3-0.6B
    accelerate launch examples/igpo_hub_model.py --model Qwen/Qwen3-0.6B --use_peft true

The questions and the passages to search in are built from two small packages; nothing but the model is downloaded.
`--help` lists what else can be set: every field of `IGPOConfig`.
"""

# Against a script for TRL's GRPO, two names change:
#     from trl import GRPOConfig, GRPOTrainer  ->  from trl_multiturn import IGPOConfig, IGPOTrainer
from dataclasses import dataclass
from functools import partial

from peft import LoraConfig
from trl import TrlParser

from trl_multiturn import IGPOConfig, IGPOTrainer
from trl_multiturn.environments.search import BM25Index, SearchEnvironment, load_fact_corpus, load_fact_questions
from trl_multiturn.rewards import f1_reward


SYSTEM_PROMPT = "Find the answer with the search tool, one fact at a time. End with <answer>the answer alone</answer>."


@dataclass
class Arguments:
    model: str = "Qwen/Qwen3-0.6B"
    use_peft: bool = False


def main(arguments: Arguments, training_args: IGPOConfig) -> None:
    questions = load_fact_questions("train", hops=[1, 2, 3])
    trainer = IGPOTrainer(
        model=arguments.model,
        reward_funcs=f1_reward,
        args=training_args,
        train_dataset=questions.map(
            lambda row: {"prompt": [{"role": "system", "content": SYSTEM_PROMPT}, *row["prompt"]]}
        ),
        environment_factory=partial(SearchEnvironment, BM25Index.from_dataset(load_fact_corpus())),
        peft_config=LoraConfig(r=32, target_modules="all-linear") if arguments.use_peft else None,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    parser = TrlParser((Arguments, IGPOConfig))
    parser.set_defaults(output_dir="igpo-search", max_completion_length=1024, max_steps=200)
    main(*parser.parse_args_and_config())
