"""log, log1p and pow.

Reduction: x = 2^e m with m around 1, log x = e log 2 + log(1 + f), f = m - 1. log1p takes e from
1 + x but f from x, so that nothing of a small x is lost (N. Juffa's way).
"""

from __future__ import annotations

import math

from codegen.vecmath.exponential import LN2, exp, exp_parts
from codegen.vecmath.kit import Kit, V, op, where

# float32: log(1 + f) = f - f^2/2 + f^3 (CUBE + f EVEN(f^2) + f^2 ODD(f^2)), N. Juffa's logf
# (max 0.85 ULP), https://stackoverflow.com/questions/39821367
LOG32_EVEN = (-0.13031005859375, -0.12148351222276688, -0.1668461412191391, -0.24999620020389557)
LOG32_ODD = (0.140869140625, 0.1398148536682129, 0.20012034475803375)
LOG32_CUBE = 0.33333197236061096
# float64: fdlibm e_log.c, log(1 + f) = 2 s + s R(s^2), s = f / (2 + f)
LOG64 = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)
# m starts at 2/3 (float32) or sqrt(1/2) (float64)
START = {"float32": 0x3F2AAAAB, "float64": 0x3FE6A09E << 32}


def _split(kit: Kit, x: V) -> tuple[V, V]:
    """e, as bits in place, and the bits of m: x = 2^e m, x > 0 and normal."""
    bits = x.bits()
    e = (bits - START[kit.dtype]) & -(1 << kit.mantissa)
    return e, bits - e


def _exponent(kit: Kit, e: V) -> V:
    """The e of `_split` as a float."""
    if kit.single:
        return e.to("float32") * kit.epsilon
    # An integer written into the mantissa of 2^52: int64 to float64 is no vector instruction.
    shift = 1100
    number = ((e + (shift << 52)) >> 52) | (0x433 << 52)
    return number.bits() - (2.0**52 + shift)


def _log_1p(kit: Kit, f: V, e: V) -> V:
    """e log 2 + log(1 + f) for f of a reduced argument."""
    square = f * f
    if kit.single:
        even, odd = kit.poly(square, LOG32_EVEN), kit.poly(square, LOG32_ODD)
        r = kit.fma(kit.fma(odd, f, even), f, LOG32_CUBE)
        r = kit.fma(kit.fma(r, f, -0.5), square, f)
        return kit.fma(e, math.log(2), r)
    high, low = LN2["float64"]
    s = f / (f + 2)
    half = square * 0.5
    z = s * s
    r = kit.fma(s, half + z * kit.poly(z, LOG64), e * low)
    return kit.fma(e, high, f - (half - r))


def _limits(kit: Kit, x: V, zero: V, y: V) -> V:
    """y for 0 < x < inf (x counted from `zero`); the limits and NaN elsewhere."""
    y = where(x < math.inf, y, x)
    return where(x > zero, y, where(x.eq(zero), kit.const(-math.inf), math.nan))


def log(kit: Kit, x: V) -> V:
    denormal = x < kit.tiny
    scale = kit.mantissa + 1
    e, m = _split(kit, where(denormal, x * 2.0**scale, x))
    exponent = _exponent(kit, e) + where(denormal, -float(scale), x.const(0.0))
    return _limits(kit, x, kit.const(0.0), _log_1p(kit, m.bits() - 1, exponent))


def log1p(kit: Kit, x: V) -> V:
    e, _ = _split(kit, x + 1)
    quarter = (kit.const(4.0).bits() - e).bits()  # 4 * 2^-e, normal for every e
    f = (x.bits() - e).bits() + kit.fma(quarter, 0.25, -1.0)
    y = _limits(kit, x, kit.const(-1.0), _log_1p(kit, f, _exponent(kit, e)))
    return where(abs(x) < kit.epsilon / 2, x, y)


# -- pow -----------------------------------------------------------------------------------------

Double = tuple[V, V]  # an unevaluated sum

