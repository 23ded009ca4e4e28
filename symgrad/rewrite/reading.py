# ruff: noqa: E501 - a table: one rule per line
"""Rules for reading: equal expressions that a person recognises. They change nothing compiled.

In: an expression. Out: the expression in its simplest form (`symgrad.rewrite`), and then by the
table below as a lecture writes it. Every rule is an identity, proved by `sg.equivalent`.

>>> Reader().read(W - eps * (alpha * W + g))
(1 - eps alpha) W - eps g
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from symgrad.derive.algebra import eye
from symgrad.node import (
    Constant,
    Contract,
    Expr,
    Input,
    Iota,
    Map,
    Reindex,
    Reshape,
    ScatterAdd,
    SizeOf,
    toposort,
)
from symgrad.rewrite.engine import Rewrite, Rule, RuleSet, Run, Table, substitute
from symgrad.rewrite.patterns import const, node, scalar, spread, tag, total, var, view, where
from symgrad.rewrite.quotients import common_denominator, deviation_over_scale
from symgrad.rewrite.simplify import mean_of as _mean_of
from symgrad.rewrite.softmaxes import without_shifts
from symgrad.sizes import Shape

w, x, y, z = (var(name) for name in "wxyz")
c, u, v = const("c"), scalar("u"), scalar("v")


def mean_of(z: Expr, x: Expr, S: Expr, B: Expr | None) -> bool:
    """z is the mean of x over the axes that S sums."""
    return _mean_of(z, x, S, B)


def array(x: Expr) -> bool:
    return x.ndim > 0


def array_node(n: Expr) -> bool:
    return n.ndim > 0


def repeated(e: Expr) -> bool:
    """Repeated along new axes, its own in their order."""
    if tag(e) != "view" or not isinstance(e, Contract):
        return False
    return tuple(k for k in e.out if k in e.ins[0]) == e.ins[0]


# -- the identity matrix ------------------------------------------------------------------------
def is_identity(e: Expr) -> bool:
    """0..n-1 compared with itself along the other axis."""
    if not isinstance(e, Map) or e.op != "equal" or e.ndim != 2 or e.shape[0] != e.shape[1]:
        return False
    if not all(isinstance(a, Contract) and isinstance(a.args[0], Iota) for a in e.args):
        return False
    return {a.ins[0] == a.out[:1] for a in e.args if isinstance(a, Contract)} == {True, False}


def is_eye(e: Expr) -> bool:
    return isinstance(e, Map) and e.op.startswith("to_") and is_identity(e.args[0])


def sum_with_identity(n: Expr) -> Expr | None:
    """sum_j(I_ij v_j) or sum_i(I_ij v_i): the vector itself."""
    product = n.args[0]
    if n.ndim != 1 or not isinstance(product, Map):
        return None
    if product.op != "mul" or product.ndim != 2:
        return None
    for one, other in (product.args, product.args[::-1]):
        if is_eye(one) and repeated(other) and other.args[0].ndim == 1:
            return other.args[0]
    return None


def diagonal(n: Expr) -> Expr | None:
    """The adjoint of a trace: a number on the diagonal, 0 beside it."""
    if not isinstance(n, Reindex) or n.ndim != 2 or n.fill or n.shape[0] != n.shape[1]:
        return None
    value = one_value(n.args[0])
    if value is None or n.args[0].shape != (1,) or n.dtype == "bool":
        return None
    offset, terms, divisor = n.maps[0]
    if offset or divisor != 1 or sorted(terms) not in ([(0, -1), (1, 1)], [(0, 1), (1, -1)]):
        return None
    matrix = eye(n.shape[0], n.dtype)
    return matrix if value is Constant.of(1, n.dtype) else Map.of("mul", value, matrix)


def product_with_identity(n: Expr) -> Expr | None:
    """sum_k(A_ik I_kj) is A_ij: an index of the identity is the other one."""
    if not isinstance(n, Contract) or len(n.args) < 2:
        return None
    for k, (labels, arg) in enumerate(zip(n.ins, n.args)):
        if not is_eye(arg):
            continue
        ins = [list(own) for j, own in enumerate(n.ins) if j != k]
        args = [a for j, a in enumerate(n.args) if j != k]
        for gone, stays in (labels, labels[::-1]):
            if gone in n.out or not any(gone in own for own in ins):
                continue
            if any(gone in own and stays in own for own in ins):
                return None
            new = [[stays if label == gone else label for label in own] for own in ins]
            return Contract.of(new, n.out, *args, sizes=dict(zip(n.out, n.shape)))
    return None


def own_sum(e: Expr, s: Expr) -> bool:
    """s is the sum of all of e, and never 0."""
    return tag(s) == "sum" and s.ndim == 0 and s.args[0] is e and tag(e) == "exp"


def outer_softmax(n: Expr) -> Expr | None:
    """e_i (y_j / sum(e)): the softmax outside."""
    a, b = n.args
    for one, other in ((a, b), (b, a)):
        e, q = one.args[0], other.args[0]
        if tag(q) == "div" and own_sum(e, q.args[1]) and e.ndim == 1:
            share = Map.of("div", e, q.args[1])
            return Map.of("mul", one.with_args([share]), other.with_args([q.args[0]]))
    return None


def diagonal_softmax(x: Expr, y: Expr, z: Expr, B: Expr) -> Expr | None:
    """(I_ij e_j) / sum(e): the diagonal matrix of the softmax."""
    if not is_eye(x) or not own_sum(y, z):
        return None
    return Map.of("mul", x, B.with_args([Map.of("div", y, z)]))


# -- numbers at places --------------------------------------------------------------------------
LONGEST_SUM = 1000  # constants that are added up


def one_value(e: Expr) -> Expr | None:
    """The number that an array repeats."""
    if not e.ndim:
        return e
    if isinstance(e, Constant) and e.scalar is not None:
        return Constant.of(e.scalar, e.dtype)
    if repeated(e) or isinstance(e, Reshape):
        return one_value(e.args[0])
    return None


def scattered(n: Expr) -> Expr | None:
    """A number added at the place of each row's label: that number times a one-hot code."""
    if not isinstance(n, ScatterAdd) or n.axis != n.ndim - 1 or n.axis != n.batch:
        return None
    value, labels, size = one_value(n.args[0]), n.args[1], n.shape[-1]
    if value is None or not isinstance(size, int) or any(s != 1 for s in labels.shape[n.batch :]):
        return None
    return _times_one_hot(value, _squeezed(labels, n.batch), size, n.dtype)


