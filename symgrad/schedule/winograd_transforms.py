"""The transforms of Winograd's convolutions, as matrices and as arithmetic on values of a kernel.

In: a size m. Out: an `Algorithm` F(m x m, 3 x 3), which makes m x m outputs y of (m+2) x (m+2)
inputs d and 3 x 3 weights g, and `apply`, which multiplies by one of its matrices.

    y = A^T [(G g G^T) * (B^T d B)] A                    (Lavin and Gray, 2015)

The product in brackets is elementwise, so that a sum over channels makes it a matrix product for
each of the (m+2)^2 positions: 4 multiplications an output instead of 9 for m = 2, 2.25 for m = 4.

>>> F2.size, F2.outputs
(4, 2)
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Callable, Sequence

from codegen.loops import Const, Op, Value

Matrix = tuple[tuple[Fraction, ...], ...]
Patch = Sequence[Sequence[Value]]
Name = Callable[[Value], Value]  # names a value, so that it is computed once


@dataclass(frozen=True)
class Algorithm:
    """F(outputs x outputs, 3 x 3). `inputs`, `weights`, `results` are B^T, G and A^T."""

    outputs: int
    inputs: Matrix
    weights: Matrix
    results: Matrix

    @property
    def size(self) -> int:
        """Inputs along an axis, and positions along an axis of the transformed patch."""
        return self.outputs + 2

    @property
    def positions(self) -> int:
        return self.size**2

    def flipped(self) -> tuple[int, ...] | None:
        """Where G sends weights in reverse order: the place of each of its rows, None where the
        rows of G are not the same in reverse."""
        backward = [tuple(reversed(row)) for row in self.weights]
        if any(row not in self.weights for row in backward):
            return None
        return tuple(self.weights.index(row) for row in backward)


def _matrix(*rows: str) -> Matrix:
    return tuple(tuple(Fraction(x) for x in row.split()) for row in rows)


def transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix))


F2 = Algorithm(
    2,
    inputs=_matrix("1 0 -1 0", "0 1 1 0", "0 -1 1 0", "0 1 0 -1"),
    weights=_matrix("1 0 0", "1/2 1/2 1/2", "1/2 -1/2 1/2", "0 0 1"),
    results=_matrix("1 1 1 0", "0 1 -1 -1"),
)  # interpolated at 0, 1, -1, infinity
F4 = Algorithm(
    4,
    inputs=_matrix(
        "4 0 -5 0 1 0",
        "0 -4 -4 1 1 0",
        "0 4 -4 -1 1 0",
        "0 -2 -1 2 1 0",
        "0 2 -1 -2 1 0",
        "0 4 0 -5 0 1",
    ),
    weights=_matrix(
        "1/4 0 0", "-1/6 -1/6 -1/6", "-1/6 1/6 -1/6", "1/24 1/12 1/6", "1/24 -1/12 1/6", "0 0 1"
    ),
    results=_matrix("1 1 1 1 1 0", "0 1 -1 2 -2 0", "0 1 1 4 4 0", "0 1 -1 8 -8 1"),
)  # interpolated at 0, 1, -1, 2, -2, infinity


def apply_both(matrix: Matrix, patch: Patch, name: Name) -> list[list[Value]]:
    """`matrix patch matrix^T`: along columns, then along rows."""
    columns = [[name(v) for v in apply(matrix, column)] for column in zip(*patch)]
    return [apply(matrix, list(row)) for row in zip(*columns)]


def apply(matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """`matrix values`. What two rows or two columns have in common but for signs is computed once:
    a + b and a - b of the points x and -x."""
    matrix, values = _fold_columns(matrix, values)
    out: dict[int, Value] = {}
    for i, j in _pairs(matrix):
        same = [a if a == b else Fraction() for a, b in zip(matrix[i], matrix[j])]
        other = [a if a != b else Fraction() for a, b in zip(matrix[i], matrix[j])]
        even, odd = _sum(same, values), _sum(other, values)
        out[i], out[j] = _op("add", even, odd), _op("sub", even, odd)
    return [out.get(i) or _sum(row, values) for i, row in enumerate(matrix)]


def _pairs(rows: Matrix) -> list[tuple[int, int]]:
    """Rows that differ in some of their signs, not in all."""
    free = list(range(len(rows)))
    found = []
    while free:
        i = free.pop(0)
        for j in free:
            signs = {a == b for a, b in zip(rows[i], rows[j]) if a}
            if all(abs(a) == abs(b) for a, b in zip(rows[i], rows[j])) and len(signs) == 2:
                found.append((i, j))
                free.remove(j)
                break
    return found


def _fold_columns(matrix: Matrix, values: Sequence[Value]) -> tuple[Matrix, list[Value]]:
    """Values of two columns that differ in some signs replaced by their sum and difference."""
    columns, values = [list(c) for c in zip(*matrix)], list(values)
    for i, j in _pairs(transposed(matrix)):
        a, b = columns[i], columns[j]
        if sum(map(bool, a)) < 2:
            continue
        values[i], values[j] = _op("add", values[i], values[j]), _op("sub", values[i], values[j])
        columns[i] = [x if x == y else Fraction() for x, y in zip(a, b)]
        columns[j] = [x if x != y else Fraction() for x, y in zip(a, b)]
    return transposed(tuple(map(tuple, columns))), values


def _sum(row: Sequence[Fraction], values: Sequence[Value]) -> Value:
    """The values times their factors, those with factor 1 first."""
    terms = [(c, v) for c, v in zip(row, values) if c]
    common = {abs(c) for c, _ in terms}
    if len(terms) > 1 and len(common) == 1 and common != {1}:  # take the factor out
        scale = common.pop()
        return _op("mul", _sum([c / scale for c in row], values), _number(scale, values[0]))
    terms.sort(key=lambda t: (t[0] != 1, t[0] < 0))
    (factor, first), *rest = terms
    if factor == 1:
        total = first
    elif factor == -1:
        total = Op("neg", (first,), first.dtype)
    else:
        total = _op("mul", first, _number(factor, first))
    for c, v in rest:
        if abs(c) == 1:
            total = _op("add" if c == 1 else "sub", total, v)
        else:
            total = Op("fma", (v, _number(c, v), total), v.dtype)
    return total


def _op(fn: str, a: Value, b: Value) -> Value:
    return Op(fn, (a, b), a.dtype)


def _number(c: Fraction, like: Value) -> Value:
    return Const(float(c), like.dtype)
