"""The trainers of this package with failure replay."""

import textwrap

from ..archer.trainer import ArCHerTrainer
from ..igpo.trainer import IGPOTrainer
from ..trainer import MultiTurnGRPOTrainer
from .config import ReplayArCHerConfig, ReplayGRPOConfig, ReplayIGPOConfig
from .mixin import ReplayMixin


class ReplayGRPOTrainer(ReplayMixin, MultiTurnGRPOTrainer):
    """
    Trainer for GRPO that replays the tasks it failed, after the replay-augmented reinforcement learning of [DeepTravel: An
    End-to-End Agentic Reinforcement Learning Framework for Autonomous Travel Planning
    Agents](https://huggingface.co/papers/2509.21842).

    Tasks that the policy fails are stored and rolled out again periodically, each time by the policy as it is then, until
    they are solved often enough ([`ReplayArguments`]). Drop-in for [`~trl.GRPOTrainer`], for any environment or plain
    prompts.

    Example:

    ```python
    >>> from trl_multiturn import ReplayGRPOConfig, ReplayGRPOTrainer
    >>> from trl_multiturn.environments.travel import TravelEnvironment, generate_tasks
    >>> from trl_multiturn.rewards.verifiers import HierarchicalReward

    >>> trainer = ReplayGRPOTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     reward_funcs=HierarchicalReward(),
    ...     args=ReplayGRPOConfig(output_dir="travel-planner", task_id_column="task_id"),
    ...     train_dataset=generate_tasks(1_000),
    ...     environment_factory=TravelEnvironment,
    ... )
    >>> trainer.train()
    ```

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, as for [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc | list[RewardFunc]`, *optional*):
            Reward functions, as for [`~trl.GRPOTrainer`].
        args ([`ReplayGRPOConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*):
            Dataset of tasks. Its rows go into checkpoints once they are failed: text, numbers, lists and images may be in
            them.
        **kwargs:
            The other arguments of [`~trl.GRPOTrainer`].

    Raises:
        `ValueError`: For a setting that cannot take effect, or if `task_id_column` is not in the dataset.
    """

    _tag_names = ["trl", "trl_multiturn", "replay-grpo"]
    _name = "Replay GRPO"
    _paper = {
        "title": "DeepTravel: An End-to-End Agentic Reinforcement Learning Framework for Autonomous Travel Planning Agents",
        "id": "2509.21842",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @article{ning2025deeptravel,
                title        = {{DeepTravel: An End-to-End Agentic Reinforcement Learning Framework for Autonomous Travel Planning Agents}},
                author       = {Yansong Ning and Rui Liu and Jun Wang and Kai Chen and Wei Li and Jun Fang and Kan Zheng and Naiqiang Tan and Hao Liu},
                year         = 2025,
                eprint       = {arXiv:2509.21842},
            }"""),
    }
    _config_class = ReplayGRPOConfig
    args: ReplayGRPOConfig


class ReplayIGPOTrainer(ReplayMixin, IGPOTrainer):
    """
    [`IGPOTrainer`] that replays the tasks it failed: see [`ReplayGRPOTrainer`]. A rollout's outcome decides whether it
    succeeded; the gains do not.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, as for [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc | list[RewardFunc]`, *optional*):
            Reward functions of the outcome, as for [`~trl.GRPOTrainer`].
        args ([`ReplayIGPOConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Dataset with a `prompt` and an answer column (see `answer_column`).
        **kwargs:
            The other arguments of [`~trl.GRPOTrainer`].
    """

    _tag_names = ["trl", "trl_multiturn", "igpo", "replay"]
    _name = "Replay IGPO"
    _config_class = ReplayIGPOConfig
    args: ReplayIGPOConfig


class ReplayArCHerTrainer(ReplayMixin, ArCHerTrainer):
    """
    [`ArCHerTrainer`] that replays the tasks it failed: see [`ReplayGRPOTrainer`]. Not to be confused with the buffer that its
    critic learns from, which holds rollouts, failed or not.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, as for [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc | list[RewardFunc]`, *optional*):
            Reward functions of the outcome, as for [`~trl.GRPOTrainer`].
        args ([`ReplayArCHerConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Prompts.
        **kwargs:
            The other arguments of [`~trl.GRPOTrainer`].

    Raises:
        `ValueError`: For a setting that cannot take effect, such as `algorithm="offline"`.
    """

    _tag_names = ["trl", "trl_multiturn", "archer", "replay"]
    _name = "Replay ArCHer"
    _config_class = ReplayArCHerConfig
    args: ReplayArCHerConfig
