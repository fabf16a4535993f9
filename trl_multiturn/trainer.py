"""[`MultiTurnGRPOTrainer`]: TRL's GRPO with a record of every rollout's turns, and a reward and an advantage for each.

Every touch of TRL's private surface is in this file, and those of transformers' Trainer in `checkpointing.py`. Their
methods are called, never copied: an override changes what goes in or what comes out. What each private name must look like
is written down in `compat.py`.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object, is_peft_model
from transformers.utils import logging
from trl import GRPOTrainer
from trl.trainer.utils import use_adapter

from .checkpointing import CheckpointingTrainer
from .config import MultiTurnGRPOConfig
from .doctor.keeping import put_back
from .environment_guards import guard_factories
from .environment_rewards import has_turn_rewards, rewards_by_turn, turn_rewards_total
from .environment_texts import tokenize_in_bounds, tokenize_prompts_in_bounds
from .hooks import TurnHooks
from .image_fields import break_image_tokens, part_of_images, select_rollouts
from .image_history import SegmentBatch, find_image_tokens, leave_images_out
from .importance_sampling import (
    count_dropped_tokens,
    count_lost_tokens,
    lost_token_metrics,
    lost_tokens_warning,
    trained_tokens,
)
from .malformed_calls import MALFORMED_CALL, malformed_calls_as_calls, refuse_malformed_call
from .metrics import rollout_metrics
from .qlora import keep_differentiable
from .reward_funcs import append_reward_funcs, make_stop_penalty, weighted_rewards
from .rollouts import Rollouts, StopReason, TrainingBatch, find_turns
from .sampling import EpochSampler
from .sharded import SharedPasses, check_rollouts, is_sharded
from .state import load_shards, load_state, save_shard, save_state
from .stopping import find_stop_reasons
from .tools import ToolExecutor
from .turn_credit import check_turn_credit
from .vllm_requests import SharedRequests, check_server_context, server_context


logger = logging.get_logger(__name__)


class MultiTurnGRPOTrainer(TurnHooks, CheckpointingTrainer, GRPOTrainer):
    """
    Trainer for Group Relative Policy Optimization with credit for every turn of a rollout.

    With nothing configured it is [`~trl.GRPOTrainer`], bit for bit. What it adds:

    - An environment may say what each turn was worth, in an attribute or property `turn_rewards` (`list[float]`, one
      more for each turn with tool calls). Each turn is then trained on its return-to-go against the group's.
    - Each rollout's turns and the reason for which it ended are known ([`Rollouts`], [`StopReason`]), logged under
      `turns/*` and `stop/*`, and passed to reward functions as `stop_reason` and `num_turns`.
    - Tool calls of different rollouts run at the same time, with a time limit.
    - Hooks for methods that assign credit differently ([`TurnHooks`]): [`select_rows`], [`compute_turn_rewards`],
      [`compute_turn_advantages`], [`after_rollouts`] and some more; and [`method_state`] / [`load_method_state`], which put
      what a method has learnt into every checkpoint.

    Example:

    ```python
    >>> from trl_multiturn import MultiTurnGRPOConfig, MultiTurnGRPOTrainer

    >>> trainer = MultiTurnGRPOTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     args=MultiTurnGRPOConfig(output_dir="counting", max_steps=100),
    ...     environment_factory=CountingEnvironment,  # has `reset`, tools, and `turn_rewards`
    ... )
    >>> trainer.train()
    ```

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Model to be trained, as for [`~trl.GRPOTrainer`].
        reward_funcs (`RewardFunc | list[RewardFunc]`, *optional*):
            Reward functions, as for [`~trl.GRPOTrainer`]. May be omitted if the environment has `get_reward` or
            `turn_rewards`.
        args ([`MultiTurnGRPOConfig`], *optional*):
            Configuration for this trainer. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`], *optional*):
            Dataset to use for training, as for [`~trl.GRPOTrainer`].
        **kwargs:
            The other arguments of [`~trl.GRPOTrainer`]: `eval_dataset`, `processing_class`, `peft_config`, `tools`,
            `environment_factory` and so on.

    Raises:
        `TypeError`: If `args` is a configuration of another trainer.
        `ValueError`: For a setting that cannot take effect.
    """

    _tag_names = ["trl", "trl_multiturn", "multi-turn-grpo"]
    _name = "Multi-turn GRPO"
    _config_class: type[MultiTurnGRPOConfig] = MultiTurnGRPOConfig

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: MultiTurnGRPOConfig | None = None,
        train_dataset: Any = None,
        **kwargs: Any,
    ):
        args = self._check_args(model, args)
        self._lost: list[Any] = []  # environments that are given up
        extra = [make_stop_penalty(penalties)] if (penalties := args.stop_penalties()) else []
        if kwargs.get("environment_factory") is not None:
            extra.append(turn_rewards_total)
            kwargs["environment_factory"] = guard_factories(
                kwargs["environment_factory"], args.tool_timeout, self._lost
            )
        args, reward_funcs, kwargs = append_reward_funcs(args, reward_funcs, extra, kwargs)
        self._executor: ToolExecutor | None = None
        self._over: dict[int, StopReason] = {}
        self._record: dict[str, Any] = {}
        self._warned_of_lost_tokens = False
        super().__init__(model, reward_funcs, args, train_dataset, **kwargs)
        keep_differentiable(self.model)
        self.is_vision_language = self._is_vlm
        self._image_tokens = None
        if args.history_images is not None:
            processor = self.processing_class if self._is_vlm else None
            self._image_tokens = find_image_tokens(processor, self._tokenizer, self._image_pad_token_id)
        self._requests = self._share_requests() if args.use_vllm else None
        shares_passes = not args.use_vllm and is_sharded(self.accelerator)
        if shares_passes:
            check_rollouts(self.accelerator, args.ds3_gather_for_generation, self._is_vlm, bool(self.tools))
        self._passes = SharedPasses(self.max_over_processes, self._idle_turn) if shares_passes else None
        self._resolve_turn_rewards()
        if args.gamma != 1.0 and not self._gives_turn_rewards and not self._overrides_turn_advantages():
            raise ValueError(
                f"gamma={args.gamma} has no effect: without turn rewards every turn gets the rollout's advantage. Give "
                "the environment an attribute `turn_rewards`, or leave gamma at 1."
            )
        if self._gives_turn_rewards and not self._overrides_turn_advantages():
            check_turn_credit(args, "`turn_rewards`")

    # --- what a method may ask for

    @property
    def has_reference_model(self) -> bool:
        """Whether there is a reference model, or an adapter to switch off."""
        return self.ref_model is not None or is_peft_model(self.model)

    @contextmanager
    def reference_model(self) -> Iterator[Any]:
        """Context manager that gives a model which answers as the reference policy does."""
        if self.ref_model is not None:
            yield self.ref_model
            return
        adapters = self.accelerator.unwrap_model(self.model).peft_config
        with use_adapter(self.accelerator.unwrap_model(self.model), "ref" if "ref" in adapters else None):
            yield self.model

    def log_metric(self, name: str, value: float) -> None:
        """
        Log a value that is the same on every process; values of a logging step are averaged.

        Args:
            name (`str`):
                Name of the metric, without the `eval_` prefix.
            value (`float`):
                Its value for this generation batch.
        """
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def pop_metrics(self) -> dict[str, float]:
        """Take out what was logged during training since the last logging step: means by name."""
        metrics = self._metrics["train"]
        means = {name: sum(values) / len(values) for name, values in metrics.items() if values}
        metrics.clear()
        return means

    def roll_out(self, rows: list[dict[str, Any]]) -> None:
        """
        Generate a batch in training mode without training the policy on it: hooks see it like any other.

        Args:
            rows (`list[dict]`):
                This process's rows, grouped as the sampler groups them.
        """
        was_training = self.model.training
        self.model.train()
        self._generate_and_score_completions(rows)
        self.model.train(was_training)

    def sample_turns(self, prompt_ids: list[list[int]]) -> list[list[int]]:
        """
        Let the policy write one utterance after each prompt. Every process must call it, with at least one prompt.

        Args:
            prompt_ids (`list[list[int]]`):
                Tokens of each prompt.

        Returns:
            `list[list[int]]`: Tokens of each utterance, the one that ends it included.
        """
        return self._sample(prompt_ids, None, {}, 1)[0]

    # --- what `diagnose` asks for

    def micro_batches(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """
        Roll out a generation batch as training does.

        Args:
            rows (`list[dict]`):
                This process's rows, grouped as the sampler groups them.

        Returns:
            `list[dict]`: What the loss of each backward pass is computed from.
        """
        self.current_gradient_accumulation_steps = self.args.gradient_accumulation_steps
        self._step, self._buffered_inputs = 0, None
        self._prepare_inputs(rows)
        return self._buffered_inputs or []

    def watched(self, watch: Any) -> Any:
        """Context manager in which a [`Watch`] is shown every message that is sampled and every pass that scores."""
        return watch.of_trainer(self, "_generate_single_turn", "_get_per_token_logps_and_entropies")

    def set_aside(self) -> Any:
        """Context manager after which the trainer is what it was before, whatever batches it has taken meanwhile."""
        copied = ("_metrics", "_logs", "_pending_metrics", "_pending_extra_logs", "state")
        return put_back(self, copied=copied, emptied="_environment_pool")

    # --- overrides of TRL

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        return EpochSampler(super()._get_train_sampler(dataset))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self.model.training:
            stored = self.stored_batch(inputs)
            if stored is not None:
                return self._training_inputs(stored)
            inputs = self.select_rows(inputs)
        output = self._generate_and_log_images(inputs)
        self._check_images(output)
        rollouts = self._build_rollouts(inputs, output["advantages"])
        turn_rewards = self.compute_turn_rewards(rollouts)
        turn_advantages = self.compute_turn_advantages(rollouts, turn_rewards)
        output["advantages"] = self._token_advantages(rollouts, turn_advantages, output)
        self._mask_stop_reasons(rollouts, output)
        self._report_lost_tokens(output, rollouts.is_training)
        self._log_rollouts(rollouts, turn_rewards, turn_advantages)
        if rollouts.is_training:
            replacement = self.replace_batch(rollouts)
            output = output if replacement is None else self._training_inputs(replacement)
            self.after_rollouts(rollouts)
        self._replace_lost_environments()
        return output

    def _tokenize_prompts(self, prompts: list):
        config = self.accelerator.unwrap_model(self.model).config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        tokenize = super()._tokenize_prompts
        prompt_ids, images, fields = tokenize_prompts_in_bounds(
            tokenize, prompts, self.environments, limit, self._longest_token
        )
        # Image processors that stand on Pillow give arrays, TRL's tool loop takes tensors.
        for name in ("pixel_values", "image_grid_thw"):
            if name in fields and not isinstance(fields[name], torch.Tensor):
                fields[name] = torch.from_numpy(np.stack(fields[name]))
        return prompt_ids, images, fields

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        over = self._rows_over(len(prompt_ids))
        going = [row for row, is_over in enumerate(over) if not is_over]
        if len(going) == len(over):
            return self._write_turn(prompt_ids, images, multimodal_fields, num_generations, has_tool_images)
        # An end of message stands for what a rollout that is over does not write.
        completion_ids: list[list[int]] = [[self._tokenizer.eos_token_id] for _ in over]
        logprobs = [[0.0] for _ in over] if self.use_vllm else None
        if going:
            ids, kept, fields = select_rollouts(going, prompt_ids, images, multimodal_fields)
            written, written_logprobs = self._write_turn(ids, kept, fields, num_generations, has_tool_images)
            for i, row in enumerate(going):
                completion_ids[row] = written[i]
                if logprobs is not None and written_logprobs is not None:
                    logprobs[row] = written_logprobs[i]
        return completion_ids, logprobs

    def _write_turn(self, prompt_ids, images, fields, num_generations, has_tool_images):
        if self._image_tokens is not None and images is not None:
            prompt_ids, images, fields = leave_images_out(
                self.args.history_images, self._image_tokens, prompt_ids, images, fields
            )

        has_tool_images = has_tool_images and any(images or [])  # it is said of all rollouts, these may have none

        def sample(count: int) -> list[list[list[int]]]:
            repeated = [ids for ids in prompt_ids for _ in range(count)]
            written, _ = self._sample(repeated, images, fields, num_generations * count, has_tool_images)
            return [written[i : i + count] for i in range(0, len(written), count)]

        chosen = self.choose_turns(prompt_ids, sample)
        if chosen is None:
            return self._sample(prompt_ids, images, fields, num_generations, has_tool_images)
        if self.use_vllm and self.vllm_importance_sampling_correction:
            raise ValueError(
                "`choose_turns` has chosen what was written, and with what probability is not known: set "
                "vllm_importance_sampling_correction=False."
            )
        return chosen, None

    def _sample(self, prompt_ids, images, fields, num_generations, has_tool_images=False):
        if self._requests is not None:
            return self._requests.generate(prompt_ids, images, num_generations)
        if self._passes is not None:
            self._passes.join()
        return super()._generate_single_turn(prompt_ids, images, fields, num_generations, has_tool_images)

    def _idle_turn(self) -> None:
        """Generate a token that nobody reads."""
        config = self.generation_config
        self.generation_config = copy.deepcopy(config)
        self.generation_config.max_new_tokens = 1
        try:
            super()._generate_single_turn([[self._tokenizer.eos_token_id]], None, {}, 1)
        finally:
            self.generation_config = config

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, **kwargs
    ):
        if self._image_tokens is None:
            return self._score(model, input_ids, attention_mask, logits_to_keep, batch_size, kwargs)
        images = {name: kwargs.pop(name, None) for name in ("pixel_values", "image_grid_thw", "num_images")}
        batch = SegmentBatch(
            input_ids,
            attention_mask,
            logits_to_keep,
            images["num_images"],
            self.args.history_images,
            self._image_tokens,
        )
        if batch_size is not None:  # one pass of the model for each `batch_size`: as many on every process
            batch.pad_to(self.max_over_processes(len(batch.segments)))
        ids, mask, num_last = batch.inputs(self._tokenizer.pad_token_id)
        kwargs |= batch.images(images["pixel_values"], images["image_grid_thw"])
        if kwargs.get("mm_token_type_ids") is not None:
            kwargs["mm_token_type_ids"] = (ids == self._image_tokens.pad).to(ids.dtype)
        logps, entropies, aux_loss = self._score(model, ids, mask, num_last, batch_size, kwargs)
        return batch.gather(logps), None if entropies is None else batch.gather(entropies), aux_loss

    def _score(self, model, ids, mask, num_last, batch_size, fields):
        """TRL's scoring. It fails on a part of a batch that has no image if the rest has some: then part by part."""
        score = super()._get_per_token_logps_and_entropies
        if fields.get("image_grid_thw") is None or not fields.get("num_images") or all(fields["num_images"]):
            return score(model, ids, mask, num_last, batch_size=batch_size, **fields)
        scored = []
        for start in range(0, len(ids), batch_size or len(ids)):
            part = slice(start, start + (batch_size or len(ids)))
            scored.append(score(model, ids[part], mask[part], num_last, **part_of_images(part, fields)))
        logps, entropies, aux_losses = zip(*scored, strict=True)
        return (
            torch.cat(logps),
            None if entropies[0] is None else torch.cat(entropies),
            None if aux_losses[0] is None else torch.stack(aux_losses).mean(),
        )

    def _get_tool_suffix_ids(self, tool_messages):
        if self._is_vlm:
            kinds = ("image_token", "video_token")
            names = [name for kind in kinds if (name := getattr(self.processing_class, kind, None)) is not None]
            tool_messages = [break_image_tokens(message, names) for message in tool_messages]
        tokenize = super()._get_tool_suffix_ids
        limit: Any = self.max_completion_length
        return tokenize_in_bounds(tokenize, tool_messages, limit, self._longest_token)

    def _generate(self, prompts: list):
        self._executor, self._over = None, {}
        answering = self.args.answer_malformed_calls and self.tools
        end_ids = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        with malformed_calls_as_calls(self._tokenizer, end_ids) if answering else nullcontext():
            output = super()._generate(prompts)
        prompt_ids, completion_ids, model_masks, completions = output[:4]
        if model_masks is None:
            model_masks = [[1] * len(ids) for ids in completion_ids]
        stop_reasons = find_stop_reasons(
            completions,
            completion_ids,
            end_ids=end_ids,
            max_tool_calling_iterations=self.max_tool_calling_iterations,
            tokenizer=self._tokenizer,
            lost_rows=self._executor.lost_rows if self._executor is not None else set(),
        )
        for row in self._over:
            self._close(row, completions, model_masks)
        turns = [find_turns(mask) for mask in model_masks]
        for row, reason in self._over.items():
            turns[row] = [turn for turn in turns[row] if turn.end > turn.start]
            if stop_reasons[row] != StopReason.ENVIRONMENT_ERROR:
                stop_reasons[row] = reason
        if output[6] is not None and self._is_vlm:  # TRL gives the processor the whole list, which may hold no `None`
            output = (*output[:6], [row or [] for row in output[6]], *output[7:])
        self._record = {
            "prompts": prompts,
            "prompt_ids": prompt_ids,
            "completion_ids": completion_ids,
            "model_masks": model_masks,
            "turns": turns,
            "completions": completions,
            "images": output[6],
            "stop_reasons": stop_reasons,
        }
        return output

    def _tool_call_loop(self, prompts, prompt_ids, completion_ids, completions, logprobs, images, multimodal_fields):
        tools = self._sync_tool_dicts, self._async_tool_dicts
        self._executor = ToolExecutor(
            completions=completions,
            sync_tools=self._sync_tool_dicts,
            async_tools=self._async_tool_dicts,
            environments=self.environments,
            concurrency=self.args.tool_concurrency,
            timeout=self.args.tool_timeout,
            loop=self.async_loop if self._has_async_funcs else None,
        )
        if self.args.answer_malformed_calls:
            self._executor.sync_tools = [
                {**tools, MALFORMED_CALL: refuse_malformed_call} for tools in self._executor.sync_tools
            ]
        self._sync_tool_dicts = self._executor.sync_proxies()
        self._async_tool_dicts = self._executor.async_proxies()
        try:
            output = super()._tool_call_loop(
                prompts, prompt_ids, completion_ids, completions, logprobs, images, multimodal_fields
            )
        finally:
            self._sync_tool_dicts, self._async_tool_dicts = tools
        for together in (self._requests, self._passes):
            if together is not None:
                together.finish()
        return output

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        stop_reasons = [reason.value for reason in self._record["stop_reasons"]]
        rows = [
            {**row, "stop_reason": reason, "num_turns": len(turns)}
            for row, reason, turns in zip(inputs, stop_reasons, self._record["turns"], strict=True)
        ]
        if self._executor is not None and self.environments:
            self._lost += [self.environments[row] for row in self._executor.lost_rows]
        rewards = super()._calculate_rewards(rows, prompts, completions, completion_ids_list)
        infinite = rewards.isinf()
        if infinite.any():
            names = [self.reward_func_names[i] for i in infinite.any(dim=0).nonzero().flatten().tolist()]
            logger.warning_once(f"Infinite rewards of {', '.join(names)} are taken for missing ones (NaN).")
            rewards = rewards.masked_fill(infinite, float("nan"))
        self.log_metric("rewards/missing", rewards.isnan().all(dim=1).float().mean().item())
        if self.log_completions:
            self._log_completion_extra("stop_reason", stop_reasons)
        self._record["rewards"] = rewards
        return rewards

    def get_off_policy_mask(self, *, mask, **inputs):  # type: ignore[override]
        keep = super().get_off_policy_mask(mask=mask, **inputs)
        dropped, trained = self.accelerator.reduce(count_dropped_tokens(keep, mask), "sum").tolist()
        self.log_metric("sampling/off_policy_masked_tokens", dropped / max(trained, 1.0))
        return keep

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        self._last_loaded_step = -1  # vLLM must get these weights, whatever step they are of
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self):
        self._last_loaded_step = -1
        super()._load_best_model()

    def _push_from_checkpoint(self, checkpoint_folder):
        super()._push_from_checkpoint(checkpoint_folder)
        if self._incomplete is None and self.args.hub_strategy != "end":
            self._metrics["train"]["hub/failed_pushes"].append(self._failed_pushes)

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        state = self.method_state()
        if state and self.args.should_save:
            save_state(output_dir, state)
        shard = self.shard_state()
        if shard:
            save_shard(output_dir, shard, self.accelerator.process_index, self.accelerator.num_processes)
            self.accelerator.wait_for_everyone()  # a push to the Hub must not leave without a slower process's part

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        state = load_state(checkpoint) if checkpoint is not None else None
        if state is not None:
            self.load_method_state(state)
            shards = load_shards(checkpoint)
            if shards:
                self.load_shard_states(shards)
        elif checkpoint is not None and self.method_state():
            logger.warning(f"{checkpoint} holds no state of {type(self).__name__}: the method starts afresh.")

    # --- construction

    def _check_args(self, model: Any, args: MultiTurnGRPOConfig | None) -> Any:
        if args is None:
            name = model if isinstance(model, str) else model.config.name_or_path
            return self._config_class(f"{name.split('/')[-1]}-{self._name.replace(' ', '-')}")
        if not isinstance(args, self._config_class):
            raise TypeError(
                f"{type(self).__name__} needs a {self._config_class.__name__}, got a {type(args).__name__}. It takes "
                "every argument that GRPOConfig takes: rename the class."
            )
        return args

    def _resolve_turn_rewards(self) -> None:
        """Keep the reward column of `turn_rewards` only if an environment has them: known once TRL has built one."""
        probes = [pool[0] for pool in self._environment_pool.values()] if self.environment_factories else []
        self._gives_turn_rewards = any(map(has_turn_rewards, probes))
        if probes and not self._gives_turn_rewards:
            index = self.reward_funcs.index(turn_rewards_total)
            for per_function in (self.reward_funcs, self.reward_func_names, self.reward_processing_classes):
                del per_function[index]
            self.reward_weights = torch.cat([self.reward_weights[:index], self.reward_weights[index + 1 :]])
            if set(self.reward_func_names) <= {"stop_penalty"}:
                raise ValueError(
                    "No reward source provided. Pass `reward_funcs`, or an `environment_factory` whose environment has "
                    "a `get_reward` method or an attribute `turn_rewards`."
                )

    def _share_requests(self) -> SharedRequests | None:
        """The way to vLLM, if the processes' requests go there together. Checks that a server takes them."""
        args, server = self.args, self.vllm_mode == "server"
        if not server and args.vllm_tensor_parallel_size == 1:
            return None
        known: list[int | None] = [None]
        if server and self.accelerator.is_main_process:
            known = [server_context(self.vllm_generation.vllm_client)]
        (max_model_len,) = broadcast_object_list(known)
        if max_model_len is not None:
            max_tokens = (args.generation_kwargs or {}).get("max_tokens", args.max_completion_length)
            check_server_context(max_model_len, args.max_completion_length, max_tokens, bool(self.tools))
        sample = super()._generate_single_turn
        return SharedRequests(self.accelerator, lambda ids, images, count: sample(ids, images, {}, count))

    @cached_property  # a walk over the whole vocabulary, a tenth of a second with 150,000 tokens
    def _longest_token(self) -> int:
        """Characters of the tokenizer's longest token."""
        return max(map(len, self._tokenizer.get_vocab()))

    def _overrides_turn_advantages(self) -> bool:
        return type(self).compute_turn_advantages is not TurnHooks.compute_turn_advantages

    # --- rollouts that their environment has ended

    def _rows_over(self, count: int) -> list[bool]:
        """Which of the rollouts that TRL generates a message for are over: nothing may be written after that."""
        if self._executor is None or not self.environments:
            return []
        rows = self._executor.rows_in_turn()
        if len(rows) != count:
            return []
        for row in rows:
            environment = self.environments[row]
            if getattr(environment, "terminated", False):
                self._over[row] = StopReason.COMPLETED
            elif getattr(environment, "truncated", False):
                self._over[row] = StopReason.MAX_TURNS
            elif row in self._executor.lost_rows:
                self._over[row] = StopReason.ENVIRONMENT_ERROR
        return [row in self._over for row in rows]

    def _close(self, row: int, completions: list, model_masks: list[list[int]]) -> None:
        """Take back the end of message that stood for what a rollout did not write: the policy did not sample it."""
        if completions[row][-1]["role"] == "assistant":
            completions[row].pop()
            model_masks[row][-1] = 0

    # --- images

    def _generate_and_log_images(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL gathers the images for its logs on those processes that have some, and waits for ever if others have none."""
        if not self._is_vlm or not self.log_multimodal or self.accelerator.num_processes == 1:
            return super()._generate_and_score_completions(inputs)
        self.log_multimodal = False
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self.log_multimodal = True
        images = self._record["images"]
        if self.max_over_processes(int(images is not None)):
            logged: Any = self._logs["images"]
            logged.extend(gather_object(images or [None] * len(inputs)))
        return output

    def _check_images(self, output: dict[str, Any]) -> None:
        """TRL drops the images of a whole batch whose image tokens do not match them: then nothing of it is trained."""
        if not self._is_vlm:
            return
        dropped = any(self._record["images"] or []) and output.get("pixel_values") is None
        on_any = self.max_over_processes(int(dropped))
        self.log_metric("images/mismatched", float(on_any))
        if on_any:
            logger.warning(
                "The image tokens of a rollout do not match its images, so its batch is left out of the loss. The policy has "
                "written an image token itself, which a generation backend other than transformers' may let it do."
            )
            self._leave_out(output, torch.full((len(output["completion_mask"]),), not dropped))

    # --- from TRL's output to rollouts and back

    def _build_rollouts(self, inputs: list[dict[str, Any]], advantages: torch.Tensor) -> Rollouts:
        if not self._gives_turn_rewards and any(map(has_turn_rewards, self.environments or [])):
            raise ValueError(
                "An environment got its `turn_rewards` only after it was built, too late to be trained on. Set the "
                "attribute in its `__init__`, or make it a property."
            )
        start = self.accelerator.process_index * len(inputs)
        rewards = self._record["rewards"][start : start + len(inputs)]
        weights = self.reward_weights.clone()
        if self._gives_turn_rewards:
            weights[self.reward_funcs.index(turn_rewards_total)] = 0.0  # those come turn by turn
        outcomes = weighted_rewards(rewards, weights)
        training = self.model.training
        return Rollouts(
            rows=inputs,
            prompts=self._record["prompts"],
            completions=self._record["completions"],
            prompt_ids=self._record["prompt_ids"],
            completion_ids=self._record["completion_ids"],
            model_masks=self._record["model_masks"],
            turns=self._record["turns"],
            stop_reasons=self._record["stop_reasons"],
            environments=self.environments,
            environment_rewards=self._environment_rewards() if self._gives_turn_rewards else None,
            group_size=self.num_generations if training else self.num_generations_eval,
            rewards=rewards,
            reward_names=list(self.reward_func_names),
            outcomes=outcomes,
            advantages=advantages,
            is_training=training,
        )

    def _environment_rewards(self) -> list[list[float]]:
        counts = self._executor.reward_counts if self._executor is not None else {}
        return [
            rewards_by_turn(environment, len(turns), {t: n for (r, t), n in counts.items() if r == row})
            for row, (environment, turns) in enumerate(zip(self.environments, self._record["turns"], strict=True))
        ]

    def _token_advantages(
        self, rollouts: Rollouts, turn_advantages: torch.Tensor, output: dict[str, Any]
    ) -> torch.Tensor:
        expected = rollouts.turn_mask.shape
        if turn_advantages.shape != expected:
            raise ValueError(
                f"compute_turn_advantages must return a tensor of shape {tuple(expected)}, got "
                f"{tuple(turn_advantages.shape)}."
            )
        same = turn_advantages == rollouts.advantages.unsqueeze(1)
        if bool((same | ~rollouts.turn_mask).all()) and type(self).token_advantages is TurnHooks.token_advantages:
            return output["advantages"]  # one value a rollout: TRL's own shape, and its own arithmetic to the last bit
        return self.token_advantages(rollouts, turn_advantages, output["completion_ids"].size(1))

    def _training_inputs(self, batch: TrainingBatch) -> dict[str, Any]:
        """What TRL splits into micro-batches, for sequences that it did not generate itself."""
        inputs = batch.padded(self._tokenizer.pad_token_id, self.accelerator.device)
        if self.use_vllm and self.vllm_importance_sampling_correction:  # they are trained on as they are
            inputs["importance_sampling_ratio"] = torch.ones(len(batch), 1, device=self.accelerator.device)
        return {**inputs, "num_items_in_batch": self.accelerator.gather(inputs["tool_mask"].sum()).sum()}

    def _mask_stop_reasons(self, rollouts: Rollouts, output: dict[str, Any]) -> None:
        reasons = self.args.masked_stop_reasons()
        if not reasons:
            return
        self._leave_out(output, torch.tensor([reason not in reasons for reason in rollouts.stop_reasons]))

    def _leave_out(self, output: dict[str, Any], keep: torch.Tensor) -> None:
        """Train on some rollouts only."""
        tool_mask = output.get("tool_mask")
        if tool_mask is None:
            tool_mask = torch.ones_like(output["completion_mask"])
        output["tool_mask"] = tool_mask * keep.to(tool_mask.device).unsqueeze(1)
        # The loss is divided by the number of tokens it is summed over, so masked ones must not count.
        num_items = (output["completion_mask"] * output["tool_mask"]).sum()
        output["num_items_in_batch"] = self.accelerator.gather(num_items).sum().clamp(min=1)

    def _replace_lost_environments(self) -> None:
        """A tool that never returned may still be changing its environment: the next batch gets a new one."""
        factories: Any = self.environment_factories
        for name, pool in self._environment_pool.items() if self._lost else ():
            pool[:] = [factories[name]() if any(one is lost for lost in self._lost) else one for one in pool]
        self._lost.clear()

    # --- metrics

    def _report_lost_tokens(self, output: dict[str, Any], is_training: bool) -> None:
        ratio = output.get("importance_sampling_ratio")
        if ratio is None:
            return
        counts = self.accelerator.gather(count_lost_tokens(ratio, trained_tokens(output)))
        metrics = lost_token_metrics(counts.cpu())
        for name, value in metrics.items():
            self.log_metric(name, value)
        mode = self.vllm_importance_sampling_mode
        if is_training and not self._warned_of_lost_tokens:
            warning = lost_tokens_warning(metrics, self.args.max_lost_share, mode)
            self._warned_of_lost_tokens = warning is not None
            if warning is not None:
                logger.warning(warning)

    def _log_rollouts(self, rollouts: Rollouts, turn_rewards: torch.Tensor, turn_advantages: torch.Tensor) -> None:
        stacked = torch.stack([turn_rewards.float(), turn_advantages.float(), rollouts.written_mask.float()], dim=1)
        codes = torch.tensor([list(StopReason).index(r) for r in rollouts.stop_reasons], device=stacked.device)
        codes = self.accelerator.gather(codes).cpu()
        stacked = self.accelerator.gather(self.accelerator.pad_across_processes(stacked, dim=2)).cpu()
        rewards, advantages, written = stacked.unbind(dim=1)
        for name, value in rollout_metrics(rewards, advantages, written, codes, rollouts.group_size).items():
            self.log_metric(name, value)
        if self.tools:
            timeouts = self._executor.timeouts if self._executor is not None else 0
            timeouts = self.accelerator.gather(torch.tensor([timeouts], device=self.accelerator.device))
            self.log_metric("tools/timeouts", timeouts.sum().item())
        if self.log_completions:
            for name, tensor in (("turn_rewards", turn_rewards), ("turn_advantages", turn_advantages)):
                rows = [row[: len(turns)].tolist() for row, turns in zip(tensor, rollouts.turns, strict=True)]
                extra: Any = self._logs["extra"]
                extra[name].extend(gather_object(rows))
