"""Reductions whose result has no rows: gradients of biases, statistics, sums without rows.

In: a `Group` of kind "reduce": reductions of one space along the same axes. Out: one kernel or two:

    for what is kept, several neighbours in memory at once:
        acc = 0
        for what is summed, in the order of memory: acc += ...

Where there is much to sum and little to keep, one summed axis goes outside, for threads to share:
its sums are kept apart and added by a second kernel. Sizes alone decide that, so that sums are the
same on any number of threads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Callable, Mapping, Sequence

from codegen.loops import Accumulate, Declare, Get, Load, Poly, Store, Value
from symgrad.node import Contract, Expr
from symgrad.schedule.cuts import loop_order, ordering_operand
from symgrad.schedule.groups import Group
from symgrad.schedule.kept import reduced_axes, space_of
from symgrad.schedule.layout import row_major
from symgrad.schedule.nests import FUNCTION, WORK, Nest, element, lane_loop, law_of, neutral
from symgrad.schedule.symbols import elements, live_lanes
from symgrad.schedule.tiling import split
from symgrad.schedule.writer import MANY, At, Writer, loops_in_order
from symgrad.sizes import Size, maximum

BESIDE = 16  # accumulators of a reduction that keeps an axis
FEW = 256  # elements of a result, so few that threads do not share these
MOST_PARTS = 1024  # sums that are kept apart

Keep = Callable[[Writer, Expr, At, Value], None]  # what becomes of an element of a result


def write_reduce(nest: Nest, group: Group) -> list[Writer]:
    """The kernels of a group."""
    first = group.nodes[0]
    w, gone = Writer(nest.memory), list(reduced_axes(first))
    order, lane = _order(nest, first)
    w.independent = True
    apart = _apart(group, order, lane)
    if apart is None:
        _Reduction(w, group, order, gone, lane, {}, nest.store).write()
        return [w]
    size, count = maximum(space_of(first)[apart]), elements(first.shape)  # type: ignore[arg-type]
    parts = {
        n: nest.memory.fresh_buffer(f"parts_{n.name}", n.dtype, size * count) for n in group.nodes
    }
    with w.loop("a", size) as turn:

        def keep(w: Writer, n: Expr, at: At, value: Value) -> None:
            offset = w.address(row_major(n.ndim), n.shape, at)[0] + turn * count
            w.body.append(Store(w.touch(parts[n], "w"), offset, value))

        order.remove(apart)
        gone.remove(apart)
        _Reduction(w, group, order, gone, lane, {apart: turn}, keep).write()
    return [w, _sum_of_parts(nest, group, parts, size)]


def _apart(group: Group, order: Sequence[int], lane: int | None) -> int | None:
    """The summed axis that goes outside, if any: the first in memory of a fair, known length."""
    first = group.nodes[0]
    space: tuple[Size, ...] = space_of(first)  # type: ignore[assignment]
    known = all(isinstance(size, int) for size in first.shape)
    if elements(space) < WORK or not 0 < elements(first.shape) <= FEW or not known:
        return None
    for i in order:
        size = space[i]
        if i in reduced_axes(first) and i != lane and isinstance(size, int):
            if MANY <= size <= MOST_PARTS:
                return i
    return None


def _sum_of_parts(nest: Nest, group: Group, parts: Mapping[Expr, str], size: int) -> Writer:
    """The kernel that adds what was kept apart, in order."""
    w, first = Writer(nest.memory), group.nodes[0]
    w.independent = True
    count, plain = elements(first.shape), row_major(first.ndim)
    with ExitStack() as stack:
        at = loops_in_order(w, stack, plain, first.shape)
        accs = [w.fresh("acc") for _ in group.nodes]
        for n, acc in zip(group.nodes, accs):
            w.body.append(Declare(acc, n.dtype, neutral(law_of(n), n.dtype)))
        offset = w.address(plain, first.shape, at)[0]
        with w.loop("a", size) as turn:
            for n, acc in zip(group.nodes, accs):
                part = Load(w.touch(parts[n], "r"), offset + turn * count, n.dtype)
                w.body.append(Accumulate(acc, (), FUNCTION[law_of(n)], part))
        for n, acc in zip(group.nodes, accs):
            nest.store(w, n, at, Get(acc, n.dtype))
    return w


@dataclass
class _Reduction:
    """Writes the loops of a group inside of those that give `index`; `order` and `gone` are the
    other axes of the space in the order of memory, and which of them are summed."""

    w: Writer
    group: Group
    order: list[int]
    gone: list[int]
    lane: int | None
    index: dict[int, Poly]
    keep: Keep

    def __post_init__(self) -> None:
        self.space: tuple[Size, ...] = space_of(self.group.nodes[0])  # type: ignore[assignment]

    def write(self) -> None:
        w, kept = self.w, [i for i in self.order if i not in self.gone]
        beside = self._beside(kept)
        with ExitStack() as stack:
            for i in kept:
                if i != self.lane and (i != kept[-1] or beside == 1):
                    self.index[i] = stack.enter_context(w.loop("o", w.symbols.poly(self.space[i])))
            if self.lane in kept:
                self.index[self.lane] = lane_loop(w, stack, self.space[self.lane])
            if beside == 1:
                self._sums(None, 1)
                return
            for start, width, count in split(maximum(self.space[kept[-1]]), beside):
                with w.loop("o", count) as part:
                    self.index[kept[-1]] = part * width + start
                    self._sums(kept[-1], width)

    def _beside(self, kept: list[int]) -> int:
        """How many neighbours are summed at once: a stretch of memory is read, not single
        vectors."""
        inner = [i for i in self.order if i != self.lane]
        if self.lane is None or self.lane in kept or not kept or kept[-1] != inner[-1]:
            return 1
        size = self.space[kept[-1]]
        return max(1, BESIDE // len(self.group.nodes)) if isinstance(size, int) and size else 1

    def _sums(self, wide: int | None, width: int) -> None:
        """The reductions at one place, or at `width` neighbours along axis `wide`."""
        w, nodes, index = self.w, self.group.nodes, dict(self.index)
        accs = [w.fresh("acc") for _ in nodes]
        shape = () if wide is None else (width,)
        for n, acc in zip(nodes, accs):
            w.body.append(Declare(acc, n.dtype, neutral(law_of(n), n.dtype), shape))
        with ExitStack() as inner:
            block, live = Poly(), None
            for i in self.order:
                if i == self.lane and i in self.gone:
                    block = inner.enter_context(w.loop("b", w.symbols.blocks(self.space[i])))
                    live = live_lanes(w.symbols, self.space[i], block)
                elif i in self.gone:
                    index[i] = inner.enter_context(w.loop("k", w.symbols.poly(self.space[i])))
            if self.lane is not None and self.lane in self.gone:
                index[self.lane] = block * w.lanes + inner.enter_context(w.vector(live))
            with self._neighbours(wide, width) as j:
                at = self._at(index, wide, j)
                for n, acc in zip(nodes, accs):
                    where = () if wide is None else (j,)
                    value = element(w, n, tuple(at[i] for i in range(len(at))))
                    w.body.append(Accumulate(acc, where, FUNCTION[law_of(n)], value))
        with self._neighbours(wide, width) as j:
            at = self._at(index, wide, j)
            for n, acc in zip(nodes, accs):
                out = n.out if isinstance(n, Contract) else _kept_axes(n)
                found = Get(acc, n.dtype, () if wide is None else (j,))
                self.keep(w, n, tuple(at[i] for i in out), found)

    def _at(self, index: Mapping[int, Poly], wide: int | None, j: Poly) -> dict[int, Poly]:
        return dict(index) if wide is None else {**index, wide: self.index[wide] + j}

    def _neighbours(self, wide: int | None, width: int) -> AbstractContextManager[Poly]:
        return self.w.loop("j", 1 if wide is None else width, unroll=width)


def _kept_axes(n: Expr) -> list[int]:
    gone = reduced_axes(n)
    return [i for i in range(len(space_of(n))) if i not in gone]


def _order(nest: Nest, n: Expr) -> tuple[list[int], int | None]:
    """The axes of the space in the order of memory, and the one that runs in lanes."""
    order = loop_order(n, nest.fusion.layouts[ordering_operand(n)].order)
    lane = _lane_axis(nest, n)
    if lane is not None or not order:
        return order, lane
    # No operand is in memory, as where windows are reduced: the few taps of a window would leave
    # most lanes idle where the neighbours in the result are more.
    gone = reduced_axes(n)
    space: tuple[Size, ...] = space_of(n)  # type: ignore[assignment]
    out = n.out if isinstance(n, Contract) else _kept_axes(n)
    if out and n in nest.stored and nest.stored[n][1].lane is None:
        written = [out[i] for i in nest.stored[n][1].order]
        if order[-1] in gone and maximum(space[written[-1]]) > maximum(space[order[-1]]):
            return [*written, *(i for i in order if i in gone)], written[-1]
    return order, order[-1]


def _lane_axis(nest: Nest, n: Expr) -> int | None:
    """The axis of the space that runs in lanes: the rows, else what is contiguous in an operand;
    None where no operand is in memory."""
    for i, a in enumerate(n.args):
        labels = n.ins[i] if isinstance(n, Contract) else tuple(range(a.ndim))
        axis = nest.lane_axes[a]
        if axis is not None:
            return labels[axis]
    for i, a in enumerate(n.args):
        labels = n.ins[i] if isinstance(n, Contract) else tuple(range(a.ndim))
        home = nest.memory.home.get(a)
        if home is not None and labels:
            layout = home[1]
            return labels[layout.lane if layout.lane is not None else layout.order[-1]]
    return None
