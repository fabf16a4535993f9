"""How the critic learns: minibatches from the replay buffer, its own optimizer, and a target network that follows."""

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import get_scheduler

from .buffer import ReplayBuffer, Trajectory
from .config import ArCHerConfig
from .critic import Critic, CriticValues
from .losses import expectile_weights, polyak_update, q_targets


@dataclass
class _Item:
    """A trajectory in a minibatch, and the weight of its turns in the losses of Q and of V."""

    trajectory: Trajectory
    q_weight: float
    v_weight: float


class Optimizer:
    """
    A plain optimizer for a network that every process holds a copy of.

    It never enters `accelerator.prepare`: a prepared optimizer silently does nothing while the policy's gradients
    accumulate, and DeepSpeed and FSDP take one model only. Gradients are summed over processes here.

    Args:
        groups (`list[dict]`):
            Parameter groups with their learning rates.
        accelerator ([`~accelerate.Accelerator`]):
            Sums gradients over processes.
        max_grad_norm (`float`):
            Largest norm of the gradient.
        scheduler_type (`str`):
            Schedule of the learning rates.
        num_steps (`int`):
            Steps of the whole training.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        accelerator: Accelerator,
        max_grad_norm: float,
        scheduler_type: str = "constant",
        num_steps: int = 1,
    ):
        self.parameters = [p for group in groups for p in group["params"]]
        self.accelerator = accelerator
        self.max_grad_norm = max_grad_norm
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self.scheduler = get_scheduler(scheduler_type, self.optimizer, 0, num_steps)

    def step(self) -> float:
        """Sum the gradients over processes, clip, step. Returns the norm before clipping."""
        for parameter in self.parameters:
            if parameter.grad is None:  # this process had nothing in the minibatch
                parameter.grad = torch.zeros_like(parameter)
        if self.accelerator.num_processes > 1:
            gradients = [parameter.grad for parameter in self.parameters]
            flat = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients if g is not None]), "sum")
            for parameter, part in zip(self.parameters, flat.split([p.numel() for p in self.parameters]), strict=True):
                parameter.grad = part.view_as(parameter)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.item()

    def state(self, prefix: str) -> dict[str, Any]:
        """Moments, step counts and schedule, by name."""
        state: dict[str, Any] = {f"{prefix}steps_taken": self.scheduler.last_epoch}
        for i, values in self.optimizer.state_dict()["state"].items():
            state |= {f"{prefix}{i}.{name}": value for name, value in values.items()}
        return state

    def load_state(self, prefix: str, state: dict[str, Any]) -> None:
        """Take up what [`state`] returned."""
        moments: dict[int, dict[str, Any]] = {}
        for name, value in state.items():
            if name.startswith(prefix) and name != f"{prefix}steps_taken":
                i, key = name.removeprefix(prefix).split(".")
                moments.setdefault(int(i), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.scheduler.last_epoch = state[f"{prefix}steps_taken"]
        for group, base_rate, schedule in zip(
            self.optimizer.param_groups, self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = base_rate * schedule(self.scheduler.last_epoch)


class CriticLearner:
    """
    The critic, its target and its optimizer.

    Args:
        critic ([`Critic`]):
            Critic to train.
        args ([`ArCHerConfig`]):
            Learning rates, batch sizes and targets.
        buffer ([`ReplayBuffer`]):
            Where minibatches come from.
        accelerator ([`~accelerate.Accelerator`]):
            Device and number of processes.
        num_steps (`int`):
            Critic steps of the whole training, for the schedule.
    """

    def __init__(
        self, critic: Critic, args: ArCHerConfig, buffer: ReplayBuffer, accelerator: Accelerator, num_steps: int
    ):
        self.critic = critic.to(accelerator.device)
        # Frozen weights (of a backbone under LoRA) are shared with the target: they are the same for ever.
        shared = {id(p): p for p in critic.parameters() if not p.requires_grad}
        self.target = copy.deepcopy(critic, shared).requires_grad_(False)
        self.args = args
        self.buffer = buffer
        self.accelerator = accelerator
        self.steps_taken = 0
        self._uses_expectile = args.value_target == "expectile" or args.algorithm == "offline"
        heads = [*critic.q_heads.parameters(), *critic.v_heads.parameters()]
        backbone = [p for p in critic.backbone.parameters() if p.requires_grad]
        groups = [
            {"params": backbone, "lr": args.critic_learning_rate},
            {"params": heads, "lr": args.critic_head_learning_rate or args.critic_learning_rate},
        ]
        self.optimizer = Optimizer(
            groups, accelerator, args.critic_max_grad_norm, args.critic_lr_scheduler_type, num_steps
        )

    @torch.no_grad()
    def values(self, trajectories: list[Trajectory], target: bool = False) -> CriticValues:
        """
        Values of all turns of some trajectories.

        Args:
            trajectories (`list[Trajectory]`):
                M trajectories with n turns together.
            target (`bool`, *optional*, defaults to `False`):
                Whether to ask the target network.

        Returns:
            [`CriticValues`]: Of n turns, in the order of trajectories and turns.
        """
        if not trajectories:
            nothing = torch.zeros(0, device=self.accelerator.device)
            return CriticValues(*[nothing] * 6)
        network = self.target if target else self.critic
        parts = [network.values(self._forward(network, chunk)) for chunk in self._chunks(trajectories)]
        return CriticValues(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def update(
        self,
        num_steps: int,
        fresh_id: int,
        resampled: list[Trajectory] | None = None,
    ) -> dict[str, float]:
        """
        Take optimizer steps. The buffer must hold something; every process must call it with the same number of steps.

        Args:
            num_steps (`int`):
                Number of steps.
            fresh_id (`int`):
                First trajectory of this generation batch: V is regressed on those from there on (`"onpolicy"`).
            resampled (`list[Trajectory]`, *optional*):
                This process's share of stored states with a fresh utterance each (`"resample"`).

        Returns:
            `dict[str, float]`: `q_loss`, `v_loss`, `td_error` and `grad_norm`, means over the steps.
        """
        totals = torch.zeros(3, dtype=torch.float64)
        norms = 0.0
        with torch.enable_grad():
            for _ in range(num_steps):
                items = self._minibatch(fresh_id, resampled)
                for chunk in self._chunks(items):
                    loss, parts = self._loss(chunk)
                    loss.backward()
                    totals += parts
                norms += self.optimizer.step()
                polyak_update(self.target, self.critic, self.args.critic_tau)
                self.steps_taken += 1
        if self.accelerator.num_processes > 1:
            totals = self.accelerator.reduce(totals.float().to(self.accelerator.device), "sum").double().cpu()
        q_loss, v_loss, td_error = (totals / max(num_steps, 1)).tolist()
        return {"q_loss": q_loss, "v_loss": v_loss, "td_error": td_error, "grad_norm": norms / max(num_steps, 1)}

    def _minibatch(self, fresh_id: int, resampled: list[Trajectory] | None) -> list[_Item]:
        """This process's part of one step's minibatch, weighted so that losses are means over all processes' turns."""
        if self._uses_expectile:
            return self._draw(None, q=True, v=True)
        items = self._draw(None, q=True, v=False)
        if resampled is None:
            return items + self._draw(fresh_id, q=False, v=True)
        total = len(resampled) * self.accelerator.num_processes
        return items + [_Item(trajectory, 0.0, 1.0 / total) for trajectory in resampled]

    def _draw(self, first_id: int | None, q: bool, v: bool) -> list[_Item]:
        # Not more than there is: the first batches of a run may be smaller than a minibatch.
        size = min(self.args.critic_batch_size, self.buffer.num_transitions)
        if self.args.critic_kind == "pair" and first_id is None:
            drawn = [(self.buffer.get(i), k) for i, k in self.buffer.draw_transitions(size)]
            own = [single_turn(trajectory, k) for trajectory, k in drawn if trajectory is not None]
            weight = 1.0 / size
        else:
            mean_turns = self.buffer.mean_turns(first_id)
            count = max(1, round(size / mean_turns))
            drawn_ids = self.buffer.draw(count, first_id)
            own = [trajectory for i in drawn_ids if (trajectory := self.buffer.get(i)) is not None]
            # By the expected number of turns, not this draw's: else turns of long trajectories would weigh less.
            weight = 1.0 / (count * mean_turns)
        return [_Item(trajectory, weight * q, weight * v) for trajectory in own]

    def _loss(self, items: list[_Item]) -> tuple[torch.Tensor, torch.Tensor]:
        trajectories = [item.trajectory for item in items]
        output = self._forward(self.critic, trajectories)
        with torch.no_grad():
            target = self.target.values(self._forward(self.target, trajectories))
            online = self.critic.values(output)
        rewards, ended = turn_outcomes(trajectories, self.args.bootstrap_truncated)
        rewards, ended = rewards.to(target.q1.device), ended.to(target.q1.device)
        targets = tuple(q_targets(rewards, ended, v, self.args.gamma) for v in (target.next_v1, target.next_v2))
        q_losses = self.critic.q_losses(output, (targets[0], targets[1]))
        v_losses = self.critic.v_losses(output, (target.q1, target.q2))
        if self._uses_expectile:
            for i, (value, goal) in enumerate(((online.v1, target.q1), (online.v2, target.q2))):
                v_losses[i] = v_losses[i] * expectile_weights(value, goal, self.args.expectile)
        counts = torch.tensor([len(t) for t in trajectories])
        q_weights, v_weights = (
            torch.tensor([getattr(item, name) for item in items]).repeat_interleave(counts).to(q_losses)
            for name in ("q_weight", "v_weight")
        )
        q_loss, v_loss = (q_losses * q_weights).sum(), ((v_losses[0] + v_losses[1]) * v_weights).sum()
        td_error = ((online.q1 - targets[0]).abs() * q_weights).sum()
        return q_loss + v_loss, torch.stack([q_loss, v_loss, td_error]).detach().double().cpu()

    def _forward(self, network: Critic, trajectories: list[Trajectory]) -> Any:
        with self.accelerator.autocast():
            return network(trajectories)

    def _chunks(self, items: list[Any]) -> list[list[Any]]:
        size = self.args.critic_micro_batch_size or max(len(items), 1)
        return [items[i : i + size] for i in range(0, len(items), size)]

    # --- checkpoint

    def fingerprint(self) -> str:
        """Hash of the critic and its target: the same on every process, or something is wrong."""
        digest = hashlib.sha256()
        for network in (self.critic, self.target):
            for parameter in network.parameters():
                digest.update(parameter.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        """Weights of critic and target, and the optimizer's state, by name."""
        state: dict[str, Any] = {"critic_steps_taken": self.steps_taken}
        # A named backbone's frozen weights come from where it is named; the policy's first layers come from nowhere else.
        keep_frozen = self.args.critic_model is None
        for name, parameter in self.critic.named_parameters():
            if parameter.requires_grad or keep_frozen:
                state[f"critic.{name}"] = parameter.detach()
        trained = {name for name, parameter in self.critic.named_parameters() if parameter.requires_grad}
        for name, parameter in self.target.named_parameters():
            if name in trained:
                state[f"target.{name}"] = parameter.detach()
        return state | self.optimizer.state("optimizer.")

    def load_state(self, state: dict[str, Any]) -> None:
        """
        Take up what [`state`] returned.

        Raises:
            `ValueError`: If the critic has another shape.
        """
        for prefix, network in (("critic.", self.critic), ("target.", self.target)):
            given = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
            own = dict(network.named_parameters())
            wrong = [n for n, v in given.items() if n not in own or own[n].shape != v.shape]
            absent = [n for n, p in self.critic.named_parameters() if p.requires_grad and n not in given]
            if wrong or absent:
                raise ValueError(
                    "The checkpoint's critic has another shape than this one: it was made with other critic settings "
                    f"(critic_model, critic_kind, critic_head, value_bins or critic_lora_r). First difference: {(wrong + absent)[0]}."
                )
            with torch.no_grad():
                for name, value in given.items():
                    own[name].copy_(value)
        self.steps_taken = state["critic_steps_taken"]
        self.optimizer.load_state("optimizer.", state)


def single_turn(trajectory: Trajectory, turn: int) -> Trajectory:
    """One transition of a trajectory, as a trajectory of its own."""
    last = turn + 1 == len(trajectory)
    return Trajectory(
        trajectory.tokens[: int(trajectory.turns[turn, 2])],
        trajectory.turns[turn : turn + 1],
        trajectory.rewards[turn : turn + 1],
        trajectory.terminated and last,
        trajectory.truncated and last,
        trajectory.policy_version,
    )


def turn_outcomes(trajectories: list[Trajectory], bootstrap_truncated: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Rewards of all turns, and after which of them nothing comes.

    Args:
        trajectories (`list[Trajectory]`):
            Trajectories with n turns together.
        bootstrap_truncated (`bool`):
            Whether something comes after a trajectory that was cut off.

    Returns:
        `tuple`: `(n,)` float32 and `(n,)` bool.
    """
    ended: list[bool] = []
    for trajectory in trajectories:
        over = trajectory.terminated or (trajectory.truncated and not bootstrap_truncated)
        ended += [False] * (len(trajectory) - 1) + [over]
    return torch.cat([torch.zeros(0), *(t.rewards for t in trajectories)]), torch.tensor(ended, dtype=torch.bool)
