"""`trl-multiturn deeptravel`: cold start on demonstrations, reinforcement learning with failure replay, evaluation."""

import copy
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers.utils import logging
from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from ..evaluation import bootstrap_interval
from ..replay.config import ReplayGRPOConfig
from .results import REPLAY_PANELS
from .script import finish, make_script_parser, run_script, set_model_init_kwargs
from .travel_task import TravelArguments, TravelTask, load_travel_task, make_world


logger = logging.get_logger(__name__)

STAGES = ("sft", "rl", "eval")

# Settings that the cold start has from those of the reinforcement learning.
_SHARED_SETTINGS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "bf16",
    "fp16",
    "use_cpu",
    "seed",
    "report_to",
    "logging_steps",
    "disable_tqdm",
    "activation_checkpointing",
    "dataloader_pin_memory",
    "trust_remote_code",
)

# Folders of the models that the stages leave in the output folder, and the file that the evaluation does.
COLD_START = "cold_start"
POLICY = "policy"
EVALUATION = "evaluation.json"


@dataclass
class DeepTravelScriptArguments(TravelArguments, ScriptArguments):
    """
    Script arguments for the DeepTravel recipe: [`TravelArguments`] and

    Args:
        stage (`str`, *optional*, defaults to `"all"`):
            `"sft"` (cold start), `"rl"` (replay-augmented reinforcement learning), `"eval"` or `"all"`, which goes on where
            an earlier run stopped.
        demonstrations (`int`, *optional*, defaults to `1000`):
            Number of demonstrations of the solver to start from.
        error_rate (`float`, *optional*, defaults to `0.1`):
            Probability that a call of a demonstration is made wrong first and then put right.
        sft_epochs (`float`, *optional*, defaults to `2.0`):
            Passes over the demonstrations.
        sft_learning_rate (`float`, *optional*, defaults to `1e-5`):
            Highest learning rate of the cold start; reinforcement learning has `learning_rate`.
        sft_max_length (`int`, *optional*, defaults to `10240`):
            Tokens after which a demonstration is cut off.
        eval_samples (`int`, *optional*, defaults to `4`):
            Rollouts of each held-out task.
    """

    stage: str = field(
        default="all",
        metadata={
            "help": "'sft' (cold start), 'rl' (reinforcement learning with failure replay), 'eval', or 'all', which goes on "
            "where an earlier run stopped.",
            "choices": [*STAGES, "all"],
        },
    )
    demonstrations: int = field(
        default=1000, metadata={"help": "Number of demonstrations of the solver to start from."}
    )
    error_rate: float = field(
        default=0.1,
        metadata={"help": "Probability that a call of a demonstration is made wrong first and then put right."},
    )
    sft_epochs: float = field(default=2.0, metadata={"help": "Passes over the demonstrations."})
    sft_learning_rate: float = field(
        default=1e-5,
        metadata={"help": "Highest learning rate of the cold start; reinforcement learning has learning_rate."},
    )
    sft_max_length: int = field(default=10240, metadata={"help": "Tokens after which a demonstration is cut off."})
    eval_samples: int = field(default=4, metadata={"help": "Rollouts of each held-out task."})


def main(script_args: DeepTravelScriptArguments, training_args: ReplayGRPOConfig, model_args: ModelConfig) -> None:
    """
    Run the stages that are asked for.

    Args:
        script_args ([`DeepTravelScriptArguments`]):
            Sandbox and stages.
        training_args ([`ReplayGRPOConfig`]):
            Everything that [`ReplayGRPOTrainer`] takes. `output_dir` gets a folder for each stage's model.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
    """
    stages = STAGES if script_args.stage == "all" else (script_args.stage,)
    folder = Path(str(training_args.output_dir))
    task = load_travel_task(script_args, training_args.seed)
    if "sft" in stages and not _is_done(folder / COLD_START, script_args.stage):
        cold_start(script_args, training_args, model_args, task)
    if "rl" in stages and not _is_done(folder / POLICY, script_args.stage):
        reinforce(training_args, model_args, task)
    if "eval" in stages:
        report = {}
        for name in (COLD_START, POLICY):
            if _holds_model(folder / name):
                report[name] = evaluate(folder / name, script_args, training_args, task)
        if not report:
            report[POLICY] = evaluate(model_args.model_name_or_path, script_args, training_args, task)
        _tell(report, folder, script_args)


