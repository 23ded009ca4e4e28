"""The op table: every scalar function, one line each.

In: a line with name, dtype rule, NumPy meaning or body, and derivative. Out: `OPS[name]`, from
which the graph takes the dtype rule, differentiation the partials, the compiler the body, the
interpreter the NumPy meaning, and the tests their cases.

A *primitive* has an instruction or a polynomial in codegen. A *composite* has a body in terms of
others, a lambda over `sp`, which serves whatever it is called with: expressions give Map nodes,
SymPy objects give SymPy. Derivatives are lambdas of the arguments and the result; where none is
given SymPy finds it from the body, and only then is SymPy imported.

>>> from symgrad.node import Input
>>> x = Input("x", (3,))
>>> OPS["tanh"].result_dtype("tanh", ["float32"])
'float32'
>>> OPS["sigmoid"].expand(x).op
'div'
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from symgrad import dtypes, source
from symgrad.errors import DTypeError, GraphError

if TYPE_CHECKING:
    from symgrad.node import Expr

NUMBERS = ("int32", "int64", "float32", "float64")
FLOATS = ("float32", "float64")
# Which dtypes an argument may have. All arguments share one dtype, which is the result's too, but
# for the last three rules.
RULES: dict[str, tuple[str, ...]] = {
    "float": FLOATS,
    "number": NUMBERS,
    "any": dtypes.ORDER,
    "bool": ("bool",),
    "compare": dtypes.ORDER,  # (T, T) -> bool
    "where": dtypes.ORDER,  # (bool, T, T) -> T
    "cast": dtypes.ORDER,  # T -> what the name says
}


@dataclass(frozen=True, eq=False)
class ScalarOp:
    """A line of the table."""

    name: str
    arity: int
    primitive: bool
    rule: str
    numpy: Callable[..., Any] | None = None  # of primitives; the interpreter expands the others
    body: Callable[..., Any] | None = None
    derivative: Callable[..., Any] | None = None
    differentiable: bool = True
    user: Formula | None = None  # the SymPy body of a user's op

    def result_dtype(self, op: str, given: Sequence[str]) -> str:
        """The dtype of the result; DTypeError names the op and the user's line."""
        allowed = RULES[self.rule]
        checked = list(given[1:] if self.rule == "where" else given)
        wrong = self.rule == "where" and given[0] != "bool"
        if wrong or len(set(checked)) != 1 or checked[0] not in allowed:
            takes = f"arguments of one dtype among {', '.join(allowed)}"
            if self.rule == "where":
                takes = "a bool condition and two values of one dtype"
            raise DTypeError(
                f"{op}: takes {takes}, got {', '.join(given)}" + source.quote(source.here())
            )
        if self.rule == "cast":
            return self.name.removeprefix("to_")
        return "bool" if self.rule == "compare" else checked[0]

    def expand(self, *args: Expr) -> Expr:
        """The body on these arguments, down to primitives (a primitive is its own node)."""
        from symgrad.node import Map

        if self.body is None:
            return Map.of(self.name, *args)
        result = self.user.apply(args) if self.user else lift(self.body(*args), args)
        return _down_to_primitives(result, args)

    def partials(self, args: Sequence[Expr], out: Expr) -> tuple[Expr | None, ...]:
        """d out / d arg for every argument, elementwise; None where it is zero or undefined.

        A partial has the shape of the result or is 0-d, and the result's dtype.
        """
        none = (None,) * self.arity
        if not self.differentiable or not dtypes.is_float(out.dtype):
            return none
        if not any(dtypes.is_float(a.dtype) for a in args):
            return none
        with source.at(out.where):
            if self.user is not None:
                found = self.user.partials(args, out)
            elif self.derivative is not None:
                found = self.derivative(*args, out)
            else:
                found = Formula.of(self).partials(args, out)
            if self.arity == 1 and not isinstance(found, tuple):
                found = (found,)
            return tuple(
                lift(d, (out,)) if d is not None and dtypes.is_float(a.dtype) else None
                for d, a in zip(found, args)
            )

    def sympy(self, *args: Any) -> Any:
        """The function on SymPy arguments."""
        if self.user is not None:
            return self.user.expr.subs(dict(zip(self.user.symbols, args)), simultaneous=True)
        if self.body is None:
            import sympy

            with exact():
                return _in_sympy(sympy, self.name)(*args)
        with exact():
            return self.body(*args)


