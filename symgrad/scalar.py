"""Scalar functions: what a line of the op table (`symgrad.table`) means to each stage.

In: a line with name, NumPy meaning or body, derivative and dtype rule. Out: `OPS[name]`, from which
the graph takes the dtype rule, differentiation the partials, the compiler the body, the interpreter
the NumPy meaning, and the tests their cases. `elementwise` is the same for an op of a user.

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
from symgrad.errors import DTypeError

if TYPE_CHECKING:
    from symgrad.node import Expr
    from symgrad.userop import Formula

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
        if self.derivative is step or not dtypes.is_float(out.dtype):
            return none
        if not any(dtypes.is_float(a.dtype) for a in args):
            return none
        with source.at(out.where.derived):
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


def erf(x: Any) -> Any:
    """The error function, elementwise."""
    x = np.asarray(x)
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x)).astype(x.dtype)


def cast_to(dtype: str) -> Callable[..., Any]:
    """NumPy's conversion, with what C leaves open for floats to integers settled."""

    def cast(x: Any) -> Any:
        x = np.asarray(x)
        if x.dtype.kind != "f" or not dtypes.is_integer(dtype):
            return x.astype(dtype)
        # Toward zero; NaN and what does not fit give the most negative integer.
        low = np.iinfo(dtype).min
        fits = (x >= float(low)) & (x < -float(low))
        return np.where(fits, np.where(fits, x, 0).astype(dtype), low).astype(dtype)

    return cast


# -- declaring ----------------------------------------------------------------------------------


def _parameters(function: Callable[..., Any]) -> list[str]:
    """The names of a function's arguments, those with a default left out."""
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.default is p.empty and p.kind <= p.POSITIONAL_OR_KEYWORD]


def arity_of(function: Callable[..., Any]) -> int:
    """How many arguments an op of this meaning takes."""
    if isinstance(function, np.ufunc):
        return function.nin
    return 3 if function is np.where else len(_parameters(function))


def step(*_: Any) -> None:
    """The derivative of what has none: functions constant almost everywhere."""


def primitive(
    name: str, numpy: Callable[..., Any], derivative: Callable[..., Any], rule: str = "float"
) -> None:
    """Declare an op that codegen knows."""
    OPS[name] = ScalarOp(name, arity_of(numpy), True, rule, numpy, None, derivative)


def composite(
    name: str,
    body: Callable[..., Any],
    derivative: Callable[..., Any] | None = None,
    rule: str = "float",
) -> None:
    """Declare an op by its body over `sp`; without a derivative SymPy finds it when needed."""
    OPS[name] = ScalarOp(name, arity_of(body), False, rule, None, body, derivative)


def function(name: str) -> Callable[..., Expr]:
    """An op of the table as a function that lifts numbers, promotes and broadcasts."""
    op = OPS[name]

    def call(*args: Any) -> Expr:
        from symgrad.ops.core import apply

        return apply(name, *args)

    call.__name__ = call.__qualname__ = name
    inner = op.numpy if op.body is None else op.body
    names = "x" if op.arity == 1 or not inspect.isfunction(inner) else ", ".join(_parameters(inner))
    takes = "a number of any dtype" if op.rule != "float" else "integers become float32"
    call.__doc__ = f"`{name}({names})` elementwise, the arguments broadcast; {takes}."
    return call


from symgrad import table as _table  # noqa: E402, F401 - fills OPS
from symgrad.userop import Formula, elementwise, from_sympy  # noqa: E402

__all__ = ["OPS", "RULES", "Formula", "ScalarOp", "elementwise", "from_sympy", "function", "sp"]
