"""What the doctor finds wrong with IGPO, ArCHer and failure replay; and a healthy run of each trainer."""

import pytest
import torch
from datasets import IterableDataset, load_dataset

from tests.archer.tiny import QUICK, Run
from tests.archer.tiny import make as make_archer
from tests.doctor.cases import bad, found_in, only, says
from tests.recipes.test_archer_recipe import write_logged
from tests.tiny import Counter, QuietCounter, add_some, answer_length, call, dataset, make_trainer
from trl_multiturn import (
    IGPOTrainer,
    ReplayArCHerTrainer,
    ReplayGRPOTrainer,
    ReplayIGPOTrainer,
    diagnose,
)


def thinks(text, turn, rng):
    """Adds one to three times, then thinks and answers."""
    message = add_some(text, turn, rng)
    return message if "tool_call" in message else f"<think>\nWell.\n</think>\n{message}"


def make_igpo(folder, script=thinks, trainer_class=IGPOTrainer, environment=QuietCounter, answers="Paris", **options):
    data = options.pop("data", None) or dataset(8, answers=[answers] * 8)
    return make_trainer(folder, environment, script, trainer_class, data=data, **options)


def make_replay(folder, **options):
    return make_trainer(folder, QuietCounter, trainer_class=options.pop("trainer_class", ReplayGRPOTrainer), **options)


HEALTHY = {
    "base": lambda folder: make_trainer(folder, QuietCounter),
    "turn_rewards": lambda folder: make_trainer(folder, Counter),
    "igpo": make_igpo,
    "archer": make_archer,
    "filtered_bc": lambda folder: make_archer(folder, algorithm="filtered_bc"),
    "replay": make_replay,
    "replay_igpo": lambda folder: make_igpo(folder, trainer_class=ReplayIGPOTrainer),
    "replay_archer": lambda folder: make_trainer(folder, Counter, trainer_class=ReplayArCHerTrainer, **QUICK),
}


@pytest.mark.parametrize("build", HEALTHY.values(), ids=HEALTHY.keys())
def test_healthy_run(tmp_path, build):
    report = diagnose(build(tmp_path))
    assert bad(report) == {}
    checked = {finding.check for finding in report.findings if finding.severity == "ok"}
    assert {"trained tokens", "signal", "stop reasons", "tool call round trip", "gradient"} <= checked


# --- IGPO


def test_no_second_turn(tmp_path):
    def answers_at_once(text, turn, rng):
        return f"<think>\nWell.\n</think>\n<answer>{rng.randint(0, 3)}</answer>"

    found = found_in(make_igpo(tmp_path, answers_at_once))
    assert set(found) == {"tool calls", "IGPO gains"}
    says(found["IGPO gains"], "error", "call its tools first")


class Believes(IGPOTrainer):
    """Beliefs as a table says, in place of the model's."""

    level, step = -3.0, 0.1

    def score_turns(self, rollouts):
        turns = torch.arange(rollouts.max_turns, dtype=torch.float64)
        noise = torch.arange(len(rollouts), dtype=torch.float64).unsqueeze(1) / 100
        return (self.level + turns * (self.step + noise * (self.step > 0))).masked_fill(
            ~rollouts.turn_mask.cpu(), torch.nan
        )


@pytest.mark.parametrize(
    ("level", "step", "severity", "said"),
    [
        (-3.0, 0.0, "error", "belief_prefix"),
        (-0.05, 0.01, "warning", "gain_weight: 0.0"),
        (float("nan"), 0.1, "error", "belief_method: per_turn"),
    ],
    ids=["same", "known", "nan"],
)
def test_beliefs_say_nothing(tmp_path, level, step, severity, said):
    trainer_class = type("Believes", (Believes,), {"level": level, "step": step})
    finding = found_in(make_igpo(tmp_path, trainer_class=trainer_class))["IGPO gains"]
    says(finding, severity, said)


def test_no_answers(tmp_path):
    """A stream is not looked through when the trainer is built."""

    def stream():
        for number in range(8):
            yield {
                "prompt": [{"role": "user", "content": f"Task {number}"}],
                "number": number,
                "answers": ["Paris", ""][number % 2],
            }

    trainer = make_igpo(tmp_path, data=IterableDataset.from_generator(stream), gain_weight=0.0)
    finding = found_in(trainer)["IGPO gains"]
    says(finding, "error", "answer_column")
    assert finding.measured.startswith("4 of 8 rows have no answer")


def test_no_gains_are_asked_for(tmp_path):
    only(make_igpo(tmp_path, gain_weight=0.0), "IGPO gains", "warning", "gain_weight: 1.0")


