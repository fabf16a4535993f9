"""`python -m trl_multiturn.environments.travel`: plan a trip with the tools of a policy, and be judged like one."""

import argparse
import random
import sys

from ...rewards.verdicts import ToolTurn
from ...rewards.verifiers import TrajectoryVerifier, TurnVerifier
from .environment import TravelEnvironment
from .play import play
from .query import TravelQuery
from .tasks import LEVELS, generate_tasks


def main(argv: list[str] | None = None) -> None:
    """
    Plays one task.

    Args:
        argv (`list[str]`, *optional*):
            Arguments of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m trl_multiturn.environments.travel", description=main.__doc__)
    parser.add_argument("--level", choices=LEVELS, default="easy", help="how hard the task is")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="language of the request")
    parser.add_argument("--seed", type=int, default=None, help="seed of the task; another one each time without")
    args = parser.parse_args(argv)
    seed = random.randrange(2**32) if args.seed is None else args.seed
    row = generate_tasks(1, levels=[args.level], language=args.language, seed=seed)[0]
    environment = TravelEnvironment()
    itinerary = play(environment, row)
    if itinerary is None:
        return
    turns = [ToolTurn(name, given, text, i) for i, (name, given, text) in enumerate(environment.tool_calls)]
    query = TravelQuery.model_validate_json(row["query"])
    verdicts = [TrajectoryVerifier()(query, itinerary), *TurnVerifier()(itinerary, turns)]
    failures = [f"{name}: {evidence}" for verdict in verdicts for name, evidence in verdict.failures.items()]
    sys.stdout.write("\n".join(failures or ["All checks passed."]) + "\n")


if __name__ == "__main__":
    main()
