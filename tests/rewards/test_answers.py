import math
import subprocess
import sys
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_multiturn.rewards import (
    exact_match,
    exact_match_reward,
    extract_answer,
    f1,
    f1_reward,
    igpo_exact_match_reward,
    igpo_f1_reward,
    normalize_igpo,
    normalize_squad,
)
from trl_multiturn.rewards.answers import MAX_ANSWER_CHARS


def assistant(content, **fields):
    return {"role": "assistant", "content": content, **fields}


@pytest.mark.parametrize(
    ("text", "squad", "igpo"),
    [
        ("The  Cat", "cat", "the cat"),
        ("well-known", "wellknown", "well known"),
        ("U.S.", "us", "u s"),
        ("theatre", "theatre", "theatre"),
        ("a.m.", "am", "a m"),
        ("tab\tand\nline", "tab and line", "tab and line"),
        ("Ünïcode “quotes”", "ünïcode “quotes”", "ünïcode “quotes”"),
        ("!!!", "", ""),
    ],
)
def test_normalizations(text, squad, igpo):
    assert normalize_squad(text) == squad
    assert normalize_igpo(text) == igpo


@pytest.mark.parametrize(
    ("prediction", "answers", "squad", "igpo"),
    [
        ("the Eiffel Tower.", ["Eiffel Tower"], 1.0, 0.0),
        ("well-known", ["well known"], 0.0, 1.0),
        ("Obama", ["Barack Obama", "obama"], 1.0, 1.0),
        ("Obama", "Barack Obama<|answer_split|>obama", 1.0, 1.0),
        ("", ["Obama"], 0.0, 0.0),
        ("A", ["A"], 1.0, 1.0),
        ("A.", ["A"], 1.0, 1.0),
        ("the", ["A"], 0.0, 0.0),
        ("!!!", ["!!!"], 1.0, 1.0),
        (".", ["!!!"], 0.0, 0.0),
        ("", ["!!!"], 0.0, 0.0),
    ],
)
def test_exact_match(prediction, answers, squad, igpo):
    assert exact_match(prediction, answers) == squad
    assert exact_match(prediction, answers, "igpo") == igpo


@pytest.mark.parametrize(
    ("prediction", "answers", "squad", "igpo"),
    [
        ("Barack Obama", ["Barack Hussein Obama"], 0.8, 0.8),
        # 2 of 3 and 2 of 2 words with repetition; as sets 1 of 1 and 1 of 1
        ("bora bora bora", ["Bora Bora"], 0.8, 1.0),
        # the article counts only for igpo: 1 of 2 and 1 of 1
        ("the cat", ["cat"], 1.0, 2 / 3),
        ("dog", ["cat"], 0.0, 0.0),
        ("a b c d", ["x", "b"], 0.5, 0.4),
    ],
)
def test_f1(prediction, answers, squad, igpo):
    assert f1(prediction, answers) == pytest.approx(squad)
    assert f1(prediction, answers, "igpo") == pytest.approx(igpo)


@given(st.text(max_size=40), st.lists(st.text(max_size=40), min_size=1), st.sampled_from(["squad", "igpo"]))
def test_scores_are_bounded_and_consistent(prediction, answers, normalization):
    answers = [*answers, "gold"]
    score = f1(prediction, answers, normalization)
    assert 0.0 <= score <= 1.0
    if exact_match(prediction, answers, normalization):
        assert score == 1.0
    # order of aliases and one more alias
    assert f1(prediction, answers[::-1], normalization) == score
    assert f1(prediction, [*answers, "more"], normalization) >= score
    for answer in answers:
        if answer.strip() and "<|answer_split|>" not in answer:
            assert exact_match(answer, answers, normalization) == 1.0


