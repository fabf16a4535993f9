"""A small policy for the search environment, and the command that makes it.

A random model never writes a tool call, and no hub is needed for a demonstration: this module trains a tokenizer, writes
a chat template, and warm-starts a small Qwen3 by TRL's `SFTTrainer` on the scripted episodes of
[`trl_multiturn.recipes.search_episodes`], mistakes included: choosing well is left to reinforcement learning.

```shell
python -m trl_multiturn.recipes.search_policy --output_dir search_policy
```
"""

from __future__ import annotations

import argparse
import functools
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from .small_policy import (  # noqa: F401 - the templates are part of this policy
    CHAT_TEMPLATE,
    RESPONSE_TEMPLATE,
    TOOL_TAGS,
    build_model,
    build_tokenizer,
    sampling_trainer,
    save_policy,
    warm_start,
)


logger = logging.getLogger(__name__)

SEARCH_POLICY = Path(__file__).parent / "assets" / "search_policy"

# What stands around the answer in the policy's last message, and so around the gold answer when its belief is scored.
BELIEF_PREFIX = "<answer>"
BELIEF_SUFFIX = "</answer>"

SPLITS: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")

# Longest message it is allowed to write. Its own are about 15 tokens; one that rambles would hold up the whole batch.
MAX_TURN_TOKENS = 40

_TAGS = [*TOOL_TAGS, BELIEF_PREFIX, BELIEF_SUFFIX]

# How text is cut before pieces are learned, first match wins. Codes and numbers are cut into letters and digits, as unseen
# ones would be. What lies between names (" is the capital of ") may become one piece, and so may the opening of a call:
# sequences stay short.
_PIECES = "|".join(
    [
        r"""\{"name": "\w+", "arguments": \{"\w+": \"""",
        r"""", "top_k": |\}\}|\[\d\] """,
        r"""(?<=\.)\p{Ll}(?=\p{Ll})|(?<=\.\p{Ll})\p{Ll}""",
        r"""\p{Lu}[\p{Ll}\p{M}'’]+|\p{Lu}|\p{N}""",
        r"""[^\p{Lu}\p{N}"{}\[.?]+|.""",
    ]
)


def build_policy(
    output_dir: str | Path, episodes: int = 24_000, batch_size: int = 16, seed: int = 0, max_steps: int = -1
) -> list[dict[str, float]]:
    """
    Make the policy from nothing: tokenizer, scripted episodes of the train split, warm start.

    Args:
        output_dir (`str` or `Path`):
            Where the policy is saved: weights in half precision, loaded to float32.
        episodes (`int`, *optional*, defaults to `24000`):
            Number of scripted episodes.
        batch_size (`int`, *optional*, defaults to `16`):
            Episodes a step.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the episodes, the weights and the order.
        max_steps (`int`, *optional*, defaults to `-1`):
            Number of steps; -1 passes over the episodes once.

    Returns:
        `list[dict]`: The log of the warm start.
    """
    from datasets import Dataset
    from transformers import set_seed

    from trl_multiturn.environments.search import BM25Index, load_fact_corpus, load_fact_questions

    from .search_episodes import EpisodeWriter

    set_seed(seed)
    index = BM25Index.from_dataset(load_fact_corpus())
    # Words of all splits' names are words of the language; what is true of them is told of the train split alone.
    names = [
        name for split in SPLITS for row in load_fact_questions(split, hops=[1, 2, 3]) for name in row["entities"]
    ]
    writer = EpisodeWriter(load_fact_questions("train", hops=[1, 2, 3]), index, names)
    tokenizer = build_tokenizer(list(writer.texts()), _PIECES, _TAGS, writer.words)
    model = build_model(tokenizer)
    rng = random.Random(seed)
    start = functools.partial(
        warm_start, model, tokenizer, output_dir=output_dir, batch_size=batch_size, max_steps=max_steps, seed=seed
    )
    # Every token first: a passage repeats the name it is about, so copying is learned from the results too, and sooner.
    whole = Dataset.from_list([{"messages": writer.write(rng)} for _ in range(episodes // 3)])
    log = start(episodes=whole, assistant_only=False)
    answers = Dataset.from_list([{"messages": writer.write(rng)} for _ in range(episodes - episodes // 3)])
    log += start(episodes=answers)
    save_policy(model, tokenizer, output_dir)
    return log


def measure_policy(
    policy: str | Path,
    split: Literal["train", "validation", "test"] = "test",
    questions: int = 64,
    samples: int = 2,
    seed: int = 0,
) -> dict[int, float]:
    """
    Sample rollouts of a policy by TRL's `GRPOTrainer`, at temperature 1.

    Args:
        policy (`str` or `Path`):
            Folder of the policy.
        split (`str`, *optional*, defaults to `"test"`):
            Split of the questions.
        questions (`int`, *optional*, defaults to `64`):
            Number of questions for each number of hops.
        samples (`int`, *optional*, defaults to `2`):
            Rollouts of each question.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the questions and of sampling.

    Returns:
        `dict[int, float]`: Share of exactly right answers, by number of hops.
    """
    from trl_multiturn.environments.search import BM25Index, SearchEnvironment, load_fact_corpus, load_fact_questions
    from trl_multiturn.rewards import exact_match_reward

    rows = {hops: load_fact_questions(split, hops=hops, seed=seed, limit=questions) for hops in (1, 2, 3)}
    environment = functools.partial(SearchEnvironment, BM25Index.from_dataset(load_fact_corpus()))
    with sampling_trainer(
        policy,
        rows[1],
        environment,
        exact_match_reward,
        samples=samples,
        max_completion_length=192,
        max_turn_tokens=MAX_TURN_TOKENS,
        max_turns=6,
        seed=seed,
    ) as trainer:
        return {hops: trainer.evaluate(asked)["eval_reward"] for hops, asked in rows.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """
    The command.

    Args:
        arguments (`Sequence[str]`, *optional*):
            Command line; `sys.argv` by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trl_multiturn.recipes.search_policy",
        description="Make the small policy of the search demonstration: tokenizer, warm start, measurement.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output_dir", required=True, help="folder that the policy is saved in")
    parser.add_argument("--episodes", type=int, default=24_000, help="number of scripted episodes")
    parser.add_argument("--batch_size", type=int, default=16, help="episodes a step")
    parser.add_argument("--max_steps", type=int, default=-1, help="number of steps; -1 passes over the episodes once")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything")
    parser.add_argument(
        "--questions", type=int, default=64, help="held-out questions a number of hops; 0: no measuring"
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build_policy(args.output_dir, args.episodes, args.batch_size, args.seed, args.max_steps)
    if args.questions:
        for hops, share in measure_policy(args.output_dir, questions=args.questions, seed=args.seed).items():
            logger.info("%d hop%s: %.0f%% right", hops, "s" if hops > 1 else "", 100 * share)


if __name__ == "__main__":
    main()
