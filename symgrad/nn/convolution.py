"""Convolutions as functions: contractions over windows of the image, by PyTorch's conventions.

In: images (n, channels, h, w) or sequences (n, channels, length), a weight, perhaps a bias. Out:
images. A kernel slides without being flipped, y[o, p] = sum over c, t of x[c, stride p - padding +
dilation t] w[o, c, t] (a cross-correlation, as everywhere in neural networks). The result has
(size + 2 padding - dilation (kernel - 1) - 1) / stride + 1 elements along an axis, rounded down.

>>> conv2d(Input("x", (8, 3, 32, 32)), Input("w", (16, 3, 5, 5)), padding=2).shape
(8, 16, 32, 32)
"""

from __future__ import annotations

from typing import Any

from symgrad import ops
from symgrad.errors import ShapeError
from symgrad.nn.windows import Window, here, image, sizes, space, spans, spread_windows, windows
from symgrad.nn.windows import window as window_on
from symgrad.node import Contract, Expr, Reshape
from symgrad.ops.core import as_expr, called, unify
from symgrad.sizes import Dim, show

TAPS = {1: "k", 2: "kl"}
POSITIONS = {1: "x", 2: "xy"}


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Expr:
    """The convolution of sequences (n, c, length) with a weight (o, c/groups, k)."""
    return convolution("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Expr:
    """The convolution of images (n, c, h, w) with a weight (o, c/groups, kh, kw).

    `stride`, `padding` and `dilation` are an int or one for each axis; padding may also be "same"
    or "valid". With groups, channel group g of the result reads group g of the image alone;
    groups = c is a depthwise convolution.
    """
    return convolution("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Expr:
    """The transposed convolution of sequences (n, c, length), weight (c, o/groups, k)."""
    return transposed(
        "conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Expr:
    """The transposed convolution of images (n, c, h, w), weight (c, o/groups, kh, kw).

    It is the gradient of `conv2d` by its image: every element of x adds the kernel, times itself,
    to the result at stride times its place. An axis has (size - 1) stride - 2 padding +
    dilation (kernel - 1) + 1 + output_padding elements. PyTorch's order of arguments.
    """
    return transposed(
        "conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def convolution(
    op: str,
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Expr:
    """A convolution over `axes` axes of space; `op` is what messages call it."""
    x, weight = _operands(op, axes, x, weight)
    channels, outputs = _channels(op, groups, x, weight.shape[0])
    if weight.shape[1] * groups != channels:
        raise ShapeError(
            f"{op}: the weight {show(weight.shape)} takes {weight.shape[1] * groups} channels"
            f"{_in(groups)}, the image {show(x.shape)} has {channels}" + called(x, weight) + here()
        )
    where = window_on(op, x, space(weight, axes), stride, padding, dilation)
    p, k = POSITIONS[axes], TAPS[axes]
    if groups == 1:
        y: Expr = Contract.parse(f"nc{p}{k},oc{k}->no{p}", windows(x, where), weight)
    else:
        x, split = _split(x, 1, groups), _split(weight, 0, groups)
        y = Contract.parse(f"ngc{p}{k},goc{k}->ngo{p}", windows(x, where), split)
        y = Reshape.of(y, (y.shape[0], outputs, *where.positions))
    return _biased(op, y, bias)


def transposed(
    op: str,
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Expr:
    """A transposed convolution over `axes` axes of space."""
    x, weight = _operands(op, axes, x, weight)
    _, outputs = _channels(op, groups, x, weight.shape[1], "the weight's second axis", each=True)
    if weight.shape[0] != x.shape[1]:
        raise ShapeError(
            f"{op}: the weight {show(weight.shape)} takes {weight.shape[0]} channels, the image "
            f"{show(x.shape)} has {x.shape[1]}" + called(x, weight) + here()
        )
    where = _enlarged(op, x, space(weight, axes), stride, padding, output_padding, dilation)
    p, k = POSITIONS[axes], TAPS[axes]
    if groups == 1:
        y: Expr = Contract.parse(f"nc{p}{k},co{k}->no{p}", spread_windows(x, where), weight)
    else:
        x, split = _split(x, 1, groups), _split(weight, 0, groups)
        y = Contract.parse(f"ngc{p}{k},gco{k}->ngo{p}", spread_windows(x, where), split)
        y = Reshape.of(y, (y.shape[0], outputs, *where.size))
    return _biased(op, y, bias)


def _enlarged(
    op: str,
    x: Expr,
    kernel: tuple[int, ...],
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
) -> Window:
    """The windows of the result, the positions of which are the elements of x."""
    axes = len(kernel)
    steps, spacing = sizes(op, "stride", stride, axes), sizes(op, "dilation", dilation, axes)
    before = sizes(op, "padding", padding, axes, least=0)
    more = sizes(op, "output_padding", output_padding, axes, least=0)
    if any(m >= max(s, d) for m, s, d in zip(more, steps, spacing)):
        raise ShapeError(
            f"{op}: output_padding {show(more)} must be smaller than the stride {show(steps)} or "
            f"the dilation {show(spacing)}" + here()
        )
    positions = space(x, axes)
    size = tuple(
        (n - 1) * s - 2 * b + r + m
        for n, s, b, r, m in zip(positions, steps, before, spans(kernel, spacing), more)
    )
    if any(s < 1 for s in size):
        raise ShapeError(
            f"{op}: the image {show(x.shape)} with padding {show(before)} gives a result of "
            f"{show(size)}" + called(x) + here()
        )
    return Window(size, kernel, steps, spacing, before, positions)


def _operands(op: str, axes: int, x: Any, weight: Any) -> tuple[Expr, Expr]:
    x, weight = image(op, x, axes), as_expr(op, weight)
    if weight.ndim != axes + 2 or any(isinstance(s, Dim) or s < 1 for s in weight.shape):
        raise ShapeError(
            f"{op}: takes a weight with {axes + 2} axes of fixed sizes, got {show(weight.shape)} "
            f"for the image {show(x.shape)}" + called(x, weight) + here()
        )
    x, weight = unify(op, (x, weight))
    return x, weight


def _channels(
    op: str,
    groups: Any,
    x: Expr,
    outputs: Any,
    of: str = "the weight",
    each: bool = False,
) -> tuple[int, int]:
    """Channels of the image and the result; groups must divide both (`each`: outputs per group)."""
    channels = x.shape[1]
    assert isinstance(channels, int)  # `image` has checked it
    fine = isinstance(groups, int) and not isinstance(groups, bool) and groups > 0
    if not fine or channels % groups or (not each and outputs % groups):
        raise ShapeError(
            f"{op}: {groups!r} groups do not divide the {channels} channels of {show(x.shape)} and "
            f"the {outputs} of {of}" + called(x) + here()
        )
    return channels, outputs * groups if each else outputs


def _in(groups: int) -> str:
    return "" if groups == 1 else f" in {groups} groups"


def _split(x: Expr, axis: int, groups: int) -> Expr:
    """An axis of channels as (groups, channels of each)."""
    size = x.shape[axis]
    return Reshape.of(x, (*x.shape[:axis], groups, size // groups, *x.shape[axis + 1 :]))


def _biased(op: str, y: Expr, bias: Any) -> Expr:
    if bias is None:
        return y
    bias = as_expr(op, bias)
    if bias.shape != y.shape[1:2]:
        raise ShapeError(
            f"{op}: the bias {show(bias.shape)} does not fit the {y.shape[1]} channels of the "
            f"result {show(y.shape)}" + called(bias) + here()
        )
    return y + ops.reshape(bias, (*bias.shape, *(1,) * (y.ndim - 2)))
