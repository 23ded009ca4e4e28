"""Convolution and pooling by definition, in NumPy, one window at a time, to compare with.

>>> convolve(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)))[0, 0]
array([[9., 9.], [9., 9.]])
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def each(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes


def borders(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[list[int]]:
    """Elements added before and behind each axis."""
    if padding == "same":
        reach = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return [[r // 2, r - r // 2] for r in reach]
    return [[p, p] for p in each(0 if padding == "valid" else padding, len(kernel))]


def windows(
    x: Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    counts: list[int],
    fill: float,
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Every position and its window; what lies behind the (padded) image is the fill."""
    axes = len(kernel)
    reach = [(c - 1) * s + d * (k - 1) + 1
             for c, s, d, k in zip(counts, stride, dilation, kernel)]  # fmt: skip
    more = [(0, 0)] * 2 + [(0, max(0, r - n)) for r, n in zip(reach, x.shape[2:])]
    x = np.pad(x, more, constant_values=fill)
    for at in itertools.product(*map(range, counts)):
        cut = [slice(p * s, p * s + d * (k - 1) + 1, d)
               for p, s, d, k in zip(at, stride, dilation, kernel)]  # fmt: skip
        yield at, x[(slice(None), slice(None), *cut[:axes])]


def convolve(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    kernel = w.shape[2:]
    axes = len(kernel)
    stride, dilation = each(stride, axes), each(dilation, axes)
    added = borders(padding, kernel, dilation)
    x = np.pad(x, [(0, 0), (0, 0), *added])
    counts = [(n - d * (k - 1) - 1) // s + 1
              for n, d, k, s in zip(x.shape[2:], dilation, kernel, stride)]  # fmt: skip
    y = np.zeros((x.shape[0], w.shape[0], *counts))
    share, each_in = w.shape[0] // groups, w.shape[1]
    for at, window in windows(x, kernel, stride, dilation, counts, 0.0):
        for g in range(groups):
            part = window[:, g * each_in : (g + 1) * each_in].reshape(x.shape[0], -1)
            matrix = w[g * share : (g + 1) * share].reshape(share, -1)
            y[(slice(None), slice(g * share, (g + 1) * share), *at)] = part @ matrix.T
    return y if b is None else y + b.reshape((-1, *[1] * axes))


def pool(
    x: Array,
    law: Callable[[Array], float],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    include: bool = False,
) -> Array:
    """`law` of the elements of each window; of the padding's zeros too, if those are included."""
    axes = x.ndim - 2
    kernel, dilation = each(kernel_size, axes), each(dilation, axes)
    stride = kernel if stride is None else each(stride, axes)
    padding = each(padding, axes)
    counts = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation):
        room = n + 2 * p - d * (k - 1) - 1
        count = (math.ceil(room / s) if ceil_mode else room // s) + 1
        counts.append(count - (ceil_mode and (count - 1) * s >= n + p))
    # not a number: no element of the image
    x = np.pad(x, [(0, 0), (0, 0), *([p, p] for p in padding)],
               constant_values=0.0 if include else np.nan)  # fmt: skip
    y = np.zeros((*x.shape[:2], *counts))
    for at, window in windows(x, kernel, stride, dilation, counts, np.nan):
        flat = window.reshape(*x.shape[:2], -1)
        for i, j in np.ndindex(*x.shape[:2]):
            y[(i, j, *at)] = law(flat[i, j][~np.isnan(flat[i, j])])
    return y
