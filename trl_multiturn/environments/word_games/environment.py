"""Twenty Questions and Guess My City as TRL environments."""

from collections.abc import Iterable
from typing import Any, Protocol

from .cities import load_cities
from .city_oracle import CityOracle
from .guesses import Names
from .word_oracle import WordOracle
from .words import load_words


MAX_QUESTION_CHARS = 200


class Oracle(Protocol):
    """What answers the questions: any object with this method, shared by environments and never changed by them."""

    def answer(self, target: str, question: str) -> str:
        """
        Answers a question about the object or city to guess.

        Args:
            target (`str`):
                What is to be guessed.
            question (`str`):
                The question, not empty, at most 200 characters.

        Returns:
            `str`: The answer.
        """
        ...


class _Game:
    """
    A game of questions with one tool, `ask`.

    Its subclasses say what can be guessed and when a question is a guess.
    """

    _noun: str

    def __init__(self, oracle: Oracle, names: Names, max_turns: int) -> None:
        if isinstance(max_turns, bool) or not isinstance(max_turns, int) or max_turns < 1:
            raise ValueError(f"`max_turns` must be a whole number from 1 on, got {max_turns!r}.")
        self._oracle = oracle
        self._names = names
        self._max_turns = max_turns
        self._target: str | None = None
        self._begin()

    def _begin(self) -> None:
        self.turn_rewards: list[float] = []
        self.questions: list[str] = []
        self.terminated = False
        self.truncated = False

    def reset(self, **row: Any) -> None:
        # No docstring section for arguments: of the columns that TRL passes, `target` is the only one that matters.
        target = row.get("target")
        if not isinstance(target, str) or target not in self._names:
            raise ValueError(
                f"The row's `target` must be one of the {len(self._names)} names of this game's list, got {target!r}."
            )
        self._target = target
        self._begin()

    def ask(self, question: str) -> str:
        """
        Ask a question, or make a guess.

        Args:
            question: One question.

        Returns:
            The answer.
        """
        if self._target is None:
            raise ValueError("The game has not begun.")
        if self.terminated:
            raise ValueError("The game is over. Stop asking.")
        problem = _problem(question)
        # A refused question is a turn like any other: else a model that only makes mistakes would never come to an end.
        self.questions.append(question if problem is None else "")
        won = problem is None and self._names.guessed(question) == [self._target]
        self.turn_rewards.append(0.0 if won else -1.0)
        self.terminated = won or len(self.turn_rewards) >= self._max_turns
        if won:
            return "Yes. You found it."
        over = f" Out of questions: it was {self._target}." if self.terminated else ""
        if problem is not None:
            raise ValueError(problem + over)
        return (self._answer(question) + over).strip()

    def get_reward(self) -> float:
        # Of a rollout that stops before the end: every question it could still have asked counts as asked in vain.
        # Otherwise saying nothing at all would be the best policy.
        return 0.0 if self.terminated else float(len(self.turn_rewards) - self._max_turns)

    def _answer(self, question: str) -> str:
        guessed = self._names.guessed(question)
        if len(guessed) > 1:
            return f"Only one {self._noun} may be named in a question."
        assert self._target is not None  # `ask` has made sure
        return self._oracle.answer(self._target, question)


def _problem(question: Any) -> str | None:
    """Why a question is refused, `None` if it is not."""
    if not isinstance(question, str):
        return f"question must be text, got {type(question).__name__}."
    if not any(sign.isalnum() for sign in question):
        return "question must not be empty."
    if len(question) > MAX_QUESTION_CHARS:
        return f"question is too long: at most {MAX_QUESTION_CHARS} characters."
    return None


class TwentyQuestions(_Game):
    """
    Twenty Questions ([paper](https://huggingface.co/papers/2402.19446)): find an object by asking.

    Each question costs a reward of -1, the winning one 0, so that the return lies between `-max_turns` and 0. A question
    wins if its last word is the object or a synonym, in the singular or plural; naming several objects never wins. What
    the environment refuses (no text, an empty question, more than 200 characters) raises and costs a turn as well. After
    the end, `ask` raises and costs nothing.

    `reset` takes the object from the column `target`; [`load_word_game`] has rows with it.

    Args:
        oracle ([`Oracle`], *optional*):
            What answers; [`WordOracle`] by default. Environments share it.
        max_turns (`int`, *optional*, defaults to `20`):
            Questions in a game.
        words (iterable of `str`, *optional*):
            Objects that count as guesses; those of [`load_words`] by default. With an oracle of your own they may be any
            words.

    Attributes:
        turn_rewards (`list[float]`):
            Reward of each question so far.
        questions (`list[str]`):
            Questions so far; an empty text stands for one that was refused.
        terminated (`bool`):
            Whether the game is won or all questions are used up.
        truncated (`bool`):
            Always `False`: the number of questions belongs to the game.
    """

    _noun = "object"

    def __init__(self, oracle: Oracle | None = None, max_turns: int = 20, words: Iterable[str] | None = None) -> None:
        known = load_words()
        chosen = list(known if words is None else words)
        _check_names("words", chosen, known, oracle)
        spellings = {word: known[word].synonyms if word in known else () for word in chosen}
        super().__init__(oracle or WordOracle(), Names(spellings, only_last=True), max_turns)


class GuessMyCity(_Game):
    """
    Guess My City ([paper](https://huggingface.co/papers/2402.19446)): find a city by asking.

    Each question costs a reward of -1, the winning one 0, so that the return lies between `-max_turns` and 0. A question
    wins if it contains the city's name, as whole words and without regard to accents and case; naming several cities
    never wins. What the environment refuses (no text, an empty question, more than 200 characters) raises and costs a
    turn as well. After the end, `ask` raises and costs nothing.

    `reset` takes the city from the column `target`; [`load_word_game`] has rows with it.

    Args:
        oracle ([`Oracle`], *optional*):
            What answers; [`CityOracle`] by default. Environments share it.
        max_turns (`int`, *optional*, defaults to `20`):
            Questions in a game.
        cities (iterable of `str`, *optional*):
            Cities that count as guesses; those of [`load_cities`] by default. With an oracle of your own they may be any
            names.

    Attributes:
        turn_rewards (`list[float]`):
            Reward of each question so far.
        questions (`list[str]`):
            Questions so far; an empty text stands for one that was refused.
        terminated (`bool`):
            Whether the game is won or all questions are used up.
        truncated (`bool`):
            Always `False`: the number of questions belongs to the game.
    """

    _noun = "city"

    def __init__(self, oracle: Oracle | None = None, max_turns: int = 20, cities: Iterable[str] | None = None) -> None:
        known = load_cities()
        chosen = list(known if cities is None else cities)
        _check_names("cities", chosen, known, oracle)
        spellings = {city: known[city].aliases if city in known else () for city in chosen}
        super().__init__(oracle or CityOracle(), Names(spellings, only_last=False), max_turns)


def _check_names(argument: str, chosen: list[str], known: Iterable[str], oracle: Oracle | None) -> None:
    if not chosen or not all(isinstance(name, str) and any(sign.isalnum() for sign in name) for name in chosen):
        raise ValueError(f"`{argument}` must hold at least one name, and no empty ones.")
    if oracle is None and (unknown := sorted(set(chosen) - set(known))):
        raise ValueError(
            f"The embedded oracle knows nothing about {', '.join(unknown)}. Give an `oracle` that does, or choose from the "
            "list."
        )
