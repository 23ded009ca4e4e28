"""Formulas as a textbook writes them, with exp, log, sqrt and division only: finite and accurate.

Value and gradient, rewritten and interpreted, against mpmath at 60 digits. An error is measured in
units in the last place of the result, or of `scale` where the result is smaller than that: a value
of 1e-9 that arises as the end of a sum of terms near 1 is right to 1e-7.
"""

from __future__ import annotations

from typing import Any, Callable

import mpmath as mp
import numpy as np
import pytest

import symgrad as sg
from symgrad import interpret, rewrite
from symgrad.node import Expr, Input

POINTS = [0.0, 1e-8, -1e-8, 0.3, 1.0, -1.0, 5.5, -5.5, 20.0, -20.0, 100.0, -100.0, 1000.0, -1000.0]
ROWS = [
    [0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [1e-8, -1e-8, 0.0], [20.0, 0.0, -20.0],
    [100.0, -100.0, 99.0], [1000.0, -1000.0, 0.0], [-1000.0, -999.0, -998.5],
    [1000.0, 1000.0, 999.0], [-1000.0, 1000.0, 1000.0],
]  # fmt: skip
WEIGHTS = [0.75, -0.5, 1.25]  # of a vector result, to have a scalar to differentiate
LABEL = [0.0, 0.0, 1.0]
ULPS = 4


def exp(x: Any) -> Any:
    return sg.exp(x)


def log(x: Any) -> Any:
    return sg.log(x)


def softmax(z: Any) -> Any:
    return exp(z) / exp(z).sum(axis=-1, keepdims=True)


def mp_softmax(z: list[Any]) -> list[Any]:
    total = sum(mp.exp(v) for v in z)
    return [mp.exp(v) / total for v in z]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def mp_sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


# name: (expression of x, mpmath's value of x, scale, points)
SCALAR: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float, list[float]]] = {
    "sigmoid": (sigmoid, mp_sigmoid, 1, POINTS),
    "sigmoid, exp above and below": (lambda x: exp(x) / (1 + exp(x)), mp_sigmoid, 1, POINTS),
    "sigmoid, exp first": (lambda x: exp(x) / (exp(x) + 1), mp_sigmoid, 1, POINTS),
    "sigmoid, complement": (lambda x: 1 - 1 / (1 + exp(x)), mp_sigmoid, 1, POINTS),
    "sigmoid, power": (lambda x: (1 + exp(-x)) ** -1, mp_sigmoid, 1, POINTS),
    "softplus": (lambda x: log(1 + exp(x)), lambda x: mp.log(1 + mp.exp(x)), 0, POINTS),
    "log-sigmoid": (lambda x: log(sigmoid(x)), lambda x: -mp.log(1 + mp.exp(-x)), 0, POINTS),
    "log-sigmoid, quotient": (
        lambda x: log(exp(x) / (1 + exp(x))), lambda x: -mp.log(1 + mp.exp(-x)), 0, POINTS),
    "log-sigmoid, minus log": (
        lambda x: -log(1 + exp(-x)), lambda x: -mp.log(1 + mp.exp(-x)), 0, POINTS),
    "log of 1 minus sigmoid": (
        lambda x: log(1 - sigmoid(x)), lambda x: -mp.log(1 + mp.exp(x)), 0, POINTS),
    "bce, label 1": (
        lambda x: -(1.0 * log(sigmoid(x))), lambda x: mp.log(1 + mp.exp(-x)), 0, POINTS),
    "tanh": (
        lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)), mp.tanh, 1, POINTS),
    "tanh, doubled": (lambda x: (exp(2 * x) - 1) / (exp(2 * x) + 1), mp.tanh, 1, POINTS),
    "tanh, negative": (lambda x: (1 - exp(-2 * x)) / (1 + exp(-2 * x)), mp.tanh, 1, POINTS),
    "tanh, one fraction": (lambda x: 1 - 2 / (exp(2 * x) + 1), mp.tanh, 1, POINTS),
    "tanh, sigmoid": (lambda x: 2 / (1 + exp(-2 * x)) - 1, mp.tanh, 1, POINTS),
    "tanh, squares": (
        lambda x: (exp(x) ** 2 - 1) / (exp(x) ** 2 + 1), mp.tanh, 1, POINTS),
    "log of exp": (lambda x: log(exp(x)), lambda x: x, 0, POINTS),
    "log of exp of square": (lambda x: log(exp(x) * exp(x)), lambda x: 2 * x, 0, POINTS),
    "ratio of exps": (
        lambda x: exp(x) / exp(x + 1), lambda x: mp.exp(x) / mp.exp(x + 1), 1, POINTS),
    "log cosh": (
        lambda x: log((exp(x) + exp(-x)) / 2), lambda x: mp.log(mp.cosh(x)), 1, POINTS),
    "logit of sigmoid": (
        lambda x: log(sigmoid(x) / (1 - sigmoid(x))), lambda x: x, 0, POINTS),
    "slope of sigmoid": (
        lambda x: exp(x) / (1 + exp(x)) ** 2,
        lambda x: mp_sigmoid(x) * mp_sigmoid(-x), 1, POINTS),
    "swish": (lambda x: x / (1 + exp(-x)), lambda x: x * mp_sigmoid(x), 20, POINTS),
    "exp(x) - 1": (
        lambda x: exp(x) - 1, mp.expm1, 0, [p for p in POINTS if p < 50]),
    "log(1 + x)": (
        lambda x: log(1 + x), mp.log1p, 0, [0.0, 1e-8, -1e-8, 1e-20, 0.3, 1.0, 20.0, 1000.0]),
    "log(1 - x)": (
        lambda x: log(1 - x), lambda x: mp.log1p(-x), 0, [0.0, 1e-8, -1e-8, 0.3, -20.0, -1000.0]),
    "1 - cos x": (lambda x: 1 - sg.cos(x), lambda x: 2 * mp.sin(x / 2) ** 2, 0, [1e-8, 1e-3, 0.3]),
    "sqrt(1 + x) - 1": (
        lambda x: sg.sqrt(1 + x) - 1, lambda x: mp.sqrt(1 + x) - 1, 0, [1e-8, 1e-3, 0.3, 1000.0]),
    "log(1 - exp x)": (
        lambda x: log(1 - exp(x)), lambda x: mp.log(1 - mp.exp(x)), 0,
        [-1e-3, -0.3, -5.5, -20.0]),
    "log(exp x - 1)": (
        lambda x: log(exp(x) - 1), lambda x: x if x > 200 else mp.log(mp.expm1(x)), 0,
        [1e-3, 0.3, 5.5, 20.0, 1000.0]),
    "small power of exp": (
        lambda x: exp(x) ** 0.0078125, lambda x: mp.exp(x / 128), 1, POINTS),
    "entropy of a coin": (
        lambda x: -(sigmoid(x) * log(sigmoid(x)) + (1 - sigmoid(x)) * log(1 - sigmoid(x))),
        lambda x: mp_sigmoid(x) * mp.log(1 + mp.exp(-x)) + mp_sigmoid(-x) * mp.log(1 + mp.exp(x)),
        32, POINTS),
    "root of square": (lambda x: sg.sqrt(x**2), abs, 0, [p for p in POINTS if p] + [1e-8]),
}  # fmt: skip

