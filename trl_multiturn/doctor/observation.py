"""What was seen of one generation batch: the only thing that the checks look at."""

from dataclasses import dataclass, field
from typing import Any

import torch

from ..rollouts import Rollouts
from .chat import Chat


@dataclass
class Scored:
    """
    What the loss was computed from, for one rollout. T completion tokens.

    Args:
        trained (`list[bool]`):
            Whether the loss takes the token.
        advantages (`list[float]`):
            What its log-probability is multiplied with.
        logps (`list[float]`):
            Log-probability of each token in the pass that the gradient is taken of.
        sampling_logps (`list[float]` or `None`):
            Log-probability with which the generation backend sampled each token, if it says so (vLLM).
        ratio (`list[float]` or `None`):
            What the loss of each token is multiplied with, to correct for the backend's; one value for the whole rollout
            in the sequence modes.
        image_tokens (`int`):
            Image tokens in prompt and completion.
        image_features (`int` or `None`):
            Image tokens that its images make up; `None` if the batch has no images.
    """

    trained: list[bool]
    advantages: list[float]
    logps: list[float]
    sampling_logps: list[float] | None = None
    ratio: list[float] | None = None
    image_tokens: int = 0
    image_features: int | None = None


@dataclass
class Gradient:
    """
    Gradient of the batch's loss.

    Args:
        loss (`float`):
            Loss, summed over micro-batches.
        norm (`float`):
            Norm over all trained parameters.
        trained (`int`):
            Parameters that are trained.
        total (`int`):
            All parameters.
        untouched (`list[str]`):
            Trained tensors that got no gradient at all.
        broken (`list[str]`):
            Tensors with a gradient that is not finite.
        failed (`str`):
            What the loss or its gradient raised; empty if nothing.
    """

    loss: float
    norm: float
    trained: int
    total: int
    untouched: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    failed: str = ""


@dataclass
class Setup:
    """
    Facts about the model and its configuration.

    Args:
        dtypes (`dict[str, int]`):
            Number of parameters by dtype.
        dropout (`dict[str, float]`):
            Dropout modules that are active during training: probability by name.
        adapters (`list[str]`):
            Names of the adapters; empty without PEFT.
        adapter_trained (`int`):
            Trained parameters of adapters.
        context_window (`int` or `None`):
            Positions that the model knows.
        emulates_bf16 (`bool`):
            Whether it computes in bfloat16 on a CPU without instructions for it.
        sampling (`dict[str, Any]`):
            What the generation backend was told: temperature, top_p, top_k, min_p, repetition_penalty, do_sample.
    """

    dtypes: dict[str, int]
    dropout: dict[str, float]
    adapters: list[str]
    adapter_trained: int
    context_window: int | None
    emulates_bf16: bool
    sampling: dict[str, Any]


@dataclass
class Observation:
    """
    One generation batch. B rollouts of this process, N of all, K turns, F reward functions.

    Args:
        args ([`MultiTurnGRPOConfig`]):
            Configuration of the trainer.
        method (`set[str]`):
            What the trainer does beside GRPO: `"igpo"`, `"archer"`, `"replay"`.
        chat ([`Chat`]):
            Tokenizer and chat template.
        setup ([`Setup`]):
            Facts about the model.
        gradient ([`Gradient`]):
            Gradient of the loss.
        metrics (`dict[str, float]`):
            What the batch logged.
        rollouts ([`Rollouts`] or `None`):
            The rollouts; `None` if the trainer does not roll out.
        turn_rewards (`torch.Tensor` of shape `(B, K)` or `None`):
            Reward of each turn.
        turn_advantages (`torch.Tensor` of shape `(B, K)` or `None`):
            Advantage of each turn.
        all_rewards (`torch.Tensor` of shape `(N, F)` or `None`):
            Rewards by function, of all processes.
        all_outcomes (`torch.Tensor` of shape `(N,)` or `None`):
            Their weighted sums.
        signal (`torch.Tensor` of shape `(N,)` or `None`):
            Largest absolute advantage of each rollout's turns, of all processes.
        sampled (`list[list[bool]]` or `None`):
            For each completion token whether the policy sampled it; `None` if that could not be seen (`rollout_func`).
        sampling_logps (`list[list[float]]` or `None`):
            Log-probability with which each token was sampled, NaN where it was not seen; `None` if nowhere.
        scored (`list[Scored | None]`):
            What the loss was computed from, for each rollout; `None` where it trains on something else.
        image_mismatch (`bool`):
            Whether TRL dropped the images of the batch.
        extra (`dict[str, Any]`):
            What only some method has, by name.
    """

    args: Any
    method: set[str]
    chat: Chat
    setup: Setup
    gradient: Gradient
    metrics: dict[str, float]
    rollouts: Rollouts | None = None
    turn_rewards: torch.Tensor | None = None
    turn_advantages: torch.Tensor | None = None
    all_rewards: torch.Tensor | None = None
    all_outcomes: torch.Tensor | None = None
    signal: torch.Tensor | None = None
    sampled: list[list[bool]] | None = None
    sampling_logps: list[list[float]] | None = None
    scored: list[Scored | None] = field(default_factory=list)
    image_mismatch: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
