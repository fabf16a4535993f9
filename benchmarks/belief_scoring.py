"""How much faster one pass per rollout is than one pass per turn, and how far the two differ.

    python benchmarks/belief_scoring.py --turns 4 8 16 --model small --check

Random weights and tokens: the time depends on shapes alone. CPU seconds of the process on a CPU (others on the machine
do not count), wall-clock seconds on a GPU. Counting tokens alone, the limit is (T+1)/2 times faster, less what the
answers add to the single pass; a pass per turn loses more where large batches outgrow the caches (`--batch-size`). With `--check` the exit status is 1 if the single pass is
less than T/2 times faster at T >= 8 turns, or if the values differ by more than 1e-4 in float32 (0.1 in bfloat16).
"""

import argparse
import statistics
import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from trl_multiturn.igpo.belief import score_beliefs


MODELS: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2, "vocab_size": 1000},
    "small": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "vocab_size": 8000},
    "wide": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "vocab_size": 8000},
    "qwen2-0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "vocab_size": 151936},
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, nargs="+", default=[4, 8, 16], help="context ends per rollout")
    parser.add_argument("--tokens-per-turn", type=int, default=100, help="tokens of the prompt, and of each turn")
    parser.add_argument("--prefix-tokens", type=int, default=12)
    parser.add_argument("--answer-tokens", type=int, default=4)
    parser.add_argument("--rollouts", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--model", choices=MODELS, default="small", help="size of the Qwen2-shaped model")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="exit with 1 if an aim is missed")
    return parser.parse_args()


def build_model(args: argparse.Namespace) -> PreTrainedModel:
    hidden_size = MODELS[args.model]["hidden_size"]
    config = Qwen2Config(
        num_attention_heads=hidden_size // 64,  # heads of 64, as in Qwen2-0.5B
        num_key_value_heads=max(hidden_size // 256, 1),
        max_position_embeddings=32768,
        **MODELS[args.model],
    )
    torch.manual_seed(args.seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=args.attention)
    return model.to(args.device, getattr(torch, args.dtype)).eval()


def compare(model: PreTrainedModel, turns: int, args: argparse.Namespace) -> tuple[float, float, float]:
    """Median seconds of the single pass and of a pass per turn, and the largest difference of their values."""
    generator = torch.Generator().manual_seed(args.seed)

    def tokens(*shape: int) -> list:
        return torch.randint(model.config.vocab_size, shape, generator=generator).tolist()

    sequences = tokens(args.rollouts, turns * args.tokens_per_turn)
    ends = [[args.tokens_per_turn * (turn + 1) for turn in range(turns)]] * args.rollouts
    answers, prefix = tokens(args.rollouts, args.answer_tokens), tokens(args.prefix_tokens)
    seconds: dict[str, list[float]] = {"single_pass": [], "per_turn": []}
    values = {}
    clock = time.process_time if args.device == "cpu" else time.perf_counter
    # Taken in turn, so that a busy machine slows both; the first round is a warm-up.
    for _ in range(args.repeats + 1):
        for method, taken in seconds.items():
            start = clock()
            scores = score_beliefs(
                model, sequences, ends, answers, prefix=prefix, batch_size=args.batch_size, method=method
            )
            taken.append(clock() - start)
            values[method] = torch.stack(scores)
    difference = (values["single_pass"] - values["per_turn"]).abs().max().item()
    return statistics.median(seconds["single_pass"][1:]), statistics.median(seconds["per_turn"][1:]), difference


def main() -> int:
    args = parse_args()
    torch.set_num_threads(args.threads)
    model = build_model(args)
    tolerance = 1e-4 if args.dtype == "float32" else 0.1
    missed = []
    print(f"{args.model} model, {args.rollouts} rollouts, {args.tokens_per_turn} tokens a turn, {args.attention}")
    print(f"{'turns':>5} {'single pass (s)':>16} {'per turn (s)':>13} {'ratio':>6} {'aim':>5} {'difference':>11}")
    for turns in args.turns:
        single, per_turn, difference = compare(model, turns, args)
        ratio, aim = per_turn / single, turns / 2
        print(f"{turns:5d} {single:16.3f} {per_turn:13.3f} {ratio:6.2f} {aim:5.1f} {difference:11.1e}")
        if turns >= 8 and ratio < aim:
            missed.append(f"{turns} turns: {ratio:.2f} times faster, the aim is {aim:.1f}.")
        if not difference <= tolerance:
            missed.append(f"{turns} turns: values differ by {difference:.1e}, at most {tolerance:.0e} is allowed.")
    if args.check and missed:
        print("\n".join(missed), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
