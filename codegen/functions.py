"""The scalar functions of `loops.Op`: one line each, with what NumPy would compute.

In: a name of the grammar. Out: its arity, its dtype rule, whether the emitter has an instruction
for it (`primitive`) or `vecmath.lower` expands it, and a vectorised NumPy callable.

>>> evaluate("maximum", (np.float32([1, 2]), np.float32([0, 3])), "float32")
array([1., 3.], dtype=float32)
>>> result_dtype("less", ("float32", "float32"))
'bool'

Where C leaves room, the meaning is fixed here: integers wrap; `minimum` and `maximum` keep NaN and
take -0 as less than +0; a float cast to an integer goes toward zero, and NaN or what does not fit
gives the most negative integer; integer division by 0 is 0; a shift is by 0 to width - 1 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Array = Any  # np.ndarray or NumPy scalar

FLOATS = ("float32", "float64")
INTS = ("int32", "int64")
NUMBERS = INTS + FLOATS
ALL = ("bool",) + NUMBERS
BITS_OF = {"float32": "int32", "float64": "int64", "int32": "float32", "int64": "float64"}


@dataclass(frozen=True)
class Function:
    """A line of the table. `rule` is the dtype rule, see `RULES`; `numpy(*args, dtype)`."""

    name: str
    arity: int
    rule: str
    primitive: bool
    numpy: Callable[..., Array]


# Each rule: which dtypes an argument may have. All arguments have one dtype, which is also the
# result's, but for the last five, which say so.
RULES = {
    "float": FLOATS,
    "int": INTS,
    "number": NUMBERS,
    "any": ALL,
    "bool": ("bool",),
    "int32": ("int32",),
    "compare": ALL,  # (T, T) -> bool
    "where": ALL,  # (bool, T, T) -> T
    "cast": ALL,  # T -> the op's dtype
    "bitcast": NUMBERS,  # T -> the other one of the same width
}


# -- meanings that are not one NumPy function -------------------------------------------------


def _divide_int(a: Array, b: Array) -> Array:
    """C's quotient, toward zero. The emitter may assume b is neither 0 nor a wrapping -1."""
    quotient = np.floor_divide(a, b)
    inexact = (b != 0) & (quotient * b != a) & ((a < 0) != (b < 0))
    return np.where(inexact, quotient + 1, quotient)


def _cast(a: Array, dtype: str) -> Array:
    a = np.asarray(a)
    if a.dtype.kind != "f" or dtype not in INTS:
        return a.astype(dtype)
    info = np.iinfo(dtype)
    fits = (a >= float(info.min)) & (a < -float(info.min))
    return np.where(fits, np.where(fits, a, 0).astype(dtype), info.min).astype(dtype)


def _shift_right(a: Array, n: Array) -> Array:
    a, n = np.asarray(a), np.asarray(n)
    unsigned = "uint" + str(8 * a.itemsize)
    return (a.view(unsigned) >> n.view(unsigned)).view(a.dtype)


def _umul_high(a: Array, b: Array) -> Array:
    wide = np.asarray(a).view(np.uint32).astype(np.uint64) * np.asarray(b).view(np.uint32)
    return (wide >> np.uint64(32)).astype(np.uint32).view(np.int32)


def _signed_zero(pick: Callable[..., Array], join: Callable[..., Array]) -> Callable[..., Array]:
    """NumPy leaves the sign of max(-0, 0) open; the sign bits joined settle it."""

    def function(a: Array, b: Array) -> Array:
        out = pick(a, b)
        if np.asarray(out).dtype.kind != "f":
            return out
        tie = (np.asarray(a) == 0) & (np.asarray(b) == 0)
        negative = join(np.signbit(a), np.signbit(b))
        return np.where(tie, np.where(negative, -out.dtype.type(0), out.dtype.type(0)), out)

    return function


