"""The few expressions that derivative rules are made of: products, sums, spreads, fills.

In: nodes. Out: nodes, with the trivial cases (times one, plus nothing) left out so that a
derivative is readable before any rewriting.

>>> spread(bias, (0,), (32, 10))    # a 0-d or lower-rank value repeated over leading axes
"""

from __future__ import annotations

from typing import Sequence

from symgrad import dtypes
from symgrad.node import AxisMap, Constant, Contract, Expr, Iota, Map, Reindex, Reshape
from symgrad.sizes import Dim, Shape, Size

IDENTITY = 1  # divisor and coefficient of an axis map that copies an axis


def constant(value: float, dtype: str) -> Constant:
    return Constant.of(value, dtype)


def fill(value: float, shape: Shape, dtype: str) -> Expr:
    """`value` in every element."""
    number = constant(value, dtype)
    if not shape:
        return number
    axes = range(len(shape))
    return Contract.of([()], axes, number, sizes=dict(zip(axes, shape)))


def zeros(shape: Shape, dtype: str) -> Expr:
    return fill(0, shape, dtype)


def _number(e: Expr) -> float | None:
    """The value of a 0-d constant."""
    if isinstance(e, Constant) and not e.shape:
        return e.scalar
    return None


def cast(e: Expr, dtype: str) -> Expr:
    return e if e.dtype == dtype else Map.of(f"to_{dtype}", e)


def neg(e: Expr) -> Expr:
    number = _number(e)
    return constant(-number, e.dtype) if number is not None else Map.of("neg", e)


def _one_for_all(e: Expr, other: Expr) -> Expr:
    """A number repeated into the other operand's shape as the number: it stands for every one."""
    if isinstance(e, Contract) and e.ins == ((),) and e.shape == other.shape:
        return e.args[0]
    return e


def mul(a: Expr, b: Expr) -> Expr:
    """Elementwise product in `a`'s dtype; a 0-d operand stands for every element."""
    b = cast(b, a.dtype)
    a = _one_for_all(a, b)
    b = _one_for_all(b, a)
    for one, other in ((a, b), (b, a)):
        number = _number(one)
        if number == 1:
            return other
        if number == -1:
            return neg(other)
    return Map.of("mul", a, b)


def add(a: Expr, b: Expr) -> Expr:
    return Map.of("add", a, b)


def total(parts: Sequence[Expr]) -> Expr:
    """The sum of the parts; a part that comes n times is multiplied by n."""
    counts: dict[int, int] = {}
    for part in parts:
        counts[id(part)] = counts.get(id(part), 0) + 1
    result: Expr | None = None
    for part in parts:
        times = counts.pop(id(part), 0)
        if not times:
            continue
        term = part if times == 1 else mul(part, constant(times, part.dtype))
        result = term if result is None else add(result, term)
    assert result is not None
    return result


def sum_axes(e: Expr, axes: Sequence[int]) -> Expr:
    """The sum over some axes."""
    if not axes:
        return e
    every = range(e.ndim)
    return Contract.of([every], [k for k in every if k not in axes], e)


def contract(ins: Sequence[Sequence[int]], out: Sequence[int], *args: Expr) -> Expr:
    return Contract.of(ins, out, *args)


def transpose(e: Expr, order: Sequence[int]) -> Expr:
    """Axis `order[i]` of `e` becomes axis i."""
    if list(order) == list(range(e.ndim)):
        return e
    return Contract.of([range(e.ndim)], order, e)


def spread(e: Expr, axes: Sequence[int], shape: Shape) -> Expr:
    """`e` repeated into `shape`; its own axis i becomes axis `axes[i]`."""
    if tuple(axes) == tuple(range(len(shape))):
        return e
    return Contract.of([axes], range(len(shape)), e, sizes=dict(enumerate(shape)))


def unreduce(e: Expr, axes: Sequence[int], shape: Shape) -> Expr:
    """`e`, a reduction of `shape` over `axes`, repeated along them."""
    return spread(e, [k for k in range(len(shape)) if k not in axes], shape)


def with_unit_axes(e: Expr, count: int) -> Expr:
    """`e` with `count` axes of size 1 behind the others."""
    if count == 0:
        return e
    shape = e.shape + (1,) * count
    if sum(isinstance(s, Dim) for s in e.shape) <= 1:
        return Reshape.of(e, shape)
    return spread(e, range(e.ndim), shape)


def shift(e: Expr, axis: int, steps: int, filler: float) -> Expr:
    """`out[i] = e[i - steps]` along one axis, `filler` where that leaves `e`."""
    maps: list[AxisMap] = [(0, ((k, IDENTITY),), IDENTITY) for k in range(e.ndim)]
    maps[axis] = (-steps, ((axis, IDENTITY),), IDENTITY)
    return Reindex.of(e, maps, e.shape, filler)


def flip(e: Expr, axis: int, size: int) -> Expr:
    maps: list[AxisMap] = [(0, ((k, IDENTITY),), IDENTITY) for k in range(e.ndim)]
    maps[axis] = (size - 1, ((axis, -1),), IDENTITY)
    return Reindex.of(e, maps, e.shape)


def eye(size: Size, dtype: str) -> Expr:
    """The identity matrix."""
    count = Iota.of(size)
    rows = Contract.of([[0]], [0, 1], count, sizes={1: size})
    columns = Contract.of([[1]], [0, 1], count, sizes={0: size})
    return cast(Map.of("equal", rows, columns), dtype)


def identity(shape: Shape, dtype: str) -> Expr:
    """The identity of arrays of `shape`, as an array of `shape + shape`."""
    n = len(shape)
    if n == 0:
        return constant(1, dtype)
    deltas = [eye(size, dtype) for size in shape]
    return Contract.of([[k, n + k] for k in range(n)], range(2 * n), *deltas)


def is_float(e: Expr) -> bool:
    return dtypes.is_float(e.dtype)
