"""Well-known networks, built from the layers of this package: each call gives a new one.

In: sizes, all with the defaults of the paper or of the benchmark. Out: a `Module`, called on images
(n, channels, h, w) or, for `gpt`, on tokens (n, t) of an integer type; it gives logits.

>>> lenet()(sg.input("x", (sg.dim("n", 64), 1, 28, 28))).shape
(n, 10)
"""

from __future__ import annotations

from typing import Any, Sequence

from symgrad import init as initialisers
from symgrad import source
from symgrad.errors import ShapeError
from symgrad.nn import functional
from symgrad.nn.attention import MultiHeadAttention
from symgrad.nn.container import Flatten, Residual, Sequential
from symgrad.nn.conv_layers import Conv2d
from symgrad.nn.dropout import Dropout
from symgrad.nn.embedding import Embedding
from symgrad.nn.linear import Linear, check_sizes
from symgrad.nn.module import Module, declared
from symgrad.nn.normalization import BatchNorm, LayerNorm
from symgrad.nn.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from symgrad.node import Expr, Parameter
from symgrad.ops.core import as_expr
from symgrad.sizes import show


def lenet(classes: int = 10, channels: int = 1, dtype: Any = "float32") -> Sequential:
    """LeNet-5 for images of 28x28: two convolutions of 5x5, tanh, average pooling, three layers."""
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


def vgg_small(
    classes: int = 10,
    widths: Sequence[int] = (32, 64, 128),
    size: int = 32,
    dropout: float = 0.25,
    dtype: Any = "float32",
) -> Sequential:
    """A small VGG: per width two convolutions of 3x3 with batch norm, a max pool and dropout."""
    layers: list[Any] = []
    channels = 3
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


def resnet20(classes: int = 10, dtype: Any = "float32") -> Sequential:
    """The residual network of 20 layers for small images (He et al. 2015, section 4.2)."""
    return resnet_small(3, classes, dtype)


def resnet_small(blocks: int = 3, classes: int = 10, dtype: Any = "float32") -> Sequential:
    """Three stages of 16, 32 and 64 channels with `blocks` residual blocks: 6 blocks + 2 layers.

    Where a stage halves the image its first shortcut is a convolution of 1x1 with stride 2.
    """
    check_sizes("resnet_small", blocks=blocks, classes=classes)
    layers: list[Any] = [
        Conv2d(3, 16, 3, padding=1, bias=False, name="conv1", dtype=dtype),
        BatchNorm(16, name="bn1", dtype=dtype),
        functional.relu,
    ]
    channels = 16
    for stage, width in enumerate((16, 32, 64), 1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            layers += [
                _residual(channels, width, stride, f"stage{stage}.{block}", dtype),
                functional.relu,
            ]
            channels = width
    return Sequential(*layers, GlobalAvgPool2d(), Linear(channels, classes, name="fc", dtype=dtype))


def _residual(channels: int, width: int, stride: int, name: str, dtype: Any) -> Residual:
    """Two convolutions of 3x3 beside a shortcut, batch norm after each; ReLU follows the sum."""

    def normed(inputs: int, kernel: int, step: int, label: str) -> list[Module]:
        conv = Conv2d(
            inputs,
            width,
            kernel,
            stride=step,
            padding=kernel // 2,
            bias=False,
            name=f"{name}.conv{label}",
            dtype=dtype,
        )
        return [conv, BatchNorm(width, name=f"{name}.bn{label}", dtype=dtype)]

    shortcut = None
    if stride != 1 or channels != width:
        shortcut = Sequential(*normed(channels, 1, stride, "_shortcut"))
    branch: list[Any] = [
        *normed(channels, 3, stride, "1"),
        functional.relu,
        *normed(width, 3, 1, "2"),
    ]
    return Residual(*branch, shortcut=shortcut)


def gpt(
    vocabulary: int = 65,
    tokens: int = 64,
    width: int = 128,
    heads: int = 4,
    blocks: int = 4,
    dropout: float = 0.0,
    dtype: Any = "float32",
) -> GPT:
    """A causal transformer over up to `tokens` tokens: (n, t) to logits (n, t, vocabulary)."""
    return GPT(vocabulary, tokens, width, heads, blocks, dropout, dtype=dtype)


class Block(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): a block of a causal transformer."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        *,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        self.norm1, self.norm2 = LayerNorm(width, dtype=dtype), LayerNorm(width, dtype=dtype)
        self.attention = MultiHeadAttention(width, heads, dropout, dtype=dtype)
        self.wide = Linear(width, 4 * width, dtype=dtype)
        self.narrow = Linear(4 * width, width, dtype=dtype)
        self.dropout = Dropout(dropout)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        mixed = self.attention(self.norm1(x), causal=True, training=training)
        x = x + self.dropout(mixed, training)
        y = self.narrow(functional.gelu(self.wide(self.norm2(x))))
        return x + self.dropout(y, training)


class GPT(Module):
    """Embeddings of tokens and places, blocks, a last norm and a linear layer to logits."""

    def __init__(
        self,
        vocabulary: int,
        tokens: int,
        width: int,
        heads: int,
        blocks: int,
        dropout: float = 0.0,
        *,
        name: str | None = "gpt",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        check_sizes(self.label, vocabulary=vocabulary, tokens=tokens, width=width, blocks=blocks)
        self.tokens, self.width = tokens, width
        # GPT-2's initialisation: with the unit variance of a plain embedding the first losses,
        # and so the first steps, are large.
        small = initialisers.normal(0.0, 0.02)
        self.embedding = Embedding(vocabulary, width, init=small, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.blocks = [Block(width, heads, dropout, dtype=dtype) for _ in range(blocks)]
        self.norm = LayerNorm(width, dtype=dtype)
        self.head = Linear(width, vocabulary, dtype=dtype)

    @declared
    def positions(self) -> Parameter:
        start = initialisers.normal(0.0, 0.02)
        return self._parameter("positions", (self.tokens, self.width), start)

    def __call__(self, x: Expr, training: bool = False) -> Expr:
        x = as_expr(self.label, x)
        length = x.shape[-1] if x.ndim == 2 else 0
        if not isinstance(length, int) or not 1 <= length <= self.tokens:
            raise ShapeError(
                f"{self.label}: takes tokens (n, t) with t up to {self.tokens}, got "
                f"{show(x.shape)}" + source.quote(source.here())
            )
        places = self.positions if length == self.tokens else self.positions[:length]
        h = self.dropout(self.embedding(x) + places, training)
        for block in self.blocks:
            h = block(h, training)
        return self.head(self.norm(h))
