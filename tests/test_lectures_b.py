"""Part B of the lectures, losses and classic models: rows B1 to B10, natively, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_rows import check, close, draw, labels, leaf, nll, sigmoid, softmax

import symgrad as sg

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


N, C = 6, 4
Y = RNG.integers(0, C, N)


def scores() -> tuple[sg.Expr, sg.Expr, dict]:
    z, y = leaf("z", N, C), labels("y", N)
    return z, y, {z: RNG.normal(size=(N, C)), y: Y}


def two(low: float = 0.05, high: float = 0.95) -> tuple[sg.Expr, sg.Expr, dict]:
    a, b = leaf("a", N, 3), leaf("b", N, 3)
    return a, b, {e: RNG.uniform(low, high, (N, 3)) for e in (a, b)}


def test_B1_cross_entropy_from_logits() -> None:
    """-x[c] + log sum_j exp x_j, by the log-sum-exp shift; its mean over rows."""
    z, y, point = scores()
    loss = sg.losses.cross_entropy(z, y)
    check(loss, point, [z], lambda z, y: nll(z, y).mean())
    each = sg.losses.cross_entropy(z, y, reduction="none")
    check(each, point, [z], nll)
    p = sg.nn.softmax(z)
    assert sg.equivalent(sg.grad(loss, z), (p - sg.one_hot(y, C, dtype="float64")) / N)
    found, slope = sg.function([z, y], [loss, sg.grad(loss, z)])(1000 * point[z], Y)
    close(found, nll(1000 * point[z], Y).mean())
    assert np.isfinite(slope).all()


def test_B2_nll_of_log_softmax() -> None:
    """-logp[c]; behind log-softmax it is the cross-entropy."""
    z, y, point = scores()
    check(sg.losses.nll_loss(z, y), point, [z], lambda z, y: -z[np.arange(N), y].mean())
    loss = sg.losses.nll_loss(sg.nn.log_softmax(z), y)
    check(loss, point, [z], lambda z, y: nll(z, y).mean())
    assert sg.equivalent(loss, sg.losses.cross_entropy(z, y))


def test_B3_mean_squared_and_absolute_error() -> None:
    """1/n sum (x - y)^2; 1/n sum |x - y|."""
    x, y, point = two()
    mse, l1 = sg.losses.mse_loss(x, y), sg.losses.l1_loss(x, y)
    check(mse, point, [x, y], lambda x, y: ((x - y) ** 2).mean())
    check(l1, point, [x, y], lambda x, y: np.abs(x - y).mean(), step=1e-5)
    assert sg.equivalent(sg.grad(mse, x), 2 * (x - y) / (3 * N))
    assert sg.equivalent(sg.grad(l1, x), sg.sign(x - y) / (3 * N))


def test_B4_binary_cross_entropy() -> None:
    """-1/n sum (t log o + (1 - t) log(1 - o)); the form from logits is stable at +-1000."""
    o, t, point = two()

    def bce(o: np.ndarray, t: np.ndarray) -> float:
        return float(-(t * np.log(o) + (1 - t) * np.log(1 - o)).mean())

    check(sg.losses.bce_loss(o, t), point, [o, t], bce, step=1e-4)
    loss = sg.losses.bce_with_logits_loss(o, t)
    check(loss, point, [o, t], lambda z, t: bce(sigmoid(z), t))
    assert sg.equivalent(sg.grad(loss, o), (sg.sigmoid(o) - t) / (3 * N))
    z, u = leaf("z", 4), leaf("u", 4)
    each = sg.losses.bce_with_logits_loss(z, u, reduction="none")
    f = sg.function([z, u], [each, sg.grad(sg.sum(each), z)])
    value, slope = f(np.array([1000.0, 1000, -1000, -1000]), np.array([1.0, 0, 1, 0]))
    assert value.tolist() == [0, 1000, 1000, 0] and slope.tolist() == [0, 1, -1, 0]


def test_B5_kl_divergence() -> None:
    """sum q (log q - log p)."""
    z, q = leaf("z", N, C), leaf("q", N, C)
    point = {z: RNG.normal(size=(N, C)), q: softmax(RNG.normal(size=(N, C)))}
    loss = sg.losses.kl_div(sg.nn.log_softmax(z), q, reduction="sum")
    check(loss, point, [z, q], lambda z, q: (q * (np.log(q) - np.log(softmax(z)))).sum(), step=1e-5)
    own = sg.function([z, q], loss)(point[z], softmax(point[z]))
    assert own == pytest.approx(0, abs=1e-14)


def test_B6_binary_support_vector_machine() -> None:
    """max(0, 1 - t s), whose gradient is -t inside the margin."""
    s, t = leaf("s", N), leaf("t", N)
    point = {s: 2 * RNG.normal(size=N), t: RNG.choice([-1.0, 1.0], N)}
    loss = sg.losses.hinge_loss(s, t, reduction="sum")
    check(loss, point, [s], lambda s, t: np.maximum(0, 1 - t * s).sum(), step=1e-5)
    assert sg.equivalent(sg.grad(loss, s), sg.where(1 - t * s > 0, -t, 0))


def test_B6_multiclass_support_vector_machine() -> None:
    """sum over j != y of max(0, 1 + s_j - s_y); max_j (L(y, j) + s_j) - s_y; epsilon log sum exp
    of it."""
    s, y, point = scores()
    L = RNG.uniform(0.5, 1.5, (C, C)) * (1 - np.eye(C))

    def raised(s: np.ndarray, y: np.ndarray) -> np.ndarray:
        return L[y] + s - s[np.arange(N), y][:, None]

    def summed(s: np.ndarray, y: np.ndarray) -> float:
        over = np.maximum(0, 1 + s - s[np.arange(N), y][:, None])
        over[np.arange(N), y] = 0
        return float(over.sum(1).mean())

    check(sg.losses.multiclass_hinge_loss(s, y), point, [s], summed, step=1e-5)
    hard = sg.losses.multiclass_hinge_loss(s, y, form="max", task_loss=L)
    check(hard, point, [s], lambda s, y: raised(s, y).max(1).mean(), step=1e-5)
    for eps in (1.0, 0.1):
        soft = sg.losses.multiclass_hinge_loss(s, y, form="max", task_loss=L, epsilon=eps)
        check(
            soft,
            point,
            [s],
            lambda s, y, eps=eps: (eps * np.log(np.exp(raised(s, y) / eps).sum(1))).mean(),
            step=1e-4,
        )


def test_B7_linear_regression() -> None:
    """min 1/n |X w + b - t|^2: gradient descent finds what the normal equations give."""
    x, t = leaf("x", 20, 3), leaf("t", 20, 1)
    layer = sg.nn.Linear(3, 1, name="fc", dtype="float64")
    loss = sg.losses.mse_loss(layer(x), t)
    X = RNG.normal(size=(20, 3))
    T = X @ [[1.0], [-2.0], [0.5]] + 0.3 + 0.1 * RNG.normal(size=(20, 1))
    W, b = layer.weight, layer.bias
    check(
        loss, {**draw(W, b), x: X, t: T}, [W, b], lambda w, b, x, t: ((x @ w + b - t) ** 2).mean()
    )
    step = sg.train_step(loss, sg.optim.SGD(0.2))
    for _ in range(400):
        step(X, T)
    exact = np.linalg.lstsq(np.c_[X, np.ones(20)], T, rcond=None)[0]
    close(np.r_[step.state["fc.weight"][:, 0], step.state["fc.bias"]], exact[:, 0], 1e-9)


def test_B7_logistic_regression_is_a_net_of_one_layer() -> None:
    """log(1 + exp z) - t z with z = X w + b, and sigma(z): a deep net of depth one is that."""
    x, t = leaf("x", N, 3), leaf("t", N, 1)
    w, b = leaf("w", 3, 1), leaf("b", 1)
    layer = sg.nn.Linear(3, 1, dtype="float64")
    deep = sg.nn.Sequential(layer)  # a deep net, of one layer
    loss = sg.losses.bce_with_logits_loss(deep(x), t)
    z = x @ layer.weight + layer.bias
    p = sg.sigmoid(z)
    assert sg.equivalent(loss, -sg.mean(t * sg.log(p) + (1 - t) * sg.log(1 - p)))
    own = sg.losses.bce_with_logits_loss(x @ w + b, t)
    point = {**draw(x, w, b), t: RNG.integers(0, 2, (N, 1)).astype(float)}

    def formula(x: np.ndarray, w: np.ndarray, b: np.ndarray, t: np.ndarray) -> float:
        z = x @ w + b
        return float((np.log1p(np.exp(z)) - t * z).mean())

    check(own, point, [w, b], formula)
    assert sg.equivalent(sg.grad(own, w), x.T @ (sg.sigmoid(x @ w + b) - t) / N)


def test_B7_softmax_regression() -> None:
    """Cross-entropy of X W + b; its gradient is X^T (p - onehot(y)) / n."""
    x, y = leaf("x", N, 3), labels("y", N)
    W, b = leaf("W", 3, C), leaf("b", C)
    z = x @ W + b
    loss = sg.losses.cross_entropy(z, y)
    check(loss, {**draw(x, W, b), y: Y}, [W, b], lambda x, W, b, y: nll(x @ W + b, y).mean())
    delta = (sg.nn.softmax(z) - sg.one_hot(y, C, dtype="float64")) / N
    assert sg.equivalent(sg.grad(loss, W), x.T @ delta)
    assert sg.equivalent(sg.grad(loss, b), sg.sum(delta, axis=0))


def test_B8_maximum_likelihood_classifier() -> None:
    """-sum log N(x; mu_y, sigma_y^2 I) p_y: its minimum are the classes' means and variances.

    The picture beside k nearest neighbours is examples/decision_boundaries.py.
    """
    x, y = leaf("x", 30, 2), labels("y", 30)
    mu, log_s = leaf("mu", 2, 2, kind=sg.parameter), leaf("log_s", 2, kind=sg.parameter)
    X, c = RNG.normal(size=(30, 2)) + 1, np.arange(30) % 2
    mean, log_std = sg.take(mu, y, axis=0), sg.take(log_s, y)
    square = sg.sum((x - mean) ** 2, axis=1) / sg.exp(2 * log_std)
    loss = sg.mean(square / 2 + 2 * log_std + np.log(2 * np.pi))

    def formula(mu: np.ndarray, log_s: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
        s = np.exp(log_s)[y][:, None]
        density = np.exp(-((x - mu[y]) ** 2) / (2 * s**2)) / np.sqrt(2 * np.pi * s**2)
        return float(-np.log(density).sum(1).mean())

    check(loss, {**draw(mu, log_s, scale=0.3), x: X, y: c}, [mu, log_s], formula)
    step = sg.train_step(loss, sg.optim.SGD(0.3))
    for _ in range(600):
        step(X, c)
    for k in (0, 1):
        close(step.state["mu"][k], X[c == k].mean(0), 1e-8)
        close(np.exp(2 * step.state["log_s"][k]), X[c == k].var(0).mean(), 1e-8)


def test_B9_xor() -> None:
    """Two layers learn it; the best of a linear model is 1/2 everywhere, loss log 2."""
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    T = np.array([[0], [1], [1], [0]], float)
    x, t = leaf("x", 4, 2), leaf("t", 4, 1)
    first, last = sg.nn.Linear(2, 8, dtype="float64"), sg.nn.Linear(8, 1, dtype="float64")
    deep = last(sg.tanh(first(x)))
    W, b, V, c = (p for layer in (first, last) for p in (layer.weight, layer.bias))

    def formula(W, b, V, c, x, t):
        z = np.tanh(x @ W + b) @ V + c
        return (np.log1p(np.exp(z)) - t * z).mean()

    loss = sg.losses.bce_with_logits_loss(deep, t)
    check(loss, {**draw(W, b, V, c), x: X, t: T}, [W, b, V, c], formula)
    linear = sg.losses.bce_with_logits_loss(sg.nn.Linear(2, 1, dtype="float64")(x), t)
    steps = {k: sg.train_step(e, sg.optim.Adam(0.05)) for k, e in {"2": loss, "1": linear}.items()}
    found = {k: [step(X, T) for _ in range(800)][-1] for k, step in steps.items()}
    assert found["2"] < 0.01
    assert found["1"] == pytest.approx(np.log(2), abs=1e-6)


def test_B10_general_structured_objective() -> None:
    """C/2 norm(w)^2 + sum (eps log sum_y' exp((L(y, y') + F(w, x, y')) / eps) - F(w, x, y)).

    Structures y are three binary labels in a chain, F = sum_i x_i . w_(y_i) + sum_i v_(y_i y_i+1).
    """
    every = np.array(list(np.ndindex(2, 2, 2)))  # all structures
    unary = np.eye(2)[every]  # (structure, place, label)
    pair = np.einsum("sia,sib->sab", unary[:, :-1], unary[:, 1:])
    truth = RNG.integers(0, 8, N)
    L = (every[:, None] != every[None]).sum(-1).astype(float)[truth]  # Hamming distance
    x, w, v = leaf("x", N, 3, 4), leaf("w", 4, 2), leaf("v", 2, 2)
    F = sg.einsum("nif,fa,sia->ns", x, w, unary) + sg.einsum("ab,sab->s", v, pair)
    chosen = sg.take_along_axis(F, sg.constant(truth[:, None]), axis=1)[:, 0]

    def numpy_F(x: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.einsum("nif,fa,sia->ns", x, w, unary) + np.einsum("ab,sab->s", v, pair)

    for eps in (1.0, 0.2):
        loss = 0.05 * (sg.sum(w**2) + sg.sum(v**2))
        loss = loss + sg.sum(eps * sg.logsumexp((L + F) / eps, axis=1) - chosen)

        def formula(x: np.ndarray, w: np.ndarray, v: np.ndarray, eps: float = eps) -> float:
            F = numpy_F(x, w, v)
            soft = eps * np.log(np.exp((L + F) / eps).sum(1)) - F[np.arange(N), truth]
            return float(0.1 / 2 * ((w**2).sum() + (v**2).sum()) + soft.sum())

        check(loss, draw(x, w, v), [w, v], formula)
