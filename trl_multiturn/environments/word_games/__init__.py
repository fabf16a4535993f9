"""Twenty Questions and Guess My City as TRL environments, with oracles that answer from embedded facts."""

from .cities import CityFacts, load_cities
from .city_oracle import CityOracle
from .datasets import canonical_questions, load_word_game
from .environment import GuessMyCity, Oracle, TwentyQuestions
from .model_oracle import ModelOracle
from .play import play
from .word_oracle import WordOracle
from .words import WordFacts, load_word_subset, load_words


__all__ = [
    "CityFacts",
    "CityOracle",
    "GuessMyCity",
    "ModelOracle",
    "Oracle",
    "TwentyQuestions",
    "WordFacts",
    "WordOracle",
    "canonical_questions",
    "load_cities",
    "load_word_game",
    "load_word_subset",
    "load_words",
    "play",
]
