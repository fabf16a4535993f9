"""A small trajectory: a wrong note is opened, left again, and the right one is found."""

from PIL import Image

from trl_multiturn.environments.phone.actions import Action
from trl_multiturn.environments.phone.layout import Box
from trl_multiturn.environments.phone.trajectory import GuiStep, GuiTrajectory


SIZE = (392, 784)


def screenshot(number, size=SIZE):
    return Image.new("RGB", size, (number, 2 * number, 255 - number))


def trajectory(system="You operate a phone.", instruction="Open the note Meeting 2"):
    wrong, right = Box(0, 56, 392, 112), Box(0, 112, 392, 168)
    steps = [
        GuiStep(screenshot(0), "Home.", "Open Notes.", Action("open", text="Notes")),
        GuiStep(screenshot(1), "A list.", "Tap Meeting.", Action("click", wrong.center), wrong, mistake=True),
        GuiStep(screenshot(2), "Wrong.", "Go back.", Action("system_button", button="Back"), correction=True),
        GuiStep(screenshot(3), "A list.", "点击 Meeting 2。", Action("click", right.center), right),
        GuiStep(screenshot(4), "There it is.", "End.", Action("terminate", status="success")),
    ]
    return GuiTrajectory("Notes", instruction, system, *SIZE, steps, task="{}", split="train")
