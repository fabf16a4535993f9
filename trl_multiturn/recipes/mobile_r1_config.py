"""[`MobileR1Config`]: the settings of the Mobile-R1 recipe, for all its stages."""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from ..environments.phone.actions import CoordinateSpace


STAGES = ("sft", "action", "task")

# Says what a stage was made with; written when its model is complete.
DONE = "stage.json"

# What each stage's trainer gets unless the settings say otherwise. The paper names no hyper-parameters.
DEFAULTS: dict[str, dict[str, Any]] = {
    "sft": {"learning_rate": 1e-5, "num_train_epochs": 2, "lr_scheduler_type": "cosine", "warmup_steps": 0.05},
    "action": {"learning_rate": 1e-6, "num_generations": 8, "max_completion_length": 256, "beta": 0.01},
    "task": {"learning_rate": 1e-6, "num_generations": 8, "max_completion_length": 8192, "beta": 0.01},
}


@dataclass
class MobileR1Config:
    """
    Settings of the recipe: one YAML file, for all stages.

    Args:
        model (`str`):
            Vision-language model to start from: Hub id or folder. Its chat template must know tools.
        output_dir (`str`, *optional*, defaults to `"mobile_r1"`):
            Folder that gets one for each stage.
        stage (`str`, *optional*, defaults to `"all"`):
            `"sft"`, `"action"`, `"task"` or `"evaluate"`; `"all"` is the four in this order, and goes on where an earlier run
            stopped. A stage starts from the last one's model if there is one.
        data (`str`, *optional*):
            Folder with trajectories in the form of the published data. By default the oracle makes them on the phone.
        trajectories (`int`, *optional*, defaults to `500`):
            Number of trajectories of the oracle.
        mistakes (`float`, *optional*, defaults to `0.15`):
            Probability that a step of the oracle is a mistake that it then puts right.
        tasks (`int`, *optional*, defaults to `300`):
            Number of tasks of the third stage.
        longest_way (`int`, *optional*):
            Leave out tasks whose shortest way takes more actions than this, `terminate` not counted; in training and
            evaluation alike. By default there are tasks of 2 to 9.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the instructions: `"en"` or `"zh"`.
        backend (`str`, *optional*, defaults to `"pillow"`):
            What the third stage's phones are drawn by: `"pillow"` or `"chromium"`.
        scale (`float`, *optional*, defaults to `1.0`):
            Size of the screenshots relative to the phone's screen of 392 by 784 pixels.
        coordinate_space (`str`, *optional*, defaults to `"pixel"`):
            `"pixel"`, or `"norm1000"` for points from 0 to 1000 along either edge.
        history_images (`int`, *optional*, defaults to `1`):
            Number of newest screenshots in context, in every stage.
        episode_steps (`int`, *optional*, defaults to `15`):
            Actions after which an episode on the phone is cut off.
        judge (`str`, *optional*):
            Model that judges episodes, at `judge_base_url`. By default the phone's own state does.
        judge_base_url (`str`, *optional*):
            An OpenAI-compatible endpoint. The key is taken from the environment variable `JUDGE_API_KEY`.
        lora (`dict` or `str`, *optional*):
            Arguments of `peft.LoraConfig`. Each stage then trains an adapter, which is merged into its model in the end.
        sft (`dict` or `str`, *optional*):
            Arguments of [`~trl.SFTConfig`] for the first stage.
        action (`dict` or `str`, *optional*):
            Arguments of [`~trl.GRPOConfig`] for the second stage.
        task (`dict` or `str`, *optional*):
            Arguments of [`MultiTurnGRPOConfig`] for the third stage.
        eval_states (`int`, *optional*, defaults to `500`):
            Held-out states on which the action accuracy is measured, a third of them in unseen apps.
        eval_tasks (`int`, *optional*, defaults to `100`):
            Held-out tasks on which the success is measured, a third of them in unseen apps.
        seed (`int`, *optional*, defaults to `0`):
            Seed of tasks, trajectories and trainers.

    Raises:
        `ValueError`: For a setting out of its range, or one that cannot take effect.
    """

    model: str | None = field(
        default=None, metadata={"help": "Vision-language model to start from: Hub id or folder."}
    )
    output_dir: str = field(default="mobile_r1", metadata={"help": "Folder that gets one for each stage."})
    stage: str = field(
        default="all",
        metadata={
            "help": "'sft', 'action' (single-step GRPO), 'task' (multi-turn GRPO), 'evaluate', or 'all', which goes on where "
            "an earlier run stopped.",
            "choices": [*STAGES, "evaluate", "all"],
        },
    )
    data: str | None = field(
        default=None,
        metadata={"help": "Folder with trajectories in the published form. By default the oracle makes them."},
    )
    trajectories: int = field(default=500, metadata={"help": "Number of trajectories of the oracle."})
    mistakes: float = field(
        default=0.15, metadata={"help": "Probability that a step of the oracle is a mistake that it then puts right."}
    )
    tasks: int = field(default=300, metadata={"help": "Number of tasks of the third stage."})
    longest_way: int | None = field(
        default=None,
        metadata={"help": "Leave out tasks whose shortest way takes more actions than this. By default none."},
    )
    language: str = field(default="en", metadata={"help": "Language of the instructions.", "choices": ["en", "zh"]})
    backend: str = field(
        default="pillow",
        metadata={"help": "What the third stage's phones are drawn by.", "choices": ["pillow", "chromium"]},
    )
    scale: float = field(default=1.0, metadata={"help": "Size of the screenshots relative to 392 by 784 pixels."})
    coordinate_space: str = field(
        default="pixel",
        metadata={"help": "Points in pixels, or from 0 to 1000 along either edge.", "choices": ["pixel", "norm1000"]},
    )
    history_images: int = field(default=1, metadata={"help": "Number of newest screenshots in context."})
    episode_steps: int = field(default=15, metadata={"help": "Actions after which an episode is cut off."})
    judge: str | None = field(
        default=None,
        metadata={"help": "Model that judges episodes, at judge_base_url. By default the phone's own state does."},
    )
    judge_base_url: str | None = field(
        default=None,
        metadata={"help": "An OpenAI-compatible endpoint; its key is taken from the variable JUDGE_API_KEY."},
    )
    lora: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of peft.LoraConfig, as JSON or in the YAML file."}
    )
    sft: dict[str, Any] | str | None = field(default=None, metadata={"help": "Arguments of SFTConfig."})
    action: dict[str, Any] | str | None = field(default=None, metadata={"help": "Arguments of GRPOConfig."})
    task: dict[str, Any] | str | None = field(default=None, metadata={"help": "Arguments of MultiTurnGRPOConfig."})
    eval_states: int = field(
        default=500, metadata={"help": "Held-out states on which the action accuracy is measured."}
    )
    eval_tasks: int = field(default=100, metadata={"help": "Held-out tasks on which the success is measured."})
    seed: int = field(default=0, metadata={"help": "Seed of tasks, trajectories and trainers."})

    def __post_init__(self):
        if not self.model:
            raise ValueError("name the model to start from: model, a Hub id or a folder.")
        for name in ("trajectories", "tasks", "history_images", "episode_steps", "eval_states", "eval_tasks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.longest_way is not None and self.longest_way < 2:
            raise ValueError(f"longest_way must be at least 2, got {self.longest_way}: there are no shorter tasks.")
        if not 0.0 <= self.mistakes < 1.0:
            raise ValueError(f"mistakes must be at least 0 and below 1, got {self.mistakes}.")
        if not 0.1 <= self.scale <= 1.0:
            raise ValueError(f"scale must be from 0.1 to 1, got {self.scale}.")
        for name in ("stage", "language", "backend", "coordinate_space"):
            choices = type(self).__dataclass_fields__[name].metadata["choices"]
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}.")
        if (self.judge is None) != (self.judge_base_url is None):
            raise ValueError("judge and judge_base_url go together: a model, and where it answers.")
        for name in ("lora", *STAGES):
            setattr(self, name, _read_settings(name, getattr(self, name)))
        for name in STAGES:
            self.trainer_config(name)

    def trainer_config(self, stage: str) -> Any:
        """
        Configuration of a stage's trainer.

        Args:
            stage (`str`):
                `"sft"`, `"action"` or `"task"`.

        Returns:
            [`~trl.SFTConfig`], [`~trl.GRPOConfig`] or [`MultiTurnGRPOConfig`].

        Raises:
            `ValueError`: For a setting that it does not know, or that the recipe sets itself.
        """
        from trl import GRPOConfig, SFTConfig

        from ..config import MultiTurnGRPOConfig

        types: dict[str, Any] = {"sft": SFTConfig, "action": GRPOConfig, "task": MultiTurnGRPOConfig}
        fixed = {"output_dir": str(self.folder(stage)), "seed": self.seed}
        if stage == "sft":
            fixed["max_length"] = None  # a cut would leave image tokens without their image
        if stage == "task":
            fixed |= {
                "history_images": self.history_images,
                "answer_malformed_calls": True,
                "max_tool_calling_iterations": self.episode_steps,
            }
        given: Any = getattr(self, stage) or {}
        for name in given:
            if name in fixed:
                raise ValueError(f"{stage}.{name} is set by the recipe.")
            if name not in types[stage].__dataclass_fields__:
                raise ValueError(f"{stage}.{name} is no argument of {types[stage].__name__}.")
        on_cpu = {} if torch.accelerator.is_available() else {"use_cpu": True, "bf16": False}
        return types[stage](**{**DEFAULTS[stage], **on_cpu, **given, **fixed})

    @property
    def space(self) -> CoordinateSpace:
        """[`coordinate_space`], as what it is."""
        return cast(CoordinateSpace, self.coordinate_space)

    def folder(self, stage: str) -> Path:
        """Where a stage's checkpoints, model and curves are."""
        return Path(self.output_dir) / stage

    def is_done(self, stage: str) -> bool:
        """Whether a stage has left its model."""
        return (self.folder(stage) / DONE).is_file()

    def start(self, stage: str) -> str:
        """What a stage starts from: the newest model of the stages before it, or the one named."""
        before = STAGES[: STAGES.index(stage)] if stage in STAGES else STAGES
        return next((str(self.folder(name)) for name in reversed(before) if self.is_done(name)), str(self.model))

    def environment(self) -> Any:
        """Factory of the phones of the third stage."""
        from ..environments.phone import PhoneEnvironment, StateBackend

        backend: Any = StateBackend
        if self.backend == "chromium":
            from ..environments.phone.chromium import ChromiumBackend

            backend = ChromiumBackend
        return partial(
            PhoneEnvironment,
            backend,
            scale=self.scale,
            coordinate_space=self.space,
            max_steps=self.episode_steps,
        )


def _read_settings(name: str, given: Any) -> dict[str, Any] | None:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise ValueError(f"{name} must be a JSON object: {error}.") from None
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"{name} must be an object, got {given!r:.100}.")
    return given
