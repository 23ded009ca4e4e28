# ruff: noqa: E501 - a table: one example per line
"""The rules for reading: each fires, and is an identity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from test_rewrite_rules import apply_alone, leaf, left_sides, m, row_sum, rows

import symgrad as sg
from symgrad.derive.algebra import eye
from symgrad.equivalent import equivalent
from symgrad.interpret import evaluate
from symgrad.node import Constant, Contract, Expr, Reindex, ScatterAdd, SizeOf
from symgrad.rewrite.engine import Rule
from symgrad.rewrite.reading import OPEN, TABLE, Reader

X, ROW, V = leaf("x", 3, 4), leaf("r", 3), leaf("v", 4)
LABELS = leaf("labels", 3, dtype="int32")
E = m("exp", V)
SUM = Contract.of([[0]], [], E)
I4 = eye(4, "float64")
ROOT = m("sqrt", m("add", 1e-5, m("square", ROW)))


def across(v: Expr) -> Expr:
    """v along the rows of a 4 x 4 matrix."""
    return Contract.of([[1]], [0, 1], v, sizes={0: 4})


def down(v: Expr) -> Expr:
    return Contract.of([[0]], [0, 1], v, sizes={1: 4})


def squares() -> Expr:
    return Contract.of([[0]], [], m("square", V))


def positive() -> Expr:
    return m("greater", squares(), 0.0)


EXAMPLES: dict[str, Callable[[], Expr]] = {
    "decay": lambda: m("sub", X, m("mul", leaf("u"), m("add", m("mul", leaf("a"), X), leaf("g", 3, 4)))),
    "decay, apart": lambda: m("sub", X, m("add", m("mul", leaf("a"), X), leaf("g", 3, 4))),
    "times reciprocal of a number": lambda: m("mul", m("div", 1.0, leaf("u")), X),
    "multiple and once more": lambda: m("add", X, m("mul", 2.0, X)),
    "sum of deviations, turned": lambda: row_sum(m("sub", rows(m("mul", 0.25, row_sum(X))), X)),
    "diagonal of a number": lambda: Reindex.of(
        Constant.of(np.array([2.0])), [(0, ((0, 1), (1, -1)), 1)], (4, 4)),
    "product with the identity": lambda: Contract.parse("ij,jk->ik", X, I4),
    "sum with the identity": lambda: Contract.of([[0, 1]], [0], m("mul", I4, across(V))),
    "diagonal softmax": lambda: m("div", m("mul", I4, across(E)), SUM),
    "outer softmax": lambda: m("mul", down(E), across(m("div", V, SUM))),
    "number at a label": lambda: ScatterAdd.of(
        Contract.of([[]], [0], Constant.of(2.0), sizes={0: 3}), LABELS, 1, 1, 4),
    "number at a place": lambda: Reindex.of(Constant.of(np.array([2.0])), [(2, ((0, -1),), 1)], (4,)),
    "known choice": lambda: m(
        "where", positive(), m("div", 0.5, m("where", positive(), m("sqrt_or_zero", squares()), 1.0)), 0.0),
    "sum of constants": lambda: Contract.of([[0]], [], Constant.of(np.array([0.1, 0.2, 0.7]))),
    "slope of a norm": lambda: m("where", positive(), m("div", 0.5, m("sqrt_or_zero", squares())), 0.0),
    "choice of a sign": lambda: m(
        "where", m("greater", X, 0.0), 1.0, m("exp", m("minimum", 0.0, X))),
    "deviation over its scale": lambda: m(
        "mul", m("sub", X, rows(ROW)), rows(m("div", leaf("k", 3), ROOT))),
    "one denominator": lambda: m(
        "sub", m("div", X, rows(ROOT)), rows(m("div", leaf("k", 3), ROOT))),
    "open at the identity": lambda: m("mul", down(V), m("sub", I4, across(V))),
}  # fmt: skip
RULES = [*TABLE.rules, *OPEN.rules]


@pytest.mark.parametrize("rule", RULES, ids=[r.name for r in RULES])
def test_rule(rule: Rule) -> None:
    lefts = [EXAMPLES[rule.name]()] if rule.name in EXAMPLES else list(left_sides(rule))
    pairs = [(left, right) for left in lefts if (right := apply_alone(rule, left)) is not None]
    assert pairs, f"{rule.name} does not fire"
    left, right = pairs[0]
    assert right is not left
    if rule.exact:
        assert equivalent(left, right)
        return
    assert rule.why
    values = {e: np.array([0.5, -1.0, 2.0, 3.0]) for e in (V,)} | {X: np.arange(12.0).reshape(3, 4)}
    a, b = evaluate([left, right], values)
    assert np.allclose(a, b)  # off the places that the reason names


def test_a_scale_that_matters_stays() -> None:
    """Only a scale that the value does not depend on is read as 1."""
    x = sg.input("x", (4,))
    norm = sg.sqrt(sg.sum(x * x))
    shown = sg.simplify(norm)
    assert str(shown) == "‖x‖" and equivalent(shown, norm)
    (scale,) = [
        e for e in sg.node.toposort([sg.rewrite.run([norm])[0][0]])
        if e.name == "where" or e.name == "stop_gradient"
    ][-1:]  # fmt: skip
    kept = Reader().read(scale * sg.sum(x))
    assert "max" in str(kept)


def test_simplify_keeps_what_it_is_told() -> None:
    x, W = sg.input("x", (3,)), sg.parameter("W", (3,))
    g = sg.exp(x) + W
    shown = sg.simplify(W - 0.5 * (g + 2.0 * W), keep=[g])
    assert any(e is g for e in sg.node.toposort([shown]))


def test_run_time_sizes_stay_shares() -> None:
    n = sg.dim("n", 8)
    x = sg.input("x", (n, 3))
    assert str(sg.simplify(sg.grad(sg.mean(x * x), x))) == "2 x / (3 n)"
    assert isinstance(SizeOf.of(n, "float64"), SizeOf)


# -- softmax ------------------------------------------------------------------------------------
n = sg.dim("batch", 64)
Z, Y, SCORES = sg.input("Z", (n, 5)), sg.input("Y", (n, 5)), sg.input("z", (5,))
SHARES = sg.constant(np.array([0.1, 0.2, 0.3, 0.2, 0.2], "float32"))
WEIGHTS, ROWS_OF = sg.parameter("W", (7, 5)), sg.input("X", (n, 7))


def textbook(z: Expr) -> Expr:
    return sg.exp(z) / sg.exp(z).sum(axis=-1, keepdims=True)


def entropy_of(y: Expr, z: Expr) -> Expr:
    return -(y * sg.log(textbook(z))).sum(axis=1).mean()


def entropy(z: Expr) -> Expr:
    return -(textbook(z) * sg.log(textbook(z))).sum(axis=1).mean()


SOFTMAXES: dict[str, tuple[Callable[[], Expr], str]] = {
    "jacobian": (lambda: sg.jacobian(textbook(SCORES), SCORES), "p = softmax(z)\ndiag(p) - p pᵀ"),
    "soft labels": (lambda: sg.grad(entropy_of(Y, Z), Z), "(softmax(Z) ⊙ (Σ_j Y_ij) - Y) / batch"),
    "soft labels, weights": (
        lambda: sg.grad(entropy_of(Y, ROWS_OF @ WEIGHTS), WEIGHTS),
        "Xᵀ (softmax(X W) ⊙ (Σ_j Y_ij) - Y) / batch"),
    "constant labels": (
        lambda: sg.grad(-(SHARES * sg.log(textbook(SCORES))).sum(), SCORES),
        "softmax(z) - [0.1, 0.2, 0.3, 0.2, 0.2]"),
    "Hessian, constant labels": (
        lambda: sg.hessian(-(SHARES * sg.log(textbook(SCORES))).sum(), SCORES),
        "p = softmax(z)\ndiag(p) - p pᵀ"),
    "logsumexp": (lambda: sg.logsumexp(SCORES), "logsumexp(z)"),
    "entropy": (
        lambda: sg.grad(entropy(Z), Z),
        "p = softmax(Z)\nt1 = log(softmax(Z))\np ⊙ (Σ_j p_ij t1_ij - t1) / batch"),
}  # fmt: skip


@pytest.mark.parametrize("case", SOFTMAXES)
def test_softmax_is_read_as_one(case: str) -> None:
    """Quotients that algebra pulled apart close, and no shift by the maximum is seen."""
    build, shown = SOFTMAXES[case]
    given = build()
    read = sg.simplify(given)
    assert str(read) == shown
    assert equivalent(read, given)


def test_a_shift_that_matters_stays() -> None:
    """A maximum of its own is no part of a softmax."""
    shown = sg.simplify(SCORES - sg.max(SCORES) + sg.nn.softmax(SCORES))
    assert "max" in str(shown)
    assert equivalent(shown, SCORES - sg.max(SCORES) + sg.nn.softmax(SCORES))


def test_constants_once() -> None:
    """Sums of constants are numbers; an array shown twice is defined once."""
    assert str(sg.simplify((SHARES * SCORES).sum() - SHARES.sum())) == (
        "zᵀ [0.1, 0.2, 0.3, 0.2, 0.2] - 1"
    )
    assert str(sg.exp(SCORES * SHARES) + SHARES).startswith("c1 = [0.1, 0.2, 0.3, 0.2, 0.2]\n")
