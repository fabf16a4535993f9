import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MixtralConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

from trl_multiturn.igpo import belief, belief_passes
from trl_multiturn.igpo.belief import Probe, score_beliefs, score_probes, supports_single_pass
from trl_multiturn.igpo.templates import encode_answer

from ..tiny import QuietCounter, build_tokenizer, make_trainer


VOCAB = 61
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OLD_STYLE = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "qwen2": Qwen2Config(**{k: v for k, v in SMALL.items() if k != "head_dim"}),
    "qwen3": Qwen3Config(**SMALL),
    "llama": LlamaConfig(**SMALL),
    "llama_scaled_rope": LlamaConfig(
        **SMALL, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    ),
    "gemma": GemmaConfig(**SMALL),
    "mixtral": MixtralConfig(**SMALL, num_local_experts=4, sliding_window=None),
    "gpt2": GPT2Config(**OLD_STYLE, n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "gpt_neox": GPTNeoXConfig(**{**SMALL, "num_key_value_heads": None}),
    "opt": OPTConfig(
        **OLD_STYLE, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32
    ),
}
FALLBACKS = {
    "gemma3_sliding": (Gemma3TextConfig(**SMALL, sliding_window=4, layer_types=["sliding_attention"] * 2), "Sliding"),
    "qwen2_sliding": (
        Qwen2Config(
            **{k: v for k, v in SMALL.items() if k != "head_dim"},
            use_sliding_window=True,
            sliding_window=4,
            max_window_layers=1,
        ),
        "Sliding",
    ),
    # Inputs above 30 tokens take the long factors: some of the contexts do, some do not.
    "llama_longrope": (
        LlamaConfig(
            **SMALL,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "factor": 2.0,
                "original_max_position_embeddings": 30,
                "short_factor": [1.0, 1.0, 1.0, 1.0],
                "long_factor": [4.0, 4.0, 4.0, 4.0],
            },
        ),
        "rotary",
    ),
    "bloom": (BloomConfig(**OLD_STYLE, hidden_size=32, n_layer=2, n_head=4), "position_ids"),
    "falcon_alibi": (
        FalconConfig(
            **OLD_STYLE,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            alibi=True,
            attn_implementation="eager",
        ),
        "ALiBi",
    ),
    "mamba": (
        MambaConfig(vocab_size=VOCAB, hidden_size=32, state_size=4, num_hidden_layers=2, pad_token_id=0),
        "recurrent",
    ),
}


def build(config, attention: str = "sdpa", seed: int = 0):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    # The usual initialisation hardly lets context matter: make a wrong mask or position visible.
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def qwen():
    return build(CONFIGS["qwen2"])


def tokens(*lengths: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCAB, (length,), generator=generator).tolist() for length in lengths]


SEQUENCES = tokens(5, 23, 1, 40, 12)
ENDS = [[1, 5, 3], [23, 2, 11], [1], [40, 1, 7, 7, 39], [12]]
ANSWERS = tokens(3, 1, 4, 2, 5, seed=1)
PREFIXES = tokens(2, 3, 1, 4, 2, seed=2)


def reference(model, context, prefix, answer, temperature=1.0) -> float:
    """One unbatched forward, position by position."""
    logits = model(input_ids=torch.tensor([context + prefix + answer])).logits[0].float() / temperature
    first = len(context) + len(prefix)
    return sum(logits[first + j - 1].log_softmax(-1)[token].item() for j, token in enumerate(answer)) / len(answer)


def references(model, prefixes, temperature=1.0) -> list[torch.Tensor]:
    with torch.no_grad():
        return [
            torch.tensor([reference(model, seq[:end], before, answer, temperature) for end in ends])
            for seq, ends, answer, before in zip(SEQUENCES, ENDS, ANSWERS, prefixes, strict=True)
        ]


def assert_equal(actual, expected, atol=1e-5):
    assert [a.shape for a in actual] == [e.shape for e in expected]
    torch.testing.assert_close(torch.cat(list(actual)), torch.cat(list(expected)), atol=atol, rtol=1e-5)


