"""Scripted players of the word games, for the warm start of [`trl_multiturn.recipes.word_game_policy`].

Every episode is played in the real environment. The player whose episodes are imitated is deliberately poor: it asks
questions in no order (broad ones more often), guesses early, repeats itself, and does not always mind the answers. A policy that imitates it has
every move of a good player in its distribution and chooses badly, which is what reinforcement learning can put right. How
much there is to gain is what the good player here gets.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trl_multiturn.environments.word_games import GuessMyCity, TwentyQuestions, canonical_questions, load_word_game


Message = dict[str, Any]
GameName = Literal["twenty_questions", "twenty_questions_subset", "guess_my_city"]

GAME_NAMES: tuple[GameName, ...] = ("twenty_questions", "twenty_questions_subset", "guess_my_city")

ENVIRONMENTS: dict[GameName, type] = {
    "twenty_questions": TwentyQuestions,
    "twenty_questions_subset": TwentyQuestions,
    "guess_my_city": GuessMyCity,
}

# What is said when the game is over.
LAST_MESSAGE = "Done."

# Decides the next question from what was asked and answered.
Player = Callable[[Sequence[tuple[str, str]], random.Random], str]


class Game:
    """
    What a script knows of a word game: its targets, what can be asked, and what the environment answers.

    Args:
        name (`str`):
            Name of the game, one of `GAME_NAMES`.

    Attributes:
        prompt (`list[dict]`):
            The messages that open every episode.
        targets (`list[str]`):
            What may have to be guessed.
        questions (`list[str]`):
            Questions about the target that are no guesses.
        answers (`dict[str, dict[str, str]]`):
            By question, the environment's answer for each target.
        endings (`tuple[str, str]`):
            What the environment says when the game is won, and what it adds to its last answer, before the target, when
            it is lost.
        spread (`dict[str, float]`):
            By question, the probability that two targets get different answers.
    """

    def __init__(self, name: GameName) -> None:
        rows = load_word_game(name)
        self.name = name
        self.prompt: list[Message] = rows[0]["prompt"]
        self.targets: list[str] = sorted(set(rows["target"]))
        self.questions: list[str] = canonical_questions(name)
        self.answers: dict[str, dict[str, str]] = {question: {} for question in self.questions}
        environment = ENVIRONMENTS[name]()
        for target in self.targets:
            for question in self.questions:
                environment.reset(target=target)
                self.answers[question][target] = environment.ask(question)
        self.endings = self._endings(environment)
        self.spread = {question: self._chance_to_differ(question) for question in self.questions}

    def _endings(self, environment: Any) -> tuple[str, str]:
        target, question = self.targets[0], self.questions[0]
        environment.reset(target=target)
        won = environment.ask(self.guess(target))
        environment.reset(target=target)
        while not environment.terminated:
            last = environment.ask(question)
        return won, last.removeprefix(self.answers[question][target]).split(target)[0]

    def _chance_to_differ(self, question: str) -> float:
        counts = Counter(self.answers[question].values())
        return 1.0 - sum((count / len(self.targets)) ** 2 for count in counts.values())

    def guess(self, target: str) -> str:
        """
        The question that wins if it names the target.

        Args:
            target (`str`):
                What is guessed.

        Returns:
            `str`: A question.
        """
        if self.name == "guess_my_city":
            return f"Is it {target}?"
        return f"Is it {'an' if target[0] in 'aeiou' else 'a'} {target}?"

    def possible(self, asked: Sequence[tuple[str, str]]) -> list[str]:
        """
        The targets that no answer has ruled out.

        Args:
            asked (`Sequence[tuple[str, str]]`):
                Questions and the answers they got.

        Returns:
            `list[str]`: Targets.
        """
        guessed = {question for question, _ in asked}
        left = [target for target in self.targets if self.guess(target) not in guessed]
        for question, answer in asked:
            if question in self.answers:
                left = [target for target in left if self.answers[question][target] == answer]
        return left


@dataclass(frozen=True)
class PoorPlayer:
    """
    The player that is imitated.

    Args:
        game ([`Game`]):
            The game.
        guess (`float`, *optional*, defaults to `0.3`):
            Probability that a turn is a guess, however little is known.
        careless (`float`, *optional*, defaults to `0.1`):
            Probability that a guess is any target, rather than one that no answer has ruled out.
        repeat (`float`, *optional*, defaults to `0.1`):
            Probability that a question which is no guess was asked before.
    """

    game: Game
    guess: float = 0.3
    careless: float = 0.1
    repeat: float = 0.1

    def __call__(self, asked: Sequence[tuple[str, str]], rng: random.Random) -> str:
        game = self.game
        earlier = {question for question, _ in asked}
        if rng.random() < self.guess:
            targets = [] if rng.random() < self.careless else game.possible(asked)
            return game.guess(rng.choice(targets or game.targets))
        new = [question for question in game.questions if question not in earlier]
        if not new or (asked and rng.random() < self.repeat):
            return rng.choice(sorted(earlier))
        return rng.choices(new, [game.spread[question] ** 2 for question in new])[0]


@dataclass(frozen=True)
class GoodPlayer:
    """
    A player that asks what halves the targets still possible, and guesses once no question tells them apart.

    Args:
        game ([`Game`]):
            The game.
    """

    game: Game

    def __call__(self, asked: Sequence[tuple[str, str]], rng: random.Random) -> str:
        possible = self.game.possible(asked) or self.game.targets

        def largest_part(question: str) -> int:
            return max(Counter(self.game.answers[question][target] for target in possible).values())

        best = min(self.game.questions, key=largest_part)
        # Of two targets, a guess tells as much as a question.
        if len(possible) <= 2 or largest_part(best) == len(possible):
            return self.game.guess(rng.choice(possible))
        return best


@dataclass
class Episode:
    """
    A game that was played to its end.

    Args:
        target (`str`):
            What had to be guessed.
        messages (`list[dict]`):
            The conversation, from the rules to the last message.
        asked (`list[tuple[str, str]]`):
            The questions and their answers.
        turn_rewards (`list[float]`):
            The environment's reward of each question.
        unasked (`float`):
            The environment's reward for questions not asked.
    """

    target: str
    messages: list[Message] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    turn_rewards: list[float] = field(default_factory=list)
    unasked: float = 0.0

    @property
    def total(self) -> float:
        """Return of the game, at least -20."""
        return sum(self.turn_rewards) + self.unasked

    @property
    def won(self) -> bool:
        """Whether the target was guessed."""
        return is_won(self.turn_rewards)


def is_won(turn_rewards: Sequence[float]) -> bool:
    """
    Whether a game was won, told by its rewards: the winning question alone costs nothing.

    Args:
        turn_rewards (`Sequence[float]`):
            The environment's reward of each question.

    Returns:
        `bool`: Whether it was.
    """
    return bool(turn_rewards) and turn_rewards[-1] == 0.0


def play(game: Game, player: Player, rng: random.Random) -> Episode:
    """
    Play a game to its end in the real environment.

    Args:
        game ([`Game`]):
            The game.
        player (`Callable`):
            Player of it, such as [`PoorPlayer`].
        rng (`random.Random`):
            Source of the target and of the player's choices.

    Returns:
        [`Episode`]: The game.
    """
    environment = ENVIRONMENTS[game.name]()
    episode = Episode(rng.choice(game.targets), list(game.prompt))
    environment.reset(target=episode.target)
    while not environment.terminated:
        question = player(episode.asked, rng)
        answer = environment.ask(question)
        episode.asked.append((question, answer))
        call = {"name": "ask", "arguments": {"question": question}}
        episode.messages += [
            {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
            {"role": "tool", "name": "ask", "content": answer},
        ]
    episode.messages.append({"role": "assistant", "content": LAST_MESSAGE})
    episode.turn_rewards = list(environment.turn_rewards)
    episode.unasked = float(environment.get_reward())
    return episode


def measure_player(game: Game, player: Player, games: int = 1000, seed: int = 0) -> dict[str, float]:
    """
    Play many games.

    Args:
        game ([`Game`]):
            The game.
        player (`Callable`):
            Player of it.
        games (`int`, *optional*, defaults to `1000`):
            Number of games.
        seed (`int`, *optional*, defaults to `0`):
            Seed of targets and choices.

    Returns:
        `dict[str, float]`: `"return"` (mean, -20 to 0), `"won"` (share of games), `"questions"` (mean number asked).
    """
    rng = random.Random(seed)
    played = [play(game, player, rng) for _ in range(games)]
    return {
        "return": sum(episode.total for episode in played) / games,
        "won": sum(episode.won for episode in played) / games,
        "questions": sum(len(episode.turn_rewards) for episode in played) / games,
    }
