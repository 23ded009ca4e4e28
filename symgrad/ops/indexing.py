"""Indexing: `x[...]`, take, labels as one-hot vectors, and what indices may be.

In: expressions and indices: ints, slices, None, Ellipsis, integer arrays or integer expressions.
Out: expressions. `domains` reads off a graph which integer inputs must lie in which range, so that
a call can refuse a label that is out of range.

>>> from symgrad.node import Input
>>> x, i = Input("x", (4, 5)), Input("i", (7,), "int32")
>>> x[1:, ::-2].shape, x[:, None, 0].shape, x[i].shape
((3, 3), (4, 1), (7, 5))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from symgrad import dtypes
from symgrad.errors import DTypeError, ShapeError
from symgrad.node import (
    OPERATORS,
    Constant,
    Contract,
    Expr,
    Gather,
    Input,
    Iota,
    Map,
    Reindex,
    Reshape,
    Scan,
    SizeOf,
    toposort,
)
from symgrad.ops import core
from symgrad.ops.shaping import flip, moveaxis, transpose
from symgrad.scalar import sp
from symgrad.sizes import Dim, Size, maximum, show


class Domain(NamedTuple):
    """What an input may hold: `low` up to `high`, not included, or `also`; asked for by `node`."""

    low: int
    high: Size
    node: Expr
    also: int | None = None


# -- x[index] -------------------------------------------------------------------------------------


def getitem(x: Any, index: Any) -> Expr:
    """NumPy's `x[index]`. Integer arrays and expressions pick elements; indices of one expression
    count from 0 (only ints and arrays may be negative).

    An axis of run-time size takes `:`, `::-1`, 0, -1 and integer expressions.
    """
    x = core.as_expr("getitem", x)
    items = _complete(x, index if isinstance(index, tuple) else (index,))
    if any(isinstance(i, (Expr, np.ndarray)) for i in items):
        return _advanced(x, items)
    return _basic(x, items)


def _complete(x: Expr, index: tuple[Any, ...]) -> list[Any]:
    """One entry for each axis, and None for each new one; lists as arrays, masks as positions."""
    items: list[Any] = []
    for i in index:
        if isinstance(i, (list, np.ndarray)):
            array = np.asarray(i)
            if array.dtype == bool:
                items.extend(np.nonzero(array))
                continue
            if array.size == 0 and isinstance(i, list):
                array = array.astype("int64")
            i = array
        if isinstance(i, Expr) and i.dtype == "bool":
            raise ShapeError(
                "getitem: the shape of x[mask] depends on values; use where(mask, x, 0)"
                + core.here()
            )
        items.append(i)
    used = sum(i is not None and i is not Ellipsis for i in items)
    dots = [n for n, i in enumerate(items) if i is Ellipsis]
    if used > x.ndim or len(dots) > 1:
        what = "more than one ellipsis" if len(dots) > 1 else f"{used} indices"
        raise ShapeError(f"getitem: {what} for shape {show(x.shape)}" + core.here())
    at = dots[0] if dots else len(items)
    rest = [slice(None)] * (x.ndim - used)
    return items[:at] + rest + items[at + 1 :]


def _basic(x: Expr, items: list[Any]) -> Expr:
    """Ints, slices and None: one Reindex."""
    x, items = _run_time_axes(x, items)
    maps: list[Any] = []
    shape: list[Size] = []
    for item in items:
        if item is None:
            shape.append(1)
            continue
        size = x.shape[len(maps)]
        if isinstance(item, slice):
            start, step, count = _bounds(item, size, x)
            maps.append((start, ((len(shape), step),), 1))
            shape.append(count)
        else:
            assert isinstance(size, int)
            maps.append((_checked(item, size, len(maps), x), (), 1))
    if all(
        offset == 0 and (terms and terms[0][1] == 1 and shape[terms[0][0]] == size or size == 1)
        for (offset, terms, _), size in zip(maps, x.shape)
    ):
        return Reshape.of(x, shape)
    return Reindex.of(x, maps, shape)


def _run_time_axes(x: Expr, items: list[Any]) -> tuple[Expr, list[Any]]:
    """The first or last element and the reversal of axes whose size comes at run time."""
    rest: list[Any] = []
    axis = 0
    for item in items:
        if item is not None and isinstance(size := x.shape[axis], Dim):
            if isinstance(item, slice) and item == slice(None, None, -1):
                x, item = flip(x, axis), slice(None)
            elif not isinstance(item, slice):
                if _whole(item) not in (0, -1):
                    _refuse(str(item), size, x)
                last = SizeOf.of(size, "int32") - 1 if _whole(item) else Constant.of(0, "int32")
                x = Gather.of(x, last, axis)
                continue
        axis += item is not None
        rest.append(item)
    return x, rest


def _whole(item: Any) -> int:
    if isinstance(item, (bool, np.bool_)) or not isinstance(item, (int, np.integer)):
        raise DTypeError(
            f"getitem: an index is an int, slice, None, ... or integers, got {item!r} "
            f"({type(item).__name__})" + core.here()
        )
    return int(item)


def _checked(item: Any, size: int, axis: int, x: Expr) -> int:
    i = _whole(item)
    if not -size <= i < size:
        raise ShapeError(
            f"getitem: index {i} is out of range for axis {axis} of {show(x.shape)}" + core.here()
        )
    return i % size


def _bounds(item: slice, size: Size, x: Expr) -> tuple[int, int, Size]:
    """Where a slice starts, its step and how many elements it has."""
    if isinstance(size, Dim):
        if item in (slice(None), slice(None, None, 1), slice(0, None), slice(0, None, 1)):
            return 0, 1, size
        _refuse(_show(item), size, x)
    try:
        start, stop, step = item.indices(size)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"getitem: {_show(item)}: {error}" + core.here()) from None
    return start, step, len(range(start, stop, step))


def _refuse(item: str, size: Dim, x: Expr) -> NoReturn:
    raise ShapeError(
        f"getitem: [{item}] of an axis of run-time size {size} in {show(x.shape)}: such an axis "
        "takes :, ::-1, 0 and -1" + core.here()
    )


def _show(item: slice) -> str:
    first, last, step = ("" if p is None else str(p) for p in (item.start, item.stop, item.step))
    return f"{first}:{last}" + (f":{step}" if step else "")


def _advanced(x: Expr, items: list[Any]) -> Expr:
    """Integer arrays: one Gather for each. Ints beside arrays are arrays too, as in NumPy."""
    basic = [i if i is None or isinstance(i, slice) else slice(None) for i in items]
    places = [n for n, i in enumerate(items) if i is not None and not isinstance(i, slice)]
    x = _basic(x, basic)
    indices = [as_indices("getitem", items[n], x.shape[n], n) for n in places]
    indices = [core.cast(i, dtypes.promote([j.dtype for j in indices])) for i in indices]
    if len(indices) == 1:
        return Gather.of(x, indices[0], places[0])
    shape = core.broadcast_shapes("getitem", *(i.shape for i in indices))
    indices = [core.broadcast(i, shape) for i in indices]
    x = transpose(x, [*places, *(a for a in range(x.ndim) if a not in places)])
    # The first picks along axis 0; each further one then picks beside what is already picked.
    x = x if _is_range(indices[0], x.shape[0]) else Gather.of(x, indices[0], 0)
    for i in indices[1:]:
        x = Gather.of(x, i, i.ndim, batch=i.ndim)
    if places != list(range(places[0], places[0] + len(places))):
        return x
    # Indices side by side: what they picked stays in their place.
    before = range(len(shape), len(shape) + places[0])
    return transpose(x, [*before, *range(len(shape)), *range(before.stop, x.ndim)])


def _is_range(index: Expr, size: Size) -> bool:
    """Whether the index is 0, 1, 2 ... over the whole axis."""
    if isinstance(index, Iota):
        return index.shape[0] == size
    return (
        isinstance(index, Constant)
        and index.shape == (size,)
        and bool((index.value == np.arange(index.value.size)).all())
    )


def as_indices(op: str, value: Any, size: Size, axis: int) -> Expr:
    """Indices into an axis: expressions as they are; numbers checked, counted from the front."""
    if isinstance(value, Expr) and not isinstance(value, Constant):
        if not dtypes.is_integer(value.dtype):
            raise DTypeError(f"{op}: indices must be integers, got {value.dtype}" + core.here())
        return value
    array = value.value if isinstance(value, Constant) else np.asarray(value)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{op}: indices must be integers, got {array.dtype}" + core.here())
    if array.size:
        low, high = int(array.min()), int(array.max())
        limit = maximum(size)
        if low < -limit or high >= limit or (isinstance(size, Dim) and low < 0):
            raise ShapeError(
                f"{op}: index {low if low < 0 else high} is out of range for axis {axis} of size "
                f"{size}" + core.here()
            )
        if isinstance(size, int):
            array = np.where(array < 0, array + size, array)
    return Constant.of(array, array.dtype if array.dtype.name in ("int32", "int64") else "int64")


# -- picking by indices ---------------------------------------------------------------------------


def take(x: Any, indices: Any, axis: int | None = None) -> Expr:
    """The elements at `indices` along an axis, `x[..., indices, ...]`; axis=None flattens x.

    >>> from symgrad.node import Input
    >>> table, words = Input("table", (100, 8)), Input("words", (2, 5), "int32")
    >>> take(table, words, axis=0).shape
    (2, 5, 8)
    """
    x = core.as_expr("take", x)
    if axis is None:
        x, axis = Reshape.of(x, (x.size,)), 0
    at = core.axis_of("take", axis, x.ndim, x.shape)
    return Gather.of(x, as_indices("take", indices, x.shape[at], at), at)


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Expr:
    """For each line along the axis its own indices: `out[i, j] = x[i, indices[i, j]]` on the last
    of two axes. The other axes broadcast; axis=None flattens both.

    >>> from symgrad.node import Input
    >>> scores, labels = Input("scores", (4, 10)), Input("labels", (4, 1), "int64")
    >>> take_along_axis(scores, labels, axis=1).shape
    (4, 1)
    """
    x = core.as_expr("take_along_axis", x)
    indices = core.as_expr("take_along_axis", indices)
    if axis is None:
        x, indices, axis = Reshape.of(x, (x.size,)), Reshape.of(indices, (indices.size,)), 0
    if x.ndim != indices.ndim:
        raise ShapeError(
            f"take_along_axis: shapes {show(x.shape)} and {show(indices.shape)} have different "
            "numbers of axes" + core.here()
        )
    at = core.axis_of("take_along_axis", axis, x.ndim, x.shape)
    indices = as_indices("take_along_axis", indices, x.shape[at], at)
    x, indices = moveaxis(x, at, x.ndim - 1), moveaxis(indices, at, x.ndim - 1)
    batch = core.broadcast_shapes("take_along_axis", x.shape[:-1], indices.shape[:-1])
    x = core.broadcast(x, (*batch, x.shape[-1]))
    indices = core.broadcast(indices, (*batch, indices.shape[-1]))
    return moveaxis(Gather.of(x, indices, x.ndim - 1, len(batch)), x.ndim - 1, at)


def one_hot(labels: Any, classes: int, dtype: Any = "float32") -> Expr:
    """1 at each label's class and 0 elsewhere, the classes as a new last axis.

    Integer labels, each from 0 to classes - 1: calling a compiled function with another is an
    InputError.

    >>> from symgrad.node import Input
    >>> one_hot(Input("y", (4,), "int32"), 10).shape
    (4, 10)
    """
    y = core.as_expr("one_hot", labels)
    if not dtypes.is_integer(y.dtype):
        raise DTypeError(f"one_hot: labels must be integers, got {y.dtype}" + core.here())
    if isinstance(classes, bool) or not isinstance(classes, (int, np.integer)) or classes < 1:
        raise ShapeError(f"one_hot: classes is a positive int, got {classes!r}" + core.here())
    y = as_indices("one_hot", y, int(classes), y.ndim)
    shape = (*y.shape, int(classes))
    here = core.broadcast(Reshape.of(y, (*y.shape, 1)), shape)
    return core.cast(sp.equal(here, core.broadcast(Iota.of(int(classes), y.dtype), shape)), dtype)


def arange(start: Any, stop: Any = None, step: int = 1, dtype: Any = "int32") -> Expr:
    """start, start + step, ... below stop; one argument, an int or run-time size, counts from 0."""
    if stop is None:
        start, stop = 0, start
    if isinstance(stop, Dim):
        if start != 0 or step != 1:
            raise ShapeError(f"arange: to the run-time size {stop} from 0 by 1 only" + core.here())
        return Iota.of(stop, dtypes.canonical(dtype))
    if start == 0 and step == 1 and isinstance(stop, int):
        return Iota.of(max(stop, 0), dtypes.canonical(dtype))
    return Constant.of(np.arange(start, stop, step), dtype)


# -- which inputs are indices ---------------------------------------------------------------------


def domains(outputs: Iterable[Expr]) -> dict[Input, Domain]:
    """For each integer input used as labels or indices: (low, high, node), low <= value < high.

    `high` may be a run-time size; `node` is the operation that asks for it, and has the user's
    line. Found from the graph: an input, possibly reshaped, repeated or cast, compared with 0, 1,
    2 ... up to the number of classes, or picking along an axis.

    >>> x, y = Input("x", (4, 10)), Input("y", (4,), "int32")
    >>> {i.name: d[:2] for i, d in domains([one_hot(y, 10) * x]).items()}
    {'y': (0, 10)}
    """
    found: dict[Input, Domain] = {}
    order = toposort(outputs)
    scans = [n for n in order if isinstance(n, Scan)]
    cut: dict[Expr, Expr] = {s: e for n in scans for s, e in zip(n.slots, n.sequences)}
    for node in order:
        labels: Expr
        high: Size | None
        if isinstance(node, Gather):
            labels, high = node.args[1], node.args[0].shape[node.axis]
        elif isinstance(node, Map) and node.op == "equal":
            labels, high = node.args[0], _classes(node.args[1])
            if high is None:
                labels, high = node.args[1], _classes(node.args[0])
        else:
            continue
        leaf, also = _input(labels, cut)
        if leaf is None or high is None:
            continue
        known = found.get(leaf)
        if known is not None and also is None:  # not every use leaves this number out
            known = found[leaf] = known._replace(also=None)
        if known is None or maximum(high) < maximum(known.high):
            found[leaf] = Domain(0, high, node, also if known is None else known.also)
    return found


def _bare(e: Expr, cut: Mapping[Expr, Expr] = {}) -> Expr:
    """An expression without moves that keep all its elements; `cut` gives the sequence that a slot
    of a loop is a slice of."""
    while (
        isinstance(e, Reshape)
        or (isinstance(e, Contract) and len(e.args) == 1 and not e.summed)
        or (isinstance(e, Map) and e.op in ("to_int32", "to_int64", "stop_gradient"))
        or e in cut
    ):
        e = cut[e] if e in cut else e.args[0]
    return e


def _input(e: Expr, cut: Mapping[Expr, Expr]) -> tuple[Input | None, int | None]:
    """The input that labels come from, and a number besides them that stands for no label.

    Labels y may be `where(y != k, y, 0)`, those that are k being left out; or mixed with others by
    a condition that depends on no input, such as a random one.
    """
    e = _bare(e, cut)
    if isinstance(e, Input):
        return (e if dtypes.is_integer(e.dtype) else None), None
    if isinstance(e, Map) and e.op == "where":
        condition, first, second = (_bare(a, cut) for a in e.args)
        if isinstance(condition, Map) and condition.op == "not_equal":
            leaf, absent = (_bare(a, cut) for a in condition.args)
            if leaf is first and isinstance(leaf, Input) and isinstance(absent, Constant):
                number = absent.scalar
                return leaf, None if number is None else int(number)
        if not any(isinstance(n, Input) for n in toposort([condition])):
            return _input(first if isinstance(first, Input) else second, cut)
    return None, None


def _classes(e: Expr) -> Size | None:
    e = _bare(e)
    return e.shape[0] if isinstance(e, Iota) else None


OPERATORS.update(getitem=getitem)
