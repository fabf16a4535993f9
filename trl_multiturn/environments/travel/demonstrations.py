"""Demonstrations: episodes in which the solver's plan is found by searching, for a supervised cold start."""

import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from .arguments import TOOL_NAMES
from .environment import TravelEnvironment
from .errors import ToolError
from .itinerary import Hotel, Itinerary, Leg, Meal, Visit
from .query import Level, TravelQuery
from .solver import Solution, solve
from .solver_days import BUFFER_MINUTES
from .solver_options import hops
from .tasks import TRAVEL_SYSTEM_PROMPT, draw_tasks
from .world import TravelWorld, default_world


if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)

Message = dict[str, Any]

# A way that leaves less time than this is looked up.
_TIGHT_MINUTES = 90
_AT_HOP = ("connection", "transport", "seats", "depart_after", "return_before", "load")
_AT_STAY = ("arrival", "stars", "rooms")


class NotShown(RuntimeError):
    """Raised if a tool does not show a record of the plan, however narrow the search."""


def demonstrate(
    query: TravelQuery,
    world: TravelWorld,
    rng: random.Random,
    max_results: int = 5,
    error_rate: float = 0.0,
    solution: Solution | None = None,
) -> list[Message]:
    """
    Play an episode: search for each hop and stay in turn, then for sights, then look up ways that are tight, and answer with
    the solver's plan. If there is none, the searches end where that shows, and the answer says why.

    The calls are made in a real [`TravelEnvironment`], one in a message. Where a plain search does not show the record that
    the plan needs, a narrower one follows.

    Args:
        query ([`TravelQuery`]):
            What is asked for.
        world ([`TravelWorld`]):
            The world.
        rng (`random.Random`):
            Decides on mistakes.
        max_results (`int`, *optional*, defaults to `5`):
            Most records of one answer.
        error_rate (`float`, *optional*, defaults to `0.0`):
            Probability that a call is first made with a mistake: a misspelt city, a date that is past or badly written, an
            argument left out. The error is answered as TRL answers it, and the right call follows.
        solution ([`Solution`], *optional*):
            What [`solve`] found, if that is known.

    Returns:
        `list[dict]`: Messages from the first call to the answer.

    Raises:
        [`NotShown`]: If a record of the plan cannot be found.
        [`Undecided`]: If the solver gives up.
        `ValueError`: If `error_rate` is not from 0 to 1.
    """
    if not 0 <= error_rate <= 1:
        raise ValueError(f"`error_rate` must be from 0 to 1, got {error_rate!r}.")
    solution = solution if solution is not None else solve(query, world)
    episode = _Episode(query, world, rng, max_results, error_rate)
    episode.search(solution)
    return [*episode.messages, {"role": "assistant", "content": solution.itinerary.to_json()}]


