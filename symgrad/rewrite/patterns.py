"""Patterns: shapes of expressions with named holes, written with ordinary operators.

In: variables, numbers, operators and the functions below. Out: `Variant`s, short straight programs
that compare a node with the pattern and fetch what the holes stand for.

    x, y = var("x"), var("y")          any operand          c = const("c")    a 0-d constant
    log(exp(x))                        functions of the op table, by name
    total(x)                           a sum over some axes (the axes are hole "S")
    spread(x)                          x read along more axes, or a 0-d x (the axes are hole "B")
    view(x)                            x read along more axes or in another order, not x itself
    peak(x)                            a maximum over some axes

Commutative functions match in either order. A hole used twice must meet the same node twice.

>>> sorted({v.signature[1] for v in variants(exp(var("x")) + 1)})   # constants come first
['constant']
"""

from __future__ import annotations

import itertools
from typing import Any, Callable, Iterator, Union

from symgrad.node import Constant, Contract, Expr, Map, Reduce

COMMUTATIVE = frozenset(
    ("add", "mul", "minimum", "maximum", "equal", "not_equal", "logical_and", "logical_or")
)
ANY = None  # in a signature: this operand is not restricted


class Pattern:
    """A node of a pattern. `kind` is the tag of the nodes it meets, or the sort of hole."""

    __slots__ = ("kind", "args", "name", "value")

    def __init__(
        self, kind: str, args: tuple[Pattern, ...] = (), name: str = "", value: Any = None
    ) -> None:
        self.kind, self.args, self.name, self.value = kind, args, name, value

    def __add__(self, other: Operand) -> Pattern:
        return apply("add", self, other)

    def __radd__(self, other: Operand) -> Pattern:
        return apply("add", other, self)

    def __sub__(self, other: Operand) -> Pattern:
        return apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Pattern:
        return apply("sub", other, self)

    def __mul__(self, other: Operand) -> Pattern:
        return apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Pattern:
        return apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Pattern:
        return apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Pattern:
        return apply("div", other, self)

    def __pow__(self, other: Operand) -> Pattern:
        return apply("pow", self, other)

    def __neg__(self) -> Pattern:
        return apply("neg", self)

    def __str__(self) -> str:
        if self.kind in ("var", "scalar", "const"):
            return self.name
        if self.kind == "number":
            return repr(self.value)
        return f"{self.kind}({', '.join(map(str, self.args))})"


Operand = Union[Pattern, int, float]


def lift(value: Operand) -> Pattern:
    return value if isinstance(value, Pattern) else Pattern("number", value=value)


def apply(op: str, *args: Operand) -> Pattern:
    """The function `op` of the op table applied to patterns."""
    return Pattern(op, tuple(lift(a) for a in args))


def var(name: str) -> Pattern:
    """Any operand."""
    return Pattern("var", name=name)


def scalar(name: str) -> Pattern:
    """Any 0-d operand."""
    return Pattern("scalar", name=name)


def const(name: str) -> Pattern:
    """Any 0-d constant."""
    return Pattern("const", name=name)


def node(name: str, *tags: str) -> Pattern:
    """A node with one of these tags, whatever its operands; every Map when none is given."""
    return Pattern("node", name=name, value=frozenset(tags))


def total(x: Pattern, axes: str = "S") -> Pattern:
    return Pattern("sum", (x,), name=axes)


def spread(x: Pattern, axes: str = "B") -> Pattern:
    return Pattern("spread", (x,), name=axes)


def view(x: Pattern, axes: str = "B") -> Pattern:
    """x read along more axes or in another order; unlike `spread`, never x itself."""
    return Pattern("view", (x,), name=axes)


def peak(x: Pattern, axes: str = "M") -> Pattern:
    return Pattern("max", (x,), name=axes)


def function(op: str) -> Callable[..., Pattern]:
    return lambda *args: apply(op, *args)


