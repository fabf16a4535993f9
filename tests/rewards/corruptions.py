"""Ways in which a good plan goes wrong, each with the item of the rubric, or the turn verdict, that must see it.

`CORRUPTIONS` has them by name; [`measure`] says how often the right item sees them, and how often a good plan is blamed.
"""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from trl_multiturn.environments.travel import Itinerary, TravelQuery, TravelWorld, solve
from trl_multiturn.environments.travel.solver import Undecided
from trl_multiturn.rewards.verifiers import TrajectoryVerifier, TurnVerifier

from . import corruptions_claims, corruptions_plan, corruptions_wishes
from .corruption_cases import CALL, CORRUPTIONS, UNGROUNDED, Case, make_case


PLAN_FOR_INFEASIBLE = "plan_for_an_infeasible_request"
MODULES = (corruptions_claims, corruptions_plan, corruptions_wishes)  # importing them fills the register


@dataclass
class Measured:
    """
    What was counted.

    Args:
        caught (`dict[str, list[bool]]`):
            For each corruption and each case that it applies to, whether the right item saw it.
        missed (`dict[str, str]`):
            The last case of a corruption that was not seen.
        alarms (`list[bool]`):
            For each good plan, whether it was blamed.
        blamed (`list[str]`):
            Why.
        seconds (`list[float]`):
            For each good plan, how long both levels took.
    """

    caught: dict[str, list[bool]] = field(default_factory=dict)
    missed: dict[str, str] = field(default_factory=dict)
    alarms: list[bool] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def measure(
    tasks: Iterable[tuple[TravelQuery, Itinerary]],
    world: TravelWorld,
    seed: int = 0,
    names: Iterable[str] | None = None,
) -> Measured:
    """Judge the solver's plans, and every corruption of each."""
    measured = Measured()
    trajectory, turn = TrajectoryVerifier(world), TurnVerifier()
    for query, itinerary in tasks:
        case = make_case(query, itinerary, world)
        started = time.perf_counter()
        verdict, turns = trajectory(query, itinerary), turn(itinerary, case.turns)
        measured.seconds.append(time.perf_counter() - started)
        measured.alarms.append(not (verdict.passed and all(one.passed for one in turns)))
        if measured.alarms[-1]:
            measured.blamed.append(f"{query.id}: {verdict.failures} {[one.failures for one in turns]}")
        if not itinerary.feasible:
            _count(measured, PLAN_FOR_INFEASIBLE, "any", plan_for_infeasible(query, world), trajectory, turn)
            continue
        for name in CORRUPTIONS if names is None else names:
            expected, corrupt = CORRUPTIONS[name]
            rng = random.Random(f"{seed} {name} {query.id}")
            _count(measured, name, expected, corrupt(case, rng), trajectory, turn)
    return measured


def _count(measured: Measured, name: str, expected: str, case: Case | None, trajectory, turn) -> None:
    if case is None:
        return
    caught = is_caught(case, expected, trajectory, turn)
    measured.caught.setdefault(name, []).append(caught)
    if not caught:
        measured.missed[name] = f"{case.query.model_dump_json(exclude_defaults=True)} {case.plan}"


def is_caught(case: Case, expected: str, trajectory: TrajectoryVerifier, turn: TurnVerifier) -> bool:
    """Whether the item of the rubric, or the turn verdict, that must see a corruption does."""
    if expected == "any":
        return not trajectory(case.query, case.itinerary).passed
    if expected in (CALL, UNGROUNDED):
        *calls, last = turn(case.itinerary, case.turns)
        return not last.passed if expected == UNGROUNDED else not all(call.passed for call in calls)
    return trajectory(case.query, case.itinerary).items[expected].status == "fail"


def plan_for_infeasible(query, world):
    """A plan that ignores what makes a request infeasible; `None` if no single wish does."""
    relaxed = [{name: None} for name in ("budget", "min_star", "cabin", "transport", "depart_after", "return_before")]
    for change in [*relaxed, {"categories": []}, {"meals": False}, {"max_active_hours": 24.0}, {"adults": 1}]:
        try:
            solution = solve(query.model_copy(update=change), world)
        except Undecided:
            continue
        if solution.feasible:
            return make_case(query, solution.itinerary, world)
    return None
