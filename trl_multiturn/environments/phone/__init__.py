"""A phone as a state machine, its renderers and backends, tasks on it, and demonstrations by an oracle."""

from .actions import Action, ActionError, parse_action, write_reply
from .backend import PhoneBackend, StateBackend
from .demonstrations import demonstrate, demonstrations, task_split
from .environment import PhoneEnvironment
from .oracle import Oracle
from .pillow_renderer import render
from .prompt import system_prompt
from .state import PhoneState
from .task import PhoneTask
from .tasks import generate_phone_tasks, phone_dataset
from .trajectory import GuiStep, GuiTrajectory


__all__ = [
    "Action",
    "ActionError",
    "GuiStep",
    "GuiTrajectory",
    "Oracle",
    "PhoneBackend",
    "PhoneEnvironment",
    "PhoneState",
    "PhoneTask",
    "StateBackend",
    "demonstrate",
    "demonstrations",
    "generate_phone_tasks",
    "parse_action",
    "phone_dataset",
    "render",
    "system_prompt",
    "task_split",
    "write_reply",
]
