"""Kernels of the loop grammar as Python closures over a `Frame`: what `interpret` calls.

In: a kernel and the number of lanes. Out: a function that runs its body on a frame, which holds
the names (sizes, loop variables, registers, accumulators) and the memory of one call.

>>> body = Compiler(lanes=8, kernel=kernel, scalar=False).block(kernel.body)
>>> body(Frame({"n": 20}, {"x": Bound(np.ones(24, np.float32), 0)}))
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen import loops
from codegen.functions import FUNCTIONS
from codegen.loops import Poly, PolyLike, split_loops
from codegen.walk import postorder

Code = Callable[["Frame"], Any]
Step = Callable[["Frame", list[Any]], Any]  # with the parts computed before it

POISON = {"bool": True, "int32": -1234567891, "int64": -1234567890987654321}
REDUCE = {"add": np.add, "mul": np.multiply, "maximum": np.maximum, "minimum": np.minimum}


class OutOfBounds(IndexError):
    """An access outside of a buffer."""


class Race(RuntimeError):
    """Two turns of split loops touch an element that one of them writes."""


def poison(dtype: str) -> Any:
    return np.dtype(dtype).type(POISON.get(dtype, np.nan))


@dataclass
class Watch:
    """Which turns of split loops read and wrote each element of a buffer. `turn` is the present
    one; an element that several turns have read has the reader MANY."""

    name: str
    writer: np.ndarray
    reader: np.ndarray
    turn: int = -1

    NOBODY, MANY = -1, -2

    @staticmethod
    def of(name: str, size: int) -> Watch:
        nobody = np.full(size, Watch.NOBODY)
        return Watch(name, nobody, nobody.copy())

    def note(self, what: str, index: Any) -> None:
        """The present turn's access; `Race` if another turn's clashes with it."""
        if isinstance(index, int):
            index = slice(index, index + 1)
        reader, writer = self.reader[index], self.writer[index]
        clash = (writer != self.NOBODY) & (writer != self.turn)
        if what != "load":
            clash |= (reader != self.NOBODY) & (reader != self.turn)
        if clash.any():
            raise Race(
                f"turn {self.turn} of the split loops has a {what} of {self.name} where another "
                f"turn has an access (read by {reader[clash][0]}, written by {writer[clash][0]})"
            )
        if what == "load":
            alone = (reader == self.NOBODY) | (reader == self.turn)
            self.reader[index] = np.where(alone, self.turn, self.MANY)
        else:
            self.writer[index] = self.turn


@dataclass
class Bound:
    """A kernel's parameter: a whole buffer, and where element 0 is."""

    array: np.ndarray
    offset: int
    watch: Watch | None = None


@dataclass
class Frame:
    """A call in progress. `names` holds sizes, loop variables, registers and accumulators (a tile
    as a flat list); inside `Lanes`, `live` counts the vector's elements, `first` is its lane."""

    names: dict[str, Any]
    memory: dict[str, Bound]
    live: int = 0
    first: int = 0
    turn: Callable[[], None] = lambda: None  # a turn of a split loop begins


def poly_code(poly: PolyLike, registers: Collection[str]) -> Callable[[dict[str, Any]], Any]:
    """A polynomial as a function of the names; registers are widened before they are multiplied."""
    terms = []
    for monomial, factor in Poly.of(poly).terms:
        factors = [f"n[{m!r}].astype('i8')" if m in registers else f"n[{m!r}]" for m in monomial]
        terms.append("*".join([str(factor)] * (factor != 1 or not factors) + factors))
    function: Callable[[dict[str, Any]], Any] = eval(f"lambda n: {'+'.join(terms) or '0'}")
    return function


