"""Steps of the travel sandbox per second on one core: without a cache, recording, and replaying.

A step is one call of a tool of `TravelEnvironment`, from its arguments to the JSON text that the model reads. The calls differ
from one another and go through the five tools that search, in a fixed random order. Recording starts with an empty file and
stores every answer; replaying answers from memory after one pass to fill it, or from SQLite alone (`memory=0`). Each figure is
the median over the repeats. `--delay` makes the backend as slow as a live service.

    python -m benchmarks.travel_cache --check --csv benchmarks/results/travel_cache.csv
"""

import argparse
import csv
import os
import random
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from trl_multiturn.environments.travel import Backend, ToolCache, ToolError, TravelEnvironment, TravelWorld


AIM = 5000


class Service:
    """A new world, which remembers nothing of an earlier repeat, and a wait before each answer."""

    def __init__(self, delay: float) -> None:
        self._world, self._delay = TravelWorld(), delay
        self.version = self._world.version

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Answers as the world does, late."""
        if self._delay:
            time.sleep(self._delay)
        return self._world.call(name, arguments)


def different_calls(steps: int) -> list[tuple[str, dict[str, Any]]]:
    """Calls of which no two are the same."""
    world, rng = TravelWorld(), random.Random(0)
    calls: dict[str, tuple[str, dict[str, Any]]] = {}
    while len(calls) < steps:
        here, there = rng.sample(world.cities, 2)
        day = world.today + timedelta(days=rng.randrange(300))
        trip = {"origin": here, "destination": there, "date": day.isoformat()}
        stay = {"city": here, "check_in": day.isoformat(), "check_out": (day + timedelta(days=2)).isoformat()}
        tools: dict[str, dict[str, Any]] = {
            "search_flights": trip,
            "search_trains": trip,
            "search_hotels": stay,
            "search_pois": {"city": here, "radius_km": rng.randint(10, 400) / 10},
            "search_web": {"query": f"{here} {there}", "top_k": rng.randint(1, 5)},
        }
        call = rng.choice(list(tools.items()))
        calls[repr(call)] = call
    return list(calls.values())


def run(backend: Backend, calls: list[tuple[str, dict[str, Any]]]) -> tuple[float, list[str]]:
    """Steps per second, and what was answered."""
    environment = TravelEnvironment(backend)
    environment.reset()
    answers = []
    start = time.perf_counter()
    for name, arguments in calls:
        try:
            answers.append(getattr(environment, name)(**arguments))
        except ToolError as error:
            answers.append(str(error))
    return len(calls) / (time.perf_counter() - start), answers


def repeat(calls: list[tuple[str, dict[str, Any]]], delay: float, folder: str) -> dict[str, float]:
    """Steps per second of each kind, once."""
    path = Path(folder) / "cache.sqlite"
    path.unlink(missing_ok=True)
    speeds: dict[str, float] = {}
    answers: list[list[str]] = []
    speeds["no cache"], said = run(Service(delay), calls)
    answers.append(said)
    with ToolCache(path, Service(delay), mode="record") as cache:
        speeds["record (cold)"], said = run(cache, calls)
        answers.append(said)
    with ToolCache(path, memory=0) as cache:
        speeds["replay (warm, SQLite only)"], said = run(cache, calls)
        answers.append(said)
    with ToolCache(path, memory=len(calls)) as cache:
        run(cache, calls)
        speeds["replay (warm, memory)"], said = run(cache, calls)
        answers.append(said)
    if any(said != answers[0] for said in answers):
        sys.exit("the cache changed an answer")
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000, help="calls of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that the backend waits before each answer")
    parser.add_argument("--csv", type=Path, help="file for every repeat's figures")
    parser.add_argument("--check", action="store_true", help=f"fail under {AIM:,} steps per second in replay")
    options = parser.parse_args()

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    calls = different_calls(options.steps)
    with tempfile.TemporaryDirectory() as folder:
        repeats = [repeat(calls, options.delay, folder) for _ in range(options.repeats)]
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["kind", "repeat", "steps", "delay", "steps_per_second"])
            for number, speeds in enumerate(repeats):
                for kind, speed in speeds.items():
                    writer.writerow([kind, number, options.steps, options.delay, round(speed)])
    print(f"{'':28}{'median':>9}{'lowest':>9}{'highest':>9}  steps per second")
    slowest = float("inf")
    for kind in repeats[0]:
        figures = [each[kind] for each in repeats]
        median = statistics.median(figures)
        print(f"{kind:28}{median:9,.0f}{min(figures):9,.0f}{max(figures):9,.0f}")
        if kind.startswith("replay"):
            slowest = min(slowest, median)
    if options.check and slowest < AIM:
        sys.exit(f"less than {AIM:,} steps per second in replay")


if __name__ == "__main__":
    main()
