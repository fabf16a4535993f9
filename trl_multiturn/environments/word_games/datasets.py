"""Games as datasets, and questions to begin with."""

import random
from typing import TYPE_CHECKING, Literal

from .cities import load_cities
from .city_oracle import CANONICAL_QUESTIONS
from .words import load_sources, load_word_subset, load_words


if TYPE_CHECKING:
    from datasets import Dataset

WordGame = Literal["twenty_questions", "twenty_questions_subset", "guess_my_city"]

_RULES = {
    "twenty_questions": "I think of an object. Find it with at most 20 questions that I can answer with yes or no.",
    "guess_my_city": "I think of a city. Find it with at most 20 questions, one at a time. Name the city to win.",
}


def targets_of(name: str) -> list[str]:
    """
    Lists what has to be guessed in a game.

    Args:
        name (`str`):
            `"twenty_questions"`, `"twenty_questions_subset"` or `"guess_my_city"`.

    Returns:
        `list[str]`: Objects or cities, in the order of their tables.

    Raises:
        `ValueError`: If there is no game of this name.
    """
    if name == "twenty_questions":
        return list(load_words())
    if name == "twenty_questions_subset":
        return list(load_word_subset())
    if name == "guess_my_city":
        return list(load_cities())
    raise ValueError(
        f"There is no game {name!r}. The games are twenty_questions, twenty_questions_subset and guess_my_city."
    )


def load_word_game(name: WordGame, *, seed: int = 0, limit: int | None = None) -> "Dataset":
    """
    Loads a game ([paper](https://huggingface.co/papers/2402.19446)): a row for each thing to guess.

    Args:
        name (`str`):
            `"twenty_questions"` (157 objects), `"twenty_questions_subset"` (10 of them) or `"guess_my_city"` (91 cities).
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order.
        limit (`int`, *optional*):
            Largest number of rows; all by default.

    Returns:
        `datasets.Dataset`: Rows with `prompt`, one message of the user with the rules, and `target`, which the
        environment's `reset` reads.

    Raises:
        `ValueError`: If there is no game of this name, or the limit is below 1.
    """
    from datasets import Dataset  # takes a second to import; playing does not need it

    targets = targets_of(name)
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, got {limit}.")
    random.Random(seed).shuffle(targets)
    rules = _RULES["guess_my_city" if name == "guess_my_city" else "twenty_questions"]
    prompt = [{"role": "user", "content": rules}]
    return Dataset.from_list([{"prompt": prompt, "target": target} for target in targets[:limit]])


def canonical_questions(game: WordGame) -> list[str]:
    """
    Lists questions that the embedded oracle answers with yes or no for every target.

    Args:
        game (`str`):
            Name of the game, as in [`load_word_game`].

    Returns:
        `list[str]`: Questions, each of which is answered with yes for some targets of the full list and with no for
        others.

    Raises:
        `ValueError`: If there is no game of this name.
    """
    targets_of(game)
    if game == "guess_my_city":
        return list(CANONICAL_QUESTIONS)
    return [rule["question"] for rule in load_sources()["attributes"] if rule["canonical"]]
