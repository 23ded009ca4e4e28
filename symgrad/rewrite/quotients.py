"""Quotients for reading: one denominator under a sum, a deviation over its own scale.

In: a sum whose terms are all divided by the same value (a standard deviation, say), or a product of
a difference with a quotient. Out: the same with one division, in the form of the textbook.

    a / s + b (c / s)              (a + b c) / s
    y / n - (1 / n) x              (y - x) / n
    (x - m) (c / s)                ((x - m) / s) c

>>> common_denominator(d / spread(s) - x * spread(c / s))      # (d - x spread(c)) / spread(s)
"""

from __future__ import annotations

from dataclasses import dataclass

from symgrad.node import Constant, Contract, Expr, Map
from symgrad.rewrite.patterns import tag

DEEPEST = 6


@dataclass(frozen=True)
class Denominator:
    """A value something is divided by, and which axes of the whole it has."""

    value: Expr
    kept: tuple[int, ...]

    def spread(self, like: Expr) -> Expr:
        if self.value.ndim in (0, like.ndim):
            return self.value
        sizes = dict(enumerate(like.shape))
        return Contract.of([self.kept], range(like.ndim), self.value, sizes=sizes)

    def same(self, other: Denominator) -> bool:
        return self.value is other.value and self.kept == other.kept


def _inner(e: Expr, axes: tuple[int, ...]) -> tuple[Expr, tuple[int, ...]]:
    """What is repeated, and the axes of the whole that it has."""
    if tag(e) == "view" and isinstance(e, Contract):
        return e.args[0], tuple(axes[e.out.index(k)] for k in e.ins[0])
    return e, axes if e.ndim else ()


def denominators(e: Expr, axes: tuple[int, ...], depth: int = DEEPEST) -> list[Denominator]:
    """What a term is divided by, once for each division."""
    if tag(e) == "view":
        inner, own = _inner(e, axes)
        return denominators(inner, own, depth)
    if not isinstance(e, Map) or not depth:
        return []
    if e.op == "neg":
        return denominators(e.args[0], axes, depth - 1)
    if e.op == "mul":
        a, b = (denominators(x, axes if x.ndim else (), depth - 1) for x in e.args)
        return a + b
    if e.op == "div" and not _is_softmax(e):
        top, bottom = e.args
        value, own = _inner(bottom, axes)
        found = denominators(top, axes if top.ndim else (), depth - 1)
        return found + ([] if tag(value) == "constant" else [Denominator(value, own)])
    return []


def _is_softmax(e: Map) -> bool:
    """Exponentials over their own sum are one value."""
    top, (bottom, _) = e.args[0], _inner(e.args[1], tuple(range(e.ndim)))
    return tag(top) == "exp" and tag(bottom) == "sum" and bottom.args[0] is top


def without(e: Expr, of: Denominator, axes: tuple[int, ...]) -> Expr | None:
    """A term with one division by `of` left out."""
    if tag(e) == "view":
        inner, own = _inner(e, axes)
        less = without(inner, of, own)
        return None if less is None else _like_view(e, less)
    if not isinstance(e, Map):
        return None
    if e.op == "neg":
        less = without(e.args[0], of, axes)
        return None if less is None else Map.of("neg", less)
    if e.op == "mul":
        for k, x in enumerate(e.args):
            less = without(x, of, axes if x.ndim else ())
            if less is not None:
                other = e.args[1 - k]
                if isinstance(less, Constant) and less.scalar == 1 and other.ndim == e.ndim:
                    return other
                return Map.of("mul", *(less if j == k else y for j, y in enumerate(e.args)))
    if e.op == "div" and not _is_softmax(e):
        top, bottom = e.args
        value, own = _inner(bottom, axes)
        if of.same(Denominator(value, own)):
            return _filled(top, e)
        less = without(top, of, axes if top.ndim else ())
        return None if less is None else _filled(Map.of("div", less, bottom), e)
    return None


