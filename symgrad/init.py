"""Initial values of parameters: rules `(shape, rng) -> array`, made by calls such as `he_normal()`.

fan_in and fan_out of a shape: (in, out) of a matrix; in*k and out*k of (out, in, *kernel) with k
kernel positions, as convolutions have; n and 1 of a vector (a single output's weights).

>>> he_normal()((784, 128), np.random.default_rng(0)).shape
(784, 128)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from symgrad.checks import bad, number
from symgrad.errors import ShapeError

Array = np.ndarray[Any, Any]
Draw = Callable[[tuple[int, ...], np.random.Generator], Array]


@dataclass(frozen=True, repr=False)
class Rule:
    """A rule with a name to print; called with (shape, rng) it gives the array."""

    text: str
    draw: Draw

    def __call__(self, shape: Any, rng: np.random.Generator | int | None = None) -> Array:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        generator = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)
        return self.draw(shape, generator)

    def __repr__(self) -> str:
        return f"init.{self.text}"


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a shape."""
    if len(shape) < 2:
        return (shape[0] if shape else 1), 1
    if len(shape) == 2:
        return shape[0], shape[1]
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _number(rule: str, name: str, value: Any, interval: str = "(-inf, inf)") -> float:
    return number(f"init.{rule}", name, value, interval)


def zeros() -> Rule:
    """All 0."""
    return Rule("zeros()", lambda shape, rng: np.zeros(shape))


def ones() -> Rule:
    """All 1."""
    return Rule("ones()", lambda shape, rng: np.ones(shape))


def constant(value: float) -> Rule:
    """All `value`."""
    value = _number("constant", "value", value)
    return Rule(f"constant({value})", lambda shape, rng: np.full(shape, value))


def normal(mean: float = 0.0, std: float = 1.0) -> Rule:
    """Normal with the given mean and standard deviation (PyTorch's `normal_`)."""
    mean, std = _number("normal", "mean", mean), _number("normal", "std", std, "[0, inf)")
    return Rule(f"normal({mean}, {std})", lambda shape, rng: rng.normal(mean, std, shape))


def uniform(low: float = 0.0, high: float = 1.0) -> Rule:
    """Uniform in [low, high) (PyTorch's `uniform_`)."""
    low, high = _number("uniform", "low", low), _number("uniform", "high", high)
    if not low <= high:
        raise bad("init.uniform", f"low {low} is above high {high}")
    return Rule(f"uniform({low}, {high})", lambda shape, rng: rng.uniform(low, high, shape))


def _scaled(text: str, law: str, variance: Callable[[int, int], float]) -> Rule:
    """Zero mean and the variance that the fans call for, normal or uniform."""

    def draw(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        fan_in, fan_out = fans(shape)
        std = math.sqrt(variance(max(fan_in, 1), max(fan_out, 1)))
        if law == "normal":
            return rng.normal(0.0, std, shape)
        bound = math.sqrt(3.0) * std
        return rng.uniform(-bound, bound, shape)

    return Rule(text, draw)


def xavier_uniform(gain: float = 1.0) -> Rule:
    """U(-b, b) with b = gain sqrt(6 / (fan_in + fan_out)). Glorot and Bengio (2010)."""
    g = _number("xavier_uniform", "gain", gain)
    return _scaled(f"xavier_uniform({g})", "uniform", lambda i, o: g * g * 2 / (i + o))


def xavier_normal(gain: float = 1.0) -> Rule:
    """Normal of variance gain^2 2 / (fan_in + fan_out). Glorot and Bengio (2010).

    Some texts leave out the 2: variance 1 / (fan_in + fan_out) is gain = sqrt(1/2).
    """
    g = _number("xavier_normal", "gain", gain)
    return _scaled(f"xavier_normal({g})", "normal", lambda i, o: g * g * 2 / (i + o))


def _he(name: str, law: str, a: float, mode: str) -> Rule:
    a = _number(name, "a", a)
    if mode not in ("fan_in", "fan_out"):
        raise bad(f"init.{name}", f'mode is "fan_in" or "fan_out", got {mode!r}')

    def variance(fan_in: int, fan_out: int) -> float:
        return 2 / ((1 + a * a) * (fan_in if mode == "fan_in" else fan_out))

    return _scaled(f"{name}({a}, {mode!r})", law, variance)


def he_uniform(a: float = 0.0, mode: str = "fan_in") -> Rule:
    """U(-b, b) with b = sqrt(6 / ((1 + a^2) fan)), a the leaky slope. He et al. (2015)."""
    return _he("he_uniform", "uniform", a, mode)


def he_normal(a: float = 0.0, mode: str = "fan_in") -> Rule:
    """Normal of variance 2 / ((1 + a^2) fan), a the leaky slope. He et al. (2015)."""
    return _he("he_normal", "normal", a, mode)


def lecun_normal() -> Rule:
    """Normal of variance 1 / fan_in. LeCun et al. (1998)."""
    return _scaled("lecun_normal()", "normal", lambda i, o: 1 / i)


def fan_in_uniform() -> Rule:
    """U(-b, b) with b = 1 / sqrt(fan_in): what PyTorch's Linear and convolutions start from."""
    return _scaled("fan_in_uniform()", "uniform", lambda i, o: 1 / (3 * i))


def orthogonal(gain: float = 1.0) -> Rule:
    """A random matrix with orthonormal rows or columns, the fewer of them. Saxe et al. (2014).

    More than two axes count as (first, product of the others).
    """
    g = _number("orthogonal", "gain", gain)

    def draw(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        if len(shape) < 2:
            raise ShapeError(f"init.orthogonal: needs two axes or more, got shape {shape}")
        rows, columns = shape[0], math.prod(shape[1:])
        a = rng.normal(size=(max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(a)
        q = q * np.sign(np.diag(r))  # makes the distribution uniform (Haar)
        return g * (q if rows >= columns else q.T).reshape(shape)

    return Rule(f"orthogonal({g})", draw)
