import re

import pytest

from trl_multiturn.environments.lost import EnvironmentLostError
from trl_multiturn.environments.phone.actions import ActionError
from trl_multiturn.environments.phone.miniwob import SIZE, TASKS, MiniWoBEnvironment, miniwob_dataset

from .phones import require_browser
from .test_chromium import kill


pytestmark = pytest.mark.needs_browser

# Middles of the elements that a selector finds, with what they say.
_FIND = """selector => [...document.querySelectorAll(selector)].map(element => {
  const box = element.getBoundingClientRect();
  const label = element.closest("label");
  const text = element.value && element.type === "button" ? element.value : (label || element).textContent;
  return [text.trim(), Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
})"""


@pytest.fixture
def web():
    require_browser()
    pytest.importorskip("miniwob")
    return MiniWoBEnvironment()


def find(web, selector, text=None):
    found = web._page.run(lambda page, _: page.evaluate(_FIND, selector))
    return [[x, y] for said, x, y in found if text is None or said == text]


def click(web, selector, text=None, which=0):
    return web.mobile_use("click", coordinate=find(web, selector, text)[which])


def quoted(web):
    return re.findall(r'"([^"]*)"', web.instruction)


def solve(web, name):
    """Do what the page asks for, with a look behind it."""
    if name == "click-test":
        click(web, "#subbtn")
    elif name == "click-test-2":
        click(web, "button", "ONE")
    elif name == "click-dialog-2" and quoted(web)[0] == "x":
        click(web, ".ui-dialog-titlebar-close")
    elif name in ("click-button", "click-dialog-2"):
        click(web, "#area button, .ui-dialog button", quoted(web)[0])
    elif name == "click-button-sequence":
        click(web, "button", "ONE")
        click(web, "button", "TWO")
    elif name == "click-link":
        click(web, ".alink", quoted(web)[0])
    elif name == "click-tab":
        click(web, "a.ui-tabs-anchor", re.search(r"Tab #\d", web.instruction)[0])
    elif name in ("click-option", "click-checkboxes"):
        wanted = re.match(r"Select (.*) and click", web.instruction)[1].split(", ")
        for text in [] if wanted == ["nothing"] else wanted:
            click(web, "label input", text)
        click(web, "button")
    elif name == "focus-text":
        click(web, "input")
    elif name == "focus-text-2":
        click(web, "input", which=int(re.search(r"(\d)\w\w input", web.instruction)[1]) - 1)
    elif name == "enter-text":
        click(web, "input")
        web.mobile_use("type", text=quoted(web)[0])
        click(web, "button")
    else:
        for i, field in enumerate(["#username", "#password"] if name == "login-user" else ["#password", "#verify"]):
            click(web, field)
            web.mobile_use("type", text=quoted(web)[i if name == "login-user" else 0])
        click(web, "button")


SOLVED = (
    "click-button",
    "click-button-sequence",
    "click-checkboxes",
    "click-dialog-2",
    "click-link",
    "click-option",
    "click-tab",
    "click-test",
    "click-test-2",
    "enter-password",
    "enter-text",
    "focus-text",
    "focus-text-2",
    "login-user",
)


@pytest.mark.parametrize("name", SOLVED)
def test_tasks_can_be_solved(web, name):
    for seed in range(3):
        web.reset(task_name=name, seed=seed)
        solve(web, name)
        assert web.terminated and web.success and not web.truncated
        assert web.turn_rewards == [*[0.0] * (len(web.actions) - 1), 1.0]
    with pytest.raises(ActionError, match="over"):
        web.mobile_use("click", coordinate=[1, 1])


def test_every_task_starts_and_its_seed_decides_what_it_is(web):
    for name in TASKS:
        (image, text), (again, same) = [web.reset(task_name=name, seed=3) for _ in range(2)]
        assert image["image"].size == SIZE
        assert text["text"] == same["text"] == web.instruction != ""
        assert not web.terminated
    starts = {web.reset(task_name="click-link", seed=seed)[1]["text"] for seed in range(4)}
    assert len(starts) == 4


def test_wrong_click_ends_with_minus_one(web):
    web.reset(task_name="click-test-2", seed=0)
    (said,) = click(web, "button", "TWO")
    assert said["text"] == "The episode is over."
    assert (web.turn_rewards, web.terminated, web.success) == ([-1.0], True, False)


def test_what_cannot_be_done_is_said_and_counted(web):
    web.reset(task_name="click-test", seed=0)
    calls = [
        ("not a phone", {"action": "open", "text": "Shop"}),
        ("not a phone", {"action": "system_button", "button": "Back"}),
        ("keys of this page", {"action": "key", "text": "home"}),
        ("off the screen", {"action": "click", "coordinate": [160, 5]}),
        ("must be one of", {"action": "<|im_end|>"}),
    ]
    for message, call in calls:
        with pytest.raises(ActionError, match=message) as caught:
            web.mobile_use(**call)
        assert "<|" not in str(caught.value)
    assert [error is not None for _, error in web.actions] == [True] * len(calls)
    assert web.turn_rewards == [0.0] * len(calls)


def test_other_actions(web):
    web.reset(task_name="enter-text", seed=1)
    click(web, "input")
    for call in [
        {"action": "type", "text": "abcd 北"},
        {"action": "key", "text": "backspace"},
        {"action": "system_button", "button": "Enter"},
        {"action": "swipe", "coordinate": [80, 150], "coordinate2": [80, 100]},
        {"action": "wait", "time": 0.01},
    ]:
        (image,) = web.mobile_use(**call)
    assert image["image"].size == SIZE
    assert web._page.run(lambda page, _: page.input_value("#tt")) == "abcd "
    web.mobile_use("terminate", status="failure")
    assert web.terminated and not web.success


def test_steps_end(web):
    web = MiniWoBEnvironment(max_steps=2)
    web.reset(task_name="click-test", seed=0)
    web.mobile_use("wait", time=0.01)
    (said,) = web.mobile_use("wait", time=0.01)
    assert said["text"] == "The episode is over."
    assert web.truncated and not web.terminated


def test_killed_browser(web):
    web.reset(task_name="click-test", seed=0)
    kill("browser")
    with pytest.raises(EnvironmentLostError):
        web.mobile_use("click", coordinate=[5, 5])
    assert web.actions[-1][1] == "The page is gone."
    web.reset(task_name="click-test", seed=0)
    solve(web, "click-test")
    assert web.success


@pytest.mark.parametrize(
    "row", [{}, {"task_name": "../../core/core", "seed": 1}, {"task_name": "click-test", "seed": "1"}]
)
def test_rows_are_checked(web, row):
    with pytest.raises(ValueError, match="task_name|seed"):
        web.reset(**row)


def test_dataset():
    rows = miniwob_dataset(("click-test", "enter-text"), range(3))
    assert rows.column_names == ["prompt", "task_name", "seed"]
    assert [row["seed"] for row in rows] == [0, 0, 1, 1, 2, 2]
