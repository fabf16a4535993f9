"""What the methods cost on models of Qwen2.5's shapes with random weights: seconds, shares of a step, peak memory.

    python -m benchmarks.gpu_cost scoring --size 0.5b --tokens 8192 16384 32768 --check
    python -m benchmarks.gpu_cost step --size 0.5b --tokens 8192 --check
    python -m benchmarks.gpu_cost step --size 7b --tokens 32768 --lora --attention flash_attention_2

`scoring`: all beliefs of one rollout on one pass, against a pass for each turn, and against a plain pass for log-probabilities as
GRPO makes it (TRL's fused head, no gradients), with the peak memory of each. `step`: training steps of GRPO (TRL's own), IGPO,
ReplayGRPO and ArCHer on the same made-up rollouts, in a process each: the share of a step that scoring, the critic and replay take, and
peak memory against GRPO's. The policy writes its tokens by `generate`, turn by turn as TRL's tool loop asks for them; what the
environment answers is random.

On a GPU memory is the most that torch has allocated. On a CPU (`--size tiny` or `small`) it is counted by torch's profiler in `scoring`
and is the process's largest resident size in `step`. TRL's head makes all logits there; so the same pass without a head (`backbone`) is
what the memory of the single pass is held against. Random weights do: time depends on shapes alone. With `--check` the exit status
is 1 where an aim is missed: scoring 5 times faster than a pass a turn, under 5 percent of a step, peak memory within 10 percent.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch


SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2, "num_attention_heads": 2},
    "small": {"hidden_size": 256, "intermediate_size": 1390, "num_hidden_layers": 4, "num_attention_heads": 4},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "3b": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
}
KEY_VALUE_HEADS = {"tiny": 1, "small": 1, "7b": 4}  # the others have 2
VOCABULARY = {"tiny": 4096, "small": 4096, "7b": 152064}  # the others have 151,936
PREFIX_TOKENS, ANSWER_TOKENS = 12, 4
METHODS = ("grpo", "igpo", "replay", "archer")


def build_model(options: argparse.Namespace, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM, Qwen2Config

    config = Qwen2Config(
        **SHAPES[options.size],
        num_key_value_heads=KEY_VALUE_HEADS.get(options.size, 2),
        vocab_size=VOCABULARY.get(options.size, 151936),
        tie_word_embeddings=options.size != "7b",
        max_position_embeddings=131072,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(options.seed)
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=options.attention, dtype=dtype)
    return model


def clock(options: argparse.Namespace) -> float:
    if options.device != "cpu":
        torch.cuda.synchronize()
    # Others on the machine do not count.
    return time.process_time() if options.device == "cpu" else time.perf_counter()


def peak_bytes(function: Callable[[], Any], device: str) -> int:
    """Most memory that tensors take while the function runs: on a GPU all of them, on a CPU those it makes."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


# --- scoring


