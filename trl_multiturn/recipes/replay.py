"""`trl-multiturn replay`: GRPO with failure replay, from a YAML file or command-line arguments."""

import sys
from dataclasses import dataclass, field, fields
from typing import Any

from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from ..replay.config import ReplayGRPOConfig
from .igpo import REWARDS
from .results import REPLAY_PANELS
from .script import finish, load_splits, make_script_parser, resolve, run_script, set_model_init_kwargs
from .travel_task import TravelArguments, check_travel_arguments, load_travel_task


@dataclass
class ReplayScriptArguments(TravelArguments, ScriptArguments):
    """
    Script arguments for training with failure replay: [`TravelArguments`], which are for the dataset `"travel"` alone, and

    Args:
        environment (`str`, *optional*):
            Dotted import path of an environment class or factory. The dataset `"travel"` has its own; with another, `None`
            is plain prompts.
        reward_funcs (`list[str]`, *optional*):
            Reward functions: names from `trl_multiturn.rewards` or dotted import paths. The dataset `"travel"` has its own,
            [`HierarchicalReward`].
        eval_limit (`int`, *optional*, defaults to `200`):
            Held-out rows to evaluate on, of a dataset other than `"travel"`.
    """

    dataset_name: str | None = field(
        default="travel",
        metadata={
            "help": "'travel' (generated tasks of the travel sandbox), or any dataset with a column `prompt`, by its Hub id "
            "or folder."
        },
    )
    environment: str | None = field(
        default=None,
        metadata={
            "help": "Dotted import path of an environment class or factory. 'travel' has its own; with another dataset, "
            "unset is plain prompts."
        },
    )
    reward_funcs: list[str] | None = field(
        default=None,
        metadata={
            "help": f"Reward functions: {', '.join(REWARDS)}, or dotted import paths. 'travel' has its own verifier."
        },
    )
    eval_limit: int | None = field(
        default=200, metadata={"help": "Held-out rows to evaluate on, of a dataset other than 'travel'."}
    )


def main(script_args: ReplayScriptArguments, training_args: ReplayGRPOConfig, model_args: ModelConfig) -> None:
    """
    Train, save, and push if asked to.

    Args:
        script_args ([`ReplayScriptArguments`]):
            Data, environment and rewards.
        training_args ([`ReplayGRPOConfig`]):
            Everything that [`ReplayGRPOTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
    """
    trainer = build_trainer(script_args, training_args, model_args)
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    is_travel = script_args.dataset_name == "travel"
    finish(trainer, REPLAY_PANELS, "Replay GRPO", None if is_travel else script_args.dataset_name)


def build_trainer(script_args: ReplayScriptArguments, training_args: ReplayGRPOConfig, model_args: ModelConfig) -> Any:
    """
    Load data, environment and model.

    Args:
        script_args ([`ReplayScriptArguments`]):
            Data, environment and rewards.
        training_args ([`ReplayGRPOConfig`]):
            Everything that [`ReplayGRPOTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.

    Returns:
        [`ReplayGRPOTrainer`]: The trainer, which has not trained yet.
    """
    from ..replay.trainer import ReplayGRPOTrainer

    set_model_init_kwargs(training_args, model_args)
    evaluates = training_args.eval_strategy != "no"
    if script_args.dataset_name == "travel":
        task = load_travel_task(script_args)
        train = task.tasks(script_args.train_tasks, "train", training_args.seed)
        held_out: Any = task.tasks(script_args.eval_tasks, "dev") if evaluates else None
        environment, rewards = task.environment_factory, [task.reward]
        if training_args.task_id_column is None:
            training_args.task_id_column = "task_id"
    else:
        train, held_out = load_splits(script_args, script_args.eval_limit)
        environment, rewards = _own_parts(script_args)
    return ReplayGRPOTrainer(
        model_args.model_name_or_path,
        rewards or None,
        training_args,
        train,
        eval_dataset=held_out if evaluates else None,
        environment_factory=environment,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )


def check_arguments(script_args: ReplayScriptArguments, training_args: Any) -> None:
    """
    Refuse arguments that do not fit together, before anything is loaded.

    Args:
        script_args ([`ReplayScriptArguments`]):
            Data, environment and rewards.
        training_args (`Any`):
            Not looked at.

    Raises:
        `ValueError`: If they do not.
    """
    if script_args.eval_limit is not None and script_args.eval_limit < 1:
        raise ValueError(f"eval_limit must be at least 1, got {script_args.eval_limit}.")
    if script_args.dataset_name == "travel":
        for name in ("environment", "reward_funcs"):
            if getattr(script_args, name):
                raise ValueError(f"{name} is for a dataset of your own: 'travel' has its own.")
        check_travel_arguments(script_args)
        return
    for argument in fields(TravelArguments):
        if getattr(script_args, argument.name) != argument.default:
            raise ValueError(f"{argument.name} is for the dataset 'travel': with another it has no effect.")
    if script_args.environment is None and not script_args.reward_funcs:
        raise ValueError("a dataset of your own needs reward_funcs, or an environment that rewards.")
    _own_parts(script_args)


def _own_parts(script_args: ReplayScriptArguments) -> tuple[Any, list[Any]]:
    """Environment and rewards that go with a dataset of one's own."""
    environment = resolve(script_args.environment) if script_args.environment else None
    names = script_args.reward_funcs or ()
    return environment, [resolve(name, REWARDS, "trl_multiturn.rewards") for name in names]


def make_parser(prog: str | None = None) -> TrlParser:
    """
    Parser of the script's arguments.

    Args:
        prog (`str`, *optional*):
            Program name for the help.

    Returns:
        [`~trl.TrlParser`]: Gives [`ReplayScriptArguments`], [`ReplayGRPOConfig`] and [`~trl.ModelConfig`].
    """
    return make_script_parser((ReplayScriptArguments, ReplayGRPOConfig, ModelConfig), prog)


def run(argv: list[str]) -> None:
    """
    Parse the arguments and train.

    Args:
        argv (`list[str]`):
            Command-line arguments after `trl-multiturn replay`.
    """
    run_script(make_parser(prog="trl-multiturn replay"), argv, main, check_arguments)


if __name__ == "__main__":
    run(sys.argv[1:])
