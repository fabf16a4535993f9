"""Templates of tasks in Alarms."""

import random
from functools import partial
from typing import Any

from ..apps.alarms import CITIES, REPEATS, SNOOZES, SOUNDS
from ..task import Condition, Path, PhoneTask
from .common import app_task


LABELS = ("Work", "School run", "Gym", "Medicine", "Train", "Call home", "Bread oven", "Swimming", "Lessons", "Market")

_ALARMS: Path = ("Alarms", "alarms")
_REPEATS_ZH = {"Once": "仅一次", "Every day": "每天", "Weekdays": "工作日", "Weekends": "周末"}


def _time(rng: random.Random) -> str:
    return f"{rng.randint(5, 11):02}:{rng.choice((0, 5, 10, 15, 20, 30, 40, 45, 50)):02}"


def _evening(time: str) -> str:
    """The time with the same minutes twelve hours later."""
    return f"{int(time[:2]) + 12}{time[2:]}"


def _pick(rng: random.Random) -> tuple[dict[str, Any], str, str]:
    """Alarms, and the id and time of the one that a task is about. Another rings twelve hours before or after it."""
    near = _time(rng)
    times = {near, _evening(near)}
    count = rng.randint(3, 7)
    while len(times) < count:
        times.add(_time(rng))
    ordered = sorted(times)
    rng.shuffle(ordered)
    alarms = {
        str(i): {
            "time": time,
            "label": rng.choice(LABELS),
            "repeat": rng.choice(REPEATS),
            "sound": rng.choice(SOUNDS),
            "on": rng.random() < 0.5,
        }
        for i, time in enumerate(ordered, 1)
    }
    wanted = rng.choice((near, _evening(near)))
    return alarms, next(i for i, alarm in alarms.items() if alarm["time"] == wanted), wanted


_task = partial(app_task, "Alarms")


def _new(rng: random.Random) -> tuple[dict[str, Any], str, Path]:
    """Alarms that are there, the time of one that is not, and where it will lie."""
    alarms, alarm, time = _pick(rng)
    left = {i: entry for i, entry in alarms.items() if i != alarm}
    return left, time, (*_ALARMS, str(max(map(int, left)) + 1))


def _create(rng: random.Random) -> PhoneTask:
    alarms, time, path = _new(rng)
    return _task(
        "create",
        f"Set an alarm for {time}.",
        f"新建一个{time}的闹钟。",
        setup=((_ALARMS, alarms),),
        goal=(Condition(_ALARMS, "contains", {"time": time, "on": True}),),
        allowed=(path,),
        texts=(time,),
    )


def _create_repeat(rng: random.Random) -> PhoneTask:
    alarms, time, path = _new(rng)
    repeat = rng.choice(REPEATS[1:])
    words = {"Every day": "every day", "Weekdays": "on weekdays", "Weekends": "on weekends"}[repeat]
    return _task(
        "create_repeat",
        f"Set a new alarm for {time} that rings {words}.",
        f"新建一个{time}的闹钟，重复方式为{_REPEATS_ZH[repeat]}。",
        setup=((_ALARMS, alarms),),
        goal=(Condition(_ALARMS, "contains", {"time": time, "repeat": repeat, "on": True}),),
        allowed=(path,),
        texts=(time,),
    )


def _create_label(rng: random.Random) -> PhoneTask:
    alarms, time, path = _new(rng)
    label = rng.choice(LABELS)
    return _task(
        "create_label",
        f"Set an alarm for {time} and label it '{label}'.",
        f"新建一个{time}的闹钟，标签为“{label}”。",
        setup=((_ALARMS, alarms),),
        goal=(Condition(_ALARMS, "contains", {"time": time, "label": label, "on": True}),),
        allowed=(path,),
        texts=(time, label),
    )


def _delete(rng: random.Random) -> PhoneTask:
    alarms, alarm, time = _pick(rng)
    return _task(
        "delete",
        f"Delete the alarm at {time}.",
        f"删除{time}的闹钟。",
        setup=((_ALARMS, alarms),),
        goal=(Condition((*_ALARMS, alarm), "absent"),),
        allowed=((*_ALARMS, alarm),),
    )


def _turn(rng: random.Random, on: bool) -> PhoneTask:
    alarms, alarm, time = _pick(rng)
    alarms[alarm]["on"] = not on
    return _task(
        "turn_on" if on else "turn_off",
        f"Turn {'on' if on else 'off'} my {time} alarm.",
        f"{'打开' if on else '关闭'}{time}的闹钟。",
        setup=((_ALARMS, alarms),),
        goal=(Condition((*_ALARMS, alarm, "on"), "equals", on),),
        allowed=((*_ALARMS, alarm, "on"),),
    )


def _turn_on(rng: random.Random) -> PhoneTask:
    return _turn(rng, True)


def _turn_off(rng: random.Random) -> PhoneTask:
    return _turn(rng, False)


def _change_time(rng: random.Random) -> PhoneTask:
    alarms, alarm, old = _pick(rng)
    new = next(time for time in iter(lambda: _time(rng), None) if all(a["time"] != time for a in alarms.values()))
    return _task(
        "change_time",
        f"Change the {old} alarm to {new}.",
        f"把{old}的闹钟改到{new}。",
        setup=((_ALARMS, alarms),),
        goal=(Condition((*_ALARMS, alarm, "time"), "equals", new),),
        allowed=((*_ALARMS, alarm, "time"),),
        texts=(new,),
    )


