"""The lines of the op table: a new scalar function is one of these lines.

In: `symgrad.scalar`, whose `primitive`, `composite` and `sp` the lines are written in. Out: its
`OPS`, filled. A line gives the name, what is computed, the derivative, and the dtypes where they
are not floats; `steps` are constant almost everywhere and have no derivative. The tests walk the
table: meaning, accuracy, first and second derivative of every line, at ordinary and extreme points.

    composite("sigmoid", lambda x: 1 / (1 + sp.exp(-x)), lambda x, out: out * (1 - out))

Bodies are written such that nothing over- or underflows on the way, and derivatives such that the
branch a `where` does not take stays finite too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from symgrad.scalar import cast_to, composite, erf, lift, primitive, sp, step

_LN2, _LN10 = math.log(2.0), math.log(10.0)
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017
_CUBIC = 0.044715  # of the tanh form of GELU, Hendrycks and Gimpel 2016


# -- derivatives that do not fit a line ---------------------------------------------------------


def _by(condition: Any, out: Any) -> Any:
    """1 where the condition holds, 0 elsewhere."""
    return sp.where(condition, lift(1, (out,)), lift(0, (out,)))


def _within(x: Any, low: float, high: float) -> Any:
    """1 strictly between the bounds, 0 elsewhere."""
    return sp.where((x > low) & (x < high), 1.0, 0.0)


def _share(x: Any, y: Any) -> Any:
    """d max(x, y) / dx: 1, 0, and one half on a tie, as in PyTorch and JAX."""
    return sp.where(x > y, 1.0, sp.where(sp.equal(x, y), 0.5, 0.0))


def _power(x: Any, y: Any, out: Any) -> Any:
    """Finite at a base or an exponent of zero."""
    below = sp.where(sp.equal(y, 0.0), 1.0, y - 1)
    return y * sp.pow(x, below), out * sp.log(sp.where(sp.equal(x, 0.0), 1.0, x))


def _angle(y: Any, x: Any, out: Any) -> Any:
    """Divided twice by the radius, whose square may overflow."""
    r = sp.hypot(x, y)
    return x / r / r, -y / r / r


def _on_circle(x: Any) -> Any:
    """sqrt(1 - x**2)."""
    return sp.sqrt((1 - x) * (1 + x))


def _bell(x: Any, out: Any) -> Any:
    return 2 / math.sqrt(math.pi) * sp.exp(-sp.square(x))


def _bounds(x: Any, low: Any, high: Any, out: Any) -> Any:
    """At a bound itself the value still moves with x, as in PyTorch; high wins over low."""
    inside, below = (x >= low) & (x <= high), (x < low) & (low <= high)
    return _by(inside, out), _by(below, out), _by((x > high) | (high < low), out)


def _legs(x: Any, y: Any, out: Any) -> Any:
    """Zero at the origin."""
    r = sp.where(out > 0, out, 1.0)
    return x / r, y / r


def _leaky_slope(x: Any, slope: Any, out: Any) -> Any:
    return sp.where(x > 0, 1.0, slope), sp.where(x > 0, 0.0, x)


def _elu_slope(x: Any, a: Any, out: Any) -> Any:
    below = sp.minimum(x, 0.0)
    return sp.where(x > 0, 1.0, a * sp.exp(below)), sp.expm1(below)


def _selu_slope(x: Any, out: Any) -> Any:
    return _SELU_SCALE * sp.where(x > 0, 1.0, _SELU_ALPHA * sp.exp(sp.minimum(x, 0.0)))


def _silu_slope(x: Any, out: Any) -> Any:
    s = sp.sigmoid(x)
    return s * (1 + x * (1 - s))


def _hard_silu_slope(x: Any, out: Any) -> Any:
    return sp.where(x < -3, 0.0, sp.where(x <= 3, x / 3 + 0.5, 1.0))


def _softsign_slope(x: Any, out: Any) -> Any:
    return 1 / sp.square(1 + sp.abs(x))


def _mish_slope(x: Any, out: Any) -> Any:
    t = sp.tanh(sp.softplus(x))
    return t + x * (1 - sp.square(t)) * sp.sigmoid(x)


def _gelu_slope(x: Any, out: Any) -> Any:
    """The integral of the normal distribution, plus x times its density."""
    density = sp.exp(-0.5 * sp.square(x)) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * (1 + sp.erf(x * math.sqrt(0.5))) + x * density


def _gelu_tanh_slope(x: Any, out: Any) -> Any:
    t = _cubic_tanh(x)
    inner = math.sqrt(2 / math.pi) * (1 + 3 * _CUBIC * sp.square(x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - sp.square(t)) * inner


def _xlogy_slope(x: Any, y: Any, out: Any) -> Any:
    return sp.log(y), x / sp.where(sp.equal(x, 0.0), 1.0, y)


def _choice(c: Any, x: Any, y: Any, out: Any) -> Any:
    return None, _by(c, out), _by(~c, out)


def _logaddexp_slope(x: Any, y: Any, out: Any) -> Any:
    return sp.sigmoid(x - y), sp.sigmoid(y - x)


def _root_slope(x: Any, out: Any) -> Any:
    """0 at 0, instead of infinity."""
    return sp.where(x > 0, 0.5 / sp.where(x > 0, out, 1.0), 0.0)


# -- bodies that do not fit a line --------------------------------------------------------------


def _sign(x: Any) -> Any:
    return sp.where(x > 0, 1, sp.where(x < 0, -1, x))


def _softplus(x: Any) -> Any:
    return sp.maximum(x, 0.0) + sp.log1p(sp.exp(-sp.abs(x)))


def _elu(x: Any, a: Any) -> Any:
    return sp.where(x > 0, x, a * sp.expm1(sp.minimum(x, 0.0)))


def _cubic_tanh(x: Any) -> Any:
    return sp.tanh(sp.sqrt(2 / sp.pi) * (x + _CUBIC * x * sp.square(x)))


def _hypot(x: Any, y: Any) -> Any:
    """Scaled, so that no square over- or underflows; 0 and infinity scale by 1."""
    size = sp.maximum(sp.abs(x), sp.abs(y))
    s = sp.where((size > 0.0) & (size < math.inf), size, 1.0)
    return s * sp.sqrt(sp.square(x / s) + sp.square(y / s))


def _logaddexp(x: Any, y: Any) -> Any:
    """Equal arguments may be infinite, where x - y is none."""
    apart = sp.maximum(x, y) + sp.log1p(sp.exp(-sp.abs(x - y)))
    return sp.where(sp.equal(x, y), x + _LN2, apart)


def _log1mexp(x: Any) -> Any:
    """log(1 - exp(x)) for x < 0; Maechler 2012 shows -log 2 to be the place to switch."""
    return sp.where(x > -_LN2, sp.log(-sp.expm1(x)), sp.log1p(-sp.exp(sp.minimum(x, -_LN2))))


def _xlogy(x: Any, y: Any) -> Any:
    return x * sp.log(sp.where(sp.equal(x, 0.0), 1.0, y))


def _asinh(x: Any) -> Any:
    size = sp.abs(x)
    return sp.sign(x) * sp.log1p(size + size * (size / (1 + sp.hypot(x, 1.0))))


def _acosh(x: Any) -> Any:
    return sp.log1p((x - 1) + sp.sqrt(x - 1) * sp.sqrt(x + 1))


def _atanh(x: Any) -> Any:
    size = sp.abs(x)
    return sp.sign(x) * 0.5 * sp.log1p(2 * size / (1 - size))


# -- the table ------------------------------------------------------------------------------------
# fmt: off

#         name            NumPy            derivative, of (x, out) or (x, y, out)
primitive("add",          np.add,          lambda x, y, out: (1, 1), "number")
primitive("sub",          np.subtract,     lambda x, y, out: (1, -1), "number")
primitive("mul",          np.multiply,     lambda x, y, out: (y, x), "number")
primitive("div",          np.divide,       lambda x, y, out: (1 / y, -out / y))
primitive("mod",          np.mod,          lambda x, y, out: (1, -sp.floor_divide(x, y)), "number")
primitive("pow",          np.power,        _power)
primitive("neg",          np.negative,     lambda x, out: -1, "number")
primitive("abs",          np.abs,          lambda x, out: sp.sign(x), "number")
primitive("minimum",      np.minimum,      lambda x, y, out: (_share(y, x), _share(x, y)), "any")
primitive("maximum",      np.maximum,      lambda x, y, out: (_share(x, y), _share(y, x)), "any")
primitive("sqrt",         np.sqrt,         lambda x, out: 0.5 / out)
primitive("exp",          np.exp,          lambda x, out: out)
primitive("expm1",        np.expm1,        lambda x, out: out + 1)
primitive("log",          np.log,          lambda x, out: 1 / x)
primitive("log1p",        np.log1p,        lambda x, out: 1 / (1 + x))
primitive("sin",          np.sin,          lambda x, out: sp.cos(x))
primitive("cos",          np.cos,          lambda x, out: -sp.sin(x))
primitive("tan",          np.tan,          lambda x, out: 1 + sp.square(out))
primitive("asin",         np.arcsin,       lambda x, out: 1 / _on_circle(x))
primitive("acos",         np.arccos,       lambda x, out: -1 / _on_circle(x))
primitive("atan",         np.arctan,       lambda x, out: 1 / (1 + sp.square(x)))
primitive("atan2",        np.arctan2,      _angle)
primitive("sinh",         np.sinh,         lambda x, out: sp.cosh(x))
primitive("cosh",         np.cosh,         lambda x, out: sp.sinh(x))
primitive("tanh",         np.tanh,         lambda x, out: 1 - sp.square(out))
primitive("erf",          erf,             _bell)
primitive("where",        np.where,        _choice, "where")
primitive("to_float32",   cast_to("float32"), lambda x, out: 1, "cast")
primitive("to_float64",   cast_to("float64"), lambda x, out: 1, "cast")
primitive("to_int32",     cast_to("int32"), step, "cast")
primitive("to_int64",     cast_to("int64"), step, "cast")
primitive("to_bool",      cast_to("bool"), step, "cast")
primitive("floor",        np.floor,        step)
primitive("ceil",         np.ceil,         step)
primitive("round",        np.rint,         step)  # half to even
primitive("trunc",        np.trunc,        step)
primitive("floor_divide", np.floor_divide, step, "number")
primitive("less",         np.less,         step, "compare")
primitive("less_equal",   np.less_equal,   step, "compare")
primitive("greater",      np.greater,      step, "compare")
primitive("greater_equal", np.greater_equal, step, "compare")
primitive("equal",        np.equal,        step, "compare")
primitive("not_equal",    np.not_equal,    step, "compare")
primitive("logical_and",  np.logical_and,  step, "bool")
primitive("logical_or",   np.logical_or,   step, "bool")
primitive("logical_not",  np.logical_not,  step, "bool")

#         name            body                            derivative
composite("square",       lambda x: x * x,                lambda x, out: 2 * x, "number")
composite("reciprocal",   lambda x: 1 / x,                lambda x, out: -sp.square(out))
composite("rsqrt",        lambda x: 1 / sp.sqrt(x),       lambda x, out: -0.5 * out / x)
composite("sqrt_or_zero", lambda x: sp.sqrt(x),           _root_slope)  # of norms
composite("hypot",        _hypot,                         _legs)
composite("exp2",         lambda x: sp.pow(2.0, x),       lambda x, out: out * _LN2)
composite("log2",         lambda x: sp.log(x) / _LN2,     lambda x, out: (1 / _LN2) / x)
composite("log10",        lambda x: sp.log(x) / _LN10,    lambda x, out: (1 / _LN10) / x)
composite("logaddexp",    _logaddexp,                     _logaddexp_slope)
composite("log1mexp",     _log1mexp,                      lambda x, out: -sp.exp(x - out))
composite("xlogy",        _xlogy,                         _xlogy_slope)
composite("cot",          lambda x: 1 / sp.tan(x),        lambda x, out: -(1 + sp.square(out)))
composite("sec",          lambda x: 1 / sp.cos(x),        lambda x, out: out * sp.tan(x))
composite("csc",          lambda x: 1 / sp.sin(x),        lambda x, out: -out / sp.tan(x))
composite("asinh",        _asinh,                         lambda x, out: 1 / sp.hypot(x, 1.0))
composite("acosh",        _acosh,                         lambda x, out: 1 / sp.sinh(out))
composite("atanh",        _atanh,                         lambda x, out: 1 / ((1 - x) * (1 + x)))
composite("clip",         lambda x, a, b: sp.minimum(sp.maximum(x, a), b), _bounds, "number")
composite("relu", lambda x: sp.maximum(x, 0),     lambda x, out: _by(out > 0, out), "number")
composite("relu6",        lambda x: sp.clip(x, 0.0, 6.0), lambda x, out: _within(x, 0, 6))
composite("leaky_relu",   lambda x, a: sp.where(x > 0, x, a * x), _leaky_slope)
composite("elu",          _elu,                           _elu_slope)
composite("selu",         lambda x: _SELU_SCALE * sp.elu(x, _SELU_ALPHA), _selu_slope)
composite("sigmoid",      lambda x: 1 / (1 + sp.exp(-x)), lambda x, out: out * (1 - out))
composite("hard_sigmoid", lambda x: sp.relu6(x + 3) / 6,  lambda x, out: _within(x, -3, 3) / 6)
composite("hard_tanh",    lambda x: sp.clip(x, -1.0, 1.0), lambda x, out: _within(x, -1, 1))
composite("hard_silu",    lambda x: x * sp.hard_sigmoid(x), _hard_silu_slope)
composite("softplus",     _softplus,                      lambda x, out: sp.sigmoid(x))
composite("log_sigmoid",  lambda x: -sp.softplus(-x),     lambda x, out: sp.sigmoid(-x))
composite("softsign",     lambda x: x / (1 + sp.abs(x)),  _softsign_slope)
composite("silu",         lambda x: x * sp.sigmoid(x),    _silu_slope)
composite("mish",         lambda x: x * sp.tanh(sp.softplus(x)), _mish_slope)
composite("gelu",         lambda x: 0.5 * x * (1 + sp.erf(x * sp.sqrt(0.5))), _gelu_slope)
composite("gelu_tanh",    lambda x: 0.5 * x * (1 + _cubic_tanh(x)), _gelu_tanh_slope)
composite("sign",         _sign,                          step, "number")
composite("isnan",        lambda x: sp.not_equal(x, x),   step, "compare")
composite("isinf",        lambda x: sp.equal(sp.abs(x), math.inf), step, "compare")
composite("isfinite",     lambda x: sp.abs(x) < math.inf, step, "compare")
composite("logical_xor",  lambda x, y: sp.not_equal(x, y), step, "bool")
composite("stop_gradient", lambda x: x,                   step, "any")
# fmt: on
