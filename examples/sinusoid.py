"""Sinusoidal regression: 1, 3 or 10 hidden units by conjugate gradients, and validation decides.

Ten noisy points of sin(2 pi x), a network with M hidden units of tanh, 30 random starts for each
M. SciPy's conjugate gradients minimise the error: `sg.flatten_function` gives them value and
gradient at a vector of all parameters, natively compiled, and Newton's method the product of the
Hessian with a vector. One unit is too few; of ten, the start that fits the points best follows
their noise.

Shows: sinusoidal regression (row D8); conjugate gradients, L-BFGS, Newton-CG by SciPy (row E4).

    python examples/sinusoid.py --plot sinusoid.png     # --quick: 5 starts
"""

import numpy as np
from common import library, mlp, options, picture

import symgrad as sg

minimize = library("scipy.optimize").minimize
WIDTHS = (1, 3, 10)


def points(count: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, (count, 1))
    return {"x": x, "y": np.sin(2 * np.pi * x) + rng.normal(0, 0.2, (count, 1))}


def objective(width: int):
    """The network, its output, and its squared error as a function of one flat vector."""
    n = sg.dim("points", max=200)
    x, y = sg.input("x", (n, 1), dtype="float64"), sg.input("y", (n, 1), dtype="float64")
    model = mlp(1, width, 1, activation=sg.nn.tanh, dtype="float64")
    f = sg.flatten_function(sg.losses.mse_loss(model(x), y), model)
    return f, sg.function([x], model(x), state=f.state)


def search(width: int, starts: int, most: int, train: dict, validation: dict):
    """(training error, validation error) of every start, best first by the latter; the network."""
    f, predict = objective(width)
    f.bind(**train)
    rng = np.random.default_rng(width)
    found = []
    for _ in range(starts):
        start = rng.normal(0, 3, f.size)
        result = minimize(f, start, jac=True, method="CG", options={"maxiter": most})
        found.append((result.fun, f(result.x, **validation)[0], result.x))
    found.sort(key=lambda entry: entry[1])
    f.assign(found[0][2])
    return np.array([errors for *errors, _ in found]), predict


def minimisers(train: dict, quick: bool) -> None:
    """Three methods from one start."""
    f, _ = objective(3)
    f.bind(**train)
    start = np.random.default_rng(0).normal(0, 1, f.size)
    for method, extra in (("CG", {}), ("L-BFGS-B", {}), ("Newton-CG", {"hessp": f.hvp})):
        limit = {"maxiter": 300 if quick else 5000}
        r = minimize(f, start, jac=True, method=method, options=limit, **extra)
        print(f"{method:9s} error {r.fun:.6f} after {r.nit} iterations, {r.nfev} gradients")


def main() -> None:
    given = options(__doc__)
    starts, most = (5, 500) if given.quick else (30, 2000)
    train, validation, test = points(10, 1), points(100, 2), points(200, 3)
    results = {}
    with picture(given.plot, columns=len(WIDTHS) + 1) as axes:
        for i, width in enumerate(WIDTHS):
            errors, predict = search(width, starts, most, train, validation)
            results[width] = errors[0, 1], predict
            closest = errors[errors[:, 0].argmin()]
            print(f"M = {width:2d}: lowest validation error {errors[0, 1]:.4f}; the start with the")
            print(f"  lowest training error {closest[0]:.4f} has validation error {closest[1]:.4f}")
            if axes is not None:
                grid = np.linspace(0, 1, 200)[:, None]
                axes[i].plot(*train.values(), "o", grid, np.sin(2 * np.pi * grid), "g")
                axes[i].plot(grid, predict(grid), "r")
                axes[i].set(title=f"M = {width}", ylim=(-1.7, 1.7))
                axes[-1].semilogy(np.full(starts, width), errors[:, 1], "x")
                axes[-1].set(title="validation error of each start", xlabel="M")
    minimisers(train, given.quick)
    best = min(results, key=lambda width: results[width][0])
    error = np.mean((results[best][1](test["x"]) - test["y"]) ** 2)
    print(f"validation picks M = {best}: test error {error:.4f}")


if __name__ == "__main__":
    main()
