"""A browser that is killed while the trainer rolls out: those rollouts end as environment errors, and training goes on."""

import pytest

from tests.environments.phone.phones import require_browser
from tests.environments.phone.test_chromium import kill
from tests.tiny import call
from tests.tiny_vlm import train
from trl_multiturn.environments.phone import PhoneEnvironment, generate_phone_tasks, phone_dataset
from trl_multiturn.environments.phone.chromium import ChromiumBackend


@pytest.mark.needs_browser
def test_training_goes_on_when_the_browser_is_killed(tmp_path):
    require_browser()
    killed = []

    def script(text, turn, number):
        # `number` counts the messages, a thousand for each step. The browser dies in the first step's second turn.
        if turn == 1 and not killed:
            killed.append(number)
            kill("browser")
        if turn < 2:
            return f"{number} " + call("mobile_use", action="open", text="Notes") + "<|im_end|>"
        return f"{number} " + call("mobile_use", action="terminate", status="success") + "<|im_end|>"

    trainer, _ = train(
        tmp_path,
        script,
        environment=lambda: PhoneEnvironment(ChromiumBackend, scale=0.25),
        data=phone_dataset(generate_phone_tasks(4, seed=1, apps=["Notes"])),
        history_images=1,
        max_steps=2,
    )
    first, second = (entry for entry in trainer.state.log_history if "stop/environment_error" in entry)
    assert killed and killed[0] < 1000
    assert first["stop/environment_error"] > 0
    assert second["stop/environment_error"] == 0
    assert second["stop/completed"] == 1
    assert trainer.state.global_step == 2
