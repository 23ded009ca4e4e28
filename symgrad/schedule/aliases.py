"""Views that lie in memory as they are: a reshape which the layouts on both sides agree about.

In: the nodes of a graph and their layouts. Out: for every value, the views that have its memory:
who reads them reads memory, without a copy and without a division for each index.

    (batch, t, heads, d)   [batch/16][t][heads][d][16]
    (batch, t, heads * d)  [batch/16][t][heads * d][16]      the same memory

>>> aliases(toposort([reshape(x, (16, 64, 128))]), layouts)[x]
[<reshape>]
"""

from __future__ import annotations

from typing import Mapping, Sequence

from symgrad.node import Expr, Reshape
from symgrad.schedule.layout import Layout, lane_layout


def aliases(nodes: Sequence[Expr], layouts: Mapping[Expr, Layout]) -> dict[Expr, list[Expr]]:
    """The reshapes of every value that have its memory, reshapes of those included."""
    base: dict[Expr, Expr] = {}
    found: dict[Expr, list[Expr]] = {}
    for n in nodes:
        if isinstance(n, Reshape) and _alike(n, layouts):
            base[n] = base.get(n.args[0], n.args[0])
            found.setdefault(base[n], []).append(n)
    return found


def _alike(n: Reshape, layouts: Mapping[Expr, Layout]) -> bool:
    """Both have the same first axis in lanes and all others in order."""
    arg = n.args[0]
    return (
        n.ndim > 0
        and arg.ndim > 0
        and n.shape[0] == arg.shape[0]
        and layouts[n] == lane_layout(n.ndim, 0)
        and layouts[arg] == lane_layout(arg.ndim, 0)
    )
