"""Exclusive or: a network with one hidden layer learns it, a linear one cannot.

No line separates (0, 0) and (1, 1) from (0, 1) and (1, 0): the best a linear model can do is to
answer 1/2 everywhere, with the loss log 2 = 0.6931, whatever it starts from.

Shows: XOR by a two-layer net and by a linear one (row B9).

    python examples/xor.py            # --quick: fewer steps
"""

import math

import numpy as np
from common import options

import symgrad as sg

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
Y = np.array([[0], [1], [1], [0]], dtype=np.float32)

x = sg.input("x", (4, 2))
y = sg.input("y", (4, 1))

deep = sg.nn.Sequential(
    sg.nn.Linear(2, 8, name="hidden"), sg.nn.tanh, sg.nn.Linear(8, 1, name="out")
)
linear = sg.nn.Linear(2, 1, name="linear")


def train(model: sg.nn.Module, steps: int) -> float:
    """The loss after training; prints what the network answers."""
    logits = model(x)
    loss = sg.losses.bce_with_logits_loss(logits, y)
    step = sg.train_step(loss, sg.optim.Adam(0.05), seed=1)
    for _ in range(steps):
        value = step(X, Y)
    answers = sg.function([x], sg.nn.sigmoid(logits), state=step.state)(X)
    for row, answer in zip(X, answers):
        print(f"  {row[0]:.0f} xor {row[1]:.0f}: {answer.item():.3f}")
    return value


def main() -> None:
    steps = 300 if options(__doc__).quick else 2000
    losses = {}
    for name, model in (("linear", linear), ("one hidden layer", deep)):
        print(name)
        losses[name] = train(model, steps)
        print(f"  loss {losses[name]:.4f}")
    assert abs(losses["linear"] - math.log(2)) < 1e-3 and losses["one hidden layer"] < 0.02


if __name__ == "__main__":
    main()
