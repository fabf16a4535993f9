"""`trl-multiturn deeptravel`: cold start on demonstrations, reinforcement learning with failure replay, evaluation."""

import copy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging
from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from ..replay.config import ReplayGRPOConfig
from .results import REPLAY_PANELS, save_json
from .script import leave, make_script_parser, run_script, save_results, set_model_init_kwargs
from .travel_evaluation import evaluate, print_report
from .travel_task import TravelArguments, TravelTask, check_travel_arguments, load_travel_task


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
# What a model given by name is called in the report, if no stage has left any.
MODEL = "model"
# The last file that a stage writes.
_DONE = "trainer_state.json"


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
    task = load_travel_task(script_args)
    trainer: Any = None
    if "sft" in stages and not _is_done(folder / COLD_START, script_args.stage):
        trainer = cold_start(script_args, training_args, model_args, task)
    if "rl" in stages and not _is_done(folder / POLICY, script_args.stage):
        trainer = reinforce(script_args, training_args, model_args, task)
    if "eval" in stages:
        models: dict[str, Any] = {
            name: folder / name for name in (COLD_START, POLICY) if (folder / name / _DONE).is_file()
        }
        report = {}
        for name, model in (models or {MODEL: model_args.model_name_or_path}).items():
            tasks = task.tasks(script_args.eval_tasks, "test")
            trainer, report[name] = evaluate(model, tasks, script_args.eval_samples, training_args, model_args, task)
        if trainer.accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            save_json(report, folder / EVALUATION)
            print_report(report, script_args.eval_samples)
    if trainer is not None:
        leave(trainer)


