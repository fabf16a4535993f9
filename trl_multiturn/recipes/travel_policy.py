"""A small policy for the travel sandbox, and the command that makes it.

It plans trips between a few cities, asked for in English. It is taught to copy
([`trl_multiturn.recipes.travel_copying`]), then warm-started by TRL's `SFTTrainer` on demonstrations of the solver. Its
mistakes are a small model's own: it copies wrong, and has no arithmetic.

```shell
python -m trl_multiturn.recipes.travel_policy --output_dir travel_policy
```
"""

from __future__ import annotations

import argparse
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..environments.travel.itinerary import Hotel, Leg, Visit, parse_itinerary
from .small_policy import (
    CHAT_TEMPLATE,
    TOOL_TAGS,
    build_model,
    build_tokenizer,
    sampling_trainer,
    save_policy,
    warm_start,
)


if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

    from ..environments.travel import TravelWorld
    from ..environments.travel.query import Level


logger = logging.getLogger(__name__)

TRAVEL_POLICY = Path(__file__).parent / "assets" / "travel_policy"

# Where it travels. Every pair is connected on most days, and some by train.
TRAVEL_CITIES = ("Beijing", "Chengdu", "Guangzhou", "Hong Kong", "Osaka", "Seoul", "Shanghai", "Tokyo")

# Levels of its tasks. It is not taught to give up: a model this small would always do.
LEVELS: tuple[Level, ...] = ("easy", "medium", "hard")

# Rows of a tool's answer: reading is what takes the time of a rollout.
MAX_RESULTS = 2

# Longest message and longest rollout of a trip to two cities, with room for a policy that learns to search more.
MAX_TURN_TOKENS = 320
MAX_TRIP_TOKENS = 1400
MAX_TURNS = 10

# A key of JSON with all the signs around it, such as `","depart":"`, and the opening of a call.
_KEYS = re.compile(r'[\]}\[{, "]*"[a-z_]+": ?(?:[\[{]+(?=")|")?')
_CALL = re.compile(r'\{"name": "\w+", "arguments": \{"\w+": "?')
_ENDS = ['"}}</tool_call>', "}}</tool_call>", ',"synthetic":true', '","synthetic":true', "}]</tool_response>"]
_NUMBERS = 1000

# Steps of lessons and number of demonstrations, round by round. The shipped weights were made so, except that the first round's
# lessons had no requests in them yet.
ROUNDS = ((700, 6_000), (500, 5_000))
_TOKENIZER_TEXTS = 2_000

# Its plans are of a hundred tokens and more that must all be right: it is sampled from below 1.
TEMPERATURE = 0.5

# Seed of tasks that no demonstration is of.
_HELD_OUT_SEED = 10_000
# Whatever is not a piece of its own is cut into words and numbers, coordinates whole.
_PIECES = r" ?\p{L}+|\p{N}+\.\p{N}+|\p{N}+|\s|."


def travel_world() -> TravelWorld:
    """The world that the policy knows."""
    from ..environments.travel import TravelWorld

    return TravelWorld(cities=TRAVEL_CITIES)


