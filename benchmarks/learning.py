"""IGPO against GRPO on the embedded search task, at equal rollouts.

Both start from the shipped policy and are the same class with the same settings; GRPO is the gain weight 0. Every run is
evaluated on the same held-out questions (entities never seen in training) before, during and after.

    python -m benchmarks.learning run --jobs 2          # all methods and seeds, each in a process of its own
    python -m benchmarks.learning report                # table, CSV and plot of what is in the results folder

Results go to benchmarks/results/learning: one JSON file a run, curves.csv, curves.png and summary.json.
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
from pathlib import Path
from typing import Any


RESULTS = Path(__file__).parent / "results" / "learning"
METHODS = {
    "igpo": {"gain_weight": 1.0},
    "grpo": {"gain_weight": 0.0},
    "igpo_return": {"gain_weight": 1.0, "baseline": "return"},
}
LABELS = {"igpo": "IGPO", "grpo": "GRPO (gain weight 0)", "igpo_return": "IGPO, return baseline"}


def train(method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run; returns its curves."""
    from benchmarks.common import quick_settings, search_trainer
    from trl_multiturn import IGPOConfig, IGPOTrainer
    from trl_multiturn.environments.search import load_fact_questions
    from trl_multiturn.recipes.search_policy import BELIEF_PREFIX, BELIEF_SUFFIX

    held_out = load_fact_questions("validation", hops=options.hops, seed=0, limit=options.eval_questions)
    with tempfile.TemporaryDirectory() as folder:
        arguments = IGPOConfig(
            **quick_settings(options.rollouts, output_dir=folder, max_steps=options.steps, seed=seed),
            **METHODS[method],
            learning_rate=options.learning_rate,
            lr_scheduler_type="constant",
            belief_prefix=BELIEF_PREFIX,
            belief_suffix=BELIEF_SUFFIX,
            eval_strategy="steps",
            eval_steps=options.eval_every,
            per_device_eval_batch_size=options.eval_questions,
            num_generations_eval=1,
        )
        trainer = search_trainer(IGPOTrainer, arguments, hops=tuple(options.hops), eval_dataset=held_out)
        start = time.perf_counter()
        first = trainer.evaluate()["eval_reward"]
        trainer.train()
    held = [(0, first)] + [(e["step"], e["eval_reward"]) for e in trainer.state.log_history if "eval_reward" in e]
    keys = ("reward", "igpo/zero_advantage_groups", "igpo/zero_advantage_groups_outcome_only", "turns/mean")
    training = [{"step": e["step"], **{k: e.get(k) for k in keys}} for e in trainer.state.log_history if "reward" in e]
    return {
        "method": method,
        "seed": seed,
        "settings": {k: v for k, v in vars(options).items() if k not in ("command", "jobs", "methods", "seeds")},
        "seconds": round(time.perf_counter() - start),
        "held_out": [{"rollouts": step * options.rollouts, "success": success} for step, success in held],
        "training": training,
    }


def run_all(options: argparse.Namespace) -> None:
    """Every method and seed that has no result yet, a few processes at a time."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    jobs = [(method, seed) for seed in options.seeds for method in options.methods]

    def start(job: tuple[str, int]) -> None:
        method, seed = job
        target = RESULTS / f"{method}_{seed}.json"
        if target.exists():
            return
        command = [sys.executable, "-m", "benchmarks.learning", "one", "--method", method, "--seed", str(seed)]
        for name in ("steps", "rollouts", "learning_rate", "eval_every", "eval_questions"):
            command += [f"--{name}", str(getattr(options, name))]
        command += ["--hops", *map(str, options.hops)]
        threads = max((os.cpu_count() or 1) // options.jobs, 1)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
        with open(RESULTS / f"{method}_{seed}.log", "w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
        print(f"{method} seed {seed}: {json.loads(target.read_text())['held_out'][-1]['success']:.3f}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(start, jobs))


def report() -> dict[str, Any]:
    """Table, CSV and plot of all results."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*_[0-9]*.json"))]
    curves: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        for point in run["held_out"]:
            curves.setdefault(run["method"], {}).setdefault(point["rollouts"], []).append(point["success"])
    with open(RESULTS / "curves.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "seed", "rollouts", "held_out_success"])
        for run in runs:
            writer.writerows([run["method"], run["seed"], p["rollouts"], p["success"]] for p in run["held_out"])

    finals = {method: statistics.mean(points[max(points)]) for method, points in curves.items()}
    summary: dict[str, Any] = {}
    for method, points in curves.items():
        mine = [run for run in runs if run["method"] == method]
        last = points[max(points)]
        goal = finals.get("grpo")
        reached = [n for n in sorted(points) if goal is not None and statistics.mean(points[n]) >= goal]
        summary[method] = {
            "seeds": sorted(run["seed"] for run in mine),
            "success_before": statistics.mean(points[0]),
            "final_success": statistics.mean(last),
            "final_success_std": statistics.stdev(last) if len(last) > 1 else None,
            "final_success_by_seed": {run["seed"]: run["held_out"][-1]["success"] for run in mine},
            "rollouts_to_grpos_final_success": reached[0] if reached else None,
            "zero_advantage_groups": _training_mean(mine, "igpo/zero_advantage_groups"),
            "zero_advantage_groups_outcome_only": _training_mean(mine, "igpo/zero_advantage_groups_outcome_only"),
            "seconds": [run["seconds"] for run in mine],
        }
    summary["settings"] = runs[0]["settings"]
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _plot(curves)
    print(json.dumps(summary, indent=2))
    return summary


def _training_mean(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.mean(entry[name] for run in runs for entry in run["training"])


def _plot(curves: dict[str, dict[int, list[float]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for method, points in curves.items():
        rollouts = sorted(points)
        means = [statistics.mean(points[n]) for n in rollouts]
        errors = [statistics.stdev(points[n]) / len(points[n]) ** 0.5 if len(points[n]) > 1 else 0 for n in rollouts]
        (line,) = axis.plot(
            rollouts, means, marker="o", markersize=3, label=f"{LABELS[method]} ({len(points[0])} seeds)"
        )
        low, high = ([m + s * e for m, e in zip(means, errors, strict=True)] for s in (-1, 1))
        axis.fill_between(rollouts, low, high, alpha=0.2, color=line.get_color())
    axis.set(xlabel="rollouts", ylabel="success on held-out questions", title="Mean over seeds, band: standard error")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(RESULTS / "curves.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "one"):
        sub = commands.add_parser(name)
        sub.add_argument("--steps", type=int, default=60)
        sub.add_argument("--rollouts", type=int, default=64)
        sub.add_argument("--learning_rate", type=float, default=2e-4)
        sub.add_argument("--eval_every", type=int, default=10)
        sub.add_argument("--eval_questions", type=int, default=192)
        sub.add_argument("--hops", type=int, nargs="+", default=[3])
        if name == "run":
            sub.add_argument("--methods", nargs="+", default=["igpo", "grpo"], choices=METHODS)
            sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
            sub.add_argument("--jobs", type=int, default=2, help="runs at the same time")
        else:
            sub.add_argument("--method", choices=METHODS, required=True)
            sub.add_argument("--seed", type=int, required=True)
    commands.add_parser("report")
    options = parser.parse_args()
    if options.command == "run":
        run_all(options)
    if options.command == "one":
        method, seed = options.method, options.seed
        del options.method, options.seed
        result = train(method, seed, options)
        (RESULTS / f"{method}_{seed}.json").write_text(json.dumps(result) + "\n")
    else:
        report()


if __name__ == "__main__":
    main()
