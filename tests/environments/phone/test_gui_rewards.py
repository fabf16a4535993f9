import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.environments.phone.actions import Action, write_reply
from trl_multiturn.environments.phone.layout import Box
from trl_multiturn.environments.phone.trajectory import GuiStep
from trl_multiturn.recipes.gui_data import resize_trajectory, step_rows
from trl_multiturn.rewards import action_reward, gui_format_reward
from trl_multiturn.rewards.gui import match_action, reply_text

from .gui_case import SIZE, trajectory


BOX = [100, 200, 140, 260]


def truth(**values):
    return json.dumps(values)


def reward(reply, wanted, **columns):
    return action_reward([[{"role": "assistant", "content": reply}]], [wanted], [list(SIZE)], **columns)[0]


def reply(*action, **values):
    return write_reply("a", "b", Action(*action, **values))


@pytest.mark.parametrize("coordinate_space", ["pixel", "norm1000"])
@pytest.mark.parametrize("size", [SIZE, (98, 196)])
def test_recorded_replies_are_right(coordinate_space, size):
    rows = list(step_rows([resize_trajectory(trajectory(), size)], coordinate_space=coordinate_space))
    columns = {name: [row[name] for row in rows] for name in ("ground_truth", "image_size", "coordinate_space")}
    completions = [row["completion"] for row in rows]
    assert action_reward(completions, **columns) == [1.0] * len(rows)
    assert gui_format_reward(completions, **columns) == [1.0] * len(rows)
    # Each reply is right for its own step alone.
    assert action_reward(completions[1:] + completions[:1], **columns) == [0.0] * len(rows)


@given(st.integers(0, 391), st.integers(0, 783))
@settings(max_examples=100, deadline=None)
def test_a_click_counts_in_the_box_and_on_its_border(x, y):
    inside = 100 <= x <= 140 and 200 <= y <= 260
    wanted = {"action": "click", "box": BOX}
    assert match_action(Action("click", (x, y)), wanted) == (True, inside)
    assert match_action(Action("long_press", (x, y), time=1), wanted) == (False, False)


@pytest.mark.parametrize(
    "point, expected", [((100, 200), 1), ((140, 260), 1), ((99, 200), 0), ((141, 260), 0), ((140, 261), 0)]
)
def test_corners(point, expected):
    assert reward(reply("click", point), truth(action="click", box=BOX)) == expected
    assert reward(reply("long_press", point, time=2), truth(action="long_press", box=BOX)) == expected


@pytest.mark.parametrize(
    "start, end, expected",
    [
        ((120, 250), (120, 50), 1),
        ((120, 250), (10, 100), 1),
        ((120, 250), (10, 200), 0),
        ((120, 250), (120, 500), 0),
        ((120, 300), (120, 50), 0),
    ],
)
def test_a_swipe_starts_in_the_box_and_goes_in_the_direction(start, end, expected):
    assert reward(reply("swipe", start, end), truth(action="swipe", box=BOX, direction="up")) == expected


@pytest.mark.parametrize(
    "action, wanted, expected",
    [
        (Action("type", text="milk"), truth(action="type", text="milk"), 1),
        (Action("type", text=" milk "), truth(action="type", text="milk"), 1),
        (Action("type", text="ＭＩＬＫ１"), truth(action="type", text="MILK1"), 1),
        (Action("type", text="Milk"), truth(action="type", text="milk"), 0),
        (Action("open", text="Notes"), truth(action="open", text="Notes"), 1),
        (Action("open", text="Notes"), truth(action="type", text="Notes"), 0),
        (Action("key", text="enter"), truth(action="key", text="enter"), 1),
        (Action("system_button", button="Back"), truth(action="system_button", button="Back"), 1),
        (Action("system_button", button="Home"), truth(action="system_button", button="Back"), 0),
        (Action("wait", time=5), truth(action="wait"), 1),
        (Action("terminate", status="success"), truth(action="terminate", status="success"), 1),
        (Action("terminate", status="failure"), truth(action="terminate", status="success"), 0),
    ],
)
def test_other_actions(action, wanted, expected):
    assert reward(write_reply("a", "b", action), wanted) == expected


