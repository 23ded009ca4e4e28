"""Linear regression: gradient descent finds the closed form, by all rows, one row, or a few.

The age of shellfish (rings of the UCI abalone, where SYMGRAD_DATA has them; else a table made
up here) from eight measurements. Linear regression is a network of one layer; the three ways of
gradient descent differ only in `batch_size`.

Shows: linear regression (row B7); full-batch, stochastic and minibatch descent (row E1).

    python examples/linear_regression.py     # --quick: fewer passes
"""

import numpy as np
from common import options, uci

import symgrad as sg


def data() -> tuple[np.ndarray, np.ndarray]:
    """Standardised measurements (rows, 8), and what is to be predicted (rows, 1)."""
    table = uci("abalone")
    if table is None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2000, 8)) + rng.normal(size=(2000, 1))
        y = x @ rng.normal(size=(8, 1)) + rng.normal(size=(2000, 1))
    else:  # the first column is the sex: M, F or I for infants
        infant = (table[:, :1] == "I").astype(float)
        x = np.hstack([infant, table[:, 1:8].astype(float)])
        y = table[:, 8:].astype(float)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def main() -> None:
    quick = options(__doc__).quick
    X, Y = data()
    rows = len(X)
    design = np.hstack([X, np.ones((rows, 1))])
    closed, *_ = np.linalg.lstsq(design, Y, rcond=None)
    best = np.mean((design @ closed - Y) ** 2)
    print(f"{rows} rows; closed form: mean squared error {best:.6f}")

    n = sg.dim("rows", max=rows)
    x, y = sg.input("x", (n, 8), dtype="float64"), sg.input("y", (n, 1), dtype="float64")
    # Batch size, passes over the data, learning rate: it falls where batches are noisy.
    ways = {
        "full batch": (rows, 500 if quick else 20000, 0.1),
        "stochastic": (1, 5 if quick else 50, 0.005),
        "minibatch": (32, 20 if quick else 400, 0.02),
    }
    for name, (batch_size, passes, rate) in ways.items():
        steps = passes * -(-rows // batch_size)
        falling = rate if batch_size == rows else sg.schedules.cosine(rate, steps)
        layer = sg.nn.Linear(8, 1, name="line", dtype="float64")
        step = sg.train_step(sg.losses.mse_loss(layer(x), y), sg.optim.SGD(falling), seed=0)
        step.run({"x": X, "y": Y}, batch_size=batch_size, epochs=passes)
        found = np.vstack([step.state["line.weight"], step.state["line.bias"]])
        error = np.mean((design @ found - Y) ** 2)
        away = np.abs(found - closed).max()
        print(f"{name:10s}  error {error:.6f}  largest distance to the closed form {away:.1e}")


if __name__ == "__main__":
    main()
