"""Numbers that depend on nothing but the seed and what they are for."""

import struct
from hashlib import blake2b


_COUNT = 16
_UNIT = 2.0**-32


def draw(seed: int, *entity: str | int) -> tuple[float, ...]:
    """
    Uniform numbers of an entity: the same in every process, on every machine and in any order of calls.

    Args:
        seed (`int`):
            Seed of the world.
        entity (`str` or `int`):
            What the numbers are for, such as `"leg", "CA1234", 739252`.

    Returns:
        `tuple[float]`: 16 numbers in [0, 1).
    """
    text = "\x1f".join(map(str, (seed, *entity)))
    words = struct.unpack(f"<{_COUNT}I", blake2b(text.encode(), digest_size=4 * _COUNT).digest())
    return tuple([word * _UNIT for word in words])


def spread(low: float, high: float, u: float) -> float:
    """
    A number between two others.

    Args:
        low (`float`):
            What `u = 0` gives.
        high (`float`):
            What `u = 1` would give.
        u (`float`):
            Uniform number.

    Returns:
        `float`: The number.
    """
    return low + (high - low) * u


def whole(low: int, high: int, u: float) -> int:
    """
    A whole number of a range, each as likely.

    Args:
        low (`int`):
            Smallest.
        high (`int`):
            Largest.
        u (`float`):
            Uniform number.

    Returns:
        `int`: The number.
    """
    return low + int((high - low + 1) * u)


def left(most: int, u: float) -> int:
    """
    Seats or rooms that are left: none in one of ten cases, one or two in another.

    Args:
        most (`int`):
            Largest number, at least 3.
        u (`float`):
            Uniform number.

    Returns:
        `int`: From 0 to `most`.
    """
    if u < 0.1:
        return 0
    if u < 0.2:
        return 1 if u < 0.15 else 2
    return whole(3, most, (u - 0.2) / 0.8)
