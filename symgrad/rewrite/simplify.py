# ruff: noqa: E501, B002 - a table: one rule per line
"""Simplify: algebra that shrinks derivative graphs, so that softmax with cross-entropy ends at p - y.

In: stable graphs, usually a gradient. Out: fewer operations on the same numbers. Only steps that
are at least as accurate as what they replace: common factors, quotients of quantities that are
positive by construction, sums that are known (of a softmax, of a one-hot row, of deviations from
a mean).

FINISH holds what is only right once all derivatives are taken: `stop_gradient` and `Custom` are
their values, and forms that lose a branch's derivative but are more accurate.
"""

from __future__ import annotations

import numpy as np

from symgrad.node import Constant, Custom, Expr, Map, Parameter, SizeOf
from symgrad.rewrite.canonicalise import array
from symgrad.rewrite.engine import Rule, Table
from symgrad.rewrite.patterns import (
    absolute,
    apply,
    const,
    exp,
    log1p,
    maximum,
    node,
    scalar,
    softplus,
    spread,
    stop_gradient,
    tag,
    total,
    var,
    where,
)
from symgrad.rewrite.rowfactors import sum_with_deviations
from symgrad.rewrite.stabilise import classes_along, is_class_index, mean_factor
from symgrad.rewrite.structure import aligned

x, y, z, g, p, t = (var(name) for name in "xyzgpt")
u, c = scalar("u"), const("c")


# -- side conditions ----------------------------------------------------------------------------
def is_probability(p: Expr) -> bool:
    """Positive by construction (where it underflows, a quotient by it was NaN)."""
    if tag(p) in ("exp", "sigmoid"):
        return True
    if tag(p) == "sum":
        return tag(p.args[0]) == "exp"
    return tag(p) == "div" and tag(p.args[0]) == "exp"


def same_shape(x: Expr, y: Expr) -> bool:
    return x.shape == y.shape


def mean_of(t: Expr, x: Expr, S: Expr, B: Expr | None) -> bool:
    """t is the mean of x over the axes that S sums, spread back."""
    return (
        aligned(S, B)
        and isinstance(t, Map)
        and t.op == "mul"
        and tag(t.args[1]) == "sum"
        and t.args[1].args[0] is x
        and t.args[1].attrs[1] == S.attrs[1]
        and mean_factor(t.args[0], S)
    )


def is_number(u: Expr) -> bool:
    """Finite whatever the inputs: a constant, a size, or a quotient or product of these."""
    if isinstance(u, Constant):
        return bool(np.isfinite(u.value).all())
    if isinstance(u, Map):
        return u.op in ("neg", "mul", "div") and all(map(is_number, u.args))
    return isinstance(u, SizeOf)


def choice_times(p: Expr, u: Expr) -> Expr:
    """A number where p holds, as a product with a one-hot array."""
    return Map.of("mul", u, Map.of(f"to_{u.dtype}", p))


