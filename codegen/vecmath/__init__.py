"""Scalar functions that no machine has, as DAGs of those it has.

In: a `loops.Op` of `codegen.functions` and the target. Out: a Value of primitive Ops only, the
arguments being shared as they are; a primitive Op comes back unchanged. float32 and float64, with
and without FMA, over the whole range: at most 2 ULP for exp and log, 4 for the others (see
tests/codegen/test_vecmath.py for what is reached); infinities, NaN, denormals, signed zeros as C99.

>>> x = Load("x", Poly.of("l"), "float32")
>>> lower(Op("exp", (x,), "float32"), target)           # 17 Ops on x
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from codegen import loops
from codegen.functions import FLOATS, FUNCTIONS
from codegen.vecmath import exponential, integer, logarithm, trigonometric
from codegen.vecmath.kit import Kit, V

LOWER: dict[str, Callable[..., V]] = {
    "exp": exponential.exp,
    "expm1": exponential.expm1,
    "sinh": exponential.sinh,
    "cosh": exponential.cosh,
    "tanh": exponential.tanh,
    "erf": exponential.erf,
    "log": logarithm.log,
    "log1p": logarithm.log1p,
    "pow": logarithm.pow,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "tan": trigonometric.tan,
    "asin": trigonometric.asin,
    "acos": trigonometric.acos,
    "atan": trigonometric.atan,
    "atan2": trigonometric.atan2,
    "floor_divide": integer.floor_divide,
    "mod": integer.mod,
}


class Machine(Protocol):
    """What is needed of `codegen.target.Target`."""

    @property
    def has_fma(self) -> bool: ...


def lower(op: loops.Op, target: Machine) -> loops.Value:
    """`op` in terms of primitive functions."""
    if FUNCTIONS[op.fn].primitive:
        return op
    if op.fn.startswith("philox"):
        return integer.philox(int(op.fn[-1]), op.args).value
    kit = Kit(op.dtype, target.has_fma) if op.dtype in FLOATS else None
    return LOWER[op.fn](kit, *map(V, op.args)).value
