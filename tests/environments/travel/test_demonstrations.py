import ast
import inspect
import json
import logging
import random
from datetime import date

import pytest
from trl import GRPOTrainer, SFTConfig, SFTTrainer

from trl_multiturn.environments.travel import (
    Stay,
    TravelEnvironment,
    TravelQuery,
    TravelWorld,
    demonstrate,
    demonstrations,
    generate_tasks,
    parse_itinerary,
    solve,
)
from trl_multiturn.environments.travel.demonstrations import NotShown, tool_schemas
from trl_multiturn.environments.travel.tasks import draw_tasks
from trl_multiturn.rewards.verifiers import HierarchicalReward, TrajectoryVerifier

from ...tiny import build_model, build_tokenizer


CITIES = ["Beijing", "Shanghai", "Paris", "London", "Rome", "New York"]


@pytest.fixture(scope="module")
def world():
    return TravelWorld(cities=CITIES)


@pytest.fixture(scope="module")
def tasks(world):
    return [task for _, task in zip(range(120), draw_tasks(world=world), strict=False)]


@pytest.fixture(scope="module")
def rows(world):
    return demonstrations(24, world=world, error_rate=0.3)


def query(**changes):
    values = {
        "id": "q",
        "level": "hard",
        "origin": "Beijing",
        "stays": [Stay(city="Shanghai", nights=2)],
        "start_date": date(2026, 3, 4),
    }
    return TravelQuery(**(values | changes))


def calls_of(messages):
    """Name, arguments and response of each call."""
    found = []
    for call, response in zip(messages[:-1:2], messages[1:-1:2], strict=True):
        assert (call["role"], response["role"], call["content"]) == ("assistant", "tool", "")
        (only,) = call["tool_calls"]
        assert only["type"] == "function" and only["function"]["name"] == response["name"]
        found.append((response["name"], only["function"]["arguments"], response["content"]))
    return found


class TestDemonstrate:
    def test_every_task_is_answered_rightly_from_what_was_shown(self, world, tasks):
        reward, not_shown = HierarchicalReward(trajectory=TrajectoryVerifier(world)), 0
        for asked, _, solution in tasks:
            try:
                messages = demonstrate(asked, world, random.Random(0), error_rate=0.2, solution=solution)
            except NotShown:
                not_shown += 1
                continue
            assert reward(completions=[messages], query=[asked.model_dump_json()]) == [1.0], asked
            assert parse_itinerary(messages[-1]["content"]) == solution.itinerary
        assert not_shown <= 0.02 * len(tasks)

    def test_responses_are_the_environments(self, world, tasks):
        environment = TravelEnvironment(world)
        for asked, _, solution in tasks[:12]:
            for name, arguments, response in calls_of(demonstrate(asked, world, random.Random(0), solution=solution)):
                assert getattr(environment, name)(**arguments) == response

    def test_the_same_again_from_the_same_seed(self, world):
        asked = query(categories=["museum"])
        played = [demonstrate(asked, world, random.Random(1), error_rate=0.5) for _ in range(2)]
        assert played[0] == played[1]
        assert any(demonstrate(asked, world, random.Random(s), error_rate=0.5) != played[0] for s in range(5))

    def test_searches_follow_the_trip(self, world):
        asked = query(categories=["museum", "park"], transport="flight", cabin="economy", min_star=3)
        called = [(name, arguments) for name, arguments, _ in calls_of(demonstrate(asked, world, random.Random(0)))]
        out = {"origin": "Beijing", "destination": "Shanghai", "date": "2026-03-04", "cabin": "economy"}
        assert called[0] == ("search_flights", out)
        stay = {"city": "Shanghai", "check_in": "2026-03-04", "check_out": "2026-03-06", "min_star": 3}
        assert ("search_hotels", stay) in called
        assert (
            "search_flights",
            out | {"origin": "Shanghai", "destination": "Beijing", "date": "2026-03-06"},
        ) in called
        assert [arguments["category"] for name, arguments in called if name == "search_pois"] == ["museum", "park"]

    def test_cities_are_named_as_the_user_names_them(self, world):
        asked = query(language="zh")
        called = calls_of(demonstrate(asked, world, random.Random(0)))
        names = {
            arguments[key]
            for _, arguments, _ in called
            for key in ("origin", "destination", "city")
            if key in arguments
        }
        assert names == {"北京", "上海"}

    def test_a_tight_way_is_looked_up(self, world, tasks):
        found = 0
        for asked, _, solution in tasks:
            if not solution.feasible:
                continue
            itinerary = solution.itinerary
            leg, hotel = itinerary.days[0].items[:2]
            if hotel.type == "hotel" and (hotel.check_in - leg.arrive).total_seconds() < 90 * 60:
                found += 1
                ends = {"origin_place_id": leg.destination, "destination_place_id": hotel.id, "mode": "taxi"}
                try:
                    called = calls_of(demonstrate(asked, world, random.Random(0), solution=solution))
                except NotShown:
                    continue
                assert any(name == "plan_route" and arguments == ends for name, arguments, _ in called)
        assert found

    def test_what_is_not_shown_is_searched_more_narrowly_or_given_up(self, world, tasks):
        narrowed = given_up = 0
        for asked, _, solution in tasks:
            try:
                called = calls_of(demonstrate(asked, world, random.Random(0), max_results=1, solution=solution))
            except NotShown as error:
                given_up += 1
                assert asked.id in str(error)
                continue
            flights = [arguments for name, arguments, _ in called if name == "search_flights"]
            narrowed += any("depart_before" in arguments for arguments in flights)
        assert narrowed and given_up

    def test_a_rate_that_is_none(self, world):
        with pytest.raises(ValueError, match="`error_rate` must be from 0 to 1"):
            demonstrate(query(), world, random.Random(0), error_rate=1.5)


