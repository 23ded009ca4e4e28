"""Are two expressions the same function of their inputs?

In: two expressions. Out: True or False, found by evaluating both at random points:

1. Exactly, mod a tower of primes (Schwartz-Zippel): sums, products, quotients, whole powers,
   contractions, every shape operation and index; exp, sinh, cosh, tanh, expm1, sin, cos, tan with
   all their algebraic laws; log of products, quotients and exponentials; comparisons, `where`,
   max, abs and rounding, decided by real values at the same points. Constants count as the
   simplest fraction that rounds to them, 0.1 as 1/10. Equal residues mean equal functions (for
   polynomials of degree d a wrong yes has a probability of about d / 2**20 at each of the four
   independent points). Different residues mean different functions, unless one of the functions
   below took part.
2. erf, sqrt, inverse circular functions, general powers, exp of a logarithm of a sum, poles and
   constants that no short fraction explains (0.3989423) have no exact model. When residues differ
   and one of them took part, 40 digits decide at the same points (float64 for graphs too large for
   that). Results may differ by as much as the rounding of such constants moves them.

Points lie in [-2, 2], at magnitudes up to 256, and next to the constants of the graph, with both
signs and positive; run-time sizes take several small values. A difference confined to a region
that no point falls in goes unseen. Points where one side has no finite value (log of a negative
number) do not count; there must be points where both have one. Element types do not count.

>>> equivalent(sp.tanh(x), 1 - 2 / (sp.exp(2 * x) + 1))
True
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Sequence

import numpy as np

from symgrad.errors import GraphError
from symgrad.identity import evaluate
from symgrad.identity.field import Tower
from symgrad.identity.values import Array, Context, Region, Value
from symgrad.node import Constant, Contract, Expr, Scan, toposort
from symgrad.sizes import maximum

SEEDS = (1, 2, 3, 4)  # one of each region: near zero or wide, both signs or positive
DIGITS, WIDE_DIGITS = 40, 300  # at magnitudes up to 256, 1 - tanh(x)**2 loses 222 of them
NUDGES = (1, 2, 3)  # constants that were rounded are moved within their rounding this often
COSTLY = 300_000  # elementary operations from which float64 replaces the many digits


def equivalent(a: Any, b: Any) -> bool:
    """True when both expressions have the same value wherever both are defined."""
    a, b = _expression(a), _expression(b)
    if a is b:
        return True
    if a.shape != b.shape:
        return False
    verdict = same_mod_p(a, b)
    return same_in_digits(a, b) if verdict is None else verdict


def _expression(e: Any) -> Expr:
    if isinstance(e, Expr):
        return e
    try:
        return Constant.of(e)
    except (TypeError, ValueError) as error:
        raise GraphError(f"equivalent: not an expression: {e!r}") from error


def evaluate_mod(outputs: Sequence[Expr], seed: int = 1) -> tuple[list[Value], Context]:
    """Every output at the random point of `seed`, exactly: `Value.residues` by level of the tower,
    `Value.real` beside it; `Context.exact` says whether a difference of residues is a proof."""
    outputs = evaluate.primitives(outputs)
    tower = Tower(seed, evaluate.tower_levels(outputs))
    context = Context(
        tower, dims=evaluate.random_dims(outputs, seed), hints=evaluate.hints(outputs)
    )
    return evaluate.run(outputs, context), context


def same_mod_p(a: Expr, b: Expr, seeds: Sequence[int] = SEEDS) -> bool | None:
    """The exact answer; None where residues differ, or say nothing, without that being a proof."""
    compared = False
    for seed in seeds:
        (left, right), context = evaluate_mod([a, b], seed)
        known = context.common(left, right)
        exact_whole = left.residues is None and right.residues is None
        if not known and not exact_whole:
            return None
        if not np.all(context.same(left, right)):
            return None if not context.exact else False
        # the fields cannot tell log(x) from log(-x), the reals can
        verdict = True if context.exact else _close(left.real, right.real, 1e-6)
        if verdict is False:
            return None
        compared = compared or verdict is True
    return True if compared else None


def same_in_digits(a: Expr, b: Expr, seeds: Sequence[int] = SEEDS) -> bool:
    """The numeric answer: 40 digits, or float64 for large graphs."""
    outputs = evaluate.primitives([a, b])
    small, hints = _operations(outputs) < COSTLY, evaluate.hints(outputs)
    compared = False
    for seed in seeds:
        digits = (WIDE_DIGITS if Region.of(seed).wide else DIGITS) if small else 0
        context = Context(Tower(seed, ()), digits, evaluate.random_dims(outputs, seed), hints=hints)
        left, right = (v.real for v in _run(outputs, context))
        slack: Array = np.float64(0)
        for nudge in NUDGES if context.rounded else ():
            moved = _run(outputs, replace(context, nudge=nudge))
            for before, after in zip((left, right), moved):
                slack = np.maximum(slack, 8 * _distance(before, after.real))
        if Region.of(seed).wide:
            left, right = _without_lost(left, right)
        verdict = _close(left, right, 1e-25 if digits else 1e-8, slack)
        if verdict is False:
            return False
        compared = compared or verdict is True
    return compared


def _run(outputs: Sequence[Expr], context: Context) -> list[Value]:
    if not context.digits:
        return evaluate.run(outputs, context)
    import mpmath

    with mpmath.workdps(context.digits):
        return evaluate.run(outputs, context)


def _without_lost(a: Array, b: Array) -> tuple[Array, Array]:
    """Both without the elements in which one is infinite and the other is not: of a product of wide
    numbers the digits do not suffice, `log(1 - sigmoid(1408))` is that of zero."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype == bool:
        return a, b
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    lost = np.isinf(x) & np.isfinite(y) | np.isinf(y) & np.isfinite(x)
    return np.where(lost, np.nan, a), np.where(lost, np.nan, b)


