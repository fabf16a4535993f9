"""The hierarchical reward, and the rubric and the claims on one plan made by hand."""

import copy
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.rewards.verifiers import (
    Check,
    HierarchicalReward,
    ToolTurn,
    TrajectoryVerifier,
    TurnVerifier,
    Verdict,
    VerdictUnavailable,
    tool_turns,
)

from .travel_case import itinerary, messages, plan, query, turns, world


@pytest.fixture(scope="module")
def rubric():
    return TrajectoryVerifier(world())


@pytest.fixture(scope="module")
def reward(rubric):
    return HierarchicalReward(trajectory=rubric)


class Log:
    """Takes what a reward function logs."""

    def __init__(self):
        self.metrics, self.columns = {}, {}

    def __call__(self, reward, completions, asked=None, **columns):
        asked = [query()] * len(completions) if asked is None else asked
        return reward(
            completions=completions,
            query=[row.model_dump_json() for row in asked],
            log_metric=lambda name, value: self.metrics.setdefault(name, []).append(value),
            log_extra=lambda name, values: self.columns.setdefault(name, []).extend(values),
            **columns,
        )


def changed(change):
    values = copy.deepcopy(plan())
    change(values)
    return values


def completion(values=None, calls=None):
    return messages(turns() if calls is None else calls, json.dumps(plan() if values is None else values))


# --- the plan made by hand


def test_a_good_plan_passes(rubric):
    verdict = rubric(query(), itinerary())
    assert verdict.passed and not verdict.failures
    assert list(verdict.items) == [f"T{number}" for number in range(1, 11)]
    assert {check.status for check in verdict.items.values()} == {"pass"}
    assert all(check.evidence for check in verdict.items.values())


def test_every_claim_of_a_good_plan_is_grounded():
    verdicts = TurnVerifier()(itinerary(), turns())
    assert len(verdicts) == len(turns()) + 1 and all(verdict.passed for verdict in verdicts)
    assert [list(verdict.items) for verdict in verdicts] == [
        ["day 1 item 1"],
        ["day 3 item 1"],
        ["day 1 item 3"],
        ["day 2 item 1", "day 2 item 3"],
        [],
        [],
    ]


def test_what_does_not_apply_is_na(rubric):
    def strip(values):
        for day in values["days"]:
            day["items"] = [item for item in day["items"] if item["type"] in ("flight", "hotel")]

    items = rubric(query(), itinerary(changed(strip))).items
    assert {name for name, check in items.items() if check.status == "na"} == {"T6", "T8"}


def test_an_unknown_visit_is_left_to_the_turn_level(rubric):
    def invent(values):
        values["days"][1]["items"][0]["id"] = "P-PVG000"
        del values["days"][1]["items"][2]

    check = rubric(query(), itinerary(changed(invent))).items["T6"]
    assert check.status == "na" and "day 2 item 1: P-PVG000" in check.evidence
    assert rubric(query(categories=["park"]), itinerary(changed(invent))).items["T8"].status == "fail"


def test_infeasible(rubric):
    none = itinerary({"feasible": False, "reason": "there is no flight"})
    right = rubric(query(level="infeasible"), none)
    assert right.passed and right.items["T1"].status == "pass" and right.items["T9"].status == "na"
    wrong = rubric(query(level="hard"), none)
    assert wrong.failures == {"T1": "said to be infeasible, but is hard"}
    assert TurnVerifier()(none, turns())[-1].passed


def test_far_dates_end_the_verification(rubric):
    far = changed(lambda values: values["days"][1]["items"][0].update(start="2090-01-01T00:00"))
    verdict = rubric(query(), itinerary(far))
    assert "day 2 item 1: far from the trip" in verdict.failures["T1"] and verdict.items["T3"].status == "na"


def test_a_meal_takes_its_time_from_the_way(rubric):
    def late(values):
        items = values["days"][1]["items"]
        items[1] |= {"start": "2026-05-06T11:05", "end": "2026-05-06T14:55"}
        items[2] |= {"start": "2026-05-06T15:00"}

    check = rubric(query(), itinerary(changed(late))).items["T4"]
    assert check.status == "fail" and "10 min" in check.evidence