class Compiler:
    """Closures for one kernel. `vectors` are the names that hold one element per lane."""

    def __init__(self, lanes: int, kernel: loops.Kernel, scalar: bool) -> None:
        self.lanes, self.kernel, self.scalar = lanes, kernel, scalar
        self.lane: str | None = None
        self.vectors: set[str] = set()
        self.registers: set[str] = set()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.outside: set[str] = set()  # accumulators declared outside of the Lanes around
        self.split = split_loops(kernel)

    def block(self, body: tuple[loops.Stmt, ...]) -> Code:
        steps = [getattr(self, "_" + type(s).__name__.lower())(s) for s in body]

        def block(frame: Frame) -> None:
            for step in steps:
                step(frame)

        return block

    def uniform(self, poly: PolyLike) -> Callable[[dict[str, Any]], Any]:
        return poly_code(poly, self.registers)

    # -- statements

    def _for(self, s: loops.For) -> Code:
        extent, body, var = self.uniform(s.extent), self.block(s.body), s.var

        def split(frame: Frame) -> None:
            for i in reversed(range(int(extent(frame.names)))):  # any order must do
                frame.names[var] = i
                frame.turn()
                body(frame)

        if id(s) in self.split:
            return split

        def loop(frame: Frame) -> None:
            for i in range(int(extent(frame.names))):
                frame.names[var] = i
                body(frame)

        return loop

    def _lanes(self, s: loops.Lanes) -> Code:
        live = self.uniform(self.lanes if s.live is None else s.live)
        before = self.vectors, self.outside
        self.lane, self.vectors, self.outside = s.var, self.vectors | {s.var}, set(self.shapes)
        body = self.block(s.body)
        self.lane, (self.vectors, self.outside) = None, before

        def vector(frame: Frame) -> None:
            n = min(max(int(live(frame.names)), 0), self.lanes)
            for first, count in [(i, 1) for i in range(n)] if self.scalar else [(0, n)]:
                frame.names[s.var] = np.arange(first, first + count)
                frame.live, frame.first = count, first
                body(frame)

        return vector

    def _let(self, s: loops.Let) -> Code:
        value, name = self.root(s.value), s.name
        self.registers.add(name)
        if self.lane is not None:
            self.vectors.add(name)

        def let(frame: Frame) -> None:
            frame.names[name] = value(frame)

        return let

    def _declare(self, s: loops.Declare) -> Code:
        init, name = self.root(s.init), s.name
        count = int(np.prod(s.shape))
        self.shapes[name] = s.shape
        self.outside.discard(name)
        if self.lane is not None:
            self.vectors.add(name)

        def declare(frame: Frame) -> None:
            frame.names[name] = [init(frame)] * count

        return declare

    def _place(self, name: str, at: tuple[PolyLike, ...]) -> Callable[[dict[str, Any]], int]:
        """Which element of the flat tile `name[at]` is."""
        shape = self.shapes[name]
        flat = Poly()
        for size, subscript in zip(shape, at):
            flat = flat * size + subscript
        subscripts = [self.uniform(a) for a in at]
        code = self.uniform(flat)
        kernel = self.kernel.name

        def place(names: dict[str, Any]) -> int:
            for subscript, size in zip(subscripts, shape):
                if not 0 <= subscript(names) < size:
                    where = ", ".join(str(s(names)) for s in subscripts)
                    raise OutOfBounds(f"kernel {kernel}: {name}[{where}] is outside of {shape}")
            return int(code(names))

        return place

    def _accumulate(self, s: loops.Accumulate) -> Code:
        value, place, name = self.root(s.value), self._place(s.name, s.at), s.name
        fn = REDUCE[s.fn]
        across = self.lane is not None and name in self.outside

        def accumulate(frame: Frame) -> None:
            add = value(frame)
            if across:
                if not frame.live:
                    return
                add = fn.reduce(np.broadcast_to(add, frame.live))
            tile = frame.names[name]
            i = place(frame.names)
            tile[i] = fn(tile[i], add)

        return accumulate

    def _store(self, s: loops.Store) -> Code:
        value, when = self.root(s.value), None if s.when is None else self.root(s.when)
        place = self._access("store", s.buffer, s.index, s.full and not self.scalar)

        def store(frame: Frame) -> None:
            new, keep = value(frame), None if when is None else when(frame)
            array, index, idle = place(frame, keep)
            if isinstance(index, int) and (np.ndim(new) or isinstance(keep, np.ndarray)):
                index = np.full(frame.live, index)  # the last lane wins
                index = index if keep is None else index[np.broadcast_to(keep, frame.live)]
            if isinstance(index, int):
                if keep is not None and not keep:
                    return
            elif keep is not None:
                new = np.broadcast_to(new, frame.live)[np.broadcast_to(keep, frame.live)]
            if idle is not None:
                array[idle] = poison(array.dtype.name)
            array[index] = new

        return store

    def _prefetch(self, s: loops.Prefetch) -> Code:
        return lambda frame: None

    def _scatter(self, s: loops.Scatter) -> Code:
        value, place = self.root(s.value), self._access("scatter", s.buffer, s.index, False)
        across = self.lane is not None

        def scatter(frame: Frame) -> None:
            array, index, _ = place(frame, None)
            new = value(frame)
            if isinstance(index, int) and across:
                index = np.full(frame.live, index)
            elif isinstance(index, slice):
                index = np.arange(index.start, index.stop)
            np.add.at(array, index, new)

        return scatter

    def _transpose(self, s: loops.Transpose) -> Code:
        polys = (s.dst_index, s.dst_stride, s.src_index, s.src_stride, s.rows, s.cols)
        code = [self.uniform(p) for p in polys]
        written = None if s.pad == "none" else self.lanes

        def transpose(frame: Frame) -> None:
            to, to_stride, at, at_stride, rows, cols = (int(c(frame.names)) for c in code)
            if not (0 <= rows <= self.lanes and 0 <= cols <= self.lanes):
                raise OutOfBounds(
                    f"kernel {self.kernel.name}: a transpose of {rows} x {cols} exceeds "
                    f"{self.lanes} lanes"
                )
            r, c = np.arange(rows), np.arange(cols)
            source = at + r * at_stride + c[:, None]
            taken = frame.memory[s.src].array[self._checked("load", frame, s.src, source)]
            tile = np.zeros((cols, written or rows), s.dtype)
            if s.pad == "first" and rows:
                tile[:] = taken[:, :1]
            tile[:, :rows] = taken
            spread = to + c[:, None] * to_stride + np.arange(tile.shape[1])
            frame.memory[s.dst].array[self._checked("store", frame, s.dst, spread)] = tile

        return transpose

    # -- accesses

    def _checked(self, what: str, frame: Frame, buffer: str, index: np.ndarray) -> np.ndarray:
        """Indices into a parameter's buffer, all of them inside."""
        bound = frame.memory[buffer]
        index = index + bound.offset
        wrong = index[(index < 0) | (index >= bound.array.size)]
        if wrong.size:
            raise self._outside(what, frame, buffer, int(wrong.flat[0]))
        if bound.watch is not None:
            bound.watch.note(what, index)
        return index

    def _outside(self, what: str, frame: Frame, buffer: str, at: int) -> OutOfBounds:
        bound = frame.memory[buffer]
        shown = {n: v for n, v in frame.names.items() if isinstance(v, int)}
        return OutOfBounds(
            f"kernel {self.kernel.name}: {what} {buffer}[{at - bound.offset}] is outside of its "
            f"{bound.array.size} elements (offset {bound.offset}; "
            + ", ".join(f"{n} = {v}" for n, v in shown.items())
            + ")"
        )

    def _access(self, what: str, buffer: str, index: Poly, full: bool) -> Callable[..., Any]:
        """Code giving the array, the index into it (int, slice, or integers where `keep` holds)
        and the index of what idle lanes may write."""
        vectors = index.names & self.vectors
        linear = vectors <= {self.lane}
        step = index.coefficient(self.lane) if self.lane in vectors and linear else Poly()
        base, stride = (
            self.uniform(index.without(self.lane or "") if linear else 0),
            (self.uniform(step)),
        )
        whole = self.uniform(index)

        def access(frame: Frame, keep: Any) -> tuple[np.ndarray, Any, Any]:
            bound = frame.memory[buffer]
            size, idle = bound.array.size, None
            if not linear or (keep is not None and vectors):
                at = np.broadcast_to(whole(frame.names) + bound.offset, frame.live)
                at = at if keep is None else at[np.broadcast_to(keep, frame.live)]
                wrong = at[(at < 0) | (at >= size)]
                if wrong.size:
                    raise self._outside(what, frame, buffer, int(wrong[0]))
                return bound.array, at, None
            start, by = int(base(frame.names)) + bound.offset, int(stride(frame.names))
            start += frame.first * by
            last = start + max(self.lanes if full else frame.live, 1) * by - by
            if vectors and not full and not frame.live:
                return bound.array, slice(0, 0), None
            if not (0 <= start < size and 0 <= last < size) and (keep is None or np.any(keep)):
                bad = last if 0 <= start < size else start
                raise self._outside(what, frame, buffer, bad)
            if not vectors:
                return bound.array, start, None
            if full and frame.live < self.lanes:
                idle = np.arange(frame.live, self.lanes) * by + start
            if by == 1:
                return bound.array, slice(start, start + frame.live), idle
            return bound.array, np.arange(frame.live) * by + start, idle

        def watched(frame: Frame, keep: Any) -> tuple[np.ndarray, Any, Any]:
            array, index, idle = access(frame, keep)
            watch = frame.memory[buffer].watch
            if watch is not None and (keep is None or np.any(keep)):
                watch.note(what, index)
                if idle is not None and what == "store":
                    watch.note(what, idle)
            return array, index, idle

        return watched

    # -- values

    def root(self, value: loops.Value) -> Code:
        """A statement's value: its parts one after the other, each once."""
        order = postorder([value])
        place = {id(v): i for i, v in enumerate(order)}
        steps = [getattr(self, "_" + type(v).__name__.lower())(v, place) for v in order]
        if len(steps) == 1:
            only: Step = steps[0]
            return lambda frame: only(frame, [])

        def root(frame: Frame) -> Any:
            found: list[Any] = []
            for step in steps:
                found.append(step(frame, found))
            return found[-1]

        return root

    def _const(self, v: loops.Const, place: dict[int, int]) -> Step:
        number = np.dtype(v.dtype).type(v.number)
        return lambda frame, found: number

    def _load(self, v: loops.Load, place: dict[int, int]) -> Step:
        when = None if v.when is None else place[id(v.when)]
        access = self._access("load", v.buffer, v.index, v.full and not self.scalar)
        zero = np.dtype(v.dtype).type(0)

        def load(frame: Frame, found: list[Any]) -> Any:
            if when is None:
                array, index, _ = access(frame, None)
                return array[index] if isinstance(index, int) else array[index].copy()
            keep = found[when]
            array, index, _ = access(frame, keep)
            if isinstance(index, int):
                return np.where(keep, array[index], zero) if np.any(keep) else zero
            out = np.zeros(frame.live, v.dtype)
            out[np.broadcast_to(keep, frame.live)] = array[index]
            return out

        return load

    def _get(self, v: loops.Get, place: dict[int, int]) -> Step:
        name = v.name
        if name not in self.shapes:
            return lambda frame, found: frame.names[name]
        element = self._place(name, v.at)
        return lambda frame, found: frame.names[name][element(frame.names)]

    def _index(self, v: loops.Index, place: dict[int, int]) -> Step:
        poly, dtype = self.uniform(v.poly), v.dtype
        return lambda frame, found: np.asarray(poly(frame.names)).astype(dtype)

    def _op(self, v: loops.Op, place: dict[int, int]) -> Step:
        function = FUNCTIONS[v.fn]
        args = [place[id(a)] for a in v.args]
        numpy, dtype = function.numpy, v.dtype
        if function.rule in ("cast", "bitcast"):
            return lambda frame, found: numpy(found[args[0]], dtype)
        if len(args) == 2:
            left, right = args
            return lambda frame, found: numpy(found[left], found[right])
        return lambda frame, found: numpy(*[found[a] for a in args])