class TestValues:
    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    @pytest.mark.parametrize("family", CONFIGS)
    def test_both_ways_equal_a_plain_forward(self, family, attention):
        model = build(CONFIGS[family], attention)
        assert supports_single_pass(model) == (True, "")
        expected = references(model, PREFIXES)
        for method in ("single_pass", "per_turn"):
            actual = score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, batch_size=3, method=method)
            assert_equal(actual, expected)

    @pytest.mark.parametrize("method", ["single_pass", "per_turn"])
    @pytest.mark.parametrize("batch_size", [1, 2, 16])
    def test_no_prefix(self, qwen, method, batch_size):
        actual = score_beliefs(qwen, SEQUENCES, ENDS, ANSWERS, batch_size=batch_size, method=method)
        assert_equal(actual, references(qwen, [[]] * 5))

    @pytest.mark.parametrize("prefix", [[7, 8], torch.tensor([7, 8]), [[7, 8]] * 5])
    def test_shared_prefix_and_suffix(self, qwen, prefix):
        actual = score_beliefs(qwen, SEQUENCES, ENDS, ANSWERS, prefix=prefix, suffix=[9])
        assert_equal(actual, references(qwen, [[7, 8]] * 5))

    @pytest.mark.parametrize("method", ["single_pass", "per_turn"])
    def test_temperature(self, qwen, method):
        actual = score_beliefs(qwen, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, temperature=0.5, method=method)
        assert_equal(actual, references(qwen, PREFIXES, temperature=0.5))

    def test_tensors_are_taken_and_no_context_end_gives_no_score(self, qwen):
        sequences = [torch.tensor(SEQUENCES[0]), torch.tensor(SEQUENCES[1])]
        scores = score_beliefs(qwen, sequences, [ENDS[0], []], [torch.tensor(ANSWERS[0]), ANSWERS[1]])
        assert_equal(scores[:1], references(qwen, [[]] * 5)[:1])
        assert scores[1].shape == (0,)
        assert scores[0].dtype == torch.float32 and not scores[0].requires_grad
        assert score_beliefs(qwen, [], [], []) == []

    @pytest.mark.parametrize("method", ["single_pass", "per_turn"])
    def test_aliases_at_several_ends(self, qwen, method):
        sequence, (first, second), prefix = SEQUENCES[3], tokens(2, 5, seed=9), [4, 5]
        probes = [Probe(end, prefix + alias, len(alias)) for end in (40, 9) for alias in (first, second)]
        scores = score_probes(qwen, [sequence], [probes], method=method)
        expected = [reference(qwen, sequence[:end], prefix, alias) for end in (40, 9) for alias in (first, second)]
        assert_equal(scores, [torch.tensor(expected)])

    @pytest.mark.parametrize("method", ["single_pass", "per_turn"])
    def test_small_budgets_change_nothing(self, qwen, method, monkeypatch):
        monkeypatch.setattr(belief_passes, "MAX_BATCH_TOKENS", 50)
        monkeypatch.setattr(belief_passes, "MAX_PROBE_TOKENS", 14)
        monkeypatch.setattr(belief_passes, "_LOGIT_ROWS", 2)
        actual = score_beliefs(qwen, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, batch_size=4, method=method)
        assert_equal(actual, references(qwen, PREFIXES))

    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_bfloat16(self, attention):
        model = build(CONFIGS["qwen3"], attention).to(torch.bfloat16)
        actual = score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, method="single_pass")
        assert all(scores.dtype == torch.float32 for scores in actual)
        # The noise of bfloat16 is in the weights' products, whichever way the tokens are fed.
        torch.testing.assert_close(torch.cat(actual), torch.cat(references(model, PREFIXES)), atol=0.3, rtol=0.05)

    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_autocast(self, attention):
        model = build(CONFIGS["qwen3"], attention)
        with torch.autocast("cpu", torch.bfloat16):
            actual = score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, method="single_pass")
        torch.testing.assert_close(torch.cat(actual), torch.cat(references(model, PREFIXES)), atol=0.3, rtol=0.05)

    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def test_a_value_does_not_depend_on_its_batch(self, qwen, data):
        ids = st.integers(3, VOCAB - 1)
        sequences = data.draw(st.lists(st.lists(ids, min_size=1, max_size=20), min_size=1, max_size=4))
        ends = [data.draw(st.lists(st.integers(1, len(seq)), max_size=4)) for seq in sequences]
        answers = [data.draw(st.lists(ids, min_size=1, max_size=4)) for _ in sequences]
        prefix = data.draw(st.lists(ids, max_size=3))
        batch_size = data.draw(st.integers(1, 5))
        together = score_beliefs(qwen, sequences, ends, answers, prefix=prefix, batch_size=batch_size)
        for i, (sequence, of_sequence, answer) in enumerate(zip(sequences, ends, answers, strict=True)):
            alone = [
                score_beliefs(qwen, [sequence], [[end]], [answer], prefix=prefix, method="per_turn")[0]
                for end in of_sequence
            ]
            assert_equal([together[i]], [torch.cat(alone) if alone else torch.empty(0)])

    @pytest.mark.parametrize("method", ["single_pass", "per_turn"])
    def test_nan_stays_with_its_sequence(self, method):
        model = build(CONFIGS["qwen2"])
        with torch.no_grad():
            model.get_input_embeddings().weight[60] = torch.nan
        sequences = [[t if t != 60 else 59 for t in seq] for seq in SEQUENCES]
        answers = [[t if t != 60 else 59 for t in answer] for answer in ANSWERS]
        expected = score_beliefs(model, sequences, ENDS, answers, method=method)
        sequences[1] = [60, *sequences[1][1:]]
        actual = score_beliefs(model, sequences, ENDS, answers, method=method)
        assert actual[1].isnan().all()
        # Sorted by length and padded together, the others must not see it.
        assert_equal([a for i, a in enumerate(actual) if i != 1], [e for i, e in enumerate(expected) if i != 1])


