"""What a kernel does in numbers: arithmetic, loads and stores executed, distinct bytes moved.

In: a `loops.Kernel` and all sizes it uses, the derived ones included; or a whole program and its
run-time sizes. Out: `Counts`, found without running anything.

>>> counts(kernel, {"n": 20, "blocks": 2}, lanes=16)
Counts(flops=20, loads=21, stores=20, bytes=164, other=0)

Idle lanes do nothing, and what does not depend on a loop that is written out, on a lane, or on the
innermost loops is computed once, as the emitter does. A function that no machine has counts as the
arithmetic it is made of. Extents that vary are added up exactly, unless they hang on data or on
too many turns: then the largest extent counts. Accesses under a condition count as if it held.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codegen import loops, vecmath
from codegen.bounds import derived_sizes
from codegen.functions import FLOATS, FUNCTIONS
from codegen.loops import ITEMSIZE, Poly
from codegen.ranges import Range, poly_range, value_range
from codegen.repeats import flat
from codegen.walk import children, postorder, values_of

ARITHMETIC = {"fma": 2, **dict.fromkeys(("add", "sub", "mul", "div", "sqrt"), 1)}
ARITHMETIC |= {"minimum": 1, "maximum": 1}
TURNS = 20000  # so many turns of loops are looked at one by one before the largest is taken

Ints = Any  # np.ndarray of int64
Names = dict[str, Range]


@dataclass(frozen=True)
class Counts:
    """Of one call: operations on floats, elements loaded and stored, bytes of distinct elements
    read plus those written, and all other operations (integers, comparisons, choices)."""

    flops: int = 0
    loads: int = 0
    stores: int = 0
    bytes: int = 0
    other: int = 0

    def __add__(self, more: Counts) -> Counts:
        return Counts(
            self.flops + more.flops,
            self.loads + more.loads,
            self.stores + more.stores,
            self.bytes + more.bytes,
            self.other + more.other,
        )


def counts(kernel: loops.Kernel, sizes: Mapping[str, int], lanes: int = 16) -> Counts:
    """What one call of `kernel` does."""
    return _Evaluation(_Outline(lanes).kernel(kernel), kernel, sizes, lanes).counts()


def program_counts(program: loops.Program, sizes: Mapping[str, int]) -> list[Counts]:
    """What each call of a program does whenever it runs, in the order of the text; `sizes` are
    those a caller gives."""
    names = derived_sizes(program, sizes)
    known = {k.name: counts(k, names, program.lanes) for k in program.kernels}
    return [known[call.kernel] for call, _ in flat(program)]


# -- the outline of a kernel: what is executed in which loop ---------------------------------------


@dataclass
class _Item:
    """Something executed: an operation, a load, a store. `loops` are those it must repeat in."""

    loops: frozenset[int]
    flops: int = 0
    other: int = 0
    buffer: str = ""
    index: Poly = field(default_factory=Poly)
    dtype: str = ""
    writes: bool = False


@dataclass
class _Block:
    """Statements in order: integer names and loops; `own` are the items that are in none."""

    start: int
    stop: int = 0
    own: list[int] = field(default_factory=list)
    steps: list[loops.Let | _Loop] = field(default_factory=list)
    control: set[str] = field(default_factory=set)  # names that decide how often loops run


@dataclass
class _Loop:
    key: int
    var: str
    extent: Poly
    most: int | None  # a vector: its lanes
    body: _Block
    repeats: Ints  # which items of the body each turn executes again


class _Outline:
    """One walk over the statements."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.items: list[_Item] = []
        self.open: list[tuple[int, bool]] = []  # loops around: whether turns share what is equal
        self.number = 0
        self.names: dict[str, frozenset[int]] = {}
        self.seen: list[dict[Any, frozenset[int]]] = []

    def kernel(self, kernel: loops.Kernel) -> tuple[_Block, list[_Item]]:
        return self._block(kernel.body), self.items

    def _block(self, body: Iterable[loops.Stmt]) -> _Block:
        block = _Block(len(self.items))
        self.seen.append({})
        for s in body:
            if isinstance(s, loops.For):
                shared = s.extent.constant is not None and s.unroll >= (s.extent.constant or 0)
                self._loop(block, s.var, s.extent, None, shared, s.body)
            elif isinstance(s, loops.Lanes):
                live = Poly.of(self.lanes) if s.live is None else s.live
                self._loop(block, s.var, live, self.lanes, True, s.body)
            elif isinstance(s, loops.Transpose):
                self._transpose(block, s)
            else:
                first = len(self.items)
                self._statement(block, s)
                block.own.extend(range(first, len(self.items)))
        self.seen.pop()
        block.stop = len(self.items)
        for step in reversed(block.steps):
            if isinstance(step, loops.Let):
                if step.name in block.control:
                    block.control |= _names(step.value)
            else:
                block.control |= step.extent.names | step.body.control
        return block

    def _loop(
        self,
        block: _Block,
        var: str,
        extent: Poly,
        most: int | None,
        shared: bool,
        body: Iterable[loops.Stmt],
    ) -> None:
        self.number += 1
        key, before = self.number, dict(self.names)
        self.names[var] = frozenset((key,))
        self.open.append((key, shared))
        inner = self._block(body)
        self.open.pop()
        self.names = before
        items = self.items[inner.start : inner.stop]
        # loops are numbered from outside: one with a larger number is inside of this one
        again = [key in i.loops or (not shared and any(k > key for k in i.loops)) for i in items]
        block.steps.append(_Loop(key, var, extent, most, inner, np.array(again, bool)))

    def _transpose(self, block: _Block, s: loops.Transpose) -> None:
        """As the loops that it stands for: a padded one writes whole vectors."""
        r, c = f"row.{self.number}", f"col.{self.number}"
        load = loops.Load(s.src, s.src_index + s.src_stride * r + Poly.of(c), s.dtype)
        place = s.dst_index + s.dst_stride * c + Poly.of(r)
        wide = s.rows if s.pad == "none" else Poly.of(self.lanes)
        moves: list[tuple[Poly, loops.Stmt]] = [
            (s.rows, loops.Let(f"tile.{self.number}", load)),
            (wide, loops.Store(s.dst, place, loops.Const(0, s.dtype))),
        ]
        for rows, move in moves:
            self._loop(block, r, rows, None, False, (loops.For(c, s.cols, (move,)),))

    def _statement(self, block: _Block, s: loops.Stmt) -> None:
        needs = [self._value(v) for v in values_of(s)]
        everywhere = frozenset(key for key, _ in self.open)
        if isinstance(s, loops.Let):
            self.names[s.name] = needs[0]
            if s.value.dtype in ("int32", "int64", "bool"):
                block.steps.append(s)
        elif isinstance(s, loops.Declare):
            self.names[s.name] = everywhere
        elif isinstance(s, loops.Accumulate):
            is_float = s.value.dtype in FLOATS
            self.items.append(_Item(everywhere, flops=is_float, other=not is_float))
        elif isinstance(s, loops.Store):
            self._access(everywhere, s.buffer, s.index, s.value.dtype, True)
        elif isinstance(s, loops.Scatter):
            dtype = s.value.dtype
            self._access(everywhere, s.buffer, s.index, dtype, False)
            self._access(everywhere, s.buffer, s.index, dtype, True)
            self.items.append(_Item(everywhere, flops=dtype in FLOATS))

    def _access(
        self, around: frozenset[int], buffer: str, index: Poly, dtype: str, writes: bool
    ) -> None:
        if writes:  # what was loaded of this buffer may be another value now
            for seen in self.seen:
                for key in [k for k in seen if isinstance(k, tuple) and k[0] == buffer]:
                    del seen[key]
        self.items.append(_Item(around, 0, 0, buffer, index, dtype, writes))

    # -- values: the loops each depends on -------------------------------------------------------
    def _value(self, root: loops.Value) -> frozenset[int]:
        for v in postorder((root,)):
            if self._known(v) is None:
                self.seen[-1][id(v)] = self._one(v)
        return self._known(root) or frozenset()

    def _known(self, key: Any) -> frozenset[int] | None:
        key = key if isinstance(key, tuple) else id(key)
        return next((seen[key] for seen in reversed(self.seen) if key in seen), None)

    def _one(self, v: loops.Value) -> frozenset[int]:
        needs = [self._known(a) or frozenset() for a in children(v)]
        around = frozenset().union(*needs)
        if isinstance(v, loops.Get):
            known = self.names.get(v.name, frozenset())
            return known.union(*(self._poly(Poly.of(at)) for at in v.at))
        if isinstance(v, loops.Index):
            return self._poly(v.poly)
        if isinstance(v, loops.Load):
            around |= self._poly(v.index)
            key = (v.buffer, v.index, id(v.when))
            if self._known(key) is None:
                self.seen[-1][key] = around
                self._access(around, v.buffer, v.index, v.dtype, False)
        elif isinstance(v, loops.Op):
            flops, other = weight(v.fn, v.args[0].dtype if v.args else v.dtype, v.dtype)
            if v.fn.startswith("philox"):  # its four words come out of one computation
                words = ("philox", *map(id, v.args))
                if self._known(words) is not None:
                    return around
                self.seen[-1][words] = around
            self.items.append(_Item(around, flops, other))
        return around

    def _poly(self, poly: Poly) -> frozenset[int]:
        return frozenset().union(*(self.names.get(n, frozenset()) for n in poly.names))


