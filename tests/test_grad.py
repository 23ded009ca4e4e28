"""Derivatives of every node kind against differences; forward against reverse; second order."""

from __future__ import annotations

import warnings
from typing import Any, Callable

import numpy as np
import pytest
from gradcheck import Point, check_first, check_second, close, slope, values, weighted

from symgrad.errors import DisconnectedWarning
from symgrad.grad import grad, hessian, jacobian, jvp, vjp
from symgrad.identity.evaluate import primitives, run
from symgrad.identity.field import Tower
from symgrad.identity.values import Context, Value
from symgrad.interpret import evaluate
from symgrad.node import (
    Constant,
    Contract,
    Expr,
    Gather,
    Input,
    Iota,
    Map,
    Reduce,
    Reindex,
    Reshape,
    ScatterAdd,
)
from symgrad.scalar import OPS, sp
from symgrad.sizes import dim

pytestmark = pytest.mark.filterwarnings("ignore::symgrad.errors.DisconnectedWarning")


def leaf(name: str, *shape: Any) -> Input:
    return Input(name, shape, "float64")


# -- every op of the table -------------------------------------------------------------------------
DOMAINS = {  # where the function is smooth, argument by argument
    "log": [(0.3, 3)],
    "log1p": [(-0.5, 3)],
    "sqrt": [(0.3, 3)],
    "sqrt_or_zero": [(0.3, 3)],
    "rsqrt": [(0.3, 3)],
    "log2": [(0.3, 3)],
    "log10": [(0.3, 3)],
    "asin": [(-0.8, 0.8)],
    "acos": [(-0.8, 0.8)],
    "atanh": [(-0.8, 0.8)],
    "acosh": [(1.2, 4)],
    "tan": [(-1.2, 1.2)],
    "sec": [(-1.2, 1.2)],
    "cot": [(0.3, 2.8)],
    "csc": [(0.3, 2.8)],
    "pow": [(0.3, 3), (-2, 3)],
    "xlogy": [(0.3, 3), (0.3, 3)],
    "log1mexp": [(-3, -0.2)],
    "reciprocal": [(0.3, 3)],
    "div": [(-2, 2), (0.3, 3)],
    "mod": [(0.1, 0.9), (1.1, 1.9)],
    "clip": [(-2, 2), (-1.5, -0.5), (0.5, 1.5)],
}


STEPS = "floor ceil round trunc floor_divide sign stop_gradient".split()


def float_ops() -> list[str]:
    return [
        name
        for name, op in OPS.items()
        if op.rule in ("float", "number", "any") and op.user is None
    ]


