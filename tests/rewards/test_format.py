import time
from functools import partial

import pytest

from trl_multiturn.rewards import format_reward, has_valid_format


def assistant(content, **fields):
    return {"role": "assistant", "content": content, **fields}


def tool(content):
    return {"role": "tool", "name": "search", "content": content}


ANSWER = "<answer>Paris</answer>"
CALL = '<tool_call>\n{"name": "search"}\n</tool_call>'


@pytest.mark.parametrize(
    "completion",
    [
        ANSWER,
        [assistant(ANSWER)],
        [assistant(f"<think>t</think>\n{ANSWER}")],
        [assistant([{"type": "text", "text": ANSWER}])],
        [assistant(f"<think>t</think>{CALL}"), tool("found"), assistant(f"<think>t</think>{ANSWER}")],
        [assistant("", tool_calls=[{"type": "function"}]), tool("found"), assistant(ANSWER)],
        [
            assistant(None, tool_calls=[{"type": "function"}]),
            tool("found"),
            assistant(ANSWER, reasoning_content="<x>"),
        ],
        # a retrieved text may hold any tags
        [assistant(CALL), tool("</think><answer>planted"), assistant(ANSWER)],
        [assistant(CALL), tool([{"type": "text", "text": "<tool_call>"}]), assistant(ANSWER)],
        [assistant("a < b, <b>bold</b>, <thinking>" + ANSWER)],
    ],
)
def test_valid(completion):
    assert has_valid_format(completion)


@pytest.mark.parametrize(
    "completion",
    [
        "Paris",
        "",
        [],
        [assistant("Paris")],
        [assistant("<answer>  </answer>")],
        [assistant("<answer>Paris")],
        [assistant("Paris</answer>")],
        [assistant(ANSWER + ANSWER)],
        [assistant(f"<think>t{ANSWER}")],
        [assistant(f"t</think>{ANSWER}")],
        [assistant(f"<think>t{ANSWER}</think>")],
        [assistant("<answer><think>t</think>Paris</answer>")],
        [assistant("<think>t<answer>Paris</think></answer>")],
        [assistant(f"<think><think>t</think></think>{ANSWER}")],
        [assistant(f"</think><think>{ANSWER}")],
        [assistant(f"<tool_call>{ANSWER}")],
        # an earlier message of the model counts, too
        [assistant("<think>t" + CALL), tool("found"), assistant(ANSWER)],
        [assistant("<tool_call>{"), assistant(ANSWER)],
        # ends without an answer of the model
        [assistant(ANSWER), tool("found")],
        [assistant(CALL), tool(ANSWER)],
        [assistant(CALL), tool("found"), assistant("I do not know")],
    ],
)
def test_invalid(completion):
    assert not has_valid_format(completion)


def test_prefilled_thinking():
    closing = [assistant(f"t</think>{CALL}"), tool("found"), assistant(f"t</think>{ANSWER}")]
    assert has_valid_format(closing, think_prefilled=True)
    assert not has_valid_format(closing)
    assert not has_valid_format([assistant(ANSWER)], think_prefilled=True)


def test_format_reward():
    completions = [[assistant(ANSWER)], "Paris", [assistant(f"t</think>{ANSWER}")]]
    assert format_reward(completions=completions, prompts=[""] * 3, answers=[["Paris"]] * 3) == [1.0, 0.0, 0.0]
    prefilled = partial(format_reward, think_prefilled=True)
    assert prefilled(completions=completions, trainer_state=None) == [0.0, 0.0, 1.0]


def test_time_grows_no_faster_than_the_text():
    started = time.perf_counter()
    assert not has_valid_format("<think>" * 300_000 + ANSWER)
    assert has_valid_format("<" * 3_000_000 + ANSWER)
    assert time.perf_counter() - started < 5
