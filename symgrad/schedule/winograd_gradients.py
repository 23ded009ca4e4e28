"""The kernels of a Winograd convolution's weight gradient.

In: a `Plan`, what follows the gradient elementwise (the optimizer's update), where results go.
Out: two kernels. For tiles t of an image X and of the output's gradient Y', samples n,

    for t, for c:        V[:, t, c, n] = B^T d B                 of 4 x 4 inputs, samples in lanes
    for t, for n:        D[:, t, n, o] = A e A^T             of 2 x 2 gradients, outputs in lanes
    for p, for c, o:     S[p, o, c] += sum t, n  V[p, t, c, n] * D[p, t, n, o]

and W'[o, c] = G^T S[:, o, c] G at the end. Tiles are shared out to bands, each with sums of its
own, which do not depend on the number of threads: the second kernel adds them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

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
    Transpose,
    Value,
)
from symgrad.schedule.symbols import live_lanes
from symgrad.schedule.tiling import ACCUMULATORS, Part, even_split, split
from symgrad.schedule.winograd import TAPS
from symgrad.schedule.winograd_tiles import Place, Tiles, every
from symgrad.schedule.winograd_transforms import apply_both, transposed
from symgrad.schedule.writer import At, Writer

WIDE = 2  # vectors of a register tile
TILES = 8  # tiles at a time, at most
MOST = 4  # times the second cache that they may fill
BANDS = 8  # sums kept apart
SMALL = 1 << 20  # bytes that all of them may have; two bands may have more


@dataclass
class Gradients(Tiles):
    """Writes the sums over bands; `combine` writes what is made of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positions, m = self.algorithm.positions, self.algorithm.outputs
        self.panels = -(-self.outer // self.lanes)
        self.d_rows = self._odd(self.width * self.lanes * self.panels)
        self.d = self._scratch("gradients", positions * self.d_rows)
        self.turned = self._scratch("turned", m * m * self.lanes * self.panels)
        self.s_rows = self._odd(self.panels * self.inner)
        groups = -(-self.count // self.width)
        self.groups = -(-groups // min(groups, self._most_bands()))  # of a band
        self.bands = -(-groups // self.groups)
        size = self.bands * positions * self.s_rows * self.lanes
        self.sums = self.memory.fresh_buffer("sums", self.dtype, size)

    def _most_bands(self) -> int:
        each = self.algorithm.positions * self.panels * self.inner * self.lanes
        return max(2, min(BANDS, SMALL // (each * ITEMSIZE[self.dtype])))

    def _width(self) -> int:
        """Many tiles change the sums seldom; where there are many channels they fill the caches."""
        vectors = self.algorithm.positions * (self.inner + self.outer) * self.lanes
        fit = MOST * self.target.l2 // (vectors * ITEMSIZE[self.dtype])
        return min(TILES, max(fit, 2), self.count)

    def write(self) -> Writer:
        w = self.w
        with w.loop("band", self.bands) as band:
            w.independent = bool(band.names)
            self.band = band
            self._clear()
            with w.loop("g", self.groups) as g, w.loop("b", self.s.blocks(self.batch)) as b:
                self.block, self.first = b, (band * self.groups + g) * self.width
                samples = self._live_samples()
                live = self._live_tiles()
                self._transform_inputs(live)
                self._transform_gradients(live, samples)
                self._multiply(live, samples)
        return w

    def _live_samples(self) -> Poly:
        """How many samples of a block there are."""
        live = live_lanes(self.s, self.batch, self.block)
        return Poly.of(self.lanes) if live is None else self._least(live, self.lanes)

    def _clear(self) -> None:
        w = self.w
        rows = self.algorithm.positions * self.s_rows
        with w.loop("z", rows) as z, w.vector(None) as lane:
            to = (self.band * rows + z) * self.lanes + lane
            zero = Const(0.0, self.dtype)
            w.body.append(Store(w.touch(self.sums, "w"), to, zero, None, True))

    # -- the output's gradient ------------------------------------------------------------------
    def _transform_gradients(self, live: Poly, samples: Poly) -> None:
        """Each place of a tile is brought from samples in lanes to outputs in lanes, then the tile
        is transformed; places beyond the image count as zeros."""
        w, m, size = self.w, range(self.algorithm.outputs), self.panels
        matrix = transposed(self.algorithm.results)
        with self._tiles(live) as (t, place):
            there = self._places_there(place)
            for i in m:
                with w.loop("if", there[0][i]):
                    for j in m:
                        with w.loop("if", there[1][j]):
                            self._turn((place[0] + i, place[1] + j), i * len(m) + j, samples)
            rows, columns = ([self._holds(turns) for turns in axis] for axis in there)
            turned, name = w.touch(self.turned, "r"), w.touch(self.d, "w")
            with w.loop("n", samples) as n, w.loop("f", size) as f, w.vector(None) as lane:

                def load(i: int, j: int) -> Value:
                    row = ((i * len(m) + j) * self.lanes + n) * size + f
                    when = every([rows[i], columns[j]])
                    return Load(turned, row * self.lanes + lane, self.dtype, when, True)

                result = apply_both(matrix, [[load(i, j) for j in m] for i in m], w.let)
                for p, value in enumerate(v for row in result for v in row):
                    to = (t * self.lanes + n) * size + f + p * self.d_rows
                    w.body.append(Store(name, to * self.lanes + lane, value, None, True))

    def _turn(self, place: Place, position: int, samples: Poly) -> None:
        """One place of the gradient, all outputs: `[outputs][16]` to `[samples][outputs]`."""
        w, plan = self.w, self.plan
        dst = w.touch(self.turned, "w")
        name, layout = w.copies.get(plan.other) or self.memory.home[plan.other]
        src = w.touch(name, "r")

        def address(output: Poly) -> Poly:
            index = [Poly()] * plan.other.ndim
            known = {plan.batch: self.block * self.lanes, plan.outer: output}
            for label, poly in {**known, **dict(zip(plan.places, place))}.items():
                index[plan.axes[label]] = poly
            return w.address(layout, plan.other.shape, tuple(index))[0]

        stride = address(Poly.of(1)) - address(Poly())
        whole, rest = divmod(self.outer, self.lanes)
        parts = [(Poly.of(whole), Poly(), self.lanes), (Poly.of(1), Poly.of(whole), rest)]
        for count, first, outputs in parts:
            if count.constant == 0 or not outputs:
                continue
            with w.loop("f", count) as v:
                panel = (first + v) * self.lanes
                to = position * self.lanes * self.panels * self.lanes + panel
                apart, rows = Poly.of(self.panels * self.lanes), Poly.of(outputs)
                w.body.append(
                    Transpose(
                        dst, to, apart, src, address(panel), stride, rows, samples, "zero",
                        self.dtype,
                    )
                )  # fmt: skip

    def _holds(self, turns: Poly) -> Value | None:
        """The condition whose turns these are; None where it always holds."""
        if turns.constant == 1:
            return None
        positive = Op("greater", (Index(turns, "int64"), Const(0, "int64")), "bool")
        return self.w.let(positive, "there")

    # -- products -------------------------------------------------------------------------------
    def _multiply(self, live: Poly, samples: Poly) -> None:
        w, wide = self.w, min(WIDE, self.panels)
        most = ACCUMULATORS[self.target.registers][wide]
        with w.loop("p", self.algorithm.positions) as p:
            for panels in self._parts(split(self.panels, wide)):
                with panels.open(w) as f:
                    for part in self._parts(even_split(self.inner, most)):
                        with part.open(w) as c:
                            self._register_tile(
                                p, c, f, (part.width, panels.width), (live, samples)
                            )

    def _parts(self, cuts: list[tuple[int, int, int]]) -> Iterator[Part]:
        for start, width, count in cuts:
            yield Part(Poly.of(start), width, Poly.of(count))

    def _register_tile(
        self, p: Poly, c: Poly, f: Poly, shape: tuple[int, int], summed: tuple[Poly, Poly]
    ) -> None:
        """Channels of the image times panels of outputs, added to the sums of this band."""
        w, dtype, lanes = self.w, self.dtype, self.lanes
        v, d, sums = w.touch(self.v, "r"), w.touch(self.d, "r"), w.touch(self.sums, "rw")
        acc = w.fresh("acc")
        with w.vector(None) as lane:
            w.body.append(Declare(acc, dtype, Const(0.0, dtype), shape))
            with w.loop("i", shape[0], shape[0]) as i, w.loop("j", shape[1], shape[1]) as j:
                before = Load(
                    sums, self._sum_at(self.band, p, f + j, c + i) + lane, dtype, None, True
                )
                w.body.append(Accumulate(acc, (i, j), "add", before))
            with w.loop("t", summed[0]) as t, w.loop("n", summed[1], 2) as n:
                with w.loop("i", shape[0], shape[0]) as i, w.loop("j", shape[1], shape[1]) as j:
                    at = (p * self.rows + t * self.inner + (c + i)) * lanes + n
                    row = p * self.d_rows + (t * lanes + n) * self.panels + (f + j)
                    image = Load(v, at, dtype)
                    gradient = Load(d, row * lanes + lane, dtype, None, True)
                    product = Op("mul", (image, gradient), dtype)
                    w.body.append(Accumulate(acc, (i, j), "add", product))
            with w.loop("i", shape[0], shape[0]) as i, w.loop("j", shape[1], shape[1]) as j:
                to = self._sum_at(self.band, p, f + j, c + i) + lane
                w.body.append(Store(sums, to, Get(acc, dtype, (i, j)), None, True))

    def _sum_at(self, band: Poly, p: Poly, panel: Poly, c: Poly) -> Poly:
        row = (band * self.algorithm.positions + p) * self.s_rows + panel * self.inner + c
        return row * self.lanes

    # -- the sum of bands -----------------------------------------------------------------------
    def combine(self) -> Writer:
        w, dtype = self._writer(), self.dtype
        sums, taps = w.touch(self.sums, "r"), range(TAPS)
        with w.loop("c", self.inner) as c, w.loop("f", self.panels) as f:
            w.independent = bool(c.names)
            with w.vector(live_lanes(self.s, self.outer, f)) as lane:
                acc, size = w.fresh("acc"), self.algorithm.size
                w.body.append(Declare(acc, dtype, Const(0.0, dtype), (size * size,)))
                with w.loop("band", self.bands) as band, w.loop("p", size**2, size**2) as p:
                    at = self._sum_at(band, p, f, c) + lane
                    part = Load(sums, at, dtype, None, True)
                    w.body.append(Accumulate(acc, (p,), "add", part))
                totals = [w.let(Get(acc, dtype, (p,)), "s") for p in range(size * size)]
                patch = [totals[i * size : (i + 1) * size] for i in range(size)]
                result = apply_both(transposed(self.algorithm.weights), patch, w.let)
                at_taps = {self.plan.inner: c, self.plan.outer: f * self.lanes + lane}
                self._taps(w, at_taps, [result[k][j] for k in taps for j in taps])
        return w

    def _taps(self, w: Writer, where: dict[int, Poly], values: list[Value]) -> None:
        """The epilogue for every tap: written out if it is light, else in a loop."""

        def index(k: Poly, j: Poly) -> At:
            if self.plan.reverse:
                k, j = TAPS - 1 - k, TAPS - 1 - j
            found = {**where, self.plan.taps[0]: k, self.plan.taps[1]: j}
            return tuple(found[label] for label in self.n.out)

        if self.light:
            named: list[Value] = [w.let(v, "g") for v in values]
            for tap, value in enumerate(named):
                k, j = divmod(tap, TAPS)
                self._finish(w, index(Poly.of(k), Poly.of(j)), value, None)
            return
        name = w.touch(self._scratch("taps", TAPS * TAPS), "rw")
        lane = Poly.of(w.lane or 0)
        for tap, value in enumerate(values):
            w.body.append(Store(name, lane + tap * self.lanes, value, None, True))
        with w.loop("k", TAPS) as row, w.loop("j", TAPS) as column:
            at = (row * TAPS + column) * self.lanes + lane
            value = Load(name, at, self.dtype, None, True)
            self._finish(w, index(row, column), value, None)