def ordinary(name: str, shape: tuple[int, ...], seed: int) -> list[np.ndarray[Any, Any]]:
    """A point away from the kinks at whole and half numbers."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(OPS[name].arity):
        low, high = DOMAINS.get(name, [(-2, 2)] * 9)[i]
        found.append(rng.uniform(low, high, shape) + 1e-3)
    if name in ("minimum", "maximum", "floor", "ceil", "round", "trunc", "floor_divide", "sign"):
        found[0] = np.where(np.abs(found[0] * 2 % 1) < 0.05, found[0] + 0.07, found[0])
    return found


@pytest.mark.parametrize("name", float_ops())
@pytest.mark.parametrize("shape", [(), (3, 2)])
def test_map(name: str, shape: tuple[int, ...]) -> None:
    args = [leaf(f"x{i}", *shape) for i in range(OPS[name].arity)]
    point: Point = dict(zip(args, ordinary(name, shape, len(name))))
    y = Map.of(name, *args)
    if name in STEPS:
        with pytest.warns(DisconnectedWarning):
            for g in grad(weighted(y), args):
                assert isinstance(g, Expr) and not values([g], point)[0].any()
        return
    check_first(y, point, args)
    check_second(y, point, args)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum", "pow", "atan2", "clip"])
def test_map_with_scalar_operands(name: str) -> None:
    """A 0-d operand stands for every element: its gradient is a sum."""
    arity = OPS[name].arity
    for scalar in range(arity):
        args = [leaf(f"x{i}", *(() if i == scalar else (4, 3))) for i in range(arity)]
        full = ordinary(name, (4, 3), 5)
        point: Point = {a: v if a.shape else v[0, 0] for a, v in zip(args, full)}
        y = Map.of(name, *args)
        check_first(y, point, args)
        check_second(y, point, args)
        for a in args:
            check_jacobian(y, a, point)


def test_where_and_casts() -> None:
    a, b, s = leaf("a", 3, 4), leaf("b", 3, 4), leaf("s")
    rng = np.random.default_rng(0)
    point: Point = {a: rng.normal(size=(3, 4)), b: rng.normal(size=(3, 4)), s: np.array(0.7)}
    y = sp.where(a > b, a * b * s, s * s)
    check_first(y, point, [a, b, s])
    check_second(y, point, [a, b, s])
    for e in (a, b, s):
        check_jacobian(y, e, point)
    low = Map.of("to_float32", a)
    g = grad(Contract.of([range(2)], [], low * low), a)
    assert g.dtype == "float64"
    close(values([g], point)[0], 2 * point[a], 1e-6)


# -- the other kinds -------------------------------------------------------------------------------
def rows(x: Expr, axis: int = 0) -> Expr:
    return Contract.of([range(x.ndim)], [k for k in range(x.ndim) if k != axis], x)


Case = tuple[Callable[..., Expr], list[tuple[int, ...]]]
CASES: dict[str, Case] = {
    "sum": (lambda x: Contract.parse("ij->j", x), [(3, 4)]),
    "broadcast": (lambda x: Contract.parse("j->ij", x, sizes={"i": 5}), [(4,)]),
    "transpose": (lambda x: Contract.parse("ijk->kij", x), [(2, 3, 4)]),
    "matmul": (lambda a, b: Contract.parse("ik,kj->ij", a, b), [(3, 4), (4, 2)]),
    "batched": (lambda a, b: Contract.parse("bik,bkj->bji", a, b), [(2, 3, 4), (2, 4, 2)]),
    "outer": (lambda a, b: Contract.parse("i,j->ij", a, b), [(3,), (4,)]),
    "three": (lambda a, b, c: Contract.parse("ij,jk,ki->k", a, b, c), [(2, 3), (3, 4), (4, 2)]),
    "square norm": (lambda a: Contract.parse("i,i->", a, a), [(5,)]),
    "gram": (lambda a: Contract.parse("ik,jk->ij", a, a), [(3, 4)]),
    "cube": (lambda a: Contract.parse("i,i,i->i", a, a, a), [(4,)]),
    "summed and spread": (
        lambda a, b: Contract.parse("ij,jk->jm", a, b, sizes={"m": 2}),
        [(2, 3), (3, 4)],
    ),
    "max": (lambda x: Reduce.of("max", x, [1]), [(3, 4)]),
    "max of all": (lambda x: Reduce.of("max", x * x, [0, 1]), [(3, 4)]),
    "min": (lambda x: Reduce.of("min", x * x, [0, 2]), [(2, 3, 4)]),
    "prod": (lambda x: Reduce.of("prod", x, [1]), [(3, 5)]),
    "prod of all": (lambda x: Reduce.of("prod", x * x, [0, 1]), [(2, 3)]),
    "prod of one": (lambda x: Reduce.of("prod", sp.exp(x), [0]), [(1, 3)]),
    "cumsum": (lambda x: Reduce.of("cumsum", x * x, [1]), [(2, 4)]),
    "cumsum first": (lambda x: sp.exp(Reduce.of("cumsum", x, [0])), [(4, 2)]),
    "slice": (
        lambda x: Reindex.of(x * x, [(1, ((0, 1),), 1), (0, ((1, 2),), 1)], (2, 3)),
        [(4, 6)],
    ),
    "pad": (lambda x: Reindex.of(x * x, [(-2, ((0, 1),), 1)], (8,), 3.0), [(4,)]),
    "flip": (lambda x: Reindex.of(x * x, [(4, ((0, -1),), 1)], (5,)), [(5,)]),
    "flip stride": (lambda x: Reindex.of(x * x, [(6, ((0, -2),), 1)], (4,)), [(8,)]),
    "dilate": (lambda x: Reindex.of(x * x, [(-1, ((0, 1),), 3)], (9,)), [(3,)]),
    "dilated stride": (lambda x: Reindex.of(x * x, [(1, ((0, 2),), 3)], (7,)), [(6,)]),
    "pick": (lambda x: Reindex.of(x * x, [(2, (), 1), (0, ((0, 1),), 1)], (3,)), [(4, 3)]),
    "pick outside": (lambda x: Reindex.of(x * x, [(7, (), 1), (0, ((0, 1),), 1)], (3,)), [(4, 3)]),
    "pick outside a unit": (
        lambda x: Reindex.of(x * x, [(1, (), 1), (0, ((0, 1),), 1)], (3,), 2.0),
        [(1, 3)],
    ),
    "spread unit": (lambda x: Reindex.of(x, [(0, (), 1), (0, ((1, 1),), 1)], (5, 3)), [(1, 3)]),
    "repeat": (lambda x: Reindex.of(x * x, [(0, ((1, 1),), 1)], (2, 4)), [(4,)]),
    "diagonal": (
        lambda x: Reindex.of(x * x, [(0, ((0, 1),), 1), (0, ((0, 1),), 1)], (4,)),
        [(4, 4)],
    ),
    "off diagonal": (
        lambda x: Reindex.of(x * x, [(1, ((0, 2),), 1), (0, ((0, 1),), 1)], (3,)),
        [(6, 4)],
    ),
    "windows": (lambda x: Reindex.of(x * x, [(0, ((0, 1), (1, 1)), 1)], (4, 3)), [(6,)]),
    "strided windows": (
        lambda x: Reindex.of(x * x, [(-1, ((0, 2), (1, 3)), 1)], (4, 3)),
        [(9,)],
    ),
    "image windows": (
        lambda x: Reindex.of(
            x * x, [(-1, ((0, 1), (2, 1)), 1), (0, ((1, 2), (3, 1)), 1)], (4, 2, 3, 2)
        ),
        [(4, 5)],
    ),
    "coupled windows": (
        lambda x: Reindex.of(
            x * x, [(0, ((0, 1), (1, 1)), 1), (1, ((0, 1), (1, -1), (2, 1)), 1)], (3, 2, 2)
        ),
        [(5, 5)],
    ),
    "reshape": (lambda x: Reshape.of(x * x, (6, 2)), [(3, 4)]),
    "gather": (lambda x: Gather.of(x * x, Constant.of([[0, 2], [2, 2]]), 1), [(2, 3, 2)]),
    "gather first": (lambda x: Gather.of(x * x, Constant.of([3, 0, 3]), 0), [(4, 2)]),
    "gather one": (lambda x: Gather.of(x * x, Constant.of(1), 0), [(4, 2)]),
    "gather batched": (
        lambda x: Gather.of(x * x, Constant.of([[0, 2], [1, 1], [2, 0]]), 1, 1),
        [(3, 3)],
    ),
    "gather batched inner": (
        lambda x: Gather.of(x * x, Constant.of([[0, 2, 1], [1, 1, 0]]), 2, 1),
        [(2, 2, 3, 2)],
    ),
    "scatter": (lambda v: ScatterAdd.of(v * v, Constant.of([1, 1, 0]), 0, 0, 4), [(3, 2)]),
    "scatter batched": (
        lambda v: ScatterAdd.of(v * v, Constant.of([[1, 1, 0], [2, 0, 2]]), 1, 1, 3),
        [(2, 3, 2)],
    ),
    "softmax": (
        lambda x: sp.exp(x) / Contract.parse("i->ij", rows(sp.exp(x), 1), sizes={"j": 4}),
        [(3, 4)],
    ),
    "network": (
        lambda x, w, b, v: Contract.parse(
            "ij,jk->ik",
            sp.tanh(Contract.parse("ij,jk->ik", x, w) + Contract.parse("j->ij", b, sizes={"i": 4})),
            v,
        ),
        [(4, 3), (3, 5), (5,), (5, 2)],
    ),
}


def build(name: str) -> tuple[Expr, list[Input], Point]:
    make, shapes = CASES[name]
    leaves = [leaf(f"x{i}", *shape) for i, shape in enumerate(shapes)]
    rng = np.random.default_rng(sum(map(ord, name)))
    point: Point = {e: rng.normal(size=e.shape) for e in leaves}
    return make(*leaves), leaves, point


@pytest.mark.parametrize("name", CASES)
def test_first_derivatives(name: str) -> None:
    y, leaves, point = build(name)
    check_first(y, point, leaves)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name: str) -> None:
    y, leaves, point = build(name)
    check_second(sp.sin(y) * y, point, leaves)


def check_jacobian(y: Expr, x: Expr, point: Point) -> None:
    """The whole matrix against one direction after the other."""
    matrix = values([jacobian(y, x)], point)[0]
    assert matrix.shape == y.shape + x.shape
    count = int(np.prod(x.shape))
    for k in range(count):
        unit = np.eye(count)[k].reshape(x.shape)
        column = matrix.reshape(*y.shape, count)[..., k]
        close(column, slope(y, point, {x: unit}), 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_jacobian(name: str) -> None:
    """Forward where the operand is smaller, by rows where the result is."""
    y, leaves, point = build(name)
    for e in leaves:
        check_jacobian(y, e, point)
        check_jacobian(Contract.of([range(y.ndim)], [], sp.sin(y)), e, point)


def test_hessian() -> None:
    w, b = leaf("w", 3, 2), leaf("b", 2)
    rng = np.random.default_rng(0)
    point: Point = {w: rng.normal(size=(3, 2)), b: rng.normal(size=2)}
    spread = Contract.parse("j->ij", b, sizes={"i": 3})
    loss = weighted(sp.tanh(w * w + spread))
    found = hessian(loss, [w, b])
    gradients = grad(loss, [w, b])
    for i, first in enumerate((w, b)):
        for j, second in enumerate((w, b)):
            matrix = values([found[i][j]], point)[0]
            assert matrix.shape == first.shape + second.shape
            count = int(np.prod(second.shape))
            for k in range(count):
                unit = np.eye(count)[k].reshape(second.shape)
                column = matrix.reshape(*first.shape, count)[..., k]
                close(column, slope(gradients[i], point, {second: unit}), 1e-6)
    single = values([hessian(loss, w)], point)[0]
    close(single, values([found[0][0]], point)[0], 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_identity_test_evaluates_as_the_interpreter_does(name: str) -> None:
    """Two walks over the graph, written apart: one is the oracle here, one of `equivalent`."""
    y, leaves, point = build(name)
    outputs = [y, *grad(weighted(y), leaves)]
    given = {id(e): Value(v, {}) for e, v in point.items()}
    found = run(primitives(outputs), Context(Tower(1, ())), given)
    for a, b in zip(found, values(outputs, point)):
        close(a.real, b, 1e-12)


# -- ties, zeros, special points -------------------------------------------------------------------
def test_ties_share_evenly() -> None:
    x = leaf("x", 2, 4)
    point: Point = {x: np.array([[1.0, 3, 3, 2], [5, 5, 5, 5]])}
    for law, sign in (("max", 1.0), ("min", -1.0)):
        y = Reduce.of(law, x * sign, [1])
        g = values([grad(Contract.of([[0]], [], y), x)], point)[0]
        close(g, sign * np.array([[0, 0.5, 0.5, 0], [0.25] * 4]), 1e-15)
        d = values([jvp(y, x, np.arange(8.0).reshape(2, 4))], point)[0]
        close(d, sign * np.array([1.5, 5.5]), 1e-15)


@pytest.mark.parametrize("row", [[2.0, 0, 3], [0, 0, 3], [0, 0, 0], [4, 5, 6]])
def test_product_with_zeros(row: list[float]) -> None:
    """No division: gradients and second derivatives are right where factors are zero."""
    x = leaf("x", 3)
    point: Point = {x: np.array(row)}
    y = Reduce.of("prod", x, [0])
    a, b, c = row
    close(values([grad(y, x)], point)[0], [b * c, a * c, a * b], 1e-15)
    second = values([hessian(y, x)], point)[0]
    close(second, np.array([[0, c, b], [c, 0, a], [b, a, 0]]), 1e-15)


def test_selection_does_not_multiply_infinity() -> None:
    x = leaf("x", 2)
    y = sp.where(x > 0, sp.log(sp.where(x > 0, x, 1.0)), 0.0)
    g = values([grad(Contract.of([[0]], [], y), x)], {x: np.array([0.0, 2.0])})[0]
    close(g, [0.0, 0.5], 1e-15)


def test_run_time_sizes() -> None:
    n = dim("n", max=8)
    x, w = leaf("x", n, 3), leaf("w", 3)
    rng = np.random.default_rng(0)
    spread = Contract.of([[1]], [0, 1], w, sizes={0: n})
    builds = [
        sp.tanh(x * spread),
        Reduce.of("cumsum", x * spread, [0]),
        Reduce.of("prod", sp.cos(x * spread), [0]),
        Reduce.of("max", x * spread, [0]),
        Gather.of(x * spread, Constant.of([2, 0, 1, 1]), 1),
        Reindex.of(x * spread, [(0, ((0, 1),), 1), (1, ((1, 1),), 1)], (n, 2)),
        Contract.of([[0]], [0], Contract.parse("ij,j->i", x, w) / n),
    ]
    for count in (1, 4, 8):
        point: Point = {x: rng.normal(size=(count, 3)), w: rng.normal(size=3)}
        for y in builds:
            check_first(y, point, [x, w], dims={"n": count})
    point = {x: rng.normal(size=(5, 3)), w: rng.normal(size=3)}
    y = Contract.parse("ij,j->i", x, w)
    matrix = values([jacobian(y, w)], point, {"n": 5})[0]
    close(matrix, point[x], 1e-15)
    matrix = values([jacobian(y, x)], point, {"n": 5})[0]
    close(matrix, np.einsum("ab,j->abj", np.eye(5), point[w]), 1e-15)


def test_random_numbers_are_constants() -> None:
    from symgrad.node import Random

    x = leaf("x", 3)
    mask = Random.of("uniform", (3,), "float64")
    g = grad(Contract.of([[0]], [], x * mask), x)
    derivative, numbers = values([g, mask], {x: np.ones(3)})
    close(derivative, numbers, 1e-15)
    assert not evaluate([mask], {}, seed=1)[0].tolist() == numbers.tolist()


def test_integers_have_no_derivative() -> None:
    x = leaf("x", 4)
    best = Reduce.of("argmax", x, [0])
    count = Map.of("to_float64", best)
    with pytest.warns(DisconnectedWarning, match="without a derivative"):
        g = grad(count * 2.0, x)
    assert not values([g], {x: np.arange(4.0)})[0].any()
    picked = Gather.of(x, best, 0)
    g = values([grad(picked * picked, x)], {x: np.arange(4.0)})[0]
    close(g, [0, 0, 0, 6], 1e-15)
    assert Iota.of(3).dtype == "int32"


def test_vjp_and_jvp_take_lists_and_dicts() -> None:
    a, b = leaf("a", 2), leaf("b", 2)
    ys = {"product": a * b, "sum": a + b}
    point: Point = {a: np.array([1.0, 2]), b: np.array([3.0, 4])}
    pulled = vjp(ys, [a, b], {"product": np.ones(2), "sum": 2.0})
    close(values(pulled, point)[0], [5, 6], 1e-15)
    close(values(pulled, point)[1], [3, 4], 1e-15)
    pushed = jvp(ys, {"a": a, "b": b}, {"b": 0.0, "a": np.array([1.0, 10])})
    assert list(pushed) == ["product", "sum"]
    close(values([pushed["product"]], point)[0], [3, 40], 1e-15)
    close(values([pushed["sum"]], point)[0], [1, 10], 1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, (t,) = a * a, jvp([a * a], [a], [np.ones(2)])
    assert t.shape == y.shape
