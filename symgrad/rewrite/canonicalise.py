# ruff: noqa: E501, B002 - a table: one rule per line
"""Canonicalise: one normal form for what can be written in many ways.

In: any graph. Out: a graph in which equal things are one node more often. The normal form:

    operands of commutative functions   constants, then 0-d, then the lower tree, then by digest
    signs                               a - b, not a + -b; signs outside products; constants positive
    constants                           folded; -c + x, not x - c; c * x, not x / c
    0-d factors                         outside products, and outside sums: c * sum(x * y)
    views                               towards the outputs, and never below a contraction
    sums                                one Contract over all summed axes, axes in order
    index maps                          of what a view spreads, never of the view; one map, not a map of a map
    axes of size 1                      added by a view, taken off by a Reshape where no view has them

Floats are not an algebra: x * 0 is not 0 (infinity, NaN), x - x is not 0, (a + b) - a is not b; no
rule here says so. Products with zeros that derivatives would make are never built by `grad`.
"""

from __future__ import annotations

import math

from symgrad import dtypes
from symgrad.node import Constant, Expr, Map, SizeOf
from symgrad.rewrite import structure as s
from symgrad.rewrite.engine import Rule, Signature, Table
from symgrad.rewrite.indexmaps import normal_reindex
from symgrad.rewrite.patterns import (
    COMMUTATIVE,
    absolute,
    apply,
    const,
    exp,
    logical_not,
    maximum,
    minimum,
    node,
    scalar,
    softplus,
    sqrt,
    square,
    tag,
    total,
    var,
    view,
    where,
)
from symgrad.rewrite.rowfactors import pull_rows

x, y, z = var("x"), var("y"), var("z")
c, d = const("c"), const("d")
u, v = scalar("u"), scalar("v")  # any 0-d operands


# -- side conditions ----------------------------------------------------------------------------
def negative(c: Expr) -> bool:
    return _value(c) < 0


def invertible(c: Expr) -> bool:
    """1/c is finite and normal, so that x * (1/c) is as good as x / c."""
    return dtypes.is_float(c.dtype) and 1e-30 < abs(_value(c)) < 1e30


def is_peak(m: Expr, of: Expr | None = None) -> bool:
    """Whether m, perhaps spread, perhaps without its derivative, is a maximum (of `of`)."""
    if tag(m) == "view":
        m = m.args[0]
    if tag(m) == "stop_gradient":
        m = m.args[0]
    return tag(m) == "max" and (of is None or m.args[0] is of)


def array(x: Expr) -> bool:
    return bool(x.shape)


def moderate(c: Expr, d: Expr) -> bool:
    """The product of two constants neither over- nor underflows."""
    product = abs(_value(c) * _value(d))
    return not dtypes.is_float(c.dtype) or product == 0 or 1e-30 < product < 1e30


def floating(x: Expr) -> bool:
    return dtypes.is_float(x.dtype)


def reciprocal_size(u: Expr) -> bool:
    """A run-time size, or a constant over one: never zero, never huge."""
    return isinstance(u, SizeOf)


def whole(c: Expr) -> bool:
    """A small whole exponent: worth multiplications instead of a power."""
    value = _value(c)
    return value == int(value) and 3 <= abs(value) <= 8 if math.isfinite(value) else False


def power(x: Expr, c: Expr) -> Expr:
    """x to a whole power by squaring; x to -k is 1 over it."""
    n = int(abs(_value(c)))
    result: Expr | None = None
    base = x
    while n:
        if n & 1:
            result = base if result is None else Map.of("mul", result, base)
        n >>= 1
        if n:
            base = Map.of("square", base)
    assert result is not None
    if _value(c) < 0:
        return Map.of("div", Constant.of(1, x.dtype), result)
    return result


def _value(e: Expr) -> float:
    assert isinstance(e, Constant) and e.scalar is not None
    return float(e.scalar)


def _same(signature: Signature) -> bool:
    return all(t == "constant" or t == "array" for t in signature[1:]) and len(signature) > 1


def _has_view(signature: Signature) -> bool:
    return "view" in signature[1:]


def _cast(n: Expr) -> Expr | None:
    """A cast to the same type is nothing; one from a widening cast starts at its operand."""
    (a,) = n.args
    if a.dtype == n.dtype:
        return a
    if isinstance(a, SizeOf):
        return SizeOf.of(a.of_size, n.dtype)  # type: ignore[no-any-return]
    if isinstance(a, Map) and a.op.startswith("to_"):
        start = a.args[0].dtype
        if a.dtype != "bool" and (start, a.dtype) in _LOSSLESS and start != n.dtype:
            return Map.of(n.attrs[0], a.args[0])
        if start == n.dtype and (start, a.dtype) in _LOSSLESS:
            return a.args[0]
    return None


_LOSSLESS = {("bool", t) for t in dtypes.ORDER} | {
    ("int32", "int64"), ("int32", "float64"), ("float32", "float64")
}  # fmt: skip
_CASTS = tuple(f"to_{t}" for t in dtypes.ORDER)
_ODD = ("sin", "tan", "asin", "atan", "sinh", "tanh", "erf", "sign", "asinh", "atanh")
_EVEN = ("abs", "square", "cos", "cosh")

