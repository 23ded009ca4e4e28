"""The loop grammar: what a scheduled program is made of. Everything here is plain data.

    program   = Program(lanes, sizes, buffers, kernels, calls, threads)
    call      = Call(kernel, buffers, offsets)              one kernel on actual buffers
              | Repeat(var, extent, calls)                  calls, over and over
    kernel    = Kernel(name, params, body, split)
    statement = For(var, extent, body, unroll)              a serial loop
              | Lanes(var, live, body)                      one vector: all lanes of `var` at once
              | Let(name, value)                            names a value
              | Declare(name, dtype, init, shape)           accumulators, one or a tile of them
              | Accumulate(name, at, fn, value)             name[at] = fn(name[at], value)
              | Store(buffer, index, value, when, full)
              | Scatter(buffer, index, value)               buffer[index] += value, in lane order
              | Prefetch(buffer, index)                     a load of it is to follow
              | Transpose(dst, src, ...)                    a tile, rows to lanes
    value     = Const(number) | Load(buffer, index, when, full) | Get(name, at) | Index(poly)
              | Op(fn, args)
    index     = Poly                                        integer polynomial of names

A program means what its scalar reading means: `Lanes` is a loop over `lanes` values of its
variable. An accumulator declared outside a `Lanes` and accumulated inside is summed over the live
lanes; the machine keeps one partial per lane and adds them in a fixed tree when it is read.

Lanes at or past `live` are idle: what they compute is never seen. They skip stores and loads unless
the access is `full`, which promises that the memory behind idle lanes exists and may be written.

>>> row = Poly.of("b") * 16 + "l"
>>> double = Op("mul", (Load("x", row, "float32"), Const(2.0, "float32")), "float32")
>>> body = (For("b", Poly.of("blocks"), (Lanes("l", None, (Store("y", row, double),)),)),)
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import field
from typing import TYPE_CHECKING, Any, Mapping, Union

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(frozen: bool = True, eq: bool = True, **options: Any) -> Any:
        """Frozen to type checkers only: at run time that would take half of a start to make these
        classes, and make every one of thousands of nodes take four times as long."""
        return functools.partial(dataclasses.dataclass, eq=eq, unsafe_hash=eq, **options)


# -- integer polynomials -------------------------------------------------------------------------

Monomial = tuple[str, ...]  # sorted names; () is the constant


@dataclass(frozen=True)
class Poly:
    """Integer polynomial over loop variables, sizes and integer registers, e.g. `16*b*n + l`."""

    terms: tuple[tuple[Monomial, int], ...] = ()

    @staticmethod
    def of(x: PolyLike) -> Poly:
        if isinstance(x, Poly):
            return x
        if isinstance(x, str):
            return Poly((((x,), 1),))
        return Poly((((), int(x)),)) if x else Poly()

    @staticmethod
    def _from(terms: Mapping[Monomial, int]) -> Poly:
        found = [(m, c) for m, c in terms.items() if c]
        if len(found) > 1:
            found.sort()
        return Poly(tuple(found))

    def __add__(self, other: PolyLike) -> Poly:
        other = Poly.of(other)
        if not other.terms:
            return self
        if not self.terms:
            return other
        total = dict(self.terms)
        for m, c in other.terms:
            total[m] = total.get(m, 0) + c
        return Poly._from(total)

    __radd__ = __add__

    def __neg__(self) -> Poly:
        return Poly(tuple((m, -c) for m, c in self.terms))

    def __sub__(self, other: PolyLike) -> Poly:
        return self + -Poly.of(other)

    def __rsub__(self, other: PolyLike) -> Poly:
        return Poly.of(other) + -self

    def __mul__(self, other: PolyLike) -> Poly:
        if isinstance(other, int):
            if other == 1:
                return self
            return Poly(tuple((m, c * other) for m, c in self.terms)) if other else Poly()
        total: dict[Monomial, int] = {}
        factors = Poly.of(other).terms
        for m, c in self.terms:
            for n, d in factors:
                key = tuple(sorted(m + n))
                total[key] = total.get(key, 0) + c * d
        return Poly._from(total)

    __rmul__ = __mul__

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for m, _ in self.terms for name in m)

    @property
    def constant(self) -> int | None:
        """The value when no name is left, else None."""
        if not self.terms:
            return 0
        return self.terms[0][1] if self.terms[0][0] == () and len(self.terms) == 1 else None

    def coefficient(self, name: str) -> Poly:
        """What `name` is multiplied by (it must occur at most to the first power)."""
        found: dict[Monomial, int] = {}
        for m, c in self.terms:
            if name in m:
                rest = list(m)
                rest.remove(name)
                found[tuple(rest)] = c
        return Poly._from(found)

    def without(self, name: str) -> Poly:
        """The terms that do not contain `name`."""
        return Poly(tuple((m, c) for m, c in self.terms if name not in m))

    def substitute(self, values: Mapping[str, PolyLike]) -> Poly:
        if not values.keys() & self.names:
            return self
        total = Poly()
        for m, c in self.terms:
            term = Poly.of(c)
            for name in m:
                term = term * Poly.of(values.get(name, name))
            total = total + term
        return total

    def value(self, names: Mapping[str, int]) -> int:
        total = 0
        for m, c in self.terms:
            for name in m:
                c *= names[name]
            total += c
        return total

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        shown = []
        for m, c in sorted(self.terms, key=lambda t: (not t[0], t)):
            factors = ([str(c)] if c != 1 or not m else []) + list(m)
            shown.append("*".join(factors))
        return " + ".join(shown).replace("+ -", "- ")


PolyLike = Union[Poly, int, str]

# -- values --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Const:
    """A number of the given dtype."""

    number: float | int | bool
    dtype: str


@dataclass(frozen=True, eq=False)
class Load:
    """`buffer[index]`, or 0 where `when` does not hold (the element is then not touched)."""

    buffer: str
    index: Poly
    dtype: str
    when: Value | None = None
    full: bool = False


@dataclass(frozen=True, eq=False)
class Get:
    """A named value: a `Let`, or the current value of an accumulator."""

    name: str
    dtype: str
    at: tuple[PolyLike, ...] = ()


@dataclass(frozen=True, eq=False)
class Index:
    """An index as a number."""

    poly: Poly
    dtype: str = "int32"


@dataclass(frozen=True, eq=False, repr=False)
class Op:
    """A scalar function of `codegen.functions`, on values of the same lane."""

    fn: str
    args: tuple[Value, ...]
    dtype: str

    def __repr__(self) -> str:
        # without the arguments: they are shared, and spelled out they may fill the memory
        return f"Op({self.fn!r}, {len(self.args)} args, {self.dtype!r})"


Value = Union[Const, Load, Get, Index, Op]

# -- statements ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class For:
    """`for var in range(extent)`; `unroll` copies of the body per turn (all: the whole extent)."""

    var: str
    extent: Poly
    body: tuple[Stmt, ...]
    unroll: int = 1


@dataclass(frozen=True, eq=False)
class Lanes:
    """`for var in range(lanes)`, as one vector; lanes from `live` on are idle (None: none is)."""

    var: str
    live: Poly | None
    body: tuple[Stmt, ...]


@dataclass(frozen=True, eq=False)
class Let:
    name: str
    value: Value


@dataclass(frozen=True, eq=False)
class Declare:
    """Accumulators `name[at]`, all starting at `init`; `shape` is () for a single one."""

    name: str
    dtype: str
    init: Value
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Accumulate:
    """`name[at] = fn(name[at], value)`, fn one of add, mul, maximum, minimum."""

    name: str
    at: tuple[PolyLike, ...]
    fn: str
    value: Value


@dataclass(frozen=True, eq=False)
class Store:
    buffer: str
    index: Poly
    value: Value
    when: Value | None = None
    full: bool = False


@dataclass(frozen=True, eq=False)
class Scatter:
    """`buffer[index] += value`, lane after lane, so that equal indices of one vector all count."""

    buffer: str
    index: Poly
    value: Value


@dataclass(frozen=True)
class Prefetch:
    """Asks for `buffer[index]` to come nearer, for a load that follows much later. It means
    nothing; the index may be past the end."""

    buffer: str
    index: Poly


@dataclass(frozen=True, eq=False)
class Transpose:
    """A tile from rows to lanes: `dst[dst_index + c*dst_stride + r] = src[src_index + r*src_stride
    + c]` for r in 0..rows-1 and c in 0..cols-1, both at most `lanes`.

    With `pad` "first" or "zero" every stored vector is written whole, its elements at r >= rows
    being those of row 0, or zeros; with "none" only rows elements are written.
    """

    dst: str
    dst_index: Poly
    dst_stride: Poly
    src: str
    src_index: Poly
    src_stride: Poly
    rows: Poly
    cols: Poly
    pad: str
    dtype: str = "float32"


Stmt = Union[For, Lanes, Let, Declare, Accumulate, Store, Scatter, Prefetch, Transpose]

# -- kernels and programs ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Param:
    """A buffer as a kernel names it. `mode` is "r", "w" or "rw"."""

    name: str
    dtype: str
    mode: str = "r"


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function over buffers. `inplace` lists (written, read) parameters that may be one buffer:
    every element is read for the last time before it is written.

    `split` names all loops of the body, whose turns then may run in any order and on any thread:
    what one turn writes no other one reads or writes, and no accumulator is carried from one to
    the next. Beside such loops a body has only `Let`s, which every thread computes for itself.
    """

    name: str
    params: tuple[Param, ...]
    body: tuple[Stmt, ...]
    inplace: tuple[tuple[str, str], ...] = ()
    comment: str = ""  # the mathematics it computes, for readers
    sources: tuple[str, ...] = ()  # the user's lines it comes from
    split: tuple[str, ...] = ()  # the loops whose turns threads may share


