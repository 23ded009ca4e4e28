"""sg.scan: what it computes, its derivatives of first and second order, its errors."""

from __future__ import annotations

import time
from typing import Any, Callable

import numpy as np
import pytest
from fuzz_scan import unrolled
from gradcheck import check_first, check_second, weighted

import symgrad as sg
from symgrad import errors, rewrite
from symgrad.compile.saved import describe
from symgrad.interpret import evaluate
from symgrad.loop import body, captured, results
from symgrad.node import Contract, Expr, Scan, Slot, toposort
from symgrad.verify import VerifyError, verify

TARGETS = ["interpret", "native"]
pytestmark = pytest.mark.filterwarnings("ignore::symgrad.errors.DisconnectedWarning")


def run(target: str, inputs: list[Any], outputs: Any, *values: Any) -> Any:
    return sg.function(inputs, outputs, target=target)(*values)


def value(e: Any, point: dict[Any, Any] | None = None) -> Any:
    return evaluate([e], point or {})[0]


# -- values ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", TARGETS)
def test_cumulative_sum(target: str) -> None:
    xs = sg.input("xs", (6,), "float64")
    total, running = sg.scan(lambda c, x: (c + x, c + x), 0.0, xs)
    assert total.dtype == "float64"  # the number took the dtype of the body
    found = run(target, [xs], [total, running, sg.grad(total, xs)], np.arange(6.0))
    assert found[0] == 15.0
    np.testing.assert_array_equal(found[1], np.cumsum(np.arange(6.0)))
    np.testing.assert_array_equal(found[2], np.ones(6))


@pytest.mark.parametrize("start", [0.1, np.float64(0.1), np.array(0.1)])
def test_a_number_to_start_from_is_as_wide_as_the_body(start: Any) -> None:
    xs = sg.input("xs", (3,), "float64")
    last, _ = sg.scan(lambda c, x: (c + x, None), start, xs)
    assert value(last, {xs: np.zeros(3)}) == 0.1
    narrow, _ = sg.scan(lambda c, x: (c + x, None), start, sg.input("ys", (3,)))
    assert narrow.dtype == "float32"


@pytest.mark.parametrize("target", TARGETS)
def test_reversed(target: str) -> None:
    xs = sg.input("xs", (4, 2))
    total, behind = sg.scan(lambda c, x: (c + x, c), np.zeros(2, "float32"), xs, reverse=True)
    X = np.arange(8, dtype="float32").reshape(4, 2)
    found = run(target, [xs], [total, behind], X)
    np.testing.assert_array_equal(found[0], X.sum(0))
    np.testing.assert_array_equal(found[1], X.sum(0) - np.cumsum(X, 0))


@pytest.mark.parametrize("target", TARGETS)
def test_fibonacci(target: str) -> None:
    n = sg.input("n", (), "int64")
    _, found = sg.scan(lambda c, _: ((c[1], c[0] + c[1]), c[0]), (n, n + 1 - n), length=10)
    assert run(target, [n], found, 0).tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


@pytest.mark.parametrize("target", TARGETS)
def test_geometric_series_and_its_derivative(target: str) -> None:
    q = sg.input("q", (), "float64")
    (_, total), _ = sg.scan(lambda c, _: ((c[0] * q, c[1] + c[0]), None), (1.0, 0.0), length=30)
    found = run(target, [q], [total, sg.grad(total, q)], 0.5)
    assert found[0] == pytest.approx(2 - 2**-29, abs=1e-15)
    exact = sum(k * 0.5 ** (k - 1) for k in range(1, 30))
    assert found[1] == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("target", TARGETS)
def test_newton_iteration_with_a_derivative_in_its_body(target: str) -> None:
    """The square root of a: the body differentiates, and the whole is differentiated again."""
    a = sg.input("a", (), "float64")

    def step(x: Expr, _: Any) -> tuple[Expr, Expr]:
        f = x * x - a
        return x - f / sg.grad(f, x), x

    root, path = sg.scan(step, 1.0, length=8)
    found = run(target, [a], [root, sg.grad(root, a), sg.hessian(root, a), path], 2.0)
    np.testing.assert_allclose(found[0], 2**0.5, rtol=1e-15)
    np.testing.assert_allclose(found[1], 0.5 * 2**-0.5, rtol=1e-14)
    np.testing.assert_allclose(found[2], -0.25 * 2**-1.5, rtol=1e-12)
    np.testing.assert_allclose(found[3][:3], [1, 1.5, 17 / 12], rtol=1e-15)


