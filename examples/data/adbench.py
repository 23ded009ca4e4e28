"""Instances of ADBench's objectives: read from its text files, or drawn at random.

In: a path, or sizes. Out: a named tuple of float64 arrays. The formats are those of
https://github.com/microsoft/ADBench (Srajer, Kukelova and Fitzgibbon 2018), src/python/shared.

>>> random_gmm(d=2, k=3, n=10).icf.shape
(3, 3)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Gmm(NamedTuple):
    """A mixture of k Gaussians in d dimensions, n points, and the Wishart prior."""

    alphas: np.ndarray  # (k,): mixture weights before their softmax
    means: np.ndarray  # (k, d)
    icf: np.ndarray  # (k, d (d + 1) / 2): inverse covariance factors
    x: np.ndarray  # (n, d)
    gamma: float
    m: int


class Lstm(NamedTuple):
    """Layers of an elementwise LSTM over t vectors of h bits."""

    main_params: np.ndarray  # (2 layers, 4 h): weights of a layer, then its biases
    extra_params: np.ndarray  # (3, h): input weight, output weight, output bias
    state: np.ndarray  # (2 layers, h): first hidden values of a layer, then its cells
    sequence: np.ndarray  # (t, h)


class _Numbers:
    """The numbers of a text file, one after another."""

    def __init__(self, path: Path) -> None:
        self.rest = iter(path.read_text().split())

    def sizes(self, count: int) -> list[int]:
        return [int(next(self.rest)) for _ in range(count)]

    def array(self, *shape: int) -> np.ndarray:
        return np.array([float(next(self.rest)) for _ in range(math.prod(shape))]).reshape(shape)


def read_gmm(path: Path) -> Gmm:
    numbers = _Numbers(path)
    d, k, n = numbers.sizes(3)
    parameters = numbers.array(k), numbers.array(k, d), numbers.array(k, d * (d + 1) // 2)
    return Gmm(*parameters, numbers.array(n, d), float(numbers.array()), *numbers.sizes(1))


def read_lstm(path: Path) -> Lstm:
    numbers = _Numbers(path)
    layers, t, h = numbers.sizes(3)
    shapes = (2 * layers, 4 * h), (3, h), (2 * layers, h), (t, h)
    return Lstm(*(numbers.array(*shape) for shape in shapes))


def random_gmm(d: int, k: int, n: int, m: int = 0, seed: int = 0) -> Gmm:
    rng = np.random.default_rng(seed)
    shapes = (k,), (k, d), (k, d * (d + 1) // 2), (n, d)
    return Gmm(*(rng.standard_normal(shape) for shape in shapes), 1.0, m)


def random_lstm(layers: int, t: int, h: int, seed: int = 0) -> Lstm:
    rng = np.random.default_rng(seed)
    shapes = (2 * layers, 4 * h), (3, h), (2 * layers, h)
    return Lstm(*(rng.random(shape) for shape in shapes), rng.integers(0, 2, (t, h)) * 1.0)


# -- what both objectives are shown by ----------------------------------------------------------
def slope_error(f: Callable[..., dict[str, Any]], arrays: tuple[Any, ...], count: int) -> float:
    """Relative difference of the slope along a random direction from central differences.

    `f(*arrays)` gives "value" and then its gradients by the first `count` arrays.
    """
    h, rng = 1e-6, np.random.default_rng(1)
    along = [rng.standard_normal(a.shape) for a in arrays[:count]]

    def value(distance: float) -> float:
        moved = (a + distance * b for a, b in zip(arrays, along))
        return float(f(*moved, *arrays[count:])["value"])

    _, *gradients = f(*arrays).values()
    slope = sum(np.vdot(g, b) for g, b in zip(gradients, along))
    return float(abs(slope - (value(h) - value(-h)) / (2 * h)) / abs(slope))


def median_milliseconds(f: Callable[..., Any], arrays: tuple[Any, ...], times: int = 50) -> float:
    """Of a call."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        f(*arrays)
        found.append(time.perf_counter() - start)
    return float(np.median(found)) * 1e3
