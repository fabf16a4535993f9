"""What must hold in a cell, by its lifecycle. Each check takes a [`Bench`] and fails by an exception."""

from collections.abc import Callable
from typing import Any

from peft import PeftModel
from transformers import TrainerCallback

from tests.matrix.bench import (
    Bench,
    falling_outcome,
    model_of,
    same,
    saved_weights,
    training_logs,
    weights,
)
from tests.matrix.building import base, rows, saved_base
from tests.matrix.cells import LEVELS, LOSSES
from tests.matrix.hub import HUB_CHECKS
from tests.matrix.resuming import check_resume


STATE_FILES = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}


def check_train(bench: Bench) -> None:
    """Training changes what it must change."""
    bench.train()


def check_evaluate(bench: Bench) -> None:
    """Evaluation says how well rollouts do, and changes nothing."""
    trainer = bench.trainer(**bench.evaluation())
    before = weights(trainer), trainer.method_state()
    metrics = trainer.evaluate()
    assert {"eval_loss", "eval_reward", "eval_stop/completed"} <= metrics.keys()
    assert 0 <= metrics["eval_reward"] <= 6 + 3 * 9  # an outcome, and what the counter pays for three turns
    assert same((weights(trainer), trainer.method_state()), before)
    assert trainer.generated == 0 and not bench.stepped


def check_evaluate_in_training(bench: Bench) -> None:
    """Evaluation after every step, without `compute_metrics`, which has no meaning here."""
    trainer = bench.train(eval_strategy="steps", eval_steps=1, **bench.evaluation())
    assert trainer.compute_metrics is None
    found = [log for log in trainer.state.log_history if "eval_reward" in log]
    assert [log["step"] for log in found] == [1, 2]
    assert trainer.generated == 2


def check_save(bench: Bench) -> None:
    """A new model that is loaded from what was saved has the trained one's weights."""
    trainer = bench.train(max_steps=1)
    trainer.save_model()
    check_loads(bench, trainer, trainer.args.output_dir)
    assert (bench.folder / "run" / "tokenizer.json").exists()


def check_loads(bench: Bench, trainer: Any, folder: str) -> None:
    """What a folder holds equals the trainer's weights."""
    model = model_of(trainer)
    images = bench.cell.environment == "images"
    if bench.cell.adapter == "full":
        loaded = type(model).from_pretrained(folder, dtype="float32")
    else:
        quantization = getattr(model.get_base_model().config, "quantization_config", None)
        assert (quantization is not None) == (bench.cell.adapter == "qlora")
        fresh = base(images)
        if quantization is not None:
            fresh = type(fresh).from_pretrained(saved_base(images), quantization_config=quantization, dtype="float32")
        loaded = PeftModel.from_pretrained(fresh, folder)
        ours = {name: p.data for name, p in model.named_parameters() if "lora_" not in name}
        theirs = {name: p.data for name, p in loaded.named_parameters() if "lora_" not in name}
        assert same(ours, theirs), "the base model's weights have changed"
    # PEFT makes float32 of the bfloat16 in which TRL trains adapters on quantized models.
    theirs, ours = ({name: v.float() for name, v in saved_weights(m).items()} for m in (loaded, model))
    assert same(theirs, ours)


def check_save_only_model(bench: Bench) -> None:
    """The checkpoint has the model and nothing else; a run goes on from it with a new optimizer."""
    options = {"save_strategy": "steps", "save_steps": 1, "save_only_model": True}
    trainer = bench.train(max_steps=1, **options)
    checkpoint = bench.folder / "run" / "checkpoint-1"
    files = {path.name for path in checkpoint.iterdir()}
    assert not files & STATE_FILES and not any(name.startswith("method_state") for name in files), files
    check_loads(bench, trainer, str(checkpoint))
    began = _Began()
    again = bench.trainer(callbacks=(began,), max_steps=2, **options)
    before = weights(again)
    again.train(resume_from_checkpoint=str(checkpoint))
    assert same(began.weights, weights(trainer))
    bench.check_trained(again, before)
    assert again.generated == 1


class _Began(TrainerCallback):
    """Keeps the weights with which training begins."""

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.weights = {name: p.data.clone() for name, p in model.named_parameters()}