def _names(value: loops.Value) -> set[str]:
    found: set[str] = set()
    for v in postorder((value,)):
        if isinstance(v, loops.Get):
            found.add(v.name)
        elif isinstance(v, loops.Index):
            found |= v.poly.names
    return found


@functools.cache
def weight(fn: str, dtype: str, result: str) -> tuple[int, int]:
    """Operations on floats, and others, of one scalar function on arguments of `dtype`."""
    if FUNCTIONS[fn].primitive:
        flops = ARITHMETIC.get(fn, 0) if result in FLOATS else 0
        return flops, 0 if flops or fn in ("cast", "bitcast") else 1
    args = tuple(loops.Load(f"x{i}", Poly(), dtype) for i in range(FUNCTIONS[fn].arity))
    lowered = vecmath.lower(loops.Op(fn, args, result), _Fma())
    parts = [
        weight(v.fn, v.args[0].dtype, v.dtype)
        for v in postorder((lowered,))
        if isinstance(v, loops.Op)
    ]
    return sum(f for f, _ in parts), sum(o for _, o in parts)


class _Fma:
    has_fma = True


# -- how often everything is executed, at given sizes ----------------------------------------------


class _Evaluation:
    def __init__(
        self,
        outline: tuple[_Block, list[_Item]],
        kernel: loops.Kernel,
        sizes: Mapping[str, int],
        lanes: int,
    ) -> None:
        self.block, self.items = outline
        self.kernel = kernel
        self.sizes: Names = {name: (n, n) for name, n in sizes.items()}
        self.left = TURNS

    def counts(self) -> Counts:
        turns = [int(n) for n in self._turns(self.block, dict(self.sizes))]
        memory = [(i, n) for i, n in zip(self.items, turns) if i.buffer and n]
        return Counts(
            flops=sum(i.flops * n for i, n in zip(self.items, turns)),
            loads=sum(n for i, n in memory if not i.writes),
            stores=sum(n for i, n in memory if i.writes),
            bytes=self._bytes(memory),
            other=sum(i.other * n for i, n in zip(self.items, turns)),
        )

    def _turns(self, block: _Block, names: Names) -> Ints:
        """How often each item of a block is executed when the block is once."""
        found = np.zeros(block.stop - block.start, np.int64)
        found[[i - block.start for i in block.own]] = 1
        for step in block.steps:
            if isinstance(step, loops.Let):
                if step.name in block.control:
                    names[step.name] = value_range(step.value, names)
            else:
                inner = slice(step.body.start - block.start, step.body.stop - block.start)
                found[inner] = self._loop(step, names)
        return found

    def _loop(self, loop: _Loop, names: Names) -> Ints:
        extent = _extent(loop, names)
        if extent <= 0:
            return np.zeros(len(loop.repeats), np.int64)
        if loop.var not in loop.body.control or self.left <= 0:
            once = self._turns(loop.body, {**names, loop.var: (0, extent - 1)})
            return np.where(loop.repeats, once * extent, once)
        known: dict[int, Ints] = {}

        def turn(i: int) -> Ints:
            if i not in known:
                self.left -= 1
                known[i] = self._turns(loop.body, {**names, loop.var: (i, i)})
            return known[i]

        total = _add_up(turn, 0, extent - 1)
        return np.where(loop.repeats, total, np.max([*known.values()], axis=0))

    # -- distinct memory -------------------------------------------------------------------------
    def _bytes(self, memory: list[tuple[_Item, int]]) -> int:
        names = dict(self.sizes)
        self._ranges(self.block, names)
        dtype = {p.name: p.dtype for p in self.kernel.params}
        accesses: dict[tuple[str, bool], list[tuple[_Item, int]]] = defaultdict(list)
        for item, turns in memory:
            accesses[item.buffer, item.writes].append((item, turns))
        total = 0
        for (buffer, _), found in accesses.items():
            size = ITEMSIZE[dtype.get(buffer, found[0][0].dtype)]
            total += size * _distinct(found, names, self.sizes)
        return total

    def _ranges(self, block: _Block, names: Names) -> None:
        """The range of every name of the kernel: of one used twice, what covers both."""
        for step in block.steps:
            name = step.name if isinstance(step, loops.Let) else step.var
            before = names.pop(name, None)
            if isinstance(step, loops.Let):
                found = value_range(step.value, names)
            else:
                found = (0, max(_extent(step, names) - 1, 0))
            names[name] = found
            if isinstance(step, _Loop):
                self._ranges(step.body, names)
            if before is not None:
                names[name] = min(before[0], found[0]), max(before[1], found[1])


