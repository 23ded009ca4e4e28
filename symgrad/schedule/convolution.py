"""Writing a convolution with its rows in lanes: forward, and the gradient of its input.

In: a product over windows (see `windows`), its `Tiling`, what follows it elementwise. Out: the
body of one kernel:

    for every phase, for every line of places, for parts of the blocks, for parts of the outputs:
        for every place of the line:
            acc[i, j] = 0
            for the taps that fall inside the image, for the channels:
                acc[i, j] += weight[i] * image[j]            all i, j in registers
            epilogue and stores

A lane is a sample, so a border only changes where the taps begin and how many there are: nothing
is padded and no lane is wasted. A gradient of stride s is s*s phases, each a dense convolution
with the taps that hit its places. Taps of a line and their channels follow each other in memory,
of the image and of the weights: they are one loop where they do.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence

from codegen.loops import Const, Declare, Index, Op, Poly, Value
from symgrad.node import Contract, Expr
from symgrad.schedule.layout import Layout
from symgrad.schedule.products import Product, Where
from symgrad.schedule.tiling import ACCUMULATORS, Part, Tiling, base_axes, largest
from symgrad.schedule.windows import Phase, Sliding, Windows
from symgrad.schedule.writer import Writer
from symgrad.sizes import maximum

PORTS = 2  # multiply-adds, and as many loads, that a core starts in a cycle
LATENCY = 4  # cycles before the result of one can be added to


def rows_tiling(n: Contract, w: Windows, layouts: Mapping[Expr, Layout]) -> Tiling | None:
    """Rows in lanes, the image read as vectors; None where result or image lie otherwise."""
    ours, theirs = layouts[n], layouts[w.base]
    if ours.lane is None or theirs.lane is None:
        return None
    lane = n.out[ours.lane]
    if w.forms[theirs.lane].label != lane or lane in n.ins[1 - w.image]:
        return None
    arg, axes = base_axes(n.ins[1 - w.image], n.args[1 - w.image])
    if arg not in layouts:
        return None
    # an axis of the image that only has places (the group of a grouped one) runs over those
    rows = [k for k in n.ins[1 - w.image] if k in n.out and k not in w.places]
    return Tiling(lane, 1 - w.image, w.image, False, largest(rows, n.extents), None, None)


@dataclass
class Line:
    """Where a place is along one sliding axis, and the taps there that fall inside the image."""

    slide: Sliding
    phase: Phase
    place: Poly  # q: the place is first + stride * q
    first: Poly  # tap m that is the first inside
    taps: Poly  # how many are

    def label(self) -> Poly:
        return self.place * self.phase.stride + self.phase.first

    def tap(self, m: Poly) -> Poly:
        """The tap's index in the weights."""
        return m * self.phase.by + self.phase.start

    def index(self, m: Poly) -> Poly:
        """The index along the image's axis."""
        p = self.phase
        return self.place * p.step + m * p.dilation + p.offset


def taps_inside(w: Writer, slide: Sliding, phase: Phase, q: Poly) -> tuple[Poly, Poly]:
    """The first tap inside the image and how many are, numbers where they never change."""
    if q.constant is not None:
        begin, many = phase.inside(slide.size, q.constant)
        return Poly.of(begin), Poly.of(many)
    step, by, last = phase.step, phase.dilation, slide.size - 1
    ends = [phase.offset + step * at for at in (0, phase.places - 1)]
    reach = by * (phase.taps - 1)
    low, high = min(ends) + min(reach, 0), max(ends) + max(reach, 0)
    if low >= 0 and high <= last:
        return Poly(), Poly.of(phase.taps)
    start = q * step + phase.offset
    if by < 0:  # seen from the other end of the image
        start, by = -start + last, -by
    if by == 0:
        inside = _between(w, start, last)
        return Poly(), inside * phase.taps
    low_end = _clamped(w, _quotient(-start + (by - 1), by), 0, phase.taps)
    end = _clamped(w, _quotient(-start + (last + by), by), 0, phase.taps)
    first = w.integer(low_end, phase.taps + 1, "first")
    count = Op("maximum", (Op("sub", (end, low_end), "int64"), Const(0, "int64")), "int64")
    return first, w.integer(count, phase.taps + 1, "taps")


