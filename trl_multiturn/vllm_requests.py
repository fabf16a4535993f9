"""Requests to vLLM in rollouts of several turns, from one process or more.

With `vllm_mode="server"`, and within a group of tensor-parallel processes, TRL sends the prompts of all processes as one
request, and gives each process as many of the completions as it has prompts itself. That is right in the first turn, in
which every process has equally many. Later they have different numbers, and some have none any more.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from accelerate.utils import gather_object


class SharedRequests:
    """
    Has all processes ask vLLM at the same time, for equally many completions.

    Args:
        accelerator ([`~accelerate.Accelerator`]):
            Knows the processes.
        sample (`Callable`):
            TRL's generation of one turn: takes prompts, the images of each (or `None`) and how often each prompt comes.
    """

    def __init__(self, accelerator: Any, sample: Callable[[list, list | None, int], tuple[list, Any]]):
        self.accelerator = accelerator
        self.sample = sample

    def generate(self, prompt_ids: list[list[int]], images: list | None, num_generations: int) -> tuple[list, Any]:
        """
        Complete prompts. While any process calls this, every other one must call it, perhaps with no prompts, or [`finish`].

        Args:
            prompt_ids (`list[list[int]]`):
                Tokens of this process's prompts.
            images (`list` or `None`):
                Images of each prompt.
            num_generations (`int`):
                How often each prompt comes, one after another, counted over all processes.

        Returns:
            `tuple`: Tokens of each completion, and their log-probabilities.
        """
        prints = _fingerprints(prompt_ids, images) if num_generations > 1 else []
        told = gather_object([(len(prompt_ids), prints)])
        counts = [count for count, _ in told if count is not None]
        if not any(counts):
            return [], []
        if len(set(counts)) > 1 or len(counts) < len(told):
            return self._spread(prompt_ids, images)
        # TRL completes the first prompt of each group `num_generations` times. Where an environment's `reset` says something
        # else to each rollout of a row, the others have prompts of their own.
        everybody = [one for _, own in told for one in own]
        groups = [everybody[i : i + num_generations] for i in range(0, len(everybody), num_generations)]
        return self.sample(prompt_ids, images, num_generations if all(len(set(g)) == 1 for g in groups) else 1)

    def finish(self) -> None:
        """Take part in the requests of other processes, whose rollouts go on for longer, until they end."""
        while True:
            counts = [count for count, _ in gather_object([(None, [])]) if count is not None]
            if not counts:
                return
            if any(counts):
                self._spread([], None)

    def _spread(self, prompt_ids: list, images: list | None) -> tuple[list, Any]:
        """Every process has an equal share of all prompts completed, and takes what belongs to its own."""
        counts = gather_object([len(prompt_ids)])
        pool = gather_object(list(zip(prompt_ids, images or [None] * len(prompt_ids), strict=True)))
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        size = -(-len(pool) // world)
        pool += [pool[0]] * (size * world - len(pool))
        share = pool[rank * size : (rank + 1) * size]
        shown = [row for _, row in share]
        written = self.sample([ids for ids, _ in share], shown if any(shown) else None, 1)
        everything = gather_object(list(zip(*written, strict=True)))
        start = sum(counts[:rank])
        own = everything[start : start + len(prompt_ids)]
        return [ids for ids, _ in own], [logprobs for _, logprobs in own]


def _fingerprints(prompt_ids: list[list[int]], images: list | None) -> list[str]:
    """The same for prompts that are the same."""
    found = []
    for ids, row in zip(prompt_ids, images or [None] * len(prompt_ids), strict=True):
        digest = hashlib.sha256(repr(ids).encode())
        for image in row or []:
            digest.update(repr((image.mode, image.size)).encode() + image.tobytes())
        found.append(digest.hexdigest())
    return found


def server_context(client: Any) -> int | None:
    """
    Tokens that a vLLM server takes in a request, prompt and completion.

    Args:
        client ([`~trl.generation.vllm_client.VLLMClient`]):
            Knows the server.

    Returns:
        `int` or `None`: `None` if the server does not say it.
    """
    models = client.session.get(f"{client.base_url}/v1/models", timeout=60).json().get("data") or [{}]
    return models[0].get("max_model_len")


def check_server_context(max_model_len: int, max_completion_length: int, max_tokens: int, has_tools: bool) -> None:
    """
    Check that a vLLM server takes the requests of a rollout's last turns.

    Args:
        max_model_len (`int`):
            Tokens that the server takes, prompt and completion.
        max_completion_length (`int`):
            Tokens that a rollout may have behind its prompt.
        max_tokens (`int`):
            Tokens that each request asks for.
        has_tools (`bool`):
            Whether a rollout may have more than one turn.

    Raises:
        `ValueError`: If it refuses them, however short the prompt is.
    """
    needed = max_tokens + (max_completion_length if has_tools else 0)
    if needed < max_model_len:
        return
    turns = f"up to max_completion_length={max_completion_length} tokens of a rollout, and then " if has_tools else ""
    raise ValueError(
        f"The vLLM server was started with --max-model-len {max_model_len}, but a request holds the prompt, {turns}asks for "
        f"{max_tokens} more. vLLM refuses a request whose sum is above its limit, and the run would end there. Start the server "
        f"with --max-model-len of at least {needed} plus the longest prompt, lower max_completion_length, or bound what one "
        'message may have with generation_kwargs={"max_tokens": ...}.'
    )