def _extent(loop: _Loop, names: Names) -> int:
    _, most = poly_range(loop.extent, names)
    if loop.most is not None:
        most = min(most, loop.most)
    return int(most) if math.isfinite(most) else 1


def _add_up(turn: Callable[[int], Ints], first: int, last: int) -> Ints:
    """The sum over all turns; where the ends and the middle are on a line, so is what is between
    (extents are clipped polynomials: they do not swing)."""
    if last - first < 4:
        return sum(turn(i) for i in range(first, last + 1))
    middle = (first + last) // 2
    low, half, high = turn(first), turn(middle), turn(last)
    if np.array_equal((high - low) * (middle - first), (half - low) * (last - first)):
        return (low + high) * (last - first + 1) // 2
    return _add_up(turn, first, middle) + _add_up(turn, middle + 1, last)


Steps = tuple[tuple[int, int], ...]  # of an index: (stride, turns) of every variable


def _distinct(accesses: list[tuple[_Item, int]], names: Names, sizes: Names) -> int:
    """How many elements these accesses of one buffer touch, at most."""
    groups: dict[Steps, dict[int, int]] = defaultdict(dict)
    for item, turns in accesses:
        steps, offset = _steps(item.index, names, sizes)
        groups[steps][offset] = groups[steps].get(offset, 0) + turns
    spans = []
    for steps, offsets in groups.items():
        reach = sum(stride * (turns - 1) for stride, turns in steps)
        count = min(_elements(_with_offsets(steps, sorted(offsets))), sum(offsets.values()))
        spans.append((min(offsets), max(offsets) + reach, count))
    total = held = begin = 0  # spans that overlap may be the same elements
    end: int | None = None
    for low, high, count in sorted(spans):
        if end is None or low > end:
            total, begin, end, held = total + held, low, high, count
        else:
            end = max(end, high)
            held = min(held + count, end - begin + 1)
    return total + held


