"""The training steps that are timed: networks, data and first weights, the same for everyone.

In: a name. Out: a `Workload` and its arrays, from a fixed seed. `WORKLOADS` are the rows of the
table, `SMALL` the same networks with fewer and narrower layers, for a quick pass.

>>> WORKLOADS["lenet"].shape, round(WORKLOADS["lenet"].flops() / 1e6)
((1, 28, 28), 149)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from layers import (
    Act,
    Attention,
    BatchNorm,
    Conv,
    Dense,
    Drop,
    Flatten,
    GlobalPool,
    Layer,
    LayerNorm,
    Pool,
    Recurrent,
    Residual,
    Shape,
    Tokens,
    macs_of,
    shape_after,
)

# Bytes that an update cannot avoid for each parameter: read and write it and its moments.
TRAFFIC = {"sgd": 8, "momentum": 16, "adam": 24}


@dataclass(frozen=True)
class Workload:
    """A network and how it is trained.

    `shape` is that of one sample (images are channels first; token numbers where the first layer
    is `Tokens`), `loss` "cross_entropy" (int labels) or "mse". `aim` is the time per step in
    microseconds that the project aims at on its reference machine.
    """

    name: str
    title: str
    layers: tuple[Layer, ...]
    shape: Shape
    batch: int
    optimizer: str
    loss: str = "cross_entropy"
    lr: float = 1e-3
    aim: float | None = None

    momentum = 0.9  # of the optimizer of that name

    @property
    def tokens(self) -> bool:
        return isinstance(self.layers[0], Tokens)

    @property
    def images(self) -> bool:
        return len(self.shape) == 3

    @property
    def dense(self) -> bool:
        """Whether it consists of fully connected layers and activations alone."""
        return all(isinstance(layer, (Dense, Act)) for layer in self.layers)

    @property
    def result(self) -> Shape:
        """The shape of the last layer's result, for one sample."""
        return shape_after(self.layers, self.shape)

    def flops(self) -> int:
        """Floating-point operations of the products and direct convolutions of one step: forward
        and both gradients, but none for the data that goes in."""
        forward = macs_of(self.layers, self.shape)
        first = self.layers[0].data_macs(self.shape)
        return 2 * self.batch * (3 * forward - first)

    def traffic(self) -> int:
        """Bytes that the update must move."""
        rng = np.random.default_rng(0)
        count = sum(a.size for layer in self.layers for a in layer.parameters(rng))
        return count * TRAFFIC[self.optimizer]

    def undropped(self) -> Workload:
        """The network without dropout, whose losses do not depend on random numbers."""
        kept = tuple(layer for layer in self.layers if not isinstance(layer, Drop))
        return replace(self, layers=kept)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """A batch: inputs, and labels or targets."""
        rng = np.random.default_rng(7)
        shape = (self.batch, *self.shape)
        x: np.ndarray
        if self.tokens:
            x = rng.integers(0, self.result[-1], shape).astype(np.int32)
        else:
            x = rng.standard_normal(shape, dtype=np.float32)
        if self.loss == "mse":
            return x, rng.standard_normal((self.batch, *self.result), dtype=np.float32)
        labels = rng.integers(0, self.result[-1], (self.batch, *self.result[:-1]))
        return x, labels.astype(np.int32)

    def generator(self) -> np.random.Generator:
        """What draws the first weights."""
        return np.random.default_rng(11)

    def weights(self) -> list[list[np.ndarray]]:
        """First values of the parameters, layer by layer."""
        rng = self.generator()
        return [layer.parameters(rng) for layer in self.layers]


def mlp(sizes: Shape, activation: str | None) -> dict[str, Any]:
    """Fully connected layers with an activation between them."""
    layers: list[Layer] = []
    for i, o in zip(sizes, sizes[1:]):
        layers += [Dense(i, o)]
        layers += [Act(activation)] if activation else []
    return {
        "layers": tuple(layers[:-1] if activation else layers),
        "shape": sizes[:1],
    }


def lenet() -> dict[str, Any]:
    act = Act("tanh")
    convolutions = (Conv(1, 6, 5, padding=2), act, Pool("average", 2), Conv(6, 16, 5), act)
    dense = (Dense(400, 120), act, Dense(120, 84), act, Dense(84, 10))
    layers = (*convolutions, Pool("average", 2), Flatten(), *dense)
    return {"layers": layers, "shape": (1, 28, 28)}


def vgg(widths: tuple[Shape, ...], hidden: int, side: int = 32) -> dict[str, Any]:
    """Two convolutions of each width with batch norm and ReLU, then a pool; dropout, dense."""
    layers: list[Layer] = []
    channels = 3
    for stage in widths:
        for width in stage:
            layers += [Conv(channels, width, 3, padding=1), BatchNorm(width), Act("relu")]
            channels = width
        layers += [Pool("max", 2)]
        side //= 2
    layers += [Flatten(), Drop(0.5), Dense(channels * side**2, hidden), Act("relu")]
    layers += [Drop(0.5), Dense(hidden, 10)]
    return {"layers": tuple(layers), "shape": (3, 32, 32)}


