"""Configuration of [`ArCHerTrainer`]."""

from dataclasses import dataclass, field

from ..config import MultiTurnGRPOConfig
from ..turn_credit import check_turn_credit


_CHOICES = {
    "algorithm": ("archer", "filtered_bc", "chai", "offline"),
    "critic_kind": ("causal", "pair"),
    "critic_head": ("regression", "hl_gauss"),
    "value_target": ("onpolicy", "resample", "expectile"),
    "advantage_estimator": ("q_minus_v", "gae"),
}
_PAIR_CRITIC_MODEL = "roberta-base"


@dataclass
class ArCHerConfig(MultiTurnGRPOConfig):
    r"""
    Configuration class for the [`ArCHerTrainer`].

    This class includes only the parameters that are specific to ArCHer. For a full list of training arguments, see
    [`MultiTurnGRPOConfig`], [`~trl.GRPOConfig`] and [`~transformers.TrainingArguments`]. Defaults that differ from
    theirs: `gamma=0.95`, and `loss_type="luspo"` with token-level ratios, which gives the gradient of the paper's code.
    Where the paper and its code disagree, its code is followed and the paper's value is named.

    Args:
        algorithm (`str`, *optional*, defaults to `"archer"`):
            `"archer"`; `"filtered_bc"`, behaviour cloning of the best rollouts so far; `"chai"`, a frozen policy that
            samples several utterances and says the one with the highest Q; or `"offline"`, an IQL critic and
            advantage-weighted regression on logged trajectories, without environment.
        gamma (`float`, *optional*, defaults to `0.95`):
            Discount per turn. (Paper: 0.98 for Detective, 0.9 for WebShop.)
        critic_model (`str`, *optional*):
            Backbone of the critic: a Hub id or folder. If `None`, for the causal critic the policy's first layers (a
            quarter of them, at least two) with its embeddings, and for the pair critic `"roberta-base"`.
        critic_kind (`str`, *optional*, defaults to `"causal"`):
            `"causal"`: a decoder reads a trajectory once and gives V before and Q after every turn. `"pair"`: the
            paper's encoder over the text of state and utterance, one pass for each.
        critic_head (`str`, *optional*, defaults to `"regression"`):
            `"regression"` on values, or `"hl_gauss"`: classification over `value_bins` bins between `value_min` and
            `value_max`.
        value_min (`float`, *optional*):
            Lowest return that the bins cover, needed for `"hl_gauss"` alone.
        value_max (`float`, *optional*):
            Highest return that the bins cover, needed for `"hl_gauss"` alone.
        value_bins (`int`, *optional*, defaults to `51`):
            Number of bins of `"hl_gauss"`.
        critic_lora_r (`int`, *optional*):
            Rank of a LoRA adapter on the backbone, which then stays frozen. If `None`, all of it is trained.
        critic_max_length (`int`, *optional*):
            Most tokens that the critic reads; longer trajectories are read in windows that begin at a turn. If `None`,
            what the backbone allows.
        critic_learning_rate (`float`, *optional*, defaults to `2e-5`):
            Learning rate of the critic's backbone.
        critic_head_learning_rate (`float`, *optional*):
            Learning rate of its heads. If `None`, the backbone's.
        critic_lr_scheduler_type (`str`, *optional*, defaults to `"constant"`):
            Schedule of the critic's learning rates over all its steps: `"constant"`, `"linear"` or `"cosine"`.
        critic_max_grad_norm (`float`, *optional*, defaults to `1.0`):
            Largest norm of the critic's gradient, apart from the policy's.
        critic_steps (`int`, *optional*, defaults to `50`):
            Optimizer steps of the critic per generation batch.
        critic_batch_size (`int`, *optional*, defaults to `256`):
            Transitions per step, over all processes. The causal critic draws whole trajectories with as many turns.
        critic_micro_batch_size (`int`, *optional*):
            Sequences in one pass of the critic, to bound its memory. If `None`, all at once.
        critic_tau (`float`, *optional*, defaults to `0.1`):
            Step of the target network towards the critic after each of its steps, above 0 and up to 1.
        critic_warmup_iterations (`int`, *optional*, defaults to `10`):
            Generation batches before the first step of the policy, that train the critic alone. (Paper: 10 to 20.)
        replay_capacity (`int`, *optional*, defaults to `100000`):
            Most transitions in the replay buffer, over all processes. (Paper: 10,000.)
        replay_max_bytes (`int`, *optional*, defaults to `2147483648`):
            Most bytes in the replay buffer, over all processes.
        value_target (`str`, *optional*, defaults to `"onpolicy"`):
            What V is regressed on. `"onpolicy"`: Q of this batch's utterances, which are the policy's own.
            `"resample"`, the paper's: Q of utterances that the policy writes afresh in stored states. `"expectile"`: an
            upper expectile of Q of the stored utterances (IQL).
        resample_states (`int`, *optional*, defaults to `256`):
            Stored states per generation batch that `"resample"` writes in. (The paper's code: 12,800.)
        expectile (`float`, *optional*, defaults to `0.9`):
            Expectile of `value_target="expectile"` and of `algorithm="offline"`.
        bootstrap_truncated (`bool`, *optional*, defaults to `False`):
            Whether a rollout that was cut off is worth what its last state is worth. If `False`, as in the paper's code,
            a cut ends it for good.
        advantage_estimator (`str`, *optional*, defaults to `"q_minus_v"`):
            `"q_minus_v"`, the paper's min Q - min V, or `"gae"` over turns, of V and the rollout's own rewards.
        gae_lambda (`float`, *optional*, defaults to `0.95`):
            Lambda of `"gae"`.
        whiten_advantages (`bool`, *optional*, defaults to `False`):
            Whether a generation batch's advantages are scaled to mean 0 and standard deviation 1.
        token_baseline (`bool`, *optional*, defaults to `False`):
            Whether a second small model learns what advantage to expect before each token, and is subtracted.
        filter_quantile (`float`, *optional*, defaults to `0.9`):
            `"filtered_bc"` trains on stored rollouts whose return is at this quantile or above.
        num_candidates (`int`, *optional*, defaults to `5`):
            Utterances that `"chai"` samples for every turn.
        awr_temperature (`float`, *optional*, defaults to `1.0`):
            `"offline"` weighs an utterance by `exp(awr_temperature * advantage)`, at most 20.
        save_replay_buffer (`bool`, *optional*, defaults to `True`):
            Whether checkpoints hold the replay buffer. Without it a resumed run begins with an empty one.
        push_critic (`bool`, *optional*, defaults to `False`):
            Whether the critic is saved next to the model, in the folder `critic`, and so pushed to the Hub with it.
    """

    loss_type: str = field(
        default="luspo",
        metadata={"help": "Loss of TRL's that the advantages go into. 'luspo' gives the gradient of ArCHer's code."},
    )
    gamma: float = field(default=0.95, metadata={"help": "Discount per turn, between 0 and 1."})
    algorithm: str = field(
        default="archer",
        metadata={
            "help": "'archer', 'filtered_bc' (behaviour cloning of the best rollouts so far), 'chai' (a frozen policy "
            "says the best by Q of several utterances) or 'offline' (IQL and AWR on logged trajectories)."
        },
    )
    critic_model: str | None = field(
        default=None,
        metadata={
            "help": "Backbone of the critic, a Hub id or folder. Defaults to the policy's first layers for the causal "
            f"critic and to '{_PAIR_CRITIC_MODEL}' for the pair critic."
        },
    )
    critic_kind: str = field(
        default="causal",
        metadata={
            "help": "'causal': a decoder reads a trajectory once and values all its turns. 'pair': the paper's encoder "
            "over state and utterance."
        },
    )
    critic_head: str = field(
        default="regression",
        metadata={"help": "'regression', or 'hl_gauss': classification between value_min and value_max."},
    )
    value_min: float | None = field(default=None, metadata={"help": "Lowest return that 'hl_gauss' covers."})
    value_max: float | None = field(default=None, metadata={"help": "Highest return that 'hl_gauss' covers."})
    value_bins: int = field(default=51, metadata={"help": "Number of bins of 'hl_gauss'."})
    critic_lora_r: int | None = field(
        default=None, metadata={"help": "Rank of a LoRA adapter on the backbone. Unset: all of it is trained."}
    )
    critic_max_length: int | None = field(
        default=None, metadata={"help": "Most tokens the critic reads at once. Unset: what the backbone allows."}
    )
    critic_learning_rate: float = field(default=2e-5, metadata={"help": "Learning rate of the critic's backbone."})
    critic_head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the critic's heads. Unset: the backbone's."}
    )
    critic_lr_scheduler_type: str = field(
        default="constant",
        metadata={"help": "Schedule of the critic's learning rates: 'constant', 'linear' or 'cosine'."},
    )
    critic_max_grad_norm: float = field(default=1.0, metadata={"help": "Largest norm of the critic's gradient."})
    critic_steps: int = field(default=50, metadata={"help": "Optimizer steps of the critic per generation batch."})
    critic_batch_size: int = field(default=256, metadata={"help": "Transitions per step, over all processes."})
    critic_micro_batch_size: int | None = field(
        default=None, metadata={"help": "Sequences in one pass of the critic. Unset: all at once."}
    )
    critic_tau: float = field(
        default=0.1, metadata={"help": "Step of the target network towards the critic after each step, up to 1."}
    )
    critic_warmup_iterations: int = field(
        default=10,
        metadata={"help": "Generation batches that train the critic alone, before the policy's first step."},
    )
    replay_capacity: int = field(
        default=100_000, metadata={"help": "Most transitions in the replay buffer, over all processes."}
    )
    replay_max_bytes: int = field(
        default=2 * 2**30, metadata={"help": "Most bytes in the replay buffer, over all processes."}
    )
    value_target: str = field(
        default="onpolicy",
        metadata={
            "help": "What V is regressed on: Q of this batch's utterances ('onpolicy'), of utterances written afresh in "
            "stored states ('resample', the paper's), or an expectile over the stored ones ('expectile')."
        },
    )
    resample_states: int = field(
        default=256, metadata={"help": "Stored states per generation batch that 'resample' writes in."}
    )
    expectile: float = field(default=0.9, metadata={"help": "Expectile of 'expectile' and of 'offline'."})
    bootstrap_truncated: bool = field(
        default=False, metadata={"help": "Whether a rollout that was cut off is worth what its last state is worth."}
    )
    advantage_estimator: str = field(
        default="q_minus_v", metadata={"help": "'q_minus_v' (the paper's) or 'gae' over turns."}
    )
    gae_lambda: float = field(default=0.95, metadata={"help": "Lambda of 'gae'."})
    whiten_advantages: bool = field(
        default=False,
        metadata={"help": "Whether a generation batch's advantages are scaled to mean 0 and standard deviation 1."},
    )
    token_baseline: bool = field(
        default=False,
        metadata={"help": "Whether a second model learns what advantage to expect before each token."},
    )
    filter_quantile: float = field(
        default=0.9, metadata={"help": "'filtered_bc' trains on rollouts with a return at this quantile or above."}
    )
    num_candidates: int = field(default=5, metadata={"help": "Utterances that 'chai' samples for every turn."})
    awr_temperature: float = field(
        default=1.0,
        metadata={"help": "'offline' weighs an utterance by exp(awr_temperature * advantage), at most 20."},
    )
    save_replay_buffer: bool = field(default=True, metadata={"help": "Whether checkpoints hold the replay buffer."})
    push_critic: bool = field(
        default=False, metadata={"help": "Whether the critic is saved, and pushed, next to the model."}
    )

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {list(choices)}, got {getattr(self, name)!r}.")
        if self.algorithm == "chai":
            self.learning_rate = 0.0  # the actor is frozen: no schedule, momentum or weight decay moves it
        super().__post_init__()
        self._check_ranges()
        self._check_head()
        self._check_algorithm()
        if self.critic_model is None and self.critic_kind == "pair":
            self.critic_model = _PAIR_CRITIC_MODEL

    def _check_ranges(self) -> None:
        for name in (
            *("critic_steps", "critic_batch_size", "replay_capacity", "replay_max_bytes", "resample_states"),
            *("critic_lora_r", "critic_max_length", "critic_micro_batch_size", "critic_learning_rate"),
            *("critic_head_learning_rate", "critic_max_grad_norm", "awr_temperature"),
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}.")
        if not 0.0 < self.critic_tau <= 1.0:
            raise ValueError(f"critic_tau must be above 0 and at most 1, got {self.critic_tau}.")
        for name in ("gae_lambda", "filter_quantile"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}.")
        if not 0.0 < self.expectile < 1.0:
            raise ValueError(f"expectile must be above 0 and below 1, got {self.expectile}.")
        if self.critic_warmup_iterations < 0:
            raise ValueError(f"critic_warmup_iterations must not be negative, got {self.critic_warmup_iterations}.")
        if self.num_candidates < 2:
            raise ValueError(f"num_candidates must be at least 2 to choose from, got {self.num_candidates}.")
        if self.critic_lr_scheduler_type not in ("constant", "linear", "cosine"):
            raise ValueError(
                "critic_lr_scheduler_type must be 'constant', 'linear' or 'cosine', got "
                f"{self.critic_lr_scheduler_type!r}."
            )
        generated = self.generation_batch_size
        if self.algorithm != "offline" and generated is not None and self.replay_capacity < generated:
            raise ValueError(
                f"replay_capacity={self.replay_capacity} transitions is smaller than one generation batch of {generated} "
                "rollouts, each with at least one turn: nothing would be left to replay."
            )

    def _check_head(self) -> None:
        given = self.value_min is not None, self.value_max is not None
        if self.critic_head == "regression":
            if any(given):
                raise ValueError("value_min and value_max have no effect with critic_head='regression'.")
            return
        if self.value_min is None or self.value_max is None:
            raise ValueError(
                "critic_head='hl_gauss' needs value_min and value_max: the lowest and highest discounted return there is."
            )
        if not self.value_min < self.value_max:
            raise ValueError(f"value_min must be below value_max, got {self.value_min} and {self.value_max}.")
        if self.value_bins < 2:
            raise ValueError(f"value_bins must be at least 2, got {self.value_bins}.")

    def _check_algorithm(self) -> None:
        if self.scale_rewards != "group":
            raise ValueError(
                f"scale_rewards={self.scale_rewards!r} has no effect: ArCHer's advantages come from the critic, not from a "
                "group's rewards. Leave it, or set whiten_advantages=True."
            )
        if self.push_critic and self.algorithm == "filtered_bc":
            raise ValueError("push_critic has no effect with algorithm='filtered_bc', which has no critic.")
        if self.algorithm in ("filtered_bc", "offline"):
            if self.beta != 0.0:
                raise ValueError(f"algorithm={self.algorithm!r} has no KL penalty: leave beta at 0.")
            if self.use_vllm and self.vllm_importance_sampling_correction:
                raise ValueError(
                    f"algorithm={self.algorithm!r} trains on stored tokens, whose sampling probabilities are not kept: set "
                    "vllm_importance_sampling_correction=False."
                )
        if self.algorithm == "chai" and self.use_vllm and self.vllm_importance_sampling_correction:
            raise ValueError(
                "algorithm='chai' chooses among utterances, and with what probability is not known: set "
                "vllm_importance_sampling_correction=False."
            )
        if self.token_baseline and self.algorithm != "archer":
            raise ValueError(f"token_baseline has no effect with algorithm={self.algorithm!r}.")
        if self.algorithm == "offline" and self.value_target == "resample":
            raise ValueError(
                "algorithm='offline' regresses V on the expectile of logged utterances: leave value_target."
            )
        check_turn_credit(self, "the critic")
