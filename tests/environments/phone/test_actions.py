import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trl_multiturn.environments.phone.actions import (
    MAX_REPLY_CHARS,
    Action,
    ActionError,
    check_action,
    parse_action,
    scale_action,
    write_reply,
)
from trl_multiturn.environments.phone.layout import Box
from trl_multiturn.environments.phone.mobile_use import ARGUMENTS, BUTTONS, STATUSES
from trl_multiturn.environments.phone.trajectory import GuiStep


SIZE = (392, 784)
BACK = {"name": "mobile_use", "arguments": {"action": "system_button", "button": "Back"}}

points = st.tuples(st.integers(0, SIZE[0] - 1), st.integers(0, SIZE[1] - 1))
sentences = st.text(st.characters(exclude_categories=("C",), exclude_characters="<>"), min_size=1).filter(str.strip)
texts = st.text(st.characters(exclude_categories=("C",), exclude_characters="<>"), min_size=1, max_size=200)
actions = st.one_of(
    st.builds(Action, st.just("click"), points),
    st.builds(Action, st.just("long_press"), points, time=st.floats(0.1, 60)),
    st.builds(Action, st.just("swipe"), points, points).filter(lambda a: a.coordinate != a.coordinate2),
    st.builds(Action, st.sampled_from(["type", "open"]), text=texts.filter(str.strip)),
    st.builds(Action, st.just("key"), text=st.from_regex(r"[A-Za-z0-9_]{1,20}", fullmatch=True)),
    st.builds(Action, st.just("system_button"), button=st.sampled_from(BUTTONS)),
    st.builds(Action, st.just("wait"), time=st.integers(1, 60)),
    st.builds(Action, st.just("terminate"), status=st.sampled_from(STATUSES)),
)


def reply(call=BACK, thought="I see.", description="Go back."):
    call = call if isinstance(call, str) else json.dumps(call)
    return f"<think>{thought}</think><action>{description}</action><tool_call>{call}</tool_call>"


def with_arguments(**arguments):
    return reply({"name": "mobile_use", "arguments": arguments})


@given(sentences, sentences, actions)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_again_as_text_and_as_message(thought, description, action):
    text = write_reply(thought, description, action)
    parsed = parse_action(text, SIZE)
    assert (parsed.thought, parsed.description, parsed.action) == (thought.strip(), description.strip(), action)
    call = {"type": "function", "function": action.to_call()}
    before = text[: text.index("<tool_call>")]
    assert parse_action({"role": "assistant", "content": before, "tool_calls": [call]}, SIZE) == parsed
    content = before[before.index("<action>") :]
    message = {"role": "assistant", "content": content, "reasoning_content": thought, "tool_calls": [call]}
    assert parse_action(message, SIZE) == parsed
    assert parse_action({"role": "assistant", "content": [{"type": "text", "text": text}]}, SIZE) == parsed


@given(actions, st.sampled_from([(1000, 1000), (999, 784), (784, 1568)]))
@settings(max_examples=200, deadline=None)
def test_a_point_survives_a_larger_screenshot_and_norm1000(action, larger):
    assert scale_action(scale_action(action, SIZE, larger), larger, SIZE) == action
    arguments = scale_action(action, SIZE, (1000, 1000)).arguments()
    assert check_action(arguments, SIZE, "norm1000") == action


def test_the_form_of_a_reply():
    text = write_reply("Open it.", "点击笔记", Action("type", text='"笔记"'))
    assert text == (
        "<think>Open it.</think>\n<action>点击笔记</action>\n<tool_call>\n"
        '{"name": "mobile_use", "arguments": {"action": "type", "text": "\\"笔记\\""}}\n</tool_call>'
    )
    for thought in ("", "  ", "a</think>", "<tool_call>"):
        with pytest.raises(ValueError, match="a part of a reply"):
            write_reply(thought, "b", Action("wait", time=1))


