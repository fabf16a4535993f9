"""Logged trajectories for offline training, from a dataset of messages or of tokens."""

import math
from typing import Any

import torch
from tqdm.auto import tqdm
from trl.chat_template_utils import get_training_chat_template

from ..rollouts import find_turns
from .buffer import Trajectory


def logged_trajectories(dataset: Any, tokenizer: Any, tools: list[Any] | None = None) -> list[Trajectory]:
    """
    Read the trajectories of a dataset.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            One row for each trajectory, with

            - `prompt` and `completion`, lists of messages: what the assistant said in `completion` are the turns, the
              rest is the environment's; or `prompt_ids`, `completion_ids` and `completion_mask`, lists of integers, the
              mask being 1 where the model wrote;
            - with messages optionally `tools`, the schemas that this prompt showed, in place of those below;
            - `turn_rewards`, a number for each turn, or `reward`, the outcome, which the last turn gets;
            - optionally `terminated` (defaults to `True`): `False` if the trajectory was cut off.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The policy's tokenizer, whose chat template renders the messages; TRL's version of it where the template itself
            renders earlier messages differently once later ones follow (Qwen3's drops what was thought).
        tools (`list`, *optional*):
            Tools that the chat template shows.

    Returns:
        `list[Trajectory]`

    Raises:
        `ValueError`: If a row lacks what is needed, or the chat template changes what it rendered before when a message
            is added.
    """
    template = _prefix_preserving_template(tokenizer)
    trajectories = []
    for number, row in enumerate(tqdm(dataset, desc="Reading trajectories", leave=False, disable=None)):
        try:
            trajectories.append(_read(row, tokenizer, tools, template))
        except (KeyError, TypeError, ValueError) as error:
            what = f"has no column {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"Row {number} of the logged trajectories: {what}") from error
    if not trajectories:
        raise ValueError("The dataset holds no trajectory.")
    return trajectories


def no_reward(completions: list[Any], **kwargs: Any) -> list[None]:
    """Reward function for TRL, which asks for one: the rewards of logged trajectories are in the dataset."""
    return [None] * len(completions)


def _read(row: dict[str, Any], tokenizer: Any, tools: list[Any] | None, template: str | None) -> Trajectory:
    if "completion_ids" in row:
        prompt, completion, mask = row["prompt_ids"], row["completion_ids"], row["completion_mask"]
    else:
        prompt, completion, mask = _render(
            row["prompt"], row["completion"], tokenizer, row.get("tools") or tools, template
        )
    if not prompt or len(completion) != len(mask) or not any(mask):
        raise ValueError("the prompt is empty, no turn is the assistant's, or completion_mask has another length.")
    turns = [turn for turn in find_turns(list(mask)) if turn.end > turn.start]
    rewards = _rewards(row, len(turns))
    offset = len(prompt)
    terminated = bool(row.get("terminated", True))
    return Trajectory(
        torch.tensor([*prompt, *completion], dtype=torch.int32),
        torch.tensor([[offset + t.start, offset + t.end, offset + t.context_end] for t in turns], dtype=torch.int32),
        torch.tensor(rewards, dtype=torch.float32),
        terminated=terminated,
        truncated=not terminated,
        policy_version=0,
    )


def _rewards(row: dict[str, Any], num_turns: int) -> list[float]:
    if row.get("turn_rewards") is not None:
        rewards = [float(reward) for reward in row["turn_rewards"]]
    elif row.get("reward") is not None:
        rewards = [0.0] * (num_turns - 1) + [float(row["reward"])]
    else:
        raise ValueError("has neither turn_rewards nor reward.")
    if len(rewards) != num_turns:
        raise ValueError(f"has {len(rewards)} turn_rewards for {num_turns} turns.")
    if not all(map(math.isfinite, rewards)):
        raise ValueError("has a reward that is not a finite number.")
    return rewards


def _render(
    prompt: list[dict[str, Any]],
    completion: list[dict[str, Any]],
    tokenizer: Any,
    tools: list[Any] | None,
    template: str | None,
) -> tuple[list[int], list[int], list[int]]:
    """Tokens of prompt and completion, and where the assistant wrote: from its header's end to its message's end."""

    def render(messages: list[dict[str, Any]], generate: bool) -> list[int]:
        return tokenizer.apply_chat_template(
            _without_nones(messages),
            tools=tools or None,
            chat_template=template,
            add_generation_prompt=generate,
            tokenize=True,
            return_dict=False,
        )

    first = next((i for i, message in enumerate(completion) if message["role"] == "assistant"), None)
    if first is None:
        raise ValueError("completion has no message of the assistant.")
    prompt_ids = render([*prompt, *completion[:first]], True)
    tokens, mask = list(prompt_ids), [0] * len(prompt_ids)
    for i, message in enumerate(completion):
        if message["role"] != "assistant":
            continue
        before = render([*prompt, *completion[:i]], True)
        after = render([*prompt, *completion[: i + 1]], False)
        if before[: len(tokens)] != tokens or after[: len(before)] != before:
            raise ValueError(
                "the chat template renders earlier messages differently once later ones follow, so what the model saw "
                "cannot be told. Give the columns prompt_ids, completion_ids and completion_mask instead."
            )
        written = after[len(before) :]
        end = max((k + 1 for k, token in enumerate(written) if token == tokenizer.eos_token_id), default=len(written))
        mask += [0] * (len(before) - len(tokens)) + [1] * end
        tokens = [*before, *written[:end]]
    return prompt_ids, tokens[len(prompt_ids) :], mask[len(prompt_ids) :]


def _prefix_preserving_template(tokenizer: Any) -> str | None:
    """TRL's version of the tokenizer's chat template, if it has one; `None` for the tokenizer's own."""
    if not tokenizer.chat_template:
        return None
    try:
        return get_training_chat_template(tokenizer)
    except ValueError:  # a template that TRL does not know: whether it preserves prefixes is checked row by row
        return None


def _without_nones(value: Any) -> Any:
    """`datasets` fills in a null for each key that another row's message, or the arguments of another call, have."""
    if isinstance(value, dict):
        return {key: _without_nones(item) for key, item in value.items() if item is not None}
    return [_without_nones(item) for item in value] if isinstance(value, list) else value
