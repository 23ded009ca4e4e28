"""Reductions: sums and what is made of them, extremes, products, running sums.

In: an expression, `axis` (an int, a tuple or None for all; negative counts from the end) and
`keepdims`. Out: an expression without those axes, or with 1 in their place.

>>> from symgrad.node import Input
>>> x = Input("x", (2, 3))
>>> mean(x, axis=-1, keepdims=True).shape
(2, 1)
"""

from __future__ import annotations

import builtins
import math
from typing import Any

from symgrad import dtypes
from symgrad.errors import ShapeError
from symgrad.node import OPERATORS, Constant, Contract, Expr, Reduce, Reshape
from symgrad.ops import core
from symgrad.scalar import sp
from symgrad.sizes import Dim, product, show, single


def _kept(result: Expr, x: Expr, axes: tuple[int, ...], keepdims: bool) -> Expr:
    """The result with 1 in place of every reduced axis, if that is wanted."""
    if not keepdims:
        return result
    return Reshape.of(result, tuple(1 if i in axes else s for i, s in enumerate(x.shape)))


def _total(x: Expr, axes: tuple[int, ...]) -> Expr:
    if not axes:
        return x
    return Contract.of([range(x.ndim)], [i for i in range(x.ndim) if i not in axes], x)


def _wide(op: str, x: Any) -> Expr:
    """Bools and int32 are added and multiplied as int64, as in NumPy."""
    x = core.as_expr(op, x)
    return x if dtypes.is_float(x.dtype) else core.cast(x, "int64")


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:  # noqa: A001 - NumPy's name
    """The sum over the axes; integers and bools are summed as int64.

    >>> from symgrad.node import Input
    >>> sum(Input("x", (2, 3)), axis=1).shape
    (2,)
    """
    x = _wide("sum", x)
    axes = core.axes_of("sum", axis, x)
    return _kept(_total(x, axes), x, axes, keepdims)


def _count(x: Expr, axes: tuple[int, ...]) -> Any:
    """The number of elements along the axes: a size, or an expression where sizes of several
    run-time axes are multiplied."""
    sizes = tuple(x.shape[i] for i in axes)
    count: Any = single(sizes)
    if count is not None:
        return count
    count = product(tuple(s for s in sizes if isinstance(s, int)))
    for size in sizes:
        if isinstance(size, Dim):
            count = core.cast(size, x.dtype) * count
    return count


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """The mean over the axes, sum * (1 / size); integers and bools give float32.

    A run-time size takes part with its value at each call.
    """
    x = core.as_float("mean", x)
    axes = core.axes_of("mean", axis, x)
    return _kept(_mean(x, axes, 0), x, axes, keepdims)


def _mean(x: Expr, axes: tuple[int, ...], less: float) -> Expr:
    """sum / (size - less)."""
    size, total = _count(x, axes), _total(x, axes)
    if not isinstance(size, int):
        number = core.cast(size, x.dtype)
        return total * (1 / (number - less if less else number))
    left = builtins.max(size - less, 0)
    return total * Constant.of(1 / left if left else math.inf, x.dtype)


def var(
    x: Any, axis: Any = None, keepdims: bool = False, ddof: float = 0, correction: Any = None
) -> Expr:
    """The variance, mean((x - mean(x))**2); `ddof` (or `correction`) is taken off the size.

    ddof=0 is NumPy's default; PyTorch's is 1.
    """
    x = core.as_float("var", x)
    axes = core.axes_of("var", axis, x)
    centred = x - _kept(_mean(x, axes, 0), x, axes, True)
    less = ddof if correction is None else correction
    return _kept(_mean(sp.square(centred), axes, less), x, axes, keepdims)


def std(
    x: Any, axis: Any = None, keepdims: bool = False, ddof: float = 0, correction: Any = None
) -> Expr:
    """The standard deviation, sqrt(var)."""
    return sp.sqrt(var(x, axis, keepdims, ddof, correction))  # type: ignore[no-any-return]


