"""How the loops over one block of rows run: in the order of memory, cut where a view cuts.

In: the nodes that share a nest of loops, and their space. Out: the order of its axes, and by how
much each is cut in two. A value read through a Reshape that joins axes (a pooling window inside of
an image, its gradient) has an index `h // k` and `h % k`: with `h = k*q + r`, r in a loop of its
own, both are plain again.

A value read through a Reindex ends somewhere along an axis (the parts of a concatenation, each
padded to the whole): a loop for each stretch between such ends needs to ask nothing.

>>> cuts(gradient_of_pool, held)     # (n, c, h, w), windows of 2
{2: 2, 3: 2}
>>> ends(concatenation, held)        # of 128 and 64 features
{1: {128}}
"""

from __future__ import annotations

import math
from typing import Callable, Collection, Mapping

from symgrad.node import Contract, Expr, Map, Reduce, Reindex, Reshape
from symgrad.schedule.kept import is_reduction
from symgrad.schedule.orders import Order, groups_of
from symgrad.sizes import Shape, maximum

STRETCHES = 8  # nests of loops instead of one
Axes = tuple["int | None", ...]  # for each axis of a node, the axis of the space it runs along


def cuts(n: Expr, space: Shape, held: Callable[[Expr], bool]) -> dict[int, int]:
    """The length of the inner loop of each axis that is better cut."""
    found: dict[int, int] = {}
    stack = _operands(n, len(space))
    seen: set[tuple[int, Axes]] = set()
    while stack:
        a, axes = stack.pop()
        if held(a) or (id(a), axes) in seen:
            continue
        seen.add((id(a), axes))
        if isinstance(a, Reshape):
            found |= _joined(a, axes, space)
        stack += _below(a, axes)
    return found


def ends(n: Expr, space: Shape, held: Callable[[Expr], bool]) -> dict[int, set[int]]:
    """Where along an axis something that is read begins or ends."""
    found: dict[int, set[int]] = {}
    stack = _operands(n, len(space))
    seen: set[tuple[int, Axes]] = set()
    while stack:
        a, axes = stack.pop()
        if held(a) or (id(a), axes) in seen:
            continue
        seen.add((id(a), axes))
        if isinstance(a, Reindex):
            for i, (offset, terms, divisor) in enumerate(a.maps):
                axis = axes[terms[0][0]] if len(terms) == 1 else None
                size, step = a.args[0].shape[i], terms[0][1] if terms else 0
                if axis is None or divisor != 1 or abs(step) != 1 or not isinstance(size, int):
                    continue
                places = (-offset, size - offset) if step == 1 else (offset - size + 1, offset + 1)
                extent = maximum(space[axis])
                found.setdefault(axis, set()).update(e for e in places if 0 < e < extent)
        stack += _below(a, axes)
    return {axis: places for axis, places in found.items() if places}


def stretches(
    ends: Mapping[int, Collection[int]], space: Shape, most: int
) -> list[dict[int, tuple[int, int]]]:
    """The parts of a space between such ends: of every axis (start, length). The whole is one part
    where there would be more than `most`.

    >>> stretches({1: {128}}, (20, 192), 8)
    [{1: (0, 128)}, {1: (128, 64)}]
    """
    if math.prod(len(places) + 1 for places in ends.values()) > most:
        return [{}]
    parts: list[dict[int, tuple[int, int]]] = [{}]
    for axis, places in ends.items():
        limits = [0, *sorted(places), maximum(space[axis])]
        pieces = [(a, b - a) for a, b in zip(limits, limits[1:])]
        parts = [{**part, axis: piece} for part in parts for piece in pieces]
    return parts


def _joined(view: Reshape, axes: Axes, space: Shape) -> dict[int, int]:
    found: dict[int, int] = {}
    for old, new in groups_of(view.args[0].shape, view.shape) or ():
        if len(old) < 2 or len(new) != 1:
            continue
        axis, inner = axes[new[0]], [view.args[0].shape[a] for a in old[1:]]
        known = [s for s in inner if isinstance(s, int)]
        if axis is None or len(known) < len(inner):
            continue
        size, length = space[axis], math.prod(known)
        if isinstance(size, int) and 1 < length < size and size % length == 0:
            found[axis] = length
    return found


def _operands(n: Expr, rank: int) -> list[tuple[Expr, Axes]]:
    """Operands of a node by the axes of the space that computes it, summed ones included."""
    if isinstance(n, Contract):
        if is_reduction(n):
            return [(a, tuple(labels)) for labels, a in zip(n.ins, n.args)]
        return _below(n, tuple(range(rank)))
    if isinstance(n, Reduce):
        return [(n.args[0], tuple(range(rank)))]
    return _below(n, tuple(range(rank)))


def _below(a: Expr, axes: Axes) -> list[tuple[Expr, Axes]]:
    if isinstance(a, Map):
        return [(b, axes) for b in a.args if b.shape]
    if isinstance(a, Contract):
        where = dict(zip(a.out, axes))
        return [(b, tuple(where.get(k) for k in labels)) for labels, b in zip(a.ins, a.args)]
    if isinstance(a, Reindex):
        inner: list[int | None] = []
        for offset, terms, divisor in a.maps:
            same = not offset and divisor == 1 and len(terms) == 1 and terms[0][1] == 1
            inner.append(axes[terms[0][0]] if same else None)
        return [(a.args[0], tuple(inner))]
    return []


def loop_order(n: Expr, order: Order) -> list[int]:
    """Axes of the space of a node, outermost first, as its first large operand lies; `order` is
    that operand's, or the node's own where it is elementwise."""
    if isinstance(n, Contract) and is_reduction(n):
        widest = max(range(len(n.args)), key=lambda i: len(n.ins[i]))
        first = [n.ins[widest][a] for a in order]
        return [*first, *(k for k in sorted(n.extents) if k not in first)]
    return list(order)


def ordering_operand(n: Expr) -> Expr:
    """The value whose order in memory the loops of a node follow."""
    if isinstance(n, Contract) and is_reduction(n):
        return n.args[max(range(len(n.args)), key=lambda i: len(n.ins[i]))]
    return n.args[0] if isinstance(n, Reduce) else n
