"""Beliefs of long trajectories: attention that takes no 4-D mask, trajectories in parts, and what must fit into memory."""

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, Qwen2Config
from transformers.masking_utils import flash_attention_mask

from benchmarks.gpu_cost import peak_bytes
from trl_multiturn.igpo import belief, belief_passes
from trl_multiturn.igpo.belief import score_beliefs, supports_single_pass

from .test_belief import ANSWERS, CONFIGS, ENDS, PREFIXES, SEQUENCES, assert_equal, build, references, tokens


# Transformers looks for a package or a kernel behind each name with "flash" in it.
STAND_IN = "causal_stand_in"

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*flex_attention:UserWarning", "ignore:_compile:DeprecationWarning"
)


def attend_as_flash_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """What flash attention 2 does without padding: causal, the last query sees the last key, no mask is looked at."""
    assert attention_mask is None
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) * scaling
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(scores.shape[-1] - scores.shape[-2])
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), None


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setitem(AttentionInterface._global_mapping, STAND_IN, attend_as_flash_attention)
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, STAND_IN, flash_attention_mask)
    continues_cache = belief._continues_cache
    monkeypatch.setattr(belief, "_continues_cache", lambda name: name == STAND_IN or continues_cache(name))


@pytest.fixture(params=[STAND_IN, "flex_attention"])
def attention(request):
    # FlexAttention uncompiled: compiling it for the CPU takes minutes.
    with torch.compiler.set_stance("force_eager"):
        yield request.param


class TestValues:
    @pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama_scaled_rope", "mixtral"])
    def test_equal_a_plain_forward(self, family, attention):
        expected = references(build(CONFIGS[family]), PREFIXES)
        model = build(CONFIGS[family], attention)
        assert supports_single_pass(model) == (True, "")
        for method in ("single_pass", "per_turn"):
            actual = score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, method=method)
            assert_equal(actual, expected, atol=2e-5)

    def test_trajectories_in_parts(self, attention, monkeypatch):
        monkeypatch.setattr(belief_passes, "MAX_PREFILL_TOKENS", 7)
        expected = references(build(CONFIGS["qwen2"]), PREFIXES)
        model = build(CONFIGS["qwen2"], attention)
        assert_equal(score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, method="single_pass"), expected)

    def test_short_trajectories_go_side_by_side_and_long_ones_on_their_cache(self, monkeypatch):
        monkeypatch.setattr(belief_passes, "MIN_CROPPED_TOKENS", 20)
        model = build(CONFIGS["qwen2"], STAND_IN)
        fed = []
        model.register_forward_pre_hook(lambda _, args, kw: fed.append(kw["input_ids"].shape), with_kwargs=True)
        actual = score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES)
        assert_equal(actual, references(build(CONFIGS["qwen2"]), PREFIXES))
        # The last token of a context goes in with the copy: 22 and 39 before it.
        assert [length for rows, length in fed if rows == 1 and length >= 20] == [22, 39]
        fed.clear()
        model.config._attn_implementation = "sdpa"
        assert_equal(score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES), actual)
        assert len(fed) == 2

    def test_every_process_runs_the_same_number_of_passes(self, monkeypatch):
        monkeypatch.setattr(belief_passes, "MAX_PREFILL_TOKENS", 16)
        model = build(CONFIGS["qwen2"], STAND_IN)
        calls, asked = [], []
        model.register_forward_hook(lambda *_: calls.append(1))
        score_beliefs(
            model,
            SEQUENCES,
            ENDS,
            ANSWERS,
            method="single_pass",
            synchronize=lambda needed: asked.append(needed) or needed + 2,
        )
        assert asked == [len(calls) - 2]

    @pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3", "kernels-community/flash-attn2"])
    def test_flash_attention_is_known(self, name):
        model = build(CONFIGS["qwen2"])
        model.config._attn_implementation_internal = name
        assert supports_single_pass(model) == (True, "")

    def test_unknown_attention_falls_back(self):
        model = build(CONFIGS["qwen2"])
        model.config._attn_implementation_internal = "paged|sdpa"
        supported, reason = supports_single_pass(model)
        assert not supported and "'paged|sdpa'" in reason


LONG, VOCABULARY = 6144, 4096


class TestMemory:
    """On a small model, where a mask of the trajectory's square or its logits would be most of the memory."""

    def test_no_mask_of_the_square_and_no_logits_of_all_tokens(self):
        config = Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
        model = build(config)
        sequence, answer = tokens(LONG, 4)
        ends = [[LONG * (turn + 1) // 10 for turn in range(10)]]

        @torch.no_grad()
        def plain():
            model.model(input_ids=torch.tensor([sequence]), use_cache=False)

        def score(method):
            score_beliefs(model, [sequence], ends, [answer], prefix=[5] * 12, method=method, batch_size=1)

        cache = 2 * 2 * LONG * 32 * 4  # keys and values, layers, tokens, width, bytes
        backbone = peak_bytes(plain, "cpu")
        assert backbone < LONG * LONG  # a mask of the square, one byte each, would be seen
        assert peak_bytes(lambda: score("single_pass"), "cpu") < 1.1 * (backbone + cache)
        assert peak_bytes(lambda: score("per_turn"), "cpu") < 1.1 * backbone
