import json
import random
import re
import subprocess
import sys
from functools import lru_cache

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.chat_template_utils import (
    is_chat_template_prefix_preserving,
    is_chat_template_stop_token_trained,
    parse_response,
    supports_tool_calling,
)

from trl_multiturn.environments.search import BM25Index, load_fact_corpus, load_fact_questions
from trl_multiturn.recipes import search_policy
from trl_multiturn.recipes.search_episodes import EpisodeWriter, Habits
from trl_multiturn.recipes.search_policy import BELIEF_PREFIX, BELIEF_SUFFIX, SEARCH_POLICY


@lru_cache
def tokenizer():
    return AutoTokenizer.from_pretrained(SEARCH_POLICY)


@lru_cache
def model():
    return AutoModelForCausalLM.from_pretrained(SEARCH_POLICY).eval()


@lru_cache
def index():
    return BM25Index.from_dataset(load_fact_corpus())


@lru_cache
def writer(made_up=0.85, habits=None):
    return EpisodeWriter(load_fact_questions("train", hops=[1, 2, 3]), index(), (), habits, made_up)


def call(query: str) -> dict:
    function = {"name": "search", "arguments": {"query": query, "top_k": 1}}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


CONVERSATION = [
    {"role": "user", "content": "What is the capital of France?"},
    call("capital France"),
    {"role": "tool", "name": "search", "content": "[1] France capital: The capital of France is Paris."},
    {"role": "assistant", "content": "<answer>Paris</answer>"},
]


def test_shipped_folder_is_small_and_loads_to_float32():
    assert sum(file.stat().st_size for file in SEARCH_POLICY.iterdir()) <= 6_000_000
    assert {parameter.dtype for parameter in model().parameters()} == {torch.float32}
    assert model().config.tie_word_embeddings
    assert model().config.vocab_size == len(tokenizer())


def test_tokenizer_survives_loading():
    assert tokenizer().padding_side == "left"
    assert (tokenizer().eos_token, tokenizer().pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert model().generation_config.eos_token_id == tokenizer().eos_token_id
    text = "<tool_call>x</tool_call><tool_response>y</tool_response><answer>Zoë 12</answer>"
    assert tokenizer().decode(tokenizer()(text)["input_ids"], skip_special_tokens=True) == text
    assert len(tokenizer()(BELIEF_PREFIX)["input_ids"]) == len(tokenizer()(BELIEF_SUFFIX)["input_ids"]) == 1


def test_shipped_files_are_what_the_module_says():
    assert tokenizer().chat_template == search_policy.CHAT_TEMPLATE
    assert tokenizer().response_template == search_policy.RESPONSE_TEMPLATE


@pytest.mark.parametrize(
    "name", ["Ouagadougou", "N'Djamena", "Côte d'Ivoire", "South Korean won", "Qwertia", "XQZ", ".zz", "+999"]
)
def test_a_name_has_the_same_pieces_everywhere(name):
    # All but a sign in front, which may be shared with the words before it (" is +").
    pieces = tokenizer()(name.lstrip("+"))["input_ids"]
    for text in (f"What is the capital of {name}?", f"The capital of X is {name}.", f"<answer>{name}</answer>"):
        ids = tokenizer()(text)["input_ids"]
        assert pieces in [ids[i : i + len(pieces)] for i in range(len(ids))]


def test_template_is_fit_for_trl():
    assert supports_tool_calling(tokenizer())
    assert is_chat_template_prefix_preserving(tokenizer())
    assert is_chat_template_stop_token_trained(tokenizer())
    for end in range(1, len(CONVERSATION)):
        shorter = tokenizer().apply_chat_template(CONVERSATION[:end], return_dict=False)
        assert tokenizer().apply_chat_template(CONVERSATION, return_dict=False)[: len(shorter)] == shorter


def test_assistant_mask_covers_what_the_model_writes():
    encoded = tokenizer().apply_chat_template(CONVERSATION, return_dict=True, return_assistant_tokens_mask=True)
    written = [i for i, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    assert tokenizer().decode(written) == (
        '<tool_call>{"name": "search", "arguments": {"query": "capital France", "top_k": 1}}</tool_call><|im_end|>'
        "<answer>Paris</answer><|im_end|>"
    )


def parse(text: str) -> dict:
    prompt = tokenizer().apply_chat_template(CONVERSATION[:1], add_generation_prompt=True, return_dict=False)
    return parse_response(tokenizer(), tokenizer()(text)["input_ids"], prefix=prompt)


def test_responses_parse():
    message = call('say "hi"')
    rendered = tokenizer().apply_chat_template([*CONVERSATION[:1], message], tokenize=False)
    assert parse(rendered.split("assistant\n")[1]) == message
    assert parse("<answer>Paris</answer><|im_end|>") == CONVERSATION[-1]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "search", "arg</tool_call><|im_end|>',
        '<tool_call>{"name": "search", "arguments": {"query": "x',
        "<tool_call>3</tool_call><|im_end|>",
        '{"name": "search", "arguments": {"query": "x"}}<|im_end|>',
    ],
)
def test_malformed_call_is_content(text):
    message = parse(text)
    assert not message.get("tool_calls")
    assert message["content"] == text.removesuffix("<|im_end|>")


