"""Arithmetic mod a tower of primes in which exp, log, sin and cos keep their laws.

In: int64 arrays of residues. Out: the same. Each prime of the tower divides the next one minus 1,
so `exp(v) mod p[k]` can be defined as `h[k] ** (v mod p[k-1])` with h[k] of order p[k-1]: then
exp(a + b) = exp(a) exp(b) holds exactly, and with a square root of -1 in every field so do the
laws of sin and cos. `log` is the discrete logarithm the other way. A value is known mod some
levels of the tower; exp loses the lowest one, log the highest.

All primes are below 2**50: a product of two residues is reduced with a float64 quotient, exactly,
in vectorised NumPy.

>>> t = Tower(seed=0, levels=(0, 1))
>>> x, y = np.array([5]), np.array([7])
>>> mulmod(t.exp(1, x), t.exp(1, y), t.primes[1]) == t.exp(1, x + y)
array([ True])
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache, cached_property
from typing import Any, Sequence

import numpy as np

Array = Any  # numpy.ndarray of int64

PRIMES = (
    2097133,
    25165597,
    402649553,
    22548374969,
    541160999257,
    2164643997029,
    17317151976233,
    623417471144389,
)
LOG_LIMIT = 1 << 29  # largest order in which discrete logarithms are searched
_BITS = 17  # three limbs of 17 bits hold a residue; products of limbs sum exactly in float64
_MASK = (1 << _BITS) - 1


def mulmod(a: Array, b: Array, p: int) -> Array:
    """`a * b mod p` for residues below p < 2**50."""
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    quotient = (a.astype(np.float64) * b.astype(np.float64) / p).astype(np.int64)
    with np.errstate(over="ignore"):  # both products wrap alike, their difference is small
        rest = a * b - quotient * np.int64(p)
    rest = np.where(rest < 0, rest + p, rest)
    return np.where(rest >= p, rest - p, rest)


def powmod(a: Array, n: Array | int, p: int) -> Array:
    """`a ** n mod p` elementwise; n is a non-negative int or an array of them."""
    a = np.asarray(a, np.int64)
    n = np.asarray(n, np.int64)
    a, n = np.broadcast_arrays(a, n)
    result = np.ones(a.shape, np.int64)
    while n.size and n.max() > 0:
        result = np.where(n & 1, mulmod(result, a, p), result)
        a, n = mulmod(a, a, p), n >> 1
    return result


def invmod(a: Array, p: int) -> Array:
    """`1 / a mod p`; 0 for 0."""
    return powmod(a, p - 2, p)


def summod(a: Array, axes: Sequence[int], p: int) -> Array:
    """The sum over axes, of up to 2**36 elements."""
    axes = tuple(axes)
    if not axes:
        return a
    high, low = (a >> 25).sum(axis=axes) % p, (a & ((1 << 25) - 1)).sum(axis=axes) % p
    return (mulmod(high, np.int64(1 << 25), p) + low) % p


def cumsummod(a: Array, axis: int, p: int) -> Array:
    high, low = np.cumsum(a >> 25, axis) % p, np.cumsum(a & ((1 << 25) - 1), axis) % p
    return (mulmod(high, np.int64(1 << 25), p) + low) % p


def contractmod(
    a: Array, left: Sequence[int], b: Array, right: Sequence[int], out: Sequence[int], p: int
) -> Array:
    """The contraction of two operands, exact through limbs that float64 sums exactly."""

    def limbs(v: Array) -> list[Array]:
        return [((v >> (_BITS * i)) & _MASK).astype(np.float64) for i in range(3)]

    total: Array = 0
    for i, x in enumerate(limbs(a)):
        for j, y in enumerate(limbs(b)):
            part = np.einsum(x, list(left), y, list(right), list(out), optimize=True)
            scale = pow(2, _BITS * (i + j), p)
            total = (total + mulmod(part.astype(np.int64) % p, np.int64(scale), p)) % p
    return np.asarray(total, np.int64)


def mix(*parts: Array | int) -> Array:
    """A 64-bit hash of equal-length arrays (splitmix64 rounds): the seed of an atom's value."""
    state: Array = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        for part in parts:
            state = state + np.asarray(part).astype(np.uint64)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def text_key(text: str) -> int:
    """A number for a name, the same in every process."""
    value = 1469598103934665603
    for byte in text.encode():
        value = (value ^ byte) * 1099511628211 % (1 << 63)
    return value