def test_a_listed_transfer_goes_as_its_mode_does(rubric):
    items = plan()["days"][1]["items"]
    ends = items[0]["id"], items[2]["id"]
    minutes = world().route_minutes(*ends, "transit")
    way = {
        "type": "transfer",
        "mode": "transit",
        "origin": ends[0],
        "destination": ends[1],
        "start": "2026-05-06T13:00",
    }

    def add(length):
        end = f"2026-05-06T{13 + length // 60:02d}:{length % 60:02d}"
        return changed(lambda values: values["days"][1]["items"].insert(2, way | {"end": end, "price": 5}))

    assert rubric(query(), itinerary(add(minutes))).passed
    early = rubric(query(), itinerary(add(minutes - 1)))
    assert early.failures == {"T4": f"day 2 item 3: {minutes - 1} min for a way that takes {minutes} min by transit"}
    assert not rubric(query(budget=100), itinerary(add(minutes))).passed


def test_the_price_counts_everything(rubric):
    flights = [plan()["days"][0]["items"][0], plan()["days"][2]["items"][0]]
    visits = [plan()["days"][1]["items"][0], plan()["days"][1]["items"][2]]
    hotel = plan()["days"][0]["items"][2]
    total = sum(2 * item["price"] for item in (*flights, *visits)) + 2 * hotel["price"]
    three = total + sum(item["price"] for item in (*flights, *visits)) + 2 * hotel["price"]
    for adults, exact in ((2, total), (3, three)):
        assert rubric(query(budget=exact, adults=adults), itinerary()).items["T9"].status == "pass"
        check = rubric(query(budget=exact - 1, adults=adults), itinerary()).items["T9"]
        assert f"costs {exact:g}, budget {exact - 1}" in check.evidence
    assert rubric(query(), itinerary(plan() | {"total_price": total + 1})).passed
    assert "T9" in rubric(query(), itinerary(plan() | {"total_price": total + 2})).failures


# --- claims


def test_a_claim_must_stand_in_one_record():
    """The price of one flight and the times of another are no flight."""
    rows = json.loads(turns()[0].response)
    mine = plan()["days"][0]["items"][0]
    other = next(row["price"] for row in rows if abs(row["price"] - mine["price"]) > 1)
    mixed = changed(lambda values: values["days"][0]["items"][0].update(price=other))
    verdicts = TurnVerifier()(itinerary(mixed), turns())
    assert verdicts[0].failures == {"day 1 item 1": f"{mine['id']}: price {other} instead of {mine['price']}"} and all(
        verdict.passed for verdict in verdicts[1:]
    )


def test_the_closest_record_is_the_source():
    """A flight number is found on two days: the call for the right day is the one that is judged."""
    other_day = ToolTurn("search_flights", {}, turns()[0].response.replace("2026-05-05", "2026-05-04"), 0)
    wrong = changed(lambda values: values["days"][0]["items"][0].update(price=1))
    verdicts = TurnVerifier()(itinerary(wrong), [other_day, *turns()])
    assert verdicts[0].passed and "day 1 item 1" in verdicts[1].failures


def test_what_no_tool_said_fails_the_last_verdict():
    verdicts = TurnVerifier()(itinerary(), turns()[1:])
    assert [verdict.passed for verdict in verdicts] == [True] * 4 + [False]
    assert "is in no earlier tool response" in verdicts[-1].failures["day 1 item 1"]


@pytest.mark.parametrize(
    "response",
    [
        "",
        "null",
        "7",
        "[]",
        "[[]]",
        "{}",
        '{"flight_no": null}',
        '{"flight_no": ["HU848"]}',
        '{"error": "HU848"}',
        "{'flight_no': 'HU848'}",
        '[{"flight_no": "HU848"',
        "[" * 100_000,
        '{"hotel_id": "H-PVGYPA", "nightly_price": true, "check_in": 3}',
        '{"poi_id": "P-PVGVSQ", "ticket": NaN}',
        '{"poi_id": "P-PVGVSQ", "ticket": 1' + "0" * 400 + "}",
        "9" * 10_000,
    ],
)
def test_a_response_that_says_nothing_grounds_nothing(response):
    verdicts = TurnVerifier()(itinerary(), [ToolTurn("search_flights", {}, response, 0)])
    assert not any(verdict.passed for verdict in verdicts[-1:])