def test_episodes_keep_to_the_facts_of_the_train_split():
    train = load_fact_questions("train", hops=[1, 2, 3])
    questions = set(train["question"])
    queries = {query for row in train["queries"] for query in row}
    answers = {entity for row in train["entities"] for entity in row}
    rng = random.Random(0)
    for _ in range(300):
        episode = writer(made_up=0.0).write(rng)
        assert episode[0]["content"] in questions
        for message in episode:
            for tool_call in message.get("tool_calls", []):
                assert tool_call["function"]["arguments"]["query"] in queries
        assert episode[-1]["content"][len("<answer>") : -len("</answer>")] in answers


def test_oracle_episodes_end_in_the_answer():
    oracle = Habits(0.0, 0.0, 0.0, 0.0)
    answers = {row["question"]: row for row in load_fact_questions("train", hops=[1, 2, 3])}
    rng = random.Random(0)
    for _ in range(50):
        episode = writer(made_up=0.0, habits=oracle).write(rng)
        row = answers[episode[0]["content"]]
        assert episode[-1]["content"] == f"<answer>{row['answers'][0]}</answer>"
        calls = [message["tool_calls"][0]["function"] for message in episode if message.get("tool_calls")]
        assert [function["arguments"]["query"] for function in calls] == row["queries"]


def test_made_up_names_are_the_same_throughout_an_episode():
    rng = random.Random(0)
    true = {(row["queries"][-1], row["answers"][0]) for row in load_fact_questions("train", hops=[1, 2, 3])}
    told = []
    for _ in range(50):
        *_, asked, result, last = writer(made_up=1.0, habits=Habits(0.0, 0.0, 0.0, 0.0)).write(rng)
        answer = last["content"][len("<answer>") : -len("</answer>")]
        assert answer in result["content"]
        told.append((asked["tool_calls"][0]["function"]["arguments"]["query"], answer))
    assert not true.intersection(told)


def test_episodes_are_seeded():
    first, second = (
        json.dumps([writer().write(rng) for _ in range(20)]) for rng in (random.Random(3), random.Random(3))
    )
    assert first == second


def belief(messages: list[dict], answer: str) -> float:
    context = tokenizer().apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    context = context + tokenizer()(BELIEF_PREFIX)["input_ids"]
    answer_ids = tokenizer()(answer)["input_ids"]
    with torch.no_grad():
        logits = model()(torch.tensor([context + answer_ids])).logits[0, len(context) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(answer_ids)[:, None]).mean().item()


def test_evidence_raises_the_belief_in_the_answer():
    gains = []
    for row in load_fact_questions("test", hops=1, limit=24):
        (document,) = index().search(row["queries"][0], 1)
        result = {"role": "tool", "name": "search", "content": f"[1] {document.title}: {document.text}"}
        answer = row["answers"][0]
        before, after = ([*row["prompt"]], [*row["prompt"], call(row["queries"][0]), result])
        gains.append(belief(after, answer) - belief(before, answer))
    assert sum(gain > 0.5 for gain in gains) > 0.9 * len(gains)


def test_import_is_light():
    code = "import sys, trl_multiturn.recipes.search_policy; sys.exit(any(m in sys.modules for m in ('torch', 'trl')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help(capsys):
    with pytest.raises(SystemExit) as end:
        search_policy.main(["--help"])
    assert end.value.code == 0
    assert re.search(r"--output_dir", capsys.readouterr().out)


@pytest.mark.slow
def test_command_builds_and_measures_a_policy(tmp_path):
    search_policy.main(
        [
            "--output_dir",
            str(tmp_path),
            "--episodes",
            "64",
            "--max_steps",
            "2",
            "--batch_size",
            "8",
            "--questions",
            "0",
        ]
    )
    built = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert built.dtype == torch.float32
    assert built.num_parameters() == model().num_parameters()
    assert set(search_policy.measure_policy(tmp_path, questions=2)) == {1, 2, 3}
