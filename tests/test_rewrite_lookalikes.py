"""Formulas that look like those of the rule tables and are others: every rule must let them be.

A rule is about sums, maxima and copies along the same axes. Here they are along others: a softmax
whose sum is that of the columns, deviations from another axis' mean. Square shapes, so that nothing
but the rules' own conditions can tell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import symgrad as sg
from symgrad import rewrite
from symgrad.interpret import evaluate
from symgrad.node import Expr, Input

# Not every formula depends on both inputs.
pytestmark = pytest.mark.filterwarnings("ignore::symgrad.errors.DisconnectedWarning")

N = 4
X, Y = Input("x", (N, N), "float64"), Input("y", (N, N), "float64")
R, C = Input("r", (N,), "float64"), Input("c", (N,), "float64")
LABELS = Input("labels", (N,), "int32")


def rows(v: Expr) -> Expr:
    """A value for each row, repeated along it."""
    return v[:, None] + 0 * X


def across(f: Callable[..., Expr], e: Expr, axis: int) -> Expr:
    """What `f` gives along one axis, repeated along the other: row sums over columns."""
    v = f(e, axis=axis)
    return sg.broadcast_to(v[None, :] if axis == 1 else v[:, None], (N, N))


def one_hot() -> Expr:
    return sg.one_hot(LABELS, N, dtype="float64")


FORMULAS: dict[str, Callable[[], Expr]] = {
    "softmax by the columns' sums": lambda: sg.exp(X) / across(sg.sum, sg.exp(X), 1),
    "softmax by the rows' sums": lambda: sg.exp(X) / across(sg.sum, sg.exp(X), 0),
    "softmax by another's sums": lambda: sg.exp(X) / sg.sum(sg.exp(Y), axis=1, keepdims=True),
    "shifted by the columns' maxima": lambda: (
        sg.exp(X - across(sg.max, X, 1))
        / sg.sum(sg.exp(X - across(sg.max, X, 1)), axis=1, keepdims=True)
    ),
    "log-softmax by the columns": lambda: X - sg.log(across(sg.sum, sg.exp(X), 1)),
    "exp of log-softmax by the columns": lambda: sg.exp(X - sg.log(across(sg.sum, sg.exp(X), 1))),
    "logsumexp with another maximum": lambda: (
        sg.max(Y, axis=1) + sg.log(sg.sum(sg.exp(X - sg.max(Y, axis=1, keepdims=True)), axis=1))
    ),
    "logsumexp shifted by the columns": lambda: (
        sg.max(X, axis=1) + sg.log(sg.sum(sg.exp(X - across(sg.max, X, 1)), axis=1))
    ),
    "log-softmax with another maximum": lambda: (
        (X - sg.max(Y, axis=1, keepdims=True))
        - sg.log(sg.sum(sg.exp(X - sg.max(Y, axis=1, keepdims=True)), axis=1, keepdims=True))
    ),
    "exp of a difference with another's sum": lambda: sg.exp(
        X - sg.log(sg.sum(sg.exp(Y), axis=1, keepdims=True))
    ),
    "weights by the columns' sums": lambda: sg.sum(
        Y * (sg.exp(X) / across(sg.sum, sg.exp(X), 1)), axis=1
    ),
    "log of weights by the columns' sums": lambda: sg.log(
        sg.sum(sg.sigmoid(Y) * (sg.exp(X) / across(sg.sum, sg.exp(X), 1)), axis=1)
    ),
    "exp times a quotient by the columns": lambda: (
        sg.exp(X) * across(lambda e, axis: C / sg.sum(e, axis=axis), sg.exp(X), 1)
    ),
    "a product over the columns' sums": lambda: (sg.exp(X) * Y) / across(sg.sum, sg.exp(X), 1),
    "one-hot columns": lambda: sg.sum(one_hot(), axis=0),
    "twice one-hot": lambda: sg.sum(2 * one_hot(), axis=1),
    "sum of equal numbers": lambda: sg.sum(sg.cast(sg.equal(X, X[::-1]), "float64"), axis=1),
    "deviations from the columns' means": lambda: sg.sum(X - across(sg.mean, X, 1), axis=1),
    "deviations from another's mean": lambda: sg.sum(X - sg.mean(Y, axis=1, keepdims=True), axis=1),
    "deviations from half the mean": lambda: sg.sum(
        X - 0.5 * sg.mean(X, axis=1, keepdims=True), axis=1
    ),
    "variance with another's mean": lambda: sg.mean(X * X, axis=1) - sg.square(sg.mean(Y, axis=1)),
    "variance with a sum": lambda: sg.mean(X * X, axis=1) - sg.square(sg.sum(X, axis=1)),
    "variance with the columns' means": lambda: (
        sg.mean(X * X, axis=1) - sg.square(sg.mean(X, axis=0))
    ),
    "variance with half the weights": lambda: (
        0.5 * sg.sum(X * X, axis=1) - sg.square(0.5 * sg.sum(X, axis=1))
    ),
    "squares minus half a square": lambda: (
        sg.sum(X * X, axis=1) - 0.5 * sg.square(sg.sum(X, axis=1))
    ),
    "squares minus another mean": lambda: (
        sg.sum(X * X, axis=1) - N * sg.square(0.5 * sg.sum(X, axis=1))
    ),
    "sigmoid with two exponents": lambda: sg.exp(X) / (1 + sg.exp(Y)),
    "tanh with two exponents": lambda: (sg.exp(X) - sg.exp(-Y)) / (sg.exp(X) + sg.exp(-X)),
    "nearly sinh": lambda: sg.exp(X) - sg.exp(-2 * X),
    "nearly cosh": lambda: sg.exp(X) + sg.exp(X - Y),
    "a sum over one plus exp": lambda: sg.exp(X) / (2 + sg.exp(X)),
    "log of two plus": lambda: sg.log(2 + X * X),
    "exp minus two": lambda: sg.exp(X) - 2,
    "a quotient by a product": lambda: (X * Y) / (X * X + 1),
    "factors of no sum": lambda: X * Y + Y * R,
    "0-d factors of rows": lambda: (R * sg.sum(X)) * sg.sum(X, axis=1),
    "a negative number's root": lambda: sg.sqrt(sg.square(X) * 1.0) - sg.sqrt(sg.exp(X)),
    "a power that is no whole": lambda: sg.exp(X) ** 2.5 - (X * X) ** 1.5,
    "transposed products": lambda: (X @ Y).T @ X - X.T @ (Y @ X),
    "sums of products": lambda: sg.sum(X @ Y, axis=0) - sg.sum(X @ Y, axis=1),
    "chains": lambda: X @ (Y @ (X.T @ R)) + (R @ X) @ Y,
    "rows times columns": lambda: sg.sum(R[:, None] * C[None, :] * X, axis=0),
    "norm of a row by the columns'": lambda: X / across(sg.norm, X, 1),
    "a division per row by the columns": lambda: X / (1 + across(sg.sum, X * X, 1)),
    "logaddexp with other halves": lambda: sg.log(sg.exp(X) + 2 * sg.exp(Y)),
    "softplus with a factor": lambda: sg.log(1 + 3 * sg.exp(X)) - X * Y,
    "cross-entropy over the columns": lambda: sg.log(
        sg.sum(one_hot() * (sg.exp(X) / across(sg.sum, sg.exp(X), 0)), axis=0)
    ),
}


@pytest.mark.parametrize("stages", [rewrite.PREPARE, rewrite.SIMPLIFY, rewrite.STAGES], ids=len)
@pytest.mark.parametrize("name", FORMULAS)
def test_look_alikes_keep_their_values(name: str, stages: tuple[str, ...]) -> None:
    """Values and gradients before and after rewriting."""
    e = FORMULAS[name]()
    outputs = [e, *sg.grad(sg.sum(sg.tanh(e)), [X, Y])]
    rng = np.random.default_rng(len(name))
    env = {leaf: rng.normal(size=[N] * leaf.ndim) for leaf in (X, Y, R, C)}
    env[LABELS] = np.array([2, 0, 2, 1])
    new, _ = rewrite.run(outputs, stages)
    for before, after in zip(evaluate(outputs, env), evaluate(new, env)):
        fine = np.isfinite(before)
        np.testing.assert_allclose(after[fine], before[fine], rtol=1e-9, atol=1e-9, err_msg=name)
