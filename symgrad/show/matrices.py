"""Expressions of one or two axes as SymPy's matrix expressions.

In: an expression. Out: `MatrixSymbol`s in sums, products, transposes, Hadamard products and
elementwise functions; a vector is a column. What matrices have no word for (a maximum, a choice by
labels) is a `FunctionMatrix` of its elements.

>>> matrix(sg.tanh(x @ W))
(Lambda(_d, tanh(_d))).(x*W)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symgrad import scalar
from symgrad.node import Constant, Contract, Custom, Expr, Input, Map, Parameter
from symgrad.show.meaning import Broadcast, Sum, Transpose, in_order, meaning

SMALL = 64  # elements of a constant that is written out


class Matrices:
    """Matrix expressions by node, over the elements that `work` converts."""

    def __init__(self, work: Any) -> None:
        self.work, self.sp = work, work.sp
        self.known: dict[int, Any] = {}

    def of(self, e: Expr) -> Any:
        """A matrix expression, a column for one axis; a number for none."""
        if not e.ndim:
            return self.work.element(e, ())
        if id(e) not in self.known:
            found = self._matrix(e)
            self.known[id(e)] = self._by_elements(e) if found is None else found
        return self.known[id(e)]

    def shape(self, e: Expr) -> tuple[Any, Any]:
        rows, *columns = map(self.work.size, e.shape)
        return rows, columns[0] if columns else self.sp.Integer(1)

    def _matrix(self, e: Expr) -> Any:
        if isinstance(e, (Input, Parameter)):
            return self.work.symbol(e)
        if isinstance(e, Constant) and e.value.size <= SMALL and e.ndim <= 2:
            rows = e.value if e.ndim == 2 else e.value[:, None]
            values = [[self.work.number(v, e.dtype) for v in row] for row in rows.tolist()]
            return self.sp.ImmutableDenseMatrix(values)
        if isinstance(e, Custom):
            return self.of(e.args[0])
        if isinstance(e, Map):
            return self._map(e)
        if isinstance(e, Contract) and all(a.ndim <= 2 for a in e.args):
            return self._contract(e)
        return None

    def _by_elements(self, e: Expr) -> Any:
        sp = self.sp
        i, j = sp.Symbol("i", integer=True), sp.Symbol("j", integer=True)
        element = self.work.element(e, (i, j)[: e.ndim])
        return sp.FunctionMatrix(*self.shape(e), sp.Lambda((i, j), element))

    # -- elementwise ----------------------------------------------------------------------------
    def _map(self, e: Map) -> Any:
        args = [self.of(a) for a in e.args]
        full = [bool(a.ndim) for a in e.args]
        if e.op == "neg":
            return -args[0]
        if e.op in ("add", "sub"):
            ones = self.sp.OneMatrix(*self.shape(e))
            args = [a if array else a * ones for a, array in zip(args, full)]
            return args[0] + args[1] if e.op == "add" else args[0] - args[1]
        if e.op == "mul":
            return self.sp.HadamardProduct(*args) if all(full) else args[0] * args[1]
        if e.op == "div" and full == [True, False]:
            return args[0] / args[1]
        if len(args) == 1 and e.dtype != "bool" and e.args[0].dtype != "bool":
            d = self.sp.Dummy("d", real=True)
            return args[0].applyfunc(self.sp.Lambda(d, scalar.OPS[e.op].sympy(d)))
        return None

    # -- contractions ---------------------------------------------------------------------------
    def _contract(self, e: Contract) -> Any:
        kind = meaning(e)
        if isinstance(kind, Transpose):
            return self.of(e.args[0]).T
        if isinstance(kind, Broadcast):
            return self._spread(self.of(e.args[0]), kind.index, e)
        if isinstance(kind, Sum):
            return self._sum(e.args[0], kind.axes)
        if not e.summed and all(in_order(labels, e.out) for labels in e.ins):
            return self._elementwise(e)
        if len(e.args) == 2 and len(e.summed) == 1:
            return self._product(e)
        return None

    def _spread(self, base: Any, kept: tuple[bool, ...], e: Expr) -> Any:
        """A vector along rows or columns, a number everywhere, by matrices of ones."""
        rows, columns = self.shape(e)
        if not any(kept):
            return base * self.sp.OneMatrix(rows, columns)
        if kept == (True, False):
            return base * self.sp.OneMatrix(1, columns)
        return self.sp.OneMatrix(rows, 1) * base.T

    def _sum(self, arg: Expr, axes: Sequence[int]) -> Any:
        base, (rows, columns) = self.of(arg), self.shape(arg)
        if arg.ndim != 2 or len(axes) != 1:
            return None
        if axes[0] == 1:
            return base * self.sp.OneMatrix(columns, 1)
        return base.T * self.sp.OneMatrix(rows, 1)

    def _elementwise(self, e: Contract) -> Any:
        factors, numbers = [], self.sp.Integer(1)
        lacking = [labels for labels in e.ins if labels and labels != e.out]
        if len(e.args) == 2 and len(lacking) == 2 and e.ndim == 2:  # an outer product
            first = 0 if e.ins[0] == e.out[:1] else 1
            return self.of(e.args[first]) * self.of(e.args[1 - first]).T
        for labels, a in zip(e.ins, e.args):
            if not labels:
                numbers = numbers * self.of(a)
            elif labels == e.out:
                factors.append(self.of(a))
            else:
                factors.append(self._spread(self.of(a), tuple(k in labels for k in e.out), e))
        return numbers * (self.sp.HadamardProduct(*factors) if len(factors) > 1 else factors[0])

    def _product(self, e: Contract) -> Any:
        """A matrix product, either side transposed or a vector."""
        (summed,) = e.summed
        if any(summed not in labels for labels in e.ins) or len(e.out) > 2 or not e.out:
            return None
        sides = []
        for labels, arg in zip(e.ins, e.args):
            rest = tuple(k for k in labels if k != summed)
            matrix = self.of(arg)
            sides.append((rest, matrix if len(labels) == 1 or labels[-1] == summed else matrix.T))
        (a, left), (b, right) = sides  # (rest, summed) each; a vector is (summed, 1)
        if a + b == e.out and (a or b) and len(a) <= 1 and len(b) <= 1:
            if a and b:
                return left * right.T
            return left * right if a else right * left
        if b + a == e.out and a and b:
            return right * left.T
        return None
