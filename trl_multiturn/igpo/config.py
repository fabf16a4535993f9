"""Configuration of [`IGPOTrainer`]."""

from dataclasses import dataclass, field
from typing import Any

from ..config import MultiTurnGRPOConfig
from ..turn_credit import check_turn_credit


@dataclass
class IGPOConfig(MultiTurnGRPOConfig):
    r"""
    Configuration class for the [`IGPOTrainer`].

    This class includes only the parameters that are specific to IGPO. For a full list of training arguments, see
    [`MultiTurnGRPOConfig`], [`~trl.GRPOConfig`] and [`~transformers.TrainingArguments`]. The paper's settings are the
    defaults here. Of TRL's it has `beta=0.001` and `max_tool_calling_iterations=10`, whose defaults are TRL's.

    Args:
        info_gain_type (`str`, *optional*, defaults to `"log_prob_diff"`):
            How a turn's gain is measured: `"log_prob_diff"` is the rise of the answer's mean log-probability (equations
            3 and 4 of the paper), `"prob_diff"` the rise of its geometric mean probability (the paper's first version).
        normalization (`str`, *optional*, defaults to `"separate"`):
            Whether gains and outcomes are normalised in pools of their own (`"separate"`, equation 5) or in one
            (`"joint"`). `scale_rewards="none"` leaves out the division by the standard deviation.
        gain_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the normalised gains. At 0 nothing is scored and the method is GRPO with the population standard
            deviation.
        outcome_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the normalised outcomes.
        final_gain_weight (`float`, *optional*):
            If set, the gain weight moves from `gain_weight` to this value, linearly over the training.
        final_outcome_weight (`float`, *optional*):
            If set, the outcome weight moves from `outcome_weight` to this value, linearly over the training.
        baseline (`str`, *optional*, defaults to `"turn"`):
            `"turn"` centres every turn's reward before they are summed (the paper). `"return"` centres their sum
            against the other rollouts of the group, which is unbiased when rollouts differ in length; the metric
            `igpo/baseline_bias` shows how much that matters.
        answer_column (`str`, *optional*):
            Dataset column with the right answer: a string, or a list of strings (aliases). If `None`, the first of
            `"answers"`, `"answer"` and `"solution"` that the dataset has.
        belief_aliases (`str`, *optional*, defaults to `"first"`):
            Belief in an answer with aliases: that in the `"first"` (the reference code), in the most likely one
            (`"max"`), or the `"mean"` of their log-probabilities. The same rule at every turn.
        belief_prefix (`str`, *optional*, defaults to `"<think>\nNow there's enough information to answer\n</think>\n<answer>\n"`):
            Text between the context and the answer when the belief is scored. Leave out `"<think>\n"` if the chat
            template already opens the thinking.
        belief_suffix (`str`, *optional*, defaults to `"\n</answer>"`):
            Text after the answer. It decides how the answer's end is tokenized; it is not scored.
        belief_model (`str`, *optional*, defaults to `"policy"`):
            Whose belief: the `"policy"`'s (the paper) or the `"reference"` model's, which does not move while the policy
            learns. The latter needs `beta` above 0 or a PEFT adapter.
        belief_method (`str`, *optional*, defaults to `"auto"`):
            `"single_pass"` scores all turns of a rollout on one pass over it; `"per_turn"` takes a pass for each and
            works with every architecture; `"auto"` uses the first where the model allows it.
        format_penalty (`float`, *optional*):
            Outcome of a rollout that does not end in exactly one well-formed `<answer>...</answer>` (equation 2 of the
            paper; the reference code uses -2.0). If `None`, the reward functions decide alone.
    """

    info_gain_type: str = field(
        default="log_prob_diff",
        metadata={
            "help": "How a turn's gain is measured: rise of the answer's mean log-probability or of its probability.",
            "choices": ["log_prob_diff", "prob_diff"],
        },
    )
    normalization: str = field(
        default="separate",
        metadata={
            "help": "Whether gains and outcomes are normalised in pools of their own or in one.",
            "choices": ["separate", "joint"],
        },
    )
    gain_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of the normalised gains. At 0 the method is GRPO and nothing is scored."},
    )
    outcome_weight: float = field(default=1.0, metadata={"help": "Weight of the normalised outcomes."})
    final_gain_weight: float | None = field(
        default=None, metadata={"help": "If set, the gain weight moves to this value, linearly over the training."}
    )
    final_outcome_weight: float | None = field(
        default=None, metadata={"help": "If set, the outcome weight moves to this value, linearly over the training."}
    )
    baseline: str = field(
        default="turn",
        metadata={
            "help": "'turn' centres every turn's reward before they are summed (the paper), 'return' centres their sum "
            "against the other rollouts of the group (unbiased).",
            "choices": ["turn", "return"],
        },
    )
    answer_column: str | None = field(
        default=None,
        metadata={
            "help": "Dataset column with the right answer: a string or a list of aliases. If unset, the first of "
            "'answers', 'answer' and 'solution' that the dataset has."
        },
    )
    belief_aliases: str = field(
        default="first",
        metadata={
            "help": "Belief in an answer with aliases: in the first, the most likely one, or their mean.",
            "choices": ["first", "max", "mean"],
        },
    )
    belief_prefix: str = field(
        default="<think>\nNow there's enough information to answer\n</think>\n<answer>\n",
        metadata={"help": "Text between the context and the answer when the belief is scored."},
    )
    belief_suffix: str = field(
        default="\n</answer>", metadata={"help": "Text after the answer; decides how the answer's end is tokenized."}
    )
    belief_model: str = field(
        default="policy",
        metadata={
            "help": "Whose belief is scored: the policy's or the reference model's.",
            "choices": ["policy", "reference"],
        },
    )
    belief_method: str = field(
        default="auto",
        metadata={
            "help": "Whether all turns are scored on one pass over the rollout, on a pass for each, or as the model allows.",
            "choices": ["auto", "single_pass", "per_turn"],
        },
    )
    format_penalty: float | None = field(
        default=None,
        metadata={
            "help": "Outcome of a rollout that does not end in exactly one well-formed <answer>...</answer>; the "
            "reference code uses -2.0. If unset, the reward functions decide alone."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("info_gain_type", "normalization", "baseline", "belief_aliases", "belief_model", "belief_method"):
            choices: Any = type(self).__dataclass_fields__[name].metadata["choices"]
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}.")
        for name in ("gain_weight", "outcome_weight", "final_gain_weight", "final_outcome_weight"):
            weight = getattr(self, name)
            if weight is not None and not 0.0 <= weight < float("inf"):
                raise ValueError(f"{name} must be a number of at least 0, got {weight}.")
        if self.scale_rewards == "batch":
            raise ValueError("IGPO normalises within each group: set scale_rewards to 'group' or 'none', not 'batch'.")
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                "IGPO normalises the sum of the rewards: multi_objective_aggregation="
                f"{self.multi_objective_aggregation!r} has no effect. Leave it at 'sum_then_normalize'."
            )
        if self.remove_unused_columns:
            raise ValueError("IGPO reads the dataset's answer column: set remove_unused_columns=False.")
        if self.gain_weight > 0 or self.final_gain_weight:
            check_turn_credit(self, "information gains")
