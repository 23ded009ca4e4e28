"""An optimizer in a few lines: Lion (Chen et al., 2023) beside Adam, on the digits.

An optimizer gives update expressions, which are compiled into the step with everything else.

    python examples/custom_optimizer.py      # --quick: one epoch
"""

import numpy as np
from common import digits, mlp, options

import symgrad as sg


class Lion(sg.optim.Optimizer):
    """p - lr * sign(b1 m + (1 - b1) g), with m a running mean of the gradient."""

    def rule(self, p: sg.Expr, g: sg.Expr) -> dict:
        m = self.moment("m", p)
        direction = sg.sign(0.9 * m + 0.1 * g)
        return {p: p - self.rate(p) * direction, m: 0.99 * m + 0.01 * g}


def train(optimizer: sg.optim.Optimizer, parts: dict, epochs: int) -> float:
    """Mean loss of the last epoch."""
    n = sg.dim("batch", max=64)
    x, y = sg.input("x", (n, 64)), sg.input("y", (n,), dtype="int32")
    loss = sg.losses.cross_entropy(mlp(64, 64, 10)(x), y)
    step = sg.train_step(loss, optimizer, seed=0)
    losses = step.run(parts["train"], batch_size=64, epochs=epochs, shuffle=True)
    return float(np.asarray(losses)[-1])


def main() -> None:
    epochs = 1 if options(__doc__).quick else 20
    parts = digits()
    for optimizer in (sg.optim.Adam(2e-3), Lion(1e-3)):
        print(f"{optimizer.name}: loss {train(optimizer, parts, epochs):.4f}")


if __name__ == "__main__":
    main()
