"""Configuration of [`MultiTurnGRPOTrainer`], and of every trainer that stands on it."""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.utils import logging
from trl import GRPOConfig

from .rollouts import StopReason


logger = logging.get_logger(__name__)

_DEFAULT_TOOL_TIMEOUT = 60.0
_DEFAULT_MAX_LOST_SHARE = 0.1


@dataclass
class MultiTurnGRPOConfig(GRPOConfig):
    r"""
    Configuration class for the [`MultiTurnGRPOTrainer`].

    This class includes only the parameters that are specific to multi-turn training. For a full list of training
    arguments, see [`~trl.GRPOConfig`] and [`~transformers.TrainingArguments`]. One default differs from TRL's: on a CPU
    without bfloat16 instructions, or without `use_cpu`, `bf16` is `False` unless it is set.

    Args:
        gamma (`float`, *optional*, defaults to `1.0`):
            Discount per turn, between 0 and 1, of the rewards that come after a turn.
        tool_concurrency (`int`, *optional*, defaults to `64`):
            Number of rollouts whose tool calls run at the same time. `1` is TRL's own behaviour: one rollout after
            another, without time limit.
        tool_timeout (`float`, *optional*):
            Seconds a tool call may take before the model gets an error message in its place. If `None`, 60 when
            `tool_concurrency` is above 1. It cannot be set when `tool_concurrency` is 1.
        stop_policies (`dict[str, str | float]` or `str`, *optional*):
            What to do with a rollout by the reason for which it ended (`"max_turns"`, `"max_tokens"`,
            `"tool_overflow"`, `"parse_error"`, `"environment_error"` or `"completed"`): `"keep"` (the default for all)
            trains on it as it is, `"mask"` leaves it out of the loss, and a number is added to its reward. Given as a
            JSON string on the command line: `'{"tool_overflow": "mask", "max_turns": -0.5}'`.
        answer_malformed_calls (`bool`, *optional*, defaults to `False`):
            Whether a tool call that cannot be parsed is answered with an error, and the rollout goes on. By default it is
            taken for plain text, as in TRL, and the rollout ends as `parse_error`.
        history_images (`int`, *optional*):
            Number of newest images in context when a turn is written; older ones are replaced by a line of text. Each
            turn is trained in the context in which it was written. If `None`, all images stay, as in TRL. Needs a
            vision-language model whose images are grids of patches (the Qwen-VL family).
        max_lost_share (`float`, *optional*):
            Share of a batch's trained tokens, between 0 and 1, that importance sampling may mask or weigh below a tenth
            before there is a warning. If `None`, 0.1 with vLLM. Cannot be set without `use_vllm` and
            `vllm_importance_sampling_correction`.
    """

    _VALID_DICT_FIELDS = GRPOConfig._VALID_DICT_FIELDS + ["stop_policies"]

    gamma: float = field(
        default=1.0,
        metadata={"help": "Discount per turn, between 0 and 1, of the rewards that come after a turn."},
    )
    tool_concurrency: int = field(
        default=64,
        metadata={
            "help": "Number of rollouts whose tool calls run at the same time. 1 is TRL's own behaviour: one rollout "
            "after another, without time limit."
        },
    )
    tool_timeout: float | None = field(
        default=None,
        metadata={
            "help": "Seconds a tool call may take before the model gets an error message in its place. Defaults to 60 "
            "when `tool_concurrency` is above 1; cannot be set when it is 1."
        },
    )
    stop_policies: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "What to do with a rollout by the reason for which it ended, as a JSON object: 'keep', 'mask' "
            "(leave it out of the loss) or a number to add to its reward, for example "
            '\'{"tool_overflow": "mask", "max_turns": -0.5}\'.'
        },
    )

    answer_malformed_calls: bool = field(
        default=False,
        metadata={
            "help": "Whether a tool call that cannot be parsed is answered with an error, and the rollout goes on. By "
            "default it is taken for plain text, as in TRL, and the rollout ends."
        },
    )
    history_images: int | None = field(
        default=None,
        metadata={
            "help": "Number of newest images in context when a turn is written; older ones are replaced by a line of "
            "text. Defaults to all of them."
        },
    )

    max_lost_share: float | None = field(
        default=None,
        metadata={
            "help": "Share of a batch's trained tokens that importance sampling may mask or weigh below a tenth before "
            "there is a warning. Defaults to 0.1 with vLLM; cannot be set without it."
        },
    )

    def __post_init__(self):
        if self.bf16 is None and not self.fp16 and (reason := _why_not_bf16(self.use_cpu)):
            logger.warning_once(f"Training in float32: {reason} Set `bf16=False` to silence this warning.")
            self.bf16 = False
        super().__post_init__()

        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must be between 0 and 1, got {self.gamma}.")
        if self.tool_concurrency < 1:
            raise ValueError(f"tool_concurrency must be at least 1, got {self.tool_concurrency}.")
        if self.tool_concurrency == 1 and self.tool_timeout is not None:
            raise ValueError(
                "tool_timeout has no effect with tool_concurrency=1, where calls run on the main thread and cannot be "
                "given up. Leave tool_timeout unset or raise tool_concurrency."
            )
        if self.tool_concurrency > 1 and self.tool_timeout is None:
            self.tool_timeout = _DEFAULT_TOOL_TIMEOUT
        if self.tool_timeout is not None and self.tool_timeout <= 0:
            raise ValueError(f"tool_timeout must be positive, got {self.tool_timeout}.")
        if self.history_images is not None and self.history_images < 1:
            raise ValueError(f"history_images must be at least 1, got {self.history_images}.")
        if self.use_vllm and "max_new_tokens" in (self.generation_kwargs or {}):
            raise ValueError(
                "vLLM knows no max_new_tokens: write generation_kwargs={'max_tokens': ...} with use_vllm."
            )
        self._check_max_lost_share()
        self.stop_policies = _check_stop_policies(self.stop_policies)

    def _check_max_lost_share(self) -> None:
        if not (self.use_vllm and self.vllm_importance_sampling_correction):
            if self.max_lost_share is not None:
                raise ValueError(
                    "max_lost_share has no effect without use_vllm and vllm_importance_sampling_correction: nothing is lost "
                    "to importance sampling then."
                )
            return
        if self.max_lost_share is None:
            self.max_lost_share = _DEFAULT_MAX_LOST_SHARE
        if not 0.0 <= self.max_lost_share <= 1.0:
            raise ValueError(f"max_lost_share must be between 0 and 1, got {self.max_lost_share}.")

    def masked_stop_reasons(self) -> set[StopReason]:
        """Reasons whose rollouts are left out of the loss."""
        return {StopReason(name) for name, policy in self._policies().items() if policy == "mask"}

    def stop_penalties(self) -> dict[StopReason, float]:
        """What is added to the reward of a rollout that ended for a reason."""
        return {
            StopReason(name): float(policy) for name, policy in self._policies().items() if not isinstance(policy, str)
        }

    def _policies(self) -> dict[str, Any]:
        return self.stop_policies if isinstance(self.stop_policies, dict) else {}  # parsed and checked by now


