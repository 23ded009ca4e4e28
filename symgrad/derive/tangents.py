"""Forward rules: from the tangents of a node's operands to its own tangent.

In: a node, the tangent of each operand (None where it is zero) and the number of leading axes that
tangents carry and values do not: none for one direction, the axes of an identity for a whole
Jacobian in one sweep. Out: the tangent, of shape `lead axes + node.shape`, or None. A user's own
rule is handled by the sweep (`forward`), because it is transposed rather than applied.

>>> TANGENTS["map"](Map.of("mul", a, b), [da, None], 0)    # da * b
"""

from __future__ import annotations

from typing import Callable, Sequence

from symgrad.derive.adjoints import chosen, others_product, product_stages
from symgrad.derive.algebra import (
    IDENTITY,
    cast,
    contract,
    spread,
    total,
    transpose,
)
from symgrad.derive.scale import scaled
from symgrad.node import (
    AxisMap,
    Contract,
    Expr,
    Gather,
    Map,
    Reduce,
    Reindex,
    Reshape,
    ScatterAdd,
)

Tangents = Sequence["Expr | None"]


def _map(node: Map, tangents: Tangents, lead: int) -> Expr | None:
    parts: list[Expr] = []
    for position, tangent in enumerate(tangents):
        if tangent is None:
            continue
        part = scaled(node, position, cast(tangent, node.dtype), lead)
        if part is not None:
            parts.append(part)
    if not parts:
        return None
    if lead and node.shape:  # a 0-d operand's tangent has leading axes only: no rule fits it
        shape = parts[0].shape[:lead] + node.shape
        parts = [spread(p, range(p.ndim), shape) for p in parts]
    result = total(parts)
    if not result.shape and node.shape:
        result = spread(result, (), node.shape)
    return result


def _contract(node: Contract, tangents: Tangents, lead: int) -> Expr | None:
    extents = node.extents
    base = 1 + max(extents, default=-1)
    front = range(base, base + lead)
    sizes = {k: extents[k] for k in node.out}
    parts = []
    for position, tangent in enumerate(tangents):
        if tangent is None:
            continue
        args, ins = list(node.args), [list(s) for s in node.ins]
        args[position], ins[position] = tangent, [*front, *ins[position]]
        parts.append(Contract.of(ins, [*front, *node.out], *args, sizes=sizes))
    return total(parts)


def _weighted_sum(weights: Expr, tangent: Expr, axes: Sequence[int], lead: int) -> Expr:
    """The sum over `axes` (of the value) of weights times tangent."""
    own = range(lead, lead + weights.ndim)
    kept = [k for k in own if k - lead not in axes]
    return contract([own, range(tangent.ndim)], [*range(lead), *kept], weights, tangent)


def _reduce(node: Reduce, tangents: Tangents, lead: int) -> Expr | None:
    tangent = tangents[0]
    assert tangent is not None
    if node.law in ("max", "min"):
        mask, count = chosen(node)
        weights = cast(mask, tangent.dtype)
        summed = _weighted_sum(weights, tangent, node.axes, lead)
        count = spread(count, range(lead, lead + count.ndim), summed.shape)
        return Map.of("div", summed, count)
    if node.law == "prod":
        for operand, axis in product_stages(node):
            tangent = _weighted_sum(others_product(operand, axis), tangent, [axis], lead)
        return tangent
    return Reduce.of("cumsum", tangent, [node.axes[0] + lead])


def _reindex(node: Reindex, tangents: Tangents, lead: int) -> Expr | None:
    tangent = tangents[0]
    assert tangent is not None
    front: list[AxisMap] = [(0, ((k, IDENTITY),), IDENTITY) for k in range(lead)]
    maps = [(o, tuple((a + lead, c) for a, c in terms), d) for o, terms, d in node.maps]
    return Reindex.of(tangent, [*front, *maps], tangent.shape[:lead] + node.shape)


def _reshape(node: Reshape, tangents: Tangents, lead: int) -> Expr | None:
    tangent = tangents[0]
    assert tangent is not None
    return Reshape.of(tangent, tangent.shape[:lead] + node.shape)


def _behind_batch(e: Expr, lead: int, batch: int) -> Expr:
    """Leading axes moved behind the batch axes, where an index operation passes them by."""
    order = [*range(lead, lead + batch), *range(lead), *range(lead + batch, e.ndim)]
    return transpose(e, order)


def _before_batch(e: Expr, lead: int, batch: int) -> Expr:
    order = [*range(batch, batch + lead), *range(batch), *range(lead + batch, e.ndim)]
    return transpose(e, order)


def _gather(node: Gather, tangents: Tangents, lead: int) -> Expr | None:
    assert tangents[0] is not None
    arg = _behind_batch(tangents[0], lead, node.batch)
    picked = Gather.of(arg, node.args[1], node.axis + lead, node.batch)
    return _before_batch(picked, lead, node.batch)


def _scatter(node: ScatterAdd, tangents: Tangents, lead: int) -> Expr | None:
    assert tangents[0] is not None
    values = _behind_batch(tangents[0], lead, node.batch)
    size = node.shape[node.axis]
    added = ScatterAdd.of(values, node.args[1], node.axis + lead, node.batch, size)
    return _before_batch(added, lead, node.batch)


TANGENTS: dict[str, Callable[..., Expr | None]] = {
    "map": _map,
    "contract": _contract,
    "reduce": _reduce,
    "reindex": _reindex,
    "reshape": _reshape,
    "gather": _gather,
    "scatter": _scatter,
}
