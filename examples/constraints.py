"""A bound on the weights' norm, by projection and by a Lagrange multiplier: the same solution.

Softmax regression on the digits under |w|^2 <= k^2. Projection: after each update, w is shortened
to the bound. Lagrangian: min over w, max over lambda >= 0 of f(w) + lambda (|w|^2 - k^2); in one
compiled step the weights descend and the multiplier ascends.

Shows: norm constraint by projection, generalised Lagrangian min-max (row F4).

    python examples/constraints.py     # --quick: fewer steps
"""

import numpy as np
from common import digits, options

import symgrad as sg

BOUND = 1.0
part = digits()["train"]
rows = len(part["y"])
x, y = sg.input("x", (rows, 64), dtype="float64"), sg.input("y", (rows,), dtype="int32")
w = sg.parameter("w", (64, 10), dtype="float64")
f = sg.losses.cross_entropy(x @ w, y)


def projection(steps: int):
    ball = sg.constraints.max_norm(BOUND, axis=None)
    step = sg.train_step(f, sg.optim.SGD(0.5, constraints={w: ball}))
    for _ in range(steps):
        step(part["x"], part["y"])
    return step.state


def saddle_point(steps: int):
    lam = sg.parameter("lambda", (), dtype="float64")
    lagrangian = f + lam * (sg.regularizers.l2(w) - BOUND**2)
    positive = sg.constraints.non_negative()
    optimizers = {
        "descent": (sg.optim.SGD(0.5), w),
        "ascent": (sg.optim.SGD(0.1, maximize=True, constraints=positive), lam),
    }
    step = sg.train_step(lagrangian, optimizers)
    for _ in range(steps):
        step(part["x"], part["y"])
    return step.state


def main() -> None:
    steps = 1000 if options(__doc__).quick else 10000
    states = {"projection": projection(steps), "Lagrangian": saddle_point(steps)}
    for name, state in states.items():
        loss = sg.function([x, y], f, state=state)(part["x"], part["y"])
        print(f"{name}: loss {loss:.6f}, |w| = {np.linalg.norm(state['w']):.6f}")
    print(f"multiplier lambda = {states['Lagrangian']['lambda']:.6f}")
    apart = np.abs(states["projection"]["w"] - states["Lagrangian"]["w"]).max()
    print(f"largest difference of the weights {apart:.1e}")
    assert apart < 1e-3


if __name__ == "__main__":
    main()