@pytest.mark.parametrize("target", TARGETS)
def test_a_dictionary_of_carries(target: str) -> None:
    """Gradient descent with momentum and a counter, which has no gradient."""
    rate, w0 = sg.input("rate", (), "float64"), sg.input("w0", (3,), "float64")

    def step(state: dict[str, Expr], _: Any) -> tuple[dict[str, Expr], Expr]:
        gradient = 2 * state["w"] * sg.cast(state["count"] + 1, "float64")
        v = 0.5 * state["v"] - rate * gradient
        return {"w": state["w"] + v, "v": v, "count": state["count"] + 1}, sg.sum(state["w"])

    start = {"w": w0, "v": np.zeros(3), "count": 0}
    last, sums = sg.scan(step, start, length=5)
    assert set(last) == set(start) and last["count"].dtype == "int64"
    W = np.array([1.0, -2.0, 0.5])
    found = run(target, [rate, w0], [last["w"], last["count"], sums], 0.05, W)
    w, v, expected = W.copy(), np.zeros(3), []
    for k in range(5):
        expected.append(w.sum())
        v = 0.5 * v - 0.05 * 2 * w * (k + 1)
        w = w + v
    np.testing.assert_allclose(found[0], w, rtol=1e-14)
    assert found[1] == 5
    np.testing.assert_allclose(found[2], expected, rtol=1e-13)
    point = {rate: np.array(0.05), w0: W}
    check_first(last["w"], point, [rate, w0])


@pytest.mark.parametrize("target", TARGETS)
def test_a_loop_in_a_loop(target: str) -> None:
    """Rows of a matrix by Horner's rule, each at the sum so far."""
    X, c = sg.input("X", (3, 4), "float64"), sg.input("c", (), "float64")

    def row(total: Expr, coefficients: Expr) -> tuple[Expr, Expr]:
        inner, path = sg.scan(lambda a, x: (a * total + x * c, a), 0.0, coefficients, reverse=True)
        return sg.sin(total + inner), path

    total, paths = sg.scan(row, 0.5, X)
    M = np.random.default_rng(0).normal(size=(3, 4))
    found = run(target, [X, c], [total, paths, *sg.grad(total, [X, c])], M, 0.7)
    s, expected = 0.5, np.zeros((3, 4))
    for i in range(3):
        a = 0.0
        for j in reversed(range(4)):
            expected[i, j] = a
            a = a * s + M[i, j] * 0.7
        s = np.sin(s + a)
    np.testing.assert_allclose(found[0], s, rtol=1e-13)
    np.testing.assert_allclose(found[1], expected, rtol=1e-13)
    point = {X: M, c: np.array(0.7)}
    check_first(total, point, [X, c])
    check_second(total, point, [X, c])


