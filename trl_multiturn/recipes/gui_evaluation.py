"""Evaluation of a GUI agent: replies to recorded screens, live episodes on the phone, and an oracle and chance beside them."""

import functools
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from accelerate.utils import gather_object
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from ..config import MultiTurnGRPOConfig
from ..environments.phone.actions import Action
from ..environments.phone.demonstrations import UNSEEN_APPS, demonstrate
from ..environments.phone.environment import PhoneEnvironment
from ..environments.phone.layout import tappable
from ..environments.phone.task import PhoneTask
from ..environments.phone.tasks import phone_dataset
from ..evaluation.gui import GuiEpisode, GuiMatch, record_episode
from ..rewards.gui import action_reward
from ..rollouts import StopReason


if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.get_logger(__name__)

_Key = TypeVar("_Key", bound=Hashable)
_Found = TypeVar("_Found")

BASELINES = ("oracle", "random")


def evaluate_actions(
    model: Any,
    processor: Any,
    rows: "Dataset",
    *,
    samples: int = 1,
    temperature: float = 0.0,
    max_reply_tokens: int = 256,
    batch_size: int = 16,
    seed: int = 0,
    **settings: Any,
) -> list[GuiMatch]:
    """
    Let a model reply to recorded screens and compare its actions with the recorded ones.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            The model, as for [`~trl.GRPOTrainer`].
        processor (`ProcessorMixin`):
            Its processor.
        rows (`Dataset`):
            What [`step_dataset`] gives, with the tools in the system prompt ([`tools_as_system_text`]).
        samples (`int`, *optional*, defaults to `1`):
            Replies to each.
        temperature (`float`, *optional*, defaults to `0.0`):
            Temperature of sampling; 0 takes the likeliest token.
        max_reply_tokens (`int`, *optional*, defaults to `256`):
            Longest reply.
        batch_size (`int`, *optional*, defaults to `16`):
            Replies at a time.
        seed (`int`, *optional*, defaults to `0`):
            Seed of sampling.
        **settings (`Any`):
            Other settings of [`MultiTurnGRPOConfig`], such as `use_cpu=True`.

    Returns:
        `list[GuiMatch]`: One for each reply.
    """
    found: list[tuple[tuple[int, int], GuiMatch]] = []

    def compare(completions: list[Any], **columns: Any) -> list[float]:
        types: list[float] = []
        rewards = action_reward(completions, **{**columns, "log_metric": lambda name, value: types.append(value)})
        keys = zip(columns["trajectory"], columns["step"], strict=True)
        for key, split, same_type, same in zip(keys, columns["split"], types, rewards, strict=True):
            found.append((key, GuiMatch(key[0], bool(same_type), bool(same), split == "unseen")))
        return rewards

    settings = {"max_completion_length": max_reply_tokens, **settings}
    _run(model, processor, rows, compare, samples, temperature, batch_size, seed, settings)
    return _gathered(found, samples)


def evaluate_tasks(
    model: Any,
    processor: Any,
    tasks: Sequence[PhoneTask],
    environment: Callable[..., PhoneEnvironment] = PhoneEnvironment,
    *,
    system: str = "",
    language: str = "en",
    history_images: int | None = 1,
    max_steps: int = 15,
    samples: int = 1,
    temperature: float = 0.0,
    max_reply_tokens: int = 256,
    max_completion_length: int = 8192,
    batch_size: int = 8,
    seed: int = 0,
    unseen_apps: Sequence[str] = UNSEEN_APPS,
    **settings: Any,
) -> list[GuiEpisode]:
    """
    Let a model do tasks on the phone, by the trainer that it learns with.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            The model, as for [`~trl.GRPOTrainer`].
        processor (`ProcessorMixin`):
            Its processor.
        tasks (`Sequence[PhoneTask]`):
            The tasks.
        environment (`Callable`, *optional*, defaults to [`PhoneEnvironment`]):
            Makes a phone; called with `max_steps`.
        system (`str`, *optional*, defaults to `""`):
            System prompt, without the tools, which the chat template adds. Empty for none.
        language (`str`, *optional*, defaults to `"en"`):
            Language of the instructions, as for [`phone_dataset`].
        history_images (`int`, *optional*, defaults to `1`):
            Newest screenshots that the model sees; `None` for all.
        max_steps (`int`, *optional*, defaults to `15`):
            Steps after which an episode is cut off.
        samples (`int`, *optional*, defaults to `1`):
            Episodes of each task.
        temperature (`float`, *optional*, defaults to `0.0`):
            Temperature of sampling; 0 takes the likeliest token.
        max_reply_tokens (`int`, *optional*, defaults to `256`):
            Longest reply.
        max_completion_length (`int`, *optional*, defaults to `8192`):
            Longest episode in tokens, all screenshots included.
        batch_size (`int`, *optional*, defaults to `8`):
            Episodes at a time.
        seed (`int`, *optional*, defaults to `0`):
            Seed of sampling.
        unseen_apps (`Sequence[str]`, *optional*, defaults to [`UNSEEN_APPS`]):
            Apps that were left out of training.
        **settings (`Any`):
            Other settings of [`MultiTurnGRPOConfig`], such as `use_cpu=True`. Malformed calls are answered unless
            `answer_malformed_calls=False`.

    Returns:
        `list[GuiEpisode]`: One for each episode. Those whose phone was lost are left out, with a warning.

    Raises:
        `ValueError`: If `language` is none of those.
    """
    found: list[tuple[str, GuiEpisode | None]] = []

    def record(completions: list[Any], environments: list[Any], stop_reason: list[str], **columns: Any) -> list[Any]:
        rewards: list[float | None] = []
        for completion, phone, reason in zip(completions, environments, stop_reason, strict=True):
            episode = None
            if reason != StopReason.ENVIRONMENT_ERROR:
                # A reply after the last step is not carried out.
                replies = min(sum(message["role"] == "assistant" for message in completion), max_steps)
                episode = record_episode(phone, replies, phone.task.app in unseen_apps)
            found.append((phone.task.to_json(), episode))
            rewards.append(None if episode is None else float(episode.success))
        return rewards

    # vLLM has a name of its own for it.
    reply_limit = "max_tokens" if settings.get("use_vllm") else "max_new_tokens"
    settings = {
        "environment_factory": functools.partial(environment, max_steps=max_steps),
        "max_tool_calling_iterations": max_steps,
        "history_images": history_images,
        "answer_malformed_calls": True,
        "generation_kwargs": {reply_limit: max_reply_tokens},
        "max_completion_length": max_completion_length,
        **settings,
    }
    rows = _with_system(phone_dataset(tasks, language), system)
    _run(model, processor, rows, record, samples, temperature, batch_size, seed, settings)
    episodes = _gathered(found, samples)
    kept = [episode for episode in episodes if episode is not None]
    if len(kept) < len(episodes):
        logger.warning(f"{len(episodes) - len(kept)} of {len(episodes)} episodes are left out: their phone was lost.")
    return kept


