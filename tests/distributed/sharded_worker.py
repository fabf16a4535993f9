"""A run under DeepSpeed or FSDP2 on processes without a GPU: trained, saved, resumed, saved again.

The policy really generates, in every turn, and what it wrote is then replaced by what the script says: otherwise no pass
of a sharded model would be in danger of waiting for another process.
"""

import json
import os
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from peft import LoraConfig
from trl import GRPOTrainer

from tests.tiny import (
    Counter,
    QuietCounter,
    Recorded,
    Scripted,
    answer_length,
    build_model,
    build_tokenizer,
    dataset,
    settings,
)

from .worker import CRITIC, REPLAY, TRAINERS, Placed


class Run(Recorded):
    """Lets the policy generate, which `Scripted` does not."""

    def _generate_single_turn(self, *args, **kwargs):
        return super(Scripted, self)._generate_single_turn(*args, **kwargs)


def generate_for_real(generate):
    def generate_and_replace(self, prompt_ids, *args, **kwargs):
        completions, _ = generate(self, prompt_ids, *args, **kwargs)
        assert len(completions) == len(prompt_ids) and all(completions)
        self.generated = getattr(self, "generated", 0) + 1
        return Placed._generate_single_turn(self, prompt_ids, *args, **kwargs)

    return generate_and_replace


def prepare() -> bool:
    """Has accelerate take CPUs for what DeepSpeed and FSDP run on. Returns whether the model is prepared by them."""
    state = PartialState(cpu=True)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # Accelerate passes over FSDP where there is no accelerator; FSDP itself runs on CPUs.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        return True
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import deepspeed.comm

        # It would compile an operation on shared memory, for speed.
        sys.modules[f"{deepspeed.comm.__name__}.torch"].build_shm_op = lambda: None
        return True
    assert state.num_processes == 1
    return False


def make(method: str, kind: str, folder: Path, is_prepared: bool, **options):
    trainer_class, config_class = TRAINERS[method]
    processes = PartialState().num_processes
    if "archer" in method:
        options |= CRITIC
    if "replay" in method:
        options |= REPLAY | {"replay_every": 1}
    if is_prepared:
        options |= {"use_cpu": False, "accelerator_config": {"use_configured_state": True}}
    tokenizer = build_tokenizer()
    model = str(folder.parent / "policy") if "loaded" in kind else build_model(tokenizer)
    return type("Trainer", (Run, trainer_class), {})(
        model=model,
        reward_funcs=answer_length,
        args=config_class(
            **settings(
                folder,
                per_device_train_batch_size=8 // processes,
                max_completion_length=128,
                generation_kwargs={"max_new_tokens": 8},  # replaced anyway
                learning_rate=1e-3,
                model_init_kwargs={"dtype": "float32"} if isinstance(model, str) else None,
                **options,
            )
        ),
        train_dataset=dataset(16, answers=["Paris"] * 16),
        processing_class=tokenizer,
        environment_factory=QuietCounter if "igpo" in method else Counter,
        peft_config=LoraConfig(r=4, lora_alpha=8, target_modules="all-linear") if "lora" in kind else None,
    )


def losses(trainer) -> list[list[float]]:
    return [[entry["loss"], entry["grad_norm"]] for entry in trainer.state.log_history if "loss" in entry]


def main(case: str, folder: str) -> None:
    """`case`: trainer, colon, and what the policy is: full or lora, with `_loaded` if it comes from a folder."""
    method, kind = case.split(":")
    GRPOTrainer._generate_single_turn = generate_for_real(GRPOTrainer._generate_single_turn)
    is_prepared = prepare()
    first = make(method, kind, Path(folder, "run"), is_prepared, save_strategy="steps", save_steps=2)
    first.train()
    first.save_model(str(Path(folder, "final")))
    told = {
        "processes": first.accelerator.num_processes,
        "type": str(first.accelerator.distributed_type),
        "model": type(first.model_wrapped).__name__,
        "generated": first.generated,
        "losses": losses(first),
    }
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":  # a process has one accelerator with it
        AcceleratorState._reset_state()
    second = make(method, kind, Path(folder, "run"), is_prepared)
    second.train(resume_from_checkpoint=str(Path(folder, "run", "checkpoint-2")))
    second.save_model(str(Path(folder, "resumed")))
    told["resumed"] = losses(second)
    if PartialState().is_main_process:
        Path(folder, f"told_{told['processes']}.json").write_text(json.dumps(told))
