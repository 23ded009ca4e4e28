"""What all operations share: numbers into expressions, promotion, broadcasting, axes.

In: what a user wrote, expressions, arrays, numbers and sizes. Out: expressions of one dtype and one
shape, ready for a node; errors that name the operation, the shapes and the user's line.

>>> from symgrad.node import Input
>>> x = Input("x", (2, 3))
>>> apply("mul", x, 2).dtype
'float32'
>>> apply("add", x, Input("b", (3,))).shape
(2, 3)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from symgrad import dtypes, source
from symgrad.errors import DTypeError, ShapeError
from symgrad.node import Constant, Contract, Expr, Input, Map, Parameter, Reshape, SizeOf
from symgrad.scalar import OPS, is_sympy
from symgrad.sizes import Dim, Shape, Size, show


def here() -> str:
    """The user's line, as the end of a message."""
    return source.quote(source.here())


def called(*operands: Expr) -> str:
    """The names of the operands that have one, for a message: ` (input 'x', parameter 'w')`."""
    found = [f"{e.kind} {e.name!r}" for e in operands if isinstance(e, (Input, Parameter))]
    return f" ({', '.join(found)})" if found else ""


# -- numbers and dtypes --------------------------------------------------------------------------


def _weak(value: Any) -> str | None:
    """The kind of a Python number, which takes the other operand's dtype where it can."""
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, np.integer, Dim)):
        return "int64"
    if isinstance(value, (float, np.floating)):
        return "float32"
    return None


def strong(op: str, value: Any) -> Any:
    """An operand: an expression or a number as it is, an array or list as a constant."""
    if isinstance(value, Expr) or _weak(value) is not None:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value[()] if _weak(value[()]) else _no_number(op, value)
    if isinstance(value, (np.ndarray, list, tuple)):
        if isinstance(value, (list, tuple)) and any(isinstance(v, Expr) for v in _flat(value)):
            from symgrad.ops.shaping import stack

            return stack([as_expr(op, v) for v in value])
        array = np.asarray(value)
        if array.dtype.kind not in "bif" and array.dtype.kind != "u":
            _no_number(op, value)
        if array.dtype.kind == "u" or array.dtype.name in ("int8", "int16"):
            array = array.astype("int64")
        if array.dtype.name == "float16" or not isinstance(value, np.ndarray):
            array = array.astype("float32") if array.dtype.kind == "f" else array
        return Constant.of(array)
    return _no_number(op, value)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [leaf for v in value for leaf in _flat(v)]
    return [value]


def _no_number(op: str, value: Any) -> Any:
    text = repr(value)
    text = text if len(text) < 60 else text[:57] + "..."
    raise DTypeError(
        f"{op}: takes expressions, arrays and numbers, got {text} ({type(value).__name__})" + here()
    )


def common_dtype(op: str, values: Sequence[Any]) -> str:
    """The dtype operands are brought to: as in NumPy, Python numbers do not widen."""
    found = [v.dtype for v in values if isinstance(v, Expr)]
    weak = [w for v in values if not isinstance(v, Expr) and (w := _weak(v))]
    if not found:
        return dtypes.promote(weak)
    result = dtypes.promote(found)
    kind = dtypes.promote(weak) if weak else "bool"
    if dtypes.is_float(kind) and not dtypes.is_float(result):
        return "float32"
    return "int64" if kind == "int64" and result == "bool" else result


def cast(x: Any, dtype: Any) -> Expr:
    """The elements as another dtype; floats become integers toward zero.

    >>> from symgrad.node import Input
    >>> cast(Input("x", (2,)), "int32").dtype
    'int32'
    """
    dtype = dtypes.canonical(dtype)
    x = strong("cast", x)
    if not isinstance(x, Expr):
        return SizeOf.of(x, dtype) if isinstance(x, Dim) else Constant.of(x, dtype)
    if x.dtype == dtype:
        return x
    if isinstance(x, Constant):
        numpy = OPS[f"to_{dtype}"].numpy
        assert numpy is not None
        with np.errstate(all="ignore"):
            return Constant.of(numpy(x.value), dtype)
    if isinstance(x, SizeOf):
        return SizeOf.of(x.of_size, dtype)  # type: ignore[no-any-return]
    return Map.of(f"to_{dtype}", x)


def as_expr(op: str, value: Any) -> Expr:
    """One operand as an expression; a bare float is float32, a bare int int64."""
    value = strong(op, value)
    if isinstance(value, Expr):
        return value
    return cast(value, _weak(value))


