"""What every expression is: interning, Python's operators, reading.

In: operands and attributes. Out: nodes that are equal exactly when they are the same object; the
kinds of nodes are in `symgrad.leaves` and `symgrad.node`.

>>> intern(Map, (x,), ("exp",), x.shape, x.dtype) is intern(Map, (x,), ("exp",), x.shape, x.dtype)
True
"""

from __future__ import annotations

import hashlib
from typing import Any, Callable, ClassVar, Iterator, Sequence
from weakref import WeakValueDictionary

from symgrad import source
from symgrad.sizes import Dim, Shape, Size, product, show

_interned: WeakValueDictionary[Any, Expr] = WeakValueDictionary()
_CLOSED: frozenset[Any] = frozenset()
OPERATORS: dict[str, Callable[..., Any]] = {}  # filled by symgrad.ops: what `a + b` calls


class Expr:
    """A node of the graph. `args` are its operands, `attrs` everything else that identifies it.

    `free` are the slots of loops that its value depends on: a node with any belongs to the body of
    a loop, and has a value only while that runs.
    """

    __slots__ = (
        "args", "attrs", "shape", "dtype", "where", "digest", "height", "free", "__weakref__"
    )  # fmt: skip
    kind: ClassVar[str] = "expr"

    args: tuple[Expr, ...]
    attrs: tuple[Any, ...]
    shape: Shape
    dtype: str
    where: source.Source
    digest: bytes
    height: int
    free: frozenset[Any]

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
            return intern(type(self), tuple(args), self.attrs, self.shape, self.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        raise NotImplementedError(self.kind)

    @classmethod
    def bound(cls, attrs: tuple[Any, ...]) -> frozenset[Any]:
        """The slots that a node with these attributes gives their values: those of a loop."""
        return _CLOSED

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

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError(
            "an expression is neither copied nor pickled: build the model once more, where its "
            "copy is needed; sg.save and sg.load carry the numbers over"
        )

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

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"

    def _repr_html_(self) -> str:
        return OPERATORS["mathml"](self)  # type: ignore[no-any-return]

    def sympy(self) -> Any:
        """The expression as a SymPy object."""
        return OPERATORS["sympy"](self)


def intern(
    cls: type[Any], args: tuple[Expr, ...], attrs: tuple[Any, ...], shape: Shape, dtype: str
) -> Any:
    """The node of these contents: the existing one when there is one."""
    key = (cls, attrs, tuple(map(id, args)))
    found = _interned.get(key)
    if found is None:
        found = make(cls, args, attrs, shape, dtype)
        _interned[key] = found
    return found


def make(
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
    free = _CLOSED
    for a in args:
        if a.free:
            free = free | a.free if free else a.free
    node.free = free - cls.bound(attrs) if free else free
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
