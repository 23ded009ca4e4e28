"""Derivatives as expressions: the chain rule, Jacobian products, Hessians, first and second order.

Everything printed is what is compiled. Each part checks its formula, by `sg.equivalent` (an exact
test of identity) or against differences.

Shows: the scalar chain rule over several paths (row A1), Jacobian-vector products (row A2), a
network's graph with a weight-decay branch (row A4), the Hessian of softmax cross-entropy (row A8),
exact Hessians and Hessian-vector products (row A11).

    python examples/derivatives.py     # --quick: a smaller network
"""

import numpy as np
from common import mlp, options, show

import symgrad as sg


def chain_rule() -> None:
    """z depends on x by two paths, y1 and y2: dz/dx = dz/dy1 dy1/dx + dz/dy2 dy2/dx."""
    x = sg.input("x", (), dtype="float64")
    y1, y2 = sg.sin(x), x * x
    z = y1 * sg.exp(y2)
    dz_dy1, dz_dy2 = sg.grad(z, [y1, y2])
    dy1_dx, dy2_dx = sg.grad(y1, x), sg.grad(y2, x)
    print("z = sin(x) exp(x^2), by two paths from x:")
    print("  dz/dy1 =", dz_dy1, "   dy1/dx =", dy1_dx)
    print("  dz/dy2 =", dz_dy2, "   dy2/dx =", dy2_dx)
    show("dz/dx ", sg.grad(z, x))
    assert sg.equivalent(sg.grad(z, x), dz_dy1 * dy1_dx + dz_dy2 * dy2_dx)


def jacobian_products() -> None:
    """y = tanh(W x): products with its Jacobian from both sides; the whole only when asked for."""
    W = sg.input("W", (3, 4), dtype="float64")
    x, v, u = (sg.input(k, (s,), dtype="float64") for k, s in (("x", 4), ("v", 4), ("u", 3)))
    y = sg.tanh(W @ x)
    print("y = tanh(W x):")
    show("J v  ", sg.jvp(y, x, v))
    show("J^T u", sg.vjp(y, x, u))
    J = sg.jacobian(y, x)
    assert sg.equivalent(sg.jvp(y, x, v), J @ v) and sg.equivalent(sg.vjp(y, x, u), u @ J)


def weight_decay() -> None:
    """J = cross-entropy + lambda |W|^2: both paths into W contribute to its gradient."""
    x, y = sg.input("x", (8, 5), dtype="float64"), sg.input("y", (8,), dtype="int32")
    lam = sg.input("lambda", (), dtype="float64")
    model = mlp(5, 4, 3, dtype="float64")
    W = model.parameters()[0]
    data_loss = sg.losses.cross_entropy(model(x), y)
    total = sg.grad(data_loss + sg.regularizers.l2(model, lam), W)
    print("a network with weight decay: the gradient is the data's + 2 lambda W:")
    show("dJ/dW", total)
    assert sg.equivalent(total, sg.grad(data_loss, W) + 2 * lam * W)


def softmax_hessian() -> None:
    """The Hessian of softmax cross-entropy by the logits is diag(p) - p p^T."""
    z, y = sg.input("z", (4,), dtype="float64"), sg.input("y", (), dtype="int32")
    hessian = sg.hessian(sg.losses.cross_entropy(z, y), z)
    p = sg.nn.softmax(z)
    print("softmax cross-entropy: its Hessian is diag(p) - p p^T:")
    show("H", hessian)
    at = np.array([1.0, -1.0, 0.5, 0.0])
    print(np.round(sg.function([z], hessian)(at), 4))
    assert sg.equivalent(hessian, p[:, None] * np.eye(4) - sg.outer(p, p))


def second_order(widths: tuple[int, ...]) -> float:
    """A network's Hessian times a direction, compiled; against differences of its gradient."""
    x = sg.input("x", (100, widths[0]), dtype="float64")
    y = sg.input("y", (100,), dtype="int32")
    model = mlp(*widths, activation=sg.nn.tanh, dtype="float64")
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(100, widths[0])), "y": rng.integers(widths[-1], size=100)}
    f = sg.flatten_function(sg.losses.cross_entropy(model(x), y), model, data=data)
    at, direction = f.initial, rng.normal(size=f.size)
    product, h = f.hvp(at, direction), 1e-5
    differences = (f(at + h * direction)[1] - f(at - h * direction)[1]) / (2 * h)
    error = np.abs(product - differences).max() / np.abs(product).max()
    print(f"Hessian of {f.size} x {f.size} times a direction, relative error {error:.1e}")
    return float(error)


def main() -> None:
    quick = options(__doc__).quick
    chain_rule()
    jacobian_products()
    weight_decay()
    softmax_hessian()
    assert second_order((64, 32, 10) if quick else (64, 256, 128, 10)) < 1e-6


if __name__ == "__main__":
    main()
