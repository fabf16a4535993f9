"""The phone keeps to the contract of environments, whatever its settings."""

from functools import partial

import pytest

from trl_multiturn import check_environment
from trl_multiturn.environments.phone import PhoneEnvironment, generate_phone_tasks, phone_dataset


ROW = phone_dataset(generate_phone_tasks(1, apps=["Notes"]))[0]
CALLS = [
    {"action": "open", "text": "Notes"},
    {"action": "click", "coordinate": [20, 30]},
    {"action": "long_press", "coordinate": [20, 30], "time": 1},
    {"action": "system_button", "button": "Back"},
    {"action": "swipe", "coordinate": [20, 100], "coordinate2": [20, 60]},
    {"action": "wait", "time": 1},
    {"action": "terminate", "status": "success"},
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.25},
        {"coordinate_space": "norm1000"},
        {"progress_reward": 0.1, "scale": 0.5},
        {"max_steps": len(CALLS) - 1, "progress_reward": 0.1},
    ],
    ids=lambda options: ",".join(options) or "default",
)
def test_check_environment_finds_nothing(options):
    # The phone is cut off after `max_steps`, so that a call more would rightly fail.
    calls = [("mobile_use", arguments) for arguments in CALLS[: options.get("max_steps", 15)]]
    assert check_environment(partial(PhoneEnvironment, **options), reset_kwargs=ROW, example_calls=calls) == []


def test_a_row_that_is_no_task_is_told():
    found = check_environment(PhoneEnvironment, reset_kwargs={**ROW, "task": "{}"}, raise_on_error=False)
    assert [finding.level for finding in found] == ["error"]
    assert "`reset` raised ValueError: A task must be an object" in found[0].message
