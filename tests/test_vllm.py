"""Rollouts by vLLM, of which `tests.vllm_stand_in` takes the place under TRL's own client and generation."""

import random

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from tests.archer.tiny import QUICK
from tests.tiny import Counter, EndsOnEven, QuietCounter, add_some, answer_length, build_tokenizer, dataset, settings
from tests.vllm_stand_in import Engine, colocate, save_model, serve
from trl_multiturn import (
    ArCHerConfig,
    ArCHerTrainer,
    IGPOTrainer,
    MultiTurnGRPOConfig,
    MultiTurnGRPOTrainer,
    ReplayGRPOTrainer,
    ReplayIGPOTrainer,
)
from trl_multiturn.rollouts import StopReason, TrainingBatch
from trl_multiturn.vllm_requests import check_server_context


TRAINERS = [MultiTurnGRPOTrainer, IGPOTrainer, ArCHerTrainer, ReplayGRPOTrainer, ReplayIGPOTrainer]
OWN = {
    ArCHerTrainer: QUICK,
    ReplayGRPOTrainer: {"replay_every": 1, "replay_admission": "any_fail", "success_threshold": 100.0},
    ReplayIGPOTrainer: {"replay_every": 1, "replay_admission": "any_fail", "success_threshold": 100.0},
}


def watched(trainer_class):
    """Keeps the rollouts of each batch and what is trained of them."""

    class Watched(trainer_class):
        def compute_turn_rewards(self, rollouts):
            self.batches = [*getattr(self, "batches", []), rollouts]
            return super().compute_turn_rewards(rollouts)

        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            self.outputs = [*getattr(self, "outputs", []), output]
            return output

    return Watched


class Marked(Engine):
    """Says another log-probability of every token that it writes, and remembers which."""

    told: dict[tuple, list[float]]

    def _write(self, prompt, params, images):
        noise = random.Random(str(prompt))
        self.perturb = lambda token, logprob: logprob + noise.uniform(-0.05, 0.05)
        ids, logprobs = super()._write(prompt, params, images)
        self.__dict__.setdefault("told", {})[self.updates, tuple(prompt), tuple(ids)] = logprobs
        return ids, logprobs


@pytest.fixture
def model_folder(tmp_path):
    return save_model(tmp_path)


def make(folder, engine, vllm, trainer_class=MultiTurnGRPOTrainer, environment=Counter, rows=8, **options):
    keywords = {name: options.pop(name) for name in ("peft_config", "eval_dataset", "callbacks") if name in options}
    config_class = getattr(trainer_class, "_config_class", GRPOConfig)
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(engine.folder),
        reward_funcs=options.pop("reward_funcs", answer_length),
        args=config_class(**settings(folder, **{"max_steps": 2, **OWN.get(trainer_class, {}), **vllm, **options})),
        train_dataset=dataset(rows, answers=["Paris"] * rows),
        processing_class=build_tokenizer(),
        environment_factory=environment,
        **keywords,
    )
    probe = torch.arange(20)[None]

    def check_weights(engine):
        with torch.no_grad():
            torch.testing.assert_close(engine.model(probe).logits, trainer.model(probe).logits, atol=1e-5, rtol=0)

    if not engine.stale:
        engine.on_request = check_weights
    return trainer


def run(folder, engine, mode=serve, **options):
    """Train, with the policy's weights compared with the engine's at every request."""
    options["trainer_class"] = watched(options.get("trainer_class", MultiTurnGRPOTrainer))
    OWN[options["trainer_class"]] = OWN.get(options["trainer_class"].__mro__[1], {})
    with mode(engine) as vllm:
        trainer = make(folder, engine, vllm, **options)
        trainer.train()
    return trainer


