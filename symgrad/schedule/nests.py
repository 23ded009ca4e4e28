"""Loop nests for what is neither a pass over rows nor a reduction nor a register-tiled product.

In: a `Group` of named nodes. Out: the kernel's body, written with a `Writer`.

    plain     one flat loop where every operand lies alike, else loops in the order of the layout
    scalar    straight-line code
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Mapping, Sequence

from codegen.loops import Accumulate, Const, Declare, Get, Poly, Value
from symgrad import dtypes
from symgrad.node import Constant, Contract, Expr, Map, Reduce, SizeOf
from symgrad.schedule.cuts import STRETCHES, ends, stretches
from symgrad.schedule.groups import Fusion, Group
from symgrad.schedule.kept import is_identity, is_leaf_in_memory
from symgrad.schedule.layout import Layout
from symgrad.schedule.symbols import live_lanes
from symgrad.schedule.writer import At, Memory, Writer, loops_in_order
from symgrad.sizes import Size

WORK = 1 << 17  # elements, so many that threads are to share a sum over all of them

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

    def store(self, w: Writer, n: Expr, at: At, value: Value) -> None:
        if n in self.stored:
            name, layout = self.stored[n]
            w.store(name, layout, n, at, value)


# -- loops -----------------------------------------------------------------------------------------


def lane_loop(w: Writer, stack: ExitStack, size: Size) -> Poly:
    """Blocks of one axis in lanes; its index."""
    b = stack.enter_context(w.loop("b", w.symbols.blocks(size)))
    lane = stack.enter_context(w.vector(live_lanes(w.symbols, size, b)))
    return b * w.lanes + lane


# -- elementwise without rows ----------------------------------------------------------------------


def write_plain(nest: Nest, group: Group) -> Writer:
    w, first = Writer(nest.memory), group.nodes[0]
    w.independent = True
    layout = nest.fusion.layouts[first]
    if all(_is_flat(nest, n, layout) for n in group.nodes):
        _flat(nest, w, group, layout)
        return w
    for stretch in _stretches(nest, group, layout):
        with ExitStack() as stack:
            at = loops_in_order(w, stack, layout, first.shape, stretch)
            _compute_all(nest, w, group.nodes, at, "v")
    return w


def _stretches(nest: Nest, group: Group, layout: Layout) -> list[dict[int, tuple[int, int]]]:
    """Parts of the space between whose ends all that is read begins and ends; blocks stay whole."""
    named, first = nest.fusion.named, group.nodes[0]
    lane = layout.lane if layout.lane is not None else layout.order[-1]
    places: dict[int, set[int]] = {}
    for n in group.nodes:
        for axis, found in ends(n, n.shape, lambda a: a in named or is_leaf_in_memory(a)).items():
            places.setdefault(axis, set()).update(found)
    lanes = nest.memory.symbols.lanes
    known = [axis for axis in places if isinstance(first.shape[axis], int)]
    known = [a for a in known if a != lane or all(e % lanes == 0 for e in places[a])]
    return stretches({axis: places[axis] for axis in known}, first.shape, STRETCHES)


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
        elif isinstance(a, Map) or is_identity(a):
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


def write_scalar(nest: Nest, group: Group) -> Writer:
    w = Writer(nest.memory)
    _compute_all(nest, w, group.nodes, (), "s")
    return w


# -- running sums, scattered sums ------------------------------------------------------------------


def write_cumulate(nest: Nest, group: Group) -> Writer:
    w, n = Writer(nest.memory), group.nodes[0]
    w.independent = True
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
            index[lane] = lane_loop(w, stack, n.shape[lane])
        acc = w.fresh("acc")
        w.body.append(Declare(acc, n.dtype, neutral("sum", n.dtype)))
        index[axis] = stack.enter_context(w.loop("k", w.symbols.poly(n.shape[axis])))
        at = tuple(index[a] for a in range(n.ndim))
        w.body.append(Accumulate(acc, (), "add", w.value(n.args[0], at)))
        nest.store(w, n, at, Get(acc, n.dtype))
    return w


def write_scatter(nest: Nest, group: Group) -> Writer:
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
            index[lane] = lane_loop(w, stack, values.shape[lane])
        at = tuple(index[a] for a in range(values.ndim))
        where = (*at[: n.batch], *at[n.axis : n.axis + spread])
        size = w.symbols.poly(n.shape[n.axis])
        picked = w.gather_index(n, indices, where, None, size)
        target = (*at[: n.axis], picked, *at[n.axis + spread :])
        w.scatter(name, layout, n, target, w.value(values, at))
    return w
