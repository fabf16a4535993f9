"""
ArCHer offline: the policy learns from games that others played, and plays none itself.

    python examples/archer_offline.py --model Qwen/Qwen2.5-0.5B-Instruct
    accelerate launch examples/archer_offline.py --model Qwen/Qwen2.5-0.5B-Instruct

The games are played here, by a player who asks at random. Yours can be read with `datasets.load_dataset`: a row for each, with
`prompt`, `completion` and `turn_rewards` as below. Where the chat template changes earlier messages, TRL's version of it is used.
"""

import random
from dataclasses import dataclass

from datasets import Dataset
from trl import TrlParser

from trl_multiturn import ArCHerConfig, ArCHerTrainer
from trl_multiturn.environments.word_games import GuessMyCity, canonical_questions, load_word_game


def play(game: GuessMyCity, row: dict, cities: list[str], rng: random.Random) -> dict:
    """One game as a row: what the assistant says in `completion` are the turns, and each has a reward."""
    game.reset(**row)
    completion = []
    for question in rng.sample(canonical_questions("guess_my_city"), k=rng.randint(1, 10)):
        completion.append({"role": "assistant", "content": question})
        completion.append({"role": "user", "content": game.ask(question)})
    city = row["target"] if rng.random() < 0.5 else rng.choice(cities)
    completion.append({"role": "assistant", "content": f"Is it {city}?"})
    game.ask(f"Is it {city}?")
    # A game that is given up costs what it could still have cost.
    game.turn_rewards[-1] += game.get_reward()
    return {"prompt": row["prompt"], "completion": completion, "turn_rewards": game.turn_rewards}


@dataclass
class Arguments:
    model: str = "Qwen/Qwen2.5-0.5B-Instruct"
    games: int = 1000


if __name__ == "__main__":
    parser = TrlParser((Arguments, ArCHerConfig))
    parser.set_defaults(algorithm="offline", output_dir="city-offline", max_steps=200, learning_rate=1e-5)
    arguments, training_args = parser.parse_args_and_config()
    rng, rows, game = random.Random(0), list(load_word_game("guess_my_city")), GuessMyCity()
    cities = [row["target"] for row in rows]
    logged = Dataset.from_list([play(game, rng.choice(rows), cities, rng) for _ in range(arguments.games)])
    trainer = ArCHerTrainer(arguments.model, args=training_args, train_dataset=logged)
    trainer.train()
    trainer.save_model()