def check_log_probs(trainer, engine):
    """What was sampled stands at its tokens, 0 everywhere else, and the ratio is that of the trained tokens."""
    for update, (rollouts, output) in enumerate(zip(trainer.batches, trainer.outputs, strict=True), 1):
        mask = output["completion_mask"] * output["tool_mask"]
        sampled = output["sampling_per_token_logps"]
        assert sampled.shape == mask.shape
        expected = torch.zeros_like(sampled)
        for row, turns in enumerate(rollouts.turns):
            whole = rollouts.prompt_ids[row] + rollouts.completion_ids[row]
            first = len(rollouts.prompt_ids[row])
            for turn in turns:
                context, written = tuple(whole[: first + turn.start]), whole[first + turn.start : first + turn.end]
                if not written:
                    continue
                said = {
                    ids: told for (of, prompt, ids), told in engine.told.items() if (of, prompt) == (update, context)
                }
                (told,) = (values for ids, values in said.items() if list(ids[: len(written)]) == written)
                expected[row, turn.start : turn.end] = torch.tensor(told[: len(written)])
                assert mask[row, turn.start : turn.end].all()
        torch.testing.assert_close(sampled, expected, atol=1e-6, rtol=0)
        assert mask.bool().eq(expected != 0).all()
        ratio = ((output["old_per_token_logps"] - expected) * mask).sum(1, keepdim=True).exp()
        torch.testing.assert_close(output["importance_sampling_ratio"], ratio, atol=1e-5, rtol=1e-5)
        assert (ratio - 1).abs().max() > 0.01


def contexts(trainer) -> list[tuple[int, ...]]:
    """Where the policy wrote a turn."""
    found = []
    for rollouts in trainer.batches:
        for prompt, completion, turns in zip(
            rollouts.prompt_ids, rollouts.completion_ids, rollouts.turns, strict=True
        ):
            found += [tuple(prompt + completion[: turn.start]) for turn in turns if turn.end > turn.start]
    return found


def asked(engine) -> list[tuple[int, ...]]:
    return [tuple(ids) for request in engine.requests for ids in request.prompts for _ in range(request.n)]


@pytest.mark.parametrize("mode", [serve, pytest.param(colocate, marks=pytest.mark.exhaustive)])
def test_with_nothing_configured_it_is_trl(tmp_path, model_folder, mode):
    runs = []
    for trainer_class in (GRPOTrainer, MultiTurnGRPOTrainer):
        engine = Engine(model_folder, add_some, perturb=lambda token, logprob: logprob + 0.01 * (token % 3))
        with mode(engine) as vllm:
            trainer = make(tmp_path, engine, vllm, trainer_class, environment=QuietCounter)
            trainer.train()
        runs.append(trainer)
    keys = ("loss", "grad_norm", "reward", "sampling/importance_sampling_ratio/mean")
    expected, found = ([{key: e[key] for key in keys} for e in t.state.log_history if "loss" in e] for t in runs)
    assert found == expected and expected[0]["grad_norm"] > 0
    weights, others = (trainer.model.state_dict() for trainer in runs)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


CELLS = [*((serve, trainer_class) for trainer_class in TRAINERS), (colocate, IGPOTrainer)]
MORE = [(colocate, trainer_class) for trainer_class in TRAINERS if (colocate, trainer_class) not in CELLS]


@pytest.mark.parametrize(
    ("mode", "trainer_class"), [*CELLS, *(pytest.param(*cell, marks=pytest.mark.exhaustive) for cell in MORE)]
)
def test_every_trainer(tmp_path, model_folder, mode, trainer_class):
    engine = Marked(model_folder, add_some)
    trainer = run(tmp_path, engine, mode, trainer_class=trainer_class)
    check_log_probs(trainer, engine)
    # Turns of rollouts and nothing else: no answer whose belief is scored, nothing for the critic.
    assert sorted(asked(engine)) == sorted(contexts(trainer))
    assert {request.n for request in engine.requests} == ({1, 4} if mode is serve else {1})
    assert engine.updates == engine.resets == 2
    assert {request.update for request in engine.requests} == {1, 2}
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(entry["grad_norm"] > 0 for entry in log)
    if "Replay" in trainer_class.__name__:
        assert log[-1]["replay/share"] > 0


def test_an_adapter_is_merged_before_it_is_sent(tmp_path, model_folder):
    engine = Marked(model_folder, add_some)
    lora = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4)
    trainer = run(tmp_path, engine, peft_config=lora, max_steps=3)
    check_log_probs(trainer, engine)
    assert engine.updates == 3
    first = AutoModelForCausalLM.from_pretrained(model_folder)
    changed = [n for n, p in engine.model.named_parameters() if not torch.equal(p, dict(first.named_parameters())[n])]
    assert changed and all("proj" in name for name in changed)