VECTOR: dict[str, tuple[Callable[[Any], Any], Callable[[list[Any]], Any], float]] = {
    "softmax": (softmax, mp_softmax, 1),
    "softmax, inverse first": (
        lambda z: exp(z) * (1 / exp(z).sum(axis=-1, keepdims=True)), mp_softmax, 1),
    "softmax, after log": (
        lambda z: exp(z - log(exp(z).sum(axis=-1, keepdims=True))), mp_softmax, 1),
    "softmax, shifted by hand": (
        lambda z: softmax(z - sg.max(z, axis=-1, keepdims=True)), mp_softmax, 1),
    "softmax of double": (
        lambda z: softmax(2 * z), lambda z: mp_softmax([2 * v for v in z]), 1),
    "log-softmax": (
        lambda z: log(softmax(z)), lambda z: [mp.log(v) for v in mp_softmax(z)], 1),
    "log-softmax, difference": (
        lambda z: z - log(exp(z).sum(axis=-1, keepdims=True)),
        lambda z: [mp.log(v) for v in mp_softmax(z)], 1),
    "logsumexp": (
        lambda z: log(exp(z).sum(axis=-1)), lambda z: mp.log(sum(mp.exp(v) for v in z)), 1),
    "log-mean-exp": (
        lambda z: log(exp(z).mean(axis=-1)), lambda z: mp.log(sum(mp.exp(v) for v in z) / 3), 1),
    "cross-entropy": (
        lambda z: -(np.float32(LABEL) * log(softmax(z))).sum(axis=-1),
        lambda z: -mp.log(mp_softmax(z)[2]), 1),
    "cross-entropy, difference": (
        lambda z: log(exp(z).sum(axis=-1)) - (np.float32(LABEL) * z).sum(axis=-1),
        lambda z: -mp.log(mp_softmax(z)[2]), 1),
    "cross-entropy, chosen": (
        lambda z: -log(softmax(z)[..., 2]), lambda z: -mp.log(mp_softmax(z)[2]), 1),
    "log-softmax, negative": (
        lambda z: log(exp(z).sum(axis=-1, keepdims=True)) - z,
        lambda z: [-mp.log(v) for v in mp_softmax(z)], 1),
    "log-softmax, halved": (
        lambda z: log(softmax(z) / 2), lambda z: [mp.log(v / 2) for v in mp_softmax(z)], 1),
    "log-likelihood": (
        lambda z: (np.float32(LABEL) * z).sum(axis=-1) - log(exp(z).sum(axis=-1)),
        lambda z: mp.log(mp_softmax(z)[2]), 1),
    "cross-entropy, picked by a sum": (
        lambda z: -log((np.float32(LABEL) * softmax(z)).sum(axis=-1)),
        lambda z: -mp.log(mp_softmax(z)[2]), 1),
    "log of a mixture": (
        lambda z: log((np.float32([0.25, 0.5, 0.25]) * exp(-0.5 * z * z)).sum(axis=-1)),
        lambda z: mp.log(sum(w * mp.exp(-v * v / 2) for w, v in zip([0.25, 0.5, 0.25], z))), 1),
    "entropy": (
        lambda z: -(softmax(z) * log(softmax(z))).sum(axis=-1),
        lambda z: -sum(p * mp.log(p) for p in mp_softmax(z)), 32),
    "hypot": (
        lambda z: sg.sqrt(z[..., 0] ** 2 + z[..., 1] * z[..., 1]),
        lambda z: mp.sqrt(z[0] ** 2 + z[1] ** 2), 0),
    "norm": (
        lambda z: sg.sqrt((z * z).sum(axis=-1)), lambda z: mp.sqrt(sum(v * v for v in z)), 0),
    "variance": (
        lambda z: (z**2).mean(axis=-1) - z.mean(axis=-1) ** 2,
        lambda z: sum((v - sum(z) / 3) ** 2 for v in z) / 3, 0),
    "product of sigmoids": (
        lambda z: log(sg.prod(1 / (1 + exp(-z)), axis=-1)),
        lambda z: sum(-mp.log(1 + mp.exp(-v)) for v in z), 0),
    "two exps": (
        lambda z: log(exp(z[..., 0]) + exp(z[..., 1])),
        lambda z: mp.log(mp.exp(z[0]) + mp.exp(z[1])), 1),
}  # fmt: skip


