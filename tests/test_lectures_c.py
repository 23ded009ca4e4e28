"""Part C of the lectures, layers and activations: rows C1 to C9, natively, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from lecture_rows import Array, check, close, draw, leaf, sigmoid, softmax, start

import symgrad as sg

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


F64 = {"dtype": "float64"}


def test_C1_fully_connected() -> None:
    """W x + b; for rows x W + b, dW = x^T delta, db = sum delta."""
    x, delta = leaf("x", 5, 3), leaf("delta", 5, 4)
    layer = sg.nn.Linear(3, 4, **F64)
    W, b = layer.weight, layer.bias
    check(layer(x), draw(x, W, b), [x, W, b], lambda x, W, b: x @ W + b)
    assert sg.equivalent(sg.vjp(layer(x), W, delta), x.T @ delta)
    assert sg.equivalent(sg.vjp(layer(x), b, delta), sg.sum(delta, axis=0))
    free = sg.nn.Linear(3, 4, bias=False, **F64)
    assert free(x).shape == (5, 4) and [p.shape for p in free.parameters()] == [(3, 4)]


def convolved(x: Array, w: Array, stride: int, pad: int, dilation: int, groups: int) -> Array:
    """out[n, o, i, j] = sum_ckl x[n, c, i s + k d - p, j s + l d - p] w[o, c, k, l]."""
    n, c, height, width = x.shape
    o, per, kh, kw = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    size = [
        (s + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for s, k in ((height, kh), (width, kw))
    ]
    y = np.zeros((n, o, *size))
    for k, l in np.ndindex(kh, kw):  # noqa: E741
        rows = slice(k * dilation, k * dilation + stride * (size[0] - 1) + 1, stride)
        columns = slice(l * dilation, l * dilation + stride * (size[1] - 1) + 1, stride)
        part = x[:, :, rows, columns].reshape(n, groups, per, *size)
        taps = w[:, :, k, l].reshape(groups, o // groups, per)
        y += np.einsum("ngcij,goc->ngoij", part, taps).reshape(n, o, *size)
    return y


@pytest.mark.parametrize(
    "stride, pad, dilation, groups",
    [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 1), (2, 1, 2, 2), (1, 1, 1, 4)],
)
def test_C2_convolution(stride: int, pad: int, dilation: int, groups: int) -> None:
    """Weights shared over places; the output has (w - k + 2 pad)/stride + 1 columns."""
    x = leaf("x", 2, 4, 7, 8)
    layer = sg.nn.Conv2d(
        4, 8, 3, stride=stride, padding=pad, dilation=dilation, groups=groups, **F64
    )
    W, b = layer.weight, layer.bias
    reach = dilation * 2 + 1
    assert layer(x).shape[-1] == (8 - reach + 2 * pad) // stride + 1

    def formula(x: Array, W: Array, b: Array) -> Array:
        return convolved(x, W, stride, pad, dilation, groups) + b[:, None, None]

    check(layer(x), draw(x, W, b), [x, W, b], formula)


def windows(x: Array, k: int, stride: int) -> Array:
    found = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
    return found[:, :, ::stride, ::stride]


@pytest.mark.parametrize("k, stride", [(2, 2), (3, 2), (3, 1)])
def test_C3_max_and_average_pooling(k: int, stride: int) -> None:
    """(w - k)/stride + 1 columns; the maximum routes its gradient to the winner, the mean spreads
    it, and where windows overlap gradients add."""
    x = leaf("x", 2, 3, 7, 7)
    point = {x: RNG.permutation(2 * 3 * 7 * 7).reshape(2, 3, 7, 7) / 10}
    largest, mean = sg.nn.MaxPool2d(k, stride)(x), sg.nn.AvgPool2d(k, stride)(x)
    assert largest.shape == mean.shape == (2, 3, *[(7 - k) // stride + 1] * 2)
    check(largest, point, [x], lambda x: windows(x, k, stride).max((-2, -1)))
    check(mean, point, [x], lambda x: windows(x, k, stride).mean((-2, -1)))
    slope = sg.function([x], sg.grad(sg.sum(largest), x))(point[x])
    wins = np.zeros_like(point[x])
    for at, window in np.ndenumerate(windows(point[x], k, stride).max((-2, -1))):
        wins[at[0], at[1]] += point[x][at[0], at[1]] == window
    assert (slope == wins).all()


def test_C3_subsampling() -> None:
    """Every second pixel: a slice; its gradient is zero in between."""
    x = leaf("x", 1, 2, 6, 6)
    check(x[:, :, ::2, ::2], draw(x), [x], lambda x: x[:, :, ::2, ::2])
    slope = sg.function([x], sg.grad(sg.sum(x[:, :, ::2, ::2]), x))(np.ones((1, 2, 6, 6)))
    assert slope[..., ::2, ::2].min() == 1 and slope.sum() == 2 * 9


ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "sigmoid": (sg.nn.sigmoid, sigmoid),
    "tanh": (sg.nn.tanh, np.tanh),
    "relu": (sg.nn.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda x: sg.nn.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "elu": (lambda x: sg.nn.elu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    "softplus": (sg.nn.softplus, lambda x: np.log1p(np.exp(x))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_C4_activations(name: str) -> None:
    """Values and slopes; what the lectures write for a derivative is what is derived."""
    x = leaf("x", 40)
    function, formula = ACTIVATIONS[name]
    y = function(x)
    check(y, {x: np.linspace(-4, 4, 40)}, [x], formula)
    slope = {
        "sigmoid": y * (1 - y),
        "tanh": 1 - y**2,
        "relu": sg.where(x > 0, 1.0, 0.0),
        "leaky_relu": sg.where(x > 0, 1.0, 0.1),
        "elu": sg.where(x > 0, 1.0, y + 1.5),
        "softplus": sg.sigmoid(x),
    }[name]
    assert sg.equivalent(sg.grad(sg.sum(y), x), slope)


def test_C4_prelu_learns_its_slope() -> None:
    """max(0, x) + a min(0, x); the derivative by a is the sum of min(0, x)."""
    x = leaf("x", 6, 4)
    layer = sg.nn.PReLU(**F64)
    a = layer.weight
    y = layer(x)
    point = {x: RNG.normal(size=(6, 4)), a: np.array([0.25])}
    check(y, point, [x, a], lambda x, a: np.maximum(x, 0) + a * np.minimum(x, 0), step=1e-5)
    assert sg.equivalent(sg.grad(sg.sum(y), a), sg.sum(sg.where(x > 0, 0, x)).reshape(1))


def test_C4_subgradient_of_relu_at_zero() -> None:
    """0 is taken of [0, 1], as PyTorch does; natively too."""
    x = leaf("x", 3)
    slope = sg.function([x], sg.grad(sg.sum(sg.nn.relu(x)), x))
    assert slope(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 0, 1]


def test_C5_softmax_and_log_softmax() -> None:
    """exp z_i / sum exp z_j and its logarithm, finite at any z; the Jacobian is diag(p) - p p^T."""
    z = leaf("z", 3, 5)
    p, log_p = sg.nn.softmax(z), sg.nn.log_softmax(z)
    check(p, draw(z), [z], softmax)
    check(log_p, draw(z), [z], lambda z: z - np.log(np.exp(z).sum(1, keepdims=True)))
    one = leaf("one", 4)
    q = sg.nn.softmax(one)
    assert sg.equivalent(sg.jacobian(q, one), sg.diag(q) - sg.outer(q, q))
    far = np.array([[1000.0, 0, -1000, 1000, 0]] * 3)
    value, log_value, slope = sg.function([z], [p, log_p, sg.grad(sg.sum(log_p), z)])(far)
    assert value[0].tolist() == [0.5, 0, 0, 0.5, 0] and np.isfinite([log_value, slope]).all()
    close(log_value[0], far[0] - 1000 - np.log(2))


def test_C6_dropout() -> None:
    """Training: x m / (1 - p), m Bernoulli(1 - p), and the same mask for the gradient; test: x."""
    x = leaf("x", 400, 50)
    layer = sg.nn.Dropout(0.3)
    assert layer(x) is x
    y = layer(x, training=True)
    found, slope = sg.function([x], [y, sg.grad(sg.sum(y * y), x)], seed=3)(
        X := np.full((400, 50), 2.0)
    )
    kept = found != 0
    assert np.abs(found[kept] * 0.7 / 2 - 1).max() < 1e-12
    assert kept.mean() == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / kept.size))
    close(slope, 2 * found * kept / 0.7)
    again = sg.function([x], y, seed=3)
    assert (again(X) == found).all() and (again(X) != found).any()


def test_C6_monte_carlo_dropout() -> None:
    """Kept on at test: mean sum_i w_i x_i, variance p/(1 - p) sum_i (w_i x_i)^2."""
    x, w = leaf("x", 1, 30), RNG.normal(size=(30, 1))
    y = sg.nn.dropout(x, 0.2, training=True) @ w
    draws = sg.function([x], y, seed=1)
    X = RNG.normal(size=(1, 30))
    found = np.array([draws(X).item() for _ in range(2000)])
    spread = np.sqrt(0.2 / 0.8 * ((X[0] * w[:, 0]) ** 2).sum())
    assert found.mean() == pytest.approx((X @ w).item(), abs=4 * spread / np.sqrt(2000))
    assert found.std() == pytest.approx(spread, rel=0.08)


@pytest.mark.parametrize("shape", [(9, 4), (3, 4, 5, 2)])
def test_C7_batch_normalisation(shape: tuple[int, ...]) -> None:
    """gamma (x - mean) / sqrt(var + eps) + beta by the batch, differentiated through; running
    statistics move by momentum and are what is used at test."""
    x = leaf("x", *shape)
    layer = sg.nn.BatchNorm(4, momentum=0.2, name="bn", **F64)
    gamma, beta = layer.weight, layer.bias
    axes = (0, *range(2, len(shape)))
    column = (4,) + (1,) * (len(shape) - 2)

    def formula(x: Array, gamma: Array, beta: Array) -> Array:
        unit = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
        return gamma.reshape(column) * unit + beta.reshape(column)

    point = draw(x, gamma, beta)
    check(layer(x, training=True), point, [x, gamma, beta], formula)
    step = sg.train_step(sg.sum(layer(x, training=True)) * 0, sg.optim.SGD(0.0))
    X, count = point[x], point[x].size // 4
    step(X)
    mean, var = 0.2 * X.mean(axes), 0.8 + 0.2 * X.var(axes) * count / (count - 1)
    close(step.state["bn.running_mean"], mean)
    close(step.state["bn.running_var"], var)
    test = sg.function([x], layer(x), state=step.state)
    close(test(X), (X - mean.reshape(column)) / np.sqrt(var.reshape(column) + 1e-5))


def recurrence(kind: str) -> Callable[..., Array]:
    """The outputs of all steps, x (batch, time, features), zeros before."""

    def run(x: Array, W: Array, U: Array, b: Array, c: Array) -> Array:
        h = cell = np.zeros((x.shape[0], U.shape[0]))
        outputs = []
        for t in range(x.shape[1]):
            z, u = x[:, t] @ W + b, h @ U + c
            if kind == "RNN":
                h = np.tanh(z + u)
            elif kind == "LSTM":
                i, f, g, o = np.split(z + u, 4, 1)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(cell)
            else:
                (r, v, n), (ru, vu, nu) = np.split(z, 3, 1), np.split(u, 3, 1)
                r, v = sigmoid(r + ru), sigmoid(v + vu)
                h = (1 - v) * np.tanh(n + r * nu) + v * h
            outputs.append(h)
        return np.stack(outputs, 1)

    return run


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_C8_recurrent_nets(kind: str) -> None:
    """h_t of h_(t-1) and x_t in a native loop, gradients through time.

    RNN: tanh(W x + b + U h + c). LSTM: cell = f cell + i g, h = o tanh(cell). GRU: h = (1 - v) n +
    v h, n = tanh(W_n x + b_n + r (U_n h + c_n)).
    """
    x = leaf("x", 3, 5, 2)
    layer = getattr(sg.nn, kind)(2, 4, **F64)
    outputs, _ = layer(x)
    weights = layer.parameters()
    point = {x: RNG.normal(size=(3, 5, 2)), **start(layer)}
    check(outputs, point, [x, *weights], recurrence(kind))


def test_C9_residual_connections_and_branches() -> None:
    """y = x + F(x); several branches side by side: gradients of all paths add up."""
    x = leaf("x", 4, 6)
    fc1, fc2 = sg.nn.Linear(6, 6, **F64), sg.nn.Linear(6, 3, **F64)
    block = sg.nn.Residual(sg.nn.Sequential(fc1, sg.tanh))
    y = sg.concatenate([block(x), sg.nn.relu(fc2(x)), block(block(x))], axis=1)
    W, b, V, c = fc1.weight, fc1.bias, fc2.weight, fc2.bias

    def formula(x: Array, W: Array, b: Array, V: Array, c: Array) -> Array:
        once = x + np.tanh(x @ W + b)
        twice = once + np.tanh(once @ W + b)
        return np.concatenate([once, np.maximum(x @ V + c, 0), twice], 1)

    check(y, draw(x, W, b, V, c), [x, W, b, V, c], formula, step=1e-4)
    one = sg.sum(block(x))
    through = sg.grad(sg.sum(sg.tanh(fc1(x))), x)
    assert sg.equivalent(sg.grad(one, x), 1 + through)
