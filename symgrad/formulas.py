"""SymPy expressions as Map nodes.

In: a formula of SymPy and what its symbols stand for. Out: the same as an expression, with the
usual ways to lose a formula's value avoided: `1/(1 + exp(u))` is a sigmoid, `log(1 + exp(u))` a
softplus, `exp(u) - 1` an expm1. Only this module, among those every model uses, imports SymPy, and
it is imported only for a derivative that nobody gave or an op of a user.

>>> import sympy
>>> from symgrad.node import Input
>>> x, t = Input("x", (3,)), sympy.Symbol("t", real=True)
>>> convert(1 / (1 + sympy.exp(-t)), {t: x}).op
'sigmoid'
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import sympy

from symgrad import source
from symgrad.errors import GraphError
from symgrad.node import Constant, Expr
from symgrad.scalar import sp

# SymPy's functions that are one op of the table.
_DIRECT: dict[Any, str] = {
    sympy.exp: "exp",
    sympy.sin: "sin",
    sympy.cos: "cos",
    sympy.tan: "tan",
    sympy.cot: "cot",
    sympy.sec: "sec",
    sympy.csc: "csc",
    sympy.asin: "asin",
    sympy.acos: "acos",
    sympy.atan: "atan",
    sympy.atan2: "atan2",
    sympy.sinh: "sinh",
    sympy.cosh: "cosh",
    sympy.tanh: "tanh",
    sympy.asinh: "asinh",
    sympy.acosh: "acosh",
    sympy.atanh: "atanh",
    sympy.erf: "erf",
    sympy.Abs: "abs",
    sympy.sign: "sign",
    sympy.floor: "floor",
    sympy.ceiling: "ceil",
    sympy.Mod: "mod",
    sympy.StrictLessThan: "less",
    sympy.LessThan: "less_equal",
    sympy.StrictGreaterThan: "greater",
    sympy.GreaterThan: "greater_equal",
    sympy.Equality: "equal",
    sympy.Unequality: "not_equal",
    sympy.Not: "logical_not",
}
# Those of several arguments, taken two at a time.
_FOLDED: dict[Any, str] = {
    sympy.Max: "maximum",
    sympy.Min: "minimum",
    sympy.And: "logical_and",
    sympy.Or: "logical_or",
    sympy.Xor: "logical_xor",
}
_DERIVED: dict[Any, Callable[[Any], Any]] = {
    sympy.Heaviside: lambda x: sp.where(x > 0, 1.0, 0.0),  # 0 at 0, as PyTorch's relu
    sympy.DiracDelta: lambda x: 0.0,
    sympy.erfc: lambda x: 1 - sp.erf(x),
    sympy.sech: lambda x: 1 / sp.cosh(x),
    sympy.csch: lambda x: 1 / sp.sinh(x),
    sympy.coth: lambda x: 1 / sp.tanh(x),
    sympy.acot: lambda x: sp.atan(1 / x),
    sympy.sinc: lambda x: sp.where(
        sp.equal(x, 0.0), 1.0, sp.sin(x) / sp.where(sp.equal(x, 0.0), 1.0, x)
    ),
    sympy.re: lambda x: x,
    sympy.conjugate: lambda x: x,
    sympy.im: lambda x: 0.0,
}


def convert(expr: Any, args: dict[Any, Expr]) -> Expr:
    """The expression; its dtype is that of the arguments."""
    dtype = next(iter(args.values())).dtype
    known: dict[Any, Any] = dict(args)

    def visit(e: Any) -> Any:
        if e not in known:
            known[e] = _node(e, visit)
        return known[e]

    result = visit(sympy.sympify(expr))
    return result if isinstance(result, Expr) else Constant.of(result, dtype)


def derivative(expr: Any, symbol: Any) -> Any:
    """SymPy's derivative. What it knows none of is written as steps, which `convert` takes as
    constant: x mod y is x - y floor(x / y)."""
    plain = expr.replace(sympy.Mod, lambda x, y: x - y * sympy.floor(x / y))
    return sympy.diff(plain, symbol)


def _node(e: Any, visit: Callable[[Any], Any]) -> Any:
    """One step of the conversion: a number as a Python number, anything else as Map nodes."""
    if e.is_number and not e.has(sympy.nan, sympy.zoo) and e.is_extended_real:
        return float(e)
    if e in (sympy.true, sympy.false):
        return bool(e)
    if isinstance(e, sympy.Add):
        return _sum(e, visit)
    if isinstance(e, sympy.Mul):
        return _product(e, visit)
    if isinstance(e, sympy.Pow):
        if _logistic(e):
            return reduce(operator.mul, _logistics([e], visit))
        return _power(visit(e.base), e.exp, visit)
    if isinstance(e, sympy.log):
        return _logarithm(e.args[0], visit)
    if isinstance(e, sympy.Piecewise):
        return _piecewise(e, visit)
    if isinstance(e, (sympy.Derivative, sympy.Subs)):
        return _of_steps(e)
    if e.func in _FOLDED:
        return reduce(lambda a, b: _call(_FOLDED[e.func], a, b), map(visit, e.args))
    if e.func in _DIRECT:
        return _call(_DIRECT[e.func], *map(visit, e.args))
    if e.func in _DERIVED:
        return _DERIVED[e.func](visit(e.args[0]))
    raise GraphError(
        f"elementwise: the SymPy function {getattr(e.func, '__name__', e)!r} in {e} has no "
        "compiled form" + source.quote(source.here())
    )


def _call(name: str, *args: Any) -> Any:
    return getattr(sp, name)(*args)


def _logarithm(inner: Any, visit: Callable[[Any], Any]) -> Any:
    """log(1 + exp(u)) is a softplus, log(1 + u) a log1p."""
    u = _one_plus_exp(inner)
    if u is not None:
        return _call("softplus", visit(u))
    if isinstance(inner, sympy.Add) and sympy.S.One in inner.args:
        return _call("log1p", visit(inner - 1))
    return _call("log", visit(inner))


def _of_steps(e: Any) -> Any:
    """What SymPy leaves of the derivative of floor, ceiling and sign: zero almost everywhere."""
    inner = e.expr if isinstance(e, sympy.Derivative) else e.args[0]
    if isinstance(inner, sympy.Derivative):
        inner = inner.expr
    if inner.func in (sympy.floor, sympy.ceiling, sympy.sign, sympy.Heaviside):
        return 0.0
    raise GraphError(
        f"elementwise: SymPy finds no derivative, only {e}" + source.quote(source.here())
    )


def _sum(e: Any, visit: Callable[[Any], Any]) -> Any:
    """Terms with a minus sign are subtracted, numbers come last, exp(u) - 1 is expm1(u)."""
    terms = list(e.as_ordered_terms())
    exponentials = [t for t in terms if isinstance(t, sympy.exp)]
    result: Any = None
    if -1 in terms and exponentials:
        terms.remove(sympy.S.NegativeOne)
        terms.remove(exponentials[0])
        result = _call("expm1", visit(exponentials[0].args[0]))
    terms.sort(key=lambda t: (t.is_number, t.could_extract_minus_sign()))
    for t in terms:
        negative = t.could_extract_minus_sign()
        value = visit(-t if negative else t)
        if result is None:
            result = -value if negative else value
        else:
            result = result - value if negative else result + value
    return result


def _one_plus_exp(e: Any) -> Any:
    """u where e is 1 + exp(u), else None."""
    if isinstance(e, sympy.Add) and len(e.args) == 2 and sympy.S.One in e.args:
        other = next(a for a in e.args if a != 1)
        if isinstance(other, sympy.exp):
            return other.args[0]
    return None


def _logistic(e: Any) -> bool:
    """Whether e is (1 + exp(u)) to a negative whole power."""
    return (
        isinstance(e, sympy.Pow)
        and e.exp.is_Integer
        and e.exp < 0
        and (_one_plus_exp(e.base) is not None)
    )


def _logistics(factors: list[Any], visit: Callable[[Any], Any]) -> list[Any]:
    """Factors (1 + exp(u))^-k as sigmoids of -u. With exp(m u) beside them m are sigmoids of u, so
    that nothing overflows into inf / inf."""
    values: list[Any] = []
    rest = [f for f in factors if not _logistic(f)]
    for f in factors:
        if not _logistic(f):
            continue
        u, count = _one_plus_exp(f.base), -int(f.exp)
        for r in [r for r in rest if isinstance(r, sympy.exp)]:
            times = r.args[0] / u
            if times.is_Integer and 0 < times <= count:
                rest.remove(r)
                values += [_call("sigmoid", visit(u))] * int(times)
                count -= int(times)
        values += [_call("sigmoid", visit(-u))] * count
    return [visit(r) for r in rest] + values


def _product(e: Any, visit: Callable[[Any], Any]) -> Any:
    """Factors with a negative exponent go below one fraction line; the number comes first."""
    number, rest = e.as_coeff_Mul()
    factors = list(rest.args) if isinstance(rest, sympy.Mul) else [rest]
    with_logistic = [f for f in factors if _logistic(f) or isinstance(f, sympy.exp)]
    if not any(map(_logistic, factors)):
        with_logistic = []
    others = [f for f in factors if f not in with_logistic]
    above = [visit(f) for f in others if not _below(f)] + _logistics(with_logistic, visit)
    below: list[Any] = [visit(1 / f) for f in others if _below(f)]
    scale = float(number)
    if not above:
        under: Any = reduce(operator.mul, below)
        return scale / under
    value: Any = reduce(operator.mul, above)
    if below:
        value = value / reduce(operator.mul, below)
    if scale == 1.0:
        return value
    return -value if scale == -1.0 else scale * value


def _below(f: Any) -> bool:
    return isinstance(f, sympy.Pow) and f.exp.is_number and bool(f.exp < 0)


def _power(base: Any, exponent: Any, visit: Callable[[Any], Any]) -> Any:
    """Whole and half exponents without a general power."""
    if exponent.is_number and (2 * exponent).is_Integer and abs(exponent) <= 16:
        whole, half = divmod(int(2 * abs(exponent)), 2)
        factors = [_whole(base, whole)] if whole else []
        value: Any = reduce(operator.mul, factors + ([_call("sqrt", base)] if half else []))
        return value if exponent > 0 else 1 / value
    return _call("pow", base, visit(exponent))


def _whole(base: Any, n: int) -> Any:
    """By squaring."""
    if n == 1:
        return base
    half = _call("square", _whole(base, n // 2))
    return half * base if n % 2 else half


def _piecewise(e: Any, visit: Callable[[Any], Any]) -> Any:
    """The branches from the last to the first; where no condition holds, NaN."""
    result: Any = float("nan")
    for value, condition in reversed(e.args):
        if condition == sympy.true:
            result = visit(value)
        else:
            result = _call("where", visit(condition), visit(value), result)
    return result
