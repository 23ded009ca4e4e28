"""Ranges of integers: every value that occurs lies inside, and ends are met where that is said."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from nests import P, op

from codegen.functions import evaluate
from codegen.loops import Const, Get, Index, Load, Op, Value
from codegen.ranges import ANY, poly_range, value_range

RANGES = {"a": (-3, 4), "b": (0, 5), "n": (7, 7)}
INTS = ("add", "sub", "mul", "minimum", "maximum", "floor_divide", "mod", "div_int")
TRUTHS = ("less", "less_equal", "greater", "greater_equal", "equal")


def integer(chance: random.Random, depth: int) -> Value:
    if depth == 0 or chance.random() < 0.2:
        leaf = chance.randrange(3)
        if leaf == 0:
            return Const(chance.randrange(-4, 9), "int64")
        if leaf == 1:
            return Index(P("a") * chance.randrange(-3, 4) + P("b") * 2 - 1, "int64")
        return Get(chance.choice(list(RANGES)), "int64")
    if chance.random() < 0.15:
        parts = truth(chance, depth - 1), integer(chance, depth - 1), integer(chance, depth - 1)
        return op("where", *parts, dtype="int64")
    fn = chance.choice(INTS)
    divides = fn in ("floor_divide", "mod", "div_int")
    right = Const(chance.randrange(1, 7), "int64") if divides else integer(chance, depth - 1)
    return op(fn, integer(chance, depth - 1), right, dtype="int64")


def truth(chance: random.Random, depth: int) -> Value:
    sides = integer(chance, depth), integer(chance, depth)
    compared = op(chance.choice(TRUTHS), *sides, dtype="bool")
    if chance.random() < 0.3:
        return op(chance.choice(("logical_and", "logical_or")), compared, compared, dtype="bool")
    return op("logical_not", compared, dtype="bool") if chance.random() < 0.2 else compared


def compute(v: Value, names: dict[str, int]) -> int:
    if isinstance(v, Const):
        return int(v.number)
    if isinstance(v, Index):
        return v.poly.value(names)
    if isinstance(v, Get):
        return names[v.name]
    assert isinstance(v, Op)
    args = [np.array(compute(a, names), a.dtype) for a in v.args]
    return int(evaluate(v.fn, args, v.dtype))


@pytest.mark.parametrize("seed", range(60))
def test_all_values_lie_inside(seed: int) -> None:
    value = integer(random.Random(seed), 3)
    low, high = value_range(value, RANGES)
    assert low <= high and math.isfinite(high - low)
    for point in itertools.product(*(range(a, b + 1) for a, b in RANGES.values())):
        assert low <= compute(value, dict(zip(RANGES, point))) <= high


def test_what_is_met() -> None:
    a, n = Get("a", "int64"), Get("n", "int64")
    assert poly_range(P("n") - P("b") * 2, RANGES) == (-3, 7)
    assert value_range(op("maximum", a, Const(0, "int64"), dtype="int64"), RANGES) == (0, 4)
    assert value_range(op("mod", n, Const(4, "int64"), dtype="int64"), RANGES) == (3, 3)
    assert value_range(op("less", a, n, dtype="bool"), RANGES) == (1, 1)
    assert value_range(op("equal", a, n, dtype="bool"), RANGES) == (0, 0)


def test_what_is_loaded_may_be_anything() -> None:
    loaded = Load("x", P("a"), "int64")
    assert value_range(loaded, RANGES) == ANY
    assert value_range(op("minimum", loaded, Get("n", "int64"), dtype="int64"), RANGES)[1] == 7
    assert value_range(Load("m", P("a"), "bool"), RANGES) == (0, 1)
    assert poly_range(P("unknown") * P("b"), RANGES) == (-math.inf, math.inf)
