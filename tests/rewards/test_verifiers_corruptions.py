"""What goes wrong with a plan is seen by the right item, and good plans are not blamed.

`benchmarks/travel_verifiers.py` measures the same on 1,000 tasks.
"""

import itertools
import random
import re

import pytest

from trl_multiturn.environments.travel.tasks import draw_tasks
from trl_multiturn.rewards.verifiers import TrajectoryVerifier, TurnVerifier

from .corruptions import CALL, CORRUPTIONS, PLAN_FOR_INFEASIBLE, UNGROUNDED, make_case, measure
from .travel_case import world


TASKS = 200


@pytest.fixture(scope="module")
def tasks():
    drawn = itertools.islice(draw_tasks(seed=11, world=world()), TASKS)
    return [(query, solution.itinerary) for query, _, solution in drawn]


@pytest.fixture(scope="module")
def measured(tasks):
    return measure(tasks, world(), seed=1)


def test_there_are_enough_kinds_for_every_item():
    assert len(CORRUPTIONS) >= 25
    expected = {item for item, _ in CORRUPTIONS.values()}
    assert expected == {f"T{number}" for number in range(1, 11)} | {CALL, UNGROUNDED}


def test_good_plans_are_not_blamed(measured):
    assert len(measured.alarms) == TASKS
    assert sum(measured.alarms) <= TASKS / 100, measured.blamed[:3]


@pytest.mark.parametrize("name", [*CORRUPTIONS, PLAN_FOR_INFEASIBLE])
def test_a_corruption_is_seen_by_the_right_item(measured, name):
    caught = measured.caught[name]
    assert len(caught) >= 10
    assert sum(caught) / len(caught) >= 0.99, measured.missed[name]


def test_verification_is_fast(measured):
    assert sorted(measured.seconds)[TASKS // 2] < 2e-3


def test_evidence_names_the_place_and_numbers(tasks):
    """Every failure says where, and with which numbers or names."""
    trajectory, turn, seen = TrajectoryVerifier(world()), TurnVerifier(), set()
    for query, itinerary in tasks[:60]:
        if not itinerary.feasible:
            continue
        case = make_case(query, itinerary, world())
        for name, (_, corrupt) in CORRUPTIONS.items():
            broken = corrupt(case, random.Random(name))
            if broken is None:
                continue
            verdicts = [trajectory(broken.query, broken.itinerary), *turn(broken.itinerary, broken.turns)]
            for item, evidence in ((i, e) for verdict in verdicts for i, e in verdict.failures.items()):
                seen.add(item if item.startswith("T") else "turn")
                assert _PLACE.search(evidence) if item.startswith("T") else re.fullmatch(r"day \d+ item \d+", item)
                assert len(evidence) < 600
    assert seen == {f"T{number}" for number in range(1, 11)} | {"turn"}


# An item, a day, a night, or what belongs to no day: categories, sums, the number of legs or days, the route.
_PLACE = re.compile(r"day \d+|\d{4}-\d\d-\d\d|no \w+ is visited|costs \d+|\d+ legs|\d+ days|stays |infeasible")


def test_corruptions_leave_the_good_case_alone(tasks):
    query, itinerary = next((query, plan) for query, plan in tasks if query.meals and plan.feasible)
    case = make_case(query, itinerary, world())
    before = case.itinerary
    first = {name: corrupt(case, random.Random(1)) for name, (_, corrupt) in CORRUPTIONS.items()}
    again = {name: corrupt(case, random.Random(1)) for name, (_, corrupt) in CORRUPTIONS.items()}
    assert case.itinerary == before
    for name, broken in first.items():
        assert (broken is None) == (again[name] is None)
        if broken is not None:
            assert (broken.plan, broken.turns, broken.query) == (
                again[name].plan,
                again[name].turns,
                again[name].query,
            )
            assert (broken.plan, broken.turns, broken.query) != (case.plan, case.turns, case.query)
