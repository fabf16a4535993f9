"""What ArCHer costs beside the rollouts: seconds of the critic per iteration, and memory of the replay buffer.

The shipped word game policy plays Guess My City. Prints the critic's share of a step for several numbers of critic steps, and
the buffer's bytes per 10,000 transitions.

    python -m benchmarks.archer_cost
"""

import argparse
import statistics
import tempfile

from benchmarks.archer_learning import make_trainer
from benchmarks.common import time_calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--critic_steps", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--steps", type=int, default=3, help="iterations that are timed, after one that is not")
    options = parser.parse_args()
    print(f"{'critic steps':>12}  {'rollouts s':>10}  {'critic s':>8}  {'rest s':>6}  {'critic / rollouts':>17}")
    for critic_steps in options.critic_steps:
        settings = argparse.Namespace(
            game="guess_my_city",
            rollouts=32,
            steps=options.steps + 1,
            learning_rate=0.0,
            critic_steps=critic_steps,
            eval_games=32,
        )
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer("archer", 0, settings, folder, critic_warmup_iterations=0, critic_batch_size=256)
            rollouts, critic = time_calls(trainer, "_generate"), time_calls(trainer.learner, "update")
            whole = time_calls(trainer, "training_step")
            trainer.train()
        rollout, update, step = (statistics.median(seconds[1:]) for seconds in (rollouts, critic, whole))
        print(
            f"{critic_steps:>12}  {rollout:>10.2f}  {update:>8.2f}  {step - rollout - update:>6.2f}  {update / rollout:>17.2f}"
        )
    buffer = trainer.buffer
    per_ten_thousand = buffer.num_bytes / buffer.num_transitions * 10_000 / 2**20
    tokens = sum(len(buffer.get(i).tokens) for i in range(buffer.first_id, buffer.next_id)) / len(buffer)
    print(
        f"Replay buffer: {per_ten_thousand:.2f} MiB per 10,000 transitions ({buffer.mean_turns():.1f} turns and {tokens:.0f} "
        "tokens a trajectory)"
    )


if __name__ == "__main__":
    main()