def cold_start(
    script_args: DeepTravelScriptArguments, training_args: ReplayGRPOConfig, model_args: ModelConfig, task: TravelTask
) -> Any:
    """
    Fine-tune the model on verified demonstrations of the solver, what the tools answered masked.

    The demonstrations are of other tasks than the reinforcement learning's. An adapter is merged into the model in the end,
    so that reinforcement learning may start with a new one.

    Args:
        script_args ([`DeepTravelScriptArguments`]):
            Number of demonstrations and how to learn from them.
        training_args ([`ReplayGRPOConfig`]):
            Batch size, precision, seed and so on.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
        task ([`TravelTask`]):
            The sandbox.

    Returns:
        [`~trl.SFTTrainer`]: The trainer, which has trained.

    Raises:
        `ValueError`: If no demonstration says anything within `sft_max_length` tokens.
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
        seed=training_args.seed + 1,
    )
    if training_args.chat_template_kwargs:
        # Prompts are to look as they will in reinforcement learning.
        episodes = episodes.add_column("chat_template_kwargs", [training_args.chat_template_kwargs] * len(episodes))
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
    _check_lengths(trainer, script_args.demonstrations)
    trainer.train()
    trainer.save_model(args.output_dir)
    if trainer.accelerator.is_main_process:
        _merge_adapter(Path(str(args.output_dir)), args)
        trainer.create_model_card(model_name=COLD_START)
    trainer.accelerator.wait_for_everyone()
    trainer.save_state()
    trainer.accelerator.print(f"Cold start saved to {args.output_dir}.")
    trainer.accelerator.free_memory()
    return trainer


def reinforce(
    script_args: DeepTravelScriptArguments, training_args: ReplayGRPOConfig, model_args: ModelConfig, task: TravelTask
) -> Any:
    """
    Train with [`ReplayGRPOTrainer`], from the cold start if there is one.

    Args:
        script_args ([`DeepTravelScriptArguments`]):
            Number of tasks. With the stage `"all"`, training goes on from the last checkpoint of an earlier run.
        training_args ([`ReplayGRPOConfig`]):
            Everything that [`ReplayGRPOTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
        task ([`TravelTask`]):
            The sandbox.

    Returns:
        [`ReplayGRPOTrainer`]: The trainer, which has trained.
    """
    trainer = build_trainer(script_args, training_args, model_args, task)
    args = trainer.args
    checkpoint = args.resume_from_checkpoint
    if checkpoint is None and script_args.stage == "all" and Path(args.output_dir).is_dir():
        checkpoint = get_last_checkpoint(args.output_dir)
        if checkpoint is not None:
            logger.warning(f"Training goes on from {checkpoint}.")
    trainer.train(resume_from_checkpoint=checkpoint)
    save_results(trainer, REPLAY_PANELS, "DeepTravel", None)
    trainer.accelerator.free_memory()
    return trainer


def build_trainer(
    script_args: DeepTravelScriptArguments, training_args: ReplayGRPOConfig, model_args: ModelConfig, task: TravelTask
) -> Any:
    """
    Load tasks and model for the reinforcement learning: the cold start's model, if there is one.

    Args:
        script_args ([`DeepTravelScriptArguments`]):
            Number of tasks.
        training_args ([`ReplayGRPOConfig`]):
            Everything that [`ReplayGRPOTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
        task ([`TravelTask`]):
            The sandbox.

    Returns:
        [`ReplayGRPOTrainer`]: The trainer, which has not trained yet.
    """
    from ..replay.trainer import ReplayGRPOTrainer

    folder = Path(str(training_args.output_dir))
    args = copy.copy(training_args)
    args.output_dir = str(folder / POLICY)
    if args.task_id_column is None:
        args.task_id_column = "task_id"
    set_model_init_kwargs(args, model_args)
    start = folder / COLD_START
    return ReplayGRPOTrainer(
        str(start if (start / _DONE).is_file() else model_args.model_name_or_path),
        task.reward,
        args,
        task.tasks(script_args.train_tasks, "train", args.seed),
        eval_dataset=task.tasks(script_args.eval_tasks, "dev") if args.eval_strategy != "no" else None,
        environment_factory=task.environment_factory,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )


def _check_lengths(trainer: Any, given: int) -> None:
    """Say how much of the demonstrations `max_length` leaves."""
    limit, kept = trainer.args.max_length, len(trainer.train_dataset)
    if not kept:
        raise ValueError(f"sft_max_length={limit} leaves nothing of any demonstration but its prompt.")
    full = sum(len(ids) >= limit for ids in trainer.train_dataset["input_ids"])
    if full or kept < given:
        logger.warning(
            f"sft_max_length={limit} cuts off {full} of {given} demonstrations, and leaves nothing of another "
            f"{given - kept}: their plans are not learnt from."
        )


def _merge_adapter(folder: Path, args: Any) -> None:
    """Make a whole model of an adapter, if that is what was saved."""
    if not (folder / "adapter_config.json").is_file():
        return
    from peft import AutoPeftModelForCausalLM

    settings = {name: args.model_init_kwargs[name] for name in ("dtype", "trust_remote_code")}
    model = AutoPeftModelForCausalLM.from_pretrained(folder, **settings)
    model.merge_and_unload().save_pretrained(folder)
    for file in (*folder.glob("adapter_*"), folder / "README.md"):
        file.unlink()


def _is_done(folder: Path, stage: str) -> bool:
    """Whether a stage of an earlier run has left its model. A stage asked for by name is run again."""
    if stage != "all" or not (folder / _DONE).is_file():
        return False
    logger.warning(f"{folder} is there already: this stage is skipped. Name it as --stage to run it again.")
    return True


def check_arguments(script_args: DeepTravelScriptArguments, training_args: ReplayGRPOConfig) -> None:
    """
    Refuse arguments that do not fit together, before anything is loaded.

    Args:
        script_args ([`DeepTravelScriptArguments`]):
            Sandbox and stages.
        training_args ([`ReplayGRPOConfig`]):
            Says how many rollouts are made at once.

    Raises:
        `ValueError`: If they do not.
    """
    for name in ("demonstrations", "eval_samples", "sft_max_length"):
        if getattr(script_args, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(script_args, name)}.")
    for name in ("sft_epochs", "sft_learning_rate"):
        if getattr(script_args, name) <= 0:
            raise ValueError(f"{name} must be above 0, got {getattr(script_args, name)}.")
    if not 0.0 <= script_args.error_rate < 1.0:
        raise ValueError(f"error_rate must be at least 0 and below 1, got {script_args.error_rate}.")
    if script_args.dataset_name is not None:
        raise ValueError("the recipe generates its tasks: leave dataset_name, or use `trl-multiturn replay`.")
    at_once = training_args.per_device_eval_batch_size * training_args.world_size
    if script_args.stage in ("eval", "all") and at_once % script_args.eval_samples:
        raise ValueError(
            f"{at_once} rollouts of an evaluation at once (per_device_eval_batch_size times processes) are no whole "
            f"number of tasks of eval_samples={script_args.eval_samples}."
        )
    check_travel_arguments(script_args)


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
