"""What one generation batch produced, as plain data: rollouts, their turns, and why each one ended."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence


class StopReason(str, Enum):
    """Why a rollout ended."""

    COMPLETED = "completed"
    """The model finished its last message and asked for no tool."""
    MAX_TURNS = "max_turns"
    """The model asked for another tool after `max_tool_calling_iterations`."""
    MAX_TOKENS = "max_tokens"
    """The rollout ran out of `max_completion_length` while the model was writing."""
    TOOL_OVERFLOW = "tool_overflow"
    """The tool's result did not fit into what was left of `max_completion_length`, and TRL dropped it."""
    PARSE_ERROR = "parse_error"
    """The last message opens a tool call that cannot be parsed, so it was taken for plain text."""
    ENVIRONMENT_ERROR = "environment_error"
    """A tool of the rollout's environment did not return within `tool_timeout`, or the environment was lost; it was given up."""


@dataclass(frozen=True)
class Turn:
    """
    One assistant message of a rollout, and what the environment answered to it.

    Args:
        start (`int`):
            First token of the message, counted in completion tokens.
        end (`int`):
            Token after the message's last one. `start == end` for the turn that never came: a rollout cut off right
            after a tool result ends in such an empty turn, which carries the outcome and trains no token.
        context_end (`int`):
            Token after what the environment answered: where the next turn begins, or the completion's length.
    """

    start: int
    end: int
    context_end: int


def find_turns(model_mask: list[int]) -> list[Turn]:
    """
    Split a completion into turns: one for each maximal run of model tokens.

    Args:
        model_mask (`list[int]`):
            1 for each token the model generated, 0 for each token of the environment (TRL's `tool_mask`).

    Returns:
        `list[Turn]`: At least one turn; an empty last one if the completion ends with the environment's tokens.
    """
    length = len(model_mask)
    starts = [i for i in range(length) if model_mask[i] and (i == 0 or not model_mask[i - 1])]
    ends = [i + 1 for i in range(length) if model_mask[i] and (i + 1 == length or not model_mask[i + 1])]
    if not ends or ends[-1] != length:
        starts.append(length)
        ends.append(length)
    return [Turn(s, e, c) for s, e, c in zip(starts, ends, [*starts[1:], length], strict=True)]


@dataclass
class Rollouts:
    """
    The rollouts of one generation batch on this process. B rollouts, K turns (of the longest one), F reward functions.

    Args:
        rows (`list[dict]`):
            Dataset row of each rollout.
        prompts (`list`):
            Prompt of each rollout as it was rendered: messages or text, what the environment's `reset` said included.
        completions (`list`):
            Completion of each rollout: messages (assistant and tool) or text.
        prompt_ids (`list[list[int]]`):
            Prompt tokens, without padding.
        completion_ids (`list[list[int]]`):
            Completion tokens as they were generated, without padding.
        model_masks (`list[list[int]]`):
            For each completion token 1 if the model generated it, 0 if the environment did.
        turns (`list[list[Turn]]`):
            Turns of each rollout: [`find_turns`] of its mask.
        stop_reasons (`list[StopReason]`):
            Why each rollout ended.
        environments (`list` or `None`):
            Environment of each rollout.
        environment_rewards (`list[list[float]]` or `None`):
            What each environment's `turn_rewards` said each turn was worth, padded with 0 to the rollout's turns;
            `None` when no environment of the batch has `turn_rewards`.
        group_size (`int`):
            Rollouts per prompt; consecutive over all processes.
        rewards (`torch.Tensor` of shape `(B, F)`):
            Reward by function, NaN where a function does not apply.
        reward_names (`list[str]`):
            Name of each reward function.
        outcomes (`torch.Tensor` of shape `(B,)`):
            Weighted sum of the rewards, NaN where no function applied.
        advantages (`torch.Tensor` of shape `(B,)`):
            TRL's group advantage of each rollout.
        is_training (`bool`):
            `False` during evaluation.
    """

    rows: list[dict[str, Any]]
    prompts: list[Any]
    completions: list[Any]
    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    model_masks: list[list[int]]
    turns: list[list[Turn]]
    stop_reasons: list[StopReason]
    environments: list[Any] | None
    environment_rewards: list[list[float]] | None
    group_size: int
    rewards: torch.Tensor
    reward_names: list[str]
    outcomes: torch.Tensor
    advantages: torch.Tensor
    is_training: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def max_turns(self) -> int:
        """K, the number of turns of the longest rollout of this process."""
        return max(len(turns) for turns in self.turns)

    @property
    def turn_mask(self) -> torch.Tensor:
        """`(B, K)` bool tensor: `True` where the rollout has that turn."""
        lengths = torch.tensor([len(turns) for turns in self.turns], device=self.outcomes.device)
        return torch.arange(self.max_turns, device=lengths.device).unsqueeze(0) < lengths.unsqueeze(1)

    @property
    def written_mask(self) -> torch.Tensor:
        """`(B, K)` bool tensor: `True` where the rollout has that turn and the model wrote a token of it."""
        mask = torch.zeros(len(self), self.max_turns, dtype=torch.bool)
        for row, turns in enumerate(self.turns):
            for k, turn in enumerate(turns):
                mask[row, k] = turn.end > turn.start
        return mask.to(self.outcomes.device)

    @property
    def turn_spans(self) -> list[list[tuple[int, int]]]:
        """`(start, end)` of each turn in completion tokens."""
        return [[(turn.start, turn.end) for turn in turns] for turns in self.turns]


@dataclass
class TrainingBatch:
    """
    Sequences to train on that were not rolled out just now. B sequences.

    Args:
        prompt_ids (`list[list[int]]`):
            Prompt tokens, without padding.
        completion_ids (`list[list[int]]`):
            Completion tokens, without padding.
        model_masks (`list[list[int]]`):
            For each completion token 1 if it is trained on, 0 otherwise.
        token_advantages (`list[list[float]]`):
            What the loss multiplies each completion token's log-probability with.
    """

    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    model_masks: list[list[int]]
    token_advantages: list[list[float]]

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def padded(self, pad_token_id: int, device: torch.device | str) -> dict[str, torch.Tensor]:
        """
        The sequences as TRL's loss takes them. P tokens of the longest prompt, T of the longest completion.

        Args:
            pad_token_id (`int`):
                Token to pad with.
            device (`torch.device` or `str`):
                Where to put them.

        Returns:
            `dict[str, torch.Tensor]`: `prompt_ids` and `prompt_mask` of shape `(B, P)`, padded on the left, and
            `completion_ids`, `completion_mask`, `tool_mask` and `advantages` of shape `(B, T)`, padded on the right.
        """

        def pad(rows: list[list[Any]], value: float, side: str) -> torch.Tensor:
            tensors = [torch.tensor(row) for row in rows]
            return pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side).to(device)

        def ones(rows: list[list[int]]) -> list[list[int]]:
            return [[1] * len(row) for row in rows]

        return {
            "prompt_ids": pad(self.prompt_ids, pad_token_id, "left"),
            "prompt_mask": pad(ones(self.prompt_ids), 0, "left"),
            "completion_ids": pad(self.completion_ids, pad_token_id, "right"),
            "completion_mask": pad(ones(self.completion_ids), 0, "right"),
            "tool_mask": pad(self.model_masks, 0, "right"),
            "advantages": pad(self.token_advantages, 0.0, "right"),
        }
