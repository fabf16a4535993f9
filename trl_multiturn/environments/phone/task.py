"""[`PhoneTask`]: a start state, an instruction in two languages, a goal, and the data that may change on the way."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from .apps import APPS
from .state import PhoneState


Path = tuple[str, ...]

OPERATIONS = ("equals", "exists", "absent", "contains", "lacks", "count")

# Bounds of a task that was read from a file.
MAX_JSON_LENGTH = 100_000
MAX_PARTS = 64
MAX_DEPTH = 16

_MISSING = object()


@dataclass(frozen=True)
class Condition:
    """
    Something that must hold in a phone's state.

    Args:
        path (`tuple[str, ...]`):
            Keys into the data, first of them an app's name. `("ui", "app")`, `("ui", "screen")` and `("ui", "params", name)` are the
            app and the screen shown.
        op (`str`):
            - `"equals"`: there is `value`;
            - `"exists"`, `"absent"`: there is something or nothing;
            - `"contains"`, `"lacks"`: of the things there one has, or none has, all entries of the dictionary `value`;
            - `"count"`: there are `value` things.
        value (*optional*):
            JSON value to compare with.
    """

    path: Path
    op: str
    value: Any = None

    def holds(self, state: PhoneState) -> bool:
        """Whether it does in a state."""
        found = self._find(state)
        if self.op == "equals":
            return found is not _MISSING and found == self.value
        if self.op in ("exists", "absent"):
            return (found is not _MISSING) == (self.op == "exists")
        things = list(found.values()) if isinstance(found, dict) else []
        if self.op == "count":
            return len(things) == self.value
        matches = any(
            isinstance(thing, dict) and all(k in thing and thing[k] == v for k, v in self.value.items())
            for thing in things
        )
        return matches == (self.op == "contains")

    def _find(self, state: PhoneState) -> Any:
        found: Any = state.data
        keys = self.path
        if keys[0] == "ui":
            found, keys = {"app": state.app, "screen": state.top["screen"], "params": state.top["params"]}, keys[1:]
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                return _MISSING
            found = found[key]
        return found


@dataclass(frozen=True)
class PhoneTask:
    """
    Something to do on the phone.

    Args:
        name (`str`):
            Template that it comes from: `"notes.delete"`.
        app (`str`):
            App that it is mainly about.
        instruction (`str`):
            What the user wants, in English.
        instruction_zh (`str`):
            The same in Chinese.
        setup (`tuple[tuple[tuple[str, ...], Any], ...]`):
            Paths and the values that are put there before the start.
        goal (`tuple[Condition, ...]`):
            All that must hold at the end.
        allowed (`tuple[tuple[str, ...], ...]`):
            Paths at and below which data may change. Every other change is a side effect.
        apps (`tuple[str, ...]`):
            Apps that are needed.
        texts (`tuple[str, ...]`, *optional*):
            What has to be typed.
    """

    name: str
    app: str
    instruction: str
    instruction_zh: str
    setup: tuple[tuple[Path, Any], ...]
    goal: tuple[Condition, ...]
    allowed: tuple[Path, ...]
    apps: tuple[str, ...]
    texts: tuple[str, ...] = ()

    def initial_state(self) -> PhoneState:
        """The phone before the task: on the home screen."""
        return PhoneState(APPS, self._initial_data)

    def is_done(self, state: PhoneState) -> bool:
        """Whether the goal is reached in a state."""
        return all(condition.holds(state) for condition in self.goal)

    def side_effects(self, state: PhoneState) -> list[str]:
        """
        What a state's data differs in from the start's though it must not.

        Args:
            state ([`PhoneState`]):
                State to look at.

        Returns:
            `list[str]`: Paths with dots, sorted. Empty if all is well.
        """
        return sorted(".".join(path) for path in self._changes(self._initial_data, state.data, ()))

    def to_json(self) -> str:
        """The task as a line of JSON: what [`from_json`] reads."""
        # Keys stay in their order: it is the one in which lists of things are shown.
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "PhoneTask":
        """
        Read a task.

        Args:
            text (`str`):
                What [`to_json`] wrote.

        Returns:
            [`PhoneTask`]: The task.

        Raises:
            `ValueError`: If it is not one.
        """
        if not isinstance(text, str):
            raise ValueError(f"A task must be a text, got {type(text).__name__}.")
        if len(text) > MAX_JSON_LENGTH:
            raise ValueError(f"A task has at most {MAX_JSON_LENGTH} characters, got {len(text)}.")
        try:
            values = json.loads(text)
            # Halves of a character, which JSON can hold, are no text.
            json.dumps(values, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"A task must be JSON: {error}.") from error
        if _depth(values) > MAX_DEPTH:
            raise ValueError(f"A task is nested at most {MAX_DEPTH} levels deep, got {_depth(values)}.")
        keys = set(cls.__dataclass_fields__)
        if not isinstance(values, dict) or set(values) != keys:
            raise ValueError(f"A task must be an object with {', '.join(sorted(keys))}.")
        for name in ("name", "app", "instruction", "instruction_zh"):
            if not isinstance(values[name], str) or not values[name]:
                raise ValueError(f"A task's `{name}` must be a text.")
        if not values["goal"]:
            raise ValueError("A task's `goal` must not be empty.")
        if values["app"] not in APPS:
            raise ValueError(f"A task's `app` must be one of {', '.join(APPS)}, got {values['app']!r:.100}.")
        return cls(
            **{name: values[name] for name in ("name", "app", "instruction", "instruction_zh")},
            setup=tuple(_read_setup(pair) for pair in _read_list(values, "setup")),
            goal=tuple(_read_condition(entry) for entry in _read_list(values, "goal")),
            allowed=tuple(_read_path(path, "allowed") for path in _read_list(values, "allowed")),
            apps=_read_apps(_read_list(values, "apps")),
            texts=_read_texts(_read_list(values, "texts"), "texts"),
        )

    @cached_property
    def _initial_data(self) -> dict[str, Any]:
        state = PhoneState(APPS)
        for path, value in self.setup:
            state.set(*path, value=value)
        return state.data

    def _changes(self, before: Any, after: Any, path: Path) -> Iterator[Path]:
        if before is after or any(path[: len(prefix)] == prefix for prefix in self.allowed):
            return
        if isinstance(before, dict) and isinstance(after, dict):
            for key in {**before, **after}:
                yield from self._changes(before.get(key, _MISSING), after.get(key, _MISSING), (*path, key))
        elif before != after:
            yield path


def _depth(value: Any) -> int:
    """How many lists and objects lie one in the other."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth


def _read_list(values: dict[str, Any], name: str) -> list:
    found = values[name]
    if not isinstance(found, list) or len(found) > MAX_PARTS:
        raise ValueError(f"A task's `{name}` must be a list of at most {MAX_PARTS} entries.")
    return found


def _read_texts(found: Any, name: str) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"A task's `{name}` must hold texts, got {found!r:.100}.")
    return tuple(found)


def _read_path(found: Any, name: str) -> Path:
    path = _read_texts(found, name)
    if not path or path[0] not in APPS or len(path) > MAX_DEPTH:
        raise ValueError(
            f"A path in a task's `{name}` must start with an app's name and have at most {MAX_DEPTH} keys, "
            f"got {found!r:.100}."
        )
    return path


def _read_apps(found: list) -> tuple[str, ...]:
    names = _read_texts(found, "apps")
    if not all(name in APPS for name in names):
        raise ValueError(f"A task's `apps` must be among {', '.join(APPS)}, got {found!r:.100}.")
    return names


def _read_setup(pair: Any) -> tuple[Path, Any]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError(f"A task's `setup` must hold pairs of a path and a value, got {pair!r:.100}.")
    path = _read_path(pair[0], "setup")
    state = PhoneState(APPS)
    if len(path) < 2 or type(state.get(*path[:2])) is not type(pair[1] if len(path) == 2 else {}):
        raise ValueError(
            f"A task's `setup` puts {pair[1]!r:.100} at {'.'.join(path)}: that does not fit the app's data."
        )
    return path, pair[1]


def _read_condition(entry: Any) -> Condition:
    if not isinstance(entry, dict) or set(entry) != {"path", "op", "value"}:
        raise ValueError(f"A condition must be an object with op, path and value, got {entry!r:.100}.")
    path, op, value = _read_texts(entry["path"], "goal"), entry["op"], entry["value"]
    if not path or (path[0] != "ui" and path[0] not in APPS):
        raise ValueError(f"A condition's path must start with 'ui' or an app's name, got {entry['path']!r:.100}.")
    if op not in OPERATIONS:
        raise ValueError(f"A condition's `op` must be one of {', '.join(OPERATIONS)}, got {op!r:.100}.")
    if op in ("contains", "lacks") and not isinstance(value, dict):
        raise ValueError(f"The `value` of {op!r} must be an object, got {value!r:.100}.")
    if op == "count" and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"The `value` of 'count' must be a whole number, got {value!r:.100}.")
    return Condition(path, op, value)