# fmt: off
TABLE = Table("simplify", [
    # common factors
    Rule("twice", x + x, 2 * x),  # x + x -> 2 x
    Rule("common factor of sum", x * y + x * z, x * (y + z)),  # x y + x z -> x (y + z)
    Rule("common factor of difference", x * y - x * z, x * (y - z)),  # x y - x z -> x (y - z)
    Rule("common denominator of sum", x / z + y / z, (x + y) / z, lambda x, y: same_shape(x, y)),  # x/z + y/z -> (x + y)/z
    Rule("common denominator of difference", x / z - y / z, (x - y) / z, lambda x, y: same_shape(x, y)),  # x/z - y/z -> (x - y)/z
    Rule("spread denominator of sum", x / spread(y) + spread(z / y), (x + spread(z)) / spread(y),
         lambda x: array(x)),  # x/b(s) + b(t/s) -> (x + b(t))/b(s)
    Rule("spread denominator of difference", x / spread(y) - spread(z / y), (x - spread(z)) / spread(y),
         lambda x: array(x)),  # x/b(s) - b(t/s) -> (x - b(t))/b(s)
    Rule("spread denominator of difference, turned", spread(z / y) - x / spread(y), (spread(z) - x) / spread(y),
         lambda x: array(x)),  # b(t/s) - x/b(s) -> (b(t) - x)/b(s)
    # a softmax appears
    Rule("exp times quotient", exp(x) * spread(g / total(exp(x))), spread(g) * (exp(x) / spread(total(exp(x)))), aligned),  # e b(g/s) -> b(g) (e/b(s)), s = sum(e)
    Rule("exp in a quotient", exp(x) * (y / spread(total(exp(x)))), y * (exp(x) / spread(total(exp(x)))), aligned),  # e (y/b(s)) -> y (e/b(s))
    Rule("product over a sum", (exp(x) * y) / spread(total(exp(x))), y * (exp(x) / spread(total(exp(x)))), aligned),  # (e y)/b(s) -> y (e/b(s))
    # quotients by positive quantities
    Rule("times quotient by itself", p * (x / p), x, lambda p: is_probability(p),
         exact=False, why="an underflowed p made this NaN"),  # p (x/p) -> x
    Rule("product over itself", (p * x) / p, x, lambda p: is_probability(p),
         exact=False, why="an underflowed p made this NaN"),  # (p x)/p -> x
    Rule("one of itself", p / p, 1, lambda p: is_probability(p),
         exact=False, why="an underflowed p made this NaN"),  # p/p -> 1
    Rule("times sum of quotients", p * (x + y / p), p * x + y, lambda p: is_probability(p),
         exact=False, why="an underflowed p made this NaN"),  # p (x + y/p) -> p x + y
    Rule("times difference of quotients", p * (y / p - x), y - p * x, lambda p: is_probability(p),
         exact=False, why="an underflowed p made this NaN"),  # p (y/p - x) -> y - p x
    Rule("exp back and forth in product", exp(x) * (exp(-x) * y), y),  # exp x (exp -x y) -> y
    # sums that are known
    Rule("sum of one-hot", total(p), 1, lambda p, S: classes_along(p, S),
         exact=False, why="holds for labels among the classes, which calls check"),  # sum(one_hot y) -> 1
    Rule("sum of deviations", total(x - spread(t)), 0, mean_of,
         exact=False, why="zero up to rounding"),  # sum(x - mean x) -> 0
    Rule("sum with deviations", node("n", "sum"), lambda n: sum_with_deviations(n, mean_of), only=lambda t: t[1:] in (("add",), ("sub",)),
         exact=False, why="zero up to rounding"),  # sum(y + r (x - mean x)) -> sum(y)
    Rule("size times 0", 0 * u, 0, lambda u: isinstance(u, SizeOf)),  # 0 * n -> 0
    Rule("0 over size", 0 / u, 0, lambda u: isinstance(u, SizeOf)),  # 0 / n -> 0
    # choices of classes
    Rule("choice of a number", where(p, u, 0), choice_times, lambda p, u: tag(p) == "equal" and is_class_index(p) and is_number(u)),  # where(chosen, c, 0) -> c onehot
])

FINISH = Table("finish", [
    Rule("gradient taken", stop_gradient(x), x),  # stop_gradient(x) -> x
    Rule("weight decay", p - spread(u) * (c * p + g), spread(1 - c * u) * p - spread(u) * g, lambda p: isinstance(p, Parameter)),  # W - r (c W + g) -> (1 - c r) W - r g
    Rule("derivative taken", node("n", "custom"), lambda n: n.args[0] if isinstance(n, Custom) else None),  # custom(v, ...) -> v
    Rule("relu", maximum(0, x), apply("relu", x)),  # max(0, x) -> relu(x)
    Rule("binary cross-entropy, accurate", softplus(x) - x * y,
         log1p(exp(-absolute(x))) + (apply("relu", x) - x * y)),  # softplus(x) - x y -> (relu x - x y) + log1p(exp -|x|)
])
# fmt: on
