"""A loss as a function of one vector: values, gradients, and SciPy's minimisers on it (row E4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import evaluate

import symgrad as sg
from symgrad.errors import GraphError, InputError

TARGETS = ["interpret", "native"]
DIGITS = Path(__file__).parent.parent / "examples" / "data" / "digits.csv.gz"
METHODS = ["CG", "BFGS", "L-BFGS-B", "Newton-CG", "trust-ncg"]
SECOND_ORDER = METHODS[3:]


def rosenbrock(target=None):
    w = sg.parameter("w", (4,), init=np.array([1.3, 0.7, 0.8, 1.9]), dtype="float64")
    loss = sg.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)
    return sg.flatten_function(loss, w, target=target)


def minimised(f, theta, method, **given):
    optimize = pytest.importorskip("scipy.optimize")
    if method not in SECOND_ORDER:
        given.pop("hessp", None)
    elif not {"hess", "hessp"} & set(given):
        given["hessp"] = f.hvp
    return optimize.minimize(f, theta, method=method, **{"jac": True, **given})


@pytest.mark.parametrize("target", TARGETS)
def test_value_gradient_and_curvature_of_rosenbrock(target):
    optimize = pytest.importorskip("scipy.optimize")
    f = rosenbrock(target)
    rng = np.random.default_rng(0)
    for theta in (f.initial, rng.normal(size=4)):
        value, gradient = f(theta)
        assert isinstance(value, float) and gradient.dtype == "float64"
        assert value == pytest.approx(optimize.rosen(theta), rel=1e-13)
        np.testing.assert_allclose(gradient, optimize.rosen_der(theta), rtol=1e-12, atol=1e-12)
        v = rng.normal(size=4)
        expected = optimize.rosen_hess(theta) @ v
        np.testing.assert_allclose(f.hvp(theta, v), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_minimisers_go_the_way_they_go_with_numpys_gradients(method):
    optimize = pytest.importorskip("scipy.optimize")
    f = rosenbrock()
    ours = minimised(f, f.initial, method)
    second = {"hess": optimize.rosen_hess} if method in SECOND_ORDER else {}
    theirs = minimised(optimize.rosen, f.initial, method, jac=optimize.rosen_der, **second)
    assert ours.success and abs(ours.nit - theirs.nit) <= 0.1 * theirs.nit
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-4)
    np.testing.assert_allclose(ours.x, 1, atol=1e-3)


def digits(dtype="float64", decay=1e-2):
    """Logistic regression on real digits."""
    table = np.loadtxt(DIGITS, delimiter=",")
    X, Y = table[:, :64] / 16, table[:, 64].astype("int64")
    n = sg.dim("n", 2000)
    x, y = sg.input("x", (n, 64), dtype=dtype), sg.input("y", (n,), dtype="int64")
    model = sg.nn.Linear(64, 10, name="fc", dtype=dtype)
    loss = sg.losses.cross_entropy(model(x), y) + sg.regularizers.l2(model, decay)
    return loss, model, X.astype(dtype), Y


def by_numpy(theta, X, Y, decay=1e-2):
    """The same value and gradient as someone writes them by hand."""
    W, b = theta[:640].reshape(64, 10), theta[640:]
    z = X @ W + b
    z = z - z.max(1, keepdims=True)
    p = np.exp(z)
    p /= p.sum(1, keepdims=True)
    rows = np.arange(len(Y))
    value = -np.log(p[rows, Y]).mean() + decay * (W * W).sum()
    p[rows, Y] -= 1
    p /= len(Y)
    return value, np.concatenate([(X.T @ p + 2 * decay * W).reshape(-1), p.sum(0)])


@pytest.mark.parametrize("method", ["CG", "L-BFGS-B", "Newton-CG"])
def test_logistic_regression_converges_as_with_numpys_gradients(method):
    loss, model, X, Y = digits()
    f = sg.flatten_function(loss, model, data={"x": X, "y": Y})
    start = np.zeros(f.size)
    ours = minimised(f, start, method)
    theirs = minimised(by_numpy, start, method, args=(X, Y), hessp=lambda t, v, *_: f.hvp(t, v))
    assert ours.fun == pytest.approx(theirs.fun, abs=1e-6)
    assert np.linalg.norm(f(ours.x)[1]) < 1e-3
    assert abs(ours.nit - theirs.nit) <= 0.2 * theirs.nit + 2  # rounding, amplified by the search
    value, gradient = f(ours.x)
    exact, slope = by_numpy(ours.x, X, Y)
    assert value == pytest.approx(exact, rel=1e-12)
    np.testing.assert_allclose(gradient, slope, atol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_are_bound_or_given_by_position_or_name(target):
    loss, model, X, Y = digits()
    f = sg.flatten_function(loss, model, target=target)
    theta = f.initial
    value, slope = f(theta, X, Y)
    again = [f(theta, x=X, y=Y), f(theta, X, y=Y), f.bind(x=X)(theta, Y), f.bind(x=X, y=Y)(theta)]
    for other, gradient in again:
        assert other == value
        np.testing.assert_array_equal(gradient, slope)
    few, _ = f(theta, x=X[:100], y=Y[:100])  # instead of what is bound
    assert few == pytest.approx(by_numpy(theta, X[:100], Y[:100])[0], rel=1e-12)
    assert f.bind(x=X[:100], y=Y[:100])(theta)[0] == few


@pytest.mark.parametrize("target", TARGETS)
def test_parameters_live_in_a_shared_state(target):
    loss, model, X, Y = digits("float32")
    step = sg.train_step(loss, sg.optim.SGD(0.1), target=target)
    f = sg.flatten_function(loss, model, {"x": X, "y": Y}, state=step.state, target=target)
    step(X, Y)
    theta = f.initial
    np.testing.assert_array_equal(theta[:640].reshape(64, 10), step.state["fc.weight"])
    value, slope = f(theta)
    f.assign(theta - 0.1 * slope)
    assert f(f.initial)[0] < value
    assert step(X, Y) == pytest.approx(f(theta - 0.1 * slope)[0], rel=1e-5)
    parts = f.unflatten(theta)
    assert list(parts) == ["fc.weight", "fc.bias"] and parts["fc.bias"].dtype == "float32"
    np.testing.assert_array_equal(f.flatten(parts), theta)


def test_some_parameters_vary_and_others_stay():
    x = sg.input("x", (5, 3), dtype="float64")
    first = sg.nn.Linear(3, 4, name="first", dtype="float64")
    second = sg.nn.Linear(4, 1, name="second", dtype="float64")
    loss = sg.mean(sg.square(second(sg.tanh(first(x)))))
    f = sg.flatten_function(loss, [second.bias, second.weight])
    assert f.size == 5 and [p.name for p in f.parameters] == ["second.bias", "second.weight"]
    X = np.random.default_rng(0).normal(size=(5, 3))
    before = f(f.initial, X)[0]
    f.state["first.weight"] = np.zeros((3, 4))
    assert f(f.initial, X)[0] != before
    values = {p: f.state[p] for p in [*first.parameters(), *second.parameters()]}
    slopes = evaluate(sg.grad(loss, [second.bias, second.weight]), {**values, x: X})
    expected = np.concatenate([s.reshape(-1) for s in slopes])
    np.testing.assert_allclose(f(f.initial, X)[1], expected, atol=1e-14)


@pytest.mark.parametrize("target", TARGETS)
def test_random_numbers_stay_the_same(target):
    x = sg.input("x", (20, 3))
    layer = sg.nn.Linear(3, 2, name="fc")
    loss = sg.mean(sg.square(sg.nn.dropout(layer(x), 0.5)))
    X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    f = sg.flatten_function(loss, data={"x": X}, target=target)
    assert len({f(f.initial)[0] for _ in range(3)}) == 1
    step = sg.train_step(loss, sg.optim.SGD(0.0), state=f.state, target=target)
    before = f(f.initial)[0]
    step(X)
    assert f(f.initial)[0] != before  # another step, another draw


def test_errors():
    loss, model, X, Y = digits()
    other = sg.parameter("other", (2,))
    with pytest.raises(GraphError, match="does not depend on 'other'"):
        sg.flatten_function(loss, [model, other])
    with pytest.raises(GraphError, match="scalar"):
        sg.flatten_function(other)
    with pytest.raises(InputError, match="flatten_function: no input is named 'z'.*'x', 'y'"):
        sg.flatten_function(loss, model, {"z": X})
    f = sg.flatten_function(loss, model)
    with pytest.raises(InputError, match="missing input 'y'"):
        f(f.initial, X)
    with pytest.raises(InputError, match="twice"):
        f(f.initial, X, x=X)
    with pytest.raises(InputError, match="no input is named 'z'"):
        f(f.initial, X, Y, z=1)
    with pytest.raises(InputError, match=r"theta.*\(650,\).*\(649,\)"):
        f(f.initial[1:], X, Y)
    for call in (f.unflatten, f.assign):
        with pytest.raises(InputError, match=r"theta has shape \(650,\), the value given \(649,\)"):
            call(f.initial[1:])
    with pytest.raises(InputError, match=r"'y'\[3\] is 12"):
        f(f.initial, X, np.where(np.arange(len(Y)) == 3, 12, Y))
    with pytest.raises(InputError, match="no value for fc.bias"):
        f.flatten({"fc.weight": np.zeros((64, 10))})
