"""One joint reverse sweep: the cotangents of any set of nodes, each built once.

In: outputs with their cotangents, and targets. Out: the cotangent of every target that the outputs
depend on, by id. Only nodes on a path from an output to a target get a cotangent, so what is not
asked for (a frozen layer) is never built; every gradient shares the cotangents above it.

>>> cotangents([(loss, one)], [W, b])    # {id(W): ..., id(b): ...}
"""

from __future__ import annotations

from typing import Callable, Iterable, Sequence

from symgrad import source
from symgrad.derive.adjoints import ADJOINTS
from symgrad.derive.algebra import is_float, total
from symgrad.derive.loops import Flow, flow, pull
from symgrad.derive.scale import flows
from symgrad.loop import Loop, results
from symgrad.node import Custom, Expr, Gather, Map, Reduce, Scan, ScatterAdd, toposort


def differentiable(node: Expr) -> list[int]:
    """Positions of the operands through which a derivative can flow."""
    if not is_float(node) or (isinstance(node, Reduce) and node.law in ("argmax", "argmin")):
        return []
    positions: Iterable[int] = range(len(node.args))
    if isinstance(node, Custom):
        positions = range(1, len(node.args))
    elif isinstance(node, (Gather, ScatterAdd)):
        positions = (0,)
    found = [k for k in positions if is_float(node.args[k])]
    if isinstance(node, Map):
        found = [k for k in found if flows(node, k)]
    return found


Active = dict[int, "list[int] | Flow"]


def level(outputs: Sequence[Expr]) -> list[Expr]:
    """What the outputs depend on, operands first, without the bodies of loops."""
    around: frozenset[object] = frozenset().union(*(y.free for y in outputs))
    return [n for n in toposort(outputs) if n.free <= around]


def paths(order: Sequence[Expr], targets: Sequence[Expr], stop: set[int]) -> Active:
    """The nodes between the targets and the outputs, with the operands that lead to a target, or
    for a loop how they do; `stop` are the targets of the whole sweep."""
    active: Active = {id(t): [] for t in targets}
    loops = results(order)
    through: dict[Loop, Flow] = {}
    for node in order:
        if isinstance(node, Scan):
            if node.loop not in through:
                through[node.loop] = flow(loops[node.loop], active, stop, paths)
            if through[node.loop].reaches(node):
                active[id(node)] = through[node.loop]
            continue
        if not any(id(a) in active for a in node.args):
            continue
        wanted = [k for k in differentiable(node) if id(node.args[k]) in active]
        if wanted:
            active[id(node)] = wanted
    return active


# Told of every step of a sweep: the node, its cotangent, and what goes to which expression.
Record = Callable[[Expr, Expr, Sequence[tuple[Expr, Expr]]], None]


def cotangents(
    outputs: Sequence[tuple[Expr, Expr]], targets: Sequence[Expr], record: Record | None = None
) -> dict[int, Expr]:
    """The cotangent of each target, by id; targets that are not reached are missing."""
    order = level([y for y, _ in outputs])
    asked = {id(t) for t in targets}
    pending: dict[int, list[Expr]] = {}
    for y, cotangent in outputs:
        pending.setdefault(id(y), []).append(cotangent)
    return sweep(order, paths(order, targets, asked), pending, asked, record)


def sweep(
    order: Sequence[Expr],
    active: Active,
    pending: dict[int, list[Expr]],
    asked: set[int],
    record: Record | None = None,
) -> dict[int, Expr]:
    """From the pending cotangents of nodes, by id, to those of what was asked for. Contributions to
    active nodes that are not in the order stay pending."""
    found: dict[int, Expr] = {}
    loops = {id(nodes[0]): nodes for nodes in results(order).values()}
    known: dict[int, Expr] = {}  # of results of loops: a loop is derived at its first result
    for node in reversed(order):
        parts = pending.pop(id(node), None)
        with source.at(node.where.derived):  # the line of what it is the derivative of
            if parts is not None and id(node) in active:
                cotangent = total(parts)
                if id(node) in asked:
                    found[id(node)] = cotangent
                wanted = active[id(node)]
                if isinstance(wanted, Flow):
                    known[id(node)] = cotangent
                elif wanted:
                    given = [
                        (node.args[position], part)
                        for position, part in ADJOINTS[node.kind](node, cotangent, wanted)
                    ]
                    for value, part in given:
                        pending.setdefault(id(value), []).append(part)
                    if record is not None:
                        record(node, cotangent, given)
            reached = [n for n in loops.get(id(node), ()) if id(n) in known]
            if reached:
                way = active[id(reached[0])]
                assert isinstance(way, Flow)
                given = [(v, part) for v, part in pull(way, known, sweep) if id(v) in active]
                for value, part in given:
                    pending.setdefault(id(value), []).append(part)
                if record is not None:
                    record(reached[0], known[id(reached[0])], given)
    return found
