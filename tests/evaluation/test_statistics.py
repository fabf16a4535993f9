import itertools
import math
import random

import numpy as np
import pytest

from trl_multiturn.evaluation import avg_at_k, bootstrap_interval, pass_at_k, wilson_interval


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 2), (5, 2, 3), (6, 0, 3), (6, 6, 1), (5, 4, 2), (1, 1, 1)])
def test_pass_at_k_counts_the_subsets(n, c, k):
    subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def test_pass_at_k_is_unbiased():
    """Its mean over samples is 1 - (1 - p)^k; the naive 1 - (1 - c/n)^k is not."""
    p, n, k = 0.3, 6, 3
    weights = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    truth = 1 - (1 - p) ** k
    assert sum(w * pass_at_k(n, c, k) for c, w in enumerate(weights)) == pytest.approx(truth)
    assert sum(w * (1 - (1 - c / n) ** k) for c, w in enumerate(weights)) < truth - 0.01


def test_pass_at_k_stays_exact_for_many_attempts():
    assert pass_at_k(10_000, 1, 1) == 1e-4
    assert pass_at_k(np.int64(2000), np.int64(1), 500) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 5), (4, 1, 0), (0, 0, 1), (4, 0.5, 1), (4, 1, 1.5)]
)
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(ValueError, match="whole number"):
        pass_at_k(n, c, k)


def test_avg_at_k():
    scores = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.5]]
    assert avg_at_k(scores) == pytest.approx((1 / 3 + 2.5 / 3) / 2)
    assert avg_at_k(scores, k=1) == 1.0
    # each task counts alike, however many attempts it has
    assert avg_at_k([[1.0], [0.0, 0.0, 0.0]], k=1) == 0.5


@pytest.mark.parametrize(
    ("scores", "k", "match"),
    [
        ([], None, "at least one task"),
        ([[1.0], [0.0, 1.0]], None, "between 1 and 2 attempts"),
        ([[1.0], [0.0, 1.0]], 2, "from 1 to 1"),
        ([[]], None, "from 1 to 0"),
        ([[math.nan]], None, "finite"),
    ],
)
def test_avg_at_k_refuses(scores, k, match):
    with pytest.raises(ValueError, match=match):
        avg_at_k(scores, k)


def test_wilson_known_values():
    # Newcombe (1998), table I, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_wilson_properties():
    for n in (1, 2, 7, 50):
        for successes in range(n + 1):
            low, high = wilson_interval(successes, n)
            assert 0.0 <= low <= successes / n <= high <= 1.0
            assert low < high
            mirrored = wilson_interval(n - successes, n)
            assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))
    narrow, wide = wilson_interval(5, 10, 0.8), wilson_interval(5, 10, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_bootstrap_interval():
    generator = random.Random(0)
    values = [generator.gauss(3.0, 2.0) for _ in range(200)]
    low, high = bootstrap_interval(values, seed=0)
    # close to the normal interval of a mean of 200
    mean, error = np.mean(values), np.std(values) / math.sqrt(len(values))
    assert low == pytest.approx(mean - 1.96 * error, abs=0.03)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.03)
    assert bootstrap_interval(values, seed=0) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    assert bootstrap_interval([v + 5 for v in values], seed=0) == pytest.approx((low + 5, high + 5))
    wide = bootstrap_interval(values, seed=0, confidence=0.99)
    assert wide[0] < low < high < wide[1]


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    hits = sum(
        low <= 0.3 <= high
        for low, high in (wilson_interval(int(generator.binomial(40, 0.3)), 40) for _ in range(2000))
    )
    assert 0.93 < hits / 2000 < 0.975
    intervals = [bootstrap_interval(generator.normal(size=60), seed=i, resamples=300) for i in range(300)]
    assert 0.90 < np.mean([low <= 0 <= high for low, high in intervals]) < 0.98


@pytest.mark.parametrize(
    ("values", "options", "match"),
    [
        ([1.0], {}, "at least two values"),
        ([1.0, math.inf], {}, "finite"),
        ([1.0, 2.0], {"resamples": 1}, "resamples"),
        ([1.0, 2.0], {"confidence": 95}, "0.95 for 95 percent"),
    ],
)
def test_bootstrap_refuses(values, options, match):
    with pytest.raises(ValueError, match=match):
        bootstrap_interval(values, seed=0, **options)


@pytest.mark.parametrize(("successes", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 1.0)])
def test_wilson_refuses(successes, n, confidence):
    with pytest.raises(ValueError, match="whole number|confidence"):
        wilson_interval(successes, n, confidence)
