"""Products alone: operands read as they lie, every transposition, vectors as matrices, few rows."""

import math

import numpy as np
import pytest

import symgrad as sg

SHAPES = [
    (1, 37, 256), (172, 323, 1), (18, 334, 1), (256, 82, 4), (3, 1, 209), (7, 157, 1), (1, 1, 1),
    (36, 22, 101), (5, 3, 2), (33, 17, 40), (2, 64, 300), (3, 9, 75), (4, 5, 130), (5, 40, 60),
    (16, 16, 16), (19, 197, 8), (1, 33, 5), (41, 128, 7), (2, 15, 2), (140, 1, 63), (64, 31, 3),
]  # fmt: skip


def graph(shape, transposes, dtype="float32"):
    """Operand, weight, gradient of the result, and the product, at fixed values."""
    m, k, n = shape
    first, second = transposes
    rng = np.random.default_rng(m + 7 * k + 31 * n)
    x0 = rng.standard_normal((k, m) if first == "t" else (m, k)).astype(dtype)
    w0 = rng.standard_normal((n, k) if second == "t" else (k, n)).astype(dtype)
    dy0 = rng.standard_normal((m, n)).astype(dtype)
    x, dy = sg.input("x", x0.shape, dtype=dtype), sg.input("dy", dy0.shape, dtype=dtype)
    return (
        x0,
        w0,
        dy0,
        x,
        dy,
        lambda w: (x.T if first == "t" else x) @ (w.T if second == "t" else w),
    )


def close(got, expected, terms, dtype="float32"):
    scale = math.sqrt(terms) * (2e-5 if dtype == "float32" else 1e-13)
    np.testing.assert_allclose(got, expected, rtol=scale, atol=scale * 5)


@pytest.mark.parametrize("target", ["avx512", "avx2", "sse2"])
@pytest.mark.parametrize("transposes", ["nn", "nt", "tn", "tt"])
def test_products(transposes, target):
    for shape in SHAPES:
        m, k, n = shape
        x0, w0, dy0, x, dy, product = graph(shape, transposes)
        a = (x0.T if transposes[0] == "t" else x0).astype("float64")
        b = (w0.T if transposes[1] == "t" else w0).astype("float64")
        dx = (dy0 @ b.T).T if transposes[0] == "t" else dy0 @ b.T
        dw = (a.T @ dy0).T if transposes[1] == "t" else a.T @ dy0
        for w in (sg.parameter("w", w0.shape, init=w0), sg.input("w", w0.shape)):
            given = [] if isinstance(w, sg.node.Parameter) else [w]
            values = [w0] if given else []
            y = product(w)
            close(sg.function([x, *given], y, target=target)(x0, *values), a @ b, k)
            f = sg.function([dy, *given], sg.vjp(y, x, dy), target=target)
            close(f(dy0, *values), dx, n)
            close(sg.function([x, dy], sg.vjp(y, w, dy), target=target)(x0, dy0), dw, m)


def test_bias_and_activation_beside_a_plain_product():
    for shape in SHAPES[:12]:
        x0, w0, _, x, _, product = graph(shape, "nn")
        w, b = sg.parameter("w", w0.shape, init=w0), sg.parameter("b", (shape[2],))
        f = sg.function([x], sg.nn.relu(product(w) + b) * 0.5)
        f.state["b"] = np.arange(shape[2], dtype="float32") / 7
        expected = np.maximum(x0.astype("float64") @ w0 + f.state["b"], 0) * 0.5
        close(f(x0), expected, shape[1])


def test_double_precision():
    for shape in SHAPES:
        for transposes in ("nn", "tt"):
            x0, w0, dy0, x, dy, product = graph(shape, transposes, "float64")
            w = sg.parameter("w", w0.shape, init=w0, dtype="float64")
            y = product(w)
            a = x0.T if transposes == "tt" else x0
            b = w0.T if transposes == "tt" else w0
            close(sg.function([x], y)(x0), a @ b, shape[1], "float64")
            dw = a.T @ dy0
            got = sg.function([x, dy], sg.vjp(y, w, dy))(x0, dy0)
            close(got, dw.T if transposes == "tt" else dw, shape[0], "float64")


def test_numbers_that_are_none_stay_in_their_rows():
    """Idle lanes take nothing from outside: NaN in one row is NaN in that row of the result."""
    for shape in ((7, 37, 3), (40, 35, 1), (3, 20, 50)):
        x0, w0, _, x, _, product = graph(shape, "nn")
        x0[1] = np.nan
        y = sg.function([x], product(sg.parameter("w", w0.shape, init=w0)))(x0)
        assert np.isnan(y[1]).all() and np.isfinite(np.delete(y, 1, axis=0)).all()
