"""Copies of a value into another layout: the only conversions there are, each one counted.

In: where a value lies and where it shall lie. Out: the body of a copying kernel. Rows to lanes and
lanes to rows move whole tiles through registers; everything else is a plain loop.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Iterable, Iterator, Sequence

from codegen.loops import Poly, Transpose
from symgrad.node import Expr
from symgrad.schedule.layout import Layout, lane_layout, row_major
from symgrad.schedule.writer import MANY, Memory, Writer, loops_in_order
from symgrad.sizes import Size

SHORT = 64  # elements of a line: tiles of shorter ones would mostly be parts
Place = tuple[str, Layout]
Tile = AbstractContextManager[Poly]


@dataclass(frozen=True)
class _Value:
    """A value as copies see it: the axis whose elements are in lanes is the first, the others
    follow as they do in memory that has no lanes."""

    shape: tuple[Size, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        return len(self.shape)


def write_convert(memory: Memory, n: Expr, source: Place | None, target: Place) -> Writer:
    """The kernel that copies `n` (from memory, or computed if it is a view) to `target`."""
    w = Writer(memory)
    w.independent = True
    if source is not None and n.ndim >= 2 and _by_tiles(w, n, source, target):
        return w
    with ExitStack() as stack:
        at = loops_in_order(w, stack, target[1], n.shape)
        value = w.value(n, at) if source is None else w.load_from(*source, n, at)
        w.store(*target, n, at, value)
    return w


def _by_tiles(w: Writer, e: Expr, source: Place, target: Place) -> bool:
    """Copies in tiles of lanes; False where a plain loop does as well."""
    n, source, target = _numbered(e, source, target)
    rank = n.ndim
    into, out_of = _plain(n, target[1]), _plain(n, source[1])
    rows_first = lane_layout(rank, 0)
    if out_of == row_major(rank) and into == rows_first:
        _rows_to_lanes(w, n, source[0], target[0])
    elif out_of.lane is None and into.lane == 0 and _in_lines(n, out_of):
        _images_to_lanes(w, n, source, target)
    elif out_of == rows_first and into == row_major(rank):
        _lanes_to_rows(w, n, source[0], target[0])
    elif out_of.lane == 0 and into.lane is None and _in_lines(n, into):
        _lanes_to_images(w, n, source, target)
    elif out_of.lane == 0 and into.lane not in (0, None):
        _lanes_to_panels(w, n, source, target)
    else:
        return into.lane is None and out_of.lane is None and _turned(w, n, source, target)
    return True


def _numbered(n: Expr, source: Place, target: Place) -> tuple[_Value, Place, Place]:
    """The value and where it lies, its axes numbered as `_Value` has them."""
    first = target[1].lane if source[1].lane is None else source[1].lane
    if first is None:
        return _Value(n.shape, n.dtype), source, target
    plain = next((p[1].order for p in (source, target) if p[1].lane is None), range(n.ndim))
    axes = (first, *(a for a in plain if a != first))

    def numbered(place: Place) -> Place:
        order, lane = place[1].order, place[1].lane
        new = Layout(
            tuple(axes.index(a) for a in order), None if lane is None else axes.index(lane)
        )
        return place[0], new

    return _Value(tuple(n.shape[a] for a in axes), n.dtype), numbered(source), numbered(target)


def _in_lines(n: _Value, plain: Layout) -> bool:
    """Whether rows lie apart in memory without lanes; else a vector of them is loaded at once."""
    return [a for a in plain.order if n.shape[a] != 1][-1:] != [0]


def _stride(w: Writer, layout: Layout, n: _Value, axis: int) -> Poly:
    """Elements from one index of an axis to the next; within a block of lanes it is 1."""
    unit = tuple(Poly.of(int(a == axis)) for a in range(n.ndim))
    return w.address(layout, n.shape, unit)[0]


def _plain(n: _Value, layout: Layout) -> Layout:
    """A layout of the same memory with its axes in order, if there is one: an axis of size 1 may
    stand anywhere."""
    long = [a for a in layout.order if n.shape[a] != 1]
    if long != sorted(long) or (layout.lane is not None and layout.order[0] != layout.lane):
        return layout
    return Layout(tuple(range(n.ndim)), layout.lane)


def _features(w: Writer, n: _Value) -> Poly:
    total = Poly.of(1)
    for s in n.shape[1:]:
        total = total * w.symbols.poly(s)
    return total


def _blocks(w: Writer, size: Size) -> list[tuple[Poly, Poly, Poly]]:
    """Full blocks and the last one: (how many, first, live elements in it)."""
    s = w.symbols
    full = s.full_blocks(size)
    parts = [(full, Poly(), Poly.of(w.lanes)), (s.has_rest(size), full, s.rest(size))]
    return [(count, first, live) for count, first, live in parts if count.constant != 0]


def _rows_to_lanes(w: Writer, n: _Value, source: str, target: str) -> None:
    """[rows][features] to [rows/16][features][16]; idle lanes repeat their block's first row."""
    lanes, features = w.lanes, _features(w, n)
    src, dst = w.touch(source, "r"), w.touch(target, "w")
    for b, rows, j, cols in _both(w, n):
        to, start = (b * features + j) * lanes, b * lanes * features + j
        stride = Poly.of(lanes)
        w.body.append(
            Transpose(dst, to, stride, src, start, features, rows, cols, "first", n.dtype)
        )


