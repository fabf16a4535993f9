"""Tool calls that cannot be parsed: answered with an error, or the end of the rollout as in TRL."""

import json

import pytest
from trl.chat_template_utils import add_response_schema, parse_response

from tests.tiny import QuietCounter, call
from tests.tiny_vlm import build_processor, encode, last_log, train
from trl_multiturn.malformed_calls import MALFORMED_CALL, malformed_calls_as_calls
from trl_multiturn.rollouts import StopReason


LOOK = call("look", count=0)
PAIRS = {"num_generations": 2, "history_images": 1, "max_completion_length": 1500}
MALFORMED = {
    "broken JSON": '<tool_call>\n{"name": "look", "arguments": {"count": }}\n</tool_call>',
    "not closed": '<tool_call>\n{"name": "look", "argume',
    "empty": "<tool_call>\n</tool_call>",
    "a list": "<tool_call>\n[1, 2]\n</tool_call>",
    "a text": '<tool_call>\n"look"\n</tool_call>',
    "no name": '<tool_call>\n{"arguments": {"count": 1}}\n</tool_call>',
    "a name that is none": '<tool_call>\n{"name": 3, "arguments": {"count": 1}}\n</tool_call>',
    "arguments that are none": '<tool_call>\n{"name": "look", "arguments": [1]}\n</tool_call>',
    "one of two": LOOK + '<tool_call>\n{"name": }\n</tool_call>',
}


@pytest.fixture(scope="module")
def tokenizer():
    return add_response_schema(build_processor().tokenizer)


def parse(tokenizer, message, end="<|im_end|>"):
    prefix = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    return parse_response(tokenizer, encode(message + end), prefix=prefix)


class TestParsing:
    @pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED)
    def test_malformed_ones_become_a_call(self, tokenizer, message):
        with malformed_calls_as_calls(tokenizer, {tokenizer.eos_token_id}):
            parsed = parse(tokenizer, f"Hm. {message}")
        (found,) = parsed["tool_calls"]
        assert found["function"] == {"name": MALFORMED_CALL, "arguments": {}}
        assert "<tool_call>" in parsed["content"] and "Hm." in parsed["content"]  # what was written stays to be seen

    @pytest.mark.parametrize(
        "message", ["done", "", LOOK, f"Hm. {LOOK}", LOOK + LOOK, call("no_such_tool", a=[1, {}])]
    )
    def test_others_are_untouched(self, tokenizer, message):
        expected = parse(tokenizer, message)
        with malformed_calls_as_calls(tokenizer, {tokenizer.eos_token_id}):
            assert parse(tokenizer, message) == expected

    def test_one_that_was_cut_off_is_untouched(self, tokenizer):
        expected = parse(tokenizer, MALFORMED["not closed"], end="")
        with malformed_calls_as_calls(tokenizer, {tokenizer.eos_token_id}):
            assert parse(tokenizer, MALFORMED["not closed"], end="") == expected

    def test_the_tokenizer_is_as_before(self, tokenizer):
        before = dict(vars(tokenizer))
        with pytest.raises(RuntimeError), malformed_calls_as_calls(tokenizer, {tokenizer.eos_token_id}):
            assert vars(tokenizer) != before
            raise RuntimeError
        assert vars(tokenizer) == before

    def test_no_opening_is_known(self, tokenizer):
        class Plain:
            eos_token, response_template = "<|im_end|>", None
            decode, parse_response = tokenizer.decode, tokenizer.parse_response

        plain = Plain()
        with malformed_calls_as_calls(plain, {tokenizer.eos_token_id}):
            message = plain.parse_response(encode(f"{MALFORMED['broken JSON']}<|im_end|>"))
        assert MALFORMED_CALL not in json.dumps(message)


