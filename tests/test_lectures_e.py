"""Part E of the lectures, optimization: rows E1 to E8, in float64.

Updates are compared with the formula written out in NumPy over several native steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lecture_rows import Array, check, close, draw, labels, leaf, nll, sigmoid

import symgrad as sg

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


F64: dict[str, Any] = {"dtype": "float64"}
START = RNG.normal(size=5)


def quadratic() -> tuple[sg.Expr, sg.Expr, Callable[[Array], Array]]:
    """f(w) = 1/2 w^T A w - b^T w, whose gradient is A w - b."""
    A = RNG.normal(size=(5, 5))
    A, b = A @ A.T / 5 + np.eye(5), RNG.normal(size=5)
    w = sg.parameter("w", (5,), init=START, **F64)
    return w, w @ sg.constant(A) @ w / 2 - sg.constant(b) @ w, lambda w: A @ w - b


def follow(
    optimizer: Any, rule: Callable[[Array, Array, dict, int], Array], steps: int = 6
) -> None:
    """An optimizer's native steps against rule(w, gradient, memory, t)."""
    w, f, slope = quadratic()
    step = sg.train_step(f, optimizer)
    value, memory = START, {}
    for t in range(1, steps + 1):
        step()
        value = rule(value, slope(value), memory, t)
        close(step.state["w"], value)


def test_E1_full_batch_stochastic_and_minibatch_descent() -> None:
    """w - alpha/k sum of the gradients of k samples: all of them, one, or some."""
    X, T = RNG.normal(size=(12, 5)), RNG.normal(size=12)
    for k in (12, 1, 4):
        n = sg.dim("n", 12)
        x, t = sg.input("x", (n, 5), **F64), sg.input("t", (n,), **F64)
        w = sg.parameter("w", (5,), init=START, **F64)
        step = sg.train_step(sg.losses.mse_loss(x @ w, t), sg.optim.SGD(0.05))
        step.run({"x": X, "t": T}, batch_size=k, epochs=2, shuffle=False)
        value = START
        for _ in range(2):
            for s in range(0, 12, k):
                rows = slice(s, s + k)
                each = 2 * (X[rows] @ value - T[rows])[:, None] * X[rows]
                value = value - 0.05 / k * each.sum(0)
        close(step.state["w"], value)
    x, t, w = leaf("x", 12, 5), leaf("t", 12), leaf("w", 5)
    point = {x: X, t: T, w: START}
    check(
        sg.losses.mse_loss(x @ w, t), point, [w], lambda x, t, w: ((x @ w - t) ** 2).sum() / len(t)
    )


def test_E2_momentum() -> None:
    """rho = mu rho - alpha g, w += rho; today's form keeps the sum of g and multiplies by alpha,
    which is the same at a constant rate."""

    def rule(w: Array, g: Array, memory: dict, t: int) -> Array:
        memory["rho"] = 0.9 * memory.get("rho", 0) - 0.05 * g
        return w + memory["rho"]

    follow(sg.optim.SGD(0.05, momentum=0.9), rule)


def test_E2_nesterov() -> None:
    """The gradient at the place ahead, w + mu rho: what is kept is that place, as is usual today.

    With theta = w + mu rho: rho' = mu rho - alpha g(theta), w' = w + rho', theta' = w' + mu rho'.
    """
    _, _, slope = quadratic()

    def rule(theta: Array, g: Array, memory: dict, t: int) -> Array:
        rho = memory.get("rho", np.zeros(5))
        w = theta - 0.9 * rho
        memory["rho"] = 0.9 * rho - 0.05 * g
        return w + memory["rho"] + 0.9 * memory["rho"]

    follow(sg.optim.SGD(0.05, momentum=0.9, nesterov=True), rule)


def test_E3_adagrad() -> None:
    """G += g^2; w -= alpha g / (sqrt(G) + eps)."""

    def rule(w: Array, g: Array, memory: dict, t: int) -> Array:
        memory["G"] = memory.get("G", 0) + g**2
        return w - 0.1 * g / (np.sqrt(memory["G"]) + 1e-10)

    follow(sg.optim.Adagrad(0.1), rule)