def test_a_record_hidden_in_text_or_deeper_grounds_nothing():
    rows = json.loads(turns()[0].response)
    for response in (f"see {turns()[0].response}", json.dumps([rows]), json.dumps({"results": rows})):
        verdicts = TurnVerifier()(itinerary(), [ToolTurn("search_web", {}, response, 0), *turns()[1:]])
        assert "day 1 item 1" in verdicts[-1].failures


# --- the calls of a completion


def test_the_calls_of_a_completion():
    found = tool_turns(completion())
    assert found == list(turns())


def test_arguments_go_with_their_call():
    def called(*names):
        calls = [
            {"type": "function", "function": {"name": name, "arguments": {"n": i}}} for i, name in enumerate(names)
        ]
        return {"role": "assistant", "content": "", "tool_calls": calls}

    def answered(name):
        return {"role": "tool", "name": name, "content": "x"}

    found = tool_turns([called("a", "b", "a"), answered("b"), answered("a"), answered("a"), answered("c"), called()])
    assert [(turn.name, turn.arguments) for turn in found] == [
        ("b", {"n": 1}),
        ("a", {"n": 0}),
        ("a", {"n": 2}),
        ("c", {}),
    ]


def test_only_what_came_before_the_answer_counts(reward):
    late = completion()
    late.insert(2, {"role": "assistant", "content": late[-1]["content"]})
    assert reward([late], [query().model_dump_json()]) == [1.0]
    # The plan is the last assistant message, and its flights were searched for only after it.
    early = [late[0], late[1], late[-1], {"role": "tool", "name": "search_flights", "content": turns()[1].response}]
    assert [turn.response for turn in tool_turns(early)] == [turns()[0].response]
    assert reward([early], [query().model_dump_json()]) == [0.0]


@pytest.mark.parametrize(
    "completion", ["text", None, 3, [], [3, None], [{"role": "tool"}], [{}], {"role": "assistant"}]
)
def test_a_completion_without_calls(completion):
    assert tool_turns(completion) == []


# --- the reward


class Spy:
    """A turn level that counts its calls."""

    def __init__(self, *shares):
        self.calls, self.shares = 0, shares

    def __call__(self, itinerary, tool_turns):
        self.calls += 1
        return [Verdict({"x": Check(status, "said so")}) for status in self.shares]


def late_visit(values):
    values["days"][1]["items"][2]["end"] = "2026-05-06T22:30"


def test_the_turn_level_is_not_asked_about_a_plan_that_failed(rubric):
    spy, log = Spy("pass"), Log()
    reward = HierarchicalReward(trajectory=rubric, turn=spy)
    completions = [completion(changed(late_visit)), [{"role": "assistant", "content": "I give up."}], completion()]
    assert log(reward, completions) == [0.0, 0.0, 1.0]
    assert spy.calls == 1
    assert log.metrics["verifier/turns_skipped"] == [1.0, 1.0, 0.0]
    assert log.metrics["verifier/turn"] == [1.0]
    assert log.metrics["verifier/format"] == [1.0, 0.0, 1.0]
    assert log.metrics["verifier/trajectory"] == [0.0, 1.0]
    assert log.metrics["verifier/fail/T6"] == [1.0, 0.0] and log.metrics["verifier/fail/T1"] == [0.0, 0.0]
    assert "verifier/ungrounded_claims" not in log.metrics


def test_the_trajectory_level_is_not_asked_about_what_is_no_plan():
    def never(query, itinerary):
        raise AssertionError("asked")

    assert HierarchicalReward(trajectory=never)(["no plan"], [query().model_dump_json()]) == [0.0]


STATUSES = ("pass", "fail", "na", "pass")