def _reduce(law: str, x: Expr, axis: Any, keepdims: bool) -> Expr:
    axes = core.axes_of(law, axis, x)
    if law != "prod" and 0 in [x.shape[a] for a in axes]:
        raise ShapeError(f"{law}: an empty axis in {show(x.shape)} has no {law}" + core.here())
    return _kept(Reduce.of(law, x, axes) if axes else x, x, axes, keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:  # noqa: A001 - NumPy's name
    """The largest element; NaN when there is one. Its gradient is split evenly among ties."""
    return _reduce("max", core.as_expr("max", x), axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:  # noqa: A001 - NumPy's name
    """The smallest element; NaN when there is one. Its gradient is split evenly among ties."""
    return _reduce("min", core.as_expr("min", x), axis, keepdims)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """The product over the axes."""
    return _reduce("prod", _wide("prod", x), axis, keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:  # noqa: A001 - NumPy's name
    """Whether an element is true."""
    return _reduce("max", core.cast(core.as_expr("any", x), "bool"), axis, keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:  # noqa: A001 - NumPy's name
    """Whether every element is true."""
    return _reduce("min", core.cast(core.as_expr("all", x), "bool"), axis, keepdims)


def _position(law: str, x: Any, axis: Any, keepdims: bool) -> Expr:
    x = core.as_expr(law, x)
    if x.dtype == "bool":
        x = core.cast(x, "int32")
    flat = Reshape.of(x, (x.size,)) if axis is None else x
    at = 0 if axis is None else core.axis_of(law, axis, x.ndim, x.shape)
    if flat.shape[at] == 0:
        raise ShapeError(f"{law}: an empty axis in {show(x.shape)} has no {law}" + core.here())
    result = Reduce.of(law, flat, (at,))
    return _kept(result, x, tuple(range(x.ndim)) if axis is None else (at,), keepdims)


def argmax(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """The index of the (first) largest element as int64; axis=None counts through the flat array.

    >>> from symgrad.node import Input
    >>> argmax(Input("x", (2, 3)), axis=1).dtype
    'int64'
    """
    return _position("argmax", x, axis, keepdims)


def argmin(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """The index of the (first) smallest element as int64."""
    return _position("argmin", x, axis, keepdims)


def cumsum(x: Any, axis: Any = None) -> Expr:
    """Running sums along an axis; axis=None runs through the flat array."""
    x = _wide("cumsum", x)
    if axis is None:
        x = Reshape.of(x, (x.size,))
        axis = 0
    return Reduce.of("cumsum", x, (core.axis_of("cumsum", axis, x.ndim, x.shape),))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Expr:
    """log(sum(exp(x))), written as that; compiling shifts x by its largest element."""
    x = core.as_float("logsumexp", x)
    axes = core.axes_of("logsumexp", axis, x)
    return _kept(sp.log(_total(sp.exp(x), axes)), x, axes, keepdims)


def norm(x: Any, ord: Any = 2, axis: Any = None, keepdims: bool = False) -> Expr:  # noqa: A002
    """The vector norm over the axes: (sum |x|**ord)**(1/ord); inf and -inf are the extremes, 0
    counts what is not zero. axis=None takes all elements as one vector (Frobenius for a matrix).

    The gradient of the 2-norm at zero is zero.
    """
    x = core.as_float("norm", x)
    if ord in (None, "fro"):
        ord = 2  # noqa: A001
    if isinstance(ord, bool) or not isinstance(ord, (int, float)):
        raise ShapeError(f"norm: ord is a number or 'fro', got {ord!r}" + core.here())
    axes = core.axes_of("norm", axis, x)
    if math.isinf(ord):
        return _reduce("max" if ord > 0 else "min", sp.abs(x), axes, keepdims)
    if ord == 0:
        result = _total(core.cast(sp.not_equal(x, 0), x.dtype), axes)
    elif ord == 1:
        result = _total(sp.abs(x), axes)
    elif ord == 2:
        result = sp.sqrt_or_zero(_total(sp.square(x), axes))
    else:
        result = _total(sp.abs(x) ** ord, axes) ** (1 / ord)
    return _kept(result, x, axes, keepdims)


OPERATORS.update(sum=sum, mean=mean)
