"""Windows over images: what convolution and pooling read, and the sizes of their results.

In: an expression (..., *space) and per axis of space a kernel size, stride, padding and dilation.
Out: an expression (..., *positions, *taps), one window of the image at every position. It is one
`Reindex`; only kernels read it, it is never stored as such.

>>> x = Input("x", (8, 3, 32, 32))
>>> windows(x, window("conv2d", x, kernel=(5, 5), padding=2)).shape
(8, 3, 32, 32, 5, 5)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from symgrad import dtypes, source
from symgrad.errors import DTypeError, ShapeError
from symgrad.node import AxisMap, Expr, Reindex
from symgrad.ops.core import as_expr, called
from symgrad.sizes import Dim, show

LETTERS = {1: "length", 2: "h, w"}


def image(op: str, x: Any, axes: int) -> Expr:
    """The operand as floating images (n, channels, *space) with `axes` axes of space."""
    x = as_expr(op, x)
    if not dtypes.is_float(x.dtype):
        raise DTypeError(f"{op}: takes float32 or float64, got {x.dtype}" + here())
    if x.ndim != axes + 2:
        raise ShapeError(
            f"{op}: takes images (n, channels, {LETTERS[axes]}), got {show(x.shape)}"
            + called(x)
            + here()
        )
    for size in x.shape[1:]:
        if isinstance(size, Dim):
            raise ShapeError(
                f"{op}: only the batch (axis 0) may have a run-time size, got {show(x.shape)}"
                + called(x)
                + here()
            )
    return x


def space(x: Expr, axes: int) -> tuple[int, ...]:
    """The sizes of the last axes, which `image` has checked to be ints."""
    return tuple(s for s in x.shape[x.ndim - axes :] if isinstance(s, int))


def sizes(op: str, name: str, value: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    """An int for all axes of space, or one for each."""
    given = value if isinstance(value, (tuple, list)) else (value,) * axes
    fine = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in given)
    if not fine or len(given) != axes or any(v < least for v in given):
        each = "an int" if axes == 1 else f"an int or {axes} ints"
        raise ShapeError(f"{op}: {name} must be {each} from {least}, got {value!r}" + here())
    return tuple(int(v) for v in given)


def here() -> str:
    return source.quote(source.here())


@dataclass(frozen=True)
class Window:
    """Where windows lie on an image: one value per axis of space.

    Position p of the window begins at `stride * p - before` and tap t is `dilation * t` further;
    `positions` is how many fit.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    positions: tuple[int, ...]

    @property
    def tiles(self) -> bool:
        """Whether every element is in one window, but for a rest behind the last one."""
        plain = set(self.dilation) == {1} and not any(self.before) and self.stride == self.kernel
        return plain and all(n * k <= s for n, k, s in zip(self.positions, self.kernel, self.size))


def window(
    op: str,
    x: Expr,
    kernel: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> Window:
    """The windows that fit on an image.

    `padding` is an int, one for each axis, "valid" (none) or "same" (as many positions as the
    image has elements, stride 1; an odd rest goes behind the image, as in PyTorch). With `ceil` a
    last window may reach over the border, if it starts before it.
    """
    axes = len(kernel)
    size = space(x, axes)
    stride, dilation = sizes(op, "stride", stride, axes), sizes(op, "dilation", dilation, axes)
    reach = spans(kernel, dilation)
    before, after = _padding(op, padding, stride, reach)
    positions = []
    for n, first, last, r, step in zip(size, before, after, reach, stride):
        left = n + first + last - r
        count = (left + (step - 1 if ceil else 0)) // step + 1
        if ceil and (count - 1) * step >= n + first:
            count -= 1
        if left < 0 or count < 1:
            dilated = "" if set(dilation) == {1} else f" of dilation {show(dilation)}"
            padded = f" padded by {show(before)}" if any(before) else ""
            raise ShapeError(
                f"{op}: the kernel {show(kernel)}{dilated} is larger than the image "
                f"{show(x.shape)}{padded}" + called(x) + here()
            )
        positions.append(count)
    return Window(size, kernel, stride, dilation, before, tuple(positions))


def spans(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """How many elements of the image one window reaches over."""
    return tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel))


def _padding(
    op: str, padding: Any, stride: tuple[int, ...], reach: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How far the image is extended before and behind each axis."""
    if padding == "same":
        if set(stride) != {1}:
            raise ShapeError(f'{op}: padding "same" needs stride 1, got {show(stride)}' + here())
        return tuple((r - 1) // 2 for r in reach), tuple(r // 2 for r in reach)
    if isinstance(padding, str) and padding != "valid":
        raise ShapeError(
            f'{op}: padding is an int, one for each axis, "same" or "valid", got {padding!r}'
            + here()
        )
    both = sizes(op, "padding", 0 if padding == "valid" else padding, len(reach), least=0)
    return both, both


def windows(x: Expr, where: Window, fill: float = 0.0) -> Expr:
    """(..., *positions, *taps): the window of x at every position, `fill` outside of the image."""
    axes = len(where.kernel)
    lead = x.ndim - axes
    maps: list[AxisMap] = [(0, ((k, 1),), 1) for k in range(lead)]
    for i in range(axes):
        terms = ((lead + i, where.stride[i]), (lead + axes + i, where.dilation[i]))
        maps.append((-where.before[i], terms, 1))
    return Reindex.of(x, maps, (*x.shape[:lead], *where.positions, *where.kernel), fill)


def spread_windows(x: Expr, where: Window) -> Expr:
    """The transpose of `windows`, before the sum over taps: (..., *image, *taps).

    x (..., *positions) is what each position holds; at every element of the image and every tap
    stands the value of the position whose window has the element at that tap, 0 if there is none.
    """
    axes = len(where.kernel)
    lead = x.ndim - axes
    maps: list[AxisMap] = [(0, ((k, 1),), 1) for k in range(lead)]
    for i in range(axes):
        terms = ((lead + i, 1), (lead + axes + i, -where.dilation[i]))
        maps.append((where.before[i], terms, where.stride[i]))
    return Reindex.of(x, maps, (*x.shape[:lead], *where.size, *where.kernel))
