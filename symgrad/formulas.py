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
        return _power(visit(e.base), e.exp, visit) if not _logistic(e) else _logistics([e], visit)
    if isinstance(e, sympy.log):
        inner = _one_plus_exp(e.args[0])
        if inner is not None:
            return _call("softplus", visit(inner))
        rest = e.args[0] - 1
        if (
            isinstance(e.args[0], sympy.Add)
            and not rest.is_number
            and len(rest.args) < len(e.args[0].args)
        ):
            return _call("log1p", visit(rest))
        return _call("log", visit(e.args[0]))
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


def _logistics(factors: list[Any], visit: Callable[[Any], Any]) -> Any:
    """A product with factors (1 + exp(u))^-k: sigmoids of -u, and exp(u) with one of them is the
    sigmoid of u, so that nothing overflows into inf / inf."""
    values: list[Any] = []
    rest = [f for f in factors if not _logistic(f)]
    for f in factors:
        if not _logistic(f):
            continue
        u, count = _one_plus_exp(f.base), -int(f.exp)
        falling, rising = _call("sigmoid", visit(-u)), _call("sigmoid", visit(u))
        while count and sympy.exp(u) in rest:
            rest.remove(sympy.exp(u))
            values.append(rising)
            count -= 1
        # exp(m u) with m of the factors, as exp(2u) / (1 + exp(u))^2
        for r in [r for r in rest if isinstance(r, sympy.exp)]:
            times = sympy.simplify(r.args[0] / u)
            if times.is_Integer and 0 < times <= count:
                rest.remove(r)
                values += [rising] * int(times)
                count -= int(times)
        values += [falling] * count
    values = [visit(r) for r in rest] + values
    return reduce(lambda a, b: a * b, values)


def _product(e: Any, visit: Callable[[Any], Any]) -> Any:
    """Factors with a negative exponent go below one fraction line; the number comes first."""
    number, rest = e.as_coeff_Mul()
    factors = list(rest.args) if isinstance(rest, sympy.Mul) else [rest]
    if any(_logistic(f) for f in factors):
        with_logistic = [f for f in factors if _logistic(f) or isinstance(f, sympy.exp)]
        above = [visit(f) for f in factors if f not in with_logistic and not _below(f)]
        above.append(_logistics(with_logistic, visit))
        below = [f for f in factors if f not in with_logistic and _below(f)]
    else:
        above = [visit(f) for f in factors if not _below(f)]
        below = [f for f in factors if _below(f)]
    value = reduce(lambda a, b: a * b, above) if above else None
    scale = float(number)
    if below:
        under = reduce(lambda a, b: a * b, [visit(1 / f) for f in below])
        if value is None:
            return scale / under
        value = value / under
    if scale == 1.0:
        return value
    return -value if scale == -1.0 else scale * value


def _below(f: Any) -> bool:
    return isinstance(f, sympy.Pow) and f.exp.is_number and bool(f.exp < 0)


def _power(base: Any, exponent: Any, visit: Callable[[Any], Any]) -> Any:
    """Whole and half exponents without a general power."""
    if exponent.is_number and (2 * exponent).is_Integer and abs(exponent) <= 16:
        twice = int(2 * abs(exponent))
        value = _whole(base, twice // 2) if twice > 1 else None
        if twice % 2:
            root = _call("sqrt", base)
            value = root if value is None else value * root
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
