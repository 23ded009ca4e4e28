"""From expressions to notation: the term of one node, its operands' terms being there already.

In: a node, the terms of what a reader sees as its operands (`symgrad.show.forms`). Out: its term.
Contractions are in `symgrad.show.products`.

>>> term(sg.tanh(x), [Name("x", 2)])
Call('tanh', (Name('x'),))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symgrad.node import (
    Constant,
    Contract,
    Expr,
    Gather,
    Iota,
    Leaf,
    Map,
    Random,
    Reduce,
    Reindex,
    Reshape,
    Scan,
    ScatterAdd,
    SizeOf,
)
from symgrad.show import products
from symgrad.show.forms import form
from symgrad.show.loops import loop
from symgrad.show.meaning import padding, slices
from symgrad.show.notation import (
    ONE,
    Call,
    Cases,
    Enclosed,
    Factors,
    Fraction,
    Indicator,
    Mapped,
    Name,
    Number,
    Power,
    Product,
    Reduction,
    Relation,
    Slice,
    Spread,
    Sum,
    Term,
    added,
    assembled,
    factors,
    is_one,
    joined,
)
from symgrad.show.products import NOTHING
from symgrad.sizes import Size, show

RELATIONS = {
    "less": "<",
    "less_equal": "≤",
    "greater": ">",
    "greater_equal": "≥",
    "equal": "=",
    "not_equal": "≠",
    "logical_and": "and",
    "logical_or": "or",
    "mod": "mod",
    "floor_divide": "//",
}
REDUCTIONS = {"prod": "Π", "max": "max", "min": "min", "argmax": "argmax", "argmin": "argmin"}
RENAMED = {"sigmoid": "σ", "maximum": "max", "minimum": "min", "sqrt_or_zero": "sqrt"}


def term(node: Expr, args: Sequence[Term]) -> Term:
    """One node as a term."""
    if isinstance(node, Leaf):
        return leaf(node)
    found = form(node)
    if found is not None:
        return _form(node, found.name, found.axes, args)
    if isinstance(node, Map):
        return elementwise(node, args)
    if isinstance(node, Contract):
        return products.contraction(node, args)
    if isinstance(node, Reduce):
        return _reduce(node, args[0])
    if isinstance(node, Reindex):
        return _reindex(node, args[0])
    if isinstance(node, Reshape):
        return _reshape(node, args[0])
    if isinstance(node, Gather):
        return _gather(node, args)
    if isinstance(node, ScatterAdd):
        below = (f"axis {node.axis}",)
        return Call("scatter_add", tuple(args), node.ndim, below=below)
    if isinstance(node, Scan):
        return loop(node, args)
    return Call(node.kind, tuple(args), node.ndim)


def _form(node: Expr, name: str, axes: tuple[int, ...], args: Sequence[Term]) -> Term:
    if name == "value":
        return args[0]
    if name == "identity":
        return Name("I", node.ndim, "part")
    if name == "onehot":
        return Call("onehot", (args[0],), node.ndim)
    if name == "classes":
        return Relation("=", Call("onehot", (args[0],), node.ndim), ONE, node.ndim)
    rank = args[0].rank
    last = axes == (rank - 1,) or len(axes) == rank
    below = () if last else tuple(f"axis {a}" for a in axes)
    if name == "log softmax":
        inner = Call("softmax", (args[0],), node.ndim, below=below)
        return Call("log", (inner,), node.ndim, elementwise=True)
    return Call(name, (args[0],), node.ndim, below=below)


# -- leaves -----------------------------------------------------------------------------------


def leaf(node: Expr) -> Term:
    if isinstance(node, Constant):
        return _constant(node)
    if isinstance(node, SizeOf):
        return size(node.of_size)
    if isinstance(node, Iota):
        return Call("arange", (size(node.shape[0]),), 1)
    if isinstance(node, Random):
        return Call(node.label, tuple(size(s) for s in node.shape), node.ndim)
    return Name(node.name, node.ndim)


def size(of: Size) -> Term:
    if isinstance(of, int):
        return Number(str(of))
    name = Name(of.name)
    return name if of.factor == 1 else Product((Number(str(of.factor)), name))


def _constant(node: Constant) -> Term:
    value = node.scalar
    if value is not None:
        one = number(value, node.dtype)
        if not node.ndim:
            return one
        return Spread(one, (False,) * node.ndim, True, node.ndim)
    if node.ndim == 1 and node.size <= 8:  # type: ignore[operator]  # constants have int sizes
        negative = bool((node.value < 0).any() and (node.value <= 0).all())
        values = -node.value if negative else node.value
        shown = Name(f"[{', '.join(digits(v + 0, node.dtype) for v in values)}]", 1, "constant")
        return Sum(((True, shown),), 1) if negative else shown
    return Call("constant", tuple(size(s) for s in node.shape), node.ndim)


def number(value: float | int | bool, dtype: str) -> Term:
    """A number as written: a short decimal, or a share such as 1/768 that it stands for."""
    shown = digits(value, dtype)
    if isinstance(value, float) and np.isfinite(value) and value and len(shown.strip("-0.")) > 2:
        for top in (1, 2, 3):
            below = top / abs(value)
            whole = round(below)
            if "e" not in shown and 1 < whole < 10**7 and abs(below - whole) < 4e-7 * below:
                if np.dtype(dtype).type(top / whole) == abs(value):
                    share = Fraction(Number(str(top)), Number(str(whole)))
                    return Sum(((True, share),)) if value < 0 else share
    return Number(shown)


def digits(value: float | int | bool, dtype: str) -> str:
    """The shortest digits that give this number in its dtype; whole numbers without a point."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if dtype in ("float32", "float64"):
        if not np.isfinite(value):
            return "NaN" if np.isnan(value) else "∞" if value > 0 else "-∞"
        if value == int(value) and abs(value) < 1e6:
            return str(int(value)) if value or not np.signbit(value) else "-0"
        return str(np.dtype(dtype).type(value))
    return str(value)


