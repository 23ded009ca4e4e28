"""Exclusive or: a network with one hidden layer learns it, a linear one cannot.

python examples/xor.py            # --quick for fewer steps
"""

import sys

import numpy as np

import symgrad as sg

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
Y = np.array([[0], [1], [1], [0]], dtype=np.float32)

x = sg.input("x", (4, 2))
y = sg.input("y", (4, 1))

deep = sg.nn.Sequential(
    sg.nn.Linear(2, 8, name="hidden"), sg.nn.tanh, sg.nn.Linear(8, 1, name="out")
)
linear = sg.nn.Linear(2, 1, name="linear")


def train(model: sg.nn.Module, steps: int) -> tuple[float, float]:
    """Loss and accuracy on the four rows after training."""
    score = model(x)
    loss = sg.losses.bce_with_logits_loss(score, y)
    right = sg.mean(((score > 0) == (y > 0.5)).astype("float32"))
    step = sg.train_step(loss, sg.optim.Adam(0.05), outputs={"accuracy": right}, seed=1)
    for _ in range(steps):
        result = step(X, Y)
    return float(result["loss"]), float(result["accuracy"])


def main() -> None:
    steps = 200 if "--quick" in sys.argv else 1000
    for name, model in (("linear", linear), ("one hidden layer", deep)):
        loss, accuracy = train(model, steps)
        print(f"{name}: loss {loss:.4f}, accuracy {accuracy:.2f}")


if __name__ == "__main__":
    main()
