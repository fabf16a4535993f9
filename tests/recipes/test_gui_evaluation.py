"""Evaluation of GUI agents: what scripted agents and a tiny model come to, on recorded screens and on the phone."""

import dataclasses
import functools
import json
import random
import sys

import pytest
import torch
from trl import GRPOTrainer

from trl_multiturn.environments.lost import EnvironmentLostError
from trl_multiturn.environments.phone import (
    PhoneEnvironment,
    StateBackend,
    demonstrate,
    generate_phone_tasks,
    system_prompt,
    write_reply,
)
from trl_multiturn.evaluation import GuiMatch
from trl_multiturn.recipes import gui_evaluation, gui_report, processors, small_vlm
from trl_multiturn.recipes.gui_evaluation import evaluate_actions, evaluate_tasks, play_baseline
from trl_multiturn.recipes.gui_report import print_report, report, save_report
from trl_multiturn.recipes.gui_rows import step_dataset


SCALE, SIZE = 0.25, (98, 196)
CPU = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "dataloader_pin_memory": False}
PHONE = functools.partial(PhoneEnvironment, scale=SCALE)
END = '<think>Done.</think>\n<action>End.</action>\n<tool_call>\n{"name": "mobile_use", "arguments": %s}\n</tool_call>'
CLAIM = END % '{"action": "terminate", "status": "success"}'
GIVE_UP = END % '{"action": "terminate", "status": "failure"}'
BROKEN = "<think>Done.</think><tool_call>\n{oops\n</tool_call>"
TASKS = [generate_phone_tasks(1, seed=1, apps=[app])[0] for app in ("Notes", "Settings", "Messages")]


@functools.cache
def demos():
    return [demonstrate(task, random.Random(0), scale=SCALE) for task in TASKS]


@functools.cache
def processor():
    texts = [write_reply(s.thought, s.action, s.call) for demo in demos() for s in demo.trajectory]
    plain = small_vlm.build_processor(texts, vocab_size=600)
    tools = processors.tools_as_system_text(plain, system_prompt(SIZE), [PHONE().mobile_use])
    return small_vlm.build_processor(texts, [system_prompt(SIZE), tools[len(system_prompt(SIZE)) :]], vocab_size=600)


@functools.cache
def model():
    torch.manual_seed(0)
    return small_vlm.build_model(
        processor(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [1, 1, 2]},
        vision_depth=1,
        vision_hidden_size=32,
        vision_intermediate_size=48,
        vision_num_heads=2,
    )


@functools.cache
def rows():
    tools = processors.tools_as_system_text(processor(), system_prompt(SIZE), [PHONE().mobile_use])
    return step_dataset([dataclasses.replace(demo, system=tools) for demo in demos()])


class Agent:
    """What the model samples comes from `reply(instruction's number, turn)`; keeps what it was shown."""

    def __init__(self, monkeypatch, reply):
        self.seen = {}

        def generate(trainer, prompt_ids, images, fields, num_generations, has_tool_images=False):
            written = []
            for ids, shown in zip(prompt_ids, images, strict=True):
                text = processor().tokenizer.decode(ids)
                number = next(i for i, task in enumerate(TASKS) if task.instruction in text)
                turn = text.count("<|im_start|>assistant") - 1
                self.seen[number, turn] = (ids, [image.tobytes() for image in shown])
                written.append(processor().tokenizer(reply(number, turn) + "<|im_end|>")["input_ids"])
            return written, None

        monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", generate)


def expert(number, turn):
    step = demos()[number].trajectory[turn]
    return write_reply(step.thought, step.action, step.call)


def live(**settings):
    return evaluate_tasks(
        model(), processor(), TASKS, **{"environment": PHONE, "system": system_prompt(SIZE), **CPU, **settings}
    )


def recorded(**settings):
    return evaluate_actions(model(), processor(), rows(), **CPU, **settings)


def by_task(episodes):
    return sorted(episodes, key=lambda episode: episode.task)


