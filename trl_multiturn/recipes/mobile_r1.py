"""`trl-multiturn mobile-r1`: the three stages of Mobile-R1, each on a stock trainer with whole checkpoints, and the evaluation.

1. `sft`: TRL's `SFTTrainer` on single steps of recorded trajectories.
2. `action`: TRL's `GRPOTrainer` on the same states, with a reward for the right action and the right format.
3. `task`: [`MultiTurnGRPOTrainer`] on the live phone, with a reward for the task done and the right format.

Section 3 of https://huggingface.co/papers/2506.20332. What differs from it is in docs/mobile_r1.md.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging
from trl import TrlParser

from ..checkpointing import CheckpointingTrainer
from .mobile_r1_config import DONE, STAGES, MobileR1Config
from .mobile_r1_data import held_out_tasks, task_rows, train_steps, train_tasks
from .mobile_r1_evaluation import evaluate
from .results import MOBILE_R1_PANELS, plot_curves, save_history, save_json
from .script import leave, make_script_parser, parse_script


logger = logging.get_logger(__name__)


def run_stage(config: MobileR1Config, stage: str) -> Path:
    """
    Run one stage, from the last checkpoint if an earlier run was cut off.

    Args:
        config ([`MobileR1Config`]):
            Settings.
        stage (`str`):
            `"sft"`, `"action"`, `"task"` or `"evaluate"`.

    Returns:
        `Path`: Folder with the stage's model; of an evaluation, its report.

    Raises:
        `ValueError`: If there is no such stage, or nothing to train on.
    """
    return _run_stage(config, stage)[0]


def _run_stage(config: MobileR1Config, stage: str) -> tuple[Path, Any]:
    """Folder of a stage's results, and its trainer, if it trains."""
    if stage == "evaluate":
        return evaluate(config), None
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {', '.join((*STAGES, 'evaluate'))}, got {stage!r}.")
    start = config.start(stage)
    logger.warning(f"Stage {stage}: from {start} to {config.folder(stage)}.")
    trainer = {"sft": _sft_trainer, "action": _action_trainer, "task": task_trainer}[stage](config, start)
    folder = config.folder(stage)
    checkpoint = get_last_checkpoint(folder) if folder.is_dir() else None
    if checkpoint is not None:
        logger.warning(f"Training goes on from {checkpoint}.")
    trainer.train(resume_from_checkpoint=checkpoint)
    _save(trainer, config, stage, start)
    return folder, trainer


# --- trainers


def _with_whole_checkpoints(trainer_class: type) -> Any:
    return type(trainer_class.__name__, (CheckpointingTrainer, trainer_class), {"__doc__": trainer_class.__doc__})


def _sft_trainer(config: MobileR1Config, start: str) -> Any:
    from trl import SFTTrainer

    from .processors import load_processor

    processor = load_processor(start)
    rows = train_steps(config, processor)
    return _with_whole_checkpoints(SFTTrainer)(
        model=start,
        args=config.trainer_config("sft"),
        train_dataset=rows.select_columns(["prompt", "completion", "images"]),
        processing_class=processor,
        peft_config=_lora(config),
    )


def _action_trainer(config: MobileR1Config, start: str) -> Any:
    from trl import GRPOTrainer

    from ..rewards.gui import action_reward, gui_format_reward
    from .processors import load_processor

    processor = load_processor(start)
    rows = train_steps(config, processor)
    reward_funcs: list[Any] = [action_reward, gui_format_reward]
    return _with_whole_checkpoints(GRPOTrainer)(
        model=start,
        reward_funcs=reward_funcs,
        args=config.trainer_config("action"),
        train_dataset=rows.remove_columns(["completion"]),
        processing_class=processor,
        peft_config=_lora(config),
    )


def task_trainer(config: MobileR1Config, start: str) -> Any:
    """
    Build the trainer of the third stage.

    Args:
        config ([`MobileR1Config`]):
            Settings.
        start (`str`):
            Model to start from.

    Returns:
        [`MultiTurnGRPOTrainer`]: The trainer, which has not trained yet.
    """
    from ..rewards.gui import gui_format_reward, make_task_reward
    from ..trainer import MultiTurnGRPOTrainer
    from .processors import load_processor

    args = config.trainer_config("task")
    evaluates = args.eval_strategy != "no"
    return MultiTurnGRPOTrainer(
        model=start,
        reward_funcs=[make_task_reward(_judge(config)), gui_format_reward],
        args=args,
        train_dataset=task_rows(config, train_tasks(config, config.tasks)),
        eval_dataset=task_rows(config, held_out_tasks(config)) if evaluates else None,
        processing_class=load_processor(start),
        peft_config=_lora(config),
        environment_factory=config.environment(),
    )


def _judge(config: MobileR1Config) -> Any:
    from ..rewards.gui_judges import MultimodalJudge, StateJudge
    from ..rewards.judge_client import JudgeClient

    if config.judge is None:
        return StateJudge()
    key = os.environ.get("JUDGE_API_KEY")
    return MultimodalJudge(JudgeClient(str(config.judge_base_url), config.judge, key))


def _lora(config: MobileR1Config) -> Any:
    if config.lora is None:
        return None
    from peft import LoraConfig

    settings: Any = config.lora
    return LoraConfig(**settings)


def _save(trainer: Any, config: MobileR1Config, stage: str, start: str) -> None:
    """Save a stage's model, adapter merged, its curves, and then that it is done."""
    folder = config.folder(stage)
    trainer.accelerator.wait_for_everyone()
    if config.lora is not None:
        trainer.model = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
    trainer.save_model(str(folder))
    trainer.save_state()
    if trainer.accelerator.is_main_process:
        trainer.processing_class.save_pretrained(folder)
        trainer.create_model_card(model_name=f"{Path(config.output_dir).name}-{stage}")
        save_history(trainer.state.log_history, folder / "history.csv")
        plot_curves(trainer.state.log_history, MOBILE_R1_PANELS[stage], folder / "curves.png", f"Mobile-R1: {stage}")
        save_json({"stage": stage, "start": start, "config": asdict(config)}, folder / DONE)
    trainer.accelerator.wait_for_everyone()


# --- the command


def make_parser(prog: str | None = None) -> TrlParser:
    """
    Parser of the command's arguments.

    Args:
        prog (`str`, *optional*):
            Program name for the help.

    Returns:
        [`~trl.TrlParser`]: Gives a [`MobileR1Config`].
    """
    return make_script_parser((MobileR1Config,), prog)


def run(argv: list[str]) -> None:
    """
    Parse the arguments and run the stages.

    Args:
        argv (`list[str]`):
            Command-line arguments after `trl-multiturn mobile-r1`.
    """
    (config,) = parse_script(make_parser(prog="trl-multiturn mobile-r1"), argv)
    trainer = None
    for stage in (*STAGES, "evaluate") if config.stage == "all" else (config.stage,):
        if config.stage == "all" and stage in STAGES and config.is_done(stage):
            logger.warning(f"{config.folder(stage)} is there already: this stage is skipped.")
        else:
            trainer = _run_stage(config, stage)[1] or trainer
    if trainer is not None:
        leave(trainer)


if __name__ == "__main__":
    run(sys.argv[1:])
