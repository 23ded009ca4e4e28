"""Backpropagation as the textbook writes it: each formula proved equal to what is derived.

Three networks of the lectures, column vectors, weights on the left. Then what the sweep costs: all
gradients together are one sweep back, not one for each parameter; inference keeps nothing of its
layers, training what the backward pass reads.

Shows: forward and backward order (row A3), ReLU with squared loss (row A5), PReLU, ELU and linear
layers (row A6), sigmoids with binary cross-entropy (row A7), one sweep for all parameters (row A9),
what a node must store (row A10).

    python examples/backpropagation.py     # --quick: shallower networks
"""

import re

from common import mlp, options, show

import symgrad as sg


def vector(name: str, size: int) -> sg.Expr:
    return sg.input(name, (size,), dtype="float64")


def matrix(name: str, rows: int, columns: int) -> sg.Expr:
    return sg.input(name, (rows, columns), dtype="float64")


def check(title: str, loss: sg.Expr, formulas: dict[sg.Expr, sg.Expr]) -> None:
    """Prints the derived gradients, what they share once; proves that they are the formulas."""
    print(title)
    gradients = sg.grad(loss, list(formulas))
    known: set[str] = set()
    for (by, formula), gradient in zip(formulas.items(), gradients):
        show(f"gradient by {by.name}", gradient, known)
        assert sg.equivalent(gradient, formula), by.name


def one_layer() -> None:
    """h = ReLU(W x + b), loss |h - z|^2."""
    W, b, x, z = matrix("W", 3, 4), vector("b", 3), vector("x", 4), vector("z", 3)
    h = sg.nn.relu(W @ x + b)
    delta = 2 * (h - z) * (h > 0)
    formulas = {W: sg.outer(delta, x), b: delta, h: 2 * (h - z)}
    check("h = ReLU(W x + b), loss |h - z|^2", sg.sum(sg.square(h - z)), formulas)


def three_layers() -> None:
    """PReLU, ELU and linear, loss 1/2 |h3 - y|^2."""
    W1, W2, W3 = matrix("W1", 4, 3), matrix("W2", 5, 4), matrix("W3", 2, 5)
    x, y, slope = vector("x", 3), vector("y", 2), vector("slope", 1)
    u1 = W1 @ x
    h1 = sg.nn.prelu(u1, slope)
    u2 = W2 @ h1
    h2 = sg.nn.elu(u2)
    h3 = W3 @ h2
    q = h3 - y
    p = sg.where(u2 > 0, 1.0, sg.exp(u2))  # the derivative of ELU
    r = sg.where(u1 > 0, 1.0, slope)  # and of PReLU
    back = (W3.T @ q) * p
    formulas = {
        W3: sg.outer(q, h2),
        W2: sg.outer(back, h1),
        W1: sg.outer((W2.T @ back) * r, x),
    }
    check("PReLU, ELU, linear; loss 1/2 |h3 - y|^2", 0.5 * sg.sum(sg.square(q)), formulas)


def sigmoids() -> None:
    """Three sigmoid layers, binary cross-entropy."""
    W1, W2, W3 = matrix("W1", 4, 3), matrix("W2", 5, 4), matrix("W3", 1, 5)
    b1, b2, b3 = vector("b1", 4), vector("b2", 5), vector("b3", 1)
    x, y = vector("x", 3), vector("y", 1)
    a1 = sg.nn.sigmoid(W1 @ x + b1)
    a2 = sg.nn.sigmoid(W2 @ a1 + b2)
    a3 = sg.nn.sigmoid(W3 @ a2 + b3)
    loss = -sg.sum(y * sg.log(a3) + (1 - y) * sg.log(1 - a3))
    d3 = a3 - y
    d2 = (W3.T @ d3) * a2 * (1 - a2)
    d1 = (W2.T @ d2) * a1 * (1 - a1)
    formulas = {
        **{W3: sg.outer(d3, a2), b3: d3},
        **{W2: sg.outer(d2, a1), b2: d2},
        **{W1: sg.outer(d1, x), b1: d1},
    }
    check("three sigmoid layers, binary cross-entropy", loss, formulas)


def cost(depth: int) -> tuple[float, float]:
    """Arithmetic of the gradients by the forward pass's; memory of training by inference's."""
    x, y = sg.input("x", (64, 128)), sg.input("y", (64,), dtype="int32")
    model = mlp(128, *[128] * depth, 10)
    loss = sg.losses.cross_entropy(model(x), y)
    forward = sg.function([x], model(x))
    backward = sg.function([x, y], sg.grad(loss, model.parameters()))

    def read(pattern: str) -> list[float]:
        found = [re.search(pattern, f.report()) for f in (forward, backward)]
        return [float(match[1].replace(",", "")) for match in found if match]

    (once, all_gradients), (small, large) = read(r"([\d.]+) Mflop"), read(r"arena .*?\(([\d,]+) b")
    print(
        f"depth {depth:2d}: {once:.1f} Mflop forward, {all_gradients:.1f} for all "
        f"{len(model.parameters())} gradients; memory {small / 1e3:.0f} kB and {large / 1e3:.0f} kB"
    )
    return all_gradients / once, small


def main() -> None:
    one_layer()
    three_layers()
    sigmoids()
    costs = [cost(depth) for depth in ((2, 6) if options(__doc__).quick else (2, 4, 8, 16))]
    ratios, memory = zip(*costs)
    assert max(ratios) < 3.1 and memory[0] == memory[-1]  # inference: the same at any depth
    print(f"gradients of all parameters over one forward pass: {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