class TestMistakes:
    def test_each_is_answered_by_an_error_and_put_right(self, world, tasks):
        kinds = set()
        for number, (asked, _, solution) in enumerate(tasks[:60]):
            try:
                wrong = calls_of(demonstrate(asked, world, random.Random(number), error_rate=1.0, solution=solution))
            except NotShown:
                continue
            right = calls_of(demonstrate(asked, world, random.Random(number), solution=solution))
            assert [call for call in wrong if not call[2].startswith("{'error'")] == right
            for (name, arguments, response), (next_name, next_arguments, _) in zip(wrong, wrong[1:], strict=False):
                if response.startswith("{'error'") or response.startswith('{"error'):
                    assert next_name == name and next_arguments != arguments
                    kinds.add(ast.literal_eval(response)["error"].split(":")[0].split("(")[0])
        assert {"unknown_city", "past_date", "bad_argument"} <= kinds
        assert any("missing" in kind or kind.startswith("TravelEnvironment") for kind in kinds)

    def test_an_error_reads_as_trl_writes_it(self, world):
        """The tool loop of TRL makes `{"error": str(e)}` of an exception and writes `str` of that."""
        source = inspect.getsource(GRPOTrainer._tool_call_loop)
        assert 'result = {"error": str(e)}' in source
        assert "content = result if isinstance(result, list) else str(result)" in source
        environment, found = TravelEnvironment(world), 0
        for seed in range(20):
            for name, arguments, response in calls_of(
                demonstrate(query(), world, random.Random(seed), error_rate=0.5)
            ):
                if response.startswith("{'error'"):
                    found += 1
                    with pytest.raises((TypeError, ValueError)) as caught:
                        getattr(environment, name)(**arguments)
                    assert response == str({"error": str(caught.value)})
        assert found