def measure_scoring(options: argparse.Namespace) -> list[dict[str, Any]]:
    """For each length: seconds and peak memory of a plain pass, the single pass and a pass a turn."""
    from trl.trainer.utils import add_fused_lm_head

    from trl_multiturn.igpo.belief import score_beliefs

    model = build_model(options, torch.float32 if options.device == "cpu" else torch.bfloat16).eval()
    add_fused_lm_head(model)
    weights = sum(parameter.nbytes for parameter in model.parameters()) if options.device == "cpu" else 0
    generator = torch.Generator().manual_seed(options.seed)

    def ids(*shape: int) -> list[Any]:
        return torch.randint(model.config.vocab_size, shape, generator=generator).tolist()

    results = []
    for tokens in options.tokens:
        sequences = ids(options.rows, tokens)
        ends = [[tokens * (turn + 1) // options.turns for turn in range(options.turns)]] * options.rows
        answers, prefix = ids(options.rows, ANSWER_TOKENS), ids(PREFIX_TOKENS)

        @torch.no_grad()
        def plain(sequences: Any = sequences) -> None:
            batch = torch.tensor(sequences, device=options.device)
            model(input_ids=batch, attention_mask=torch.ones_like(batch), labels=batch, fused_lm_head=True)

        @torch.no_grad()
        def backbone(sequences: Any = sequences) -> None:
            model.model(input_ids=torch.tensor(sequences, device=options.device), use_cache=False)

        def score(method: str, rollouts: Any = (sequences, ends, answers), prefix: Any = prefix) -> Any:
            return score_beliefs(model, *rollouts, prefix=prefix, batch_size=options.rows, method=method)

        passes: dict[str, Callable[[], Any]] = {
            "plain": plain,
            "single_pass": lambda: score("single_pass"),
            "per_turn": lambda: score("per_turn"),
            "backbone": backbone,
        }
        difference = (torch.cat(score("single_pass")) - torch.cat(score("per_turn"))).abs().max().item()
        seconds: dict[str, list[float]] = {name: [] for name in passes}
        for _ in range(options.repeats):  # in turn, so that a busy machine slows all of them
            for name, function in passes.items():
                start = clock(options)
                function()
                seconds[name].append(clock(options) - start)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        peaks = {name: weights + peak_bytes(function, options.device) for name, function in passes.items()}
        results.append(
            {
                "tokens": tokens,
                "seconds": medians,
                "times_faster": medians["per_turn"] / medians["single_pass"],
                "peak_bytes": peaks,
                "peak_against_backbone": peaks["single_pass"] / peaks["backbone"],
                "largest_difference": difference,
            }
        )
        mib = {name: round(peak / 2**20, 1) for name, peak in peaks.items()}
        print(
            f"{tokens:6d} tokens: plain {medians['plain']:.2f} s, single pass {medians['single_pass']:.2f} s, a pass a turn "
            f"{medians['per_turn']:.2f} s: {results[-1]['times_faster']:.2f} times faster; peak MiB: plain {mib['plain']}, "
            f"without head {mib['backbone']}, single pass {mib['single_pass']} ({results[-1]['peak_against_backbone']:.2f}), "
            f"a pass a turn {mib['per_turn']}; values differ by {difference:.1e}",
            flush=True,
        )
    return results


# --- steps


class Rollouts:
    """TRL's `rollout_func`: turns that the policy writes, and random answers of an environment, all of one length."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.generator = torch.Generator().manual_seed(options.seed)
        self.seconds: list[float] = []

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        options, start = self.options, time.perf_counter()
        model = trainer.accelerator.unwrap_model(trainer.model)
        training, vocabulary = model.training, model.config.vocab_size
        model.eval()
        answered = (options.tokens[0] - options.turns * options.turn_tokens) // options.turns
        ids = self._random(len(prompts), answered, vocabulary).to(options.device)
        mask: list[int] = []
        for turn in range(options.turns):
            ids = self._write(model, ids, trainer)
            mask += [1] * options.turn_tokens
            if turn + 1 < options.turns:
                ids = torch.cat([ids, self._random(len(prompts), answered, vocabulary).to(options.device)], dim=1)
                mask += [0] * answered
        model.train(training)
        if options.device != "cpu":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - start)
        return {
            "prompt_ids": ids[:, :answered].tolist(),
            "completion_ids": ids[:, answered:].tolist(),
            "logprobs": None,
            "env_mask": [mask] * len(prompts),
        }

    @torch.no_grad()
    def _write(self, model: Any, ids: torch.Tensor, trainer: Any) -> torch.Tensor:
        tokens = self.options.turn_tokens
        with trainer.accelerator.autocast():
            return model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=True,
                top_k=0,
                use_cache=True,
            )

    def _random(self, rows: int, tokens: int, vocabulary: int) -> torch.Tensor:
        return torch.randint(1, vocabulary, (rows, tokens), generator=self.generator)


def make_trainer(method: str, options: argparse.Namespace, folder: str) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    import trl_multiturn as ours
    from trl_multiturn.recipes.search_policy import SEARCH_POLICY

    on_gpu = options.device != "cpu"
    settings: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": options.steps + 1,
        "per_device_train_batch_size": options.rows,
        "gradient_accumulation_steps": options.rollouts // options.rows,
        "num_generations": options.rollouts,
        "max_completion_length": options.tokens[0],
        "learning_rate": 1e-6,
        "gradient_checkpointing": True,
        "beta": 0.0,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": options.seed,
    }
    trainer_class, config_class = {
        "grpo": (GRPOTrainer, GRPOConfig),
        "igpo": (ours.IGPOTrainer, ours.IGPOConfig),
        "replay": (ours.ReplayGRPOTrainer, ours.ReplayGRPOConfig),
        "archer": (ours.ArCHerTrainer, ours.ArCHerConfig),
    }[method]
    if method == "archer":
        settings |= {
            "critic_warmup_iterations": 0,
            "critic_steps": options.critic_steps,
            "critic_micro_batch_size": options.rows,
            "critic_batch_size": options.rollouts * options.turns,
        }
    if method == "replay":
        settings |= {"replay_every": 1, "replay_ratio": 1.0}
    chance = torch.Generator().manual_seed(options.seed)
    return trainer_class(
        model=build_model(options, torch.bfloat16 if options.lora and on_gpu else torch.float32),
        reward_funcs=lambda completions, **kwargs: torch.rand(len(completions), generator=chance).tolist(),
        args=config_class(**settings),
        train_dataset=Dataset.from_dict(
            {"prompt": [f"Task {i}" for i in range(64)], "answer": ["Paris, France"] * 64}
        ),
        processing_class=AutoTokenizer.from_pretrained(SEARCH_POLICY),
        rollout_func=Rollouts(options),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear") if options.lora else None,
    )


def measure_method(method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Medians over the steps of one trainer, and its peak memory."""
    from transformers import PrinterCallback

    from benchmarks.common import time_calls

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(method, options, folder)
        trainer.remove_callback(PrinterCallback)
        replay = [time_calls(trainer, name) for name in ("select_rows", "after_rollouts") if method == "replay"]
        trainer.train()
    log = [entry for entry in trainer.state.log_history if "step_time" in entry][1:]  # the first step warms up
    told = {"scoring": "igpo/belief_seconds", "critic": "archer/critic_seconds"}
    parts = {name: [entry[key] for entry in log] for name, key in told.items() if all(key in e for e in log)}
    if replay:
        parts["replay"] = [sum(calls) for calls in zip(*replay, strict=True)][1:]
    step = statistics.median(entry["step_time"] for entry in log)
    on_gpu = options.device != "cpu"
    return {
        "method": method,
        "step_seconds": step,
        "generation_seconds": statistics.median(trainer.rollout_func.seconds[1:]),
        "parts_seconds": {name: statistics.median(values) for name, values in parts.items()},
        "peak_bytes": torch.cuda.max_memory_allocated()
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def measure_steps(options: argparse.Namespace, arguments: list[str]) -> list[dict[str, Any]]:
    """Each method in a process of its own, since the peak of a process never falls."""
    results: list[dict[str, Any]] = []
    for method in options.methods:
        line = [sys.executable, "-m", "benchmarks.gpu_cost", *arguments, "--one", method]
        told = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout
        result = json.loads(told.splitlines()[-1])
        results.append(result)
        step, generation = result["step_seconds"], result["generation_seconds"]
        result["peak_against_grpo"] = result["peak_bytes"] / results[0]["peak_bytes"]
        result["shares"] = {name: seconds / step for name, seconds in result["parts_seconds"].items()}
        shares = ", ".join(
            f"{name} {result['parts_seconds'][name]:.3f} s ({share:.1%} of the step, "
            f"{result['parts_seconds'][name] / (step - generation):.1%} without generation)"
            for name, share in result["shares"].items()
        )
        print(
            f"{method:7} step {step:.2f} s, generation {generation:.2f} s, peak {result['peak_bytes'] / 2**20:.0f} MiB "
            f"({result['peak_against_grpo']:.3f} of {options.methods[0]}'s) {shares}",
            flush=True,
        )
    return results


def missed_aims(command: str, results: list[dict[str, Any]]) -> list[str]:
    missed = []
    for result in results:
        if command == "scoring":
            if result["times_faster"] < 5:
                missed.append(f"{result['tokens']} tokens: {result['times_faster']:.2f} times faster, the aim is 5.")
            if result["peak_against_backbone"] > 1.1:
                missed.append(
                    f"{result['tokens']} tokens: peak {result['peak_against_backbone']:.2f} of a plain pass's."
                )
        elif result["method"] == "igpo":
            if result["shares"]["scoring"] > 0.05:
                missed.append(f"Scoring takes {result['shares']['scoring']:.1%} of a step, the aim is 5.")
            if result["peak_against_grpo"] > 1.1:
                missed.append(f"IGPO's peak memory is {result['peak_against_grpo']:.2f} of GRPO's.")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("scoring", "step"):
        sub = commands.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.add_argument("--size", choices=SHAPES, default="0.5b")
        sub.add_argument("--tokens", type=int, nargs="+", default=[8192], help="length of a rollout with its prompt")
        sub.add_argument("--turns", type=int, default=10)
        sub.add_argument("--rows", type=int, default=1, help="rollouts of one forward pass")
        sub.add_argument("--attention", default="sdpa", help="sdpa, flash_attention_2, flex_attention")
        sub.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--output", help="JSON file of the results")
        sub.add_argument("--check", action="store_true", help="exit with 1 if an aim is missed")
        if name == "scoring":
            sub.add_argument("--repeats", type=int, default=3)
        else:
            sub.add_argument(
                "--methods", nargs="+", choices=METHODS, default=list(METHODS), help="the first is compared to"
            )
            sub.add_argument("--rollouts", type=int, default=8, help="rollouts of a step")
            sub.add_argument("--turn_tokens", type=int, default=100, help="tokens that the policy writes in a turn")
            sub.add_argument("--steps", type=int, default=3, help="steps that are timed, after one that is not")
            sub.add_argument("--critic_steps", type=int, default=5, help="critic's steps in an iteration of ArCHer")
            sub.add_argument("--lora", action="store_true", help="train an adapter of rank 16 on all linear layers")
            sub.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.command == "step" and options.one:
        print(json.dumps(measure_method(options.one, options)))
        return 0
    results = measure_scoring(options) if options.command == "scoring" else measure_steps(options, sys.argv[1:])
    if options.output:
        device = torch.cuda.get_device_name() if options.device != "cpu" else "cpu"
        told = {"device": device, "torch": torch.__version__, "options": vars(options), "results": results}
        with open(options.output, "w") as file:
            json.dump(told, file, indent=1)
    missed = missed_aims(options.command, results) if options.check else []
    if missed:
        print("\n".join(missed), file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
