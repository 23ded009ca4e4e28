"""Products of an array with values that are constant along some axes, as normalisations have them.

In: a sum of such a product, a sum with deviations from a mean in it, or the product itself. Out:
the same with those values together, and outside of sums, so that they are computed once per row
instead of once per element. (A *row* here is what such a value is constant along.)

    sum(a (b spread(r)))           r sum(a b)
    sum(y + r (x - mean x))        sum(y)
    ((x spread(g)) c) / spread(s)  x spread(c g / s)

>>> pull_rows(sum_j(a_ij * (b_ij * spread(r)_ij)))    # r_i sum_j(a_ij b_ij)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Sequence

from symgrad.node import Constant, Contract, Expr, Map
from symgrad.rewrite.engine import Run
from symgrad.rewrite.patterns import tag
from symgrad.rewrite.structure import places, view_into

DEEPEST = 8  # products within products looked into

Test = Callable[[Expr], bool]


@dataclass
class Factors:
    """A product (or quotient) without the factors taken out of it, and these."""

    rest: Expr | None
    above: list[Expr] = field(default_factory=list)
    below: list[Expr] = field(default_factory=list)

    @classmethod
    def of(cls, e: Expr, taken: Test, divisor: Test, open_: Test, depth: int = 0) -> Factors:
        """Take out what is `taken` (and below the line also a `divisor`), looking into the products
        that are `open_`; a part from which nothing is taken stays the node it is."""
        if taken(e):
            return cls(None, [e])
        inside = isinstance(e, Map) and e.op in ("mul", "div") and depth < DEEPEST
        if not inside or not open_(e):
            return cls(e)
        a, b = e.args
        first = cls.of(a, taken, divisor, open_, depth + 1)
        if e.attrs[0] == "mul":
            second = cls.of(b, taken, divisor, open_, depth + 1)
        elif taken(b) and divisor(b):
            second = cls(None, [], [b])
        else:
            second = cls(b)
        if first.rest is a and second.rest is b:
            return cls(e)
        rest = first.rest if second.rest is None else second.rest
        if e.attrs[0] == "div" and second.rest is not None:
            rest = quotient([] if first.rest is None else [first.rest], [b], e.dtype)
        elif first.rest is not None and second.rest is not None:
            rest = Map.of("mul", first.rest, second.rest)
        return cls(rest, first.above + second.above, first.below + second.below)


def quotient(above: Sequence[Expr], below: Sequence[Expr], dtype: str) -> Expr:
    """The product of these over the product of those."""
    top, bottom = _product(above), _product(below)
    if top is None:
        top = Constant.of(1, dtype)
    return top if bottom is None else Map.of("div", top, bottom)


def _product(factors: Sequence[Expr]) -> Expr | None:
    result: Expr | None = None
    for f in factors:
        result = f if result is None else Map.of("mul", result, f)
    return result


def _always(e: Expr) -> bool:
    return True


# -- sums ---------------------------------------------------------------------------------------
def pull_rows(n: Expr) -> Expr | None:
    """sum(x * view(r)) -> sum(x) * r where r does not vary along the summed axes; x / r too."""
    assert isinstance(n, Contract)
    product = n.args[0]
    assert isinstance(product, Map)
    if _empty(n):
        return None
    a, b = product.args
    for x, r in ((a, b), (b, a)) if product.op == "mul" else ((a, b),):
        if x.shape and is_row(r, n):
            pair = (_row(r, n), _sum_like(n, x))
            return Map.of(product.op, *(pair if product.op == "mul" and r is a else pair[::-1]))
    return None


def pull_inner_rows(n: Expr, run: Run) -> Expr | None:
    """The same for factors further inside. Only once derivatives are taken and simplified: which
    quotient is a softmax can no longer be seen afterwards. What a matrix product reads stays
    together: it lies in memory, and its parts would have to as well."""
    assert isinstance(n, Contract)
    product = n.args[0]
    if _empty(n):
        return None
    factors = Factors.of(
        product, lambda f: is_row(f, n), _always, lambda f: f not in run.multiplied
    )
    if factors.rest is None or factors.rest is product:
        return None
    above = [_row(f, n) for f in factors.above]
    below = [_row(f, n) for f in factors.below]
    return quotient([*above, _sum_like(n, factors.rest)], below, n.dtype)


def is_row(r: Expr, n: Contract) -> bool:
    """Whether a factor does not vary along the axes that `n` sums."""
    return not r.shape or (tag(r) == "view" and set(places(r)) <= set(n.out))


def _empty(n: Contract) -> bool:
    """A sum of nothing is 0 whatever its factors are, a NaN of an empty mean included."""
    return any(n.extents[k] == 0 for k in n.summed)


def _sum_like(n: Contract, x: Expr) -> Expr:
    return Contract.of(n.ins, n.out, x)


def _row(r: Expr, n: Contract) -> Expr:
    """A view's operand, along the axes that the sum `n` keeps."""
    if not r.shape or not r.args[0].shape:
        return r.args[0] if r.shape else r
    where = {p: i for i, p in enumerate(n.out)}
    return view_into(r.args[0], [where[p] for p in places(r)], n.shape)


def sum_with_deviations(n: Expr, mean_of: Callable[..., bool]) -> Expr | None:
    """A sum of two terms, one of which sums to 0: rows times deviations from the mean."""
    assert isinstance(n, Contract)
    both = n.args[0]
    assert isinstance(both, Map)
    first, second = both.args
    if first.shape and _sums_to_zero(second, n, mean_of):
        return _sum_like(n, first)
    if second.shape and _sums_to_zero(first, n, mean_of):
        rest = _sum_like(n, second)
        return rest if both.op == "add" else Map.of("neg", rest)
    return None


def _sums_to_zero(e: Expr, n: Contract, mean_of: Callable[..., bool]) -> bool:
    left = Factors.of(e, lambda f: is_row(f, n), _always, _always).rest
    if left is None or tag(left) != "sub":
        return False
    a, b = left.args
    return any(tag(t) == "view" and mean_of(t.args[0], x, n, t) for x, t in ((a, b), (b, a)))


# -- products -----------------------------------------------------------------------------------
def rows_together(n: Expr, run: Run, nonzero: Callable[[Expr], bool]) -> Expr | None:
    """Of a product with several values spread alike (and numbers) one value, spread once.

    Divisors take part when they are `nonzero`, never near 0: 1 over them does not overflow.
    """
    if not n.shape:
        return None

    def single(f: Expr) -> bool:
        return bool(f.shape) and (f is n or run.uses.get(f, 1) <= 1)

    everything = Factors.of(n, is_spread, _always, single)
    kinds = {f.attrs for f in everything.above + everything.below if f.shape}
    for spread in sorted(kinds, key=lambda attrs: (len(attrs[0][0]), attrs[0], attrs[1])):
        factors = Factors.of(
            n,
            lambda f, spread=spread: not f.shape or (is_spread(f) and f.attrs == spread),  # type: ignore[misc]
            lambda f: not f.shape or nonzero(f.args[0]),
            single,
        )
        found = factors.above + factors.below
        one = next((f for f in found if f.shape), None)
        if factors.rest is None or one is None or len(found) < 2:
            continue
        above = [f.args[0] if f.shape else f for f in factors.above]
        below = [f.args[0] if f.shape else f for f in factors.below]
        return Map.of("mul", factors.rest, one.with_args([quotient(above, below, n.dtype)]))
    return None


def is_spread(f: Expr) -> bool:
    """A value of fewer axes read along more, or a 0-d one."""
    return not f.shape or (tag(f) == "view" and 0 < f.args[0].ndim < f.ndim)
