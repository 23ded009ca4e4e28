"""Writing one kernel: values of expressions at an index, addresses, statements.

In: nodes of the graph and, for those that lie in memory, where (`Memory`). Out: a `loops.Kernel`
and the buffers it is called with.

A node that is not in memory is computed where it is used: `value(node, index)` follows views by
rewriting the index and elementwise functions by applying them, down to loads.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Iterator, Mapping, Sequence

from codegen.loops import (
    Buffer,
    Const,
    For,
    Get,
    Index,
    Kernel,
    Lanes,
    Let,
    Load,
    Op,
    Param,
    Poly,
    Scatter,
    Stmt,
    Store,
    Value,
)
from symgrad.errors import GraphError
from symgrad.node import (
    Constant,
    Contract,
    Expr,
    Gather,
    Iota,
    Map,
    Random,
    Reindex,
    Reshape,
    SizeOf,
)
from symgrad.schedule.layout import Layout
from symgrad.schedule.sharing import shared
from symgrad.schedule.symbols import Symbols, divide, live_lanes
from symgrad.sizes import Size

At = tuple[Poly, ...]  # a logical index, one polynomial per axis
Stretch = Mapping[int, tuple[int, int]]  # parts of axes: from where on, how many
WHOLE: Stretch = MappingProxyType({})
MANY = 8  # turns of an outermost loop, enough for several threads


@dataclass
class Memory:
    """Where values lie: the buffers of the program being built."""

    symbols: Symbols
    buffers: dict[str, Buffer] = field(default_factory=dict)
    places: dict[tuple[Expr, Layout], str] = field(default_factory=dict)
    home: dict[Expr, tuple[str, Layout]] = field(default_factory=dict)
    parts: dict[str, tuple[str, Poly]] = field(default_factory=dict)  # of which buffer, from where

    def place(self, node: Expr, layout: Layout, role: str = "arena", name: str = "") -> str:
        """The buffer of `node` in this layout, made on first use."""
        key = (node, layout)
        if key not in self.places:
            size = layout.elements(node.shape, self.symbols.lanes)
            name = self._fresh(name or node.name)
            self.buffers[name] = Buffer(name, node.dtype, max(size, 1), role)
            self.places[key] = name
            self.home.setdefault(node, (name, layout))
        return self.places[key]

    def constant(self, node: Constant) -> str:
        """The buffer of a baked-in array."""
        layout = Layout(tuple(range(node.ndim)))
        if (node, layout) not in self.places:
            name = self._fresh("constant")
            data = node.attrs[0]
            self.buffers[name] = Buffer(name, node.dtype, node.value.size, "constant", data)
            self.places[node, layout] = name
            self.home[node] = (name, layout)
        return self.places[node, layout]

    def fresh_buffer(self, name: str, dtype: str, size: int, role: str = "arena") -> str:
        """A buffer that belongs to no node: an output, a copy, a kernel's own memory."""
        name = self._fresh(name)
        self.buffers[name] = Buffer(name, dtype, size, role)
        return name

    def part(self, name: str, dtype: str, size: int, whole: str, start: Poly) -> str:
        """A name for elements of a buffer from `start` on, which may be another one every turn."""
        name = self.fresh_buffer(name, dtype, size, "part")
        self.parts[name] = whole, start
        return name

    def whole(self, name: str) -> tuple[str, Poly]:
        """The buffer itself, and where in it a part of it starts."""
        start = Poly()
        while name in self.parts:
            name, offset = self.parts[name]
            start = start + offset
        return name, start

    def inner(self) -> Memory:
        """The same buffers, in which a loop's body finds its own values."""
        return Memory(self.symbols, self.buffers, {}, {}, self.parts)

    def _fresh(self, name: str) -> str:
        name = "".join(c if c.isalnum() or c in "._" else "_" for c in name) or "value"
        taken, i = name, 1
        while taken in self.buffers:
            i += 1
            taken = f"{name}.{i}"
        return taken


