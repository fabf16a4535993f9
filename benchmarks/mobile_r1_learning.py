"""The three stages of Mobile-R1 with a small vision-language model on the phone: what each adds on held-out tasks and apps.

The model is a Qwen2.5-VL of 2.7 million weights, made from nothing: it is first taught to read rendered screens (texts and where
they are), which stands in for what a pretrained model brings. Then each seed runs the recipe: SFT, single-step GRPO, multi-turn
GRPO, and the evaluation of each stage's model.

    python -m benchmarks.mobile_r1_learning teach             # the model that reads, about 20 minutes on one core
    python -m benchmarks.mobile_r1_learning run --jobs 2      # all seeds, each in a process of its own
    python -m benchmarks.mobile_r1_learning report            # table and plot of what is in the results folder

The models go to runs/mobile_r1, results to benchmarks/results/mobile_r1_learning: a JSON file for each seed, with the curves of
its stages, summary.json and stages.png.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


RESULTS = Path(__file__).parent / "results" / "mobile_r1_learning"
RUNS = Path("runs") / "mobile_r1"
SCALE = 0.5
AGENTS = ("random", "sft", "action", "task", "oracle")
MEASURES = ("action_accuracy", "action_accuracy/unseen", "type_match", "success", "success/seen", "success/unseen")
MORE_MEASURES = ("false_completion", "side_effects", "invalid_actions", "errors", "recovery_rate", "steps")
CURVES = {
    "sft": ("loss", "mean_token_accuracy"),
    "action": ("reward", "rewards/action_reward/mean", "rewards/gui_format_reward/mean", "frac_reward_zero_std"),
    "task": ("reward", "task/completed", "task/claimed", "rewards/gui_format_reward/mean", "frac_reward_zero_std"),
}


# --- the model that reads


def reader_processor(tasks: list[Any], words: list[str]) -> Any:
    """A processor whose tokenizer has a piece for each word of the phone, and one for the agent's whole system message."""
    from trl_multiturn.environments.phone import PhoneEnvironment, demonstrations, system_prompt, write_reply
    from trl_multiturn.recipes.processors import tools_as_system_text
    from trl_multiturn.recipes.small_vlm import build_processor

    episodes = list(demonstrations(tasks[:800], mistakes=0.1, scale=SCALE, render=None))
    texts = [episode.instruction for episode in episodes] + [f"Tap {word}." for word in words] * 3
    texts += [write_reply(s.thought, s.action, s.call) for episode in episodes for s in episode.trajectory]
    environment = PhoneEnvironment(scale=SCALE)
    system = system_prompt(environment.image_size)
    whole = tools_as_system_text(build_processor(texts), system, [environment.mobile_use])
    return build_processor(texts, [system, whole[len(system) :]])


def teach(options: argparse.Namespace) -> None:
    """Teach a random model to read, and save it."""
    import torch

    from trl_multiturn.environments.phone import generate_phone_tasks, task_split
    from trl_multiturn.recipes.small_vlm import build_model
    from trl_multiturn.recipes.small_vlm_lessons import lessons, teach_reading, words_of

    torch.manual_seed(0)
    tasks = generate_phone_tasks(2000)
    # The words of all apps, but of the screens only those of training tasks.
    words = words_of(tasks[:600])
    processor = reader_processor(tasks, words)
    model: Any = build_model(processor)
    stream = lessons([t for t in tasks if task_split(t) == "train"], words, random.Random(1), SCALE)
    start = time.perf_counter()
    losses = teach_reading(model, processor, stream, options.steps, batch_size=16)
    seconds = time.perf_counter() - start
    model.save_pretrained(RUNS / "reader")
    processor.save_pretrained(RUNS / "reader")
    found: dict[str, Any] = {"steps": options.steps, "seconds": round(seconds), "loss": statistics.mean(losses[-20:])}
    for split in ("train", "test", "unseen"):
        met = [task for task in tasks if task_split(task) == split]
        found[f"places_found/{split}"] = places_found(model, processor, met, words)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "reader.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def places_found(model: Any, processor: Any, tasks: list[Any], words: list[str], count: int = 64) -> float:
    """Share of the numbers of a place that the model has right, on screens of the apps that tasks lead through."""
    import itertools

    import torch

    from trl_multiturn.recipes.small_vlm_lessons import collate, lessons

    # Every second lesson is a screen of an app.
    stream = itertools.islice(lessons(tasks, words, random.Random(2), SCALE), 0, 2 * count, 2)
    batch = collate(processor, list(stream))
    labels = batch.pop("labels")
    tokenizer = processor.tokenizer
    numbers = torch.tensor([i for i in range(len(tokenizer)) if tokenizer.decode([i]).isdigit()])
    model.eval()
    with torch.no_grad():
        likeliest = model(**batch).logits[:, :-1].argmax(dim=-1)
    targets = labels[:, 1:]
    is_number = torch.isin(targets, numbers)
    return (likeliest == targets)[is_number].float().mean().item()


