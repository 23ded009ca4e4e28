"""Philox4x32-10 in NumPy: the numbers of a Random node.

In: seed, step, stream and shape. Out: an array, each element a function of those and of its
row-major position alone. Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
1, 2, 3" (2011); `words` gives the known answers of their library, Random123.

>>> [hex(w) for w in words((0, 0, 0, 0), (0, 0))]
['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85  # golden ratio, sqrt(3) - 1: added to the key in each round
_MASK = 0xFFFFFFFF
_ROUNDS = 10


def words(counter: Sequence[Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """The four 32-bit words of each counter, which is four arrays (or numbers) of 32-bit words."""
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = key
    low, shift = np.uint64(_MASK), np.uint64(32)
    for _ in range(_ROUNDS):
        p0, p1 = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1 = (p1 >> shift) ^ c1 ^ np.uint64(k0), p1 & low
        c2, c3 = (p0 >> shift) ^ c3 ^ np.uint64(k1), p0 & low
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def draw(
    law: str, shape: tuple[int, ...], dtype: str, stream: int, seed: int = 0, step: int = 0
) -> np.ndarray[Any, Any]:
    """`law` is "uniform" in [0, 1), "normal" with mean 0 and variance 1, or "bits"."""
    element = np.arange(math.prod(shape), dtype=np.uint64)
    counter = (element & np.uint64(_MASK), element >> np.uint64(32), step & _MASK, stream & _MASK)
    first, second, _, _ = words(counter, (seed & _MASK, seed >> 32 & _MASK))
    if law == "bits":
        values = first.astype(np.uint32).view(np.int32)
    elif law == "uniform":
        values = _uniform(first, second, dtype)
    else:
        values = _normal(first, second, dtype)
    return values.reshape(shape)


def _uniform(first: Any, second: Any, dtype: str) -> Any:
    if dtype == "float32":
        return _short(first)
    wide = first << np.uint64(32) | second
    return (wide >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _short(word: Any) -> Any:
    """24 bits of a word, in [0, 1)."""
    return (word >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def _normal(first: Any, second: Any, dtype: str) -> Any:
    """Box and Muller's method, one number of each pair."""
    real = np.dtype(dtype).type
    if dtype == "float32":
        radius, turn = real(1) - _short(first), _short(second)
    else:
        radius, turn = ((w.astype(np.float64) + 0.5) * 2.0**-32 for w in (first, second))
    return np.sqrt(real(-2) * np.log(radius)) * np.cos(real(2 * math.pi) * turn)