def demonstrations(
    n: int,
    split: str = "train",
    levels: Sequence[Level] | None = None,
    language: str | None = None,
    seed: int = 0,
    world: TravelWorld | None = None,
    system_prompt: str | None = TRAVEL_SYSTEM_PROMPT,
    max_results: int = 5,
    error_rate: float = 0.2,
    verifier: Callable[..., list[float | None]] | None = None,
) -> "Dataset":
    """
    Demonstrations of the tasks that [`generate_tasks`] gives for the same arguments, verified, as TRL's `SFTTrainer` takes them.

    Those that the verifier does not give 1, and those whose plan the tools do not show, are left out, and further tasks take
    their place.

    Args:
        n (`int`):
            Number of demonstrations.
        split (`str`, *optional*, defaults to `"train"`):
            `"train"`, `"dev"` or `"test"`.
        levels (sequence of `str`, *optional*):
            Levels of the tasks; all four by default.
        language (`str`, *optional*):
            `"en"` or `"zh"`; either at random by default.
        seed (`int`, *optional*, defaults to `0`):
            Seed of tasks and mistakes.
        world ([`TravelWorld`], *optional*):
            World of the tasks. The default world if `None`.
        system_prompt (`str`, *optional*, defaults to [`TRAVEL_SYSTEM_PROMPT`]):
            System message; none if `None`.
        max_results (`int`, *optional*, defaults to `5`):
            Most records of one answer.
        error_rate (`float`, *optional*, defaults to `0.2`):
            Probability of a mistake before each call.
        verifier (`Callable`, *optional*):
            Reward function. [`HierarchicalReward`] over the same world if `None`.

    Returns:
        `datasets.Dataset`: Columns `messages`, `tools` (JSON schemas as one text), `query`, `level` and `task_id`.

    Raises:
        `ValueError`: If an argument is out of its range.
        `RuntimeError`: If more than half of the demonstrations have to be left out.
    """
    from datasets import Dataset, Features, Json, Value

    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"`n` must be a whole number from 1 on, got {n!r}.")
    world = world if world is not None else default_world()
    verifier = verifier if verifier is not None else _default_verifier(world)
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    tools = json.dumps(tool_schemas())
    rows: dict[str, list] = {"messages": [], "tools": [tools] * n, "query": [], "level": [], "task_id": []}
    tasks = draw_tasks(split, levels, language, seed, world)
    left_out = 0
    with tqdm(total=n, desc="Demonstrations", disable=n < 500) as bar:
        while len(rows["level"]) < n:
            query, request, solution = next(tasks)
            try:
                rng = random.Random(f"{seed}/{query.id}")
                played = demonstrate(query, world, rng, max_results, error_rate, solution)
            except NotShown:
                played = []
            text = query.model_dump_json()
            if not played or verifier(completions=[played], query=[text]) != [1.0]:
                left_out += 1
                if left_out > n + 10:
                    raise RuntimeError(f"{left_out} demonstrations did not pass, {len(rows['level'])} did.")
                continue
            rows["messages"].append([*system, {"role": "user", "content": request}, *played])
            rows["query"].append(text)
            rows["level"].append(query.level)
            rows["task_id"].append(query.id)
            bar.update()
    if left_out:
        logger.info("%d demonstrations did not pass and were left out, %d were kept.", left_out, n)
    text_value = Value("string")
    function = {"name": text_value, "arguments": Json()}
    message = {
        "role": text_value,
        "content": text_value,
        "name": text_value,
        "tool_calls": [{"type": text_value, "function": function}],
    }
    features = dict.fromkeys(rows, text_value) | {"messages": [message]}
    return Dataset.from_dict(rows, features=Features(features))


def tool_schemas() -> list[dict[str, Any]]:
    """
    Schemas of the environment's tools, in the order in which TRL renders them.

    Returns:
        `list[dict]`: One for each tool.
    """
    from transformers.utils import get_json_schema

    return [get_json_schema(getattr(TravelEnvironment, name)) for name in sorted(TOOL_NAMES)]


def _default_verifier(world: TravelWorld) -> Callable[..., list[float | None]]:
    from ...rewards.verifiers import HierarchicalReward, TrajectoryVerifier

    return HierarchicalReward(trajectory=TrajectoryVerifier(world))


