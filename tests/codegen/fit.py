"""Fits the polynomials of codegen/vecmath that come from no library: Remez exchange in mpmath.

    python tests/codegen/fit.py exp32        prints the coefficients, highest degree first

Each line of `FITS` is: f(x) ~ base(x) + factor(x) * P(x) with the error weighted by weight(x).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import mpmath as mp

mp.mp.dps = 60
Function = Callable[[Any], Any]


def remez(f: Function, factor: Function, weight: Function, a: float, b: float, degree: int) -> Any:
    """Coefficients, lowest first, and the error of the best P with max |weight (f - factor P)|."""
    n = degree + 1
    lo, hi = mp.mpf(a), mp.mpf(b)
    points = [(lo + hi) / 2 - (hi - lo) / 2 * mp.cos(mp.pi * i / n) for i in range(n + 1)]
    coefficients: Any = None
    for _ in range(12):
        rows, right = [], []
        for i, x in enumerate(points):
            w = weight(x)
            rows.append([w * factor(x) * x**k for k in range(n)] + [(-1) ** i])
            right.append(w * f(x))
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix(right))
        coefficients, level = list(solution)[:n], abs(solution[n])

        def error(x: Any, c: Any = coefficients) -> Any:
            return weight(x) * (f(x) - factor(x) * mp.polyval(c[::-1], x))

        grid = [(lo + hi) / 2 - (hi - lo) / 2 * mp.cos(mp.pi * i / 600) for i in range(601)]
        values = [error(x) for x in grid]
        extremes: list[tuple[Any, Any]] = []
        for x, v in zip(grid, values):
            if extremes and (v > 0) == (extremes[-1][1] > 0):
                if abs(v) > abs(extremes[-1][1]):
                    extremes[-1] = (x, v)
            else:
                extremes.append((x, v))
        while len(extremes) > n + 1:
            extremes.pop(0 if abs(extremes[0][1]) < abs(extremes[-1][1]) else -1)
        if len(extremes) < n + 1:
            break
        points = [x for x, _ in extremes]
        if max(abs(v) for _, v in extremes) < level * 1.001:
            break
    return coefficients, max(abs(v) for v in values)


def even(f: Function) -> Function:
    """f as a function of z = x^2."""
    return lambda z: f(mp.sqrt(z))


def _erf_over_x(x: Any) -> Any:
    return mp.erf(x) / x


def _expm1_rest(r: Any) -> Any:
    return mp.expm1(r) - r - r * r / 2


def _over_expm1(r: Any) -> Any:
    return 1 / mp.expm1(r)


# Intervals around 0 are lopsided: a factor that is 0 at one of the first points has no solution.
LN2 = 0.6932
# name: f, factor, weight, interval, degree
FITS: dict[str, tuple[Function, Function, Function, float, float, int]] = {
    "exp32": (lambda r: mp.exp(r) - 1 - r, lambda r: r * r, lambda r: mp.exp(-r), -LN2, 0.7, 5),
    "exp64": (lambda r: mp.exp(r) - 1 - r, lambda r: r * r, lambda r: mp.exp(-r), -LN2, 0.7, 11),
    "expm1_32": (_expm1_rest, lambda r: r**3, _over_expm1, -0.3467, 0.35, 4),
    "expm1_64": (_expm1_rest, lambda r: r**3, _over_expm1, -0.3467, 0.35, 9),
    "erf64_small": (
        lambda z: _erf_over_x(mp.sqrt(z)) - 1,
        lambda z: mp.mpf(1),
        lambda z: 1 / _erf_over_x(mp.sqrt(z)),
        1e-12,
        1.0,
        12,
    ),
    "erf64_large": (
        lambda t: -mp.log(mp.erfc(t)) - t,
        lambda t: t,
        lambda t: mp.erfc(t) / mp.erf(t),
        0.99,
        6.0,
        20,
    ),
}


def main() -> None:
    for name in sys.argv[1:] or FITS:
        coefficients, error = remez(*FITS[name])
        print(f"{name} error 2^{float(mp.log(error, 2)):.2f}")
        for c in reversed(coefficients):
            print("   ", mp.nstr(c, 20) + ",")


if __name__ == "__main__":
    main()
