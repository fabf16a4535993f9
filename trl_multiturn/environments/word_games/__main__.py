"""`python -m trl_multiturn.environments.word_games`: find out what the computer thinks of."""

import argparse
import random

from .datasets import load_word_game
from .environment import GuessMyCity, TwentyQuestions
from .play import play


_GAMES = {
    "twenty_questions": "an object, by questions that can be answered with yes or no",
    "twenty_questions_subset": "the same with ten objects",
    "guess_my_city": "a city, by any questions about it and its country",
}


def main(argv: list[str] | None = None) -> None:
    """
    Plays one game of 20 questions.

    Args:
        argv (`list[str]`, *optional*):
            Arguments of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trl_multiturn.environments.word_games",
        description="Play one game of 20 questions. Each costs a point, but the one that names what is looked for.",
    )
    parser.add_argument(
        "game", choices=_GAMES, metavar="game", help="; ".join(f"{name}: find {what}" for name, what in _GAMES.items())
    )
    parser.add_argument("--seed", type=int, default=None, help="seed of the choice; another target each time without")
    args = parser.parse_args(argv)
    seed = random.randrange(2**32) if args.seed is None else args.seed
    row = load_word_game(args.game, seed=seed, limit=1)[0]
    play(GuessMyCity() if args.game == "guess_my_city" else TwentyQuestions(), row)


if __name__ == "__main__":
    main()