OPS: dict[str, ScalarOp] = {}


def lift(value: Any, like: Sequence[Expr]) -> Expr:
    """A number as a constant of the dtype of the last of `like`; an expression as it is."""
    from symgrad.node import Constant, Expr

    return value if isinstance(value, Expr) else Constant.of(value, like[-1].dtype)


def _down_to_primitives(root: Expr, stop: Sequence[Expr]) -> Expr:
    """Composite Map nodes above `stop` replaced by their bodies."""
    from symgrad.node import Map

    known: dict[Expr, Expr] = {a: a for a in stop}

    def visit(e: Expr) -> Expr:
        if e not in known:
            args = tuple(visit(a) for a in e.args)
            if isinstance(e, Map) and not OPS[e.op].primitive:
                known[e] = OPS[e.op].expand(*args)
            else:
                known[e] = e.with_args(args)
        return known[e]

    return visit(root)


# -- `sp`: what bodies are written in ---------------------------------------------------------

_exact = 0  # while positive, numbers and constants in bodies are SymPy's


class exact:  # noqa: N801 - a context manager
    """Inside, `sp.sqrt(2)` and `sp.pi` are SymPy's exact numbers."""

    def __enter__(self) -> None:
        global _exact
        _exact += 1

    def __exit__(self, *_: object) -> None:
        global _exact
        _exact -= 1


def is_sympy(value: Any) -> bool:
    """Whether a value is SymPy's, without importing SymPy."""
    return any(c.__module__.startswith("sympy.") for c in type(value).__mro__[:-1])


class _Functions:
    """The names of the table as functions of expressions, of SymPy objects and of numbers."""

    def __getattr__(self, name: str) -> Any:
        if name == "pi":
            if not _exact:
                return math.pi
            import sympy

            return sympy.pi
        if name not in OPS:
            raise AttributeError(f"the op table has no {name!r}")

        def function(*args: Any) -> Any:
            from symgrad.node import Expr

            op = OPS[name]
            if any(isinstance(a, Expr) for a in args):
                from symgrad.ops.core import apply

                return apply(name, *args)
            if _exact or any(is_sympy(a) for a in args):
                return op.sympy(*args)
            if op.numpy is None:
                assert op.body is not None
                return op.body(*args)
            return float(op.numpy(*args))

        return function


sp = _Functions()


def _in_sympy(sympy: Any, name: str) -> Callable[..., Any]:
    """A primitive as a function of SymPy objects."""
    special: dict[str, Callable[..., Any]] = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
        "neg": lambda x: -x,
        "abs": sympy.Abs,
        "minimum": sympy.Min,
        "maximum": sympy.Max,
        "ceil": sympy.ceiling,
        "round": lambda x: sympy.Function("round")(x),
        "trunc": lambda x: sympy.sign(x) * sympy.floor(sympy.Abs(x)),
        "floor_divide": lambda x, y: sympy.floor(x / y),
        "mod": sympy.Mod,
        "pow": sympy.Pow,
        "expm1": lambda x: sympy.exp(x) - 1,
        "log1p": lambda x: sympy.log(1 + x),
        "less": sympy.Lt,
        "less_equal": sympy.Le,
        "greater": sympy.Gt,
        "greater_equal": sympy.Ge,
        "equal": sympy.Eq,
        "not_equal": sympy.Ne,
        "logical_and": sympy.And,
        "logical_or": sympy.Or,
        "logical_not": sympy.Not,
        "where": lambda c, a, b: sympy.Piecewise((a, c), (b, True)),
    }
    if name.startswith("to_"):
        return lambda x: x
    return special.get(name) or getattr(sympy, name)  # type: ignore[no-any-return]


# -- NumPy meanings that are not one function ---------------------------------------------------


