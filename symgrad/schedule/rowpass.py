"""One pass over blocks of rows: what has rows, with a row in each lane.

In: a `Group` of kind "rows". Out: the kernel's body:

    for every block of rows, lanes = rows:
        level 0: straight-line code of the row, then loops over the other axes
        level 1: what needs a reduction of level 0 ...
    sums over rows, and the 0-d values made of them

A formula for one row is the program of one lane: reductions over features are vector adds. Values
that a later loop reads are kept for the block only, in memory that stays in the first cache.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Iterable, Mapping, Sequence

from codegen.loops import Accumulate, Declare, Get, Poly
from symgrad.node import Contract, Expr, Reduce
from symgrad.schedule.groups import Group
from symgrad.schedule.kept import (
    is_leaf_in_memory,
    is_reduction,
    reduced_axes,
    space_of,
    summed_rows,
)
from symgrad.schedule.cuts import cuts, loop_order, ordering_operand
from symgrad.schedule.layout import Layout
from symgrad.schedule.nests import FUNCTION, Nest, element, law_of, neutral
from symgrad.schedule.symbols import live_lanes
from symgrad.schedule.writer import At, Writer
from symgrad.sizes import Shape, Size, maximum


@dataclass
class _Stage:
    """A loop over the axes that are no rows, or straight-line code of a row (space ())."""

    level: int
    space: tuple[Size, ...]
    nodes: list[Expr] = field(default_factory=list)


def write_rows(nest: Nest, group: Group) -> Writer:
    """The kernel of a group of kind "rows"."""
    return _RowPass(nest, group).write()


class _RowPass:
    def __init__(self, nest: Nest, group: Group) -> None:
        self.nest, self.group = nest, group
        self.w = Writer(nest.memory)
        self.local: dict[Expr, str] = {}  # kept for one block only
        self.level: dict[Expr, int] = {}
        self.sums: dict[Expr, str] = {}  # accumulators of sums over rows
        self.after = [n for n in group.nodes if not n.shape and not is_reduction(n)]  # of the sums
        self.passed = [n for n in group.nodes if n.shape or is_reduction(n)]
        self.mine = set(self.passed)

    def _row_axis(self, n: Expr) -> int:
        """The axis of `space_of(n)` that runs along the rows."""
        axis = self.nest.lane_axes[n]
        if not is_reduction(n):
            assert axis is not None
            return axis
        if axis is not None:  # the rows of the result, whatever its operands have in lanes
            if isinstance(n, Contract):
                return n.out[axis]
            assert isinstance(n, Reduce)
            return [i for i in range(n.args[0].ndim) if i not in n.axes][axis]
        found = summed_rows(n, self.nest.lane_axes)
        assert found is not None
        return found

    def _features(self, n: Expr) -> tuple[Size, ...]:
        row = self._row_axis(n)
        return tuple(s for i, s in enumerate(space_of(n)) if i != row)  # type: ignore[misc]

    def _stages(self) -> list[_Stage]:
        stages: dict[tuple[int, tuple[Size, ...]], _Stage] = {}
        for n in self.passed:
            space = self._features(n)
            level = 0
            for need, same in self.nest.fusion.needs(n).items():
                if need in self.mine:
                    level = max(level, self.level[need] + self._later(n, need, same))
            self.level[n] = level
            stages.setdefault((level, space), _Stage(level, space)).nodes.append(n)
        return sorted(stages.values(), key=lambda s: (s.level, len(s.space) > 0))

    def _later(self, n: Expr, need: Expr, same: bool) -> int:
        """0 when `need` is ready in the same loop (or the straight-line code before it)."""
        if is_reduction(need):
            return 1
        here, there = self._features(n), self._features(need)
        if same and here == there and space_of(n) == space_of(need):
            return 0
        return 0 if there == () and here != () else 1

    def _keep_local(self) -> None:
        """Values that a later loop of this kernel reads get memory for one block."""
        fusion, memory = self.nest.fusion, self.nest.memory
        for n in self.passed:
            if is_reduction(n) and not self._out_features(n):
                continue
            if n in self.nest.stored:
                continue
            late = [
                m
                for m in fusion.readers.get(n, ())
                if m in self.mine and (self._stage_of(m) != self._stage_of(n))
            ]
            if late and self._features(n):
                size = math.prod(
                    memory.symbols.most(memory.symbols.poly(s)) for s in self._out_features(n)
                )
                size *= self.w.lanes
                self.local[n] = memory.fresh_buffer(f"local_{n.name}", n.dtype, size, "private")

    def _stage_of(self, n: Expr) -> tuple[int, tuple[Size, ...]]:
        return self.level[n], self._features(n)

    def _out_features(self, n: Expr) -> tuple[Size, ...]:
        axis = self.nest.lane_axes[n]
        return tuple(s for i, s in enumerate(n.shape) if i != axis)

    def write(self) -> Writer:
        w, nest = self.w, self.nest
        w.independent = True
        stages = self._stages()
        self._keep_local()
        first = self.passed[0]
        rows: Size = space_of(first)[self._row_axis(first)]  # type: ignore[assignment]
        for n in self.passed:
            if nest.lane_axes[n] is None:
                self.sums[n] = w.fresh("sum")
                start = neutral(law_of(n), n.dtype)
                w.body.append(Declare(self.sums[n], n.dtype, start))
        with w.loop("b", w.symbols.blocks(rows)) as b:
            with w.vector(live_lanes(w.symbols, rows, b)) as lane:
                self.row, self.lane = b * w.lanes + lane, lane
                w.local = {n: self._local_place(n) for n in self.local}
                for stage in stages:
                    self._write_stage(stage)
        w.local = {}
        for n, acc in self.sums.items():
            total = w.let(Get(acc, n.dtype), "total")
            w.bind(n, (), total)
            nest.store(w, n, (), total)
        for n in self.after:
            value = w.let(w.compute(n, ()), "s")
            w.bind(n, (), value)
            nest.store(w, n, (), value)
        return w

    def _local_place(self, n: Expr) -> tuple[str, Layout, int]:
        axis = self.nest.lane_axes[n]
        assert axis is not None
        return self.local[n], Layout(tuple(a for a in range(n.ndim) if a != axis)), axis

    def _at(self, n: Expr, features: Sequence[Poly]) -> At:
        at = list(features)
        at.insert(self._row_axis(n), self.row)
        return tuple(at)

    def _write_stage(self, stage: _Stage) -> None:
        elementwise = {n for n in stage.nodes if not is_reduction(n)}
        kept: dict[tuple[int, ...], list[Expr]] = {}
        for n in stage.nodes:
            if is_reduction(n):
                kept.setdefault(self._kept(n), []).append(n)
        whole = kept.pop((), [])
        accs = self._declare(whole)
        if elementwise or whole:
            with ExitStack() as stack:
                found = self._loops(stack, stage, range(len(stage.space)))
                features = [found[j] for j in range(len(stage.space))]
                for n in stage.nodes:
                    if n in accs:
                        self._accumulate(n, accs[n], features)
                    elif n in elementwise:
                        self._compute(n, features)
        for n in whole:
            if n not in self.sums:
                self._result(n, accs[n], [])
        for positions, nodes in kept.items():
            self._partial(stage, positions, nodes)

    def _loops(
        self, stack: ExitStack, stage: _Stage, positions: Iterable[int]
    ) -> dict[int, Poly]:
        """Loops over some axes of a stage, in the order of memory, cut where a view cuts them."""
        order, cut = self._nest_of(stage)
        index: dict[int, Poly] = {}
        for j in sorted(positions, key=order.index):
            size, inner = stage.space[j], cut.get(j, 1)
            if inner == 1:
                index[j] = stack.enter_context(self.w.loop("f", self.w.symbols.poly(size)))
                continue
            q = stack.enter_context(self.w.loop("f", maximum(size) // inner))
            index[j] = q * inner + stack.enter_context(self.w.loop("g", inner))
        return index

    def _nest_of(self, stage: _Stage) -> tuple[list[int], dict[int, int]]:
        """The order of the loops of a stage and the lengths of cut ones, by position."""
        order: list[int] | None = None
        cut: dict[int, int] = {}
        for n in stage.nodes:
            row = self._row_axis(n)
            space: Shape = space_of(n)  # type: ignore[assignment]
            position = {axis: j for j, axis in enumerate(a for a in range(len(space)) if a != row)}
            if order is None:
                memory = self.nest.fusion.layouts[ordering_operand(n)].order
                order = [position[a] for a in loop_order(n, memory) if a != row]
            cut |= {position[a]: k for a, k in cuts(n, space, self._held).items() if a != row}
        return order or [], cut

    def _held(self, n: Expr) -> bool:
        return n in self.nest.fusion.named or is_leaf_in_memory(n)

    def _kept(self, n: Expr) -> tuple[int, ...]:
        """Positions among the features of the space that the result of a reduction keeps."""
        row, gone = self._row_axis(n), set(reduced_axes(n))
        axes = [i for i in range(len(space_of(n))) if i != row]
        return tuple(j for j, i in enumerate(axes) if i not in gone)

    def _declare(self, nodes: Sequence[Expr]) -> dict[Expr, str]:
        accs = {}
        for n in nodes:
            if n in self.sums:
                accs[n] = self.sums[n]
                continue
            accs[n] = self.w.fresh("acc")
            self.w.body.append(Declare(accs[n], n.dtype, neutral(law_of(n), n.dtype)))
        return accs

    def _accumulate(self, n: Expr, acc: str, features: Sequence[Poly]) -> None:
        value = element(self.w, n, self._at(n, features))
        self.w.body.append(Accumulate(acc, (), FUNCTION[law_of(n)], value))

    def _compute(self, n: Expr, features: Sequence[Poly]) -> None:
        at = self._at(n, features)
        value = self.w.let(self.w.compute(n, at), "v")
        self.w.bind(n, at, value)
        self.nest.store(self.w, n, at, value)
        if n in self.local:
            self.w.store_local(n, at, value)

    def _result(self, n: Expr, acc: str, features: Sequence[Poly]) -> None:
        axis = self.nest.lane_axes[n]
        at = list(features)
        assert axis is not None
        at.insert(axis, self.row)
        value = self.w.let(Get(acc, n.dtype), "r")
        self.w.bind(n, tuple(at), value)
        self.nest.store(self.w, n, tuple(at), value)
        if n in self.local:
            self.w.store_local(n, tuple(at), value)

    def _partial(self, stage: _Stage, positions: tuple[int, ...], nodes: Sequence[Expr]) -> None:
        """Reductions that keep some axes: loops over those outside, the summed ones inside."""
        with ExitStack() as stack:
            features = self._loops(stack, stage, positions)
            accs = self._declare(nodes)
            summed = [j for j in range(len(stage.space)) if j not in features]
            with ExitStack() as inner:
                features |= self._loops(inner, stage, summed)
                for n in nodes:
                    self._accumulate(n, accs[n], [features[j] for j in range(len(stage.space))])
            for n in nodes:
                self._result(n, accs[n], self._out_order(n, features))

    def _out_order(self, n: Expr, features: Mapping[int, Poly]) -> list[Poly]:
        """The kept features in the order of the result's axes."""
        row = self._row_axis(n)
        axes = [i for i in range(len(space_of(n))) if i != row]
        where = {axis: features[j] for j, axis in enumerate(axes)}
        if isinstance(n, Contract):
            return [where[k] for k in n.out if k != row]
        return [where[i] for i in range(len(space_of(n))) if i not in n.axes and i != row]  # type: ignore