class _AfterSteps(TrainerCallback):
    """Keeps the weights after every step."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append({name: p.data.clone() for name, p in model.named_parameters()})


def check_load_best(bench: Bench) -> None:
    """The first step's model, which evaluation found best, is the one that is there in the end."""
    after = _AfterSteps()
    trainer = bench.trainer(
        callbacks=(after,),
        reward_funcs=falling_outcome,
        load_best_model_at_end=True,
        metric_for_best_model="eval_reward",
        greater_is_better=True,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        **bench.evaluation(),
    )
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")
    assert not same(after.weights[1], after.weights[0])
    assert same(weights(trainer), after.weights[0])


class _Events(TrainerCallback):
    """Writes down what it is told, and stops the training after two steps."""

    def __init__(self):
        self.events = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.events.append("begin")

    def on_substep_end(self, args, state, control, **kwargs):
        self.events.append("substep")

    def on_step_end(self, args, state, control, **kwargs):
        self.events.append("step")
        control.should_training_stop = state.global_step == 2

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            assert {"reward", "turns/mean"} <= logs.keys()
            self.events.append("log")

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        assert "eval_reward" in metrics
        self.events.append("evaluate")

    def on_save(self, args, state, control, **kwargs):
        self.events.append("save")

    def on_train_end(self, args, state, control, **kwargs):
        self.events.append("end")


def check_callbacks(bench: Bench) -> None:
    """Callbacks are told everything in order, and may stop the training."""
    events = _Events()
    trainer = bench.trainer(
        callbacks=(events,),
        max_steps=9,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        **bench.evaluation(),
    )
    trainer.train()
    assert trainer.state.global_step == 2
    step = ["substep", "step", "log"]
    assert events.events == ["begin", *step, *step, "evaluate", "save", "end"]


def check_streaming(bench: Bench) -> None:
    """Rows come from a stream, each group's from one of them."""
    trainer = bench.train(data=rows(bench.cell).to_iterable_dataset(), max_steps=2)
    assert trainer.generated == 2


def check_num_iterations(bench: Bench) -> None:
    """Two optimizer steps on every generation batch."""
    trainer = bench.train(num_iterations=2, max_steps=2)
    assert trainer.generated == 1


def check_steps_per_generation(bench: Bench) -> None:
    """A generation batch is split over two optimizer steps."""
    trainer = bench.train(steps_per_generation=2, gradient_accumulation_steps=1, max_steps=2)
    assert trainer.generated == 1
    assert len(training_logs(trainer)) == 2


def check_gradient_checkpointing(bench: Bench) -> None:
    """It saves memory and changes nothing else."""
    plain = bench.train("plain", gradient_checkpointing=False, max_steps=1)
    trainer = bench.train("checkpointed", gradient_checkpointing=True, max_steps=1)
    assert model_of(trainer).is_gradient_checkpointing and not model_of(plain).is_gradient_checkpointing
    ours = weights(trainer)
    for name, expected in weights(plain).items():
        assert same(ours[name], expected), name


def check_no_answers(bench: Bench) -> None:
    """Only what needs answers asks for them."""
    bench.train(data=rows(bench.cell, answers=False), max_steps=1)


def _loss_check(loss: str, level: str) -> Callable[[Bench], None]:
    def check(bench: Bench) -> None:
        """Two steps on one generation batch: in the second, ratios are not 1."""
        trainer = bench.train(loss_type=loss, importance_sampling_level=level, num_iterations=2, max_steps=2)
        assert (trainer.loss_type, trainer.importance_sampling_level) == (loss, level)
        assert trainer.generated == 1

    return check


CHECKS: dict[str, Callable[[Bench], None]] = {
    "train": check_train,
    "evaluate": check_evaluate,
    "evaluate_in_training": check_evaluate_in_training,
    "save": check_save,
    "resume": check_resume,
    "save_only_model": check_save_only_model,
    "load_best": check_load_best,
    **HUB_CHECKS,
    "callbacks": check_callbacks,
    "streaming": check_streaming,
    "num_iterations": check_num_iterations,
    "steps_per_generation": check_steps_per_generation,
    "gradient_checkpointing": check_gradient_checkpointing,
    "no_answers": check_no_answers,
    **{f"loss_{loss}_{level}": _loss_check(loss, level) for loss in LOSSES for level in LEVELS},
}