def cpu_has_bf16() -> bool:
    """Whether this machine's CPU multiplies bfloat16 matrices with instructions of its own."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16"))


def _why_not_bf16(use_cpu: bool) -> str | None:
    """Why TRL's default of bf16=True is not for this machine."""
    if torch.accelerator.is_available() and not use_cpu:
        return None
    if not cpu_has_bf16():
        return (
            "TRL's default is bf16=True, but this CPU has no bfloat16 instructions and would emulate them, up to 160 "
            "times slower."
        )
    if not use_cpu:
        return "TRL's default is bf16=True, but there is no accelerator, and transformers asks for use_cpu=True then."
    return None


def _check_stop_policies(policies: Any) -> dict[str, str | float] | None:
    if policies is None:
        return None
    if not isinstance(policies, dict):
        raise ValueError(f"stop_policies must be a dictionary, got {policies!r}.")
    reasons = [reason.value for reason in StopReason]
    for name, policy in policies.items():
        if name not in reasons:
            raise ValueError(f"stop_policies has an unknown stop reason {name!r}. Expected one of {reasons}.")
        is_number = isinstance(policy, (int, float)) and not isinstance(policy, bool)
        if policy not in ("keep", "mask") and not is_number:
            raise ValueError(f"stop_policies[{name!r}] must be 'keep', 'mask' or a number, got {policy!r}.")
    return {str(name): policy for name, policy in policies.items()}
