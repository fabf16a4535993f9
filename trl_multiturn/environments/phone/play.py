"""Lets a person do a task on the phone: `python -m trl_multiturn.environments.phone.play`."""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from .actions import Action, ActionError
from .demonstration_texts import write_step
from .demonstrations import call_of_step
from .environment import PhoneEnvironment
from .layout import Screen, Widget, place
from .oracle import Oracle, Step, apply
from .state import PhoneState
from .task import PhoneTask
from .tasks import TEMPLATES


COMMANDS = """\
  N            tap what has the number N
  hold N       hold it
  type TEXT    type into the field with the focus (marked *)
  enter        press Enter
  swipe up     see what stands further down; swipe down: further up
  back, home   press Back, Home
  open APP     start an app by its name
  done, fail   end the task as done, or as impossible
  hint         what the oracle would do next
  help, quit   these lines; stop without an answer
"""

MAX_STEPS = 40

_FIXED = {
    "enter": Step("enter"),
    "back": Step("back"),
    "home": Step("home"),
    "swipe up": Step("scroll", amount=1),
    "swipe down": Step("scroll", amount=-1),
}
_WITH_TEXT = {"type": "type", "open": "open"}
_ENDS = {"done": "success", "fail": "failure"}


def play(
    environment: PhoneEnvironment,
    row: Mapping[str, Any],
    folder: str | Path,
    read: Callable[[str], str] | None = None,
    output: TextIO | None = None,
) -> bool:
    """
    Plays one task at a terminal, where what is in sight is listed; the screenshots are files.

    Args:
        environment ([`PhoneEnvironment`]):
            Environment to play, with points in pixels; it is reset.
        row (`Mapping`):
            Row with `task`.
        folder (`str` or `Path`):
            Where screenshots go, one after each step.
        read (`Callable`, *optional*):
            Reads a line after showing a prompt; `input` by default.
        output (`TextIO`, *optional*):
            Where to write; standard output by default.

    Returns:
        `bool`: Whether the goal holds at the end, without side effects.

    Raises:
        `ValueError`: If the row has no task, or the environment's points are not in pixels.
    """
    if environment.coordinate_space != "pixel":
        raise ValueError("To be played, an environment must have its points in pixels.")
    out = output if output is not None else sys.stdout
    read = read if read is not None else input
    environment.reset(**row)
    task, state = environment.task, environment.state
    if task is None or state is None:
        raise ValueError("The row must have a task.")
    oracle = Oracle(task)
    out.write(f"{environment.instruction}\n\n{COMMANDS}\n")
    _show(environment, state, Path(folder), out)
    while not (environment.terminated or environment.truncated):
        try:
            line = read(f"{len(environment.actions) + 1}> ").strip()
        except (EOFError, KeyboardInterrupt):
            break
        if line == "quit":
            break
        if line == "help":
            out.write(COMMANDS)
        elif line == "hint":
            out.write(_hint(oracle, state) + "\n")
        else:
            state = _act(environment, state, line, Path(folder), out)
    if environment.truncated:
        out.write(f"All {len(environment.actions)} steps are used up.\n")
    return _judge(environment, out)


def _act(environment: PhoneEnvironment, state: PhoneState, line: str, folder: Path, out: TextIO) -> PhoneState:
    """Carry out a line, and show what there is then. A line that is no command is no step."""
    try:
        call = _read(line, state, environment.image_size)
    except ValueError as error:
        out.write(f"{error}\n")
        return state
    try:
        answer = environment.mobile_use(**call.arguments())
    except ActionError as error:
        out.write(f"{error}\n")
        return state
    for block in answer:
        if block["type"] == "text":
            out.write(f"{block['text']}\n")
    after = environment.state or state
    if not (environment.terminated or environment.truncated):
        _show(environment, after, folder, out)
    return after


def _read(line: str, state: PhoneState, size: tuple[int, int]) -> Action:
    """The call that a line stands for."""
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    if line in _ENDS:
        return Action("terminate", status=_ENDS[line])
    if line in _FIXED:
        return call_of_step(state, _FIXED[line], size)[0]
    if command in _WITH_TEXT:
        if not rest:
            raise ValueError(f"{command} needs a text: {command} ...")
        return call_of_step(state, Step(_WITH_TEXT[command], rest), size)[0]
    holds = command == "hold"
    number = rest if holds else line
    in_sight = state.in_sight()
    # Nobody has more widgets in sight than three digits count; int() of a long number takes long.
    if number.isdecimal() and len(number) <= 3:
        if not 1 <= int(number) <= len(in_sight):
            raise ValueError(f"There is no number {number}: they go from 1 to {len(in_sight)}.")
        widget = in_sight[int(number) - 1][0]
        return call_of_step(state, Step("long_press" if holds else "tap", widget.id), size)[0]
    if holds:
        raise ValueError("hold needs a number of the list: hold 2")
    raise ValueError(f"{line[:40]!r} is no command. Type a number of the list, or `help`.")


