"""Travel verifiers: false alarms on the solver's plans, corruptions caught by the right item, and time per verification.

    python -m benchmarks.travel_verifiers --check

A corruption is caught if the item of the rubric, or the turn verdict, that must see it fails. The time is that of
`HierarchicalReward` on a whole completion: reading the plan and the tool responses, both levels, and the claims measured.
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
from trl_multiturn.environments.travel import Itinerary, TravelQuery, TravelWorld
from trl_multiturn.environments.travel.tasks import draw_tasks
from trl_multiturn.rewards.verifiers import HierarchicalReward, TrajectoryVerifier


RESULTS = Path(__file__).parent / "results" / "travel_verifiers"
AIM_CAUGHT, AIM_ALARMS, AIM_SECONDS = 0.99, 0.01, 2e-3


def seconds_by_level(
    tasks: list[tuple[TravelQuery, Itinerary]], world: TravelWorld, seed: int
) -> dict[str, list[float]]:
    """Seconds of the whole reward for each plan, good and corrupted, by the level of the task."""
    reward, rng = HierarchicalReward(trajectory=TrajectoryVerifier(world)), random.Random(seed)
    found: dict[str, list[float]] = {}
    for query, itinerary in tasks:
        case = make_case(query, itinerary, world)
        cases = [(query.level, case)]
        if itinerary.feasible:
            broken = CORRUPTIONS[rng.choice(sorted(CORRUPTIONS))][1](case, rng)
            cases += [("corrupted", broken)] if broken is not None else []
        for name, judged in cases:
            completion = messages(judged.turns, judged.itinerary.to_json())
            asked = [judged.query.model_dump_json()]
            started = time.perf_counter()
            reward([completion], asked)
            found.setdefault(name, []).append(time.perf_counter() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the tasks and of the corruptions")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the two CSV files")
    parser.add_argument("--check", action="store_true", help="fail if an aim is missed")
    options = parser.parse_args()

    world = TravelWorld()
    drawn = itertools.islice(draw_tasks(seed=options.seed, world=world), options.tasks)
    tasks = [(query, solution.itinerary) for query, _, solution in drawn]
    measured = measure(tasks, world, options.seed)
    seconds = seconds_by_level(tasks, world, options.seed)

    rates = [(name, sum(caught), len(caught)) for name, caught in sorted(measured.caught.items())]
    rows = [(name, CORRUPTIONS.get(name, ("any",))[0], n, k, f"{k / n:.4f}") for name, k, n in rates]
    rows.insert(0, ("good plan", "none", len(tasks), sum(measured.alarms), f"{sum(measured.alarms) / len(tasks):.4f}"))
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
    if options.check and (missed or sum(measured.alarms) > AIM_ALARMS * len(tasks) or mean > AIM_SECONDS):
        sys.exit(f"missed an aim: {missed}, {sum(measured.alarms)} false alarms, {1e3 * mean:.2f} ms")


def write(path: Path, header: tuple, rows: list[tuple]) -> None:
    """A CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


if __name__ == "__main__":
    main()
