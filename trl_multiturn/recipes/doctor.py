"""`trl-multiturn doctor`: takes one real batch through the run that a recipe file describes, and says what would fail silently."""

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from transformers.utils import logging
from trl import TrlParser

from ..doctor.diagnosis import diagnose
from . import archer, deeptravel, igpo, mobile_r1, replay
from .script import leave, parse_script


logger = logging.get_logger(__name__)


def _of_script(recipe: Any) -> Callable[[TrlParser, list[str]], Any]:
    def build(parser: TrlParser, argv: list[str]) -> Any:
        arguments = parse_script(parser, argv, getattr(recipe, "check_arguments", None))
        _keep_to_oneself(arguments[1])
        return recipe.build_trainer(*arguments)

    return build


def _of_deeptravel(parser: TrlParser, argv: list[str]) -> Any:
    script_args, training_args, model_args = parse_script(parser, argv, deeptravel.check_arguments)
    _keep_to_oneself(training_args)
    return deeptravel.build_trainer(script_args, training_args, model_args, deeptravel.load_travel_task(script_args))


def _of_mobile_r1(parser: TrlParser, argv: list[str]) -> Any:
    (config,) = parse_script(parser, argv)
    config.task = {**(config.task or {}), "push_to_hub": False}
    logger.warning(
        "The third stage is looked at, which is the multi-turn one: the others are plain trainers of TRL's."
    )
    return mobile_r1.task_trainer(config, config.start("task"))


# What a recipe's parser knows and the recipe refuses.
_REFUSED = {"deeptravel": {"dataset_name"}}

# Recipe -> its parser, and what builds its trainer from the parser and the arguments.
RECIPES: dict[str, tuple[Callable[[str], TrlParser], Callable[[TrlParser, list[str]], Any]]] = {
    "igpo": (igpo.make_parser, _of_script(igpo)),
    "archer": (archer.make_parser, _of_script(archer)),
    "replay": (replay.make_parser, _of_script(replay)),
    "deeptravel": (deeptravel.make_parser, _of_deeptravel),
    "mobile-r1": (mobile_r1.make_parser, _of_mobile_r1),
}


def _keep_to_oneself(training_args: Any) -> None:
    """Nothing is made on the Hub."""
    training_args.push_to_hub = False
    training_args.log_completions_hub_repo = None


def make_parser() -> argparse.ArgumentParser:
    """
    Parser of the command's own arguments.

    Returns:
        [`~argparse.ArgumentParser`]
    """
    parser = argparse.ArgumentParser(
        prog="trl-multiturn doctor",
        usage="%(prog)s --config RECIPE.yaml [--recipe NAME] [--json FILE] [--FIELD VALUE ...]",
        description="Takes one real batch through a run, without a step, and says what would fail silently and what to change. "
        "Exits with 1 if there is an error.",
        epilog="Any other field of the recipe can be given too, where it wins: --max_completion_length 2048. The checks are "
        "explained in docs/doctor.md. From a script of your own: `from trl_multiturn import diagnose`, then "
        "`diagnose(trainer).print()` before `trainer.train()`.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="RECIPE.yaml", help="Recipe file of any training command.")
    parser.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help="Which command the file is for; found out from its fields if there is only one that knows them all.",
    )
    parser.add_argument("--json", metavar="FILE", help="Write the report as JSON, too.")
    return parser


def find_recipe(config: str) -> str:
    """
    Which command a recipe file is for, by its fields.

    Args:
        config (`str`):
            Path of the file.

    Returns:
        `str`: Name of the command.

    Raises:
        `ValueError`: If no command knows all fields, or several do.
        `OSError`: If the file cannot be read.
    """
    try:
        given = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{config} is no YAML file: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"{config} must hold fields and values.")
    known = {name: _fields(make("")) - _REFUSED.get(name, set()) for name, (make, _) in RECIPES.items()}
    able = [name for name, fields in known.items() if set(given) <= fields]
    if len(able) == 1:
        return able[0]
    if not able:
        nearest = min(known, key=lambda name: len(set(given) - known[name]))
        unknown = ", ".join(sorted(set(given) - known[nearest]))
        raise ValueError(f"no recipe knows all fields of {config}; the nearest is {nearest}, which has no {unknown}.")
    raise ValueError(f"{config} may be for {' or '.join(able)}: say which with --recipe.")


def _fields(parser: TrlParser) -> set[str]:
    types: Any = parser.dataclass_types
    # `env` and `config` are the parser's own.
    return {field.name for kind in types for field in dataclasses.fields(kind)} | {"env", "config"}


def run(argv: list[str]) -> int:
    """
    Build the trainer of a recipe and diagnose it.

    Args:
        argv (`list[str]`):
            Command-line arguments after `trl-multiturn doctor`.

    Returns:
        `int`: 1 if there is an error, 0 otherwise.
    """
    parser = make_parser()
    own, others = parser.parse_known_args(argv)
    try:
        recipe = own.recipe or find_recipe(own.config)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    make, build = RECIPES[recipe]
    trainer = build(make("trl-multiturn doctor"), ["--config", own.config, *others])
    report = diagnose(trainer)
    if trainer.accelerator.is_main_process:
        report.print()
        if own.json is not None:
            report.save(own.json)
    leave(trainer)
    return int(report.has_errors)


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