def play_baseline(
    policy: str,
    tasks: Iterable[PhoneTask],
    max_steps: int = 15,
    seed: int = 0,
    unseen_apps: Sequence[str] = UNSEEN_APPS,
) -> list[GuiEpisode]:
    """
    Do tasks without a model: what the best and the blindest agent come to, by the measures of [`evaluate_tasks`].

    Args:
        policy (`str`):
            `"oracle"` takes a shortest way. `"random"` taps any widget in sight that reacts, or goes back, all equally likely.
        tasks (`Iterable[PhoneTask]`):
            The tasks.
        max_steps (`int`, *optional*, defaults to `15`):
            Steps after which an episode is cut off.
        seed (`int`, *optional*, defaults to `0`):
            Seed of what is drawn.
        unseen_apps (`Sequence[str]`, *optional*, defaults to [`UNSEEN_APPS`]):
            Apps that were left out of training.

    Returns:
        `list[GuiEpisode]`: One for each task.

    Raises:
        `ValueError`: If there is no such policy.
    """
    if policy not in BASELINES:
        raise ValueError(f"`policy` must be one of {', '.join(BASELINES)}, got {policy!r}.")
    episodes = []
    for task in tasks:
        phone = PhoneEnvironment(max_steps=max_steps)
        phone.reset(task=task.to_json())
        rng = random.Random(f"{seed}/{task.name}/{task.instruction}")
        actions = _random_actions(phone, rng) if policy == "random" else _oracle_actions(task, rng)
        for action in itertools.islice(actions, max_steps):
            phone.mobile_use(**action.arguments())
        episodes.append(record_episode(phone, len(phone.actions), task.app in unseen_apps))
    return episodes


# --- rollouts by the trainer


def _run(
    model: Any,
    processor: Any,
    rows: "Dataset",
    reward: Callable[..., list[Any]],
    samples: int,
    temperature: float,
    batch_size: int,
    seed: int,
    settings: dict[str, Any],
) -> None:
    """Let the trainer write `samples` rollouts for each row, and give them to a reward function."""
    from ..trainer import MultiTurnGRPOTrainer

    class Evaluation(MultiTurnGRPOTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            # Only the rollouts are wanted: this saves a pass of the model over each.
            return inputs["advantages"].new_zeros(())

    environment_factory = settings.pop("environment_factory", None)
    greedy = {"top_k": 1} if temperature == 0 else {"temperature": temperature}
    with tempfile.TemporaryDirectory() as folder:
        args = MultiTurnGRPOConfig(
            **{
                "output_dir": folder,
                # Nothing is trained, but fewer cannot be set.
                "num_generations": 2,
                "per_device_train_batch_size": 2,
                "num_generations_eval": samples,
                "per_device_eval_batch_size": max(1, batch_size // samples) * samples,
                "report_to": [],
                "disable_tqdm": True,
                "seed": seed,
                **greedy,
                **settings,
            }
        )
        trainer = Evaluation(
            model,
            reward,
            args,
            rows,
            eval_dataset=rows,
            processing_class=processor,
            environment_factory=environment_factory,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.evaluate()
        trainer.accelerator.free_memory()


def _with_system(rows: "Dataset", system: str) -> "Dataset":
    if not system:
        return rows
    message = {"role": "system", "content": [{"type": "text", "text": system}]}
    return rows.from_list([{**row, "prompt": [message, *row["prompt"]]} for row in rows])


def _gathered(found: list[tuple[_Key, _Found]], samples: int) -> list[_Found]:
    """What all processes found. They fill up their last batch with rows that were there before: those are left out."""
    seen: Counter[_Key] = Counter()
    kept = []
    for key, value in gather_object(found):
        seen[key] += 1
        if seen[key] <= samples:
            kept.append(value)
    return kept


# --- agents without a model


def _oracle_actions(task: PhoneTask, rng: random.Random) -> Iterator[Action]:
    return (step.call for step in demonstrate(task, rng, render=None).trajectory)


def _random_actions(phone: PhoneEnvironment, rng: random.Random) -> Iterator[Action]:
    while (state := phone.state) is not None:
        taps = [Action("click", coordinate=box.center) for _, box in tappable(state.screen(), state.scroll)]
        yield rng.choice([*taps, Action("system_button", button="Back")])
