"""What the templates of all apps share."""

from typing import Any

from ..task import Condition, Path, PhoneTask


def app_task(
    app: str,
    name: str,
    instruction: str,
    instruction_zh: str,
    setup: tuple[tuple[Path, Any], ...],
    goal: tuple[Condition, ...],
    allowed: tuple[Path, ...] = (),
    texts: tuple[str, ...] = (),
) -> PhoneTask:
    """A task that needs one app. Its template is called after it."""
    return PhoneTask(f"{app.lower()}.{name}", app, instruction, instruction_zh, setup, goal, allowed, (app,), texts)
