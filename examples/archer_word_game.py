"""
ArCHer on a word game: a critic learns what each question is worth, and the policy asks more of the good ones.

    python examples/archer_word_game.py --model Qwen/Qwen3-0.6B
    accelerate launch examples/archer_word_game.py --model Qwen/Qwen3-0.6B --game twenty_questions

Cities, objects and the oracle that answers are in the package; nothing but the model is downloaded.
`--help` lists what else can be set: every field of `ArCHerConfig`.
"""

from dataclasses import dataclass
from typing import Literal

from peft import LoraConfig
from trl import TrlParser

from trl_multiturn import ArCHerConfig, ArCHerTrainer
from trl_multiturn.environments.word_games import GuessMyCity, TwentyQuestions, load_word_game


@dataclass
class Arguments:
    model: str = "Qwen/Qwen3-0.6B"
    game: Literal["guess_my_city", "twenty_questions"] = "guess_my_city"
    use_peft: bool = False


def main(arguments: Arguments, training_args: ArCHerConfig) -> None:
    trainer = ArCHerTrainer(
        model=arguments.model,
        args=training_args,
        train_dataset=load_word_game(arguments.game),
        environment_factory=GuessMyCity if arguments.game == "guess_my_city" else TwentyQuestions,
        peft_config=LoraConfig(r=32, target_modules="all-linear") if arguments.use_peft else None,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    parser = TrlParser((Arguments, ArCHerConfig))
    # 32 games a step. ArCHer compares nothing within a group, so groups are the smallest that TRL takes.
    parser.set_defaults(num_generations=2, per_device_train_batch_size=4, gradient_accumulation_steps=8)
    # A game of 20 questions, each at most 80 tokens. Thinking would fill the game's tokens by the third question.
    parser.set_defaults(max_completion_length=2048, max_tool_calling_iterations=20)
    parser.set_defaults(generation_kwargs={"max_new_tokens": 80}, chat_template_kwargs={"enable_thinking": False})
    parser.set_defaults(output_dir="word-game", max_steps=200, learning_rate=1e-5, critic_micro_batch_size=8)
    main(*parser.parse_args_and_config())
