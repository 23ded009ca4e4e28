"""Which axes of values run along the steps of a loop: these lie outermost in memory, and no rows
run along them.

In: the nodes of all levels of a graph. Out: `step_axes` (node -> its axes that are steps): the
leading axis of sequences and stacks, followed through the graph in both directions.

    (time, batch, features)  steps {0}    [time][batch/16][features][16]
    (batch, time, features)  steps {1}    the same memory: no copy makes one of the other

>>> step_axes(nodes, links(nodes))[xs]
frozenset({0})
"""

from __future__ import annotations

from typing import Iterator, Mapping, Sequence

from symgrad.node import Contract, Expr, Gather, Map, Reduce, Reindex, Reshape
from symgrad.schedule.bodies import Body, Carry, Lent, Looped, Slice
from symgrad.sizes import count

NONE: frozenset[int] = frozenset()


def links(nodes: Sequence[Expr]) -> dict[Expr, list[Expr]]:
    """What every leaf of a body stands for; a carry also for its next value."""
    found: dict[Expr, list[Expr]] = {}
    seen: set[tuple[Body, tuple[Expr, ...]]] = set()
    for n in nodes:
        if isinstance(n, Looped) and (n.body, n.args) not in seen:
            seen.add((n.body, n.args))
            for leaf, arg in zip(n.body.leaves, n.args):
                found.setdefault(leaf, []).append(arg)
            for carry, new in zip(n.body.carries, n.body.news):
                found[carry].append(new)
    return found


def step_axes(
    nodes: Sequence[Expr], linked: Mapping[Expr, Sequence[Expr]]
) -> Mapping[Expr, frozenset[int]]:
    """The axes of every node that run along steps; empty where there are no loops."""
    found: dict[Expr, set[int]] = {n: set() for n in nodes}
    if not linked:
        return {}
    pairs = [pair for n in nodes for pair in _pairs(n, linked)]
    for n in nodes:
        if isinstance(n, Looped) and n.carry is None:
            found[n].add(0)
        elif isinstance(n, Slice):
            for sequence in linked[n]:
                found[sequence].add(0)
    changed = True
    while changed:
        before = sum(map(len, found.values()))
        for sweep in (pairs, pairs[::-1]):
            for a, i, b, j in sweep:
                if i in found[a]:
                    found[b].add(j)
                elif j in found[b]:
                    found[a].add(i)
        changed = sum(map(len, found.values())) > before
    return {n: frozenset(axes) for n, axes in found.items()}


def _pairs(n: Expr, linked: Mapping[Expr, Sequence[Expr]]) -> Iterator[tuple[Expr, int, Expr, int]]:
    """Axes of operands and results that run together: (operand, axis, result, axis)."""
    if isinstance(n, Slice):
        yield from ((a, i + 1, n, i) for a in linked[n] for i in range(n.ndim))
    elif isinstance(n, (Carry, Lent)):
        yield from ((a, i, n, i) for a in linked[n] for i in range(n.ndim))
    elif isinstance(n, Looped):
        source, more = (n.carry, 0) if n.carry is not None else (n.value, 1)
        yield from ((source, i, n, i + more) for i in range(source.ndim))
    elif isinstance(n, Map):
        yield from ((a, i, n, i) for a in n.args for i in range(a.ndim))
    elif isinstance(n, Contract):
        for labels, a in zip(n.ins, n.args):
            yield from ((a, i, n, n.out.index(k)) for i, k in enumerate(labels) if k in n.out)
        first = {k: (a, i) for ls, a in zip(n.ins, n.args) for i, k in enumerate(ls)}
        for labels, a in zip(n.ins, n.args):
            yield from ((a, i, *first[k]) for i, k in enumerate(labels) if first[k][0] is not a)
    elif isinstance(n, Reduce):
        kept = [i for i in range(n.args[0].ndim) if n.law == "cumsum" or i not in n.axes]
        yield from ((n.args[0], i, n, j) for j, i in enumerate(kept))
    elif isinstance(n, Reindex):
        for i, (_, terms, divisor) in enumerate(n.maps):
            if divisor == 1 and len(terms) == 1 and terms[0][1] in (1, -1):
                yield n.args[0], i, n, terms[0][0]
    elif isinstance(n, Reshape):
        before = [(count(n.args[0].shape[:i]), s) for i, s in enumerate(n.args[0].shape)]
        for j, s in enumerate(n.shape):
            if s != 1 and (count(n.shape[:j]), s) in before:
                yield n.args[0], before.index((count(n.shape[:j]), s)), n, j
    elif isinstance(n, Gather):
        arg, indices = n.args
        for i in range(n.batch, indices.ndim):
            yield indices, i, n, n.axis + i - n.batch
        for i in range(n.batch):
            yield indices, i, n, i