def test_E3_rmsprop() -> None:
    """v = rho v + (1 - rho) g^2; w -= alpha g / (sqrt(v) + eps)."""

    def rule(w: Array, g: Array, memory: dict, t: int) -> Array:
        memory["v"] = 0.9 * memory.get("v", 0) + 0.1 * g**2
        return w - 0.01 * g / (np.sqrt(memory["v"]) + 1e-8)

    follow(sg.optim.RMSprop(0.01, alpha=0.9), rule)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_E3_adam_and_adamw(decay: float) -> None:
    """m, v exponential averages of g, g^2; m / (1 - b1^t), v / (1 - b2^t); AdamW also w -= alpha
    decay w."""

    def rule(w: Array, g: Array, memory: dict, t: int) -> Array:
        memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
        memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
        m, v = memory["m"] / (1 - 0.9**t), memory["v"] / (1 - 0.999**t)
        return w - 0.02 * decay * w - 0.02 * m / (np.sqrt(v) + 1e-8)

    follow(sg.optim.AdamW(0.02, weight_decay=decay) if decay else sg.optim.Adam(0.02), rule)


@pytest.mark.parametrize("method", ["CG", "L-BFGS-B", "Newton-CG"])
def test_E4_conjugate_gradient_and_lbfgs(method: str) -> None:
    """SciPy drives the compiled value and gradient to A w = b."""
    optimize = pytest.importorskip("scipy.optimize")
    w, f, slope = quadratic()
    flat = sg.flatten_function(f, w)
    close(flat(START)[1], slope(START))
    product = {"hessp": flat.hvp} if method == "Newton-CG" else {}
    options = {"maxiter": 100, **({} if method == "Newton-CG" else {"gtol": 1e-9})}
    best = optimize.minimize(
        flat, flat.initial, jac=True, method=method, tol=1e-12, options=options, **product
    )
    flat.assign(best.x)
    assert np.abs(slope(flat.state["w"])).max() < 1e-7


