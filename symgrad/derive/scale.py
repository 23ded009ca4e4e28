"""The derivative of an elementwise map: a diagonal, so one function serves both directions.

In: a Map node, the position of an operand, a value `v` (a cotangent of the result, or a tangent of
the operand, with `lead` leading axes of its own). Out: `v` times d node / d operand.

>>> scaled(Map.of("mul", a, b), 0, ct)    # ct * b
"""

from __future__ import annotations

from typing import Callable

from symgrad import scalar
from symgrad.derive.algebra import cast, constant, mul, neg, spread
from symgrad.node import Constant, Contract, Expr, Input, Map

_flows: dict[tuple[object, ...], bool] = {}


def times(v: Expr, factor: Expr, lead: int) -> Expr:
    """`v * factor`, where `factor` lacks the `lead` leading axes of `v`."""
    factor = cast(factor, v.dtype)
    if lead == 0 or factor.ndim == 0:
        return mul(v, factor)
    own = range(lead, lead + factor.ndim)
    return Contract.of([range(v.ndim), own], [*range(lead), *own], v, factor)


def _over(v: Expr, divisor: Expr, lead: int) -> Expr:
    divisor = cast(divisor, v.dtype)
    if lead == 0 or divisor.ndim == 0:
        return Map.of("div", v, divisor)
    return times(v, Map.of("div", constant(1, v.dtype), divisor), lead)


def _add(node: Map, position: int, v: Expr, lead: int) -> Expr | None:
    return v


def _sub(node: Map, position: int, v: Expr, lead: int) -> Expr | None:
    return neg(v) if position else v


def _neg(node: Map, position: int, v: Expr, lead: int) -> Expr | None:
    return neg(v)


def _mul(node: Map, position: int, v: Expr, lead: int) -> Expr | None:
    return times(v, node.args[1 - position], lead)


def _div(node: Map, position: int, v: Expr, lead: int) -> Expr | None:
    if position == 0:
        return _over(v, node.args[1], lead)
    return neg(_over(times(v, node, lead), node.args[1], lead))


def _where(node: Map, position: int, v: Expr, lead: int) -> Expr | None:
    """Selection, not a product with a mask: what was not chosen may be infinite."""
    if position == 0:
        return None
    mask, zero = node.args[0], constant(0, v.dtype)
    if lead and mask.ndim:
        shape = v.shape[:lead] + mask.shape
        v = spread(v, range(v.ndim), shape)
        mask = spread(mask, range(lead, len(shape)), shape)
    return Map.of("where", mask, v, zero) if position == 1 else Map.of("where", mask, zero, v)


LINEAR: dict[str, Callable[[Map, int, Expr, int], Expr | None]] = {
    "add": _add,
    "sub": _sub,
    "neg": _neg,
    "mul": _mul,
    "div": _div,
    "where": _where,
    "to_float32": _add,
    "to_float64": _add,
}


def _vanishes(partial: Expr | None) -> bool:
    return partial is None or (isinstance(partial, Constant) and partial.scalar == 0)


def scaled(node: Map, position: int, v: Expr, lead: int = 0) -> Expr | None:
    """`v` times the derivative of `node` by one operand; None where that is zero everywhere."""
    rule = LINEAR.get(node.op)
    if rule is not None:
        return rule(node, position, v, lead)
    partial = scalar.OPS[node.op].partials(node.args, node)[position]
    if partial is None or _vanishes(partial):
        return None
    return times(v, partial, lead)


def flows(node: Map, position: int) -> bool:
    """False when the derivative by this operand is zero everywhere: floor, stop_gradient ..."""
    if node.op in LINEAR:
        return not (node.op == "where" and position == 0)
    op = scalar.OPS[node.op]
    dtypes = tuple(a.dtype for a in node.args)
    key = (id(op), node.op, dtypes, position)
    if key not in _flows:
        args = tuple(Input(f"x{i}", (), dtype) for i, dtype in enumerate(dtypes))
        _flows[key] = not _vanishes(op.partials(args, Map.of(node.op, *args))[position])
    return _flows[key]
