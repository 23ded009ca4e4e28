"""Logistic and softmax regression are deep networks of one layer: shown exactly.

A `Sequential` of one layer with the usual loss on its logits, and the textbook's formulas over
the same weights,

    p = 1 / (1 + exp(-(x w + b)))            loss = -mean(t log p + (1 - t) log(1 - p))
    p = exp(x w + b) / sum exp(x w + b)      loss = -mean(log p[label])

have the same gradients, which `sg.equivalent` proves, and train to the same weights. On digits.

Shows: logistic and softmax regression; a deep net with one layer equals the former (row B7).

    python examples/logistic_regression.py     # --quick: fewer passes
"""

import numpy as np
from common import accuracy, digits, options, show

import symgrad as sg

n = sg.dim("batch", max=1200)
x = sg.input("x", (n, 64), dtype="float64")


def network(outputs: int) -> tuple[sg.Expr, list[sg.Expr], sg.Expr]:
    """The logits of a network of one layer, its parameters, and x w + b written with them."""
    layer = sg.nn.Linear(64, outputs, name="layer", dtype="float64")
    deep = sg.nn.Sequential(layer)
    return deep(x), deep.parameters(), x @ layer.weight + layer.bias


def compare(
    target: sg.Expr, losses: dict, parameters: list, right: sg.Expr, parts: dict, passes: int
) -> None:
    """Gradients proved equal, then both trained from one start; the test accuracy."""
    net, formula = (sg.grad(loss, parameters) for loss in losses.values())
    proved = all(sg.equivalent(a, b) for a, b in zip(net, formula))
    show("gradient by the weights", formula[0])
    print(f"  equal to the network's: {proved}")
    weights = []
    for loss in losses.values():
        step = sg.train_step(loss, sg.optim.SGD(0.1), seed=0)
        step.run(parts["train"], batch_size=32, epochs=passes)
        weights.append(step.state["layer.weight"])
    print(f"  largest difference of the weights: {np.abs(weights[0] - weights[1]).max():.1e}")
    score = sg.function([x, target], right, state=step.state)
    print(f"  test accuracy {score(**parts['test']):.4f}")
    assert proved and np.allclose(*weights, rtol=0, atol=1e-9)


def logistic(passes: int) -> None:
    """Is it an even digit?"""
    print("logistic regression, even digits and odd ones")
    parts = {part: {"x": d["x"], "t": 1 - d["y"][:, None] % 2} for part, d in digits().items()}
    t = sg.input("t", (n, 1), dtype="float64")
    logits, parameters, z = network(1)
    p = 1 / (1 + sg.exp(-z))
    losses = {
        "network": sg.losses.bce_with_logits_loss(logits, t),
        "formula": -sg.mean(t * sg.log(p) + (1 - t) * sg.log(1 - p)),
    }
    right = sg.mean(((logits > 0) == (t > 0.5)).astype("float64"))
    compare(t, losses, parameters, right, parts, passes)


def softmax(passes: int) -> None:
    """Which digit is it?"""
    print("softmax regression, ten digits")
    y = sg.input("y", (n,), dtype="int32")
    logits, parameters, z = network(10)
    p = sg.exp(z) / sg.sum(sg.exp(z), axis=1, keepdims=True)
    losses = {
        "network": sg.losses.cross_entropy(logits, y),
        "formula": -sg.mean(sg.sum(sg.one_hot(y, 10, dtype="float64") * sg.log(p), axis=1)),
    }
    compare(y, losses, parameters, accuracy(logits, y), digits(), passes)


def main() -> None:
    passes = 10 if options(__doc__).quick else 100
    logistic(passes)
    softmax(passes)


if __name__ == "__main__":
    main()
