"""`trl-multiturn igpo`: IGPO from a YAML file or command-line arguments, by TRL's own parser and conventions."""

import sys
from dataclasses import dataclass, field
from typing import Any

from trl import ModelConfig, ScriptArguments, TrlParser, get_peft_config, get_quantization_config

from ..igpo.config import IGPOConfig
from .results import IGPO_PANELS
from .script import finish, load_splits, make_script_parser, resolve, run_script, set_model_init_kwargs
from .search_task import PUBLIC_SETS, load_search_task, search_environment_factory


REWARDS = ("f1_reward", "exact_match_reward", "igpo_f1_reward", "igpo_exact_match_reward", "format_reward")

SYSTEM_PROMPT = "Find the answer with the search tool, one fact at a time. End with <answer>the answer alone</answer>."


@dataclass
class IGPOScriptArguments(ScriptArguments):
    """
    Script arguments for the IGPO training script.

    Args:
        reward_funcs (`list[str]`, *optional*, defaults to `["f1_reward"]`):
            Reward functions of the outcome: names from `trl_multiturn.rewards` or dotted import paths.
        environment (`str`, *optional*, defaults to `"search"`):
            `"search"` (BM25 over the set's passages), `"browse"` (which can open documents too), or the dotted import
            path of an environment class or factory.
        dataset_path (`str`, *optional*):
            Folder with the files of a public question set in their published form.
        corpus (`str`, *optional*):
            JSONL file with `id`, `title` and `text` to search in, in place of the set's own passages.
        system_prompt (`str`, *optional*):
            System message for prompts without one: it has to say that the answer goes between `<answer>` and `</answer>`,
            where the rewards look for it. If `None`, one for searching, or none if `environment` is one's own. An empty
            string leaves the prompts as they are.
        hops (`list[int]`, *optional*):
            Keep the questions of these numbers of hops.
        eval_limit (`int`, *optional*, defaults to `200`):
            Held-out questions to evaluate on.
    """

    dataset_name: str | None = field(
        default="facts",
        metadata={
            "help": f"Question set: 'facts' (embedded), one of {', '.join(PUBLIC_SETS)}, or any dataset with the columns "
            "`prompt` and `answers`, by its Hub id or folder (then name an environment or a corpus too)."
        },
    )
    reward_funcs: list[str] = field(
        default_factory=lambda: ["f1_reward"],
        metadata={"help": f"Reward functions of the outcome: {', '.join(REWARDS)}, or dotted import paths."},
    )
    environment: str = field(
        default="search",
        metadata={"help": "'search', 'browse', or the dotted import path of an environment class or factory."},
    )
    dataset_path: str | None = field(
        default=None, metadata={"help": "Folder with the files of a public question set in their published form."}
    )
    corpus: str | None = field(
        default=None, metadata={"help": "JSONL file with `id`, `title` and `text` to search in."}
    )
    system_prompt: str | None = field(
        default=None,
        metadata={
            "help": "System message for prompts without one; it has to say that the answer goes between <answer> and "
            f"</answer>. If unset, with the environments 'search' and 'browse': '{SYSTEM_PROMPT}' An empty string leaves "
            "the prompts as they are."
        },
    )
    hops: list[int] | None = field(default=None, metadata={"help": "Keep the questions of these numbers of hops."})
    eval_limit: int | None = field(default=200, metadata={"help": "Held-out questions to evaluate on."})


def main(script_args: IGPOScriptArguments, training_args: IGPOConfig, model_args: ModelConfig) -> None:
    """
    Train, save, and push if asked to.

    Args:
        script_args ([`IGPOScriptArguments`]):
            Data, environment and rewards.
        training_args ([`IGPOConfig`]):
            Everything that [`IGPOTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.
    """
    trainer = build_trainer(script_args, training_args, model_args)
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    is_ours = script_args.dataset_name == "facts" or script_args.dataset_name in PUBLIC_SETS
    finish(trainer, IGPO_PANELS, "IGPO", None if is_ours else script_args.dataset_name)


def build_trainer(script_args: IGPOScriptArguments, training_args: IGPOConfig, model_args: ModelConfig) -> Any:
    """
    Load data, environment and model.

    Args:
        script_args ([`IGPOScriptArguments`]):
            Data, environment and rewards.
        training_args ([`IGPOConfig`]):
            Everything that [`IGPOTrainer`] takes.
        model_args ([`~trl.ModelConfig`]):
            Model, adapter and quantization.

    Returns:
        [`IGPOTrainer`]: The trainer, which has not trained yet.
    """
    from ..igpo.trainer import IGPOTrainer

    set_model_init_kwargs(training_args, model_args)
    train, held_out, environment = _load_task(script_args, training_args.seed)
    return IGPOTrainer(
        model_args.model_name_or_path,
        [resolve(name, REWARDS, "trl_multiturn.rewards") for name in script_args.reward_funcs],
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
        [`~trl.TrlParser`]: Gives [`IGPOScriptArguments`], [`IGPOConfig`] and [`~trl.ModelConfig`].
    """
    return make_script_parser((IGPOScriptArguments, IGPOConfig, ModelConfig), prog)


def _load_task(script_args: IGPOScriptArguments, seed: int) -> tuple[Any, Any, Any]:
    own_environment = script_args.environment not in ("search", "browse")
    if script_args.dataset_name == "facts" or script_args.dataset_name in PUBLIC_SETS:
        task = load_search_task(
            script_args.dataset_name,
            path=script_args.dataset_path,
            corpus_path=script_args.corpus,
            hops=script_args.hops,
            eval_limit=script_args.eval_limit,
            browse=script_args.environment == "browse",
            seed=seed,
        )
        train, held_out, environment = task.train, task.eval, task.environment_factory
    else:
        train, held_out, environment = _load_any(script_args, own_environment)
    system_prompt = script_args.system_prompt
    if own_environment:
        environment = resolve(script_args.environment)
    elif system_prompt is None:
        system_prompt = SYSTEM_PROMPT
    return _add_system_prompt(train, system_prompt), _add_system_prompt(held_out, system_prompt), environment


def _add_system_prompt(dataset: Any, system_prompt: str | None) -> Any:
    if dataset is None or not system_prompt:
        return dataset

    def add(row: dict[str, Any]) -> dict[str, Any]:
        prompt = row["prompt"]
        if isinstance(prompt, str) or prompt[0]["role"] == "system":
            return {"prompt": prompt}
        return {"prompt": [{"role": "system", "content": system_prompt}, *prompt]}

    return dataset.map(add)


def _load_any(script_args: IGPOScriptArguments, own_environment: bool) -> tuple[Any, Any, Any]:
    if script_args.dataset_path is not None or script_args.hops is not None:
        raise ValueError(f"dataset_path and hops are for the sets facts, {', '.join(PUBLIC_SETS)}.")
    environment = None
    if not own_environment:
        if script_args.corpus is None:
            raise ValueError("To search, a dataset of your own needs passages: name a JSONL file as --corpus.")
        from ..environments.search import BM25Index

        index = BM25Index.from_jsonl(script_args.corpus)
        environment = search_environment_factory(index, browse=script_args.environment == "browse")
    train, held_out = load_splits(script_args, script_args.eval_limit)
    return train, held_out, environment


def run(argv: list[str]) -> None:
    """
    Parse the arguments and train.

    Args:
        argv (`list[str]`):
            Command-line arguments after `trl-multiturn igpo`.
    """
    run_script(make_parser(prog="trl-multiturn igpo"), argv, main)


if __name__ == "__main__":
    run(sys.argv[1:])
