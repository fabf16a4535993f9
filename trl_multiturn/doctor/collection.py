"""Takes one generation batch through a trainer, and writes down what the checks look at."""

from typing import Any

import torch
from torch import nn

from ..config import cpu_has_bf16
from ..rollouts import Rollouts
from ..sampling import generation_batches
from .chat import Chat
from .keeping import checkpointed, untouched
from .methods import after_batch, before_batch, method_hooks, methods_of
from .observation import Gradient, Observation, Scored, Setup
from .watching import Watch, sampled_tokens, watched_generation


_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "do_sample")
_IMAGE_TOKENS = ("<|image_pad|>", "<|image|>")


def observe(trainer: Any) -> Observation:
    """
    Roll out a generation batch, compute its loss and gradient, and put everything back.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            A trainer that has not begun to train. Every process must call it.

    Returns:
        [`Observation`]: What was seen on this process.

    Raises:
        `ValueError`: If the trainer cannot be taken through a batch before `train()` has wrapped its model.
    """
    _check_supported(trainer)
    watch = Watch()
    rows = next(generation_batches(trainer))
    model = trainer.accelerator.unwrap_model(trainer.model)
    with untouched(trainer), checkpointed(model, trainer.args):
        trainer.model.train()
        before_batch(trainer)
        hooks = ("compute_turn_rewards", "compute_turn_advantages", *method_hooks(trainer))
        with trainer.watched(watch), watched_generation(model, watch), watch.of_hooks(trainer, *hooks):
            batches = trainer.micro_batches(rows)
        metrics = trainer.pop_metrics()
        with trainer.watched(watch):
            scored, gradient = _train_on(trainer, batches, watch)
        seen = Observation(
            args=trainer.args,
            method=methods_of(trainer),
            chat=make_chat(trainer),
            setup=_setup(trainer, model),
            gradient=gradient,
            metrics=metrics,
            image_mismatch=metrics.get("images/mismatched", 0.0) > 0,
        )
        if watch.rollouts is not None:
            _add_rollouts(seen, trainer, watch, scored)
            seen.extra = after_batch(trainer, seen, watch)
    return seen


def make_chat(trainer: Any) -> Chat:
    """
    Tokenizer and chat template of a trainer.

    Args:
        trainer ([`MultiTurnGRPOTrainer`]):
            The trainer.

    Returns:
        [`Chat`]
    """
    processor = trainer.processing_class
    tokenizer = getattr(processor, "tokenizer", processor)
    return Chat(
        processor=processor,
        tokenizer=tokenizer,
        template=trainer.chat_template,
        kwargs=dict(trainer.chat_template_kwargs),
        tools=list(trainer.tools or []),
        end_ids={*trainer.eos_token_ids},
        is_vision_language=trainer.is_vision_language,
    )


def _check_supported(trainer: Any) -> None:
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise ValueError(
            "diagnose takes a batch before train() has sharded the model: run it once without DeepSpeed and FSDP, on one GPU "
            "with a smaller model if need be. What it checks does not depend on how the weights are spread."
        )
    if trainer.state.global_step or trainer.model_wrapped is not trainer.model:
        raise ValueError("diagnose must be called before trainer.train().")


# --- loss and gradient


def _train_on(trainer: Any, batches: list[dict[str, Any]], watch: Watch) -> tuple[list[dict[str, Any]], Gradient]:
    """Loss and gradient of all micro-batches, without a step; and each row of them as it was scored."""
    trainer.model.zero_grad(set_to_none=True)
    rows: list[dict[str, Any]] = []
    total, failed = 0.0, ""
    for batch in batches:
        watch.logps = None
        try:
            with trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(trainer.model, batch)
            if loss.requires_grad:
                loss.backward()
            total += loss.item()
        except (IndexError, RuntimeError, ValueError) as error:  # told as a finding, beside what explains it
            failed = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        rows += _split(batch, watch.logps, trainer)
    gradient = _read_gradient(trainer.model, total, failed)
    trainer.model.zero_grad(set_to_none=True)
    return rows, gradient


def _read_gradient(model: nn.Module, loss: float, failed: str) -> Gradient:
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    squares = 0.0
    untouched_names, broken = [], []
    for name, parameter in trained:
        if parameter.grad is None:
            untouched_names.append(name)
            continue
        square = parameter.grad.float().norm().item() ** 2
        squares += square
        if not square < float("inf"):
            broken.append(name)
    return Gradient(
        loss=loss,
        norm=squares**0.5,
        trained=sum(parameter.numel() for _, parameter in trained),
        total=sum(parameter.numel() for parameter in model.parameters()),
        untouched=untouched_names,
        broken=broken,
        failed=failed,
    )


