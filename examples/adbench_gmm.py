"""ADBench's Gaussian mixture: log-likelihood with a Wishart prior, and its gradient.

    python examples/adbench_gmm.py      # --quick: a small random mixture

The first objective of the benchmark of automatic differentiation by Srajer, Kukelova and
Fitzgibbon (2018), https://github.com/microsoft/ADBench. Each Gaussian has a weight a (before the
softmax), a mean u, and the factor Q of its inverse covariance Q^T Q, which is lower triangular with
a positive diagonal exp(q):

    sum_n log sum_k exp(a_k + sum q_k - |Q_k (x_n - u_k)|^2 / 2) - n log sum_k exp(a_k) + log prior

The instances of the benchmark are read from SYMGRAD_DATA/adbench. Row A9 of the systems: one sweep
gives the gradients by all parameters.
"""

import math
from collections.abc import Callable
from typing import Any

from common import options
from data.adbench import Gmm, median_milliseconds, random_gmm, read_gmm, slope_error
from data.find import find

import symgrad as sg


def factors(icf: sg.Expr, d: int) -> sg.Expr:
    """(k, d (d + 1) / 2) to (k, d, d): first d logarithms of the diagonal, then the columns below
    the diagonal one after another."""
    columns, first = [], d
    for j in range(d):
        below = d - 1 - j
        diagonal = sg.exp(icf[:, j : j + 1])
        column = sg.concatenate([diagonal, icf[:, first : first + below]], axis=1)
        columns.append(sg.pad(column, ((0, 0), (j, 0))))
        first += below
    return sg.stack(columns, axis=2)


def log_prior(q: sg.Expr, icf: sg.Expr, gamma: float, m: int) -> sg.Expr:
    """The logarithm of the Wishart prior, with ADBench's constants."""
    k, d = q.shape
    n = d + m + 1
    log_gamma = d * (d - 1) / 4 * math.log(math.pi)
    log_gamma += sum(math.lgamma((n - j) / 2) for j in range(d))
    constant = k * (n * d * math.log(gamma / math.sqrt(2)) - log_gamma)
    norm = sg.sum(sg.square(sg.exp(q))) + sg.sum(sg.square(icf[:, d:]))
    return gamma**2 / 2 * norm - m * sg.sum(q) - constant


def log_likelihood(
    alphas: sg.Expr, means: sg.Expr, icf: sg.Expr, x: sg.Expr, gamma: float, m: int
) -> sg.Expr:
    n, d = x.shape
    q = icf[:, :d]
    big_q = factors(icf, d)
    scaled = sg.einsum("kij,nj->nki", big_q, x) - sg.einsum("kij,kj->ki", big_q, means)
    each = alphas + sg.sum(q, axis=1) - sg.sum(sg.square(scaled), axis=2) / 2
    fit = sg.sum(sg.logsumexp(each, axis=1)) - n * sg.logsumexp(alphas)
    return fit + log_prior(q, icf, gamma, m) - n * d / 2 * math.log(2 * math.pi)


def compiled(case: Gmm, **choices: Any) -> Callable[..., dict[str, Any]]:
    """f(alphas, means, icf, x) gives the value, and the gradients by the three parameters."""
    names = ("alphas", "means", "icf", "x")
    leaves = [sg.input(name, array.shape, dtype="float64") for name, array in zip(names, case)]
    value = log_likelihood(*leaves, case.gamma, case.m)
    gradient = sg.grad(value, dict(zip(names[:3], leaves)))
    return sg.function(leaves, {"value": value, **gradient}, **choices)


def main() -> None:
    folder = find("adbench", "gmm")
    if options(__doc__).quick or folder is None:
        if folder is None:
            print("SYMGRAD_DATA has no adbench/gmm (data/gmm of github.com/microsoft/ADBench)")
        case = random_gmm(d=4, k=5, n=100)
        error = slope_error(compiled(case), case[:4], 3)
        print(f"a random mixture: gradient against differences {error:.1e}")
        return
    for path in sorted(folder.glob("gmm_*.txt")):
        case = read_gmm(path)
        f = compiled(case)
        value = f(*case[:4])["value"]
        took = median_milliseconds(f, case[:4])
        print(f"{path.stem}: value {value:.6f}, milliseconds for a gradient {took:.3f}")


if __name__ == "__main__":
    main()