def close(got: Any, true: Any, scale: float, dtype: str, what: str) -> None:
    got, true = np.ravel(got), [true] if not isinstance(true, list) else true
    assert len(got) == len(true), what
    eps = float(np.finfo(dtype).eps)
    tiny = float(np.finfo(dtype).tiny)
    largest = max(max(abs(t) for t in true), scale)  # of a vector, its largest element
    for g, t in zip(got, true):
        assert np.isfinite(g), f"{what}: {g}, mpmath says {mp.nstr(t, 10)}"
        error = abs(mp.mpf(float(g)) - t) / (eps * max(largest, tiny))
        assert error <= ULPS, f"{what}: {g!r} is {mp.nstr(t, 12)}: {mp.nstr(error, 4)} ulp"


def slope(function: Callable[[Any], Any], x: Any, dtype: str) -> Any:
    """The derivative; where mpmath cannot tell from the two sides, it is their mean."""
    with mp.workdps(120):
        h = mp.mpf(10) ** -40
        return (function(x + h) - function(x - h)) / (2 * h)


def evaluated(e: Expr, x: Expr, value: Any) -> Any:
    (final,), _ = rewrite.run([e])
    return interpret.evaluate([final], {x: value})[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SCALAR)
def test_scalar_formula(name: str, dtype: str) -> None:
    formula, truth, scale, points = SCALAR[name]
    values = np.asarray(points, dtype)
    x = Input("x", (len(points),), dtype)
    y = formula(x)
    dy = sg.grad(y.sum(), x)
    with mp.workdps(500):
        got, got_slope = evaluated(y, x, values), evaluated(dy, x, values)
        for v, g, dg in zip(values, got, got_slope):
            at = mp.mpf(float(v))
            close(g, truth(at), scale, dtype, f"{name} at {v}")
            if name in ("root of square",) and v == 0:
                continue
            h = mp.mpf(10) ** -120
            true_slope = (truth(at + h) - truth(at - h)) / (2 * h)
            close(dg, true_slope, max(scale, 1), dtype, f"slope of {name} at {v}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", VECTOR)
