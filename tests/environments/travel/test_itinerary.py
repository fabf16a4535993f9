import copy
import json
import time
from datetime import date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.environments.travel import Itinerary, ItineraryError, itinerary_schema, parse_itinerary
from trl_multiturn.environments.travel.itinerary import MAX_CHARS, DayPlan, Hotel, Leg, Meal, Transfer, Visit


LEG = {
    "type": "flight",
    "id": "AB12",
    "origin": "PEK",
    "destination": "CDG",
    "depart": "2026-03-04T10:00",
    "arrive": "2026-03-04T15:30",
    "price": 700,
}
HOTEL = {"type": "hotel", "id": "H-1", "check_in": "2026-03-04T18:00", "nights": 1, "price": 90}
VISIT = {"type": "visit", "id": "P-1", "start": "2026-03-05T10:00", "end": "2026-03-05T11:00", "price": 0}
MEAL = {"type": "meal", "meal": "lunch", "start": "2026-03-05T12:00", "end": "2026-03-05T13:00"}
TRANSFER = {
    "type": "transfer",
    "mode": "taxi",
    "origin": "CDG",
    "destination": "H-1",
    "start": "2026-03-04T16:00",
    "end": "2026-03-04T16:40",
    "price": 35,
}
PLAN = {
    "feasible": True,
    "days": [
        {"date": "2026-03-04", "items": [LEG, TRANSFER, HOTEL]},
        {"date": "2026-03-05", "items": [VISIT, MEAL]},
    ],
    "total_price": 825.5,
}


def plan_with(item, **changes):
    """The plan with one item as its first day's only one, some of its values changed; `None` leaves a value out."""
    values = {name: value for name, value in {**item, **changes}.items() if value is not None}
    return {"feasible": True, "days": [{"date": "2026-03-04", "items": [values]}]}


def message(value):
    with pytest.raises(ItineraryError) as caught:
        parse_itinerary(value if isinstance(value, str) else json.dumps(value))
    return str(caught.value)


class TestRight:
    def test_plain_json_is_read(self):
        itinerary = parse_itinerary(json.dumps(PLAN))
        assert itinerary.days[0].items[0] == Leg(
            type="flight",
            id="AB12",
            origin="PEK",
            destination="CDG",
            depart=datetime(2026, 3, 4, 10),
            arrive=datetime(2026, 3, 4, 15, 30),
            price=700,
        )
        assert itinerary.total_price == 825.5
        assert [place for place, _ in itinerary.items()] == [
            "day 1 item 1",
            "day 1 item 2",
            "day 1 item 3",
            "day 2 item 1",
            "day 2 item 2",
        ]

    @pytest.mark.parametrize(
        "text",
        [
            "<answer>{}</answer>",
            "I looked.\n<answer>\n{}\n</answer> Done.",
            "<answer>not this</answer> but <answer>{}</answer>",
            "<answer> open, <answer>{}</answer>",
            "```json\n{}\n```",
            "```\n{}\n```",
            "Here:\n```json\n[1]\n```\nbetter:\n```json\n{}```\nthat is it",
            "```{}```",
            "```json\n{}\n```\nan open one:\n```json\n",
            "  \n{}\n",
        ],
    )
    def test_wrappings(self, text):
        assert parse_itinerary(text.replace("{}", json.dumps(PLAN))) == parse_itinerary(json.dumps(PLAN))

    def test_infeasible(self):
        itinerary = parse_itinerary('{"feasible": false, "reason": "no train on that day"}')
        assert not itinerary.feasible and itinerary.days == []
        assert itinerary.to_json() == '{"feasible":false,"reason":"no train on that day"}'

    def test_spans(self):
        itinerary = parse_itinerary(json.dumps(PLAN))
        spans = [item.span for _, item in itinerary.items()]
        assert spans[0] == (datetime(2026, 3, 4, 10), datetime(2026, 3, 4, 15, 30))
        assert spans[2] == (datetime(2026, 3, 4, 18), datetime(2026, 3, 4, 18))
        assert spans[4] == (datetime(2026, 3, 5, 12), datetime(2026, 3, 5, 13))

    def test_schema_names_every_kind_of_item(self):
        assert {"Leg", "Hotel", "Visit", "Meal", "Transfer", "DayPlan"} <= set(itinerary_schema()["$defs"])

    def test_a_text_that_begins_like_a_time_stays_whole(self):
        reason = "2026-03-04T10:00:30 is too early"
        text = Itinerary(feasible=False, reason=reason).to_json()
        assert parse_itinerary(text).reason == reason


