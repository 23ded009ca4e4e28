"""Pooling: the largest element or the mean of every window of an image, by PyTorch's conventions.

In: images (n, c, h, w) or sequences (n, c, length). Out: smaller ones; layers do the same. Windows
that tile the image are a reshape, whose gradient is one too; windows that overlap, leave gaps or
reach over the border are index maps.

>>> max_pool2d(Input("x", (8, 3, 32, 32)), 2).shape
(8, 3, 16, 16)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgrad import ops
from symgrad.errors import InputError, ShapeError
from symgrad.nn.module import Module
from symgrad.nn.windows import Window, here, image, sizes, space, windows
from symgrad.nn.windows import window as window_on
from symgrad.node import Constant, Contract, Expr, Reduce, Reshape
from symgrad.ops.core import broadcast
from symgrad.ops.shaping import identity, reindex
from symgrad.sizes import show


def max_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Expr:
    """The largest element of every window of sequences (n, c, length); see `max_pool2d`."""
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Expr:
    """The largest element of every window of images (n, c, h, w).

    The stride is the kernel size unless given; padding (at most half the kernel) is never the
    largest; `ceil_mode` keeps a last window that reaches over the border. The gradient of a window
    goes to its largest element, and is split evenly among ties, as that of `sg.max` is (PyTorch
    gives all of it to the first).
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Expr:
    """The mean of every window of sequences (n, c, length); see `avg_pool2d`."""
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Expr:
    """The mean of every window of images (n, c, h, w).

    The stride is the kernel size unless given; padding (at most half the kernel) counts as zeros,
    or not at all when `count_include_pad` is False. With `ceil_mode` a last window may reach over
    the border; what lies behind the padding never counts.
    """
    return _avg_pool("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Expr:
    """Means of windows chosen so that the result has `output_size` (an int or two) positions.

    Window i of an axis goes from floor(i size / positions) to ceil((i + 1) size / positions).
    """
    op = "adaptive_avg_pool2d"
    x = image(op, x, 2)
    wanted = sizes(op, "output_size", output_size, 2)
    if wanted == (1, 1):
        return Reshape.of(global_avg_pool2d(x), (*x.shape[:2], 1, 1))
    size = space(x, 2)
    if not any(s % w for s, w in zip(size, wanted)):
        h, w = (s // t for s, t in zip(size, wanted))
        return avg_pool2d(x, (h, w))
    rows, columns = (_shares(s, t, x.dtype) for s, t in zip(size, wanted))
    return Contract.parse("nchw,xh,yw->ncxy", x, rows, columns)


def global_avg_pool2d(x: Any, keepdims: bool = False) -> Expr:
    """The mean of every channel over the whole image: (n, c, h, w) to (n, c).

    To (n, c, 1, 1) with `keepdims`.
    """
    return ops.mean(image("global_avg_pool2d", x, 2), axis=(2, 3), keepdims=keepdims)


def _shares(size: int, positions: int, dtype: str) -> Expr:
    """(positions, size): how much each element counts in each mean."""
    share = np.zeros((positions, size))
    for i in range(positions):
        first, behind = i * size // positions, -(-(i + 1) * size // positions)
        share[i, first:behind] = 1 / (behind - first)
    return Constant.of(share.astype(dtype))


def _max_pool(
    op: str, axes: int, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> Expr:
    x = image(op, x, axes)
    where = _window(op, x, axes, kernel, stride, padding, dilation, ceil)
    if where.kernel == (1,) * axes and where.tiles:
        return x
    taken, taps = _taken(x, where, -math.inf)
    return Reduce.of("max", taken, taps)


def _avg_pool(
    op: str, axes: int, x: Any, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool
) -> Expr:
    x = image(op, x, axes)
    where = _window(op, x, axes, kernel, stride, padding, 1, ceil)
    if where.kernel == (1,) * axes and where.tiles:
        return x
    taken, taps = _taken(x, where, 0.0)
    kept = [k for k in range(taken.ndim) if k not in taps]
    total = Contract.of([range(taken.ndim)], kept, taken)
    shares = [_share(where, i, include) for i in range(axes)]
    if all(len(set(s)) == 1 for s in shares):
        return total * Constant.of(math.prod(s[0] for s in shares), x.dtype)
    share = shares[0] if axes == 1 else np.outer(shares[0], shares[1])
    return total * broadcast(Constant.of(np.asarray(share, x.dtype)), total.shape)


def _window(
    op: str,
    x: Expr,
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil: bool,
) -> Window:
    kernel = sizes(op, "kernel_size", kernel_size, axes)
    if isinstance(padding, str):
        raise ShapeError(f"{op}: padding is an int or one for each axis, got {padding!r}" + here())
    border = sizes(op, "padding", padding, axes, least=0)
    if any(2 * b > k for b, k in zip(border, kernel)):
        raise ShapeError(
            f"{op}: padding {show(border)} is more than half of the kernel {show(kernel)}" + here()
        )
    step = kernel if stride is None else stride
    return window_on(op, x, kernel, step, border, dilation, bool(ceil))


def _taken(x: Expr, where: Window, fill: float) -> tuple[Expr, tuple[int, ...]]:
    """The windows of x, and which axes of them are the taps."""
    axes = len(where.kernel)
    lead = x.ndim - axes
    if not where.tiles:
        return windows(x, where, fill), tuple(range(x.ndim, x.ndim + axes))
    covered = tuple(n * k for n, k in zip(where.positions, where.kernel))
    if covered != where.size:
        x = reindex(x, [identity] * x.ndim, (*x.shape[:lead], *covered))
    split = [s for pair in zip(where.positions, where.kernel) for s in pair]
    taps = tuple(lead + 2 * i + 1 for i in range(axes))
    return Reshape.of(x, (*x.shape[:lead], *split)), taps


def _share(where: Window, axis: int, include: bool) -> list[float]:
    """For every position along an axis, one over the elements that its window counts."""
    size, before = where.size[axis], where.before[axis]
    shares = []
    for p in range(where.positions[axis]):
        first = p * where.stride[axis] - before
        behind = min(first + where.kernel[axis], size + before)
        count = behind - first if include else min(behind, size) - max(first, 0)
        shares.append(1 / count)
    return shares


# -- layers -----------------------------------------------------------------------------------
class _Pool(Module):
    """What layers of windows share: the sizes, checked when the layer is made."""

    axes: int

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        *,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.kernel_size = sizes(self.label, "kernel_size", kernel_size, self.axes)
        step = self.kernel_size if stride is None else stride
        self.stride = sizes(self.label, "stride", step, self.axes)
        self.padding = sizes(self.label, "padding", padding, self.axes, least=0)
        self.ceil_mode = ceil_mode


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        *,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode=ceil_mode, name=name)
        self.dilation = sizes(self.label, "dilation", dilation, self.axes)

    def __call__(self, x: Expr) -> Expr:
        sizes_ = (self.kernel_size, self.stride, self.padding, self.dilation)
        return _max_pool(self.label, self.axes, x, *sizes_, self.ceil_mode)


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        *,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode=ceil_mode, name=name)
        self.count_include_pad = count_include_pad

    def __call__(self, x: Expr) -> Expr:
        sizes_ = (self.kernel_size, self.stride, self.padding)
        return _avg_pool(self.label, self.axes, x, *sizes_, self.ceil_mode, self.count_include_pad)


class MaxPool1d(_MaxPool):
    """The largest element of every window of (n, c, length)."""

    axes = 1


class MaxPool2d(_MaxPool):
    """The largest element of every window of (n, c, h, w); the stride is the kernel's size."""

    axes = 2


class AvgPool1d(_AvgPool):
    """The mean of every window of (n, c, length)."""

    axes = 1


class AvgPool2d(_AvgPool):
    """The mean of every window of (n, c, h, w); the stride is the kernel's size."""

    axes = 2


class GlobalAvgPool2d(Module):
    """The mean of every channel over the image: (n, c, h, w) to (n, c), or (n, c, 1, 1)."""

    def __init__(self, keepdims: bool = False, *, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(keepdims, bool):
            raise InputError(f"{self.label}: keepdims is a bool, got {keepdims!r}" + here())
        self.keepdims = keepdims

    def __call__(self, x: Expr) -> Expr:
        return global_avg_pool2d(x, self.keepdims)
