"""Writing a contraction by register tiles, with its elementwise epilogue.

In: a Contract, its `Tiling`, what follows it elementwise and where results go. Out: the body of
one kernel:

    for every part of I, for every part of J:
        acc[i, j] = 0
        for k: acc[i, j] += scalar[i, k] * vector[k, j]        all i, j in registers
        epilogue and stores
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Callable, Iterator, Mapping, Sequence

from codegen.loops import (
    Accumulate,
    Const,
    Declare,
    Get,
    Index,
    Load,
    Op,
    Poly,
    Prefetch,
    Store,
    Value,
)
from symgrad.node import Contract, Expr
from symgrad.schedule.layout import Layout
from symgrad.schedule.symbols import Symbols, live_lanes
from symgrad.schedule.tiling import (
    ACCUMULATORS,
    FAR,
    FEW_ROWS,
    NEAR,
    Part,
    Tiling,
    base_axes,
    bytes_of,
    even_split,
    split,
    unroll,
)
from symgrad.schedule.writer import At, Memory, Writer
from symgrad.sizes import Size, maximum

WIDE = {1: 8, 2: 6, 3: 5, 4: 4, 5: 3}  # rows in all -> vectors side by side, of 32 registers
GROUPS = (4, 3, 2, 1)  # tiles that a stream of vectors may serve at once, the best first
BESIDE = {32: 6, 16: 3}  # vectors side by side of two operands in lanes, by registers
PACKED = 6144  # elements in half of the first cache
PAGE = 1024  # elements that are a multiple of the first cache's sets
MANY_ROWS = 16  # that read a copy of vectors
LIGHT = 4  # operations of an epilogue that is applied to accumulators while in registers
AHEAD = 2  # turns of a loop before scalars are needed
Inner = Callable[[dict[int, Poly]], None]  # what loops over summed indices do, at their indices
Where = Callable[[Poly, Poly], dict[int, Poly]]  # (i, j) of a tile -> index of every label


@dataclass
class Product:
    """Writes one product and its epilogue."""

    n: Contract
    tile: Tiling
    epilogue: list[Expr]  # elementwise nodes after it, operands first
    stored: Mapping[Expr, tuple[str, Layout]]  # what of it goes to memory
    layouts: Mapping[Expr, Layout]
    memory: Memory
    registers: int
    cost: int  # operations of the epilogue
    copies: Mapping[Expr, tuple[str, Layout]]  # operands in the layout they are read in

    def __post_init__(self) -> None:
        self.w = Writer(self.memory)
        self.w.copies = dict(self.copies)
        self.s: Symbols = self.memory.symbols
        self.lanes = self.s.lanes
        self.extents = self.n.extents
        self.tile_scratch: str | None = None
        self.packed: tuple[str, int] | None = None  # vectors of the tiles at hand, and how many
        self.w.independent = True

    # -- the loops around a tile ----------------------------------------------------------------
    def write(self) -> Writer:
        t = self.tile
        skip = {t.rows, t.cols, t.lane}
        outer = [k for k in self.n.out if k not in skip]
        index: dict[int, Poly] = {}
        with ExitStack() as stack:
            for k in outer:
                index[k] = self._whole(stack, k)
            self.live: Poly | None = None
            if t.cols is not None and not t.across:
                size = self.extents[t.lane]
                block = stack.enter_context(self.w.loop("b", self.s.blocks(size)))
                index[t.lane] = block * self.lanes
                self.live = None if self._padded() else live_lanes(self.s, size, block)
            self._tiles(index)
        return self.w

    def _whole(self, stack: ExitStack, label: int) -> Poly:
        return stack.enter_context(self.w.loop("o", self.s.poly(self.extents[label])))

    def _tiles(self, index: dict[int, Poly]) -> None:
        """All tiles. Parts of the scalar operand outside: the vector operand then streams past
        tiles that stay in the first cache, the fastest order measured while it fits in the last.
        The tiles of one panel are innermost: the second reads its vectors from the near cache."""
        if self._few() is not None:
            self._few_rows(index)
            if self._col_blocks().constant == 0:
                return
        if self._rows_outside():
            for rows in self._row_parts():
                with rows.open(self.w) as panel:
                    for cols in self._col_parts():
                        with cols.open(self.w) as j, rows.within(self.w, panel) as i:
                            self._tile(index, rows, i, cols, j)
            return
        for cols in self._col_parts():
            with cols.open(self.w) as j:
                self.packed = self._pack(index, cols, j)
                for rows in self._row_parts(cols.width):
                    with rows.open(self.w) as panel, rows.within(self.w, panel) as i:
                        self._tile(index, rows, i, cols, j)
                self.packed = None

    def _rows_outside(self) -> bool:
        if self._packs():
            return False
        vector, scalar = (bytes_of(self.n.args[k]) for k in (self.tile.vector, self.tile.scalar))
        return scalar > NEAR // 2 and (vector <= FAR or vector <= scalar)

    def _widest(self) -> int:
        """J: vectors side by side."""
        blocks = self._col_blocks()
        known = blocks.constant
        if self.tile.cols is not None and known is not None and not self.tile.across:
            return split(known, BESIDE[self.registers] if self._both() else 2)[0][1]
        if known is None:
            return 2
        if known <= 1:
            return 1
        return max(3 if known == 3 else 2, min(known, self._wide()))

    def _wide(self) -> int:
        """J where I is small: enough sums at once to hide how long an addition takes."""
        t = self.tile
        size = 1 if t.rows is None else maximum(self.extents[t.rows])
        return WIDE.get(size, 1) * self.registers // 32

    def _both(self) -> bool:
        """Both operands are read as vectors: a wide tile then needs the fewest loads."""
        return all(self.tile.lane in labels for labels in self.n.ins)

    def _col_blocks(self) -> Poly:
        t = self.tile
        if t.cols is not None:
            return self.s.poly(self.extents[t.cols])
        size = self.extents[t.lane]
        few = self._few()
        if few is not None:
            return few[0]
        return self.s.blocks(size) if self._padded() else self.s.full_blocks(size)

    def _padded(self) -> bool:
        """Idle lanes of the last block have memory in the result and in every operand in lanes."""
        ours = self.layouts[self.n]
        if ours.lane is None or self.n.out[ours.lane] != self.tile.lane:
            return False
        return all(self._holds_idle(k) for k in (0, 1) if self.tile.lane in self.n.ins[k])

    def _holds_idle(self, operand: int) -> bool:
        arg, axes = self._base(operand)
        layout = self.w.layout(arg)
        return (
            layout is not None
            and layout.lane is not None
            and (layout.lane == axes.get(self.tile.lane))
        )

    def _base(self, operand: int) -> tuple[Expr, dict[int, int]]:
        if self.w.layout(self.n.args[operand]) is not None:
            return self.n.args[operand], {k: i for i, k in enumerate(self.n.ins[operand])}
        return base_axes(self.n.ins[operand], self.n.args[operand])

    def _col_parts(self) -> Iterator[Part]:
        t, widest = self.tile, self._widest()
        if t.across:
            size = maximum(self.extents[t.cols]) if t.cols is not None else 1
            if size:
                yield Part(Poly(), size, Poly.of(1))
            return
        blocks = self._col_blocks()
        if t.cols is not None and blocks.constant is not None:
            for start, width, count in split(blocks.constant, widest):
                yield Part(Poly.of(start), width, Poly.of(count))
            return
        if blocks.constant is not None and widest > 3:  # in near-equal parts
            for start, width, count in split(blocks.constant, widest):
                yield Part(Poly.of(start), width, Poly.of(count))
            wide, left = Poly(), Poly()
        else:
            wide, left = self.s.groups(blocks, widest)
        if wide.constant != 0:
            yield Part(Poly(), widest, wide)
        if left.constant != 0 and widest > 1:
            yield Part(wide * widest, 1, left)
        if t.cols is None and not self._padded():
            rest, tail = self.s.rest(self.extents[t.lane]), self.s.has_rest(self.extents[t.lane])
            if tail.constant != 0:
                yield Part(blocks, 1, tail, rest)

    def _row_parts(self, cols: int | None = None) -> Iterator[Part]:
        t = self.tile
        if t.rows is None:
            yield Part(Poly(), 1, Poly.of(1))
            return
        size = self.extents[t.rows]
        wide = cols if cols is not None else self._widest()
        if t.across:
            wide = maximum(self.extents[t.cols]) if t.cols is not None else 1
        budget = ACCUMULATORS[self.registers]
        most = budget[wide] if wide in budget else max(1, (self.registers - 8) // wide)
        if not isinstance(size, int):
            yield from self._run_time_parts(size, most)
            return
        arg, axes = self._base(t.scalar)
        layout = self.w.layout(arg)
        if layout is not None and layout.lane is not None and axes.get(t.rows) == layout.lane:
            yield from self._panel_parts(size, most)
            return
        for start, width, count in even_split(size, most):
            panels = self._grouped(count)
            yield Part(Poly.of(start), width, Poly.of(count // panels), None, 1, panels)

    def _run_time_parts(self, size: Size, most: int) -> Iterator[Part]:
        """Tiles of `most` rows, then single rows; where there are never many, the widest tile that
        fits each time, since a row that streams all vectors by itself costs as much as a tile."""
        widths = [most, 1]
        if maximum(size) <= self.lanes:
            widths = [1 << b for b in range(most.bit_length() - 1, -1, -1)]
            widths = [k for k in widths if k <= maximum(size)]
        start, left = Poly(), self.s.poly(size)
        for width in widths:
            whole, left = self.s.groups(left, width)
            yield Part(start, width, whole)
            start = start + whole * width

    def _grouped(self, panels: int) -> int:
        """Tiles that share one stream of vectors: worth it (a tenth) where these are panels of a
        transposed copy, short enough for the first cache, and the other operand is large."""
        scalar = self.n.args[self.tile.scalar]
        if self.tile.convert is None or bytes_of(scalar) <= NEAR // 2 or not self._rows_outside():
            return 1
        return next(g for g in GROUPS if panels % g == 0)

    def _panel_parts(self, size: int, most: int) -> Iterator[Part]:
        """Rows that lie in the lanes of a panel: parts must not cross its end."""
        width = self.lanes
        while width > most:
            width //= 2
        whole, rest = divmod(size, self.lanes)
        if whole:
            yield Part(Poly(), width, Poly.of(whole), None, self.lanes // width)
        for start, part, count in split(rest, most) if rest else []:
            yield Part(Poly.of(whole * self.lanes + start), part, Poly.of(count))

    # -- vectors copied together ----------------------------------------------------------------
    def _packs(self) -> bool:
        """Whether the vectors that a row of tiles reads are first copied into one piece. Where the
        summed index jumps from page to page, as that of a head's values in attention does, they
        would fall into few sets of the first cache and be gone when the next tile comes."""
        t = self.tile
        if not self._both() or t.across or t.rows is None or len(self.n.summed) != 1:
            return False
        size = self.extents[self.n.summed[0]]
        rows = self.extents[t.rows]
        if not isinstance(size, int) or self._widest() * size * self.lanes > PACKED:
            return False
        arg, axes = self._base(t.vector)
        layout, axis = self.w.layout(arg), axes.get(self.n.summed[0])
        if layout is None or axis is None or maximum(rows) < MANY_ROWS:
            return False
        apart = self.w.stride(layout, arg, axis).constant
        return apart is None or apart >= PAGE

    def _pack(self, index: dict[int, Poly], cols: Part, j0: Poly) -> tuple[str, int] | None:
        """The loops that copy them: [k][j][lanes]."""
        if not self._packs():
            return None
        w, t, (k,) = self.w, self.tile, self.n.summed
        size = self.extents[k]
        assert isinstance(size, int)
        name = self.memory.fresh_buffer(
            "vectors", self.n.dtype, size * cols.width * self.lanes, "private"
        )
        with w.vector(cols.live or self.live) as lane, w.loop("k", size) as at:
            with self._unrolled("j", cols.width) as j:
                where = self._where(index, lane, Poly(), j0 + j) | {k: at}
                value = self._operand(t.vector, where)
                to = (at * cols.width + j) * self.lanes + lane
                w.body.append(Store(w.touch(name, "w"), to, value, None, True))
        return name, cols.width

    # -- what comes from far is asked for in time -------------------------------------------------
    def _epilogue_ahead(self, shape: tuple[int, int], at: Where) -> None:
        """What the epilogue of a tile reads beside its sums has arrived when they are complete."""
        w, found = self.w, dict[Expr, None]()
        stack: list[Expr] = list(self.epilogue)
        while stack:
            for a in stack.pop().args:
                if w.layout(a) is None:
                    stack.append(a)
                elif a.shape == self.n.shape and bytes_of(a) > NEAR // 4:
                    found[a] = None
        for a in found:
            with self._unrolled("i", shape[0]) as i, self._unrolled("j", shape[1]) as j:
                where = at(i, j)
                self._prefetch(a, tuple(where[k] for k in self.n.out))

    def _scalars_ahead(self, rows: int, at: Where) -> None:
        """The lines whose lanes a loop over rows in lanes will broadcast: of a later turn of the
        loop around it, since each is of another page."""
        t = self.tile
        arg, axes = self._base(t.scalar)
        if t.across or self._both() or self.w.layout(arg) is None or len(axes) != arg.ndim:
            return
        if bytes_of(arg) <= NEAR // 4:
            return
        label = {axis: k for k, axis in axes.items()}
        with self._unrolled("i", rows) as i:
            where = at(i, Poly())
            self._prefetch(arg, tuple(where[label[axis]] for axis in range(arg.ndim)))

    def _prefetch(self, arg: Expr, at: At) -> None:
        name, layout = self.w.copies.get(arg) or self.memory.home[arg]
        address = self.w.address(layout, arg.shape, at)[0]
        self.w.body.append(Prefetch(self.w.touch(name, "r"), address))

    # -- few rows -------------------------------------------------------------------------------
    def _few(self) -> tuple[Poly, Poly] | None:
        """A last block with few live rows would waste the other lanes: its rows are computed with
        outputs in lanes instead, reading the same panels. Blocks before it, and whether there is
        such a block; None where the weights do not lie in panels over the outputs."""
        t = self.tile
        if t.across or t.cols is not None or t.rows is None or not self._padded():
            return None
        arg, axes = self._base(t.scalar)
        layout, outputs = self.w.layout(arg), self.extents[t.rows]
        if layout is None or layout.lane is None or layout.lane != axes.get(t.rows):
            return None
        if not isinstance(outputs, int) or outputs < self.lanes:
            return None
        most = min(FEW_ROWS, self.lanes // 4)
        if not most:
            return None
        main, few = self.s.few(self.extents[t.lane], most)
        return (main, few) if few.constant != 0 else None

    def _few_rows(self, index: dict[int, Poly]) -> None:
        """Several panels of outputs side by side, for one row after the other."""
        t, w, found = self.tile, self.w, self._few()
        assert found is not None and t.rows is not None
        main, few = found
        whole, rest = divmod(maximum(self.extents[t.rows]), self.lanes)
        width = max(d for d in range(1, 9) if whole % d == 0)
        rows = self.s.rest(self.extents[t.lane])
        with w.loop("t", few * (whole // width)) as panels, w.loop("r", rows) as r:
            self._few_tile(index, main * self.lanes + r, panels * width, width, None)
        if rest:
            with w.loop("f", few), w.loop("r", rows) as r:
                self._few_tile(index, main * self.lanes + r, Poly.of(whole), 1, Poly.of(rest))

    def _few_tile(
        self, index: dict[int, Poly], row: Poly, panel: Poly, width: int, live: Poly | None
    ) -> None:
        w, t = self.w, self.tile
        with w.vector(live) as lane:
            acc = w.fresh("acc")
            w.body.append(Declare(acc, self.n.dtype, Const(0.0, self.n.dtype), (1, width)))

            def at(i: Poly, j: Poly) -> dict[int, Poly]:
                assert t.rows is not None
                return {**index, t.lane: row, t.rows: (panel + j) * self.lanes + lane}

            self._sum(acc, (1, width), at)
            self._finish(acc, (1, width), at, few=True)

    # -- one tile -------------------------------------------------------------------------------
    def _tile(self, index: dict[int, Poly], rows: Part, i0: Poly, cols: Part, j0: Poly) -> None:
        if self.tile.across:
            self._tile_across(index, rows, i0, cols)
            return
        w, shape = self.w, (rows.width, cols.width)
        self._epilogue_ahead(shape, lambda i, j: self._where(index, Poly(), i0 + i, j0 + j))
        with w.vector(cols.live or self.live) as lane:
            acc = w.fresh("acc")
            zero = Const(0.0, self.n.dtype)
            w.body.append(Declare(acc, self.n.dtype, zero, shape))

            def at(i: Poly, j: Poly) -> dict[int, Poly]:
                return self._where(index, lane, i0 + i, j0 + j)

            self._sum(acc, shape, at)
            self._finish(acc, shape, at)

    def _where(self, index: dict[int, Poly], lane: Poly, row: Poly, col: Poly) -> dict[int, Poly]:
        """The index of every label that is not summed."""
        t, found = self.tile, dict(index)
        if t.rows is not None:
            found[t.rows] = row
        if t.cols is not None:
            found[t.cols] = col
            found[t.lane] = index[t.lane] + lane
        else:
            found[t.lane] = col * self.lanes + lane
        return found

    def _tile_across(self, index: dict[int, Poly], rows: Part, i0: Poly, cols: Part) -> None:
        w, t, shape = self.w, self.tile, (rows.width, cols.width)
        acc = w.fresh("acc")
        w.body.append(Declare(acc, self.n.dtype, Const(0.0, self.n.dtype), shape))
        size = self.extents[t.lane]
        where: dict[int, Poly] = {}

        def at(i: Poly, j: Poly) -> dict[int, Poly]:
            found = {**index, **where}
            if t.rows is not None:
                found[t.rows] = i0 + i
            if t.cols is not None:
                found[t.cols] = j
            return found

        with ExitStack() as stack:
            for k in self.n.summed:
                if k != t.lane:
                    where[k] = self._whole(stack, k)
            for start, blocks, live in self._stretches(size):
                with ExitStack() as inner:
                    b = start + inner.enter_context(w.loop("b", blocks))
                    mask = live if live is None else live(b)
                    where[t.lane] = b * self.lanes + inner.enter_context(w.vector(mask))
                    self._multiply(acc, shape, at)
        self._finish(acc, shape, at)

    def _stretches(
        self, size: Size
    ) -> Iterator[tuple[Poly, Poly, Callable[[Poly], Poly | None] | None]]:
        """Blocks of a summed index in lanes: first block, how many, live lanes of each. Where all
        of them are in one loop, the last may be a part."""
        if not isinstance(size, int) or size < 2 * self.lanes:
            yield Poly(), self.s.blocks(size), lambda b: live_lanes(self.s, size, b)
            return
        full, rest = divmod(size, self.lanes)
        yield Poly(), Poly.of(full), None
        if rest:
            yield Poly.of(full), Poly.of(1), lambda b: Poly.of(rest)

    def _sum(self, acc: str, shape: tuple[int, int], at: Where) -> None:
        """The loops over summed indices."""
        self._loop_over(
            self.n.summed,
            lambda where: self._multiply(acc, shape, lambda i, j: {**at(i, j), **where}),
            lambda where: self._scalars_ahead(shape[0], lambda i, j: {**at(i, j), **where}),
        )

    def _loop_over(self, summed: Sequence[int], body: Inner, ahead: Inner | None = None) -> None:
        """Loops over indices; one that lies in lanes of an operand is cut in two. `ahead` is what
        the loop around such ones does first, for a turn to come."""
        labels = list(summed)
        cut = [k for k in labels if self._cut(k)]
        labels.sort(key=lambda k: k in cut)

        def nest(rest: list[int], where: dict[int, Poly]) -> None:
            if not rest:
                body(where)
                return
            k, size = rest[0], self.extents[rest[0]]
            if k not in cut:
                with self.w.loop("k", self.s.poly(size), unroll(size)) as v:
                    if ahead is not None and rest[1:] and set(rest[1:]) <= set(cut):
                        first = {x: Poly() for x in rest[1:]}
                        ahead({**where, **first, k: v + AHEAD})
                    nest(rest[1:], {**where, k: v})
                return
            full = self.s.full_blocks(size)
            if full.constant != 0:
                with self.w.loop("p", full) as p, self.w.loop("q", self.lanes, 2) as q:
                    nest(rest[1:], {**where, k: p * self.lanes + q})
            remainder = self.s.rest(size)
            if remainder.constant != 0:
                with self.w.loop("q", remainder) as q:
                    nest(rest[1:], {**where, k: full * self.lanes + q})

        nest(labels, {})

    def _cut(self, label: int) -> bool:
        for operand in (0, 1):
            arg, axes = self._base(operand)
            layout = self.w.layout(arg)
            if layout is not None and label in axes and layout.lane == axes[label]:
                return True
        return False

    def _multiply(self, acc: str, shape: tuple[int, int], at: Where) -> None:
        """acc[i, j] += scalar[i] * vector[j] for the whole tile."""
        w, t = self.w, self.tile
        with self._unrolled("i", shape[0]) as i, self._unrolled("j", shape[1]) as j:
            where = at(i, j)
            values = (self._operand(t.scalar, where), self._vector(where, j))
            product = Op("mul", values, self.n.dtype)
            w.body.append(Accumulate(acc, (i, j), "add", product))

    def _operand(self, operand: int, where: Mapping[int, Poly]) -> Value:
        """The element of an operand at an index of all labels."""
        index = tuple(where[k] for k in self.n.ins[operand])
        return self.w.value(self.n.args[operand], index)

    def _vector(self, where: Mapping[int, Poly], j: Poly) -> Value:
        """The same of the operand read as vectors: vector j of a tile."""
        if self.packed is None:
            return self._operand(self.tile.vector, where)
        name, width = self.packed
        at = (where[self.n.summed[0]] * width + j) * self.lanes + str(self.w.lane)
        return Load(self.w.touch(name, "r"), at, self.n.dtype, None, True)

    def _unrolled(self, stem: str, extent: int) -> AbstractContextManager[Poly]:
        return self.w.loop(stem, extent, unroll=extent)

    def _finish(self, acc: str, shape: tuple[int, int], at: Where, few: bool = False) -> None:
        """The epilogue and the stores."""
        direct = self.cost <= LIGHT or not self.epilogue
        w = self.w
        if not direct and not self.tile.across:
            self._park(acc, shape)
        unroll = direct or self.tile.across
        i_loop = w.loop("i", shape[0], unroll=shape[0] if unroll else 1)
        with i_loop as i, w.loop("j", shape[1], unroll=shape[1] if unroll else 1) as j:
            where = at(i, j)
            index: At = tuple(where[k] for k in self.n.out)
            if unroll:
                value: Value = Get(acc, self.n.dtype, (i, j))
            else:
                value = self._parked(i * shape[1] + j)
            if self.epilogue:
                value = w.let(value, "v")
                w.live = None if few else self._live(where)
            w.bind(self.n, index, value)
            for node in self.epilogue:
                w.bind(node, index, w.let(w.compute(node, index), "e"))
            for node in [self.n, *self.epilogue]:  # after all loads: a state may be overwritten
                if node in self.stored:
                    name, layout = self.stored[node]
                    w.store(name, layout, node, index, w.value(node, index))
            w.live = None

    def _live(self, where: dict[int, Poly]) -> Value | None:
        """Where lanes of the last block are idle: plain operands of the epilogue end before."""
        size = self.extents[self.tile.lane]
        if self.tile.across or not self._padded() or live_lanes(self.s, size, Poly()) is None:
            return None
        here, end = Index(where[self.tile.lane], "int64"), Index(self.s.poly(size), "int64")
        return self.w.let(Op("less", (here, end), "bool"), "live")

    def _park(self, acc: str, shape: tuple[int, int]) -> None:
        """A long epilogue is not unrolled over the tile: the tile passes through cache instead."""
        w = self.w
        if self.tile_scratch is None:
            size = 64 * self.lanes
            self.tile_scratch = self.memory.fresh_buffer("tile", self.n.dtype, size, "private")
        name = w.touch(self.tile_scratch, "rw")
        with self._unrolled("i", shape[0]) as i, self._unrolled("j", shape[1]) as j:
            offset = (i * shape[1] + j) * self.lanes + str(w.lane)
            value = Get(acc, self.n.dtype, (i, j))
            w.body.append(Store(name, offset, value, None, True))

    def _parked(self, number: Poly) -> Value:
        assert self.tile_scratch is not None
        name = self.w.touch(self.tile_scratch, "rw")
        return Load(name, number * self.lanes + str(self.w.lane), self.n.dtype, None, True)