def test_malformed_replies_earn_nothing():
    wanted = truth(action="click", box=BOX)
    right = reply("click", (120, 230))
    completions = [right, right + "!", "", [], [{"role": "user", "content": right}], None]
    logged = []
    count = len(completions)
    rewards = action_reward(
        completions, [wanted] * count, [SIZE] * count, log_metric=lambda name, value: logged.append((name, value))
    )
    assert rewards == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert logged == [("action/type", value) for value in rewards]
    assert gui_format_reward(completions, image_size=[SIZE] * count) == rewards
    # Off the screen is malformed; off the box is not.
    assert gui_format_reward([right.replace("120", "999"), right.replace("120", "9")], image_size=[SIZE] * 2) == [
        0.0,
        1.0,
    ]


@pytest.mark.parametrize(
    "bad, expected",
    [
        ("no", "Expecting value"),
        ("[]", 'with an "action"'),
        ('{"action": "click"}', "a click needs 'box'"),
        ('{"action": "click", "box": [1, 2, 3]}', "four numbers"),
        ('{"action": "swipe", "box": [1, 2, 3, 4]}', "a swipe needs 'direction'"),
        ('{"action": "type"}', "a type needs 'text'"),
        ('{"action": "system_button"}', "needs 'button'"),
        ('{"action": "terminate"}', "needs 'status'"),
        (None, "must be str"),
    ],
)
def test_wrong_ground_truth_names_the_row(bad, expected):
    good = truth(action="wait")
    with pytest.raises(ValueError, match=f"Row 1 of the batch, column `ground_truth`: .*{expected}"):
        action_reward(["", ""], [good, bad], [SIZE, SIZE])


def test_every_ground_truth_of_a_step_is_accepted():
    box = Box(*BOX)
    calls = [
        (Action("click", box.center), box),
        (Action("long_press", box.center, time=1), box),
        (Action("swipe", box.center, (120, 100)), box),
        (Action("type", text="x"), None),
        (Action("key", text="enter"), None),
        (Action("open", text="Shop"), None),
        (Action("system_button", button="Home"), None),
        (Action("wait", time=1), None),
        (Action("terminate", status="failure"), None),
    ]
    for call, target in calls:
        assert (
            reward(write_reply("a", "b", call), json.dumps(GuiStep(None, "a", "b", call, target).ground_truth())) == 1
        )


class Screen:
    image_size = SIZE


class Grid(Screen):
    coordinate_space = "norm1000"


def rollout(*replies):
    messages = []
    for text in replies:
        messages += [{"role": "assistant", "content": text}, {"role": "tool", "name": "mobile_use", "content": []}]
    return messages


def test_format_of_a_rollout_is_a_mean_of_plus_and_minus_one():
    good, bad = reply("click", (120, 230)), "click"
    completions = [rollout(good, good), rollout(good, bad), rollout(bad, good, bad, bad), rollout()]
    assert gui_format_reward(completions, [Screen()] * 4) == [1.0, 0.0, -0.5, -1.0]
    far = reply("click", (900, 900))
    assert gui_format_reward([rollout(far), rollout(far)], [Screen(), Grid()]) == [-1.0, 1.0]
    with pytest.raises(ValueError, match="environments or the dataset column"):
        gui_format_reward(completions)


def test_text_of_a_reply_that_a_parser_took_apart():
    call = {"type": "function", "function": {"name": "mobile_use", "arguments": {"action": "wait", "time": 1}}}
    message = {"role": "assistant", "content": "<action>b</action>", "reasoning_content": "a", "tool_calls": [call]}
    assert reply_text(message) == write_reply("a", "b", Action("wait", time=1))
    assert reply_text({"role": "assistant", "content": "so"}) == "so"
    assert reply_text({"role": "assistant", "tool_calls": [3]}) == "<tool_call>\n3\n</tool_call>"
