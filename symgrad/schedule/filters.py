"""Writing the weight gradient of a convolution.

In: a product over windows whose rows are summed (see `windows`). Out: two kernels: sums over bands
of the image, and the sum of the bands.

    W'[o,c,k,l] = sum n,x,y  X[n,c, s*x + d*k - p, s*y + d*l - p] * Y'[n,o,x,y]

    for every band of lines x:                       small weights; large ones go without bands
        part[band] = 0
        for every block of rows n, for the outputs o, for the taps k, l, for parts of c:
            acc[c, o] = 0
            for the places x, y of the band that this tap reads inside the image, for n:
                acc[c, o] += X[...] * Y'[...]        all c, o in registers
            part[band] += acc
    W' = sum of part[band]

Outputs run in lanes, of a copy of Y' transposed to panels; few outputs are computed with rows in
lanes instead, added at the end. The number of bands depends on sizes alone, so that threads may
share the work and yet add in the same order.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence

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
from symgrad.node import Contract, Expr
from symgrad.schedule.convolution import taps_inside
from symgrad.schedule.layout import Layout
from symgrad.schedule.products import Product
from symgrad.schedule.symbols import elements, live_lanes
from symgrad.schedule.tiling import ACCUMULATORS, FEW, Tiling, base_axes, largest, split
from symgrad.schedule.windows import Phase, Sliding, Windows
from symgrad.schedule.writer import MANY, Writer, loops_in_order
from symgrad.sizes import maximum

BAND = 400 << 10  # bytes of both operands that a band may fill: they stay in the second cache
MOST_BANDS = 16  # partial results kept apart
SMALL = 1 << 20  # bytes of all of them
WORK = 1 << 20  # multiply-adds that are worth several bands at any size of memory


def filter_tiling(n: Contract, w: Windows, layouts: Mapping[Expr, Layout]) -> Tiling | None:
    """The tiling of a weight gradient: image by scalars, the other operand by vectors."""
    layout = layouts[w.base]
    if layout.lane is None:
        return None
    rows = w.forms[layout.lane].label
    other = 1 - w.image
    arg, axes = base_axes(n.ins[other], n.args[other])
    if rows is None or rows in n.out or rows not in axes or arg not in layouts:
        return None
    theirs = layouts[arg]
    if theirs.lane != axes[rows] or set(axes) != set(n.ins[other]):
        return None
    sliding = {a.axis for a in w.axes}
    taps = set(w.taps)
    free = [k for k in n.ins[other] if k in n.out]
    outputs = largest(free, n.extents)
    channels = [f.label for a, f in enumerate(w.forms) if a not in sliding and f.label != rows]
    if outputs is None or not set(channels) | set(w.places) | set(free) >= set(n.out):
        return None
    if any(k not in taps and k != rows for k in n.summed):
        return None
    inside = [k for k in channels if k in n.out and k not in free]
    channel = largest([k for k in inside if k is not None], n.extents)
    if maximum(n.extents[outputs]) < FEW:
        return Tiling(rows, w.image, other, True, channel, outputs, None)
    order = [axes[outputs], *(a for a in range(arg.ndim) if a not in (axes[outputs], theirs.lane))]
    panels = Layout((*order, theirs.lane), axes[outputs])
    return Tiling(outputs, w.image, other, False, channel, None, (arg, panels))


@dataclass(frozen=True)
class _Taps:
    """A few places l side by side along the last axis: the accumulators of one tile share the
    places y that all of them read; what only some read is added on its own."""

    first: Poly
    count: int


@dataclass
class Filters(Product):
    """Writes the sums over bands; `combine` writes their sum."""

    windows: Windows

    def __post_init__(self) -> None:
        super().__post_init__()
        t, n = self.tile, self.n
        layout = self.layouts[self.windows.base]
        self.rows = None if layout.lane is None else self.windows.forms[layout.lane].label
        taps = self.windows.taps  # where no rows are, samples are summed outside of all else
        self.samples = [k for k in n.summed if k not in taps] if self.rows is None else []
        self.live: Poly | None = None  # outputs in lanes, where some are idle
        outputs = t.cols if t.across else t.lane
        assert outputs is not None
        self.outputs = outputs
        self.size_out = maximum(self.extents[self.outputs])
        self.channels = maximum(self.extents[t.rows]) if t.rows is not None else 1
        self.layout = self._part_layout()
        self.elements = self.layout.elements(n.shape, self.lanes)
        self.lines = self._lines()
        self.bands = -(-self._outer().taps // self.lines)
        self.direct = self.bands == 1 and self.layout == self.layouts[n]

    def _outer(self) -> Sliding:
        return self.windows.axes[0]

    def _part_layout(self) -> Layout:
        """Partial results: in panels over the outputs, or plain."""
        ours, n = self.layouts[self.n], self.n
        axis = n.out.index(self.outputs)
        if self.tile.across:
            return Layout(tuple(range(n.ndim)))
        return ours if ours.lane == axis else Layout(
            (axis, *(a for a in range(n.ndim) if a != axis)), axis
        )  # fmt: skip

    def _lines(self) -> int:
        """Lines of a band: what the second cache holds, and so few that threads can share them; all
        of them where the weights are large."""
        outer = self._outer()
        bytes_out = self.elements * ITEMSIZE[self.n.dtype]
        if bytes_out * 2 > SMALL or outer.tap is None or len(self.windows.axes) == 1:
            return max(1, outer.taps)
        line = self._beside() * ITEMSIZE[self.n.dtype] * self._padded_outputs()
        line *= max((a.taps for a in self.windows.axes[1:]), default=1)
        image = self._beside() * ITEMSIZE[self.n.dtype] * abs(outer.dilation) * self.channels
        image *= max((a.size for a in self.windows.axes[1:]), default=1)
        lines = max(1, BAND // (line + image))
        most = min(MOST_BANDS, SMALL // max(bytes_out, 1))
        if elements(list(self.extents.values())) >= WORK:  # type: ignore[arg-type]
            lines = min(lines, -(-outer.taps // MANY))
        return min(max(lines, -(-outer.taps // most)), max(1, outer.taps))

    def _padded_outputs(self) -> int:
        return self.size_out if self.tile.across else -(-self.size_out // self.lanes) * self.lanes

    def _beside(self) -> int:
        """Samples of a band."""
        return self.lanes

    # -- the kernel -----------------------------------------------------------------------------
    def _place_parts(self) -> None:
        if self.direct:
            self.parts, _ = self.stored[self.n]
        else:
            size = self.bands * self.elements
            self.parts = self.memory.fresh_buffer("parts", self.n.dtype, size)

    def write(self) -> Writer:
        w = self.w
        assert self.rows is not None
        self._place_parts()
        w.independent = self.bands > 1  # the sum over the blocks of one band stays in order
        if self.bands == 1 and self.layout.order[0] == self.layout.lane:
            self._by_outputs()
            return w
        with w.loop("band", self.bands) as band:
            self._clear(band * self.elements, self.elements)
            for index, block, phases in self._blocks():
                self._outputs(index, band, block, phases)
        return w

    def _by_outputs(self) -> None:
        """Large weights: outputs outside, so that what is added to stays in cache; threads share
        the outputs."""
        w, height = self.w, self._height()
        w.independent = True
        panel = self.elements // -(-self.size_out // self.lanes)
        for start, width, count in self._output_parts(height):
            with w.loop("o", count, keep=True) as part:
                first = part * width + start
                self._clear(first * panel, width * panel)
                for index, block, phases in self._blocks():
                    self._taps(index, Poly(), block, phases, first, width, height)

    def _blocks(self) -> Iterator[tuple[dict[int, Poly], Poly, Sequence[Phase]]]:
        """Loops over blocks of rows, and the phases in each."""
        assert self.rows is not None
        extra = [k for k in self.n.out if k not in self._tiled()]
        with ExitStack() as stack:
            index = {k: self._whole(stack, k) for k in extra}
            blocks = self.s.blocks(self.extents[self.rows])
            block = stack.enter_context(self.w.loop("b", blocks))
            for phases in itertools.product(*(a.phases() for a in self.windows.axes)):
                if all(p.taps for p in phases):
                    yield index, block, phases

    def _tiled(self) -> set[int | None]:
        return {self.outputs, self.tile.rows, *self.windows.places}

    def _clear(self, first: Poly, elements: int) -> None:
        w = self.w
        zero = Const(0.0, self.n.dtype)
        name = w.touch(self.parts, "rw")
        with w.loop("z", -(-elements // self.lanes)) as z:
            live = None
            if elements % self.lanes:
                live = Poly.of(elements) - z * self.lanes
            with w.vector(live) as lane:
                at = first + z * self.lanes + lane
                w.body.append(Store(name, at, zero, None, live is None))

    def _outputs(
        self, index: dict[int, Poly], band: Poly, block: Poly, phases: Sequence[Phase]
    ) -> None:
        """Parts of the outputs, and for each all taps and channels."""
        height = self._height()
        for start, width, count in self._output_parts(height):
            with self.w.loop("o", count) as part:
                self._taps(index, band, block, phases, part * width + start, width, height)

    def _height(self) -> int:
        """Rows of a tile: channels, of several taps where they are few."""
        budget = ACCUMULATORS[self.registers]
        if self.tile.across:
            return 5 if self.registers > 16 else 3
        return budget[2] if self.size_out > self.lanes else budget[1]

    def _output_parts(self, height: int) -> list[tuple[int, int, int]]:
        if self.tile.across:
            rows = min(height, self._taps_side_by_side(height) * self.channels)
            return split(self.size_out, max(1, (self.registers - 8 - rows) // max(rows, 1)))
        panels = -(-self.size_out // self.lanes)
        rows = self._taps_side_by_side(height) * min(self.channels, height)
        wide = 2 if rows > 6 else (3 if rows > 4 else 4)
        return split(panels, wide if panels > 1 else 1)

    def _taps_side_by_side(self, height: int) -> int:
        """Places l that share a tile."""
        last = self.windows.axes[-1]
        if last.place is None or last.divisor != 1:
            return 1
        return max(1, min(last.places, height // self.channels))

    def _taps(
        self,
        index: dict[int, Poly],
        band: Poly,
        block: Poly,
        phases: Sequence[Phase],
        start: Poly,
        width: int,
        height: int,
    ) -> None:
        w, axes, beside = self.w, self.windows.axes, self._taps_side_by_side(height)
        with ExitStack() as stack:
            where = dict(index)
            spans: list[tuple[Sliding, Phase, Poly, Poly, Poly]] = []
            for slide, phase in zip(axes[:-1], phases[:-1]):
                q = stack.enter_context(w.loop("k", phase.places))
                spans.append((slide, phase, q, *self._span(slide, phase, q, band)))
                if slide.place is not None:
                    where[slide.place] = q * phase.stride + phase.first
            slide, phase = axes[-1], phases[-1]
            if beside == 1:
                q = stack.enter_context(w.loop("l", phase.places))
                self._channels_of(where, block, spans, (slide, phase), _Taps(q, 1), band,
                                  start, width, height)  # fmt: skip
                return
            for first, count, parts in split(phase.places, beside):
                for part in range(parts):
                    taps = _Taps(Poly.of(first + part * count), count)
                    self._channels_of(where, block, spans, (slide, phase), taps, band,
                                      start, width, height)  # fmt: skip

    def _span(self, slide: Sliding, phase: Phase, q: Poly, band: Poly) -> tuple[Poly, Poly]:
        """The summed places of this band that tap q reads inside the image: first, how many."""
        first, count = taps_inside(self.w, slide, phase, q)
        if slide is not self._outer() or self.bands == 1:
            return first, count
        w = self.w
        low = Op("maximum", (Index(first, "int64"), Index(band * self.lines, "int64")), "int64")
        end = Op("minimum", (Index(first + count, "int64"),
                             Index((band + 1) * self.lines, "int64")), "int64")  # fmt: skip
        begin = w.integer(w.let(low, "low"), phase.taps + 1, "low")
        size = Op("maximum", (Op("sub", (end, Index(begin, "int64")), "int64"),
                              Const(0, "int64")), "int64")  # fmt: skip
        return begin, w.integer(size, self.lines + 1, "lines")

    def _channels_of(
        self,
        where: dict[int, Poly],
        block: Poly,
        spans: list[tuple[Sliding, Phase, Poly, Poly, Poly]],
        last: tuple[Sliding, Phase],
        taps: _Taps,
        band: Poly,
        start: Poly,
        width: int,
        height: int,
    ) -> None:
        """Parts of the channels, each a tile of accumulators."""
        tile = _Tile(self, where, block, spans, last, taps, band, start, width)
        if taps.count > 1 or self.channels <= height:
            tile.write(Poly(), self.channels)
            return
        for first, many, count in split(self.channels, height):
            with self.w.loop("c", count) as part:
                tile.write(part * many + first, many)

    def _operand(self, operand: int, where: Mapping[int, Poly]) -> Value:
        if operand != self.windows.image:
            return super()._operand(operand, where)
        return self.w.load(self.windows.base, self.windows.index(where), self._in_image(where))

    def _in_image(self, where: Mapping[int, Poly]) -> Value | None:
        """Where groups run in lanes, the image too has no more of them than there are."""
        groups = self.outputs in self.n.ins[self.windows.image]
        if self.w.lane is None or not groups or self.size_out % self.lanes == 0:
            return None
        end = Const(self.size_out, "int64")
        return self.w.let(Op("less", (Index(where[self.outputs], "int64"), end), "bool"), "there")

    # -- the sum of the bands -------------------------------------------------------------------
    def combine(self) -> Writer | None:
        """The kernel that adds the bands, in order; None where there is one, in place."""
        if self.direct:
            return None
        w, n = Writer(self.memory), self.n
        w.independent = True
        name, layout = self.stored[n]
        with ExitStack() as stack:
            at = loops_in_order(w, stack, layout, n.shape)
            acc = w.fresh("acc")
            w.body.append(Declare(acc, n.dtype, Const(0.0, n.dtype)))
            offset, full = w.address(self.layout, n.shape, at)
            with w.loop("band", self.bands) as band:
                part = Load(w.touch(self.parts, "r"), offset + band * self.elements, n.dtype,
                            None, full)  # fmt: skip
                w.body.append(Accumulate(acc, (), "add", part))
            w.store(name, layout, n, at, Get(acc, n.dtype))
        return w


@dataclass
class _Tile:
    """One tile of accumulators: taps and channels of the image by outputs."""

    of: Filters
    where: dict[int, Poly]
    block: Poly
    spans: list[tuple[Sliding, Phase, Poly, Poly, Poly]]
    last: tuple[Sliding, Phase]
    taps: _Taps
    band: Poly
    start: Poly  # first output, or first panel of outputs
    width: int

    def write(self, channel: Poly, many: int) -> None:
        f, w = self.of, self.of.w
        self.channel, self.many = channel, many
        acc = w.fresh("acc")
        shape = (self.taps.count * many, self.width)
        declare = Declare(acc, f.n.dtype, Const(0.0, f.n.dtype), shape)
        if f.tile.across:
            w.body.append(declare)
            self._sum(acc, None)
            self._flush(acc, None)
            return
        with w.vector(f.live) as lane:
            w.body.append(declare)
            self._sum(acc, lane)
            self._flush(acc, lane)

    # -- sums -----------------------------------------------------------------------------------
    def _sum(self, acc: str, lane: Poly | None) -> None:
        """Lines x of the band, then the places y that all taps of the tile read, then the rest."""
        w, where = self.of.w, dict(self.where)
        slide, phase = self.last
        with ExitStack() as stack:
            where |= {k: self.of._whole(stack, k) for k in self.of.samples}
            for outer, its, q, first, count in self.spans:
                m = first + stack.enter_context(w.loop("x", count))
                where |= self._place(outer, its, q, m)
            if self.taps.count == 1:
                first, count = self.of._span(slide, phase, self.taps.first, self.band)
                with w.loop("y", count) as y:
                    self._row(acc, lane, where, first + y, range(1))
                return
            ranges = [self._range(i) for i in range(self.taps.count)]
            low, high = max(a for a, _ in ranges), min(b for _, b in ranges)
            if low >= high:
                low = high = ranges[0][1]
            stretches = [(low, high, range(self.taps.count))]
            for i, (a, b) in enumerate(ranges):
                stretches += [(a, min(b, low), range(i, i + 1)), (max(a, high), b, range(i, i + 1))]
            for a, b, taps in stretches:
                if a < b:
                    with w.loop("y", b - a) as y:
                        self._row(acc, lane, where, y + a, taps)

    def _range(self, tap: int) -> tuple[int, int]:
        """The places y that tap `first + tap` reads inside the image: known numbers."""
        slide, phase = self.last
        at = (self.taps.first + tap).constant
        assert at is not None
        first, count = phase.inside(slide.size, at)
        return first, first + count

    def _place(self, slide: Sliding, phase: Phase, q: Poly, m: Poly) -> dict[int, Poly]:
        """The label of a summed place, and (under a negative key) the image's index there."""
        found = {-1 - slide.axis: q * phase.step + m * phase.dilation + phase.offset}
        if slide.tap is not None:
            found[slide.tap] = m * phase.by + phase.start
        return found

    def _row(
        self, acc: str, lane: Poly | None, where: dict[int, Poly], y: Poly, taps: range
    ) -> None:
        """The rows n of a block: a loop, or lanes that are added when the accumulators are read."""
        f, w = self.of, self.of.w
        if f.rows is None:
            self._multiply(acc, where, y, taps, lane)
            return
        size = f.extents[f.rows]
        live = live_lanes(w.symbols, size, self.block)
        first = self.block * f.lanes
        if lane is None:
            with w.vector(live, "n") as n:
                self._multiply(acc, {**where, f.rows: first + n}, y, taps, None)
            return
        extent = Poly.of(f.lanes)
        if live is not None:
            least = Op("minimum", (Index(live, "int64"), Const(f.lanes, "int64")), "int64")
            extent = w.integer(w.let(least, "rows"), f.lanes + 1, "rows")
        with w.loop("n", extent, 2) as n:
            self._multiply(acc, {**where, f.rows: first + n}, y, taps, lane)

    def _multiply(
        self, acc: str, where: dict[int, Poly], y: Poly, taps: range, lane: Poly | None
    ) -> None:
        f, w = self.of, self.of.w
        slide, phase = self.last
        with self._several(taps) as i, f._unrolled("c", self.many) as c:
            with f._unrolled("j", self.width) as j:
                at = {**where, **self._place(slide, phase, self.taps.first + i, y)}
                if slide.place is not None:  # which the other operand may have too
                    at[slide.place] = (self.taps.first + i) * phase.stride + phase.first
                if f.tile.rows is not None:
                    at[f.tile.rows] = self.channel + c
                at[f.outputs] = self._output(j, lane)
                values = (f._operand(f.windows.image, at), f._operand(f.tile.vector, at))
                product = Op("mul", values, f.n.dtype)
                w.body.append(Accumulate(acc, (i * self.many + c, j), "add", product))

    @contextmanager
    def _several(self, taps: range) -> Iterator[Poly]:
        with self.of._unrolled("i", len(taps)) as i:
            yield i + taps.start

    def _output(self, j: Poly, lane: Poly | None) -> Poly:
        if lane is None:
            return self.start + j
        return (self.start + j) * self.of.lanes + lane

    def _flush(self, acc: str, lane: Poly | None) -> None:
        """Adds the accumulators to the partial result of the band."""
        f, w = self.of, self.of.w
        slide, phase = self.last
        name = w.touch(f.parts, "w" if f.rows is None else "rw")
        with self._several(range(self.taps.count)) as i, f._unrolled("c", self.many) as c:
            with f._unrolled("j", self.width) as j:
                at = dict(self.where)
                if slide.place is not None:
                    at[slide.place] = (self.taps.first + i) * phase.stride + phase.first
                if f.tile.rows is not None:
                    at[f.tile.rows] = self.channel + c
                at[f.outputs] = self._output(j, lane)
                index = tuple(at[k] for k in f.n.out)
                offset, full = w.address(f.layout, f.n.shape, index)
                offset = offset + self.band * f.elements
                total: Value = Get(acc, f.n.dtype, (i * self.many + c, j))
                if f.rows is not None:  # else all is summed
                    old = Load(name, offset, f.n.dtype, None, full)
                    total = Op("add", (old, total), f.n.dtype)
                w.body.append(Store(name, offset, total, None, full))