def test_both_ends_of_norm1000_are_on_the_screen():
    for point, pixel in (([0, 0], (0, 0)), ([1000, 1000], (391, 783)), ([999, 500], (391, 392))):
        assert check_action({"action": "click", "coordinate": point}, SIZE, "norm1000").coordinate == pixel


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "needs <think> and </think> once each, got 0"),
        ("Back", "needs <think>"),
        (reply().replace("<action>Go back.</action>", ""), "needs <action>"),
        (reply().replace("</tool_call>", ""), "1 of <tool_call> and 0 of </tool_call>"),
        (reply() + reply(), "got 2 of <think>"),
        (reply(thought="a<think>b"), "got 2 of <think>"),
        (reply(thought="a</action>b"), "2 of </action>"),
        (reply() + " so.", "nothing else before"),
        ("So: " + reply(), "nothing else before"),
        (reply().replace("</think>", "</think> and "), "nothing else before"),
        ("<action>b</action><think>a</think><tool_call>{}</tool_call>", "in this order"),
        ("<think><action>b</action></think><tool_call>{}</tool_call>", "in this order"),
        ("</think>a<think><action>b</action><tool_call>{}</tool_call>", "in this order"),
        (reply(thought=" \n"), "some text between <think>"),
        (reply(description=""), "some text between <action>"),
        (reply(thought="x" * MAX_REPLY_CHARS), "at most 20000 are allowed"),
        (reply(""), "no JSON: Expecting value at character 0"),
        (reply('{"name": "mobile_use"'), "no JSON"),
        (reply("{'name': 'mobile_use'}"), "no JSON"),
        (reply('{"name": 1} {}'), "no JSON: Extra data"),
        (reply("[" * 9000), "no JSON"),
        (reply("[" * 9000 + "]" * 9000), "nested too deep|must be a JSON object"),
        (reply("9" * 6000), "too many digits"),
        (reply("[]"), "must be a JSON object, got a list"),
        (reply("null"), "must be a JSON object, got null"),
        (reply('{"name": "a", "name": "mobile_use", "arguments": {}}'), 'names "name" twice'),
        (reply('{"name": "mobile_use", "arguments": {"action": "wait", "time": 1, "time": 2}}'), 'names "time" twice'),
        (reply('{"name": "mobile_use", "arguments": {"action": "wait", "time": NaN}}'), "NaN is no number"),
        (reply('{"name": "mobile_use", "arguments": {"action": "wait", "time": -Infinity}}'), "Infinity is no number"),
        (reply('{"name": "mobile_use", "arguments": {"action": "wait", "time": 1e999}}'), "at most 60 seconds"),
        (reply({"name": "mobile_use"}), "must have a name and arguments"),
        (reply({"arguments": {}}), "must have a name and arguments"),
        (reply({**BACK, "id": 1}), 'nothing else, got "id"'),
        (reply({**BACK, "name": "computer_use"}), 'only function is mobile_use, got "computer_use"'),
        (reply({**BACK, "name": None}), "only function is mobile_use, got null"),
        (reply({"name": "mobile_use", "arguments": [1]}), "arguments must be an object, got a list"),
    ],
)
def test_malformed_replies(text, expected):
    with pytest.raises(ActionError, match=expected) as error:
        parse_action(text, SIZE)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({}, "action is missing. It is one of click"),
        ({"action": None}, "action is missing"),
        ({"action": "tap"}, 'action must be one of .* got "tap"'),
        ({"action": 3}, "action must be one of .* got 3"),
        ({"action": ["click"]}, "got a list"),
        ({"action": "click"}, "click needs the argument coordinate"),
        ({"action": "swipe", "coordinate": [1, 1]}, "swipe needs the argument coordinate2"),
        ({"action": "click", "coordinate": [1, 1], "text": "a"}, 'click takes no argument "text"'),
        ({"action": "wait", "time": 1, "x" * 500: "a"}, "wait takes no argument"),
        ({"action": "click", "coordinate": "1, 1"}, "list of two whole numbers"),
        ({"action": "click", "coordinate": [1]}, "list of two whole numbers"),
        ({"action": "click", "coordinate": [1, 2, 3]}, "list of two whole numbers"),
        ({"action": "click", "coordinate": [1.0, 2]}, "whole numbers, got 1.0"),
        ({"action": "click", "coordinate": [True, 2]}, "whole numbers, got true or false"),
        ({"action": "click", "coordinate": ["1", 2]}, "whole numbers, got"),
        ({"action": "click", "coordinate": [392, 2]}, "off the screen: x must be from 0 to 391, got 392"),
        ({"action": "click", "coordinate": [0, -1]}, "off the screen: y must be from 0 to 783, got -1"),
        ({"action": "click", "coordinate": [10**400, 0]}, "got a very large number"),
        ({"action": "swipe", "coordinate": [1, 1], "coordinate2": [1, 784]}, "coordinate2 is off the screen"),
        ({"action": "swipe", "coordinate": [1, 1], "coordinate2": [1, 1]}, "same point"),
        ({"action": "type", "text": 5}, "text must be text, got a number"),
        ({"action": "type", "text": ""}, "must not be empty"),
        ({"action": "type", "text": " "}, "must not be empty"),
        ({"action": "type", "text": "a" * 201}, "201 characters; at most 200"),
        ({"action": "type", "text": "a\nb"}, "no control characters"),
        ({"action": "type", "text": "a\ud800"}, "no control characters"),
        ({"action": "key", "text": "enter; reboot"}, "name of a key"),
        ({"action": "wait", "time": True}, "number of seconds, got true or false"),
        ({"action": "wait", "time": "1"}, "number of seconds"),
        ({"action": "wait", "time": 0}, "more than 0"),
        ({"action": "wait", "time": float("nan")}, "more than 0"),
        ({"action": "wait", "time": 10**400}, "got a very large number"),
        ({"action": "system_button", "button": "back"}, 'one of Back, Home, Menu, Enter, got "back"'),
        ({"action": "terminate", "status": "done"}, "one of success, failure"),
    ],
)
def test_wrong_arguments(arguments, expected):
    with pytest.raises(ActionError, match=expected) as error:
        check_action(arguments, SIZE)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "message, expected",
    [
        (3, "text or a message, got a number"),
        ({"content": None}, "needs <think>"),
        ({"content": reply(), "tool_calls": [BACK]}, "got 2 of <tool_call>"),
        ({"content": "<think>a</think><action>b</action>", "tool_calls": [BACK, BACK]}, "exactly one call"),
        ({"content": "<think>a</think><action>b</action>", "tool_calls": BACK}, "exactly one call"),
        ({"content": "<think>a</think><action>b</action>", "tool_calls": [3]}, "must be a JSON object"),
        ({"content": "<action>b</action>", "tool_calls": [BACK]}, "needs <think>"),
        ({"content": "<action>b</action>", "reasoning_content": 3, "tool_calls": [BACK]}, "thought must be text"),
        (
            {"content": "<think>a</think><action>b</action>", "reasoning_content": "a", "tool_calls": [BACK]},
            "2 of <think>",
        ),
        ({"content": '<action>b</action><tool_call>{"name"</tool_call>', "reasoning_content": "a"}, "no JSON"),
    ],
)
def test_malformed_messages(message, expected):
    with pytest.raises(ActionError, match=expected):
        parse_action(message, SIZE)


