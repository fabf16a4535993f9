"""Speed of the phone's backends: screens drawn a second with Pillow, steps a second in headless Chromium, and memory a page.

Screens are those of random walks through all apps, so that most of their lines have been drawn before, as in training; "cold" is
every screen with nothing kept from those before. Pillow runs on one core. A step in Chromium is one action, carried out with real
touches, swipes and keys, and a screenshot; with several pages each is used from a thread of its own, and the browser may use all
cores. Memory is the proportional set size of the browser's processes, which counts shared pages once.

    python -m benchmarks.phone_rendering --check --json benchmarks/results/phone_rendering.json
"""

import argparse
import json
import os
import random
import re
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from trl_multiturn.environments.phone import pillow_renderer
from trl_multiturn.environments.phone.actions import Action
from trl_multiturn.environments.phone.apps import APPS
from trl_multiturn.environments.phone.backend import PhoneBackend, StateBackend
from trl_multiturn.environments.phone.chromium import ChromiumBackend
from trl_multiturn.environments.phone.layout import tappable
from trl_multiturn.environments.phone.state import PhoneState


AIM = 40
TEXTS = ("07:30", "Meeting 2", "Kettle")


def random_action(rng: random.Random, state: PhoneState) -> Action:
    """An action that does something on most screens."""
    if state.focus is not None and rng.random() < 0.5:
        return Action("type", text=rng.choice(TEXTS))
    boxes = tappable(state.screen(), state.scroll)
    number = rng.random()
    if boxes and number < 0.6:
        return Action("click", coordinate=rng.choice(boxes)[1].center)
    if number < 0.8:
        return Action("swipe", coordinate=(196, rng.randint(200, 600)), coordinate2=(196, rng.randint(100, 700)))
    return rng.choice([Action("system_button", button="Back"), *(Action("open", text=name) for name in APPS)])


def walk(backend: PhoneBackend, steps: int, seed: int) -> list[PhoneState]:
    """Random actions, each followed by a screenshot; the states on the way."""
    rng, states = random.Random(seed), []
    backend.reset(PhoneState(APPS))
    for _ in range(steps):
        assert backend.state is not None
        backend.perform(random_action(rng, backend.state))
        backend.screenshot()
        states.append(backend.state.copy())
    return states


def pillow_speeds(steps: int, repeats: int) -> dict[str, list[float]]:
    """Screens a second with what was drawn before kept, at full and half size, and without."""
    states = walk(StateBackend(), steps, seed=0)
    cached = [value for value in vars(pillow_renderer).values() if hasattr(value, "cache_clear")]
    fonts = pillow_renderer._font
    speeds: dict[str, list[float]] = {}
    for name, scale, cold in (("full size", 1.0, False), ("half size", 0.5, False), ("full size, cold", 1.0, True)):
        for _ in range(repeats):
            seconds = 0.0
            for state in states:
                if cold:
                    for function in cached:
                        # Fonts are loaded once a process, not once a screen.
                        if function is not fonts:
                            function.cache_clear()
                start = time.perf_counter()
                pillow_renderer.render(state, scale=scale)
                seconds += time.perf_counter() - start
            speeds.setdefault(name, []).append(len(states) / seconds)
    return speeds


def chromium_speed(pages: int, steps: int) -> tuple[float, float]:
    """Steps a second of so many pages together, and MB of the browser with them."""
    backends = [ChromiumBackend() for _ in range(pages)]
    for backend in backends:
        backend.reset(PhoneState(APPS))
    with ThreadPoolExecutor(pages) as pool:
        list(pool.map(lambda backend: walk(backend, 5, seed=0), backends))
        start = time.perf_counter()
        list(pool.map(walk, backends, [steps] * pages, range(pages)))
        seconds = time.perf_counter() - start
    memory = browser_megabytes()
    for backend in backends:
        backend.close()
    # Its processes end a little later.
    time.sleep(2)
    return pages * steps / seconds, memory


def browser_megabytes() -> float:
    """Memory of this process's browser."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        if "chrom" in process.name() and process.status() != psutil.STATUS_ZOMBIE:
            total += process.memory_full_info().pss
    return total / 2**20


def machine() -> str:
    """Processor and number of cores."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="screens or steps of one repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-browser", action="store_true", help="measure Pillow alone")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--check", action="store_true", help=f"fail under {AIM} screens a second with Pillow")
    options = parser.parse_args()

    print(machine())
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    pillow = pillow_speeds(options.steps, options.repeats)
    os.sched_setaffinity(0, cores)
    for name, speeds in pillow.items():
        print(f"Pillow, {name:18}{statistics.median(speeds):8.0f} screens/s")
    figures: dict[str, object] = {"machine": machine(), "steps": options.steps, "pillow_screens_per_second": pillow}
    if not options.no_browser:
        # The browser itself, before any page is counted.
        chromium_speed(1, 1)
        alone = browser_megabytes()
        chromium: dict[str, list[tuple[float, float]]] = {}
        for pages in (1, 4):
            measured = [chromium_speed(pages, options.steps) for _ in range(options.repeats)]
            chromium[str(pages)] = [(speed, (memory - alone) / pages) for speed, memory in measured]
            speed = statistics.median(speed for speed, _ in chromium[str(pages)])
            memory = statistics.median(memory for _, memory in chromium[str(pages)])
            print(f"Chromium, {pages} page(s)      {speed:8.1f} steps/s, {memory:.0f} MB a page")
        print(f"Chromium without a page {alone:8.0f} MB")
        figures |= {"chromium_steps_per_second_and_mb_a_page": chromium, "chromium_mb": alone}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    slowest = min(statistics.median(speeds) for speeds in pillow.values())
    if options.check and slowest < AIM:
        sys.exit(f"less than {AIM} screens a second")


if __name__ == "__main__":
    main()
