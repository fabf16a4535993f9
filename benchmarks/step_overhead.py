"""Time of a training step of MultiTurnGRPOTrainer with nothing configured, against trl.GRPOTrainer's.

Both train the shipped search policy on the same questions from the same seed, in turns in one process, so that the
machine's moods hit both. Prints the median step time of each and the ratio.

    python -m benchmarks.step_overhead --check
"""

import argparse
import statistics
import sys

from benchmarks.common import quick_settings, search_trainer, time_calls


def step_times(trainer) -> list[float]:
    times = time_calls(trainer, "training_step")
    trainer.train()
    return times[1:]  # the first step warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=4, help="runs of each trainer; an even number, so that each goes first as often"
    )
    parser.add_argument("--steps", type=int, default=7, help="steps of a run")
    parser.add_argument("--rollouts", type=int, default=32, help="rollouts of a step")
    parser.add_argument("--check", action="store_true", help="fail if ours is more than 2 percent slower")
    options = parser.parse_args()

    from trl import GRPOConfig, GRPOTrainer

    from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer

    kinds = {
        "trl.GRPOTrainer": (GRPOTrainer, GRPOConfig),
        "MultiTurnGRPOTrainer": (MultiTurnGRPOTrainer, MultiTurnGRPOConfig),
    }
    times: dict[str, list[list[float]]] = {name: [] for name in kinds}
    step_times(search_trainer(GRPOTrainer, GRPOConfig(**quick_settings(options.rollouts, max_steps=options.steps))))
    for number in range(options.rounds):
        order = list(kinds.items())
        for name, (trainer_class, config_class) in order if number % 2 else reversed(order):
            arguments = config_class(**quick_settings(options.rollouts, max_steps=options.steps, seed=number))
            times[name].append(step_times(search_trainer(trainer_class, arguments)))
    medians = {name: statistics.median(t for run in runs for t in run) for name, runs in times.items()}
    # The same seed gives the same rollouts, so each step has its twin; the median over all pairs forgets the machine's moods.
    pairs = zip(times["MultiTurnGRPOTrainer"], times["trl.GRPOTrainer"], strict=True)
    ratios = [mine / theirs for ours, others in pairs for mine, theirs in zip(ours, others, strict=True)]
    for name, median in medians.items():
        print(f"{name:22} {median * 1000:8.1f} ms a step (median of {len(ratios)})")
    ratio, quartiles = statistics.median(ratios), statistics.quantiles(ratios)
    print(
        f"ratio                  {ratio:8.3f} (median of {len(ratios)} pairs, quartiles {quartiles[0]:.3f} to {quartiles[2]:.3f})"
    )
    if options.check and ratio > 1.02:
        sys.exit("MultiTurnGRPOTrainer is more than 2 percent slower")


if __name__ == "__main__":
    main()
