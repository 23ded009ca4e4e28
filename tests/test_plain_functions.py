"""`sg.function` on its own: functions without rows, matrix algebra, derivatives of every kind,
outputs and updates of every form, and arrays as users have them. All natively compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgrad as sg

RNG = np.random.default_rng(0)


def close(found: Any, true: Any, tolerance: float = 1e-12) -> None:
    found, true = np.asarray(found), np.asarray(true)
    assert found.shape == true.shape
    np.testing.assert_allclose(found, true, rtol=tolerance, atol=tolerance)


# -- matrix algebra ----------------------------------------------------------------------------

A, B, C = (RNG.normal(size=s) for s in ((3, 5), (7, 5), (7, 2)))
S, V, W = RNG.normal(size=(4, 4)), RNG.normal(size=4), RNG.normal(size=4)
T = RNG.normal(size=(2, 3, 4, 5))

ALGEBRA: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]] = {
    "A B' C": (lambda a, b, c: a @ b.T @ c, lambda a, b, c: a @ b.T @ c, (A, B, C)),
    "quadratic form": (lambda s, v: v @ s @ v, lambda s, v: v @ s @ v, (S, V)),
    "bilinear form": (lambda s, v, w: v @ s @ w, lambda s, v, w: v @ s @ w, (S, V, W)),
    "trace": (lambda s: sg.trace(s @ s), lambda s: np.trace(s @ s), (S,)),
    "trace of a product": (
        lambda a, b: sg.trace(a @ b.T @ b @ a.T), lambda a, b: np.trace(a @ b.T @ b @ a.T), (A, B)),
    "outer": (lambda v, w: sg.outer(v, w), np.outer, (V, W)),
    "outer minus its transpose": (
        lambda v, w: sg.outer(v, w) - sg.outer(w, v), lambda v, w: np.outer(v, w) - np.outer(w, v),
        (V, W)),
    "dot": (lambda v, w: sg.dot(v, w), np.dot, (V, W)),
    "matrix by vector": (lambda a, v: a @ v[:5], lambda a, v: a @ v[:5], (A, RNG.normal(size=9))),
    "vector by matrix": (lambda v, s: v @ s, lambda v, s: v @ s, (V, S)),
    "symmetric part": (lambda s: (s + s.T) / 2, lambda s: (s + s.T) / 2, (S,)),
    "power of a matrix": (lambda s: s @ s @ s @ s, lambda s: s @ s @ s @ s, (S,)),
    "diagonal": (lambda s: sg.diag(s), np.diag, (S,)),
    "diagonal matrix": (lambda v: sg.diag(v), np.diag, (V,)),
    "lower triangle": (lambda s: sg.tril(s) @ sg.triu(s), lambda s: np.tril(s) @ np.triu(s), (S,)),
    "norm": (lambda s: sg.norm(s), np.linalg.norm, (S,)),
    "tensordot": (
        lambda t, u: sg.tensordot(t, u, axes=([1, 2], [0, 1])),
        lambda t, u: np.tensordot(t, u, axes=([1, 2], [0, 1])), (T, RNG.normal(size=(3, 4, 6)))),
    "einsum to a scalar": (
        lambda t: sg.einsum("abcd,abcd->", t, t), lambda t: np.einsum("abcd,abcd->", t, t), (T,)),
    "einsum diagonal": (lambda s: sg.einsum("ii->i", s), lambda s: np.einsum("ii->i", s), (S,)),
    "einsum of three": (
        lambda a, b, c: sg.einsum("ij,kj,kl->il", a, b, c),
        lambda a, b, c: np.einsum("ij,kj,kl->il", a, b, c), (A, B, C)),
    "batched product": (
        lambda t: t @ sg.transpose(t, (0, 1, 3, 2)), lambda t: t @ t.transpose(0, 1, 3, 2), (T,)),
    "broadcast": (
        lambda v, w: (v[:, None] + w[None, :]) ** 2, lambda v, w: (v[:, None] + w) ** 2, (V, W)),
    "pairwise distances": (
        lambda a: ((a[:, None] - a[None]) ** 2).sum(axis=-1),
        lambda a: ((a[:, None] - a[None]) ** 2).sum(-1), (A,)),
    "scalars": (lambda a, b: a * b + a / b - a**2, lambda a, b: a * b + a / b - a**2,
                (np.float64(2.5), np.float64(-0.5))),
    "scalar and matrix": (lambda a, s: a * s + s / a, lambda a, s: a * s + s / a,
                          (np.float64(2), S)),
    "flip, stride, roll": (
        lambda t: t[:, ::-1, ::2] + sg.flip(t, axis=3)[:, :, 1::2],
        lambda t: t[:, ::-1, ::2] + t[..., ::-1][:, :, 1::2], (T,)),
    "pad, concatenate, stack": (
        lambda s: sg.concatenate([sg.pad(s, ((1, 1), (0, 0))), sg.stack([s[0], s[1]])], axis=0),
        lambda s: np.concatenate([np.pad(s, ((1, 1), (0, 0))), np.stack([s[0], s[1]])]), (S,)),
    "reshape and transpose": (
        lambda t: sg.reshape(sg.transpose(t, (2, 0, 3, 1)), (20, 6)),
        lambda t: t.transpose(2, 0, 3, 1).reshape(20, 6), (T,)),
    "tile": (lambda v: sg.tile(v, (2, 3)), lambda v: np.tile(v, (2, 3)), (V,)),
    "reductions": (
        lambda t: sg.max(t, axis=(0, 2)) - sg.min(t, axis=(0, 2)) + sg.prod(t, axis=(0, 2)),
        lambda t: t.max((0, 2)) - t.min((0, 2)) + t.prod((0, 2)), (T,)),
    "statistics": (
        lambda t: sg.var(t, axis=1) + sg.std(t, axis=1), lambda t: t.var(1) + t.std(1), (T,)),
    "running sum": (lambda t: sg.cumsum(t, axis=2), lambda t: t.cumsum(2), (T,)),
    "positions of extremes": (
        lambda t: sg.argmax(t, axis=1) + sg.argmin(t, axis=1),
        lambda t: t.argmax(1) + t.argmin(1), (T,)),
    "power": (lambda v: abs(v) ** 1.5 + 2.0**v, lambda v: abs(v) ** 1.5 + 2.0**v, (V,)),
    "integer arithmetic": (
        lambda k, m: (k // m) * m + k % m - abs(k), lambda k, m: (k // m) * m + k % m - abs(k),
        (np.arange(-5, 5), np.full(10, 3))),
    "truth values": (
        lambda v, w: (v > w) | ~(v > 0), lambda v, w: (v > w) | ~(v > 0), (V, W)),
    "counts": (lambda v: sg.sum(v > 0), lambda v: (v > 0).sum(), (V,)),
}  # fmt: skip


@pytest.mark.parametrize("name", ALGEBRA)
def test_algebra(name: str) -> None:
    formula, truth, values = ALGEBRA[name]
    leaves = [
        sg.input(f"x{i}", np.shape(v), dtype=np.asarray(v).dtype) for i, v in enumerate(values)
    ]
    y = formula(*leaves)
    found = sg.function(leaves, y)(*values)
    true = np.asarray(truth(*values))
    assert np.asarray(found).dtype.kind == true.dtype.kind
    close(found, true)


@pytest.mark.parametrize("name", [k for k, (_, t, v) in ALGEBRA.items()
                                  if np.asarray(t(*v)).dtype.kind == "f"])  # fmt: skip
def test_gradients_of_algebra(name: str) -> None:
    """The compiled gradient of a weighted sum against differences of the NumPy function."""
    formula, truth, values = ALGEBRA[name]
    leaves = [sg.input(f"x{i}", np.shape(v), dtype="float64") for i, v in enumerate(values)]
    weight = np.random.default_rng(1).normal(size=np.shape(truth(*values)))
    f = sg.function(leaves, sg.grad((formula(*leaves) * weight).sum(), leaves))
    direction = [np.random.default_rng(2).normal(size=np.shape(v)) for v in values]
    h = 1e-6
    up, down = (
        (truth(*(v + s * h * d for v, d in zip(values, direction))) * weight).sum() for s in (1, -1)
    )
    along = sum((g * d).sum() for g, d in zip(f(*values), direction))
    close(along, (up - down) / (2 * h), 1e-6)


# -- derivatives, compiled ---------------------------------------------------------------------


def rosenbrock(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def test_hessian_of_rosenbrock() -> None:
    x = sg.input("x", (5,), dtype="float64")
    f = sg.function([x], [sg.hessian(rosenbrock(x), x), sg.grad(rosenbrock(x), x)])
    at = RNG.normal(size=5)
    h, g = f(at)
    true = np.zeros((5, 5))
    slope = np.zeros(5)
    for i in range(4):
        d = at[i + 1] - at[i] ** 2
        true[i, i] += 1200 * at[i] ** 2 - 400 * at[i + 1] + 2
        true[i, i + 1] = true[i + 1, i] = -400 * at[i]
        true[i + 1, i + 1] += 200
        slope[i] += -400 * at[i] * d - 2 * (1 - at[i])
        slope[i + 1] += 200 * d
    close(h, true)
    close(g, slope)


def test_products_with_jacobians_and_hessians() -> None:
    x, v = (sg.input(k, (4,), dtype="float64") for k in "xv")
    u = sg.input("u", (3,), dtype="float64")
    m = RNG.normal(size=(4, 3))
    y = sg.tanh(x @ m) * sg.exp(-x[:3])
    loss = (y * y).sum() + sg.prod(x)
    j, h = sg.jacobian(y, x), sg.hessian(loss, x)
    f = sg.function(
        [x, v, u],
        {"j": j, "h": h, "jvp": sg.jvp(y, x, v), "vjp": sg.vjp(y, x, u), "hvp": sg.hvp(loss, x, v)},
    )
    a, b, c = RNG.normal(size=4), RNG.normal(size=4), RNG.normal(size=3)
    r = f(a, b, c)
    close(r["jvp"], r["j"] @ b)
    close(r["vjp"], c @ r["j"])
    close(r["hvp"], r["h"] @ b)
    close(r["h"], r["h"].T)


def test_newton_by_hand() -> None:
    """Updates written by hand: Newton's method finds the root of two."""
    r = sg.parameter("r", (), 1.0, dtype="float64")
    error = r * r - 2
    f = sg.function([], error, updates={r: r - error / sg.grad(error, r)})
    for _ in range(6):
        f()
    close(f.state["r"], np.sqrt(2))