def _squeezed(labels: Expr, rank: int) -> Expr:
    while labels.ndim > rank and (repeated(labels) or isinstance(labels, Reshape)):
        labels = labels.args[0]
    return labels if labels.ndim == rank else Reshape.of(labels, labels.shape[:rank])


def placed(n: Expr) -> Expr | None:
    """A vector that is 0 but at one place: a number times a one-hot code."""
    if not isinstance(n, Reindex) or n.ndim != 1 or n.args[0].shape != (1,) or n.fill:
        return None
    offset, terms, divisor = n.maps[0]
    value = one_value(n.args[0])
    if value is None or divisor != 1 or len(terms) != 1 or abs(terms[0][1]) != 1:
        return None
    place, size = -offset * terms[0][1], n.shape[0]
    if not isinstance(size, int) or not 0 <= place < size:
        return None
    return _times_one_hot(value, Constant.of(place, "int32"), size, n.dtype)


def _times_one_hot(value: Expr, labels: Expr, size: int, dtype: str) -> Expr:
    from symgrad.ops.indexing import one_hot

    code = one_hot(labels, size, dtype=dtype)
    return code if value is Constant.of(1, dtype) else Map.of("mul", value, code)


def known_sum(n: Expr) -> Expr | None:
    """The sum of all of an array of constants, in the decimals that it was written in."""
    values = n.args[0]
    if n.ndim or not isinstance(values, Constant) or values.dtype not in ("float32", "float64"):
        return None
    found = values.value.ravel()
    if found.size > LONGEST_SUM or not np.isfinite(found).all():
        return None
    value = sum((Decimal(str(v)) for v in found), Decimal(0))
    short = len(value.normalize().as_tuple().digits) <= 6
    return Constant.of(float(value), n.dtype) if short else None


