"""The transpose of an affine index map: what a Reindex gathered, its adjoint puts back.

In: a Reindex node `out[o] = arg[m(o)]` and a cotangent of its result. Out: the cotangent of its
operand, `sum over o with m(o) = i` of the cotangent, as a Reindex and a sum.

The maps are linear equations `divisor * i = offset + sum coef * o` between the index i of the
operand and the index o of the result. Gauss-Jordan elimination solves them for as many of the o
as it can, the first of a map before the others; an o that stays free (a window's tap) becomes an
extra axis that is summed, an equation that is left without an o (a fixed index, a diagonal)
becomes a test: an axis of size 1 that only the index 0 hits.

>>> x = Input("x", (9,))
>>> y = Reindex.of(x, [(0, ((0, 2), (1, 1)), 1)], (4, 3))    # windows of 3, stride 2
>>> transposed(y, ct).shape                                  # ct[(i - k) / 2, k], summed over k
(9,)
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm

from symgrad.derive.algebra import sum_axes, with_unit_axes
from symgrad.node import AxisMap, Expr, Reindex
from symgrad.sizes import Shape, maximum

# An affine form: coefficients by variable. ("i", k) an operand index, ("o", k) a result index,
# ("1", 0) the constant.
Variable = tuple[str, int]
Form = dict[Variable, Fraction]
ONE: Variable = ("1", 0)


def _substitute(form: Form, variable: Variable, value: Form) -> Form:
    factor = form.get(variable)
    if factor is None:
        return form
    result = {v: c for v, c in form.items() if v != variable}
    for v, c in value.items():
        result[v] = result.get(v, Fraction(0)) + factor * c
    return {v: c for v, c in result.items() if c}


def _solve(maps: tuple[AxisMap, ...], sizes: Shape) -> tuple[dict[int, Form], list[Form]]:
    """Result indices as forms in operand indices and free result indices; forms that must be 0."""
    solved: dict[int, Form] = {}
    tests: list[Form] = []
    for axis, (offset, terms, divisor) in enumerate(maps):
        form: Form = {("i", axis): Fraction(-divisor)}
        if offset:
            form[ONE] = Fraction(offset)
        for out_axis, coef in terms:
            key = ("o", out_axis)
            form[key] = form.get(key, Fraction(0)) + coef
        form = {v: c for v, c in form.items() if c}
        for out_axis, value in solved.items():
            form = _substitute(form, ("o", out_axis), value)
        unknown = [k for (letter, k) in form if letter == "o"]
        if not unknown:
            tests.append(form)
            continue
        # A map names the position before the tap: solved for the position, the taps stay free.
        pivot = next((k for k in unknown if maximum(sizes[k]) > 1), unknown[0])
        factor = form.pop(("o", pivot))
        value = {v: -c / factor for v, c in form.items()}
        solved = {k: _substitute(f, ("o", pivot), value) for k, f in solved.items()}
        solved[pivot] = value
    return solved, tests


def _axis_map(form: Form, position: dict[Variable, int]) -> AxisMap:
    divisor = lcm(*(c.denominator for c in form.values())) if form else 1
    terms = tuple((position[v], int(c * divisor)) for v, c in sorted(form.items()) if v != ONE)
    return int(form.get(ONE, Fraction(0)) * divisor), terms, divisor


def transposed(node: Reindex, cotangent: Expr) -> Expr:
    """The cotangent of the operand."""
    arg = node.args[0]
    used = sorted({axis for _, terms, _ in node.maps for axis, coef in terms if coef})
    reduced = sum_axes(cotangent, [k for k in range(node.ndim) if k not in used])
    where = {axis: i for i, axis in enumerate(used)}
    maps = tuple(
        (offset, tuple((where[a], c) for a, c in terms if c), divisor)
        for offset, terms, divisor in node.maps
    )
    solved, tests = _solve(maps, reduced.shape)
    # an operand axis of size 1 that is always read at 0 needs no test
    tests = [t for t in tests if not (ONE not in t and all(arg.shape[k] == 1 for _, k in t))]
    free = [k for k in range(reduced.ndim) if k not in solved]
    position: dict[Variable, int] = {("i", k): k for k in range(arg.ndim)}
    position.update({("o", k): arg.ndim + i for i, k in enumerate(free)})
    forms = [solved.get(k, {("o", k): Fraction(1)}) for k in range(reduced.ndim)]
    back = [_axis_map(form, position) for form in forms]
    for test in tests:
        offset, terms, _ = _axis_map(test, position)
        back.append((offset, terms, 1))
    shape = arg.shape + tuple(reduced.shape[k] for k in free)
    source = with_unit_axes(reduced, len(tests))
    return sum_axes(Reindex.of(source, back, shape), range(arg.ndim, len(shape)))