def _quotient(poly: Poly, by: int) -> Value:
    value = Index(poly, "int64")
    return value if by == 1 else Op("floor_divide", (value, Const(by, "int64")), "int64")


def _clamped(w: Writer, value: Value, low: int, high: int) -> Value:
    above = Op("maximum", (value, Const(low, "int64")), "int64")
    return w.let(Op("minimum", (above, Const(high, "int64")), "int64"), "end")


def _between(w: Writer, poly: Poly, last: int) -> Poly:
    value = Index(poly, "int64")
    low = Op("greater_equal", (value, Const(0, "int64")), "bool")
    high = Op("less_equal", (value, Const(last, "int64")), "bool")
    both = Op("cast", (Op("logical_and", (low, high), "bool"),), "int64")
    return w.integer(both, 2, "taps")


@dataclass
class Convolution(Product):
    """Writes one convolution with rows in lanes, and its epilogue."""

    windows: Windows

    def write(self) -> Writer:
        wide = self._wide()
        for phases in itertools.product(*(a.phases() for a in self.windows.axes)):
            self._phase(phases, wide)
        return self.w

    def _phase(self, phases: Sequence[Phase], wide: int) -> None:
        t, w, axes = self.tile, self.w, self.windows.axes
        skip = {t.rows, t.lane, *self.windows.places}
        lines: list[Line] = []
        index: dict[int, Poly] = {}
        with ExitStack() as stack:
            for slide, phase in zip(axes[:-1], phases[:-1]):
                lines.append(self._line(stack, slide, phase))
            for k in self.n.out:
                if k not in skip:
                    index[k] = self._whole(stack, k)
            for cols in self._block_parts(wide):
                with cols.open(w) as j:
                    for rows in self._row_parts(cols.width):
                        with rows.open(w) as panel, rows.within(w, panel) as i:
                            with ExitStack() as inner:
                                last = self._line(inner, axes[-1], phases[-1])
                                self._place([*lines, last], index, rows, i, cols, j)

    def _line(self, stack: ExitStack, slide: Sliding, phase: Phase) -> Line:
        q = stack.enter_context(self.w.loop("y", phase.places))
        return Line(slide, phase, q, *taps_inside(self.w, slide, phase, q))

    # -- tiles ----------------------------------------------------------------------------------
    def _padded(self) -> bool:
        return True

    def _few(self) -> tuple[Poly, Poly] | None:
        return None

    def _wide(self) -> int:
        """Blocks side by side: the number that takes the fewest cycles."""
        known = self._col_blocks().constant
        if known is None:
            return 2
        return min(ACCUMULATORS[self.registers], key=lambda j: (self._cycles(j, known), j))

    def _cycles(self, wide: int, blocks: int) -> float:
        """Cycles of one turn of the innermost loop, for all tiles."""
        total = 0.0
        for cols in self._block_parts(wide):
            for rows in self._row_parts(cols.width):
                count = (rows.count * cols.count).constant or 1
                i, j = rows.width, cols.width
                cost = max(i * j / PORTS, (i + j) / PORTS, LATENCY)
                total += cost * count * rows.inside * rows.panels
        return total

    def _block_parts(self, wide: int) -> Iterator[Part]:
        blocks = self._col_blocks()
        whole, left = self.s.groups(blocks, wide)
        if whole.constant != 0:
            yield Part(Poly(), wide, whole)
        known = left.constant
        if wide > 1 and known:
            yield Part(whole * wide, known, Poly.of(1))
        elif wide > 1 and known is None:
            yield Part(whole * wide, 1, left)

    # -- one place ------------------------------------------------------------------------------
    def _place(
        self,
        lines: Sequence[Line],
        index: dict[int, Poly],
        rows: Part,
        i0: Poly,
        cols: Part,
        j0: Poly,
    ) -> None:
        w, t, shape = self.w, self.tile, (rows.width, cols.width)
        places = {line.slide.place: line.label() for line in lines if line.slide.place is not None}
        with w.vector(None) as lane:
            acc = w.fresh("acc")
            w.body.append(Declare(acc, self.n.dtype, Const(0.0, self.n.dtype), shape))

            def at(i: Poly, j: Poly) -> dict[int, Poly]:
                found = {**index, **places}
                if t.rows is not None:
                    found[t.rows] = i0 + i
                found[t.lane] = (j0 + j) * self.lanes + lane
                return found

            if all(line.phase.taps for line in lines):
                self._sum_taps(acc, shape, at, lines)
            self._finish(acc, shape, at)

    def _sum_taps(self, acc: str, shape: tuple[int, int], at: Where, lines: Sequence[Line]) -> None:
        """Loops over the taps inside, line by line, and within them over the channels."""
        taps = {line.slide.tap for line in lines}
        channels = [k for k in self.n.summed if k not in taps]
        merged = self._merged(lines[-1], channels)

        def nest(rest: Sequence[Line], where: dict[int, Poly]) -> None:
            if not rest:
                self._channels(acc, shape, lambda i, j: {**at(i, j), **where}, channels)
                return
            line = rest[0]
            if len(rest) == 1 and merged is not None:
                size = maximum(self.extents[merged])
                with self.w.loop("t", line.taps * size, 2) as k:
                    found = {**where, **self._tap(line, line.first), merged: k}
                    self._multiply(acc, shape, lambda i, j: {**at(i, j), **found})
                return
            with self.w.loop("m", line.taps) as m:
                nest(rest[1:], {**where, **self._tap(line, line.first + m)})

        nest(lines, {})

    def _tap(self, line: Line, m: Poly) -> dict[int, Poly]:
        """The index of a tap, and (under a negative key) of the image's axis."""
        found = {-1 - line.slide.axis: line.index(m)}
        if line.slide.tap is not None:
            found[line.slide.tap] = line.tap(m)
        return found

    def _merged(self, line: Line, channels: Sequence[int]) -> int | None:
        """The channel label, where taps and channels are one stretch in both operands."""
        phase, tap = line.phase, line.slide.tap
        if len(channels) != 1 or tap is None or (phase.by, phase.dilation) != (1, 1):
            return None
        label = channels[0]
        size, base = self.extents[label], self.windows.base
        axis = next((a for a, f in enumerate(self.windows.forms) if f.label == label), None)
        weights, axes = self._base(1 - self.windows.image)
        if axis is None or not isinstance(size, int) or label not in axes or tap not in axes:
            return None
        image = self._stride(base, axis), self._stride(base, line.slide.axis)
        other = self._stride(weights, axes[label]), self._stride(weights, axes[tap])
        for inner, outer in (image, other):
            if inner is None or outer is None or inner * size != outer:
                return None
        return label

    def _stride(self, n: Expr, axis: int) -> int | None:
        """Elements from one index of an axis to the next, None along lanes."""
        layout = self.w.layout(n)
        if layout is None or axis == layout.lane:
            return None
        stride = 1 if layout.lane is None else self.lanes
        for a in reversed(layout.order):
            if a == axis:
                return stride
            size = n.shape[a]
            if not isinstance(size, int):
                return None
            stride *= -(-size // self.lanes) if a == layout.lane else size
        return None

    def _channels(
        self, acc: str, shape: tuple[int, int], at: Where, channels: Sequence[int]
    ) -> None:
        self._loop_over(channels, lambda where: self._multiply(
            acc, shape, lambda i, j: {**at(i, j), **where}
        ))  # fmt: skip

    def _operand(self, operand: int, where: Mapping[int, Poly]) -> Value:
        if operand != self.windows.image:
            return super()._operand(operand, where)
        return self.w.load(self.windows.base, self.windows.index(where))
