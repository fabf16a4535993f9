"""What an agent says in demonstrations on the phone: a thought and a sentence for each step, in English or Chinese."""

import random
from typing import Literal

from .layout import Screen, Widget
from .oracle import Step
from .state import PhoneState


Language = Literal["en", "zh"]

# What is on the screen; `{screen}` is its title.
_SEEN = {
    "en": ("The phone shows {screen}.", "I see {screen}.", "{screen} is open."),
    "zh": ("手机上显示{screen}。", "当前是{screen}。", "{screen}已经打开。"),
}
_BOX = {
    "en": ('A box says "{title}".', 'The box "{title}" is in the way.', 'There is a box over the screen: "{title}".'),
    "zh": ("屏幕上有一个弹窗：“{title}”。", "弹窗“{title}”挡在前面。", "出现了弹窗“{title}”。"),
}
_NEXT = {
    "en": ("I {action} {purpose}.", "Next I {action} {purpose}.", "So I {action} {purpose}."),
    "zh": ("我{action}，{purpose}。", "下一步{action}，{purpose}。", "所以我{action}，{purpose}。"),
}
_WRONG = {
    "en": (
        "That was wrong: it is not what I was asked for.",
        "This is not the right place.",
        "I made a mistake there.",
    ),
    "zh": ("刚才点错了，这不是要找的。", "这里不对。", "我刚才弄错了。"),
}
_DONE = {
    "en": (
        "All that was asked for is done, so I end the task.",
        "Nothing is left to do: I end the task as a success.",
    ),
    "zh": ("要求的都已完成，我结束任务。", "没有剩下要做的，任务成功结束。"),
}
_END = {"en": "End the task as done", "zh": "结束任务，状态为成功"}

# The action as a part of a sentence, by the kind of step.
_ACTIONS = {
    "en": {
        "tap": "tap {what}",
        "long_press": "hold {what}",
        "type": 'type "{what}"',
        "enter": "press Enter",
        "back": "press Back",
        "home": "press Home",
        "open": "open the app {what}",
        "down": "swipe up",
        "up": "swipe down",
    },
    "zh": {
        "tap": "点击{what}",
        "long_press": "长按{what}",
        "type": "输入“{what}”",
        "enter": "按回车键",
        "back": "按返回键",
        "home": "按主屏键",
        "open": "打开应用{what}",
        "down": "向上滑动",
        "up": "向下滑动",
    },
}

# What an action is for, by what it changes.
_PURPOSES = {
    "en": {
        "done": "to finish the task",
        "app": "to get to {screen}",
        "box": "to see more choices",
        "closed": "to go on",
        "focus": "to enter text there",
        "fill": "to fill in the field",
        "scroll": "to see the other lines",
        "screen": "to get to {screen}",
        "choice": "to choose it",
        "data": "to make the change",
        "other": "to go on",
    },
    "zh": {
        "done": "完成任务",
        "app": "进入{screen}",
        "box": "查看更多选项",
        "closed": "继续操作",
        "focus": "以便输入文字",
        "fill": "填写内容",
        "scroll": "查看其他内容",
        "screen": "进入{screen}",
        "choice": "选中它",
        "data": "完成修改",
        "other": "继续操作",
    },
}


def write_step(
    before: PhoneState, step: Step, after: PhoneState, done: bool, lost: bool, language: Language, rng: random.Random
) -> tuple[str, str]:
    """
    Say what a step does.

    Args:
        before ([`PhoneState`]):
            The phone when it is decided on.
        step ([`Step`]):
            The step.
        after ([`PhoneState`]):
            The phone after it.
        done (`bool`):
            Whether the goal is reached then.
        lost (`bool`):
            Whether the step before was a mistake.
        language (`str`):
            `"en"` or `"zh"`.
        rng (`random.Random`):
            Where the wording is drawn from.

    Returns:
        `tuple[str, str]`: The thought - what is seen, what is done next and what for - and the action as a sentence.
    """
    action = _action(before, step, language)
    purpose = _PURPOSES[language]["done" if done else _change(before, after)].format(screen=after.screen().title)
    parts = [_seen(before.screen(), language, rng)]
    if lost:
        parts.append(rng.choice(_WRONG[language]))
    parts.append(rng.choice(_NEXT[language]).format(action=action, purpose=purpose))
    return _join(parts, language), _sentence(action, language)


def write_end(state: PhoneState, language: Language, rng: random.Random) -> tuple[str, str]:
    """
    Say that the task is done.

    Args:
        state ([`PhoneState`]):
            The phone at the end.
        language (`str`):
            `"en"` or `"zh"`.
        rng (`random.Random`):
            Where the wording is drawn from.

    Returns:
        `tuple[str, str]`: Thought and sentence.
    """
    parts = [_seen(state.screen(), language, rng), rng.choice(_DONE[language])]
    return _join(parts, language), _sentence(_END[language], language)


def widget_of(state: PhoneState, widget_id: str) -> Widget:
    """The widget in sight that has an id."""
    return next(widget for widget, _ in state.in_sight() if widget.id == widget_id)


def _seen(screen: Screen, language: Language, rng: random.Random) -> str:
    if screen.popup is not None:
        return rng.choice(_BOX[language]).format(title=screen.popup.title)
    return rng.choice(_SEEN[language]).format(screen=screen.title)


def _action(state: PhoneState, step: Step, language: Language) -> str:
    kind, what = step.kind, step.target
    if kind == "scroll":
        kind = "down" if step.amount > 0 else "up"
    elif kind in ("tap", "long_press"):
        what = widget_of(state, step.target).text
    return _ACTIONS[language][kind].format(what=what)


def _change(before: PhoneState, after: PhoneState) -> str:
    """The most telling of the things that a step changes."""
    here, there = before.top, after.top
    changes = (
        ("app", before.app != after.app),
        ("box", before.popup is None and after.popup is not None),
        ("choice", here["screen"] == there["screen"] and here["params"] != there["params"]),
        ("screen", here["screen"] != there["screen"]),
        ("data", before.data is not after.data),
        ("closed", before.popup is not None and after.popup is None),
        ("fill", before.focus is not None and here["fields"] != there["fields"]),
        ("focus", before.focus != after.focus and after.focus is not None),
        ("scroll", before.scroll != after.scroll),
    )
    return next((name for name, changed in changes if changed), "other")


def _join(parts: list[str], language: Language) -> str:
    return ("" if language == "zh" else " ").join(parts)


def _sentence(action: str, language: Language) -> str:
    return action[0].upper() + action[1:] + ("。" if language == "zh" else ".")
