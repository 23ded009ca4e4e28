"""floor_divide, mod and Philox4x32-10: whole numbers.

floor_divide and mod have NumPy's (and Python's) signs: the remainder has the divisor's. Integers
divided by 0 give 0, as in NumPy. Float remainders are exact for quotients up to 2^288, which is all
of float32 (2^576 with FMA); beyond, the remainder is 0.
"""

from __future__ import annotations

import functools
import math

from codegen import loops
from codegen.vecmath.kit import Kit, V, op, where

DIGITS_FMA, DIGITS = 48, 24  # of the quotient, per step: the product must be exact
STEPS = 13


def divide_int(a: V, b: V) -> tuple[V, V]:
    """Quotient and remainder."""
    single = a.dtype == "int32"
    zero, minus = b.eq(0), b.eq(-1)
    safe = where(zero | minus, 1, b)
    if single:  # a float64 quotient of int32 never rounds up to an integer
        quotient = (a.to("float64") / safe.to("float64")).to("int32")
    else:
        quotient = op("div_int", a, safe)
    rest = a - quotient * safe
    wrong = rest.ne(0) & ((rest ^ safe) < 0)
    quotient, rest = where(wrong, quotient - 1, quotient), where(wrong, rest + safe, rest)
    return where(zero, 0, where(minus, 0 - a, quotient)), where(zero | minus, 0, rest)


def _fmod(kit: Kit, a: V, b: V) -> V:
    """C's fmod of a, b >= 0 in float64, exact for a / b < 2^(digits (STEPS - 1))."""
    finite = b < math.inf
    divisor = where(finite, b, 2.0**1000)
    digits = DIGITS_FMA if kit.has_fma else DIGITS
    inverse = 1.0 / divisor
    rest = a
    for _ in range(STEPS):
        quotient = rest * inverse
        whole = (quotient + kit.magic) - kit.magic
        cut = (quotient.bits() & -(1 << (kit.mantissa + 1 - digits))).bits()
        quotient = where(abs(quotient) < 2.0**digits, whole, cut)
        rest = _subtract_product(kit, rest, quotient, divisor)
    rest = where(abs(rest) <= divisor, rest, 0.0)
    rest = where(rest < 0, rest + divisor, rest)
    return where(finite, rest, a)


def _subtract_product(kit: Kit, rest: V, quotient: V, b: V) -> V:
    """rest - quotient * b without an error: quotient has few digits, and the result fits."""
    if kit.has_fma:
        return op("fma", -quotient, b, rest)
    high = (b.bits() & -(1 << 27)).bits()
    return (rest - quotient * high) - quotient * (b - high)


def _divide_float(kit: Kit, x: V, y: V) -> tuple[V, V]:
    """Quotient and remainder in float64, whatever the type of x and y."""
    wide = Kit("float64", kit.has_fma)
    a, b = abs(x).to("float64"), abs(y).to("float64")
    lift = where(b < 2.0**-900, 2.0**120, wide.const(1.0))  # 1 / b must not overflow
    inverse = 1.0 / (b * lift)
    rest = _fmod(wide, a * lift, b * lift) + ((a - a) + (inverse - inverse))  # NaN as NumPy
    opposite = (kit.sign_of(x) ^ kit.sign_of(y)) < 0
    beyond = opposite & rest.ne(0)
    remainder = where(beyond, b * lift - rest, rest) / lift
    remainder = wide.with_sign(remainder, wide.sign_of(y.to("float64")))
    quotient = (a * lift - rest) / (b * lift)
    rounded = (quotient + wide.magic) - wide.magic
    quotient = where(quotient < 2.0**51, rounded, quotient)
    quotient = where(beyond, quotient + 1, quotient)
    quotient = where(
        b.eq(0),
        a / b,
        where(
            (b < math.inf) | b.ne(b),
            quotient,
            where(a < math.inf, where(beyond, 1.0, wide.const(0.0)), math.nan),
        ),
    )
    return where(opposite, -quotient, quotient), remainder


def floor_divide(kit: Kit | None, x: V, y: V) -> V:
    if kit is None:
        return divide_int(x, y)[0]
    return _divide_float(kit, x, y)[0].to(kit.dtype)


def mod(kit: Kit | None, x: V, y: V) -> V:
    if kit is None:
        return divide_int(x, y)[1]
    return _divide_float(kit, x, y)[1].to(kit.dtype)


# -- Philox --------------------------------------------------------------------------------------


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


@functools.lru_cache(maxsize=64)
def _philox(words: tuple[loops.Value, ...]) -> tuple[V, V, V, V]:
    """Philox4x32-10, J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
    Kept, so that the four words of one counter share their rounds."""
    c0, c1, c2, c3, k0, k1 = (V(w) for w in words)
    m0, m1 = c0.const(_signed(0xD2511F53)), c0.const(_signed(0xCD9E8D57))
    for _ in range(10):
        low0, high0 = c0 * m0, op("umul_high", c0, m0)
        low1, high1 = c2 * m1, op("umul_high", c2, m1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _signed(0x9E3779B9), k1 + _signed(0xBB67AE85)
    return c0, c1, c2, c3


def philox(word: int, args: tuple[loops.Value, ...]) -> V:
    return _philox(args)[word]