class Writer:
    """Builds the body of one kernel."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.symbols = memory.symbols
        self.lanes = memory.symbols.lanes
        self.bounds: dict[str, int] = dict(memory.symbols.largest)
        self.body: list[Stmt] = []
        self.operands: dict[str, str] = {}  # buffer -> "r", "w" or "rw"
        self.formal: dict[str, str] = {}  # buffer -> its name inside the kernel
        self.copies: dict[Expr, tuple[str, Layout]] = {}  # read these nodes in another layout
        self.lane: str | None = None
        self.live: Value | None = None  # holds where a lane has an element behind it
        self.was_flat = False
        self.independent = False  # turns of the outermost loops compute elements of their own
        self.registers: set[str] = set()  # integers computed in lanes
        self.flat: Poly | None = None  # every operand lies alike: one index for all
        self.local: dict[
            Expr, tuple[str, Layout, int]
        ] = {}  # kept for a block of rows: buffer, axis
        self.how = ""  # which way of computing was chosen, for readers
        self.split: tuple[str, ...] = ()  # loops whose turns threads may share
        self._memo: list[dict[tuple[int, At], Value]] = [{}]
        self._top: list[Stmt] = []  # 0-d values, computed once before all loops
        self._count = 0

    # -- structure ------------------------------------------------------------------------------
    def fresh(self, stem: str) -> str:
        self._count += 1
        name = f"{stem}{self._count}"
        return self.fresh(stem) if name in self.symbols.names else name

    @contextmanager
    def loop(
        self, stem: str, extent: Poly | int, unroll: int = 1, keep: bool = False
    ) -> Iterator[Poly]:
        """A loop; a single turn costs nothing (the variable is 0), unless it is to be kept."""
        extent = Poly.of(extent)
        if extent.constant == 1 and not keep:
            yield Poly()
            return
        var = self.fresh(stem)
        self.bounds[var] = self._at_most(extent)
        outer, self.body = self.body, []
        self._memo.append({})
        yield Poly.of(var)
        self._memo.pop()
        outer.append(For(var, extent, tuple(self.body), unroll))
        self.body = outer

    @contextmanager
    def vector(self, live: Poly | None, var: str = "l") -> Iterator[Poly]:
        """All lanes at once."""
        if var in self.symbols.names:
            var = self.fresh(var)
        self.bounds[var] = self.lanes
        outer, self.body, self.lane = self.body, [], var
        self._memo.append({})
        yield Poly.of(var)
        self._memo.pop()
        outer.append(Lanes(var, live, tuple(self.body)))
        self.body, self.lane = outer, None

    def let(self, value: Value, stem: str = "t") -> Get:
        """Names a value, so that it is computed once."""
        if isinstance(value, Get) and not value.at:
            return value
        name = self.fresh(stem)
        if self.lane is not None:
            self.registers.add(name)
        self.body.append(Let(name, value))
        return Get(name, value.dtype)

    def integer(self, value: Value, bound: int, stem: str) -> Poly:
        """An integer below `bound`, computed once, to be used in indices and extents."""
        if isinstance(value, Const):
            return Poly.of(int(value.number))
        name = self.let(value, stem).name
        self.bounds[name] = bound
        return Poly.of(name)

    def _at_most(self, extent: Poly) -> int:
        largest = self.symbols.largest
        return extent.value({n: largest.get(n, self.bounds.get(n, 1) - 1) for n in extent.names})

    def kernel(self, name: str) -> tuple[Kernel, tuple[str, ...]]:
        """The finished kernel and the buffers to call it with."""
        params = tuple(
            Param(self.formal[b], self.memory.buffers[b].dtype, mode)
            for b, mode in self.operands.items()
        )
        body = [*self._top, *self.body]
        split: tuple[str, ...] = ()
        if self.independent:
            body, split = shared(body, self.fresh, frozenset(self.symbols.sizes))
        return Kernel(name, params, tuple(body), split=split), tuple(self.operands)

    def touch(self, buffer: str, mode: str) -> str:
        """Notes that the kernel reads or writes a buffer; its name inside the kernel.

        Inside, buffers are numbered, so that equal kernels on other buffers are equal.
        """
        known = self.operands.get(buffer)
        self.operands[buffer] = mode if known in (None, mode) else "rw"
        return self.formal.setdefault(buffer, f"p{len(self.formal)}")

    # -- addresses ------------------------------------------------------------------------------
    def address(self, layout: Layout, shape: Sequence[object], at: At) -> tuple[Poly, bool]:
        """The offset of a logical index, and whether idle lanes have memory of their own there."""
        if self.flat is not None and shape:
            return self.flat, layout.lane is not None
        extents = [self.symbols.poly(s) for s in shape]  # type: ignore[arg-type]
        if layout.lane is None:
            strides = self.symbols.strides([extents[a] for a in layout.order])
            total = Poly()
            for axis, stride in zip(layout.order, strides):
                total = total + at[axis] * stride
            return total, False
        block, within = self._divmod(at[layout.lane], self.lanes)
        sizes = []
        for a in layout.order:
            sizes.append(self.symbols.blocks(shape[a]) if a == layout.lane else extents[a])  # type: ignore[arg-type]
        strides = self.symbols.strides(sizes)
        total = within
        for axis, stride in zip(layout.order, strides):
            total = total + (block if axis == layout.lane else at[axis]) * stride * self.lanes
        # a diagonal runs along two axes: idle lanes then have no memory along the other one
        beside = any(self._varies(at[a]) for a in layout.order if a != layout.lane)
        return total, self.lane is not None and within == Poly.of(self.lane) and not beside

    def stride(self, layout: Layout, n: Expr, axis: int) -> Poly:
        """Elements from one index of an axis to the next; within a block of lanes it is 1."""
        unit = tuple(Poly.of(int(a == axis)) for a in range(n.ndim))
        return self.address(layout, n.shape, unit)[0]

    def _divmod(self, poly: Poly, by: int) -> tuple[Poly, Poly]:
        found = divide(poly, by, self.bounds)
        if found is not None:
            return found
        index, divisor = Index(poly, "int64"), Const(by, "int64")
        q = self.let(Op("floor_divide", (index, divisor), "int64"), "q")
        r = self.let(Op("mod", (index, divisor), "int64"), "r")
        self.bounds[q.name] = max(1, self._most(poly) // by + 1)
        self.bounds[r.name] = by
        return Poly.of(q.name), Poly.of(r.name)

    def _most(self, poly: Poly) -> int:
        total = 0
        for m, c in poly.terms:
            total += max(0, c) * math.prod(max(0, self.bounds.get(n, 1 << 31) - 1) or 1 for n in m)
        return total

    def _range(self, poly: Poly) -> tuple[int, int]:
        """Bounds of an index; far ones where little is known."""
        low = high = 0
        sizes = self.symbols.largest
        for m, c in poly.terms:
            ends = (sizes.get(name, self.bounds.get(name, 1 << 31) - 1) for name in m)
            most = c * math.prod(max(0, end) for end in ends)
            low, high = (low + min(0, most), high + max(0, most)) if m else (low + c, high + c)
        return low, high

    def load(self, node: Expr, at: At, when: Value | None = None) -> Value:
        """An element of a node in memory."""
        if isinstance(node, Constant) and node not in self.memory.home:
            self.memory.constant(node)
        name, layout = self.copies.get(node) or self.memory.home[node]
        return self.load_from(name, layout, node, at, when)

    def layout(self, node: Expr) -> Layout | None:
        """How this kernel finds a node in memory; None when it is not there."""
        found = self.copies.get(node) or self.memory.home.get(node)
        return found[1] if found else None

    def load_from(
        self, name: str, layout: Layout, node: Expr, at: At, when: Value | None = None
    ) -> Value:
        """An element of a certain copy of a node."""
        offset, full = self.address(layout, node.shape, at)
        if when is None and not full and self.live is not None and self._varies(offset):
            when = self.live
        return Load(self.touch(name, "r"), offset, node.dtype, when, full)

    def _varies(self, index: Poly) -> bool:
        """True when lanes may read different elements."""
        return self.lane in index.names or not self.registers.isdisjoint(index.names)

    def store(self, name: str, layout: Layout, node: Expr, at: At, value: Value) -> None:
        offset, full = self.address(layout, node.shape, at)
        self.body.append(Store(self.touch(name, "w"), offset, value, None, full))

    def scatter(self, name: str, layout: Layout, node: Expr, at: At, value: Value) -> None:
        offset, _ = self.address(layout, node.shape, at)
        self.body.append(Scatter(self.touch(name, "rw"), offset, value))

    # -- values ---------------------------------------------------------------------------------
    def bind(self, node: Expr, at: At, value: Value) -> None:
        """From here on, in this scope, `node` at this index is `value`."""
        self._memo[-1][id(node), at] = value

    def value(self, node: Expr, at: At, when: Value | None = None) -> Value:
        """The value of a node at a logical index."""
        key = (id(node), at)
        for scope in reversed(self._memo):
            if key in scope:
                return scope[key]
        if not at and len(self._memo) > 1:
            return self._hoisted(node)
        found = self._value(node, at, when)
        if when is None:
            self._memo[-1][key] = found
        return found

    def _hoisted(self, node: Expr) -> Value:
        """A 0-d value used inside loops: computed before them."""
        if isinstance(node, Constant):
            return self._value(node, (), None)
        outer, self.body, lane, self.lane = self.body, self._top, self.lane, None
        memo, self._memo = self._memo, self._memo[:1]
        flat, self.flat, live, self.live = self.flat, None, self.live, None
        found = self.let(self.value(node, ()), "s")
        self._memo, self.body, self.lane, self.flat, self.live = memo, outer, lane, flat, live
        self._memo[0][id(node), ()] = found
        return found

    def _value(self, n: Expr, at: At, when: Value | None) -> Value:
        if n in self.local:
            name, layout, axis = self.local[n]
            offset = self._local_offset(n, layout, at, axis)
            return Load(self.touch(name, "r"), offset, n.dtype, when, True)
        if n in self.copies or n in self.memory.home:
            return self.load(n, at, when)
        return self.compute(n, at, when)

    def _local_offset(self, n: Expr, layout: Layout, at: At, axis: int) -> Poly:
        extents = [self.symbols.poly(n.shape[a]) for a in layout.order]
        total = Poly.of(self.lane or 0)
        for a, stride in zip(layout.order, self.symbols.strides(extents)):
            total = total + at[a] * stride * self.lanes
        return total

    def store_local(self, n: Expr, at: At, value: Value) -> None:
        """Keeps a value for the later loops of this block of rows."""
        name, layout, axis = self.local[n]
        offset = self._local_offset(n, layout, at, axis)
        self.body.append(Store(self.touch(name, "w"), offset, value, None, True))

    def compute(self, n: Expr, at: At, when: Value | None = None) -> Value:
        """The value of a node from its operands, even if it also lies in memory."""
        if isinstance(n, Map):
            args = tuple(self.value(a, at if a.shape else (), when) for a in n.args)
            if n.op == "add":  # the parts of a concatenation are sums of parts that are 0 elsewhere
                rest = [v for v in args if not (isinstance(v, Const) and v.number == 0)]
                if len(rest) == 1:
                    return rest[0]
            fn = "cast" if n.op.startswith("to_") else n.op
            return Op(fn, args, n.dtype)
        if isinstance(n, Contract):
            return self._product(n, at, when)
        if isinstance(n, Constant):
            scalar = n.scalar
            if scalar is not None:
                return Const(scalar, n.dtype)
            return self.load(n, at, when)
        if isinstance(n, SizeOf):
            return Op("cast", (Index(self.symbols.poly(n.of_size), "int64"),), n.dtype)
        if isinstance(n, Iota):
            return Op("cast", (Index(at[0], "int32"),), n.dtype)
        if isinstance(n, Reindex):
            return self._reindexed(n, at, when)
        if isinstance(n, Reshape):
            return self.value(n.args[0], self.unravel(n, at), when)
        if isinstance(n, Gather):
            return self._gathered(n, at, when)
        if isinstance(n, Random):
            return self._random(n, at)
        raise GraphError(f"{n.name} of shape {n.shape} is used at {at} before it is computed")

    def _product(self, n: Contract, at: At, when: Value | None) -> Value:
        return self._multiply(n, dict(zip(n.out, at)), when)

    def inner_product(self, n: Contract, at: At) -> Value:
        """What a contraction sums: the product of its operands at an index of all its labels."""
        return self._multiply(n, dict(enumerate(at)), None)

    def _multiply(self, n: Contract, where: dict[int, Poly], when: Value | None) -> Value:
        values = [
            self.value(a, tuple(where[k] for k in labels), when) for labels, a in zip(n.ins, n.args)
        ]
        result = values[0]
        for v in values[1:]:
            fn = "logical_and" if n.dtype == "bool" else "mul"
            result = Op(fn, (result, v), n.args[0].dtype)
        return result if n.dtype == n.args[0].dtype else Op("cast", (result,), n.dtype)

    def _reindexed(self, n: Reindex, at: At, when: Value | None) -> Value:
        arg, index, conditions = n.args[0], [], [] if when is None else [when]
        for axis, (offset, terms, divisor) in enumerate(n.maps):
            poly = Poly.of(offset)
            for out_axis, coefficient in terms:
                poly = poly + at[out_axis] * coefficient
            size = self.symbols.poly(arg.shape[axis])
            if divisor != 1:
                number = Index(poly, "int64")
                by = Const(divisor, "int64")
                even = Op("equal", (Op("mod", (number, by), "int64"), Const(0, "int64")), "bool")
                conditions.append(self.let(even, "even"))
                quotient = self.let(Op("floor_divide", (number, by), "int64"), "q")
                self.bounds[quotient.name] = self.symbols.most(size)
                poly = Poly.of(quotient.name)
            first, last = self._range(poly)
            if divisor == 1 and (last < 0 or first >= self.symbols.most(size)):
                return Const(n.fill, n.dtype)
            within = size.constant is not None and 0 <= first <= last < size.constant
            if not n.inside(axis) and not (within and divisor == 1):
                number = Index(poly, "int64")
                low = Op("greater_equal", (number, Const(0, "int64")), "bool")
                high = Op("less", (number, Index(size, "int64")), "bool")
                conditions.append(self.let(Op("logical_and", (low, high), "bool"), "inside"))
            index.append(Poly() if arg.shape[axis] == 1 else poly)
        if not conditions:
            return self.value(arg, tuple(index))
        condition = conditions[0]
        for c in conditions[1:]:
            condition = Op("logical_and", (condition, c), "bool")
        condition = self.let(condition, "inside")
        inner = self.value(arg, tuple(index), condition)
        return Op("where", (condition, inner, Const(n.fill, n.dtype)), n.dtype)

    def unravel(self, n: Reshape, at: At) -> At:
        """The index of a reshape's operand. Leading axes that both have keep their index, so that
        a row stays the row it is; what is behind them goes through its place in memory."""
        arg = n.args[0]
        index: list[Poly] = []
        i = 0
        while len(index) < arg.ndim:
            size = arg.shape[len(index)]
            if size == 1:
                index.append(Poly())
            elif i < n.ndim and n.shape[i] == 1:
                i += 1
            elif i < n.ndim and n.shape[i] == size:
                index.append(at[i])
                i += 1
            else:
                break
        rest = arg.shape[len(index) :]
        linear = Poly()
        strides = self.symbols.strides([self.symbols.poly(s) for s in n.shape[i:]])
        for k, stride in zip(at[i:], strides):
            linear = linear + k * stride
        behind: list[Poly] = []
        for size in reversed(rest[1:]):
            if isinstance(size, int):
                linear, inner = self._divmod(linear, size)
            else:
                linear, inner = self._divmod_size(linear, self.symbols.poly(size))
            behind.append(inner)
        return (*index, *([linear] if rest else []), *reversed(behind))

    def _divmod_size(self, poly: Poly, by: Poly) -> tuple[Poly, Poly]:
        number, divisor = Index(poly, "int64"), Index(by, "int64")
        q = self.let(Op("floor_divide", (number, divisor), "int64"), "q")
        r = self.let(Op("mod", (number, divisor), "int64"), "r")
        self.bounds[q.name] = self._most(poly) + 1
        self.bounds[r.name] = self.symbols.most(by)
        return Poly.of(q.name), Poly.of(r.name)

    def gather_index(self, n: Expr, indices: Expr, at: At, when: Value | None, size: Poly) -> Poly:
        """A data-dependent index, kept inside the axis (inputs are checked before the call)."""
        if size.constant == 1:
            return Poly()
        raw = Op("cast", (self.value(indices, at, when),), "int64")
        top = Op("sub", (Index(size, "int64"), Const(1, "int64")), "int64")
        low = Op("maximum", (raw, Const(0, "int64")), "int64")
        name = self.let(Op("minimum", (low, top), "int64"), "g").name
        self.bounds[name] = self.symbols.most(size)
        return Poly.of(name)

    def _gathered(self, n: Gather, at: At, when: Value | None) -> Value:
        arg, indices = n.args
        spread = indices.ndim - n.batch
        where = (*at[: n.batch], *at[n.axis : n.axis + spread])
        size = self.symbols.poly(arg.shape[n.axis])
        picked = self.gather_index(n, indices, where, when, size)
        return self.value(arg, (*at[: n.axis], picked, *at[n.axis + spread :]), when)

    def _random(self, n: Random, at: At) -> Value:
        from symgrad.schedule.random import draw

        extents = [self.symbols.poly(s) for s in n.shape]
        linear = Poly()
        for i, stride in zip(at, self.symbols.strides(extents)):
            linear = linear + i * stride
        return draw(self, n, linear)


def loops_in_order(
    w: Writer, stack: ExitStack, layout: Layout, shape: Sequence[Size], stretch: Stretch = WHOLE
) -> At:
    """Loops over all elements in the order of memory, the contiguous axis in lanes. Few blocks of
    lanes do not go outside of all: threads share the turns of the outermost loop. Of the axes in
    `stretch` only this part, which starts a block where it is in lanes."""
    start = {axis: first for axis, (first, _) in stretch.items()}
    shape = [stretch[axis][1] if axis in stretch else size for axis, size in enumerate(shape)]
    lane = layout.lane if layout.lane is not None else (layout.order or (None,))[-1]
    index: dict[int, Poly] = {}
    inner: ExitStack = stack
    block = Poly()
    order = list(layout.order)
    if order[:1] == [lane] and w.symbols.most(w.symbols.blocks(shape[order[0]])) < MANY:
        order[:2] = order[1::-1]
    for axis in order:
        if axis == lane:
            block = stack.enter_context(w.loop("b", w.symbols.blocks(shape[axis])))
        else:
            index[axis] = stack.enter_context(w.loop("f", w.symbols.poly(shape[axis])))
    if lane is not None:
        live = live_lanes(w.symbols, shape[lane], block)
        index[lane] = block * w.lanes + inner.enter_context(w.vector(live))
    return tuple(index[a] + start.get(a, 0) for a in range(len(shape)))
