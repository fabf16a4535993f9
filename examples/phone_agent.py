"""
A scripted agent on the phone: one episode of the oracle, with a mistake that it puts right, drawn with Pillow and in headless Chromium.

    python examples/phone_agent.py --renderer both
    python examples/phone_agent.py --task live.follow_vip --seed 6 --output_dir docs/images

What is done is printed, and the screenshots are put side by side into `phone_pillow.png` and `phone_chromium.png`. Chromium needs
`pip install "trl-multiturn[browser]"` and a browser. An agent of yours would choose the actions from the screenshots.
"""

import argparse
import random
from pathlib import Path

from PIL import Image

from trl_multiturn.environments.phone import (
    ActionError,
    GuiTrajectory,
    PhoneEnvironment,
    StateBackend,
    demonstrate,
    generate_phone_tasks,
)
from trl_multiturn.environments.phone.chromium import ChromiumBackend


BACKENDS = {"pillow": StateBackend, "chromium": ChromiumBackend}


def play(phone: PhoneEnvironment, shown: GuiTrajectory) -> None:
    """Do on the phone what a trajectory shows."""
    phone.reset(task=shown.task)
    for step in shown.trajectory:
        print(f"  {'wrong: ' if step.mistake else ''}{step.thought}\n    {step.call.to_call()['arguments']}")
        try:
            phone.mobile_use(**step.call.arguments())
        except ActionError as error:  # what a model would read
            print(f"    {error}")


def side_by_side(screenshots: list[Image.Image]) -> Image.Image:
    width, height = screenshots[0].size
    sheet = Image.new("RGB", (len(screenshots) * (width + 8) - 8, height), "white")
    for number, screenshot in enumerate(screenshots):
        sheet.paste(screenshot, (number * (width + 8), 0))
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="live.follow_vip", help="a template of tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mistakes", type=float, default=0.3, help="how often a step goes wrong")
    parser.add_argument("--renderer", choices=["both", *BACKENDS], default="both")
    parser.add_argument("--output_dir", type=Path, default=Path("phone"))
    arguments = parser.parse_args()

    task = generate_phone_tasks(1, seed=arguments.seed, names=[arguments.task])[0]
    shown = demonstrate(task, random.Random(arguments.seed), arguments.mistakes, scale=0.5)
    print(f"{task.instruction} ({task.instruction_zh})")
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    for name in BACKENDS if arguments.renderer == "both" else [arguments.renderer]:
        print(f"{name}:")
        phone = PhoneEnvironment(BACKENDS[name], scale=0.5, max_steps=40)
        play(phone, shown)
        print(f"  goal reached: {phone.is_done}, side effects: {phone.side_effects}, said: {phone.finished}")
        side_by_side(phone.screenshots).save(arguments.output_dir / f"phone_{name}.png")
