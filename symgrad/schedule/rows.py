"""Which axis of each value runs along the rows, and the layout every value gets.

In: the nodes of a graph, operands first. Out: `row_axes` (node -> axis or None) and `layouts`.

A row is whatever shares the weights: the leading axis of the inputs. It is followed through the
graph; the first row axis of a value becomes its lane axis. Weights that rows are multiplied with
lie in panels, with everything that meets them elementwise (gradients, moments) in the same layout.

Few samples of images leave lanes idle: where that costs more than channels in lanes would, there
are no rows. Images then lie as `[N][H][W][C]` (see `orders`), all weights in panels as before.

>>> x, w = Input("x", (64, 784)), Parameter("w", (784, 128))
>>> row_axes(toposort([matmul(x, w)]))[x]
0
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Mapping, Sequence

from symgrad import dtypes
from symgrad.node import (
    Contract,
    Expr,
    Gather,
    Input,
    Map,
    Parameter,
    Reduce,
    Reindex,
    Reshape,
    ScatterAdd,
)
from symgrad.schedule.bodies import Bound, Carry, Lent, Looped, Slice
from symgrad.schedule.kept import is_product
from symgrad.schedule.layout import Layout, lane_layout, row_major
from symgrad.schedule.tiling import innermost
from symgrad.schedule.windows import Windows
from symgrad.sizes import Dim, Size, count, maximum

Steps = Mapping[Expr, frozenset[int]]  # of nodes, the axes that are steps of a loop
Links = Mapping[Expr, Sequence[Expr]]  # of leaves of loops' bodies, what they stand for
NO_STEPS: Steps = MappingProxyType({})
NO_LINKS: Links = MappingProxyType({})
COMPACT = 8  # weights with fewer outputs than this stay row-major
BUSY = 8  # accumulators from which multiply-adds do not wait for each other
WINOGRAD = 1.4  # how much faster 3 x 3 windows are with rows in lanes


def row_size(
    nodes: Sequence[Expr], products: Mapping[Contract, Windows], lanes: int, steps: Steps = NO_STEPS
) -> Size | None:
    """The number of rows: the run-time size of the inputs if they have one, else their first.
    None where convolutions are better off with channels in lanes, where rows would leave half of
    the lanes idle at any size, and where all lies as users have it. Axes that are `steps` of a loop
    are no rows."""
    rows = _leading(nodes, steps)
    if rows is None:
        return None
    few = 2 * maximum(rows) <= lanes and not products
    if few or (isinstance(rows, int) and not products and _single(nodes)):
        return None
    if not isinstance(rows, int):
        return rows
    costs = [_costs(n, w, rows, lanes) for n, w in products.items()]
    return None if sum(a for a, _ in costs) > sum(b for _, b in costs) else rows


def _costs(n: Contract, w: Windows, rows: int, lanes: int) -> tuple[float, float]:
    """Of a product over windows with rows in lanes, and with channels in lanes."""
    work = math.prod(maximum(s) for s in n.extents.values())
    channels = max(
        (maximum(n.extents[k]) for k in w.other if k in n.out and k not in w.places), default=1
    )
    tile = 1.0 if w.over_samples else min(1.0, channels * -(-rows // lanes) / BUSY)
    fast = WINOGRAD if w.dense and channels >= COMPACT else 1.0
    return work / (_full(rows, lanes) * tile * fast), work / _full(channels, lanes)


def _full(size: int, lanes: int) -> float:
    """The share of lanes with something in them when so many things run in lanes."""
    return size / (-(-size // lanes) * lanes)


def _leading(nodes: Sequence[Expr], steps: Steps) -> Size | None:
    inputs = [n for n in nodes if isinstance(n, Input) and n.shape]
    shapes = [[s for i, s in enumerate(n.shape) if i not in steps.get(n, ())] for n in inputs]
    for shape in shapes:
        for s in shape:
            if isinstance(s, Dim):
                return s
    # of a sequence of vectors the only axis left is no batch
    whole = [shape for n, shape in zip(inputs, shapes) if len(shape) == n.ndim or len(shape) > 1]
    leading = [shape[0] for shape in whole if isinstance(shape[0], int) and shape[0] > 1]
    return max(leading, key=leading.count, default=None)


def _single(nodes: Sequence[Expr]) -> bool:
    """Whether no product reads another one's result and nothing else is summed: then what is
    brought to lanes is read once and brought back, which takes longer than it saves."""
    computed: set[Expr] = set()  # what depends on a product
    found = False
    for n in nodes:
        if isinstance(n, (Reduce, Reindex, Reshape, Gather, ScatterAdd, Looped)):
            return False
        later = any(a in computed for a in n.args)
        if isinstance(n, Contract) and n.summed:
            batch = len(n.args) == 2 and set(n.ins[0]) & set(n.ins[1]) & set(n.out)
            if later or batch or not is_product(n):
                return False
            found = later = True
        if later:
            computed.add(n)
    return found


def row_axes(
    nodes: Sequence[Expr], rows: Size | None, steps: Steps = NO_STEPS, linked: Links = NO_LINKS
) -> dict[Expr, int | None]:
    """The lane axis of every node: its first axis that runs along the rows. `linked` are what the
    leaves of loops' bodies stand for."""
    tagged: dict[Expr, frozenset[int]] = {}
    changed = True
    while changed:  # what a carry is next time may say more about it than what it is first
        before = [tagged.get(n) for n in linked]
        for n in nodes:
            tagged[n] = _tags(n, tagged, rows, steps.get(n, frozenset()), linked)
        changed = before != [tagged[n] for n in linked]
    return {n: min(t) if t else None for n, t in tagged.items()}


