"""The kernels of a Winograd convolution that makes an image: forward, and the input gradient.

In: a `Plan`, what follows the convolution elementwise, where results go. Out: two kernels. One
transforms the weights; the other does for some tiles t at a time, for F(2x2) and samples in lanes,

    for t, for c:        V[:, t, c] = B^T d B                       of the tile's 4 x 4 inputs d
    for p, for o, t:     M[p, t, o] = sum c  U[p, o, c] * V[p, t, c]           at 16 positions p
    for t, for o:        y = A^T M[:, t, o] A                   2 x 2 outputs: epilogue, stores

V and M fill a part of the second cache. Tiles are numbered through the whole image, so that a
register tile holds several of them whatever the image's width.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator, Mapping, Sequence

from codegen.loops import (
    ITEMSIZE,
    Accumulate,
    Const,
    Declare,
    Get,
    Index,
    Load,
    Op,
    Poly,
    Store,
    Value,
)
from codegen.target import Target
from symgrad.node import Expr
from symgrad.schedule.layout import Layout
from symgrad.schedule.symbols import divide, live_lanes
from symgrad.schedule.tiling import ACCUMULATORS, Part, even_split, split
from symgrad.schedule.winograd import TAPS, Filters, Plan
from symgrad.schedule.winograd_transforms import apply_both
from symgrad.schedule.writer import At, Memory, Writer

LIGHT = 4  # operations of an epilogue that is written out for every output of a tile
SHARE = 4  # V and M together fill this part of the second cache
Tests = Sequence["Value | None"]  # one for each of some inputs; None: it is always there


# -- weights ---------------------------------------------------------------------------------------


def write_filters(memory: Memory, filters: Filters, target: str) -> Writer:
    """The kernel that transforms weights into the buffer `target`."""
    w = Writer(memory)
    (along, other), places = filters.shape, range(TAPS)
    name = w.touch(target, "w")
    with w.loop("b", w.symbols.blocks(along)) as b, w.loop("f", other) as f:
        with w.vector(live_lanes(w.symbols, along, b)) as lane:
            at = [Poly()] * filters.weights.ndim
            at[filters.lane], at[filters.other] = b * w.lanes + lane, f
            patch = [[_tap(w, filters, at, (k, j)) for j in places] for k in places]
            result = apply_both(filters.algorithm.weights, patch, w.let)
            for p, value in enumerate(v for row in result for v in row):
                to = (b * other + f + p * filters.rows(w.lanes)) * w.lanes + lane
                w.body.append(Store(name, to, value, None, True))
    return w


def _tap(w: Writer, filters: Filters, at: Sequence[Poly], place: tuple[int, int]) -> Value:
    index = list(at)
    for axis, k in zip(filters.taps, place):
        index[axis] = Poly.of(TAPS - 1 - k if filters.reverse else k)
    return w.value(filters.weights, tuple(index))


# -- the convolution -------------------------------------------------------------------------------


@dataclass
class Images:
    """Writes one convolution and its epilogue."""

    plan: Plan
    transformed: str  # the buffer of the transformed weights
    epilogue: Sequence[Expr]  # elementwise nodes after it, operands first
    cost: int  # operations of the epilogue
    stored: Mapping[Expr, tuple[str, Layout]]  # what of it goes to memory
    memory: Memory
    target: Target
    copies: Mapping[Expr, tuple[str, Layout]]  # operands in the layout they are read in

    def __post_init__(self) -> None:
        plan = self.plan
        self.w = Writer(self.memory)
        self.w.copies = dict(self.copies)
        self.s, self.lanes = self.memory.symbols, self.memory.symbols.lanes
        self.n, self.dtype, self.algorithm = plan.n, plan.n.dtype, plan.algorithm
        self.inner, self.outer = plan.size(plan.inner), plan.size(plan.outer)
        self.count = plan.tiles[0] * plan.tiles[1]
        self.wide, self.width = self._sizes()
        # vectors of a position, an odd number: positions then start in different cache sets
        self.v_rows, self.m_rows = self.width * self.inner | 1, self.width * self.outer | 1
        self.v = self._scratch("patches", self.v_rows)
        self.m = self._scratch("products", self.m_rows)

    def _scratch(self, name: str, rows: int) -> str:
        size = self.algorithm.positions * rows * self.lanes
        return self.memory.fresh_buffer(name, self.dtype, size)

    def _sizes(self) -> tuple[int, int]:
        """Vectors of a register tile, and tiles that are computed at a time."""
        wide = min(2, self.count)
        each = self.algorithm.positions * (self.inner + self.outer) * self.lanes
        most = max(2 * wide, self.target.l2 // SHARE // (each * ITEMSIZE[self.dtype]))
        width = -(-self.count // -(-self.count // most))
        return wide, -(-width // wide) * wide

    # -- loops ----------------------------------------------------------------------------------
    def write(self) -> Writer:
        groups = -(-self.count // self.width)
        blocks = self.s.blocks(self.n.extents[self.plan.batch])
        with self.w.loop("b", blocks * groups) as turn:
            self.block, group = self._divided(turn, groups, self.s.most(blocks))
            self.first = group * self.width
            live = self._live_tiles()
            self._transform_inputs(live)
            self._multiply(live)
            self._transform_results(live)
        return self.w

    def _live_tiles(self) -> Poly:
        """How many tiles this group has: the last one may have fewer."""
        if self.count % self.width == 0:
            return Poly.of(self.width)
        rest = Index(Poly.of(self.count) - self.first, "int64")
        found = Op("minimum", (rest, Const(self.width, "int64")), "int64")
        return self.w.integer(found, self.width + 1, "live")

    def _divided(self, number: Poly, by: int, below: int) -> tuple[Poly, Poly]:
        """Quotient, which is smaller than `below`, and remainder."""
        found = divide(number, by, self.w.bounds)
        if found is not None:
            return found
        q = Op("div_int", (Index(number, "int64"), Const(by, "int64")), "int64")
        quotient = self.w.integer(q, below, "q")
        return quotient, number - quotient * by

    @contextmanager
    def _tiles(self, live: Poly) -> Iterator[tuple[Poly, tuple[Poly, Poly]]]:
        """The loop over the tiles of a group: number in it, row and column of its first place."""
        m, (down, across) = self.algorithm.outputs, self.plan.tiles
        with self.w.loop("t", live) as t:
            row, column = self._divided(self.first + t, across, down)
            yield t, (row * m, column * m)

    def _turns(self, condition: Value) -> Poly:
        """1 where the condition holds, else 0: the turns of a loop over what depends on it."""
        one, zero = Const(1, "int64"), Const(0, "int64")
        return self.w.integer(Op("where", (condition, one, zero), "int64"), 2, "turns")

    # -- inputs ---------------------------------------------------------------------------------
    def _transform_inputs(self, live: Poly) -> None:
        """Patches inside of the image are read as they are; at its border every input is asked
        for."""
        with self._tiles(live) as (t, place):
            first = (place[0] + self.plan.shift[0], place[1] + self.plan.shift[1])
            tests = [self._inside(axis, first[axis]) for axis in (0, 1)]
            within = _all([*tests[0], *tests[1]])
            anywhere: Tests = [None] * self.algorithm.size
            if within is None:
                self._patch(t, first, (anywhere, anywhere))
                return
            turns = self._turns(within)
            with self.w.loop("if", turns):
                self._patch(t, first, (anywhere, anywhere))
            with self.w.loop("if", 1 - turns):
                self._patch(t, first, (tests[0], tests[1]))

    def _inside(self, axis: int, first: Poly) -> Tests:
        """For each input of a patch along an axis, whether it is in the image."""
        size, low = self.plan.windows.axes[axis].size, self.plan.shift[axis]
        high = low + (self.plan.tiles[axis] - 1) * self.algorithm.outputs
        found: list[Value | None] = []
        for i in range(self.algorithm.size):
            here = Index(first + i, "int64")
            tests: list[Value] = []
            if low + i < 0:
                tests.append(Op("greater_equal", (here, Const(0, "int64")), "bool"))
            if high + i >= size:
                tests.append(Op("less", (here, Const(size, "int64")), "bool"))
            test = _all(tests)
            found.append(test if test is None else self.w.let(test, "inside"))
        return found

    def _patch(self, t: Poly, first: tuple[Poly, Poly], tests: tuple[Tests, Tests]) -> None:
        """The transformed inputs of a tile, channel after channel."""
        w, size = self.w, range(self.algorithm.size)
        name = w.touch(self.v, "w")
        with w.loop("c", self.inner) as c, w.vector(None) as lane:

            def load(i: int, j: int) -> Value:
                at = self._image_index((first[0] + i, first[1] + j), c, lane)
                return w.load(self.plan.windows.base, at, _all([tests[0][i], tests[1][j]]))

            patch = [[load(i, j) for j in size] for i in size]
            result = apply_both(self.algorithm.inputs, patch, w.let)
            for p, value in enumerate(v for row in result for v in row):
                row = t * self.inner + c + self._kept_at(p) * self.v_rows
                w.body.append(Store(name, row * self.lanes + lane, value, None, True))

    def _image_index(self, place: tuple[Poly, Poly], c: Poly, lane: Poly) -> At:
        found = self.plan.windows
        known = {self.plan.batch: self.block * self.lanes + lane, self.plan.inner: c}
        index = [known.get(f.label, Poly()) if f.label is not None else Poly() for f in found.forms]
        for slide, poly in zip(found.axes, place):
            index[slide.axis] = poly
        return tuple(index)

    def _kept_at(self, position: int) -> int:
        """Taps that count backwards meet weights transformed forwards: the positions of the patch
        are put in their order."""
        order = self.algorithm.flipped()
        if not self.plan.reverse or order is None:
            return position
        i, j = divmod(position, self.algorithm.size)
        return order[i] * self.algorithm.size + order[j]

    # -- products -------------------------------------------------------------------------------
    def _multiply(self, live: Poly) -> None:
        """A matrix product for each position, in register tiles of outputs times image tiles. Of
        an odd number the last register tile is computed in full: nobody reads the rest."""
        w = self.w
        wide = Poly.of(self.width // self.wide)
        if live.constant is None:
            above = Index(live + (self.wide - 1), "int64")
            found = Op("div_int", (above, Const(self.wide, "int64")), "int64")
            wide = w.integer(found, self.width // self.wide + 1, "wide")
        with w.loop("p", self.algorithm.positions) as p:
            for part in self._parts():
                with part.open(w) as panel, part.within(w, panel) as o, w.loop("j", wide) as j:
                    self._register_tile(p, o, part.width, j * self.wide)

    def _parts(self) -> Iterator[Part]:
        """The outputs in register tiles. Those in the lanes of a panel must not cross its end."""
        most = ACCUMULATORS[self.target.registers][self.wide]
        if not self._in_lanes(self.plan.outer):
            for start, width, count in even_split(self.outer, most):
                yield Part(Poly.of(start), width, Poly.of(count))
            return
        width = self.lanes
        while width > most:
            width //= 2
        whole, rest = divmod(self.outer, self.lanes)
        if whole:
            yield Part(Poly(), width, Poly.of(whole), None, self.lanes // width)
        for start, part, count in split(rest, most) if rest else []:
            yield Part(Poly.of(whole * self.lanes + start), part, Poly.of(count))

    def _in_lanes(self, channels: int) -> bool:
        """Whether these channels are in the lanes of the transformed weights."""
        assert self.plan.filters is not None
        return self.plan.axes[channels] == self.plan.filters.lane

    def _register_tile(self, p: Poly, o: Poly, outputs: int, t: Poly) -> None:
        w, wide, dtype = self.w, self.wide, self.dtype
        u, v, m = w.touch(self.transformed, "r"), w.touch(self.v, "r"), w.touch(self.m, "w")
        acc, zero = w.fresh("acc"), Const(0.0, dtype)
        with w.vector(None) as lane:
            w.body.append(Declare(acc, dtype, zero, (outputs, wide)))

            def step(c: Poly) -> None:
                with w.loop("i", outputs, outputs) as i, w.loop("j", wide, wide) as j:
                    weight = Load(u, self._weight(p, o + i, c), dtype)
                    row = p * self.v_rows + (t + j) * self.inner + c
                    patch = Load(v, row * self.lanes + lane, dtype, None, True)
                    w.body.append(Accumulate(acc, (i, j), "add", Op("mul", (weight, patch), dtype)))

            self._sum(step)
            with w.loop("i", outputs, outputs) as i, w.loop("j", wide, wide) as j:
                row = p * self.m_rows + (t + j) * self.outer + (o + i)
                total = Get(acc, dtype, (i, j))
                w.body.append(Store(m, row * self.lanes + lane, total, None, True))

    def _sum(self, step: Callable[[Poly], None]) -> None:
        """The loop over the channels of the image, cut in two where they are in lanes."""
        w = self.w
        if not self._in_lanes(self.plan.inner):
            with w.loop("c", self.inner, 2) as c:
                step(c)
            return
        whole, rest = divmod(self.inner, self.lanes)
        if whole:
            with w.loop("p", whole) as b, w.loop("q", self.lanes, 2) as q:
                step(b * self.lanes + q)
        if rest:
            with w.loop("q", rest) as q:
                step(q + whole * self.lanes)

    def _weight(self, p: Poly, outer: Poly, inner: Poly) -> Poly:
        """Where a transformed weight is."""
        filters = self.plan.filters
        assert filters is not None
        along, other = (outer, inner) if self._in_lanes(self.plan.outer) else (inner, outer)
        found = divide(along, self.lanes, self.w.bounds)
        assert found is not None, f"{along} crosses the end of a panel"
        row = p * filters.rows(self.lanes) + found[0] * filters.shape[1] + other
        return row * self.lanes + found[1]

    # -- results --------------------------------------------------------------------------------
    def _transform_results(self, live: Poly) -> None:
        """A light epilogue is written out for every output of a tile; for a longer one the outputs
        take the place of the products, and a loop over them follows."""
        w, m = self.w, self.algorithm.outputs
        light = self.cost <= LIGHT
        name = w.touch(self.m, "r" if light else "rw")
        with self._tiles(live) as (t, place):
            there = [self._outputs_there(axis, place[axis]) for axis in (0, 1)]
            with w.loop("o", self.outer) as o, w.vector(None) as lane:

                def at(p: Poly | int) -> Poly:
                    row = Poly.of(p) * self.m_rows + t * self.outer + o
                    return row * self.lanes + lane

                result = self._outputs(name, at)
                if light:
                    self._written_out(result, place, there, o, lane)
                else:
                    for p, value in enumerate(v for row in result for v in row):
                        w.body.append(Store(name, at(p), value, None, True))
                    with w.loop("i", _total(there[0])) as i, w.loop("j", _total(there[1])) as j:
                        value = Load(name, at(i * m + j), self.dtype, None, True)
                        self._finish((place[0] + i, place[1] + j), o, lane, value)

    def _outputs(self, name: str, at: Callable[[int], Poly]) -> list[list[Value]]:
        size = self.algorithm.size
        kept = [self._kept_at(p) for p in range(size * size)]
        loads = [Load(name, at(p), self.dtype, None, True) for p in kept]
        patch = [loads[i * size : (i + 1) * size] for i in range(size)]
        return apply_both(self.algorithm.results, patch, self.w.let)

    def _outputs_there(self, axis: int, first: Poly) -> list[Poly]:
        """For each output of a tile along an axis 1 if it is in the result, else 0."""
        m, size = self.algorithm.outputs, self.plan.size(self.plan.places[axis])
        sure = size % m or m
        tests = [Op("less", (Index(first + i, "int64"), Const(size, "int64")), "bool") for i in range(m)]
        return [Poly.of(1) if i < sure else self._turns(tests[i]) for i in range(m)]

    def _written_out(
        self,
        result: Sequence[Sequence[Value]],
        place: tuple[Poly, Poly],
        there: Sequence[Sequence[Poly]],
        o: Poly,
        lane: Poly,
    ) -> None:
        named = [[self.w.let(v, "y") for v in row] for row in result]
        for i, row in enumerate(named):
            with self.w.loop("if", there[0][i]):
                for j, value in enumerate(row):
                    with self.w.loop("if", there[1][j]):
                        self._finish((place[0] + i, place[1] + j), o, lane, value)

    def _finish(self, place: tuple[Poly, Poly], o: Poly, lane: Poly, value: Value) -> None:
        """The epilogue and the stores of one output."""
        w, plan = self.w, self.plan
        where = dict(zip(plan.places, place))
        where[plan.outer], where[plan.batch] = o, self.block * self.lanes + lane
        index = tuple(where[k] for k in self.n.out)
        if self.epilogue:
            value = w.let(value, "v")
            w.live = self._live_lanes(where[plan.batch])
        w.bind(self.n, index, value)
        for node in self.epilogue:
            w.bind(node, index, w.let(w.compute(node, index), "e"))
        for node in [self.n, *self.epilogue]:
            if node in self.stored:
                name, layout = self.stored[node]
                w.store(name, layout, node, index, w.value(node, index))
        w.live = None

    def _live_lanes(self, sample: Poly) -> Value | None:
        """Where lanes of the last block are idle: plain operands of the epilogue end before."""
        size = self.n.extents[self.plan.batch]
        if live_lanes(self.s, size, self.block) is None:
            return None
        end = Index(self.s.poly(size), "int64")
        return self.w.let(Op("less", (Index(sample, "int64"), end), "bool"), "live")


def _total(counts: Sequence[Poly]) -> Poly:
    return sum(counts, Poly())


def _all(tests: Tests) -> Value | None:
    """All of the tests there are."""
    found: Value | None = None
    for test in tests:
        if test is not None:
            found = test if found is None else Op("logical_and", (found, test), "bool")
    return found