@pytest.mark.parametrize("score", [f1, exact_match])
def test_wrong_arguments(score):
    with pytest.raises(ValueError, match="igpo.*squad.*'bleu'"):
        score("x", ["x"], "bleu")
    with pytest.raises(ValueError, match="no accepted answer"):
        score("x", [])
    with pytest.raises(ValueError, match="no accepted answer"):
        score("x", [" ", "<|answer_split|>"])
    with pytest.raises(TypeError, match="string"):
        score("x", [42])
    with pytest.raises(TypeError, match="prediction"):
        score(None, ["x"])


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<answer>Paris</answer>", "Paris"),
        ([assistant("<think>t</think>\n<answer>\n Paris \n</answer> bye")], "Paris"),
        ([assistant([{"type": "image", "image": None}, {"type": "text", "text": "<answer>Paris</answer>"}])], "Paris"),
        ([assistant([{"type": "text", "text": "<answer>Pa"}, {"type": "text", "text": "ris</answer>"}])], "Paris"),
        ([assistant("<answer></answer>")], ""),
        ([assistant("<answer>1 < 2 <b>")], None),
        ([assistant("<answer>1 < 2 <b></answer>")], "1 < 2 <b>"),
        ([assistant("Paris")], None),
        ([assistant("Paris</answer>")], None),
        ([assistant("</answer>Paris<answer>")], None),
        ([assistant("<answer>a</answer><answer>b</answer>")], None),
        ([assistant("<answer>a<answer>b</answer>")], None),
        ([assistant("<ANSWER>a</ANSWER>")], None),
        ([assistant(None, tool_calls=[{}])], None),
        ([{"role": "assistant"}], None),
        ([], None),
        ("", None),
        # only the last assistant message counts
        ([assistant("<answer>a</answer>"), assistant("<answer>b</answer>")], "b"),
        ([assistant("<answer>a</answer>"), assistant("no")], None),
        ([assistant("search"), {"role": "tool", "content": "<answer>planted</answer>"}], None),
        (
            [assistant("s"), {"role": "tool", "content": "<answer>planted</answer>"}, assistant("<answer>b</answer>")],
            "b",
        ),
    ],
)
def test_extract_answer(completion, answer):
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (f1_reward, [1.0, 0.8, 0.0]),
        (exact_match_reward, [1.0, 0.0, 0.0]),
        (igpo_f1_reward, [2 / 3, 1.0, 0.0]),
        (igpo_exact_match_reward, [0.0, 0.0, 0.0]),
    ],
)
def test_reward_functions(reward, expected):
    completions = [[assistant("<answer>the cat</answer>")], "<answer>bora bora bora</answer>", [assistant("none")]]
    answers = [["dog", "cat"], "Bora Bora", ["x"]]
    extra = {
        "prompts": [""] * 3,
        "completion_ids": [[1]] * 3,
        "trainer_state": None,
        "log_extra": print,
        "level": [1] * 3,
    }
    assert reward(completions=completions, answers=answers, **extra) == pytest.approx(expected)
    penalised = partial(reward, missing_answer_reward=-2.0)(completions=completions, answers=answers, **extra)
    assert penalised == pytest.approx([*expected[:2], -2.0])


def test_rows_without_accepted_answers_are_named():
    with pytest.raises(ValueError, match="Row 1 .*`answers`.*no accepted answer"):
        f1_reward(["<answer>a</answer>", "no answer given"], [["a"], []])
    with pytest.raises(TypeError, match="Row 0 .*`answers`.*None"):
        exact_match_reward(["<answer>a</answer>"], [None])


def test_long_and_hostile_text_is_bounded():
    started = time.perf_counter()
    assert f1("x" * MAX_ANSWER_CHARS + "y" * 5_000_000, ["x" * MAX_ANSWER_CHARS]) == 1.0
    assert f1("a " * 2_000_000, ["b"]) == 0.0
    assert extract_answer("<answer>" * 500_000) is None
    assert extract_answer("<" * 5_000_000) is None
    assert extract_answer("<answer>" + "</answe" * 500_000 + "</answer>") is not None
    assert time.perf_counter() - started < 5


def test_a_deep_pile_of_words_does_not_beat_the_answer():
    """Answering with everything is worth less than answering."""
    assert f1(" ".join(f"w{i}" for i in range(1000)), ["w7"]) < 0.01
    assert math.isclose(f1("w7", ["w7"]), 1.0)


def test_rewards_load_no_heavy_module():
    code = (
        "import sys, trl_multiturn.rewards; assert not {'torch', 'trl', 'transformers', 'datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
