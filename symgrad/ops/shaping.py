"""Shapes: the same elements in another arrangement.

In: expressions and shapes, whose sizes are ints or run-time dimensions. Out: expressions. NumPy's
names and meanings; `reshape` counts in row-major order.

>>> from symgrad.node import Input
>>> x = Input("x", (2, 3))
>>> concatenate([x, flip(x, axis=1)], axis=0).shape
(4, 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from symgrad.errors import DTypeError, ShapeError
from symgrad.leaves import check_shape as checked_shape
from symgrad.node import OPERATORS, Contract, Expr, Gather, Iota, Reindex, Reshape, SizeOf
from symgrad.ops import core
from symgrad.scalar import sp
from symgrad.sizes import Dim, Size, amount, count, show

identity = (0, 1)  # offset and coefficient of an axis that stays as it is


def reshape(x: Any, shape: Any) -> Expr:
    """The elements in row-major order under another shape; one size may be -1, found by division.

    >>> from symgrad.node import Input
    >>> reshape(Input("x", (2, 6)), (4, -1)).shape
    (4, 3)
    """
    x = core.as_expr("reshape", x)
    sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    unknown = [i for i, s in enumerate(sizes) if not isinstance(s, Dim) and s == -1]
    if len(unknown) > 1:
        raise ShapeError(f"reshape: more than one -1 in {tuple(sizes)}" + core.here())
    if unknown:
        rest = tuple(s for i, s in enumerate(sizes) if i != unknown[0])
        sizes[unknown[0]] = _quotient(x, checked_shape("reshape", rest), tuple(sizes))
    return Reshape.of(x, sizes)


def _quotient(x: Expr, known: tuple[Size, ...], wanted: Any) -> Size:
    """The size that -1 stands for."""
    total, names = count(x.shape)
    part, given = count(known)
    left = list(names)
    for name in given:
        if name not in left:
            part = 0
        else:
            left.remove(name)
    if part and total % part == 0 and len(left) <= 1:
        if not left:
            return total // part
        found = next(s for s in x.shape if isinstance(s, Dim) and s.name == left[0])
        return found.base * (total // part)
    raise ShapeError(
        f"reshape: {show(x.shape)} has {amount(x.shape)} elements, no size for -1 in {wanted} fits"
        + core.here()
    )


def ravel(x: Any) -> Expr:
    """All elements in one axis, row-major."""
    return reshape(x, -1) if core.as_expr("ravel", x).size != 0 else reshape(x, 0)


def transpose(x: Any, axes: Any = None) -> Expr:
    """The axes in another order; reversed when `axes` is None.

    >>> from symgrad.node import Input
    >>> transpose(Input("x", (2, 3, 4)), (1, 0, 2)).shape
    (3, 2, 4)
    """
    x = core.as_expr("transpose", x)
    given = range(x.ndim)[::-1] if axes is None else axes
    order = [core.axis_of("transpose", a, x.ndim, x.shape) for a in given]
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(
            f"transpose: {axes} is no order of the axes of {show(x.shape)}" + core.here()
        )
    if order == list(range(x.ndim)):
        return x
    return Contract.of([range(x.ndim)], order, x)


def swapaxes(x: Any, first: int, second: int) -> Expr:
    """Two axes exchanged."""
    x = core.as_expr("swapaxes", x)
    i, j = (core.axis_of("swapaxes", a, x.ndim, x.shape) for a in (first, second))
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return transpose(x, order)


def moveaxis(x: Any, source: int, destination: int) -> Expr:
    """One axis moved to another position."""
    x = core.as_expr("moveaxis", x)
    i, j = (core.axis_of("moveaxis", a, x.ndim, x.shape) for a in (source, destination))
    order = [a for a in range(x.ndim) if a != i]
    order.insert(j, i)
    return transpose(x, order)


def expand_dims(x: Any, axis: Any) -> Expr:
    """New axes of size 1 at these positions of the result."""
    x = core.as_expr("expand_dims", x)
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    ndim = x.ndim + len(given)
    at = {core.axis_of("expand_dims", a, ndim) for a in given}
    if len(at) != len(given):
        raise ShapeError(f"expand_dims: {axis} names one axis twice" + core.here())
    old = iter(x.shape)
    return Reshape.of(x, tuple(1 if i in at else next(old) for i in range(ndim)))


def squeeze(x: Any, axis: Any = None) -> Expr:
    """Axes of size 1 removed: these, or all of them."""
    x = core.as_expr("squeeze", x)
    if axis is None:
        return Reshape.of(x, tuple(s for s in x.shape if s != 1))
    axes = core.axes_of("squeeze", axis, x)
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(
                f"squeeze: axis {a} of {show(x.shape)} has size {x.shape[a]}, not 1" + core.here()
            )
    return Reshape.of(x, tuple(s for i, s in enumerate(x.shape) if i not in axes))


def broadcast_to(x: Any, shape: Any) -> Expr:
    """The expression repeated to a shape, by NumPy's rule: aligned at the end, 1 fits everything.

    >>> from symgrad.node import Input
    >>> broadcast_to(Input("x", (3, 1)), (2, 3, 4)).shape
    (2, 3, 4)
    """
    x = core.as_expr("broadcast_to", x)
    shape = checked_shape("broadcast_to", shape)
    behind = shape[len(shape) - x.ndim :]
    if x.ndim > len(shape) or any(s not in (1, t) for s, t in zip(x.shape, behind)):
        raise ShapeError(f"broadcast_to: {show(x.shape)} does not fit {show(shape)}" + core.here())
    return core.broadcast(x, shape)


def reindex(x: Expr, axes: Sequence[tuple[int, int]], shape: Any, fill: Any = 0) -> Expr:
    """`out[o] = x[offset + coefficient * o]` axis by axis."""
    maps = [(offset, ((i, coef),), 1) for i, (offset, coef) in enumerate(axes)]
    return Reindex.of(x, maps, shape, fill)


def _sequence(op: str, arrays: Any) -> list[Expr]:
    if not isinstance(arrays, (list, tuple)):
        raise ShapeError(
            f"{op}: takes a list of expressions, got {type(arrays).__name__}" + core.here()
        )
    parts = core.unify(op, [core.as_expr(op, a) for a in arrays]) if arrays else []
    if not parts:
        raise ShapeError(f"{op}: takes at least one expression" + core.here())
    return parts


def concatenate(arrays: Any, axis: int | None = 0) -> Expr:
    """The arrays one behind the other along an axis; axis=None flattens them first.

    All other sizes are equal; the axis itself has sizes known when the graph is built.

    >>> from symgrad.node import Input
    >>> concatenate([Input("x", (2, 3)), Input("y", (2, 1))], axis=1).shape
    (2, 4)
    """
    parts = _sequence("concatenate", arrays)
    if axis is None:
        parts, axis = [ravel(p) for p in parts], 0
    first = parts[0]
    at = core.axis_of("concatenate", axis, first.ndim, first.shape)
    if len(parts) == 1:
        return first
    total = 0
    for p in parts:
        size = p.shape[at] if p.ndim == first.ndim else 0
        if p.shape[:at] + p.shape[at + 1 :] != first.shape[:at] + first.shape[at + 1 :]:
            shapes = ", ".join(show(q.shape) for q in parts)
            raise ShapeError(
                f"concatenate: shapes {shapes} differ in more than axis {at}" + core.here()
            )
        if isinstance(size, Dim):
            raise ShapeError(
                f"concatenate: axis {at} of {show(p.shape)} has the run-time size {size}; only "
                "axes of fixed sizes can be joined" + core.here()
            )
        total += size
    shape = (*first.shape[:at], total, *first.shape[at + 1 :])
    placed, offset = [], 0
    for p in parts:
        size = p.shape[at]
        assert isinstance(size, int)
        axes = [(-offset, 1) if i == at else identity for i in range(p.ndim)]
        if size:
            placed.append(reindex(p, axes, shape))
        offset += size
    # Every element is in one of the parts; the others are zero there.
    return reduce(OPERATORS["add"], placed) if placed else Reshape.of(first, shape)


def stack(arrays: Any, axis: int = 0) -> Expr:
    """Arrays of one shape along a new axis."""
    parts = _sequence("stack", arrays)
    if any(p.shape != parts[0].shape for p in parts):
        shapes = ", ".join(show(p.shape) for p in parts)
        raise ShapeError(f"stack: shapes {shapes} differ" + core.here())
    at = core.axis_of("stack", axis, parts[0].ndim + 1)
    return concatenate([expand_dims(p, at) for p in parts], at)


def split(x: Any, sections: Any, axis: int = 0) -> list[Expr]:
    """The parts of an axis: `sections` equal ones, or cut before each of the given indices.

    >>> from symgrad.node import Input
    >>> [p.shape for p in split(Input("x", (2, 7)), [2, 3], axis=1)]
    [(2, 2), (2, 1), (2, 4)]
    """
    x = core.as_expr("split", x)
    at = core.axis_of("split", axis, x.ndim, x.shape)
    size = x.shape[at]
    if isinstance(size, Dim):
        raise ShapeError(f"split: axis {at} of {show(x.shape)} has a run-time size" + core.here())
    if isinstance(sections, (int, np.integer)):
        if sections < 1 or size % sections:
            raise ShapeError(
                f"split: size {size} of axis {at} does not divide into {sections} equal parts, "
                f"shape {show(x.shape)}" + core.here()
            )
        cuts = [i * (size // int(sections)) for i in range(1, int(sections))]
    else:
        cuts = [int(c) for c in sections]
    bounds = [0, *cuts, size]
    before = (slice(None),) * at
    return [x[(*before, slice(a, b))] for a, b in zip(bounds, [*bounds[1:-1], None])]


def pad(x: Any, width: Any, mode: str = "constant", constant_values: Any = 0) -> Expr:
    """The array with a border of one value: `width` is an int, (before, after), or such a pair
    for every axis.

    >>> from symgrad.node import Input
    >>> pad(Input("x", (2, 3)), ((0, 0), (1, 2))).shape
    (2, 6)
    """
    x = core.as_expr("pad", x)
    if mode != "constant":
        raise ShapeError(f"pad: mode is 'constant', got {mode!r}" + core.here())
    try:
        pairs = np.broadcast_to(np.asarray(width, dtype=object), (x.ndim, 2)).tolist()
    except ValueError:
        raise ShapeError(f"pad: width {width} does not fit {show(x.shape)}" + core.here()) from None
    axes, shape = [], []
    for size, (before, after) in zip(x.shape, pairs):
        wrong = not all(isinstance(w, (int, np.integer)) and w >= 0 for w in (before, after))
        if wrong or (isinstance(size, Dim) and (before or after)):
            raise ShapeError(
                f"pad: width ({before}, {after}) of an axis of size {size}: widths are ints from "
                "0, and run-time sizes cannot be padded" + core.here()
            )
        axes.append((-int(before), 1))
        shape.append(size if isinstance(size, Dim) else size + int(before) + int(after))
    if tuple(shape) == x.shape:
        return x
    if not isinstance(constant_values, (bool, int, float, np.generic)):
        raise DTypeError(f"pad: the value is a number, got {constant_values!r}" + core.here())
    fill = np.asarray(constant_values).astype(x.dtype).item()
    return reindex(x, axes, shape, fill)


def flip(x: Any, axis: Any = None) -> Expr:
    """The order of the elements reversed along the axes (all when None)."""
    x = core.as_expr("flip", x)
    axes = core.axes_of("flip", axis, x)
    for a in [a for a in axes if isinstance(x.shape[a], Dim)]:
        size = x.shape[a]
        x = Gather.of(x, SizeOf.of(size, "int32") - 1 - Iota.of(size), a)
    fixed = [a for a in axes if not isinstance(x.shape[a], Dim) and x.shape[a] != 1]
    if not fixed:
        return x
    turned = [
        (s - 1, -1) if i in fixed and isinstance(s, int) else identity
        for i, s in enumerate(x.shape)
    ]
    return reindex(x, turned, x.shape)


def tile(x: Any, reps: Any) -> Expr:
    """The array repeated as a whole, `reps` times along each axis."""
    x = core.as_expr("tile", x)
    times = [int(r) for r in (reps if isinstance(reps, (tuple, list)) else (reps,))]
    if any(r < 0 for r in times):
        raise ShapeError(f"tile: {reps} are no repetitions" + core.here())
    ndim = max(x.ndim, len(times))
    times = [1] * (ndim - len(times)) + times
    sizes: list[Size] = [1] * (ndim - x.ndim) + list(x.shape)
    inner = Reshape.of(x, tuple(s for size in sizes for s in (1, size)))
    shape = tuple(s for r, size in zip(times, sizes) for s in (r, size))
    return Reshape.of(core.broadcast(inner, shape), tuple(s * r for r, s in zip(times, sizes)))


def repeat(x: Any, repeats: int, axis: int | None = None) -> Expr:
    """Every element `repeats` times in a row along an axis; axis=None flattens first."""
    x = core.as_expr("repeat", x)
    if axis is None:
        x, axis = ravel(x), 0
    at = core.axis_of("repeat", axis, x.ndim, x.shape)
    if not isinstance(repeats, (int, np.integer)) or repeats < 0:
        raise ShapeError(f"repeat: {repeats!r} is no number of repetitions" + core.here())
    wide = expand_dims(x, at + 1)
    shape = (*x.shape[: at + 1], int(repeats), *x.shape[at + 1 :])
    merged = (*x.shape[:at], x.shape[at] * int(repeats), *x.shape[at + 1 :])
    return Reshape.of(core.broadcast(wide, shape), merged)


def roll(x: Any, shift: int, axis: int) -> Expr:
    """The elements moved along an axis; what leaves at one end enters at the other."""
    x = core.as_expr("roll", x)
    at = core.axis_of("roll", axis, x.ndim, x.shape)
    size = x.shape[at]
    if isinstance(size, Dim):
        raise ShapeError(f"roll: axis {at} of {show(x.shape)} has a run-time size" + core.here())
    cut = -shift % size if size else 0
    if cut == 0:
        return x
    return concatenate(split(x, [cut], at)[::-1], at)


def _below(x: Expr, k: int) -> Expr:
    """Whether column - row <= k, over the last two axes."""
    rows, columns = x.shape[-2:]
    row = Reshape.of(Iota.of(rows), (rows, 1))
    return sp.less_equal(Iota.of(columns), row + k)  # type: ignore[no-any-return]


def _matrix(op: str, x: Any) -> Expr:
    x = core.as_expr(op, x)
    if x.ndim < 2:
        raise ShapeError(f"{op}: takes at least two axes, got {show(x.shape)}" + core.here())
    return x


def tril(x: Any, k: int = 0) -> Expr:
    """The last two axes with zeros above the k-th diagonal."""
    x = _matrix("tril", x)
    return sp.where(_below(x, k), x, core.cast(0, x.dtype))  # type: ignore[no-any-return]


def triu(x: Any, k: int = 0) -> Expr:
    """The last two axes with zeros below the k-th diagonal."""
    x = _matrix("triu", x)
    return sp.where(_below(x, k - 1), core.cast(0, x.dtype), x)  # type: ignore[no-any-return]


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expr:
    """The elements with axis2's index - axis1's index = offset, as the last axis."""
    x = _matrix("diagonal", x)
    i = core.axis_of("diagonal", axis1, x.ndim, x.shape)
    j = core.axis_of("diagonal", axis2, x.ndim, x.shape)
    if i == j:
        raise ShapeError(f"diagonal: axis1 and axis2 are both {i}" + core.here())
    rows, columns = x.shape[i], x.shape[j]
    size: Size
    if isinstance(rows, int) and isinstance(columns, int):
        size = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    elif rows == columns and offset == 0:
        size = rows
    else:
        raise ShapeError(
            f"diagonal: offset {offset} of {show(x.shape)}, where a size is known at run time only"
            + core.here()
        )
    rest = [a for a in range(x.ndim) if a not in (i, j)]
    last = len(rest)
    maps = []
    for a in range(x.ndim):
        if a == i:
            maps.append((max(-offset, 0), ((last, 1),), 1))
        elif a == j:
            maps.append((max(offset, 0), ((last, 1),), 1))
        else:
            maps.append((0, ((rest.index(a), 1),), 1))
    return Reindex.of(x, maps, (*(x.shape[a] for a in rest), size))


def diag(x: Any, k: int = 0) -> Expr:
    """A vector as the k-th diagonal of a square matrix of zeros; of a matrix, its k-th diagonal.

    >>> from symgrad.node import Input
    >>> diag(Input("x", (3,)), k=1).shape
    (4, 4)
    """
    x = core.as_expr("diag", x)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(f"diag: takes one or two axes, got {show(x.shape)}" + core.here())
    if k:
        x = pad(x, (max(k, 0), max(-k, 0)))
    size = x.shape[0]
    row, column = Reshape.of(Iota.of(size), (size, 1)), Iota.of(size)
    # Padded, element j of the vector is the one of column j.
    zero = core.cast(0, x.dtype)
    return sp.where(sp.equal(column, row + k), x, zero)  # type: ignore[no-any-return]


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expr:
    """The sum of a diagonal."""
    from symgrad.ops.reductions import sum as total

    return total(diagonal(x, offset, axis1, axis2), axis=-1)


OPERATORS.update(reshape=reshape, transpose=transpose)
