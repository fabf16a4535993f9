import functools
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import get_json_schema

from trl_multiturn import check_environment
from trl_multiturn.environments.travel import CATEGORIES, RouteData, ToolError, TravelEnvironment, TravelWorld
from trl_multiturn.environments.travel.arguments import CABINS, MODES, SEATS, TOOL_NAMES

from .test_world import CALLS


WORLD = TravelWorld(routes=RouteData())


def begin(backend=WORLD, **kwargs):
    environment = TravelEnvironment(backend, **kwargs)
    environment.reset(prompt=[], query='{"id":"t"}', level="easy")
    return environment


class Recorder:
    """A backend that remembers what it was asked."""

    version = "1"

    def __init__(self):
        self.asked = []

    def call(self, name, arguments):
        self.asked.append((name, arguments))
        return []


class TestContract:
    def test_the_checker_finds_nothing(self):
        factory = functools.partial(TravelEnvironment, WORLD)
        assert check_environment(factory, reset_kwargs={"query": "{}"}, example_calls=CALLS) == []

    def test_it_works_without_arguments(self):
        environments = [TravelEnvironment(), TravelEnvironment()]
        assert environments[0].search_pois("Paris") == environments[1].search_pois("Paris") != "[]"

    def test_the_six_tools_are_the_only_public_methods(self):
        methods = {name for name in dir(TravelEnvironment) if not name.startswith("_")}
        assert methods == {*TOOL_NAMES, "reset"}

    @pytest.mark.parametrize("name", TOOL_NAMES)
    def test_each_tool_has_a_schema_with_its_choices(self, name):
        schema = get_json_schema(getattr(TravelEnvironment(WORLD), name))["function"]
        assert schema["name"] == name and schema["description"]
        parameters = schema["parameters"]["properties"]
        assert all(parameter["description"] for parameter in parameters.values())
        choices = {"cabin": CABINS, "seat_class": SEATS, "mode": MODES, "category": CATEGORIES}
        for argument, parameter in parameters.items():
            assert parameter.get("enum") == (list(choices[argument]) if argument in choices else None)

    @pytest.mark.parametrize("name", TOOL_NAMES)
    def test_the_world_takes_the_same_arguments(self, name):
        schema = get_json_schema(getattr(TravelEnvironment(WORLD), name))["function"]["parameters"]
        with pytest.raises(ToolError) as error:
            WORLD.call(name, {"nonsense": 1})
        takes = error.value.message.split("It takes ")[1].rstrip(".").split(", ")
        assert [argument.removesuffix(" (optional)") for argument in takes] == list(schema["properties"])
        assert [argument for argument in takes if "optional" not in argument] == schema["required"]

    @pytest.mark.parametrize("max_results", [0, -1, 1.5, "5", True, None])
    def test_a_bad_number_of_results_is_refused(self, max_results):
        with pytest.raises(ValueError, match="max_results"):
            TravelEnvironment(WORLD, max_results=max_results)

    def test_a_missing_package_is_told_before_training(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "bm25s", None)
        with pytest.raises(ImportError, match=r"pip install trl-multiturn\[travel\]"):
            TravelEnvironment(WORLD)
        TravelEnvironment(Recorder())


class TestAnswers:
    @pytest.mark.parametrize("name, arguments", CALLS)
    def test_an_answer_is_the_worlds_in_short_json(self, name, arguments):
        text = getattr(begin(), name)(**arguments)
        answer = WORLD.call(name, arguments)
        answer = answer[:5] if isinstance(answer, list) else answer
        assert text == json.dumps(answer, ensure_ascii=False, separators=(",", ":"))

    def test_the_number_of_records_is_bounded(self):
        everything = WORLD.search_pois("Paris")
        for max_results in (1, 3, 100):
            assert json.loads(begin(max_results=max_results).search_pois("Paris")) == everything[:max_results]

    def test_names_stay_readable(self):
        assert "São Paulo" in begin().search_pois("圣保罗")

    def test_nothing_found_is_an_empty_list(self):
        assert begin().search_trains("Paris", "Beijing", "2026-05-01") == "[]"

    def test_a_bad_call_raises_and_is_not_answered(self):
        environment = begin()
        with pytest.raises(ToolError, match="^unknown_city: 'Bejing' is no city .* Close matches: Beijing"):
            environment.search_pois("Bejing")
        assert environment.tool_calls == []

    @pytest.mark.parametrize("value", ["x" * 2**20, "x" * 201, 3, None, ["Paris"], {}, "", b"Paris"])
    def test_a_bad_argument_never_reaches_the_backend(self, value):
        backend = Recorder()
        environment = begin(backend)
        with pytest.raises(ToolError) as error:
            environment.search_web(query=value)
        assert error.value.code == "bad_argument" and len(str(error.value)) < 200
        assert backend.asked == []

    def test_the_backend_is_asked_without_what_was_not_given(self):
        backend = Recorder()
        begin(backend).search_hotels(" Paris ", "2026-05-01", "2026-05-03", min_star=4)
        expected = {"city": "Paris", "check_in": "2026-05-01", "check_out": "2026-05-03", "min_star": 4}
        assert backend.asked == [("search_hotels", expected)]

    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from(CALLS),
        st.data(),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=250), st.binary()),
    )
    def test_any_value_gets_an_answer_or_a_tool_error(self, call, data, value):
        name, arguments = call
        try:
            text = getattr(begin(), name)(**arguments | {data.draw(st.sampled_from(list(arguments))): value})
        except ToolError:
            return
        json.loads(text)


class TestState:
    def test_calls_are_kept_in_order_and_cleared(self):
        environment = begin()
        assert environment.query == '{"id":"t"}' and environment.tool_calls == []
        first = environment.search_pois("Paris", category="zoo")
        second = environment.plan_route("PEK", "ST-PEK", "taxi")
        route = {"origin_place_id": "PEK", "destination_place_id": "ST-PEK", "mode": "taxi"}
        assert environment.tool_calls == [
            ("search_pois", {"city": "Paris", "category": "zoo"}, first),
            ("plan_route", route, second),
        ]
        environment.reset(prompt=[])
        assert environment.query is None and environment.tool_calls == []

    def test_environments_share_nothing_but_the_backend(self):
        one, other = begin(), begin()
        one.search_pois("Paris")
        assert other.tool_calls == []

    def test_environments_in_threads_see_one_world(self):
        environments = [begin() for _ in range(8)]

        def episode(environment):
            return [getattr(environment, name)(**arguments) for name, arguments in CALLS * 5]

        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(episode, environments))
        assert all(answers == told[0] for answers in told)
        assert all(len(environment.tool_calls) == 5 * len(CALLS) for environment in environments)


def test_every_rollout_of_a_group_meets_the_same_failures():
    from trl_multiturn.environments.travel import ToolError, TransientFailures

    shared = TransientFailures(TravelWorld(cities=["Beijing", "Shanghai", "Tokyo"]), probability=0.5, seed=0)
    environments = [TravelEnvironment(shared) for _ in range(3)]
    for environment in environments:
        environment.reset()

    def outcome(environment, day):
        try:
            return environment.search_flights("Beijing", "Shanghai", f"2026-03-{day:02d}")
        except ToolError as error:
            return str(error)

    seen = [[outcome(environment, day) for day in (1, 1, 2, 2, 3)] for environment in environments]
    assert seen[0] == seen[1] == seen[2]
    assert any("transient" in text or "try again" in text.lower() for text in seen[0])
