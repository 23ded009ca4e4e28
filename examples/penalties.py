"""L1 drives weights to zero, L2 shrinks them, and neither touches biases.

Softmax regression on the digits. The penalties are terms of the loss, so that their gradients are
in the compiled step: alpha sign(w), and 2 alpha w. As an option of the optimizer, L2 is the factor
(1 - rate * decay) of the weights, printed below. Some pixels are white in every digit: nothing but
a penalty moves their weights.

Shows: weight decay and its factored update (row F1), L1 (row F2), biases excluded (row F3).

    python examples/penalties.py     # --quick: fewer passes
"""

import numpy as np
from common import accuracy, digits, options, show

import symgrad as sg

n = sg.dim("batch", max=1200)
x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")


def train(penalty, strength: float, parts: dict, passes: int) -> None:
    layer = sg.nn.Linear(64, 10, name="layer")
    logits = layer(x)
    loss = sg.losses.cross_entropy(logits, y)
    if strength:
        loss = loss + penalty(layer, strength)
    steps = passes * -(-len(parts["train"]["y"]) // 32)
    step = sg.train_step(loss, sg.optim.SGD(sg.schedules.cosine(0.1, steps)), seed=0)
    step.run(parts["train"], batch_size=32, epochs=passes)
    test = sg.function([x, y], accuracy(logits, y), state=step.state)(**parts["test"])
    w = step.state["layer.weight"]
    name = f"{penalty.__name__} {strength:g}" if strength else "none"
    zero = np.mean(np.abs(w) < 1e-3)
    print(f"{name:8s} |w| = {np.linalg.norm(w):5.2f}, {zero:4.0%} zero, test accuracy {test:.4f}")


def formulas() -> None:
    """The penalties' gradients and the factored update, proved."""
    layer = sg.nn.Linear(64, 10, name="layer")
    w, b = layer.weight, layer.bias
    loss = sg.losses.cross_entropy(layer(x), y)
    l1, l2 = sg.regularizers.l1(layer, 0.1), sg.regularizers.l2(layer, 0.1)
    assert sg.equivalent(sg.grad(l1, w), 0.1 * sg.sign(w))
    assert sg.equivalent(sg.grad(l2, w), 0.2 * w)
    assert sg.equivalent(sg.grad(loss + l1 + l2, b), sg.grad(loss, b))
    print("the gradient by the biases is that of the data alone")

    eps, alpha = sg.input("eps", ()), 0.2
    g = sg.input("gradient", w.shape)
    update = sg.optim.SGD(eps, weight_decay=alpha).updates([w], [g])[w]
    assert sg.equivalent(update, (1 - eps * alpha) * w - eps * g)
    decayed = sg.grad(loss + l2, w)
    assert sg.equivalent(w - eps * decayed, (1 - eps * alpha) * w - eps * sg.grad(loss, w))
    print("the update with weight decay 0.2:")
    show("new w", update)


def main() -> None:
    passes = 20 if options(__doc__).quick else 200
    formulas()
    parts = digits()
    train(sg.regularizers.l1, 0, parts, passes)
    for strength in (1e-3, 1e-2, 0.1):
        train(sg.regularizers.l2, strength, parts, passes)
    for strength in (3e-4, 1e-3, 3e-3):
        train(sg.regularizers.l1, strength, parts, passes)


if __name__ == "__main__":
    main()
