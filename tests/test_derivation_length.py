"""The printed gradient is about as long as the textbook's formula.

Both are counted in the same way: each sum, product, quotient, power, function and Σ sign that is
written, in all lines that are needed; names of forward values cost nothing. The textbook's formula
is written below as an expression over the same network, and proved to be the same function.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lectures import weights

import symgrad as sg
from symgrad.node import Expr
from symgrad.show.indices import resolved
from symgrad.show.notation import (
    Big,
    Call,
    Cases,
    Enclosed,
    Fraction,
    Indicator,
    Power,
    Product,
    Relation,
    Sum,
    Term,
)
from symgrad.show.parts import Line

MOST = 1.5
n = sg.dim("n", 64)
Case = tuple[Expr, dict[Expr, Expr]]  # the loss, and the textbook's gradient by each variable


def operations(term: Term) -> int:
    """Signs of operation in a term; transposes, indices and broadcasts are none."""
    own = 0
    if isinstance(term, Sum):
        own = len(term.terms) - 1
    elif isinstance(term, Product):
        own = len(term.factors) - 1
    elif isinstance(term, (Fraction, Power, Call, Relation, Indicator, Cases, Enclosed, Big)):
        own = 1
    return own + sum(map(operations, term.children()))


def count(lines: tuple[Line, ...]) -> int:
    return sum(operations(resolved(line.term)) for line in lines)


def two_layers() -> Case:
    """Softmax cross-entropy: dz = (p - y) / n, dW2 = h' dz, dW1 = x' (dz W2' o (1 - h^2))."""
    x, y = sg.input("x", (n, 4)), sg.input("y", (n,), dtype="int32")
    W1, b1, W2, b2 = weights(W1=(4, 6), b1=(6,), W2=(6, 3), b2=(3,))
    h = sg.tanh(x @ W1 + b1)
    z = h @ W2 + b2
    p = sg.nn.softmax(z)
    L = -sg.mean(sg.sum(sg.one_hot(y, 3) * sg.log(p), axis=1))
    d = p - sg.one_hot(y, 3)
    dh = (d @ W2.T) * (1 - sg.square(h))
    return L, {
        W2: h.T @ d / n,
        b2: sg.sum(d, axis=0) / n,
        W1: x.T @ dh / n,
        b1: sg.sum(dh, axis=0) / n,
    }


def layer_norm() -> Case:
    """Ba, Kiros and Hinton 2016: with d = g o r, dx = (d - mean d - xh mean(d xh)) / s by row."""
    x, r, (g, b) = sg.input("x", (n, 8)), sg.input("r", (n, 8)), weights(g=(8,), b=(8,))
    mu = sg.mean(x, axis=1, keepdims=True)
    v = sg.mean((x - mu) ** 2, axis=1, keepdims=True)
    s = sg.sqrt(v + 1e-5)
    xh = (x - mu) / s
    y = g * xh + b
    L = sg.sum(r * y)
    d = r * g
    mean_d = sg.mean(d, axis=1, keepdims=True)
    dx = (d - mean_d - xh * sg.mean(d * xh, axis=1, keepdims=True)) / s
    return L, {x: dx, g: sg.sum(r * xh, axis=0), b: sg.sum(r, axis=0)}


def batch_norm() -> Case:
    """Ioffe and Szegedy 2015, simplified: dx = (d - mean d - xh mean(d xh)) / s by column."""
    x, r, (g, b) = sg.input("x", (n, 8)), sg.input("r", (n, 8)), weights(g=(8,), b=(8,))
    mu = sg.mean(x, axis=0)
    v = sg.mean((x - mu) ** 2, axis=0)
    s = sg.sqrt(v + 1e-5)
    xh = (x - mu) / s
    y = g * xh + b
    L = sg.sum(r * y)
    d = r * g
    dx = (d - sg.mean(d, axis=0) - xh * sg.mean(d * xh, axis=0)) / s
    return L, {x: dx, g: sg.sum(r * xh, axis=0), b: sg.sum(r, axis=0)}


def attention() -> Case:
    """With d = r V', dS = P o (d - rowsum(d P)): dQ = dS K / sqrt(k), dK = dS' Q / sqrt(k)."""
    Q, K, V = sg.input("Q", (5, 4)), sg.input("K", (7, 4)), sg.input("V", (7, 3))
    r = sg.input("r", (5, 3))
    S = Q @ K.T / 2
    P = sg.nn.softmax(S)
    O = P @ V  # noqa: E741
    L = sg.sum(r * O)
    d = r @ V.T
    dS = P * (d - sg.sum(d * P, axis=1, keepdims=True))
    return L, {Q: dS @ K / 2, K: dS.T @ Q / 2, V: P.T @ r}


def layers() -> Case:
    """The library's own layer normalisation, without names for what is inside."""
    x, r = sg.input("x", (n, 8)), sg.input("r", (n, 8))
    y = sg.nn.layer_norm(x, (8,))
    L = sg.sum(r * y)
    mu = sg.mean(x, axis=1, keepdims=True)
    s = sg.sqrt(sg.mean((x - mu) ** 2, axis=1, keepdims=True) + 1e-5)
    xh = (x - mu) / s
    mean_r = sg.mean(r, axis=1, keepdims=True)
    return L, {x: (r - mean_r - xh * sg.mean(r * xh, axis=1, keepdims=True)) / s}


CASES: list[Callable[[], Case]] = [two_layers, layer_norm, batch_norm, attention, layers]


@pytest.mark.parametrize("case", CASES, ids=lambda f: f.__name__)
def test_no_longer_than_the_textbook(case: Callable[[], Case]) -> None:
    loss, formulas = case()
    d = sg.derivation(loss, list(formulas))
    for (by, formula), result in zip(formulas.items(), d.results):
        assert sg.equivalent(result.gradient, formula), by.name
        assert sg.equivalent(result.read, formula), by.name
        ours, theirs = count(result.closed), count(d.write(formula))
        assert ours <= MOST * theirs, f"{by.name}: {ours} operations, textbook {theirs}"
