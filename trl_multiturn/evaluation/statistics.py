"""Numbers for results: success within k attempts, and intervals that say how sure a number is."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def pass_at_k(n: int, c: int, k: int) -> float:
    """
    Probability that at least one of k attempts at a task succeeds, estimated without bias from n attempts of which c
    succeeded ([Chen et al., 2021](https://huggingface.co/papers/2107.03374)): `1 - C(n - c, k) / C(n, k)`.

    Args:
        n (`int`):
            Attempts made.
        c (`int`):
            Attempts that succeeded.
        k (`int`):
            Attempts allowed; at most `n`, because fewer attempts than that say nothing unbiased about it.

    Returns:
        `float`: Between 0 and 1. Average it over tasks.

    Raises:
        `ValueError`: Unless `0 <= c <= n` and `1 <= k <= n`.

    Example:

    ```python
    >>> pass_at_k(n=4, c=1, k=2)
    0.5
    ```
    """
    _check_counts(n, c)
    if not _is_int(k) or not 1 <= k <= n:
        raise ValueError(f"k must be a whole number from 1 to n={n}, got {k!r}: sample at least k attempts a task.")
    # In whole numbers until the one division: exact where a product of floats is not.
    return (math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k)


def avg_at_k(scores: Sequence[Sequence[float]], k: int | None = None) -> float:
    """
    Mean score of k attempts at each task, each task counted alike.

    Args:
        scores (`Sequence[Sequence[float]]`):
            For each task the scores of its attempts, in the order they were made.
        k (`int`, *optional*):
            Attempts counted: the first k of each task. By default all of them, which must then be equally many.

    Returns:
        `float`: The mean.

    Raises:
        `ValueError`: If there is no task, a task has too few attempts, or a score is not finite.

    Example:

    ```python
    >>> avg_at_k([[1.0, 0.0], [1.0, 1.0]])
    0.75
    ```
    """
    if len(scores) == 0:
        raise ValueError("avg_at_k needs the scores of at least one task.")
    lengths = {len(attempts) for attempts in scores}
    if k is None:
        if len(lengths) > 1:
            raise ValueError(f"Tasks have between {min(lengths)} and {max(lengths)} attempts: say how many count (k).")
        k = lengths.pop()
        lengths = {k}
    if not _is_int(k) or not 1 <= k <= min(lengths):
        raise ValueError(
            f"k must be a whole number from 1 to {min(lengths)}, the fewest attempts of a task; got {k!r}."
        )
    means = [math.fsum(_finite(attempts[:k])) / k for attempts in scores]
    return math.fsum(means) / len(means)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """
    Wilson score interval of a success rate. Unlike the rate plus or minus its standard error it is never empty, not even
    at 0 or n successes, and never leaves [0, 1].

    Trials must be independent: one attempt at each task. For several attempts a task, use [`bootstrap_interval`] on
    the tasks' means.

    Args:
        successes (`int`):
            Trials that succeeded.
        n (`int`):
            Trials made.
        confidence (`float`, *optional*, defaults to `0.95`):
            Share of intervals that hold the true rate.

    Returns:
        `tuple[float, float]`: Lower and upper end.

    Raises:
        `ValueError`: Unless `0 <= successes <= n`, `n >= 1` and `0 < confidence < 1`.

    Example:

    ```python
    >>> low, high = wilson_interval(8, 10)
    >>> f"{low:.3f} to {high:.3f}"
    '0.490 to 0.943'
    ```
    """
    _check_counts(n, successes)
    _check_confidence(confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / n
    centre = rate + z * z / (2 * n)
    margin = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and n successes the ends are exactly 0 and 1; in floats they may miss by a rounding error.
    low = 0.0 if successes == 0 else (centre - margin) / scale
    high = 1.0 if successes == n else (centre + margin) / scale
    return low, high


def bootstrap_interval(
    values: Sequence[float], seed: int, confidence: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """
    Percentile bootstrap interval of a mean.

    Values must be independent: with several attempts at each task, pass one mean for each task. With fewer than about 20
    values the interval is too narrow, as every percentile bootstrap is.

    Args:
        values (`Sequence[float]`):
            At least two values.
        seed (`int`):
            Seed of the resampling: the same seed gives the same interval.
        confidence (`float`, *optional*, defaults to `0.95`):
            Share of intervals that are meant to hold the true mean.
        resamples (`int`, *optional*, defaults to `10000`):
            Means drawn.

    Returns:
        `tuple[float, float]`: Lower and upper end.

    Raises:
        `ValueError`: If there are fewer than two values or resamples, a value is not finite, or the confidence is not
            between 0 and 1.

    Example:

    ```python
    >>> low, high = bootstrap_interval([0.0, 0.5, 1.0, 1.0, 0.8], seed=0)
    ```
    """
    _check_confidence(confidence)
    if len(values) < 2:
        raise ValueError(f"A bootstrap interval needs at least two values, got {len(values)}.")
    if not _is_int(resamples) or resamples < 2:
        raise ValueError(f"resamples must be a whole number of at least 2, got {resamples!r}.")
    array = np.asarray(_finite(values))
    generator = np.random.default_rng(seed)
    # One resample at a time: all of them together would take resamples x values numbers of memory.
    means = [array[generator.integers(len(array), size=len(array))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _finite(values: Sequence[float]) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError("Values must be finite: drop or replace NaN and infinity, and say so next to the result.")
    return numbers


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_counts(n: int, successes: int) -> None:
    if not _is_int(n) or not _is_int(successes) or n < 1 or not 0 <= successes <= n:
        raise ValueError(f"Successes must be a whole number from 0 to the trials made, got {successes!r} of {n!r}.")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1 (0.95 for 95 percent), got {confidence!r}.")