def test_arguments_as_json_text_and_none_as_not_given():
    call = {"function": {"name": "mobile_use", "arguments": '{"action": "wait", "time": 2, "text": null}'}}
    message = {"content": "<think>a</think><action>b</action>", "tool_calls": [call]}
    assert parse_action(message, SIZE).action == Action("wait", time=2)
    assert parse_action(with_arguments(action="wait", time=2, coordinate=None), SIZE).action == Action("wait", time=2)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda v: (
            st.lists(v) | st.dictionaries(st.sampled_from([*ARGUMENTS, "action", "text", "coordinate", "time"]), v)
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_anything_is_an_action_or_an_action_error(value):
    for check in (lambda: check_action(value, SIZE), lambda: parse_action(value, SIZE)):
        try:
            check()
        except ActionError as error:
            assert str(error)


@pytest.mark.parametrize(
    "end, direction",
    [((100, 50), "up"), ((110, 300), "down"), ((10, 120), "left"), ((300, 110), "right"), ((150, 150), "down")],
)
def test_direction_of_a_swipe(end, direction):
    assert Action("swipe", (100, 100), end).direction == direction
    assert Action("click", (100, 100)).direction is None


def test_ground_truth_of_a_step():
    swipe = GuiStep(None, "a", "b", Action("swipe", (100, 600), (100, 200)), Box(0, 56, 392, 784))
    assert swipe.ground_truth() == {"action": "swipe", "box": [0, 56, 392, 784], "direction": "up"}
    assert GuiStep(None, "a", "b", Action("wait", time=2)).ground_truth() == {"action": "wait"}
    assert GuiStep(None, "a", "b", Action("type", text="x")).ground_truth() == {"action": "type", "text": "x"}
    with pytest.raises(ValueError, match="box"):
        GuiStep(None, "a", "b", Action("click", (1, 1))).ground_truth()