exp, log, log1p, expm1 = map(function, ("exp", "log", "log1p", "expm1"))
sqrt, square, absolute, sign = map(function, ("sqrt", "square", "abs", "sign"))
sin, cos, sinh, cosh, tanh = map(function, ("sin", "cos", "sinh", "cosh", "tanh"))
sigmoid, softplus, where = map(function, ("sigmoid", "softplus", "where"))
maximum, minimum = map(function, ("maximum", "minimum"))
logical_not, stop_gradient = map(function, ("logical_not", "stop_gradient"))


# -- tags ---------------------------------------------------------------------------------------
def tag(n: Expr) -> str:
    """What rules are indexed by: the function of a Map, the form of a Contract, else the kind.

    A Contract is a "view" (one operand, nothing summed), a "sum" (one operand, axes in order,
    nothing else), or a "contract".
    """
    cls = type(n)
    if cls is Map:
        return n.attrs[0]  # type: ignore[no-any-return]
    if cls is Contract:
        if len(n.args) != 1 or n.dtype != n.args[0].dtype:
            return "contract"
        own, out = n.args[0].ndim, n.attrs[1]
        kept = [k for k in out if k < own]
        if len(kept) == own:
            return "view"
        return "sum" if len(kept) == len(out) and kept == sorted(kept) else "contract"
    if cls is Constant:
        return "array" if n.shape else "constant"
    if cls is Reduce:
        return n.attrs[0]  # type: ignore[no-any-return]
    return n.kind


_numbers: dict[tuple[object, ...], float | int | bool | None] = {}


def number(c: Constant) -> float | int | bool | None:
    """The value of a 0-d constant."""
    found = _numbers.get(c.attrs)
    if found is None:
        if len(_numbers) > 10_000:
            _numbers.clear()
        found = _numbers[c.attrs] = c.scalar
    return found


# -- matching -----------------------------------------------------------------------------------
class Variant:
    """One order of the operands of a pattern as a list of comparisons over registers.

    Register 0 is the node; a TAG step that succeeds appends the node's operands. `holes` says in
    which register each hole is found (-1: a spread that spreads nothing).
    """

    __slots__ = ("signature", "steps", "holes", "tags")

    def __init__(self, pattern: Pattern) -> None:
        self.steps: list[tuple[str, int, Any]] = []
        self.holes: dict[str, int] = {}
        self.tags: frozenset[str] | None = None
        pending: list[tuple[Pattern, int]] = [(pattern, 0)]
        registers = 1
        for p, i in pending:
            if p.kind in ("var", "scalar", "const", "node"):
                if p.kind == "scalar" or p.kind == "const":
                    self.steps.append((p.kind, i, None))
                if p.kind == "node":
                    self.tags = p.value
                if p.name in self.holes:
                    self.steps.append(("same", i, self.holes[p.name]))
                else:
                    self.holes[p.name] = i
            elif p.kind == "number":
                self.steps.append(("number", i, p.value))
            elif p.kind == "unspread":
                self.steps.append(("scalar", i, None))
                self.holes[p.name] = -1
                pending.append((p.args[0], i))
            else:
                self.steps.append(("tag", i, p.kind))
                if p.name in self.holes:
                    self.steps.append(("form", i, self.holes[p.name]))
                elif p.name:
                    self.holes[p.name] = i
                for a in p.args:
                    pending.append((a, registers))
                    registers += 1
        # a step that may fail cheaply comes as early as its register exists: breadth first
        self.signature = (_expected(pattern), *map(_expected, pattern.args))

    def match(self, n: Expr) -> list[Expr] | None:
        registers = [n]
        for step, i, value in self.steps:
            r = registers[i]
            if step == "tag":
                if tag(r) != value:
                    return None
                registers.extend(r.args)
            elif step == "same":
                if r is not registers[value]:
                    return None
            elif step == "scalar":
                if r.shape:
                    return None
            elif step == "const":
                if type(r) is not Constant or r.shape:
                    return None
            elif step == "number":
                if type(r) is not Constant or r.shape or number(r) != value:
                    return None
            elif r.attrs != registers[value].attrs:
                return None
        return registers

    def fits(self, signature: tuple[str, ...]) -> bool:
        """Whether nodes of this signature (own tag, operands' tags) can match at all."""
        if self.tags is not None:
            from symgrad.scalar import OPS

            return signature[0] in (self.tags or OPS)
        return len(signature) == len(self.signature) and all(
            want is ANY or want == have for want, have in zip(self.signature, signature)
        )