@pytest.mark.parametrize(
    "combine, weights, good, broken, unread",
    [
        ("gated_product", None, 0.0, 0.0, 0.0),
        ("gated_mean", None, 2 / 3, 0.0, 0.0),
        ("weighted", (0.1, 0.3, 0.6), 0.1 + 0.3 + 0.6 * 2 / 3, 0.1, 0.0),
    ],
)
def test_combinations(rubric, combine, weights, good, broken, unread):
    reward = HierarchicalReward(combine, weights=weights, trajectory=rubric, turn=Spy(*STATUSES))
    completions = [completion(), completion(changed(late_visit)), "no plan"]
    assert Log()(reward, completions) == pytest.approx([good, broken, unread])


@pytest.mark.parametrize(
    "combine, weights", [("gated_product", None), ("gated_mean", None), ("weighted", (0.2, 0.3, 0.5))]
)
def test_a_perfect_plan_earns_1(rubric, combine, weights):
    assert Log()(HierarchicalReward(combine, weights=weights, trajectory=rubric), [completion()]) == [1.0]


def test_calls_for_nothing_do_not_dilute_a_bad_turn(rubric):
    reward = HierarchicalReward("gated_mean", trajectory=rubric)
    wrong = changed(lambda values: values["days"][0]["items"][0].update(price=1))
    padding = [ToolTurn("search_web", {}, "[]", 5)] * 20
    assert Log()(reward, [completion(wrong), completion(wrong, [*turns(), *padding])]) == [0.75, 0.75]


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"combine": "product"}, "combine must be one of"),
        ({"weights": (0.2, 0.3, 0.5)}, "no effect"),
        ({"combine": "gated_mean", "weights": (0.2, 0.3, 0.5)}, "no effect"),
        ({"combine": "weighted"}, "three weights"),
        ({"combine": "weighted", "weights": (0.5, 0.5)}, "three weights"),
        ({"combine": "weighted", "weights": (0.5, 0.6, 0.1)}, "sum 1"),
        ({"combine": "weighted", "weights": (1.5, -0.5, 0.0)}, "sum 1"),
        ({"combine": "weighted", "weights": (float("nan"), 0.5, 0.5)}, "sum 1"),
        ({"turn": Spy(), "measure_claims": True}, "needs TurnVerifier"),
    ],
)
def test_settings_that_cannot_take_effect(rubric, wrong, told):
    with pytest.raises(ValueError, match=told):
        HierarchicalReward(**{"trajectory": rubric, **wrong})


@pytest.mark.parametrize("wrong", ["", "{}", "[]", "null", '{"id": "q"}', 3, None])
def test_a_query_that_is_none_names_its_row(reward, wrong):
    with pytest.raises(ValueError, match="Row 1 of the batch, column `query`"):
        reward(["x", "x"], [query().model_dump_json(), wrong])


def test_a_query_may_be_values(reward):
    assert reward([completion()], [query().model_dump()]) == [1.0]


def test_what_is_logged(reward):
    log = Log()
    invented = changed(lambda values: values["days"][0]["items"][0].update(price=1))
    completions = [completion(), completion(changed(late_visit), turns()[:4]), completion(invented), "no"]
    assert log(reward, completions, level=["easy", "hard", "easy", "hard"]) == [1.0, 0.0, 0.0, 0.0]
    assert log.metrics["verifier/pass"] == [1.0, 0.0, 0.0, 0.0]
    assert log.metrics["verifier/pass/easy"] == [1.0, 0.0] and log.metrics["verifier/pass/hard"] == [0.0, 0.0]
    # Two flights of six claims, a hotel of three, two visits of two. The second plan fails before the turn level.
    assert log.metrics["verifier/ungrounded_claims"] == [0.0, 0.0, 1 / 19]
    assert log.metrics["verifier/ungrounded_plans"] == [0.0, 0.0, 1.0]
    assert log.metrics["verifier/turn"] == [1.0, 0.0] and log.metrics["verifier/unavailable"] == [0.0] * 4
    texts = log.columns["verdict"]
    assert texts[0] == "pass" and texts[1].startswith("trajectory T3, T6: day 2 item 4: starts 270 min before")
    assert texts[2].startswith("turn 1 search_flights day 1 item 1: ") and texts[3].startswith("format: ")


def test_claims_are_measured_only_if_wanted(rubric):
    log = Log()
    log(HierarchicalReward(trajectory=rubric, measure_claims=False), [completion()])
    assert "verifier/ungrounded_claims" not in log.metrics and log.metrics["verifier/pass"] == [1.0]


