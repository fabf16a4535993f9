"""What the doctor finds wrong with rewards, and with how rollouts end."""

import pytest

from tests.doctor.cases import bad, found_in, only, says
from tests.test_ended_rollouts import Ends
from tests.tiny import Counter, QuietCounter, add_some, answer_length, build_model, call, make_trainer
from tests.tiny_vlm import make_trainer as make_image_trainer
from tests.tiny_vlm import scripted
from trl_multiturn import diagnose
from trl_multiturn.environments.lost import EnvironmentLostError


def constant(completions, **kwargs):
    return [1.0] * len(completions)


def zero(completions, **kwargs):
    return [0.0] * len(completions)


def nothing(completions, **kwargs):
    return [None] * len(completions)


def sometimes(completions, **kwargs):
    values = answer_length(completions)
    return [value if i % 2 else None for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("function", "said"), [(constant, "Every rollout gets the same reward"), (zero, "No rollout succeeds")]
)
def test_rewards_are_all_the_same(tmp_path, function, said):
    found = found_in(make_trainer(tmp_path, QuietCounter, reward_funcs=function))
    assert set(found) == {"rewards", "signal", "gradient"}
    says(found["rewards"], "warning", f"what {function.__name__} compares")
    says(found["signal"], "error", said, "num_generations from 4 to 8")
    says(found["gradient"], "error", "signal")


def test_one_of_two_rewards_is_constant(tmp_path):
    finding = only(
        make_trainer(tmp_path, QuietCounter, reward_funcs=[answer_length, constant]), "rewards", "warning", "constant"
    )
    assert finding.measured == "constant gave 1 for every rollout."


def test_no_rewards(tmp_path):
    found = found_in(make_trainer(tmp_path, QuietCounter, reward_funcs=nothing))
    says(found["rewards"], "error", "Let nothing return a float")
    says(found["signal"], "error", "the finding about rewards")


def test_rewards_are_missing(tmp_path):
    finding = only(make_trainer(tmp_path, QuietCounter, reward_funcs=sometimes), "rewards", "warning", "return 0.0")
    assert "for 50% of the rollouts" in finding.measured


def test_all_rollouts_are_the_same_text(tmp_path):
    def same(text, turn, rng):
        return "<answer>1</answer>"

    found = found_in(make_trainer(tmp_path, script=same))
    says(found["signal"], "error", "raise temperature (1.0)")


def test_few_groups_have_signal(tmp_path):
    def by_task(completions, number, **kwargs):
        return [
            value if task == number[0] else 0.0 for value, task in zip(answer_length(completions), number, strict=True)
        ]

    trainer = make_trainer(
        tmp_path, QuietCounter, reward_funcs=by_task, num_generations=2, per_device_train_batch_size=8
    )
    finding = only(trainer, "signal", "warning", "num_generations from 2 to 4")
    assert finding.measured.startswith("3 of 4 groups")


# --- how rollouts end


def always(text, turn, rng):
    return call(amount=rng.randint(1, 5))


def explains(text, turn, rng):
    """Some messages are longer than others."""
    return "because " * rng.randint(0, 20) + f"<answer>{rng.randint(0, 3)}</answer>"


def test_completion_length_is_too_small(tmp_path):
    finding = only(
        make_trainer(tmp_path, script=explains, max_completion_length=60),
        "stop reasons",
        "warning",
        "max_completion_length: 256 (tool results count)",
        "stop_policies: {max_tokens: mask}",
    )
    assert "run out of max_completion_length=60" in finding.measured


def test_truncated_completions_are_left_out(tmp_path):
    trainer = make_trainer(tmp_path, script=explains, max_completion_length=60, mask_truncated_completions=True)
    says(found_in(trainer)["rollouts left out"], "warning", "mask_truncated_completions: false")


class Talkative(QuietCounter):
    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        return "and one more " * 100


def test_tool_results_do_not_fit(tmp_path):
    found = found_in(make_trainer(tmp_path, Talkative))
    says(found["stop reasons"], "error", "tool_overflow: mask", "let the tools return less")


def test_rollouts_reach_the_turn_limit(tmp_path):
    trainer = make_trainer(tmp_path, Counter, script=always, reward_funcs=None, max_tool_calling_iterations=2)
    finding = found_in(trainer)["stop reasons"]
    says(finding, "error", "max_tool_calling_iterations: 4")


@pytest.mark.parametrize("reason", ["truncated", "terminated"])
def test_environment_ends_rollouts(tmp_path, reason):
    def fails(text, turn, number):
        return f"{number} " + call("fail", reason=reason) + "<|im_end|>"

    with scripted(fails):
        report = diagnose(make_image_trainer(tmp_path, environment=Ends))
    if reason == "terminated":
        assert "stop reasons" not in bad(report)
    else:
        says(bad(report)["stop reasons"], "error", "the environment's own limit")


class Mortal(QuietCounter):
    def add(self, amount: int) -> str:
        """
        Add to the counter.

        Args:
            amount: How much to add.
        """
        if amount == 5:
            raise EnvironmentLostError("it is gone")
        return super().add(amount)


def test_environments_are_lost(tmp_path):
    finding = only(
        make_trainer(tmp_path, Mortal), "stop reasons", "warning", "environment_error: mask", "tool_timeout"
    )
    assert "said that it is gone" in finding.measured


def test_context_window_is_too_small(tmp_path):
    trainer = make_trainer(tmp_path, QuietCounter, model=build_model(max_position_embeddings=500))
    finding = only(trainer, "context window", "warning", "max_completion_length: 221")
    assert "the model knows 500 positions" in finding.measured


def test_limit_of_messages_is_too_small(tmp_path):
    """Not the rollout's limit cuts messages off, but one for each message: for a model that is really sampled."""
    from tests.doctor.test_sampling import plain_trainer

    found = found_in(plain_trainer(tmp_path, generation_kwargs={"max_new_tokens": 8}))
    assert set(found) == {"stop reasons"}
    says(found["stop reasons"], "error", "generation_kwargs: {max_new_tokens: 16}")


def test_script_of_the_tests_is_healthy(tmp_path):
    assert found_in(make_trainer(tmp_path, QuietCounter, script=add_some)) == {}