def _images(
    w: Writer, n: _Value, lanes: Layout, plain: Layout
) -> Iterator[tuple[tuple[Poly, ...], Poly, Poly]]:
    """Loops over lines of an image and tiles of its last axis: index of the first element, live
    rows, live elements along the line. Lines that are neighbours in lanes follow each other: the
    stretches that they leave of every cache line are filled while it is near."""
    last = n.ndim - 1
    extents = [w.symbols.poly(s) for s in n.shape]
    first, line = _line(w, n, lanes, plain)
    axes = [a for a in lanes.order if 0 < a < first]
    for count, start, rows in _blocks(w, n.shape[0]):
        with ExitStack() as stack:
            *places, block = _loops(w, stack, [*(extents[a] for a in axes), count], count)
            index = dict(zip(axes, places))
            block = block + start
            for tile, cols in _tiles(w, line):
                with tile as j:
                    inner = (index.get(a, Poly()) for a in range(1, last))
                    yield (block * w.lanes, *inner, j), rows, cols


def _line(w: Writer, n: _Value, lanes: Layout, plain: Layout) -> tuple[int, Poly]:
    """The axes whose elements follow each other in both layouts, from the first of them to the
    last axis, and how many elements they have: short lines of an image are one long one."""
    first, length = n.ndim - 1, w.symbols.poly(n.shape[-1])
    places = lanes.order.index, plain.order.index
    while first > 1 and (length.constant or SHORT) < SHORT:
        if any(place(first - 1) + 1 != place(first) for place in places):
            break
        first -= 1
        length = length * w.symbols.poly(n.shape[first])
    return first, length


def _images_to_lanes(w: Writer, n: _Value, source: Place, target: Place) -> None:
    """[rows][C][H][W] to [rows/16][H][W][C][16]; idle lanes repeat their block's first row."""
    src, dst = w.touch(source[0], "r"), w.touch(target[0], "w")
    stride, apart = _stride(w, target[1], n, n.ndim - 1), _stride(w, source[1], n, 0)
    for at, rows, cols in _images(w, n, target[1], source[1]):
        to, start = (w.address(layout, n.shape, at)[0] for layout in (target[1], source[1]))
        w.body.append(Transpose(dst, to, stride, src, start, apart, rows, cols, "first", n.dtype))


def _lanes_to_images(w: Writer, n: _Value, source: Place, target: Place) -> None:
    """[rows/16][H][W][C][16] to [rows][C][H][W]."""
    src, dst = w.touch(source[0], "r"), w.touch(target[0], "w")
    stride, apart = _stride(w, target[1], n, 0), _stride(w, source[1], n, n.ndim - 1)
    for at, rows, cols in _images(w, n, source[1], target[1]):
        start, to = (w.address(layout, n.shape, at)[0] for layout in (source[1], target[1]))
        w.body.append(Transpose(dst, to, stride, src, start, apart, cols, rows, "none", n.dtype))


def _lanes_to_rows(w: Writer, n: _Value, source: str, target: str) -> None:
    """[rows/16][features][16] to [rows][features]."""
    features = _features(w, n)
    for b, rows, j, cols in _both(w, n):
        _turn(
            w, n, source, target, b * w.lanes * features + j, features, (b, rows, j, cols), "none"
        )


def _lanes_to_panels(w: Writer, n: _Value, source: Place, target: Place) -> None:
    """[rows/16][features][16] to [features/16][rows][16], as products by rows read it: another
    axis in lanes, in tiles of rows by that axis."""
    src, dst, lane = w.touch(source[0], "r"), w.touch(target[0], "w"), target[1].lane
    assert lane is not None
    apart, stride = _stride(w, source[1], n, lane), _stride(w, target[1], n, 0)
    for count, first, rows in _blocks(w, n.shape[0]):
        with ExitStack() as stack:
            axes = [a for a in source[1].order if a not in (0, lane)]
            extents = [*(w.symbols.poly(n.shape[a]) for a in axes), count]
            at = dict(zip([*axes, 0], _loops(w, stack, extents, count)))
            at[0] = (at[0] + first) * w.lanes
            for tile, cols in _tiles(w, w.symbols.poly(n.shape[lane])):
                with tile as j:
                    index = tuple({**at, lane: j}[a] for a in range(n.ndim))
                    start, to = (w.address(p[1], n.shape, index)[0] for p in (source, target))
                    w.body.append(
                        Transpose(dst, to, stride, src, start, apart, cols, rows, "zero", n.dtype)
                    )