def cold_start(
    script_args: DeepTravelScriptArguments, training_args: ReplayGRPOConfig, model_args: ModelConfig, task: TravelTask
) -> None:
    """
    Fine-tune the model on verified demonstrations of the solver, what the tools answered masked.

    Args:
        script_args ([`DeepTravelScriptArguments`]):
            Number of demonstrations and how to learn from them.
        training_args ([`ReplayGRPOConfig`]):
            Batch size, precision, seed and so on.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
        task ([`TravelTask`]):
            The sandbox.
    """
    from trl import SFTConfig, SFTTrainer

    from ..environments.travel.demonstrations import demonstrations

    levels: Any = script_args.levels
    episodes = demonstrations(
        script_args.demonstrations,
        world=task.world,
        levels=levels,
        language=script_args.language,
        max_results=script_args.max_results,
        error_rate=script_args.error_rate,
        seed=training_args.seed,
    )
    args = SFTConfig(
        output_dir=str(Path(str(training_args.output_dir)) / COLD_START),
        assistant_only_loss=True,
        num_train_epochs=script_args.sft_epochs,
        learning_rate=script_args.sft_learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_length=script_args.sft_max_length,
        save_strategy="no",
        **{name: getattr(training_args, name) for name in _SHARED_SETTINGS},
    )
    set_model_init_kwargs(args, model_args)
    trainer = SFTTrainer(
        model=str(model_args.model_name_or_path),
        args=args,
        train_dataset=episodes,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    trainer.train()
    trainer.save_model(args.output_dir)
    trainer.accelerator.print(f"Cold start saved to {args.output_dir}.")


def reinforce(training_args: ReplayGRPOConfig, model_args: ModelConfig, task: TravelTask) -> None:
    """
    Train with [`ReplayGRPOTrainer`], from the cold start if there is one.

    Args:
        training_args ([`ReplayGRPOConfig`]):
            Everything that [`ReplayGRPOTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
        task ([`TravelTask`]):
            The sandbox.
    """
    folder = Path(str(training_args.output_dir))
    args = copy.copy(training_args)
    args.output_dir = str(folder / POLICY)
    start = folder / COLD_START
    trainer = _trainer(start if _holds_model(start) else model_args.model_name_or_path, args, model_args, task)
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    finish(trainer, REPLAY_PANELS, "DeepTravel", None)


def evaluate(
    model: Any, script_args: DeepTravelScriptArguments, training_args: ReplayGRPOConfig, task: TravelTask
) -> dict[str, Any]:
    """
    Roll out the held-out tasks and verify every plan.

    Args:
        model (`str` or `Path`):
            Hub id or folder.
        script_args ([`DeepTravelScriptArguments`]):
            Number of rollouts of each task.
        training_args ([`ReplayGRPOConfig`]):
            How to generate.
        task ([`TravelTask`]):
            The sandbox.

    Returns:
        `dict`: `"pass"`, by level and `"all"`, the share of rollouts that pass everything, with a bootstrap interval over
        tasks (95%) and the number of tasks; and the means of what [`HierarchicalReward`] logs.
    """
    args = copy.copy(training_args)
    args.num_generations_eval = script_args.eval_samples
    outcomes: list[tuple[str, str, float]] = []

    def verify(completions: list[Any], task_id: list[str], level: list[str], **kwargs: Any) -> list[float | None]:
        rewards = task.reward(completions, level=level, **kwargs)
        known = zip(task_id, level, rewards, strict=True)
        outcomes.extend((name, kind, reward) for name, kind, reward in known if reward is not None)
        return rewards

    trainer = _trainer(model, args, ModelConfig(), task, verify)
    trainer.evaluate()
    told = next(entry for entry in reversed(trainer.state.log_history) if "eval_verifier/format" in entry)
    report: dict[str, Any] = {"pass": _by_level(gather_object(outcomes), training_args.seed)}
    report |= {
        name.removeprefix("eval_"): float(value) for name, value in told.items() if name.startswith("eval_verifier/")
    }
    return report


def _trainer(model: Any, args: ReplayGRPOConfig, model_args: ModelConfig, task: TravelTask, reward: Any = None) -> Any:
    from ..replay.trainer import ReplayGRPOTrainer

    set_model_init_kwargs(args, model_args)
    if args.task_id_column is None:
        args.task_id_column = "task_id"
    return ReplayGRPOTrainer(
        str(model),
        reward or task.reward,
        args,
        task.train,
        eval_dataset=task.eval if reward is not None or args.eval_strategy != "no" else None,
        environment_factory=task.environment_factory,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )


def _by_level(outcomes: list[tuple[str, str, float]], seed: int) -> dict[str, dict[str, Any]]:
    levels = ["all", *dict.fromkeys(level for _, level, _ in outcomes)]
    report = {}
    for level in levels:
        tasks: dict[str, list[float]] = {}
        for name, kind, reward in outcomes:
            if level in ("all", kind):
                tasks.setdefault(name, []).append(reward)
        means = [sum(rewards) / len(rewards) for rewards in tasks.values()]
        low, high = bootstrap_interval(means, seed=seed)
        report[level] = {"rate": sum(means) / len(means), "low": low, "high": high, "tasks": len(means)}
    return report


def _holds_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("config.json", "adapter_config.json"))