def _split(batch: dict[str, Any], logps: torch.Tensor | None, trainer: Any) -> list[dict[str, Any]]:
    """The rows of a micro-batch: prompt, padded completion, and [`Scored`]."""
    mask = batch["completion_mask"] * batch.get("tool_mask", 1)
    advantages = batch["advantages"]
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(1).expand(-1, mask.size(1))
    image_token = _image_token(trainer)
    features = _image_features(batch, trainer)
    rows = []
    for i in range(len(mask)):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()].tolist()
        completion = batch["completion_ids"][i].tolist()
        scored = Scored(
            trained=mask[i].bool().tolist(),
            advantages=advantages[i].float().tolist(),
            logps=[] if logps is None else logps[i].tolist(),
            image_tokens=0 if image_token is None else [*prompt, *completion].count(image_token),
            image_features=None if features is None else features[i],
        )
        if "sampling_per_token_logps" in batch:
            scored.sampling_logps = batch["sampling_per_token_logps"][i].float().tolist()
        if "importance_sampling_ratio" in batch:
            scored.ratio = batch["importance_sampling_ratio"][i].float().tolist()
        rows.append({"prompt": prompt, "completion": completion, "scored": scored})
    return rows


def _image_token(trainer: Any) -> int | None:
    if not trainer.is_vision_language:
        return None
    tokenizer = trainer.processing_class.tokenizer
    vocabulary = tokenizer.get_vocab()
    return next((vocabulary[name] for name in _IMAGE_TOKENS if name in vocabulary), None)


def _image_features(batch: dict[str, Any], trainer: Any) -> list[int] | None:
    """Image tokens that the images of each row make up, in models whose images are grids of patches."""
    grids, counts = batch.get("image_grid_thw"), batch.get("num_images")
    if grids is None or counts is None:
        return None
    merge = getattr(trainer.processing_class.image_processor, "merge_size", 2) ** 2
    of_images = [int(grid.prod()) // merge for grid in grids]
    ends = torch.tensor([0, *counts]).cumsum(0).tolist()
    return [sum(of_images[a:b]) for a, b in zip(ends, ends[1:], strict=False)]


# --- rollouts


def _add_rollouts(seen: Observation, trainer: Any, watch: Watch, scored: list[dict[str, Any]]) -> None:
    rollouts = watch.rollouts
    assert rollouts is not None
    rewards = watch.hooks["compute_turn_rewards"]
    advantages = watch.hooks["compute_turn_advantages"]
    gather = trainer.accelerator.gather
    seen.rollouts, seen.turn_rewards, seen.turn_advantages = rollouts, rewards.cpu(), advantages.cpu()
    seen.all_rewards, seen.all_outcomes = gather(rollouts.rewards).cpu(), gather(rollouts.outcomes).cpu()
    seen.signal = gather((advantages.abs() * rollouts.written_mask).amax(dim=1)).cpu()
    seen.scored = _match(rollouts, scored, trainer)
    if watch.written:
        seen.sampled, seen.sampling_logps = sampled_tokens(rollouts, watch.written)
    from_backend = [s.sampling_logps if s is not None else None for s in seen.scored]
    if any(values is not None for values in from_backend):
        seen.sampling_logps = [
            [float("nan")] * len(ids) if values is None else values[: len(ids)]
            for ids, values in zip(rollouts.completion_ids, from_backend, strict=True)
        ]


def _match(rollouts: Rollouts, rows: list[dict[str, Any]], trainer: Any) -> list[Scored | None]:
    """The row of the loss for each rollout: TRL shuffles them. `None` for a rollout that is not trained on."""
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    left = list(rows)
    found: list[Scored | None] = []
    for prompt, ids in zip(rollouts.prompt_ids, rollouts.completion_ids, strict=True):
        length = len(ids)
        for i, row in enumerate(left):
            padding = row["completion"][length:]
            same = row["prompt"] == list(prompt) and row["completion"][:length] == list(ids)
            if same and padding.count(tokenizer.pad_token_id) == len(padding):
                found.append(_cut(left.pop(i)["scored"], length))
                break
        else:
            found.append(None)
    return found


def _cut(scored: Scored, length: int) -> Scored:
    """Without the padding."""
    for name in ("trained", "advantages", "logps", "sampling_logps", "ratio"):
        values = getattr(scored, name)
        setattr(scored, name, None if values is None else values[:length])
    return scored


# --- the model


def _setup(trainer: Any, model: nn.Module) -> Setup:
    dtypes: dict[str, int] = {}
    for parameter in model.parameters():
        name = str(parameter.dtype).removeprefix("torch.")
        dtypes[name] = dtypes.get(name, 0) + parameter.numel()
    dropout = {
        name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p > 0
    }
    config: Any = model.config
    text: Any = config.get_text_config()
    if getattr(text, "attention_dropout", 0.0):
        dropout["config.attention_dropout"] = text.attention_dropout
    on_cpu = trainer.accelerator.device.type == "cpu"
    computes_bf16 = bool(trainer.args.bf16) or "bfloat16" in dtypes
    return Setup(
        dtypes=dtypes,
        dropout=dropout,
        adapters=sorted(getattr(model, "peft_config", {})),
        adapter_trained=sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and "lora_" in n),
        context_window=getattr(text, "max_position_embeddings", None),
        emulates_bf16=on_cpu and computes_bf16 and not cpu_has_bf16(),
        sampling=_sampling(trainer),
    )


def _sampling(trainer: Any) -> dict[str, Any]:
    """What the generation backend was told: `generation_kwargs` win over the arguments."""
    args = trainer.args
    values = {name: getattr(args, name, None) for name in _SAMPLING if name != "do_sample"}
    values["do_sample"] = True
    given = args.generation_kwargs or {}
    return values | {name: given[name] for name in _SAMPLING if name in given}