def _tags(
    n: Expr,
    tagged: Mapping[Expr, frozenset[int]],
    rows: Size | None,
    steps: frozenset[int],
    linked: Links,
) -> frozenset[int]:
    if isinstance(n, Parameter) or rows is None:
        return frozenset()
    free = frozenset(i for i in _dims(n) if i not in steps)
    if isinstance(n, Input):
        first = next((i for i in range(n.ndim) if i not in steps), None)
        return frozenset({first}) if first is not None and n.shape[first] == rows else free
    found: set[int] = set(free)
    if isinstance(n, Bound):
        less = 1 if isinstance(n, Slice) else 0
        for a in linked[n]:
            found |= {axis - less for axis in tagged.get(a, ()) if axis >= less}
    elif isinstance(n, Looped):
        source, more = (n.value, 1) if n.carry is None else (n.carry, 0)
        found |= {axis + more for axis in tagged[source]}
    elif isinstance(n, Map):
        for a in n.args:
            found |= tagged[a]
    elif isinstance(n, Contract):
        labels = {ls[axis] for ls, a in zip(n.ins, n.args) for axis in tagged[a]}
        found |= {i for i, label in enumerate(n.out) if label in labels}
    elif isinstance(n, Reduce):
        kept = [i for i in range(n.args[0].ndim) if n.law == "cumsum" or i not in n.axes]
        found |= {i for i, axis in enumerate(kept) if axis in tagged[n.args[0]]}
    elif isinstance(n, Reindex):
        for axis in tagged[n.args[0]]:
            offset, terms, divisor = n.maps[axis]
            if offset == 0 and divisor == 1 and len(terms) == 1 and terms[0][1] == 1:
                found |= {terms[0][0]} & {i for i, s in enumerate(n.shape) if s == rows}
    elif isinstance(n, Reshape):
        found |= {_same_axis(n, axis) for axis in tagged[n.args[0]]} - {-1}
    elif isinstance(n, Gather):
        spread = n.args[1].ndim - n.batch
        for axis in tagged[n.args[0]]:
            found |= {axis if axis < n.axis else axis + spread - 1} if axis != n.axis else set()
        for axis in tagged[n.args[1]]:
            found.add(axis if axis < n.batch else n.axis + axis - n.batch)
    return frozenset(found)


def _dims(n: Expr) -> frozenset[int]:
    return frozenset(i for i, s in enumerate(n.shape) if isinstance(s, Dim))


def _same_axis(n: Expr, axis: int) -> int:
    """The axis of a reshape's result that is this axis of its operand, or -1."""
    before = count(n.args[0].shape[:axis])
    for i, s in enumerate(n.shape):
        if s == n.args[0].shape[axis] and count(n.shape[:i]) == before:
            return i
    return -1