def _steps(index: Poly, names: Names, sizes: Names) -> tuple[Steps, int]:
    """Strides and turns of an index, and its smallest value."""
    strides: dict[str, int] = defaultdict(int)
    for monomial, factor in index.terms:
        moving = [n for n in monomial if n not in sizes]
        others = math.prod(int(sizes[n][0]) for n in monomial if n in sizes)
        for n in moving[:1]:  # of a product of variables the others at their largest
            rest = math.prod(_turns_of(names, m) - 1 for m in moving[1:])
            strides[n] += factor * others * rest
    steps = sorted((abs(c), _turns_of(names, n)) for n, c in strides.items() if c)
    least, _ = poly_range(index, names)
    return tuple(s for s in steps if s[1] > 1), int(least) if math.isfinite(least) else 0


def _turns_of(names: Names, name: str) -> int:
    low, high = names.get(name, (0, math.inf))
    return int(high - low + 1) if math.isfinite(high - low) else 1 << 40


def _with_offsets(steps: Steps, offsets: list[int]) -> Steps:
    """The same access at several offsets is one more variable."""
    gaps = [b - a for a, b in zip(offsets, offsets[1:])]
    return tuple(sorted((*steps, (math.gcd(*gaps), len(offsets))))) if gaps else steps


def _elements(steps: Steps) -> int:
    """Distinct sums of `stride * i` for i below `turns`, strides from the smallest. Where they
    overlap, as the windows of a convolution do, they fill their range as densely as before."""
    count = span = 1
    for stride, turns in steps:
        reach = stride * (turns - 1) + span
        if stride >= span:
            count *= turns
        else:
            count = min(count * turns, -(-reach * count // span))
        span = reach
    return count
