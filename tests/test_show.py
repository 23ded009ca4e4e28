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
    "Σ_i (x_ji + 1)": sg.sum(x.T + 1, axis=0),
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
    n = sp.Symbol("batch", integer=True, positive=True)
    X, V = sp.MatrixSymbol("x", n, 3), sp.MatrixSymbol("W", 3, 4)
    assert (x @ W).sympy() == X * V
    assert (W.T @ x.T).sympy() == V.T * X.T
    e = sg.sum(u * v).sympy()
    assert isinstance(e, sp.Sum) and e.limits[0][1:] == (0, 2)


a2, c2, v3 = sg.input("a", (2, 3)), sg.input("c", (3, 2)), sg.input("v", (3,))
w2 = sg.input("w", (2,))
MATRICES: dict[str, Expr] = {
    "product": a2 @ c2,
    "transpose": a2.T,
    "vector": a2 @ v3,
    "row": w2 @ a2,
    "outer": sg.outer(w2, v3),
    "hadamard": a2 * c2.T,
    "quotient": a2 / c2.T,
    "number": 2.5 * a2 - a2 / 3,
    "rows": a2 + v3,
    "columns": a2 * w2[:, None],
    "row sums": sg.sum(a2, axis=1),
    "column sums": sg.sum(a2, axis=0) * 2,
    "functions": sg.tanh(a2) @ c2 + sg.sigmoid(c2.T @ c2),
    "powers": sg.square(a2) + sg.exp(a2 / 7),
    "flip": a2[:, ::-1],
    "slice": a2[1:],
    "pad": sg.pad(a2, ((1, 0), (0, 1))),
    "reshape": sg.reshape(a2, (3, 2)) + c2,
    "running": sg.cumsum(a2, axis=1),
    "prod": sg.prod(a2, axis=1),
    "maximum": sg.maximum(a2, c2.T),
    "choice": sg.where(a2 > 2, a2, 0.0),
    "concatenate": sg.concatenate([a2, c2.T], axis=0),
    "constant": a2 @ sg.constant([[1.0, 2.0], [0.0, 1.0], [3.0, 0.5]]),
    "gradient": sg.grad(sg.sum(sg.tanh(a2 @ v3 + w2) ** 2), a2),
    "sum": sg.sum(a2 @ c2),
    "norm": sg.sqrt(sg.sum(a2 * a2)),
    "stack": sg.einsum("ij,jk,kl->ijl", a2, c2, a2),
}


def value_of(e: Expr, values: dict[Expr, Any]) -> Any:
    """Every element of a small expression, through SymPy."""
    found = e.sympy()
    for leaf, array in values.items():
        columns = array if array.ndim == 2 else array[:, None]
        found = found.subs(sp.MatrixSymbol(leaf.name, *columns.shape), sp.Matrix(columns))
    if isinstance(found, sp.MatrixBase | sp.MatrixExpr):
        elements = sp.Matrix(found.doit().as_explicit()).doit()
        at = [elements[k] for k in range(elements.rows * elements.cols)]
    else:
        letters = sp.symbols("i j l m", integer=True, nonnegative=True)
        places = np.ndindex(*map(int, e.shape))  # type: ignore[arg-type]
        at = [found.subs(dict(zip(letters, index))) for index in places]
    result = []
    for x in at:
        x = x.doit() if hasattr(x, "doit") else x
        for leaf, array in values.items():
            base = sp.IndexedBase(leaf.name, shape=leaf.shape)
            x = x.subs({base[k]: float(array[k]) for k in np.ndindex(*array.shape)})
        result.append(float(x))
    return np.array(result).reshape(tuple(map(int, e.shape)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MATRICES)
def test_sympy_has_our_values(name: str) -> None:
    values = {
        a2: np.arange(6.0).reshape(2, 3) + 1,
        c2: np.arange(6.0).reshape(3, 2) - 2.5,
        v3: np.array([0.5, -1.0, 2.0]),
        w2: np.array([1.5, -0.25]),
    }
    expected = evaluate([MATRICES[name]], values)[0]
    assert np.allclose(value_of(MATRICES[name], values), expected, rtol=1e-4, atol=1e-6)


def test_matrices_stay_matrices() -> None:
    for name in ("product", "outer", "hadamard", "functions", "rows", "gradient", "row sums"):
        assert not MATRICES[name].sympy().has(sp.FunctionMatrix), name


def test_numbers_stand_above_one_line() -> None:
    """2/n xᵀ (x w - t), and a mean as 1/n Σ; a sum in brackets ends where its fraction does."""
    from symgrad.show.listing import mathml

    n = sg.dim("n", 16)
    x, t, w = sg.input("x", (n, 4)), sg.input("t", (n,)), sg.parameter("w", (4,))
    gradient = sg.simplify(sg.grad(((x @ w - t) ** 2).mean(), w))
    assert gradient.latex() == (
        r"\frac{2}{n} {\mathbf{x}}^{\top} \left(\mathbf{x} \mathbf{w} - \mathbf{t}\right)"
    )
    assert "<mfrac><mrow><mn>2</mn></mrow><mrow><mi>n</mi></mrow></mfrac>" in mathml(gradient)
    mean = sg.mean(sg.exp(t))
    assert mean.latex() == r"\frac{1}{n} \sum_{i} \exp\left({\mathbf{t}}_{i}\right)"
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mi>n</mi></mrow></mfrac>" in mathml(mean)
    before = (mean + w).latex()
    assert before == r"\frac{\sum_{i} \exp\left({\mathbf{t}}_{i}\right)}{n} + \mathbf{w}"
    assert r"\operatorname{leaky\ relu}" in sg.leaky_relu(w, 0.1).latex()