class TestModelState:
    def test_training_mode_dropout_and_checkpointing(self):
        config = Qwen2Config(**{k: v for k, v in SMALL.items() if k != "head_dim"}, attention_dropout=0.5)
        model = build(config)
        expected = references(model, PREFIXES)
        model.train()
        model.model.layers[1].eval()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        modes = [module.training for module in model.modules()]
        for method in ("single_pass", "per_turn"):
            actual = score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, method=method)
            assert_equal(actual, expected)
            assert [module.training for module in model.modules()] == modes
        assert model.is_gradient_checkpointing
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_mode_is_restored_after_an_error(self, qwen, monkeypatch):
        qwen.train()
        monkeypatch.setattr(type(qwen), "forward", lambda self, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_beliefs(qwen, [[3, 4]], [[1]], [[5]], method="per_turn")
        assert all(module.training for module in qwen.modules())
        qwen.eval()

    def test_after_trl_prepared_the_model(self, tmp_path):
        model = build(CONFIGS["qwen2"])
        expected = references(model, PREFIXES)
        model = make_trainer(tmp_path, QuietCounter, model=model).model  # TRL puts its fused head into the forward
        for method in ("single_pass", "per_turn"):
            assert_equal(score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, method=method), expected)

    def test_lora(self):
        model = get_peft_model(build(CONFIGS["qwen2"]), LoraConfig(r=4, lora_dropout=0.5, init_lora_weights=False))
        model.eval()
        expected = references(model, PREFIXES)
        model.train()
        for method in ("single_pass", "per_turn"):
            assert_equal(score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, method=method), expected)

    def test_virtual_tokens_of_prompt_tuning(self):
        model = get_peft_model(
            build(CONFIGS["qwen2"]), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        ).eval()
        assert not supports_single_pass(model)[0]
        with torch.no_grad():
            ids = torch.tensor([SEQUENCES[0] + ANSWERS[0]])
            log_probs = model(input_ids=ids).logits[0, 3 + 4 : 3 + 7].log_softmax(-1)
        expected = log_probs.gather(-1, torch.tensor(ANSWERS[0])[:, None]).mean()[None]
        actual = score_beliefs(model, SEQUENCES[:2], [[5], [2]], ANSWERS[:2], prefix=[[], [6]], method="per_turn")
        assert_equal(actual[:1], [expected])

    def test_a_cache_that_stays_empty_is_reported(self, qwen, monkeypatch):
        forward = type(qwen).forward

        def without_cache(self, input_ids, position_ids, logits_to_keep, **kwargs):
            return forward(self, input_ids=input_ids, position_ids=position_ids, logits_to_keep=logits_to_keep)

        monkeypatch.setattr(belief, "supports_single_pass", lambda model: (True, ""))
        monkeypatch.setattr(type(qwen), "forward", without_cache)
        with pytest.raises(RuntimeError, match="per_turn"):
            score_beliefs(qwen, [[3, 4]], [[2]], [[5]], method="single_pass")