class TestRollouts:
    @pytest.mark.parametrize("concurrency", [1, 64])
    def test_an_error_in_any_turn_and_the_rollout_goes_on(self, tmp_path, concurrency):
        broken = MALFORMED["broken JSON"]
        parts = [broken, LOOK, broken, MALFORMED["not closed"], call("look", count=1), "done"]

        def script(text, turn, number):
            return f"{number} {parts[turn if number % 2 or turn else 4]}<|im_end|>"

        trainer, record = train(
            tmp_path, script, answer_malformed_calls=True, tool_concurrency=concurrency, max_steps=2, **PAIRS
        )
        (rollouts, again) = trainer.batches
        assert set(rollouts.stop_reasons) == set(again.stop_reasons) == {StopReason.COMPLETED}
        messages = rollouts.completions[1]
        assert [message["role"] for message in messages] == ["assistant", "tool"] * 5 + ["assistant"]
        answers = [str(message["content"]) for message in messages[1::2]]
        assert ["could not be parsed" in answer for answer in answers] == [True, False, True, True, False]
        assert "Seen nothing" in answers[1]
        assert rollouts.environments[0].seen > 0
        log = last_log(trainer)
        assert log["tools/failure_frequency"] == pytest.approx((3 * 4 + 2 * 4) / (5 * 8))
        assert log["images/mismatched"] == 0
        assert "parse_response" not in vars(trainer.processing_class.tokenizer)

    def test_off_by_default(self, tmp_path):
        def script(text, turn, number):
            return f"{number} {MALFORMED['broken JSON']}<|im_end|>"

        trainer, record = train(tmp_path, script, **PAIRS)
        assert set(trainer.batches[0].stop_reasons) == {StopReason.PARSE_ERROR}
        assert len(record) == 1

    def test_one_without_end_reaches_the_limit(self, tmp_path):
        def script(text, turn, number):
            return f"{number} {MALFORMED['a list']}<|im_end|>"

        trainer, record = train(tmp_path, script, answer_malformed_calls=True, max_tool_calling_iterations=3, **PAIRS)
        assert set(trainer.batches[0].stop_reasons) == {StopReason.MAX_TURNS}
        assert len(record) == 4

    def test_cut_off(self, tmp_path):
        """The budget ends in a call: no error of the policy's, and nothing could be answered."""

        def script(text, turn, number):
            return f"{number} {MALFORMED['not closed']}"

        trainer, record = train(tmp_path, script, answer_malformed_calls=True, **PAIRS)
        assert set(trainer.batches[0].stop_reasons) == {StopReason.MAX_TOKENS}
        assert len(record) == 1

    def test_the_policy_calls_it_by_its_name(self, tmp_path):
        def script(text, turn, number):
            called = [call(MALFORMED_CALL), call(MALFORMED_CALL, a=1), "done"][turn]
            return f"{number} {called}<|im_end|>"

        trainer, _ = train(tmp_path, script, answer_malformed_calls=True, **PAIRS)
        answers = [str(message["content"]) for message in trainer.batches[0].completions[0][1::2]]
        assert "could not be parsed" in answers[0]
        assert "unexpected keyword argument" in answers[1]

    def test_without_tools_it_has_no_effect(self, tmp_path):
        trainer, _ = train(
            tmp_path,
            lambda text, turn, number: f"{number} {MALFORMED['a list']}<|im_end|>",
            environment=None,
            answer_malformed_calls=True,
            num_generations=2,
        )
        assert set(trainer.batches[0].stop_reasons) == {StopReason.PARSE_ERROR}

    def test_a_text_model(self, tmp_path):
        from tests.tiny import train as train_text

        def script(text, turn, rng):
            return [MALFORMED["broken JSON"], call(amount=rng.randint(1, 9)), "<answer>1</answer>"][turn]

        trainer = train_text(tmp_path, QuietCounter, script, answer_malformed_calls=True)
        assert set(trainer.rollouts.stop_reasons) == {StopReason.COMPLETED}
        assert all(len(turns) == 3 for turns in trainer.rollouts.turns)
