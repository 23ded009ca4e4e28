"""How a contraction is computed by register tiles: which index runs in lanes, which in registers.

In: a Contract of two operands with a common summed index, and where its operands lie. Out: a
`Tiling`, and the `Part`s into which its indices are cut.

    rows in lanes     y[r,o] = sum_k w[k,o] x[r,k]      broadcast w, vector x (I outputs, J blocks)
                      d[r,k] = sum_o w[k,o] g[r,o]      broadcast w, vector g
    outputs in lanes  v[k,o] = sum_r x[r,k] g[r,o]      broadcast x, vector g transposed
    sum in lanes      v[k,o] with few o                 vector x, vector g, lanes added at the end
    batch in lanes    s[b,i,j] = sum_k q[b,i,k] p[b,j,k]  vector q, vector p

Tile sizes follow from the number of vector registers: I*J accumulators, J vectors and a broadcast
must fit.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence

from codegen.loops import ITEMSIZE, Poly
from symgrad.node import Contract, Expr
from symgrad.schedule.layout import Layout, lane_layout
from symgrad.schedule.symbols import elements
from symgrad.schedule.writer import Writer
from symgrad.sizes import Shape, Size, maximum

FEW_ROWS = 3  # live rows of a last block up to which they are computed one by one
FEW = 8  # outputs in lanes below which rows are summed across lanes instead


@dataclass(frozen=True)
class Tiling:
    """How a product is computed. Labels are those of the Contract."""

    lane: int  # the index that runs in lanes
    scalar: int  # operand read first: broadcast unless it has the lane index too
    vector: int  # operand read as vectors
    across: bool  # the lane index is summed: lanes are added at the end
    rows: int | None  # the index over I (of the scalar operand)
    cols: int | None  # the index over J when J does not run over blocks of lanes
    convert: tuple[Expr, Layout] | None  # what must first be copied into another layout

    def words(self, n: Contract) -> str:
        """The choice in a few words."""
        seen = list(dict.fromkeys(k for labels in (*n.ins, n.out) for k in labels))
        label = chr(ord("i") + seen.index(self.lane))  # as the contraction's name has it
        if self.across:
            return f"sum over {label} in lanes"
        copy = "" if self.convert is None else " of a copy"
        return f"{label} in lanes{copy}"


def base_axes(labels: Sequence[int], arg: Expr) -> tuple[Expr, dict[int, int]]:
    """The node below transposing views, and the axis of it that each label runs along."""
    axes = {label: i for i, label in enumerate(labels)}
    while isinstance(arg, Contract) and len(arg.args) == 1 and not arg.summed:
        inner = dict(zip(arg.ins[0], range(arg.args[0].ndim)))
        axes = {label: inner[arg.out[i]] for label, i in axes.items() if arg.out[i] in inner}
        arg = arg.args[0]
    return arg, axes


def tiling(n: Contract, layouts: Mapping[Expr, Layout], lanes: int) -> Tiling:
    """The choice for a product, given the layout of everything that lies in memory."""
    out_layout = layouts[n]
    axis = out_layout.lane if out_layout.lane is not None else innermost(n.shape, out_layout)
    lane = n.out[axis]
    holders = [i for i, labels in enumerate(n.ins) if lane in labels]
    vector = holders[-1] if len(holders) == 1 else 1
    scalar = 1 - vector
    convert = _misplaced(n, vector, lane, layouts)
    if convert is None and len(holders) == 2:
        convert = _misplaced(n, scalar, lane, layouts)
    extents = n.extents
    if out_layout.lane is None and (convert is not None or maximum(extents[lane]) < FEW):
        across = _summed_lanes(n, layouts)
        if across is not None:
            return across
    rows = largest([k for k in n.ins[scalar] if k in n.out and k not in n.ins[vector]], extents)
    free = [k for k in n.ins[vector] if k in n.out and k not in n.ins[scalar] and k != lane]
    cols = largest(free, extents) if len(holders) == 2 or _one_block(extents[lane], lanes) else None
    return Tiling(lane, scalar, vector, False, rows, cols, convert)


def _one_block(size: Size, lanes: int) -> bool:
    """A single block of lanes, of more than a few rows: vectors side by side are then those of
    another axis, since one broadcast for each multiply-add is more than the caches can give."""
    return isinstance(size, int) and FEW_ROWS < size <= lanes


def innermost(shape: Shape, layout: Layout) -> int:
    """The axis along which neighbours in memory follow each other: axes of size 1 do not count."""
    long = [a for a in layout.order if shape[a] != 1]
    return long[-1] if long else layout.order[-1]


def largest(labels: Sequence[int], extents: Mapping[int, Size]) -> int | None:
    """The label with the most indices."""
    return max(labels, key=lambda k: maximum(extents[k]), default=None)


def _in_lanes(
    arg: Expr, axes: Mapping[int, int], lane: int, layouts: Mapping[Expr, Layout]
) -> bool:
    layout = layouts.get(arg)
    if layout is None or lane not in axes:
        return False
    if layout.lane is None:
        return innermost(arg.shape, layout) == axes[lane]
    return layout.lane == axes[lane]


def _summed_lanes(n: Contract, layouts: Mapping[Expr, Layout]) -> Tiling | None:
    """The summed index in lanes, added at the end: for results with few outputs, or few rows,
    where that index runs through neighbours in memory for both operands."""
    extents = n.extents
    few = [k for k in reversed(n.out) if maximum(extents[k]) < FEW]
    bases = [base_axes(labels, a) for labels, a in zip(n.ins, n.args)]
    for k in n.summed:
        if few and all(_in_lanes(arg, axes, k, layouts) for arg, axes in bases):
            cols = few[0]
            vector = 1 if cols in n.ins[1] else 0
            free = [x for x in n.ins[1 - vector] if x in n.out and x not in n.ins[vector]]
            return Tiling(k, 1 - vector, vector, True, largest(free, extents), cols, None)
    return None


def _misplaced(
    n: Contract, operand: int, lane: int, layouts: Mapping[Expr, Layout]
) -> tuple[Expr, Layout] | None:
    """The copy that an operand needs before it can be read as vectors along `lane`."""
    arg, axes = base_axes(n.ins[operand], n.args[operand])
    layout = layouts.get(arg)
    if layout is None or lane not in axes:  # a view that is no transposition
        arg = n.args[operand]
        return arg, lane_layout(arg.ndim, n.ins[operand].index(lane))
    if layout.lane == axes[lane]:
        return None
    if layout.lane is None and layout.order and innermost(arg.shape, layout) == axes[lane]:
        return None
    if layout.lane is None:
        return arg, lane_layout(arg.ndim, axes[lane])
    others = [a for a in layout.order if a not in (axes[lane], layout.lane)]
    return arg, Layout((axes[lane], *others, layout.lane), axes[lane])


# -- sizes of tiles --------------------------------------------------------------------------------

ACCUMULATORS = {32: {1: 16, 2: 13, 3: 8, 4: 6}, 16: {1: 8, 2: 6, 3: 4, 4: 3}}
SHORT = 1000  # an index up to which tiles are of equal width if they can be


def split(n: int, most: int) -> list[tuple[int, int, int]]:
    """n in near-equal parts of at most `most`: (start, part, how many of it)."""
    parts = -(-n // most)
    small, more = divmod(n, parts)
    result = []
    if more:
        result.append((0, small + 1, more))
    if parts > more:
        result.append((more * (small + 1), small, parts - more))
    return result


def even_split(n: int, most: int) -> list[tuple[int, int, int]]:
    """`split`, but in equal parts where an index is short: one tile's code instead of two, which
    is worth more there than the widest tile."""
    if n <= SHORT:
        for width in range(most, most // 2, -1):
            if n % width == 0:
                return [(0, width, n // width)]
    return split(n, most)


@dataclass(frozen=True)
class Part:
    """A stretch of an index: tiles from `start`, each `width` wide; `inside` tiles make a panel,
    `panels` panels a group, and there are `count` groups. A loop for each, so that the place in a
    panel stays a polynomial.
    """

    start: Poly
    width: int
    count: Poly
    live: Poly | None = None
    inside: int = 1
    panels: int = 1

    @contextmanager
    def open(self, w: Writer) -> Iterator[Poly]:
        """The loop over groups: the start of each."""
        with w.loop("t", self.count) as v:
            yield self.start + v * (self.width * self.inside * self.panels)

    @contextmanager
    def within(self, w: Writer, start: Poly) -> Iterator[Poly]:
        """The loops over the tiles of a group: the start of each."""
        with w.loop("g", self.panels) as g, w.loop("h", self.inside) as h:
            yield start + g * (self.width * self.inside) + h * self.width


NEAR = 1 << 20  # bytes of the second cache
FAR = 8 << 20  # bytes of the last cache that one operand may fill


def bytes_of(e: Expr) -> int:
    """Memory of an expression at the planned maximum, padding aside."""
    return elements(e.shape) * ITEMSIZE[e.dtype]


def unroll(size: Size) -> int:
    return min(2, max(1, size)) if isinstance(size, int) else 2
