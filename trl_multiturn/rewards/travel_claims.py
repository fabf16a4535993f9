"""Did a tool say so? Each claim of a plan against the responses that came earlier in the same rollout."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ..environments.travel import Itinerary
from ..environments.travel.itinerary import Hotel, Leg, Transfer, Visit
from .travel_trip import minutes_between
from .verdicts import Check, ToolTurn, Verdict


PRICE_TOLERANCE = 0.5

# A response is read up to this length: the sandbox's own are a hundred times shorter.
MAX_RESPONSE_CHARS = 200_000

_KEYS = {"flight_no": "flight", "train_no": "train", "hotel_id": "hotel", "poi_id": "visit"}


@dataclass(frozen=True)
class ItemClaims:
    """
    What became of the claims of one item.

    Args:
        where (`str`):
            The item's place in the itinerary, such as `"day 2 item 1"`.
        name (`str`):
            What it is called: its id, or its two ends.
        total (`int`):
            How many claims it makes.
        call (`int`, *optional*):
            Index of the tool call whose record is closest to it; `None` if no response has it.
        wrong (`tuple[str, ...]`):
            Claims that this record does not bear out, with both values.
    """

    where: str
    name: str
    total: int
    call: int | None
    wrong: tuple[str, ...]

    @property
    def ungrounded(self) -> int:
        """How many of its claims no response bears out."""
        return self.total if self.call is None else len(self.wrong)


class TurnVerifier:
    """
    Judges each tool call by what the plan made of its response.

    A flight or train claims its number, both ends, both times and its price; a hotel its id, its price, its first night and
    that no more nights follow than were searched for; a visit its id and its ticket; a transfer its ends, mode, duration and cost. All claims of an
    item must be borne out by one record of one response: exactly, prices to 0.5. Meals claim nothing.

    An item is judged at the call whose record is closest to it, and fails there if a claim differs. An item that is in no
    response fails the last verdict, which belongs to no call: the plan made it up.
    """

    def __call__(self, itinerary: Itinerary, tool_turns: Sequence[ToolTurn]) -> list[Verdict]:
        """
        Judge every call.

        Args:
            itinerary ([`Itinerary`]):
                The plan.
            tool_turns (`Sequence[ToolTurn]`):
                The calls of its rollout before it, as [`tool_turns`] gives them.

        Returns:
            `list[Verdict]`: One for each call, with the items that rest on it, and a last one with those that rest on none.
        """
        checks: list[dict[str, Check]] = [{} for _ in range(len(tool_turns) + 1)]
        for item in item_claims(itinerary, tool_turns):
            if item.call is None:
                checks[-1][item.where] = Check("fail", f"{item.name} is in no earlier tool response")
            elif item.wrong:
                checks[item.call][item.where] = Check("fail", f"{item.name}: {'; '.join(item.wrong)}")
            else:
                checks[item.call][item.where] = Check("pass", f"{item.name}: {item.total} claims as the tool said")
        return [Verdict(items) for items in checks]


def item_claims(itinerary: Itinerary, tool_turns: Sequence[ToolTurn]) -> list[ItemClaims]:
    """
    Look up every claim of an itinerary.

    Args:
        itinerary ([`Itinerary`]):
            The plan.
        tool_turns (`Sequence[ToolTurn]`):
            The tool calls before it.

    Returns:
        `list[ItemClaims]`: One for each item that makes claims.
    """
    records: dict[tuple[str, ...], list[tuple[int, dict[str, Any]]]] = {}
    for call, turn in enumerate(tool_turns):
        for record in _records(turn.response):
            if key := _key(record):
                records.setdefault(key, []).append((call, record))
    found = []
    for where, item in itinerary.items():
        told = _claims(item)
        if told is None:
            continue
        key, claims = told
        best: tuple[int | None, tuple[str, ...]] = (None, ())
        for call, record in records.get(key, ()):
            wrong = tuple(_differences(claims, record))
            if best[0] is None or len(wrong) < len(best[1]):
                best = call, wrong
            if not wrong:
                break
        # The key is claimed too: that there is such a thing, or such a way from one end to the other.
        found.append(ItemClaims(where, " to ".join(key[1:]), len(claims) + len(key) - 1, *best))
    return found


def _claims(item: Any) -> tuple[tuple[str, ...], list[tuple[str, Any]]] | None:
    """What an item is found by, and the fields that a record of it must have; `None` for a meal."""
    if isinstance(item, Leg):
        ends = [("origin", item.origin), ("destination", item.destination)]
        times = [("depart", _minute(item.depart)), ("arrive", _minute(item.arrive))]
        return (item.type, item.id), [*ends, *times, ("price", item.price)]
    if isinstance(item, Hotel):
        return ("hotel", item.id), [("nights", (item.check_in.date(), item.nights)), ("nightly_price", item.price)]
    if isinstance(item, Visit):
        return ("visit", item.id), [("ticket", item.price)]
    if isinstance(item, Transfer):
        minutes = minutes_between(item.start, item.end)
        return ("transfer", item.origin, item.destination), [
            ("mode", item.mode),
            ("duration_min", minutes),
            ("cost", item.price),
        ]
    return None


def _differences(claims: list[tuple[str, Any]], record: dict[str, Any]) -> list[str]:
    """Each claim that a record does not bear out, with both values."""
    wrong = []
    for name, claim in claims:
        if name == "nights":
            first, nights = claim
            if not _covers(record, first, nights):
                searched = f"{record.get('check_in')!s:.40} to {record.get('check_out')!s:.40}"
                wrong.append(f"{nights} nights from {first} instead of {searched}")
        elif not _same(claim, record.get(name)):
            wrong.append(f"{name} {claim:.10g}" if isinstance(claim, float) else f"{name} {claim}")
            wrong[-1] += f" instead of {record.get(name)!s:.40}"
    return wrong


def _covers(record: dict[str, Any], first: date, nights: int) -> bool:
    """Whether a stay from that day on was searched for, of so many nights or more: the price is that of its first day."""
    try:
        check_in, check_out = (date.fromisoformat(record[name]) for name in ("check_in", "check_out"))
    except (KeyError, TypeError, ValueError):
        return False
    return check_in == first and nights <= (check_out - check_in).days


def _same(claim: Any, said: Any) -> bool:
    if isinstance(claim, str):
        return claim == said
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        return False
    # Compared without arithmetic on what was said, which may be an integer too long for a float.
    return claim - PRICE_TOLERANCE <= said <= claim + PRICE_TOLERANCE if isinstance(claim, float) else claim == said


def _records(response: str) -> list[dict[str, Any]]:
    """The rows of a response: an object, or those in a list. Nothing deeper, nothing in other text."""
    if len(response) > MAX_RESPONSE_CHARS:
        return []
    try:
        value = json.loads(response)
    except (ValueError, RecursionError):
        return []
    rows = value if isinstance(value, list) else [value]
    return [row for row in rows if isinstance(row, dict)]


def _key(record: dict[str, Any]) -> tuple[str, ...] | None:
    for field, kind in _KEYS.items():
        if field in record:
            return (kind, record[field]) if isinstance(record[field], str) else None
    origin, destination = record.get("origin"), record.get("destination")
    return ("transfer", origin, destination) if isinstance(origin, str) and isinstance(destination, str) else None


def _minute(time: datetime) -> str:
    return time.isoformat(timespec="minutes")
