"""The contract with TRL: every private name of it that this package stands on, checked once at import."""

import importlib.metadata
import inspect
from collections.abc import Mapping

from packaging.specifiers import SpecifierSet


SUPPORTED_TRL = SpecifierSet(">=1.14.2,!=1.15.*,<1.17")

# Method of `GRPOTrainer` -> parameters that our overrides receive or pass on, in order.
METHODS = {
    "_get_train_sampler": ["dataset"],
    "_tokenize_prompts": ["prompts"],
    "_generate": ["prompts"],
    "_tool_call_loop": [
        "prompts",
        "prompt_ids",
        "completion_ids",
        "completions",
        "logprobs",
        "images",
        "multimodal_fields",
    ],
    "_generate_single_turn": [
        "prompt_ids",
        "images",
        "multimodal_fields",
        "num_generations",
        "has_tool_images",
    ],
    "_get_tool_suffix_ids": ["tool_messages"],
    "_calculate_rewards": ["inputs", "prompts", "completions", "completion_ids_list"],
    "_generate_and_score_completions": ["inputs"],
    "_get_output_dir": ["trial"],
    "_save_checkpoint": ["model", "trial"],
    "_push_from_checkpoint": ["checkpoint_folder"],
    "_finish_current_push": [],
    "_save_optimizer_and_scheduler": ["output_dir"],
    "_load_optimizer_and_scheduler": ["checkpoint"],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "_load_best_model": [],
    "get_off_policy_mask": [
        "advantages",
        "per_token_logps",
        "sampling_per_token_logps",
        "mask",
        "off_policy_threshold",
    ],
}

# Method that our override hands everything on to, whatever TRL calls its parameters -> positional arguments, and names of those
# that we look at or pass by name.
CALLS = {
    "_get_per_token_logps_and_entropies": (
        ["model", "input_ids", "attention_mask", "logits_to_keep"],
        ["batch_size", "pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids"],
    ),
}

# Keys of the dictionary that `_generate_and_score_completions` returns, and attributes of a trainer, that we read.
# They exist only in a running trainer, so the tests check them.
OUTPUT_KEYS = ["completion_ids", "completion_mask", "advantages", "num_items_in_batch"]
ATTRIBUTES = [
    "_buffered_inputs",
    "_environment_pool",
    "_has_async_funcs",
    "_image_pad_token_id",
    "_is_vlm",
    "_logs",
    "_metrics",
    "_pending_extra_logs",
    "_pending_metrics",
    "_prepare_inputs",
    "_step",
    "_sync_tool_dicts",
    "_async_tool_dicts",
    "_tokenizer",
    "environment_factories",
    "environments",
    "eos_token_ids",
    "generation_config",
    "log_multimodal",
    "max_tool_calling_iterations",
    "num_generations",
    "num_generations_eval",
    "reward_func_names",
    "reward_weights",
    "temperature",
    "tools",
    "use_vllm",
    "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode",
    "vllm_mode",
]


def check_trl() -> None:
    """
    Check the installed TRL against the contract.

    Raises:
        `ImportError`: One line saying what is installed, what is supported, and what is different.
    """
    installed = importlib.metadata.version("trl")
    changes = contract_changes()
    if not SUPPORTED_TRL.contains(installed, prereleases=True):
        changes.insert(0, "the version is outside the range that was tested")
    if changes:
        raise ImportError(
            f"trl_multiturn supports trl{SUPPORTED_TRL}, but trl {installed} is installed: {'; '.join(changes)}. "
            f"Install a supported one with `pip install 'trl{SUPPORTED_TRL}'`."
        )


def contract_changes() -> list[str]:
    """
    What the installed TRL has changed of the methods that this package overrides.

    Returns:
        `list[str]`: One phrase for each difference; empty if there is none.
    """
    from trl import GRPOTrainer

    changes = [f"GRPOTrainer.{name} is gone" for name in (*METHODS, *CALLS) if not hasattr(GRPOTrainer, name)]
    for name, expected in METHODS.items():
        found = [p for p in _parameters(GRPOTrainer, name) if p != "self"]
        if hasattr(GRPOTrainer, name) and found != expected:
            changes.append(f"GRPOTrainer.{name} takes ({', '.join(found)}) instead of ({', '.join(expected)})")
    for name, (positional, named) in CALLS.items():
        if hasattr(GRPOTrainer, name) and not _takes(GRPOTrainer, name, positional, named):
            changes.append(f"GRPOTrainer.{name} does not take ({', '.join([*positional, *named])})")
    return changes


def _parameters(trainer: type, name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(trainer, name, lambda: None)).parameters


def _takes(trainer: type, name: str, positional: list[str], named: list[str]) -> bool:
    """Whether a call has a place for every argument, and the positional ones are not named in another order."""
    found = [p.name for p in _parameters(trainer, name).values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    try:
        inspect.signature(getattr(trainer, name)).bind("self", *positional, **dict.fromkeys(named))
    except TypeError:
        return False
    return all(own == theirs for own, theirs in zip(positional, found, strict=False))
