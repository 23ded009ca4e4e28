"""Loop nests for everything that is no register-tiled product.

In: a `Group` of named nodes. Out: the kernel's body, written with a `Writer`.

    rows      for each block of rows, lanes = rows: stages of loops over the other axes
    reduce    loops over the result, lanes along the rows or the innermost axis
    plain     one flat loop where every operand lies alike, else loops in the order of the layout
    scalar    straight-line code
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from codegen.loops import Accumulate, Const, Declare, Get, Poly, Value
from symgrad import dtypes
from symgrad.node import Constant, Contract, Expr, Map, Reduce, SizeOf
from symgrad.schedule.groups import Fusion, Group
from symgrad.schedule.kept import reduced_axes, space_of, summed_rows
from symgrad.schedule.layout import Layout
from symgrad.schedule.symbols import live_lanes
from symgrad.schedule.writer import At, Memory, Writer, loops_in_order
from symgrad.sizes import Size

FUNCTION = {"max": "maximum", "min": "minimum", "prod": "mul", "sum": "add"}


def law_of(n: Expr) -> str:
    return n.law if isinstance(n, Reduce) else "sum"


def neutral(law: str, dtype: str) -> Const:
    """The value a reduction starts from."""
    if law in ("sum", "prod"):
        number: float | int = 0 if law == "sum" else 1
        return Const(float(number) if dtypes.is_float(dtype) else number, dtype)
    if dtype == "bool":
        return Const(law == "min", dtype)
    if dtypes.is_float(dtype):
        return Const(-math.inf if law == "max" else math.inf, dtype)
    limit = 2 ** (31 if dtype == "int32" else 63)
    return Const(-limit if law == "max" else limit - 1, dtype)


def is_reduction(n: Expr) -> bool:
    return isinstance(n, Reduce) or (isinstance(n, Contract) and bool(n.summed))


def element(w: Writer, n: Expr, at: At) -> Value:
    """What is reduced: the operand's value at an index of `space_of(n)`."""
    if isinstance(n, Reduce):
        return w.value(n.args[0], at)
    assert isinstance(n, Contract)
    return w.inner_product(n, at)


@dataclass
class Nest:
    """Everything the nests of one program share."""

    fusion: Fusion
    memory: Memory
    lane_axes: Mapping[Expr, int | None]
    stored: Mapping[Expr, tuple[str, Layout]]

    def write(self, group: Group) -> Writer:
        writers = {
            "rows": Rows,
            "reduce": _reduce,
            "plain": _plain,
            "scalar": _scalar,
            "cumulate": _cumulate,
            "scatter": _scatter,
        }
        return writers[group.kind](self, group)  # type: ignore[operator]

    def store(self, w: Writer, n: Expr, at: At, value: Value) -> None:
        if n in self.stored:
            name, layout = self.stored[n]
            w.store(name, layout, n, at, value)


# -- rows ------------------------------------------------------------------------------------------


@dataclass
class _Stage:
    """A loop over the axes that are no rows, or straight-line code of a row (space ())."""

    level: int
    space: tuple[Size, ...]
    nodes: list[Expr] = field(default_factory=list)


def Rows(nest: Nest, group: Group) -> Writer:  # noqa: N802 - used as a writer like the others
    """One pass over blocks of rows."""
    return _RowsWriter(nest, group).write()


class _RowsWriter:
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
                self.local[n] = memory.fresh_buffer(f"local_{n.name}", n.dtype, size * self.w.lanes)

    def _stage_of(self, n: Expr) -> tuple[int, tuple[Size, ...]]:
        return self.level[n], self._features(n)

    def _out_features(self, n: Expr) -> tuple[Size, ...]:
        axis = self.nest.lane_axes[n]
        return tuple(s for i, s in enumerate(n.shape) if i != axis)

    def write(self) -> Writer:
        w, nest = self.w, self.nest
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
                features = [
                    stack.enter_context(self.w.loop("f", self.w.symbols.poly(s)))
                    for s in stage.space
                ]
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
            features: dict[int, Poly] = {
                j: stack.enter_context(self.w.loop("f", self.w.symbols.poly(stage.space[j])))
                for j in positions
            }
            accs = self._declare(nodes)
            with ExitStack() as inner:
                for j, size in enumerate(stage.space):
                    if j not in features:
                        features[j] = inner.enter_context(
                            self.w.loop("f", self.w.symbols.poly(size))
                        )
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


