"""A small policy for the word games, and the command that makes it.

One model plays Twenty Questions and Guess My City; the rules in the prompt say which. It is taught which targets the answers
leave, and warm-started by TRL's `SFTTrainer` on the games of a deliberately poor player
([`trl_multiturn.recipes.word_game_episodes`]), so that there is much left to learn. A turn is four tokens and its answer
three, since games of twenty turns are generated turn by turn on a CPU.

```shell
python -m trl_multiturn.recipes.word_game_policy --output_dir word_game_policy
```
"""

from __future__ import annotations

import argparse
import logging
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .small_policy import TOOL_TAGS, build_model, build_tokenizer, sampling_trainer, save_policy, warm_start


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from .word_game_episodes import Episode, Game, GameName


logger = logging.getLogger(__name__)

WORD_GAME_POLICY = Path(__file__).parent / "assets" / "word_game_policy"

# Longest message it is allowed to write. Its own are four tokens; one that rambles would hold up the whole batch.
MAX_TURN_TOKENS = 12

# Rounds of calls and longest rollout of a game of twenty questions. The policy's games are at most 170 tokens: a turn and
# its answer are seven. There is room for a policy that learns to be wordier.
MAX_TURNS = 20
MAX_GAME_TOKENS = 256

_OPENING = '<tool_call>{"name": "ask", "arguments": {"question": "'
_CLOSING = '"}}</tool_call>'

# Whatever is not said in whole pieces (see `game_pieces`) is cut into words.
_PIECES = r"\w+\n|\p{L}+|\s|."


def game_pieces(games: Iterable[Game]) -> list[str]:
    """
    Texts that are one token each, so that rules, questions and answers are short.

    A question is its first two words, then the rest and the end of the call: choosing it takes two tokens.

    Args:
        games (`Iterable[Game]`):
            The games, each a [`~trl_multiturn.recipes.word_game_episodes.Game`].

    Returns:
        `list[str]`: The texts, in a fixed order.
    """
    from .word_game_episodes import LAST_MESSAGE

    pieces = {_OPENING, LAST_MESSAGE}
    for game in games:
        for message in game.prompt:
            pieces.update(re.split(r"(?<=[.:;?!])(?=\s)", message["content"]))
        for question in (*game.questions, *map(game.guess, game.targets)):
            head = " ".join(question.split(" ")[:2])
            pieces.update((head, question.removeprefix(head) + _CLOSING))
        for answers in game.answers.values():
            pieces.update(f"<tool_response>{answer}</tool_response>" for answer in answers.values())
        won, lost = game.endings
        pieces.update((f"<tool_response>{won}</tool_response>", lost))
    # A piece that isn't ASCII would be decoded as if its letters were bytes.
    return sorted(piece for piece in pieces if piece.isascii() and len(piece) > 1)


