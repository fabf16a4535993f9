"""Travel verifiers: false alarms on the solver's plans, corruptions caught by the right item, and time per verification.

    python -m benchmarks.travel_verifiers --check

A corruption is caught if the item of the rubric, or the turn verdict, that must see it fails. The time is that of
`HierarchicalReward` on a whole completion, of an episode played in the environment or with a corrupted plan: reading the plan
and the tool responses, both levels, and the claims measured.
"""

import argparse
import csv
import itertools
import random
import statistics
import sys
import time
from pathlib import Path

from tests.rewards.corruptions import CORRUPTIONS, make_case, measure
from tests.rewards.travel_case import messages
from trl_multiturn.environments.travel import TravelQuery, TravelWorld
from trl_multiturn.environments.travel.demonstrations import NotShown, demonstrate
from trl_multiturn.environments.travel.solver import Solution
from trl_multiturn.environments.travel.tasks import draw_tasks
from trl_multiturn.rewards.verifiers import HierarchicalReward, TrajectoryVerifier


RESULTS = Path(__file__).parent / "results" / "travel_verifiers"
AIM_CAUGHT, AIM_ALARMS, AIM_SECONDS = 0.99, 0.01, 2e-3


def played(
    tasks: list[tuple[TravelQuery, Solution]], world: TravelWorld
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of the reward by level, and rewards, of the solver's plans as episodes played in the environment."""
    reward = HierarchicalReward(trajectory=TrajectoryVerifier(world))
    seconds: dict[str, list[float]] = {}
    rewards = []
    for query, solution in tasks:
        try:
            completion = demonstrate(query, world, random.Random(query.id), error_rate=0.2, solution=solution)
        except NotShown:  # the plan needs a record that no answer of five shows
            continue
        spent, given = timed(reward, completion, query)
        seconds.setdefault(query.level, []).append(spent)
        rewards.append(given)
    return seconds, rewards


def corrupted(tasks: list[tuple[TravelQuery, Solution]], world: TravelWorld, seed: int) -> list[float]:
    """Seconds of the reward of corrupted plans."""
    reward, rng, seconds = HierarchicalReward(trajectory=TrajectoryVerifier(world)), random.Random(seed), []
    for query, solution in tasks:
        name = rng.choice(sorted(CORRUPTIONS))
        case = CORRUPTIONS[name][1](make_case(query, solution.itinerary, world), rng) if solution.feasible else None
        if case is not None:
            seconds.append(timed(reward, messages(case.turns, case.itinerary.to_json()), case.query)[0])
    return seconds


def timed(reward: HierarchicalReward, completion: list, query: TravelQuery) -> tuple[float, float]:
    """Seconds that a reward takes, and the reward."""
    asked = [query.model_dump_json()]
    started = time.perf_counter()
    given = reward([completion], asked)
    return time.perf_counter() - started, given[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the tasks and of the corruptions")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the two CSV files")
    parser.add_argument("--check", action="store_true", help="fail if an aim is missed")
    options = parser.parse_args()

    world = TravelWorld()
    drawn = itertools.islice(draw_tasks(seed=options.seed, world=world), options.tasks)
    tasks = [(query, solution) for query, _, solution in drawn]
    measured = measure([(query, solution.itinerary) for query, solution in tasks], world, options.seed)
    seconds, rewards = played(tasks, world)
    seconds["corrupted"] = corrupted(tasks, world, options.seed)

    rates = [(name, sum(caught), len(caught)) for name, caught in sorted(measured.caught.items())]
    rows = [(name, CORRUPTIONS.get(name, ("any",))[0], n, k, f"{k / n:.4f}") for name, k, n in rates]
    good = {"good plan": measured.alarms, "good episode": [given != 1.0 for given in rewards]}
    alarms = {name: sum(blamed) / len(blamed) for name, blamed in good.items()}
    rows = [(name, "none", len(blamed), sum(blamed), f"{alarms[name]:.4f}") for name, blamed in good.items()] + rows
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "corruptions.csv", ("corruption", "must be seen by", "cases", "seen", "rate"), rows)
    times = [
        (
            name,
            len(spent),
            *(f"{1e3 * value:.3f}" for value in (statistics.mean(spent), statistics.median(spent), max(spent))),
        )
        for name, spent in seconds.items()
    ]
    write(options.out / "seconds.csv", ("plans", "cases", "mean ms", "median ms", "most ms"), times)

    for name, item, n, k, rate in rows:
        print(f"{name:34} {item:10} {k:5} of {n:5}  {float(rate):8.2%}")
    for name, n, *values in times:
        print(f"{name:34} {n:5} verifications: mean {values[0]}, median {values[1]}, most {values[2]} ms")
    mean = statistics.mean(itertools.chain(*seconds.values()))
    print(
        f"{len(rates)} kinds of corruption, worst rate {min(k / n for _, k, n in rates):.2%}, mean {1e3 * mean:.3f} ms"
    )
    missed = [name for name, k, n in rates if k / n < AIM_CAUGHT]
    if options.check and (missed or max(alarms.values()) > AIM_ALARMS or mean > AIM_SECONDS):
        sys.exit(f"missed an aim: {missed}, {alarms} false alarms, {1e3 * mean:.2f} ms")


def write(path: Path, header: tuple, rows: list[tuple]) -> None:
    """A CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


if __name__ == "__main__":
    main()
