"""The cache around the travel world, under the environment."""

import functools

import pytest

from trl_multiturn import check_environment
from trl_multiturn.environments.travel import ToolCache, ToolError, TravelEnvironment, TravelWorld


CALLS = [
    ("search_flights", {"origin": "Beijing", "destination": "Shanghai", "date": "2026-03-02"}),
    (
        "search_flights",
        {"origin": "\u5317\u4eac", "destination": "Shanghai", "date": "2026-03-02", "cabin": "business"},
    ),
    ("search_trains", {"origin": "Beijing", "destination": "Shanghai", "date": "2026-03-02"}),
    ("search_hotels", {"city": "Paris", "check_in": "2026-03-02", "check_out": "2026-03-04", "max_price": 150.0}),
    ("search_pois", {"city": "Paris", "category": "museum"}),
    ("search_web", {"query": "museums of Paris"}),
    ("search_pois", {"city": "Nowhereville"}),
    ("search_flights", {"origin": "Beijing", "destination": "Shanghai", "date": "2020-01-01"}),
]


@pytest.fixture(scope="module")
def world():
    return TravelWorld(seed=3, cities=["Beijing", "Shanghai", "Paris", "London"])


def play(backend):
    environment = TravelEnvironment(backend)
    environment.reset()
    answers = []
    for name, arguments in CALLS:
        try:
            answers.append(getattr(environment, name)(**arguments))
        except ToolError as error:
            answers.append(str(error))
    return answers


def test_recorded_replayed_and_uncached_are_the_same_to_the_model(world, tmp_path):
    expected = play(world)
    assert sum(answer.startswith("unknown_city: ") for answer in expected) == 1
    with ToolCache(tmp_path / "cache", world, "record") as cache:
        assert play(cache) == expected
    with ToolCache(tmp_path / "cache", TravelWorld(seed=3, cities=world.cities)) as cache:
        assert play(cache) == expected
        assert cache.stats["misses"] == cache.stats["stale"] == 0
    with ToolCache(tmp_path / "cache", world, "live") as cache:
        assert play(cache) == expected


def test_another_world_finds_nothing(world, tmp_path):
    with ToolCache(tmp_path / "cache", world, "record") as cache:
        play(cache)
    with ToolCache(tmp_path / "cache", TravelWorld(seed=4, cities=world.cities)) as cache:
        environment = TravelEnvironment(cache)
        environment.reset()
        with pytest.raises(ToolError, match="^cache_miss: .*Nothing was recorded for search_pois"):
            environment.search_pois(city="Paris")
        assert cache.stats["records"] == 0


def test_a_miss_lists_what_a_model_can_ask_instead(world, tmp_path):
    with ToolCache(tmp_path / "cache", world, "record") as cache:
        play(cache)
    with ToolCache(tmp_path / "cache", world) as cache:
        environment = TravelEnvironment(cache)
        environment.reset()
        with pytest.raises(ToolError) as miss:
            environment.search_hotels(city="London", check_in="2026-03-02", check_out="2026-03-04")
        assert '"city":"Paris"' in miss.value.message
        assert environment.tool_calls == []


def test_the_environment_passes_its_checks_behind_a_cache(world, tmp_path):
    with ToolCache(tmp_path / "cache", world, "record") as cache:
        environment = functools.partial(TravelEnvironment, cache)
        assert check_environment(environment, reset_kwargs={"query": "{}"}, example_calls=CALLS[:6]) == []
