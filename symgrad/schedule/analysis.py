"""What is known of every value before any kernel is: rows, lane axes, layouts.

In: the nodes of a graph, those in loops' bodies included. Out: an `Analysis`. All levels are looked
at together: a weight that only a body uses lies as the body wants it, and what passes the border of
a loop lies alike on both sides.

>>> analyse(nodes, inputs, updates, target, fixed={}).layouts[weights]
Layout(order=(1, 0), lane=1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

from codegen.target import Target
from symgrad.node import Contract, Expr, Parameter
from symgrad.schedule import kept
from symgrad.schedule.bodies import Looped, flattened
from symgrad.schedule.layout import Layout, row_major
from symgrad.schedule.orders import lane_layouts, pointwise_products, unfolded, window_products
from symgrad.schedule.rows import layouts, row_axes, row_size
from symgrad.schedule.steps import links, step_axes
from symgrad.schedule.windows import Windows
from symgrad.sizes import Dim, Size


@dataclass
class Analysis:
    """`windowed` are the products over windows, `pinned` the views that are computed all the same,
    `in_lanes` the layouts that inputs are brought to before they are read."""

    lanes: int
    names: frozenset[str]  # of run-time sizes
    rows: Size | None
    windowed: Mapping[Contract, Windows]
    pinned: frozenset[Expr]
    lane_axes: Mapping[Expr, int | None]
    in_lanes: Mapping[Expr, Layout]
    layouts: dict[Expr, Layout]


def analyse(
    nodes: Sequence[Expr],
    inputs: Sequence[Expr],
    updates: Mapping[Parameter, Expr],
    target: Target,
    fixed: Mapping[Parameter, Layout],
    lanes: int | None = None,
) -> Analysis:
    """Parameters in `fixed` lie there already; those in `inputs` come as users have them."""
    reached = set(nodes)
    everything = [*flattened(nodes), *(i for i in inputs if i not in reached)]
    wide = any(n.dtype == "float64" for n in everything)
    lanes = lanes or max(1, target.lanes // 2 if wide else target.lanes)
    pinned = unfolded(everything)

    def in_memory(n: Expr) -> bool:
        return not kept.is_view(n) or n in pinned

    linked = links(everything)
    steps = step_axes(everything, linked)
    windowed = window_products(everything, in_memory)
    points = pointwise_products(everything, in_memory)
    rows = row_size(everything, {**points, **windowed}, lanes, steps)
    if rows is None:
        windowed = {**points, **windowed}
    lane_axes = row_axes(everything, rows, steps, linked)
    held = {**fixed, **{p: row_major(p.ndim) for p in inputs if isinstance(p, Parameter)}}
    in_lanes = lane_layouts(everything, lane_axes, windowed, steps)
    found = layouts(everything, lane_axes, updates, held, in_lanes, windowed, linked)
    return Analysis(lanes, _names(everything), rows, windowed, pinned, lane_axes, in_lanes, found)


def _names(nodes: Sequence[Expr]) -> frozenset[str]:
    sizes = [size for n in nodes for size in n.shape]
    sizes += [n.body.length for n in nodes if isinstance(n, Looped)]
    return frozenset(size.name for size in sizes if isinstance(size, Dim))
