"""Evaluation of a travel planner: held-out tasks are rolled out and every plan is verified."""

import copy
from pathlib import Path
from typing import Any, get_args

from accelerate.utils import gather_object
from trl import ModelConfig, get_quantization_config

from ..evaluation import bootstrap_interval
from ..replay.config import ReplayGRPOConfig
from .script import set_model_init_kwargs
from .travel_task import TravelTask


def evaluate(
    model: str | Path,
    tasks: Any,
    samples: int,
    training_args: ReplayGRPOConfig,
    model_args: ModelConfig,
    task: TravelTask,
) -> tuple[Any, dict[str, Any]]:
    """
    Roll out tasks and verify every plan.

    Args:
        model (`str` or `Path`):
            Hub id or folder, of a model or an adapter.
        tasks (`Dataset`):
            Tasks as [`generate_tasks`] gives them.
        samples (`int`):
            Rollouts of each.
        training_args ([`ReplayGRPOConfig`]):
            How to generate.
        model_args ([`~trl.ModelConfig`]):
            How to load the model.
        task ([`TravelTask`]):
            The sandbox.

    Returns:
        `tuple[ReplayGRPOTrainer, dict]`: The trainer that made the rollouts, and the report: `"pass"`, by level and `"all"`,
        the share of rollouts that pass everything, with a bootstrap interval over tasks (95%; `None` for a single task) and
        the number of tasks; and the means of what [`HierarchicalReward`] logs. `"verifier/ungrounded_claims"` is `None` if
        no plan claims anything.
    """
    from ..replay.trainer import ReplayGRPOTrainer

    args = copy.copy(training_args)
    args.num_generations_eval = samples
    outcomes: list[tuple[str, str, float]] = []

    def hierarchical_reward(completions: list[Any], task_id: list[str], level: list[str], **kwargs: Any) -> list[Any]:
        rewards = task.reward(completions, level=level, **kwargs)
        known = zip(task_id, level, rewards, strict=True)
        outcomes.extend((name, kind, reward) for name, kind, reward in known if reward is not None)
        return rewards

    trainer = ReplayGRPOTrainer(
        _load(model, args, model_args),
        hierarchical_reward,
        args,
        tasks,
        eval_dataset=tasks,
        environment_factory=task.environment_factory,
    )
    trainer.evaluate()
    told = next(entry for entry in reversed(trainer.state.log_history) if "eval_verifier/format" in entry)
    report: dict[str, Any] = {"pass": _by_level(gather_object(outcomes), training_args.seed)}
    report["verifier/ungrounded_claims"] = None
    for name, value in told.items():
        if name.startswith("eval_verifier/"):
            report[name.removeprefix("eval_")] = float(value)
    trainer.accelerator.free_memory()
    return trainer, report


def _load(model: str | Path, args: ReplayGRPOConfig, model_args: ModelConfig) -> Any:
    """What TRL loads by itself, or a model with its adapter, which it cannot."""
    set_model_init_kwargs(args, model_args)
    settings: Any = args.model_init_kwargs
    quantization = get_quantization_config(model_args)
    if quantization is not None:
        settings["quantization_config"] = quantization
    if not (Path(model) / "adapter_config.json").is_file():
        return str(model)
    from peft import AutoPeftModelForCausalLM

    args.model_init_kwargs = None
    return AutoPeftModelForCausalLM.from_pretrained(model, **settings)


def _by_level(outcomes: list[tuple[str, str, float]], seed: int) -> dict[str, dict[str, Any]]:
    from ..environments.travel.query import Level

    report = {}
    found = {kind for _, kind, _ in outcomes}
    for level in ("all", *(level for level in get_args(Level) if level in found)):
        tasks: dict[str, list[float]] = {}
        for name, kind, reward in outcomes:
            if level in ("all", kind):
                tasks.setdefault(name, []).append(reward)
        means = [sum(rewards) / len(rewards) for rewards in tasks.values()]
        low, high = bootstrap_interval(means, seed=seed) if len(means) > 1 else (None, None)
        report[level] = {"rate": sum(means) / len(means), "low": low, "high": high, "tasks": len(means)}
    return report


def print_report(report: dict[str, Any], samples: int) -> None:
    """
    Print pass rates and ungrounded claims of some models as a table.

    Args:
        report (`dict[str, Any]`):
            What [`evaluate`] tells, by name of the model.
        samples (`int`):
            Rollouts of each task.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Final pass rate on held-out tasks, {samples} rollouts of each")
    table.add_column("Level")
    for name in report:
        table.add_column(name.replace("_", " "), justify="right")
    for level, first in next(iter(report.values()))["pass"].items():
        table.add_row(
            f"{level}, {first['tasks']} tasks", *(_cell(values["pass"][level]) for values in report.values())
        )
    claims = (values["verifier/ungrounded_claims"] for values in report.values())
    table.add_row("ungrounded claims", *("no claims" if share is None else f"{share:.1%}" for share in claims))
    Console().print(table)


def _cell(told: dict[str, Any]) -> str:
    interval = "" if told["low"] is None else f" ({told['low']:.1%} to {told['high']:.1%})"
    return f"{told['rate']:.1%}{interval}"