class TestInfeasible:
    def played(self, world, kind, **changes):
        asked = query(level="infeasible", **changes)
        solution = solve(asked, world)
        assert solution.obstacle.kind == kind
        messages = demonstrate(asked, world, random.Random(0), solution=solution)
        assert json.loads(messages[-1]["content"]) == {"feasible": False, "reason": solution.proof}
        return calls_of(messages)

    def test_no_train(self, world):
        changes = {"origin": "London", "stays": [Stay(city="New York", nights=1)], "transport": "train"}
        assert [(name, response) for name, _, response in self.played(world, "transport", **changes)] == [
            ("search_trains", "[]")
        ]

    def test_too_late_to_leave(self, world):
        name, arguments, response = self.played(world, "depart_after", depart_after="23:50", transport="flight")[0]
        assert (name, arguments["depart_after"], response) == ("search_flights", "23:50", "[]")

    def test_back_too_early(self, world):
        called = self.played(world, "return_before", return_before="05:00", transport="flight")
        arrivals = [row["arrive"] for row in json.loads(called[-1][2])]
        assert called[-1][1]["date"] == "2026-03-06" and min(arrivals) > "2026-03-06T05:00"

    def test_too_little_money(self, world):
        called = self.played(world, "budget", budget=50, categories=["museum"])
        assert {"search_hotels", "search_pois"} <= {name for name, _, _ in called}
        days = [arguments["date"] for name, arguments, _ in called if name == "search_flights"]
        assert days == ["2026-03-04", "2026-03-06"]


class TestDataset:
    def test_columns(self, world, rows):
        assert rows.column_names == ["messages", "tools", "query", "level", "task_id"]
        assert len(rows) == 24 and set(rows["level"]) == {"easy", "medium", "hard", "infeasible"}
        asked = {row["task_id"]: row["prompt"] for row in generate_tasks(40, world=world)}
        for row in rows:
            prompt = [{"role": message["role"], "content": message["content"]} for message in row["messages"][:2]]
            assert prompt == asked[row["task_id"]]

    def test_arguments_survive_the_table(self, world, rows):
        for row in rows:
            played = row["messages"][2:]
            for call, response in zip(played[:-1:2], played[1:-1:2], strict=True):
                function = call["tool_calls"][0]["function"]
                if not response["content"].startswith("{'error'"):
                    assert (
                        getattr(TravelEnvironment(world), function["name"])(**function["arguments"])
                        == response["content"]
                    )

    def test_the_tools_are_those_that_trl_renders(self, rows):
        trainer_order = [
            name
            for name, _ in inspect.getmembers(TravelEnvironment, predicate=inspect.isfunction)
            if not name.startswith("_") and name not in ("reset", "get_reward")
        ]
        assert [tool["function"]["name"] for tool in tool_schemas()] == trainer_order
        assert set(rows["tools"]) == {json.dumps(tool_schemas())}

    def test_only_what_the_verifier_passes_is_kept(self, world, caplog):
        seen = []

        def verifier(completions, query, **_):
            seen.extend(query)
            return [1.0 if len(seen) % 2 else 0.0]

        with caplog.at_level(logging.INFO):
            kept = demonstrations(4, world=world, verifier=verifier)
        assert kept["query"] == seen[::2]
        assert "3 demonstrations did not pass and were left out, 4 were kept." in caplog.text
        with pytest.raises(RuntimeError, match="demonstrations did not pass"):
            demonstrations(2, world=world, verifier=lambda completions, **_: [0.0])
        with pytest.raises(ValueError, match="`n` must be"):
            demonstrations(0, world=world)

    def test_sft_learns_what_the_assistant_writes_and_nothing_else(self, rows, tmp_path):
        tokenizer = build_tokenizer("qwen2_5.jinja")
        args = SFTConfig(
            tmp_path,
            assistant_only_loss=True,
            max_length=None,
            max_steps=1,
            per_device_train_batch_size=1,
            report_to=[],
            use_cpu=True,
            bf16=False,
        )
        trainer = SFTTrainer(
            build_model(tokenizer), args, train_dataset=rows.select(range(2)), processing_class=tokenizer
        )
        for row, prepared in zip(rows, trainer.train_dataset, strict=False):
            ids, labels = prepared["input_ids"], prepared["labels"]
            text = tokenizer.decode(ids)
            assert "search_flights" in text and row["messages"][1]["content"] in text
            learned = tokenizer.decode([id for id, label in zip(ids, labels, strict=True) if label != -100])
            assert row["messages"][-1]["content"] in learned
            assert not [m for m in row["messages"] if m["role"] == "tool" and m["content"] in learned]
            calls = [call["function"] for m in row["messages"] for call in m["tool_calls"] or ()]
            assert calls and all(json.dumps(call["arguments"], ensure_ascii=False) in learned for call in calls)
        trainer.train()
        assert trainer.state.global_step == 1
