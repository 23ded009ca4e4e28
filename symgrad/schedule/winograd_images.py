"""The kernels of a Winograd convolution that makes an image: forward, and the input gradient.

In: a `Plan`, what follows the convolution elementwise, where results go. Out: two kernels. One
transforms the weights; the other does for some tiles t at a time, for F(2x2) and samples in lanes,

    for t, for c:        V[:, t, c] = B^T d B                       of the tile's 4 x 4 inputs d
    for p, for o, t:     M[p, t, o] = sum c  U[p, o, c] * V[p, t, c]           at 16 positions p
    for t, for o:        y = A^T M[:, t, o] A                   2 x 2 outputs: epilogue, stores

M[p] takes the place of V[p-1]. Turns over tiles are independent of each other, and V and M are
lost at the end of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, Sequence

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
from symgrad.schedule.symbols import divide, live_lanes
from symgrad.schedule.tiling import ACCUMULATORS, Part, even_split, split
from symgrad.schedule.winograd import TAPS, Filters
from symgrad.schedule.winograd_tiles import Place, Tiles
from symgrad.schedule.winograd_transforms import apply_both
from symgrad.schedule.writer import Memory, Writer

WIDE = 2  # vectors of a register tile
BUSY = 16  # accumulators with which a column keeps two multipliers busy
TILES = 4  # tiles at a time, at most


# -- weights ---------------------------------------------------------------------------------------


def write_filters(memory: Memory, filters: Filters, target: str) -> Writer:
    """The kernel that transforms weights into the buffer `target`."""
    w = Writer(memory)
    (along, other), places = filters.shape, range(TAPS)
    name = w.touch(target, "w")
    with w.loop("f", other) as f, w.loop("b", w.symbols.blocks(along)) as b:
        w.independent = bool(f.names)
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
class Images(Tiles):
    """Writes one convolution and its epilogue; `transformed` is the buffer of its weights."""

    transformed: str

    @property
    def wide(self) -> int:
        """Vectors of a register tile: one where a tile and all weights fit the first cache, and
        where one column alone keeps the multipliers busy."""
        near = self._tile_bytes() + self._filters.elements(self.lanes) * ITEMSIZE[self.dtype]
        tall = ACCUMULATORS[self.target.registers][1] >= BUSY
        return min(1 if tall and near <= self.target.l1 else WIDE, self.count)

    def _width(self) -> int:
        """More tiles read the weights less often, but what belongs to all of them should fit the
        second cache; no more are needed where it fits the first one."""
        size = self._tile_bytes()
        more = self.wide * size > self.target.l1 and TILES * size <= self.target.l2
        most = min(TILES if more else self.wide, self.count)
        return -(-most // self.wide) * self.wide

    def _tile_bytes(self) -> int:
        vectors = (self.algorithm.positions + self._spare()) * self._channels()
        return vectors * self.lanes * ITEMSIZE[self.dtype]

    @property
    def _filters(self) -> Filters:
        assert self.plan.filters is not None
        return self.plan.filters

    def _channels(self) -> int:
        return max(self.inner, self.outer)

    def _spare(self) -> int:
        """M[p] takes the place of V[p-1], which nobody needs any more."""
        return 1

    def write(self) -> Writer:
        groups = -(-self.count // self.width)
        blocks = self.s.blocks(self.batch)
        with self.w.loop("b", blocks * groups) as turn:
            self.w.independent = bool(turn.names)
            self.block, group = self._divided(turn, groups, self.s.most(blocks))
            self.first = group * self.width
            live = self._live_tiles()
            self._transform_inputs(live)
            self._multiply(live)
            self._transform_results(live)
        return self.w

    def _kept_at(self, position: int) -> int:
        return self._place_of(position) + 1

    def _place_of(self, position: int) -> int:
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
        return self.plan.axes[channels] == self._filters.lane

    def _register_tile(self, p: Poly, o: Poly, outputs: int, t: Poly) -> None:
        w, wide, dtype = self.w, self.wide, self.dtype
        u, v = w.touch(self.transformed, "r"), w.touch(self.v, "rw")
        acc, zero = w.fresh("acc"), Const(0.0, dtype)
        with w.vector(None) as lane:
            w.body.append(Declare(acc, dtype, zero, (outputs, wide)))

            def step(c: Poly) -> None:
                with w.loop("i", outputs, outputs) as i, w.loop("j", wide, wide) as j:
                    weight = Load(u, self._weight(p, o + i, c), dtype)
                    row = (p + 1) * self.rows + (t + j) * self.inner + c
                    patch = Load(v, row * self.lanes + lane, dtype, None, True)
                    w.body.append(Accumulate(acc, (i, j), "add", Op("mul", (weight, patch), dtype)))

            self._sum(step)
            with w.loop("i", outputs, outputs) as i, w.loop("j", wide, wide) as j:
                row = p * self.rows + (t + j) * self.outer + (o + i)
                total = Get(acc, dtype, (i, j))
                w.body.append(Store(v, row * self.lanes + lane, total, None, True))

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
        filters = self._filters
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
        name = w.touch(self.v, "r" if self.light else "rw")
        with self._tiles(live) as (t, place):
            there = self._places_there(place)
            with w.loop("o", self.outer) as o, w.vector(None) as lane:

                def at(p: Poly | int) -> Poly:
                    row = Poly.of(p) * self.rows + t * self.outer + o
                    return row * self.lanes + lane

                result = self._outputs(name, at)
                if self.light:
                    self._written_out(result, place, there, o, lane)
                else:
                    for p, value in enumerate(v for row in result for v in row):
                        w.body.append(Store(name, at(p), value, None, True))
                    with (
                        w.loop("i", sum(there[0], Poly())) as i,
                        w.loop("j", sum(there[1], Poly())) as j,
                    ):
                        value = Load(name, at(i * m + j), self.dtype, None, True)
                        self._output((place[0] + i, place[1] + j), o, lane, value)

    def _outputs(self, name: str, at: Callable[[int], Poly]) -> list[list[Value]]:
        size = self.algorithm.size
        kept = [self._place_of(p) for p in range(size * size)]
        loads = [Load(name, at(p), self.dtype, None, True) for p in kept]
        patch = [loads[i * size : (i + 1) * size] for i in range(size)]
        return apply_both(self.algorithm.results, patch, self.w.let)

    def _written_out(
        self,
        result: Sequence[Sequence[Value]],
        place: Place,
        there: Sequence[Sequence[Poly]],
        o: Poly,
        lane: Poly,
    ) -> None:
        named = [[self.w.let(v, "y") for v in row] for row in result]
        for i, row in enumerate(named):
            with self.w.loop("if", there[0][i]):
                for j, value in enumerate(row):
                    with self.w.loop("if", there[1][j]):
                        self._output((place[0] + i, place[1] + j), o, lane, value)

    def _output(self, place: Place, o: Poly, lane: Poly, value: Value) -> None:
        where = dict(zip(self.plan.places, place))
        sample = self.block * self.lanes + lane
        where[self.plan.outer], where[self.plan.batch] = o, sample
        live: Value | None = None
        if self.epilogue and live_lanes(self.s, self.batch, self.block) is not None:
            end = Index(self.s.poly(self.batch), "int64")
            live = self.w.let(Op("less", (Index(sample, "int64"), end), "bool"), "live")
        self._finish(self.w, tuple(where[k] for k in self.n.out), value, live)
