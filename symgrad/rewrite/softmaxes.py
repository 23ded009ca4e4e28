"""Softmax for reading: the shift by the maximum goes, quotients that algebra pulled apart close.

In: an expression with e = exp(z - m) and s = sum(e), m the maximum of z along the axes of the sum.
Out: the same in p = e / s, log p = (z - m) - log s and the logsumexp m + log s alone.

    (diag(e) - e pᵀ) / s           diag(p) - p pᵀ
    e ⊙ g / s - y                  p ⊙ g - y

It needs no list of forms. e is s p, so the expression is one in p, s, log p and logsumexp; where
its value does not depend on s, which is proved for each expression anew, s may be 1.

>>> without_shifts(jacobian(softmax(z), z))
diag(softmax(z)) - softmax(z) softmax(z)ᵀ
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from math import prod

from symgrad import source
from symgrad.node import Constant, Contract, Expr, Input, Map, SizeOf, toposort
from symgrad.rewrite.engine import substitute
from symgrad.rewrite.patterns import fill, tag
from symgrad.rewrite.stabilise import shifted, spread_sum
from symgrad.sizes import Dim, maximum

LARGEST_PROOF = 100_000  # elementary operations of what is proved
MOST_PROOFS = 3


@dataclass(frozen=True)
class Shifted:
    """exp(z - m), its sum, and what both are made of."""

    total: Contract  # s
    power: Expr  # e
    low: Expr  # z - m, m along the rows
    peak: Expr  # m along the rows

    @property
    def top(self) -> Expr:
        """m itself, in the shape of the sum."""
        spread = tag(self.peak) == "view" and self.total.ndim < self.low.ndim
        return self.peak.args[0] if spread and self.peak.ndim else self.peak

    def along(self, e: Expr) -> Expr:
        return spread_sum(self.total)(e)

    @property
    def share(self) -> Expr:
        return Map.of("div", self.power, self.along(self.total))

    @property
    def log_share(self) -> Expr:
        return Map.of("sub", self.low, self.along(Map.of("log", self.total)))

    @property
    def log_total(self) -> Expr:
        return Map.of("add", self.top, Map.of("log", self.total))


def shifted_sums(order: Sequence[Expr]) -> list[Shifted]:
    """The sums of shifted exponentials in a graph."""
    found = []
    for n in order:
        if tag(n) == "sum" and tag(n.args[0]) == "exp" and isinstance(n, Contract):
            e = n.args[0]
            if shifted(e.args[0], n):
                found.append(Shifted(n, e, e.args[0], e.args[0].args[1]))
    return found


def is_apart(s: Shifted, order: Sequence[Expr]) -> bool:
    """Whether anything but a softmax, its logarithm or a logsumexp reads the parts of one."""
    whole = {s.share, s.log_share, s.log_total}
    log, along = Map.of("log", s.total), s.along(s.total)
    inner = {s.total, s.power, s.low, s.peak, s.top, log, along, s.along(log)}
    return any(a in inner for n in order if n not in inner and n not in whole for a in n.args)


def without_shifts(e: Expr, simplest: Callable[[Expr], Expr] = lambda e: e) -> Expr:
    """The expression in p, log p and logsumexp, where its value does not depend on the shift."""
    order = toposort([e])
    for s in shifted_sums(order):
        if is_apart(s, order):
            with source.at(s.power.where):
                e = _in_shares(e, s, simplest)
            order = toposort([e])
    return e


def _in_shares(e: Expr, s: Shifted, simplest: Callable[[Expr], Expr]) -> Expr:
    """The expression with its smallest part that does not depend on the shift written anew."""
    from symgrad.equivalent import equivalent

    size, dtype = s.total.shape, s.total.dtype
    share = Input("share", s.power.shape, dtype)
    log_share = Input("log_share", s.power.shape, dtype)
    log_total = Input("log_total", size, dtype)
    scale = Input("scale", size, dtype)  # log s
    plain = _images(s, share, log_share, log_total, None)
    scaled = _images(s, share, log_share, log_total, scale)
    back = {share: s.share, log_share: s.log_share, log_total: s.log_total}
    cone = _readers(e, scaled)
    outside = {a: Input(f"value{k}", a.shape, a.dtype) for k, a in enumerate(_given(cone, scaled))}
    for whole in _waists(cone, scaled)[:MOST_PROOFS]:
        (one,) = substitute([whole], {**outside, **plain})
        (other,) = substitute([whole], {**outside, **scaled})
        if _work(other) <= LARGEST_PROOF and equivalent(other, one):
            back.update({hole: a for a, hole in outside.items()})
            (read,) = substitute([simplest(one)], back)
            return substitute([e], {whole: read})[0]
    return e


def _readers(e: Expr, parts: Container[Expr]) -> list[Expr]:
    """What is computed from the parts of a softmax, operands first."""
    above: set[Expr] = set()  # what is not only computed for a part
    stack = [e]
    while stack:
        n = stack.pop()
        if n not in above and n not in parts:
            above.add(n)
            stack += n.args
    found: dict[Expr, None] = {}
    for n in toposort([e]):
        if n in above and any(a in parts or a in found for a in n.args):
            found[n] = None
    return list(found)


def _given(cone: Sequence[Expr], parts: Container[Expr]) -> list[Expr]:
    """What else the readers read: any values, but for constants."""
    inside = set(cone)
    other = [a for n in cone for a in n.args if a not in inside and a not in parts]
    return [a for a in dict.fromkeys(other) if not isinstance(a, (Constant, SizeOf)) and a.ndim]


def _waists(cone: Sequence[Expr], parts: Container[Expr]) -> list[Expr]:
    """The nodes that everything above them knows the parts by, the lowest first."""
    left = Counter(a for n in cone for a in n.args)
    live = {a for n in cone for a in n.args if a in parts}
    found = []
    for n in cone:
        for a in n.args:
            left[a] -= 1
            if not left[a]:
                live.discard(a)
        live.add(n)
        if len(live) == 1:
            found.append(n)
    return found


def _work(e: Expr) -> int:
    """About how many elementary operations an expression takes."""
    shapes = (n.extents.values() if isinstance(n, Contract) else n.shape for n in toposort([e]))
    return sum(prod(min(maximum(s), 8) if isinstance(s, Dim) else s for s in x) for x in shapes)


def _images(
    s: Shifted, share: Expr, log_share: Expr, log_total: Expr, scale: Expr | None
) -> dict[Expr, Expr]:
    """e = s p, z - m = log s + log p, m = logsumexp - log s; s is 1 when there is no scale."""
    if scale is None:
        one = fill(Constant.of(1, s.total.dtype), s.total.shape)
        zero = fill(Constant.of(0, s.total.dtype), s.total.shape)
        return {
            s.power: share,
            s.low: log_share,
            s.total: one,
            Map.of("log", s.total): zero,
            s.top: log_total,
        }
    total: Callable[[], Expr] = lambda: Map.of("exp", scale)  # noqa: E731
    return {
        s.power: Map.of("mul", share, s.along(total())),
        s.low: Map.of("add", log_share, s.along(scale)),
        s.total: total(),
        Map.of("log", s.total): scale,
        s.top: Map.of("sub", log_total, scale),
    }
