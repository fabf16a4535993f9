"""The command `trl-multiturn`."""

import argparse
import importlib
import sys

from . import __version__


# Command -> where its `run(argv)` is, which may return an exit status, and what it does.
COMMANDS = {
    "igpo": ("recipes.igpo", "train with IGPO, from --config recipe.yaml or arguments"),
    "archer": ("recipes.archer", "train with ArCHer, from --config recipe.yaml or arguments"),
    "replay": ("recipes.replay", "train with GRPO and failure replay, from --config recipe.yaml or arguments"),
    "deeptravel": (
        "recipes.deeptravel",
        "cold start, reinforcement learning with failure replay and evaluation of a travel planner",
    ),
    "mobile-r1": (
        "recipes.mobile_r1",
        "train a vision-language GUI agent in three stages on a phone, and evaluate it",
    ),
    "phone-data": (
        "recipes.gui_benchmark",
        "write demonstrations on the phone to a folder, in the form of the published Mobile-R1 data",
    ),
    "doctor": (
        "recipes.doctor",
        "take one real batch through a run of any of the above, from its --config, and say what would fail silently",
    ),
    "demo": ("recipes.demo", "train a small model on search questions, on a CPU, in a few minutes"),
}


def main(argv: list[str] | None = None) -> int:
    """
    Run a command.

    Args:
        argv (`list[str]`, *optional*):
            Arguments; those of the process if `None`.

    Returns:
        `int`: Exit status.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="trl-multiturn",
        description="Turn-level credit for LLM agents trained with TRL.",
        epilog="`trl-multiturn COMMAND --help` lists a command's arguments. On several processes: "
        "`accelerate launch -m trl_multiturn.cli COMMAND ...`.",
    )
    parser.add_argument("--version", action="version", version=f"trl-multiturn {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, description) in COMMANDS.items():
        subparsers.add_parser(name, help=description, add_help=False)
    command = parser.parse_known_args(argv[:1])[0].command
    if command is None:
        parser.print_help()
        return 0
    from .compat import check_trl

    try:
        check_trl()
    except ImportError as error:
        print(f"trl-multiturn: {error}", file=sys.stderr)
        return 2
    status = importlib.import_module(f".{COMMANDS[command][0]}", __package__).run(argv[1:])
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    raise SystemExit(main())
