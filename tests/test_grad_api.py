"""The public derivative functions: forms, errors, rules of the user's own, sharing, size."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from gradcheck import Point, check_first, check_second, close, total, values, weighted

from symgrad.errors import DisconnectedWarning, GraphError
from symgrad.grad import (
    custom_gradient,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
)
from symgrad.node import Constant, Contract, Custom, Expr, Input, Parameter, toposort
from symgrad.rewrite import stabilised
from symgrad.scalar import sp


def leaf(name: str, *shape: Any, dtype: str = "float64") -> Input:
    return Input(name, shape, dtype)


def matmul(a: Expr, b: Expr) -> Expr:
    return Contract.parse("ij,jk->ik", a, b)


# -- forms -----------------------------------------------------------------------------------------
def test_forms() -> None:
    a, b = leaf("a", 2), leaf("b", 2)
    loss = total(a * b)
    assert isinstance(grad(loss, a), Expr)
    assert [type(grad(loss, form)) for form in ([a], (a, b))] == [list, tuple]
    both = grad(loss, {"a": a, "rest": [b]})
    assert list(both) == ["a", "rest"] and both["a"] is grad(loss, a)
    assert both["rest"][0] is grad(loss, [b])[0]
    value, gradient = value_and_grad(loss, [a, b])
    assert value is loss and gradient[1] is grad(loss, b)
    assert grad(loss, [a, a])[0] is grad(loss, [a, a])[1]


def test_intermediate_targets() -> None:
    x = leaf("x", 3)
    z = sp.exp(x)
    loss = total(z * z)
    point: Point = {x: np.array([0.1, 0.2, 0.3])}
    dz, dx = grad(loss, [z, x])
    close(values([dz], point)[0], 2 * np.exp(point[x]), 1e-15)
    close(values([dx], point)[0], 2 * np.exp(2 * point[x]), 1e-15)
    tangent = jvp(loss, [z, x], [np.ones(3), np.ones(3)])  # the transpose of that
    expected = (2 * np.exp(point[x])).sum() + (2 * np.exp(2 * point[x])).sum()
    close(values([tangent], point)[0], expected, 1e-15)


def test_the_loss_itself_and_leaves() -> None:
    x = leaf("x")
    assert values([grad(x, x)], {x: np.array(3.0)})[0] == 1
    loss = x * x
    assert values([grad(loss, loss)], {x: np.array(3.0)})[0] == 1


# -- errors ----------------------------------------------------------------------------------------
def test_a_loss_that_is_no_scalar() -> None:
    x = leaf("x", 2, 3)
    y = sp.exp(x)  # this line
    for function in (grad, value_and_grad, hessian):
        with pytest.raises(GraphError) as error:
            function(y, x)
        text = str(error.value)
        assert "(2, 3)" in text and "scalar" in text and "this line" in text
    with pytest.raises(GraphError, match="scalar"):
        hvp(y, x, x)


def test_targets_that_have_no_derivative() -> None:
    x, labels = leaf("x", 2), leaf("labels", 2, dtype="int64")
    with pytest.raises(GraphError, match="'labels' is int64"):
        grad(total(x), labels)
    with pytest.raises(GraphError, match="must be an expression, got str 'W'"):
        grad(total(x), "W")
    with pytest.raises(GraphError, match="must be an expression, got ndarray"):
        grad(total(x), {"x": np.zeros(2)})
    with pytest.raises(GraphError, match="must be an expression, got float"):
        grad(1.0, x)
    with pytest.raises(GraphError, match="int64"):
        grad(total(labels), x)


def test_tangents_that_do_not_fit() -> None:
    x, y = leaf("x", 2), leaf("y", 3)
    with pytest.raises(GraphError, match=r"shape \(2,\), got \(3,\)"):
        jvp(x, x, y)
    with pytest.raises(GraphError, match="form"):
        jvp(x, [x], x)
    with pytest.raises(GraphError, match="form"):
        vjp({"a": x}, x, {"b": x})
    with pytest.raises(GraphError, match="got str"):
        jvp(x, x, "north")
    with pytest.raises(GraphError, match="form"):
        hvp(total(x), [x], [x, x])


def test_disconnected() -> None:
    x, w = leaf("x", 2), Parameter("far", (3, 2), dtype="float64")
    with pytest.warns(DisconnectedWarning, match="'far'.*does not depend on it") as record:
        g = grad(total(x), w)
    assert record[0].filename == __file__
    assert g.shape == (3, 2) and g.dtype == "float64"
    assert not values([g], {})[0].any()
    with pytest.warns(DisconnectedWarning):
        t = jvp(x, w, w)
    assert t.shape == (2,)
    with pytest.warns(DisconnectedWarning):
        m = jacobian(x, w)
    assert m.shape == (2, 3, 2)
    with pytest.warns(DisconnectedWarning):
        m = jacobian(total(x), w)
    assert m.shape == (3, 2)
    with pytest.warns(DisconnectedWarning):
        both = grad(total(x * x), [x, w])
    assert values([both[0]], {x: np.ones(2)})[0].tolist() == [2, 2]


def test_second_derivative_of_a_linear_function_is_zero() -> None:
    x = leaf("x", 3)
    with pytest.warns(DisconnectedWarning):
        h = hvp(total(x * 2.0), x, np.ones(3))
    assert not values([h], {})[0].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        b = leaf("b", 3)  # linear in b alone
        _, zero = hvp(total(x * x + b), [x, b], [np.ones(3), np.ones(3)])
        assert not values([zero], {})[0].any()
        h = hessian(total(x * 2.0), x)
    assert h.shape == (3, 3) and not values([h], {})[0].any()


# -- derivatives of one's own ----------------------------------------------------------------------
def test_stop_gradient() -> None:
    x = leaf("x", 3)
    point: Point = {x: np.array([1.0, 2, 3])}
    g = grad(total(x * stop_gradient(x * x)), x)
    close(values([g], point)[0], point[x] ** 2, 1e-15)
    assert stop_gradient(2.0).dtype.startswith("float")
    labels = leaf("labels", dtype="int32")
    assert stop_gradient(labels) is labels
    with pytest.warns(DisconnectedWarning, match="only through operations without a derivative"):
        grad(total(stop_gradient(x)), x)
    t = jvp(x * stop_gradient(x), x, np.ones(3))
    close(values([t], point)[0], point[x], 1e-15)


def test_custom_gradient_decorator() -> None:
    @custom_gradient
    def log1pexp(x: Expr) -> Any:
        e = sp.exp(x)
        return sp.log(1 + e), lambda ct: ct * (1 - 1 / (1 + e))

    x = leaf("x", 4)
    point: Point = {x: np.array([-2.0, 0, 1, 3])}
    y = log1pexp(x)
    assert isinstance(y, Custom) and log1pexp(x) is y
    assert log1pexp.__name__ == "log1pexp"
    check_first(y, point, [x])
    check_second(y, point, [x])
    matrix = values([jacobian(y, x)], point)[0]
    close(matrix, np.diag(1 / (1 + np.exp(-point[x]))), 1e-12)
    far = values([grad(total(log1pexp(x)), x)], {x: np.array([100.0] * 4)})[0]
    close(far, np.ones(4), 1e-15)


def test_custom_gradient_rule() -> None:
    clipped = custom_gradient(lambda x: x, lambda ct, x: sp.clip(ct, -1.0, 1.0))
    x = leaf("x", 3)
    point: Point = {x: np.array([0.2, 3.0, -9.0])}
    y = clipped(x)
    g = grad(total(y * y), x)
    close(values([g], point)[0], [0.4, 1, -1], 1e-15)
    with pytest.raises(GraphError, match="not linear"):
        jvp(y, x, np.ones(3))


def test_custom_gradient_of_several_arguments() -> None:
    @custom_gradient
    def scaled_product(a: Expr, factor: float, b: Expr) -> Any:
        def rule(ct: Expr) -> Any:
            return factor * ct * b, None, factor * ct * a

        return factor * a * b, rule

    a, b = leaf("a", 2, 3), leaf("b", 2, 3)
    rng = np.random.default_rng(0)
    point: Point = {a: rng.normal(size=(2, 3)), b: rng.normal(size=(2, 3))}
    y = scaled_product(a, 2.5, b)
    check_first(y, point, [a, b])
    check_second(sp.sin(y), point, [a, b])
    check_first(scaled_product(a, 2.5, a), point, [a])
    assert scaled_product(a, 2.5, b) is y and scaled_product(a, 3.0, b) is not y
    # the arguments replaced, as rewriting does: the rule is about the new ones
    moved = y.with_args([y.args[0], sp.exp(a), b])
    g = values([grad(total(moved), b)], point)[0]
    close(g, 2.5 * np.exp(point[a]), 1e-12)


def test_custom_gradient_errors() -> None:
    x = leaf("x", 3)
    with pytest.raises(GraphError, match="must return"):
        custom_gradient(lambda x: x)(x)
    with pytest.raises(GraphError, match="2 cotangents for 1"):
        grad(total(custom_gradient(lambda x: (x, lambda ct: (ct, ct)))(x)), x)
    with pytest.raises(GraphError, match=r"shape \(1,\) for an argument of shape \(3,\)"):
        bad = custom_gradient(lambda x: (x, lambda ct: Constant.of([1.0])))
        grad(total(bad(x)), x)
    number = custom_gradient(lambda x: (x, lambda ct: 0.5))
    close(values([grad(total(number(x)), x)], {x: np.ones(3)})[0], [0.5] * 3, 1e-15)
    with pytest.warns(DisconnectedWarning):
        grad(total(custom_gradient(lambda x: (x * x, lambda ct: None))(x)), x)


# -- sharing and size ------------------------------------------------------------------------------
def tanh_network(depth: int, width: int = 8) -> tuple[Expr, list[Parameter]]:
    h: Expr = Input("x", (4, width), "float32")
    weights: list[Parameter] = []
    for k in range(depth):
        w = Parameter(f"w{k}", (width, width))
        b = Parameter(f"b{k}", (width,))
        weights += [w, b]
        h = sp.tanh(matmul(h, w) + Contract.parse("j->ij", b, sizes={"i": 4}))
    return total(h * h), weights


def nodes(outputs: list[Expr]) -> list[Expr]:
    return toposort(outputs)


def test_joint_gradient_shares_everything() -> None:
    """24 layers: no two equal nodes, the joint gradient no larger than the union of single ones."""
    loss, weights = tanh_network(24)
    joint = nodes([loss, *grad(loss, weights)])
    keys = {(type(n), n.attrs, tuple(map(id, n.args))) for n in joint if n.args}
    assert len(keys) == sum(1 for n in joint if n.args)
    single = nodes([loss, *(grad(loss, w) for w in weights)])
    assert {id(n) for n in single} == {id(n) for n in joint}


def test_growth_is_linear_in_depth() -> None:
    counts = []
    for depth in (6, 12, 24, 48):
        loss, weights = tanh_network(depth)
        counts.append(len(nodes([loss, *grad(loss, weights)])))
    assert (counts[1] - counts[0]) * 2 == counts[2] - counts[1] == (counts[3] - counts[2]) / 2
    assert counts[2] < 24 * 20


def test_shared_nodes_have_one_cotangent() -> None:
    """f(f(f(x))) with f(h) = sin(h) * h has 2**n paths and a gradient that grows with n."""
    sizes = []
    for n in (5, 10, 20):
        x = leaf("x", 3)
        h: Expr = x
        for _ in range(n):
            h = sp.sin(h) * h
        sizes.append(len(nodes([grad(total(h), x)])))
    assert sizes[1] - sizes[0] == (sizes[2] - sizes[1]) / 2
    x = leaf("x", 2)
    h = x
    for _ in range(30):
        h = h + h
    assert values([grad(total(h), x)], {x: np.ones(2)})[0].tolist() == [2.0**30] * 2


def test_frozen_parts_are_not_derived() -> None:
    loss, weights = tanh_network(12)
    (forward,), _ = stabilised([loss], weights)
    known = {id(n) for n in nodes([forward])}
    made = [n for n in nodes(grad(loss, weights[-2:])) if id(n) not in known]
    assert 0 < len(made) < 12


def test_cotangents_of_what_was_not_asked_for_are_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from symgrad.derive import reverse

    seen: list[Expr] = []
    original = dict(reverse.ADJOINTS)

    def counting(kind: str) -> Any:
        def rule(node: Expr, cotangent: Expr, wanted: list[int]) -> Any:
            seen.append(node)
            return original[kind](node, cotangent, wanted)

        return rule

    monkeypatch.setattr(reverse, "ADJOINTS", {kind: counting(kind) for kind in original})
    loss, weights = tanh_network(10)
    grad(loss, weights[18:])  # the last layer of ten
    assert len(seen) <= 6
    assert len({id(n) for n in seen}) == len(seen)


def test_derivatives_keep_the_line_of_what_they_derive() -> None:
    x = leaf("x", 3)
    h = sp.exp(x) * x  # the forward line
    loss = total(h)
    g = grad(loss, x)
    known = {id(m) for m in nodes([loss])}
    lines = {n.where.text for n in nodes([g]) if id(n) not in known}
    assert any("the forward line" in text for text in lines)
    assert not any("grad(" in text for text in lines)


def test_deep_graphs_need_no_recursion() -> None:
    x = leaf("x")
    h: Expr = x
    for _ in range(5000):
        h = h + 1.0
    g = grad(h * h, x)
    assert values([g], {x: np.array(1.0)})[0] == 2 * 5001
    assert values([jvp(h, x, 1.0)], {x: np.array(1.0)})[0] == 1


def test_second_order_of_a_network() -> None:
    rng = np.random.default_rng(0)
    x, w, v = leaf("x", 4, 3), leaf("w", 3, 5), leaf("v", 5, 2)
    point: Point = {e: rng.normal(size=e.shape) for e in (x, w, v)}
    y = matmul(sp.sigmoid(matmul(x, w)), v)
    check_second(y, point, [w, v])
    loss = weighted(y * y)
    h = values([hessian(loss, v)], point)[0].reshape(10, 10)
    close(h, h.T, 1e-12)