# -- elementwise ------------------------------------------------------------------------------


def elementwise(node: Map, args: Sequence[Term]) -> Term:
    op, rank = node.op, node.ndim
    if op == "add":
        return added([(False, args[0]), (False, args[1])], rank)
    if op == "sub":
        return added([(False, args[0]), (True, args[1])], rank)
    if op == "neg":
        return added([(True, args[0])], rank)
    if op == "mul":
        return times(args, rank)
    if op == "div":
        return over(args[0], args[1], rank)
    if op in ("square", "pow"):
        return _power(op, args, rank)
    if op in RELATIONS:
        return Relation(RELATIONS[op], args[0], args[1], rank)
    if op == "where":
        return _where(args, rank)
    if op.startswith("to_"):
        return Indicator(args[0], rank) if node.args[0].dtype == "bool" else args[0]
    if op in ("abs", "floor", "ceil"):
        return Enclosed(op, args[0], rank)
    if op == "logical_not":
        return Call("not ", (args[0],), rank, elementwise=True)
    if op in ("sqrt", "sqrt_or_zero") and isinstance(args[0], Power):
        inner = args[0].base
        if isinstance(inner, Enclosed) and inner.kind == "norm" and _is_two(args[0].exponent):
            return inner  # the root of a square
    return Call(RENAMED.get(op, op), tuple(args), rank, elementwise=True)


def _is_two(term: Term) -> bool:
    return isinstance(term, Number) and term.text == "2"


def times(terms: Sequence[Term], rank: int) -> Term:
    """A product element by element, numbers in front and below."""
    numbers: Factors = NOTHING
    arrays = []
    for t in terms:
        own = factors(t)
        numbers = joined(numbers, own, None)
        if own.rest is not None:
            arrays.append(own.rest)
    tops, bottoms = [], []  # type: list[Term], list[Term]
    for a in arrays:
        above, below = divided(a)
        tops += above
        bottoms += below
    rest = products.hadamard(tops, rank) if tops else None
    if bottoms:
        rest = Fraction(rest or ONE, products.hadamard(bottoms, rank), rank)
    shares = [t for t in numbers.divisors if isinstance(t, Number)]
    scales = [t for t in numbers.scalars if isinstance(t, Number)]
    for a in shares:  # 2 x / 2
        for b in scales:
            if a.text == b.text:
                drop = {id(a), id(b)}
                numbers = Factors(
                    numbers.negative,
                    tuple(t for t in numbers.scalars if id(t) not in drop),
                    None,
                    tuple(t for t in numbers.divisors if id(t) not in drop),
                )
    return assembled(joined(numbers, NOTHING, rest), rank)


def divided(term: Term) -> tuple[list[Term], list[Term]]:
    """What stands above and below the line of an array's quotient."""
    if isinstance(term, Fraction) and term.bottom.rank:
        above, below = divided(term.top) if not is_one(term.top) else ([], [])
        return above, [*below, term.bottom]
    if isinstance(term, Spread):
        above, below = divided(term.base)
        if below:
            along = [Spread(t, term.kept, term.plain, term.rank) for t in above]
            return list(along), [Spread(t, term.kept, term.plain, term.rank) for t in below]
    if isinstance(term, Product) and term.hadamard:
        pairs = [divided(f) for f in term.factors]
        return [t for a, _ in pairs for t in a], [t for _, b in pairs for t in b]
    return [term], []


def over(top: Term, bottom: Term, rank: int) -> Term:
    if bottom.rank and not (isinstance(bottom, Spread) and not bottom.base.rank):
        own = factors(top)
        tops, bottoms = divided(own.rest) if own.rest is not None else ([], [])
        divisor = products.hadamard([*bottoms, bottom], rank) if bottoms else bottom
        rest = Fraction(products.hadamard(tops, rank) if tops else ONE, divisor, rank)
        return assembled(joined(own, NOTHING, rest), rank)
    above, below = factors(top), factors(bottom)
    numbers = Factors(
        above.negative != below.negative,
        above.scalars + below.divisors,
        above.rest,
        above.divisors + (below.scalars or ()),
    )
    return assembled(numbers, rank)