def test_E5_schedules() -> None:
    """A gradient of 1: after t steps w has moved by the sum of the rates."""
    for schedule, rate in (
        (sg.schedules.step(0.1, every=3, gamma=0.5), lambda t: 0.1 * 0.5 ** (t // 3)),
        (sg.schedules.exponential(0.1, 0.8), lambda t: 0.1 * 0.8**t),
        (sg.schedules.cosine(0.1, 8), lambda t: 0.05 * (1 + np.cos(np.pi * min(t, 8) / 8))),
    ):
        w = sg.parameter("w", (), init=0.0, **F64)
        step = sg.train_step(w + 0, sg.optim.SGD(schedule))
        for t in range(10):
            step()
            close(step.state["w"], -sum(rate(k) for k in range(t + 1)), 1e-7)


def test_E5_reduce_on_plateau() -> None:
    """The rate is divided when the validation loss has not fallen for `patience` epochs."""
    w, f, _ = quadratic()
    step = sg.train_step(f, sg.optim.SGD(0.08))
    validation = iter([3.0, 2.0, 2.1, 2.2, 2.3, 1.0])
    watch = sg.callbacks.ReduceOnPlateau(step, lambda: next(validation), factor=0.5, patience=1)
    rates = []
    for epoch in range(6):
        watch(epoch, step())
        rates.append(round(float(np.asarray(step.lr)), 6))
    assert rates == [0.08, 0.08, 0.08, 0.04, 0.04, 0.04]


# name: (rule, standard deviation, bound or None where normal), for fan_in 300 and fan_out 500
RULES: dict[str, tuple[Any, float, float | None]] = {
    "N(0, 0.1)": (sg.init.normal(0, 0.1), 0.1, None),
    "U(+-1/sqrt(fan_in))": (sg.init.fan_in_uniform(), (1 / 900) ** 0.5, 300**-0.5),
    "Glorot": (sg.init.xavier_uniform(), (2 / 800) ** 0.5, (6 / 800) ** 0.5),
    "Xavier": (sg.init.xavier_normal(gain=0.5**0.5), (1 / 800) ** 0.5, None),
    "He": (sg.init.he_normal(), (2 / 300) ** 0.5, None),
}


@pytest.mark.parametrize("name", RULES)
def test_E6_initial_distributions(name: str) -> None:
    """N(0, 0.1), U(+-1/sqrt(fan_in)), U(+-sqrt(6/(fan_in + fan_out))), N(0, 1/(d_in + d_out)),
    N(0, 2/d_in): mean, deviation, range, kurtosis of the values a layer really gets."""
    rule, std, bound = RULES[name]
    layer = sg.nn.Linear(300, 500, init=rule, bias_init=sg.init.zeros(), name="fc", **F64)
    f = sg.function([x := leaf("x", 1, 300)], layer(x), seed=7)
    w = f.state["fc.weight"]
    assert w.mean() == pytest.approx(0, abs=5 * std / w.size**0.5)
    assert w.std() == pytest.approx(std, rel=0.01)
    assert (w**4).mean() / std**4 == pytest.approx(1.8 if bound else 3.0, rel=0.03)
    if bound:
        assert 0.999 * bound < np.abs(w).max() <= bound
    assert (f.state["fc.bias"] == 0).all()


def test_E6_zeros_fail() -> None:
    """From equal units equal gradients: they stay one unit for ever, to the last bit."""
    X, T = RNG.normal(size=(20, 3)), RNG.integers(0, 2, 20)
    losses = {}
    for name, rule in (("zeros", sg.init.zeros()), ("constant", sg.init.constant(0.3))):
        x, y = leaf("x", 20, 3), labels("y", 20)
        first = sg.nn.Linear(3, 8, init=rule, bias_init=sg.init.zeros(), name="fc1", **F64)
        last = sg.nn.Linear(8, 2, init=rule, bias_init=sg.init.zeros(), name="fc2", **F64)
        loss = sg.losses.cross_entropy(last(sg.tanh(first(x))), y)
        step = sg.train_step(loss, sg.optim.SGD(0.5))
        losses[name] = [step(X, T) for _ in range(30)]
        w = step.state["fc1.weight"]
        assert (w == w[:, :1]).all()
    share = T.mean()
    least = -(share * np.log(share) + (1 - share) * np.log(1 - share))  # without looking at x
    assert losses["zeros"][-1] >= least - 1e-12


def test_E7_vanishing_gradients_made_visible() -> None:
    """Per-layer gradient norms as outputs of the step: they die through sigmoids (a factor of at
    most 1/4 for each), not through ReLU from He's start, nor behind batch norm."""
    ratios = {}
    X, T = RNG.normal(size=(32, 16)), RNG.integers(0, 4, 32)
    for name in ("sigmoid", "relu", "batch norm"):
        x, y = leaf("x", 32, 16), labels("y", 32)
        layers = [
            sg.nn.Linear(16, 16, init=sg.init.he_normal(), name=f"fc{k}", **F64) for k in range(8)
        ]
        h = x
        for fc in layers:
            z = fc(h)
            if name == "batch norm":
                z = sg.nn.BatchNorm(16, **F64)(z, training=True)
            h = sg.nn.relu(z) if name == "relu" else sg.sigmoid(z)
        loss = sg.losses.cross_entropy(h[:, :4], y)
        slopes = sg.grad(loss, [fc.weight for fc in layers])
        norms = {f"norm{k}": sg.norm(g) for k, g in enumerate(slopes)}
        found = sg.train_step(loss, sg.optim.SGD(0.1), outputs=norms)(X, T)
        ratios[name] = found["norm0"] / found["norm7"]
    assert ratios["sigmoid"] < 1e-3 < 1e-1 < ratios["relu"] < 10
    assert ratios["batch norm"] > 10 * ratios["sigmoid"]


def test_E7_norms_are_those_of_the_formula() -> None:
    """norm(dL/dW1) of two sigmoid layers, written out."""
    x, y = leaf("x", 6, 3), labels("y", 6)
    W1, W2 = leaf("W1", 3, 4), leaf("W2", 4, 3)
    loss = sg.losses.cross_entropy(sg.sigmoid(x @ W1) @ W2, y)
    point = {**draw(x, W1, W2), y: RNG.integers(0, 3, 6)}
    slope, _ = check(
        loss, point, [W1, W2], lambda x, W1, W2, y: nll(sigmoid(x @ W1) @ W2, y).mean()
    )
    norm = sg.function(list(point), sg.norm(sg.grad(loss, W1)))(*point.values())
    assert norm == pytest.approx(np.linalg.norm(slope), rel=1e-12)


@pytest.mark.parametrize("length", [0.5, 20.0])
def test_E8_gradient_clipping(length: float) -> None:
    """By global norm: g min(1, limit / norm(g)) over all parameters together; by value: each number
    to +-limit. A loss of c . w has the gradient c."""
    c = {"a": RNG.normal(size=4), "b": RNG.normal(size=(2, 3))}
    norm = np.sqrt(sum((v**2).sum() for v in c.values()))
    c = {name: v * length / norm for name, v in c.items()}
    for option, limit in (("clip_norm", 2.0), ("clip_value", 0.3)):
        w = {k: sg.parameter(k, v.shape, **F64) for k, v in c.items()}
        loss = sg.sum(w["a"] * c["a"]) + sg.sum(w["b"] * c["b"])
        step = sg.train_step(loss, sg.optim.SGD(1.0, **{option: limit}))
        step()
        moved = {k: -step.state[k] for k in c}
        for k, v in c.items():
            by_norm = v * min(1.0, limit / length)
            close(moved[k], by_norm if option == "clip_norm" else np.clip(v, -limit, limit), 1e-6)
        total = np.sqrt(sum((v**2).sum() for v in moved.values()))
        if option == "clip_norm":
            assert total == pytest.approx(min(length, limit), rel=1e-6)