def resnet(blocks: int, widths: Shape = (16, 32, 64), side: int = 32) -> dict[str, Any]:
    """He et al. (2016) for small images, with projections where the width changes (option B)."""
    layers: list[Layer] = [_conv(3, widths[0]), BatchNorm(widths[0]), Act("relu")]
    channels = widths[0]
    for width in widths:
        for _ in range(blocks):
            stride = 1 if width == channels else 2
            first = (_conv(channels, width, stride), BatchNorm(width), Act("relu"))
            project: tuple[Layer, ...] = ()
            if stride == 2:
                short = Conv(channels, width, 1, stride=2, bias=False)
                project = (short, BatchNorm(width))
            block = Residual((*first, _conv(width, width), BatchNorm(width)), project)
            layers += [block, Act("relu")]
            channels = width
    layers += [GlobalPool(), Dense(channels, 10)]
    return {"layers": tuple(layers), "shape": (3, side, side)}


def _conv(i: int, o: int, stride: int = 1) -> Conv:
    return Conv(i, o, 3, stride, padding=1, bias=False)


def gpt(blocks: int, width: int, heads: int, length: int, vocabulary: int) -> dict[str, Any]:
    layers: list[Layer] = [Tokens(vocabulary, width, length)]
    for _ in range(blocks):
        layers += [
            Residual((LayerNorm(width), Attention(width, heads))),
            Residual(
                (
                    LayerNorm(width),
                    Dense(width, 4 * width),
                    Act("gelu"),
                    Dense(4 * width, width),
                )
            ),
        ]
    layers += [LayerNorm(width), Dense(width, vocabulary)]
    return {"layers": tuple(layers), "shape": (length,)}


def recurrent(kind: str, inputs: int, hidden: int, length: int, classes: int) -> dict[str, Any]:
    """A class for every step of a sequence."""
    layers = (Recurrent(kind, inputs, hidden), Dense(hidden, classes))
    return {"layers": layers, "shape": (length, inputs)}


def vgg16(side: int = 224, classes: int = 1000, width: int = 4096) -> dict[str, Any]:
    """Simonyan and Zisserman's network D, full size; for compile times."""
    layers: list[Layer] = []
    channels = 3
    for count, wide in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [Conv(channels, wide, 3, padding=1), Act("relu")]
            channels = wide
        layers += [Pool("max", 2)]
    flat = channels * (side // 32) ** 2
    layers += [Flatten(), Dense(flat, width), Act("relu"), Drop(0.5)]
    layers += [Dense(width, width), Act("relu"), Drop(0.5), Dense(width, classes)]
    return {"layers": tuple(layers), "shape": (3, side, side)}


def _named(*workloads: Workload) -> dict[str, Workload]:
    return {w.name: w for w in workloads}


_WIDE = (1024, 2048, 2048, 1024)
_GPT_PRODUCTS = (128, *(384, 128, 512, 128) * 4, 65)  # the four products of each block of gpt
_VGGS = ((32, 32), (64, 64), (128, 128))


def _rows(small: bool) -> dict[str, Workload]:
    """The rows of the table, or the same networks small."""
    b = (lambda batch: min(batch, 17)) if small else (lambda batch: batch)  # noqa: E731
    wide = (64, 96, 96, 64) if small else _WIDE
    vggs = vgg(((8, 8), (16, 16), (16,)), 32) if small else vgg(_VGGS, 256)
    res = resnet(1, (8, 16, 32)) if small else resnet(3)
    transformer = gpt(1, 32, 2, 16, 65) if small else gpt(4, 128, 4, 64, 65)
    steps = (12, 24, 7, 10) if small else (64, 128, 64, 65)
    parts = mlp((32, 96, 32, 65), None) if small else mlp(_GPT_PRODUCTS, None)
    rows = (
        ("mlp_xs", "2-16-2 tanh", mlp((2, 16, 2), "tanh"), 32, "sgd", 0.1, 0.6),
        ("mlp_tab", "30-64-64-2 ReLU", mlp((30, 64, 64, 2), "relu"), 32, "adam", 1e-3, 14.5),
        (
            "mlp_mnist",
            "784-256-128-10 ReLU",
            mlp((784, 256, 128, 10), "relu"),
            64,
            "adam",
            1e-3,
            690.0,
        ),
        ("mlp_wide", "1024-2048-2048-1024 GELU", mlp(wide, "gelu"), 256, "sgd", 0.1, 114e3),
        ("lenet", "LeNet-5, 28x28", lenet(), 64, "momentum", 0.01, 1.6e3),
        ("vggs", "six convolutions, 32x32", vggs, 32, "adam", 1e-4, 46e3),
        ("resnet20", "ResNet-20, 32x32", res, 32, "momentum", 0.01, 64e3),
        ("gpt", "4-block transformer, 64 tokens", transformer, 16, "adam", 1e-3, 53e3),
        ("lstm", "LSTM, 128 wide, 64 steps", recurrent("lstm", *steps), 32, "sgd", 0.1, None),
        ("gru", "GRU, 128 wide, 64 steps", recurrent("gru", *steps), 32, "sgd", 0.1, None),
        ("gpt_products", "its products alone, 1024 rows", parts, 1024, "sgd", 0.1, None),
    )
    return _named(
        *(
            Workload(
                name,
                title,
                batch=b(batch),
                optimizer=optimizer,
                loss="mse" if name == "mlp_wide" else "cross_entropy",
                lr=lr,
                aim=None if small else aim,
                **network,
            )
            for name, title, network, batch, optimizer, lr, aim in rows
        )
    )


WORKLOADS = _rows(small=False)
SMALL = _rows(small=True)
# Not in the table: how long a large network takes to compile.
VGG16 = Workload("vgg16", "VGG-16, 224x224", **vgg16(), batch=2, optimizer="sgd", lr=1e-3)
