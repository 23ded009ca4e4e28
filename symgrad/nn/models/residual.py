"""Residual networks of basic blocks (He, Zhang, Ren, Sun 2015).

>>> sum(p.size for p in resnet18().parameters())
11689512
"""

from __future__ import annotations

from typing import Any, Sequence

from symgrad import init as initialisers
from symgrad import source
from symgrad.errors import InputError
from symgrad.nn import functional
from symgrad.nn.container import Sequential
from symgrad.nn.conv_layers import Conv2d
from symgrad.nn.linear import Linear, check_sizes
from symgrad.nn.module import Module
from symgrad.nn.normalization import BatchNorm
from symgrad.nn.pooling import GlobalAvgPool2d, MaxPool2d
from symgrad.node import Expr


def resnet18(classes: int = 1000, dtype: Any = "float32") -> ResNet:
    """The residual network of 18 layers, for images (n, 3, 224, 224): 11,689,512 parameters."""
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), classes, stem="large", dtype=dtype)


def resnet20(classes: int = 10, dtype: Any = "float32") -> ResNet:
    """The residual network of 20 layers for small images (He et al. 2015, section 4.2)."""
    return resnet_small(3, classes, dtype=dtype)


def resnet_small(
    blocks: int = 3,
    classes: int = 10,
    channels: int = 3,
    widths: Sequence[int] = (16, 32, 64),
    dtype: Any = "float32",
) -> ResNet:
    """For 28x28 or 32x32: stages of `blocks` residual blocks, 6 blocks + 2 layers in all.

    Where a stage halves the image its first shortcut is a convolution of 1x1 with stride 2.
    """
    check_sizes("resnet_small", blocks=blocks, classes=classes)
    return ResNet((blocks,) * len(widths), widths, classes, channels, "small", dtype=dtype)


class ResNet(Module):
    """A stem, stages of basic blocks (`layer1`, `layer2` ...), the mean of every map, one layer.

    From the second stage on the first block of each halves the image. The "large" stem is a 7x7
    convolution of stride 2 and a 3x3 max pool of stride 2, the "small" one a 3x3 convolution.
    Convolutions have no bias, as batch norm follows, and start normal of variance 2 / fan_out.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        classes: int = 1000,
        channels: int = 3,
        stem: str = "large",
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        if stem not in ("large", "small") or not widths or len(widths) != len(blocks):
            raise InputError(
                f'{self.label}: takes a stem "large" or "small" and as many widths as blocks, got '
                f"{stem!r}, {tuple(widths)} and {tuple(blocks)}" + source.quote(source.here())
            )
        first, large = widths[0], stem == "large"
        shape = (7, 2, 3) if large else (3, 1, 1)
        self.conv1 = _convolution(channels, first, *shape, dtype=dtype)
        self.bn1 = BatchNorm(first, dtype=dtype)
        self.pool = MaxPool2d(3, 2, 1) if large else None
        stages = []
        inputs = first
        for i, (count, width) in enumerate(zip(blocks, widths)):
            layers = []
            for k in range(count):
                layers.append(BasicBlock(inputs, width, 2 if i and not k else 1, dtype=dtype))
                inputs = width
            stages.append(Sequential(*layers))
            setattr(self, f"layer{i + 1}", stages[-1])
        self.stages = tuple(stages)
        self.fc = Linear(inputs, classes, dtype=dtype)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        x = functional.relu(self.bn1(self.conv1(x), training))
        if self.pool is not None:
            x = self.pool(x)
        for stage in self.stages:
            x = stage(x, training)
        return self.fc(GlobalAvgPool2d()(x))


class BasicBlock(Module):
    """relu(shortcut(x) + branch(x)); the branch is two 3x3 convolutions, each with batch norm.

    The shortcut is x itself, or a 1x1 convolution with batch norm (`downsample`) where the stride
    or the number of channels changes.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int = 1,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        self.conv1 = _convolution(channels, width, 3, stride, 1, dtype=dtype)
        self.bn1 = BatchNorm(width, dtype=dtype)
        self.conv2 = _convolution(width, width, 3, 1, 1, dtype=dtype)
        self.bn2 = BatchNorm(width, dtype=dtype)
        self.downsample: Sequential | None = None
        if stride != 1 or channels != width:
            project = _convolution(channels, width, 1, stride, 0, dtype=dtype)
            self.downsample = Sequential(project, BatchNorm(width, dtype=dtype))

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        y = functional.relu(self.bn1(self.conv1(x), training))
        y = self.bn2(self.conv2(y), training)
        short = x if self.downsample is None else self.downsample(x, training)
        return functional.relu(short + y)


def _convolution(
    channels: int, width: int, kernel: int, stride: int, padding: int, dtype: Any
) -> Conv2d:
    he = initialisers.he_normal(mode="fan_out")
    return Conv2d(channels, width, kernel, stride, padding, bias=False, init=he, dtype=dtype)