def _turned(w: Writer, n: _Value, source: Place, target: Place) -> bool:
    """[N][C][H][W] to [N][H][W][C] and the like: the innermost axes of both in tiles; neighbours
    in both count as one axis. False where there is nothing to turn."""
    along, across = (_innermost(n, p[1], q[1]) for p, q in ((source, target), (target, source)))
    if set(along) & set(across):
        return False
    src, dst = w.touch(source[0], "r"), w.touch(target[0], "w")
    stride, apart = _stride(w, target[1], n, along[-1]), _stride(w, source[1], n, across[-1])
    extents = [w.symbols.poly(s) for s in n.shape]
    with ExitStack() as stack:
        at = dict.fromkeys((*along, *across), Poly())
        for a in target[1].order:
            if a not in at:
                at[a] = stack.enter_context(w.loop("f", extents[a]))
        size = {k: _product(extents[a] for a in axes) for k, axes in (("i", across), ("j", along))}
        # the longer way inside: sixteen streams of memory, instead of as many as there are tiles
        first = "i" if w.symbols.most(size["i"]) <= w.symbols.most(size["j"]) else "j"
        second = "j" if first == "i" else "i"
        for outer, live in _tiles(w, size[first]):
            with outer as a0:
                for inner, more in _tiles(w, size[second]):
                    with inner as a1:
                        i, j = (a0, a1) if first == "i" else (a1, a0)
                        rows, cols = (live, more) if first == "i" else (more, live)
                        found = {**at, across[-1]: i, along[-1]: j}
                        index = tuple(found[a] for a in range(n.ndim))
                        start, to = (w.address(p[1], n.shape, index)[0] for p in (source, target))
                        w.body.append(Transpose(dst, to, stride, src, start, apart, rows, cols,
                                                "none", n.dtype))  # fmt: skip
    return True


def _innermost(n: _Value, layout: Layout, other: Layout) -> list[int]:
    """The innermost axes of a layout that follow each other in the other one too."""
    order, theirs = ([a for a in p.order if n.shape[a] != 1] for p in (layout, other))
    found = order[-1:]
    for a in reversed(order[:-1]):
        before = theirs.index(found[0])
        if before == 0 or theirs[before - 1] != a:
            break
        found.insert(0, a)
    return found or [layout.order[-1]]


def _product(extents: Iterable[Poly]) -> Poly:
    total = Poly.of(1)
    for e in extents:
        total = total * e
    return total


def _both(w: Writer, n: _Value) -> Iterator[tuple[Poly, Poly, Poly, Poly]]:
    """Loops over blocks of rows and tiles of features: block, live rows, feature, live features."""
    for count, first, rows in _blocks(w, n.shape[0]):
        if w.symbols.most(count) < MANY:
            for tile, cols in _tiles(w, _features(w, n)):
                with tile as j, w.loop("b", count) as b:
                    yield b + first, rows, j, cols
            continue
        with w.loop("b", count) as b:
            for tile, cols in _tiles(w, _features(w, n)):
                with tile as j:
                    yield b + first, rows, j, cols


def _loops(w: Writer, stack: ExitStack, extents: Sequence[Poly], blocks: Poly) -> list[Poly]:
    """Loops, the last one over blocks of rows: outside of the others, unless it has few turns."""
    order = list(range(len(extents)))
    if w.symbols.most(blocks) >= MANY:
        order = [order[-1], *order[:-1]]
    found = {
        i: stack.enter_context(w.loop("b" if i == len(order) - 1 else "f", extents[i]))
        for i in order
    }
    return [found[i] for i in range(len(extents))]


def _turn(
    w: Writer,
    n: _Value,
    source: str,
    target: str,
    to: Poly,
    stride: Poly,
    where: tuple[Poly, Poly, Poly, Poly],
    pad: str,
) -> None:
    """One tile whose rows are in lanes, stored row by row."""
    b, rows, j, cols = where
    start, lanes = (b * _features(w, n) + j) * w.lanes, Poly.of(w.lanes)
    src, dst = w.touch(source, "r"), w.touch(target, "w")
    w.body.append(Transpose(dst, to, stride, src, start, lanes, cols, rows, pad, n.dtype))


def _tiles(w: Writer, features: Poly) -> list[tuple[Tile, Poly]]:
    """Tiles of features: (loop over them, features in each)."""
    s, lanes = w.symbols, w.lanes
    whole = s.derived("div", features, lanes, f"{features}.full")
    rest = s.derived("mod", features, lanes, f"{features}.rest")
    tail = s.derived("ceildiv", rest, lanes, f"{features}.tail")
    parts = [(whole, Poly(), Poly.of(lanes)), (tail, whole * lanes, rest)]
    return [(_tile(w, n, start), cols) for n, start, cols in parts if n.constant != 0]


@contextmanager
def _tile(w: Writer, count: Poly, start: Poly) -> Iterator[Poly]:
    """A loop over tiles, yielding the first feature of each."""
    with w.loop("c", count) as v:
        yield start + v * w.lanes
