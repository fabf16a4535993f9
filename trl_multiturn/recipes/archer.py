"""`trl-multiturn archer`: ArCHer from a YAML file or command-line arguments, by TRL's own parser and conventions."""

import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from ..archer.config import ArCHerConfig
from .igpo import REWARDS
from .results import ARCHER_PANELS
from .script import finish, load_splits, make_script_parser, resolve, run_script, set_model_init_kwargs


WORD_GAMES = ("guess_my_city", "twenty_questions", "twenty_questions_subset")
ENVIRONMENTS = (*WORD_GAMES, "jericho", "webshop")

# A parser game has no rows of its own: every episode begins at the same place. An epoch is so many prompts.
_JERICHO_ROWS = 100
# Goals that ArCHer trains on, and those that WebShop tests on.
_WEBSHOP_GOALS = range(2000, 2100), range(500)

_PROMPTS = {
    "jericho": "Play the game with the tool, one command at a time. Win as many points as you can.",
    "webshop": "Shop with the tool, one action at a time. Buy what the instruction asks for.",
}


@dataclass
class ArCHerScriptArguments(ScriptArguments):
    """
    Script arguments for the ArCHer training script.

    Args:
        environment (`str`, *optional*):
            `"guess_my_city"`, `"twenty_questions"`, `"twenty_questions_subset"`, `"jericho"` (with `story_file`),
            `"webshop"` (with `base_url`), or the dotted import path of an environment class or factory. If `None`,
            `"guess_my_city"`, or none with `algorithm="offline"`.
        reward_funcs (`list[str]`, *optional*):
            Reward functions of the outcome, beside what the environment gives for each turn: names from
            `trl_multiturn.rewards` or dotted import paths.
        story_file (`str`, *optional*):
            Story file of the environment `"jericho"`.
        base_url (`str`, *optional*):
            Address of the running shop of the environment `"webshop"`.
        eval_limit (`int`, *optional*, defaults to `200`):
            Rows to evaluate on. Those of a word game are its own: it is evaluated on what it is trained on.
    """

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Hub id or folder of the rows that the environment is reset with; those of the environment itself "
            f"if unset and it is one of {', '.join(ENVIRONMENTS)}. With algorithm 'offline': of logged trajectories."
        },
    )
    environment: str | None = field(
        default=None,
        metadata={
            "help": "'guess_my_city' (the default), 'twenty_questions', 'twenty_questions_subset', 'jericho' (with "
            "story_file), 'webshop' (with base_url), or the dotted import path of an environment class or factory. None "
            "with algorithm 'offline'."
        },
    )
    reward_funcs: list[str] | None = field(
        default=None,
        metadata={
            "help": "Reward functions of the outcome, beside what the environment gives for each turn: "
            f"{', '.join(REWARDS)}, or dotted import paths."
        },
    )
    story_file: str | None = field(
        default=None, metadata={"help": "Story file of the environment 'jericho': a parser game that Jericho knows."}
    )
    base_url: str | None = field(
        default=None, metadata={"help": "Address of the running shop of the environment 'webshop'."}
    )
    eval_limit: int | None = field(
        default=200,
        metadata={"help": "Rows to evaluate on. A word game is evaluated on what it is trained on."},
    )


def main(script_args: ArCHerScriptArguments, training_args: ArCHerConfig, model_args: ModelConfig) -> None:
    """
    Train, save, and push if asked to.

    Args:
        script_args ([`ArCHerScriptArguments`]):
            Data, environment and rewards.
        training_args ([`ArCHerConfig`]):
            Everything that [`ArCHerTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
    """
    trainer = build_trainer(script_args, training_args, model_args)
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    finish(trainer, ARCHER_PANELS, "ArCHer", script_args.dataset_name)


def build_trainer(script_args: ArCHerScriptArguments, training_args: ArCHerConfig, model_args: ModelConfig) -> Any:
    """
    Load data, environment, model and critic.

    Args:
        script_args ([`ArCHerScriptArguments`]):
            Data, environment and rewards.
        training_args ([`ArCHerConfig`]):
            Everything that [`ArCHerTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.

    Returns:
        [`ArCHerTrainer`]: The trainer, which has not trained yet.
    """
    from ..archer.trainer import ArCHerTrainer

    environment = check_arguments(script_args, training_args)
    set_model_init_kwargs(training_args, model_args)
    if script_args.dataset_name is None:
        train, held_out = _own_rows(script_args, training_args.seed)
    else:
        train, held_out = load_splits(script_args, script_args.eval_limit)
    return ArCHerTrainer(
        model_args.model_name_or_path,
        _reward_funcs(script_args),
        training_args,
        train,
        eval_dataset=held_out if training_args.eval_strategy != "no" else None,
        environment_factory=environment,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )


def make_parser(prog: str | None = None) -> TrlParser:
    """
    Parser of the script's arguments.

    Args:
        prog (`str`, *optional*):
            Program name for the help.

    Returns:
        [`~trl.TrlParser`]: Gives [`ArCHerScriptArguments`], [`ArCHerConfig`] and [`~trl.ModelConfig`].
    """
    return make_script_parser((ArCHerScriptArguments, ArCHerConfig, ModelConfig), prog)


def check_arguments(script_args: ArCHerScriptArguments, training_args: ArCHerConfig) -> Any:
    """
    Find out what is to be trained on, before anything is loaded.

    Args:
        script_args ([`ArCHerScriptArguments`]):
            Data, environment and rewards.
        training_args ([`ArCHerConfig`]):
            Says whether there is an environment at all.

    Returns:
        `Callable` or `None`: Makes an environment; `None` with `algorithm="offline"`.

    Raises:
        `ValueError`: If arguments do not fit together, or a name stands for nothing.
        `OSError`: If the story file cannot be read.
    """
    if script_args.eval_limit is not None and script_args.eval_limit < 1:
        raise ValueError(f"eval_limit must be at least 1, got {script_args.eval_limit}.")
    rewards = _reward_funcs(script_args)
    offline = training_args.algorithm == "offline"
    chosen = script_args.environment or ("offline" if offline else "guess_my_city")
    for name, needed_by in (("story_file", "jericho"), ("base_url", "webshop")):
        if (getattr(script_args, name) is not None) != (chosen == needed_by):
            raise ValueError(f"{name} and the environment {needed_by!r} belong together: give both or neither.")
    if offline:
        _check_offline(script_args, training_args, rewards)
        return None
    factory = _environment_factory(script_args, chosen)
    if script_args.dataset_name is None and chosen not in ENVIRONMENTS:
        raise ValueError(f"the environment {chosen!r} needs a dataset to be reset with: name it as dataset_name.")
    return factory


def _check_offline(script_args: ArCHerScriptArguments, training_args: ArCHerConfig, rewards: Any) -> None:
    if script_args.environment is not None:
        raise ValueError(
            f"algorithm 'offline' learns from logged trajectories alone: leave environment={script_args.environment!r}."
        )
    if script_args.dataset_name is None:
        raise ValueError("algorithm 'offline' needs a dataset of logged trajectories: name it as dataset_name.")
    evaluates = training_args.eval_strategy != "no"
    if rewards is not None and not evaluates:
        raise ValueError("with algorithm 'offline' the rewards are in the dataset: leave reward_funcs, or evaluate.")
    if rewards is None and evaluates:
        raise ValueError("with algorithm 'offline' an evaluation needs reward_funcs: nothing else gives a reward.")


def _environment_factory(script_args: ArCHerScriptArguments, chosen: str) -> Any:
    if chosen in WORD_GAMES:
        from ..environments.word_games import GuessMyCity, TwentyQuestions

        return GuessMyCity if chosen == "guess_my_city" else TwentyQuestions
    if chosen not in ENVIRONMENTS:
        return resolve(chosen, ENVIRONMENTS)

    from ..environments.adapters import JerichoEnvironment, WebShopEnvironment

    game: Any = JerichoEnvironment if chosen == "jericho" else WebShopEnvironment
    factory = partial(game, script_args.story_file or script_args.base_url)
    try:
        factory()  # the story file or the address is refused here, not after the model has been loaded
    except ImportError as error:
        raise ValueError(str(error)) from error
    return factory


def _reward_funcs(script_args: ArCHerScriptArguments) -> list[Any] | None:
    names = script_args.reward_funcs
    return [resolve(name, REWARDS, "trl_multiturn.rewards") for name in names] if names else None


def _own_rows(script_args: ArCHerScriptArguments, seed: int) -> tuple[Any, Any]:
    """Rows that come with an environment of ours, to train and to evaluate on."""
    from datasets import Dataset

    chosen: Any = script_args.environment or "guess_my_city"
    limit = script_args.eval_limit
    if chosen in WORD_GAMES:
        from ..environments.word_games import load_word_game

        return load_word_game(chosen, seed=seed), load_word_game(chosen, seed=seed, limit=limit)
    row: dict[str, Any] = {"prompt": [{"role": "user", "content": _PROMPTS[chosen]}]}
    if chosen == "jericho":
        train = test = [row] * _JERICHO_ROWS
    else:
        train, test = ([row | {"session": f"fixed_{goal}"} for goal in goals] for goals in _WEBSHOP_GOALS)
    return Dataset.from_list(train), Dataset.from_list(test[:limit])


def run(argv: list[str]) -> None:
    """
    Parse the arguments and train.

    Args:
        argv (`list[str]`):
            Command-line arguments after `trl-multiturn archer`.
    """
    run_script(make_parser(prog="trl-multiturn archer"), argv, main, check_arguments)


if __name__ == "__main__":
    run(sys.argv[1:])