def _hint(oracle: Oracle, state: PhoneState) -> str:
    distance = oracle.distance(state)
    if distance == 0:
        effects = ", but there are side effects" if oracle.task.side_effects(state) else ""
        return f"The goal is reached{effects}: done."
    if distance is None:
        return f"The oracle finds no way to the goal within {oracle.max_depth} steps."
    step = oracle.optimal_steps(state)[0]
    after = apply(state, step)
    sentence = write_step(state, step, after, oracle.task.is_done(after), False, "en", random.Random(0))[1]
    return f"{sentence} ({distance} to go)"


def _judge(environment: PhoneEnvironment, out: TextIO) -> bool:
    out.write("The goal is reached.\n" if environment.is_done else "The goal is not reached.\n")
    effects = environment.side_effects
    out.write(f"Side effects, changes that nobody asked for: {', '.join(effects) or 'none'}.\n")
    return bool(environment.is_done) and not effects


# --- what is in sight


def _show(environment: PhoneEnvironment, state: PhoneState, folder: Path, out: TextIO) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{len(environment.actions):02d}.png"
    environment.screenshots[-1].save(path)
    out.write("\n".join([f"--- {state.screen().title}   [{path}]", *_lines(state.screen(), state)]) + "\n")


def _lines(screen: Screen, state: PhoneState) -> list[str]:
    """The widgets in sight, those that react to a tap with a number."""
    lines = [f"{screen.popup.title}: {screen.popup.text}"] if screen.popup is not None else []
    reacting = [widget for widget, _ in state.in_sight()]
    shown = reacting if screen.popup is not None else [widget for widget, _ in place(screen, state.scroll)]
    number = 0
    for widget in shown:
        if widget.kind == "label":
            lines.append(f"     {_text(widget, state)}")
        else:
            number += 1
            lines.append(f"{number:3}  {_text(widget, state)}")
    return [*lines, f"({screen.toast})"] if screen.toast else lines


def _text(widget: Widget, state: PhoneState) -> str:
    text = f"{widget.text} ({widget.detail})" if widget.detail else widget.text
    if widget.kind == "field":
        return f"{text}: [{widget.value}]{' *' if widget.id == state.focus else ''}"
    if widget.kind == "switch":
        return f"{text}: {'on' if widget.on else 'off'}"
    return f"{text} <" if widget.on else text


# --- from the command line


def make_parser() -> argparse.ArgumentParser:
    """
    Parser of the command's arguments.

    Returns:
        `argparse.ArgumentParser`: Gives `task`, `seed` and `output_dir`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trl_multiturn.environments.phone.play",
        description="Do a task on the phone as a policy does. What is in sight is listed; type one of:\n\n" + COMMANDS,
        epilog=f"At most {MAX_STEPS} steps. Exit status 0 if the goal is reached without side effects, else 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        choices=TEMPLATES,
        help=f"template of the task, such as {next(iter(TEMPLATES))}; a wrong name lists all; drawn if left out",
    )
    parser.add_argument("--seed", type=int, help="which of the template's tasks; drawn if left out")
    parser.add_argument("--output_dir", help="folder for the screenshots (default: a new temporary one)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """
    Plays a task.

    Args:
        argv (`list[str]`, *optional*):
            Arguments; those of the process if `None`.

    Returns:
        `int`: 0 if the goal was reached without side effects, else 1.
    """
    options = make_parser().parse_args(argv)
    rng = random.Random(options.seed)
    name = options.task or rng.choice(list(TEMPLATES))
    task: PhoneTask = TEMPLATES[name](rng)
    folder = options.output_dir or tempfile.mkdtemp(prefix="phone-")
    return 0 if play(PhoneEnvironment(max_steps=MAX_STEPS), {"task": task.to_json()}, folder) else 1


if __name__ == "__main__":
    raise SystemExit(main())
