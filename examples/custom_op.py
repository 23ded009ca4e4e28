"""An operation of one's own, from one SymPy lambda: serf(x) = x erf(log(1 + exp x)).

Nag and Bhattacharyya (2021) propose it as an activation. SymPy finds its derivative; it is
vectorised and fused like a built-in one.

    python examples/custom_op.py      # --quick: fewer points and steps
"""

import numpy as np
import sympy as sp
from common import options, show

import symgrad as sg

serf = sg.elementwise("serf", lambda x: x * sp.erf(sp.log(1 + sp.exp(x))))


def gradient_error(points: int) -> float:
    """Largest difference between the compiled gradient and central differences."""
    x = sg.input("x", (points,), dtype="float64")
    value = sg.sum(serf(x))
    slope = sg.grad(value, x)
    show("f", value)
    show("f'", slope)
    f = sg.function([x], {"value": serf(x), "slope": slope})
    at, h = np.linspace(-6, 6, points), 1e-6
    numeric = (f(at + h)["value"] - f(at - h)["value"]) / (2 * h)
    return float(np.abs(f(at)["slope"] - numeric).max())


def fit(steps: int) -> float:
    """Loss of a small serf network fitted to a sine."""
    x, y = sg.input("x", (64, 1)), sg.input("y", (64, 1))
    model = sg.nn.Sequential(sg.nn.Linear(1, 32, name="fc1"), serf, sg.nn.Linear(32, 1, name="fc2"))
    step = sg.train_step(sg.losses.mse_loss(model(x), y), sg.optim.Adam(0.02), seed=0)
    at = np.linspace(-3, 3, 64, dtype=np.float32).reshape(64, 1)
    for _ in range(steps):
        loss = step(at, np.sin(at))
    return float(loss)


def main() -> None:
    quick = options(__doc__).quick
    print(f"gradient error against differences: {gradient_error(16 if quick else 1000):.1e}")
    print(f"loss after fitting a sine: {fit(200 if quick else 2000):.6f}")


if __name__ == "__main__":
    main()
