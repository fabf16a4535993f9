"""`trl-multiturn demo`: IGPO on multi-turn search questions, on a CPU, in a few minutes.

The shipped policy (1.2 million weights, warm-started on scripted episodes) searches real facts about countries and
airports for the answer to questions of one to three hops. It is evaluated on questions about entities that it has never
seen, trained with IGPO, and evaluated again.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..evaluation.statistics import wilson_interval
from .results import IGPO_PANELS, CompactProgress, plot_curves, save_history, save_json
from .search_policy import BELIEF_PREFIX, BELIEF_SUFFIX, MAX_TURN_TOKENS, SEARCH_POLICY
from .search_task import load_search_task


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """
    Parser of the demonstration's arguments.

    Args:
        prog (`str`, *optional*):
            Program name for the help.

    Returns:
        `argparse.ArgumentParser`: With the settings of the run that the README describes as defaults.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train a small model with IGPO on multi-turn search questions, on a CPU, in a few minutes.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", default=str(SEARCH_POLICY), help="Hub id or folder of the model to train")
    parser.add_argument("--output_dir", default="runs/demo", help="where model, card, metrics and curves go")
    parser.add_argument("--steps", type=int, default=60, help="training steps, each on new rollouts")
    parser.add_argument("--rollouts", type=int, default=48, help="rollouts of a step, a multiple of 8")
    parser.add_argument("--hops", type=int, nargs="+", default=[1, 2, 3], help="hops of the questions")
    parser.add_argument("--eval_questions", type=int, default=64, help="held-out questions for each number of hops")
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--gain_weight", type=float, default=1.0, help="0 trains with plain GRPO")
    parser.add_argument("--belief_prefix", default=BELIEF_PREFIX, help="text before the answer when it is scored")
    parser.add_argument("--belief_suffix", default=BELIEF_SUFFIX, help="text after the answer when it is scored")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def run(argv: list[str]) -> dict[str, Any]:
    """
    Evaluate, train, evaluate again, and say what came out.

    Args:
        argv (`list[str]`):
            Command-line arguments after `trl-multiturn demo`.

    Returns:
        `dict[str, Any]`: What is written to `metrics.json`.
    """
    options = make_parser("trl-multiturn demo").parse_args(argv)
    started = time.perf_counter()
    trainer = make_trainer(options)
    console = Console()
    sizes = {name: len(questions) for name, questions in trainer.eval_dataset.items()}
    console.print(f"Held-out questions before training: {sum(sizes.values())}")
    before = _success(trainer, sizes)
    console.print(f"Training {options.steps} steps of {options.rollouts} rollouts")
    trainer.train()
    console.print("Held-out questions after training")
    after = _success(trainer, sizes)

    metrics = {
        "success_before": before,
        "success_after": after,
        "groups_without_signal": {
            "igpo": _mean(trainer.state.log_history, "igpo/zero_advantage_groups"),
            "grpo": _mean(trainer.state.log_history, "igpo/zero_advantage_groups_outcome_only"),
        },
        "seconds": round(time.perf_counter() - started, 1),
        "arguments": vars(options),
    }
    folder = Path(options.output_dir)
    trainer.save_model()
    trainer.create_model_card(model_name=folder.name)
    save_json(metrics, folder / "metrics.json")
    save_history(trainer.state.log_history, folder / "history.csv")
    training = [entry for entry in trainer.state.log_history if "reward" in entry]
    held_out = [{"step": 0, "eval_reward": before["all"]}, {"step": options.steps, "eval_reward": after["all"]}]
    plot_curves(training + held_out, IGPO_PANELS, folder / "curves.png", "IGPO on search questions")
    _report(console, metrics, sizes, folder)
    return metrics


def make_trainer(options: argparse.Namespace) -> Any:
    """
    The demonstration's trainer.

    Args:
        options (`argparse.Namespace`):
            Parsed arguments.

    Returns:
        [`IGPOTrainer`]: Ready to train.
    """
    from transformers import PrinterCallback

    from ..environments.search import load_fact_questions
    from ..igpo import IGPOConfig, IGPOTrainer
    from ..rewards import exact_match_reward

    task = load_search_task("facts", hops=options.hops, seed=options.seed)
    # Questions of every number of hops are asked equally often, so that success by hops can be compared.
    held_out = {
        _name(hops): load_fact_questions("validation", hops=hops, seed=options.seed, limit=options.eval_questions)
        for hops in options.hops
    }
    arguments = IGPOConfig(
        output_dir=options.output_dir,
        max_steps=options.steps,
        per_device_train_batch_size=options.rollouts,
        per_device_eval_batch_size=options.eval_questions,
        num_generations=8,
        num_generations_eval=1,
        max_completion_length=192,
        generation_kwargs={"max_new_tokens": MAX_TURN_TOKENS},
        max_tool_calling_iterations=5,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",
        gain_weight=options.gain_weight,
        belief_prefix=options.belief_prefix,
        belief_suffix=options.belief_suffix,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        seed=options.seed,
    )
    trainer = IGPOTrainer(
        options.model,
        exact_match_reward,
        arguments,
        task.train,
        eval_dataset=held_out,
        environment_factory=task.environment_factory,
        callbacks=[CompactProgress({"reward": "success", "igpo/zero_advantage_groups": "groups without signal"})],
    )
    trainer.remove_callback(PrinterCallback)  # what takes its place is above
    return trainer


def _name(hops: int) -> str:
    return f"{hops}_hop" if hops == 1 else f"{hops}_hops"


def _success(trainer: Any, sizes: dict[str, int]) -> dict[str, float]:
    # One by one: TRL logs every part of a dictionary of evaluation sets under the same names.
    success = {name: trainer.evaluate(trainer.eval_dataset[name])["eval_reward"] for name in sizes}
    success["all"] = sum(success[name] * size for name, size in sizes.items()) / sum(sizes.values())
    return success


def _mean(log_history: list[dict[str, Any]], name: str) -> float | None:
    values = [entry[name] for entry in log_history if name in entry]
    return sum(values) / len(values) if values else None


def _report(console: Console, metrics: dict[str, Any], sizes: dict[str, int], folder: Path) -> None:
    table = Table(title="Success on held-out questions (95 percent interval)")
    for column in ("questions", "number", "before", "after"):
        table.add_column(column, justify="left" if column == "questions" else "right")
    for name, size in {**sizes, "all": sum(sizes.values())}.items():
        cells = []
        for success in (metrics["success_before"][name], metrics["success_after"][name]):
            low, high = wilson_interval(round(success * size), size)
            cells.append(f"{success:.0%} ({low:.0%} to {high:.0%})")
        table.add_row(name.replace("_", " "), str(size), *cells)
    console.print(table)
    shares = metrics["groups_without_signal"]
    if shares["igpo"] is not None:
        console.print(
            f"Groups without learning signal, mean over the training: {shares['igpo']:.0%} under IGPO, "
            f"{shares['grpo']:.0%} under plain GRPO on the same rollouts"
        )
    console.print(f"{metrics['seconds']:.0f} seconds. Model, model card, metrics and curves: {folder.resolve()}")
