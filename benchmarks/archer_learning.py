"""ArCHer, GRPO and filtered behaviour cloning on the word games.

All start from the shipped word game policy and play the same number of games: ArCHer has as many steps of its policy less as
its warm-up has batches. GRPO is TRL's own trainer with the return as reward.

    python -m benchmarks.archer_learning run --jobs 2     # all games, methods and seeds, each in a process of its own
    python -m benchmarks.archer_learning report           # table, CSV and plot of what is in the results folder

Results go to benchmarks/results/archer_learning: one JSON file a run, curves.csv, curves.png and summary.json.
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


RESULTS = Path(__file__).parent / "results" / "archer_learning"
METHODS = {
    "archer": "ArCHer",
    "archer_gae": "ArCHer, GAE over turns",
    "grpo": "GRPO (TRL)",
    "filtered_bc": "filtered BC",
}
GAMES = {"guess_my_city": "Guess My City", "twenty_questions_subset": "Twenty Questions (10 words)"}
CRITIC = {
    "critic_learning_rate": 5e-4,
    "critic_tau": 0.1,
    "critic_batch_size": 64,
    "critic_warmup_iterations": 6,
    "whiten_advantages": True,
    "gamma": 0.95,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "archer_gae": {"advantage_estimator": "gae"},
    "filtered_bc": {"algorithm": "filtered_bc", "critic_warmup_iterations": 0},
}


def game_return(environments: list[Any], **kwargs: Any) -> list[float]:
    """What the environment gave turn by turn; TRL adds its `get_reward`."""
    return [sum(environment.turn_rewards) for environment in environments]


def make_trainer(method: str, seed: int, options: argparse.Namespace, folder: str, **overrides: Any) -> Any:
    """A trainer of the method on the game; `overrides` change the critic's settings."""
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from benchmarks.common import quick_settings
    from trl_multiturn import ArCHerConfig, ArCHerTrainer
    from trl_multiturn.environments.word_games import GuessMyCity, TwentyQuestions, load_word_game
    from trl_multiturn.recipes.word_game_policy import MAX_GAME_TOKENS, MAX_TURN_TOKENS, MAX_TURNS, WORD_GAME_POLICY

    critic = {**CRITIC, "critic_steps": options.critic_steps, **VARIANTS.get(method, {}), **overrides}
    settings = quick_settings(
        options.rollouts,
        output_dir=folder,
        max_steps=options.steps - (0 if method == "grpo" else critic["critic_warmup_iterations"]),
        seed=seed,
        max_completion_length=MAX_GAME_TOKENS,
        generation_kwargs={"max_new_tokens": MAX_TURN_TOKENS},
        max_tool_calling_iterations=MAX_TURNS,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",
        per_device_eval_batch_size=options.eval_games,
        num_generations_eval=1,
    )
    rows = load_word_game(options.game, seed=seed)
    extra: dict[str, Any] = {}
    if method == "grpo":
        trainer_class: Any = GRPOTrainer
        arguments: Any = GRPOConfig(**settings)
        extra["reward_funcs"] = game_return
    else:
        trainer_class = ArCHerTrainer
        arguments = ArCHerConfig(**{**settings, **critic})
    trainer = trainer_class(
        model=str(WORD_GAME_POLICY),
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows.repeat(-(-options.eval_games // len(rows))).select(range(options.eval_games)),
        environment_factory=GuessMyCity if options.game == "guess_my_city" else TwentyQuestions,
        **extra,
    )
    trainer.remove_callback(PrinterCallback)  # a benchmark prints its own lines
    return trainer


def train(method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run; returns its curve."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(method, seed, options, folder)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        history = trainer.state.log_history
        final = trainer.evaluate()["eval_reward"]
    curve, turns = [], 0.0
    for entry in history:
        prefix = "archer/warmup/" if "archer/warmup/reward" in entry else ""
        if f"{prefix}reward" not in entry:
            continue
        curve.append({"turns": round(turns), "return": entry[f"{prefix}reward"]})
        turns += options.rollouts * entry[f"{prefix}tools/call_frequency"]
    told = (
        "archer/explained_variance",
        "archer/q_loss",
        "archer/advantage_std",
        "archer/advantage_mean",
        "entropy",
        "archer/critic_seconds",
        "step_time",
    )
    return {
        "game": options.game,
        "method": method,
        "seed": seed,
        "settings": {
            k: v for k, v in vars(options).items() if k not in ("command", "jobs", "methods", "seeds", "games")
        },
        "seconds": round(seconds),
        "turns": round(turns),
        "final_return": final,
        "curve": curve,
        "training": [{k: e.get(k) for k in told} for e in history if "reward" in e],
    }


def run_all(options: argparse.Namespace) -> None:
    """Every game, method and seed that has no result yet, a few processes at a time."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    jobs = [(game, method, seed) for seed in options.seeds for game in options.games for method in options.methods]

    def start(job: tuple[str, str, int]) -> None:
        game, method, seed = job
        target = RESULTS / f"{game}_{method}_{seed}.json"
        if target.exists():
            return
        command = [sys.executable, "-m", "benchmarks.archer_learning", "one"]
        command += ["--game", game, "--method", method, "--seed", str(seed)]
        for name in ("steps", "rollouts", "learning_rate", "eval_games", "critic_steps"):
            command += [f"--{name}", str(getattr(options, name))]
        threads = max((os.cpu_count() or 1) // options.jobs, 1)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
        with open(target.with_suffix(".log"), "w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
        found = json.loads(target.read_text())
        print(f"{game} {method} {seed}: {found['final_return']:.2f} in {found['seconds']} s", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(start, jobs))


def report() -> dict[str, Any]:
    """Table, CSV and plot of all results."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*_[0-9]*.json"))]
    with open(RESULTS / "curves.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["game", "method", "seed", "turns", "return"])
        for run in runs:
            name = [run["game"], run["method"], run["seed"]]
            writer.writerows([*name, point["turns"], round(point["return"], 4)] for point in run["curve"])
    summary: dict[str, Any] = {"settings": runs[0]["settings"], "critic": CRITIC, "variants": VARIANTS}
    for game in GAMES:
        here = [run for run in runs if run["game"] == game]
        goals = [run["final_return"] for run in here if run["method"] == "grpo"]
        goal = statistics.mean(goals) if goals else None
        summary[game] = {}
        for method in METHODS:
            mine = [run for run in here if run["method"] == method]
            if not mine:
                continue
            finals = [run["final_return"] for run in mine]
            summary[game][method] = {
                "seeds": sorted(run["seed"] for run in mine),
                "return_before": statistics.mean(run["curve"][0]["return"] for run in mine),
                "final_return": statistics.mean(finals),
                "final_return_std": statistics.stdev(finals) if len(finals) > 1 else None,
                "final_return_by_seed": {run["seed"]: run["final_return"] for run in mine},
                "turns": statistics.mean(run["turns"] for run in mine),
                "turns_to_grpos_final_return": None if goal is None else _reached(mine, goal),
                "seconds": statistics.mean(run["seconds"] for run in mine),
                "critic_seconds_per_iteration": _mean(mine, "archer/critic_seconds"),
                "step_seconds": _mean(mine, "step_time"),
            }
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _plot(runs)
    print(json.dumps(summary, indent=2))
    return summary


def _mean(runs: list[dict[str, Any]], name: str) -> float | None:
    values = [entry[name] for run in runs for entry in run["training"] if entry[name] is not None]
    return statistics.mean(values) if values else None


def _smooth(values: list[float], window: int = 5) -> list[float]:
    return [statistics.mean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]


def _mean_curve(runs: list[dict[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """Turns, mean over seeds of the smoothed return, and its standard error, by step."""
    curves = [_smooth([point["return"] for point in run["curve"]]) for run in runs]
    turns = [statistics.mean(run["curve"][i]["turns"] for run in runs) for i in range(min(map(len, curves)))]
    columns = list(zip(*curves, strict=False))
    errors = [statistics.stdev(c) / len(c) ** 0.5 if len(c) > 1 else 0.0 for c in columns]
    return turns, [statistics.mean(c) for c in columns], errors


def _reached(runs: list[dict[str, Any]], goal: float) -> float | None:
    turns, means, _ = _mean_curve(runs)
    return next((t for t, mean in zip(turns, means, strict=True) if mean >= goal), None)


def _plot(runs: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    for axis, (game, title) in zip(figure.subplots(1, len(GAMES)), GAMES.items(), strict=True):
        for method, label in METHODS.items():
            mine = [run for run in runs if run["game"] == game and run["method"] == method]
            if not mine:
                continue
            turns, means, errors = _mean_curve(mine)
            (line,) = axis.plot(turns, means, label=f"{label} ({len(mine)} seeds)")
            low, high = ([m + s * e for m, e in zip(means, errors, strict=True)] for s in (-1, 1))
            axis.fill_between(turns, low, high, alpha=0.2, color=line.get_color())
        axis.set(xlabel="turns with the environment", ylabel="return", title=title)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(RESULTS / "curves.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "one"):
        sub = commands.add_parser(name)
        sub.add_argument("--steps", type=int, default=28, help="batches of games")
        sub.add_argument("--rollouts", type=int, default=32, help="games a step")
        sub.add_argument("--learning_rate", type=float, default=5e-4)
        sub.add_argument("--critic_steps", type=int, default=20)
        sub.add_argument("--eval_games", type=int, default=192, help="games at the end, sampled at temperature 1")
        if name == "run":
            sub.add_argument("--games", nargs="+", default=list(GAMES), choices=GAMES)
            sub.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
            sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
            sub.add_argument("--jobs", type=int, default=2, help="runs at the same time")
        else:
            sub.add_argument("--game", choices=GAMES, required=True)
            sub.add_argument("--method", choices=METHODS, required=True)
            sub.add_argument("--seed", type=int, required=True)
            sub.add_argument("--output", type=Path, help="where the result goes; the results folder by default")
    commands.add_parser("report")
    options = parser.parse_args()
    if options.command == "run":
        run_all(options)
    if options.command == "one":
        method, seed, output = options.method, options.seed, options.output
        del options.method, options.seed, options.output
        result = train(method, seed, options)
        output = output or RESULTS / f"{options.game}_{method}_{seed}.json"
        output.write_text(json.dumps(result) + "\n")
    else:
        report()


if __name__ == "__main__":
    main()
