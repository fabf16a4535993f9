"""Lessons in copying, for the warm start of [`trl_multiturn.recipes.travel_policy`].

Searches repeat what the user said, and a plan what the tools said. In whole trips a small model is slow to find that out, since
little of them is repeated and much lies between. A request followed by the searches for it, and a tool's answer followed by one
of its records as an item of an itinerary, teach it in minutes.
"""

from __future__ import annotations

import json
import logging
import random
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from ..environments.travel.query import Stay, TravelQuery
from ..environments.travel.task_queries import network
from ..environments.travel.texts import write_request


if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from ..environments.travel import TravelWorld


logger = logging.getLogger(__name__)

_DAYS = 350


def learn_to_copy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: TravelWorld,
    steps: int = 700,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    max_results: int = 2,
    seed: int = 0,
) -> list[float]:
    """
    Teach a model to write searches for a request, and a record of a tool's answer as an item of an itinerary.

    Args:
        model (`PreTrainedModel`):
            Model to train, in place.
        tokenizer (`PreTrainedTokenizerFast`):
            Its tokenizer.
        world ([`TravelWorld`]):
            Where the records are from.
        steps (`int`, *optional*, defaults to `700`):
            Number of steps.
        batch_size (`int`, *optional*, defaults to `64`):
            Records a step.
        learning_rate (`float`, *optional*, defaults to `3e-3`):
            Learning rate after the first steps.
        max_results (`int`, *optional*, defaults to `2`):
            Rows of a tool's answer.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the records.

    Returns:
        `list[float]`: At each step, the share of an item's tokens that the model would have written. Which record is
        repeated cannot be foreseen, so that it stays below 1.
    """
    import torch

    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 50))
    log: list[float] = []
    for step in range(steps):
        ids, written = _batch(tokenizer, world, rng, batch_size, max_results)
        hidden = model.model(input_ids=ids).last_hidden_state
        # Logits of what is written alone: most of the time would go into those of what is read.
        logits, targets = model.lm_head(hidden[:, :-1][written[:, 1:]]), ids[:, 1:][written[:, 1:]]
        torch.nn.functional.cross_entropy(logits, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        log.append((logits.argmax(-1) == targets).float().mean().item())
        if step % 50 == 49:
            logger.info("step %d: %.2f of the items copied", step + 1, sum(log[-50:]) / 50)
    return log


def _batch(
    tokenizer: PreTrainedTokenizerFast, world: TravelWorld, rng: random.Random, size: int, max_results: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and a mask of the items: one or two answers, then an item of each."""
    import torch

    answers = rng.choice([1, 1, 2])
    rows = []
    for _ in range(max(size // answers, 1)):
        lessons = [_lesson(world, rng, max_results) for _ in range(answers)]
        read, write = (tokenizer("".join(parts))["input_ids"] for parts in zip(*lessons, strict=True))
        rows.append((read, write))
    length = max(len(read) + len(write) for read, write in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    written = torch.zeros(len(rows), length, dtype=torch.bool)
    for row, (read, write) in enumerate(rows):
        ids[row, : len(read) + len(write)] = torch.tensor(read + write)
        written[row, len(read) : len(read) + len(write)] = True
    return ids, written


def _lesson(world: TravelWorld, rng: random.Random, max_results: int) -> tuple[str, str]:
    """Something to read, and what repeats a part of it."""
    kind = rng.choice(["request", "request", "flight", "flight", "train", "hotel", "visit"])
    if kind == "request":
        return _request(world, rng)
    day = world.today + timedelta(days=rng.randrange(1, _DAYS))
    here, there = rng.sample(world.cities, 2)
    nights = rng.randint(1, 3)
    if kind == "hotel":
        records = world.search_hotels(here, day.isoformat(), (day + timedelta(days=nights)).isoformat())
    elif kind == "visit":
        records = world.search_pois(here)
    else:
        records = (world.search_flights if kind == "flight" else world.search_trains)(here, there, day.isoformat())
    if not records:
        return _lesson(world, rng, max_results)
    start = rng.randrange(max(len(records) - max_results + 1, 1))
    shown = records[start : start + max_results]
    item = _item(kind, rng.choice(shown), day, nights)
    return f"<tool_response>{_dump(shown)}</tool_response>", _dump(item)


def _request(world: TravelWorld, rng: random.Random) -> tuple[str, str]:
    """A request, and the plain searches for its trip."""
    route = list(rng.choice(network(world).connected["train"]))
    rng.shuffle(route)
    if rng.random() < 0.3:
        route.append(rng.choice([city for city in world.cities if city not in route]))
    stays = [Stay(city=city, nights=rng.randint(1, 3)) for city in route[1:]]
    day = world.today + timedelta(days=rng.randrange(1, _DAYS))
    query = TravelQuery(
        id="lesson", level="easy", origin=route[0], stays=stays, start_date=day, adults=rng.randint(1, 4)
    )
    calls = []
    for here, stay in zip(route, stays, strict=False):
        leave = day + timedelta(days=stay.nights)
        calls.append(("search_flights", {"origin": here, "destination": stay.city, "date": f"{day}"}))
        calls.append(("search_hotels", {"city": stay.city, "check_in": f"{day}", "check_out": f"{leave}"}))
        day = leave
    calls.append(("search_flights", {"origin": route[-1], "destination": route[0], "date": f"{day}"}))
    said = (
        f'<tool_call>{{"name": "{name}", "arguments": {json.dumps(arguments)}}}</tool_call>'
        for name, arguments in calls
    )
    return (
        f"<|im_start|>user\n{write_request(query, rng)}<|im_end|>",
        "".join(f"<|im_start|>assistant\n{call}<|im_end|>" for call in said),
    )


def _item(kind: str, record: dict[str, Any], day: date, nights: int) -> dict[str, Any]:
    if kind == "hotel":
        check_in = f"{record['check_in']}T{record['check_in_from']}"
        price = record["nightly_price"]
        return {"type": kind, "id": record["hotel_id"], "check_in": check_in, "nights": nights, "price": price}
    if kind == "visit":
        hour, minute = map(int, record["open"].split(":"))
        end = hour * 60 + minute + record["visit_min"]
        times = {"start": f"{day}T{record['open']}", "end": f"{day}T{end // 60:02d}:{end % 60:02d}"}
        return {"type": kind, "id": record["poi_id"], **times, "price": record["ticket"]}
    number = record["flight_no" if kind == "flight" else "train_no"]
    repeated = {name: record[name] for name in ("origin", "destination", "depart", "arrive", "price")}
    return {"type": kind, "id": number, **repeated}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
