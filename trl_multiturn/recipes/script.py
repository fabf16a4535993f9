"""What the training commands share: TRL's parser, data and names of a command line, and the end of a run."""

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trl import ModelConfig, ScriptArguments, TrlParser

from .results import plot_curves, save_history


# Seconds that the last process-group threads may take to let go of their tensors.
_GLOO_SECONDS = 0.5


def make_script_parser(types: tuple[Any, ...], prog: str | None = None) -> TrlParser:
    """
    Parser of a command's arguments.

    Args:
        types (`tuple[type, ...]`):
            Data classes of the arguments.
        prog (`str`, *optional*):
            Program name for the help.

    Returns:
        [`~trl.TrlParser`]: Gives one object of each type.
    """
    classes: Any = types
    # In place of a line for each of some hundred fields, above every error message.
    return TrlParser(classes, prog=prog, usage="%(prog)s [--config RECIPE.yaml] [--FIELD VALUE ...]")


def run_script(
    parser: TrlParser,
    argv: list[str],
    main: Callable[..., None],
    check: Callable[..., None] | None = None,
) -> None:
    """
    Parse the arguments of a command and start it; what is wrong with them is one line.

    Args:
        parser ([`~trl.TrlParser`]):
            Parser that gives script arguments, training arguments and a [`~trl.ModelConfig`].
        argv (`list[str]`):
            Command-line arguments after the command's name.
        main (`Callable`):
            Takes the three.
        check (`Callable`, *optional*):
            Takes script and training arguments, and raises a `ValueError` or an `OSError` if they do not fit together.
    """
    main(*parse_script(parser, argv, check))


def parse_script(parser: TrlParser, argv: list[str], check: Callable[..., None] | None = None) -> tuple[Any, ...]:
    """
    Parse the arguments of a command; what is wrong with them is one line.

    Args:
        parser ([`~trl.TrlParser`]):
            Parser that gives script arguments, training arguments and a [`~trl.ModelConfig`], or a recipe's configuration.
        argv (`list[str]`):
            Command-line arguments after the command's name.
        check (`Callable`, *optional*):
            Takes script and training arguments, and raises a `ValueError` or an `OSError` if they do not fit together.

    Returns:
        `tuple`: What the parser gives.
    """
    try:
        arguments = parser.parse_args_and_config(argv, fail_with_unknown_args=True)
        if len(arguments) == 3:
            if arguments[2].model_name_or_path is None:
                raise ValueError("name the model to train: --model_name_or_path, a Hub id or a folder.")
            arguments[1].resume_from_checkpoint = _checkpoint(arguments[1].resume_from_checkpoint)
        if check is not None:
            check(*arguments[:2])
    except (OSError, ValueError) as error:  # of the recipe file, a field's name or its value
        parser.error(str(error))
    return arguments


def _checkpoint(given: str | bool | None) -> str | bool | None:
    """What the trainer is to resume from. On a command line, "true" is the last checkpoint and not a folder."""
    if given is None or isinstance(given, bool):
        return given
    if given.lower() in ("true", "false"):
        return given.lower() == "true"
    if not Path(given).is_dir():
        raise ValueError(
            f"resume_from_checkpoint={given!r} is no folder; 'true' is the last checkpoint in output_dir."
        )
    return given


def set_model_init_kwargs(training_args: Any, model_args: ModelConfig) -> None:
    """
    Let the trainer load the model as the model's arguments say; `model_init_kwargs` wins.

    Args:
        training_args ([`~trl.GRPOConfig`]):
            Changed in place.
        model_args ([`~trl.ModelConfig`]):
            Revision, attention and dtype.
    """
    init_kwargs = {
        "revision": model_args.model_revision,
        "trust_remote_code": training_args.trust_remote_code,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
    }
    chosen: Any = training_args.model_init_kwargs or {}  # a dictionary by now, if it was given as JSON
    training_args.model_init_kwargs = {**init_kwargs, **chosen}


