"""Where the critic's backbone comes from: the policy's own first layers, or a model by name."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import is_peft_model
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from .config import ArCHerConfig
from .critic import CausalCritic, Critic, PairCritic, head_factory


def build_critic(args: ArCHerConfig, policy: Any, tokenizer: Any) -> Critic:
    """
    Make the critic that a configuration asks for: the same weights on every process, without touching global randomness.

    Args:
        args ([`ArCHerConfig`]):
            Configuration.
        policy ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Policy, whose first layers are the default backbone.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The policy's tokenizer.

    Returns:
        [`Critic`]: In float32 and evaluation mode (no dropout), on the CPU.

    Raises:
        `ValueError`: If the backbone cannot read the policy's tokens, or too few of them.
    """
    with torch.random.fork_rng(), _outside_zero3(args):
        torch.manual_seed(args.seed)
        if args.critic_model is None:
            backbone = _first_layers(policy)
        else:
            backbone = AutoModel.from_pretrained(
                args.critic_model, dtype=torch.float32, trust_remote_code=args.trust_remote_code
            )
        config = backbone.config.get_text_config()
        max_length = _max_length(args, config)
        own = None
        if args.critic_kind == "pair":
            own = AutoTokenizer.from_pretrained(args.critic_model, trust_remote_code=args.trust_remote_code)
        elif config.vocab_size < len(tokenizer):
            raise ValueError(
                f"critic_model={args.critic_model!r} has {config.vocab_size} tokens and the policy {len(tokenizer)}: a "
                "causal critic reads the policy's tokens, so it must be a model of the same family. Or set "
                "critic_kind='pair', which reads text."
            )
        return assemble_critic(args, backbone, max_length, own, tokenizer)


def assemble_critic(args: Any, backbone: Any, max_length: int, own_tokenizer: Any, policy_tokenizer: Any) -> Critic:
    """
    Put adapter and heads on a backbone.

    Args:
        args (`Any`):
            Has the critic's fields of [`ArCHerConfig`].
        backbone ([`~transformers.PreTrainedModel`]):
            Backbone without adapter.
        max_length (`int`):
            Most tokens in one pass.
        own_tokenizer ([`~transformers.PreTrainedTokenizerBase`] or `None`):
            The backbone's tokenizer; for a pair critic alone.
        policy_tokenizer ([`~transformers.PreTrainedTokenizerBase`] or `None`):
            The policy's tokenizer; for a pair critic alone.

    Returns:
        [`Critic`]: In evaluation mode.
    """
    width = backbone.config.get_text_config().hidden_size
    if args.critic_lora_r is not None:
        lora = LoraConfig(r=args.critic_lora_r, lora_alpha=2 * args.critic_lora_r, target_modules="all-linear")
        backbone = get_peft_model(backbone, lora)
    heads = head_factory(args, width)
    if args.critic_kind == "pair":
        return PairCritic(backbone, width, heads, own_tokenizer, policy_tokenizer, max_length).eval()
    return CausalCritic(backbone, width, heads, max_length).eval()


def build_causal_backbone(args: ArCHerConfig, policy: Any) -> tuple[nn.Module, int]:
    """A second copy of the policy's first layers and its width, as for the token-level baseline."""
    with torch.random.fork_rng(), _outside_zero3(args):
        torch.manual_seed(args.seed + 1)
        backbone = _first_layers(policy)
        return backbone.eval(), backbone.config.get_text_config().hidden_size


def _first_layers(policy: Any) -> Any:
    """A model with a quarter of the policy's layers, at least two, that starts with their weights and its embeddings."""
    base = policy.get_base_model() if is_peft_model(policy) else policy
    values = copy.deepcopy(base.config.get_text_config().to_dict())
    layers = values["num_hidden_layers"]
    kept = min(layers, max(2, layers // 4))
    values["num_hidden_layers"] = kept
    if values.get("layer_types"):
        values["layer_types"] = values["layer_types"][:kept]
    values.pop("quantization_config", None)
    config = AutoConfig.for_model(**values)
    backbone = AutoModel.from_config(config, dtype=torch.float32)
    own = backbone.state_dict()
    with _whole_weights(base):
        # LoRA wraps a layer and calls the original `base_layer`. What has another shape (quantized) stays random.
        given = {name.replace(".base_layer.", "."): value for name, value in base.base_model.state_dict().items()}
        fitting = {
            name: value.detach().float()
            for name, value in given.items()
            if name in own and value.shape == own[name].shape and value.is_floating_point()
        }
        backbone.load_state_dict(fitting, strict=False)
    return backbone


def _max_length(args: ArCHerConfig, config: Any) -> int:
    allowed = getattr(config, "max_position_embeddings", None) or 512
    if args.critic_kind == "pair":
        allowed = min(allowed, 512)  # RoBERTa's 514 positions hold 512 tokens
        return min(args.critic_max_length or allowed, allowed)
    if args.critic_max_length is not None and args.critic_max_length > allowed:
        raise ValueError(
            f"critic_max_length={args.critic_max_length} is more than the backbone's {allowed} positions."
        )
    chosen = args.critic_max_length or allowed
    if args.max_completion_length is not None and chosen <= args.max_completion_length:
        raise ValueError(
            f"The critic reads {chosen} tokens, but a turn and its answer may have max_completion_length="
            f"{args.max_completion_length}: the critic must read at least one more."
        )
    return chosen


@contextmanager
def _outside_zero3(args: ArCHerConfig) -> Iterator[None]:
    """The critic is replicated: under ZeRO-3, transformers would partition its weights while they load."""
    config = getattr(args, "hf_deepspeed_config", None)
    if config is None:  # started by accelerate, which keeps it in its plugin
        config = getattr(getattr(args, "deepspeed_plugin", None), "hf_ds_config", None)
    if config is None:
        yield
        return
    from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(config)


@contextmanager
def _whole_weights(model: nn.Module) -> Iterator[None]:
    """A model that was loaded under ZeRO-3 holds a part of each weight; in this context it holds them all."""
    parts = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
    if not parts:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parts):
        yield
