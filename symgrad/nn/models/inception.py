"""GoogLeNet: inception modules, and two auxiliary heads while training (Szegedy et al. 2014).

The form is torchvision's: every convolution is followed by batch norm, the third branch of a module
has a 3x3 kernel where the paper has 5x5, an auxiliary head averages its maps to 4x4.

>>> logits, aux2, aux1 = googlenet()(x, training=True)
>>> loss = cross_entropy(logits, y) + 0.3 * (cross_entropy(aux1, y) + cross_entropy(aux2, y))
"""

from __future__ import annotations

from typing import Any, NamedTuple

from symgrad import init as initialisers
from symgrad import ops
from symgrad.nn import functional
from symgrad.nn.container import Flatten, Sequential
from symgrad.nn.conv_layers import Conv2d
from symgrad.nn.dropout import Dropout
from symgrad.nn.linear import Linear, check_sizes
from symgrad.nn.module import Module
from symgrad.nn.normalization import BatchNorm
from symgrad.nn.pooling import GlobalAvgPool2d, MaxPool2d, adaptive_avg_pool2d
from symgrad.node import Expr

# Channels of the branches: 1x1; 1x1, 3x3; 1x1, the larger kernel; 1x1 after the pool.
_MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_HEADS = {"4a": "aux1", "4d": "aux2"}  # which module's result an auxiliary head reads


class Heads(NamedTuple):
    """What a network with auxiliary heads gives while training."""

    logits: Expr
    aux2: Expr
    aux1: Expr


def googlenet(classes: int = 1000, heads: bool = True, dtype: Any = "float32") -> GoogLeNet:
    """GoogLeNet at full size, for images (n, 3, 224, 224).

    13,004,888 parameters with its auxiliary heads, 6,624,904 without.
    """
    return GoogLeNet(classes, heads=heads, dtype=dtype)


def googlenet_small(
    classes: int = 10,
    channels: int = 1,
    divisor: int = 4,
    heads: bool = True,
    dropout: float = 0.2,
    dtype: Any = "float32",
) -> GoogLeNet:
    """GoogLeNet for 28x28 or 32x32: its nine modules, the channels divided by `divisor`.

    The stem is one 3x3 convolution and a pool, and auxiliary heads drop as much as the last one.
    """
    return GoogLeNet(
        classes,
        channels,
        divisor,
        hidden=128,
        heads=heads,
        dropout=dropout,
        head_dropout=dropout,
        small=True,
        dtype=dtype,
    )


class GoogLeNet(Module):
    """A stem, nine inception modules in three stages, the mean of every map, dropout, one layer.

    Called with `training=True` it gives `Heads(logits, aux2, aux1)` if it has heads, else logits
    alone: an unused head is in no graph, and costs nothing. `hidden` is the width of the heads'
    dense layer; `divisor` divides the channels of everything but the heads.
    """

    def __init__(
        self,
        classes: int = 1000,
        channels: int = 3,
        divisor: int = 1,
        hidden: int = 1024,
        heads: bool = True,
        dropout: float = 0.2,
        head_dropout: float = 0.7,
        small: bool = False,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, classes=classes, divisor=divisor, hidden=hidden)
        pool = MaxPool2d(3, 2, ceil_mode=True)
        if small:
            width = 192 // divisor
            self.conv1 = ConvNorm(channels, width, 3, padding=1, dtype=dtype)
            self.stem: tuple[Module, ...] = (self.conv1, pool)
        else:
            first, width = 64 // divisor, 192 // divisor
            self.conv1 = ConvNorm(channels, first, 7, stride=2, padding=3, dtype=dtype)
            self.conv2 = ConvNorm(first, first, 1, dtype=dtype)
            self.conv3 = ConvNorm(first, width, 3, padding=1, dtype=dtype)
            self.stem = (self.conv1, pool, self.conv2, self.conv3, pool)
        self.pools = {"3b": pool, "4e": MaxPool2d(2, ceil_mode=True)}  # behind these modules
        self.modules: dict[str, Module] = {}
        self.heads: dict[str, Module] = {}
        for label, sizes in _MODULES.items():
            module = Inception(width, *(s // divisor for s in sizes), dtype=dtype)
            setattr(self, f"inception{label}", module)
            self.modules[label] = module
            width = module.width
            if heads and label in _HEADS:
                self.heads[label] = _Head(width, classes, hidden, head_dropout, dtype=dtype)
        for label, head in self.heads.items():
            setattr(self, _HEADS[label], head)
        self.dropout = Dropout(dropout)
        self.fc = _dense(width, classes, dtype)

    def __call__(self, x: Expr, training: bool = False) -> Any:
        for layer in self.stem:
            x = layer(x, training) if isinstance(layer, ConvNorm) else layer(x)
        found: dict[str, Expr] = {}
        for label, module in self.modules.items():
            x = module(x, training)
            if training and label in self.heads:
                found[_HEADS[label]] = self.heads[label](x, training)
            if label in self.pools:
                x = self.pools[label](x)
        logits = self.fc(self.dropout(GlobalAvgPool2d()(x), training))
        return Heads(logits, found["aux2"], found["aux1"]) if found else logits


class ConvNorm(Module):
    """relu(batch_norm(convolution)), without a bias; epsilon is 0.001."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        shape, start = (channels, width, kernel, stride, padding), initialisers.normal(0.0, 0.01)
        self.conv = Conv2d(*shape, bias=False, init=start, dtype=dtype)
        self.bn = BatchNorm(width, eps=0.001, dtype=dtype)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        return functional.relu(self.bn(self.conv(x), training))


class Inception(Module):
    """Four branches over one image, their channels side by side.

    A 1x1 convolution; 1x1 then 3x3; 1x1 then 3x3 again; a 3x3 max pool of stride 1, then 1x1.
    """

    def __init__(
        self,
        channels: int,
        one: int,
        three_in: int,
        three: int,
        five_in: int,
        five: int,
        pooled: int,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        self.width = one + three + five + pooled
        self.branch1 = ConvNorm(channels, one, 1, dtype=dtype)
        self.branch2 = Sequential(
            ConvNorm(channels, three_in, 1, dtype=dtype),
            ConvNorm(three_in, three, 3, padding=1, dtype=dtype),
        )
        self.branch3 = Sequential(
            ConvNorm(channels, five_in, 1, dtype=dtype),
            ConvNorm(five_in, five, 3, padding=1, dtype=dtype),
        )
        self.branch4 = Sequential(
            MaxPool2d(3, 1, 1, ceil_mode=True), ConvNorm(channels, pooled, 1, dtype=dtype)
        )

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return ops.concatenate([branch(x, training) for branch in branches], axis=1)


class _Head(Module):
    """An auxiliary head: maps averaged to 4x4, a 1x1 convolution to 128 channels, two layers."""

    def __init__(
        self,
        channels: int,
        classes: int,
        hidden: int,
        dropout: float,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        self.conv = ConvNorm(channels, 128, 1, dtype=dtype)
        self.fc1 = _dense(128 * 4 * 4, hidden, dtype)
        self.fc2 = _dense(hidden, classes, dtype)
        self.dropout = Dropout(dropout)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        x = self.conv(adaptive_avg_pool2d(x, 4), training)
        x = functional.relu(self.fc1(Flatten()(x)))
        return self.fc2(self.dropout(x, training))


def _dense(inputs: int, outputs: int, dtype: Any) -> Linear:
    return Linear(inputs, outputs, init=initialisers.normal(0.0, 0.01), dtype=dtype)