def _like_view(e: Expr, inner: Expr) -> Expr:
    assert isinstance(e, Contract)
    if inner.ndim != e.args[0].ndim:
        inner = _filled(inner, e.args[0])
    return e.with_args([inner])


def _filled(e: Expr, like: Expr) -> Expr:
    """A number as large as what it replaces."""
    if e.ndim or not like.ndim:
        return e
    return Contract.of([[]], range(like.ndim), e, sizes=dict(enumerate(like.shape)))


def terms(e: Expr, negative: bool = False) -> list[tuple[bool, Expr]]:
    """The terms of a sum with their signs; a sum that is repeated is repeated terms."""
    found, stack = [], [(negative, e)]
    while stack:
        sign, x = stack.pop()
        inner = x.args[0] if tag(x) == "view" else x
        if isinstance(inner, Map) and inner.op in ("add", "sub") and not _is_logsumexp(inner):
            a, b = inner.args if inner is x else [_like_view(x, e) for e in inner.args]
            stack.append((sign != (inner.op == "sub"), b))
            stack.append((sign, a))
        else:
            found.append((sign, x))
    return found


def _is_logsumexp(e: Map) -> bool:
    """m + log(sum(exp)), or a value minus log(sum(exp)): the logarithm of a softmax."""
    for x in e.args:
        of = x.args[0] if tag(x) == "view" else x
        if tag(of) == "log":
            inner = of.args[0].args[0] if tag(of.args[0]) == "view" else of.args[0]
            if tag(inner) == "sum" and tag(inner.args[0]) == "exp":
                return True
    return False


def common_denominator(n: Expr) -> Expr | None:
    """a / s + b (c / s) -> (a + b c) / s, where all terms have it."""
    parts = terms(n)
    axes = tuple(range(n.ndim))
    if not n.ndim or len(parts) < 2:
        return None
    found = denominators(parts[0][1], axes if parts[0][1].ndim else ())
    for of in sorted(found, key=lambda d: tag(d.value) == "size"):  # shares of a size are outermost
        rest = [(sign, without(e, of, axes if e.ndim else ())) for sign, e in parts]
        given = [(negative, _filled(e, n)) for negative, e in rest if e is not None]
        if len(given) < len(parts):
            continue
        signed = [(sign, _filled(t, n)) for negative, e in given for sign, t in terms(e, negative)]
        kept = _cancelled(signed)
        result = Map.of("neg", kept[0][1]) if kept[0][0] else kept[0][1]
        for negative, e in kept[1:]:
            result = Map.of("sub" if negative else "add", result, e)
        return Map.of("div", result, of.spread(n))
    return None


def _repeated(e: Expr) -> Expr:
    """The number that an array repeats; the array itself otherwise."""
    inner = e
    while tag(inner) == "view":
        inner = inner.args[0]
    return e if inner.ndim else inner


def _cancelled(parts: list[tuple[bool, Expr]]) -> list[tuple[bool, Expr]]:
    """The terms without those that another one takes away, the first of them with a plus."""
    kept: list[tuple[bool, Expr]] = []
    for negative, e in parts:
        value = _repeated(e)
        other = [
            k for k, (sign, x) in enumerate(kept) if _repeated(x) is value and sign != negative
        ]
        if other:
            del kept[other[0]]
        else:
            kept.append((negative, e))
    kept = kept or parts[:1] + [(not parts[0][0], parts[0][1])]
    return sorted(kept, key=lambda k: k[0]) if kept[0][0] else kept


def deviation_over_scale(n: Expr) -> Expr | None:
    """(x - m) (c / s) -> ((x - m) / s) c, as a normalised value is written."""
    axes = tuple(range(n.ndim))
    for a, b in (n.args, n.args[::-1]):
        if tag(a) != "sub" or isinstance(a.args[0], Constant) or a.ndim != n.ndim:
            continue
        for of in denominators(b, axes if b.ndim else ()):
            less = without(b, of, axes if b.ndim else ())
            if less is not None and tag(of.value) != "size":
                return Map.of("mul", Map.of("div", a, of.spread(n)), less)
    return None
