"""What the timed networks consist of: layers as plain values, the same for every library.

In: sizes. Out: layers that know the shape of their result, their parameters and the
multiply-adds of their products, for one sample.

>>> Conv(3, 16, 3, padding=1).shape((3, 32, 32))
(16, 32, 32)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """Base: no parameters, no products, the result has the operand's shape."""

    def shape(self, x: Shape) -> Shape:
        return x

    def macs(self, x: Shape) -> int:
        """Multiply-adds of the forward pass for one sample of shape x."""
        return 0

    def data_macs(self, x: Shape) -> int:
        """Those of them whose operand is the sample itself."""
        return self.macs(x)

    def parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        """First values, in the order in which every library takes them."""
        return []


@dataclass(frozen=True)
class Dense(Layer):
    inputs: int
    outputs: int
    bias: bool = True

    def shape(self, x: Shape) -> Shape:
        return (*x[:-1], self.outputs)

    def macs(self, x: Shape) -> int:
        return math.prod(x) * self.outputs

    def parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        weight = _normal(rng, (self.inputs, self.outputs), self.inputs)
        return [weight, np.zeros(self.outputs, np.float32)] if self.bias else [weight]


@dataclass(frozen=True)
class Conv(Layer):
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    def shape(self, x: Shape) -> Shape:
        sides = [(s + 2 * self.padding - self.kernel) // self.stride + 1 for s in x[1:]]
        return (self.outputs, *sides)

    def macs(self, x: Shape) -> int:
        return math.prod(self.shape(x)) * self.inputs * self.kernel**2

    def parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        shape = (self.outputs, self.inputs, self.kernel, self.kernel)
        weight = _normal(rng, shape, self.inputs * self.kernel**2)
        return [weight, np.zeros(self.outputs, np.float32)] if self.bias else [weight]


@dataclass(frozen=True)
class Pool(Layer):
    """Windows that tile the image; `kind` is "max" or "average"."""

    kind: str
    size: int

    def shape(self, x: Shape) -> Shape:
        return (x[0], x[1] // self.size, x[2] // self.size)


@dataclass(frozen=True)
class GlobalPool(Layer):
    """The average over the image."""

    def shape(self, x: Shape) -> Shape:
        return x[:1]


@dataclass(frozen=True)
class Flatten(Layer):
    def shape(self, x: Shape) -> Shape:
        return (math.prod(x),)


@dataclass(frozen=True)
class Act(Layer):
    """tanh, relu or gelu (exact)."""

    name: str


@dataclass(frozen=True)
class Drop(Layer):
    p: float


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Over the batch and the image; running statistics move in every step."""

    features: int

    def parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [np.ones(self.features, np.float32), np.zeros(self.features, np.float32)]


@dataclass(frozen=True)
class LayerNorm(BatchNorm):
    """Over the last axis."""


@dataclass(frozen=True)
class Tokens(Layer):
    """Vectors of tokens plus vectors of positions."""

    vocabulary: int
    width: int
    length: int

    def shape(self, x: Shape) -> Shape:
        return (*x, self.width)

    def parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        rows = ((self.vocabulary, self.width), (self.length, self.width))
        return [_normal(rng, shape, 16) for shape in rows]


@dataclass(frozen=True)
class Attention(Layer):
    """Causal self-attention: weights and biases of query, key, value and the last projection."""

    width: int
    heads: int

    def macs(self, x: Shape) -> int:
        length = x[0]
        pairs = length * (length + 1) // 2  # a query sees itself and what is before it
        return 4 * length * self.width**2 + 2 * pairs * self.width

    def parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        one = Dense(self.width, self.width)
        return [a for _ in range(4) for a in one.parameters(rng)]


@dataclass(frozen=True)
class Recurrent(Layer):
    """An LSTM ("lstm") or GRU ("gru") over a sequence, as PyTorch defines them: the outputs of all
    steps. Gates lie in PyTorch's order, along the last axis of the weights."""

    kind: str
    inputs: int
    hidden: int

    @property
    def wide(self) -> int:
        """All gates together."""
        return {"lstm": 4, "gru": 3}[self.kind] * self.hidden

    def shape(self, x: Shape) -> Shape:
        return (x[0], self.hidden)

    def macs(self, x: Shape) -> int:
        return x[0] * (self.inputs + self.hidden) * self.wide

    def data_macs(self, x: Shape) -> int:
        return x[0] * self.inputs * self.wide

    def parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Weights of the operand and of the last output, and their biases."""
        weights = [_normal(rng, (n, self.wide), n) for n in (self.inputs, self.hidden)]
        return [*weights, *(np.zeros(self.wide, np.float32) for _ in range(2))]


@dataclass(frozen=True)
class Residual(Layer):
    """shortcut(x) + layers(x), or x + layers(x) without a shortcut."""

    layers: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()

    def shape(self, x: Shape) -> Shape:
        return shape_after(self.layers, x)

    def macs(self, x: Shape) -> int:
        return macs_of(self.layers, x) + macs_of(self.shortcut, x)

    def parameters(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [a for layer in (*self.layers, *self.shortcut) for a in layer.parameters(rng)]


def shape_after(layers: tuple[Layer, ...], x: Shape) -> Shape:
    for layer in layers:
        x = layer.shape(x)
    return x


def macs_of(layers: tuple[Layer, ...], x: Shape) -> int:
    total = 0
    for layer in layers:
        total += layer.macs(x)
        x = layer.shape(x)
    return total


def _normal(rng: np.random.Generator, shape: Shape, fan_in: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(fan_in))
