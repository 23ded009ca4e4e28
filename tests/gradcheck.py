"""Numeric checks of derivatives: central differences of fourth order, in float64.

>>> check_first(y, {x: point})    # grad, vjp and jvp against differences along random directions
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from symgrad.grad import grad, hvp, jvp, vjp
from symgrad.interpret import evaluate
from symgrad.node import Constant, Contract, Expr

Point = dict[Expr, np.ndarray[Any, Any]]


def values(
    outputs: Sequence[Expr], point: Point, dims: dict[str, int] | None = None
) -> list[np.ndarray[Any, Any]]:
    """The outputs at a point, by the graph interpreter."""
    return evaluate(outputs, point, dims)


def total(y: Expr) -> Expr:
    return Contract.of([range(y.ndim)], [], y)


def weighted(y: Expr, seed: int = 0) -> Expr:
    """A scalar that depends on every element of y differently."""
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, y.shape)
    every = range(y.ndim)
    return Contract.of([every, every], [], y, Constant.of(weights, y.dtype))


def slope(
    e: Expr, point: Point, direction: Point, step: float = 2e-4, dims: dict[str, int] | None = None
) -> np.ndarray[Any, Any]:
    """The derivative of e along a direction by the five-point rule."""

    def at(t: float) -> np.ndarray[Any, Any]:
        moved = {k: v + t * direction[k] if k in direction else v for k, v in point.items()}
        return values([e], moved, dims)[0]

    near = at(step) - at(-step)
    far = at(2 * step) - at(-2 * step)
    return (8 * near - far) / (12 * step)


def directions(point: Point, leaves: Sequence[Expr], seed: int) -> Point:
    rng = np.random.default_rng(seed)
    return {e: rng.normal(size=np.shape(point[e])) for e in leaves}


def close(a: Any, b: Any, tolerance: float) -> None:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    scale = max(1.0, float(np.abs(b).max(initial=0.0)))
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def inner(a: Sequence[Any], b: Sequence[Any]) -> float:
    return float(sum(np.vdot(x, y) for x, y in zip(a, b)))


def check_first(
    y: Expr, point: Point, leaves: Sequence[Expr], dims: dict[str, int] | None = None
) -> None:
    """grad against differences to 1e-6, jvp against differences and against vjp."""
    loss = weighted(y) if dims is None else total(y)
    gradients = values(grad(loss, list(leaves)), point, dims)
    for seed in (1, 2):
        d = directions(point, leaves, seed)
        expected = float(slope(loss, point, d, dims=dims))
        found = inner(gradients, [d[e] for e in leaves])
        assert abs(found - expected) <= 1e-6 * max(1.0, abs(expected)), (found, expected)
        if dims is not None:
            continue
        tangent = jvp(y, list(leaves), [d[e] for e in leaves])
        pushed = values([tangent], point, dims)[0]
        close(pushed, slope(y, point, d), 1e-6)
        cotangent = np.random.default_rng(seed + 9).normal(size=pushed.shape)
        pulled = values(vjp(y, list(leaves), cotangent), point, dims)
        left, right = np.vdot(cotangent, pushed), inner(pulled, [d[e] for e in leaves])
        assert abs(left - right) <= 1e-9 * max(1.0, abs(left)), (left, right)


def check_second(y: Expr, point: Point, leaves: Sequence[Expr]) -> None:
    """The Hessian along a direction against differences of the gradient, both ways round."""
    loss = weighted(y)
    gradients = grad(loss, list(leaves))
    d = directions(point, leaves, 3)
    forward = values(hvp(loss, list(leaves), [d[e] for e in leaves]), point)
    for gradient, found in zip(gradients, forward):
        close(found, slope(gradient, point, d), 1e-4)
    along = None  # reverse over reverse: the gradient of <gradient, d>
    for g, e in zip(gradients, leaves):
        every = range(g.ndim)
        part = Contract.of([every, every], [], g, Constant.of(d[e], g.dtype))
        along = part if along is None else along + part
    assert along is not None
    for found, other in zip(forward, values(grad(along, list(leaves)), point)):
        close(found, other, 1e-9)
