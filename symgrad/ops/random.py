"""Random arrays: functions of (seed, step, stream, element), the same in every run of one seed.

In: a shape. Out: an expression with new numbers at every call of a compiled function. Each use has
a stream of its own; the numbers are Philox4x32-10's (Salmon et al. 2011), computed where they are
needed and never stored.

>>> bernoulli(0.5, (2, 3)).dtype
'bool'
"""

from __future__ import annotations

from typing import Any

from symgrad import dtypes
from symgrad.errors import DTypeError
from symgrad.node import Expr, Random
from symgrad.ops import core


def _law(law: str, shape: Any, dtype: Any, stream: int | None) -> Expr:
    dtype = dtypes.canonical(dtype)
    if not dtypes.is_float(dtype):
        raise DTypeError(f"random.{law}: dtype is float32 or float64, got {dtype}" + core.here())
    return Random.of(law, shape, dtype, stream)


def uniform(
    shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = "float32", stream: int | None = None
) -> Expr:
    """Numbers from low (included) to high (not included), all equally likely.

    >>> uniform((2, 3), -1, 1).shape
    (2, 3)
    """
    u = _law("uniform", shape, dtype, stream)
    if isinstance(low, (int, float)) and low == 0 and isinstance(high, (int, float)) and high == 1:
        return u
    return low + (high - low) * u


def normal(
    shape: Any, mean: Any = 0.0, std: Any = 1.0, dtype: Any = "float32", stream: int | None = None
) -> Expr:
    """Normally distributed numbers."""
    z = _law("normal", shape, dtype, stream)
    if not isinstance(std, (int, float)) or std != 1:
        z = z * std
    return z if isinstance(mean, (int, float)) and mean == 0 else z + mean


def bernoulli(p: Any, shape: Any, stream: int | None = None) -> Expr:
    """Bools that are true with probability p."""
    dtype = p.dtype if isinstance(p, Expr) and dtypes.is_float(p.dtype) else "float32"
    return _law("uniform", shape, dtype, stream) < p


def bits(shape: Any, stream: int | None = None) -> Expr:
    """32 random bits for each element, as int32."""
    return Random.of("bits", shape, "int32", stream)
