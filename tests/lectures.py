"""Networks as a lecture writes them: probabilities and logarithms, no fused losses.

Each function builds one and returns its loss and what the lecture differentiates by. The names of
variables are the lecture's: derivations take them from these lines.
"""

from __future__ import annotations

import symgrad as sg
from symgrad.node import Expr

System = tuple[Expr, list[Expr]]


def weights(**shapes: tuple[int, ...]) -> list[Expr]:
    return [sg.parameter(name, shape) for name, shape in shapes.items()]


def weight_decay() -> System:
    """J = cross-entropy + lambda (sum W1^2 + sum W2^2): two paths to each weight."""
    n = sg.dim("n", 64)
    x, y = sg.input("x", (n, 4)), sg.input("y", (n,), dtype="int32")
    W1, W2 = weights(W1=(4, 6), W2=(6, 3))
    lam = sg.input("lambda", ())
    h = sg.nn.relu(x @ W1)
    z = h @ W2
    p = sg.exp(z) / sg.sum(sg.exp(z), axis=1, keepdims=True)
    CE = -sg.mean(sg.sum(sg.one_hot(y, 3) * sg.log(p), axis=1))
    J = CE + lam * (sg.sum(W1**2) + sg.sum(W2**2))
    return J, [W2, W1]


def relu_regression() -> System:
    """h = ReLU(W x + b), squared loss."""
    x, z = sg.input("x", (4,)), sg.input("z", (3,))
    W, b = weights(W=(3, 4), b=(3,))
    h = sg.nn.relu(W @ x + b)
    L = sg.sum((h - z) ** 2)
    return L, [W, b]


def prelu_elu() -> System:
    """Three layers, PReLU, ELU, linear; L = 1/2 |h3 - y|^2."""
    x, y, a = sg.input("x", (4,)), sg.input("y", (2,)), sg.parameter("a", ())
    W1, W2, W3 = weights(W1=(3, 4), W2=(5, 3), W3=(2, 5))
    z1 = W1 @ x
    h1 = sg.nn.prelu(z1, a)
    z2 = W2 @ h1
    h2 = sg.nn.elu(z2)
    h3 = W3 @ h2
    L = sg.sum((h3 - y) ** 2) / 2
    return L, [W3, W2, W1]


def sigmoid_network() -> System:
    """Three sigmoid layers, binary cross-entropy, one sample."""
    x, y = sg.input("x", (4,)), sg.input("y", (2,))
    W1, b1, W2, b2, W3, b3 = weights(W1=(3, 4), b1=(3,), W2=(5, 3), b2=(5,), W3=(2, 5), b3=(2,))
    z1 = W1 @ x + b1
    a1 = sg.sigmoid(z1)
    z2 = W2 @ a1 + b2
    a2 = sg.sigmoid(z2)
    z3 = W3 @ a2 + b3
    a3 = sg.sigmoid(z3)
    L = -sg.sum(y * sg.log(a3) + (1 - y) * sg.log(1 - a3))
    return L, [W3, b3, W2, b2, W1, b1]


def sigmoid_batch() -> System:
    """The same for a batch, samples as rows, the mean over samples."""
    n = sg.dim("n", 64)
    x, y = sg.input("x", (n, 4)), sg.input("y", (n, 2))
    W1, b1, W2, b2, W3, b3 = weights(W1=(4, 3), b1=(3,), W2=(3, 5), b2=(5,), W3=(5, 2), b3=(2,))
    a1 = sg.sigmoid(x @ W1 + b1)
    a2 = sg.sigmoid(a1 @ W2 + b2)
    a3 = sg.sigmoid(a2 @ W3 + b3)
    L = -sg.sum(y * sg.log(a3) + (1 - y) * sg.log(1 - a3)) / n
    return L, [W3, b3, W2, b2, W1, b1]


def softmax_cross_entropy() -> System:
    """One sample: p = softmax(z), L = -log p_y."""
    z, y = sg.input("z", (5,)), sg.input("y", (), dtype="int32")
    p = sg.exp(z) / sg.sum(sg.exp(z))
    L = -sg.sum(sg.one_hot(y, 5) * sg.log(p))
    return L, [z]


def l1_penalty() -> System:
    """J = mean squared error + alpha sum |W|."""
    n = sg.dim("n", 64)
    x, y = sg.input("x", (n, 4)), sg.input("y", (n, 2))
    (W,) = weights(W=(4, 2))
    alpha = sg.input("alpha", ())
    E = sg.sum((x @ W - y) ** 2) / n
    J = E + alpha * sg.sum(sg.abs(W))
    return J, [W]


SYSTEMS = {
    "weight_decay": weight_decay,
    "relu_regression": relu_regression,
    "prelu_elu": prelu_elu,
    "sigmoid_network": sigmoid_network,
    "sigmoid_batch": sigmoid_batch,
    "softmax_cross_entropy": softmax_cross_entropy,
    "l1_penalty": l1_penalty,
}


def decayed_step() -> tuple[Expr, Expr]:
    """An SGD step on E + alpha/2 |W|^2: the gradient of E alone, and the new W."""
    n = sg.dim("n", 64)
    x, y = sg.input("x", (n, 4)), sg.input("y", (n, 2))
    (W,) = weights(W=(4, 2))
    eps, alpha = sg.input("epsilon", ()), sg.input("alpha", ())
    E = sg.sum((x @ W - y) ** 2) / n
    J = E + alpha / 2 * sg.sum(W**2)
    return sg.grad(E, W), W - eps * sg.grad(J, W)