# fmt: off
STRUCTURE = Table("canonicalise", [
    Rule("fold constants", node("n"), lambda n: s.fold(n), only=_same),  # 2 * 3 -> 6
    Rule("one value everywhere", node("n", "array"), lambda n: s.uniform(n)),  # [7, 7] -> spread 7
    Rule("function before broadcast", node("n"), lambda n: s.lift_view(n) if n.shape else None,
         only=_has_view),  # exp(spread x) -> spread(exp x)
    Rule("one contraction", node("n", "contract", "view", "sum"), lambda n: s.normal_contract(n)),  # sum(spread x) -> n x
    Rule("sum of sum", node("n", "sum"), lambda n: s.merge_sums(n),
         only=lambda t: t[1:] == ("sum",)),  # sum_i sum_j x -> sum_ij x
    Rule("sum beside rows", node("n", "sum"), pull_rows,
         only=lambda t: t[1:] in (("mul",), ("div",))),  # sum_j x_ij r_i -> r_i sum_j x_ij
    Rule("sum of negative", total(-x), -total(x)),  # sum(-x) -> -sum(x)
    Rule("one reshape", node("n", "reshape"), lambda n: s.normal_reshape(n)),  # reshape(reshape x) -> reshape x
    Rule("one index map", node("n", "reindex"), normal_reindex),  # x[2:][1:] -> x[3:]
    Rule("one cast", node("n", *_CASTS), _cast),  # float32(float32 x) -> x
])

ORDER = Table("canonicalise", [
    Rule("order of operands", node("n", *sorted(COMMUTATIVE)), lambda n: s.sort_operands(n)),  # x * 2 -> 2 * x
], quiet=True)

