"""A small policy for the travel sandbox, and the command that makes it.

It plans trips between a few cities, asked for in English. It is warm-started by TRL's `SFTTrainer` on demonstrations of the
solver, and its mistakes are a small model's own: it copies wrong, and has no arithmetic.

```shell
python -m trl_multiturn.recipes.travel_policy --output_dir travel_policy
```
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .small_policy import CHAT_TEMPLATE, TOOL_TAGS, build_model, build_tokenizer, save_policy, warm_start


if TYPE_CHECKING:
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
MAX_TURNS = 12

# A key of JSON with all the signs around it, such as `","depart":"`, and the opening of a call.
_KEYS = re.compile(r'[\]}\[{, "]*"[a-z_]+": ?(?:[\[{]+(?=")|")?')
_CALL = re.compile(r'\{"name": "\w+", "arguments": \{"\w+": "?')
_ENDS = ['"}}</tool_call>', "}}</tool_call>", ',"synthetic":true', '","synthetic":true', "}]</tool_response>"]
_NUMBERS = 1000
# Whatever is not a piece of its own is cut into words and numbers, coordinates whole.
_PIECES = r" ?\p{L}+|\p{N}+\.\p{N}+|\p{N}+|\s|."


def travel_world() -> TravelWorld:
    """The world that the policy knows."""
    from ..environments.travel import TravelWorld

    return TravelWorld(cities=TRAVEL_CITIES)


def strip_total(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Leave the total price out of the itinerary, where it may be left out: a model this small cannot add.

    Args:
        messages (`Sequence[dict]`):
            A demonstration.

    Returns:
        `list[dict]`: The same, its last message changed.
    """
    *before, last = messages
    content = re.sub(r',"total_price":[\d.]+(?=\}\s*(</answer>)?$)', "", last["content"])
    return [*before, {**last, "content": content}]


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


def write_demonstrations(
    world: TravelWorld, n: int, seed: int, levels: Sequence[Level] = LEVELS, error_rate: float = 0.05
) -> list[list[dict[str, Any]]]:
    """
    Demonstrations of the solver as this policy writes them.

    Args:
        world ([`TravelWorld`]):
            The world.
        n (`int`):
            Number of demonstrations, of the train split.
        seed (`int`):
            Seed of tasks and mistakes.
        levels (`Sequence[str]`, *optional*):
            Levels of the tasks.
        error_rate (`float`, *optional*, defaults to `0.05`):
            Probability that a call is made wrong first and then put right.

    Returns:
        `list[list[dict]]`: Conversations.
    """
    from ..environments.travel.demonstrations import demonstrations

    rows = demonstrations(
        n,
        levels=levels,
        language="en",
        seed=seed,
        world=world,
        system_prompt=None,
        max_results=MAX_RESULTS,
        error_rate=error_rate,
    )
    # A dataset fills in the keys that a message lacks.
    known = ([{k: v for k, v in message.items() if v is not None} for message in row] for row in rows["messages"])
    return [strip_total(messages) for messages in known]


def build_policy(
    output_dir: str | Path, episodes: int = 12_000, batch_size: int = 16, seed: int = 0, max_steps: int = -1
) -> list[dict[str, float]]:
    """
    Make the policy from nothing: tokenizer, demonstrations of the train split, warm start.

    Args:
        output_dir (`str` or `Path`):
            Where the policy is saved: weights in half precision, loaded to float32.
        episodes (`int`, *optional*, defaults to `12000`):
            Number of demonstrations, of which two thirds are of easy tasks.
        batch_size (`int`, *optional*, defaults to `16`):
            Demonstrations a step.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the demonstrations, the weights and the order.
        max_steps (`int`, *optional*, defaults to `-1`):
            Number of steps of each of the two passes; -1 is until its demonstrations have been seen.

    Returns:
        `list[dict]`: The log of the warm start.
    """
    from datasets import Dataset
    from transformers import set_seed

    set_seed(seed)
    world = travel_world()
    easy = write_demonstrations(world, 2 * episodes // 3, seed, ["easy"])
    mixed = write_demonstrations(world, episodes - len(easy), seed + 1, LEVELS)
    tokenizer = make_tokenizer(world, map(render, [*easy[:1_000], *mixed[:1_000]]))
    model = build_model(tokenizer, hidden_size=128, intermediate_size=320)
    log: list[dict[str, float]] = []
    # Every token of short trips first: an answer repeats the search it answers, so copying is learned from the results too,
    # and sooner.
    for played, assistant_only in ((easy, False), (mixed, True)):
        log += warm_start(
            model,
            tokenizer,
            Dataset.from_list([{"messages": messages} for messages in played]),
            output_dir,
            batch_size=batch_size,
            max_steps=max_steps,
            seed=seed,
            assistant_only=assistant_only,
            max_length=MAX_TRIP_TOKENS,
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
