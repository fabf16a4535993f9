"""GRPO with and without failure replay on the travel sandbox.

Both start from the shipped travel policy and roll out as many plans: a replayed task takes the place of a fresh one. GRPO is
TRL's own trainer. The tasks are easy, medium and hard ones; what is measured is new tasks between the same cities.

    python -m benchmarks.replay_learning run --jobs 2     # all methods and seeds, each in a process of its own
    python -m benchmarks.replay_learning report           # table, CSV and plot of what is in the results folder

Results go to benchmarks/results/replay_learning: one JSON file a run, curves.csv, curves.png and summary.json.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any


RESULTS = Path(__file__).parent / "results" / "replay_learning"
METHODS = {"grpo": "GRPO (TRL)", "replay": "ReplayGRPO"}
REPLAY = {
    "replay_every": 2,
    "replay_ratio": 0.5,
    "replay_max_replays": 5,
    "replay_graduate_at": 0.5,
    "task_id_column": "task_id",
}
MEASURED = (
    "pass",
    "pass/easy",
    "pass/medium",
    "pass/hard",
    "format",
    "trajectory",
    "ungrounded_claims",
    "ungrounded_plans",
)
TOLD = ("reward", "frac_reward_zero_std", "entropy", "verifier/ungrounded_claims", "step_time")
REPLAY_TOLD = ("size", "share", "success", "graduated", "retired", "age")
OPTIONS = ("steps", "rollouts", "learning_rate", "train_tasks", "eval_tasks")


def make_trainer(method: str, seed: int, options: argparse.Namespace, folder: str) -> Any:
    """A trainer of the method on the travel tasks."""
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from benchmarks.common import quick_settings
    from trl_multiturn import ReplayGRPOConfig, ReplayGRPOTrainer
    from trl_multiturn.environments.travel import TravelEnvironment, generate_tasks
    from trl_multiturn.recipes import travel_policy as policy
    from trl_multiturn.rewards.verifiers import HierarchicalReward, TrajectoryVerifier

    settings = quick_settings(
        options.rollouts,
        output_dir=folder,
        max_steps=options.steps,
        seed=seed,
        # In halves, for memory.
        per_device_train_batch_size=options.rollouts // 2,
        gradient_accumulation_steps=2,
        max_completion_length=policy.MAX_TRIP_TOKENS,
        generation_kwargs={"max_new_tokens": policy.MAX_TURN_TOKENS},
        max_tool_calling_iterations=policy.MAX_TURNS,
        temperature=policy.TEMPERATURE,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",
        per_device_eval_batch_size=60,
        num_generations_eval=1,
    )
    world = policy.travel_world()
    tasks = partial(generate_tasks, levels=policy.LEVELS, language="en", world=world, system_prompt=None)
    is_grpo = method == "grpo"
    trainer_class: Any = GRPOTrainer if is_grpo else ReplayGRPOTrainer
    trainer = trainer_class(
        model=str(options.policy or policy.TRAVEL_POLICY),
        reward_funcs=HierarchicalReward(trajectory=TrajectoryVerifier(world)),
        args=GRPOConfig(**settings) if is_grpo else ReplayGRPOConfig(**settings, **REPLAY),
        # Tasks of another seed than those of the demonstrations, which are of the same cities.
        train_dataset=tasks(options.train_tasks, split="train", seed=1_000 + seed),
        eval_dataset=policy.held_out_tasks(world, options.eval_tasks),
        environment_factory=partial(TravelEnvironment, world, max_results=policy.MAX_RESULTS),
    )
    trainer.remove_callback(PrinterCallback)  # a benchmark prints its own lines
    return trainer


def measure(trainer: Any) -> dict[str, float]:
    """What the verifier says of rollouts of the held-out tasks, one of each."""
    trainer.evaluate()
    told = next(entry for entry in reversed(trainer.state.log_history) if "eval_verifier/pass" in entry)
    return {name: float(told[f"eval_verifier/{name}"]) for name in MEASURED}


def train(method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run; returns what it measured and its curve."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(method, seed, options, folder)
        before = measure(trainer)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        history = [entry for entry in trainer.state.log_history if "reward" in entry]
        after = measure(trainer)
    names = (*TOLD, *(f"replay/{name}" for name in REPLAY_TOLD))
    return {
        "method": method,
        "seed": seed,
        "settings": {name: getattr(options, name) for name in OPTIONS},
        "seconds": round(seconds),
        "before": before,
        "after": after,
        "curve": [{name: float(entry[name]) for name in names if name in entry} for entry in history],
    }


def run_all(options: argparse.Namespace) -> None:
    """Every method and seed that has no result yet, a few processes at a time."""
    RESULTS.mkdir(parents=True, exist_ok=True)

    def start(job: tuple[int, str]) -> None:
        seed, method = job
        target = RESULTS / f"{method}_{seed}.json"
        if target.exists():
            return
        command = [sys.executable, "-m", "benchmarks.replay_learning", "one", "--method", method, "--seed", str(seed)]
        for name in OPTIONS:
            command += [f"--{name}", str(getattr(options, name))]
        if options.policy:
            command += ["--policy", options.policy]
        threads = max((os.cpu_count() or 1) // options.jobs, 1)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
        with open(target.with_suffix(".log"), "w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
        found = json.loads(target.read_text())
        print(f"{method} {seed}: {found['after']['pass']:.3f} in {found['seconds']} s", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(start, [(seed, method) for seed in options.seeds for method in options.methods]))


def report() -> dict[str, Any]:
    """Table, CSV and plot of all results."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*_[0-9]*.json"))]
    with open(RESULTS / "curves.csv", "w", newline="") as file:
        writer = csv.writer(file)
        columns = (*TOLD, *(f"replay/{name}" for name in REPLAY_TOLD))
        writer.writerow(["method", "seed", "step", *columns])
        for run in runs:
            for step, point in enumerate(run["curve"], start=1):
                writer.writerow([run["method"], run["seed"], step, *(point.get(name, "") for name in columns)])
    summary: dict[str, Any] = {"settings": runs[0]["settings"], "replay": REPLAY}
    for method in METHODS:
        mine = [run for run in runs if run["method"] == method]
        if not mine:
            continue
        summary[method] = {
            "seeds": sorted(run["seed"] for run in mine),
            "seconds": statistics.mean(run["seconds"] for run in mine),
            "before": {name: statistics.mean(run["before"][name] for run in mine) for name in MEASURED},
            "after": {name: statistics.mean(run["after"][name] for run in mine) for name in MEASURED},
            "after_std": {name: _deviation([run["after"][name] for run in mine]) for name in MEASURED},
            "pass_by_seed": {run["seed"]: run["after"]["pass"] for run in mine},
            "hard_by_seed": {run["seed"]: run["after"]["pass/hard"] for run in mine},
            "groups_without_signal": statistics.mean(
                point["frac_reward_zero_std"] for run in mine for point in run["curve"]
            ),
        }
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _plot(runs)
    print(json.dumps(summary, indent=2))
    return summary


