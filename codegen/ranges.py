"""The smallest and largest value an integer of a kernel can have: interval arithmetic.

In: a polynomial or an integer value, and the range of every name in it. Out: a `Range`, infinite
where nothing is known (what is loaded from memory, for one).

>>> poly_range(Poly.of("n") - Poly.of("b") * 16, {"n": (20, 20), "b": (0, 1)})
(4, 20)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Union

from codegen import loops
from codegen.loops import Poly
from codegen.walk import postorder

Number = Union[int, float]  # float: an infinity
Range = tuple[Number, Number]

ANY: Range = (-math.inf, math.inf)
TRUTH: Range = (0, 1)


def poly_range(poly: Poly, names: Mapping[str, Range]) -> Range:
    low: Number = 0
    high: Number = 0
    for monomial, factor in poly.terms:
        term: Range = (factor, factor)
        for name in monomial:
            term = _mul(term, names.get(name, ANY))
        low, high = low + term[0], high + term[1]
    return low, high


def value_range(value: loops.Value, names: Mapping[str, Range]) -> Range:
    known: dict[int, Range] = {}
    for v in postorder((value,)):
        known[id(v)] = _one(v, names, known)
    return known[id(value)]


def _one(v: loops.Value, names: Mapping[str, Range], known: Mapping[int, Range]) -> Range:
    if isinstance(v, loops.Const):
        return (v.number, v.number) if math.isfinite(v.number) else ANY
    if isinstance(v, loops.Index):
        return poly_range(v.poly, names)
    if isinstance(v, loops.Get) and not v.at:
        return names.get(v.name, ANY)
    if isinstance(v, loops.Op):
        found = _apply(v.fn, [known[id(a)] for a in v.args])
        return TRUTH if found == ANY and v.dtype == "bool" else found
    return TRUTH if v.dtype == "bool" else ANY


def _apply(fn: str, args: list[Range]) -> Range:
    """The range of an operation; `ANY` where no rule is here."""
    (a, b) = args[0], args[-1]
    if fn in ("add", "sub"):
        return (a[0] + b[0], a[1] + b[1]) if fn == "add" else (a[0] - b[1], a[1] - b[0])
    if fn == "mul":
        return _mul(a, b)
    if fn == "neg":
        return -a[1], -a[0]
    if fn in ("minimum", "maximum"):
        pick = min if fn == "minimum" else max
        return pick(a[0], b[0]), pick(a[1], b[1])
    if fn == "cast":
        return a
    if fn == "where":
        if a[0] == a[1]:
            return args[1] if a[0] else args[2]
        return min(args[1][0], args[2][0]), max(args[1][1], args[2][1])
    if fn in ("floor_divide", "div_int", "mod"):
        return _divide(fn, a, b)
    return _truth(fn, a, b)


def _truth(fn: str, a: Range, b: Range) -> Range:
    """Comparisons: (1, 1) where they must hold, (0, 0) where they cannot."""
    if fn in ("greater", "greater_equal"):
        fn, a, b = fn.replace("greater", "less"), b, a
    if fn == "less":
        return int(a[1] < b[0]), int(a[0] < b[1])
    if fn == "less_equal":
        return int(a[1] <= b[0]), int(a[0] <= b[1])
    if fn == "equal":
        return int(a[0] == a[1] == b[0] == b[1]), int(a[0] <= b[1] and b[0] <= a[1])
    if fn == "logical_and":
        return min(a[0], b[0]), min(a[1], b[1])
    if fn == "logical_or":
        return max(a[0], b[0]), max(a[1], b[1])
    if fn == "logical_not":
        return 1 - a[1], 1 - a[0]
    return ANY


def _divide(fn: str, a: Range, b: Range) -> Range:
    if b[0] != b[1] or b[0] <= 0 or not math.isfinite(b[0]):
        return (0, b[1] - 1) if fn == "mod" and b[0] > 0 else ANY
    by = b[0]
    if fn == "mod":
        inside = math.isfinite(a[0]) and a[0] // by == a[1] // by
        return (a[0] % by, a[1] % by) if inside else (0, by - 1)
    low, high = (_quotient(fn, end, by) for end in a)
    return low, high


def _quotient(fn: str, x: Number, by: Number) -> Number:
    """Downward or, as C does it, toward zero."""
    if not math.isfinite(x):
        return x
    return -(-x // by) if fn == "div_int" and x < 0 else x // by


def _mul(a: Range, b: Range) -> Range:
    products = [0 if x == 0 or y == 0 else x * y for x in a for y in b]
    return min(products), max(products)
