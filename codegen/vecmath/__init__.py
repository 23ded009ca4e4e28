"""Scalar functions that no machine has, as DAGs of those it has.

In: a `loops.Op` of `codegen.functions` and the target. Out: a Value of primitive Ops only, the
arguments being shared as they are; a primitive Op comes back unchanged. float32 and float64, with
and without FMA, over the whole range; infinities, NaN, denormals and signed zeros as in C99. The
largest errors found, in ULP (tests/codegen/test_vecmath.py holds the limits):

            exp  log  expm1 log1p  sin  cos  tan  asin acos atan  sinh cosh tanh erf  pow
    float32 1.8  1.1  1.4   1.6    1.6  1.6  2.8  2.4  1.2  2.2   2.6  1.9  2.5  1.2  0.5
    float64 1.8  0.9  1.9   1.4    2.2  2.1  3.4  2.2  1.2  2.3   2.6  2.1  2.4  1.0  2.0

The emitter must keep them as they are written: no reassociation, no "fast" flags.

>>> x = Load("x", Poly.of("l"), "float32")
>>> lower(Op("exp", (x,), "float32"), target)           # 19 Ops on x
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