def learn_facts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    played: Sequence[tuple[Game, Episode]],
    steps: int,
    batch_size: int = 16,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> list[float]:
    """
    Teach a model which targets the answers leave, without telling it what to do with that.

    Wherever a question opens as a guess does, what the model would guess is drawn to every target still possible alike. A
    scripted guess shows one of them, and there are too few guesses in a short warm start to learn the facts from.

    Args:
        model (`PreTrainedModel`):
            Model to train, in place.
        tokenizer (`PreTrainedTokenizerFast`):
            Its tokenizer, of [`make_tokenizer`].
        played (`Sequence[tuple[Game, Episode]]`):
            Scripted games.
        steps (`int`):
            Number of steps.
        batch_size (`int`, *optional*, defaults to `16`):
            Games a step.
        learning_rate (`float`, *optional*, defaults to `3e-3`):
            Learning rate after the first steps; it falls to 0.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the order.

    Returns:
        `list[float]`: Divergence of the guesses at each step, in parts of that of a model which guesses anything: 1 is to
        know nothing, 0 everything.
    """
    import torch

    lessons = [_lesson(tokenizer, game, episode) for game, episode in played]
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 30, 1.05 - step / steps))
    rng = random.Random(seed)
    log: list[float] = []
    for step in range(steps):
        # Few questions first: what a single answer means is hard to see among twenty.
        length = 40 + int(140 * max(0.0, 1.5 * step / steps - 0.5))
        facts, ignorance, text = _fact_losses(model, rng.choices(lessons, k=batch_size), length, step > steps // 2)
        (facts + text).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        log.append(facts.item() / ignorance)
        if step % 100 == 99:
            logger.info("step %d: %.2f of the facts unknown, text %.2f", step + 1, sum(log[-100:]) / 100, text.item())
    return log


@dataclass(frozen=True)
class _Lesson:
    """A game in ids; where in it a question opens as guesses do; which targets are possible there; how each is named."""

    ids: torch.Tensor
    positions: torch.Tensor
    possible: torch.Tensor
    names: torch.Tensor


def _lesson(tokenizer: PreTrainedTokenizerFast, game: Game, episode: Episode) -> _Lesson:
    import torch

    guesses = tokenizer([game.guess(target) + _CLOSING for target in game.targets])["input_ids"]
    ids = tokenizer.apply_chat_template(episode.messages, return_dict=False)
    (opening,) = tokenizer(_OPENING)["input_ids"]
    turns = [position + 1 for position, piece in enumerate(ids) if piece == opening]
    positions, possible = [], []
    for turn, position in enumerate(turns):
        left = set(game.possible(episode.asked[:turn]))
        if ids[position] == guesses[0][0] and left:
            positions.append(position)
            possible.append([float(target in left) for target in game.targets])
    return _Lesson(
        torch.tensor(ids),
        torch.tensor(positions, dtype=torch.long),
        torch.tensor(possible).view(-1, len(game.targets)),
        torch.tensor([pieces[1] for pieces in guesses]),
    )


def _fact_losses(
    model: PreTrainedModel, lessons: Sequence[_Lesson], length: int, with_text: bool
) -> tuple[torch.Tensor, float, torch.Tensor]:
    """
    Mean divergence of the guesses within the first `length` tokens, and what it would be if all were alike.

    The divergence among guesses leaves open how likely a guess is at all: the third result is the loss of the next tokens,
    0 unless it is asked for.
    """
    import torch
    from torch.nn.functional import cross_entropy, kl_div

    ids = torch.nn.utils.rnn.pad_sequence([lesson.ids[:length] for lesson in lessons], batch_first=True)
    hidden = model.model(input_ids=ids).last_hidden_state
    losses, ignorance = [], []
    for row, lesson in enumerate(lessons):
        seen = lesson.positions < length
        logits = hidden[row, lesson.positions[seen]] @ model.lm_head.weight[lesson.names].T
        possible = lesson.possible[seen]
        share = possible / possible.sum(1, keepdim=True)
        losses.append(kl_div(logits.log_softmax(1), share, reduction="none").sum(1))
        ignorance.append(-possible.mean(1).log())
    text = torch.zeros(())
    if with_text:
        # Id 0 is what pads.
        text = cross_entropy(model.lm_head(hidden[:, :-1]).transpose(1, 2), ids[:, 1:], ignore_index=0)
    return torch.cat(losses).mean(), max(torch.cat(ignorance).mean().item(), 1e-6), text


def build_policy(
    output_dir: str | Path, episodes: int = 4_000, batch_size: int = 16, seed: int = 0, fact_steps: int = 2_200
) -> list[dict[str, float]]:
    """
    Make the policy from nothing: tokenizer, scripted games, facts, warm start.

    Args:
        output_dir (`str` or `Path`):
            Where the policy is saved: weights in half precision, loaded to float32.
        episodes (`int`, *optional*, defaults to `4000`):
            Number of scripted games.
        batch_size (`int`, *optional*, defaults to `16`):
            Games a step.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the games, the weights and the order.
        fact_steps (`int`, *optional*, defaults to `2200`):
            Number of steps of [`learn_facts`].

    Returns:
        `list[dict]`: The log of the warm start.
    """
    from datasets import Dataset
    from transformers import set_seed

    from .word_game_episodes import Game, PoorPlayer, play

    set_seed(seed)
    games = [Game("twenty_questions"), Game("guess_my_city")]
    tokenizer = make_tokenizer(games)
    model = build_model(tokenizer)
    rng = random.Random(seed)
    played = [(game, play(game, PoorPlayer(game), rng)) for game in rng.choices(games, k=episodes)]
    learn_facts(model, tokenizer, played, fact_steps, batch_size, seed=seed)
    rows = Dataset.from_list([{"messages": episode.messages} for _, episode in played])
    log = warm_start(model, tokenizer, rows, output_dir, batch_size=batch_size, learning_rate=1.5e-3, seed=seed)
    save_policy(model, tokenizer, output_dir)
    return log


def make_tokenizer(games: Sequence[Game]) -> PreTrainedTokenizerFast:
    """
    The policy's tokenizer.

    Args:
        games (`Sequence[Game]`):
            The games that it should be short in.

    Returns:
        `PreTrainedTokenizerFast`: The tokenizer, with the chat template of all small policies.
    """
    texts = [*(game.guess(target) for game in games for target in game.targets)]
    return build_tokenizer(texts, _PIECES, [*TOOL_TAGS, *game_pieces(games)], [], vocab_size=384)


def measure_policy(
    policy: str | Path, game: GameName, games: int = 128, samples: int = 2, seed: int = 0
) -> dict[str, float]:
    """
    Sample games of a policy by TRL's `GRPOTrainer`, at temperature 1.

    Args:
        policy (`str` or `Path`):
            Folder of the policy.
        game (`str`):
            Name of the game.
        games (`int`, *optional*, defaults to `128`):
            Number of targets, or all if there are fewer.
        samples (`int`, *optional*, defaults to `2`):
            Games of each target.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the targets and of sampling.

    Returns:
        `dict[str, float]`: `"return"` (mean, -20 to 0), `"won"` (share of games), `"questions"` (mean number asked) and
        `"tool_failures"` (share of calls).
    """
    from trl_multiturn.environments.word_games import load_word_game

    from .word_game_episodes import ENVIRONMENTS, is_won

    played: list[tuple[float, bool, int]] = []

    def note(environments: list[Any], **kwargs: Any) -> list[float]:
        for environment in environments:
            rewards = list(environment.turn_rewards)
            played.append((sum(rewards) + environment.get_reward(), is_won(rewards), len(rewards)))
        return [total for total, _, _ in played[-len(environments) :]]

    rows = load_word_game(game, seed=seed, limit=games)
    with sampling_trainer(
        policy,
        rows,
        ENVIRONMENTS[game],
        note,
        samples=samples,
        max_completion_length=MAX_GAME_TOKENS,
        max_turn_tokens=MAX_TURN_TOKENS,
        max_turns=MAX_TURNS,
        seed=seed,
    ) as trainer:
        metrics = trainer.evaluate()
    totals, won, questions = (sum(column) / len(played) for column in zip(*played, strict=True))
    failures = metrics.get("eval_tools/failure_frequency", 0.0)
    return {"return": totals, "won": won, "questions": questions, "tool_failures": failures}


def main(arguments: Sequence[str] | None = None) -> None:
    """
    The command.

    Args:
        arguments (`Sequence[str]`, *optional*):
            Command line; `sys.argv` by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trl_multiturn.recipes.word_game_policy",
        description="Make the small policy of the word games: tokenizer, scripted games, warm start, measurement.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output_dir", required=True, help="folder that the policy is saved in")
    parser.add_argument("--episodes", type=int, default=4_000, help="number of scripted games")
    parser.add_argument("--batch_size", type=int, default=16, help="games a step")
    parser.add_argument(
        "--fact_steps", type=int, default=2_200, help="steps that teach the facts, before the warm start"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything")
    parser.add_argument("--games", type=int, default=128, help="targets of each game to measure on; 0: no measuring")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build_policy(args.output_dir, args.episodes, args.batch_size, args.seed, args.fact_steps)
    if args.games:
        from .word_game_episodes import GAME_NAMES

        for game in GAME_NAMES:
            measured = measure_policy(args.output_dir, game, games=args.games, seed=args.seed)
            logger.info("%s: %s", game, ", ".join(f"{name} {value:.2f}" for name, value in measured.items()))


if __name__ == "__main__":
    main()