def test_resampling_asks_for_one_utterance_a_state(tmp_path, model_folder):
    engine = Marked(model_folder, add_some)
    trainer = run(tmp_path, engine, trainer_class=ArCHerTrainer, value_target="resample", resample_states=5)
    extra = asked(engine)
    for context in contexts(trainer):
        extra.remove(context)
    assert len(extra) == 2 * 5
    assert set(extra) <= set(contexts(trainer))
    assert len([request for request in engine.requests if len(request.prompts) == 5]) >= 2


def clumsy(text, turn, rng):
    """Also writes calls that cannot be parsed, and answers that no budget is enough for."""
    kind = rng.random()
    if kind < 0.2:
        return '<tool_call>\n{"name": "add", "arguments": \n</tool_call>'
    return "so " * 60 if kind > 0.9 else add_some(text, turn, rng)


@pytest.mark.parametrize("mode", [serve, pytest.param(colocate, marks=pytest.mark.exhaustive)])
def test_log_probs_where_rollouts_end_early_or_late(tmp_path, model_folder, mode):
    engine = Marked(model_folder, clumsy)
    trainer = run(
        tmp_path,
        engine,
        mode,
        environment=EndsOnEven,
        answer_malformed_calls=True,
        max_completion_length=110,
        per_device_train_batch_size=16,
        pad_to_multiple_of=8,
        vllm_importance_sampling_clip_max=100.0,
        stop_policies={"parse_error": "mask"},
    )
    reasons = {reason for rollouts in trainer.batches for reason in rollouts.stop_reasons}
    assert {StopReason.COMPLETED, StopReason.MAX_TOKENS, StopReason.TOOL_OVERFLOW} <= reasons
    over = [messages[-1]["role"] == "tool" for rollouts in trainer.batches for messages in rollouts.completions]
    assert any(over) and not all(over)
    check_log_probs(trainer, engine)


class Greets(QuietCounter):
    """Says something else to every rollout of a row."""

    greeted = 0

    def reset(self, **row):
        super().reset(**row)
        Greets.greeted += 1
        return f" Guest {Greets.greeted}"


@pytest.mark.parametrize("mode", [serve, pytest.param(colocate, marks=pytest.mark.exhaustive)])
def test_each_rollout_goes_on_from_what_its_own_reset_said(tmp_path, model_folder, mode):
    engine = Marked(model_folder, add_some)
    trainer = run(tmp_path, engine, mode, environment=Greets)
    assert len(set(map(tuple, trainer.batches[0].prompt_ids))) == 8
    check_log_probs(trainer, engine)
    assert sorted(asked(engine)) == sorted(contexts(trainer))


def test_weights_that_are_loaded_are_sent_again(tmp_path, model_folder):
    engine = Engine(model_folder, add_some)
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 3}
    options |= {"eval_dataset": dataset(2), "num_generations_eval": 2, "per_device_eval_batch_size": 4}
    with serve(engine) as vllm:
        trainer = make(tmp_path, engine, vllm, load_best_model_at_end=True, **options)
        trainer.train()
        trainer.evaluate()  # the best model's weights, at the last one's step; the engine compares
        assert trainer.state.best_global_step < 3 == trainer._last_loaded_step
        trainer._load_from_checkpoint(str(tmp_path / "checkpoint-3"))  # another run's third step has other weights
        assert trainer._last_loaded_step == -1


@pytest.mark.exhaustive
def test_one_step_old_weights_show(tmp_path, model_folder):
    logs = []
    for stale in (False, True):
        trainer = run(tmp_path, Marked(model_folder, add_some, stale=stale), max_steps=3)
        logs.append([entry for entry in trainer.state.log_history if "loss" in entry])
    name = "sampling/sampling_logp_difference/mean"
    fresh, old = ([entry[name] for entry in log] for log in logs)
    assert old[2] > 2 * fresh[2]