def test_the_oracle_as_an_agent_does_every_task_and_its_measures_are_those_of_the_baseline(monkeypatch):
    agent = Agent(monkeypatch, expert)
    episodes = live()
    assert by_task(episodes) == by_task(play_baseline("oracle", TASKS))
    found = report([], episodes)
    for name in ("success", "success/seen", "success/unseen", "success/Notes", "success/Messages"):
        assert found[name]["value"] == 1.0
    assert found["false_completion"]["value"] == found["side_effects"]["value"] == found["errors"]["value"] == 0.0
    assert {episode.app: episode.unseen for episode in episodes} == {
        "Notes": False,
        "Settings": False,
        "Messages": True,
    }
    for episode in episodes:
        assert episode.distances == [*range(episode.steps - 1, -1, -1), 0]
        assert episode.claimed and episode.invalid_actions == 0
    assert {len(images) for _, images in agent.seen.values()} == {1}


def test_recorded_and_live_screens_are_shown_in_the_same_tokens(monkeypatch):
    agent = Agent(monkeypatch, expert)
    live()
    on_the_phone = dict(agent.seen)
    agent.seen.clear()
    matches = recorded()
    assert agent.seen == on_the_phone
    assert len(matches) == len(rows()) == len(on_the_phone)
    assert all(match.match and match.type_match for match in matches)
    assert {match.trajectory for match in matches if match.unseen} == {2}


def test_an_agent_that_claims_success_at_once_is_found_out(monkeypatch):
    Agent(monkeypatch, lambda number, turn: CLAIM)
    episodes = live(samples=2, temperature=1.0, batch_size=5)
    assert len(episodes) == 6
    found = report([], episodes)
    assert found["false_completion"]["value"] == 1.0 and found["success"]["value"] == 0.0
    assert {episode.steps for episode in episodes} == {1}


def test_actions_of_the_right_type_and_wrong_ones_are_told_apart(monkeypatch):
    Agent(monkeypatch, lambda number, turn: GIVE_UP if number == 0 else BROKEN)
    matches = recorded(samples=2, temperature=1.0)
    assert len(matches) == 2 * len(rows())
    assert not any(match.match for match in matches)
    # Only the last step of the first trajectory ends the episode, and with another status.
    assert [match.trajectory for match in matches if match.type_match] == [0, 0]


@pytest.mark.parametrize("answered", [True, False])
def test_malformed_replies_count_as_invalid_steps(monkeypatch, answered):
    Agent(monkeypatch, lambda number, turn: BROKEN)
    for episode in live(max_steps=3, answer_malformed_calls=answered):
        assert episode.steps == episode.invalid_actions == (3 if answered else 1)
        assert len(episode.distances) == 1 and not episode.success


def test_an_episode_is_cut_off(monkeypatch):
    agent = Agent(monkeypatch, lambda number, turn: END % '{"action": "wait", "time": 1}')
    episodes = live(max_steps=2, history_images=None)
    assert {(episode.steps, episode.invalid_actions, episode.claimed) for episode in episodes} == {(2, 0, False)}
    assert {(turn, len(images)) for (_, turn), (_, images) in agent.seen.items()} == {(0, 1), (1, 2)}


class DyingBackend(StateBackend):
    def perform(self, action):
        if self.state.app == "Notes":
            raise EnvironmentLostError("gone")
        return super().perform(action)


def test_episodes_whose_phone_was_lost_are_left_out(monkeypatch):
    Agent(monkeypatch, expert)
    warnings = []
    monkeypatch.setattr(gui_evaluation.logger, "warning", warnings.append)
    episodes = live(environment=functools.partial(PHONE, backend=DyingBackend))
    assert sorted(episode.app for episode in episodes) == ["Messages", "Settings"]
    assert warnings == ["1 of 3 episodes are left out: their phone was lost."]