class Tower:
    """The fields of one evaluation: some levels of the tower and seeded generators."""

    def __init__(self, seed: int, levels: Sequence[int]) -> None:
        self.seed = seed
        self.levels = tuple(levels)
        self.primes = PRIMES

    @cached_property
    def _bases(self) -> dict[int, int]:
        found = {}
        for k in self.levels:
            if k == 0:
                continue
            p, order = PRIMES[k], PRIMES[k - 1]
            base = 1
            attempt = 0
            while base == 1:  # an element of order p[k-1], which is prime
                start = int(mix(self.seed, k, attempt)) % (p - 2) + 2
                base, attempt = pow(start, (p - 1) // order, p), attempt + 1
            found[k] = base
        return found

    def exp(self, k: int, v: Array) -> Array:
        """exp at level k of residues at level k - 1."""
        return powmod(np.int64(self._bases[k]), v, PRIMES[k])

    def log(self, k: int, v: Array) -> Array | None:
        """log at level k - 1 of residues at level k; None where it is not searched."""
        p, order = PRIMES[k], PRIMES[k - 1]
        if order > LOG_LIMIT or k not in self._bases:
            return None
        cofactor = (p - 1) // order
        found = _discrete_log(powmod(v, cofactor, p).reshape(-1), self._bases[k], order, p)
        return mulmod(found.reshape(np.shape(v)), np.int64(pow(cofactor, -1, order)), order)

    def imaginary(self, k: int) -> int:
        """A square root of -1 at level k."""
        return _root_of_minus_one(PRIMES[k])

    def atom(self, k: int, name: str, *args: Array) -> Array:
        """The value of an unknown function of its arguments: random, but always the same."""
        code = mix(text_key(name), self.seed, k, *args)
        return (code % np.uint64(PRIMES[k])).astype(np.int64)

    def rational(self, k: int, value: Fraction) -> int:
        p = PRIMES[k]
        return value.numerator % p * pow(value.denominator, -1, p) % p


@cache
def _root_of_minus_one(p: int) -> int:
    for start in range(2, 200):
        root = pow(start, (p - 1) // 4, p)
        if root * root % p == p - 1:
            return root
    raise ArithmeticError(f"{p} is not 1 mod 4")


def _discrete_log(v: Array, base: int, order: int, p: int) -> Array:
    """x with base ** x = v, by baby steps and giant steps, for a whole array at once."""
    distinct, back = np.unique(v, return_inverse=True)
    count = int(np.sqrt(order * max(1, distinct.size))) + 1  # balances the table and the search
    count = min(count, 1 << 17)
    steps = _powers(base, count, p)
    rank = np.argsort(steps)
    table = steps[rank]
    giant = np.int64(pow(pow(base, count, p), -1, p))
    found = np.zeros(distinct.shape, np.int64)
    open_ = np.arange(distinct.size)
    current = distinct.copy()
    for giants in range(order // count + 1):
        place = np.minimum(np.searchsorted(table, current), count - 1)
        hit = table[place] == current
        if hit.any():
            found[open_[hit]] = giants * count + rank[place[hit]]
            open_, current = open_[~hit], current[~hit]
        if not open_.size:
            break
        current = mulmod(current, giant, p)
    return found[back]


def _powers(base: int, count: int, p: int) -> Array:
    """base ** 0, base ** 1, ... by doubling."""
    result = np.ones(1, np.int64)
    while result.size < count:
        result = np.concatenate([result, mulmod(result, np.int64(pow(base, result.size, p)), p)])
    return result[:count]
