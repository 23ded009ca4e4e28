"""Angles below pi/4: x = n pi/2 + r, for every x of the type, in float64.

Up to LIMIT by Cody and Waite: with FMA, x - n HIGH is exact, and two more parts of pi/2 leave r a
relative error below one ULP however near x is to a multiple of pi/2; without FMA the parts are
short enough for exact products. Beyond, by Payne and Hanek: x times those bits of 2/pi that count.
"""

from __future__ import annotations

import math

from codegen.vecmath.kit import Kit, V, where
from codegen.vecmath.logarithm import fast_two_sum, two_product, two_sum

# pi/2 in parts of 53 bits (the second rounded down, so that all are positive and -0 stays -0),
# and of 33 bits (fdlibm e_rem_pio2.c)
HALF_PI_FMA = (1.5707963267948966, 6.123233995736765e-17, 1.082856673921914e-32)
HALF_PI = (
    1.57079632673412561417e00,
    6.07710050630396597660e-11,
    2.02226624871116645580e-21,
    8.47842766036889956997e-32,
)
LIMIT_FMA, LIMIT = 2.0**40, 2.0**20

# 2/pi = sum of CHUNKS[j] 2^(-48 j), j from -1: the first chunk is 0, so that q = -1 serves too
WIDTH = 48
TWO_OVER_PI = (
    0x000000000000,
    0xA2F9836E4E44,
    0x1529FC2757D1,
    0xF534DDC0DB62,
    0x95993C439041,
    0xFE5163ABDEBB,
    0xC561B7246E3A,
    0x424DD2E00649,
    0x2EEA09D1921C,
    0xFE1DEB1CB129,
    0xA73EE88235F5,
    0x2EBB4484E99C,
    0x7026B45F7E41,
    0x3991D6398353,
    0x39F49C845F8B,
    0xBDF9283B1FF8,
    0x97FFDE05980F,
    0xEF2F118B5A0A,
    0x6D1F6D367ECF,
    0x27CB09B74F46,
    0x3F669E5FEA2D,
    0x7527BAC7EBE5,
    0xF17B3D0739F7,
    0x8A5292EA6BFB,
    0x5FB11F8D5D08,
    0x56033046FC7B,
    0x6BABF0CFBC20,
)
CHUNKS = tuple(word / 2.0**WIDTH for word in TWO_OVER_PI)


def reduce_angle(kit: Kit, x: V) -> tuple[V, V]:
    """r, and integers whose last two bits are n mod 4, both as wide as x."""
    wide = Kit("float64", kit.has_fma)
    angle = x.to("float64")
    n, bits = wide.nearest_product(angle, 2 / math.pi)
    r = angle
    for part in HALF_PI_FMA if kit.has_fma else HALF_PI:
        r = wide.fma(n, -part, r)
    size = abs(angle)
    large = (size >= (LIMIT_FMA if kit.has_fma else LIMIT)) & (size < math.inf)
    far, turns = _payne_hanek(wide, size, kit.single)
    sign = wide.sign_of(angle)
    far = (far.bits() ^ sign).bits()
    turns = where(sign < 0, 0 - turns, turns)
    return where(large, far, r).to(kit.dtype), where(large, turns, bits).to(kit.int)


def _payne_hanek(kit: Kit, x: V, single: bool) -> tuple[V, V]:
    """r and n for finite x >= 2^20.

    Scaled by 2^(-48 q), x lies in [2^54, 2^102): there the chunks before q only add multiples of 4
    to x 2/pi, and what follows five chunks (four serve a float32) is below 2^-138 (2^-90).
    """
    count = 4 if single else 5
    exponent = ((x.bits() >> kit.mantissa) | kit.const(2.0**52).bits()).bits() - 2.0**52
    # q + 1 = floor((e - 6) / 48), the exponent e being biased
    offset = kit.bias + 6 + (WIDTH - 1) / 2
    _, place = kit.nearest((exponent - offset) * (1 / WIDTH))
    shift = ((place - 1) << 56) + ((place - 1) << 57)  # 48 q in the exponent's place
    scaled = (x.bits() - shift).bits()
    places = 3 if single else 22
    words = [kit.const(c) for c in CHUNKS[: places + count - 1]]
    for bit in reversed(range((places - 1).bit_length())):
        far = 1 << bit
        here = (place & far).ne(0)
        wanted = count + far - 1
        words = [
            where(here, words[i + far], words[i]) if i + far < len(words) else words[i]
            for i in range(min(wanted, len(words)))
        ]
    return _sum_turns(kit, scaled, words)


def _mod4(kit: Kit, x: V) -> V:
    """x mod 4 in [-2, 4], for x > -2^53."""
    magic = 1.5 * 2.0**54
    rest = x - ((x + magic) - magic)
    return where(x >= 2.0**54, 0.0, rest)  # a multiple of 4


def _sum_turns(kit: Kit, x: V, words: list[V]) -> tuple[V, V]:
    """x times the sum of the words, as n + fraction; r = fraction pi/2."""
    products = []
    for i, word in enumerate(words):
        high, low = two_product(kit, x, word)
        if i == 0:
            high, low = _mod4(kit, high), _mod4(kit, low)
        weight = 2.0 ** (-WIDTH * i)
        high, low = high * weight, low * weight
        products.append((_mod4(kit, high) if i == 1 else high, low))
    total = products[0][0] + products[0][1]  # exact: multiples of 2^-46
    rests: list[V] = []
    for i, (high, low) in enumerate(products[1:]):
        total, rest = two_sum(total, high)
        rests.append(rest)
        if i == 0:  # up to 2, where high is near 2^54
            total, low = two_sum(total, low)
        rests.append(low)
    n, bits = kit.nearest(total)
    fraction, low = two_sum(total - n, rests[0])
    for rest in rests[1:]:
        fraction, error = two_sum(fraction, rest)
        low = low + error
    fraction, low = fast_two_sum(fraction, low)
    high, error = two_product(kit, fraction, kit.const(HALF_PI_FMA[0]))
    return high + (error + fraction * HALF_PI_FMA[1] + low * HALF_PI_FMA[0]), bits
