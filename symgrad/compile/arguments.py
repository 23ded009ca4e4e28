"""From what a caller hands in to arrays the compiled code can read, or one clear InputError.

In: positional and named values. Out: C-contiguous arrays of the declared dtypes in the order of
the inputs, and the value of every run-time size. This is the slow path of a call and the place of
all its error messages; native code takes arguments that fit as they are.

>>> bind(inputs, (X,), {"y": Y})
([array(...), array(...)], {"batch": 64})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from symgrad import dtypes, source
from symgrad.errors import InputError
from symgrad.node import Expr
from symgrad.ops.indexing import Domain
from symgrad.sizes import Dim, show
from symgrad.sizes import value as size_now

Array = np.ndarray[Any, Any]


class located:  # noqa: N801 - used as a function
    """Errors inside that quote no line end with the user's own: that of the call."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if isinstance(error, InputError) and "\n  at " not in str(error):
            raise InputError(f"{error}{source.quote(source.here())}") from None


def bind(
    inputs: Sequence[Expr], args: Sequence[Any], named: Mapping[str, Any]
) -> tuple[list[Array], dict[str, int]]:
    """Checked arrays in the order of the inputs, and the run-time sizes."""
    with located():
        values = match(inputs, args, named)
        arrays = [convert(leaf, value) for leaf, value in zip(inputs, values)]
        return arrays, measure(inputs, arrays)


def match(inputs: Sequence[Expr], args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    """One value for every input."""
    names = [leaf.name for leaf in inputs]
    if len(args) > len(names):
        raise InputError(f"{len(args)} inputs given, takes {len(names)}: {_listed(names)}")
    values = dict(zip(names, args))
    for name, value in named.items():
        if name not in names:
            raise InputError(f"no input is named {name!r}; the inputs are {_listed(names)}")
        if name in values:
            raise InputError(f"input {name!r} is given twice, by position and by name")
        values[name] = value
    missing = [name for name in names if name not in values]
    if missing:
        raise InputError(f"missing input {_listed(missing)}; the inputs are {_listed(names)}")
    return [values[name] for name in names]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) if names else "none"


def convert(leaf: Expr, value: Any) -> Array:
    """A value as an array of the input's dtype (NumPy's same_kind rule), copied only if it must."""
    array = as_array(leaf, value)
    number = array.ndim == 0 and isinstance(value, (int, float)) and not isinstance(value, bool)
    if array.dtype != leaf.dtype:
        allowed = np.can_cast(array.dtype, leaf.dtype, "same_kind")
        if number and array.dtype.kind in "iu":
            allowed = dtypes.is_float(leaf.dtype) or dtypes.is_integer(leaf.dtype)
        if not allowed:
            raise InputError(
                f"input {leaf.name!r} is {leaf.dtype}, the value given {array.dtype}: convert it "
                f"yourself if that is meant, with .astype({leaf.dtype!r})"
            )
        array = _cast(leaf, array)
    return np.require(array, None, ["C", "A"])


def as_array(leaf: Expr, value: Any) -> Array:
    if isinstance(value, Expr):
        raise InputError(f"input {leaf.name!r}: expected an array, got the expression {value!r}")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"input {leaf.name!r}: not an array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"input {leaf.name!r} is {leaf.dtype}, the value given {array.dtype}"
            + (f" ({type(value).__name__})" if array.dtype.kind == "O" else "")
        )
    return array


def _cast(leaf: Expr, array: Array) -> Array:
    """To the declared dtype; integers that do not fit are an error, not another number."""
    if dtypes.is_integer(leaf.dtype) and array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(leaf.dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            bad = low if low < limits.min else high
            raise InputError(f"input {leaf.name!r} is {leaf.dtype}, which cannot hold {bad}")
    with np.errstate(over="ignore"):
        return array.astype(leaf.dtype)


def measure(inputs: Sequence[Expr], arrays: Sequence[Array]) -> dict[str, int]:
    """The run-time sizes that the arrays' shapes give; every other size must be as declared."""
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    for leaf, array in zip(inputs, arrays):
        if array.ndim != leaf.ndim:
            raise _shape_error(leaf, array)
        for axis, (size, extent) in enumerate(zip(leaf.shape, array.shape)):
            if not isinstance(size, Dim):
                if size != extent:
                    raise _shape_error(leaf, array)
                continue
            if extent % size.factor:
                raise InputError(
                    f"input {leaf.name!r} has shape {show(leaf.shape)}, the value given "
                    f"{show(array.shape)}: axis {axis} must be a multiple of {size.factor}"
                )
            count = extent // size.factor
            if not 1 <= count <= size.max:
                raise InputError(
                    f"input {leaf.name!r} has shape {show(leaf.shape)}, the value given "
                    f"{show(array.shape)}: {size.name} = {count} is outside 1..{size.max}, "
                    f"declared as sg.dim({size.name!r}, max={size.max})"
                )
            if sizes.setdefault(size.name, count) != count:
                raise InputError(
                    f"inputs {origin[size.name]!r} and {leaf.name!r} disagree about "
                    f"{size.name}: {sizes[size.name]} and {count}"
                )
            origin.setdefault(size.name, leaf.name)
    return sizes


def _shape_error(leaf: Expr, array: Array) -> InputError:
    return InputError(
        f"input {leaf.name!r} has shape {show(leaf.shape)}, the value given {show(array.shape)}"
    )


def check_domains(
    domains: Mapping[Expr, Domain],
    inputs: Sequence[Expr],
    arrays: Sequence[Array],
    sizes: Mapping[str, int],
) -> None:
    """Labels and indices within the range in which they are used."""
    for leaf, array in zip(inputs, arrays):
        if leaf not in domains or not array.size:
            continue
        low, limit, node, also = domains[leaf]
        high = size_now(limit, dict(sizes)) - 1
        labels = array if also is None else array[array != also]
        if not labels.size:
            continue
        least, most = int(labels.min()), int(labels.max())
        if least < low or most > high:
            bad = least if least < low else most
            at = tuple(int(i) for i in np.argwhere(array == bad)[0])
            where = f"[{', '.join(map(str, at))}]" if at else ""
            raise InputError(
                f"input {leaf.name!r}{where} is {bad}: as a label or an index it must be in "
                f"{low}..{high}"
                + ("" if also is None else f" or {also}")
                + source.quote(node.where)
            )
