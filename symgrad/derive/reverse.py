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
from symgrad.derive.scale import flows
from symgrad.node import Custom, Expr, Gather, Map, Reduce, ScatterAdd, toposort


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


def paths(order: Sequence[Expr], targets: Iterable[Expr]) -> dict[int, list[int]]:
    """The nodes between the targets and the outputs, with the operands that lead to a target."""
    active: dict[int, list[int]] = {id(t): [] for t in targets}
    for node in order:
        if not any(id(a) in active for a in node.args):
            continue
        wanted = [k for k in differentiable(node) if id(node.args[k]) in active]
        if wanted:
            active[id(node)] = wanted
    return active


# Told of every step of a sweep: the node, its cotangent, what goes to which operand.
Record = Callable[[Expr, Expr, Sequence[tuple[int, Expr]]], None]


def cotangents(
    outputs: Sequence[tuple[Expr, Expr]], targets: Sequence[Expr], record: Record | None = None
) -> dict[int, Expr]:
    """The cotangent of each target, by id; targets that are not reached are missing."""
    order = toposort(y for y, _ in outputs)
    active = paths(order, targets)
    asked = {id(t) for t in targets}
    pending: dict[int, list[Expr]] = {}
    for y, cotangent in outputs:
        pending.setdefault(id(y), []).append(cotangent)
    found: dict[int, Expr] = {}
    for node in reversed(order):
        parts = pending.pop(id(node), None)
        if parts is None or id(node) not in active:
            continue
        with source.at(node.where.derived):  # the line of what it is the derivative of
            cotangent = total(parts)
            if id(node) in asked:
                found[id(node)] = cotangent
            wanted = active[id(node)]
            given = list(ADJOINTS[node.kind](node, cotangent, wanted)) if wanted else []
            for position, part in given:
                pending.setdefault(id(node.args[position]), []).append(part)
            if record is not None:
                record(node, cotangent, given)
    return found
