"""The shortest way to a task's goal from any state of the phone, by breadth-first search over taps and inputs."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .layout import LINE, Screen, body_box, max_scroll
from .state import AppError, PhoneState
from .task import PhoneTask


# Distances that an oracle remembers before it starts anew.
_MAX_CACHED = 100_000


@dataclass(frozen=True)
class Step:
    """
    One input, said in terms of what is on the screen.

    Args:
        kind (`str`):
            `"tap"`, `"long_press"`, `"type"`, `"enter"`, `"back"`, `"home"`, `"open"` or `"scroll"`.
        target (`str`, *optional*, defaults to `""`):
            Id of the widget, text to type, or name of the app.
        amount (`int`, *optional*, defaults to `0`):
            Pixels to scroll by: down for a positive number.
    """

    kind: str
    target: str = ""
    amount: int = 0


_INPUTS: dict[str, Callable[[PhoneState, Step], bool]] = {
    "tap": lambda state, step: state.tap(step.target),
    "long_press": lambda state, step: state.long_press(step.target),
    "type": lambda state, step: state.type_text(step.target),
    "enter": lambda state, step: state.enter(),
    "back": lambda state, step: state.back(),
    "home": lambda state, step: state.home(),
    "open": lambda state, step: state.open_app(step.target),
    "scroll": lambda state, step: state.scroll_by(step.amount),
}


def apply(state: PhoneState, step: Step) -> PhoneState:
    """
    The state that a step leads to.

    Args:
        state ([`PhoneState`]):
            State before; it is left as it is.
        step ([`Step`]):
            What is done.

    Returns:
        [`PhoneState`]: State after it.
    """
    after = state.copy()
    _INPUTS[step.kind](after, step)
    return after


def steps_from(state: PhoneState, task: PhoneTask) -> list[Step]:
    """
    The steps in a state that can be of use for a task.

    Args:
        state ([`PhoneState`]):
            Where the phone is.
        task ([`PhoneTask`]):
            What is to be done: nothing but its texts is typed, and none but its apps are opened.

    Returns:
        `list[Step]`: Steps, those that a person would rather take first.
    """
    screen = state.screen()
    in_sight = [widget for widget, _ in state.in_sight()]
    steps = []
    if state.app is None:
        steps += [Step("tap", widget.id) for widget in in_sight if widget.text in task.apps]
    else:
        # A tap on the field that has the focus only selects its text, which matters if there is some.
        tapped = [w for w in in_sight if w.id != state.focus or (not state.fresh and state.field(w.id))]
        steps += [Step("tap", widget.id) for widget in tapped]
        if state.focus is not None:
            text = state.field(state.focus) or ""
            if state.fresh or not text:
                steps += [Step("type", wanted) for wanted in task.texts if wanted != text]
            steps.append(Step("enter"))
        if state.popup is None:
            steps += [Step("long_press", widget.id) for widget in in_sight if widget.kind != "field"]
    if state.popup is None:
        steps += _scrolls(screen, state.scroll)
    if state.app is not None:
        steps.append(Step("back"))
    steps += [Step("open", name) for name in task.apps]
    if any(condition.path == ("ui", "app") and condition.value is None for condition in task.goal):
        steps.append(Step("home"))
    return steps


def _scrolls(screen: Screen, scroll: int) -> list[Step]:
    """A page down and a page up, each with one line of overlap, as far as the screen can be scrolled."""
    box = body_box(screen)
    page = box.bottom - box.top - LINE
    down, up = min(page, max_scroll(screen) - scroll), min(page, scroll)
    return [Step("scroll", amount=amount) for amount in (down, -up) if amount]


class Oracle:
    """
    Knows how far a task's goal is from any state, and the steps that lead there.

    Steps that change data outside the task's `allowed` paths are never taken, but those that such a change has already happened on
    may be.

    Args:
        task ([`PhoneTask`]):
            What is to be done.
        max_depth (`int`, *optional*, defaults to `12`):
            States that are farther from the goal count as hopeless.
        max_states (`int`, *optional*, defaults to `20000`):
            States that one search looks at before it gives up.
    """

    def __init__(self, task: PhoneTask, max_depth: int = 12, max_states: int = 20_000) -> None:
        self.task = task
        self.max_depth = max_depth
        self.max_states = max_states
        self._distances: dict[tuple, int | None] = {}
        # First steps on a shortest way, in the order of `steps_from`.
        self._first_steps: dict[tuple, list[Step]] = {}
        # Keys of parts of states by their identity: most states share nearly all of their parts.
        self._parts: dict[int, tuple[Any, int]] = {}
        self._numbers: dict[str, int] = {}
        self._effects: dict[int, tuple[Any, frozenset[str]]] = {}

    def solve(self, state: PhoneState) -> list[Step] | None:
        """
        The shortest way to the goal; of several the one that `steps_from` lists first.

        Args:
            state ([`PhoneState`]):
                Where to start.

        Returns:
            `list[Step]` or `None`: The steps, none if the goal is reached; `None` if there is no way.
        """
        if self.distance(state) is None:
            return None
        way = []
        while not self.task.is_done(state):
            way.append(self.optimal_steps(state)[0])
            state = apply(state, way[-1])
        return way

    def distance(self, state: PhoneState) -> int | None:
        """
        The number of steps on a shortest way to the goal.

        Args:
            state ([`PhoneState`]):
                Where to start.

        Returns:
            `int` or `None`: 0 if the goal is reached; `None` if there is no way.
        """
        if self.task.is_done(state):
            return 0
        key = self._key(state)
        if key not in self._distances:
            self._search(state, key)
        return self._distances[key]

    def optimal_steps(self, state: PhoneState) -> list[Step]:
        """
        All steps that bring the goal nearer by one.

        Args:
            state ([`PhoneState`]):
                Where to start.

        Returns:
            `list[Step]`: The steps; none if the goal is reached or out of reach.
        """
        distance = self.distance(state)
        return list(self._first_steps[self._key(state)]) if distance else []

    def _search(self, start: PhoneState, start_key: tuple) -> None:
        """Find the distance of a state, and that of all states on shortest ways from it."""
        if len(self._distances) > _MAX_CACHED or len(self._parts) > _MAX_CACHED:
            for cache in (self._distances, self._first_steps, self._parts, self._numbers, self._effects):
                cache.clear()
            start_key = self._key(start)
        depths = {start_key: 0}
        links: dict[tuple, list[tuple[tuple, int, Step]]] = {}
        level = [(start, start_key)]
        goals: list[tuple[PhoneState, tuple]] = []
        for depth in range(1, self.max_depth + 1):
            following: list[tuple[PhoneState, tuple]] = []
            for state, key in level:
                for i, step, child, child_key in self._children(state, depth == 1):
                    if child_key not in depths:
                        depths[child_key] = depth
                        (goals if self.task.is_done(child) else following).append((child, child_key))
                    if depths[child_key] == depth:
                        links.setdefault(child_key, []).append((key, i, step))
                if len(depths) > self.max_states:
                    self._distances[start_key] = None
                    return
            if goals:
                self._remember([key for _, key in goals], depth, links)
                return
            level = following
        self._distances[start_key] = None

    def _children(self, state: PhoneState, is_start: bool) -> Iterator[tuple[int, Step, PhoneState, tuple]]:
        """Steps that may be taken, numbered, with the states that they lead to."""
        # Who taps a field means to type: to do anything else next would have been shorter without the tap.
        only_typing = state.focus is not None and state.fresh and not is_start
        try:
            steps = steps_from(state, self.task)
        except AppError:
            return  # no way leads through a screen that an app cannot make
        for i, step in enumerate(steps):
            if only_typing and step.kind not in ("type", "enter"):
                continue
            child = state.copy()
            try:
                if not _INPUTS[step.kind](child, step):
                    continue
            except AppError:
                continue
            if child.data is state.data or self._effects_of(child) <= self._effects_of(state):
                yield i, step, child, self._key(child)

    def _remember(self, goals: list[tuple], depth: int, links: dict[tuple, list[tuple[tuple, int, Step]]]) -> None:
        """Keep the distance and first steps of every state on a shortest way to a goal."""
        level = dict.fromkeys(goals)
        for distance in range(1, depth + 1):
            firsts: dict[tuple, list[tuple[int, Step]]] = {}
            for key in level:
                for parent, i, step in links[key]:
                    firsts.setdefault(parent, []).append((i, step))
            for parent, found in firsts.items():
                self._distances[parent] = distance
                self._first_steps[parent] = [step for _, step in sorted(found, key=lambda pair: pair[0])]
            level = dict.fromkeys(firsts)

    def _effects_of(self, state: PhoneState) -> frozenset[str]:
        known = self._effects.get(id(state.data))
        if known is None:
            known = (state.data, frozenset(self.task.side_effects(state)))
            self._effects[id(state.data)] = known
        return known[1]

    def _key(self, state: PhoneState) -> tuple:
        """What makes a state different from others; the toast does not, for no input depends on it."""
        return (
            state.app,
            state.focus,
            state.fresh if state.focus is not None else False,
            self._part(state.popup),
            tuple(self._part(entry) for entry in state.stack),
            tuple(self._part(values) for values in state.data.values()),
        )

    def _part(self, value: Any) -> int:
        known = self._parts.get(id(value))
        if known is None:
            # The value is kept, so that its identity stays its own.
            # Not sorted: the order of keys is that of lines on the screen.
            text = json.dumps(value)
            known = (value, self._numbers.setdefault(text, len(self._numbers)))
            self._parts[id(value)] = known
        return known[1]
