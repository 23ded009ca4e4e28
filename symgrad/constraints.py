"""Projections of parameters onto a set, applied after each update.

In: limits. Out: a function from an expression to its projection, for an optimizer's `constraints`:

    sg.optim.SGD(0.1, constraints=sg.constraints.max_norm(3.0))           # every weight
    sg.optim.SGD(0.1, constraints={W: sg.constraints.non_negative()})     # these parameters

`axis` names the axes over which a norm is taken: 0 for a weight (in, out) bounds what enters each
output, None the norm of the whole array.
"""

from __future__ import annotations

from typing import Any, Callable

from symgrad import ops, source
from symgrad.checks import number
from symgrad.errors import ShapeError
from symgrad.node import Expr
from symgrad.sizes import show

Constraint = Callable[[Expr], Expr]
Axes = Any  # an int, a tuple of ints or None


def _norm(name: str, w: Expr, axis: Axes) -> Expr:
    try:
        return ops.sqrt(ops.sum(w * w, axis=axis, keepdims=axis is not None))
    except ShapeError as error:
        raise ShapeError(
            f"constraints.{name}: no axis {axis!r} in {show(w.shape)}" + source.quote(w.where)
        ) from error


def max_norm(limit: float = 2.0, axis: Axes = 0) -> Constraint:
    """Shrink to norm `limit` what is longer: w * min(1, limit / norm(w)), onto the ball.

    Srebro and Shraibman (2005). InputError for a limit that is not positive.
    """
    limit = number("constraints.max_norm", "limit", limit, "(0, inf)")
    # limit / max(norm, limit) is the same, and never divides by zero.
    return lambda w: w * (limit / ops.maximum(_norm("max_norm", w, axis), limit))


def unit_norm(axis: Axes = 0, eps: float = 1e-12) -> Constraint:
    """w / norm(w); what is shorter than eps is divided by eps."""
    eps = number("constraints.unit_norm", "eps", eps, "(0, inf)")
    return lambda w: w / ops.maximum(_norm("unit_norm", w, axis), eps)


def non_negative() -> Constraint:
    """max(w, 0)."""
    return lambda w: ops.maximum(w, 0)