def load_splits(script_args: ScriptArguments, eval_limit: int | None) -> tuple[Any, Any]:
    """
    Load a dataset by its Hub id or folder.

    Args:
        script_args ([`~trl.ScriptArguments`]):
            Name, configuration and splits.
        eval_limit (`int` or `None`):
            Largest number of held-out rows.

    Returns:
        `tuple`: Rows to train on, and held-out rows or `None`.
    """
    from datasets import load_dataset

    dataset = load_dataset(
        script_args.dataset_name, name=script_args.dataset_config, streaming=script_args.dataset_streaming
    )
    held_out = dataset.get(script_args.dataset_test_split)
    if held_out is not None and eval_limit is not None:
        held_out = held_out.take(eval_limit)
    return dataset[script_args.dataset_train_split], held_out


def resolve(name: str, known: tuple[str, ...] = (), module: str = "") -> Any:
    """
    What a name of ours or a dotted import path stands for.

    Args:
        name (`str`):
            The name.
        known (`tuple[str, ...]`, *optional*):
            Names of ours.
        module (`str`, *optional*):
            Where they are.

    Returns:
        The class or function.

    Raises:
        `ValueError`: If the name is neither, or cannot be imported.
    """
    path, attribute = module, name
    if name not in known:
        if "." not in name:
            raise ValueError(f"{name!r} is neither one of {list(known)} nor a dotted import path.")
        path, _, attribute = name.rpartition(".")
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(path), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name!r} cannot be imported: {error}") from error


def finish(trainer: Any, panels: dict[str, dict[str, str]], title: str, dataset_name: str | None) -> None:
    """
    Save model, model card, history and curves, push if asked to, and leave the process group.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            Trainer that has trained.
        panels (`dict[str, dict[str, str]]`):
            What the picture shows, as for [`~recipes.results.plot_curves`].
        title (`str`):
            Heading of the picture.
        dataset_name (`str` or `None`):
            Hub id or folder of the dataset, or `None` if it has neither.
    """
    save_results(trainer, panels, title, dataset_name)
    leave(trainer)


def save_results(trainer: Any, panels: dict[str, dict[str, str]], title: str, dataset_name: str | None) -> None:
    """
    Save model, model card, history and curves, and push if asked to.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            Trainer that has trained.
        panels (`dict[str, dict[str, str]]`):
            What the picture shows, as for [`~recipes.results.plot_curves`].
        title (`str`):
            Heading of the picture.
        dataset_name (`str` or `None`):
            Hub id or folder of the dataset, or `None` if it has neither.
    """
    args, accelerator = trainer.args, trainer.accelerator
    # The model card makes a link of a Hub id.
    hub_dataset = None if dataset_name is None or Path(dataset_name).exists() else dataset_name
    trainer.save_model(args.output_dir)
    trainer.save_state()
    if accelerator.is_main_process:
        folder = Path(args.output_dir)
        trainer.create_model_card(model_name=folder.name, dataset_name=hub_dataset)
        save_history(trainer.state.log_history, folder / "history.csv")
        plot_curves(trainer.state.log_history, panels, folder / "curves.png", title=title)
    accelerator.print(f"Model, model card, history and curves saved to {args.output_dir}.")
    if args.push_to_hub:
        trainer.push_to_hub(dataset_name=hub_dataset)
        accelerator.print(f"Pushed to the Hub as {trainer.hub_model_id}.")


def leave(trainer: Any) -> None:
    """
    Leave the process group.

    Args:
        trainer ([`~transformers.Trainer`]):
            Trainer that has done its work.
    """
    accelerator = trainer.accelerator
    if accelerator.num_processes > 1 and accelerator.device.type == "cpu":
        # A thread of gloo's may still ask for the interpreter's lock, to drop its last tensors. If the process group is
        # destroyed just then, with the lock held, the process hangs; if the interpreter is ending, it aborts (torch 2.13).
        time.sleep(_GLOO_SECONDS)
    trainer.end()