def shorten(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Leave out of a demonstration what costs much reading: the calls whose results the plan does not use, and the total price,
    which a model this small could not add up.

    Args:
        messages (`Sequence[dict]`):
            A demonstration.

    Returns:
        `list[dict]`: The same plan, found straight away. Every claim of it still has its source.
    """
    *before, last = messages
    itinerary = parse_itinerary(last["content"])
    missing = {item.id: _source(item) for _, item in itinerary.items() if isinstance(item, (Leg, Hotel, Visit))}
    kept = [message for message in before if message["role"] not in ("assistant", "tool")]
    for call, answer in zip(before, before[1:], strict=False):
        if answer["role"] != "tool":
            continue
        shown = [name for name, source in missing.items() if source.search(answer["content"])]
        if shown:
            kept += [call, answer]
        for name in shown:
            del missing[name]
    return [*kept, {**last, "content": itinerary.model_copy(update={"total_price": None}).to_json()}]


def _source(item: Leg | Hotel | Visit) -> re.Pattern[str]:
    """Finds the record of an item in a tool's answer."""
    if isinstance(item, Leg):
        return re.compile(rf'_no":"{item.id}"[^}}]*"depart":"{item.depart:%Y-%m-%dT%H:%M}"')
    if isinstance(item, Hotel):
        return re.compile(
            rf'"hotel_id":"{item.id}"[^}}]*"nightly_price":{item.price:.0f},[^}}]*"check_in":"{item.check_in.date()}"'
        )
    return re.compile(f'"poi_id":"{item.id}"')


def make_tokenizer(world: TravelWorld, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """
    The policy's tokenizer: what a model must copy whole is one piece or two.

    Args:
        world ([`TravelWorld`]):
            Its ids are pieces.
        texts (`Iterable[str]`):
            Demonstrations as they are rendered. Keys of JSON in them are pieces, signs around them included.

    Returns:
        `PreTrainedTokenizerFast`: The tokenizer, with the chat template of all small policies.
    """
    texts = list(texts)
    keys = Counter(key for text in texts for pattern in (_KEYS, _CALL) for key in pattern.findall(text))
    tags = [*TOOL_TAGS, *_ENDS, *sorted(key for key, count in keys.items() if count >= len(texts) / 200)]
    dates = [f"{year}-{month:02d}" for year in (2026, 2027) for month in range(1, 13)]
    dates += [f"-{day:02d}" for day in range(1, 32)]
    times = [f"T{hour:02d}" for hour in range(24)] + [f":{minute:02d}" for minute in range(60)]
    ids = {
        record[key]
        for city in world.cities
        for key, records in (
            ("hotel_id", world.search_hotels(city, "2026-06-01", "2026-06-02")),
            ("poi_id", world.search_pois(city)),
        )
        for record in records
    }
    places = {place for city in world.cities for place in (*world.city(city).airports, *world.city(city).stations)}
    numbers = [str(number) for number in range(10, _NUMBERS)]
    words = [*sorted(ids), *sorted(places), *numbers]
    return build_tokenizer(texts, _PIECES, [*tags, *dates, *times], words, vocab_size=1500)


def write_demonstrations(world: TravelWorld, n: int, seed: int, levels: Sequence[Level] = LEVELS) -> Dataset:
    """
    Demonstrations of the solver as this policy writes them.

    Args:
        world ([`TravelWorld`]):
            The world.
        n (`int`):
            Number of demonstrations, of the train split; a few that no longer pass once they are short are left out.
        seed (`int`):
            Seed of the tasks.
        levels (`Sequence[str]`, *optional*):
            Levels of the tasks.

    Returns:
        `Dataset`: Conversations that pass every verifier, in the column `messages`.
    """
    from datasets import Dataset, Features

    from ..environments.travel.demonstrations import demonstrations
    from ..rewards.verifiers import HierarchicalReward, TrajectoryVerifier

    rows = demonstrations(
        n,
        levels=levels,
        language="en",
        seed=seed,
        world=world,
        system_prompt=None,
        max_results=MAX_RESULTS,
        error_rate=0.0,
    )
    # A dataset fills in the keys that a message lacks.
    known = ([{k: v for k, v in message.items() if v is not None} for message in row] for row in rows["messages"])
    played = [shorten(messages) for messages in known]
    rewards = HierarchicalReward(trajectory=TrajectoryVerifier(world))(played, rows["query"])
    kept = [messages for messages, reward in zip(played, rewards, strict=True) if reward == 1.0]
    # Arguments differ from tool to tool: without its type, each call would get all others' with nothing in them.
    return Dataset.from_dict({"messages": kept}, features=Features({"messages": rows.features["messages"]}))


def build_policy(
    output_dir: str | Path, rounds: Sequence[tuple[int, int]] = ROUNDS, batch_size: int = 16, seed: int = 0
) -> list[dict[str, float]]:
    """
    Make the policy from nothing: tokenizer, then rounds of lessons in copying and a warm start on demonstrations.

    Args:
        output_dir (`str` or `Path`):
            Where the policy is saved: weights in half precision, loaded to float32.
        rounds (`Sequence[tuple[int, int]]`, *optional*):
            For each round, the steps of [`learn_to_copy`] and the number of demonstrations, of the train split.
        batch_size (`int`, *optional*, defaults to `16`):
            Demonstrations a step.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the lessons, the demonstrations, the weights and the order; each round has the next.

    Returns:
        `list[dict]`: The logs of the warm starts.
    """
    from transformers import set_seed

    from .travel_copying import learn_to_copy

    world = travel_world()
    tokenizer = make_tokenizer(world, map(render, write_demonstrations(world, _TOKENIZER_TEXTS, seed)["messages"]))
    set_seed(seed)
    model = build_model(tokenizer, hidden_size=128, intermediate_size=320)
    log: list[dict[str, float]] = []
    for i, (copy_steps, episodes) in enumerate(rounds):
        learn_to_copy(model, tokenizer, world, copy_steps, max_results=MAX_RESULTS, seed=seed + i)
        log += warm_start(
            model,
            tokenizer,
            write_demonstrations(world, episodes, seed + i),
            output_dir,
            batch_size=batch_size,
            seed=seed + i,
            max_length=MAX_TRIP_TOKENS,
            group_by_length=True,
        )
    save_policy(model, tokenizer, output_dir)
    return log


def render(messages: Sequence[dict[str, Any]]) -> str:
    """
    A conversation as the policy reads it.

    Args:
        messages (`Sequence[dict]`):
            The conversation.

    Returns:
        `str`: Its text, tags included.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: Any = render_jinja_template([list(messages)], chat_template=CHAT_TEMPLATE)
    return rendered[0][0]


def held_out_tasks(world: TravelWorld, n: int) -> Dataset:
    """
    Tasks to measure on: new ones between the cities of the train split. In a world of eight cities the test split has three
    pairs of cities, which are too few to measure on, and a model this small does not learn to plan for pairs it never saw.

    Args:
        world ([`TravelWorld`]):
            The world.
        n (`int`):
            Number of tasks.

    Returns:
        `Dataset`: The tasks.
    """
    from ..environments.travel import generate_tasks

    options: dict[str, Any] = {"levels": LEVELS, "language": "en", "world": world, "system_prompt": None}
    return generate_tasks(n, split="train", seed=_HELD_OUT_SEED, **options)


def measure_policy(policy: str | Path, tasks: int = 120, samples: int = 2, seed: int = 0) -> dict[str, float]:
    """
    Sample rollouts of a policy on held-out tasks by TRL's `GRPOTrainer`, at its temperature.

    Args:
        policy (`str` or `Path`):
            Folder of the policy.
        tasks (`int`, *optional*, defaults to `120`):
            Number of tasks.
        samples (`int`, *optional*, defaults to `2`):
            Rollouts of each task.
        seed (`int`, *optional*, defaults to `0`):
            Seed of sampling.

    Returns:
        `dict[str, float]`: Means of what [`HierarchicalReward`] logs.
    """
    from ..environments.travel import TravelEnvironment
    from ..rewards.verifiers import HierarchicalReward, TrajectoryVerifier

    world = travel_world()
    rows = held_out_tasks(world, tasks)
    with sampling_trainer(
        policy,
        rows,
        partial(TravelEnvironment, world, max_results=MAX_RESULTS),
        HierarchicalReward(trajectory=TrajectoryVerifier(world)),
        samples=samples,
        max_completion_length=MAX_TRIP_TOKENS,
        max_turn_tokens=MAX_TURN_TOKENS,
        max_turns=MAX_TURNS,
        seed=seed,
        temperature=TEMPERATURE,
    ) as trainer:
        trainer.evaluate()
    told = next(entry for entry in reversed(trainer.state.log_history) if "eval_verifier/pass" in entry)
    prefix = "eval_verifier/"
    return {name.removeprefix(prefix): float(value) for name, value in told.items() if name.startswith(prefix)}


def main(arguments: Sequence[str] | None = None) -> None:
    """
    The command.

    Args:
        arguments (`Sequence[str]`, *optional*):
            Command line; `sys.argv` by default.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trl_multiturn.recipes.travel_policy",
        description="Make the small policy of the travel sandbox: tokenizer, demonstrations, warm start, measurement.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output_dir", required=True, help="folder that the policy is saved in")
    parser.add_argument("--copy_steps", type=int, nargs="+", help="steps of lessons, one for each round")
    parser.add_argument("--episodes", type=int, nargs="+", help="number of demonstrations, one for each round")
    parser.add_argument("--batch_size", type=int, default=16, help="demonstrations a step")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything")
    parser.add_argument("--tasks", type=int, default=120, help="held-out tasks to measure on; 0: no measuring")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    steps, episodes = (
        given or [counts[i] for counts in ROUNDS] for i, given in enumerate((args.copy_steps, args.episodes))
    )
    if len(steps) != len(episodes):
        parser.error(f"copy_steps has {len(steps)} rounds, episodes has {len(episodes)}.")
    build_policy(args.output_dir, list(zip(steps, episodes, strict=True)), args.batch_size, args.seed)
    if args.tasks:
        for name, value in measure_policy(args.output_dir, args.tasks, seed=args.seed).items():
            logger.info("%s: %.3f", name, value)


if __name__ == "__main__":
    main()
