"""Gradient clipping: a step that is too long for steep places is shortened there.

Regression where one target in twenty is wild. Plain gradient descent is thrown so far by these that
the units of the network die, and it ends no better than a constant. Clipping by the global norm
scales all gradients by one factor and keeps their direction; clipping by value cuts every element
for itself.

Shows: gradient clipping by global norm and by value (row E8).

    python examples/clipping.py     # --quick: fewer passes
"""

import numpy as np
from common import mlp, options

import symgrad as sg

n = sg.dim("batch", max=2000)
x, y = sg.input("x", (n, 4)), sg.input("y", (n, 1))


def data(rows: int, wild: float, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 4)).astype(np.float32)
    Y = np.sin(2 * X[:, :1]) + X[:, 1:2] * X[:, 2:3]
    Y[::20] += wild * rng.normal(size=Y[::20].shape)
    return {"x": X, "y": Y}


def main() -> None:
    passes = 10 if options(__doc__).quick else 100
    train, test = data(2000, wild=100.0, seed=0), data(1000, wild=0.0, seed=1)
    ways = {
        "no clipping": {},
        "norm at most 1": {"clip_norm": 1.0},
        "elements in +-0.1": {"clip_value": 0.1},
    }
    errors = {}
    for name, limit in ways.items():
        model = mlp(4, 64, 64, 1)
        predicted = model(x)
        loss = sg.losses.mse_loss(predicted, y)
        squares = sum(sg.sum(g * g) for g in sg.grad(loss, model.parameters()))
        rate = sg.schedules.cosine(0.1, passes * 63)
        step = sg.train_step(
            loss, sg.optim.SGD(rate, **limit), outputs={"norm": sg.sqrt(squares)}, seed=0
        )
        step.run(train, batch_size=32, epochs=passes)
        error = sg.mean(sg.abs(predicted - y))
        errors[name] = float(sg.function([x, y], error, state=step.state)(**test))
        norm = step.means["norm"]
        print(f"{name:18s} mean norm before clipping {norm:7.3g}", end=", ")
        print(f"test error {errors[name]:.4f}")
    constant = float(np.mean(np.abs(test["y"] - np.mean(test["y"]))))
    print(f"a constant has test error {constant:.4f}")
    plain, *clipped = errors.values()
    assert max(clipped) < 0.65 * constant < 0.95 * constant < plain


if __name__ == "__main__":
    main()
