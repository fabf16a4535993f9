"""Random walks over the phone, for tests."""

import random

from trl_multiturn.environments.phone.layout import tappable
from trl_multiturn.environments.phone.oracle import Step, apply


TYPED = ("", "x", "07:30", "21:05", "12", "Meeting 2", "日程", "a" * 300, "555 0199", "<b>&'\"")


def random_step(state, rng, texts=()):
    """Any input at all, mostly a tap on something in sight."""
    ids = [widget.id for widget, _ in tappable(state.screen(), state.scroll)]
    kinds = ("tap", "long_press", "type", "enter", "back", "home", "open", "scroll")
    kind = rng.choices(kinds, weights=(60, 12, 12, 5, 4, 1, 3, 5))[0]
    if kind in ("tap", "long_press"):
        return Step(kind, rng.choice(ids) if ids else "nothing")
    if kind == "type":
        return Step(kind, rng.choice((*texts, *texts, *TYPED)))
    if kind == "open":
        apps = ("Shop", "Hotels", "Notes", "Settings", "Messages", "Alarms", "Music", "Live", "Nowhere")
        return Step(kind, rng.choice(apps))
    return Step(kind, amount=rng.choice((-900, -100, 100, 672)) if kind == "scroll" else 0)


def walk(state, seed, length, texts=()):
    """The states that random steps lead through, the first one left out."""
    rng = random.Random(seed)
    for _ in range(length):
        state = apply(state, random_step(state, rng, texts))
        yield state
