"""Expression nodes: frozen, interned, checked when built.

    Expr = Input | Parameter | State                    leaves, identified by object
         | Constant(value) | SizeOf(size) | Iota(size)  leaves, identified by value
         | Random(kind, stream)                         Philox numbers of (seed, step, stream)
         | Map(op, args)                                scalar function, elementwise
         | Contract(ins, out, args)                     product, then sum over missing indices
         | Reduce(kind, axes, arg)                      max, min, prod, argmax, argmin, cumsum
         | Reindex(maps, fill, arg)                     affine index map: slice, pad, flip, window
         | Reshape(arg)                                 same elements in row-major order
         | Gather(axis, arg, indices) | ScatterAdd(axis, values, indices)
         | Custom(rule, value, args)                    value with a user's own derivative
         | Scan(loop, result)                           one result of a loop over its body, whose
                                                        Slot leaves are slices and carries

Structural equality is `is`: building the same expression twice gives the same object, so common
subexpressions are shared the moment they are built.

>>> x = Input("x", (2, 3), "float32")
>>> Map.of("exp", x) is Map.of("exp", x)
True
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Callable, Iterable, Sequence

from symgrad import dtypes, source
from symgrad.errors import DTypeError, ShapeError
from symgrad.expr import OPERATORS, Expr, intern, rebuilt
from symgrad.leaves import (
    AUTOMATIC,
    Constant,
    Input,
    Iota,
    Leaf,
    Parameter,
    Random,
    SizeOf,
    Slot,
    State,
    check_shape,
)
from symgrad.loop import Loop, Scan, operands_first, results
from symgrad.sizes import Dim, Shape, Size, amount, count, show

__all__ = [
    "AUTOMATIC", "OPERATORS", "AxisMap", "Constant", "Contract", "Custom", "Expr", "Gather",
    "Indices", "Input", "Iota", "Leaf", "Loop", "Map", "Parameter", "Random", "Reduce",
    "Reindex", "Reshape", "Scan", "ScatterAdd", "SizeOf", "Slot", "State", "count_elements",
    "rebuilt", "toposort",
]  # fmt: skip


class Map(Expr):
    """A scalar function of the op table, elementwise.

    All arguments have the result's shape, except that a 0-d argument stands for every element.
    """

    __slots__ = ()
    kind = "map"

    @classmethod
    def of(cls, op: str, *args: Expr) -> Map:
        from symgrad import scalar

        declared = scalar.OPS[op]
        if len(args) != declared.arity:
            raise TypeError(f"{op}: takes {declared.arity} arguments, got {len(args)}")
        shape: Shape = ()
        for a in args:
            if a.shape and shape and a.shape != shape:
                shapes = " and ".join(show(a.shape) for a in args)
                raise ShapeError(f"{op}: shapes {shapes} differ" + source.quote(source.here()))
            shape = a.shape or shape
        dtype = declared.result_dtype(op, [a.dtype for a in args])
        return intern(cls, tuple(args), (op,), shape, dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return Map.of(self.op, *args)

    @property
    def op(self) -> str:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        return self.op


Indices = tuple[int, ...]


class Contract(Expr):
    """Product of the operands, summed over indices missing in the output, broadcast over extra.

    `ins` and `out` label axes with small ints; `spec` shows them as letters, `"ik,kj->ij"`.
    """

    __slots__ = ()
    kind = "contract"

    @classmethod
    def of(
        cls,
        ins: Sequence[Sequence[int]],
        out: Sequence[int],
        *args: Expr,
        sizes: dict[int, Size] | None = None,
    ) -> Contract:
        """`sizes` gives the sizes of output indices that no operand has."""
        extents: dict[int, Size] = dict(sizes or {})
        for labels, arg in zip(ins, args):
            if len(labels) != arg.ndim or len(set(labels)) != len(labels):
                raise ShapeError(
                    f"contract {cls._letters(ins, out)}: labels do not fit {show(arg.shape)}"
                )
            for label, size in zip(labels, arg.shape):
                if extents.setdefault(label, size) != size:
                    raise ShapeError(
                        f"contract {cls._letters(ins, out)}: sizes {extents[label]} and {size} of "
                        f"one index differ, shapes {' and '.join(show(a.shape) for a in args)}"
                        + source.quote(source.here())
                    )
        if len({a.dtype for a in args}) != 1:
            raise DTypeError(f"contract: dtypes {', '.join(a.dtype for a in args)} differ")
        order = {k: i for i, k in enumerate(dict.fromkeys([*itertools.chain(*ins), *out]))}
        ins_ = tuple(tuple(order[k] for k in labels) for labels in ins)
        out_ = tuple(order[k] for k in out)
        shape = tuple(extents[k] for k in out)
        view = len(args) == 1 and all(k in out_ for k in ins_[0])
        dtype = "int64" if args[0].dtype == "bool" and not view else args[0].dtype  # it counts
        return intern(cls, tuple(args), (ins_, out_, shape), shape, dtype)  # type: ignore[no-any-return]

    @classmethod
    def parse(cls, spec: str, *args: Expr, sizes: dict[str, Size] | None = None) -> Contract:
        """The same from letters: `Contract.parse("ik,kj->ij", a, b)`."""
        left, out = spec.replace(" ", "").split("->")
        named = {ord(k): v for k, v in (sizes or {}).items()}
        return cls.of(
            [[*map(ord, s)] for s in left.split(",")], [*map(ord, out)], *args, sizes=named
        )

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return Contract.of(self.ins, self.out, *args, sizes=dict(zip(self.out, self.shape)))

    @property
    def ins(self) -> tuple[Indices, ...]:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def out(self) -> Indices:
        return self.attrs[1]  # type: ignore[no-any-return]

    @property
    def extents(self) -> dict[int, Size]:
        """The size of every index."""
        found = dict(zip(self.out, self.shape))
        for labels, arg in zip(self.ins, self.args):
            found.update(zip(labels, arg.shape))
        return found

    @property
    def summed(self) -> Indices:
        """Indices of the operands that the output lacks, in order of appearance."""
        return tuple(dict.fromkeys(k for s in self.ins for k in s if k not in self.out))

    @staticmethod
    def _letters(ins: Sequence[Sequence[int]], out: Sequence[int]) -> str:
        names: dict[int, str] = {}

        def text(labels: Sequence[int]) -> str:
            return "".join(names.setdefault(k, chr(ord("i") + len(names))) for k in labels)

        return ",".join(map(text, ins)) + "->" + text(out)

    @property
    def spec(self) -> str:
        return self._letters(self.ins, self.out)

    @property
    def name(self) -> str:
        return f"contract {self.spec}"


class Reduce(Expr):
    """A reduction that is no sum: max, min, prod, argmax, argmin, any, all; or a running cumsum.

    `argmax` and `argmin` take one axis and give int64; `cumsum` takes one axis and keeps the shape.
    """

    __slots__ = ()
    kind = "reduce"
    LAWS = ("max", "min", "prod", "argmax", "argmin", "cumsum")

    @classmethod
    def of(cls, law: str, arg: Expr, axes: Sequence[int]) -> Reduce:
        axes = tuple(sorted(axes))
        shape = tuple(s for i, s in enumerate(arg.shape) if i not in axes)
        dtype = arg.dtype
        if law in ("argmax", "argmin"):
            dtype = "int64"
        elif law == "cumsum":
            shape = arg.shape
        elif law not in cls.LAWS:
            raise ValueError(f"reduce: unknown law {law!r}")
        if law in ("argmax", "argmin", "cumsum") and len(axes) != 1:
            raise ShapeError(f"{law}: takes one axis, got {axes}" + source.quote(source.here()))
        if law not in ("prod", "cumsum") and any(arg.shape[a] == 0 for a in axes):
            raise ShapeError(f"{law}: an empty axis in {show(arg.shape)} has no {law}")
        return intern(cls, (arg,), (law, axes), shape, dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return Reduce.of(self.law, args[0], self.axes)

    @property
    def law(self) -> str:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def axes(self) -> tuple[int, ...]:
        return self.attrs[1]  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        return self.law


# One input axis as a function of the output index o: (offset + sum coef * o[axis]) / divisor.
# Where the division leaves a remainder, or the index falls outside, the element is the fill.
AxisMap = tuple[int, tuple[tuple[int, int], ...], int]


class Reindex(Expr):
    """`out[o] = arg[map(o)]`, the fill value where the map leaves the operand.

    One `AxisMap` for every axis of the operand. Slices, padding, flips, strides and windows; the
    divisor is for the adjoint of a stride (a dilation).
    """

    __slots__ = ()
    kind = "reindex"

    @classmethod
    def of(
        cls, arg: Expr, maps: Sequence[AxisMap], shape: Any, fill: float | int | bool = 0
    ) -> Reindex:
        shape = check_shape("reindex", shape)
        if len(maps) != arg.ndim:
            raise ShapeError(f"reindex: {len(maps)} axis maps for shape {show(arg.shape)}")
        maps = tuple((int(o), tuple((int(a), int(c)) for a, c in t), int(d)) for o, t, d in maps)
        return intern(cls, (arg,), (maps, shape, fill), shape, arg.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return Reindex.of(args[0], self.maps, self.shape, self.fill)

    @property
    def maps(self) -> tuple[AxisMap, ...]:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def fill(self) -> float | int | bool:
        return self.attrs[2]  # type: ignore[no-any-return]

    def inside(self, axis: int) -> bool:
        """True when the map of this axis never leaves the operand (no fill can appear)."""
        offset, terms, divisor = self.maps[axis]
        size = self.args[0].shape[axis]
        if divisor != 1:
            return False
        if isinstance(size, Dim):
            return offset == 0 and len(terms) == 1 and self.shape[terms[0][0]] == size
        low = high = offset
        for out_axis, coef in terms:
            extent = self.shape[out_axis]
            if isinstance(extent, Dim):
                return False
            low, high = low + min(0, coef * (extent - 1)), high + max(0, coef * (extent - 1))
        return 0 <= low and high < size


class Reshape(Expr):
    """The same elements in row-major order under another shape."""

    __slots__ = ()
    kind = "reshape"

    @classmethod
    def of(cls, arg: Expr, shape: Any) -> Expr:
        shape = check_shape("reshape", shape)
        if count(shape) != count(arg.shape):
            raise ShapeError(
                f"reshape: {show(arg.shape)} has {amount(arg.shape)} elements, "
                f"{show(shape)} has {amount(shape)}" + source.quote(source.here())
            )
        if isinstance(arg, Reshape):
            arg = arg.args[0]
        if shape == arg.shape:
            return arg
        return intern(cls, (arg,), (shape,), shape, arg.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return Reshape.of(args[0], self.shape)


class Gather(Expr):
    """Elements picked by an integer array along one axis.

    With `batch` leading axes of both, `out[b.., p.., i.., q..] = arg[b.., p.., j, q..]` where
    j = idx[b.., i..]; `axis >= batch` counts from the front of `arg`, p are its axes between batch
    and axis, q those behind it. `take` has batch 0, `take_along_axis` on the last axis ndim-1.
    """

    __slots__ = ()
    kind = "gather"

    @classmethod
    def of(cls, arg: Expr, indices: Expr, axis: int, batch: int = 0) -> Gather:
        if not dtypes.is_integer(indices.dtype):
            raise DTypeError(
                f"take: indices must be integers, got {indices.dtype}" + source.quote(source.here())
            )
        if not batch <= axis < arg.ndim or arg.shape[:batch] != indices.shape[:batch]:
            raise ShapeError(
                f"take: shapes {show(arg.shape)} and {show(indices.shape)} do not fit, "
                f"axis {axis}" + source.quote(source.here())
            )
        shape = arg.shape[:axis] + indices.shape[batch:] + arg.shape[axis + 1 :]
        return intern(cls, (arg, indices), (axis, batch), shape, arg.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return Gather.of(args[0], args[1], self.axis, self.batch)

    @property
    def axis(self) -> int:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def batch(self) -> int:
        return self.attrs[1]  # type: ignore[no-any-return]


class ScatterAdd(Expr):
    """The adjoint of Gather: zeros of the gathered shape, `values` added at the indices."""

    __slots__ = ()
    kind = "scatter"

    @classmethod
    def of(cls, values: Expr, indices: Expr, axis: int, batch: int, size: Size) -> ScatterAdd:
        spread = indices.ndim - batch
        if values.shape[axis : axis + spread] != indices.shape[batch:]:
            raise ShapeError(
                f"scatter: values {show(values.shape)} do not fit indices {show(indices.shape)}"
            )
        shape = values.shape[:axis] + (size,) + values.shape[axis + spread :]
        return intern(cls, (values, indices), (axis, batch, size), shape, values.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return ScatterAdd.of(args[0], args[1], self.axis, self.batch, self.attrs[2])

    @property
    def axis(self) -> int:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def batch(self) -> int:
        return self.attrs[1]  # type: ignore[no-any-return]


class Custom(Expr):
    """`value`, whose derivative is the user's: `rule(cotangent, *args) -> one cotangent per arg`.

    The operands are the value and then the arguments; rewriting removes the node once gradients
    are taken.
    """

    __slots__ = ()
    kind = "custom"

    @classmethod
    def of(cls, rule: Callable[..., Any], value: Expr, *args: Expr) -> Custom:
        return intern(cls, (value, *args), (rule,), value.shape, value.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return Custom.of(self.rule, *args)

    @property
    def rule(self) -> Callable[..., Any]:
        return self.attrs[0]  # type: ignore[no-any-return]


def toposort(outputs: Iterable[Expr]) -> list[Expr]:
    """Every node the outputs depend on, operands first; deterministic, no recursion.

    The bodies of loops are among them: nodes with `free` slots. The results of one loop come behind
    all that any of them needs, so that a loop can be run where its first result is met.
    """
    outputs = list(outputs)
    order = operands_first(outputs, _operands)
    several = {id(n): found for found in results(order).values() if len(found) > 1 for n in found}
    if not several:
        return order

    def all_operands(node: Expr) -> Sequence[Expr]:
        found = several.get(id(node))
        return node.args if found is None else [a for n in found for a in n.args]

    return operands_first(outputs, all_operands)


def _operands(node: Expr) -> Sequence[Expr]:
    return node.args


def count_elements(shape: Shape) -> int:
    """Elements at the planned maximum."""
    return math.prod(s if isinstance(s, int) else s.max * s.factor for s in shape)