# -- choices ------------------------------------------------------------------------------------
def below_zero(n: Expr) -> Expr | None:
    """{y if x > 0, else f(min(0, x))}: where x is not positive, min(0, x) is x."""
    condition, chosen, other = n.args
    if not isinstance(condition, Map) or condition.op != "greater":
        return None
    bound = condition.args[1]
    if not isinstance(one_value(bound), Constant) or one_value(bound).scalar != 0:  # type: ignore
        return None
    low = _minimum_of(other, condition.args[0])
    if low is None:
        return None
    return n.with_args([condition, chosen, substitute([other], {low: condition.args[0]})[0]])


def _minimum_of(e: Expr, x: Expr, depth: int = 4) -> Expr | None:
    """min(0, x) in a small expression."""
    if isinstance(e, Map) and e.op == "minimum" and any(a is x for a in e.args):
        rest = [a for a in e.args if a is not x]
        zero = one_value(rest[0]) if rest else None
        return e if isinstance(zero, Constant) and zero.scalar == 0 else None
    if isinstance(e, Map) and depth:
        return next((m for a in e.args if (m := _minimum_of(a, x, depth - 1)) is not None), None)
    return None


def known_choice(n: Expr) -> Expr | None:
    """{f({y if c, else z}) if c, else w}: the inner choice is made."""
    condition, chosen, other = n.args
    inner = _choice_by(chosen, condition)
    if inner is None:
        return None
    return n.with_args([condition, substitute([chosen], {inner: inner.args[1]})[0], other])


def _choice_by(e: Expr, condition: Expr, depth: int = 4) -> Expr | None:
    if isinstance(e, Map) and e.op == "where" and e.args[0] is condition:
        return e
    if isinstance(e, Map) and depth:
        found = (_choice_by(a, condition, depth - 1) for a in e.args)
        return next((c for c in found if c is not None), None)
    return None


def off_origin(x: Expr, y: Expr, z: Expr) -> bool:
    """x > 0 for a sum of squares x, and z is 0."""
    zero = one_value(z)
    if not isinstance(zero, Constant) or zero.scalar != 0 or tag(x) != "greater":
        return False
    bound = one_value(x.args[1])
    squares = x.args[0]
    positive = tag(squares) == "sum" and tag(squares.args[0]) == "square"
    return positive and isinstance(bound, Constant) and bound.scalar == 0


# -- norms --------------------------------------------------------------------------------------
LARGEST_PROOF = 400  # nodes of an expression in which scales are tried


def unscaled(e: Expr) -> Expr:
    """A norm is computed of x / r, times r, so that no square overflows; read with r = 1.

    That the value does not depend on r is proved, for each expression anew.
    """
    order = toposort([e])
    scales = [n for n in order if is_scale(n)]
    if not scales or len(order) > LARGEST_PROOF:
        return e
    from symgrad.equivalent import equivalent

    free = {n: Input(f"scale{i}", n.shape, n.dtype) for i, n in enumerate(scales)}
    (general,) = substitute([e], {n: Map.of("exp", r) for n, r in free.items()})
    ones = {n: respread(Constant.of(1, n.dtype), n.shape) for n in scales}
    (plain,) = substitute([e], ones)
    return plain if equivalent(general, plain) else e


def respread(number: Expr, shape: Shape) -> Expr:
    if not shape:
        return number
    return Contract.of([[]], range(len(shape)), number, sizes=dict(enumerate(shape)))


def is_scale(n: Expr) -> bool:
    """stop_gradient({top if 0 < top and top < inf, else 1}) with the largest magnitude top."""
    choice = n.args[0] if tag(n) == "stop_gradient" else n
    if tag(choice) != "where" or tag(choice.args[0]) != "logical_and":
        return False
    return tag(choice.args[1]) == "max" and tag(choice.args[1].args[0]) == "abs"


def share_of_size(u: Expr) -> bool:
    return isinstance(u, SizeOf) or (isinstance(u, Map) and any(map(share_of_size, u.args)))