# --- the stages


def make_config(seed: int, options: argparse.Namespace) -> Any:
    """Settings of a run of the recipe."""
    from trl_multiturn.recipes.mobile_r1 import MobileR1Config

    common = {
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        "activation_checkpointing": False,
    }
    grpo = {**common, "num_generations": 8, "lr_scheduler_type": "constant", "beta": 0.0, "logging_steps": 1}
    return MobileR1Config(
        model=str(RUNS / "reader"),
        output_dir=str(RUNS / f"seed{seed}"),
        trajectories=options.trajectories,
        mistakes=0.08,
        tasks=300,
        longest_way=options.longest_way,
        scale=SCALE,
        episode_steps=options.longest_way + 3,
        eval_states=options.eval_states,
        eval_tasks=options.eval_tasks,
        seed=seed,
        sft={
            **common,
            "per_device_train_batch_size": 16,
            "num_train_epochs": options.epochs,
            "learning_rate": options.sft_learning_rate,
            "adam_beta2": 0.98,
            "logging_steps": 20,
        },
        action={
            **grpo,
            "per_device_train_batch_size": 32,
            "max_steps": options.action_steps,
            "learning_rate": options.learning_rate,
            "max_completion_length": 80,
        },
        task={
            **grpo,
            # A rollout is about six sequences, each with its screenshot: 32 at a time take 12 GB.
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 4,
            "per_device_eval_batch_size": 30,
            "max_steps": options.task_steps,
            "learning_rate": options.learning_rate,
            "max_completion_length": 1800,
            "generation_kwargs": {"max_new_tokens": 80},
        },
    )


