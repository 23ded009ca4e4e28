"""Rows of the lectures, checked: natively compiled values and gradients against plain NumPy.

In: an expression, a point (an array for each input and parameter), and the row's formula as a NumPy
function of these arrays. The formula gives the value and, by central differences along random
directions, the slope; so neither symgrad's interpreter nor its derivatives are believed.

>>> check(sg.sum(x * x), {x: np.ones(3)}, [x], lambda x: (x * x).sum())
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import gradcheck
import numpy as np

import symgrad as sg
from symgrad.state import initial

Array = np.ndarray[Any, Any]
Point = dict[sg.Expr, Array]


def leaf(name: str, *shape: int, kind: Callable[..., sg.Expr] = sg.input) -> sg.Expr:
    """An input (or parameter) in float64."""
    return kind(name, shape, dtype="float64")


def labels(name: str, *shape: int) -> sg.Expr:
    return sg.input(name, shape, dtype="int32")


def draw(*leaves: sg.Expr, seed: int = 0, scale: float = 1.0) -> Point:
    """A point: normal numbers for every leaf."""
    rng = np.random.default_rng(seed)
    return {e: scale * rng.normal(size=tuple(map(int, e.shape))) for e in leaves}


def start(*parts: Any, seed: int = 0) -> Point:
    """The initial value of every parameter of layers, in their order."""
    return {p: np.asarray(initial(p, seed)) for p in sg.nn.parameters_of(list(parts))}


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    gradcheck.close(found, expected, tolerance)


def check(
    y: sg.Expr,
    point: Point,
    wrt: Sequence[sg.Expr],
    formula: Callable[..., Any],
    step: float = 1e-3,
) -> list[Array]:
    """The value to 1e-12 of the formula, the gradient to 1e-7 of its differences; the gradients."""
    value = sg.function(list(point), y)(*point.values())
    close(value, formula(*point.values()))
    shape = np.shape(value)
    weights = np.random.default_rng(5).uniform(0.5, 1.5, shape) if shape else 1.0
    gradients = sg.grad(sg.sum(y * weights), list(wrt))
    found = sg.function(list(point), gradients)(*point.values())
    for seed in (1, 2):
        along = gradcheck.directions(point, wrt, seed)

        def at(t: float, along: Any = along) -> float:
            moved = [v + t * along[e] if e in along else v for e, v in point.items()]
            return float(np.sum(formula(*moved) * weights))

        slope = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
        dot = gradcheck.inner(found, [along[e] for e in wrt])
        assert abs(dot - slope) <= 1e-7 * max(1.0, abs(slope)), (dot, slope)
    return list(found)


def check_network(loss: sg.Expr, point: Point, wrt: Sequence[sg.Expr], step: float = 1e-7) -> None:
    """A network too long to write out: natively against the interpreter and its differences."""
    found = sg.function(list(point), [loss, *sg.grad(loss, list(wrt))])(*point.values())
    slow = sg.function(list(point), loss, target="interpret")
    arrays = list(point.values())
    close(found[0], slow(*arrays), 1e-11)
    along = gradcheck.directions(point, wrt, 1)

    def at(t: float) -> float:
        return float(slow(*(v + t * along[e] if e in along else v for e, v in point.items())))

    slope = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
    dot = gradcheck.inner(found[1:], [along[e] for e in wrt])
    assert abs(dot - slope) <= 1e-6 * max(1.0, abs(slope)), (dot, slope)


def arena(f: Any) -> int:
    """Bytes of working memory, from the report."""
    found = re.search(r"arena .*?\(([\d,]+) b", f.report())
    assert found, f.report()
    return int(found[1].replace(",", ""))


# -- formulas that several rows share ---------------------------------------------------------
def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def nll(z: Array, y: Array) -> Array:
    """-z[y] + log sum exp z of each row, shifted by the maximum."""
    top = z.max(-1)
    log_sum = top + np.log(np.exp(z - top[..., None]).sum(-1))
    return np.asarray(log_sum - np.take_along_axis(z, y[..., None], -1)[..., 0])
