"""sin, cos, tan and their inverses; angles are brought below pi/4 by `reduction`."""

from __future__ import annotations

import functools
import math

from codegen import loops
from codegen.vecmath.kit import Kit, V, op, where
from codegen.vecmath.reduction import reduce_angle

# sin r = r + r^3 S(r^2), cos r = 1 - r^2/2 + r^4 C(r^2) for |r| <= pi/4: Cephes sinf.c, cosf.c;
# fdlibm k_sin.c, k_cos.c
SIN = {
    "float32": (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
    "float64": (
        1.58969099521155010221e-10,
        -2.50507602534068634195e-08,
        2.75573137070700676789e-06,
        -1.98412698298579493134e-04,
        8.33333333332248946124e-03,
        -1.66666666666666324348e-01,
    ),
}
COS = {
    "float32": (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
    "float64": (
        -1.13596475577881948265e-11,
        2.08757232129817482790e-09,
        -2.75573143513906633035e-07,
        2.48015872894767294178e-05,
        -1.38888888888741095749e-03,
        4.16666666666666019037e-02,
    ),
}
# tan r = r + r^3 T(r^2) for |r| <= pi/4: Cephes tanf.c
TAN32 = (
    9.38540185543e-3,
    3.11992232697e-3,
    2.44301354525e-2,
    5.34112807005e-2,
    1.33387994085e-1,
    3.33331568548e-1,
)


@functools.lru_cache(maxsize=256)
def _sin_cos(value: loops.Value, has_fma: bool) -> tuple[V, V, V]:
    """sin r, cos r and n: kept, so that the sine and the cosine of one value share them."""
    kit = Kit(value.dtype, has_fma)
    r, n = reduce_angle(kit, V(value))
    z = r * r
    sine = kit.fma(r * z, kit.poly(z, SIN[kit.dtype]), r)
    sine = (sine.bits() | kit.sign_of(r)).bits()  # -0 + 0 is 0
    cosine = kit.poly(z, COS[kit.dtype] + (-0.5, 1.0))
    return sine, cosine, n


def sin(kit: Kit, x: V) -> V:
    sine, cosine, n = _sin_cos(x.value, kit.has_fma)
    return _quadrant(kit, n, cosine, sine)


def cos(kit: Kit, x: V) -> V:
    sine, cosine, n = _sin_cos(x.value, kit.has_fma)
    return _quadrant(kit, n + 1, cosine, sine)


def _quadrant(kit: Kit, n: V, cosine: V, sine: V) -> V:
    y = where((n & 1).ne(0), cosine, sine)
    return (y.bits() ^ ((n & 2) << (30 if kit.single else 62))).bits()


def tan(kit: Kit, x: V) -> V:
    if kit.single:
        r, n = reduce_angle(kit, x)
        z = r * r
        sine, cosine = kit.fma(r * z, kit.poly(z, TAN32), r), kit.const(1.0)
        sine = (sine.bits() | kit.sign_of(r)).bits()
    else:
        sine, cosine, n = _sin_cos(x.value, kit.has_fma)
    odd = (n & 1).ne(0)
    return where(odd, -cosine, sine) / where(odd, sine, cosine)


# -- inverses ------------------------------------------------------------------------------------

# asin x = x + x^3 P(x^2) for |x| <= 1/2: Cephes asinf.c; fdlibm e_asin.c, P = p / q
ASIN32 = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)
ASIN64_P = (
    3.47933107596021167570e-05,
    7.91534994289814532176e-04,
    -4.00555345006794114027e-02,
    2.01212532134862925881e-01,
    -3.25565818622400915405e-01,
    1.66666666666666657415e-01,
)
ASIN64_Q = (
    7.70381505559019352791e-02,
    -6.88283971605453293030e-01,
    2.02094576023350569471e00,
    -2.40339491173441421878e00,
    1.0,
)
# atan x = x + x^3 P(x^2) for |x| <= tan(pi/8): Cephes atanf.c; fdlibm s_atan.c
ATAN = {
    "float32": (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1),
    "float64": (
        -1.62858201153657823623e-02,
        3.65315727442169155270e-02,
        -4.97687799461593236017e-02,
        5.83357013379057348645e-02,
        -6.66107313738753120669e-02,
        7.69187620504482999495e-02,
        -9.09088713343650656196e-02,
        1.11111104054623557880e-01,
        -1.42857142725034663711e-01,
        1.99999999998764832476e-01,
        -3.33333333333329318027e-01,
    ),
}
TAN_PI_8 = 0.4142135623730950
# multiples of pi/4, each as the nearest number and what is left
PI_4 = {
    "float32": (0.7853981852531433, -2.1855695e-08),
    "float64": (0.7853981633974483, 3.061616997868383e-17),
}


def _asin_half(kit: Kit, x: V) -> tuple[V, V]:
    """a and whether it stands for |x| <= 1/2: a = asin |x|, else asin(sqrt((1 - |x|) / 2))."""
    size = abs(x)
    small = size <= 0.5
    z = where(small, size * size, (1.0 - size) * 0.5)
    s = where(small, size, op("sqrt", z))
    if kit.single:
        p = kit.poly(z, ASIN32)
    else:
        p = kit.poly(z, ASIN64_P) / kit.poly(z, ASIN64_Q)
    return kit.fma(s * z, p, s), small


def asin(kit: Kit, x: V) -> V:
    a, small = _asin_half(kit, x)
    high, low = PI_4[kit.dtype]
    y = where(small, a, 2 * high - (a * 2.0 - 2 * low))
    return kit.with_sign(y, kit.sign_of(x))


def acos(kit: Kit, x: V) -> V:
    a, small = _asin_half(kit, x)
    high, low = PI_4[kit.dtype]
    middle = 2 * high - (kit.with_sign(a, kit.sign_of(x)) - 2 * low)
    left = 4 * high - (a * 2.0 - 4 * low)
    return where(small, middle, where(x < 0, left, a * 2.0))


def atan(kit: Kit, x: V) -> V:
    return kit.with_sign(_angle(kit, kit.const(1.0), abs(x), None), kit.sign_of(x))


def atan2(kit: Kit, y: V, x: V) -> V:
    """As C99 annex F: the signs of zeros and two infinities count."""
    a, b = abs(y), abs(x)
    both = a.eq(math.inf) & b.eq(math.inf)
    a, b = where(both, 1.0, a), where(both, 1.0, b)
    # two huge numbers must not overflow when added, two denormal ones not round when multiplied
    longer = op("maximum", a, b)
    scale = where(longer < 2.0 ** (10 - kit.bias), 2.0**kit.mantissa, kit.const(1.0))
    scale = where(longer > 2.0 ** (kit.bias - 1), 0.25, scale)
    angle = _angle(kit, b * scale, a * scale, x.bits() < 0)
    return kit.with_sign(angle, kit.sign_of(y))


def _angle(kit: Kit, b: V, a: V, left: V | None) -> V:
    """The angle of the point (b, a), a and b >= 0; of (-b, a) where `left`.

    It is k pi/4 + s atan z: z = (short - long) / (short + long) if the shorter side is more than
    tan(pi/8) of the longer one, else short / long.
    """
    steep = a > b
    short, long = where(steep, b, a), where(steep, a, b)
    middle = short > long * TAN_PI_8
    over = where(middle, short - long, short)
    under = where(middle, short + long, long)
    z = over / where(under.eq(0), 1.0, under)
    square = z * z
    at = kit.fma(z * square, kit.poly(square, ATAN[kit.dtype]), z)
    high, low = PI_4[kit.dtype]
    k = where(middle, 1.0, where(steep, 2.0, kit.const(0.0)))
    flip = steep
    if left is not None:
        k = where(left, 4.0 - k, k)
        flip = flip ^ left
    return kit.fma(k, high, kit.fma(k, low, where(flip, -at, at)))
