"""Convolutions as layers: Conv1d, Conv2d and their transposes.

>>> Conv2d(3, 16, 5, padding=2, name="conv1")(Input("x", (8, 3, 32, 32))).shape
(8, 16, 32, 32)
"""

from __future__ import annotations

import math
from typing import Any

from symgrad import init as initialisers
from symgrad.errors import ShapeError
from symgrad.nn import convolution
from symgrad.nn.linear import check_sizes
from symgrad.nn.module import Module, declared
from symgrad.nn.windows import here, sizes
from symgrad.node import Expr, Parameter


class _Convolution(Module):
    """A weight and a bias, and the geometry of the kernel.

    Both start uniform in (-b, b) with b = 1/sqrt(channels read per group * taps), PyTorch's
    default, unless `init` or `bias_init` say otherwise.
    """

    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        init: Any = None,
        bias_init: Any = None,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(name, dtype)
        channels = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
        check_sizes(self.label, **channels)
        if in_channels % groups or out_channels % groups:
            raise ShapeError(
                f"{self.label}: {groups} groups do not divide {in_channels} channels to read and "
                f"{out_channels} to write" + here()
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = sizes(self.label, "kernel_size", kernel_size, self.axes)
        self.stride = sizes(self.label, "stride", stride, self.axes)
        self.dilation = sizes(self.label, "dilation", dilation, self.axes)
        self.padding = padding
        if not isinstance(padding, str):
            self.padding = sizes(self.label, "padding", padding, self.axes, least=0)
        self.has_bias = bias
        bound = 1 / math.sqrt(math.prod(self.shape[1:]))
        default = initialisers.uniform(-bound, bound)
        self.init = default if init is None else init
        self.bias_init = default if bias_init is None else bias_init

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @declared
    def weight(self) -> Parameter:
        return self._parameter("weight", self.shape, self.init)

    @declared
    def bias(self) -> Parameter | None:
        if not self.has_bias:
            return None
        return self._parameter("bias", (self.out_channels,), self.bias_init, role="bias")

    def __call__(self, x: Expr) -> Expr:
        return convolution.convolution(
            self.label,
            self.axes,
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )


class Conv1d(_Convolution):
    """y[o, p] = sum over c, t of x[c, stride p - padding + dilation t] weight[o, c, t] + bias[o].

    (n, in_channels, length) to (n, out_channels, positions); weight (out, in/groups, kernel).
    """

    axes = 1


class Conv2d(_Convolution):
    """Convolution of (n, in_channels, h, w) with a weight (out, in/groups, kh, kw), plus a bias.

    Sizes are an int or (h, w); padding may be "same" or "valid"; groups = in_channels is a
    depthwise convolution.
    """

    axes = 2


class _Transposed(_Convolution):
    """The weight of a transposed convolution is (in, out/groups, *kernel)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        init: Any = None,
        bias_init: Any = None,
        name: str | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            init=init,
            bias_init=bias_init,
            name=name,
            dtype=dtype,
        )
        self.output_padding = sizes(self.label, "output_padding", output_padding, self.axes, 0)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def __call__(self, x: Expr) -> Expr:
        return convolution.transposed(
            self.label,
            self.axes,
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_Transposed):
    """The transpose of Conv1d: (n, in_channels, length) to a longer sequence."""

    axes = 1


class ConvTranspose2d(_Transposed):
    """The transpose of Conv2d: (n, in_channels, h, w) to a larger image; PyTorch's arguments."""

    axes = 2
