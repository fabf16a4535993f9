"""`python -m trl_multiturn.environments.adapters`: play a parser game or go shopping, as a policy would."""

import argparse

from .jericho import JerichoEnvironment
from .play import play
from .webshop import WebShopEnvironment


def main(argv: list[str] | None = None) -> None:
    """
    Plays one episode at the terminal. Type what a policy would pass to `act`, or `exit`.

    Args:
        argv (`list[str]`, *optional*):
            Arguments of the command line.
    """
    args = _parser().parse_args(argv)
    try:
        if args.environment == "jericho":
            play(JerichoEnvironment(args.story, args.turns, args.seed, not args.hide_valid_actions))
        else:
            play(WebShopEnvironment(args.url, args.turns), {"session": args.session})
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trl_multiturn.environments.adapters",
        description="Play one episode at the terminal. Type what a policy would pass to `act`, or `exit`.",
    )
    kinds = parser.add_subparsers(dest="environment", required=True, metavar="ENVIRONMENT")
    jericho = kinds.add_parser("jericho", help="a parser game, from your own story file")
    jericho.add_argument("story", metavar="STORY", help="Z-machine story file that Jericho knows, e.g. detective.z5")
    jericho.add_argument("--turns", type=int, default=50, help="commands that an episode may have (default: 50)")
    jericho.add_argument("--seed", type=int, default=None, help="seed of the game's dice")
    jericho.add_argument("--hide-valid-actions", action="store_true", help="do not list what would change something")
    webshop = kinds.add_parser("webshop", help="a WebShop server that is running somewhere")
    webshop.add_argument("url", metavar="URL", help="its address, e.g. http://127.0.0.1:3000")
    webshop.add_argument("--turns", type=int, default=10, help="actions that an episode may have (default: 10)")
    webshop.add_argument("--session", default="fixed_0", help="session, which gives the goal (default: fixed_0)")
    return parser


if __name__ == "__main__":
    main()
