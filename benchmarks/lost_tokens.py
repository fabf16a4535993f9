"""How much of rollouts importance sampling loses by their length, if vLLM's log-probabilities differ by independent noise.

Draws the ratios of many rollouts of equal length as TRL computes them and counts what is masked or weighs below a tenth. Real
differences are neither independent nor Gaussian: `sampling/lost_tokens` of a run is what counts.

    python -m benchmarks.lost_tokens
"""

import argparse

import torch

from trl_multiturn.importance_sampling import count_lost_tokens, lost_token_metrics


def shares(spread: float, tokens: int, mode: str, rollouts: int, clip_max: float, seed: int = 0) -> dict[str, float]:
    """Shares of the tokens of rollouts whose log-probabilities under vLLM have noise of a standard deviation."""
    noise = torch.randn(rollouts, tokens, generator=torch.Generator().manual_seed(seed)) * spread
    # The ratio's mean under what vLLM samples from is 1: rollouts that it finds likelier come more often.
    difference = noise - spread**2 / 2
    if mode.startswith("sequence"):
        difference = difference.sum(1, keepdim=True)
    ratio = difference.exp()
    if mode.endswith("mask"):
        ratio = ratio.masked_fill(ratio > clip_max, 0.0)
    return lost_token_metrics(count_lost_tokens(ratio.clamp(max=clip_max), torch.ones(rollouts, tokens)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--clip_max", type=float, default=3.0)
    options = parser.parse_args()
    for spread in (0.01, 0.02, 0.05):
        for tokens in (500, 2000, 8000, 32000):
            found = {
                mode: shares(spread, tokens, mode, options.rollouts, options.clip_max)
                for mode in ("sequence_mask", "token_truncate")
            }
            masked = found["sequence_mask"]["sampling/masked_tokens"]
            lost = [found[mode]["sampling/lost_tokens"] for mode in found]
            print(
                f"noise {spread:4.2f}  {tokens:6} tokens  sequence_mask: masked {masked:6.1%}, lost {lost[0]:6.1%}"
                f"   token_truncate: lost {lost[1]:6.1%}"
            )


if __name__ == "__main__":
    main()