def test_vector_formula(name: str, dtype: str) -> None:
    formula, truth, scale = VECTOR[name]
    values = np.asarray(ROWS, dtype)
    x = Input("x", values.shape, dtype)
    y = formula(x)
    weights = np.asarray(WEIGHTS, dtype) if y.ndim == 2 else np.asarray(1, dtype)
    dy = sg.grad((y * weights).sum(), x)
    with mp.workdps(500):
        got, got_slope = evaluated(y, x, values), evaluated(dy, x, values)
        for row, g, dg in zip(values, got, got_slope):
            at = [mp.mpf(float(v)) for v in row]
            true = truth(at)
            close(g, true, scale, dtype, f"{name} at {row}")
            if name in ("hypot", "norm") and not row.any():
                assert not dg.any()  # no derivative there: the subgradient 0
                continue
            h = mp.mpf(10) ** -120
            slopes = []
            for k in range(3):
                up = truth([v + h * (j == k) for j, v in enumerate(at)])
                down = truth([v - h * (j == k) for j, v in enumerate(at)])
                if isinstance(up, list):
                    up, down = (sum(w * v for w, v in zip(WEIGHTS, s)) for s in (up, down))
                slopes.append((up - down) / (2 * h))
            close(dg, slopes, max(scale, 1), dtype, f"slope of {name} at {row}")


def test_binary_cross_entropy_through_a_naive_sigmoid() -> None:
    for dtype in ("float32", "float64"):
        x, y = Input("x", (len(POINTS),), dtype), Input("y", (len(POINTS),), dtype)
        for s in (1 / (1 + sg.exp(-x)), sg.exp(x) / (1 + sg.exp(x)), sg.sigmoid(x)):
            loss = -(y * sg.log(s) + (1 - y) * sg.log(1 - s))
            slope_of = sg.grad(loss.sum(), x)
            for label in (0.0, 1.0, 0.25):
                (a, b), _ = rewrite.run([loss, slope_of])
                env = {x: np.asarray(POINTS, dtype), y: np.full(len(POINTS), label, dtype)}
                got, got_slope = interpret.evaluate([a, b], env)
                for v, g, dg in zip(env[x], got, got_slope):
                    with mp.workdps(500):
                        at = mp.mpf(float(v))
                        plus, minus = mp.log(1 + mp.exp(at)), mp.log(1 + mp.exp(-at))
                        close(g, label * minus + (1 - label) * plus, 0, dtype, f"bce at {v}")
                        close(dg, mp_sigmoid(at) - label, 1, dtype, f"slope of bce at {v}")
