"""The two networks that began it: LeNet-5 and AlexNet.

>>> sum(p.size for p in alexnet().parameters())
61100840
"""

from __future__ import annotations

from typing import Any, Sequence

from symgrad import source
from symgrad.errors import InputError
from symgrad.nn import functional
from symgrad.nn.container import Flatten, Sequential
from symgrad.nn.conv_layers import Conv2d
from symgrad.nn.dropout import Dropout
from symgrad.nn.linear import Linear, check_sizes
from symgrad.nn.module import Module
from symgrad.nn.pooling import AvgPool2d, MaxPool2d, adaptive_avg_pool2d
from symgrad.node import Expr


def lenet(classes: int = 10, channels: int = 1, dtype: Any = "float32") -> Sequential:
    """LeNet-5 for images of 28x28: two convolutions of 5x5, tanh, average pooling, three layers.

    LeCun, Bottou, Bengio, Haffner (1998), as it is taught today: the second convolution reads all
    maps, and the last layer gives logits.
    """
    return Sequential(
        Conv2d(channels, 6, 5, padding=2, name="conv1", dtype=dtype),
        functional.tanh,
        AvgPool2d(2),
        Conv2d(6, 16, 5, name="conv2", dtype=dtype),
        functional.tanh,
        AvgPool2d(2),
        Flatten(),
        Linear(16 * 5 * 5, 120, name="fc1", dtype=dtype),
        functional.tanh,
        Linear(120, 84, name="fc2", dtype=dtype),
        functional.tanh,
        Linear(84, classes, name="fc3", dtype=dtype),
    )


def alexnet(classes: int = 1000, dropout: float = 0.5, dtype: Any = "float32") -> AlexNet:
    """AlexNet at full size, for images (n, 3, 224, 224): 61,100,840 parameters.

    The single tower of Krizhevsky (2014), "One weird trick", which is torchvision's: no local
    response normalisation, no groups.
    """
    return AlexNet(classes, dropout=dropout, dtype=dtype)


def alexnet_small(
    classes: int = 10,
    channels: int = 1,
    widths: Sequence[int] = (24, 64, 96, 64, 64),
    hidden: int = 256,
    dropout: float = 0.5,
    dtype: Any = "float32",
) -> AlexNet:
    """AlexNet for images of 28x28 or 32x32: a first convolution of 5x5 that skips no pixel."""
    stem = (5, 1, 2)
    return AlexNet(classes, channels, widths, hidden, stem, 2, dropout, dtype=dtype)


class AlexNet(Module):
    """Five convolutions with ReLU, three overlapping max pools, dropout and three dense layers.

    `stem` is the first convolution's kernel size, stride and padding; the last maps are averaged to
    `side` x `side` before the dense layers, which at 224x224 (6x6 maps) changes nothing.
    """

    def __init__(
        self,
        classes: int = 1000,
        channels: int = 3,
        widths: Sequence[int] = (64, 192, 384, 256, 256),
        hidden: int = 4096,
        stem: tuple[int, int, int] = (11, 4, 2),
        side: int = 6,
        dropout: float = 0.5,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        if len(widths) != 5:
            raise InputError(
                f"{self.label}: takes five widths, got {tuple(widths)}"
                + source.quote(source.here())
            )
        a, b, c, d, e = widths
        check_sizes(self.label, classes=classes, hidden=hidden, side=side)
        kernel, stride, padding = stem
        self.side = side
        self.features = Sequential(
            Conv2d(channels, a, kernel, stride, padding, dtype=dtype),
            functional.relu,
            MaxPool2d(3, 2),
            Conv2d(a, b, 5, padding=2, dtype=dtype),
            functional.relu,
            MaxPool2d(3, 2),
            Conv2d(b, c, 3, padding=1, dtype=dtype),
            functional.relu,
            Conv2d(c, d, 3, padding=1, dtype=dtype),
            functional.relu,
            Conv2d(d, e, 3, padding=1, dtype=dtype),
            functional.relu,
            MaxPool2d(3, 2),
        )
        self.classifier = Sequential(
            Dropout(dropout),
            Linear(e * side * side, hidden, dtype=dtype),
            functional.relu,
            Dropout(dropout),
            Linear(hidden, hidden, dtype=dtype),
            functional.relu,
            Linear(hidden, classes, dtype=dtype),
        )

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        maps = adaptive_avg_pool2d(self.features(x, training), self.side)
        return self.classifier(Flatten()(maps), training)