def _erf(x: Any) -> Any:
    return np.frompyfunc(math.erf, 1, 1)(np.asarray(x)).astype(np.asarray(x).dtype)


def _cast(dtype: str) -> Callable[..., Any]:
    def cast(x: Any) -> Any:
        x = np.asarray(x)
        if x.dtype.kind != "f" or not dtypes.is_integer(dtype):
            return x.astype(dtype)
        # Toward zero; NaN and what does not fit give the most negative integer.
        low = np.iinfo(dtype).min
        fits = (x >= float(low)) & (x < -float(low))
        return np.where(fits, np.where(fits, x, 0).astype(dtype), low).astype(dtype)

    return cast


# -- the table ----------------------------------------------------------------------------------


def _arity(function: Callable[..., Any]) -> int:
    if isinstance(function, np.ufunc):
        return function.nin
    found = inspect.signature(function).parameters.values()
    return sum(p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD for p in found)


def primitive(
    name: str, rule: str, numpy: Callable[..., Any], derivative: Callable[..., Any] | None = None
) -> None:
    """Declare an op that codegen knows; without a derivative it has none (steps, comparisons)."""
    arity = 3 if name == "where" else _arity(numpy)
    OPS[name] = ScalarOp(
        name, arity, True, rule, numpy, None, derivative, differentiable=derivative is not None
    )


def composite(
    name: str,
    body: Callable[..., Any],
    derivative: Callable[..., Any] | None = None,
    rule: str = "float",
    differentiable: bool = True,
) -> None:
    """Declare an op by its body over `sp`."""
    OPS[name] = ScalarOp(
        name, _arity(body), False, rule, None, body, derivative, differentiable=differentiable
    )


def _share(x: Any, y: Any) -> Any:
    """d max(x, y) / dx: 1, 0, and one half on a tie, as in PyTorch and JAX."""
    return sp.where(x > y, 1.0, sp.where(sp.equal(x, y), 0.5, 0.0))


def _by(condition: Any, out: Any) -> Any:
    """1 where the condition holds, 0 elsewhere."""
    return sp.where(condition, lift(1, (out,)), lift(0, (out,)))


def _pow_partials(x: Any, y: Any, out: Any) -> Any:
    base = sp.where(sp.equal(y, 0.0), 0.0, y * sp.pow(x, y - 1))
    return base, sp.where(sp.equal(x, 0.0), 0.0, out * sp.log(x))