def _label(rng: random.Random) -> PhoneTask:
    alarms, alarm, time = _pick(rng)
    label = rng.choice([label for label in LABELS if label != alarms[alarm]["label"]])
    return _task(
        "label",
        f"Label the {time} alarm '{label}'.",
        f"把{time}的闹钟标签改为“{label}”。",
        setup=((_ALARMS, alarms),),
        goal=(Condition((*_ALARMS, alarm, "label"), "equals", label),),
        allowed=((*_ALARMS, alarm, "label"),),
        texts=(label,),
    )


def _repeat(rng: random.Random) -> PhoneTask:
    alarms, alarm, time = _pick(rng)
    old, new = rng.sample(REPEATS, 2)
    alarms[alarm]["repeat"] = old
    return _task(
        "repeat",
        f"Set the repeat of the {time} alarm to '{new}'.",
        f"把{time}的闹钟的重复方式改为“{_REPEATS_ZH[new]}”。",
        setup=((_ALARMS, alarms),),
        goal=(Condition((*_ALARMS, alarm, "repeat"), "equals", new),),
        allowed=((*_ALARMS, alarm, "repeat"),),
    )


def _sound(rng: random.Random) -> PhoneTask:
    alarms, alarm, time = _pick(rng)
    old, new = rng.sample(SOUNDS, 2)
    alarms[alarm]["sound"] = old
    return _task(
        "sound",
        f"Wake me with the sound '{new}' at {time}: the alarm is there already.",
        f"把{time}的闹钟的铃声改为“{new}”。",
        setup=((_ALARMS, alarms),),
        goal=(Condition((*_ALARMS, alarm, "sound"), "equals", new),),
        allowed=((*_ALARMS, alarm, "sound"),),
    )


def _snooze(rng: random.Random) -> PhoneTask:
    old, new = rng.sample(SNOOZES, 2)
    return _task(
        "snooze",
        f"Let my alarms snooze for {new}.",
        f"把闹钟的贪睡时间改为{new.split()[0]}分钟。",
        setup=((("Alarms", "snooze"), old),),
        goal=(Condition(("Alarms", "snooze"), "equals", new),),
        allowed=(("Alarms", "snooze"),),
    )


def _add_city(rng: random.Random) -> PhoneTask:
    city, *others = rng.sample(CITIES, 4)
    return _task(
        "add_city",
        f"Add a clock for {city}.",
        f"添加{city}的世界时钟。",
        setup=((("Alarms", "cities"), {str(i): {"name": name} for i, name in enumerate(others, 1)}),),
        goal=(Condition(("Alarms", "cities"), "contains", {"name": city}),),
        allowed=(("Alarms", "cities", "4"),),
    )


def _remove_city(rng: random.Random) -> PhoneTask:
    cities = rng.sample(CITIES, 5)
    gone = rng.randint(1, 5)
    return _task(
        "remove_city",
        f"Remove the clock of {cities[gone - 1]}.",
        f"删除{cities[gone - 1]}的世界时钟。",
        setup=((("Alarms", "cities"), {str(i): {"name": name} for i, name in enumerate(cities, 1)}),),
        goal=(Condition(("Alarms", "cities", str(gone)), "absent"),),
        allowed=(("Alarms", "cities", str(gone)),),
    )


def _timers(rng: random.Random) -> dict[str, Any]:
    return {str(i): {"minutes": str(m)} for i, m in enumerate(rng.sample(range(2, 60), rng.randint(1, 4)), 1)}


def _start_timer(rng: random.Random) -> PhoneTask:
    timers = _timers(rng)
    minutes = str(rng.choice([m for m in range(2, 60) if all(t["minutes"] != str(m) for t in timers.values())]))
    return _task(
        "start_timer",
        f"Start a timer for {minutes} minutes.",
        f"启动一个{minutes}分钟的计时器。",
        setup=((("Alarms", "timers"), timers),),
        goal=(Condition(("Alarms", "timers"), "contains", {"minutes": minutes}),),
        allowed=(("Alarms", "timers", str(len(timers) + 1)),),
        texts=(minutes,),
    )


def _stop_timer(rng: random.Random) -> PhoneTask:
    timers = _timers(rng)
    timer = rng.choice(sorted(timers))
    return _task(
        "stop_timer",
        f"Stop the timer of {timers[timer]['minutes']} minutes.",
        f"停止{timers[timer]['minutes']}分钟的计时器。",
        setup=((("Alarms", "timers"), timers),),
        goal=(Condition(("Alarms", "timers", timer), "absent"),),
        allowed=(("Alarms", "timers", timer),),
    )


TEMPLATES = {
    "alarms.create": _create,
    "alarms.create_repeat": _create_repeat,
    "alarms.create_label": _create_label,
    "alarms.delete": _delete,
    "alarms.turn_on": _turn_on,
    "alarms.turn_off": _turn_off,
    "alarms.change_time": _change_time,
    "alarms.label": _label,
    "alarms.repeat": _repeat,
    "alarms.sound": _sound,
    "alarms.snooze": _snooze,
    "alarms.add_city": _add_city,
    "alarms.remove_city": _remove_city,
    "alarms.start_timer": _start_timer,
    "alarms.stop_timer": _stop_timer,
}
