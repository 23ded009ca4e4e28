"""The forward sweep: tangents of outputs from tangents of nodes, one or many directions at once.

In: outputs, the tangents of some nodes by id, and the number of leading axes of those tangents.
Out: the tangent of each output, None where it is zero. With the identity as tangent (its own axes
leading) one sweep gives a whole Jacobian.

>>> push([y], {id(x): v}, 0)                          # [J v]
>>> push([y], {id(x): identity(x.shape, x.dtype)}, x.ndim)
"""

from __future__ import annotations

from typing import Sequence

from symgrad import source
from symgrad.derive.adjoints import custom_parts
from symgrad.derive.algebra import add, cast, constant, contract, total
from symgrad.derive.loops import push_loop
from symgrad.derive.reverse import cotangents, differentiable, level
from symgrad.derive.tangents import TANGENTS
from symgrad.errors import GraphError
from symgrad.loop import captured, results
from symgrad.node import Custom, Expr, Input, Scan, toposort


def push(outputs: Sequence[Expr], seeds: dict[int, Expr], lead: int) -> list[Expr | None]:
    """The tangent of each output; a seeded node adds its seed to what flows into it."""
    tangents: dict[int, Expr | None] = {}
    _sweep(level(outputs), tangents, seeds, lead)
    return [tangents.get(id(y)) for y in outputs]


def _sweep(
    order: Sequence[Expr], tangents: dict[int, Expr | None], seeds: dict[int, Expr], lead: int
) -> None:
    """Add the tangent of every node in order that has one."""
    loops = results(order)
    for node in order:
        result: Expr | None = None
        if isinstance(node, Scan) and node is loops[node.loop][0]:
            with source.at(node.where.derived):
                tangents.update(_through(loops[node.loop], tangents, seeds, lead))
        if isinstance(node, Scan):
            result = tangents.get(id(node))
        else:
            incoming: list[Expr | None] = [None] * len(node.args)
            for k in differentiable(node):
                incoming[k] = tangents.get(id(node.args[k]))
            with source.at(node.where.derived):
                if any(t is not None for t in incoming):
                    if isinstance(node, Custom):
                        result = _custom(node, incoming, lead)
                    else:
                        result = TANGENTS[node.kind](node, incoming, lead)
        seed = seeds.get(id(node))
        if seed is not None:
            result = seed if result is None else add(seed, result)
        if result is not None:
            tangents[id(node)] = result


def _through(
    found: list[Scan], tangents: dict[int, Expr | None], seeds: dict[int, Expr], lead: int
) -> dict[int, Expr]:
    """The tangents of a loop's results."""
    read = [*found[0].sequences, *found[0].initials, *captured(found)]
    if all(tangents.get(id(e)) is None for e in read):
        return {}
    return push_loop(found, tangents, lead, lambda body, own: _sweep(body, own, seeds, lead))


def _custom(node: Custom, tangents: Sequence[Expr | None], lead: int) -> Expr | None:
    """The transpose of the user's rule, which is linear in the cotangent.

    With `<rule(u), t>` for placeholders u and t, the derivative by u is the tangent as a function
    of t, which is then pushed forward.
    """
    placeholder = Input("cotangent", node.shape, node.dtype)
    directions: dict[int, Expr] = {}
    products: list[Expr] = []
    for part, tangent in zip(custom_parts(node, placeholder), tangents[1:]):
        if part is None or tangent is None:
            continue
        direction = Input("tangent", part.shape, part.dtype)
        every = range(part.ndim)
        products.append(cast(contract([every, every], [], part, direction), node.dtype))
        directions[id(direction)] = tangent
    if not products:
        return None
    seed = (total(products), constant(1, node.dtype))
    found = cotangents([seed], [placeholder]).get(id(placeholder))
    if found is None:
        return None
    if any(e is placeholder for e in toposort([found])):
        raise GraphError(
            "custom_gradient: the rule is not linear in its cotangent, so it has no forward mode"
            + source.quote(node.where)
        )
    return push([found], directions, lead)[0]