# fmt: off
#          name             dtypes     NumPy             derivatives, of (x, out) or (x, y, out)
primitive("add",           "number",  np.add,           lambda x, y, out: (1, 1))
primitive("sub",           "number",  np.subtract,      lambda x, y, out: (1, -1))
primitive("mul",           "number",  np.multiply,      lambda x, y, out: (y, x))
primitive("div",           "float",   np.divide,        lambda x, y, out: (1 / y, -out / y))
primitive("neg",           "number",  np.negative,      lambda x, out: -1)
primitive("abs",           "number",  np.abs,           lambda x, out: sp.sign(x))
primitive("sqrt",          "float",   np.sqrt,          lambda x, out: 0.5 / out)
primitive("minimum",       "any",     np.minimum,       lambda x, y, out: (_share(y, x), _share(x, y)))
primitive("maximum",       "any",     np.maximum,       lambda x, y, out: (_share(x, y), _share(y, x)))
primitive("floor",         "float",   np.floor)
primitive("ceil",          "float",   np.ceil)
primitive("round",         "float",   np.rint)  # half to even
primitive("trunc",         "float",   np.trunc)
primitive("floor_divide",  "number",  np.floor_divide)
primitive("mod",           "number",  np.mod,           lambda x, y, out: (1, -sp.floor_divide(x, y)))
primitive("pow",           "float",   np.power,         _pow_partials)
primitive("exp",           "float",   np.exp,           lambda x, out: out)
primitive("expm1",         "float",   np.expm1,         lambda x, out: out + 1)
primitive("log",           "float",   np.log,           lambda x, out: 1 / x)
primitive("log1p",         "float",   np.log1p,         lambda x, out: 1 / (1 + x))
primitive("sin",           "float",   np.sin,           lambda x, out: sp.cos(x))
primitive("cos",           "float",   np.cos,           lambda x, out: -sp.sin(x))
primitive("tan",           "float",   np.tan,           lambda x, out: 1 + sp.square(out))
primitive("asin",          "float",   np.arcsin,        lambda x, out: 1 / sp.sqrt((1 - x) * (1 + x)))
primitive("acos",          "float",   np.arccos,        lambda x, out: -1 / sp.sqrt((1 - x) * (1 + x)))
primitive("atan",          "float",   np.arctan,        lambda x, out: 1 / (1 + sp.square(x)))
primitive("atan2",         "float",   np.arctan2,       lambda y, x, out: _angle(y, x))
primitive("sinh",          "float",   np.sinh,          lambda x, out: sp.cosh(x))
primitive("cosh",          "float",   np.cosh,          lambda x, out: sp.sinh(x))
primitive("tanh",          "float",   np.tanh,          lambda x, out: 1 - sp.square(out))
primitive("erf",           "float",   _erf,             lambda x, out: 2 / math.sqrt(math.pi) * sp.exp(-sp.square(x)))
primitive("less",          "compare", np.less)
primitive("less_equal",    "compare", np.less_equal)
primitive("greater",       "compare", np.greater)
primitive("greater_equal", "compare", np.greater_equal)
primitive("equal",         "compare", np.equal)
primitive("not_equal",     "compare", np.not_equal)
primitive("logical_and",   "bool",    np.logical_and)
primitive("logical_or",    "bool",    np.logical_or)
primitive("logical_not",   "bool",    np.logical_not)
primitive("where",         "where",   np.where,         lambda c, x, y, out: (None, _by(c, out), _by(~c, out)))
primitive("to_float32",    "cast",    _cast("float32"), lambda x, out: 1)
primitive("to_float64",    "cast",    _cast("float64"), lambda x, out: 1)
primitive("to_int32",      "cast",    _cast("int32"))
primitive("to_int64",      "cast",    _cast("int64"))
primitive("to_bool",       "cast",    _cast("bool"))


def _angle(y: Any, x: Any) -> Any:
    """d atan2(y, x): divided twice by the radius, whose square may overflow."""
    r = sp.hypot(x, y)
    return x / r / r, -y / r / r


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017
_CUBIC = 0.044715  # of the tanh form of GELU, Hendrycks and Gimpel 2016
_LN2, _LN10 = math.log(2.0), math.log(10.0)


def _gelu_slope(x: Any, out: Any) -> Any:
    """The normal distribution's integral, plus x times its density."""
    density = sp.exp(-0.5 * sp.square(x)) * (1 / math.sqrt(2 * math.pi))
    return 0.5 * (1 + sp.erf(x * math.sqrt(0.5))) + x * density


def _gelu_tanh(x: Any) -> Any:
    return sp.tanh(sp.sqrt(2 / sp.pi) * (x + _CUBIC * x * sp.square(x)))


