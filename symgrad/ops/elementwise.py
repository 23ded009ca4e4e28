"""Elementwise operations that are more than a line of the op table.

In: expressions, arrays and numbers, broadcast together. Out: expressions. Everything else the
table declares (`exp`, `relu`, `maximum`, ...) is a function of the same name, made by
`scalar.function`.

>>> from symgrad.node import Input
>>> x = Input("x", (2, 3))
>>> power(x, 2).name
'square'
"""

from __future__ import annotations

from typing import Any

import numpy as np

from symgrad import dtypes
from symgrad.errors import DTypeError
from symgrad.node import OPERATORS, Constant, Expr
from symgrad.ops import core
from symgrad.ops.core import apply
from symgrad.scalar import is_sympy, sp


def _numeric(name: str, x: Any, y: Any, on_bools: str | None) -> Expr:
    """Arithmetic; between two bools `+` is or, `*` is and, as in NumPy."""
    if not is_sympy(x) and not is_sympy(y):
        x, y = core.strong(name, x), core.strong(name, y)
        if core.common_dtype(name, (x, y)) == "bool":
            if on_bools is None:
                raise DTypeError(
                    f"{name}: not defined between bools; cast to a number first" + core.here()
                )
            name = on_bools
    return apply(name, x, y)


def add(x: Any, y: Any) -> Expr:
    """x + y, broadcasting."""
    return _numeric("add", x, y, "logical_or")


def subtract(x: Any, y: Any) -> Expr:
    """x - y, broadcasting."""
    return _numeric("sub", x, y, None)


def multiply(x: Any, y: Any) -> Expr:
    """x * y, broadcasting."""
    return _numeric("mul", x, y, "logical_and")


def divide(x: Any, y: Any) -> Expr:
    """x / y, broadcasting; integers give float32."""
    return apply("div", x, y)


def negative(x: Any) -> Expr:
    """-x."""
    x = core.as_expr("neg", x)
    if x.dtype == "bool":
        raise DTypeError("neg: not defined for bools; use ~ or cast to a number" + core.here())
    return apply("neg", x)


def absolute(x: Any) -> Expr:
    """|x|; the derivative at 0 is 0."""
    if is_sympy(x):
        return apply("abs", x)
    x = core.as_expr("abs", x)
    return x if x.dtype == "bool" else apply("abs", x)


def power(x: Any, y: Any) -> Expr:
    """x ** y, broadcasting. Constant exponents give products and roots, not a general power:
    2 is `square`, 0.5 is `sqrt`, -1 is `reciprocal`. Integers to a whole power stay integers.

    >>> from symgrad.node import Input
    >>> power(Input("x", (2,)), -1).name
    'reciprocal'
    """
    if is_sympy(x) or is_sympy(y):
        return apply("pow", x, y)
    y = core.strong("pow", y)
    n: Any = y.scalar if isinstance(y, Constant) and y.ndim == 0 else y
    if not isinstance(n, (int, float, np.integer, np.floating)):
        return _general_power(x, y)
    x = core.as_expr("pow", x)
    if isinstance(y, Constant):
        x = core.cast(x, dtypes.promote([x.dtype, y.dtype]))
    if isinstance(n, (float, np.floating)):
        x = core.as_float("pow", x)
        n = int(n) if float(n).is_integer() else float(n)
    elif not dtypes.is_float(x.dtype) and n < 0:
        raise DTypeError(
            f"pow: integers to the negative power {n}; cast to a float first" + core.here()
        )
    return _constant_power(x, n)


