"""Waiting for tools: 32 rollouts with a slow tool under TRL's own loop, and under ours.

Waiting is the time of TRL's tool loop less the same loop's time with a tool that takes none.

    python -m benchmarks.tool_concurrency --check
"""

import argparse
import sys
import tempfile
import time

from benchmarks.common import quick_settings, search_trainer, time_calls


class SlowSearch:
    """A tool that takes its time."""

    seconds = 0.0

    def reset(self, **row) -> None:
        """Nothing to forget."""

    def search(self, query: str, top_k: int = 3) -> str:
        """
        Search.

        Args:
            query: What to search for.
            top_k: How many results.
        """
        time.sleep(self.seconds)
        return "[1] Nothing: Nothing was found."


def loop_seconds(trainer_class, config_class, seconds: float, rollouts: int, turns: int) -> tuple[float, float]:
    """Seconds in the tool loop, and calls, of one generation batch."""
    SlowSearch.seconds = seconds
    with tempfile.TemporaryDirectory() as folder:
        settings = quick_settings(rollouts, output_dir=folder, max_steps=1, seed=1, max_tool_calling_iterations=turns)
        arguments = config_class(**settings)
        trainer = search_trainer(trainer_class, arguments, environment_factory=SlowSearch)
        spent = time_calls(trainer, "_tool_call_loop")
        trainer.train()
        log = next(entry for entry in trainer.state.log_history if "tools/call_frequency" in entry)
    return sum(spent), log["tools/call_frequency"] * rollouts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=32)
    parser.add_argument("--turns", type=int, default=1, help="most turns with calls of a rollout")
    parser.add_argument("--seconds", type=float, default=0.1, help="time of a tool call")
    parser.add_argument("--check", action="store_true", help="fail under 15 times less waiting")
    options = parser.parse_args()

    from trl import GRPOConfig, GRPOTrainer

    from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer

    waiting = {}
    for name, kinds in (
        ("trl.GRPOTrainer", (GRPOTrainer, GRPOConfig)),
        ("MultiTurnGRPOTrainer", (MultiTurnGRPOTrainer, MultiTurnGRPOConfig)),
    ):
        loop_seconds(*kinds, 0.0, options.rollouts, options.turns)  # warm up
        idle, _ = loop_seconds(*kinds, 0.0, options.rollouts, options.turns)
        busy, calls = loop_seconds(*kinds, options.seconds, options.rollouts, options.turns)
        waiting[name] = busy - idle
        print(f"{name:22} {calls:4.0f} calls of {options.seconds:g} s: {busy - idle:6.2f} s of waiting")
    ratio = waiting["trl.GRPOTrainer"] / waiting["MultiTurnGRPOTrainer"]
    print(f"ratio                  {ratio:6.1f}")
    if options.check and ratio < 15:
        sys.exit("less than 15 times less waiting")


if __name__ == "__main__":
    main()