def test_no_verdict_is_no_reward(rubric):
    def away(itinerary, tool_turns):
        raise VerdictUnavailable("away")

    log = Log()
    assert log(HierarchicalReward(trajectory=rubric, turn=away), [completion(), "no"]) == [None, 0.0]
    assert log.metrics["verifier/unavailable"] == [1.0, 0.0] and log.columns["verdict"][0] == "no verdict: away"
    assert log.metrics["verifier/pass"] == [0.0]


def test_an_error_of_a_backend_is_not_swallowed(rubric):
    def broken(itinerary, tool_turns):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Log()(HierarchicalReward(trajectory=rubric, turn=broken), [completion()])


def test_threads_share_a_reward(reward):
    completions = [completion(), completion(changed(late_visit)), "no"] * 4
    asked = [query().model_dump_json()] * len(completions)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: reward(completions, asked), range(16)))
    assert all(result == [1.0, 0.0, 0.0] * 4 for result in results)


def test_trl_can_name_it(reward):
    from trl.trainer.utils import get_callable_name

    assert get_callable_name(reward) == "hierarchical_reward"


# --- whatever the policy and its tools come up with

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "flight_no",
        "train_no",
        "hotel_id",
        "poi_id",
        "origin",
        "destination",
        "check_in",
        "check_out",
        "price",
        "ticket",
    ]
)
VALUES = JSON | st.sampled_from(["HU848", "HU904", "H-PVGYPA", "P-PVGVSQ", "PEK", "2026-05-05", "9999-12-31", 10**400])
ROWS = st.lists(st.dictionaries(FIELDS, VALUES, max_size=6), max_size=3).map(json.dumps)
ROLES = st.sampled_from(["assistant", "tool", "user", "system"]) | JSON
CONTENT = JSON | ROWS | st.just("[" * 100_000) | st.just("x" * 1_000_000) | st.just("\ud800")
MESSAGES = st.fixed_dictionaries({}, optional={"role": ROLES, "content": CONTENT, "tool_calls": JSON, "name": JSON})
ANSWERS = st.sampled_from([f"<answer>{json.dumps(plan())}</answer>", '{"feasible": false, "reason": "no"}'])
FINAL = ANSWERS.map(lambda text: [{"role": "assistant", "content": text}])


@settings(deadline=None, max_examples=200)
@given(JSON | CONTENT | st.lists(MESSAGES | JSON, max_size=4), FINAL | st.just([]))
def test_no_completion_raises(reward, start, end):
    completion = [*start, *end] if isinstance(start, list) else start
    (given,) = reward([completion], [query().model_dump_json()], log_metric=float_only, log_extra=text_only)
    assert isinstance(given, float) and 0.0 <= given <= 1.0


def float_only(name, value):
    assert isinstance(value, float) and 0.0 <= value <= 1.0, name


def text_only(name, values):
    assert all(isinstance(value, str) and len(value) <= 300 for value in values)


@st.composite
def mutated_plans(draw):
    """The good plan with a few of its values replaced by anything."""
    values = copy.deepcopy(plan())
    for _ in range(draw(st.integers(1, 4))):
        day = draw(st.sampled_from(values["days"]))
        target = draw(st.sampled_from([day, *day["items"]]))
        name = draw(st.sampled_from(sorted(target)))
        if name != "items":
            times = st.datetimes().map(lambda time: time.isoformat(timespec="minutes"))
            target[name] = draw(times | st.dates().map(str) | st.text(max_size=70) | st.integers() | st.floats(0, 1e7))
    return values


@settings(deadline=None, max_examples=300)
@given(mutated_plans())
def test_no_plan_raises(reward, values):
    (given,) = reward([completion(values)], [query(budget=1000, meals=True, categories=["park"]).model_dump_json()])
    assert isinstance(given, float) and 0.0 <= given <= 1.0


def test_a_deep_answer_does_not_raise(reward):
    deep = '{"feasible": ' * 50_000
    assert sys.getrecursionlimit() < 50_000
    assert reward([[{"role": "assistant", "content": deep}]], [query().model_dump_json()]) == [0.0]
