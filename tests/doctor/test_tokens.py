"""What the doctor finds wrong with the tokens that are trained."""

import pytest

from tests.doctor.cases import found_in, only, says, trainer_with
from tests.tiny import QuietCounter, build_tokenizer, make_trainer
from trl_multiturn import MultiTurnGRPOTrainer, diagnose
from trl_multiturn.rollouts import Turn


class TrainsOnTools(MultiTurnGRPOTrainer):
    """What a wrapper that knows nothing of masks does."""

    def _tool_call_loop(self, *args, **kwargs):
        masks, *others = super()._tool_call_loop(*args, **kwargs)
        return [[1] * len(mask) for mask in masks], *others


def test_tool_tokens_are_trained(tmp_path):
    found = found_in(make_trainer(tmp_path, QuietCounter, trainer_class=TrainsOnTools))
    # A rollout looks like one long message then.
    assert set(found) == {"trained tokens", "end of turn", "tool calls"}
    finding = says(found["trained tokens"], "error", "env_mask")
    assert "not sampled by the policy" in finding.measured and "im_start" in finding.measured


class ForgetsCalls(MultiTurnGRPOTrainer):
    def _tool_call_loop(self, *args, **kwargs):
        masks, *others = super()._tool_call_loop(*args, **kwargs)
        return [[0] * 5 + mask[5:] for mask in masks], *others


def test_sampled_tokens_are_not_trained(tmp_path):
    finding = only(
        make_trainer(tmp_path, QuietCounter, trainer_class=ForgetsCalls),
        "trained tokens",
        "warning",
        "a 1 in the mask",
    )
    assert finding.measured.startswith("9% of the sampled tokens are not trained")


def test_everything_is_left_out(tmp_path):
    trainer = make_trainer(tmp_path, QuietCounter, stop_policies={"completed": "mask"})
    found = found_in(trainer)
    assert set(found) == {"rollouts left out", "gradient"}
    says(found["rollouts left out"], "error", "stop_policies ({'completed': 'mask'})")
    says(found["gradient"], "error", "left out")


class MovesTurns(MultiTurnGRPOTrainer):
    def compute_turn_rewards(self, rollouts):
        rollouts.turns[3] = [Turn(1, turn.end, turn.context_end) for turn in rollouts.turns[3][:1]]
        return super().compute_turn_rewards(rollouts)


def test_turns_do_not_cover_the_mask(tmp_path):
    finding = only(make_trainer(tmp_path, QuietCounter, trainer_class=MovesTurns), "turns", "error", "find_turns")
    assert "1 of 8 rollouts" in finding.measured


def answers(text, turn, rng):
    return f"<answer>{rng.randint(0, 3)}</answer>"


def test_end_of_text_is_not_the_end_of_a_turn(tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.eos_token, tokenizer.pad_token = "<|endoftext|>", "<|im_start|>"
    found = found_in(trainer_with(tmp_path, tokenizer, answers, MultiTurnGRPOTrainer))
    assert set(found) == {"end of turn", "stop reasons"}
    says(found["end of turn"], "error", "processing_class.eos_token = '<|im_end|>'")
    says(found["stop reasons"], "error", "end of turn")


def test_template_without_an_end(tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message.role }}: {{ message.content }}{% endfor %}"
    only(trainer_with(tmp_path, tokenizer, answers, MultiTurnGRPOTrainer), "end of turn", "error", "'<|im_end|>'")


def test_messages_go_on_after_their_end(tmp_path):
    def rambles(text, turn, rng):
        return f"{answers(text, turn, rng)}<|im_end|>\nAnd more."

    found = only(make_trainer(tmp_path, script=rambles), "end of turn", "error", "eos_token_id")
    assert found.measured.startswith("8 of 8 messages go on after '<|im_end|>'")


class CutsOff(MultiTurnGRPOTrainer):
    """A backend that cuts messages off: the last token of each is missing."""

    def _tool_call_loop(self, prompts, prompt_ids, completion_ids, *args, **kwargs):
        return super()._tool_call_loop(prompts, prompt_ids, [ids[:-1] for ids in completion_ids], *args, **kwargs)


def test_messages_have_no_end(tmp_path):
    finding = found_in(make_trainer(tmp_path, QuietCounter, trainer_class=CutsOff))["end of turn"]
    says(finding, "warning", "max_new_tokens")


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [("pad_token", "<|im_end|>", "processing_class.pad_token = '<|endoftext|>'"), ("padding_side", "right", '"left"')],
)
def test_padding(tmp_path, attribute, value, said):
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})
    setattr(tokenizer, attribute, value)
    only(trainer_with(tmp_path, tokenizer, answers, MultiTurnGRPOTrainer), "padding", "warning", said)


def test_rollout_func_samples_by_itself(tmp_path):
    """What it sampled cannot be seen, and that is said."""
    tokenizer = build_tokenizer()
    trainer = trainer_with(tmp_path, tokenizer, answers, MultiTurnGRPOTrainer)

    def roll_out(prompts, trainer):
        ids = [tokenizer.apply_chat_template(p, add_generation_prompt=True, return_dict=False) for p in prompts]
        texts = [f"<answer>{i % 3}</answer><|im_end|>" for i in range(len(prompts))]
        return {
            "prompt_ids": ids,
            "completion_ids": [tokenizer(text)["input_ids"] for text in texts],
            "logprobs": None,
        }

    trainer.rollout_func = roll_out
    report = diagnose(trainer)
    (finding,) = [f for f in report.findings if f.check == "trained tokens"]
    assert finding.severity == "skipped" and "rollout_func" in finding.measured
    assert not report.has_errors