# -- outputs and updates of every form ---------------------------------------------------------


def test_forms_of_outputs() -> None:
    x = sg.input("x", (3,), dtype="float64")
    a = np.arange(3.0)
    one, listed, named = sg.function([x], x + 1), sg.function([x], [x + 1]), None
    named = sg.function(x, {"up": x + 1, "same": x, "sum": x.sum(), "one": 1.5, "five": 5})
    close(one(a), a + 1)
    assert isinstance(listed(a), list) and len(listed(a)) == 1
    r = named(x=a)
    assert list(r) == ["up", "same", "sum", "one", "five"]
    close(r["same"], a)
    assert r["sum"] == 3 and r["one"] == 1.5 and r["five"] == 5
    r["same"][:] = 7  # results are the caller's own
    assert a.tolist() == [0, 1, 2]
    close(named(a)["same"], a)


def test_outputs_twice_and_constants_only() -> None:
    x = sg.input("x", (2, 2))
    f = sg.function([x], [x, x, x.T, sg.constant(np.arange(4)), x * 0 + 2])
    a = np.float32([[1, 2], [3, 4]])
    r = f(a)
    close(r[0], a), close(r[1], a), close(r[2], a.T)
    assert r[3].tolist() == [0, 1, 2, 3] and r[4].tolist() == [[2, 2], [2, 2]]
    assert sg.function([], sg.constant(3.0) * 2)() == 6


