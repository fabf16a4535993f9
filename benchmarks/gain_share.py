"""Share of an IGPO training step that scoring the information gain takes.

python -m benchmarks.gain_share --check
"""

import argparse
import sys

from benchmarks.common import quick_settings, search_trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--check", action="store_true", help="fail at 10 percent or more")
    options = parser.parse_args()

    from trl_multiturn import IGPOConfig, IGPOTrainer
    from trl_multiturn.recipes.search_policy import BELIEF_PREFIX, BELIEF_SUFFIX

    arguments = IGPOConfig(
        **quick_settings(options.rollouts, max_steps=options.steps),
        belief_prefix=BELIEF_PREFIX,
        belief_suffix=BELIEF_SUFFIX,
    )
    trainer = search_trainer(IGPOTrainer, arguments)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "igpo/belief_seconds" in entry][1:]
    belief, step = (sum(entry[name] for entry in logs) for name in ("igpo/belief_seconds", "step_time"))
    print(
        f"scoring {1000 * belief / len(logs):.1f} ms of a step of {1000 * step / len(logs):.1f} ms: {belief / step:.1%}"
    )
    if options.check and belief / step >= 0.1:
        sys.exit("scoring takes 10 percent of a step or more")


if __name__ == "__main__":
    main()