def test_policy_does_not_think(tmp_path):
    only(make_igpo(tmp_path, add_some), "IGPO belief prefix", "warning", r"belief_prefix: '<answer>\n'")


def test_policy_answers_elsewhere(tmp_path):
    def plainly(text, turn, rng):
        message = add_some(text, turn, rng)
        return message if "tool_call" in message else f"It is {rng.randint(0, 3)}."

    only(make_igpo(tmp_path, plainly), "IGPO belief prefix", "warning", "between <answer> and </answer>")


def test_answer_stands_in_the_prompt(tmp_path):
    finding = only(make_igpo(tmp_path, answers="Task"), "IGPO leaks", "warning", "Take it out of the prompt")
    assert "the prompt of 100% of the tasks" in finding.measured


# --- ArCHer


def test_rollouts_without_reward(tmp_path):
    def some(completions, **kwargs):
        return [value if i % 2 else None for i, value in enumerate(answer_length(completions))]

    found = found_in(make_archer(tmp_path, environment=QuietCounter, reward_funcs=some))
    assert set(found) == {"rewards", "ArCHer critic"}
    says(found["ArCHer critic"], "warning", "a number for every rollout")


def test_rewards_of_turns_are_the_same(tmp_path):
    class Flat(QuietCounter):
        @property
        def turn_rewards(self):
            return []

    found = found_in(make_archer(tmp_path, environment=Flat))
    says(found["signal"], "warning", "num_generations")


def test_critic_reads_only_the_newest_part(tmp_path):
    finding = only(make_archer(tmp_path, critic_max_length=260), "ArCHer critic", "warning", "critic_max_length: ")
    assert int(finding.change.split(": ")[1].rstrip(".")) > 300


class Blind(Run):
    """Its critic gives every turn the same value."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        values = self.learner.values

        def same(trajectories, target=False):
            found = values(trajectories, target)
            return type(found)(*(torch.zeros_like(value) for value in vars(found).values()))

        self.learner.values = same


def test_critic_sees_no_difference(tmp_path):
    found = found_in(make_archer(tmp_path, trainer_class=Blind))
    says(found["ArCHer critic"], "error", "critic_model")


def test_discount_reaches_no_first_turn(tmp_path):
    finding = only(make_archer(tmp_path, gamma=0.3), "ArCHer returns", "warning", "gamma: ")
    assert "of what the last of 4 turns brings, the first sees 2.7%" in finding.measured


def test_returns_are_large(tmp_path):
    def much(text, turn, rng):
        return call(amount=rng.randint(1, 5) * 100) if turn == 0 else add_some(text, turn, rng)

    trainer_class = type("Run", (Run,), {"script": staticmethod(much)})
    only(make_archer(tmp_path, trainer_class=trainer_class), "ArCHer returns", "warning", "Divide the rewards by")


# --- replay


@pytest.mark.parametrize(("names", "severity"), [([0, 1, 2, 3] * 2, "warning"), ([7] * 8, "error")])
def test_names_of_tasks_are_not_their_own(tmp_path, names, severity):
    trainer = make_replay(tmp_path, data=dataset(8, task=names), task_id_column="task")
    only(trainer, "replay tasks", severity, "leave task_id_column unset")


@pytest.mark.parametrize(("threshold", "measured"), [(100.0, "the best outcome is"), (-1.0, "nothing is ever stored")])
def test_threshold_is_out_of_reach(tmp_path, threshold, measured):
    trainer = make_replay(tmp_path, success_threshold=threshold)
    finding = only(trainer, "replay failures", "warning", "success_threshold: ")
    assert measured in finding.measured


class Forgets(ReplayGRPOTrainer):
    def after_rollouts(self, rollouts):
        self.seen = len(rollouts)


def test_failures_are_not_recorded(tmp_path):
    trainer = make_replay(tmp_path, trainer_class=Forgets, success_threshold=100.0)
    only(trainer, "replay failures", "error", "super().after_rollouts(rollouts)")


def test_offline_trainer_has_no_rollouts(tmp_path):
    data = load_dataset(str(write_logged(tmp_path / "logged")))["train"]
    trainer = make_archer(
        tmp_path, algorithm="offline", environment=None, train_dataset=data, critic_batch_size=4, expectile=0.7
    )
    report = diagnose(trainer)
    assert bad(report) == {}
    assert len(trainer.buffer) == 0 and report.example is None
    assert {f.check for f in report.findings if f.severity == "ok"} >= {"gradient", "end of turn"}
