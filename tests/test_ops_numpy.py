"""The vocabulary against NumPy: the same call gives the same shapes, dtypes and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg
from symgrad.interpret import evaluate

SHAPES = [(), (1,), (4,), (2, 3), (3, 1), (1, 1), (2, 3, 4), (2, 1, 4), (1, 3, 1, 2)]
Array = np.ndarray[Any, Any]


def data(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Array:
    rng = np.random.default_rng([seed, *shape])
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("int"):
        return rng.integers(-5, 6, shape).astype(dtype)
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def run(function: Callable[..., Any], *arrays: Array) -> Any:
    """The function on inputs of these arrays, interpreted."""
    leaves = [sg.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
    out = function(*leaves)
    env = dict(zip(leaves, arrays))
    if isinstance(out, list):
        return evaluate(out, env)
    result = evaluate([out], env)[0]
    assert out.shape == result.shape and out.dtype == result.dtype
    return result


def same(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Array) -> None:
    got, expected = run(ours, *arrays), theirs(*arrays)
    if not isinstance(expected, list):
        got, expected = [got], [expected]
    assert len(got) == len(expected)
    for g, e in zip(got, expected):
        assert g.shape == np.shape(e)
        np.testing.assert_allclose(g, e, rtol=1e-6 if g.dtype == np.float32 else 1e-12, atol=1e-12)


def axes_of(shape: tuple[int, ...]) -> list[Any]:
    """None, every axis from both ends, and a pair."""
    found: list[Any] = [None, *range(-len(shape), len(shape))]
    return found + ([(0, -1)] if len(shape) > 1 else [])


# -- broadcasting, operators and dtypes --------------------------------------------------------


@pytest.mark.parametrize("a", SHAPES)
@pytest.mark.parametrize("b", SHAPES)
def test_broadcasting(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = data(a), data(b, seed=1)
    try:
        np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(sg.errors.ShapeError, match="sub.*do not fit"):
            run(lambda x, y: x - y, x, y)
        return
    same(lambda x, y: x - y, np.subtract, x, y)
    same(lambda x, y: sg.where(x > y, x, y * 2), lambda x, y: np.where(x > y, x, y * 2), x, y)
    same(sg.less, np.less, data(a, "bool"), data(b, "bool", 1))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "//": lambda x, y: x // y,
    "%": lambda x, y: x % y,
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
    "==": lambda x, y: x == y,
    "!=": lambda x, y: x != y,
}


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("op", OPERATIONS)
def test_operators(op: str, dtype: str) -> None:
    x, y = data((2, 3), dtype), data((3,), dtype, 1)
    y = np.where(y == 0, 1, y).astype(dtype)
    function = OPERATIONS[op]
    same(function, function, x, y)
    for number in (2, -3):
        same(lambda x, n=number: function(x, n), lambda x, n=number: function(x, n), x)
        same(lambda x, n=number: function(n, x), lambda x, n=number: function(n, x), y)
    result = run(lambda x: function(x, 2), x)
    assert result.dtype == (bool if op[0] in "<>=!" else dtype)
    same(lambda x: function(x, y), lambda x: function(x, y), x)
    same(lambda x: function(y, x), lambda x: function(y, x), np.where(x == 0, 1, x).astype(dtype))


@pytest.mark.parametrize(
    "left, right, expected",
    [
        ("float32", 2, "float32"),
        ("float32", 2.5, "float32"),
        ("float32", np.float64(2.5), "float32"),
        ("float64", 2.5, "float64"),
        ("int32", 2, "int32"),
        ("int32", 2.5, "float32"),
        ("int64", 2.5, "float32"),
        ("bool", 2, "int64"),
        ("bool", 2.5, "float32"),
        ("bool", True, "bool"),
        ("float32", True, "float32"),
        ("int32", "int64", "int64"),
        ("int64", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("bool", "float32", "float32"),
        ("bool", "int32", "int32"),
    ],
)
def test_promotion(left: str, right: Any, expected: str) -> None:
    x = sg.input("x", (2,), left)
    y = sg.input("y", (2,), right) if isinstance(right, str) else right
    assert (x + y).dtype == expected and (y + x).dtype == expected
    assert (x * y).dtype == expected and sg.where(x > y, x, y).dtype == expected


def test_integers_where_floats_are_needed() -> None:
    i, b = sg.input("i", (2,), "int64"), sg.input("b", (2,), "bool")
    for e in (sg.exp(i), sg.mean(b), i / 2, i / i, sg.sqrt(b), i**0.5, sg.var(i), sg.norm(i)):
        assert e.dtype == "float32"
    assert sg.sum(b).dtype == sg.sum(sg.cast(i, "int32")).dtype == sg.cumsum(b).dtype == "int64"
    assert sg.floor(i) is i and abs(b) is b


def test_bools() -> None:
    x, y = data((5,), "bool"), data((5,), "bool", 1)
    same(lambda x, y: x & y, np.logical_and, x, y)
    same(lambda x, y: x | y, np.logical_or, x, y)
    same(lambda x: ~x, np.logical_not, x)
    same(sg.logical_xor, np.logical_xor, x, y)
    same(lambda x, y: x + y, np.add, x, y)
    same(lambda x, y: x * y, np.multiply, x, y)
    assert (sg.input("x", (2,), "bool") * sg.input("y", (2,), "bool")).dtype == "bool"


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 16, 20, -1, -2, -3, 0.5, -0.5, 1.5, 2.0, 2.5])
def test_powers(n: float) -> None:
    x = np.abs(data((2, 3))) + 0.1
    same(lambda x: x**n, lambda x: x**n, x)
    if isinstance(n, int):
        same(lambda x: x**n, lambda x: x**n, -x)
        if n >= 0:
            same(lambda x: x**n, lambda x: x**n, data((2, 3), "int64"))
    same(lambda x, y: x**y, np.power, x, data((3,), seed=1))
    same(lambda x: 2.0**x, lambda x: 2.0**x, x)


def test_powers_use_cheap_functions() -> None:
    x = sg.input("x", (3,))
    for n, name in ((2, "square"), (0.5, "sqrt"), (-1, "reciprocal"), (-0.5, "rsqrt")):
        assert (x**n).name == name
    assert x**1 is x and x**2 is sg.square(x) and x**2.0 is x**2


def test_rounding() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.4999, 1.005, 123.456])
    for name in ("floor", "ceil", "round", "trunc"):
        same(getattr(sg, name), getattr(np, name), x)
    same(lambda x: sg.round(x, 2), lambda x: np.round(x, 2), x)
    same(lambda x: sg.round(x, -1), lambda x: np.round(x, -1), x)


def test_clip() -> None:
    for dtype in ("float64", "int32"):
        x = data((3, 4), dtype)
        same(lambda x: sg.clip(x, -1, 1), lambda x: np.clip(x, -1, 1), x)
        same(lambda x: sg.clip(x, -1), lambda x: np.clip(x, -1, None), x)
        same(lambda x: sg.clip(x, None, 1), lambda x: np.clip(x, None, 1), x)
        same(lambda x: sg.clip(x), lambda x: x, x)
        assert run(lambda x: sg.clip(x, -1), x).dtype == dtype


# -- reductions --------------------------------------------------------------------------------


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min", "std", "var", "any", "all"])
def test_reductions(name: str, shape: tuple[int, ...], keepdims: bool) -> None:
    ours, theirs = getattr(sg, name), getattr(np, name)
    for dtype in ("float64", "int64", "bool"):
        x = data(shape, dtype)
        if dtype != "float64" and name in ("mean", "std", "var"):
            continue
        for axis in axes_of(shape):
            same(
                lambda x, a=axis: ours(x, axis=a, keepdims=keepdims),
                lambda x, a=axis: theirs(x, axis=a, keepdims=keepdims),
                x,
            )


@pytest.mark.parametrize("shape", [s for s in SHAPES if s])
def test_more_reductions(shape: tuple[int, ...]) -> None:
    import scipy.special

    x = data(shape)
    for axis in axes_of(shape):
        k: dict[str, Any] = {"axis": axis, "keepdims": True}
        same(
            lambda x, k=k: sg.logsumexp(x, **k),
            lambda x, k=k: scipy.special.logsumexp(x, **k),
            x,
        )
        for order in (2, 1, np.inf, -np.inf, 0, 3, 0.5):
            same(
                lambda x, a=axis, o=order: sg.norm(x, o, a),
                lambda x, a=axis, o=order: (
                    np.linalg.norm(x.ravel(), o)
                    if a is None
                    else np.linalg.norm(x, o, a)
                    if isinstance(a, int)
                    else np.linalg.norm(np.moveaxis(x, a, (0, 1)).reshape(-1, *rest(x, a)), o, 0)
                ),
                x,
            )
        if isinstance(axis, tuple):
            continue
        for name in ("argmax", "argmin"):
            ours, theirs = getattr(sg, name), getattr(np, name)
            same(lambda x, f=ours, a=axis: f(x, a), lambda x, f=theirs, a=axis: f(x, a), x)
            ties = np.round(x)
            same(
                lambda x, f=ours, a=axis: f(x, a, keepdims=True),
                lambda x, f=theirs, a=axis: f(x, a, keepdims=True),
                ties,
            )
        same(lambda x, a=axis: sg.cumsum(x, a), lambda x, a=axis: np.cumsum(x, a), x)
    same(lambda x: sg.var(x, ddof=0.5), lambda x: np.var(x, ddof=0.5), x)
    same(lambda x: sg.std(x, correction=0.5), lambda x: np.std(x, ddof=0.5), x)


def rest(x: Array, axes: tuple[int, ...]) -> list[int]:
    return [s for i, s in enumerate(x.shape) if i not in {a % x.ndim for a in axes}]


def test_reductions_keep_nan() -> None:
    x = np.array([1.0, np.nan, 3.0])
    for name in ("max", "min", "sum", "mean"):
        assert np.isnan(run(getattr(sg, name), x))
    assert run(sg.argmax, x) == 1


# -- shapes ------------------------------------------------------------------------------------


def test_reshape() -> None:
    x = data((2, 3, 4))
    for shape in [(24,), (4, 6), (-1,), (2, -1), (3, -1, 2), (1, 24), 24, -1]:
        same(lambda x, s=shape: sg.reshape(x, s), lambda x, s=shape: np.reshape(x, s), x)
    same(lambda x: x.reshape(6, 4), lambda x: x.reshape(6, 4), x)
    same(lambda x: x.reshape((6, -1)), lambda x: x.reshape(6, -1), x)
    same(sg.ravel, np.ravel, x)
    same(lambda x: x.T, np.transpose, x)


@pytest.mark.parametrize("shape", SHAPES)
def test_rearranging(shape: tuple[int, ...]) -> None:
    for dtype in ("float64", "int32", "bool"):
        x = data(shape, dtype)
        same(sg.transpose, np.transpose, x)
        order = np.random.default_rng(0).permutation(len(shape)).tolist()
        same(lambda x, o=order: sg.transpose(x, o), lambda x, o=order: np.transpose(x, o), x)
        same(sg.squeeze, np.squeeze, x)
        same(sg.flip, np.flip, x)
        same(
            lambda x: sg.broadcast_to(x, (2, *shape)), lambda x: np.broadcast_to(x, (2, *shape)), x
        )
        same(lambda x: sg.stack([x, x], 0), lambda x: np.stack([x, x], 0), x)
        for reps in (1, 2, (2, 1, 3), (2, 2)):
            same(lambda x, r=reps: sg.tile(x, r), lambda x, r=reps: np.tile(x, r), x)
        same(lambda x: sg.repeat(x, 2), lambda x: np.repeat(x, 2), x)
        for axis in range(-len(shape), len(shape)):
            for ours, theirs in (
                (sg.flip, np.flip),
                (
                    lambda x, a: sg.concatenate([x, x[::-1], x], a),
                    lambda x, a: np.concatenate([x, x[::-1], x], a),
                ),
                (lambda x, a: sg.stack([x, x], a), lambda x, a: np.stack([x, x], a)),
                (lambda x, a: sg.repeat(x, 3, a), lambda x, a: np.repeat(x, 3, a)),
                (lambda x, a: sg.roll(x, 2, a), lambda x, a: np.roll(x, 2, a)),
                (lambda x, a: sg.split(x, [1, 2], a), lambda x, a: np.split(x, [1, 2], a)),
                (lambda x, a: sg.split(x, x.shape[a], a), lambda x, a: np.split(x, x.shape[a], a)),
                (lambda x, a: sg.moveaxis(x, a, 0), lambda x, a: np.moveaxis(x, a, 0)),
                (lambda x, a: sg.swapaxes(x, a, -1), lambda x, a: np.swapaxes(x, a, -1)),
                (lambda x, a: sg.expand_dims(x, a), lambda x, a: np.expand_dims(x, a)),
            ):
                same(lambda x, f=ours, a=axis: f(x, a), lambda x, f=theirs, a=axis: f(x, a), x)
        same(lambda x: sg.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1)), x)


def test_joining_dtypes_and_special_values() -> None:
    x = np.array([np.nan, np.inf, -np.inf])
    same(lambda x: sg.concatenate([x, x * 0]), lambda x: np.concatenate([x, x * 0]), x)
    i = sg.input("i", (2,), "int32")
    assert sg.concatenate([i, sg.input("x", (2,))]).dtype == "float32"
    assert sg.stack([sg.input("x", ()), 2.0, 3]).shape == (3,)


def test_pad() -> None:
    x = data((2, 3))
    for width in (1, (1, 2), ((0, 0), (2, 1)), ((1, 0), (0, 0)), 0):
        same(lambda x, w=width: sg.pad(x, w), lambda x, w=width: np.pad(x, w), x)
        same(
            lambda x, w=width: sg.pad(x, w, constant_values=-np.inf),
            lambda x, w=width: np.pad(x, w, constant_values=-np.inf),
            x,
        )
    same(
        lambda x: sg.pad(x, 1, constant_values=True),
        lambda x: np.pad(x, 1, constant_values=True),
        data((2, 3), "bool"),
    )


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1), (2, 3, 4)])
def test_triangles_and_diagonals(shape: tuple[int, ...]) -> None:
    for dtype in ("float64", "int32", "bool"):
        x = data(shape, dtype)
        for k in range(-4, 5):
            same(lambda x, k=k: sg.tril(x, k), lambda x, k=k: np.tril(x, k), x)
            same(lambda x, k=k: sg.triu(x, k), lambda x, k=k: np.triu(x, k), x)
            same(lambda x, k=k: sg.trace(x, k), lambda x, k=k: np.trace(x, k), x)
            same(
                lambda x, k=k: sg.diagonal(x, k, -1, 0), lambda x, k=k: np.diagonal(x, k, -1, 0), x
            )
            if len(shape) == 2:
                same(lambda x, k=k: sg.diag(x, k), lambda x, k=k: np.diag(x, k), x)
                same(lambda x, k=k: sg.diag(x[0], k), lambda x, k=k: np.diag(x[0], k), x)


# -- products ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "a, b",
    [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((1, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (1, 3, 4)),
        ((6, 1, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((3,), (5, 3, 4)),
        ((1, 1), (1, 1)),
        ((2, 1), (1, 4)),
    ],
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = data(a), data(b, seed=1)
    same(sg.matmul, np.matmul, x, y)
    same(lambda x, y: x @ y, np.matmul, x, y)
    same(lambda x: x @ y, lambda x: x @ y, x)
    same(lambda y: x @ y, lambda y: x @ y, y)
    same(sg.dot, np.dot, x, y) if len(b) < 3 else None
    same(sg.outer, np.outer, x, y)
    same(sg.matmul, np.matmul, data(a, "int64"), data(b, "int64", 1))


@pytest.mark.parametrize(
    "spec, shapes",
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ij", [(2, 3)]),
        ("ba", [(2, 3)]),
        ("ii", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("iij->ji", [(3, 3, 2)]),
        ("iji->j", [(3, 2, 3)]),
        ("i,j->ij", [(2,), (3,)]),
        ("i,i", [(3,), (3,)]),
        ("i,i->i", [(3,), (3,)]),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
        ("i,ij,j->", [(2,), (2, 3), (3,)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)]),
        ("...ij,...jk->...ik", [(6, 1, 2, 3), (5, 3, 4)]),
        ("...ij,jk", [(5, 2, 3), (3, 4)]),
        ("...->...", [(2, 3)]),
        ("i...->...", [(2, 3, 4)]),
        ("...i->...", [(2, 3, 4)]),
        ("ij,ij->i", [(2, 1), (2, 3)]),
        ("ij,j->ij", [(2, 3), (1,)]),
        (" i j , j k -> i k ", [(2, 3), (3, 4)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        (",i->i", [(), (3,)]),
    ],
)
def test_einsum(spec: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [data(s, seed=i) for i, s in enumerate(shapes)]
    same(lambda *a: sg.einsum(spec, *a), lambda *a: np.einsum(spec, *a), *arrays)


def test_tensordot_and_kin() -> None:
    a, b = data((3, 4, 5)), data((4, 3, 2), seed=1)
    for axes in (([1, 0], [0, 1]), ([0], [1]), (0, 1), 0):
        same(
            lambda x, y, k=axes: sg.tensordot(x, y, k),
            lambda x, y, k=axes: np.tensordot(x, y, k),
            a,
            b,
        )
    same(lambda x, y: sg.tensordot(x, y, 1), lambda x, y: np.tensordot(x, y, 1), a, data((5, 2)))
    same(sg.tensordot, np.tensordot, a, data((4, 5, 2)))
    same(sg.dot, np.dot, a, data((2, 5, 3)))
    same(lambda x: sg.dot(x, 3.0), lambda x: np.dot(x, 3.0), a)
    same(sg.inner, np.inner, a, data((2, 5)))
    same(sg.kron, np.kron, data((2, 3)), data((4, 5)))
    same(sg.kron, np.kron, data((3,)), data((2, 2)))


# -- indexing ----------------------------------------------------------------------------------

INDICES: list[Any] = [
    0,
    -1,
    slice(None),
    slice(1, 3),
    slice(None, None, -1),
    slice(-1, None, -2),
    slice(3, 1),
    slice(-100, 100, 3),
    None,
    ...,
    (0, 1),
    (slice(1, None), 2),
    (..., 0),
    (..., None, 1),
    (None, 1, ..., slice(None, None, 2)),
    (slice(None), None, slice(None, None, -1)),
    [0, 2, 2],
    np.array([[0, 1], [-1, 2]]),
    (slice(None), [0, -1]),
    (slice(1, 3), [0, 1], slice(None, 2)),
    ([0, 1, 2], [2, 0, 1]),
    (np.arange(4), [2, 0, 1, 1]),
    ([0, 1], slice(None), [3, -1]),
    (0, slice(None), [3, 1, 0]),
    (slice(None), [0, 1], [2, 3]),
    (slice(None), [[0], [1]], [2, 3]),
    (slice(None), None, [0, 1]),
    np.array([True, False, True, True]),
    (slice(None), np.array([False, True, True])),
    (np.int64(2), slice(np.int64(1), None)),
    [],
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_getitem(index: Any) -> None:
    for dtype in ("float64", "bool"):
        same(lambda x: x[index], lambda x: x[index], data((4, 3, 5), dtype))


def test_full_slices_cost_nothing() -> None:
    x = sg.input("x", (4, 3))
    assert x[:] is x and x[...] is x and x[:, 0:3] is x and x[0:4:1] is x


def test_indices_from_expressions() -> None:
    x, i, j = data((4, 3, 5)), np.array([[0, 3], [1, 1]]), np.array([2, 0])
    same(lambda x, i: x[i], lambda x, i: x[i], x, i)
    same(lambda x, j: x[:, j], lambda x, j: x[:, j], x, j)
    same(lambda x, i, j: x[i, j], lambda x, i, j: x[i, j], x, i, j)
    same(lambda x, i, j: x[:, j, i], lambda x, i, j: x[:, j, i], x, i, j)
    same(lambda x, i, j: x[i, :, j], lambda x, i, j: x[i, :, j], x, i, j)
    same(lambda x, k: x[..., k], lambda x, k: x[..., k], x, np.array(4))


def test_take() -> None:
    x, i = data((4, 3, 5)), np.array([[0, 2], [1, 1]])
    for axis in (None, 0, 1, -1):
        same(lambda x, i, a=axis: sg.take(x, i, a), lambda x, i, a=axis: np.take(x, i, a), x, i)
    same(lambda x: sg.take(x, [-1, 0], 1), lambda x: np.take(x, [-1, 0], 1), x)
    same(lambda x: sg.take(x, 2, 0), lambda x: np.take(x, 2, 0), x)
    for axis in (0, 1, 2, -1):
        k = np.argsort(x, axis)
        same(
            lambda x, k, a=axis: sg.take_along_axis(x, k, a),
            lambda x, k, a=axis: np.take_along_axis(x, k, a),
            x,
            k,
        )
        one = k.take([0], axis)
        same(
            lambda x, k, a=axis: sg.take_along_axis(x, k, a),
            lambda x, k, a=axis: np.take_along_axis(x, k, a),
            x,
            one,
        )
    same(
        lambda x, k: sg.take_along_axis(x, k, None),
        lambda x, k: np.take_along_axis(x, k, None),
        x,
        np.array([3, 1]),
    )
    k = np.zeros((1, 3, 2), int)
    same(lambda x, k: sg.take_along_axis(x, k, 2), lambda x, k: np.take_along_axis(x, k, 2), x, k)


def test_one_hot_and_arange() -> None:
    y = np.array([[0, 3], [1, 2]], "int32")
    same(lambda y: sg.one_hot(y, 4), lambda y: np.eye(4)[y], y)
    assert run(lambda y: sg.one_hot(y, 4, "bool"), y).dtype == bool
    same(lambda x: sg.arange(3) + x, lambda x: np.arange(3) + x, data((3,)))
    same(lambda x: sg.arange(1, 9, 3) + x, lambda x: np.arange(1, 9, 3) + x, data((3,)))
