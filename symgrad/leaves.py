"""The leaves of an expression: where values come from.

    Input | Parameter | State                      identified by object: two of one name are two
    Constant(value) | SizeOf(size) | Iota(size)    identified by value
    Random(law, stream)                            numbers of (seed, step, stream, element)
    Slot                                           in the body of a loop: a slice or a carry

>>> Constant.of(2.0) is Constant.of(2.0)
True
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from symgrad import dtypes, source
from symgrad.errors import DTypeError, ShapeError
from symgrad.expr import Expr, intern, make
from symgrad.sizes import Dim, Shape, Size, show

_serial = itertools.count()


class Leaf(Expr):
    """A node without operands."""

    __slots__ = ()

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return self


def check_shape(what: str, shape: Any) -> Shape:
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
        shape, dtype = check_shape(f"input {name!r}", shape), dtypes.canonical(dtype)
        node: Input = make(cls, (), (name,), shape, dtype)
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
        shape, dtype = check_shape(f"{cls.kind} {name!r}", shape), dtypes.canonical(dtype)
        if any(isinstance(s, Dim) for s in shape):
            raise ShapeError(f"{cls.kind} {name!r}: its sizes must be ints, got {show(shape)}")
        if init is not None and not callable(init) and np.shape(init) not in ((), shape):
            raise ShapeError(
                f"{cls.kind} {name!r} of shape {show(shape)}: init has shape "
                f"{show(np.shape(init))}" + source.quote(source.here())
            )
        if init is not None and not callable(init) and np.asarray(init).dtype.kind not in "biuf":
            raise DTypeError(
                f"{cls.kind} {name!r}: init must be numbers or a rule of sg.init, got {init!r}"
                + source.quote(source.here())
            )
        node: Parameter = make(cls, (), (name,), shape, dtype)
        node._name, node.order = name, next(_serial)
        node.init, node.role = init, role
        return node


class State(Parameter):
    """An array kept between calls but not trained: running statistics, moments, counters."""

    __slots__ = ()
    kind = "state"


class Slot(_Named):
    """In the body of a loop, the slice of a sequence or a carry: `symgrad.loop.Scan` gives it its
    value at each step. `position` tells the slots of a loop apart, `depth` is the number of loops
    around it. `derived` are the slots of the loops that are its loop's derivatives, so that a
    derivative taken twice is one.
    """

    __slots__ = ("derived",)
    kind = "slot"
    derived: dict[Any, tuple[Slot, Any]]

    def __new__(
        cls, name: str, shape: Any, dtype: str = "float32", position: Any = 0, depth: int = 0
    ) -> Slot:
        # position and depth are there for the digest: operands are sorted by it
        node: Slot = make(cls, (), (name, position, depth), shape, dtype)
        node._name, node.order = name, next(_serial)
        node.free, node.derived = frozenset((node,)), {}
        return node

    @property
    def depth(self) -> int:
        return self.attrs[2]  # type: ignore[no-any-return]


class Constant(Leaf):
    """A fixed array, identified by its contents."""

    __slots__ = ()
    kind = "constant"

    @classmethod
    def of(cls, value: Any, dtype: Any = None) -> Constant:
        array = np.asarray(value, None if dtype is None else dtypes.canonical(dtype))
        name = dtypes.canonical(array.dtype)
        array = np.ascontiguousarray(array, name).reshape(array.shape)
        return intern(cls, (), (array.tobytes(), array.shape, name), array.shape, name)  # type: ignore[no-any-return]

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
        return intern(cls, (), (size, dtype), (), dtype)

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
        return intern(cls, (), (size, dtype), (size,), dtype)  # type: ignore[no-any-return]


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
        shape = check_shape("random", shape)
        stream = next(_streams) if stream is None else stream
        return intern(cls, (), (law, stream, shape, dtype), shape, dtype)  # type: ignore[no-any-return]

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