# -- reductions to something without rows ----------------------------------------------------------


def _reduce(nest: Nest, group: Group) -> Writer:
    w, first = Writer(nest.memory), group.nodes[0]
    space: tuple[Size, ...] = space_of(first)  # type: ignore[assignment]
    gone = reduced_axes(first)
    lane = _reduce_lane(nest, first)
    index: dict[int, Poly] = {}
    out = [i for i in range(len(space)) if i not in gone]
    with ExitStack() as stack:
        for i in out:
            if i != lane:
                index[i] = stack.enter_context(w.loop("o", w.symbols.poly(space[i])))
        if lane in out:
            index[lane] = _lane_loop(w, stack, space[lane])
        accs = []
        for n in group.nodes:
            accs.append(w.fresh("acc"))
            w.body.append(Declare(accs[-1], n.dtype, neutral(law_of(n), n.dtype)))
        with ExitStack() as inner:
            for i in gone:
                if i != lane:
                    index[i] = inner.enter_context(w.loop("k", w.symbols.poly(space[i])))
            if lane is not None and lane in gone:
                index[lane] = _lane_loop(w, inner, space[lane])
            at = tuple(index[i] for i in range(len(space)))
            for n, acc in zip(group.nodes, accs):
                value = element(w, n, at)
                w.body.append(Accumulate(acc, (), FUNCTION[law_of(n)], value))
        for n, acc in zip(group.nodes, accs):
            order = n.out if isinstance(n, Contract) else out
            nest.store(w, n, tuple(index[i] for i in order), Get(acc, n.dtype))
    return w


def _lane_loop(w: Writer, stack: ExitStack, size: Size) -> Poly:
    """Blocks of one axis in lanes; its index."""
    b = stack.enter_context(w.loop("b", w.symbols.blocks(size)))
    lane = stack.enter_context(w.vector(live_lanes(w.symbols, size, b)))
    return b * w.lanes + lane


def _reduce_lane(nest: Nest, n: Expr) -> int | None:
    """The axis of the space that runs in lanes: the rows, else the contiguous axis."""
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
    return len(space_of(n)) - 1 if space_of(n) else None


# -- elementwise without rows ----------------------------------------------------------------------


def _plain(nest: Nest, group: Group) -> Writer:
    w, first = Writer(nest.memory), group.nodes[0]
    layout = nest.fusion.layouts[first]
    if all(_is_flat(nest, n, layout) for n in group.nodes):
        _flat(nest, w, group, layout)
        return w
    with ExitStack() as stack:
        at = loops_in_order(w, stack, layout, first.shape)
        _compute_all(nest, w, group.nodes, at, "v")
    return w


def _compute_all(nest: Nest, w: Writer, nodes: Sequence[Expr], at: At, stem: str) -> None:
    """Values first, then the stores: results may take the place of what others read."""
    values = []
    for n in nodes:
        values.append(w.let(w.compute(n, at), stem))
        w.bind(n, at, values[-1])
    for n, value in zip(nodes, values):
        nest.store(w, n, at, value)