@pytest.mark.parametrize("target", TARGETS)
def test_one_function_for_every_length(target: str) -> None:
    steps = sg.dim("steps", 9)
    xs, w = sg.input("xs", (steps, 2)), sg.input("w", (2,))
    last, ys = sg.scan(lambda h, x: (sg.tanh(h * w + x),) * 2, np.zeros(2, "float32"), xs)
    f = sg.function([xs, w], [last, ys, sg.grad(sg.sum(ys), w)], target=target)
    W = np.array([0.5, -0.5], "float32")
    for count in (9, 1, 4):
        X = np.random.default_rng(count).normal(size=(count, 2)).astype("float32")
        h, expected = np.zeros(2), []
        for x in X:
            h = np.tanh(h * W + x)
            expected.append(h)
        found = f(X, W)
        np.testing.assert_allclose(found[0], h, rtol=1e-5)
        np.testing.assert_allclose(found[1], expected, rtol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_forms(target: str) -> None:
    """Sequences and outputs as dicts, lists and tuples; a body without carries; a fixed output."""
    a, b = sg.input("a", (3, 2)), sg.input("b", (3,))

    def step(carry: tuple[()], s: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        return carry, {"sum": [s["a"] + s["b"]], "one": 1.0, "pair": (s["b"], None)}

    carry, out = sg.scan(step, (), {"a": a, "b": b})
    assert carry == () and out["pair"][1] is None and isinstance(out["sum"], list)
    A, B = np.arange(6, dtype="float32").reshape(3, 2), np.arange(3, dtype="float32")
    found = run(target, [a, b], {"s": out["sum"][0], "o": out["one"], "b": out["pair"][0]}, A, B)
    np.testing.assert_array_equal(found["s"], A + B[:, None])
    np.testing.assert_array_equal(found["o"], np.ones(3))
    np.testing.assert_array_equal(found["b"], B)


# -- derivatives -----------------------------------------------------------------------------------
def recurrence() -> tuple[Expr, dict[Any, Any]]:
    """A small network with everything: weights, bias, a spread, a scalar, a gathered row, where."""
    rng = np.random.default_rng(5)
    xs, h0 = sg.input("xs", (4, 2, 3), "float64"), sg.input("h0", (2, 5), "float64")
    W, U = sg.parameter("W", (5, 5), dtype="float64"), sg.parameter("U", (3, 5), dtype="float64")
    b, g = sg.parameter("b", (5,), dtype="float64"), sg.parameter("g", (), dtype="float64")
    table = sg.parameter("table", (6, 5), dtype="float64")
    ids = sg.constant(rng.integers(0, 6, (4, 2)), "int32")

    def step(h: Expr, s: Any) -> tuple[Expr, Expr]:
        x, k = s
        z = sg.tanh(x @ U + g * (h @ W) + b) + sg.take(table, k, axis=0)
        h = sg.where(z > 0, z, 0.1 * z) * sg.exp(-sg.square(h))
        return h, sg.sum(h * b, axis=1)

    last, ys = sg.scan(step, h0, (xs, ids))
    loss = weighted(last) + sg.sum(sg.sin(ys))
    leaves = [xs, h0, W, U, b, g, table]
    return loss, {e: 0.5 * rng.normal(size=e.shape) for e in leaves}


def test_derivatives_against_differences() -> None:
    loss, point = recurrence()
    check_first(loss, point, [*point])
    check_second(loss, point, [*point])


def test_reverse_over_reverse_is_forward_over_reverse() -> None:
    loss, point = recurrence()
    leaves = list(point)
    rng = np.random.default_rng(1)
    v = [rng.normal(size=e.shape) for e in leaves]
    gradients = sg.grad(loss, leaves)
    along = sum(sg.sum(g * sg.constant(d, "float64")) for g, d in zip(gradients, v))
    twice, hvp = sg.grad(along, leaves), sg.hvp(loss, leaves, v)
    verify([*twice, *hvp])
    for a, b in zip(evaluate(twice, point), evaluate(hvp, point)):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_jacobians_in_both_directions() -> None:
    A, x0 = sg.input("A", (3, 3), "float64"), sg.input("x0", (3,), "float64")
    last, path = sg.scan(lambda x, _: (sg.sin(A @ x),) * 2, x0, length=4)
    rng = np.random.default_rng(0)
    point = {A: rng.normal(size=(3, 3)), x0: rng.normal(size=3)}
    for y, x in ((last, A), (path, x0), (sg.sum(path), A), (path, A)):
        direction = rng.normal(size=x.shape)
        matrix = value(sg.jacobian(y, x), point)
        expected = value(sg.jvp(y, x, direction), point)
        found = np.tensordot(matrix, direction, x.ndim)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    hessian = value(sg.hessian(sg.sum(path), x0), point)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)


def test_stop_gradient_within_a_body() -> None:
    w = sg.input("w", (), "float64")
    y, _ = sg.scan(lambda h, _: (w * sg.stop_gradient(h) + 1, None), 1.0, length=3)
    # h2 = w (w + 1) + 1 is taken as fixed
    assert value(sg.grad(y, w), {w: np.array(2.0)}) == 7.0


def test_a_rule_of_the_users_within_a_body() -> None:
    @sg.custom_gradient
    def double(x: Expr) -> Any:
        return 2 * x, lambda ct: 3 * ct

    x = sg.input("x", (), "float64")
    y, _ = sg.scan(lambda h, _: (double(h), None), x, length=4)
    assert value(y, {x: np.array(1.0)}) == 16 and value(sg.grad(y, x), {x: np.array(1.0)}) == 81
    assert value(sg.jvp(y, x, 1.0), {x: np.array(1.0)}) == 81


def test_what_the_loss_does_not_depend_on() -> None:
    w, v = sg.input("w", (), "float64"), sg.input("v", (), "float64")
    (a, b), _ = sg.scan(lambda c, _: ((c[0] * w, c[1] + v), None), (1.0, 0.0), length=3)
    with pytest.warns(errors.DisconnectedWarning):
        gradient = sg.grad(a, v)
    assert value(gradient) == 0
    gradients = sg.grad(a, w)
    # the carry that has no part in the loss has no cotangent
    (back,) = [loop for loop in results(toposort([gradients])) if loop.reverse]
    assert [slot.name for slot in back.carries] == ["dc0", "dw"]


# -- the form of derivatives -----------------------------------------------------------------------
def network() -> tuple[Expr, Expr, Expr, list[Any]]:
    xs, h0 = sg.input("xs", (7, 2, 3)), sg.input("h0", (2, 4))
    W, b = sg.parameter("W", (4, 4)), sg.parameter("b", (4,))
    last, ys = sg.scan(lambda h, x: (sg.tanh(sg.sum(x) + h @ W + b),) * 2, h0, xs)
    return last, ys, sg.sum(ys), [W, b, h0, xs]


def test_two_results_share_one_loop_in_each_direction() -> None:
    last, ys, _, leaves = network()
    seeds = [np.ones(last.shape, "float32"), np.ones(ys.shape, "float32")]
    gradients = sg.vjp([last, ys], leaves, seeds)
    loops = results(toposort([last, ys, *gradients]))
    assert [loop.reverse for loop in loops] == [False, True]


def test_the_gradient_of_a_weight_is_one_product_over_time_and_rows() -> None:
    _, _, loss, (W, b, _, _) = network()
    for parameter, summed in ((W, [7, 2]), (b, [7, 2])):
        gradient = sg.grad(loss, [W, b])[0 if parameter is W else 1]
        assert isinstance(gradient, Contract) and not gradient.free
        assert [gradient.extents[k] for k in gradient.summed] == summed
    back = [loop for loop in results(toposort(sg.grad(loss, [W, b]))) if loop.reverse]
    assert len(back) == 1 and len(back[0].carries) == 1  # no carry sums a weight's gradient


def test_residuals_are_what_cannot_be_cheaply_computed() -> None:
    """Of an LSTM's step: four gates and tanh(c'), the carry c, but neither c' nor h'."""
    net = sg.nn.LSTM(3, 4, name="lstm")
    ys, _ = net(sg.input("x", (2, 5, 3)))
    gradients = sg.grad(sg.sum(ys), net.parameters())
    (back,) = [loop for loop in results(toposort(gradients)) if loop.reverse]
    read = [s.output for s in back.sequences if isinstance(s, Scan) and s.output is not None]
    kinds = sorted(e.kind if isinstance(e, Slot) else e.name for e in read)
    assert kinds == ["sigmoid"] * 3 + ["slot", "tanh", "tanh"]


def test_frozen_weights_cost_nothing() -> None:
    _, _, loss, (W, b, h0, xs) = network()
    (back,) = [loop for loop in results(toposort([sg.grad(loss, h0)])) if loop.reverse]
    assert len(results(toposort([sg.grad(loss, h0)]))[back]) == 1
    assert sg.grad(loss, h0) is sg.grad(loss, h0)  # the derivative of a loop is one loop


# -- rewriting -------------------------------------------------------------------------------------
def test_bodies_are_rewritten() -> None:
    """The naive softmax of a body is a stable one after rewriting, and stays one loop."""
    xs = sg.input("xs", (5, 3))

    def step(c: Expr, x: Expr) -> tuple[Expr, Expr]:
        p = sg.exp(x + c) / sg.sum(sg.exp(x + c))
        return p, p

    last, ys = sg.scan(step, np.zeros(3, "float32"), xs)
    new, log = rewrite.run([last, ys])
    verify(new)
    assert any(r.rule == "softmax" for r in log)
    assert len(results(toposort(new))) == 1
    found = evaluate(new, {xs: np.full((5, 3), 1000.0)})
    np.testing.assert_allclose(found[1], np.full((5, 3), 1 / 3), rtol=1e-6)


def test_what_does_not_change_in_the_loop_stays_outside() -> None:
    A, B = sg.input("A", (4, 4)), sg.input("B", (4, 4))
    x0 = sg.input("x0", (4,))
    last, _ = sg.scan(lambda x, _: ((A @ B) @ x, None), x0, length=50)
    (new,), _ = rewrite.run([last])
    assert isinstance(new, Scan)
    products = [n for n in body([new]) if isinstance(n, Contract)]
    assert len(products) == 1 and len(products[0].args) == 2
    assert any(isinstance(e, Contract) for e in captured([new]))


def test_rewriting_a_gradient_is_linear_in_the_body() -> None:
    net = sg.nn.LSTM(8, 8, num_layers=3, name="lstm")
    ys, _ = net(sg.input("x", (2, 30, 8)))
    gradients = sg.grad(sg.mean(sg.square(ys)), net.parameters())
    start = time.perf_counter()
    new, _ = rewrite.run(gradients)
    assert time.perf_counter() - start < 10
    verify(new, final=True)
    assert len(toposort(new)) < 700


def test_the_checker_knows_loops() -> None:
    xs = sg.input("xs", (5,))
    last, _ = sg.scan(lambda c, x: (c + x, None), 0.0, xs)
    assert isinstance(last, Scan)
    with pytest.raises(VerifyError, match="depends on"):
        verify(last.news)
    loop = last.loop
    longer = Scan.final(loop, 0)
    assert longer is last  # equal loops are one loop
    bad = object.__new__(Scan)
    for name in ("args", "shape", "dtype", "where", "digest", "height", "free"):
        setattr(bad, name, getattr(last, name))
    bad.attrs = (loop.slots, 1, 6, False, 0)
    with pytest.raises(VerifyError, match="sequence over 6"):
        verify([bad])


# -- errors ----------------------------------------------------------------------------------------
XS = sg.input("xs", (5, 3))
LEAKED: list[Any] = []


def same(c: Any, x: Any) -> tuple[Any, Any]:
    return c, c


def leaking(c: Expr, x: Expr) -> tuple[Expr, Expr]:
    LEAKED.append(c)
    return c + sg.sum(x), x


S, D, F = errors.ShapeError, errors.DTypeError, errors.InputError
BAD: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("no steps", lambda: sg.scan(same, 0.0, sg.input("e", (0, 3))), S, "at least one step"),
    ("length 0", lambda: sg.scan(same, 0.0, length=0), S, "at least one step"),
    ("no length", lambda: sg.scan(same, 0.0), S, "needs a length"),
    ("lengths", lambda: sg.scan(same, 0.0, (XS, sg.input("y", (4,)))), S, "lengths differ"),
    ("length", lambda: sg.scan(same, 0.0, XS, length=4), S, "length is 4"),
    ("kind of length", lambda: sg.scan(same, 0.0, length=1.5), S, "must be an int"),  # type: ignore[arg-type]
    ("no axis", lambda: sg.scan(same, 0.0, sg.input("s", ())), S, "leading axis"),
    ("shape", lambda: sg.scan(lambda c, x: (c + x, c), 0.0, XS), S, r"starts with shape \(\)"),
    ("dtype", lambda: sg.scan(lambda c, x: (c + 0.5, c), sg.constant(0), XS), D, "starts as int64"),
    ("form", lambda: sg.scan(lambda c, x: ([c], c), 0.0, XS), F, "in the form it was given"),
    ("keys", lambda: sg.scan(lambda c, x: ({"b": 1}, 1), {"a": 0.0}, XS), F, "'a': one expression"),
    ("no pair", lambda: sg.scan(lambda c, x: c, 0.0, XS), F, "must return a pair"),
    ("output", lambda: sg.scan(lambda c, x: (c, "text"), 0.0, XS), D, "text"),
]  # fmt: skip