class _Episode:
    """The calls of one episode."""

    def __init__(
        self, query: TravelQuery, world: TravelWorld, rng: random.Random, max_results: int, error_rate: float
    ) -> None:
        self._query, self._world, self._rng = query, world, rng
        self._max_results, self._error_rate = max_results, error_rate
        self._environment = TravelEnvironment(world, max_results)
        self._environment.reset()
        self.messages: list[Message] = []

    def search(self, solution: Solution) -> None:
        """All searches for a plan, or those up to the obstacle."""
        query, obstacle = self._query, solution.obstacle
        items = [item for _, item in solution.itinerary.items()]
        legs: list[Leg | None] = [item for item in items if isinstance(item, Leg)] or [None] * (len(query.stays) + 1)
        for hop, (leg, (here, there, day)) in enumerate(zip(legs, hops(query), strict=True)):
            stopped_by = obstacle.kind if obstacle is not None and obstacle.position == hop else ""
            self._search_legs(hop, here, there, day, leg, every_class=stopped_by == "seats")
            if stopped_by in _AT_HOP:
                return
            if hop < len(query.stays):
                nights = query.stays[hop].nights
                beds = [item for item in items if isinstance(item, Hotel) and _in_stay(item, day, nights)]
                self._search_hotels(there, day, nights, beds)
            if stopped_by in _AT_STAY:
                return
        self._search_pois(items)
        self._plan_ways(solution.itinerary)

    def _search_legs(self, hop: int, here: str, there: str, day: date, leg: Leg | None, every_class: bool) -> None:
        query = self._query
        route = {"origin": self._name(here), "destination": self._name(there), "date": day.isoformat()}
        flights: dict[str, Any] = dict(route)
        if query.cabin is not None:
            flights["cabin"] = query.cabin
        if hop == 0 and query.depart_after is not None:
            flights["depart_after"] = query.depart_after
        if query.transport != "train":
            hour = f"{leg.depart:%H}" if leg is not None else ""
            window = {"depart_after": f"{hour}:00", "depart_before": f"{hour}:59"}
            narrower = ({"cabin": "business"}, window, {"cabin": "business"} | window)
            self._search_for(
                "search_flights", flights, narrower if query.cabin is None else (window,), _leg_test(leg, "flight")
            )
            if every_class and query.cabin is None:
                self._call("search_flights", flights | {"cabin": "business"})
        # One can know that there are no trains over an ocean; for the demonstration, that there are none.
        if query.transport == "train" or (query.transport is None and self._world.search_trains(here, there, day)):
            self._search_for("search_trains", route, ({"seat_class": "first"},), _leg_test(leg, "train"))
            if every_class:
                self._call("search_trains", route | {"seat_class": "first"})

    def _search_hotels(self, city: str, day: date, nights: int, beds: list[Hotel]) -> None:
        def search(first: date, nights: int, bed: Hotel | None) -> None:
            asked: dict[str, Any] = {"city": self._name(city), "check_in": first.isoformat()}
            asked["check_out"] = (first + timedelta(days=nights)).isoformat()
            if self._query.min_star is not None:
                asked["min_star"] = self._query.min_star
            stars = [{"min_star": star} for star in range((self._query.min_star or 1) + 1, 6)]
            self._search_for("search_hotels", asked, stars, _hotel_test(bed))

        whole = beds[0] if len(beds) == 1 else None
        search(day, nights, whole)
        if whole is None:
            for bed in beds:
                search(bed.check_in.date(), bed.nights, bed)

    def _search_pois(self, items: list[Any]) -> None:
        visited = {
            poi["category"]: poi for item in items if isinstance(item, Visit) and (poi := self._world.poi(item.id))
        }
        for category in self._query.categories:
            poi = visited.get(category)
            cities = [stay.city for stay in self._query.stays] if poi is None else [poi["city"]]
            test = None if poi is None else (lambda row, id=poi["poi_id"]: row["poi_id"] == id)
            for city in dict.fromkeys(cities):
                self._search_for("search_pois", {"city": self._name(city), "category": category}, (), test)

    def _plan_ways(self, itinerary: Itinerary) -> None:
        for day in itinerary.days:
            stops = [item for item in day.items if isinstance(item, (Leg, Hotel, Visit))]
            for before, after in zip(stops, stops[1:], strict=False):
                start, end = before.span[1], after.span[0]
                meals = [item for item in day.items if isinstance(item, Meal) and start <= item.start <= end]
                free = end - start - sum((meal.end - meal.start for meal in meals), timedelta())
                buffer = BUFFER_MINUTES[after.type] if isinstance(after, Leg) else 0
                if free < timedelta(minutes=_TIGHT_MINUTES + buffer):
                    origin = before.destination if isinstance(before, Leg) else before.id
                    destination = after.origin if isinstance(after, Leg) else after.id
                    ends = {"origin_place_id": origin, "destination_place_id": destination}
                    if origin != destination:
                        self._call("plan_route", ends | {"mode": "taxi"})

    def _search_for(
        self,
        name: str,
        arguments: Mapping[str, Any],
        narrower: Sequence[Mapping[str, Any]],
        wanted: Callable[[Mapping[str, Any]], bool] | None,
    ) -> None:
        """Search, and if the wanted record is not shown, search once more by the first of the narrower ways that shows it."""
        self._call(name, arguments)
        if wanted is None or self._shows(name, arguments, wanted):
            return
        for more in narrower:
            if self._shows(name, {**arguments, **more}, wanted):
                self._call(name, {**arguments, **more})
                return
        raise NotShown(f"no search by {name} shows a record that the plan of {self._query.id} needs.")

    def _shows(self, name: str, arguments: Mapping[str, Any], wanted: Callable[[Mapping[str, Any]], bool]) -> bool:
        return any(wanted(row) for row in self._world.call(name, arguments)[: self._max_results])

    def _call(self, name: str, arguments: Mapping[str, Any]) -> None:
        """One call, perhaps with a mistake first."""
        if self._rng.random() < self._error_rate:
            wrong = self._with_mistake(arguments)
            try:
                self._world.call(name, wrong)
            except ToolError:
                self._play(name, wrong)
        self._play(name, arguments)

    def _play(self, name: str, arguments: Mapping[str, Any]) -> None:
        call = {"type": "function", "function": {"name": name, "arguments": dict(arguments)}}
        self.messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        try:
            content = getattr(self._environment, name)(**arguments)
        except Exception as error:  # as TRL's tool loop does, whose text the policy will see
            content = str({"error": str(error)})
        self.messages.append({"role": "tool", "name": name, "content": content})

    def _with_mistake(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        wrong = dict(arguments)
        name = self._rng.choice([name for name in wrong if name in _MISTAKES])
        change = self._rng.choice(_MISTAKES[name])
        if change is None:
            del wrong[name]
        else:
            wrong[name] = change(wrong[name])
        return wrong

    def _name(self, city: str) -> str:
        """A city as the user wrote it."""
        return self._world.city(city).zh if self._query.language == "zh" else city


def _in_stay(item: Hotel, first: date, nights: int) -> bool:
    return first <= item.check_in.date() < first + timedelta(days=nights)


def _leg_test(leg: Leg | None, type: str) -> Callable[[Mapping[str, Any]], bool] | None:
    if leg is None or leg.type != type:
        return None
    number = "flight_no" if type == "flight" else "train_no"
    return lambda row: row[number] == leg.id and row["price"] == leg.price


def _hotel_test(bed: Hotel | None) -> Callable[[Mapping[str, Any]], bool] | None:
    return None if bed is None else lambda row: row["hotel_id"] == bed.id


def _misspelt(name: str) -> str:
    middle = len(name) // 2
    return name[:middle] + name[middle + 1 :] if len(name) > 1 else name * 2


def _last_year(day: str) -> str:
    return (date.fromisoformat(day) - timedelta(days=365)).isoformat()


def _written_otherwise(day: str) -> str:
    return f"{date.fromisoformat(day):%d/%m/%Y}"


# For each argument, what can be wrong with it; `None` if it is left out.
_MISTAKES: dict[str, tuple[Callable[[str], str] | None, ...]] = {
    "origin": (_misspelt, None),
    "destination": (_misspelt, None),
    "city": (_misspelt, None),
    "date": (_last_year, _written_otherwise, None),
    "check_in": (_last_year, _written_otherwise, None),
    "check_out": (_written_otherwise, None),
    "origin_place_id": (_misspelt,),
    "destination_place_id": (_misspelt, None),
    "mode": (None,),
}
