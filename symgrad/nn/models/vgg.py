"""VGG: stages of 3x3 convolutions, a max pool after each, dense layers.

>>> sum(p.size for p in vgg16().parameters())
138357544
"""

from __future__ import annotations

from typing import Any, Sequence

from symgrad import init as initialisers
from symgrad.nn import functional
from symgrad.nn.container import Flatten, Sequential
from symgrad.nn.conv_layers import Conv2d
from symgrad.nn.dropout import Dropout
from symgrad.nn.linear import Linear, check_sizes
from symgrad.nn.module import Module
from symgrad.nn.normalization import BatchNorm
from symgrad.nn.pooling import MaxPool2d, adaptive_avg_pool2d
from symgrad.node import Expr

Stages = Sequence[Sequence[int]]


def vgg16(
    classes: int = 1000, batch_norm: bool = False, dropout: float = 0.5, dtype: Any = "float32"
) -> VGG:
    """Simonyan and Zisserman's network D, for images (n, 3, 224, 224): 138,357,544 parameters."""
    return VGG(_stages(3), classes, batch_norm=batch_norm, dropout=dropout, dtype=dtype)


def vgg19(
    classes: int = 1000, batch_norm: bool = False, dropout: float = 0.5, dtype: Any = "float32"
) -> VGG:
    """Simonyan and Zisserman's network E, for images (n, 3, 224, 224): 143,667,240 parameters."""
    return VGG(_stages(4), classes, batch_norm=batch_norm, dropout=dropout, dtype=dtype)


def _stages(deep: int) -> Stages:
    return [(64,) * 2, (128,) * 2, (256,) * deep, (512,) * deep, (512,) * deep]


class VGG(Module):
    """`stages` of convolutions of the given widths, each ended by a max pool; three dense layers.

    The last maps are averaged to `side` x `side`, which at 224x224 (7x7 maps) changes nothing.
    Weights start as in torchvision: convolutions normal of variance 2 / fan_out, matrices normal
    with standard deviation 0.01, biases zero.
    """

    def __init__(
        self,
        stages: Stages,
        classes: int = 1000,
        channels: int = 3,
        hidden: int = 4096,
        side: int = 7,
        batch_norm: bool = False,
        dropout: float = 0.5,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, classes=classes, hidden=hidden, side=side)
        he, zeros = initialisers.he_normal(mode="fan_out"), initialisers.zeros()
        small = initialisers.normal(0.0, 0.01)
        layers: list[Any] = []
        for widths in stages:
            for width in widths:
                conv = {"init": he, "bias_init": zeros, "dtype": dtype}
                layers.append(Conv2d(channels, width, 3, padding=1, **conv))
                if batch_norm:
                    layers.append(BatchNorm(width, dtype=dtype))
                layers.append(functional.relu)
                channels = width
            layers.append(MaxPool2d(2))
        self.side = side
        self.features = Sequential(*layers)

        def dense(inputs: int, outputs: int) -> Linear:
            return Linear(inputs, outputs, init=small, bias_init=zeros, dtype=dtype)

        self.classifier = Sequential(
            dense(channels * side * side, hidden),
            functional.relu,
            Dropout(dropout),
            dense(hidden, hidden),
            functional.relu,
            Dropout(dropout),
            dense(hidden, classes),
        )

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        maps = adaptive_avg_pool2d(self.features(x, training), self.side)
        return self.classifier(Flatten()(maps), training)


def vgg_small(
    classes: int = 10,
    widths: Sequence[int] = (32, 64, 128),
    size: int = 32,
    dropout: float = 0.25,
    channels: int = 3,
    dtype: Any = "float32",
) -> Sequential:
    """A small VGG for images of `size` x `size`: per width two convolutions of 3x3 with batch norm,
    a max pool and dropout; one dense layer."""
    layers: list[Any] = []
    for stage, width in enumerate(widths, 1):
        for part in "ab":
            at = f"{stage}{part}"
            layers += [
                Conv2d(channels, width, 3, padding=1, name=f"conv{at}", dtype=dtype),
                BatchNorm(width, name=f"bn{at}", dtype=dtype),
                functional.relu,
            ]
            channels = width
        layers += [MaxPool2d(2), Dropout(dropout)]
        size //= 2
    layers += [Flatten(), Linear(channels * size * size, classes, name="fc", dtype=dtype)]
    return Sequential(*layers)