@dataclass(frozen=True)
class Derived:
    """A size computed from others when a call starts: `poly op by`, op "ceildiv", "div", "mod"."""

    op: str
    poly: Poly
    by: int


@dataclass(frozen=True)
class Buffer:
    """Memory. `size` counts elements at the planned maximum; `role` says who owns it:
    "arena" (the plan), "private" (the plan, one for each thread: what a turn of a split loop or a
    kernel that is not split leaves there is lost), "input", "output", "state" (kept between calls),
    "constant" (baked in)."""

    name: str
    dtype: str
    size: int
    role: str = "arena"
    data: bytes | None = None


@dataclass(frozen=True)
class Call:
    """A kernel on actual buffers, in the order of its params; an offset counts elements. It is made
    of sizes and of the variables of the repeats around. None are given where all are zero."""

    kernel: str
    buffers: tuple[str, ...]
    offsets: tuple[Poly | int, ...] = ()


@dataclass(frozen=True, eq=False)
class Repeat:
    """`for var in range(extent)`: all `calls`, in order. The extent is made of sizes; no other
    repeat has the same variable, and kernels do not see it.

    An arena buffer that only this repeat uses, and of which every turn reads what it wrote itself,
    belongs to the turn: what is left in it at the end is lost (see `codegen.carried`).
    """

    var: str
    extent: Poly
    calls: tuple[Call | Repeat, ...]


@dataclass(frozen=True, eq=False)
class Program:
    """Kernels called in order. `sizes` maps each run-time size to its largest value or its rule;
    `threads` counts those that may share the turns of split loops. It changes no result."""

    lanes: int
    sizes: Mapping[str, int | Derived]
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    calls: tuple[Call | Repeat, ...]
    notes: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1


ITEMSIZE = {"bool": 1, "int32": 4, "int64": 8, "float32": 4, "float64": 8}
PLANNED = ("arena", "private")  # roles of buffers that the memory plan places


def split_loops(kernel: Kernel) -> dict[int, Poly]:
    """Of every split loop, by its id: the number of its first turn when the turns of all split
    loops are counted one after the other."""
    first: dict[int, Poly] = {}
    total = Poly()
    for s in kernel.body:
        if isinstance(s, For) and s.var in kernel.split:
            first[id(s)] = total
            total = total + s.extent
    return first


def turns(kernel: Kernel) -> Poly:
    """How many turns the split loops have together."""
    total = Poly()
    for s in kernel.body:
        if isinstance(s, For) and s.var in kernel.split:
            total = total + s.extent
    return total
