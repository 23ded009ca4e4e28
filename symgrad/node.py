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

Structural equality is `is`: building the same expression twice gives the same object, so common
subexpressions are shared the moment they are built.

>>> x = Input("x", (2, 3), "float32")
>>> Map.of("exp", x) is Map.of("exp", x)
True
"""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any, Callable, ClassVar, Iterable, Iterator, Sequence
from weakref import WeakValueDictionary

import numpy as np

from symgrad import dtypes, source
from symgrad.errors import DTypeError, ShapeError
from symgrad.sizes import Dim, Shape, Size, product, show

_interned: WeakValueDictionary[Any, Expr] = WeakValueDictionary()
_serial = itertools.count()
OPERATORS: dict[str, Callable[..., Any]] = {}  # filled by symgrad.ops: what `a + b` calls


class Expr:
    """A node of the graph. `args` are its operands, `attrs` everything else that identifies it."""

    __slots__ = ("args", "attrs", "shape", "dtype", "where", "digest", "height", "__weakref__")
    kind: ClassVar[str] = "expr"

    args: tuple[Expr, ...]
    attrs: tuple[Any, ...]
    shape: Shape
    dtype: str
    where: source.Source
    digest: bytes
    height: int

    @property
    def name(self) -> str:
        """The declared name of a leaf; a descriptive name otherwise."""
        return self.kind

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Size:
        """The number of elements."""
        return product(self.shape)

    def with_args(self, args: Sequence[Expr]) -> Expr:
        """The same operation on other operands (the node itself when they are the same)."""
        if len(args) == len(self.args):
            for a, b in zip(args, self.args):
                if a is not b:
                    break
            else:
                return self
        with source.at(self.where):
            for a, b in zip(args, self.args):
                if a.shape != b.shape or a.dtype != b.dtype:
                    return self._rebuild(tuple(args))
            return _intern(type(self), tuple(args), self.attrs, self.shape, self.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        raise NotImplementedError(self.kind)

    # -- Python's operators; their meaning is in symgrad.ops --------------------------------
    def __add__(self, other: Any) -> Expr:
        return OPERATORS["add"](self, other)  # type: ignore[no-any-return]

    def __radd__(self, other: Any) -> Expr:
        return OPERATORS["add"](other, self)  # type: ignore[no-any-return]

    def __sub__(self, other: Any) -> Expr:
        return OPERATORS["sub"](self, other)  # type: ignore[no-any-return]

    def __rsub__(self, other: Any) -> Expr:
        return OPERATORS["sub"](other, self)  # type: ignore[no-any-return]

    def __mul__(self, other: Any) -> Expr:
        return OPERATORS["mul"](self, other)  # type: ignore[no-any-return]

    def __rmul__(self, other: Any) -> Expr:
        return OPERATORS["mul"](other, self)  # type: ignore[no-any-return]

    def __truediv__(self, other: Any) -> Expr:
        return OPERATORS["div"](self, other)  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> Expr:
        return OPERATORS["div"](other, self)  # type: ignore[no-any-return]

    def __floordiv__(self, other: Any) -> Expr:
        return OPERATORS["floor_divide"](self, other)  # type: ignore[no-any-return]

    def __rfloordiv__(self, other: Any) -> Expr:
        return OPERATORS["floor_divide"](other, self)  # type: ignore[no-any-return]

    def __mod__(self, other: Any) -> Expr:
        return OPERATORS["mod"](self, other)  # type: ignore[no-any-return]

    def __rmod__(self, other: Any) -> Expr:
        return OPERATORS["mod"](other, self)  # type: ignore[no-any-return]

    def __pow__(self, other: Any) -> Expr:
        return OPERATORS["pow"](self, other)  # type: ignore[no-any-return]

    def __rpow__(self, other: Any) -> Expr:
        return OPERATORS["pow"](other, self)  # type: ignore[no-any-return]

    def __matmul__(self, other: Any) -> Expr:
        return OPERATORS["matmul"](self, other)  # type: ignore[no-any-return]

    def __rmatmul__(self, other: Any) -> Expr:
        return OPERATORS["matmul"](other, self)  # type: ignore[no-any-return]

    def __neg__(self) -> Expr:
        return OPERATORS["neg"](self)  # type: ignore[no-any-return]

    def __pos__(self) -> Expr:
        return self

    def __abs__(self) -> Expr:
        return OPERATORS["abs"](self)  # type: ignore[no-any-return]

    def __invert__(self) -> Expr:
        return OPERATORS["logical_not"](self)  # type: ignore[no-any-return]

    def __and__(self, other: Any) -> Expr:
        return OPERATORS["logical_and"](self, other)  # type: ignore[no-any-return]

    def __rand__(self, other: Any) -> Expr:
        return OPERATORS["logical_and"](other, self)  # type: ignore[no-any-return]

    def __or__(self, other: Any) -> Expr:
        return OPERATORS["logical_or"](self, other)  # type: ignore[no-any-return]

    def __ror__(self, other: Any) -> Expr:
        return OPERATORS["logical_or"](other, self)  # type: ignore[no-any-return]

    def __lt__(self, other: Any) -> Expr:
        return OPERATORS["less"](self, other)  # type: ignore[no-any-return]

    def __le__(self, other: Any) -> Expr:
        return OPERATORS["less_equal"](self, other)  # type: ignore[no-any-return]

    def __gt__(self, other: Any) -> Expr:
        return OPERATORS["greater"](self, other)  # type: ignore[no-any-return]

    def __ge__(self, other: Any) -> Expr:
        return OPERATORS["greater_equal"](self, other)  # type: ignore[no-any-return]

    def __eq__(self, other: Any) -> Expr:  # type: ignore[override]
        return OPERATORS["equal"](self, other)  # type: ignore[no-any-return]

    def __ne__(self, other: Any) -> Expr:  # type: ignore[override]
        return OPERATORS["not_equal"](self, other)  # type: ignore[no-any-return]

    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Expr:
        return OPERATORS["getitem"](self, index)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        if not self.shape or isinstance(self.shape[0], Dim):
            raise TypeError(f"len() of an expression of shape {show(self.shape)}")
        return self.shape[0]

    def __iter__(self) -> Iterator[Expr]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise TypeError(
            "an expression has no truth value before it is run: use sg.where for a choice by "
            "element, and `is` to compare expressions" + source.quote(source.here())
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("an expression is not an array: compile it with sg.function and call that")

    __array_ufunc__ = None  # so that `ndarray * expr` asks the expression, not NumPy

    @property
    def T(self) -> Expr:
        return OPERATORS["transpose"](self)  # type: ignore[no-any-return]

    def reshape(self, *shape: Any) -> Expr:
        return OPERATORS["reshape"](self, shape[0] if len(shape) == 1 else shape)  # type: ignore

    def sum(self, axis: Any = None, keepdims: bool = False) -> Expr:
        return OPERATORS["sum"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def mean(self, axis: Any = None, keepdims: bool = False) -> Expr:
        return OPERATORS["mean"](self, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Expr:
        return OPERATORS["cast"](self, dtype)  # type: ignore[no-any-return]

    # -- reading ------------------------------------------------------------------------------
    def __str__(self) -> str:
        return OPERATORS["show"](self)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{self.name} {show(self.shape)} {self.dtype}>"

    def latex(self) -> str:
        """The expression as LaTeX mathematics."""
        return OPERATORS["latex"](self)  # type: ignore[no-any-return]

    def sympy(self) -> Any:
        """The expression as a SymPy object."""
        return OPERATORS["sympy"](self)


def _intern(
    cls: type[Any], args: tuple[Expr, ...], attrs: tuple[Any, ...], shape: Shape, dtype: str
) -> Any:
    """The node of these contents: the existing one when there is one."""
    key = (cls, attrs, tuple(map(id, args)))
    found = _interned.get(key)
    if found is None:
        found = _make(cls, args, attrs, shape, dtype)
        _interned[key] = found
    return found


def _make(
    cls: type[Any], args: tuple[Expr, ...], attrs: tuple[Any, ...], shape: Shape, dtype: str
) -> Any:
    node = object.__new__(cls)
    node.args, node.attrs, node.shape, node.dtype = args, attrs, shape, dtype
    node.where = source.here()
    digest = hashlib.blake2b(cls.kind.encode(), digest_size=16)
    for part in attrs:  # the bytes of an array as they are; a function by name, not by address
        if isinstance(part, bytes):
            digest.update(part)
        else:
            digest.update(repr(getattr(part, "__qualname__", part)).encode())
    digest.update(repr((shape, dtype)).encode())
    for a in args:
        digest.update(a.digest)
    node.digest = digest.digest()
    node.height = 1 + max((a.height for a in args), default=-1)
    return node


def rebuilt(node: Expr) -> Expr:
    """The node as its operands give it now, without looking at those that exist: for verifying."""
    global _interned
    existing, _interned = _interned, WeakValueDictionary()
    try:
        with source.at(node.where):
            return node._rebuild(node.args)
    finally:
        _interned = existing


class Leaf(Expr):
    """A node without operands."""

    __slots__ = ()

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return self


def _check_shape(what: str, shape: Any) -> Shape:
    shape = (shape,) if isinstance(shape, (int, Dim, np.integer)) else tuple(shape)
    shape = tuple(int(s) if isinstance(s, np.integer) else s for s in shape)
    for s in shape:
        if not isinstance(s, (int, Dim)) or isinstance(s, bool) or (isinstance(s, int) and s < 0):
            raise ShapeError(
                f"{what}: {s!r} is not a size (a non-negative int or sg.dim), in shape {shape}"
                + source.quote(source.here())
            )
    return shape


class _Named(Leaf):
    """A leaf identified by object: two of one name are two different leaves."""

    __slots__ = ("_name", "order")
    _name: str
    order: int  # position among all leaves, in the order of creation

    @property
    def name(self) -> str:
        return self._name


class Input(_Named):
    """An array handed in at each call."""

    __slots__ = ()
    kind = "input"

    def __new__(cls, name: str, shape: Any, dtype: Any = "float32") -> Input:
        shape, dtype = _check_shape(f"input {name!r}", shape), dtypes.canonical(dtype)
        node: Input = _make(cls, (), (name,), shape, dtype)
        node._name, node.order = name, next(_serial)
        return node


class Parameter(_Named):
    """An array that training changes. `init` is an array, or a rule `(shape, rng) -> array`."""

    __slots__ = ("init", "role")
    kind = "parameter"
    init: Any
    role: str

    def __new__(
        cls, name: str, shape: Any, init: Any = None, dtype: Any = "float32", role: str = "weight"
    ) -> Parameter:
        shape, dtype = _check_shape(f"{cls.kind} {name!r}", shape), dtypes.canonical(dtype)
        if any(isinstance(s, Dim) for s in shape):
            raise ShapeError(f"{cls.kind} {name!r}: its sizes must be ints, got {show(shape)}")
        if init is not None and not callable(init) and np.shape(init) not in ((), shape):
            raise ShapeError(
                f"{cls.kind} {name!r} of shape {show(shape)}: init has shape "
                f"{show(np.shape(init))}" + source.quote(source.here())
            )
        node: Parameter = _make(cls, (), (name,), shape, dtype)
        node._name, node.order = name, next(_serial)
        node.init, node.role = init, role
        return node


class State(Parameter):
    """An array kept between calls but not trained: running statistics, moments, counters."""

    __slots__ = ()
    kind = "state"


class Constant(Leaf):
    """A fixed array, identified by its contents."""

    __slots__ = ()
    kind = "constant"

    @classmethod
    def of(cls, value: Any, dtype: Any = None) -> Constant:
        array = np.asarray(value, None if dtype is None else dtypes.canonical(dtype))
        name = dtypes.canonical(array.dtype)
        array = np.ascontiguousarray(array, name).reshape(array.shape)
        return _intern(cls, (), (array.tobytes(), array.shape, name), array.shape, name)  # type: ignore[no-any-return]

    @property
    def value(self) -> np.ndarray[Any, Any]:
        """The array (read-only)."""
        return np.frombuffer(self.attrs[0], self.dtype).reshape(self.attrs[1])

    @property
    def scalar(self) -> float | int | bool | None:
        """The one value every element has, or None."""
        flat = self.value.reshape(-1)
        if flat.size == 0 or (flat.size > 1 and not (flat == flat[0]).all()):
            return None
        return flat[0].item()  # type: ignore[no-any-return]


class SizeOf(Leaf):
    """A run-time size as a number."""

    __slots__ = ()
    kind = "size"

    @classmethod
    def of(cls, size: Size, dtype: str = "float32") -> Any:
        if isinstance(size, int):
            return Constant.of(size, dtype)
        return _intern(cls, (), (size, dtype), (), dtype)

    @property
    def of_size(self) -> Dim:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        return str(self.attrs[0])


class Iota(Leaf):
    """0, 1, 2 ... along one axis."""

    __slots__ = ()
    kind = "iota"

    @classmethod
    def of(cls, size: Size, dtype: str = "int32") -> Iota:
        return _intern(cls, (), (size, dtype), (size,), dtype)  # type: ignore[no-any-return]


class Random(Leaf):
    """Philox4x32-10 numbers: a function of (seed, step, stream, element), recomputed, not stored.

    `kind` is "uniform" (in [0, 1)), "normal" (mean 0, variance 1) or "bits" (uint32 as int32).
    A stream that is not given is AUTOMATIC plus a number of its own; a compiled graph numbers those
    again in the order in which they appear, so that a model built twice draws the same numbers.
    """

    __slots__ = ()
    kind = "random"

    @classmethod
    def of(cls, law: str, shape: Any, dtype: str = "float32", stream: int | None = None) -> Random:
        if law not in ("uniform", "normal", "bits"):
            raise ValueError(f"random: unknown law {law!r}")
        shape = _check_shape("random", shape)
        stream = next(_streams) if stream is None else stream
        return _intern(cls, (), (law, stream, shape, dtype), shape, dtype)  # type: ignore[no-any-return]

    @property
    def law(self) -> str:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def stream(self) -> int:
        return self.attrs[1]  # type: ignore[no-any-return]

    @property
    def label(self) -> str:
        """Law and stream as a person reads them."""
        return f"{self.law}{self.stream % AUTOMATIC}"


AUTOMATIC = 1 << 30  # streams below are the user's own
_streams = itertools.count(AUTOMATIC)


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
        return _intern(cls, tuple(args), (op,), shape, dtype)  # type: ignore[no-any-return]

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
        return _intern(cls, tuple(args), (ins_, out_, shape), shape, dtype)  # type: ignore[no-any-return]

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
        return _intern(cls, (arg,), (law, axes), shape, dtype)  # type: ignore[no-any-return]

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
        shape = _check_shape("reindex", shape)
        if len(maps) != arg.ndim:
            raise ShapeError(f"reindex: {len(maps)} axis maps for shape {show(arg.shape)}")
        maps = tuple((int(o), tuple((int(a), int(c)) for a, c in t), int(d)) for o, t, d in maps)
        return _intern(cls, (arg,), (maps, shape, fill), shape, arg.dtype)  # type: ignore[no-any-return]

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
        shape = _check_shape("reshape", shape)
        if product(shape) != product(arg.shape):
            raise ShapeError(
                f"reshape: {show(arg.shape)} has {product(arg.shape)} elements, "
                f"{show(shape)} has {product(shape)}" + source.quote(source.here())
            )
        if isinstance(arg, Reshape):
            arg = arg.args[0]
        if shape == arg.shape:
            return arg
        return _intern(cls, (arg,), (shape,), shape, arg.dtype)  # type: ignore[no-any-return]

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
        return _intern(cls, (arg, indices), (axis, batch), shape, arg.dtype)  # type: ignore[no-any-return]

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
        return _intern(cls, (values, indices), (axis, batch, size), shape, values.dtype)  # type: ignore[no-any-return]

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
        return _intern(cls, (value, *args), (rule,), value.shape, value.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return Custom.of(self.rule, *args)

    @property
    def rule(self) -> Callable[..., Any]:
        return self.attrs[0]  # type: ignore[no-any-return]


def toposort(outputs: Iterable[Expr]) -> list[Expr]:
    """Every node the outputs depend on, operands first; deterministic, no recursion."""
    order: list[Expr] = []
    done: set[int] = set()
    for root in outputs:
        stack: list[tuple[Expr, int]] = [(root, 0)]
        while stack:
            node, position = stack.pop()
            if id(node) in done:
                continue
            if position < len(node.args):
                stack.append((node, position + 1))
                stack.append((node.args[position], 0))
            else:
                done.add(id(node))
                order.append(node)
    return order


def count_elements(shape: Shape) -> int:
    """Elements at the planned maximum."""
    return math.prod(s if isinstance(s, int) else s.max * s.factor for s in shape)