def _odd(total: Array, error: Array) -> Array:
    """`total + error` rounded to odd: a later rounding to fewer bits is then exact."""
    bits = total.view(np.int64)
    inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, (bits + step).view(np.float64), total)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Dekker's exact product."""
    halves = []
    for x in (a, b):
        big = x * 134217729.0  # 2**27 + 1
        high = big - (big - x)
        halves.append((high, x - high))
    (ah, al), (bh, bl) = halves
    product = a * b
    return product, ((ah * bh - product) + ah * bl + al * bh) + al * bl


def _fma_exact(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)) or a == 0 or b == 0:
        return a * b + c
    total = Fraction(a) * Fraction(b) + Fraction(c)
    if total == 0:
        return 0.0
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def _fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c rounded once. Boldo and Melquiond, "Emulation of FMA and correctly rounded sums"
    (2008), for float64; a float32 product is exact in float64."""
    a, b, c = np.broadcast_arrays(a, b, c)
    wide = [np.atleast_1d(np.asarray(x, np.float64)) for x in (a, b, c)]
    if a.dtype == np.float32:
        out = _odd(*_two_sum(wide[0] * wide[1], wide[2]))
    else:
        high, low = _two_product(wide[0], wide[1])
        middle, rest = _two_sum(wide[2], low)
        top, left = _two_sum(high, middle)
        out = top + _odd(*_two_sum(rest, left))
        plain = ~np.isfinite(wide).all(axis=0) | (out == 0)  # the zero has a sign
        out = np.where(plain, wide[0] * wide[1] + wide[2], out)
        # Dekker's parts overflow, or fall below the smallest number and are missed
        a_b, c_size = np.abs(high), np.abs(wide[2])
        tiny = (a_b < 1e-250) & (c_size < 1e-200) & (wide[0] != 0) & (wide[1] != 0)
        extreme = tiny | (np.maximum(a_b, np.abs(wide).max(axis=0)) > 1e290)
        for i in zip(*np.nonzero(extreme)):
            out[i] = _fma_exact(*(float(x[i]) for x in wide))
    return out.astype(a.dtype).reshape(a.shape)


def _erf(a: Array) -> Array:
    x = np.asarray(a)
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x)).astype(x.dtype)


def _philox(word: int) -> Callable[..., Array]:
    """Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011)."""

    def function(*args: Array) -> Array:
        c = [np.asarray(x).view(np.uint32).astype(np.uint64) for x in args]
        mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
        (c0, c1, c2, c3), (k0, k1) = c[:4], c[4:]
        for _ in range(10):
            p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
            c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & mask, (p0 >> shift) ^ c3 ^ k1, p0 & mask
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
        return (c0, c1, c2, c3)[word].astype(np.uint32).view(np.int32)

    return function


_MINIMUM = _signed_zero(np.minimum, np.logical_or)
_MAXIMUM = _signed_zero(np.maximum, np.logical_and)

# name, arity, dtype rule, whether the emitter has it, NumPy meaning
_TABLE: tuple[tuple[str, int, str, bool, Callable[..., Array]], ...] = (
    ("add", 2, "number", True, np.add),
    ("sub", 2, "number", True, np.subtract),
    ("mul", 2, "number", True, np.multiply),
    ("div", 2, "float", True, np.divide),
    ("div_int", 2, "int", True, _divide_int),  # toward zero
    ("neg", 1, "number", True, np.negative),
    ("abs", 1, "number", True, np.abs),
    ("sqrt", 1, "float", True, np.sqrt),
    ("minimum", 2, "any", True, _MINIMUM),
    ("maximum", 2, "any", True, _MAXIMUM),
    ("floor", 1, "float", True, np.floor),
    ("ceil", 1, "float", True, np.ceil),
    ("round", 1, "float", True, np.rint),  # half to even
    ("trunc", 1, "float", True, np.trunc),
    ("fma", 3, "float", True, _fma),  # a * b + c, one rounding (two without FMA hardware)
    ("less", 2, "compare", True, np.less),
    ("less_equal", 2, "compare", True, np.less_equal),
    ("greater", 2, "compare", True, np.greater),
    ("greater_equal", 2, "compare", True, np.greater_equal),
    ("equal", 2, "compare", True, np.equal),
    ("not_equal", 2, "compare", True, np.not_equal),
    ("logical_and", 2, "bool", True, np.logical_and),
    ("logical_or", 2, "bool", True, np.logical_or),
    ("logical_not", 1, "bool", True, np.logical_not),
    ("where", 3, "where", True, np.where),
    ("cast", 1, "cast", True, _cast),
    ("bitcast", 1, "bitcast", True, lambda a, dtype: np.asarray(a).view(dtype)),
    ("bit_and", 2, "int", True, np.bitwise_and),
    ("bit_or", 2, "int", True, np.bitwise_or),
    ("bit_xor", 2, "int", True, np.bitwise_xor),
    ("shift_left", 2, "int", True, np.left_shift),
    ("shift_right", 2, "int", True, _shift_right),  # zeros come in
    ("shift_right_arithmetic", 2, "int", True, np.right_shift),
    ("umul_high", 2, "int32", True, _umul_high),  # upper word of the unsigned product
    ("floor_divide", 2, "number", False, np.floor_divide),
    ("mod", 2, "number", False, np.mod),  # the divisor's sign, as in Python
    ("pow", 2, "float", False, np.power),
    ("exp", 1, "float", False, np.exp),
    ("expm1", 1, "float", False, np.expm1),
    ("log", 1, "float", False, np.log),
    ("log1p", 1, "float", False, np.log1p),
    ("sin", 1, "float", False, np.sin),
    ("cos", 1, "float", False, np.cos),
    ("tan", 1, "float", False, np.tan),
    ("asin", 1, "float", False, np.arcsin),
    ("acos", 1, "float", False, np.arccos),
    ("atan", 1, "float", False, np.arctan),
    ("atan2", 2, "float", False, np.arctan2),
    ("sinh", 1, "float", False, np.sinh),
    ("cosh", 1, "float", False, np.cosh),
    ("tanh", 1, "float", False, np.tanh),
    ("erf", 1, "float", False, _erf),
    ("philox0", 6, "int32", False, _philox(0)),
    ("philox1", 6, "int32", False, _philox(1)),
    ("philox2", 6, "int32", False, _philox(2)),
    ("philox3", 6, "int32", False, _philox(3)),
)

FUNCTIONS: dict[str, Function] = {line[0]: Function(*line) for line in _TABLE}


def result_dtype(fn: str, dtypes: Sequence[str], wanted: str | None = None) -> str:
    """The dtype of `fn` on arguments of `dtypes`; a cast needs the `wanted` one. ValueError tells
    what does not fit."""
    if fn not in FUNCTIONS:
        raise ValueError(f"there is no scalar function {fn!r}")
    f = FUNCTIONS[fn]
    if len(dtypes) != f.arity:
        raise ValueError(f"{fn} takes {f.arity} arguments, got {len(dtypes)}")
    given = f"{fn}({', '.join(dtypes)})"
    checked = tuple(dtypes)
    if f.rule == "where":
        if dtypes[0] != "bool":
            raise ValueError(f"{given}: the condition must be bool")
        checked = checked[1:]
    if any(d not in RULES[f.rule] for d in checked):
        raise ValueError(f"{given}: arguments must be {' or '.join(RULES[f.rule])}")
    if len(set(checked)) != 1:
        raise ValueError(f"{given}: arguments differ in dtype")
    if f.rule == "cast":
        if wanted not in ALL:
            raise ValueError(f"{given}: cannot cast to {wanted}")
        return str(wanted)
    if f.rule == "bitcast":
        return BITS_OF[checked[0]]
    return "bool" if f.rule == "compare" else checked[0]


def evaluate(fn: str, args: Sequence[Array], dtype: str) -> Array:
    """What `fn` gives on arrays (or NumPy scalars), in `dtype`, without warnings."""
    f = FUNCTIONS[fn]
    with np.errstate(all="ignore"):
        if f.rule in ("cast", "bitcast"):
            return f.numpy(*args, dtype)
        return np.asarray(f.numpy(*args)).astype(dtype, copy=False)
