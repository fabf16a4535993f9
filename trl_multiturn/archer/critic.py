"""The utterance-level critic: double Q and double V over a shared backbone, reading trajectories."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .buffer import Trajectory
from .values import HLGaussHead, RegressionHead


@dataclass
class CriticOutput:
    """
    What the heads say of n turns, in the order of trajectories and turns; o is 1 or the number of bins.

    Args:
        q (`tuple` of two `torch.Tensor` of shape `(n, o)`):
            Outputs of the Q heads for each turn.
        v (`tuple` of two `torch.Tensor` of shape `(n, o)`):
            Outputs of the V heads for the state before each turn.
        next_v (`tuple` of two `torch.Tensor` of shape `(n, o)`):
            Outputs of the V heads for the state after it.
    """

    q: tuple[torch.Tensor, torch.Tensor]
    v: tuple[torch.Tensor, torch.Tensor]
    next_v: tuple[torch.Tensor, torch.Tensor]


class Critic(nn.Module, ABC):
    """
    Base of both kinds: four heads over what [`encode`] returns.

    Args:
        backbone (`torch.nn.Module`):
            Transformers model with a `last_hidden_state`, possibly a PEFT one.
        state_width (`int`):
            Width of a state's features.
        turn_width (`int`):
            Width of a turn's features.
        make_head (`Callable`):
            Gives a head for a width.
        max_length (`int`):
            Most tokens in one pass.
    """

    def __init__(self, backbone: nn.Module, state_width: int, turn_width: int, make_head: Any, max_length: int):
        super().__init__()
        self.backbone = backbone
        self.max_length = max_length
        self.q_heads = nn.ModuleList(make_head(turn_width) for _ in range(2))
        self.v_heads = nn.ModuleList(make_head(state_width) for _ in range(2))

    @abstractmethod
    def encode(self, trajectories: list[Trajectory]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Features of states and turns.

        Args:
            trajectories (`list[Trajectory]`):
                M trajectories with n turns together.

        Returns:
            `tuple`: States, `(n + M, state_width)`: those before each turn of a trajectory and the one after its last;
            and turns, `(n, turn_width)`. Float32.
        """

    def forward(self, trajectories: list[Trajectory]) -> CriticOutput:
        """Outputs of all heads for all turns of the trajectories."""
        states, turns = self.encode(trajectories)
        before = torch.tensor(
            [i + row for i, row in enumerate(row for row, t in enumerate(trajectories) for _ in range(len(t)))],
            device=states.device,
        )
        v1, v2 = (head(states) for head in self.v_heads)
        q1, q2 = (head(turns) for head in self.q_heads)
        return CriticOutput((q1, q2), (v1[before], v2[before]), (v1[before + 1], v2[before + 1]))

    def values(self, output: CriticOutput) -> "CriticValues":
        """Numbers in units of return from what [`forward`] returned."""
        q1, q2 = (head.value(out) for head, out in zip(self._q(), output.q, strict=True))
        v1, v2 = (head.value(out) for head, out in zip(self._v(), output.v, strict=True))
        next_v1, next_v2 = (head.value(out) for head, out in zip(self._v(), output.next_v, strict=True))
        return CriticValues(q1, q2, v1, v2, next_v1, next_v2)

    def q_losses(self, output: CriticOutput, targets: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Sum of both Q heads' losses for each turn, `(n,)`."""
        first, second = (h.loss(o, t) for h, o, t in zip(self._q(), output.q, targets, strict=True))
        return first + second

    def v_losses(self, output: CriticOutput, targets: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
        """Loss of each V head for the state before each turn, `(n,)`."""
        return [h.loss(o, t) for h, o, t in zip(self._v(), output.v, targets, strict=True)]

    def _q(self) -> list[Any]:
        return list(self.q_heads)

    def _v(self) -> list[Any]:
        return list(self.v_heads)


@dataclass
class CriticValues:
    """Values of n turns in units of return, each of shape `(n,)`: of the utterance, and of the states around it."""

    q1: torch.Tensor
    q2: torch.Tensor
    v1: torch.Tensor
    v2: torch.Tensor
    next_v1: torch.Tensor
    next_v2: torch.Tensor


class CausalCritic(Critic):
    """
    A decoder that reads a whole trajectory once: V of a state is read at the last token before the turn, which cannot see
    it, and Q at the turn's last token.

    Args:
        backbone (`torch.nn.Module`):
            Causal transformer without a language modelling head.
        width (`int`):
            Its hidden size.
        make_head (`Callable`):
            Gives a head for a width.
        max_length (`int`):
            Most tokens in one pass. Of longer trajectories the turns are read in several windows, each with as much of
            what came before as fits, beginning at a turn.
    """

    def __init__(self, backbone: nn.Module, width: int, make_head: Any, max_length: int):
        super().__init__(backbone, width, width, make_head, max_length)

    def encode(self, trajectories: list[Trajectory]) -> tuple[torch.Tensor, torch.Tensor]:
        sequences: list[torch.Tensor] = []
        state_cells: list[tuple[int, int]] = []
        turn_cells: list[tuple[int, int]] = []
        for trajectory in trajectories:
            for start, end, state_positions, turn_positions in _windows(trajectory, self.max_length):
                state_cells += [(len(sequences), position - start) for position in state_positions]
                turn_cells += [(len(sequences), position - start) for position in turn_positions]
                sequences.append(trajectory.tokens[start:end])
        hidden = causal_hidden_states(self.backbone, sequences)
        states, turns = (torch.tensor(cells, device=hidden.device).unbind(1) for cells in (state_cells, turn_cells))
        return hidden[states].float(), hidden[turns].float()


def causal_hidden_states(backbone: nn.Module, sequences: list[torch.Tensor]) -> torch.Tensor:
    """
    What a causal model makes of each token.

    Args:
        backbone (`torch.nn.Module`):
            Causal transformer without a language modelling head.
        sequences (`list[torch.Tensor]`):
            M sequences of token ids, the longest of length L.

    Returns:
        `torch.Tensor` of shape `(M, L, width)`: Last hidden states; any value beyond a sequence's end.
    """
    device = next(backbone.parameters()).device
    ids = nn.utils.rnn.pad_sequence([s.long() for s in sequences], batch_first=True).to(device)
    # No attention mask: what is padded comes last, where a causal model's earlier tokens do not see it, and without a mask
    # attention takes its fast path.
    return backbone(input_ids=ids, use_cache=False).last_hidden_state


def _windows(trajectory: Trajectory, max_length: int) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Windows that cover a trajectory: first and last token, positions of states and of turns. Each turn is in one."""
    spans = trajectory.turns.tolist()
    first = 0
    while first < len(spans):
        lead = spans[first][0] - 1  # the last token of the state before
        last = first
        while last + 1 < len(spans) and spans[last + 1][2] - lead <= max_length:
            last += 1
        end = spans[last][2]
        if end - lead > max_length:
            raise ValueError(
                f"A turn and its answer have {end - lead} tokens, more than the critic reads ({max_length}): raise "
                "critic_max_length or lower max_completion_length."
            )
        # As much of the past as fits, cut where a turn begins.
        starts = [0, *(span[0] for span in spans[:first]), lead]
        start = next(start for start in starts if end - start <= max_length)
        states = [span[0] - 1 for span in spans[first : last + 1]]
        if last + 1 == len(spans):
            states.append(end - 1)
        yield start, end, states, [span[1] - 1 for span in spans[first : last + 1]]
        first = last + 1


class PairCritic(Critic):
    """
    The paper's critic: an encoder reads a state and an utterance as text, each by itself.

    Args:
        backbone (`torch.nn.Module`):
            Encoder, such as RoBERTa.
        width (`int`):
            Its hidden size.
        make_head (`Callable`):
            Gives a head for a width.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The encoder's tokenizer.
        policy_tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The policy's, which turns its tokens into text.
        max_length (`int`):
            Most tokens of a text; the beginning of longer ones is cut off.
    """

    def __init__(
        self, backbone: nn.Module, width: int, make_head: Any, tokenizer: Any, policy_tokenizer: Any, max_length: int
    ):
        super().__init__(backbone, width, 2 * width, make_head, max_length)
        self.tokenizer = tokenizer
        self.tokenizer.truncation_side = "left"
        self.policy_tokenizer = policy_tokenizer

    def encode(self, trajectories: list[Trajectory]) -> tuple[torch.Tensor, torch.Tensor]:
        states: list[str] = []
        utterances: list[str] = []
        before: list[int] = []
        for trajectory in trajectories:
            for start, end, _ in trajectory.turns.tolist():
                before.append(len(states))
                states.append(self._text(trajectory.tokens[:start]))
                utterances.append(self._text(trajectory.tokens[start:end]))
            states.append(self._text(trajectory.tokens[: int(trajectory.turns[-1, 2])]))
        texts = list(dict.fromkeys(states + utterances))  # each once: one turn's state after is the next one's before
        place = {text: i for i, text in enumerate(texts)}
        features = self._features(texts)
        state_features = features[[place[text] for text in states]]
        turn_features = torch.cat([state_features[before], features[[place[text] for text in utterances]]], dim=1)
        return state_features, turn_features

    def _text(self, tokens: torch.Tensor) -> str:
        return self.policy_tokenizer.decode(tokens.tolist(), skip_special_tokens=True)

    def _features(self, texts: list[str]) -> torch.Tensor:
        device = next(self.parameters()).device
        inputs = self.tokenizer(texts, truncation=True, max_length=self.max_length, padding=True, return_tensors="pt")
        output = self.backbone(**inputs.to(device))
        pooled = getattr(output, "pooler_output", None)
        # Encoders without a pooler are read at their first token, as OfflineArcher does.
        return (pooled if pooled is not None else output.last_hidden_state[:, 0]).float()


def head_factory(args: Any, hidden: int) -> Any:
    """What makes the heads that an [`ArCHerConfig`] asks for, with hidden layers of the given width."""
    if args.critic_head == "hl_gauss":
        return lambda width: HLGaussHead(width, hidden, args.value_min, args.value_max, args.value_bins)
    return lambda width: RegressionHead(width, hidden)
