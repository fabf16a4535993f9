"""Parser games (interactive fiction) as a TRL environment, through Jericho."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..requirements import require
from .commands import find_valid_actions, is_refused


MAX_COMMAND_CHARS = 100
# Bytes of the header of a Z-machine story file, and the versions that the interpreter reads.
_HEADER_BYTES = 64
_VERSIONS = range(3, 9)


class JerichoEnvironment:
    """
    Environment with one tool, `act`, that types a command into a parser game, as in the Detective task of ArCHer
    ([arXiv:2402.19446](https://huggingface.co/papers/2402.19446)).

    Pass `functools.partial(JerichoEnvironment, "detective.z5")` as `environment_factory`. The story file is yours to find:
    no game comes with this package. [Jericho](https://github.com/microsoft/jericho) must know where the game keeps its
    score, which it does for the games of its list and for TextWorld's (file names that begin with `tw-`).

    The model reads the description of the place, the inventory, what the game answered and commands that would change
    something. Looking for these leaves the game as it is. An episode's turn rewards add up to the points won since the
    first observation (Detective gives 10 of its 360 before that).

    Each environment runs an interpreter of its own, so tools of many rollouts may run in threads.

    Args:
        story_file (`str` or `Path`):
            Z-machine story file (.z3 to .z8).
        max_turns (`int`, *optional*, defaults to `50`):
            Number of commands after which the episode is `truncated`.
        seed (`int`, *optional*):
            Seed of the game's dice, at least 1, the same in every episode. Without it the seed that Jericho's own solution
            of the game needs, or 1.
        show_valid_actions (`bool`, *optional*, defaults to `True`):
            Whether an observation ends in a list of commands that would change something.
        valid_actions (`Callable`, *optional*):
            Function from `jericho.FrotzEnv` to such a list, in place of
            [`~environments.adapters.commands.find_valid_actions`]; it must leave the game as it was. Jericho's own is `lambda
            game: game.get_valid_actions(use_ctypes=False, use_parallel=False)`. It downloads a spaCy model at first use, and
            with `use_ctypes` it is not safe in threads.

    Attributes:
        turn_rewards (`list[float]`):
            Points that each call of `act` won (or lost). A refused command counts as a turn worth 0.
        terminated (`bool`):
            Whether the game is over.
        truncated (`bool`):
            Whether the game was still going after `max_turns` commands.
        won (`bool`):
            Whether the game was won.
        score (`int`):
            The game's own count of points.
        max_score (`int`):
            Points that can be had.

    Raises:
        `ImportError`: If Jericho is not installed.
        `FileNotFoundError`: If there is no such story file.
        `ValueError`: If it is no story file, or one whose score Jericho cannot read, or an argument is out of range.
    """

    def __init__(
        self,
        story_file: str | Path,
        max_turns: int = 50,
        seed: int | None = None,
        show_valid_actions: bool = True,
        valid_actions: Callable[[Any], list[str]] | None = None,
    ) -> None:
        for name, value in (("max_turns", max_turns), ("seed", 1 if seed is None else seed)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        self._game = _load(Path(story_file))
        self._game.seed(seed or self._game.bindings.get("seed") or 1)
        self._max_turns = max_turns
        self._show_valid_actions = show_valid_actions
        self._find_valid_actions = valid_actions if valid_actions is not None else find_valid_actions
        self.turn_rewards: list[float] = []
        self.terminated = False
        self.truncated = False
        self.won = False
        self.score: int = self._game.get_score()
        self.max_score: int = self._game.get_max_score()

    def reset(self, **row: Any) -> str:
        # Nothing in a row matters here: every episode is the same game from its beginning.
        opening, info = self._game.reset()
        self.turn_rewards = []
        self.terminated = self.truncated = self.won = False
        self.score = info["score"]
        return self._observe(opening)

    def act(self, command: str) -> str:
        """
        Type a command into the game.

        Args:
            command: What to do, in a few words, for instance "open door".

        Returns:
            What the game answers, and what you see and carry.
        """
        if self.terminated or self.truncated:
            self.turn_rewards.append(0.0)
            raise ValueError("The game is over.")
        self.turn_rewards.append(0.0)
        self.truncated = len(self.turn_rewards) >= self._max_turns
        _check(command)
        answer, _, over, info = self._game.step(command.strip())
        # Not the reward that Jericho gives: for TextWorld's games it counts from the last command that was tried.
        self.turn_rewards[-1] = float(info["score"] - self.score)
        self.score = info["score"]
        self.won = self._game.victory()
        self.terminated = over or self._game._emulator_halted()
        self.truncated = self.truncated and not self.terminated
        return answer.strip() if self.terminated else self._observe(answer)

    def _observe(self, answer: str) -> str:
        state = self._game.get_state()
        parts = []
        for command in ("look", "inventory"):
            parts.append(self._game.step(command)[0])
            self._game.set_state(state)
        parts.append(answer)
        if self._show_valid_actions:
            parts.append("Valid actions: " + ", ".join(self._find_valid_actions(self._game)))
        return "\n".join(part.strip() for part in parts)


def _load(story_file: Path) -> Any:
    jericho = require("jericho", "jericho")
    # The interpreter ends the whole process over a file that it cannot read, so look at it first.
    header = story_file.read_bytes()[:_HEADER_BYTES]
    if len(header) < _HEADER_BYTES or header[0] not in _VERSIONS:
        raise ValueError(f"{story_file} is not a Z-machine story file (.z3 to .z8).")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jericho.jericho.UnsupportedGameWarning)
        game = jericho.FrotzEnv(str(story_file))
    if not game.is_fully_supported:
        raise ValueError(
            f"Jericho cannot read the score of {story_file}, so every turn would be worth 0. It knows certain releases of "
            "certain games (see its documentation), and games that TextWorld made, in files whose names begin with `tw-`."
        )
    return game


def _check(command: Any) -> None:
    if not isinstance(command, str) or not command.strip():
        raise ValueError("command must be a non-empty string.")
    if len(command) > MAX_COMMAND_CHARS:
        raise ValueError(f"command is too long: at most {MAX_COMMAND_CHARS} characters.")
    if not command.strip().isascii() or not command.strip().isprintable():
        raise ValueError("command must be one line of plain letters, digits and punctuation.")
    if is_refused(command):
        raise ValueError("This command is not part of the game: play on.")
