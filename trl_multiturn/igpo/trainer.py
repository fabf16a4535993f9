"""[`IGPOTrainer`]: the reward of a turn is how much it raised the probability of the right answer."""

import textwrap
import time
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from datasets import Dataset, IterableDataset

from ..advantages import baseline_bias, groups_without_signal, igpo_turn_advantages, last_turn_mask
from ..rewards.answers import accepted_answers
from ..rewards.format import has_valid_format
from ..rollouts import Rollouts, StopReason
from ..trainer import MultiTurnGRPOTrainer
from .belief import Probe, score_probes
from .config import IGPOConfig
from .templates import encode_answer


_DEFAULT_ANSWER_COLUMNS = ("answers", "answer", "solution")


class IGPOTrainer(MultiTurnGRPOTrainer):
    """
    Trainer for Information Gain-based Policy Optimization (IGPO), proposed in [Information Gain-based Policy
    Optimization: A Simple and Effective Approach for Multi-Turn LLM
    Agents](https://huggingface.co/papers/2510.14967).

    After every tool result the policy is asked, by teacher forcing and without sampling, how likely it holds the right
    answer. The rise from one turn to the next is that turn's reward; the last turn gets the outcome. Both are normalised
    within the group and summed to the end of the rollout, and each turn's tokens are trained on the turn's advantage. No
    gradient flows through the gains.

    Example:

    ```python
    >>> from functools import partial
    >>> from trl_multiturn import IGPOConfig, IGPOTrainer
    >>> from trl_multiturn.environments.search import BM25Index, SearchEnvironment, load_fact_corpus, load_fact_questions
    >>> from trl_multiturn.rewards import f1_reward

    >>> index = BM25Index.from_dataset(load_fact_corpus())
    >>> trainer = IGPOTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     reward_funcs=f1_reward,
    ...     args=IGPOConfig(output_dir="searcher"),
    ...     train_dataset=load_fact_questions("train"),
    ...     environment_factory=partial(SearchEnvironment, index),
    ... )
    >>> trainer.train()
    ```

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, as for [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc | list[RewardFunc]`, *optional*):
            Reward functions of the outcome, as for [`~trl.GRPOTrainer`].
        args ([`IGPOConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Dataset with a `prompt` and an answer column (see `answer_column`).
        **kwargs:
            The other arguments of [`~trl.GRPOTrainer`].

    Raises:
        `ValueError`: If the dataset has no answers, or for a setting that cannot take effect.
    """

    _tag_names = ["trl", "trl_multiturn", "igpo"]
    _name = "IGPO"
    _paper = {
        "title": "Information Gain-based Policy Optimization: A Simple and Effective Approach for Multi-Turn LLM Agents",
        "id": "2510.14967",
        # docstyle-ignore
        "citation": textwrap.dedent("""\
            @article{wang2025informationgain,
                title        = {{Information Gain-based Policy Optimization: A Simple and Effective Approach for Multi-Turn LLM Agents}},
                author       = {Guoqing Wang and Sunhao Dai and Guangze Ye and Zeyu Gan and Wei Yao and Yong Deng and Xiaofeng Wu and Zhenzhe Ying},
                year         = 2025,
                eprint       = {arXiv:2510.14967},
            }"""),
    }
    _config_class = IGPOConfig
    args: IGPOConfig

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: IGPOConfig | None = None,
        train_dataset: Any = None,
        **kwargs: Any,
    ):
        args = self._check_args(model, args)
        assert args is not None
        self.answer_column = _find_answer_column(args.answer_column, train_dataset)
        _check_answers(train_dataset, self.answer_column, "train_dataset")
        evals = kwargs.get("eval_dataset")
        for name, eval_dataset in (evals if isinstance(evals, dict) else {"eval_dataset": evals}).items():
            _check_answers(eval_dataset, self.answer_column, name)
        super().__init__(model, reward_funcs, args, train_dataset, **kwargs)
        if self.is_vision_language:
            raise ValueError(
                "IGPOTrainer does not support vision-language models yet: the belief is scored on text alone. Load the "
                "language model by its causal LM class and pass its tokenizer, or use MultiTurnGRPOTrainer."
            )
        if self.args.belief_model == "reference" and not self.has_reference_model:
            raise ValueError(
                "belief_model='reference' needs a reference model: set beta above 0 or train a PEFT adapter."
            )
        self._encode = lru_cache(maxsize=1 << 16)(
            lambda answer: encode_answer(
                self.processing_class, answer, self.args.belief_prefix, self.args.belief_suffix
            )
        )
        self._belief_seconds = 0.0

    def compute_turn_rewards(self, rollouts: Rollouts) -> torch.Tensor:
        """
        Information gain of every turn but the last, which gets the outcome.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.

        Returns:
            `torch.Tensor` of shape `(B, K)`, float32: NaN where a gain could not be measured.
        """
        rewards = torch.full(rollouts.turn_mask.shape, torch.nan, device=rollouts.outcomes.device)
        if self._uses_gains():
            gains = self._gains(self.score_turns(rollouts))
            rewards[:, :-1] = gains.to(rewards)
        rewards[last_turn_mask(rollouts.turn_mask)] = self._outcomes(rollouts).to(rewards)
        return rewards

    def compute_turn_advantages(self, rollouts: Rollouts, turn_rewards: torch.Tensor) -> torch.Tensor:
        """
        IGPO's advantage of every turn, from the rewards of all processes.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.
            turn_rewards (`torch.Tensor` of shape `(B, K)`):
                Gains and outcomes.

        Returns:
            `torch.Tensor` of shape `(B, K)`.
        """
        rewards, mask, group_ids = self.gather_turns(rollouts, turn_rewards)
        gain_weight, outcome_weight = self._weights()
        options: dict[str, Any] = {
            "gamma": self.args.gamma,
            "normalization": self.args.normalization,
            "scale": self.scale_rewards != "none",
            "baseline": self.args.baseline,
            "outcome_weight": outcome_weight,
        }
        advantages = igpo_turn_advantages(rewards, mask, group_ids, gain_weight=gain_weight, **options)
        self._log_gains(rewards, mask, group_ids)
        self.log_metric("igpo/zero_advantage_groups", groups_without_signal(advantages, mask, group_ids))
        # What plain GRPO would have had of the same rollouts: outcomes alone.
        outcome_only = igpo_turn_advantages(
            rewards.masked_fill(~last_turn_mask(mask), torch.nan), mask, group_ids, **options | {"outcome_weight": 1.0}
        )
        self.log_metric(
            "igpo/zero_advantage_groups_outcome_only", groups_without_signal(outcome_only, mask, group_ids)
        )
        return self.local_turns(rollouts, advantages)

    def score_turns(self, rollouts: Rollouts) -> torch.Tensor:
        """
        Belief in the right answer at every turn's beginning: before the first turn, and after each tool result.

        Args:
            rollouts ([`Rollouts`]):
                B rollouts of this process.

        Returns:
            `torch.Tensor` of shape `(B, K)`, float64: Mean log-probability of the answer's tokens in nats, NaN where
            there is no turn.
        """
        start = time.perf_counter()
        sequences, probes, num_aliases = [], [], []
        for row, prompt_ids, completion_ids, turns in zip(
            rollouts.rows, rollouts.prompt_ids, rollouts.completion_ids, rollouts.turns, strict=True
        ):
            aliases = accepted_answers(row[self.answer_column])
            encoded = [
                self._encode(alias) for alias in (aliases[:1] if self.args.belief_aliases == "first" else aliases)
            ]
            ends = [len(prompt_ids) + turn.start for turn in turns]
            sequences.append([*prompt_ids, *completion_ids])
            probes.append([Probe(end, [*prefix, *answer], len(answer)) for end in ends for prefix, answer in encoded])
            num_aliases.append(len(encoded))

        reference = self.args.belief_model == "reference"
        with self.reference_model() if reference else nullcontext(self.model) as model, self.accelerator.autocast():
            scores = score_probes(
                model,
                sequences,
                probes,
                temperature=self.temperature,
                batch_size=self.args.per_device_train_batch_size,
                method=self.args.belief_method,
                synchronize=self.max_over_processes,
                device=self.accelerator.device,
            )
        beliefs = torch.full(rollouts.turn_mask.shape, torch.nan, dtype=torch.float64)
        for i, (values, count) in enumerate(zip(scores, num_aliases, strict=True)):
            by_alias = values.double().view(-1, count)
            beliefs[i, : len(by_alias)] = by_alias.mean(1) if self.args.belief_aliases == "mean" else by_alias.amax(1)
        self._belief_seconds = time.perf_counter() - start
        return beliefs

    def _gains(self, beliefs: torch.Tensor) -> torch.Tensor:
        """Rise of the belief from each turn's beginning to the next, `(B, K - 1)`; NaN beyond the last turn."""
        level = beliefs.exp() if self.args.info_gain_type == "prob_diff" else beliefs
        gains = level[:, 1:] - level[:, :-1]
        return gains.masked_fill(~gains.isfinite(), torch.nan)

    def _outcomes(self, rollouts: Rollouts) -> torch.Tensor:
        base = super().compute_turn_rewards(rollouts)
        outcomes = (base * rollouts.turn_mask).sum(dim=1)  # what an environment gave for single turns included
        if self.args.format_penalty is not None:
            prefilled = self._opens_thinking(rollouts.prompt_ids[0])
            valid = [
                reason is StopReason.COMPLETED and has_valid_format(completion, think_prefilled=prefilled)
                for reason, completion in zip(rollouts.stop_reasons, rollouts.completions, strict=True)
            ]
            outcomes[~torch.tensor(valid, device=outcomes.device)] = self.args.format_penalty
        return outcomes

    def _opens_thinking(self, prompt_ids: list[int]) -> bool:
        """Whether the chat template itself writes the `<think>` that the model's message then closes."""
        return self.processing_class.decode(prompt_ids[-8:]).rstrip().endswith("<think>")

    def _uses_gains(self) -> bool:
        return self.args.gain_weight > 0 or bool(self.args.final_gain_weight)

    def _weights(self) -> tuple[float, float]:
        """Weights of gains and outcomes at this point of the training."""
        progress = min(self.state.global_step / max(self.state.max_steps, 1), 1.0)

        def at_progress(first: float, final: float | None) -> float:
            return first if final is None else first + (final - first) * progress

        return (
            at_progress(self.args.gain_weight, self.args.final_gain_weight),
            at_progress(self.args.outcome_weight, self.args.final_outcome_weight),
        )

    def _log_gains(self, rewards: torch.Tensor, mask: torch.Tensor, group_ids: torch.Tensor) -> None:
        if not self._uses_gains():
            return
        cells = mask & ~last_turn_mask(mask)
        gains = rewards[cells]
        measured = gains[~gains.isnan()]
        if len(measured):
            self.log_metric("igpo/gain_mean", measured.mean().item())
            self.log_metric("igpo/gain_std", measured.std(correction=0).item())
            self.log_metric("igpo/gain_positive", (measured > 0).double().mean().item())
        self.log_metric("igpo/dropped_gains", gains.isnan().sum().item())
        self.log_metric("igpo/belief_seconds", self._belief_seconds)
        self.log_metric("igpo/baseline_bias", baseline_bias(rewards, mask, group_ids, gamma=self.args.gamma).item())


def _find_answer_column(column: str | None, dataset: Any) -> str:
    names = getattr(dataset, "column_names", None)
    if column is not None or names is None:
        return column or _DEFAULT_ANSWER_COLUMNS[0]
    for candidate in _DEFAULT_ANSWER_COLUMNS:
        if candidate in names:
            return candidate
    raise ValueError(
        f"IGPO needs the right answer of every prompt, but train_dataset has none of the columns "
        f"{list(_DEFAULT_ANSWER_COLUMNS)}; it has {names}. Name its column in `answer_column`."
    )


def _check_answers(dataset: Any, column: str, name: str) -> None:
    if dataset is None and name == "train_dataset":
        raise ValueError("IGPO needs a train_dataset with the right answer of every prompt.")
    if not isinstance(dataset, (Dataset, IterableDataset)):
        return  # TRL says what is wrong with it
    if dataset.column_names is not None and column not in dataset.column_names:
        raise ValueError(f"{name} has no answer column {column!r}; it has {dataset.column_names}.")
    if isinstance(dataset, Dataset):
        for row, answer in enumerate(dataset[column]):
            try:
                accepted_answers(answer)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}[{row}] has no usable answer in column {column!r}: {error}") from error