def test_integer_and_truth_outputs() -> None:
    x = sg.input("x", (2, 3))
    k = sg.input("k", (3,), dtype="int64")
    f = sg.function([x, k], [x > 1, sg.argmax(x, axis=1), k * 2, (k > 1).sum(), x.astype("int32")])
    r = f([[0, 1, 2], [3, 4, 0.5]], [1, 2, 3])
    assert [str(a.dtype) for a in r[:3]] == ["bool", "int64", "int64"] or r[1].dtype == np.int32
    assert r[0].tolist() == [[False, False, True], [True, True, False]]
    assert r[1].tolist() == [2, 1] and r[2].tolist() == [2, 4, 6] and r[3] == 2
    assert r[4].tolist() == [[0, 1, 2], [3, 4, 0]]


def test_updates_see_the_values_before_the_call() -> None:
    a, b = (sg.parameter(k, (3,), np.arange(3.0) + i, dtype="float64") for i, k in enumerate("ab"))
    f = sg.function([], [a, b], updates={a: b, b: a})  # an exchange
    first = f()
    close(first[0], [0, 1, 2]), close(first[1], [1, 2, 3])
    close(f.state["a"], [1, 2, 3]), close(f.state["b"], [0, 1, 2])
    f()
    close(f.state["a"], [0, 1, 2])


def test_empty_updates_and_no_outputs() -> None:
    w = sg.parameter("w", (2,), 1.0)
    assert sg.function([], w, updates={})().tolist() == [1, 1]
    f = sg.function([], [], updates={w: w * 2})
    assert f() == []
    assert f.state["w"].tolist() == [2, 2]


def test_state_shared_between_functions() -> None:
    n = sg.dim("n", 9)
    x, t = sg.input("x", (n, 3)), sg.input("t", (n, 2))
    w, b = sg.parameter("w", (3, 2), sg.init.normal()), sg.parameter("b", (2,))
    y = x @ w + b
    step = sg.train_step(sg.losses.mse_loss(y, t), sg.optim.SGD(0.1))
    predict = sg.function([x], y, state=step.state)
    norms = sg.function([], [(w * w).sum(), b.sum()], state=predict.state)
    a = RNG.normal(size=(5, 3)).astype(np.float32)
    for _ in range(3):
        step(a, np.ones((5, 2)))
        close(predict(a), a @ step.state["w"] + step.state["b"], 1e-5)
        close(norms()[0], (step.state["w"] ** 2).sum(), 1e-5)
    step.state["w"] = np.zeros((3, 2))
    close(predict(a), np.broadcast_to(step.state["b"], (5, 2)))