def _distance(a: Array, b: Array) -> Array:
    """|a - b| as float64; 0 where it is not finite."""
    if np.asarray(a).dtype == bool:
        return (np.asarray(a) ^ np.asarray(b)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.asarray(a - b, np.float64))
    return np.where(np.isfinite(difference), difference, 0.0)


def _close(a: Array, b: Array, tolerance: float, slack: Array = 0.0) -> bool | None:
    """Whether all elements agree; None when there is none where both are finite."""
    a, b = np.asarray(a), np.asarray(b)
    if a.size == 0:
        return True
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if np.any(np.isinf(x) & np.isfinite(y) | np.isinf(y) & np.isfinite(x)):
        return False
    fine = np.isfinite(x) & np.isfinite(y)
    if not fine.any():
        return True if np.all(x == y) else None
    scale = np.where(fine, np.maximum(np.abs(x), np.abs(y)), 0.0)
    floor = 1e-30 if tolerance < 1e-20 else tolerance * float(scale.max())
    allowed = np.maximum(tolerance * scale, floor) + slack
    return bool(np.all((_distance(a, b) <= allowed) | ~fine))


def _operations(outputs: Sequence[Expr]) -> int:
    """Roughly the elementary operations of one evaluation, at small run-time sizes."""
    total = 0
    order = toposort(outputs)
    steps: dict[Expr, int] = {}  # of the loop that a slot belongs to, and of those around it
    for node in reversed(order):
        if isinstance(node, Scan):
            once = max((steps[s] for s in node.free), default=1)
            steps.update((s, once * min(5, maximum(node.length))) for s in node.slots)
    for node in order:
        sizes = list(node.shape)
        if isinstance(node, Contract):
            sizes = list(node.extents.values())
        count = 1
        for size in sizes:
            count *= min(5, maximum(size)) if not isinstance(size, int) else size
        total += count * max((steps[s] for s in node.free), default=1)
    return total