@pytest.mark.parametrize("name,make,error,message", BAD, ids=[b[0] for b in BAD])
def test_errors(name: str, make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make()
    assert "test_scan.py" in str(caught.value)


def test_a_value_of_the_body_has_none_outside() -> None:
    last, _ = sg.scan(leaking, 0.0, XS)
    with pytest.raises(errors.GraphError, match="inside of a scan"):
        sg.function([XS], [LEAKED[-1] * last])
    with pytest.raises(errors.GraphError, match="outside of the scan"):
        value(LEAKED[-1] * 2)


def test_running_statistics_do_not_move_in_a_body() -> None:
    norm, xs = sg.nn.BatchNorm(2, name="norm"), sg.input("xs", (4, 3, 2))

    def last(training: bool) -> Any:
        return sg.scan(
            lambda c, x: (norm(c + x, training=training), None), np.zeros((3, 2), "f4"), xs
        )[0]

    with pytest.raises(errors.GraphError, match="update of state 'norm.running_mean' depends on"):
        sg.train_step(sg.sum(last(True)), sg.optim.SGD(0.1))
    assert sg.function([xs], last(False))(np.zeros((4, 3, 2))).tolist() == [[0, 0]] * 3


def test_a_length_that_no_input_has() -> None:
    last, _ = sg.scan(lambda c, _: (c + 1.0, None), 0.0, length=sg.dim("steps", 5))
    with pytest.raises(errors.GraphError, match="steps"):
        sg.function([], [last])


def test_what_is_not_finite_is_named_with_its_step() -> None:
    last, _ = sg.scan(lambda c, x: (c + sg.log(x), None), np.zeros(3, "float32"), XS)
    f = sg.function([XS], last, target="interpret", check="finite")
    X = np.ones((5, 3), "float32")
    X[3, 1] = 0
    with pytest.raises(errors.NonFiniteError, match=r"log.* is -inf in 1 of 3.* step 3"):
        f(X)


# -- identity --------------------------------------------------------------------------------------
@pytest.mark.parametrize("function", [sg.tanh, sg.square, sg.sin, sg.sqrt])
def test_a_loop_is_equivalent_to_its_steps_written_out(function: Callable[[Expr], Expr]) -> None:
    xs, W, h0 = sg.input("xs", (3, 2)), sg.input("W", (2, 2)), sg.input("h0", (2,))
    last, ys = sg.scan(lambda h, x: (function(x + h @ W),) * 2, h0, xs)
    (flat,) = unrolled([ys])
    assert sg.equivalent(ys, flat) and sg.equivalent(last, flat[-1])
    assert not sg.equivalent(ys, flat * 1.01) and not sg.equivalent(last, flat[1])


def test_gradients_are_equivalent_to_those_of_the_steps_written_out() -> None:
    xs, W, h0 = sg.input("xs", (3, 2)), sg.input("W", (2, 2)), sg.input("h0", (2,))
    _, ys = sg.scan(lambda h, x: (sg.tanh(x + h @ W),) * 2, h0, xs)
    loss = sg.sum(sg.square(ys))
    (flat,) = unrolled([loss])
    assert sg.equivalent(sg.grad(loss, W), sg.grad(flat, W))
    assert not sg.equivalent(sg.grad(loss, W), sg.grad(flat[None][0] * 2, W))


def test_sums_over_a_run_time_length_are_equivalent() -> None:
    xs = sg.input("xs", (sg.dim("steps", 9),))
    total, running = sg.scan(lambda c, x: (c + x, c + x), 0.0, xs)
    assert sg.equivalent(running, sg.cumsum(xs, axis=0)) and sg.equivalent(total, sg.sum(xs))
    assert not sg.equivalent(total, sg.mean(xs))


def test_slices_that_index_stay_in_range() -> None:
    ids, table = sg.input("ids", (4,), "int32"), sg.input("table", (3, 2))
    _, ys = sg.scan(lambda c, k: (c, sg.take(table, k, axis=0)), (), ids)
    assert sg.equivalent(ys, sg.take(table, ids, axis=0))


@pytest.mark.parametrize("target", TARGETS)
def test_labels_out_of_range_within_a_body(target: str) -> None:
    """What slices index is checked where the sequence is handed in."""
    ids, table = sg.input("ids", (4, 2), "int32"), sg.input("table", (3, 2))
    _, ys = sg.scan(lambda c, k: (c, sg.take(table, k, axis=0)), (), ids)
    f = sg.function([ids, table], ys, target=target)
    T = np.arange(6, dtype="float32").reshape(3, 2)
    K = np.array([[0, 1], [2, 2], [1, 0], [0, 0]], "int32")
    np.testing.assert_array_equal(f(K, T), T[K])
    with pytest.raises(errors.InputError, match="ids"):
        f(K + 1, T)


# -- reading ---------------------------------------------------------------------------------------
def test_a_loop_reads_as_a_recurrence() -> None:
    xs, W, h0 = sg.input("xs", (5, 4)), sg.parameter("W", (4, 4)), sg.input("h0", (4,))
    last, hs = sg.scan(lambda h, x: (sg.tanh(x + h @ W),) * 2, h0, xs, reverse=True)
    assert str(last) == "last_[reversed](h, h(0) := h0, h ← tanh(Wᵀ h + x), x ∈ xs)"
    assert "steps_[reversed]" in str(hs) and r"\mathbf{x} \in \mathbf{xs}" in last.latex()
    assert "dh ← W" in str(sg.grad(sg.sum(hs), W))
    with pytest.raises(errors.GraphError, match="scan has no form in SymPy"):
        last.sympy()


# -- the object cache ------------------------------------------------------------------------------
def test_the_cache_knows_loops_by_what_they_compute() -> None:
    def described(names: str, swap: bool, reverse: bool = False) -> bytes | None:
        a, b = names
        xs = sg.input("xs", (4,))
        body = {a: 0.0, b: 1.0}

        def step(c: dict[str, Expr], x: Expr) -> tuple[dict[str, Expr], Expr]:
            new = {a: c[b] + x, b: 2 * c[a]}
            return (dict(zip((a, b), reversed(new.values()))) if swap else new), c[a]

        last, ys = sg.scan(step, body, xs, reverse=reverse)
        return describe([last[a], ys], [xs])

    assert described("pq", False) == described("uv", False)
    different = [described("pq", False), described("pq", True), described("pq", False, True)]
    assert len(set(different)) == 3


# -- out of the loop -------------------------------------------------------------------------------
def test_products_with_slices_are_done_for_all_steps_at_once() -> None:
    """A network as one writes it becomes the one that `nn.RNN` is, in both directions."""
    xs, h0 = sg.input("xs", (7, 2, 3)), sg.input("h0", (2, 4))
    U, W, V = sg.parameter("U", (3, 5)), sg.parameter("W", (4, 4)), sg.parameter("V", (5, 4))
    last, _ = sg.scan(lambda h, x: (sg.tanh(x @ U @ V + h @ W), None), h0, xs)
    wanted = [last, *sg.grad(sg.sum(last), [xs, U, W, V])]
    new, log = rewrite.run(wanted)
    verify(new, final=True)
    assert "product out of the loop" in {r.rule for r in log}
    rng = np.random.default_rng(0)
    point = {e: rng.normal(size=e.shape) for e in (xs, h0, U, W, V)}
    for a, b in zip(evaluate(wanted, point), evaluate(new, point)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for found in results(toposort(new)).values():
        products = [n for n in body(found) if isinstance(n, Contract) and len(n.args) > 1]
        assert len(products) == 1  # the one with the carry


def test_a_loop_does_nothing_in_vain() -> None:
    xs, ys = sg.input("xs", (5, 2)), sg.input("ys", (5, 2))
    zero = np.zeros(2, "float32")

    def step(c: dict[str, Expr], s: tuple[Expr, Expr]) -> tuple[dict[str, Expr], Expr]:
        new = {"a": c["a"] + c["b"], "b": c["b"] + s[0], "c": c["c"] + c["a"] + s[1]}
        return new, s[0] * 2

    last, _ = sg.scan(step, {"a": zero, "b": zero, "c": zero}, (xs, ys))
    (new,), log = rewrite.run([last["a"]])
    assert isinstance(new, Scan) and [s.name for s in new.loop.slots] == ["s0", "a", "b"]
    assert "what the loop does in vain" in {r.rule for r in log}
    X = np.arange(10, dtype="float32").reshape(5, 2)
    np.testing.assert_array_equal(value(new, {xs: X}), value(last["a"], {xs: X, ys: X}))


def test_outputs_that_are_products_are_made_behind_the_loop() -> None:
    xs, h0 = sg.input("xs", (7, 2, 4)), sg.input("h0", (2, 4))
    W, V, b = sg.parameter("W", (4, 4)), sg.parameter("V", (4, 5)), sg.parameter("b", (5,))

    def step(h: Expr, x: Expr) -> tuple[Expr, Expr]:
        h = sg.tanh(x + h @ W)
        return h, sg.exp(h @ V + b) * sg.sum(x)

    _, ys = sg.scan(step, h0, xs)
    (new,), log = rewrite.run([ys])
    assert "product behind the loop" in {r.rule for r in log}
    for found in results(toposort([new])).values():
        products = [n for n in body(found) if isinstance(n, Contract) and len(n.args) > 1]
        assert len(products) == 1
    rng = np.random.default_rng(0)
    point = {e: rng.normal(size=e.shape) for e in (xs, h0, W, V, b)}
    np.testing.assert_allclose(value(new, point), value(ys, point), rtol=1e-4)
