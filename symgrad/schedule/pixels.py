"""Writing a convolution with its channels in lanes: forward, and the gradient of its input.

In: a product over windows (see `windows`) of an image `[N][H][W][C]`, its `Tiling`, what follows it
elementwise. Out: the body of one kernel:

    for every phase, for every sample, for every line of places, for tiles of neighbouring places:
        for parts of the outputs:        outermost where the weights do not fit in the second cache
            acc[i, j] = 0
            for the taps that some of them read inside the image, for the channels:
                acc[i, j] += image[i] * weight[j]        those i alone, all j in registers
            epilogue and stores

A lane is an output channel: weights lie in panels over them, and each that is loaded serves all
places of a tile. This is for few samples, which would leave lanes idle (see `convolution`). At a
border a tap is left out for the places that read nothing through it; taps that the same places of
a tile read are one loop, and tiles that differ in nothing but their place are another.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Iterator, Mapping, NamedTuple, Sequence

from codegen.loops import Accumulate, Const, Declare, Op, Poly
from symgrad.node import Contract, Expr
from symgrad.schedule.convolution import LATENCY, PORTS, Convolution, Line
from symgrad.schedule.layout import Layout
from symgrad.schedule.products import Product, Where
from symgrad.schedule.tiling import ACCUMULATORS, NEAR, Tiling, base_axes, bytes_of, split
from symgrad.schedule.windows import Phase, Sliding, Windows
from symgrad.sizes import maximum

WIDEST = 8  # panels side by side


class Stretch(NamedTuple):
    """Taps `first` to `first + taps - 1`, read by places `low` to `high - 1` of a tile."""

    first: int
    taps: int
    low: int
    high: int


class Panels(NamedTuple):
    """Panels of outputs from `start`, `count` groups of `width` side by side; live lanes."""

    start: int
    width: int
    repeats: int
    live: Poly | None


class Tile(NamedTuple):
    """Places along a line: `repeats` tiles of `width`, one after the other."""

    start: int
    width: int
    stretches: tuple[Stretch, ...]
    repeats: int


def pixel_tiling(n: Contract, w: Windows, layouts: Mapping[Expr, Layout]) -> Tiling | None:
    """Output channels in lanes, the image read as scalars; None where nothing lies so."""
    ours, theirs = layouts[n], layouts[w.base]
    if ours.lane is not None or theirs.lane is not None or w.over_samples:
        return None
    lane, operand = n.out[ours.order[-1]], 1 - w.image
    if lane not in n.ins[operand] or lane in w.places:
        return None
    arg, axes = base_axes(n.ins[operand], n.args[operand])
    if arg not in layouts or lane not in axes:
        arg, axes = n.args[operand], {k: i for i, k in enumerate(n.ins[operand])}
    return Tiling(lane, w.image, operand, False, w.axes[-1].place, None,
                  _panels(n, w, arg, axes, lane, layouts))  # fmt: skip


def _panels(
    n: Contract,
    w: Windows,
    arg: Expr,
    axes: Mapping[int, int],
    lane: int,
    layouts: Mapping[Expr, Layout],
) -> tuple[Expr, Layout] | None:
    """The copy of the weights that must first be made, `[O/16][taps][C][16]`."""
    found = layouts.get(arg)
    if found is not None and found.lane == axes[lane]:
        return None
    taps = [axes[k] for k in w.taps if k in axes]
    rest = [a for a in range(arg.ndim) if a != axes[lane] and a not in taps]
    return arg, Layout((axes[lane], *taps, *rest), axes[lane])


def tiles(slide: Sliding, phase: Phase, most: int) -> Iterator[Tile]:
    """The tiles of a line, at most so wide."""
    found: list[Tile] = []
    for start, width, count in split(phase.places, most):
        for k in range(count):
            at = start + k * width
            stretches = _stretches(slide, phase, at, width)
            last = found[-1] if found else None
            if last is not None and last[1:3] == (width, stretches):
                found[-1] = last._replace(repeats=last.repeats + 1)
            else:
                found.append(Tile(at, width, stretches, 1))
    yield from found


def _stretches(slide: Sliding, phase: Phase, start: int, width: int) -> tuple[Stretch, ...]:
    """Which places of a tile read which taps inside the image."""
    found: list[Stretch] = []
    for tap in range(phase.taps):
        at = phase.offset + phase.dilation * tap + phase.step * start
        inside = [i for i in range(width) if 0 <= at + phase.step * i < slide.size]
        if not inside:
            continue
        low, high = inside[0], inside[-1] + 1
        last = found[-1] if found else None
        if last is not None and (last.low, last.high, last.first + last.taps) == (low, high, tap):
            found[-1] = last._replace(taps=last.taps + 1)
        else:
            found.append(Stretch(tap, 1, low, high))
    return tuple(found)


@dataclass
class Pixels(Convolution):
    """Writes one convolution with channels in lanes, and its epilogue."""

    def _phase(self, phases: Sequence[Phase], wide: int) -> None:
        parts = list(self._panel_parts_of(wide))
        if bytes_of(self.n.args[self.tile.vector]) <= NEAR // 2:
            self._places(phases, parts, None)
            return
        for part in parts:
            with self.w.loop("p", part.repeats) as p:
                self._places(phases, [part], p)

    def _places(self, phases: Sequence[Phase], parts: Sequence[Panels], group: Poly | None) -> None:
        """All places, for a given group of panels or for one after the other."""
        t, w, axes = self.tile, self.w, self.windows.axes
        skip = {t.lane, *self.windows.places}
        most = self._most(max(part.width for part in parts))
        with ExitStack() as stack:
            index = {k: self._whole(stack, k) for k in self.n.out if k not in skip}
            lines = [self._line(stack, slide, phase) for slide, phase in zip(axes[:-1], phases)]
            for tile in tiles(axes[-1], phases[-1], most):
                with w.loop("x", tile.repeats) as k:
                    first = k * tile.width + tile.start
                    for part in parts:
                        with w.loop("p", 1 if group is not None else part.repeats) as p:
                            panel = (p if group is None else group) * part.width + part.start
                            self._pixels(lines, phases[-1], first, tile, index, panel, part)

    def _padded(self) -> bool:
        return Product._padded(self)

    # -- tiles ----------------------------------------------------------------------------------
    def _wide(self) -> int:
        """Panels side by side: the number that takes the fewest cycles."""
        panels = -(-maximum(self.extents[self.tile.lane]) // self.lanes)
        choices = range(1, min(WIDEST, panels) + 1)
        return min(choices, key=lambda j: (self._cycles(j, panels), -j))

    def _cycles(self, wide: int, panels: int) -> float:
        total = 0.0
        for _, j, count in split(panels, wide):
            for phase in self.windows.axes[-1].phases():
                for tile in tiles(self.windows.axes[-1], phase, self._most(j)):
                    i = tile.width
                    cost = max(i * j / PORTS, (i + j) / PORTS, LATENCY)
                    total += cost * count * tile.repeats * phase.taps
        return total

    def _most(self, wide: int) -> int:
        """Places of a tile beside so many panels."""
        budget = ACCUMULATORS[self.registers]
        return budget[wide] if wide in budget else max(1, (self.registers - 6) // wide)

    def _panel_parts_of(self, wide: int) -> Iterator[Panels]:
        """Parts of the panels. The last one is on its own where the result has no memory behind
        its idle lanes."""
        size = maximum(self.extents[self.tile.lane])
        whole, rest = divmod(size, self.lanes)
        if rest and self._padded():
            whole, rest = whole + 1, 0
        for start, width, count in split(whole, wide) if whole else []:
            yield Panels(start, width, count, None)
        if rest:
            yield Panels(whole, 1, 1, Poly.of(rest))

    # -- one tile -------------------------------------------------------------------------------
    def _pixels(
        self,
        lines: Sequence[Line],
        phase: Phase,
        first: Poly,
        tile: Tile,
        index: Mapping[int, Poly],
        panel: Poly,
        part: Panels,
    ) -> None:
        w, t, shape = self.w, self.tile, (tile.width, part.width)
        slide = self.windows.axes[-1]
        places = {line.slide.place: line.label() for line in lines if line.slide.place is not None}
        with w.vector(part.live) as lane:
            acc = w.fresh("acc")
            w.body.append(Declare(acc, self.n.dtype, Const(0.0, self.n.dtype), shape))

            def at(i: Poly, j: Poly) -> dict[int, Poly]:
                found = {**index, **places, t.lane: (panel + j) * self.lanes + lane}
                if slide.place is not None:
                    found[slide.place] = (first + i) * phase.stride + phase.first
                return found

            if all(line.phase.taps for line in lines):
                for stretch in tile.stretches:
                    self._stretch(acc, at, lines, phase, first, stretch, part.width)
            self._finish(acc, shape, at)

    def _stretch(
        self,
        acc: str,
        at: Where,
        lines: Sequence[Line],
        phase: Phase,
        first: Poly,
        stretch: Stretch,
        width: int,
    ) -> None:
        """Adds what some taps contribute to the places that read them."""
        slide = self.windows.axes[-1]
        channels = [k for k in self.n.summed if k not in self.windows.taps]
        last = Line(slide, phase, first, Poly.of(stretch.first), Poly.of(stretch.taps))
        merged = self._merged(last, channels)

        def add(where: Mapping[int, Poly], m: Poly) -> None:
            tap = {} if slide.tap is None else {slide.tap: last.tap(m)}

            def here(i: Poly, j: Poly) -> dict[int, Poly]:
                place = Line(slide, phase, first + i, last.first, last.taps)
                return {**at(i, j), **where, **tap, -1 - slide.axis: place.index(m)}

            self._multiply_some(acc, stretch, width, here)

        def taps(where: dict[int, Poly]) -> None:
            if merged is not None:
                size = maximum(self.extents[merged])
                with self.w.loop("t", stretch.taps * size, 2) as k:
                    add({**where, merged: k}, last.first)
                return
            with self.w.loop("m", stretch.taps) as m:
                self._loop_over(channels, lambda found: add({**where, **found}, last.first + m))

        def nest(rest: Sequence[Line], where: dict[int, Poly]) -> None:
            if not rest:
                taps(where)
                return
            line = rest[0]
            with self.w.loop("m", line.taps) as m:
                nest(rest[1:], {**where, **self._tap(line, line.first + m)})

        nest(lines, {})

    def _multiply_some(self, acc: str, stretch: Stretch, width: int, at: Where) -> None:
        w, t = self.w, self.tile
        with self._unrolled("i", stretch.high - stretch.low) as k:
            i = k + stretch.low
            with self._unrolled("j", width) as j:
                where = at(i, j)
                values = (self._operand(t.scalar, where), self._operand(t.vector, where))
                product = Op("mul", values, self.n.dtype)
                w.body.append(Accumulate(acc, (i, j), "add", product))