ALGEBRA = Table("canonicalise", [
    # identities with 0 and 1
    Rule("add 0", 0 + x, x),  # 0 + x -> x
    Rule("subtract 0", x - 0, x),  # x - 0 -> x
    Rule("0 minus", 0 - x, -x),  # 0 - x -> -x
    Rule("times 1", 1 * x, x),  # 1 * x -> x
    Rule("times -1", -1 * x, -x),  # -1 * x -> -x
    Rule("over 1", x / 1, x),  # x / 1 -> x
    Rule("whole times 0", 0 * x, 0, lambda x: not floating(x)),  # 0 * k -> 0, integers only
    # before factors are taken out of products, so that x x is found
    Rule("product with itself", x * x, square(x)),  # x * x -> square(x)
    # signs
    Rule("two signs", -(-x), x),  # --x -> x
    Rule("sign of difference", -(x - y), y - x),  # -(x - y) -> y - x
    Rule("plus negative", x + -y, x - y),  # x + -y -> x - y
    Rule("minus negative", x - -y, x + y),  # x - -y -> x + y
    Rule("negative minus", -x - y, -(x + y), lambda y: not is_peak(y)),  # -x - y -> -(x + y)
    Rule("times negative", x * -y, -(x * y)),  # x * -y -> -(x * y)
    Rule("negative over", -x / y, -(x / y)),  # -x / y -> -(x / y)
    Rule("over negative", x / -y, -(x / y)),  # x / -y -> -(x / y)
    Rule("plus spread negative", x + view(-y), x - view(y)),  # x + b(-y) -> x - b(y)
    Rule("minus spread negative", x - view(-y), x + view(y)),  # x - b(-y) -> x + b(y)
    Rule("times spread negative", x * view(-y), -(x * view(y))),  # x * b(-y) -> -(x * b(y))
    Rule("spread negative over", view(-x) / y, -(view(x) / y)),  # b(-x) / y -> -(b(x) / y)
    Rule("over spread negative", x / view(-y), -(x / view(y))),  # x / b(-y) -> -(x / b(y))
    Rule("sign into constant", -(c * x), -c * x),  # -(c x) -> (-c) x
    Rule("negative constant over", c / x, -(-c / x), negative),  # (-c) / x -> -(c / x)
    Rule("negative times difference", c * (x - y), -c * (y - x), negative),  # (-c)(x - y) -> c (y - x)
    Rule("sign into difference", -(x * (y - z)), x * (z - y), lambda y: not isinstance(y, Constant)),  # -(x (y - z)) -> x (z - y)
    Rule("times negative constant plus", x * (c + y), -(x * (-c - y)), lambda c, x: negative(c) and not isinstance(x, Constant)),  # x (-c + y) -> -(x (c - y))
    Rule("plus negative multiple", x + c * y, x - (-c) * y, negative),  # x + (-c) y -> x - c y
    Rule("minus negative multiple", x - c * y, x + (-c) * y, negative),  # x - (-c) y -> x + c y
    Rule("negative multiple minus", c * x - y, -(-c * x + y), lambda c, y: negative(c) and not is_peak(y)),  # (-c) x - y -> -(c x + y)
    # constants and 0-d factors
    Rule("minus constant", x - c, -c + x),  # x - c -> -c + x
    Rule("over constant", x / c, (1 / c) * x, lambda c: invertible(c)),  # x / c -> (1/c) x
    Rule("over size", x / u, (1 / u) * x, lambda x, u: reciprocal_size(u) and not isinstance(x, Constant)),  # x / n -> (1/n) x
    Rule("constant over multiple", d / (c * x), (d / c) / x, invertible),  # d / (c x) -> (d/c) / x
    Rule("over multiple", x / (c * y), (1 / c) * (x / y), lambda c, x: invertible(c) and not isinstance(x, Constant)),  # x / (c y) -> (1/c)(x / y)
    Rule("constants of product", c * (d * x), (c * d) * x, moderate), # c (d x) -> (cd) x
    Rule("constant times quotient", c * (d / x), (c * d) / x, moderate),  # c (d / x) -> (cd) / x
    Rule("0-d factors together", u * (v * x), (u * v) * x, lambda x: array(x)),  # u (v x) -> (uv) x
    Rule("0-d constants together", u * (c * x), c * (u * x), lambda u, x: not array(x) and not isinstance(u, Constant)),  # u (c v) -> c (u v)
    Rule("constant into share of size", c * ((d / u) * x), ((c * d) / u) * x),  # c ((d/n) t) -> (cd/n) t
    Rule("0-d factor out of product", (u * x) * y, u * (x * y), lambda x, y: array(x) and array(y)),  # (u x) y -> u (x y)
    Rule("0-d factor out of quotient", (u * x) / y, u * (x / y), lambda x: array(x)),  # (u x) / y -> u (x / y)
    Rule("times reciprocal", x * (1 / y), x / y, lambda x, y: isinstance(x, Constant) if reciprocal_size(y) else array(y) or not array(x)),  # x (1/y) -> x / y
    Rule("times spread reciprocal", x * view(1 / y), x / view(y)),  # x b(1/y) -> x / b(y)
    # powers
    Rule("power 0", x ** 0, 1),  # x ** 0 -> 1
    Rule("power 1", x ** 1, x),  # x ** 1 -> x
    Rule("power 2", x ** 2, square(x)),  # x ** 2 -> square(x)
    Rule("power -1", x ** -1, 1 / x),  # x ** -1 -> 1 / x
    Rule("power -2", x ** -2, 1 / square(x)),  # x ** -2 -> 1 / square(x)
    Rule("power 1/2", x ** 0.5, sqrt(x)),  # x ** 0.5 -> sqrt(x)
    Rule("power -1/2", x ** -0.5, 1 / sqrt(x)),  # x ** -0.5 -> 1 / sqrt(x)
    Rule("whole power", x ** c, power, lambda c: whole(c)),  # x ** 3 -> x square(x)
    Rule("square of magnitude", square(absolute(x)), square(x)),  # |x|**2 -> x**2
    Rule("magnitude of magnitude", absolute(absolute(x)), absolute(x)),  # ||x|| -> |x|
    Rule("magnitude of square", absolute(square(x)), square(x)),  # |x**2| -> x**2
    Rule("magnitude of exp", absolute(exp(x)), exp(x)),  # |exp x| -> exp x
    *[Rule(f"odd {f}", apply(f, -x), -apply(f, x)) for f in _ODD],  # sin(-x) -> -sin(x)
    *[Rule(f"even {f}", apply(f, -x), apply(f, x)) for f in _EVEN],  # cos(-x) -> cos(x)
    *[Rule(f"even {f} of negative multiple", apply(f, c * x), apply(f, -c * x), negative) for f in _EVEN],  # cos(-2 x) -> cos(2 x)
    # spellings of one function
    Rule("log_sigmoid", apply("log_sigmoid", x), -softplus(-x)),  # log_sigmoid(x) -> -softplus(-x)
    Rule("reciprocal", apply("reciprocal", x), 1 / x),  # reciprocal(x) -> 1 / x
    Rule("rsqrt", apply("rsqrt", x), 1 / sqrt(x)),  # rsqrt(x) -> 1 / sqrt(x)
    # choices
    Rule("maximum of one", maximum(x, x), x),  # max(x, x) -> x
    Rule("minimum of one", minimum(x, x), x),  # min(x, x) -> x
    Rule("not not", logical_not(logical_not(x)), x),  # not not p -> p
    Rule("choice of one", where(x, y, y), y),  # where(p, y, y) -> y
    Rule("choice by not", where(logical_not(x), y, z), where(x, z, y)),  # where(not p, y, z) -> where(p, z, y)
    Rule("certain choice", where(True, x, y), x),  # where(true, x, y) -> x
    Rule("certain other choice", where(False, x, y), y),  # where(false, x, y) -> y
    Rule("same choice again", where(x, where(x, y, z), var("w")), where(x, y, var("w"))),  # where(p, where(p, y, z), w) -> where(p, y, w)
    Rule("same choice again, else", where(x, y, where(x, z, var("w"))), where(x, y, var("w"))),
])
# fmt: on

TABLES = (STRUCTURE, ORDER, ALGEBRA)
