"""A trained critic in a folder of its own, to score trajectories with later."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from .backbones import assemble_critic
from .config import ArCHerConfig
from .critic import Critic, PairCritic


_WEIGHTS = "critic.safetensors"
_SETTINGS = "critic.json"
_KEPT = ("critic_kind", "critic_head", "value_min", "value_max", "value_bins", "critic_lora_r", "gamma")


def save_critic(critic: Critic, args: ArCHerConfig, folder: str | os.PathLike) -> None:
    """
    Write a critic's weights and what it takes to build it again.

    Args:
        critic ([`Critic`]):
            Critic to save.
        args ([`ArCHerConfig`]):
            Configuration it was built from.
        folder (`str` or `os.PathLike`):
            Where to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    backbone: Any = critic.backbone
    settings = {name: getattr(args, name) for name in _KEPT}
    settings |= {"max_length": critic.max_length, "backbone": backbone.config.get_text_config().to_dict()}
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=2, sort_keys=True, default=str), encoding="utf-8")
    save_file({name: value.contiguous().cpu() for name, value in critic.state_dict().items()}, folder / _WEIGHTS)
    if isinstance(critic, PairCritic):
        critic.tokenizer.save_pretrained(folder)


def load_critic(folder: str | os.PathLike, policy_tokenizer: Any = None) -> Critic:
    """
    Read a critic that was saved with `push_critic=True`.

    Args:
        folder (`str` or `os.PathLike`):
            Folder `critic` of the saved model.
        policy_tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            The policy's tokenizer, which a pair critic needs.

    Returns:
        [`Critic`]: In float32 and evaluation mode, on the CPU.

    Raises:
        `ValueError`: If a pair critic is to be read without the policy's tokenizer.
    """
    folder = Path(folder)
    settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    args = SimpleNamespace(**settings)
    own = None
    if args.critic_kind == "pair":
        if policy_tokenizer is None:
            raise ValueError("A pair critic reads text: give the policy's tokenizer as policy_tokenizer.")
        own = AutoTokenizer.from_pretrained(folder)
    backbone = AutoModel.from_config(AutoConfig.for_model(**args.backbone), dtype=torch.float32)
    critic = assemble_critic(args, backbone, args.max_length, own, policy_tokenizer)
    critic.load_state_dict(load_file(folder / _WEIGHTS))
    return critic
