"""Philox numbers as values of the loop grammar.

In: a Random node and the row-major number of an element. Out: its value, a function of
(seed, step, stream, element) alone. The state buffer "rng" holds seed and step (low, high words).

    counter = (element, element >> 32, step, stream)     key = (seed low, seed high)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from codegen.loops import Const, Index, Load, Op, Poly, Value
from symgrad.node import Random

if TYPE_CHECKING:
    from symgrad.schedule.writer import Writer

RNG = "rng"


def draw(writer: Writer, n: Random, element: Poly) -> Value:
    """The value of one element of `n`."""
    rng = writer.touch(RNG, "r")
    low = Op("cast", (Index(element, "int64"),), "int32")
    high = Op(
        "cast",
        (Op("shift_right", (Index(element, "int64"), Const(32, "int64")), "int64"),),
        "int32",
    )
    step, seed_low, seed_high = (Load(rng, Poly.of(i), "int32") for i in (2, 0, 1))
    args = (low, high, step, Const(n.stream, "int32"), seed_low, seed_high)
    first = Op("philox0", args, "int32")
    if n.law == "bits":
        return first
    second = Op("philox1", args, "int32")
    if n.law == "uniform":
        return uniform(first, second, n.dtype)
    u1 = open_uniform(first, n.dtype)
    u2 = uniform(second, first, n.dtype) if n.dtype == "float32" else open_uniform(second, n.dtype)
    kind = n.dtype
    radius = Op("sqrt", (Op("mul", (Const(-2.0, kind), Op("log", (u1,), kind)), kind),), kind)
    angle = Op("cos", (Op("mul", (Const(2 * math.pi, kind), u2), kind),), kind)
    return Op("mul", (radius, angle), kind)


def uniform(first: Value, second: Value, dtype: str) -> Value:
    """In [0, 1): 24 bits of one word, or 53 of two."""
    if dtype == "float32":
        bits = Op("shift_right", (first, Const(8, "int32")), "int32")
        return Op("mul", (Op("cast", (bits,), dtype), Const(2.0**-24, dtype)), dtype)
    wide = Op("shift_left", (_unsigned(first), Const(32, "int64")), "int64")
    word = Op("bit_or", (wide, _unsigned(second)), "int64")
    bits = Op("shift_right", (word, Const(11, "int64")), "int64")
    return Op("mul", (Op("cast", (bits,), dtype), Const(2.0**-53, dtype)), dtype)


def open_uniform(word: Value, dtype: str) -> Value:
    """In (0, 1]: never zero, so that its logarithm is finite."""
    if dtype == "float32":
        return Op("sub", (Const(1.0, dtype), uniform(word, word, dtype)), dtype)
    shifted = Op("add", (Op("cast", (_unsigned(word),), dtype), Const(0.5, dtype)), dtype)
    return Op("mul", (shifted, Const(2.0**-32, dtype)), dtype)


def _unsigned(word: Value) -> Value:
    wide = Op("cast", (word,), "int64")
    return Op("bit_and", (wide, Const(0xFFFFFFFF, "int64")), "int64")