def test_a_model_is_evaluated_greedily_unless_told_otherwise_and_learns_nothing(monkeypatch):
    before = [parameter.clone() for parameter in model().parameters()]
    generate = GRPOTrainer._generate_single_turn
    written = {}

    def spy(trainer, prompt_ids, *args, **kwargs):
        output = generate(trainer, prompt_ids, *args, **kwargs)
        told.update(zip(map(tuple, prompt_ids), output[0], strict=True))
        return output

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", spy)
    for run, settings in enumerate(({}, {"seed": 1}, {"temperature": 1.0})):
        told = written[run] = {}
        assert len(recorded(max_reply_tokens=4, batch_size=8, **settings)) == len(rows())
        assert len(live(max_steps=2, max_reply_tokens=4, **settings)) == len(TASKS)
    assert written[0] == written[1] != written[2]
    assert written[0].keys() == written[2].keys()
    assert {len(ids) for ids in written[0].values()} <= {1, 2, 3, 4}
    assert all(torch.equal(old, new) for old, new in zip(before, model().parameters(), strict=True))


@pytest.mark.parametrize(("backend", "name"), [({}, "max_new_tokens"), ({"use_vllm": True}, "max_tokens")])
def test_a_reply_is_bounded_in_the_words_of_what_generates_it(monkeypatch, backend, name):
    asked = []
    monkeypatch.setattr(gui_evaluation, "_run", lambda *args: asked.append(args[-1]))
    assert live(max_reply_tokens=7, **backend) == []
    assert asked[0]["generation_kwargs"] == {name: 7}
    assert asked[0]["max_completion_length"] == 8192


def test_rows_that_fill_up_a_batch_do_not_count_twice():
    found = [("a", 1), ("b", 2), ("b", 3), ("a", 4), ("a", 5)]
    assert gui_evaluation._gathered(found, 1) == [1, 2]
    assert gui_evaluation._gathered(found, 2) == [1, 2, 3, 4]


def test_chance_is_drawn_from_the_seed_and_taps_or_goes_back():
    first = play_baseline("random", TASKS, max_steps=6, seed=0)
    assert first == play_baseline("random", TASKS, max_steps=6, seed=0)
    assert first != play_baseline("random", TASKS, max_steps=6, seed=1)
    assert {(episode.steps, episode.claimed, episode.invalid_actions) for episode in first} == {(6, False, 0)}
    phone = PhoneEnvironment(max_steps=100)
    phone.reset(task=TASKS[0].to_json())
    actions = gui_evaluation._random_actions(phone, random.Random(0))
    for _ in range(100):
        action = next(actions)
        assert action.action == "click" or action.button == "Back"
        phone.mobile_use(**action.arguments())


def test_there_are_two_baselines():
    with pytest.raises(ValueError, match="must be one of oracle, random, got 'best'"):
        play_baseline("best", TASKS)


def reports():
    return {name: report([], play_baseline(name, TASKS, max_steps=8)) for name in ("oracle", "random")}


def test_a_report_is_printed_with_intervals(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    # Two steps of one trajectory: no interval.
    print_report({**reports(), "model": report([GuiMatch(0, True, True)] * 2)}, "Phone")
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert [cell.strip() for cell in lines["success"].split("│")[2:5]] == [
        "100.0% (43.9% to 100.0%), n=3",
        "0.0% (0.0% to 56.1%), n=3",
        "-",
    ]
    assert [cell.strip() for cell in lines["action accuracy"].split("│")[2:5]] == ["-", "-", "100.0%, n=2"]
    assert "8.0 (8.0 to 8.0), n=3" in lines["steps"]


def test_a_report_is_saved_as_json_and_as_a_picture(tmp_path):
    told = reports()
    files = save_report(told, tmp_path / "new")
    assert [file.name for file in files] == ["evaluation.json", "evaluation.png"]
    assert json.loads(files[0].read_text()) == told
    assert files[1].read_bytes().startswith(b"\x89PNG")
    only_actions = save_report({"model": report([GuiMatch(0, True, False)])}, tmp_path)
    assert [file.name for file in only_actions] == ["evaluation.json"]


def test_without_matplotlib_there_is_no_picture(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    warnings = []
    monkeypatch.setattr(gui_report.logger, "warning", warnings.append)
    assert [file.name for file in save_report(reports(), tmp_path)] == ["evaluation.json"]
    assert "trl-multiturn[plot]" in warnings[0]