def _is_done(folder: Path, stage: str) -> bool:
    """Whether a stage of an earlier run with "all" has left its model. A stage asked for by name is run again."""
    if stage != "all" or not _holds_model(folder):
        return False
    logger.warning(f"{folder} is there already: this stage is skipped. Name it as --stage to run it again.")
    return True


def _tell(report: dict[str, Any], folder: Path, script_args: DeepTravelScriptArguments) -> None:
    from accelerate import PartialState
    from rich.console import Console
    from rich.table import Table

    if not PartialState().is_main_process:
        return
    (folder / EVALUATION).write_text(json.dumps(report, indent=2), encoding="utf-8")
    table = Table(title=f"Final pass rate on held-out tasks, {script_args.eval_samples} rollouts of each")
    table.add_column("Level")
    for name in report:
        table.add_column(name.replace("_", " "), justify="right")
    for level in next(iter(report.values()))["pass"]:
        cells = (values["pass"][level] for values in report.values())
        table.add_row(level, *(f"{c['rate']:.1%} ({c['low']:.1%} to {c['high']:.1%})" for c in cells))
    claims = (values.get("verifier/ungrounded_claims") for values in report.values())
    table.add_row("ungrounded claims", *("" if share is None else f"{share:.1%}" for share in claims))
    Console().print(table)


def check_arguments(script_args: DeepTravelScriptArguments, training_args: Any) -> None:
    """
    Refuse arguments that do not fit together, before anything is loaded.

    Args:
        script_args ([`DeepTravelScriptArguments`]):
            Sandbox and stages.
        training_args (`Any`):
            Not looked at.

    Raises:
        `ValueError`: If they do not.
    """
    for name in ("demonstrations", "eval_samples", "sft_max_length"):
        if getattr(script_args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(script_args, name)}.")
    if not 0.0 <= script_args.error_rate < 1.0:
        raise ValueError(f"error_rate must be at least 0 and below 1, got {script_args.error_rate}.")
    if script_args.dataset_name is not None:
        raise ValueError("the recipe generates its tasks: leave dataset_name, or use `trl-multiturn replay`.")
    make_world(script_args)


def make_parser(prog: str | None = None) -> TrlParser:
    """
    Parser of the script's arguments.

    Args:
        prog (`str`, *optional*):
            Program name for the help.

    Returns:
        [`~trl.TrlParser`]: Gives [`DeepTravelScriptArguments`], [`ReplayGRPOConfig`] and [`~trl.ModelConfig`].
    """
    return make_script_parser((DeepTravelScriptArguments, ReplayGRPOConfig, ModelConfig), prog)


def run(argv: list[str]) -> None:
    """
    Parse the arguments and run the stages.

    Args:
        argv (`list[str]`):
            Command-line arguments after `trl-multiturn deeptravel`.
    """
    run_script(make_parser(prog="trl-multiturn deeptravel"), argv, main, check_arguments)


if __name__ == "__main__":
    run(sys.argv[1:])
