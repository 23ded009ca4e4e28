"""Scalar expressions in real arithmetic: mpmath, as precise as wanted.

In: an expression of Map nodes over scalar leaves, and numbers for the leaves. Out: its value as
mathematics defines it, without rounding or overflow, which float results are measured against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mpmath
from mpmath import mp

from symgrad import scalar
from symgrad.node import Constant, Expr, Map

_MEANING: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x: -x,
    "abs": abs,
    "minimum": min,
    "maximum": max,
    "round": mp.nint,
    "trunc": lambda x: mp.floor(x) if x >= 0 else mp.ceil(x),
    "floor_divide": lambda x, y: mp.floor(x / y),
    "mod": lambda x, y: x - y * mp.floor(x / y),
    "pow": mp.power,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "logical_and": lambda x, y: x and y,
    "logical_or": lambda x, y: x or y,
    "logical_not": lambda x: not x,
    "to_float32": lambda x: x,
    "to_float64": lambda x: x,
}


class Undefined(Exception):
    """No real value at this point."""


def value(e: Expr, at: Mapping[Expr, Any]) -> Any:
    """The real value; Undefined outside the domain."""
    known: dict[Expr, Any] = dict(at)

    def visit(e: Expr) -> Any:
        if e not in known:
            known[e] = node(e)
        return known[e]

    def node(e: Expr) -> Any:
        if isinstance(e, Constant):
            number = e.value.item()
            return number if isinstance(number, bool) else mp.mpf(number)
        assert isinstance(e, Map), e
        if e.op == "where":  # only the branch that is taken has to be defined
            return visit(e.args[1 if visit(e.args[0]) else 2])
        op = scalar.OPS[e.op]
        if not op.primitive:
            return visit(op.expand(*e.args))
        meaning = _MEANING.get(e.op) or getattr(mp, e.op)
        try:
            result = meaning(*map(visit, e.args))
        except (ZeroDivisionError, ValueError, OverflowError) as error:
            raise Undefined(str(error)) from error
        if isinstance(result, mpmath.mpc) or (not isinstance(result, bool) and mp.isnan(result)):
            raise Undefined(f"{e.op} gives {result}")
        return result

    return visit(e)
