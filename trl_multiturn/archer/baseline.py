"""The optional token-level baseline: what advantage to expect before each token of an utterance was chosen."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from .buffer import Trajectory
from .config import ArCHerConfig
from .critic import causal_hidden_states
from .learner import Optimizer


class TokenBaseline:
    """
    A decoder with one number per token, read at the position before the token (section 3.4; `values` in the reference's
    `actor_loss`).

    Args:
        backbone (`torch.nn.Module`):
            Causal transformer without a language modelling head.
        width (`int`):
            Its hidden size.
        args ([`ArCHerConfig`]):
            Learning rate, batch size and clipping: the critic's.
        accelerator ([`~accelerate.Accelerator`]):
            Device and number of processes.
    """

    def __init__(self, backbone: nn.Module, width: int, args: ArCHerConfig, accelerator: Accelerator):
        head = nn.utils.skip_init(nn.Linear, width, 1)  # its usual weights would be drawn from the global generator
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.module = nn.ModuleDict({"backbone": backbone, "head": head}).to(accelerator.device)
        self.args = args
        self.accelerator = accelerator
        groups = [{"params": list(self.module.parameters()), "lr": args.critic_learning_rate}]
        self.optimizer = Optimizer(groups, accelerator, args.critic_max_grad_norm)

    @torch.no_grad()
    def values(self, trajectories: list[Trajectory], num_tokens: int) -> torch.Tensor:
        """
        Advantage to expect before each completion token.

        Args:
            trajectories (`list[Trajectory]`):
                B trajectories.
            num_tokens (`int`):
                T, the padded completion length.

        Returns:
            `torch.Tensor` of shape `(B, T)`: 0 beyond a trajectory's end.
        """
        values = torch.zeros(len(trajectories), num_tokens, device=self.accelerator.device)
        for start, chunk in self._chunks(trajectories):
            for row, trajectory, found in zip(
                range(start, start + len(chunk)), chunk, self._forward(chunk), strict=True
            ):
                completion = found[trajectory.prompt_length - 1 : len(trajectory.tokens) - 1]
                values[row, : len(completion)] = completion
        return values

    def update(self, trajectories: list[Trajectory], token_advantages: torch.Tensor, mask: torch.Tensor) -> float:
        """
        One step on a generation batch.

        Args:
            trajectories (`list[Trajectory]`):
                B trajectories of this process.
            token_advantages (`torch.Tensor` of shape `(B, T)`):
                Advantage of each completion token's turn.
            mask (`torch.Tensor` of shape `(B, T)`, bool):
                Which tokens the model wrote.

        Returns:
            `float`: Mean squared error over all processes' tokens before the step.
        """
        count = self.accelerator.reduce(mask.sum().float(), "sum").clamp(min=1.0)
        total = torch.zeros((), device=self.accelerator.device)
        with torch.enable_grad():
            for start, chunk in self._chunks(trajectories):
                loss = torch.zeros((), device=self.accelerator.device)
                for row, trajectory, found in zip(
                    range(start, start + len(chunk)), chunk, self._forward(chunk), strict=True
                ):
                    completion = found[trajectory.prompt_length - 1 : len(trajectory.tokens) - 1]
                    written = mask[row, : len(completion)]
                    error = token_advantages[row, : len(completion)] - completion
                    loss = loss + error[written].square().sum() / count
                loss.backward()
                total += loss.detach()
            self.optimizer.step()
        return self.accelerator.reduce(total, "sum").item()

    def _forward(self, trajectories: list[Trajectory]) -> torch.Tensor:
        with self.accelerator.autocast():
            hidden = causal_hidden_states(self.module["backbone"], [t.tokens for t in trajectories])
        return self.module["head"](hidden.float()).squeeze(-1)

    def _chunks(self, trajectories: list[Trajectory]) -> list[tuple[int, list[Trajectory]]]:
        size = self.args.critic_micro_batch_size or len(trajectories)
        return [(i, trajectories[i : i + size]) for i in range(0, len(trajectories), size)]

    # --- checkpoint

    def state(self) -> dict[str, Any]:
        """Weights and the optimizer's state, by name."""
        weights = {f"baseline.{name}": p.detach() for name, p in self.module.named_parameters()}
        return weights | self.optimizer.state("baseline_optimizer.")

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what [`state`] returned."""
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(state[f"baseline.{name}"])
        self.optimizer.load_state("baseline_optimizer.", state)