@pytest.mark.exhaustive
def test_chosen_utterances_are_sampled_by_the_engine(tmp_path, model_folder):
    engine = Engine(model_folder, add_some)
    options = {**QUICK, "algorithm": "chai", "num_candidates": 3, "vllm_importance_sampling_correction": False}
    trainer = run(tmp_path, engine, trainer_class=ArCHerTrainer, environment=EndsOnEven, max_steps=1, **options)
    assert sorted(asked(engine)) == sorted(3 * contexts(trainer))
    assert {request.n for request in engine.requests} == {3, 12} or {request.n for request in engine.requests} == {
        1,
        12,
    }


class Replaces(MultiTurnGRPOTrainer):
    """Trains on what it rolled out, given back as something stored."""

    def replace_batch(self, rollouts):
        ones = [[1.0] * len(ids) for ids in rollouts.completion_ids]
        return TrainingBatch(rollouts.prompt_ids, rollouts.completion_ids, rollouts.model_masks, ones)


@pytest.mark.parametrize("loss_type", ["dapo", pytest.param("vespo", marks=pytest.mark.exhaustive)])
def test_a_stored_batch_is_trained_as_it_is(tmp_path, model_folder, loss_type):
    engine = Marked(model_folder, add_some)
    options = {"vllm_importance_sampling_mode": "token_truncate", "loss_type": loss_type}
    trainer = run(tmp_path, engine, trainer_class=Replaces, max_steps=1, **options)
    without = run(
        tmp_path, engine, trainer_class=Replaces, max_steps=1, vllm_importance_sampling_correction=False, **options
    )
    logs = [next(e for e in t.state.log_history if "loss" in e) for t in (trainer, without)]
    assert logs[0]["grad_norm"] > 0
    assert (trainer.outputs[0]["importance_sampling_ratio"] == 1).all()


class TestRefused:
    """Before the first step."""

    @pytest.mark.parametrize("algorithm", ["chai", "filtered_bc", "offline"])
    def test_variants_without_sampling_probabilities(self, tmp_path, algorithm):
        with pytest.raises(ValueError, match="vllm_importance_sampling_correction=False"):
            ArCHerConfig(**settings(tmp_path, algorithm=algorithm, use_vllm=True))

    def test_choosing_with_a_correction(self, tmp_path, model_folder):
        class Chooses(MultiTurnGRPOTrainer):
            def choose_turns(self, prompt_ids, sample):
                return [some[0] for some in sample(2)]

        engine = Engine(model_folder, add_some)
        with pytest.raises(ValueError, match="choose_turns"):
            run(tmp_path, engine, trainer_class=Chooses)
        run(tmp_path, engine, trainer_class=Chooses, vllm_importance_sampling_correction=False, max_steps=1)

    @pytest.mark.parametrize("off", [{}, {"use_vllm": True, "vllm_importance_sampling_correction": False}])
    def test_a_share_of_nothing(self, tmp_path, off):
        with pytest.raises(ValueError, match="max_lost_share has no effect"):
            MultiTurnGRPOConfig(**settings(tmp_path, max_lost_share=0.2, **off))

    def test_a_share_above_one(self, tmp_path):
        with pytest.raises(ValueError, match="between 0 and 1"):
            MultiTurnGRPOConfig(**settings(tmp_path, use_vllm=True, max_lost_share=1.5))

    def test_transformers_name_of_a_limit(self, tmp_path):
        with pytest.raises(ValueError, match="max_tokens"):
            MultiTurnGRPOConfig(**settings(tmp_path, use_vllm=True, generation_kwargs={"max_new_tokens": 5}))

    def test_a_server_that_is_too_small_for_a_second_turn(self, tmp_path, model_folder):
        engine = Engine(model_folder, add_some, max_model_len=512)
        with pytest.raises(ValueError, match="at least 512 plus"):
            run(tmp_path, engine)
        assert not engine.requests
        run(tmp_path, engine, generation_kwargs={"max_tokens": 64}, max_steps=1)
        run(tmp_path, engine, environment=None, max_steps=1)

    def test_a_context(self):
        check_server_context(300, 200, 50, has_tools=True)
        check_server_context(201, 200, 200, has_tools=False)
        for limit, has_tools in ((250, True), (50, False)):
            with pytest.raises(ValueError, match=f"max-model-len {limit}"):
                check_server_context(limit, 200, 50, has_tools)
