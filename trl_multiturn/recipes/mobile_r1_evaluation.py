"""The evaluation of the Mobile-R1 recipe: each stage's model on held-out states, tasks and apps."""

from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..environments.phone import system_prompt
from .gui_evaluation import BASELINES, evaluate_actions, evaluate_tasks, play_baseline
from .gui_report import print_report, report, save_report
from .mobile_r1_config import STAGES, MobileR1Config
from .mobile_r1_data import held_out_steps, held_out_tasks
from .processors import load_processor


# Settings of the third stage that say how the model is run, not how it is trained.
_RUNTIME = (
    "use_cpu",
    "bf16",
    "fp16",
    "dataloader_pin_memory",
    "model_init_kwargs",
    "trust_remote_code",
    "use_vllm",
    "vllm_mode",
    "vllm_gpu_memory_utilization",
    "vllm_server_base_url",
    "vllm_max_model_length",
)


def evaluate(config: MobileR1Config) -> Path:
    """
    Measure every stage's model that is there, or else the one to start from, and print and save the measures with those of
    an oracle and of chance beside them.

    Args:
        config ([`MobileR1Config`]):
            Settings. `eval_states` and `eval_tasks` say on how much.

    Returns:
        `Path`: Folder with `evaluation.json` and `evaluation.png`.
    """
    done = [stage for stage in STAGES if config.is_done(stage)]
    models = {stage: str(config.folder(stage)) for stage in done} or {"start": str(config.model)}
    tasks = held_out_tasks(config)
    # The stages' models have the same chat template, so the states are drawn and encoded once.
    states = held_out_steps(config, tasks, load_processor(next(iter(models.values())))).remove_columns(["completion"])
    measured = {name: _measure(config, model, tasks, states) for name, model in models.items()}
    folder = Path(config.output_dir) / "evaluation"
    if PartialState().is_main_process:
        reports = {
            name: report(episodes=play_baseline(name, tasks, config.episode_steps, config.seed)) for name in BASELINES
        } | measured
        save_report(reports, folder, "Success on held-out tasks")
        print_report(reports, "Held-out states and tasks")
    return folder


def _measure(config: MobileR1Config, model: str, tasks: list[Any], states: Any) -> dict[str, dict[str, Any]]:
    processor = load_processor(model)
    args = config.trainer_config("task")
    given: Any = config.task or {}
    runtime = {name: getattr(args, name) for name in _RUNTIME if name in given}
    # vLLM has a name of its own for it.
    limits = args.generation_kwargs or {}
    reply_tokens = limits.get("max_tokens" if args.use_vllm else "max_new_tokens", 256)
    common: dict[str, Any] = {
        "max_reply_tokens": reply_tokens,
        "batch_size": args.per_device_eval_batch_size,
        "seed": config.seed,
        **runtime,
    }
    episodes = evaluate_tasks(
        model,
        processor,
        tasks,
        config.environment(),
        system=system_prompt(config.environment()().image_size, config.space),
        language=config.language,
        history_images=config.history_images,
        max_steps=config.episode_steps,
        max_completion_length=args.max_completion_length,
        **common,
    )
    return report(evaluate_actions(model, processor, states, **common), episodes, config.seed)
