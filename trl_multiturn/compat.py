"""The contract with TRL: every private name of it that this package stands on, checked once at import."""

import importlib.metadata
import inspect

from packaging.specifiers import SpecifierSet


SUPPORTED_TRL = SpecifierSet(">=1.16,<1.17")

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
    "_get_per_token_logps_and_entropies": [
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
        "compute_aux_loss",
        "pixel_values",
        "image_grid_thw",
        "num_images",
        "pixel_attention_mask",
        "spatial_shapes",
        "num_tiles",
        "image_sizes",
        "token_type_ids",
        "mm_token_type_ids",
        "image_position_ids",
    ],
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

    changes = []
    for name, expected in METHODS.items():
        method = getattr(GRPOTrainer, name, None)
        if method is None:
            changes.append(f"GRPOTrainer.{name} is gone")
            continue
        found = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
        if found != expected:
            changes.append(f"GRPOTrainer.{name} takes ({', '.join(found)}) instead of ({', '.join(expected)})")
    return changes
