"""Penalties to add to a loss.

In: parameters (one, a list, a layer). Out: a scalar expression.

    loss = sg.losses.cross_entropy(model(x), y) + sg.regularizers.l2(model, 1e-4)

Penalties are for weights: biases, scales and slopes are left out unless `biases=True`, by the role
that layers give their parameters (a parameter declared by hand is a weight).
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, Sequence

from symgrad import ops, source
from symgrad.checks import number
from symgrad.errors import InputError, ShapeError
from symgrad.nn.module import parameters_of
from symgrad.node import Expr, Parameter
from symgrad.sizes import show


def _weights(name: str, what: Any, biases: bool) -> list[Parameter]:
    chosen = [p for p in parameters_of(what) if biases or p.role == "weight"]
    if not chosen:
        raise InputError(
            f"regularizers.{name}: no weights to penalise (biases=True takes every parameter)"
            + source.quote(source.here())
        )
    return chosen


def _total(name: str, terms: list[Expr], strength: Any) -> Expr:
    if not isinstance(strength, Expr):
        number(f"regularizers.{name}", "strength", strength)
    total = reduce(lambda a, b: a + b, terms)
    return total if isinstance(strength, (int, float)) and strength == 1 else total * strength


def l1(parameters: Any, strength: Any = 1.0, biases: bool = False) -> Expr:
    """strength * sum |w|, the lasso of Tibshirani (1996).

    Its gradient is strength * sign(w), and 0 at 0.
    """
    chosen = _weights("l1", parameters, biases)
    return _total("l1", [ops.sum(ops.abs(p)) for p in chosen], strength)


def l2(parameters: Any, strength: Any = 1.0, biases: bool = False) -> Expr:
    """strength * sum w^2, of a matrix its Frobenius norm squared (no factor 1/2).

    Its gradient is 2 strength w: a gradient step multiplies weights by 1 - 2 lr strength, and that
    is how the compiled update is written. Hoerl and Kennard (1970).
    """
    chosen = _weights("l2", parameters, biases)
    return _total("l2", [ops.sum(p * p) for p in chosen], strength)


def group_lasso(parameters: Any, strength: Any = 1.0, axis: int = -1, biases: bool = False) -> Expr:
    """strength * sum over groups of sqrt(group size) * norm(group). Yuan and Lin (2006).

    A group runs along `axis`: for a weight (in, out) and the default, all weights that leave one
    input. The gradient of a group that is zero is taken as 0.
    """
    terms = []
    for p in _weights("group_lasso", parameters, biases):
        if not -p.ndim <= axis < p.ndim:
            raise ShapeError(
                f"regularizers.group_lasso: no axis {axis} in {p.name!r} {show(p.shape)}"
                + source.quote(source.here())
            )
        size: Any = p.shape[axis]
        terms.append(ops.sum(_norms(p, axis)) * math.sqrt(size))
    return _total("group_lasso", terms, strength)


def _norms(p: Expr, axis: int) -> Expr:
    square = ops.sum(p * p, axis=axis)
    some = square > 0
    return ops.where(some, ops.sqrt(ops.where(some, square, 1)), 0)


def tie(a: Expr, b: Expr, strength: Any = 1.0) -> Expr:
    """strength * sum (a - b)^2: draws two parameters together (soft sharing).

    ShapeError where their shapes differ. One object used twice is hard sharing.
    """
    if a.shape != b.shape:
        raise ShapeError(
            f"regularizers.tie: shapes {show(a.shape)} and {show(b.shape)} differ"
            + source.quote(source.here())
        )
    difference = a - b
    return _total("tie", [ops.sum(difference * difference)], strength)


def task_relationship(weights: Sequence[Expr], strength: Any = 1.0, spread: Any = 1.0) -> Expr:
    """strength * (norm(abar)^2 + spread / T * sum_t norm(a_t - abar)^2), abar the mean of the a_t.

    Draws the weights a_t of T tasks towards their mean: with spread 0 each goes its own way, large
    ones make the tasks one. Evgeniou and Pontil (2004).
    """
    shapes = [a.shape for a in weights]
    if len(shapes) < 2 or any(shape != shapes[0] for shape in shapes):
        raise ShapeError(
            "regularizers.task_relationship: the weights of two tasks or more, of one shape, got "
            f"{', '.join(map(show, shapes)) or 'none'}" + source.quote(source.here())
        )
    if not isinstance(spread, Expr):
        number("regularizers.task_relationship", "spread", spread)
    count = len(shapes)
    mean = reduce(lambda a, b: a + b, weights) * (1 / count)
    apart = reduce(lambda a, b: a + b, [ops.sum(ops.square(a - mean)) for a in weights])
    return _total("task_relationship", [ops.sum(mean * mean) + apart * (spread / count)], strength)