def _constant_power(x: Expr, n: Any) -> Expr:
    roots = {0.5: sp.sqrt, -0.5: sp.rsqrt, -1: sp.reciprocal, 1: lambda x: x, 2: sp.square}
    if n in roots:
        return roots[n](x)  # type: ignore[no-any-return]
    if n == 0:
        return core.broadcast(core.cast(1, x.dtype), x.shape)
    if isinstance(n, int) and 0 < n <= 16:
        half = _constant_power(sp.square(x), n // 2)
        return half * x if n % 2 else half
    if isinstance(n, int) and -16 <= n < 0:
        return sp.reciprocal(_constant_power(x, -n))  # type: ignore[no-any-return]
    if not dtypes.is_float(x.dtype):
        return _general_power(x, n)
    return apply("pow", x, n)


def _general_power(x: Any, y: Any) -> Expr:
    """Integers through float64, which is exact as far as int64 results below 2**53 go."""
    x, y = core.strong("pow", x), core.strong("pow", y)
    dtype = core.common_dtype("pow", (x, y))
    if dtypes.is_float(dtype):
        return apply("pow", x, y)
    dtype = "int64" if dtype == "bool" else dtype
    return core.cast(
        sp.round(apply("pow", core.cast(x, "float64"), core.cast(y, "float64"))), dtype
    )


def where(condition: Any, x: Any, y: Any) -> Expr:
    """x where the condition holds, y elsewhere, all three broadcast together.

    >>> from symgrad.node import Input
    >>> x = Input("x", (2, 3))
    >>> where(x > 0, x, 0.0).shape
    (2, 3)
    """
    return apply("where", condition, x, y)


def clip(x: Any, low: Any = None, high: Any = None) -> Expr:
    """min(max(x, low), high); a bound of None does not limit."""
    if low is None and high is None:
        return core.as_expr("clip", x)
    if is_sympy(x):
        return apply("clip", x, low, high)
    if low is None or high is None:
        x = core.as_expr("clip", x)
        if not dtypes.is_float(x.dtype) and not _is_float(low if high is None else high):
            return apply("maximum", x, low) if high is None else apply("minimum", x, high)
    low = -np.inf if low is None else low
    return apply("clip", x, low, np.inf if high is None else high)


def _is_float(value: Any) -> bool:
    return dtypes.is_float(core.common_dtype("clip", [core.strong("clip", value)]))


def leaky_relu(x: Any, slope: Any = 0.01) -> Expr:
    """x where positive, slope * x elsewhere."""
    return apply("leaky_relu", x, slope)


def elu(x: Any, alpha: Any = 1.0) -> Expr:
    """x where positive, alpha * (exp(x) - 1) elsewhere."""
    return apply("elu", x, alpha)


def _rounding(name: str, x: Any) -> Expr:
    if is_sympy(x):
        return apply(name, x)
    x = core.as_expr(name, x)
    return apply(name, x) if dtypes.is_float(x.dtype) else x


def floor(x: Any) -> Expr:
    """The largest whole number not above x; integers stay as they are."""
    return _rounding("floor", x)


def ceil(x: Any) -> Expr:
    """The smallest whole number not below x."""
    return _rounding("ceil", x)


def trunc(x: Any) -> Expr:
    """The whole part of x, toward zero."""
    return _rounding("trunc", x)


def round(x: Any, decimals: int = 0) -> Expr:  # noqa: A001 - NumPy's name
    """The nearest whole number, ties to the even one; `decimals` digits behind the point."""
    if decimals == 0:
        return _rounding("round", x)
    x = core.as_expr("round", x)
    if not dtypes.is_float(x.dtype):
        return x
    scale = 10.0 ** abs(decimals)
    return apply("round", x * scale) / scale if decimals > 0 else apply("round", x / scale) * scale


def isnan(x: Any) -> Expr:
    """Whether each element is NaN."""
    return apply("isnan", core.as_float("isnan", x))


def isinf(x: Any) -> Expr:
    """Whether each element is infinite."""
    return apply("isinf", core.as_float("isinf", x))


def isfinite(x: Any) -> Expr:
    """Whether each element is neither infinite nor NaN."""
    return apply("isfinite", core.as_float("isfinite", x))


def _applied(name: str) -> Any:
    return lambda *args: apply(name, *args)


OPERATORS.update(
    {
        "add": add,
        "sub": subtract,
        "mul": multiply,
        "div": divide,
        "neg": negative,
        "abs": absolute,
        "pow": power,
        "cast": core.cast,
        **{
            name: _applied(name)
            for name in (
                "floor_divide mod less less_equal greater greater_equal equal not_equal "
                "logical_and logical_or logical_not"
            ).split()
        },
    }
)
