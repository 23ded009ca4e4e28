"""Convolutions by Winograd's algorithm: which ones, and what their kernels need.

In: a product over the 3 x 3 windows of an image (`symgrad.schedule.windows`), stride 1, samples in
lanes. Out: a `Plan` where fewer multiplications win over the transforms they cost, else None.

    forward          Y[n,o,y,x]  = sum c,k,l  X[n,c, y + k - p, x + l - p] * W[o,c,k,l]
    input gradient   the same, of the output's gradient with the taps in reverse order
    weight gradient  W'[o,c,k,l] = sum n,y,x  X[n,c, y + k - p, x + l - p] * Y'[n,o,y,x]

F(2x2) is the default: its error is below that of direct summation. F(4x4) multiplies less, at
about five times the error, and is chosen where a tolerance allows it.

>>> plan(n, windows(n, in_memory), layouts).algorithm.outputs
2
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping

import numpy as np

from symgrad import dtypes
from symgrad.node import Contract, Expr
from symgrad.schedule.layout import Layout
from symgrad.schedule.tiling import base_axes
from symgrad.schedule.windows import Sliding, Windows
from symgrad.schedule.winograd_transforms import F2, F4, Algorithm

TAPS = 3
LOOSE = 500  # units in the last place: the relative tolerance from which F(4x4) may be used
FEWEST = 8  # channels on both sides from which transforms are worth it
TRANSFORM = 6  # multiply-adds in the time of transforming one element: measured, 5 to 7
Pair = tuple[int, int]  # of rows and of columns


@dataclass(frozen=True)
class Filters:
    """Weights transformed, G g G^T: `[position][channels/16][other channels][16]`. One copy serves
    the forward pass and the input gradient where G is the same for weights in reverse order."""

    weights: Expr  # in memory
    lane: int  # the axis of its channels that is cut into lanes
    other: int  # the axis of the other channels
    taps: Pair  # axes
    algorithm: Algorithm
    reverse: bool

    @property
    def shape(self) -> Pair:
        """Channels of the axis in lanes, and of the other one."""
        shape = self.weights.shape
        return int(shape[self.lane]), int(shape[self.other])  # type: ignore[arg-type]

    def rows(self, lanes: int) -> int:
        """Vectors of a position, an odd number: positions then start in different cache sets."""
        along, other = self.shape
        return -(-along // lanes) * other | 1

    def elements(self, lanes: int) -> int:
        return self.algorithm.positions * self.rows(lanes) * lanes


@dataclass(frozen=True)
class Plan:
    """How a convolution is computed. Labels are those of the Contract."""

    n: Contract
    windows: Windows
    algorithm: Algorithm
    batch: int
    inner: int  # channels of the image
    outer: int  # channels of the other operand
    places: Pair
    taps: Pair
    shift: Pair  # from a place to the first input it reads
    reverse: bool  # taps count backwards
    axes: Mapping[int, int]  # of the other operand in memory, by label
    other: Expr  # this operand
    filters: Filters | None  # what the kernel of an image reads; of a weight gradient None

    def size(self, label: int) -> int:
        return int(self.n.extents[label])  # type: ignore[arg-type]

    @property
    def tiles(self) -> Pair:
        """Tiles of places along either axis."""
        m = self.algorithm.outputs
        return -(-self.size(self.places[0]) // m), -(-self.size(self.places[1]) // m)


def plan(
    n: Contract, found: Windows, layouts: Mapping[Expr, Layout], tolerance: float = 0.0
) -> Plan | None:
    """The plan of a convolution that is faster this way, None for every other product. The
    tolerance is the relative error that is allowed for."""
    loose = dtypes.is_float(n.dtype) and tolerance >= LOOSE * np.finfo(n.dtype).eps
    made = [planned(n, found, layouts, a) for a in ((F2, F4) if loose else (F2,))]
    better = [p for p in made if p is not None and _cost(p) < _direct_cost(p)]
    return min(better, key=_cost, default=None)


def _cost(p: Plan) -> float:
    """Multiply-adds for one vector of samples, and the transforms counted as such."""
    inner, outer = p.size(p.inner), p.size(p.outer)
    if min(inner, outer) < FEWEST:
        return math.inf
    patches = p.tiles[0] * p.tiles[1] * p.algorithm.positions
    return patches * (inner * outer + TRANSFORM * (inner + outer))


def _direct_cost(p: Plan) -> float:
    """The same of direct summation, which leaves out what is beyond the border."""
    taps = 1
    for slide, place, shift in zip(p.windows.axes, p.places, p.shift):
        first = range(shift, shift + p.size(place))
        taps *= sum(0 <= y + k < slide.size for y in first for k in range(TAPS))
    return taps * p.size(p.inner) * p.size(p.outer)


def planned(
    n: Contract, found: Windows, layouts: Mapping[Expr, Layout], algorithm: Algorithm
) -> Plan | None:
    """The plan of any 3 x 3 convolution with stride 1 in lanes, be it fast or slow."""
    batch = _in_lanes(found, layouts)
    if batch is None or len(found.axes) != 2 or not dtypes.is_float(n.dtype):
        return None
    gradient = batch not in n.out
    rows, columns = (_slide(s, gradient) for s in found.axes)
    operand = 1 - found.image
    inner = [f.label for f in found.forms if f.label is not None and f.label != batch]
    outer = [k for k in n.ins[operand] if k in n.out and k not in n.ins[found.image]]
    if rows is None or columns is None or len(inner) != 1 or len(outer) != 1:
        return None
    places, taps = (rows.place, columns.place), (rows.tap, columns.tap)
    kept, summed = {*inner, *taps}, {batch, *places}
    if not gradient:
        kept, summed = summed, kept
    if set(n.ins[operand]) != summed | {*outer} or set(n.out) != kept | {*outer}:
        return None
    sizes = [s for k, s in n.extents.items() if k != batch]
    if rows.reverse != columns.reverse or not all(isinstance(s, int) for s in sizes):
        return None
    other, axes = base_axes(n.ins[operand], n.args[operand])
    layout = layouts.get(other)
    if layout is None or (gradient and layout.lane != axes.get(batch)):
        return None
    filters = None
    if not gradient:
        channels = sorted((axes[inner[0]], axes[outer[0]]), key=lambda a: (a != layout.lane, a))
        reverse = rows.reverse and algorithm.flipped() is None
        where = axes[taps[0]], axes[taps[1]]
        filters = Filters(other, channels[0], channels[1], where, algorithm, reverse)
    return Plan(
        n, found, algorithm, batch, inner[0], outer[0], places, taps,
        (rows.shift, columns.shift), rows.reverse, axes, other, filters,
    )  # fmt: skip


@dataclass(frozen=True)
class _Slide:
    """An axis of the image: its index is `place + shift + tap`, taps counted backwards or not."""

    place: int
    tap: int
    shift: int
    reverse: bool


def _slide(s: Sliding, gradient: bool) -> _Slide | None:
    """In a weight gradient the places are summed, and the taps are the result's."""
    place, by, tap, step, taps = s.place, s.step, s.tap, s.dilation, s.taps
    if gradient:
        place, by, tap, step, taps = s.tap, s.dilation, s.place, s.step, s.places
    if place is None or tap is None or taps != TAPS or s.divisor != 1:
        return None
    if by != 1 or abs(step) != 1:
        return None
    return _Slide(place, tap, s.offset - (TAPS - 1 if step < 0 else 0), step < 0)


def _in_lanes(found: Windows, layouts: Mapping[Expr, Layout]) -> int | None:
    """The label of the samples, where the image lies with samples in lanes."""
    layout = layouts.get(found.base)
    return None if layout is None or layout.lane is None else found.forms[layout.lane].label
