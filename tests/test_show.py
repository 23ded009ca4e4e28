"""Expressions as text, LaTeX and SymPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

import symgrad as sg
from symgrad.interpret import evaluate
from symgrad.node import Expr

N = sg.dim("batch", 8)
x, y = sg.input("x", (N, 3)), sg.input("y", (N,), dtype="int32")
W, b = sg.parameter("W", (3, 4)), sg.parameter("b", (4,))
u, v = sg.input("u", (3,)), sg.input("v", (3,))
s, t = sg.input("s", ()), sg.input("t", ())

i2, p3 = sg.input("i2", (4, 4)), sg.input("p", (2, 3, 4))
TEXT = {
    "tanh(x W + b)": sg.tanh(b + x @ W),
    "Wᵀ xᵀ": W.T @ x.T,
    "uᵀ v": sg.dot(u, v),
    "u vᵀ": sg.outer(u, v),
    "Wᵀ u": u @ W,
    "uᵀ W b": u @ W @ b,
    "x W Wᵀ": sg.einsum("ij,jk,lk->il", x, W, W),
    "tr(i2 i2)": sg.einsum("ij,ji->", i2, i2),
    "diag(b) i2": b[:, None] * i2,
    "i2 ⊙ b": i2 * b,
    "u ⊙ v ⊙ (1 - u)": u * v * (1 - u),
    "‖x‖²": sg.sum(x**2),
    "‖u‖²": sg.dot(u, u),
    "Σ_i u_i": sg.sum(u),
    "Σ_i x_ij": sg.sum(x, axis=0),
    "Σ_j exp(x_ij)": sg.sum(sg.exp(x), axis=1),
    "Σ_ij x_ij (x_ij + 1)": sg.sum(x * (x + 1)),
    "(s + t) s": (s + t) * s,
    "s - t + s": s - (t - s),
    "s / (t s)": s / (t * s),
    "s t / s": s * (t / s),
    "(s - t)²": sg.square(s - t),
    "-s - t": -(s + t),
    "s - 2 t": s - t * 2,
    "u ⊙ 1[u > v]": sg.where(u > v, u, 0),
    "{u if u > v, else v}": sg.where(u > v, u, v),
    "s x W": s * (x @ W),
    "s / (uᵀ v)": s / sg.dot(u, v),
    "u[1:]": u[1:],
    "u[2]": u[2],
    "u[::-1]": u[::-1],
    "u[::2]": u[::2],
    "x[:, 1:]": x[:, 1:],
    "max_j x_ij": sg.max(x, axis=1),
    "argmax_j x_ij": sg.argmax(x, axis=1),
    "softmax(x)": sg.simplify(sg.nn.softmax(x)),
    "onehot(y)": sg.one_hot(y, 4),
    "rows(W, y)": sg.take(W, y, axis=0),
    "0.5 s": 0.5 * s,
    "s / 768": s * (1 / 768),
    "s / batch": s / N,
    "reshape(W, (12,))": sg.reshape(W, (12,)),
    "Σ_kl p_kli p_klj": sg.einsum("ijk,ijl->kl", p3, p3),
}


@pytest.mark.parametrize("expected", TEXT)
def test_text(expected: str) -> None:
    assert str(TEXT[expected]) == expected


def test_shared_parts_are_named_once_and_in_order() -> None:
    e = sg.exp(x @ W)
    lines = str(e / sg.sum(e, axis=1, keepdims=True)).splitlines()
    assert lines == ["e = exp(x W)", "e / (Σ_j e_ij)"]


def test_text_and_latex_grow_linearly_with_depth() -> None:
    def deep(layers: int) -> Expr:
        h = x
        for k in range(layers):
            h = sg.tanh(h @ sg.parameter(f"W{k}", (3, 3)))
        return sg.grad(sg.sum(h * h), x)

    for render in (str, lambda e: e.latex()):
        sizes = [len(render(deep(k))) for k in (8, 16, 32)]
        assert sizes[2] - sizes[1] < 2.3 * (sizes[1] - sizes[0])


def test_deep_graphs_need_no_recursion() -> None:
    h = s
    for _ in range(3000):
        h = sg.sin(h + 1)
    assert str(h).count("sin") == 3000 and h.latex().count("sin") == 3000


LATEX = {
    r"\tanh\left(\mathbf{x} \mathbf{W} + \mathbf{b}\right)": sg.tanh(x @ W + b),
    r"\frac{s}{t}": s / t,
    r"\sqrt{s^{2} + 1}": sg.sqrt(s**2 + 1),
    r"\sum_{i} {\mathbf{u}}_{i}": sg.sum(u),
    r"{\mathbf{u}}^{\top} \mathbf{v}": sg.dot(u, v),
    r"\operatorname{onehot}\left(\mathbf{y}\right)": sg.one_hot(y, 4),
    r"\mathbf{u} \odot \mathbf{v}": u * v,
    r"\alpha": sg.input("alpha", ()),
    r"\lambda_{1}": sg.input("lambda_1", ()),
    r"10^{-8}": sg.constant(1e-8),
}


@pytest.mark.parametrize("expected", LATEX)
def test_latex(expected: str) -> None:
    found = LATEX[expected].latex().replace("{s}^", "s^")
    assert expected in found
    assert found.count("{") == found.count("}")


def test_latex_braces_balance_for_every_operation() -> None:
    from symgrad import scalar

    for name, op in scalar.OPS.items():
        kinds = ["float32", "int32", "bool"]
        for kind in kinds:
            try:
                args = [sg.input(f"a{i}", (2,), dtype=kind) for i in range(op.arity)]
                if op.rule == "where":
                    args[0] = sg.input("c", (2,), dtype="bool")
                from symgrad.node import Map

                e = Map.of(name, *args)
            except sg.errors.DTypeError:
                continue
            assert e.latex().count("{") == e.latex().count("}"), name
            assert str(e)
            break


# -- SymPy ------------------------------------------------------------------------------------


def test_scalars_in_sympy() -> None:
    a, c = sp.Symbol("s", real=True), sp.Symbol("t", real=True)
    assert sp.simplify((sg.exp(s) * t + 0.5).sympy() - (sp.exp(a) * c + sp.Rational(1, 2))) == 0
    assert sp.simplify(sg.grad(sg.sin(s) * t, s).sympy() - c * sp.cos(a)) == 0
    assert sg.sigmoid(s).sympy().has(sp.exp)


def test_contractions_in_sympy() -> None:
    i, j = sp.symbols("i j", integer=True, nonnegative=True)
    e = (x @ W).sympy()
    assert isinstance(e, sp.Sum) and e.free_symbols >= {i, j}
    k = e.limits[0][0]
    assert e.limits[0][1:] == (0, 2)
    assert e.function.subs(k, 1).has(
        sp.IndexedBase("x", shape=(sp.Symbol("batch", integer=True, positive=True), 3))[i, 1]
    )


def value_of(e: Expr, values: dict[Expr, Any]) -> Any:
    """Every element of a small expression, through SymPy."""
    element = e.sympy()
    letters = sp.symbols("i j l m", integer=True, nonnegative=True)
    result = np.zeros(tuple(int(k) for k in e.shape))  # type: ignore[arg-type]
    for index in np.ndindex(*result.shape):
        at = element.subs(dict(zip(letters, index)))
        if hasattr(at, "doit"):
            at = at.doit()
        for leaf, array in values.items():
            base = sp.IndexedBase(leaf.name, shape=leaf.shape)
            at = at.subs({base[k]: float(array[k]) for k in np.ndindex(*array.shape)})
        result[index] = float(at)
    return result


def test_arrays_in_sympy_have_numpys_meaning() -> None:
    a, c = sg.input("a", (2, 3)), sg.input("c", (3, 2))
    values = {a: np.arange(6.0).reshape(2, 3) + 1, c: np.arange(6.0).reshape(3, 2) - 2}
    for e in (
        a @ c,
        a.T,
        sg.sum(a, axis=0) * 2,
        a[:, ::-1],
        a[1:],
        sg.pad(a, ((1, 0), (0, 1))),
        sg.reshape(a, (3, 2)) + c,
        sg.cumsum(a, axis=1),
        sg.prod(a, axis=1),
        sg.exp(a / 7) @ c,
        sg.concatenate([a, c.T], axis=0),
    ):
        expected = evaluate([e], values)[0]
        assert np.allclose(value_of(e, values), expected, rtol=1e-5), str(e)