# SLEEF's logk: log(1 + f) = 2 s + s^3 (2/3 + s^2 P(s^2)), s = f / (2 + f), with 2/3 as a Double
LOGK = (
    0.116255524079935043668677,
    0.103239680901072952701192,
    0.117754809412463995466069,
    0.13332981086846273921509,
    0.153846227114512262845736,
    0.181818180850050775676507,
    0.222222222230083560345903,
    0.285714285714249172087875,
    0.400000000000000077715612,
)
TWO_THIRDS = (0.666666666666666629659233, 3.80554962542412056336616e-17)


def two_sum(a: V, b: V) -> Double:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fast_two_sum(a: V, b: V) -> Double:
    """For |a| >= |b|."""
    total = a + b
    return total, b - (total - a)


def two_product(kit: Kit, a: V, b: V) -> Double:
    product = a * b
    if kit.has_fma:
        return product, op("fma", a, b, -product)
    halves = []
    for x in (a, b):  # Dekker's splitting
        big = x * 134217729.0
        high = big - (big - x)
        halves.append((high, x - high))
    (ah, al), (bh, bl) = halves
    return product, ((ah * bh - product) + ah * bl + al * bh) + al * bl


def _multiply(kit: Kit, a: Double, b: Double) -> Double:
    high, low = two_product(kit, a[0], b[0])
    return fast_two_sum(high, low + (a[0] * b[1] + a[1] * b[0]))


def _add(a: Double, b: Double) -> Double:
    high, low = two_sum(a[0], b[0])
    return fast_two_sum(high, low + (a[1] + b[1]))


def _log_double(kit: Kit, x: V) -> Double:
    """log x to about 2^-66, x > 0, float64."""
    denormal = x < kit.tiny
    e, m_bits = _split(kit, where(denormal, x * 2.0**54, x))
    m = m_bits.bits()
    exponent = _exponent(kit, e) + where(denormal, -54.0, x.const(0.0))
    f = m - 1
    below, below_low = two_sum(m, kit.const(1.0))
    inverse = 1.0 / below
    s = f * inverse
    product, error = two_product(kit, s, below)
    low = (((f - product) - error) - s * below_low) * inverse
    s_double = fast_two_sum(s, low)
    z = _multiply(kit, s_double, s_double)
    tail = kit.poly(z[0], LOGK)
    cube = _multiply(kit, z, s_double)
    rest = fast_two_sum(kit.const(TWO_THIRDS[0]), tail * z[0] + TWO_THIRDS[1])
    high, lower = LN2["float64"]
    total = _add((exponent * high, exponent * lower), (s_double[0] * 2, s_double[1] * 2))
    return _add(total, _multiply(kit, cube, rest))


def _is_integer(kit: Kit, size: V) -> V:
    """For size >= 0; all from 2^mantissa on are, infinity too."""
    whole = 2.0**kit.mantissa
    return (size >= whole) | ((size + whole) - whole).eq(size)


def _power(kit: Kit, size: V, y: V) -> V:
    """size ** y for size >= 0, but 0 * inf in the exponent gives NaN."""
    if kit.single:
        wide = Kit("float64", kit.has_fma)
        product = log(wide, size.to("float64")) * y.to("float64")
        return exp(wide, product).to("float32")
    high, low = _log_double(kit, size)
    high = where(size < math.inf, where(size.eq(0), -math.inf, high), size)
    product, error = two_product(kit, high, y)
    rest = kit.fma(low, y, error)
    rest = where(abs(product) < 1000.0, rest, 0.0)  # beyond it is huge, or NaN
    p, s = exp_parts(kit, kit.at_least(kit.at_most(product, 709.8), -745.2), rest)
    return p * s * s


def pow(kit: Kit, x: V, y: V) -> V:
    """As C99 annex F: pow(x, 0) and pow(1, y) are 1 for NaN too."""
    size = abs(x)
    magnitude = where(size.eq(1), 1.0, _power(kit, size, y))
    whole = _is_integer(kit, abs(y))
    odd = whole & ~_is_integer(kit, abs(y) * 0.5)
    negative = x.bits() < 0
    out = where(negative & odd, -magnitude, magnitude)
    out = where((x < 0) & (x > -math.inf) & ~whole, math.nan, out)
    return where(x.eq(1) | y.eq(0), 1.0, out)
