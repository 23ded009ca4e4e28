"""Run-time sizes, random numbers and index ranges of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad import philox
from symgrad.errors import InputError
from symgrad.interpret import evaluate
from symgrad.node import Gather, Reduce, ScatterAdd
from symgrad.ops.indexing import domains

n = sg.dim("n", max=8)
x = sg.input("x", (n, 3), "float64")
y = sg.input("y", (n, 3), "float64")

# Each on (n, 3): ours, and NumPy's.
CASES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "mean": (sg.mean, np.mean),
    "mean of rows": (lambda x: sg.mean(x, 0), lambda x: np.mean(x, 0)),
    "var": (lambda x: sg.var(x, 0, ddof=1), lambda x: np.var(x, 0, ddof=1)),
    "divided by the size": (lambda x: sg.sum(x) / n, lambda x: x.sum() / len(x)),
    "size in a formula": (lambda x: x * n + (n + 1) / 2, lambda x: x * len(x) + (len(x) + 1) / 2),
    "reversed": (lambda x: x[::-1], lambda x: x[::-1]),
    "flip": (sg.flip, np.flip),
    "first": (lambda x: x[0, 1:], lambda x: x[0, 1:]),
    "last": (lambda x: x[-1], lambda x: x[-1]),
    "new axes": (lambda x: x[:, None, 1], lambda x: x[:, None, 1]),
    "column list": (lambda x: x[:, [2, 0]], lambda x: x[:, [2, 0]]),
    "softmax": (
        lambda x: sg.exp(x) / sg.sum(sg.exp(x), 0, keepdims=True),
        lambda x: np.exp(x) / np.exp(x).sum(0, keepdims=True),
    ),
    "gram": (lambda x: x.T @ x, lambda x: x.T @ x),
    "pairs": (lambda x: x @ x.T, lambda x: x @ x.T),
    "trace of pairs": (lambda x: sg.trace(x @ x.T), lambda x: np.trace(x @ x.T)),
    "causal": (lambda x: sg.tril(x @ x.T, -1), lambda x: np.tril(x @ x.T, -1)),
    "diag": (lambda x: sg.diag(x[:, 0]), lambda x: np.diag(x[:, 0])),
    "flat": (lambda x: sg.reshape(x, -1), lambda x: x.reshape(-1)),
    "regrouped": (lambda x: x.reshape(-1, 1, 3), lambda x: x.reshape(-1, 1, 3)),
    "joined": (lambda x: sg.concatenate([x, x[:, :1]], 1), lambda x: np.c_[x, x[:, :1]]),
    "stacked": (lambda x: sg.stack([x, -x]), lambda x: np.stack([x, -x])),
    "tiled": (lambda x: sg.tile(x, (2, 2)), lambda x: np.tile(x, (2, 2))),
    "repeated": (lambda x: sg.repeat(x, 2, 0), lambda x: np.repeat(x, 2, 0)),
    "padded": (lambda x: sg.pad(x, ((0, 0), (1, 1))), lambda x: np.pad(x, ((0, 0), (1, 1)))),
    "argmax": (lambda x: sg.argmax(x, 0), lambda x: np.argmax(x, 0)),
    "cumsum": (lambda x: sg.cumsum(x, 0), lambda x: np.cumsum(x, 0)),
    "positions": (lambda x: sg.arange(n), lambda x: np.arange(len(x))),
    "norm": (lambda x: sg.norm(x, axis=0), lambda x: np.linalg.norm(x, axis=0)),
    "einsum": (lambda x: sg.einsum("ni,nj->ij", x, x), lambda x: np.einsum("ni,nj->ij", x, x)),
}


@pytest.mark.parametrize("case", CASES)
def test_one_graph_serves_every_size(case: str) -> None:
    ours, theirs = CASES[case]
    e = ours(x)
    for size in (1, 2, 5, 8):
        array = np.random.default_rng(size).standard_normal((size, 3))
        np.testing.assert_allclose(evaluate([e], {x: array})[0], theirs(array), atol=1e-12)


def test_sizes_must_agree() -> None:
    with pytest.raises(InputError, match="y: shape .3, 3. does not fit .n, 3."):
        evaluate([x + y], {x: np.ones((2, 3)), y: np.ones((3, 3))})
    with pytest.raises(InputError, match="no value is given for input 'y'"):
        evaluate([x + y], {x: np.ones((2, 3))})
    with pytest.raises(InputError, match=r"x: shape \(3,\), expected \(n, 3\)"):
        evaluate([x], {x: np.ones(3)})


# -- random numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counter, key, expected",
    [  # kat_vectors of Random123, philox4x32 with 10 rounds
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter: Any, key: Any, expected: str) -> None:
    assert " ".join(f"{int(w):08x}" for w in philox.words(counter, key)) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_laws(dtype: str) -> None:
    u = sg.random.uniform((200, 100), dtype=dtype)
    z = sg.random.normal((200, 100), dtype=dtype)
    p, scaled = sg.random.bernoulli(0.3, (200, 100)), sg.random.uniform((200, 100), -2, 3)
    got = evaluate([u, z, p, scaled], {}, seed=7, step=3)
    assert 0 <= got[0].min() and got[0].max() < 1 and got[0].dtype == dtype
    assert abs(got[0].mean() - 0.5) < 0.01 and abs(got[0].var() - 1 / 12) < 0.003
    assert abs(got[1].mean()) < 0.03 and abs(got[1].std() - 1) < 0.02
    assert abs(np.mean(got[1] ** 4) - 3) < 0.2
    assert got[2].dtype == bool and abs(got[2].mean() - 0.3) < 0.02
    assert -2 <= got[3].min() < -1.9 and 2.9 < got[3].max() <= 3


def test_numbers_depend_on_seed_step_stream_and_place_alone() -> None:
    u = sg.random.uniform((4, 5))
    v = sg.random.uniform((4, 5))
    (first,) = evaluate([u], {}, seed=1, step=2)
    assert (first == evaluate([u + 0], {}, seed=1, step=2)[0]).all()
    others = [
        *evaluate([u], {}, seed=2, step=2),
        *evaluate([u], {}, seed=1 | 1 << 40, step=2),
        *evaluate([u], {}, seed=1, step=3),
        *evaluate([v], {}, seed=1, step=2),
    ]
    for other in others:
        assert (first != other).all()
    again = sg.random.uniform((2, 10), stream=u.attrs[1])
    assert (evaluate([again], {}, seed=1, step=2)[0].ravel() == first.ravel()).all()
    rows = sg.random.normal((n, 3), mean=1.0, std=0.5)
    few, many = (evaluate([rows], {}, {"n": k})[0] for k in (2, 6))
    assert (few == many[:2]).all()


# -- which inputs are indices ------------------------------------------------------------------


def test_domains() -> None:
    labels = sg.input("labels", (n,), "int32")
    words = sg.input("words", (n, 4), "int64")
    column = sg.input("column", (n, 1), "int64")
    free = sg.input("free", (n,), "int32")
    table = sg.parameter("table", (100, 8))
    logits = sg.input("logits", (n, 10))
    outputs = [
        sg.losses.cross_entropy(logits, labels),
        sg.take(table, words, 0),
        sg.take_along_axis(logits, column, 1),
        sg.cast(free, "float32") + sg.arange(n),
        sg.where(free > 3, free, 3),
    ]
    found = domains(outputs)
    assert {k.name: v[:2] for k, v in found.items()} == {
        "labels": (0, 10),
        "words": (0, 100),
        "column": (0, 10),
    }
    assert found[words][2].where.line > 0 and found[words][2].where.file == __file__
    both = [sg.one_hot(labels, 12), logits[sg.arange(n), labels], sg.one_hot(labels, 11)]
    assert domains(both)[labels][:2] == (0, 10)
    assert domains([x[sg.cast(free, "int64")]])[free][:2] == (0, n)


def test_indices_out_of_range_are_errors() -> None:
    i = sg.input("i", (2,), "int32")
    table = sg.constant(np.ones((4, 2)))
    for bad in ([0, 4], [-1, 0]):
        with pytest.raises(InputError, match="index .* out of range for an axis of size 4.*\n  at"):
            evaluate([table[i]], {i: bad})


# -- nodes the vocabulary makes only sometimes --------------------------------------------------


@pytest.mark.parametrize("axis, batch", [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2)])
def test_gather_and_scatter_are_transposed(axis: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    a = sg.input("a", (2, 3, 4), "float64")
    extents = (2, 3, 4)
    i = sg.input("i", (*extents[:batch], 5, 2), "int64")
    picked = Gather.of(a, i, axis, batch)
    values = sg.input("values", picked.shape, "float64")
    back = ScatterAdd.of(values, i, axis, batch, extents[axis])
    assert back.shape == a.shape
    env = {
        a: rng.standard_normal(a.shape),
        i: rng.integers(0, extents[axis], i.shape),
        values: rng.standard_normal(values.shape),
    }
    p, b = evaluate([picked, back], env)
    assert np.sum(p * env[values]) == pytest.approx(np.sum(b * env[a]))
    if batch == 0:
        np.testing.assert_array_equal(p, np.take(env[a], env[i], axis))


def test_reductions_of_several_axes() -> None:
    a = sg.input("a", (2, 3, 4), "float64")
    array = np.random.default_rng(0).standard_normal((2, 3, 4))
    for law in ("max", "min", "prod"):
        got = evaluate([Reduce.of(law, a, (0, 2))], {a: array})[0]
        np.testing.assert_allclose(got, getattr(np, law)(array, (0, 2)))
