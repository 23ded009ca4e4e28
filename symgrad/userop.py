"""Ops of users, and the derivatives nobody gave: a scalar function as SymPy's formula.

In: a name and a lambda over SymPy symbols. Out: a line of the op table and a function of
expressions. SymPy is imported here only when an op is declared or a derivative has to be found.

>>> import sympy
>>> from symgrad.node import Input
>>> swish = elementwise("swish", lambda x: x / (1 + sympy.exp(-x)))
>>> swish(Input("x", (2, 3))).shape
(2, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from symgrad import source
from symgrad.errors import GraphError
from symgrad.scalar import OPS, ScalarOp, arity_of, exact, function

if TYPE_CHECKING:
    from symgrad.node import Expr


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

            from symgrad.formulas import derivative

            symbols, result = _symbols(op.arity)
            with exact():
                expr = sympy.sympify(op.sympy(*symbols))
            found = tuple(derivative(expr, s) for s in symbols)
            _formulas[op.name] = Formula(symbols, result, expr, found)
        return _formulas[op.name]

    def apply(self, args: Sequence[Expr]) -> Expr:
        """The value on these arguments."""
        return from_sympy(self.expr, dict(zip(self.symbols, args)))

    def partials(self, args: Sequence[Expr], out: Expr) -> tuple[Expr, ...]:
        """The derivative by each argument."""
        given = {**dict(zip(self.symbols, args)), self.result: out}
        return tuple(from_sympy(d, given) for d in self.derivatives)

    def same(self, other: Formula) -> bool:
        """Whether both declare the same op."""
        return bool(self.expr == other.expr and self.derivatives == other.derivatives)


_formulas: dict[str, Formula] = {}


def _symbols(arity: int) -> tuple[tuple[Any, ...], Any]:
    import sympy

    return tuple(sympy.symbols(f"x:{arity}", real=True)), sympy.Symbol("out", real=True)


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
    >>> cube = elementwise("cube", lambda x: x**3, lambda x: 3 * x**2)
    >>> cube(Input("x", (2, 3))).shape
    (2, 3)
    """
    at = source.quote(source.here())
    if not isinstance(name, str) or not name.isidentifier():
        raise GraphError(f"elementwise: the name must be an identifier, got {name!r}{at}")
    formula = _declared(name, body, derivative, at)
    known = OPS.get(name)
    if known is not None and known.user is not None and known.user.same(formula):
        return function(name)
    if known is not None or _is_vocabulary(name):
        what = "another op declared before" if known and known.user else "a built-in op"
        raise GraphError(f"elementwise: the name {name!r} is taken by {what}{at}")
    op = ScalarOp(name, len(formula.symbols), False, "float", None, body, derivative, formula)
    _try_out(op)
    OPS[name] = op
    return function(name)


def _is_vocabulary(name: str) -> bool:
    from symgrad import ops

    return name in ops.names()


def _declared(
    name: str, body: Callable[..., Any], derivative: Callable[..., Any] | None, at: str
) -> Formula:
    """What a user's lambdas mean; GraphError when they are no formulas."""
    arity = arity_of(body)
    if arity == 0:
        raise GraphError(f"elementwise {name!r}: the body takes no argument{at}")
    symbols, result = _symbols(arity)
    exprs = _called(name, "body", at, body, symbols, symbols)
    if len(exprs) != 1:
        raise GraphError(f"elementwise {name!r}: the body gives {len(exprs)} values, not one{at}")
    if derivative is None:
        from symgrad import formulas

        derivatives = tuple(formulas.derivative(exprs[0], s) for s in symbols)
    else:
        given = symbols + (result,) if arity_of(derivative) > arity else symbols
        derivatives = _called(name, "derivative", at, derivative, given, (*symbols, result))
    if len(derivatives) != arity:
        raise GraphError(
            f"elementwise {name!r}: {len(derivatives)} derivatives for {arity} arguments{at}"
        )
    return Formula(symbols, result, exprs[0], derivatives)


def _called(
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
    """A formula that cannot be compiled is an error where it is declared, not at its first use."""
    from symgrad.node import Input

    args = [Input(f"x{i}", ()) for i in range(op.arity)]
    assert op.user is not None
    op.partials(args, op.expand(*args))