# What is wrong, and the whole message that says so.
WRONG = {
    "nothing": ("", "the answer is empty"),
    "nothing between the tags": ("<answer> </answer>", "the answer is empty"),
    "prose": ("Sorry.", "the answer is no JSON: Expecting value: line 1 column 1 (char 0)"),
    "a list": ("[1]", "the answer must be a JSON object, got list"),
    "not a number": ('{"feasible": true, "total_price": NaN}', "NaN is no number"),
    "infinity": ('{"feasible": true, "total_price": -Infinity}', "-Infinity is no number"),
    "a key twice": ('{"feasible": true, "feasible": true}', "the key 'feasible' stands twice in one object"),
    "no feasible": ({"days": PLAN["days"]}, "feasible: Field required"),
    "feasible as text": (PLAN | {"feasible": "yes"}, "feasible: Input should be a valid boolean, got 'yes'"),
    "feasible as number": (PLAN | {"feasible": 1}, "feasible: Input should be a valid boolean, got '1'"),
    "feasible without days": ({"feasible": True}, "the itinerary: a feasible itinerary needs days"),
    "infeasible with days": (
        PLAN | {"feasible": False, "reason": "x"},
        "the itinerary: an infeasible request has no days: set feasible to true or leave days out",
    ),
    "infeasible without reason": (
        {"feasible": False},
        "the itinerary: say in `reason` why the request is infeasible",
    ),
    "infeasible with a blank reason": (
        {"feasible": False, "reason": "  "},
        "the itinerary: say in `reason` why the request is infeasible",
    ),
    "unknown key": (PLAN | {"price": 3}, "price: Extra inputs are not permitted, got '3'"),
    "total as text": (PLAN | {"total_price": "9"}, "total_price: Input should be a valid number, got '9'"),
    "total below zero": (
        PLAN | {"total_price": -9},
        "total_price: Input should be greater than or equal to 0, got '-9'",
    ),
    "total too large for a float": (
        '{"feasible": true, "days": [{"date": "2026-03-04", "items": []}], "total_price": 1e999}',
        "total_price: Input should be a finite number, got 'inf'",
    ),
    "days no list": (PLAN | {"days": {}}, "days: Input should be a valid list, got '{}'"),
    "day without date": ({"feasible": True, "days": [{"items": []}]}, "day 1 date: Field required"),
    "day without items": ({"feasible": True, "days": [{"date": "2026-03-04"}]}, "day 1 items: Field required"),
    "date in another order": (
        {"feasible": True, "days": [{"date": "04.03.2026", "items": []}]},
        "day 1 date: must be a date YYYY-MM-DD, got '04.03.2026'",
    ),
    "date that does not exist": (
        {"feasible": True, "days": [{"date": "2026-02-30", "items": []}]},
        "day 1 date: is no date that exists (day is out of range for month), got '2026-02-30'",
    ),
    "date too far away": (
        {"feasible": True, "days": [{"date": "9999-12-31", "items": []}]},
        "day 1 date: is no date that exists (year must be 1900 to 2200), got '9999-12-31'",
    ),
    "item without type": (plan_with(LEG, type=None), "day 1 item 1: Unable to extract tag using discriminator 'type'"),
    "item of an unknown type": (
        plan_with(LEG, type="bus"),
        "day 1 item 1: Input tag 'bus' found using 'type' does not match any of the expected tags: "
        "'flight', 'train', 'hotel', 'visit', 'meal', 'transfer'",
    ),
    "item no object": (
        {"feasible": True, "days": [{"date": "2026-03-04", "items": ["rest"]}]},
        "day 1 item 1: Input should be a valid dictionary or object to extract fields from, got 'rest'",
    ),
    "leg without price": (plan_with(LEG, price=None), "day 1 item 1 (flight) price: Field required"),
    "price with a currency": (
        plan_with(LEG, price="$700"),
        "day 1 item 1 (flight) price: Input should be a valid number, got '$700'",
    ),
    "price true": (
        plan_with(LEG, price=True),
        "day 1 item 1 (flight) price: Input should be a valid number, got 'True'",
    ),
    "empty id": (
        plan_with(LEG, id=""),
        "day 1 item 1 (flight) id: String should have at least 1 character, got ''",
    ),
    "id a number": (plan_with(LEG, id=7), "day 1 item 1 (flight) id: Input should be a valid string, got '7'"),
    "time with seconds": (
        plan_with(LEG, depart="2026-03-04T10:00:00"),
        "day 1 item 1 (flight) depart: must be a local time YYYY-MM-DDTHH:MM, got '2026-03-04T10:00:00'",
    ),
    "time with a zone": (
        plan_with(LEG, depart="2026-03-04T10:00Z"),
        "day 1 item 1 (flight) depart: must be a local time YYYY-MM-DDTHH:MM, got '2026-03-04T10:00Z'",
    ),
    "time in other digits": (
        plan_with(LEG, depart="２０２６-03-04T10:00"),
        "day 1 item 1 (flight) depart: must be a local time YYYY-MM-DDTHH:MM, got '２０２６-03-04T10:00'",
    ),
    "time a number": (
        plan_with(LEG, depart=1772618400),
        "day 1 item 1 (flight) depart: must be a local time YYYY-MM-DDTHH:MM, got '1772618400'",
    ),
    "time that does not exist": (
        plan_with(LEG, depart="2026-03-04T25:00"),
        "day 1 item 1 (flight) depart: is no time that exists (hour must be in 0..23), got '2026-03-04T25:00'",
    ),
    "no nights": (
        plan_with(HOTEL, nights=0),
        "day 1 item 1 (hotel) nights: Input should be greater than or equal to 1, got '0'",
    ),
    "half a night": (
        plan_with(HOTEL, nights=1.5),
        "day 1 item 1 (hotel) nights: Input should be a valid integer, got '1.5'",
    ),
    "breakfast": (
        plan_with(MEAL, meal="breakfast"),
        "day 1 item 1 (meal) meal: Input should be 'lunch' or 'dinner', got 'breakfast'",
    ),
    "visit without end": (plan_with(VISIT, end=None), "day 1 item 1 (visit) end: Field required"),
    "unknown mode": (
        plan_with(TRANSFER, mode="bike"),
        "day 1 item 1 (transfer) mode: Input should be 'walk', 'transit' or 'taxi', got 'bike'",
    ),
    "a hotel's key in a leg": (
        plan_with(LEG, nights=1),
        "day 1 item 1 (flight) nights: Extra inputs are not permitted, got '1'",
    ),
}


