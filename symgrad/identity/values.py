"""Numbers that are known twice: as real numbers and as residues mod levels of the tower.

In: NumPy arrays. Out: `Value`, whose `real` plane decides comparisons (and is all there is in a
purely numeric evaluation) and whose `residues` are exact. `residues` is None for whole numbers and
booleans: their real plane is exact, and `residue(k)` reduces it when asked. In a purely numeric
evaluation the residues of what is not whole are an empty dict.

>>> v = Value(np.array([2.0, 3.0]), None)
>>> v.residue(0, tower)
array([2, 3])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Callable

import numpy as np

from symgrad.identity.field import PRIMES, Tower, mix, mulmod, text_key

Array = Any
SHORT_DECIMAL = 4  # significant digits of a constant that was meant as written


@dataclass
class Value:
    """An array of numbers; see the module."""

    real: Array
    residues: dict[int, Array] | None

    def residue(self, k: int, tower: Tower) -> Array:
        if self.residues is None:
            whole = np.nan_to_num(np.asarray(self.real, np.float64), posinf=0, neginf=0)
            return whole.astype(np.int64) % PRIMES[k]
        return self.residues[k]

    def levels(self, tower: Tower) -> tuple[int, ...]:
        return tower.levels if self.residues is None else tuple(self.residues)

    def each(self, move: Callable[[Array], Array]) -> Value:
        """The value with its elements moved: slices, transposes, gathers."""
        if self.residues is None:
            return Value(move(self.real), None)
        return Value(move(self.real), {k: move(r) for k, r in self.residues.items()})


@dataclass
class Context:
    """One evaluation: where it takes place and what it had to give up.

    `exact` turns False when a function without exact laws, a pole or a rounded constant took part:
    a difference of residues then proves nothing (equality of them still does).
    """

    tower: Tower
    digits: int = 0  # decimal digits of the real plane; 0 for float64
    dims: dict[str, int] = field(default_factory=dict)
    exact: bool = True
    hints: tuple[float, ...] = ()  # magnitudes where the graph may behave differently
    rounded: bool = False  # whether there are constants that no short fraction explains
    nudge: int = 0  # a seed that moves those constants within their rounding; 0 leaves them

    @property
    def modular(self) -> bool:
        return bool(self.tower.levels)

    def common(self, *values: Value) -> tuple[int, ...]:
        """The levels that all values are known at."""
        return tuple(k for k in self.tower.levels if all(k in v.levels(self.tower) for v in values))

    def same(self, a: Value, b: Value) -> Array:
        """Elementwise: are all residues equal (the real values, where there are none)?"""
        levels = self.common(a, b)
        if (a.residues is None and b.residues is None) or not levels:
            return _same_real(a, b, self.digits)
        result: Array = np.bool_(True)
        for k in levels:
            result = result & (a.residue(k, self.tower) == b.residue(k, self.tower))
        return result


def _same_real(a: Value, b: Value, digits: int) -> Array:
    """Equal, or apart by no more than rounding: a tie must not be decided by the last digit."""
    if a.residues is None and b.residues is None:
        return a.real == b.real
    slack = 10.0 ** (-0.8 * digits) if digits else 4e-16
    with np.errstate(invalid="ignore"):
        close = np.abs(a.real - b.real) <= slack * np.maximum(np.abs(a.real), np.abs(b.real))
    return np.asarray((a.real == b.real) | close, bool)


def simplest_fraction(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of smallest denominator strictly between two non-negative bounds."""
    whole = low.numerator // low.denominator
    if whole + 1 < high:
        return Fraction(whole + 1)
    upper = 1 / (high - whole)
    if low == whole:
        return whole + Fraction(1, upper.numerator // upper.denominator + 1)
    return whole + 1 / simplest_fraction(upper, 1 / (low - whole))


def as_fraction(number: float, dtype: str) -> Fraction:
    """The short fraction that rounds to this number: 1/10 for 0.1, whatever the precision."""
    exact = Fraction(number)
    if exact.denominator == 1:
        return exact
    kind = np.float32 if dtype == "float32" else np.float64
    decimal = np.format_float_scientific(kind(number), trim="-")
    if len(decimal.split("e")[0].strip("-").replace(".", "")) <= SHORT_DECIMAL:
        return Fraction(decimal)
    half = Fraction(float(np.spacing(kind(abs(number))))) / 2
    found = simplest_fraction(abs(exact) - half, abs(exact) + half)
    return -found if number < 0 else found


def _is_short(value: Fraction, dtype: str) -> bool:
    """True for a fraction so short that no rounding of something else gives it by chance."""
    if value.denominator & (value.denominator - 1) == 0 and value.denominator < 1 << 12:
        return True
    digits = str(abs(value.numerator) * (10**60 // value.denominator)).strip("0")
    if 10**60 % value.denominator == 0 and len(digits) <= SHORT_DECIMAL:
        return True
    return abs(value.numerator) * value.denominator < (1 << 18 if dtype == "float32" else 1 << 42)


def number(context: Context, array: Array, dtype: str) -> Value:
    """A constant array as a value."""
    array = np.asarray(array)
    if dtype in ("bool", "int32", "int64"):
        return Value(array.astype(bool if dtype == "bool" else np.int64), None)
    if array.size == 0:
        return Value(array.astype(np.float64), None)
    distinct, back = np.unique(array, return_inverse=True)
    back = back.reshape(array.shape)
    finite = np.isfinite(distinct)
    many = distinct.size > 256  # data: exact binary fractions, without a search for short ones
    fractions: list[Fraction | None] = []
    for entry, fine in zip(distinct.tolist(), finite.tolist()):
        if not fine:
            context.exact = False
            fractions.append(None)
            continue
        value = Fraction(entry) if many else as_fraction(entry, dtype)
        if not many and not _is_short(value, dtype):
            context.exact = False
            context.rounded = True
            value = _nudged(context, value, dtype)
        fractions.append(value)
    reals = [real_number(context, f, e) for f, e in zip(fractions, distinct.tolist())]
    plane = np.array(reals, object if context.digits else np.float64)[back]
    if not context.modular:
        return Value(plane, {})
    residues = {}
    for k in context.tower.levels:
        at_level = [_residue(context, k, f, e) for f, e in zip(fractions, distinct.tolist())]
        residues[k] = np.array(at_level, np.int64)[back]
    return Value(plane, residues)


def _nudged(context: Context, value: Fraction, dtype: str) -> Fraction:
    """The constant up or down by its rounding: how much a result depends on that is its slack."""
    if not context.nudge:
        return value
    up = int(mix(context.nudge, text_key(str(value)))) % 2
    size = Fraction(1, 2**24 if dtype == "float32" else 2**53)
    return value * (1 + size if up else 1 - size)


def _residue(context: Context, k: int, value: Fraction | None, entry: float) -> int:
    if value is None:
        return int(context.tower.atom(k, "special", np.uint64(text_key(repr(entry)))))
    return context.tower.rational(k, value)


def real_number(context: Context, value: Fraction | None, entry: float) -> Any:
    """A fraction in the real plane's arithmetic."""
    if not context.digits:
        return float(value) if value is not None else entry
    import mpmath

    if value is None:
        return mpmath.mpf(entry)
    return mpmath.mpf(value.numerator) / value.denominator


def point(context: Context, key: int, shape: tuple[int, ...], unit: bool = False) -> Value:
    """Random binary fractions, exact in both planes; see `Region` for where they lie."""
    rng = np.random.default_rng((context.tower.seed, key))
    region = Region.of(context.tower.seed)
    scale = 1 << 19
    if unit:
        whole = rng.integers(0, scale, shape)
    elif region.wide:
        whole = np.rint(scale * 2.0 ** rng.uniform(-6, 8, shape)).astype(np.int64)
        if context.hints:  # next to the constants of the graph: thresholds, bounds
            hints = np.abs(rng.choice(context.hints, shape)) * rng.uniform(0.5, 2, shape)
            near = rng.integers(0, 3, shape) == 0
            whole = np.where(near, np.rint(scale * hints).astype(np.int64), whole)
    else:
        whole = rng.integers(scale // 8, 2 * scale, shape, endpoint=True)
    if not unit and not region.positive:
        whole = whole * rng.choice([-1, 1], shape)
    return _binary_fractions(context, np.asarray(whole), scale)


def _binary_fractions(context: Context, whole: Array, scale: int) -> Value:
    if context.digits:
        import mpmath

        make = np.frompyfunc(lambda n: mpmath.mpf(int(n)) / scale, 1, 1)
        plane = np.asarray(make(whole), object).reshape(whole.shape)
    else:
        plane = whole / scale
    residues = {}
    for k in context.tower.levels:
        p = PRIMES[k]
        residues[k] = mulmod(whole % p, np.int64(pow(scale, -1, p)), p)
    return Value(plane, residues)


@dataclass(frozen=True)
class Region:
    """Where the point of a seed lies: in [-2, 2] or at magnitudes from 1/64 to 256 and next to the
    constants of the graph; both signs or positive."""

    wide: bool
    positive: bool

    @staticmethod
    def of(seed: int) -> Region:
        return Region(wide=seed % 4 in (0, 3), positive=seed % 2 == 0)