def _power(op: str, args: Sequence[Term], rank: int) -> Term:
    exponent = Number("2") if op == "square" else args[1]
    if isinstance(exponent, Spread):
        exponent = exponent.base if not exponent.base.rank else exponent
    if isinstance(args[0], Spread) and not exponent.rank:
        inner = args[0]
        return Spread(
            Power(inner.base, exponent, inner.base.rank), inner.kept, inner.plain, inner.rank
        )
    return Power(args[0], exponent, rank)


def _where(args: Sequence[Term], rank: int) -> Term:
    """A choice; of something or 0, that times an indicator."""
    condition, value, otherwise = args
    if _is(value, "1") and _is(otherwise, "0"):
        return Indicator(condition, rank)
    if _is(value, "0") and _is(otherwise, "1"):
        return Indicator(Call("not ", (condition,), rank, elementwise=True), rank)
    if _is(otherwise, "0") and condition.rank == rank:
        return times([value, Indicator(condition, rank)], rank)
    return Cases(value, condition, otherwise, rank)


def _is(term: Term, text: str) -> bool:
    if isinstance(term, Spread) and not term.base.rank:
        term = term.base
    return is_one(term) if text == "1" else isinstance(term, Number) and term.text == text


# -- reductions, index maps -------------------------------------------------------------------


def _reduce(node: Reduce, base: Term) -> Term:
    if node.law == "cumsum":
        return Call("cumsum", (base,), node.ndim, below=(f"axis {node.axes[0]}",))
    return Reduction(REDUCTIONS[node.law], base, node.axes, node.ndim)


def _reindex(node: Reindex, base: Term) -> Term:
    element = _element(node)
    if element is not None:
        return Slice(base, element, node.ndim)
    index = slices(node)
    if index is not None:
        return Slice(base, index, node.ndim)
    widths = padding(node)
    fill = (number(node.fill, node.dtype),) if node.fill else ()
    if widths is not None:
        shown = Name(str(widths), 0, "constant")
        return Call("pad", (base, shown, *fill), node.ndim)
    if fill:
        return Call("reindex", (base, Name(_maps(node), 0, "constant"), *fill), node.ndim)
    return Mapped(base, node.maps, _maps(node), node.ndim)


def _element(node: Reindex) -> tuple[str, ...] | None:
    """NumPy's index where whole axes are kept in order and the others have one place."""
    shown, axis = [], 0
    for k, (offset, terms, divisor) in enumerate(node.maps):
        if divisor != 1 or not node.inside(k):
            return None
        if not terms:
            shown.append(str(offset))
        elif terms == ((axis, 1),) and not offset and node.shape[axis] == node.args[0].shape[k]:
            shown.append(":")
            axis += 1
        else:
            return None
    if axis != node.ndim or all(s == ":" for s in shown):
        return None
    while shown and shown[-1] == ":":
        shown.pop()
    return tuple(shown)


def _maps(node: Reindex) -> str:
    """The index map itself, `[i, 2*j + k - 1]`, in letters of the result's axes."""
    letters = "ijklmnop"
    shown = []
    for offset, terms, divisor in node.maps:
        parts = [f"{'' if c == 1 else '-' if c == -1 else f'{c}*'}{letters[a]}" for a, c in terms]
        body = " + ".join([*parts, *([str(offset)] if offset or not parts else [])])
        body = body.replace("+ -", "- ")
        shown.append(body if divisor == 1 else f"({body})/{divisor}")
    axes = ", ".join(f"{letters[a]}<{s}" for a, s in enumerate(node.shape))
    return f"[{', '.join(shown)}], {axes}"


def _reshape(node: Reshape, base: Term) -> Term:
    """Axes of size 1 make no difference to a reader: the operand, spread or squeezed."""
    given, wanted = node.args[0].shape, node.shape
    if [s for s in given if s != 1] == [s for s in wanted if s != 1] and len(wanted) > len(given):
        kept: list[bool] = []
        rest = list(given)
        for s in wanted:
            kept.append(bool(rest) and rest[0] == s)
            if kept[-1]:
                rest.pop(0)
        if not rest:
            return products.spread(base, given, tuple(kept), wanted)
    if [s for s in given if s != 1] == [s for s in wanted if s != 1] and isinstance(base, Name):
        return Name(base.text, len(wanted), base.role)
    if isinstance(base, Spread):
        base = Spread(base.base, base.kept, False, base.rank)
    return Call("reshape", (base, Name(show(wanted), 0, "constant")), node.ndim)


def _gather(node: Gather, args: Sequence[Term]) -> Term:
    """`z_y`: the elements named by labels, or whole rows of a table."""
    if node.batch and node.axis == node.batch == node.args[1].ndim:
        return Call("pick", tuple(args), node.ndim)
    if node.axis == 0 and not node.batch:
        return Call("rows", tuple(args), node.ndim)
    below = (f"axis {node.axis}",) + ((f"batch {node.batch}",) if node.batch else ())
    return Call("take", tuple(args), node.ndim, below=below)