def as_float(op: str, value: Any) -> Expr:
    """One operand as floats: integers and bools become float32."""
    value = as_expr(op, value)
    return value if dtypes.is_float(value.dtype) else cast(value, "float32")


def unify(op: str, values: Sequence[Any], at_least: str | None = None) -> list[Expr]:
    """Operands brought to one dtype."""
    operands = [strong(op, v) for v in values]
    dtype = common_dtype(op, operands)
    if at_least is not None:
        dtype = dtypes.promote([dtype, at_least])
    return [_to(op, v, dtype) for v in operands]


def _to(op: str, value: Any, dtype: str) -> Expr:
    if isinstance(value, int) and dtypes.is_integer(dtype):
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise DTypeError(f"{op}: {value} does not fit {dtype}" + here())
    return cast(value, dtype)


# -- shapes --------------------------------------------------------------------------------------


def axis_of(op: str, axis: Any, ndim: int, shape: Shape | None = None) -> int:
    """An axis counted from the front."""
    if isinstance(axis, (bool, np.bool_)) or not isinstance(axis, (int, np.integer)):
        raise ShapeError(f"{op}: an axis is an int, got {axis!r}" + here())
    if not -ndim <= axis < ndim:
        of = f"shape {show(shape)}" if shape is not None else f"{ndim} axes"
        raise ShapeError(f"{op}: axis {axis} is out of range for {of}" + here())
    return int(axis) % ndim


def axes_of(op: str, axis: Any, x: Expr) -> tuple[int, ...]:
    """The axes meant by int, tuple or None (all), counted from the front, sorted."""
    if axis is None:
        return tuple(range(x.ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(sorted(axis_of(op, a, x.ndim, x.shape) for a in given))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: axis {axis} names one twice, shape {show(x.shape)}" + here())
    return axes


def broadcast_shapes(op: str, *shapes: Shape, operands: Sequence[Expr] = ()) -> Shape:
    """NumPy's rule: aligned at the end, 1 fits everything. `operands` are named in the error."""
    ndim = max(map(len, shapes), default=0)
    result: list[Size] = [1] * ndim
    for shape in shapes:
        for i, size in enumerate(shape, ndim - len(shape)):
            if result[i] == 1:
                result[i] = size
            elif size != 1 and size != result[i]:
                listed = " and ".join(show(s) for s in shapes)
                raise ShapeError(
                    f"{op}: shapes {listed} do not fit, sizes {result[i]} and {size} differ"
                    + called(*operands)
                    + here()
                )
    return tuple(result)


def broadcast(x: Expr, shape: Shape) -> Expr:
    """The expression repeated to a shape that its own is known to fit."""
    if x.shape == shape:
        return x
    skip = len(shape) - x.ndim
    keep = [i for i, size in enumerate(x.shape) if size == shape[i + skip] and size != 1]
    labels = [i + skip for i in keep]
    x = Reshape.of(x, tuple(x.shape[i] for i in keep))
    return Contract.of([labels], range(len(shape)), x, sizes=dict(enumerate(shape)))


def together(op: str, values: Sequence[Expr]) -> list[Expr]:
    """Operands of one shape, as Map takes them: what has one element stays 0-d."""
    shape = broadcast_shapes(op, *(v.shape for v in values), operands=values)
    result = []
    for v in values:
        if v.shape != shape and all(s == 1 for s in v.shape):
            v = Reshape.of(v, ())
        result.append(v if v.shape == () else broadcast(v, shape))
    if shape and not any(v.shape for v in result):
        result[0] = broadcast(result[0], shape)
    return result


def apply(name: str, *values: Any) -> Expr:
    """An op of the table on whatever a user writes: lifted, promoted, broadcast."""
    op = OPS[name]
    if len(values) != op.arity:
        raise TypeError(f"{name}: takes {op.arity} arguments, got {len(values)}")
    if any(is_sympy(v) for v in values):
        return op.sympy(*values)  # type: ignore[no-any-return]
    args = _arguments(name, op.rule, values)
    return Map.of(name, *together(name, args))


def _arguments(name: str, rule: str, values: Sequence[Any]) -> list[Expr]:
    """Operands of the dtypes the rule asks for."""
    if rule == "bool":
        return [cast(strong(name, v), "bool") for v in values]
    if rule == "cast":
        return [as_expr(name, v) for v in values]
    if rule == "where":
        return [cast(strong(name, values[0]), "bool"), *unify(name, values[1:])]
    args = unify(name, values)
    if rule == "float" and not dtypes.is_float(args[0].dtype):
        return [cast(a, "float32") for a in args]
    if rule == "number" and args[0].dtype == "bool":
        return [cast(a, "int64") for a in args]
    return args
