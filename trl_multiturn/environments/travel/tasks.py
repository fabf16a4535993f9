"""Travel tasks as datasets: the request in words, and the structured query as ground truth."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from tqdm.auto import tqdm

from .query import Level, TravelQuery
from .solver import Solution
from .task_queries import SPLITS, draw_query
from .texts import write_request
from .world import TravelWorld, default_world


if TYPE_CHECKING:
    from datasets import Dataset

LEVELS: tuple[Level, ...] = get_args(Level)

TRAVEL_SYSTEM_PROMPT = """\
You plan trips with the tools. When you know enough, answer with one JSON object and nothing else:
{"feasible":true,"days":[{"date":"2026-03-04","items":[\
{"type":"flight","id":"XX101","origin":"AAA","destination":"BBB","depart":"2026-03-04T10:00","arrive":"2026-03-04T12:30","price":120},\
{"type":"hotel","id":"H-BBB234","check_in":"2026-03-04T15:00","nights":1,"price":90}]},\
{"date":"2026-03-05","items":[{"type":"visit","id":"P-BBB567","start":"2026-03-05T09:00","end":"2026-03-05T10:30","price":12},\
{"type":"meal","meal":"lunch","start":"2026-03-05T11:00","end":"2026-03-05T11:45"},\
{"type":"train","id":"X-102","origin":"ST-BBB","destination":"ST-AAA","depart":"2026-03-05T14:00","arrive":"2026-03-05T19:00","price":60}]}],\
"total_price":282}
If the request cannot be met: {"feasible":false,"reason":"..."}
- List every day of the trip and the items of each in order of time. Times are local.
- Take ids, places, times and prices from the tools. Price of a leg: one person. Of a hotel: one room and night as searched from its \
first night; two adults share a room. Of a visit: ticket of one person. total_price: everything for everyone.
- Between cities take one direct flight or train on its day; only the last one may arrive a day later.
- Ways within a city take a taxi's time (see plan_route) and cost nothing. Be at an airport 90 minutes before departure, at a station \
30 minutes.
- Check in after the arrival, on the same day, not before check_in_from. A visit is within opening hours and lasts visit_min or longer.
- Lunch starts from 11:00 to 14:30, dinner from 17:00 to 21:00; both last 45 minutes.
- Unless the user says otherwise, a day has at most 14 hours from the start of its first item to the end of its last.\
"""


def generate_tasks(
    n: int,
    split: Literal["train", "dev", "test"] = "train",
    levels: Sequence[Level] | None = None,
    language: Literal["en", "zh"] | None = None,
    seed: int = 0,
    world: TravelWorld | None = None,
    system_prompt: str | None = TRAVEL_SYSTEM_PROMPT,
) -> "Dataset":
    """
    Generate travel tasks.

    A row depends on `seed`, `split`, its number, `levels`, `language` and the world, and on nothing else: the first rows of a
    longer dataset are those of a shorter one. The level goes round, so that each has the same share. No pair of cities is origin
    and first city, in either direction, in two splits of one world.

    Args:
        n (`int`):
            Number of tasks.
        split (`str`, *optional*, defaults to `"train"`):
            `"train"`, `"dev"` or `"test"`.
        levels (sequence of `str`, *optional*):
            Levels to take turns with; by default `"easy"`, `"medium"`, `"hard"` and `"infeasible"`.
        language (`str`, *optional*):
            `"en"` or `"zh"`; either at random by default.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the tasks.
        world ([`TravelWorld`], *optional*):
            World in which they are set. The default world if `None`.
        system_prompt (`str`, *optional*, defaults to [`TRAVEL_SYSTEM_PROMPT`]):
            System message; none if `None`.

    Returns:
        `datasets.Dataset`: Columns `prompt` (messages), `query` (a [`TravelQuery`] as JSON), `level` and `task_id`.

    Raises:
        `ValueError`: If an argument is out of its range, or the world has too few connected cities.
        `RuntimeError`: If the world has no request of a level.
    """
    from datasets import Dataset, Features, Value

    rows: dict[str, list] = {"prompt": [], "query": [], "level": [], "task_id": []}
    tasks = draw_tasks(split, levels, language, seed, world)
    for _ in tqdm(range(_check_count(n)), desc="Travel tasks", disable=n < 500):
        query, request, _ = next(tasks)
        system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
        rows["prompt"].append([*system, {"role": "user", "content": request}])
        rows["query"].append(query.model_dump_json())
        rows["level"].append(query.level)
        rows["task_id"].append(query.id)
    text = Value("string")
    features = {"prompt": [{"role": text, "content": text}], "query": text, "level": text, "task_id": text}
    return Dataset.from_dict(rows, features=Features(features))


def draw_tasks(
    split: str = "train",
    levels: Sequence[Level] | None = None,
    language: str | None = None,
    seed: int = 0,
    world: TravelWorld | None = None,
) -> Iterator[tuple[TravelQuery, str, Solution]]:
    """
    The tasks of [`generate_tasks`] one after another, without end, with their solutions.

    Args:
        split (`str`, *optional*, defaults to `"train"`):
            `"train"`, `"dev"` or `"test"`.
        levels (sequence of `str`, *optional*):
            Levels to take turns with; all four by default.
        language (`str`, *optional*):
            `"en"` or `"zh"`; either at random by default.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the tasks.
        world ([`TravelWorld`], *optional*):
            World in which they are set. The default world if `None`.

    Returns:
        `Iterator[tuple[TravelQuery, str, Solution]]`: Query, request in words, solution.

    Raises:
        `ValueError`: If an argument is out of its range, or the world has too few connected cities.
        `RuntimeError`: If the world has no request of a level.
    """
    levels = LEVELS if levels is None else tuple(levels)
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, got {split!r}.")
    if not levels or any(level not in LEVELS for level in levels):
        raise ValueError(f"`levels` must be among {', '.join(LEVELS)}, got {levels!r}.")
    if language not in (None, "en", "zh"):
        raise ValueError(f"`language` must be 'en', 'zh' or None, got {language!r}.")
    return _draw_tasks(split, levels, language, seed, world if world is not None else default_world())


def _draw_tasks(
    split: str, levels: tuple[Level, ...], language: str | None, seed: int, world: TravelWorld
) -> Iterator[tuple[TravelQuery, str, Solution]]:
    index = 0
    while True:
        rng = random.Random(f"{seed}/{split}/{index}")  # a text is hashed by SHA-512, alike on every machine
        query, solution = draw_query(rng, levels[index % len(levels)], split, world)
        query = query.model_copy(update={"language": language or rng.choice(("en", "zh"))})
        digest = hashlib.sha256(f"{world.version}/{query.model_dump_json()}".encode()).hexdigest()
        query = query.model_copy(update={"id": f"travel-{split}-{digest[:12]}"})

        def name(city: str, chinese: bool = query.language == "zh") -> str:
            return world.city(city).zh if chinese else city

        yield query, write_request(query, rng, name), solution
        index += 1


def _check_count(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"`n` must be a whole number from 1 on, got {n!r}.")
    return n
