"""Hierarchical verification of plans: the plan as a whole first, then each tool call that it rests on."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol, get_args

from pydantic import ValidationError

from ..environments.travel import Itinerary, ItineraryError, TravelQuery, parse_itinerary
from .travel_claims import ItemClaims, TurnVerifier, item_claims
from .travel_rubric import TrajectoryVerifier
from .verdicts import Check, ToolTurn, Verdict, VerdictUnavailable, last_answer, tool_turns


__all__ = [
    "Check",
    "HierarchicalReward",
    "ToolTurn",
    "TrajectoryVerifier",
    "TurnVerifier",
    "Verdict",
    "VerdictUnavailable",
    "tool_turns",
]

Combine = Literal["gated_product", "gated_mean", "weighted"]

_MAX_TEXT = 300


class TrajectoryLevel(Protocol):
    """What judges a plan as a whole, such as [`TrajectoryVerifier`]. `concurrency` of its calls may run at once."""

    def __call__(self, query: TravelQuery, itinerary: Itinerary) -> Verdict: ...


class TurnLevel(Protocol):
    """What judges each tool call and, last, what rests on none, such as [`TurnVerifier`]."""

    def __call__(self, itinerary: Itinerary, tool_turns: Sequence[ToolTurn]) -> list[Verdict]: ...


@dataclass
class _Outcome:
    """What became of one rollout."""

    reward: float | None = 0.0
    told: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


class HierarchicalReward:
    """
    Reward function: a plan earns something if it can be read, holds together, and rests on what the tools said.

    With F (the last assistant message is an itinerary), R_traj (the trajectory level passes) and R_turn (a verdict of the
    turn level), each 0 or 1, after [DeepTravel](https://huggingface.co/papers/2509.21842), whose equation is not public:

    - `"gated_product"`: `F * R_traj * prod_t R_turn,t`;
    - `"gated_mean"`: `F * R_traj * mean_t R_turn,t`, over the verdicts that have something to judge, so that calls for
      nothing do not dilute it;
    - `"weighted"`: `a * F + b * R_traj + c * mean_t R_turn,t`.

    Evaluated from the left, and whatever fails ends it: the turn level is not asked about a plan that cannot be read or
    carried out, and counts 0 there.

    The dataset needs a column `query` with the [`TravelQuery`] of each row, as JSON. What is in the completions never
    raises; what is wrong in that column does. It keeps no state, and may be called from several threads.

    Args:
        combine (`str`, *optional*, defaults to `"gated_product"`):
            `"gated_product"`, `"gated_mean"` or `"weighted"`.
        weights (`tuple[float, float, float]`, *optional*):
            a, b and c of `"weighted"`, which needs them: not negative, with sum 1.
        trajectory (`Callable`, *optional*):
            Judges the plan, `(query, itinerary) -> Verdict`. [`TrajectoryVerifier`] of the default world if `None`.
        turn (`Callable`, *optional*):
            Judges the tool calls, `(itinerary, tool_turns) -> list[Verdict]`. [`TurnVerifier`] if `None`.
        measure_claims (`bool`, *optional*):
            Whether the share of ungrounded claims is measured for every plan that can be read, also where the reward does
            not ask the turn level. Costs little with [`TurnVerifier`], where it is the default, and is not possible with
            another backend.

    Logged, as means over rollouts:

    - `verifier/format`: share that are an itinerary;
    - `verifier/trajectory`: of these, share that pass the trajectory level; `verifier/fail/T1` to `T10`: that fail an item;
    - `verifier/turns_skipped`: share of all whose turn level was not asked; `verifier/turn`: of the others, share that pass;
    - `verifier/ungrounded_claims`: share of a plan's claims that no earlier response bears out, over the plans that make
      claims; `verifier/ungrounded_plans`: share of these plans with any such claim;
    - `verifier/pass`: share of all that pass everything; `verifier/pass/<level>`: by the column `level`, if there is one;
    - `verifier/unavailable`: share without a verdict, which get no reward; and what the backends count.

    To the table of completions it adds the column `verdict`: in words, why.

    Raises:
        `ValueError`: If a setting is unknown or cannot take effect.
    """

    __name__ = "hierarchical_reward"

    def __init__(
        self,
        combine: Combine = "gated_product",
        *,
        weights: tuple[float, float, float] | None = None,
        trajectory: TrajectoryLevel | None = None,
        turn: TurnLevel | None = None,
        measure_claims: bool | None = None,
    ) -> None:
        self._combine = combine
        self._weights = _checked_weights(combine, weights)
        self._trajectory = TrajectoryVerifier() if trajectory is None else trajectory
        self._turn = TurnVerifier() if turn is None else turn
        executable = isinstance(self._turn, TurnVerifier)
        if measure_claims and not executable:
            raise ValueError(
                f"measure_claims needs TurnVerifier, but the turn level is {type(self._turn).__name__}: leave it out"
            )
        self._measure = executable if measure_claims is None else measure_claims
        levels = (self._trajectory, self._turn)
        self._concurrency = max(int(getattr(level, "concurrency", 1)) for level in levels)

    def __call__(
        self,
        completions: list[Any],
        query: list[Any],
        level: list[str] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """
        Reward each completion.

        Args:
            completions (`list`):
                Completions: messages or text.
            query (`list[str]`):
                Dataset column with the [`TravelQuery`] of each row, as JSON.
            level (`list[str]`, *optional*):
                Dataset column with the level of each row.
            log_metric (`Callable`, *optional*):
                TRL's function that logs a number.
            log_extra (`Callable`, *optional*):
                TRL's function that logs a column of the table of completions.
            **kwargs:
                What else TRL passes to reward functions.

        Returns:
            `list[float | None]`: A reward from 0 to 1 for each completion; `None` where a judge could not be reached.

        Raises:
            `ValueError`: If a row's query is none. The message names the row.
        """
        queries = [_query(row, asked) for row, asked in enumerate(query)]
        if len(queries) != len(completions):
            raise ValueError(f"{len(completions)} completions, but {len(queries)} queries")
        if self._concurrency > 1 and len(completions) > 1:
            with ThreadPoolExecutor(min(self._concurrency, len(completions))) as pool:
                outcomes = list(pool.map(self._judge, queries, completions))
        else:
            outcomes = [self._judge(asked, given) for asked, given in zip(queries, completions, strict=True)]
        for row, outcome in enumerate(outcomes):
            if level is not None and outcome.reward is not None:
                outcome.metrics[f"verifier/pass/{level[row]}"] = outcome.metrics["verifier/pass"]
            if log_metric is not None:
                # One value for each rollout: TRL's mean over them is then exact, however processes share them.
                for name, value in outcome.metrics.items():
                    log_metric(name, value)
        if log_extra is not None:
            log_extra("verdict", [outcome.told for outcome in outcomes])
        return [outcome.reward for outcome in outcomes]

    def _judge(self, query: TravelQuery, completion: Any) -> _Outcome:
        outcome = _Outcome()
        try:
            self._run_levels(query, completion, outcome)
        except VerdictUnavailable as error:
            outcome.reward, outcome.told = None, f"no verdict: {error}"[:_MAX_TEXT]
        outcome.metrics["verifier/unavailable"] = float(outcome.reward is None)
        return outcome

    def _run_levels(self, query: TravelQuery, completion: Any, outcome: _Outcome) -> None:
        """From the left, and whatever fails ends it."""
        metrics = outcome.metrics
        metrics.update({"verifier/format": 0.0, "verifier/turns_skipped": 1.0, "verifier/pass": 0.0})
        try:
            itinerary = parse_itinerary(last_answer(completion))
        except ItineraryError as error:
            outcome.told = f"format: {error}"[:_MAX_TEXT]
            return
        metrics["verifier/format"] = 1.0
        calls = tool_turns(completion)
        if self._measure:
            metrics.update(_claim_metrics(item_claims(itinerary, calls)))
        del metrics["verifier/pass"]  # unknown again, until a verdict is there
        verdict = self._trajectory(query, itinerary)
        metrics.update({f"verifier/fail/{name}": float(name in verdict.failures) for name in verdict.items})
        metrics["verifier/trajectory"] = float(verdict.passed)
        _count(metrics, [verdict])
        share = 0.0
        if verdict.passed:
            turns = self._turn(itinerary, calls)
            _count(metrics, turns)
            share = _share_passed(turns)
            metrics["verifier/turns_skipped"] = 0.0
            metrics["verifier/turn"] = float(all(turn.passed for turn in turns))
            outcome.told = _turn_text(turns, calls)
        else:
            outcome.told = _text("trajectory", verdict)
        metrics["verifier/pass"] = metrics.get("verifier/turn", 0.0)
        outcome.reward = self._combined(verdict.passed, share)

    def _combined(self, trajectory: bool, share: float) -> float:
        """The reward of a plan that can be read, by the share of its turn verdicts that passed."""
        if self._weights is not None:
            a, b, c = self._weights
            return min(a + b * trajectory + c * share, 1.0)
        if self._combine == "gated_product":
            return float(trajectory and share == 1.0)
        return trajectory * share


def _checked_weights(combine: str, weights: Any) -> tuple[float, float, float] | None:
    if combine not in get_args(Combine):
        raise ValueError(f"combine must be one of {list(get_args(Combine))}, got {combine!r}")
    if combine != "weighted":
        if weights is not None:
            raise ValueError(
                f"weights have no effect with combine={combine!r}: leave them out, or set it to 'weighted'"
            )
        return None
    if not isinstance(weights, (tuple, list)) or len(weights) != 3:
        raise ValueError(f"combine='weighted' needs three weights (format, trajectory, turns), got {weights!r}")
    if any(not math.isfinite(weight) or weight < 0 for weight in weights) or not math.isclose(sum(weights), 1.0):
        raise ValueError(f"weights must not be negative, with sum 1, got {weights!r}")
    a, b, c = (float(weight) for weight in weights)
    return a, b, c


def _query(row: int, asked: Any) -> TravelQuery:
    try:
        return _read_query(asked) if isinstance(asked, str) else TravelQuery.model_validate(asked)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"Row {row} of the batch, column `query`: {place}: {first['msg']}") from None


@lru_cache(maxsize=4096)
def _read_query(text: str) -> TravelQuery:
    return TravelQuery.model_validate_json(text)


def _claim_metrics(claims: list[ItemClaims]) -> dict[str, float]:
    total, ungrounded = sum(item.total for item in claims), sum(item.ungrounded for item in claims)
    if not total:
        return {}
    return {
        "verifier/ungrounded_claims": ungrounded / total,
        "verifier/ungrounded_plans": float(ungrounded > 0),
    }


def _count(metrics: dict[str, float], verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        for name, count in verdict.counts.items():
            metrics[name] = metrics.get(name, 0.0) + count


def _share_passed(turns: Sequence[Verdict]) -> float:
    """Of the verdicts that had something to judge, the share that passed; 1 if none had."""
    judged = [turn for turn in turns if any(check.status != "na" for check in turn.items.values())]
    return sum(turn.passed for turn in judged) / len(judged) if judged else 1.0


def _turn_text(turns: Sequence[Verdict], calls: Sequence[ToolTurn]) -> str:
    bad = next((i for i, turn in enumerate(turns) if not turn.passed), None)
    if bad is None:
        return "pass"
    where = f"turn {calls[bad].turn + 1} {calls[bad].name:.40}" if bad < len(calls) else "ungrounded"
    return _text(where, turns[bad])


def _text(where: str, verdict: Verdict) -> str:
    return f"{where} {', '.join(verdict.failures)}: {next(iter(verdict.failures.values()), '')}"[:_MAX_TEXT]