def _expected(p: Pattern) -> str | None:
    if p.kind in ("var", "scalar", "unspread", "node"):
        return ANY
    return "constant" if p.kind in ("const", "number") else p.kind


def variants(pattern: Pattern) -> list[Variant]:
    """Every order of commutative operands, spreads present or (of 0-d operands) absent."""
    found: dict[str, Variant] = {}
    for p in _orders(pattern):
        slots = sorted(_spreads(p))
        for choice in itertools.product((True, False), repeat=len(slots)):
            q = _choose(p, dict(zip(slots, choice)))
            found.setdefault(str(q), Variant(q))
    return list(found.values())


def _orders(p: Pattern) -> Iterator[Pattern]:
    for args in itertools.product(*(list(_orders(a)) for a in p.args)):
        yield Pattern(p.kind, args, p.name, p.value)
        # canonical order puts constants first, so a constant needs no second try
        if p.kind in COMMUTATIVE and args[0].kind not in ("const", "number"):
            if args[1].kind in ("const", "number") or str(args[0]) != str(args[1]):
                yield Pattern(p.kind, args[::-1], p.name, p.value)


def _spreads(p: Pattern) -> set[str]:
    own = {p.name} if p.kind == "spread" else set()
    return own.union(*map(_spreads, p.args)) if p.args else own


def _choose(p: Pattern, present: dict[str, bool]) -> Pattern:
    args = tuple(_choose(a, present) for a in p.args)
    kind = p.kind
    if kind == "spread":
        kind = "view" if present[p.name] else "unspread"
    return Pattern(kind, args, p.name, p.value)


# -- building -----------------------------------------------------------------------------------
def build(p: Pattern, holes: dict[str, Expr | None], dtype: str) -> Expr:
    """The expression a result pattern stands for; numbers take the type of their neighbours."""
    if p.kind in ("var", "scalar", "const"):
        found = holes[p.name]
        assert found is not None
        return found
    if p.kind == "number":
        return Constant.of(p.value, dtype)
    built = [None if a.kind == "number" else build(a, holes, dtype) for a in p.args]
    near = next((b.dtype for b in built if b is not None and b.dtype != "bool"), dtype)
    args = [Constant.of(a.value, near) if b is None else b for a, b in zip(p.args, built)]
    if p.kind in ("spread", "view"):
        return respread(args[0], holes[p.name])
    if p.kind == "sum":
        form = holes[p.name]
        assert isinstance(form, Contract)
        return Contract.of(form.ins, form.out, fill(args[0], form.args[0].shape))
    if p.kind == "max":
        form = holes[p.name]
        assert isinstance(form, Reduce)
        return Reduce.of("max", args[0], form.axes)
    return Map.of(p.kind, *args)


def respread(x: Expr, form: Expr | None) -> Expr:
    """`x` read along the same axes as `form` reads its operand."""
    if form is None or not x.shape:
        return x
    assert isinstance(form, Contract)
    return Contract.of(form.ins, form.out, x, sizes=dict(zip(form.out, form.shape)))


def fill(x: Expr, shape: tuple[Any, ...]) -> Expr:
    """A 0-d `x` as every element of `shape`; another `x` as it is."""
    if x.shape or not shape:
        return x
    axes = tuple(range(len(shape)))
    return Contract.of([()], axes, x, sizes=dict(enumerate(shape)))
