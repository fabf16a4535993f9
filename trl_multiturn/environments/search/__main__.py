"""`python -m trl_multiturn.environments.search`: answer a question about the embedded facts."""

import argparse
import random

from .environment import SearchEnvironment
from .facts import load_fact_corpus, load_fact_questions
from .index import BM25Index
from .play import play


def main(argv: list[str] | None = None) -> None:
    """
    Plays one question.

    Args:
        argv (`list[str]`, *optional*):
            Arguments of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m trl_multiturn.environments.search", description=main.__doc__)
    parser.add_argument("--hops", type=int, choices=(1, 2, 3, 4), default=2, help="facts that the question needs")
    parser.add_argument(
        "--seed", type=int, default=None, help="seed of the choice; another question each time without"
    )
    args = parser.parse_args(argv)
    seed = random.randrange(2**32) if args.seed is None else args.seed
    row = load_fact_questions("train", args.hops, seed=seed, limit=1)[0]
    play(SearchEnvironment(BM25Index.from_dataset(load_fact_corpus())), row)


if __name__ == "__main__":
    main()