def _deviation(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _smooth(values: list[float], window: int = 8) -> list[float]:
    return [statistics.mean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]


def _plot(runs: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    panels = {
        "reward": "pass rate in training",
        "frac_reward_zero_std": "groups without signal",
        "verifier/ungrounded_claims": "ungrounded claims",
    }
    figure = Figure(figsize=(12.8, 4.2), layout="constrained")
    for axis, (name, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for method, label in METHODS.items():
            mine = [_smooth([point[name] for point in run["curve"]]) for run in runs if run["method"] == method]
            if not mine:
                continue
            columns = list(zip(*mine, strict=False))
            means = [statistics.mean(column) for column in columns]
            errors = [(_deviation(list(column)) or 0.0) / len(column) ** 0.5 for column in columns]
            (line,) = axis.plot(means, label=f"{label} ({len(mine)} seeds)")
            low, high = ([m + s * e for m, e in zip(means, errors, strict=True)] for s in (-1, 1))
            axis.fill_between(range(len(means)), low, high, alpha=0.2, color=line.get_color())
        axis.set(xlabel="step", title=title)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(RESULTS / "curves.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "one"):
        sub = commands.add_parser(name)
        sub.add_argument("--steps", type=int, default=24, help="batches of rollouts")
        sub.add_argument("--rollouts", type=int, default=64, help="rollouts a step, eight of each task")
        sub.add_argument("--learning_rate", type=float, default=5e-4)
        sub.add_argument(
            "--train_tasks", type=int, default=48, help="tasks to train on; four epochs with the defaults"
        )
        sub.add_argument("--eval_tasks", type=int, default=120, help="new tasks, rolled out once at the end")
        sub.add_argument("--policy", help="folder of another policy than the shipped one")
        if name == "run":
            sub.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
            sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
            sub.add_argument("--jobs", type=int, default=2, help="runs at the same time")
        else:
            sub.add_argument("--method", choices=METHODS, required=True)
            sub.add_argument("--seed", type=int, default=0)
    commands.add_parser("report")
    options = parser.parse_args()
    if options.command == "run":
        run_all(options)
    if options.command == "one":
        result = train(options.method, options.seed, options)
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{options.method}_{options.seed}.json").write_text(json.dumps(result) + "\n")
    else:
        report()


if __name__ == "__main__":
    main()
