"""One pass over blocks of rows: what has rows, with a row in each lane.

In: a `Group` of kind "rows". Out: the kernel's body:

    for every block of rows, lanes = rows:
        for axes that all values run along together:
            level 0: straight-line code of the row, then loops over the other axes
            level 1: what needs a reduction of level 0 ...
    sums over rows, and the 0-d values made of them

Where there is much to do, sums are kept for each turn of the outermost loop and added by a second
kernel: sizes alone decide that, so that sums are the same on any number of threads.

A formula for one row is the program of one lane: reductions over features are vector adds. Values
that a later loop reads are kept for the block only, in memory that stays in the first cache. Of few
blocks the loop is inside of the loops over common axes: those are what threads can share.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Iterable, Mapping, Sequence

from codegen.loops import Accumulate, Declare, Get, Load, Poly, Store
from symgrad.node import Contract, Expr, Reduce
from symgrad.schedule.cuts import (
    STRETCHES,
    cuts,
    ends,
    loop_order,
    ordering_operand,
    stretches,
)
from symgrad.schedule.groups import Group
from symgrad.schedule.kept import (
    is_leaf_in_memory,
    is_reduction,
    reduced_axes,
    space_of,
    summed_rows,
)
from symgrad.schedule.layout import Layout
from symgrad.schedule.nests import FUNCTION, WORK, Nest, element, law_of, neutral
from symgrad.schedule.outer import outer_axes, space_axis
from symgrad.schedule.symbols import elements, live_lanes
from symgrad.schedule.writer import MANY, WHOLE, At, Stretch, Writer
from symgrad.sizes import Shape, Size, maximum

ROW = -1  # what runs along the rows, beside the outer loops 0, 1, ...
ENOUGH = 16  # turns of outer loops, enough where there are fewer blocks


@dataclass
class _Stage:
    """A loop over the axes that are no rows, or straight-line code of a row (space ())."""

    level: int
    space: tuple[Size, ...]
    nodes: list[Expr] = field(default_factory=list)


def write_rows(nest: Nest, group: Group) -> list[Writer]:
    """The kernel of a group of kind "rows", and one to finish its sums over rows if it does not."""
    return _RowPass(nest, group).write()


class _RowPass:
    def __init__(self, nest: Nest, group: Group) -> None:
        self.nest, self.group = nest, group
        self.w = Writer(nest.memory)
        self.local: dict[Expr, str] = {}  # kept for one block only
        self.sums: dict[Expr, str] = {}  # accumulators of sums over rows
        self.after = [n for n in group.nodes if not n.shape and not is_reduction(n)]  # of the sums
        self.passed = [n for n in group.nodes if n.shape or is_reduction(n)]
        self.mine = set(self.passed)
        first = self.passed[0]
        self.rows: Size = space_of(first)[self._row_axis(first)]  # type: ignore[assignment]
        self.blocks = self.w.symbols.blocks(self.rows)
        # axes of the space of every node that are not its stages' to run along
        self.fixed = {n: {self._row_axis(n): ROW} for n in self.passed}
        self.outer: list[Size] = []
        self._choose_outer()

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

    def _choose_outer(self) -> None:
        """Axes that all values run along go outside, from the outermost in memory on: all of them
        where something is kept for later loops, else as many as several threads need."""
        fusion, first = self.nest.fusion, self.passed[0]
        most = self.w.symbols.most(self.blocks)
        stages = self._levels()
        kept = any(self._late(n, stages) and self._out_features(n) for n in self.passed)
        if most >= MANY and not kept:
            return
        order = loop_order(first, fusion.layouts[ordering_operand(first)].order)
        labels = outer_axes(fusion, self.passed, self._row_axis)
        along = {space_axis(first, label[first]): label for label in labels}
        for axis in order:
            if axis == self._row_axis(first):
                continue
            size: Size = space_of(first)[axis]  # type: ignore[assignment]
            label = along.get(axis)
            if maximum(size) < 2:
                continue
            if label is None or (kept and any(x in self._cuts(n) for n, x in label.items())):
                return
            for n, x in label.items():
                self.fixed[n][space_axis(n, x)] = len(self.outer)
            self.outer.append(size)
            most *= maximum(size)
            if most >= ENOUGH and not kept:
                return

    def _late(self, n: Expr, stages: Mapping[Expr, object]) -> bool:
        """Whether a later loop reads the value."""
        readers = self.nest.fusion.readers.get(n, ())
        return any(m in self.mine and stages[m] != stages[n] for m in readers)

    def _cuts(self, n: Expr) -> dict[int, int]:
        return cuts(n, space_of(n), self._held)  # type: ignore[arg-type]

    def _free(self, n: Expr) -> list[int]:
        """The axes of its space that a stage runs along."""
        return [axis for axis in range(len(space_of(n))) if axis not in self.fixed[n]]

    def _features(self, n: Expr) -> tuple[Size, ...]:
        space: Shape = space_of(n)  # type: ignore[assignment]
        return tuple(space[axis] for axis in self._free(n))

    def _levels(self) -> dict[Expr, tuple[int, tuple[Size, ...]]]:
        """The stage of every node: its level, and what it runs along."""
        levels: dict[Expr, int] = {}
        for n in self.passed:
            levels[n] = 0
            for need, same in self.nest.fusion.needs(n).items():
                if need in self.mine:
                    levels[n] = max(levels[n], levels[need] + self._later(n, need, same))
        return {n: (level, self._features(n)) for n, level in levels.items()}

    def _stages(self) -> list[_Stage]:
        stages: dict[tuple[int, tuple[Size, ...]], _Stage] = {}
        for n, (level, space) in self.stage_of.items():
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
        memory = self.nest.memory
        for n in self.passed:
            if is_reduction(n) and not self._out_features(n):
                continue
            if n in self.nest.stored:
                continue
            if self._late(n, self.stage_of) and self._features(n):
                size = math.prod(
                    memory.symbols.most(memory.symbols.poly(s)) for s in self._out_features(n)
                )
                size *= self.w.lanes
                self.local[n] = memory.fresh_buffer(f"local_{n.name}", n.dtype, size, "private")

    def _out_free(self, n: Expr) -> list[int]:
        """The axes of its result that a stage runs along."""
        return [a for a in range(n.ndim) if space_axis(n, a) not in self.fixed[n]]

    def _out_features(self, n: Expr) -> tuple[Size, ...]:
        return tuple(n.shape[a] for a in self._out_free(n))

    def write(self) -> list[Writer]:
        w = self.w
        w.independent = True
        self.stage_of = self._levels()
        stages = self._stages()
        self._keep_local()
        loops = [("o", w.symbols.poly(size)) for size in self.outer]
        many = w.symbols.most(self.blocks) >= MANY
        loops.insert(0 if many else len(loops), ("b", self.blocks))
        (stem, extent), *inner = loops
        apart = self._much() and w.symbols.most(extent) > 1
        parts: dict[Expr, str] = {}
        if not apart:
            self._declare_sums(w)
        with w.loop(stem, extent) as first:
            if apart:
                self._declare_sums(w)
            with ExitStack() as stack:
                found = [first, *(stack.enter_context(w.loop(*loop)) for loop in inner)]
                b = found.pop(0 if many else -1)
                lane = stack.enter_context(w.vector(live_lanes(w.symbols, self.rows, b)))
                self.place = {ROW: b * w.lanes + lane, **dict(enumerate(found))}
                w.local = {n: self._local_place(n) for n in self.local}
                for stage in stages:
                    self._write_stage(stage)
            w.local = {}
            if apart:
                parts = self._keep_parts(extent, first)
        if apart:
            return [w, self._add_parts(parts, extent)]
        self._finish(w)
        return [w]

    # -- sums over rows -------------------------------------------------------------------------
    def _much(self) -> bool:
        """Whether there are sums, and so much to do that threads are to share it."""
        spaces: list[Shape] = [space_of(n) for n in self.passed]  # type: ignore[misc]
        work = sum(map(elements, spaces))
        return work >= WORK and any(self.nest.lane_axes[n] is None for n in self.passed)

    def _declare_sums(self, w: Writer) -> None:
        for n in self.passed:
            if self.nest.lane_axes[n] is None:
                self.sums[n] = w.fresh("sum")
                w.body.append(Declare(self.sums[n], n.dtype, neutral(law_of(n), n.dtype)))

    def _keep_parts(self, extent: Poly, turn: Poly) -> dict[Expr, str]:
        """Stores the sums of one turn of the outermost loop."""
        w, parts, size = self.w, {}, self.w.symbols.most(extent)
        for n, acc in self.sums.items():
            parts[n] = self.nest.memory.fresh_buffer(f"parts_{n.name}", n.dtype, size)
            w.body.append(Store(w.touch(parts[n], "w"), turn, Get(acc, n.dtype)))
        return parts

    def _add_parts(self, parts: Mapping[Expr, str], extent: Poly) -> Writer:
        """The kernel that adds the sums of all turns, in an order that sizes fix."""
        w = Writer(self.nest.memory)
        self._declare_sums(w)
        known = extent.constant
        blocks = w.symbols.derived("ceildiv", extent, w.lanes, f"{extent}.blocks")
        with w.loop("b", blocks) as b:
            whole = known is not None and known % w.lanes == 0
            with w.vector(None if whole else extent - b * w.lanes) as lane:
                for n, acc in self.sums.items():
                    part = Load(w.touch(parts[n], "r"), b * w.lanes + lane, n.dtype)
                    w.body.append(Accumulate(acc, (), FUNCTION[law_of(n)], part))
        self._finish(w)
        return w

    def _finish(self, w: Writer) -> None:
        """The sums over rows, and the 0-d values made of them."""
        for n, acc in self.sums.items():
            total = w.let(Get(acc, n.dtype), "total")
            w.bind(n, (), total)
            self.nest.store(w, n, (), total)
        for n in self.after:
            value = w.let(w.compute(n, ()), "s")
            w.bind(n, (), value)
            self.nest.store(w, n, (), value)

    # -- stages ---------------------------------------------------------------------------------
    def _local_place(self, n: Expr) -> tuple[str, Layout, int]:
        axis = self.nest.lane_axes[n]
        assert axis is not None
        free = self._out_free(n)
        order = [a for a in self.nest.fusion.layouts[n].order if a in free]
        return self.local[n], Layout(tuple(order)), axis

    def _at(self, n: Expr, features: Sequence[Poly]) -> At:
        """The index of a node in its space."""
        found = {axis: self.place[which] for axis, which in self.fixed[n].items()}
        found |= dict(zip(self._free(n), features))
        return tuple(found[axis] for axis in range(len(found)))

    def _write_stage(self, stage: _Stage) -> None:
        elementwise = {n for n in stage.nodes if not is_reduction(n)}
        kept: dict[tuple[int, ...], list[Expr]] = {}
        for n in stage.nodes:
            if is_reduction(n):
                kept.setdefault(self._kept(n), []).append(n)
        whole = kept.pop((), [])
        accs = self._declare(whole)
        for stretch in self._stretches(stage) if elementwise or whole else ():
            with ExitStack() as stack:
                found = self._loops(stack, stage, range(len(stage.space)), stretch)
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

    def _stretches(self, stage: _Stage) -> list[dict[int, tuple[int, int]]]:
        """Parts of its space, (start, length) by position, between whose ends all that is read
        either begins and ends or is nothing: a stage has a nest of loops for each."""
        _, cut = self._nest_of(stage)
        places: dict[int, set[int]] = {}
        for n in stage.nodes:
            position = {axis: j for j, axis in enumerate(self._free(n))}
            for axis, found in ends(n, space_of(n), self._held).items():  # type: ignore[arg-type]
                j = position.get(axis)
                if j is not None and j not in cut and isinstance(stage.space[j], int):
                    places.setdefault(j, set()).update(found)
        return stretches(places, stage.space, STRETCHES)

    def _loops(
        self,
        stack: ExitStack,
        stage: _Stage,
        positions: Iterable[int],
        stretch: Stretch = WHOLE,
    ) -> dict[int, Poly]:
        """Loops over some axes of a stage, in the order of memory, cut where a view cuts them."""
        order, cut = self._nest_of(stage)
        index: dict[int, Poly] = {}
        for j in sorted(positions, key=order.index):
            size, inner = stage.space[j], cut.get(j, 1)
            if j in stretch:
                start, length = stretch[j]
                index[j] = stack.enter_context(self.w.loop("f", length)) + start
                continue
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
            position = {axis: j for j, axis in enumerate(self._free(n))}
            if order is None:
                memory = self.nest.fusion.layouts[ordering_operand(n)].order
                order = [position[a] for a in loop_order(n, memory) if a in position]
            cut |= {position[a]: k for a, k in self._cuts(n).items() if a in position}
        return order or [], cut

    def _held(self, n: Expr) -> bool:
        return n in self.nest.fusion.named or is_leaf_in_memory(n)

    def _kept(self, n: Expr) -> tuple[int, ...]:
        """Positions among the features of the space that the result of a reduction keeps."""
        gone = set(reduced_axes(n))
        return tuple(j for j, axis in enumerate(self._free(n)) if axis not in gone)

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
        found = dict(zip(self._out_free(n), features))
        for a in range(n.ndim):
            if a not in found:
                found[a] = self.place[self.fixed[n][space_axis(n, a)]]
        at = tuple(found[a] for a in range(n.ndim))
        value = self.w.let(Get(acc, n.dtype), "r")
        self.w.bind(n, at, value)
        self.nest.store(self.w, n, at, value)
        if n in self.local:
            self.w.store_local(n, at, value)

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
        where = {axis: features[j] for j, axis in enumerate(self._free(n))}
        return [where[space_axis(n, a)] for a in self._out_free(n)]
