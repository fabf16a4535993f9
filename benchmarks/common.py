"""What the benchmarks train: the shipped search policy on the embedded questions."""

import time
from functools import lru_cache
from typing import Any

from transformers import PrinterCallback

from trl_multiturn.recipes.search_policy import MAX_TURN_TOKENS, SEARCH_POLICY
from trl_multiturn.recipes.search_task import SearchTask, load_search_task
from trl_multiturn.rewards import exact_match_reward


@lru_cache
def task(hops: tuple[int, ...] = (1, 2, 3)) -> SearchTask:
    """The embedded questions, loaded once."""
    return load_search_task("facts", hops=list(hops))


def quick_settings(rollouts: int, **overrides: Any) -> dict[str, Any]:
    """Arguments of a run whose every step generates `rollouts` rollouts and updates once."""
    return {
        "output_dir": "runs/benchmark",
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": rollouts,
        "num_generations": 8,
        "max_completion_length": 192,
        "generation_kwargs": {"max_new_tokens": MAX_TURN_TOKENS},
        "max_tool_calling_iterations": 5,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        **overrides,
    }


def search_trainer(
    trainer_class: Any,
    arguments: Any,
    environment_factory: Any = None,
    hops: tuple[int, ...] = (1, 2, 3),
    **kwargs: Any,
) -> Any:
    """A trainer of the given class on the embedded questions, rewarded for exact matches."""
    trainer = trainer_class(
        model=str(SEARCH_POLICY),
        reward_funcs=exact_match_reward,
        args=arguments,
        train_dataset=task(hops).train,
        environment_factory=environment_factory or task(hops).environment_factory,
        **kwargs,
    )
    trainer.remove_callback(PrinterCallback)  # a benchmark prints its own lines
    return trainer


def time_calls(trainer: Any, method: str) -> list[float]:
    """Seconds of each call of a trainer's method from now on; the list grows as the trainer runs."""
    inner, seconds = getattr(trainer, method), []

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = inner(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(trainer, method, timed)
    return seconds