# fmt: off
TABLE = Table("reading", [
    Rule("decay", x - u * (v * x + y), (1 - u * v) * x - u * y, array),  # w - e (a w + g) -> (1 - e a) w - e g
    Rule("decay, apart", x - (u * x + y), (1 - u) * x - y, array),  # w - (a w + g) -> (1 - a) w - g
    Rule("times reciprocal of a number", (1 / u) * x, x / u, lambda x, u: array(x) and not share_of_size(u)),  # (1/s) x -> x / s
    Rule("multiple and once more", x + c * x, (c + 1) * x),  # x + 2 x -> 3 x
    Rule("sum of deviations, turned", total(spread(z) - x), 0, mean_of,
         exact=False, why="zero up to rounding"),  # sum(mean x - x) -> 0
    Rule("diagonal of a number", node("n", "reindex"), diagonal),  # trace's adjoint -> c I
    Rule("product with the identity", node("n", "contract"), product_with_identity),  # A I -> A
    Rule("sum with the identity", node("n", "sum"), sum_with_identity),  # sum_j(I_ij v_j) -> v
    Rule("diagonal softmax", (x * view(y)) / z, diagonal_softmax, lambda z: not z.ndim),  # (I b(e)) / s -> I b(e / s)
    Rule("outer softmax", node("n", "mul"), outer_softmax, lambda n: all(map(repeated, n.args))),  # b(e) b(y / s) -> b(e / s) b(y)
    Rule("sum of constants", node("n", "sum"), known_sum, only=lambda t: t[1:] == ("array",)),  # sum [0.5, 0.5] -> 1
    Rule("number at a label", node("n", "scatter"), scattered),  # scatter(c, y) -> c onehot(y)
    Rule("number at a place", node("n", "reindex"), placed),  # pad(c) -> c onehot(2)
    Rule("known choice", node("n", "where"), known_choice),  # {f({y if c, else z}) if c, else w} -> {f(y) if c, else w}
    Rule("slope of a norm", where(x, y, z), y, off_origin,
         exact=False, why="at the origin, where a norm has no derivative, 0 is taken"),  # {y if sum x^2 > 0, else 0} -> y
    Rule("choice of a sign", node("n", "where"), below_zero),  # {y if x > 0, else f(min(0, x))} -> {y if x > 0, else f(x)}
])

# Opposite to what simplification does, so applied behind it.
OPEN = Table("reading", [
    Rule("deviation over its scale", node("n", "mul"), deviation_over_scale, array_node),  # (x - m) (c / s) -> ((x - m) / s) c
    Rule("one denominator", node("n", "add", "sub"), common_denominator),  # a / s + b (c / s) -> (a + b c) / s
    Rule("open at the identity", x * (y - z), x * y - x * z, lambda y: is_eye(y)),  # x (I - y) -> x I - x y
])
# fmt: on


@functools.cache
def _reading() -> RuleSet:
    from symgrad.rewrite import SIMPLIFY, rules

    return RuleSet([TABLE, *rules(SIMPLIFY).tables])


_OPEN = RuleSet([OPEN])


class Reader:
    """Simplifies and reads expressions, parts they share once; `log` says what was done."""

    def __init__(self) -> None:
        from symgrad.rewrite import SIMPLIFY, rules

        self.simplify = Run(rules(SIMPLIFY), rules(SIMPLIFY))
        self.reading = Run(_reading(), _reading())
        self.opening = Run(_OPEN, _OPEN)

    def read(self, e: Expr) -> Expr:
        e = self.reading.rewrite(self.simplify.rewrite(e))
        for further in (unscaled, self._without_shifts):
            plain = further(e)
            if plain is not e:
                e = self.reading.rewrite(plain)
        return self.opening.rewrite(e)

    def _without_shifts(self, e: Expr) -> Expr:
        return without_shifts(e, self.reading.rewrite)

    @property
    def runs(self) -> tuple[Run, ...]:
        return self.simplify, self.reading, self.opening

    @property
    def log(self) -> list[Rewrite]:
        return self.since(())

    def mark(self) -> tuple[int, ...]:
        """Where the log is now, for `since`."""
        return tuple(len(r.log) for r in self.runs)

    def since(self, mark: Sequence[int]) -> list[Rewrite]:
        """What was done after a mark."""
        starts = mark or (0,) * len(self.runs)
        return [line for run, start in zip(self.runs, starts) for line in run.log[start:]]