class TestWrong:
    @pytest.mark.parametrize("name", WRONG)
    def test_message(self, name):
        value, expected = WRONG[name]
        assert message(value) == expected

    def test_several_problems_are_all_named_up_to_five(self):
        days = [{"date": f"2026-03-0{i}", "items": [{**VISIT, "price": -1}]} for i in range(1, 4)]
        told = message({"feasible": True, "days": days})
        assert [part.split(":")[0] for part in told.split("; ")] == [
            f"day {i} item 1 (visit) price" for i in (1, 2, 3)
        ]
        days = [{"date": f"2026-03-0{i}", "items": [{**VISIT, "price": -1}]} for i in range(1, 8)]
        assert message({"feasible": True, "days": days}).endswith("; and 2 more")

    def test_too_many_items_and_days(self):
        day = {"date": "2026-03-04", "items": [MEAL] * 41}
        assert message({"feasible": True, "days": [day]}).startswith("day 1 items: List should have at most 40 items")
        days = [{"date": "2026-03-04", "items": []}] * 63
        assert message({"feasible": True, "days": days}).startswith("days: List should have at most 62 items")

    def test_a_message_stays_short(self):
        long = "x" * 20_000
        for value in (plan_with(LEG, type=long), PLAN | {long: long}, plan_with(LEG, depart=long)):
            assert len(message(value)) < 400

    def test_too_long(self):
        assert message(" " * (MAX_CHARS + 1)) == f"the answer has {MAX_CHARS + 1} characters, more than {MAX_CHARS}"

    def test_no_text(self):
        for value in (None, b"{}", {}):
            with pytest.raises(ItineraryError, match="the answer must be text, got"):
                parse_itinerary(value)

    @pytest.mark.parametrize("depth", [100, 900, 20_000])
    def test_nested_too_deep(self, depth):
        for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            message(text)
            message('{"feasible": true, "days": ' + text + "}")

    def test_an_integer_too_long_to_read(self):
        assert "no JSON" in message('{"feasible": true, "total_price": 1' + "0" * 5_000 + "}")

    def test_repeated_tags_take_no_quadratic_time(self):
        started = time.perf_counter()
        for text in ("<answer>", "```", "```\n", "</answer>", "\n```json"):
            message(text * (MAX_CHARS // len(text)))
        keys = ",".join(f'"{i}":1' for i in range(5_000))
        assert message("{" + keys + ',"4999":1}') == "the key '4999' stands twice in one object"
        assert time.perf_counter() - started < 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged_plans(draw):
    """The plan with one value somewhere in it replaced or removed."""
    plan = copy.deepcopy(PLAN)
    node = plan
    while True:
        key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if isinstance(node[key], (dict, list)) and draw(st.booleans()):
            node = node[key]
            continue
        if draw(st.booleans()):
            node[key] = draw(JSON)
        else:
            del node[key]
        return plan


TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 12, 31)).map(
    lambda time: time.replace(second=0, microsecond=0)
)
IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
PRICES = st.floats(0, 1e7) | st.integers(0, 10_000_000).map(float)
ITEMS = st.one_of(
    st.builds(
        Leg,
        type=st.sampled_from(["flight", "train"]),
        id=IDS,
        origin=IDS,
        destination=IDS,
        depart=TIMES,
        arrive=TIMES,
        price=PRICES,
    ),
    st.builds(Hotel, type=st.just("hotel"), id=IDS, check_in=TIMES, nights=st.integers(1, 30), price=PRICES),
    st.builds(Visit, type=st.just("visit"), id=IDS, start=TIMES, end=TIMES, price=PRICES),
    st.builds(Meal, type=st.just("meal"), meal=st.sampled_from(["lunch", "dinner"]), start=TIMES, end=TIMES),
    st.builds(
        Transfer,
        type=st.just("transfer"),
        mode=st.sampled_from(["walk", "transit", "taxi"]),
        origin=IDS,
        destination=IDS,
        start=TIMES,
        end=TIMES,
        price=PRICES,
    ),
)
DAYS = st.builds(DayPlan, date=st.dates(date(1900, 1, 1), date(2200, 12, 31)), items=st.lists(ITEMS, max_size=5))


class TestAnyInput:
    @settings(max_examples=300, deadline=None)
    @given(st.text() | JSON.map(json.dumps) | damaged_plans().map(json.dumps))
    def test_nothing_but_an_itinerary_error_is_raised(self, text):
        try:
            itinerary = parse_itinerary(text)
        except ItineraryError as error:
            assert str(error)
        else:
            assert isinstance(itinerary, Itinerary)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(DAYS, min_size=1, max_size=3), st.none() | PRICES)
    def test_round_trip_of_a_plan(self, days, total):
        itinerary = Itinerary(feasible=True, days=days, total_price=total)
        text = f"<answer>{itinerary.to_json()}</answer>"
        if "</answer>" not in itinerary.to_json():
            assert parse_itinerary(text) == itinerary

    @settings(max_examples=50, deadline=None)
    @given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200).filter(str.strip))
    def test_round_trip_of_a_refusal(self, reason):
        itinerary = Itinerary(feasible=False, reason=reason)
        assert parse_itinerary(f"<answer>{itinerary.to_json()}</answer>") == itinerary or "answer>" in reason
