"""Value heads: a number by regression, or a distribution over bins by classification (HL-Gauss)."""

import math

import torch
from torch import nn


# Width of the target's normal distribution in bins: it then spreads over about six of them (Farebrother et al. 2024).
_SIGMA_IN_BINS = 0.75


class RegressionHead(nn.Module):
    """
    A value as a number, trained by squared errors.

    Args:
        features (`int`):
            Width of the input.
        hidden (`int`):
            Width of the two hidden layers, as in the paper's critic.
    """

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.layers = _mlp(features, hidden, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(..., features)` -> `(..., 1)`: what [`loss`] and [`value`] take."""
        return self.layers(features)

    def value(self, output: torch.Tensor) -> torch.Tensor:
        """`(..., 1)` -> `(...)`, in units of return."""
        return output.squeeze(-1)

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Squared error of each element: `(..., 1)` and `(...)` -> `(...)`."""
        return (self.value(output) - target.detach()).square()


class HLGaussHead(nn.Module):
    """
    A value as a distribution over bins, trained by cross-entropy to a normal distribution around the target ([Stop
    Regressing](https://huggingface.co/papers/2403.03950)).

    Args:
        features (`int`):
            Width of the input.
        hidden (`int`):
            Width of the two hidden layers.
        value_min (`float`):
            Lowest value that the bins cover, in units of return.
        value_max (`float`):
            Highest.
        bins (`int`):
            Number of bins.
    """

    def __init__(self, features: int, hidden: int, value_min: float, value_max: float, bins: int):
        super().__init__()
        width = (value_max - value_min) / bins
        # Bins beyond either end: a target there spreads to both sides, else the distribution's mean would fall short of it.
        beyond = math.ceil(3 * _SIGMA_IN_BINS)
        edges = torch.linspace(value_min - beyond * width, value_max + beyond * width, bins + 2 * beyond + 1)
        self.layers = _mlp(features, hidden, bins + 2 * beyond)
        self.value_min, self.value_max = value_min, value_max
        self.sigma = _SIGMA_IN_BINS * width
        self.register_buffer("edges", edges, persistent=False)
        self.edges: torch.Tensor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(..., features)` -> `(..., bins)`: logits, what [`loss`] and [`value`] take."""
        return self.layers(features)

    def value(self, output: torch.Tensor) -> torch.Tensor:
        """`(..., bins)` -> `(...)`: the mean of the distribution, in units of return."""
        centers = (self.edges[1:] + self.edges[:-1]) / 2
        return (output.softmax(dim=-1) * centers).sum(dim=-1)

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each element in nats: `(..., bins)` and `(...)` -> `(...)`."""
        return -(self.probabilities(target.detach()) * output.log_softmax(dim=-1)).sum(dim=-1)

    def probabilities(self, target: torch.Tensor) -> torch.Tensor:
        """`(...)` -> `(..., bins)`: the share of a normal distribution around each value that falls into each bin."""
        # A bootstrapped target may overshoot the returns there are; the nearest value that there is stands for it.
        target = target.clamp(self.value_min, self.value_max)
        cdf = torch.special.erf((self.edges - target.unsqueeze(-1)) / (self.sigma * math.sqrt(2.0)))
        mass = cdf[..., 1:] - cdf[..., :-1]
        return mass / (cdf[..., -1:] - cdf[..., :1])


def _mlp(features: int, hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    # All values start equal, hence all advantages at 0: an untrained critic says nothing about any utterance.
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last)