def _is_flat(nest: Nest, n: Expr, layout: Layout) -> bool:
    """True when every operand lies in memory exactly as the result does, or is 0-d."""
    seen: set[int] = set()
    stack = list(n.args) if isinstance(n, Map) else [n]
    if not isinstance(n, Map):
        return False
    while stack:
        a = stack.pop()
        if id(a) in seen or not a.shape:
            continue
        seen.add(id(a))
        if a in nest.fusion.group_of and nest.fusion.group_of[a] is nest.fusion.group_of[n]:
            continue
        if a in nest.memory.home:
            if nest.memory.home[a][1] != layout or a.shape != n.shape:
                return False
        elif isinstance(a, Constant) and a.scalar is not None or isinstance(a, SizeOf):
            continue
        elif isinstance(a, Map):
            stack.extend(a.args)
        else:
            return False
    return True


def _flat(nest: Nest, w: Writer, group: Group, layout: Layout) -> None:
    first = group.nodes[0]
    size: Poly
    if layout.lane is None:
        size = Poly.of(1)
        for s in first.shape:
            size = size * w.symbols.poly(s)
    else:
        size = Poly.of(layout.elements(first.shape, w.lanes))
    known = size.constant
    blocks = w.symbols.derived("ceildiv", size, w.lanes, f"{size}.blocks")
    with w.loop("b", blocks) as b:
        whole = layout.lane is not None or (known is not None and known % w.lanes == 0)
        with w.vector(None if whole else size - b * w.lanes) as lane:
            w.flat, w.was_flat = b * w.lanes + lane, True
            at = tuple(Poly() for _ in first.shape)
            _compute_all(nest, w, group.nodes, at, "v")
            w.flat = None


def _scalar(nest: Nest, group: Group) -> Writer:
    w = Writer(nest.memory)
    _compute_all(nest, w, group.nodes, (), "s")
    return w


# -- running sums, scattered sums ------------------------------------------------------------------


def _cumulate(nest: Nest, group: Group) -> Writer:
    w, n = Writer(nest.memory), group.nodes[0]
    assert isinstance(n, Reduce)
    axis, lane = n.axes[0], nest.lane_axes[n]
    if lane is None or lane == axis:
        lane = next((a for a in reversed(range(n.ndim)) if a != axis), None)
    index: dict[int, Poly] = {}
    with ExitStack() as stack:
        for a in range(n.ndim):
            if a not in (axis, lane):
                index[a] = stack.enter_context(w.loop("o", w.symbols.poly(n.shape[a])))
        if lane is not None:
            index[lane] = _lane_loop(w, stack, n.shape[lane])
        acc = w.fresh("acc")
        w.body.append(Declare(acc, n.dtype, neutral("sum", n.dtype)))
        index[axis] = stack.enter_context(w.loop("k", w.symbols.poly(n.shape[axis])))
        at = tuple(index[a] for a in range(n.ndim))
        w.body.append(Accumulate(acc, (), "add", w.value(n.args[0], at)))
        nest.store(w, n, at, Get(acc, n.dtype))
    return w


def _scatter(nest: Nest, group: Group) -> Writer:
    from symgrad.node import ScatterAdd

    w, n = Writer(nest.memory), group.nodes[0]
    assert isinstance(n, ScatterAdd)
    values, indices = n.args
    name, layout = nest.stored[n]
    with ExitStack() as stack:
        at = loops_in_order(w, stack, layout, n.shape)
        w.store(name, layout, n, at, neutral("sum", n.dtype))
    spread = indices.ndim - n.batch
    lane = nest.lane_axes[values]
    index: dict[int, Poly] = {}
    with ExitStack() as stack:
        for a in range(values.ndim):
            if a != lane:
                index[a] = stack.enter_context(w.loop("o", w.symbols.poly(values.shape[a])))
        if lane is not None:
            index[lane] = _lane_loop(w, stack, values.shape[lane])
        at = tuple(index[a] for a in range(values.ndim))
        where = (*at[: n.batch], *at[n.axis : n.axis + spread])
        size = w.symbols.poly(n.shape[n.axis])
        picked = w.gather_index(n, indices, where, None, size)
        target = (*at[: n.axis], picked, *at[n.axis + spread :])
        w.scatter(name, layout, n, target, w.value(values, at))
    return w
