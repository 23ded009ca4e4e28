"""Random products and convolutions: sizes, and one function of each phase in symgrad and PyTorch.

In: a seed and a number. Out: a `Product` or `Convolution`, always the same for both; and for a
phase ("forward", "input" and "weight" gradient) a function without arguments that computes it from
NumPy arrays or tensors as a user has them.

>>> product(seed=0, number=3)
Product(m=..., k=..., n=..., transposes='nt')
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Union

import numpy as np

PHASES = ("forward", "input", "weight")
SIDE, MAPS, CHANNELS, BATCH, KERNEL, STRIDE = 3000, 224, 256, 128, 11, 4
ELEMENTS = 1 << 24  # of an image batch, at most


@dataclass(frozen=True)
class Product:
    """(m, k) by (k, n); "t" for each operand that lies transposed."""

    m: int
    k: int
    n: int
    transposes: str

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.k * self.n

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of the operand, the weight, the result."""
        x, w = (self.m, self.k), (self.k, self.n)
        first, second = self.transposes
        return x[::-1] if first == "t" else x, w[::-1] if second == "t" else w, (self.m, self.n)

    def __str__(self) -> str:
        return f"{self.m}x{self.k}x{self.n} {self.transposes}"


@dataclass(frozen=True)
class Convolution:
    batch: int
    inputs: int
    outputs: int
    image: tuple[int, int]
    kernel: int
    stride: int
    padding: int

    @property
    def result(self) -> tuple[int, ...]:
        sides = [(s + 2 * self.padding - self.kernel) // self.stride + 1 for s in self.image]
        return (self.batch, self.outputs, *sides)

    @property
    def flops(self) -> float:
        return 2.0 * math.prod(self.result) * self.inputs * self.kernel**2

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of the images, the weight, the result."""
        weight = (self.outputs, self.inputs, self.kernel, self.kernel)
        return (self.batch, self.inputs, *self.image), weight, self.result

    def __str__(self) -> str:
        h, w = self.image
        return (
            f"{self.batch}x{self.inputs}x{h}x{w} to {self.outputs}, {self.kernel}x{self.kernel} "
            f"stride {self.stride} pad {self.padding}"
        )


Case = Union[Product, Convolution]


# -- drawing ------------------------------------------------------------------------------------
def product(seed: int, number: int, largest: float = math.inf) -> Product:
    """Every size from 1 to 3000, all orders of magnitude alike."""
    rng = np.random.default_rng([seed, number, 1])
    while True:
        m, k, n = (_log(rng, 1, SIDE) for _ in range(3))
        found = Product(m, k, n, "".join(rng.choice(["n", "t"], 2)))
        if found.flops <= largest:
            return found


def convolution(seed: int, number: int, largest: float = 4e9) -> Convolution:
    """Channels, kernel, stride and batch first; then an image with which the work stays bounded."""
    rng = np.random.default_rng([seed, number, 2])
    while True:
        inputs, outputs = _log(rng, 1, CHANNELS), _log(rng, 1, CHANNELS)
        batch = _log(rng, 1, BATCH)
        kernel, stride = int(rng.integers(1, KERNEL + 1)), int(rng.integers(1, STRIDE + 1))
        padding = int(rng.integers(0, kernel // 2 + 1))
        pixels = largest / (2.0 * batch * inputs * outputs * kernel**2)
        room = min(math.sqrt(pixels), MAPS / stride, math.sqrt(ELEMENTS / batch / inputs) / stride)
        if room < 1:
            continue
        least = min(4, int(room))
        sides = [(_log(rng, least, int(room)) - 1) * stride + kernel - 2 * padding for _ in "hw"]
        if min(sides) >= 1:
            image = (sides[0], sides[1])
            return Convolution(batch, inputs, outputs, image, kernel, stride, padding)


def _log(rng: np.random.Generator, low: int, high: int) -> int:
    """Uniform in the logarithm, both ends included."""
    return min(high, int(math.exp(rng.uniform(math.log(low), math.log(high + 1)))))


def arrays(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The operand, the weight, and the gradient of the result."""
    rng = np.random.default_rng(5)
    x, w, dy = (rng.standard_normal(shape, np.float32) for shape in case.shapes)
    return x, w, dy


def digest(result: Any) -> tuple[float, float]:
    """A random projection of an array or tensor, and its norm: what two libraries compare."""
    flat = np.asarray(result, np.float64).ravel()
    direction = np.random.default_rng(9).standard_normal(flat.size)
    return float(flat @ direction), float(np.linalg.norm(flat))


# -- symgrad ------------------------------------------------------------------------------------
def ours(case: Case, phase: str, threads: int, target: str | None) -> Callable[[], Any]:
    """What a user writes: the weight is a parameter, everything else an input."""
    import symgrad as sg

    x0, w0, dy0 = arrays(case)
    x, dy = sg.input("x", x0.shape), sg.input("dy", dy0.shape)
    w = sg.parameter("w", w0.shape, init=w0)
    if isinstance(case, Product):
        first, second = case.transposes
        y = (x.T if first == "t" else x) @ (w.T if second == "t" else w)
    else:
        y = sg.nn.conv2d(x, w, stride=case.stride, padding=case.padding)
    if phase == "forward":
        f = sg.function([x], y, threads=threads, target=target)
        return lambda: f(x0)
    if phase == "input":
        f = sg.function([dy], sg.vjp(y, x, dy), threads=threads, target=target)
        return lambda: f(dy0)
    f = sg.function([x, dy], sg.vjp(y, w, dy), threads=threads, target=target)
    return lambda: f(x0, dy0)


# -- PyTorch ------------------------------------------------------------------------------------
def torch(case: Case, phase: str, threads: int) -> Callable[[], Any]:
    import torch as T

    T.set_num_threads(threads)
    T.set_grad_enabled(False)
    x, w, dy = (T.from_numpy(a) for a in arrays(case))
    if isinstance(case, Product):
        return _product(case, phase, x, w, dy)
    stride, padding = [case.stride] * 2, [case.padding] * 2
    if phase == "forward":
        return lambda: T.nn.functional.conv2d(x, w, stride=stride, padding=padding)
    mask = [phase == "input", phase == "weight", False]
    index = mask.index(True)
    backward = T.ops.aten.convolution_backward
    geometry = (None, stride, padding, [1, 1], False, [0, 0], 1, mask)
    return lambda: backward(dy, x, w, *geometry)[index]


def _product(case: Product, phase: str, x: Any, w: Any, dy: Any) -> Callable[[], Any]:
    """Gradients lie as their operands do."""
    first, second = case.transposes
    a, b = (x.T if first == "t" else x), (w.T if second == "t" else w)
    if phase == "forward":
        return lambda: a @ b
    if phase == "input":
        return (lambda: b @ dy.T) if first == "t" else (lambda: dy @ b.T)
    return (lambda: dy.T @ a) if second == "t" else (lambda: a.T @ dy)
