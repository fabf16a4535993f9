"""The itinerary a policy answers with: its schema, and a parser that says precisely what is wrong."""

import json
import re
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator


MAX_CHARS = 50_000

_LOCAL_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Far from the ends of the calendar, so that a time can be moved to another zone without overflow.
_YEARS = range(1900, 2201)
# Kinds of pydantic's problems whose message needs no value: it is missing, or the message has it.
_TOLD_WITHOUT_VALUE = ("missing", "value_error", "union_tag_not_found", "union_tag_invalid")
_MAX_PROBLEMS = 5
_MAX_PLACE_CHARS = 80
_MAX_MESSAGE_CHARS = 200

AnyDay = TypeVar("AnyDay", bound=date)


class ItineraryError(ValueError):
    """Text that is no itinerary. Its message names the place and the reason."""


def _local_time(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _LOCAL_TIME.fullmatch(value):
        raise ValueError(f"must be a local time YYYY-MM-DDTHH:MM, got {_brief(value)}")
    try:
        return _in_range(datetime.fromisoformat(value))
    except ValueError as error:
        raise ValueError(f"is no time that exists ({error}), got {value!r}") from None


def _day(value: Any) -> Any:
    if type(value) is date:
        return value
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError(f"must be a date YYYY-MM-DD, got {_brief(value)}")
    try:
        return _in_range(date.fromisoformat(value))
    except ValueError as error:
        raise ValueError(f"is no date that exists ({error}), got {value!r}") from None


def _in_range(value: AnyDay) -> AnyDay:
    if value.year not in _YEARS:
        raise ValueError(f"year must be {_YEARS[0]} to {_YEARS[-1]}")
    return value


LocalTime = Annotated[datetime, BeforeValidator(_local_time)]
Day = Annotated[date, BeforeValidator(_day)]
Id = Annotated[str, Field(min_length=1, max_length=64, strict=True)]
Price = Annotated[float, Field(ge=0, le=1e7, strict=True, allow_inf_nan=False)]


class _Item(BaseModel):
    """Each has a `type` first, since what follows depends on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """Local times at which the item starts and ends, each of the place it is at."""
        item: Any = self  # a leg and a hotel say otherwise; all others have these two
        return item.start, item.end


class Leg(_Item):
    """
    A flight or a train, as the search tool gave it. `price` is for one person.

    Args:
        type (`str`):
            `"flight"` or `"train"`.
        id (`str`):
            Flight or train number.
        origin (`str`):
            Place id of the airport or station it leaves from.
        destination (`str`):
            Place id of the airport or station it arrives at.
        depart (`datetime`):
            Local time at the origin.
        arrive (`datetime`):
            Local time at the destination.
        price (`float`):
            US dollars for one person.
    """

    type: Literal["flight", "train"]
    id: Id
    origin: Id
    destination: Id
    depart: LocalTime
    arrive: LocalTime
    price: Price

    @property
    def span(self) -> tuple[datetime, datetime]:
        return self.depart, self.arrive


class Hotel(_Item):
    """
    A hotel from check-in on. `price` is for one room and one night.

    Args:
        type (`str`):
            `"hotel"`.
        id (`str`):
            Hotel id.
        check_in (`datetime`):
            Local time of arrival.
        nights (`int`):
            Number of nights.
        price (`float`):
            US dollars for one room and one night.
    """

    type: Literal["hotel"]
    id: Id
    check_in: LocalTime
    nights: int = Field(ge=1, le=30, strict=True)
    price: Price

    @property
    def span(self) -> tuple[datetime, datetime]:
        return self.check_in, self.check_in


class Visit(_Item):
    """
    A visit to a point of interest. `price` is the ticket of one person.

    Args:
        type (`str`):
            `"visit"`.
        id (`str`):
            Id of the point of interest.
        start (`datetime`):
            Local time at which it starts.
        end (`datetime`):
            Local time at which it ends.
        price (`float`):
            US dollars for one person; 0 where entry is free.
    """

    type: Literal["visit"]
    id: Id
    start: LocalTime
    end: LocalTime
    price: Price


class Meal(_Item):
    """
    A meal, anywhere near where the party is then. Its cost is not counted.

    Args:
        type (`str`):
            `"meal"`.
        meal (`str`):
            `"lunch"` or `"dinner"`.
        start (`datetime`):
            Local time at which it starts.
        end (`datetime`):
            Local time at which it ends.
    """

    type: Literal["meal"]
    meal: Literal["lunch", "dinner"]
    start: LocalTime
    end: LocalTime


class Transfer(_Item):
    """
    A way within a city, as `plan_route` gave it. Optional: where none is listed, a taxi is assumed, at no cost.

    Args:
        type (`str`):
            `"transfer"`.
        mode (`str`):
            `"walk"`, `"transit"` or `"taxi"`.
        origin (`str`):
            Place id where it starts.
        destination (`str`):
            Place id where it ends.
        start (`datetime`):
            Local time at which it starts.
        end (`datetime`):
            Local time at which it ends.
        price (`float`):
            US dollars for the whole party.
    """

    type: Literal["transfer"]
    mode: Literal["walk", "transit", "taxi"]
    origin: Id
    destination: Id
    start: LocalTime
    end: LocalTime
    price: Price


Item = Annotated[Leg | Hotel | Visit | Meal | Transfer, Field(discriminator="type")]


class DayPlan(BaseModel):
    """
    One day of the trip. An item belongs to the day on which it starts.

    Args:
        date (`date`):
            The day.
        items (`list`):
            [`Leg`], [`Hotel`], [`Visit`], [`Meal`] and [`Transfer`], in order of time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    date: Day
    items: list[Item] = Field(max_length=40)


class Itinerary(BaseModel):
    """
    A plan, or the statement that there is none.

    Args:
        feasible (`bool`):
            Whether the request can be met.
        reason (`str`, *optional*):
            Why not. Required if `feasible` is `False`.
        days (`list[DayPlan]`, *optional*):
            Every day of the trip in order. Required if `feasible` is `True`.
        total_price (`float`, *optional*):
            US dollars for the whole party. May be left out; if given it must be right.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    feasible: Annotated[bool, Field(strict=True)]
    reason: str | None = Field(default=None, max_length=2_000)
    days: list[DayPlan] = Field(default_factory=list, max_length=62)
    total_price: Price | None = None

    @model_validator(mode="after")
    def _check(self) -> "Itinerary":
        if self.feasible and not self.days:
            raise ValueError("a feasible itinerary needs days")
        if not self.feasible and self.days:
            raise ValueError("an infeasible request has no days: set feasible to true or leave days out")
        if not self.feasible and not (self.reason and self.reason.strip()):
            raise ValueError("say in `reason` why the request is infeasible")
        return self

    def items(self) -> list[tuple[str, Any]]:
        """
        Every item with its place, such as `"day 2 item 1"`, in order.

        Returns:
            `list[tuple[str, Item]]`: Place and item.
        """
        return [
            (f"day {d} item {i}", item)
            for d, day in enumerate(self.days, start=1)
            for i, item in enumerate(day.items, start=1)
        ]

    def to_json(self) -> str:
        """The shortest text that [`parse_itinerary`] reads as this itinerary."""
        values = self.model_dump(exclude_none=True)
        if not self.feasible:
            del values["days"]
        return json.dumps(_shorten(values), ensure_ascii=False, separators=(",", ":"))


def parse_itinerary(text: str) -> Itinerary:
    """
    Read an itinerary from the policy's last message.

    It is the JSON object between `<answer>` and `</answer>` (the last such pair), else in the last fenced block, else the
    whole message.

    Args:
        text (`str`):
            The message.

    Returns:
        [`Itinerary`]: What it says.

    Raises:
        `ItineraryError`: If it is no itinerary. The message names up to five places and what is wrong there.
    """
    if not isinstance(text, str):
        raise ItineraryError(f"the answer must be text, got {type(text).__name__}")
    if len(text) > MAX_CHARS:
        raise ItineraryError(f"the answer has {len(text)} characters, more than {MAX_CHARS}")
    body = _body(text).strip()
    if not body:
        raise ItineraryError("the answer is empty")
    try:
        value = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except ItineraryError:
        raise
    except (ValueError, RecursionError) as error:
        raise ItineraryError(f"the answer is no JSON: {error or 'nested too deep'}") from None
    if not isinstance(value, dict):
        raise ItineraryError(f"the answer must be a JSON object, got {type(value).__name__}")
    try:
        return Itinerary.model_validate(value)
    except ValidationError as error:
        raise ItineraryError(_explain(error)) from None


def itinerary_schema() -> dict[str, Any]:
    """JSON schema of an itinerary, for a prompt or for constrained decoding."""
    return Itinerary.model_json_schema()


def _body(text: str) -> str:
    # Searched from the end, without patterns: a text full of opening tags must not take quadratic time.
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    if start >= 0:
        return text[start + len("<answer>") : end]
    parts = text.split("```")
    if len(parts) < 3:
        return text
    block = parts[-2] if len(parts) % 2 else parts[-3]
    language, newline, rest = block.partition("\n")
    return rest if newline and language.strip() in ("", "json") else block


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ItineraryError(f"the key {name[:40]!r} stands twice in one object")
        values[name] = value
    return values


def _no_constant(name: str) -> None:
    raise ItineraryError(f"{name} is no number")


def _brief(value: Any) -> str:
    return repr(str(value)[:40])


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=True)
    told = []
    for problem in problems[:_MAX_PROBLEMS]:
        message = problem["msg"].removeprefix("Value error, ")[:_MAX_MESSAGE_CHARS]
        value = "" if problem["type"] in _TOLD_WITHOUT_VALUE else f", got {_brief(problem['input'])}"
        told.append(f"{_place(problem['loc'])[:_MAX_PLACE_CHARS]}: {message}{value}")
    if len(problems) > _MAX_PROBLEMS:
        told.append(f"and {len(problems) - _MAX_PROBLEMS} more")
    return "; ".join(told)


def _place(loc: tuple[int | str, ...]) -> str:
    """`("days", 0, "items", 1, "visit", "start")` is "day 1 item 2 (visit) start"."""
    words, parts = [], list(loc)
    while parts:
        part = parts.pop(0)
        if part in ("days", "items") and parts and isinstance(parts[0], int):
            words.append(f"{part[:-1]} {int(parts.pop(0)) + 1}")
            if part == "items" and parts:
                words.append(f"({parts.pop(0)})")
        else:
            words.append(str(part))
    return " ".join(words) or "the itinerary"


def _shorten(value: Any) -> Any:
    """Times as text without seconds, whole prices without a point."""
    if isinstance(value, dict):
        return {name: _shorten(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shorten(part) for part in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    if isinstance(value, date):
        return value.isoformat()
    return int(value) if isinstance(value, float) and value.is_integer() else value
