"""Naive formulas, compiled: finite and accurate where exp overflows and differences cancel.

Each formula is written as a textbook has it, with exp, log, sqrt and division only, compiled with
its gradient by `sg.function`, and compared with mpmath. Errors are in units in the last place of
the largest element of a result, or of 1 where all of it is smaller: at most 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import symgrad as sg

exp, log, sqrt = sg.exp, sg.log, sg.sqrt
POINTS = [0.0, *(s * v for v in (1e-8, 1e-3, 1.0, 20.0, 88.0, 100.0, 1000.0) for s in (1, -1))]
PAIRS = list(itertools.product([0.0, 1e-8, -1e-3, 1.0, -20.0, 88.0, 1000.0, -1000.0], repeat=2))
ROWS = [
    [0, 0, 0], [1, 2, 3], [1e-8, -1e-8, 0], [1e-3, 1, -1], [20, 0, -20], [88, 88, 87],
    [-88, 88, 0], [100, -100, 99], [1000, -1000, 0], [-1000, -999, -998.5], [1000, 1000, 999],
    [-1000, 1000, 1000], [1000, 1000, 1000], [0, -1000, -1000], [-1000, 1000, 20],
]  # fmt: skip
WEIGHTS = [0.75, -0.5, 1.25]  # of a vector result, to have a scalar to differentiate
ULPS = 4
mp.mp.dps = 60


# -- mpmath's meaning --------------------------------------------------------------------------


def logistic(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def plus(x: Any) -> Any:
    return mp.log(1 + mp.exp(x))


def total(z: Any) -> Any:
    return mp.log(sum(mp.exp(v) for v in z))


def shares(z: Any) -> list[Any]:
    s = sum(mp.exp(v) for v in z)
    return [mp.exp(v) / s for v in z]


def log_shares(z: Any) -> list[Any]:
    return [v - total(z) for v in z]


def variance(z: Any) -> Any:
    return sum((v - sum(z) / 3) ** 2 for v in z) / 3


def length(*v: Any) -> Any:
    return mp.sqrt(sum(a * a for a in v))


# -- the formulas ------------------------------------------------------------------------------


def sigmoid(x: Any) -> Any:
    return 1 / (1 + exp(-x))


def softmax(z: Any) -> Any:
    return exp(z) / exp(z).sum(axis=1, keepdims=True)


def mean(z: Any) -> Any:
    return z.mean(axis=1)


BELOW = [p for p in POINTS if p < 88]
# name: formula, mpmath's, and the points where it is meant
SCALAR: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], list[float]]] = {
    "sigmoid": (sigmoid, logistic, POINTS),
    "sigmoid, exp over": (lambda x: exp(x) / (1 + exp(x)), logistic, POINTS),
    "sigmoid, one last": (lambda x: exp(x) / (exp(x) + 1.0), logistic, POINTS),
    "sigmoid, complement": (lambda x: 1 - 1 / (1 + exp(x)), logistic, POINTS),
    "sigmoid, power": (lambda x: (1 + exp(-x)) ** -1, logistic, POINTS),
    "sigmoid, exp below": (lambda x: 1 / (1 + 1 / exp(x)), logistic, POINTS),
    "sigmoid, halves": (lambda x: exp(x / 2) / (exp(x / 2) + exp(-x / 2)), logistic, POINTS),
    "sigmoid, other side": (lambda x: 1 - sigmoid(x), lambda x: logistic(-x), POINTS),
    "sigmoid, scaled": (lambda x: sigmoid(2 * x + 1), lambda x: logistic(2 * x + 1), POINTS),
    "softplus": (lambda x: log(1 + exp(x)), plus, POINTS),
    "softplus, one last": (lambda x: log(exp(x) + 1), plus, POINTS),
    "softplus, negative": (lambda x: log(1 + exp(-x)), lambda x: plus(-x), POINTS),
    "softplus, of sigmoid": (lambda x: -log(1 / (1 + exp(x))), plus, POINTS),
    "softplus, two exps": (lambda x: log(exp(x) + exp(0 * x)), plus, POINTS),
    "softplus, beta": (lambda x: log(1 + exp(2 * x)) / 2, lambda x: plus(2 * x) / 2, POINTS),
    "softplus, halved": (lambda x: log((1 + exp(x)) / 2), lambda x: plus(x) - mp.log(2), POINTS),
    "log-sigmoid": (lambda x: log(sigmoid(x)), lambda x: -plus(-x), POINTS),
    "log-sigmoid, minus log": (lambda x: -log(1 + exp(-x)), lambda x: -plus(-x), POINTS),
    "log-sigmoid, quotient": (lambda x: log(exp(x) / (1 + exp(x))), lambda x: -plus(-x), POINTS),
    "log-sigmoid, difference": (lambda x: x - log(1 + exp(x)), lambda x: -plus(-x), POINTS),
    "log of 1 - sigmoid": (lambda x: log(1 - sigmoid(x)), lambda x: -plus(x), POINTS),
    "logit": (lambda x: log(sigmoid(x) / (1 - sigmoid(x))), lambda x: x, POINTS),
    "tanh": (lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)), mp.tanh, POINTS),
    "tanh, doubled": (lambda x: (exp(2 * x) - 1) / (exp(2 * x) + 1), mp.tanh, POINTS),
    "tanh, negative": (lambda x: (1 - exp(-2 * x)) / (1 + exp(-2 * x)), mp.tanh, POINTS),
    "tanh, minus": (lambda x: -(exp(-2 * x) - 1) / (exp(-2 * x) + 1), mp.tanh, POINTS),
    "tanh, one fraction": (lambda x: 1 - 2 / (exp(2 * x) + 1), mp.tanh, POINTS),
    "tanh, sigmoid": (lambda x: 2 * sigmoid(2 * x) - 1, mp.tanh, POINTS),
    "tanh, inverses": (
        lambda x: (exp(x) - 1 / exp(x)) / (exp(x) + 1 / exp(x)), mp.tanh, POINTS),
    "tanh, sinh over cosh": (
        lambda x: ((exp(x) - exp(-x)) / 2) / ((exp(x) + exp(-x)) / 2), mp.tanh, POINTS),
    "tanh, squares": (lambda x: (exp(x) ** 2 - 1) / (exp(x) ** 2 + 1), mp.tanh, POINTS),
    "tanh, products": (
        lambda x: (exp(x) * exp(x) - 1) / (exp(x) * exp(x) + 1), mp.tanh, POINTS),
    "tanh, sums": (lambda x: (exp(x + x) - 1) / (exp(x + x) + 1), mp.tanh, POINTS),
    "tanh, remainder": (lambda x: 1 - 2 * exp(-x) / (exp(x) + exp(-x)), mp.tanh, POINTS),
    "tanh, half": (
        lambda x: (1 - exp(-x)) / (1 + exp(-x)), lambda x: mp.tanh(x / 2), POINTS),
    "tanh, half of half": (
        lambda x: (exp(x / 2) - exp(-x / 2)) / (exp(x / 2) + exp(-x / 2)),
        lambda x: mp.tanh(x / 2), POINTS),
    "sech": (lambda x: 2 / (exp(x) + exp(-x)), lambda x: 1 / mp.cosh(x), POINTS),
    "log cosh": (lambda x: log((exp(x) + exp(-x)) / 2), lambda x: mp.log(mp.cosh(x)), POINTS),
    "swish": (lambda x: x / (1 + exp(-x)), lambda x: x * logistic(x), POINTS),
    "log(1 + x)": (lambda x: log(1 + x), mp.log1p, [p for p in POINTS if p > -1]),
    "log(x + 1)": (lambda x: log(x + 1), mp.log1p, [p for p in POINTS if p > -1]),
    "log(1 - x)": (lambda x: log(1 - x), lambda x: mp.log1p(-x), [p for p in POINTS if p < 1]),
    "exp(x) - 1": (lambda x: exp(x) - 1, mp.expm1, BELOW),
    "-1 + exp(x)": (lambda x: -1 + exp(x), mp.expm1, BELOW),
    "1 - exp(x)": (lambda x: 1 - exp(x), lambda x: -mp.expm1(x), BELOW),
    "root of square": (lambda x: sqrt(x * x), abs, POINTS),
    "pseudo-huber": (lambda x: sqrt(1 + x * x) - 1, lambda x: mp.sqrt(1 + x * x) - 1, POINTS),
}  # fmt: skip

PAIR: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "hypot": (lambda x, y: sqrt(x**2 + y**2), length),
    "hypot, products": (lambda x, y: sqrt(x * x + y * y), length),
    "hypot, power": (lambda x, y: (x**2 + y**2) ** 0.5, length),
    "hypot, distance": (
        lambda x, y: sqrt((x - 1) ** 2 + (y - 2) ** 2), lambda x, y: length(x - 1, y - 2)),
    "log of two exps": (lambda x, y: log(exp(x) + exp(y)), lambda x, y: total([x, y])),
    "softmax of two": (lambda x, y: exp(x) / (exp(x) + exp(y)), lambda x, y: logistic(x - y)),
    "bce": (
        lambda x, y: -(sigmoid(y) * log(sigmoid(x)) + (1 - sigmoid(y)) * log(1 - sigmoid(x))),
        lambda x, y: logistic(y) * plus(-x) + logistic(-y) * plus(x)),
}  # fmt: skip

VECTOR: dict[str, tuple[Callable[[Any], Any], Callable[[list[Any]], Any]]] = {
    "softmax": (softmax, shares),
    "softmax, last axis": (lambda z: exp(z) / sg.sum(exp(z), axis=-1, keepdims=True), shares),
    "softmax, new axis": (lambda z: exp(z) / exp(z).sum(axis=1)[:, None], shares),
    "softmax, expand_dims": (lambda z: exp(z) / sg.expand_dims(exp(z).sum(axis=1), 1), shares),
    "softmax, reshape": (lambda z: exp(z) / exp(z).sum(axis=1).reshape((-1, 1)), shares),
    "softmax, transposed": (lambda z: (exp(z).T / exp(z).sum(axis=1)).T, shares),
    "softmax, columns": (lambda z: (exp(z.T) / exp(z.T).sum(axis=0)).T, shares),
    "softmax, inverse": (lambda z: exp(z) * (1 / exp(z).sum(axis=1, keepdims=True)), shares),
    "softmax, shifted": (lambda z: softmax(z - sg.max(z, axis=1, keepdims=True)), shares),
    "softmax, einsum": (lambda z: exp(z) / sg.einsum("ij->i", exp(z))[:, None], shares),
    "softmax, by ones": (
        lambda z: exp(z) / (exp(z) @ np.ones((3, 1), np.dtype(z.dtype))), shares),
    "softmax, cooled": (lambda z: softmax(z / 2), lambda z: shares([v / 2 for v in z])),
    "softmin": (lambda z: softmax(-z), lambda z: shares([-v for v in z])),
    "softmax, written out": (
        lambda z: exp(z[:, 1]) / (exp(z[:, 0]) + exp(z[:, 1]) + exp(z[:, 2])),
        lambda z: shares(z)[1]),
    "log-softmax": (lambda z: log(softmax(z)), log_shares),
    "log-softmax, difference": (
        lambda z: z - log(exp(z).sum(axis=1, keepdims=True)), log_shares),
    "log-softmax, new axis": (lambda z: z - log(exp(z).sum(axis=1))[:, None], log_shares),
    "log-softmax, two logs": (
        lambda z: log(exp(z)) - log(exp(z).sum(axis=1, keepdims=True)), log_shares),
    "log-softmax, shifted": (
        lambda z: z - sg.max(z, axis=1, keepdims=True)
        - log(exp(z - sg.max(z, axis=1, keepdims=True)).sum(axis=1, keepdims=True)), log_shares),
    "logsumexp": (lambda z: log(exp(z).sum(axis=1)), total),
    "logsumexp, keepdims": (
        lambda z: log(sg.sum(exp(z), axis=-1, keepdims=True)), lambda z: [total(z)]),
    "logsumexp, shifted": (
        lambda z: sg.max(z, axis=1)
        + log(exp(z - sg.max(z, axis=1, keepdims=True)).sum(axis=1)), total),
    "logsumexp, mean": (lambda z: log(mean(exp(z))), lambda z: total(z) - mp.log(3)),
    "logsumexp, negative": (
        lambda z: -log(exp(-z).sum(axis=1)), lambda z: -total([-v for v in z])),
    "logsumexp, written out": (
        lambda z: log(exp(z[:, 0]) + exp(z[:, 1]) + exp(z[:, 2])), total),
    "logsumexp, with zero": (
        lambda z: log(1 + exp(z[:, 0]) + exp(z[:, 1])), lambda z: total([0, z[0], z[1]])),
    "cross-entropy, one-hot": (
        lambda z: -(np.array([0, 1, 0], z.dtype) * log(softmax(z))).sum(axis=1),
        lambda z: total(z) - z[1]),
    "cross-entropy, difference": (
        lambda z: log(exp(z).sum(axis=1)) - z[:, 1], lambda z: total(z) - z[1]),
    "cross-entropy, indexed": (lambda z: -log(softmax(z)[:, 1]), lambda z: total(z) - z[1]),
    "cross-entropy, picked": (
        lambda z: -log((np.array([0, 1, 0], z.dtype) * softmax(z)).sum(axis=1)),
        lambda z: total(z) - z[1]),
    "cross-entropy, ratio": (
        lambda z: -log(exp(z[:, 1]) / exp(z).sum(axis=1)), lambda z: total(z) - z[1]),
    "cross-entropy, soft labels": (
        lambda z: -(np.array([0.25, 0.25, 0.5], z.dtype) * log(softmax(z))).sum(axis=1),
        lambda z: total(z) - (z[0] + z[1] + 2 * z[2]) / 4),
    "entropy": (
        lambda z: -(softmax(z) * log(softmax(z))).sum(axis=1),
        lambda z: -sum(p * q for p, q in zip(shares(z), log_shares(z)))),
    "norm": (lambda z: sqrt((z * z).sum(axis=1)), lambda z: length(*z)),
    "norm, written out": (
        lambda z: sqrt(z[:, 0] ** 2 + z[:, 1] ** 2 + z[:, 2] ** 2), lambda z: length(*z)),
    "variance": (lambda z: mean(z**2) - mean(z) ** 2, variance),
    "variance, products": (lambda z: mean(z * z) - mean(z) * mean(z), variance),
    "variance, keepdims": (
        lambda z: (z * z).mean(axis=1, keepdims=True) - z.mean(axis=1, keepdims=True) ** 2,
        lambda z: [variance(z)]),
    "variance, sums": (
        lambda z: (z * z).sum(axis=1) / 3 - (z.sum(axis=1) / 3) ** 2, variance),
    "variance, one division": (
        lambda z: ((z * z).sum(axis=1) - z.sum(axis=1) ** 2 / 3) / 3, variance),
    "variance, of a sample": (
        lambda z: ((z * z).sum(axis=1) - 3 * mean(z) ** 2) / 2, lambda z: variance(z) * 3 / 2),
}  # fmt: skip


# -- comparing ---------------------------------------------------------------------------------


def digits(values: Any) -> int:
    """Enough that exp(-x) beside 1, and the difference quotient, are not rounded away."""
    return 180 if np.abs(values).max() <= 100 else 1900


def slopes(truth: Callable[[list[Any]], Any], at: list[Any]) -> list[Any]:
    """The gradient by symmetric differences, the weighted sum of a vector result."""
    h, found = mp.mpf(10) ** -40, []
    for k in range(len(at)):
        ends = []
        for s in (1, -1):
            y = truth([v + s * h * (j == k) for j, v in enumerate(at)])
            many = isinstance(y, list) and len(y) > 1
            ends.append(sum(w * v for w, v in zip(WEIGHTS, y)) if many else y)
        up, down = (e[0] if isinstance(e, list) else e for e in ends)
        found.append((up - down) / (2 * h))
    return found


def close(found: Any, true: Any, dtype: str, what: str, ulps: int = ULPS) -> None:
    found, true = np.ravel(found), true if isinstance(true, list) else [true]
    scale = max(1, *(abs(t) for t in true)) * float(np.finfo(dtype).eps)
    for f, t in zip(found, true):
        assert np.isfinite(f), f"{what}: {f}, mpmath says {mp.nstr(t, 9)}"
        error = abs(mp.mpf(float(f)) - t) / scale
        assert error <= ulps, f"{what}: {f!r} is {mp.nstr(t, 9)}, {mp.nstr(error, 4)} ulp"


def check(
    name: str,
    compiled: list[Any],
    truth: Callable[[list[Any]], Any],
    points: np.ndarray[Any, Any],
    kinked: bool,
    ulps: int = ULPS,
) -> None:
    """The value and the gradients of every point, a point per row."""
    dtype = points.dtype.name
    value, *gradients = compiled
    for i, point in enumerate(points):
        with mp.workdps(digits(point)):
            at = [mp.mpf(float(v)) for v in point]
            close(value[i], truth(at), dtype, f"{name} at {point}")
            gradient = np.ravel([g[i] for g in gradients])
            if kinked and not np.diff(point).any() and (len(point) > 2 or not point.any()):
                assert np.isfinite(gradient).all()  # no derivative where a norm is 0
                continue
            close(gradient, slopes(truth, at), dtype, f"slope of {name} at {point}", ulps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SCALAR)
def test_function_of_a_number(name: str, dtype: str) -> None:
    formula, truth, points = SCALAR[name]
    values = np.asarray(points, dtype)
    x = sg.input("x", values.shape, dtype=dtype)
    y = formula(x)
    found = sg.function([x], [y, sg.grad(y.sum(), x)])(values)
    ulps = 8 if name == "swish" else ULPS  # its slope has a factor 1 - s
    check(name, found, lambda at: truth(at[0]), values[:, None], name == "root of square", ulps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PAIR)
def test_function_of_two_numbers(name: str, dtype: str) -> None:
    formula, truth = PAIR[name]
    values = np.asarray(PAIRS, dtype)
    x, y = (sg.input(k, values.shape[:1], dtype=dtype) for k in "xy")
    z = formula(x, y)
    found = sg.function([x, y], [z, *sg.grad(z.sum(), [x, y])])(*values.T.copy())
    check(name, found, lambda at: truth(*at), values, "hypot" in name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", VECTOR)
def test_function_of_a_row(name: str, dtype: str) -> None:
    formula, truth = VECTOR[name]
    values = np.asarray(ROWS, dtype)
    z = sg.input("z", values.shape, dtype=dtype)
    y = formula(z)
    weights = np.asarray(WEIGHTS if y.shape == values.shape else 1, dtype)
    found = sg.function([z], [y, sg.grad((y * weights).sum(), z)])(values)
    check(name, found, truth, values, "norm" in name)


# -- whole losses: labels, means, a run-time batch -----------------------------------------------

LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "one-hot": lambda z, y: -(sg.one_hot(y, 3, dtype=z.dtype) * log(softmax(z))).sum(axis=1).mean(),
    "one-hot, mean of all": lambda z, y: (
        -3 * (sg.one_hot(y, 3, dtype=z.dtype) * log(softmax(z))).mean()
    ),
    "one-hot inside": lambda z, y: (
        -log((sg.one_hot(y, 3, dtype=z.dtype) * softmax(z)).sum(axis=1)).mean()
    ),
    "taken": lambda z, y: -sg.take_along_axis(log(softmax(z)), y[:, None], axis=1).mean(),
    "taken inside": lambda z, y: -log(sg.take_along_axis(softmax(z), y[:, None], axis=1)).mean(),
    "difference": lambda z, y: (
        log(exp(z).sum(axis=-1)) - (sg.one_hot(y, 3, dtype=z.dtype) * z).sum(axis=-1)
    ).mean(),
    "divided sum": lambda z, y: (
        -(sg.one_hot(y, 3, dtype=z.dtype) * log(softmax(z))).sum() / z.shape[0]
    ),
    "library": lambda z, y: sg.losses.cross_entropy(z, y),
    "library's log of library's softmax": lambda z, y: sg.losses.nll_loss(log(sg.nn.softmax(z)), y),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_cross_entropy_of_a_batch(name: str, dtype: str) -> None:
    """Mean over a run-time batch, one row at a time: the gradient of the row's own logits."""
    n = sg.dim("n", max=32)
    z, y = sg.input("z", (n, 3), dtype=dtype), sg.input("y", (n,), dtype="int32")
    loss = LOSSES[name](z, y)
    f = sg.function([z, y], [loss, sg.grad(loss, z)])
    values = np.asarray(ROWS, dtype)
    for size in (1, len(ROWS)):
        for start in range(0, len(ROWS), size):
            rows = values[start : start + size]
            labels = (np.arange(size) + start) % 3
            found, gradient = f(rows, labels.astype(np.int32))
            with mp.workdps(1900):
                whole = mp.mpf(0)
                for row, label, g in zip(rows, labels, gradient):
                    at = [mp.mpf(float(v)) for v in row]
                    whole += (total(at) - at[label]) / size
                    true = [(p - (k == label)) / size for k, p in enumerate(shares(at))]
                    close(g, true, dtype, f"gradient at {row}")
                close(found, whole, dtype, f"{name} of {size}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy_of_a_batch(dtype: str) -> None:
    n = sg.dim("n", max=64)
    x, y = sg.input("x", (n,), dtype=dtype), sg.input("y", (n,), dtype=dtype)
    s = sigmoid(x)
    loss = -(y * log(s) + (1 - y) * log(1 - s)).mean()
    f = sg.function([x, y], [loss, sg.grad(loss, x)])
    for label in (0.0, 1.0, 0.25):
        for point in POINTS:
            value, gradient = f(np.array([point], dtype), np.array([label], dtype))
            with mp.workdps(1900):
                at = mp.mpf(float(np.dtype(dtype).type(point)))
                close(value, label * plus(-at) + (1 - label) * plus(at), dtype, f"at {point}")
                close(gradient, logistic(at) - label, dtype, f"slope at {point}")
