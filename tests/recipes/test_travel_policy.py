"""The shipped travel policy: its files, that what it must copy is short, and that it plans trips for real."""

import json
import subprocess
import sys
from functools import lru_cache

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.chat_template_utils import parse_response, supports_tool_calling

from trl_multiturn.environments.travel import parse_itinerary
from trl_multiturn.environments.travel.demonstrations import demonstrations
from trl_multiturn.recipes import small_policy, travel_policy
from trl_multiturn.recipes.travel_policy import (
    LEVELS,
    MAX_RESULTS,
    MAX_TRIP_TOKENS,
    MAX_TURN_TOKENS,
    MAX_TURNS,
    TRAVEL_POLICY,
    travel_world,
)
from trl_multiturn.rewards.verifiers import HierarchicalReward, TrajectoryVerifier


@lru_cache
def tokenizer():
    return AutoTokenizer.from_pretrained(TRAVEL_POLICY)


@lru_cache
def world():
    return travel_world()


@lru_cache
def written():
    return travel_policy.write_demonstrations(world(), 40, seed=5)


def ids_of(messages, **kwargs):
    return tokenizer().apply_chat_template(messages, return_dict=False, **kwargs)


def test_shipped_folder_is_small_and_loads_to_float32():
    assert sum(file.stat().st_size for file in TRAVEL_POLICY.iterdir()) <= 2_500_000
    assert (TRAVEL_POLICY / "model.safetensors").stat().st_size <= 2_000_000
    model = AutoModelForCausalLM.from_pretrained(TRAVEL_POLICY)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.vocab_size == len(tokenizer())
    assert tokenizer().chat_template == small_policy.CHAT_TEMPLATE
    assert supports_tool_calling(tokenizer())


def test_demonstrations_are_short_and_every_message_comes_back():
    for messages in written()["messages"]:
        assert len(ids_of(messages)) <= MAX_TRIP_TOKENS
        assert sum(message["role"] == "tool" for message in messages) <= MAX_TURNS
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = ids_of(messages[:i], add_generation_prompt=True)
            said = ids_of(messages[: i + 1])[len(prompt) :]
            assert len(said) <= MAX_TURN_TOKENS
            found = parse_response(tokenizer(), said, prefix=prompt)
            assert found.get("content") == message["content"]
            assert found.get("tool_calls") == (message.get("tool_calls") or None)


def test_what_is_left_out_is_what_the_plan_does_not_need():
    rows = demonstrations(
        30, levels=LEVELS, language="en", world=world(), system_prompt=None, max_results=MAX_RESULTS, error_rate=0.2
    )
    whole = [[{k: v for k, v in m.items() if v is not None} for m in row] for row in rows["messages"]]
    short = [travel_policy.shorten(messages) for messages in whole]
    kept = [len(messages) / len(before) for messages, before in zip(short, whole, strict=True)]
    assert max(kept) <= 1 and sum(kept) / len(kept) < 0.8
    assert all(parse_itinerary(messages[-1]["content"]).total_price is None for messages in short)
    reward = HierarchicalReward(trajectory=TrajectoryVerifier(world()))
    assert sum(reward(short, rows["query"])) >= 27


def test_an_id_is_one_piece():
    for city in world().cities:
        for record in world().search_pois(city):
            assert len(tokenizer()(f'"{record["poi_id"]}"')["input_ids"]) <= 3
    pieces = [tokenizer().decode([i]) for i in tokenizer()('"depart":"2026-04-16T13:45"')["input_ids"]]
    assert pieces[-5:-1] == ["2026-04", "-16", "T13", ":45"]


@pytest.mark.slow
def test_it_plans_and_fails_at_each_level():
    told = travel_policy.measure_policy(TRAVEL_POLICY, tasks=45, samples=2)
    assert told["format"] > 0.8
    assert 0.02 < told["pass/easy"] < 0.6  # there is much left to learn
    assert told["pass/hard"] < told["pass/easy"]
    assert 0.05 < told["ungrounded_claims"] < 0.5


@pytest.mark.exhaustive
def test_the_command_makes_a_policy(tmp_path):
    command = [sys.executable, "-m", "trl_multiturn.recipes.travel_policy", "--output_dir", str(tmp_path)]
    command += ["--copy_steps", "2", "--episodes", "32", "--tasks", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "config.json").read_text())["hidden_size"] == 128
    assert "format: 0" in done.stderr