def test_parameters_passed_as_inputs() -> None:
    x, w = sg.input("x", (4, 3), dtype="float64"), sg.parameter("w", (3,), 1.0, dtype="float64")
    loss = sg.tanh(x @ w).sum()
    f = sg.function([x, w], {"loss": loss, "dw": sg.grad(loss, w)})
    a, u = RNG.normal(size=(4, 3)), RNG.normal(size=3)
    r = f(a, u)
    close(r["loss"], np.tanh(a @ u).sum())
    close(r["dw"], ((1 - np.tanh(a @ u) ** 2)[:, None] * a).sum(0))
    close(f(w=u, x=a)["dw"], r["dw"])
    assert list(f.state) == []


# -- arrays as users have them -----------------------------------------------------------------

BASE = RNG.normal(size=(6, 8))
READ_ONLY = BASE[:3, :4].copy()
READ_ONLY.flags.writeable = False
ARRAYS: dict[str, Any] = {
    "fortran": np.asfortranarray(BASE[:3, :4]),
    "slice": BASE[::2, ::2],
    "negative strides": BASE[2::-1, 3::-1],
    "transposed": BASE[:4, :3].T,
    "float32": BASE[:3, :4].astype(np.float32),
    "big-endian": BASE[:3, :4].astype(">f8"),
    "half": BASE[:3, :4].astype(np.float16),
    "int64": np.arange(12).reshape(3, 4),
    "bool": np.arange(12).reshape(3, 4) % 2 == 0,
    "uint8": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "read only": READ_ONLY,
    "list": [[1.0, 2, 3, 4]] * 3,
    "tuple of arrays": (np.arange(4.0), np.arange(4.0), np.ones(4)),
    "broadcast": np.broadcast_to(np.arange(4.0), (3, 4)),
    "unaligned": np.frombuffer(b"x" + BASE[:3, :4].tobytes(), np.float64, 12, 1).reshape(3, 4),
    "longdouble": BASE[:3, :4].astype(np.longdouble),
    "masked": np.ma.masked_array(BASE[:3, :4], False),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_of_every_kind(dtype: str) -> None:
    n = sg.dim("n", 5)
    x = sg.input("x", (n, 4), dtype=dtype)
    w = np.arange(8.0).reshape(4, 2) - 3
    f = sg.function([x], [x @ w.astype(dtype), x.sum(axis=0)])
    for name, array in ARRAYS.items():
        given = np.array(array, np.float64)
        y, s = f(array)
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        assert y.dtype == dtype, name
        np.testing.assert_allclose(y, given @ w, tolerance, tolerance, err_msg=name)
        np.testing.assert_allclose(s, given.sum(0), tolerance, tolerance, err_msg=name)
        np.testing.assert_array_equal(np.array(array, np.float64), given)


def test_scalars_of_every_kind() -> None:
    a, k = sg.input("a", ()), sg.input("k", (), dtype="int32")
    f = sg.function([a, k], [a * 2, k + 1])
    for value in (1.5, np.float64(1.5), np.float32(1.5), np.array(1.5), np.array([1.5])[0]):
        assert f(value, 3) == [3, 4]
    assert f(2, np.int64(3)) == [4, 4]
    assert f(True, np.array(3)) == [2, 4]


@pytest.mark.parametrize("kind", ["int32", "int64", "uint8", "list"])
def test_labels_of_every_kind(kind: str) -> None:
    x, y = sg.input("x", (3, 4), dtype="float64"), sg.input("y", (3,), dtype="int32")
    f = sg.function([x, y], sg.losses.cross_entropy(x, y))
    labels: Any = [0, 3, 1] if kind == "list" else np.array([0, 3, 1], kind)
    z = BASE[:3, :4]
    true = np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(3), [0, 3, 1]])
    close(f(z, labels), true)


def test_results_survive_the_next_call() -> None:
    x = sg.input("x", (3,))
    f = sg.function([x], x * 2)
    first = f(np.ones(3, np.float32))
    f(np.zeros(3, np.float32))
    assert first.tolist() == [2, 2, 2]


def test_an_output_fed_back_as_an_input() -> None:
    x = sg.input("x", (64,))
    f = sg.function([x], sg.cumsum(x) + x[::-1])
    a = np.ones(64, np.float32)
    for _ in range(3):
        a, true = f(a), np.cumsum(a) + a[::-1]
        close(a, true, 1e-5)