def train(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One seed: the stages and the evaluation; returns what they measured and their curves."""
    from trl_multiturn.recipes.mobile_r1 import run_stage

    config = make_config(seed, options)
    for stage in CURVES:
        if not config.is_done(stage):
            run_stage(config, stage)
    start = time.perf_counter()
    run_stage(config, "evaluate")
    seconds = {"evaluate": round(time.perf_counter() - start)}
    curves = {}
    for stage, names in CURVES.items():
        history = json.loads((config.folder(stage) / "trainer_state.json").read_text())["log_history"]
        seconds[stage] = round(history[-1]["train_runtime"])
        entries = [entry for entry in history if names[0] in entry]
        curves[stage] = [{name: float(entry[name]) for name in names if name in entry} for entry in entries]
    found = json.loads((Path(config.output_dir) / "evaluation" / "evaluation.json").read_text())
    settings = {
        name: value for name, value in vars(options).items() if name not in ("command", "jobs", "seeds", "seed")
    }
    return {"seed": seed, "settings": settings, "seconds": seconds, "evaluation": found, "curves": curves}


def run_all(options: argparse.Namespace) -> None:
    """Every seed that has no result yet, a few processes at a time."""
    RESULTS.mkdir(parents=True, exist_ok=True)

    def start(seed: int) -> None:
        target = RESULTS / f"seed_{seed}.json"
        if target.exists():
            return
        names = {name: getattr(options, name) for name in vars(options) if name not in ("command", "jobs", "seeds")}
        flags = [text for name, value in names.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "benchmarks.mobile_r1_learning", "one", "--seed", str(seed), *flags]
        threads = max((os.cpu_count() or 1) // options.jobs, 1)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
        RUNS.mkdir(parents=True, exist_ok=True)
        with open(RUNS / f"seed{seed}.log", "a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)
        print(f"seed {seed}: {json.loads(target.read_text())['seconds']}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(start, options.seeds))


# --- results


def report() -> dict[str, Any]:
    """Table and plot of all results."""
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("seed_*.json"))]
    summary: dict[str, Any] = {
        "seeds": [run["seed"] for run in runs],
        "settings": runs[0]["settings"],
        "seconds": {stage: statistics.mean(run["seconds"][stage] for run in runs) for stage in runs[0]["seconds"]},
    }
    for agent in AGENTS:
        summary[agent] = {}
        for name in (*MEASURES, *MORE_MEASURES):
            values = [run["evaluation"][agent][name]["value"] for run in runs if name in run["evaluation"][agent]]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else None
                summary[agent][name] = {"mean": statistics.mean(values), "std": spread, "by_seed": values}
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _plot(runs, summary)
    for agent in AGENTS:
        print(agent, {name: round(told["mean"], 3) for name, told in summary[agent].items()})
    return summary


def _plot(runs: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.2, 3.8), layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, title, names in (
        (axes[0], "Action accuracy", ("action_accuracy", "action_accuracy/unseen")),
        (axes[1], "Task success", ("success/seen", "success/unseen")),
    ):
        for k, (name, label) in enumerate(
            zip(names, ("all" if "action" in names[0] else "seen apps", "unseen apps"), strict=True)
        ):
            stages = [agent for agent in AGENTS if name in summary[agent]]
            for i, agent in enumerate(stages):
                told = summary[agent][name]
                axis.bar(i + 0.4 * k - 0.2, told["mean"], 0.38, color=f"C{k}", label=label if i == 0 else None)
                axis.scatter([i + 0.4 * k - 0.2] * len(told["by_seed"]), told["by_seed"], color="black", s=8, zorder=3)
            axis.set_xticks(range(len(stages)), stages)
        axis.set_title(title)
        axis.legend(frameon=False, fontsize=8)
    for axis, stage, name, title in (
        (axes[2], "action", "rewards/action_reward/mean", "Right actions while stage 2 trains"),
        (axes[3], "task", "task/completed", "Tasks done while stage 3 trains"),
    ):
        for run in runs:
            values = [point[name] for point in run["curves"][stage] if name in point]
            smooth = [statistics.mean(values[max(0, i - 7) : i + 1]) for i in range(len(values))]
            axis.plot(smooth, label=f"seed {run['seed']}")
        axis.set_title(title)
        axis.set_xlabel("training step (mean of 8)")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(RESULTS / "stages.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    reading = commands.add_parser("teach", help="make the model that reads")
    reading.add_argument("--steps", type=int, default=700)
    run, one = commands.add_parser("run", help="all seeds"), commands.add_parser("one", help="one seed")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--jobs", type=int, default=2, help="seeds at the same time")
    one.add_argument("--seed", type=int, required=True)
    for command in (run, one):
        command.add_argument("--trajectories", type=int, default=450)
        command.add_argument("--epochs", type=float, default=2.0)
        command.add_argument("--sft_learning_rate", type=float, default=1.5e-3)
        command.add_argument("--learning_rate", type=float, default=2e-4)
        command.add_argument("--action_steps", type=int, default=25)
        command.add_argument("--task_steps", type=int, default=10)
        command.add_argument("--longest_way", type=int, default=4, help="actions of the longest tasks")
        command.add_argument("--eval_states", type=int, default=240)
        command.add_argument("--eval_tasks", type=int, default=90)
    commands.add_parser("report", help="table and plot")
    options = parser.parse_args()
    if options.command == "teach":
        teach(options)
    elif options.command == "run":
        run_all(options)
        report()
    elif options.command == "one":
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"seed_{options.seed}.json").write_text(json.dumps(train(options.seed, options)) + "\n")
    else:
        report()


if __name__ == "__main__":
    main()
