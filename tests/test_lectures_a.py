"""Part A of the lectures, backpropagation: rows A1 to A11, compiled natively, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from lecture_rows import arena, check, close, draw, labels, leaf, nll, sigmoid, softmax

import symgrad as sg
from symgrad.node import Contract, toposort

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same numbers, whichever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def test_A1_scalar_chain_rule() -> None:
    """dz/dx = sum over successors of dz/dy_i dy_i/dx, shown as derivation steps."""
    x = leaf("x")
    y1 = sg.sin(x)
    y2 = x * x
    z = y1 * sg.exp(y2)
    check(z, {x: np.array(0.7)}, [x], lambda x: np.sin(x) * np.exp(x * x))
    dz_dy1, dz_dy2 = sg.grad(z, [y1, y2])
    assert sg.equivalent(sg.grad(z, x), dz_dy1 * sg.grad(y1, x) + dz_dy2 * sg.grad(y2, x))
    derivation = sg.derivation(z, x)
    assert len(derivation.results[0].paths) == 2
    assert "y1" in derivation.text() and "y2" in derivation.text()


def test_A2_vector_chain_rule() -> None:
    """grad_x z = (dy/dx)^T grad_y z; products with the Jacobian, the whole only when asked for."""
    W, x, u, v = leaf("W", 3, 4), leaf("x", 4), leaf("u", 3), leaf("v", 4)
    y = sg.tanh(W @ x)
    z = sg.sum(y**3)
    point = draw(W, x)
    check(z, point, [W, x], lambda W, x: np.sum(np.tanh(W @ x) ** 3))
    J = sg.jacobian(y, x)
    assert sg.equivalent(sg.grad(z, x), sg.grad(z, y) @ J)
    assert sg.equivalent(sg.jvp(y, x, v), J @ v) and sg.equivalent(sg.vjp(y, x, u), u @ J)
    exact = (1 - np.tanh(point[W] @ point[x]) ** 2)[:, None] * point[W]
    close(sg.function([W, x], J)(*point.values()), exact)
    for product in (sg.jvp(y, x, v), sg.vjp(y, x, u)):  # no matrix but W itself
        assert all(e.ndim < 2 for e in toposort([sg.simplify(product)]) if e is not W)


def test_A2_tensor_chain_rule() -> None:
    """The same for tensors: y_ijk = sum_l a_ijl b_lk, z = sum sin y."""
    a, b = leaf("a", 2, 3, 4), leaf("b", 4, 5)
    y = sg.einsum("ijl,lk->ijk", a, b)
    check(sg.sin(y), draw(a, b), [a, b], lambda a, b: np.sin(np.einsum("ijl,lk->ijk", a, b)))
    gradient = sg.grad(sg.sum(sg.sin(y)), a)
    assert sg.equivalent(gradient, sg.einsum("ijk,lk->ijl", sg.cos(y), b))


def test_A3_forward_and_backward_order() -> None:
    """Forward in topological order, back in reverse; add distributes, multiply switches, max
    routes."""
    x, y = leaf("x", 3), leaf("y", 3)
    u = x * y
    v = sg.maximum(u, x)
    z = sg.sum(v + y)
    check(z, draw(x, y), [x, y], lambda x, y: np.sum(np.maximum(x * y, x) + y))
    order = {e: k for k, e in enumerate(toposort([z]))}
    assert order[x] < order[u] < order[v] < order[z]
    steps = [s.of.text for s in sg.derivation(z, [x, y]).steps]
    assert steps.index("v") < steps.index("u")
    ones = np.ones(3)
    for result, wanted in ((x + y, [ones, ones]), (x * y, [y, x])):
        assert all(map(sg.equivalent, sg.grad(sg.sum(result), [x, y]), wanted))
    won = sg.function([x, y], sg.grad(sg.sum(sg.maximum(x, y)), [x, y]))
    dx, dy = won(np.array([1.0, 2, 3]), np.array([3.0, 1, 2]))
    assert dx.tolist() == [0, 1, 1] and dy.tolist() == [1, 0, 0]


@pytest.mark.skipif(not hasattr(sg, "draw"), reason="there is nothing yet that draws")
def test_A3_both_graphs_are_drawn(tmp_path) -> None:
    """Both graphs as a picture, gates labelled by what they do to the gradient."""
    x, y = leaf("x", 3), leaf("y", 3)
    z = sg.sum(sg.maximum(x * y, x) + y)
    path = tmp_path / "graph.svg"
    sg.draw([z, sg.grad(z, x)], path)
    picture = path.read_text("utf-8")
    assert "<svg" in picture
    for gate in ("distributes", "switches", "routes"):
        assert gate in picture


def test_A4_mlp_with_weight_decay() -> None:
    """J = CE + lambda sum of squares: W gets the data gradient + 2 lambda W, by two paths."""
    x, y, lam = leaf("x", 8, 5), labels("y", 8), leaf("lambda")
    W1, W2 = leaf("W1", 5, 6, kind=sg.parameter), leaf("W2", 6, 3, kind=sg.parameter)
    CE = sg.losses.cross_entropy(sg.nn.relu(x @ W1) @ W2, y)
    J = CE + lam * (sg.sum(W1**2) + sg.sum(W2**2))

    def formula(x, y, lam, W1, W2):
        data = nll(np.maximum(x @ W1, 0) @ W2, y).mean()
        return data + lam * ((W1**2).sum() + (W2**2).sum())

    drawn = draw(x, lam, W1, W2)
    point = {
        x: drawn[x],
        y: RNG.integers(0, 3, 8),
        lam: np.array(0.3),
        W1: drawn[W1],
        W2: drawn[W2],
    }
    check(J, point, [W1, W2], formula)
    for W, total, data in zip((W1, W2), sg.grad(J, [W1, W2]), sg.grad(CE, [W1, W2])):
        assert sg.equivalent(total, data + 2 * lam * W)
        assert len(sg.derivation(J, W).results[0].paths) == 2


def test_A5_relu_layer_with_squared_loss() -> None:
    """d/dh = 2(h - z); delta = 2(h - z) [h > 0]; dW = delta x^T; db = delta."""
    W, b, x, z = leaf("W", 3, 4), leaf("b", 3), leaf("x", 4), leaf("z", 3)
    h = sg.nn.relu(W @ x + b)
    L = sg.sum((h - z) ** 2)
    point = draw(W, b, x, z)
    check(L, point, [W, b, x], lambda W, b, x, z: ((np.maximum(W @ x + b, 0) - z) ** 2).sum())
    delta = 2 * (h - z) * (h > 0)
    for wrt, formula in ((h, 2 * (h - z)), (W, sg.outer(delta, x)), (b, delta), (x, W.T @ delta)):
        assert sg.equivalent(sg.grad(L, wrt), formula)


def test_A6_prelu_elu_linear() -> None:
    """dW3 = q1 q3^T; dW2 = (W3^T q1 * p) q5^T; dW1 = (W2^T (W3^T q1 * p) * r) x^T."""
    W1, W2, W3 = leaf("W1", 3, 4), leaf("W2", 5, 3), leaf("W3", 2, 5)
    x, y, a = leaf("x", 4), leaf("y", 2), leaf("a")
    z1 = W1 @ x
    q5 = sg.nn.prelu(z1, a)
    z2 = W2 @ q5
    q3 = sg.nn.elu(z2)
    q1 = W3 @ q3 - y
    L = 0.5 * sg.sum(q1**2)

    def formula(W1, W2, W3, x, y, a):
        h1 = np.where(W1 @ x > 0, W1 @ x, a * (W1 @ x))
        h2 = np.where(W2 @ h1 > 0, W2 @ h1, np.exp(W2 @ h1) - 1)
        return 0.5 * ((W3 @ h2 - y) ** 2).sum()

    check(L, {**draw(W1, W2, W3, x, y), a: np.array(0.25)}, [W1, W2, W3, a], formula)
    p, r = sg.where(z2 > 0, 1.0, sg.exp(z2)), sg.where(z1 > 0, 1.0, a)
    back = (W3.T @ q1) * p
    wanted = [sg.outer(q1, q3), sg.outer(back, q5), sg.outer((W2.T @ back) * r, x)]
    assert all(map(sg.equivalent, sg.grad(L, [W3, W2, W1]), wanted))


def test_A7_sigmoid_net_with_binary_cross_entropy() -> None:
    """dW3 = (a3 - y) a2^T, db3 = a3 - y, dW2 = (W3^T (a3 - y) * g'(z2)) a1^T, and so on to W1."""
    W1, W2, W3 = leaf("W1", 4, 3), leaf("W2", 5, 4), leaf("W3", 1, 5)
    b1, b2, b3, x, y = (
        leaf(n, s) for n, s in (("b1", 4), ("b2", 5), ("b3", 1), ("x", 3), ("y", 1))
    )
    a1 = sg.sigmoid(W1 @ x + b1)
    a2 = sg.sigmoid(W2 @ a1 + b2)
    a3 = sg.sigmoid(W3 @ a2 + b3)
    L = -sg.sum(y * sg.log(a3) + (1 - y) * sg.log(1 - a3))

    def formula(W1, b1, W2, b2, W3, b3, x, y):
        o = sigmoid(W3 @ sigmoid(W2 @ sigmoid(W1 @ x + b1) + b2) + b3)
        return -(y * np.log(o) + (1 - y) * np.log(1 - o)).sum()

    wrt = [W1, b1, W2, b2, W3, b3]
    check(L, {**draw(*wrt, x), y: np.array([0.3])}, wrt, formula)
    d3 = a3 - y
    d2 = (W3.T @ d3) * a2 * (1 - a2)
    d1 = (W2.T @ d2) * a1 * (1 - a1)
    wanted = [sg.outer(d1, x), d1, sg.outer(d2, a1), d2, sg.outer(d3, a2), d3]
    assert all(map(sg.equivalent, sg.grad(L, wrt), wanted))


def test_A8_softmax_with_cross_entropy() -> None:
    """dL/dz = softmax(z) - onehot(y); its Hessian is diag(p) - p p^T."""
    z, y = leaf("z", 5), labels("y")
    loss = sg.losses.cross_entropy(z, y)
    point = {z: RNG.normal(size=5), y: np.array(2)}
    check(loss, point, [z], lambda z, y: nll(z, y))
    p = sg.nn.softmax(z)
    assert sg.equivalent(sg.grad(loss, z), p - sg.one_hot(y, 5, dtype="float64"))
    hessian = sg.hessian(loss, z)
    assert sg.equivalent(hessian, sg.diag(p) - sg.outer(p, p))
    q = softmax(point[z])
    close(sg.function([z, y], hessian)(*point.values()), np.diag(q) - np.outer(q, q))


def products(expressions: list[sg.Expr]) -> int:
    """How many matrix products there are, shared ones once."""
    nodes = toposort([sg.simplify(sg.concatenate([e.reshape(-1) for e in expressions]))])
    return sum(isinstance(e, Contract) and len(e.args) > 1 and bool(e.summed) for e in nodes)


def composed(depth: int) -> tuple[sg.Expr, sg.Expr, list[sg.Expr]]:
    x = leaf("x", 6, 4)
    weights = [leaf(f"W{k}", 4, 4, kind=sg.parameter) for k in range(depth)]
    z = x
    for W in weights:
        z = sg.tanh(z @ W)
    return x, sg.sum(z * z), weights


def test_A9_one_sweep_for_all_parameters() -> None:
    """f_W = f_m o ... o f_1: z_j forward, D_j back shared by all parameters, in one sweep."""
    x, loss, weights = composed(3)

    def formula(x, *weights):
        for W in weights:
            x = np.tanh(x @ W)
        return (x * x).sum()

    check(loss, draw(x, *weights, scale=0.7), weights, formula)
    counts = []
    for depth in (2, 4, 8, 16):
        _, loss, weights = composed(depth)
        counts.append(products(sg.grad(loss, weights)))
    assert counts == [3 * depth - 1 for depth in (2, 4, 8, 16)]  # forward, D_j, dW_j; no D_0


def test_A10_what_a_node_must_store() -> None:
    """Inference keeps nothing, training what the backward pass reads."""
    memory = []
    for depth in (3, 6, 12):
        x, y = sg.input("x", (64, 96)), sg.input("y", (64,), dtype="int32")
        layers = [sg.nn.Linear(96, 96, name=f"fc{k}") for k in range(depth)]
        model = sg.nn.Sequential(*[part for fc in layers for part in (fc, sg.nn.relu)])
        loss = sg.losses.cross_entropy(model(x), y)
        step = sg.train_step(loss, sg.optim.SGD(0.1))
        memory.append((arena(sg.function([x], model(x))), arena(step)))
    (small, kept), (middle, more), (large, most) = memory
    assert small == middle == large
    layer = 64 * 96 * 4
    assert (more - kept) / 3 == pytest.approx(layer, rel=0.1)  # one activation for each layer,
    assert (most - more) / 6 == pytest.approx(layer, rel=0.1)  # and neither its input nor mask


def test_A10_activations_in_place() -> None:
    """A convolution and its ReLU take the memory of the convolution, also in training."""
    x = sg.input("x", (16, 4, 12, 12))
    first, second = (sg.nn.Conv2d(4, 4, 3, padding=1, name=n) for n in ("c1", "c2"))
    images = 16 * 4 * 12 * 12 * 4
    plain = second(first(x))
    rectified = sg.nn.relu(second(sg.nn.relu(first(x))))
    inference = [arena(sg.function([x], sg.sum(y))) for y in (plain, rectified)]
    assert inference[1] <= inference[0] + images // 8
    training = [arena(sg.train_step(sg.sum(y * y), sg.optim.SGD(0.1))) for y in (plain, rectified)]
    assert training[1] <= training[0] + images // 8


def test_A11_hessian_of_a_small_problem() -> None:
    """f = sum (x^T A x)^2 / 4: the Hessian is (x^T A x) A + 2 A x (A x)^T, A symmetric."""
    A = RNG.normal(size=(4, 4))
    A = A + A.T
    x = leaf("x", 4)
    f = (x @ sg.constant(A) @ x) ** 2 / 4
    at = RNG.normal(size=4)
    check(f, {x: at}, [x], lambda x: (x @ A @ x) ** 2 / 4)
    found = sg.function([x], sg.hessian(f, x))(at)
    close(found, (at @ A @ at) * A + 2 * np.outer(A @ at, A @ at))


def test_A11_hessian_vector_product_of_a_network() -> None:
    """H v, natively, against differences of the gradient, and against the whole Hessian."""
    x, loss, (W, U) = composed(2)
    v = leaf("v", 4, 4)
    point = draw(x, W, U, scale=0.6)
    along = RNG.normal(size=(4, 4))
    product = sg.function([x, W, U, v], sg.hvp(loss, W, v))(*point.values(), along)
    gradient = sg.function([x, W, U], sg.grad(loss, W))
    X, w, u = point.values()

    def at(t: float) -> np.ndarray:
        return gradient(X, w + t * along, u)

    h = 1e-3
    close(product, (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h), 1e-8)
    hessian = sg.function([x, W, U], sg.hessian(loss, W))(*point.values())
    close(product, np.einsum("ijkl,kl->ij", hessian, along), 1e-11)