def layouts(
    nodes: Sequence[Expr],
    lane_axes: Mapping[Expr, int | None],
    updates: Mapping[Parameter, Expr],
    fixed: Mapping[Parameter, Layout],
    in_lanes: Mapping[Expr, Layout],
    products: Mapping[Contract, Windows],
    linked: Links = NO_LINKS,
) -> dict[Expr, Layout]:
    """The layout of every node that may come to lie in memory; `in_lanes` of those with rows. A
    loop's body finds what comes from outside in the layout it has there."""
    parent: dict[Expr, Expr] = {n: n for n in nodes}

    def root(n: Expr) -> Expr:
        while parent[n] is not n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    plain = [n for n in nodes if lane_axes[n] is None and n.shape]
    for n in plain:
        if isinstance(n, Map):
            for a in n.args:
                if a.shape and lane_axes[a] is None:
                    parent[root(a)] = root(n)
    for leaf, sources in linked.items():
        for a in sources:
            if a.shape == leaf.shape and a.shape and lane_axes[a] is lane_axes[leaf] is None:
                parent[root(a)] = root(leaf)
    for n in plain:
        if isinstance(n, Looped) and n.carry is not None and lane_axes[n.carry] is None:
            parent[root(n.carry)] = root(n)
    for p, new in updates.items():
        if p in parent and lane_axes[new] is None and new.shape == p.shape and p.shape:
            parent[root(p)] = root(new)
    wanted: dict[Expr, Layout] = dict(_panels(nodes, lane_axes, products))
    images: dict[Expr, Layout] = {n: in_lanes[n] for n in plain if n in in_lanes}
    images |= _gradients(lane_axes, products)
    for p, layout in fixed.items():
        wanted[p] = layout
    chosen: dict[Expr, Layout] = {}
    for n in sorted(wanted, key=lambda n: n not in fixed):
        chosen.setdefault(root(n), wanted[n])
    for n, layout in images.items():
        chosen.setdefault(root(n), layout)
    result: dict[Expr, Layout] = {}
    for n in nodes:
        axis = lane_axes[n]
        if isinstance(n, Input):
            result[n] = row_major(n.ndim)
        elif isinstance(n, Parameter) and n in fixed:
            result[n] = fixed[n]
        elif isinstance(n, Looped):
            result[n] = result[n.value].stacked if n.carry is None else result[n.carry]
        elif axis is not None:
            result[n] = in_lanes[n]
        else:
            result[n] = chosen.get(root(n), row_major(n.ndim))
    return result


def _gradients(
    lane_axes: Mapping[Expr, int | None], products: Mapping[Contract, Windows]
) -> dict[Expr, Layout]:
    """Weight gradients where no rows are: in panels over their outputs, as they are computed."""
    found: dict[Expr, Layout] = {}
    for n, w in products.items():
        outputs = w.outputs(n) if w.over_samples else None
        if outputs is not None and lane_axes[w.base] is None and lane_axes[n] is None:
            axis = n.out.index(outputs)
            order = sorted(range(n.ndim), key=lambda a: (a != axis, n.out[a] not in w.places))
            found[n] = Layout(tuple(order), axis)
    return found


def _panels(
    nodes: Sequence[Expr],
    lane_axes: Mapping[Expr, int | None],
    products: Mapping[Contract, Windows],
) -> dict[Expr, Layout]:
    """Parameters that rows are multiplied with, in panels over their output axis. Where there are
    no rows, but images, these are all parameters; with neither, they lie as products read them."""
    found: dict[Expr, Layout] = {}
    plain = all(axis is None for axis in lane_axes.values())
    every = bool(products) and plain
    seen: set[Expr] = set()  # the first use, the forward one, decides
    for n in nodes:
        if not isinstance(n, Contract) or len(n.args) != 2 or not n.summed:
            continue
        for labels, w, other in zip(n.ins, n.args, n.args[::-1]):
            if not isinstance(w, (Parameter, Lent, Carry)) or w in seen or lane_axes[w] is not None:
                continue
            if lane_axes[other] is None and not every:
                if plain and w.ndim == 2:
                    seen.add(w)
                    found.update(_beside_plain(n, labels, w))
                continue
            seen.add(w)
            free = [i for i, k in enumerate(labels) if k in n.out]
            if not dtypes.is_float(w.dtype) or not free or len(free) == w.ndim:
                continue
            axis = free[-1]
            size = w.shape[axis]
            if isinstance(size, int) and (size >= COMPACT or every):
                taps = products[n].taps if n in products else ()
                order = sorted(range(w.ndim), key=lambda a: (a != axis, labels[a] not in taps))
                found[w] = Layout(tuple(order), axis)
    return found


def _beside_plain(n: Contract, labels: Sequence[int], w: Expr) -> dict[Expr, Layout]:
    """A weight in a product without rows: in panels over the index by which neighbours in the
    result differ, or, where those are few, with the summed index innermost."""
    lane = n.out[innermost(n.shape, row_major(n.ndim))]
    free = [axis for axis, k in enumerate(labels) if k in n.out]
    if not dtypes.is_float(w.dtype) or len(free) != 1:
        return {}
    axis, size = free[0], w.shape[free[0]]
    if labels[axis] == lane and isinstance(size, int) and size >= COMPACT:
        return {w: lane_layout(2, axis)}
    return {w: Layout((axis, 1 - axis))}