def _gelu_tanh_slope(x: Any, out: Any) -> Any:
    t = _gelu_tanh(x)
    inner = math.sqrt(2 / math.pi) * (1 + 3 * _CUBIC * sp.square(x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - sp.square(t)) * inner


def _mish_slope(x: Any, out: Any) -> Any:
    t = sp.tanh(sp.softplus(x))
    return t + x * (1 - sp.square(t)) * sp.sigmoid(x)


def _hypot(x: Any, y: Any) -> Any:
    """Scaled, so that no square over- or underflows; 0 and infinity scale by 1."""
    size = sp.maximum(sp.abs(x), sp.abs(y))
    usual = (size > 0.0) & (size < math.inf)
    s = sp.where(usual, size, 1.0)
    return s * sp.sqrt(sp.square(x / s) + sp.square(y / s))


def _logaddexp(x: Any, y: Any) -> Any:
    """On equal arguments x - y may be inf - inf."""
    return sp.where(sp.equal(x, y), x + _LN2, sp.maximum(x, y) + sp.log1p(sp.exp(-sp.abs(x - y))))


def _log1mexp(x: Any) -> Any:
    """log(1 - exp(x)) for x < 0; Maechler 2012 shows -log 2 to be the place to switch."""
    return sp.where(x > -_LN2, sp.log(-sp.expm1(x)), sp.log1p(-sp.exp(sp.minimum(x, -_LN2))))


def _inside(x: Any, low: Any, high: Any, out: Any) -> Any:
    """The derivatives of clip: at a bound itself the value still moves with x, as in PyTorch."""
    return _by((x >= low) & (x <= high), out), _by(x < low, out), _by(x > high, out)


#          name            body                                               derivative
composite("square",       lambda x: x * x,                                   lambda x, out: 2 * x, rule="number")
composite("reciprocal",   lambda x: 1 / x,                                   lambda x, out: -sp.square(out))
composite("rsqrt",        lambda x: 1 / sp.sqrt(x),                          lambda x, out: -0.5 * out / x)
composite("sign",         lambda x: sp.where(x > 0, 1, sp.where(x < 0, -1, x)), rule="number", differentiable=False)
composite("clip",         lambda x, low, high: sp.minimum(sp.maximum(x, low), high), _inside, rule="number")
composite("relu",         lambda x: sp.maximum(x, 0),                        lambda x, out: _by(x > 0, out), rule="number")
composite("relu6",        lambda x: sp.minimum(sp.maximum(x, 0.0), 6.0),     lambda x, out: _by((x > 0) & (x < 6), out))
composite("leaky_relu",   lambda x, slope: sp.where(x > 0, x, slope * x),    lambda x, a, out: (sp.where(x > 0, 1.0, a), sp.where(x > 0, 0.0, x)))
composite("elu",          lambda x, a: sp.where(x > 0, x, a * sp.expm1(sp.minimum(x, 0.0))),
          lambda x, a, out: (sp.where(x > 0, 1.0, a * sp.exp(sp.minimum(x, 0.0))), sp.expm1(sp.minimum(x, 0.0))))
composite("selu",         lambda x: _SELU_SCALE * sp.elu(x, _SELU_ALPHA),    lambda x, out: _SELU_SCALE * sp.where(x > 0, 1.0, _SELU_ALPHA * sp.exp(sp.minimum(x, 0.0))))
composite("sigmoid",      lambda x: 1 / (1 + sp.exp(-x)),                    lambda x, out: out * (1 - out))
composite("hard_sigmoid", lambda x: sp.clip(x / 6 + 0.5, 0.0, 1.0),          lambda x, out: sp.where((x > -3) & (x < 3), 1 / 6, 0.0))
composite("hard_tanh",    lambda x: sp.clip(x, -1.0, 1.0),                   lambda x, out: _by((x > -1) & (x < 1), out))
composite("hard_silu",    lambda x: x * sp.hard_sigmoid(x),                  lambda x, out: sp.where(x < -3, 0.0, sp.where(x <= 3, x / 3 + 0.5, 1.0)))
composite("softplus",     lambda x: sp.maximum(x, 0.0) + sp.log1p(sp.exp(-sp.abs(x))), lambda x, out: sp.sigmoid(x))
composite("log_sigmoid",  lambda x: -sp.softplus(-x),                        lambda x, out: sp.sigmoid(-x))
composite("softsign",     lambda x: x / (1 + sp.abs(x)),                     lambda x, out: 1 / sp.square(1 + sp.abs(x)))
composite("silu",         lambda x: x * sp.sigmoid(x),                       lambda x, out: sp.sigmoid(x) * (1 + x * (1 - sp.sigmoid(x))))
composite("mish",         lambda x: x * sp.tanh(sp.softplus(x)),             _mish_slope)
composite("gelu",         lambda x: 0.5 * x * (1 + sp.erf(x * sp.sqrt(0.5))), _gelu_slope)
composite("gelu_tanh",    lambda x: 0.5 * x * (1 + _gelu_tanh(x)),           _gelu_tanh_slope)
composite("logaddexp",    _logaddexp,                                        lambda x, y, out: (sp.sigmoid(x - y), sp.sigmoid(y - x)))
composite("log1mexp",     _log1mexp,                                         lambda x, out: -1 / sp.expm1(-x))
composite("xlogy",        lambda x, y: sp.where(sp.equal(x, 0.0), 0.0, x * sp.log(y)), lambda x, y, out: (sp.log(y), sp.where(sp.equal(x, 0.0), 0.0, x / y)))
composite("hypot",        _hypot,                                            lambda x, y, out: (x / sp.where(out > 0, out, 1.0), y / sp.where(out > 0, out, 1.0)))
composite("sqrt_or_zero", lambda x: sp.sqrt(x),                              lambda x, out: sp.where(x > 0, 0.5 / sp.where(x > 0, out, 1.0), 0.0))
composite("exp2",         lambda x: sp.exp(x * _LN2),                        lambda x, out: out * _LN2)
composite("log2",         lambda x: sp.log(x) * (1 / _LN2),                  lambda x, out: (1 / _LN2) / x)
composite("log10",        lambda x: sp.log(x) * (1 / _LN10),                 lambda x, out: (1 / _LN10) / x)
composite("cot",          lambda x: 1 / sp.tan(x),                           lambda x, out: -(1 + sp.square(out)))
composite("sec",          lambda x: 1 / sp.cos(x),                           lambda x, out: out * sp.tan(x))
composite("csc",          lambda x: 1 / sp.sin(x),                           lambda x, out: -out / sp.tan(x))
composite("asinh",        lambda x: sp.sign(x) * sp.log1p(sp.abs(x) + sp.square(x) / (1 + sp.hypot(x, 1.0))), lambda x, out: 1 / sp.hypot(x, 1.0))
composite("acosh",        lambda x: sp.log(x + sp.sqrt(x - 1) * sp.sqrt(x + 1)), lambda x, out: 1 / (sp.sqrt(x - 1) * sp.sqrt(x + 1)))
composite("atanh",        lambda x: 0.5 * sp.log1p(2 * x / (1 - x)),         lambda x, out: 1 / ((1 - x) * (1 + x)))
composite("isnan",        lambda x: sp.not_equal(x, x),                      rule="compare", differentiable=False)
composite("isinf",        lambda x: sp.equal(sp.abs(x), math.inf),           rule="compare", differentiable=False)
composite("isfinite",     lambda x: sp.abs(x) < math.inf,                    rule="compare", differentiable=False)
composite("logical_xor",  lambda x, y: sp.not_equal(x, y),                   rule="bool", differentiable=False)
composite("stop_gradient", lambda x: x,                                      rule="any", differentiable=False)
# fmt: on


# -- ops of users, and derivatives nobody gave -------------------------------------------------


@dataclass(frozen=True, eq=False)
class Formula:
    """A body and its derivatives as SymPy expressions."""

    symbols: tuple[Any, ...]
    result: Any  # the symbol of the op's value, which a given derivative may use
    expr: Any
    derivatives: tuple[Any, ...]

    @staticmethod
    def of(op: ScalarOp) -> Formula:
        """The formula of a built-in op, its derivatives found by SymPy; kept."""
        if op.name not in _formulas:
            import sympy

            symbols = sympy.symbols(f"x:{op.arity}", real=True)
            with exact():
                expr = sympy.sympify(op.sympy(*symbols))
            found = tuple(sympy.diff(expr, s) for s in symbols)
            _formulas[op.name] = Formula(symbols, sympy.Symbol("out", real=True), expr, found)
        return _formulas[op.name]

    def apply(self, args: Sequence[Expr]) -> Expr:
        return from_sympy(self.expr, dict(zip(self.symbols, args)))

    def partials(self, args: Sequence[Expr], out: Expr) -> tuple[Expr, ...]:
        given = {**dict(zip(self.symbols, args)), self.result: out}
        return tuple(from_sympy(d, given) for d in self.derivatives)

    def same(self, other: Formula) -> bool:
        return self.expr == other.expr and self.derivatives == other.derivatives  # type: ignore


_formulas: dict[str, Formula] = {}


def from_sympy(expr: Any, args: dict[Any, Expr]) -> Expr:
    """A SymPy expression as Map nodes; `args` says what each of its symbols stands for."""
    from symgrad.formulas import convert

    return convert(expr, args)


def elementwise(
    name: str, body: Callable[..., Any], derivative: Callable[..., Any] | None = None
) -> Callable[..., Expr]:
    """Declare an op of one's own from a formula, and return it as a function of expressions.

    `body` is called with real SymPy symbols, one for each argument. `derivative`, if given, takes
    the same symbols, and the op's value behind them if it has one parameter more, and returns the
    derivative, a tuple of them when there are several arguments. Otherwise SymPy finds it. The op
    broadcasts, is compiled into vector code, and is differentiable as often as wanted.

    Raises GraphError when the name is taken by another op or the body is no formula.

    >>> import sympy
    >>> from symgrad.node import Input
    >>> swish = elementwise("swish", lambda x: x / (1 + sympy.exp(-x)))
    >>> swish(Input("x", (2, 3))).shape
    (2, 3)
    """
    import sympy

    at = source.quote(source.here())
    if not isinstance(name, str) or not name.isidentifier():
        raise GraphError(f"elementwise: the name must be an identifier, got {name!r}{at}")
    arity = _arity(body)
    if arity == 0:
        raise GraphError(f"elementwise {name!r}: the body takes no argument{at}")
    symbols = tuple(sympy.symbols(f"x:{arity}", real=True))
    result = sympy.Symbol("out", real=True)
    formula = Formula(symbols, result, _formula(name, "body", at, body, symbols, symbols)[0], ())
    if derivative is None:
        derivatives = tuple(sympy.diff(formula.expr, s) for s in symbols)
    else:
        given = symbols + (result,) if _arity(derivative) > arity else symbols
        derivatives = _formula(name, "derivative", at, derivative, given, (*symbols, result))
        if len(derivatives) != arity:
            raise GraphError(
                f"elementwise {name!r}: {len(derivatives)} derivatives for {arity} arguments{at}"
            )
    formula = Formula(symbols, result, formula.expr, derivatives)
    known = OPS.get(name)
    if known is not None and (known.user is None or not known.user.same(formula)):
        what = "a built-in op" if known.user is None else "another op declared before"
        raise GraphError(f"elementwise: the name {name!r} is taken by {what}{at}")
    if known is None:
        OPS[name] = ScalarOp(name, arity, False, "float", None, body, derivative, user=formula)
        # A formula that cannot be compiled is an error here, not at the first use.
        try:
            _try_out(OPS[name])
        except BaseException:
            del OPS[name]
            raise
    return function(name)


def _formula(
    name: str, what: str, at: str, rule: Callable[..., Any], given: Any, allowed: Any
) -> tuple[Any, ...]:
    """What a user's lambda gives on symbols, as SymPy expressions."""
    import sympy

    try:
        found = rule(*given)
        found = found if isinstance(found, (tuple, list)) else (found,)
        exprs = tuple(sympy.sympify(f) for f in found)
    except Exception as error:
        raise GraphError(
            f"elementwise {name!r}: its {what} fails on SymPy symbols: {error}{at}"
        ) from error
    for e in exprs:
        if not isinstance(e, sympy.Basic) or e.free_symbols - set(allowed):
            raise GraphError(f"elementwise {name!r}: its {what} gives {e}, no formula{at}")
    return exprs


def _try_out(op: ScalarOp) -> None:
    from symgrad.node import Input

    args = [Input(f"x{i}", ()) for i in range(op.arity)]
    op.partials(args, op.expand(*args))


def function(name: str) -> Callable[..., Expr]:
    """An op of the table as a function that lifts numbers, promotes and broadcasts."""
    op = OPS[name]

    def call(*args: Any) -> Expr:
        from symgrad.ops.core import apply

        return apply(name, *args)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"`{name}` elementwise, {op.arity} argument{'s' * (op.arity > 1)}, broadcasting."
    return call