class TestFallback:
    @pytest.mark.parametrize("family", FALLBACKS)
    def test_unsupported_models_take_a_pass_per_turn(self, family, monkeypatch):
        config, reason = FALLBACKS[family]
        monkeypatch.setattr(belief, "_fallbacks_announced", set())
        model = build(config, getattr(config, "_attn_implementation", None) or "eager")
        assert supports_single_pass(model)[0] is False
        with pytest.warns(UserWarning, match=reason):
            actual = score_beliefs(model, SEQUENCES, ENDS, ANSWERS, prefix=PREFIXES, batch_size=3)
        assert_equal(actual, references(model, PREFIXES), atol=5e-5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            score_beliefs(model, SEQUENCES[:1], ENDS[:1], ANSWERS[:1])
        with pytest.raises(ValueError, match=reason):
            score_beliefs(model, SEQUENCES, ENDS, ANSWERS, method="single_pass")

    def test_encoder_decoders_are_refused(self):
        config = T5Config(vocab_size=VOCAB, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
        with pytest.raises(ValueError, match="decoder-only"):
            score_beliefs(T5ForConditionalGeneration(config), [[3]], [[1]], [[4]])


class TestSynchronize:
    @pytest.mark.parametrize("method", ["single_pass", "per_turn"])
    @pytest.mark.parametrize("count", [0, 5])
    def test_every_process_runs_the_same_number_of_passes(self, qwen, method, count):
        calls, asked = [], []
        handle = qwen.register_forward_hook(lambda *_: calls.append(1))

        def synchronize(needed: int) -> int:
            asked.append(needed)
            return needed + 2

        arguments = (SEQUENCES[:count], ENDS[:count], ANSWERS[:count])
        scores = score_beliefs(qwen, *arguments, batch_size=2, method=method, synchronize=synchronize)
        assert len(asked) == 1 and len(calls) == asked[0] + 2
        calls.clear()
        assert_equal([*scores, torch.empty(0)], [*score_beliefs(qwen, *arguments, batch_size=2), torch.empty(0)])
        handle.remove()

    def test_fewer_passes_than_needed_are_an_error(self, qwen):
        with pytest.raises(ValueError, match="at least"):
            score_beliefs(qwen, SEQUENCES, ENDS, ANSWERS, synchronize=lambda needed: 0)


class TestErrors:
    @pytest.mark.parametrize("end", [0, -1, 3])
    def test_context_end_out_of_range(self, qwen, end):
        with pytest.raises(ValueError, match=f"context end {end}"):
            score_beliefs(qwen, [[3, 4]], [[end]], [[5]])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([[3, 4]], [[1]], [[]]), "answer of sequence 0 is empty"),
            (([[3], []], [[1], []], [[4], [4]]), "Sequence 1 is empty"),
            (([[3]], [[1], [1]], [[4]]), "context_ends has 2"),
            (([[3]], [[1]], []), "answers has 0"),
            (([[[3]]], [[1]], [[4]]), "flat list"),
        ],
    )
    def test_malformed_input(self, qwen, arguments, message):
        with pytest.raises(ValueError, match=message):
            score_beliefs(qwen, *arguments)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"prefix": [[3], [4]]}, "prefix has 2"),
            ({"suffix": [[3], [4]]}, "suffix has 2"),
            ({"method": "fast"}, "method must be one of"),
            ({"temperature": 0.0}, "temperature"),
            ({"batch_size": 0}, "batch_size"),
        ],
    )
    def test_malformed_options(self, qwen, options, message):
        with pytest.raises(ValueError, match=message):
            score_beliefs(qwen, [[3]], [[1]], [[4]], **options)

    def test_more_scored_than_given(self, qwen):
        with pytest.raises(ValueError, match="2 tokens are to be scored"):
            score_probes(qwen, [[3]], [[Probe(1, [4], 2)]])


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


class TestEncodeAnswer:
    @pytest.mark.parametrize("answer", ["Paris", "the capital", "42", "Zürich 東京 🙂", "a\n"])
    @pytest.mark.parametrize("prefix", ["", "<think>\nEnough\n</think>\n<answer>\n"])
    @pytest.mark.parametrize("suffix", ["", "\n</answer><|im_end|>"])
    def test_ids_are_those_of_the_whole_text(self, tokenizer, answer, prefix, suffix):
        before, scored = encode_answer(tokenizer, answer, prefix, suffix)
        whole = tokenizer(prefix + answer + suffix, add_special_tokens=False)["input_ids"]
        assert before + scored == whole[: len(before) + len(scored)]
        assert answer in tokenizer.decode(scored)
        assert prefix.startswith(tokenizer.decode(before))
        assert math.isclose(len(tokenizer.decode(scored)), len(answer), abs_tol=2)

    def test_a_merged_edge_is_the_answers(self):
        from tokenizers import Tokenizer, models

        vocab = {token: i for i, token in enumerate(["a", "b", "c", "ab", "bc"])}
        for merges, expected in (([("a", "b")], ([], ["ab"])), ([("b", "c")], (["a"], ["bc"]))):
            tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=vocab, merges=merges)))
            before, scored = encode_answer(tokenizer, "b", "a", "c")
            assert tuple(map(tokenizer.convert_ids_to_tokens, (before, scored))) == expected

    def test_no_special_tokens(self, tokenizer):
        before, scored = encode_answer(tokenizer, "Paris")
        assert before == [] and tokenizer.decode(scored) == "Paris"

    def test_processor_and_slow_tokenizer(self, tokenizer):
        class Slow:
            is_fast = False

            def __call__(self, text, add_special_tokens):
                return {"input_ids": [ord(character) for character in text]}

        class Processor:
            def __init__(self, tokenizer):
                self.tokenizer = tokenizer

        assert encode_answer(Processor(Slow()), "ab", "c", "d") == ([99], [97, 98])
        assert encode_answer(Processor(tokenizer), "Paris") == encode_answer(tokenizer, "Paris")

    @pytest.mark.parametrize("answer", ["", " ", "\n\t"])
    def test_blank_answers_are_refused(self, tokenizer, answer):
        with pytest.raises(ValueError, match="blank"):
            encode_answer(tokenizer, answer)
