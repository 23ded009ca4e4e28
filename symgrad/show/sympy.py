"""Expressions as SymPy objects.

In: an expression. Out: of a 0-d expression its value; of one or two axes a matrix expression
(`MatrixSymbol`s, products, Hadamard products; a vector is a column); of more axes its element at
the indices i, j, l ... Elements of leaves are `Indexed`, in matrices those of `MatrixSymbol`s.

>>> sympy(sg.sum(x * x)), sympy(X @ W)
(Sum(x[k1]**2, (k1, 0, 2)), X*W)
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from symgrad import scalar
from symgrad.errors import GraphError
from symgrad.node import (
    Constant,
    Contract,
    Custom,
    Expr,
    Gather,
    Input,
    Iota,
    Map,
    Parameter,
    Random,
    Reduce,
    Reindex,
    Reshape,
    ScatterAdd,
    SizeOf,
)
from symgrad.sizes import Size

LETTERS = "ijlmnopq"  # k1, k2 ... are summed over


def sympy(e: Expr) -> Any:
    """The value of a 0-d expression, a matrix, or the element of a larger array at i, j, l ..."""
    if e.ndim > len(LETTERS):
        raise GraphError(f"sympy: {e.ndim} axes, at most {len(LETTERS)} have letters")
    work = _Conversion(matrices=1 <= e.ndim <= 2)
    try:
        if 1 <= e.ndim <= 2:
            from symgrad.show.matrices import Matrices

            return Matrices(work).of(e)
        return work.element(e, tuple(work.index(LETTERS[a]) for a in range(e.ndim)))
    except RecursionError:
        raise GraphError("sympy: the expression is nested too deeply") from None


class _Conversion:
    """Elements by node and index, each converted once."""

    def __init__(self, matrices: bool) -> None:
        self.matrices = matrices
        self.known: dict[tuple[int, tuple[Any, ...], bool], Any] = {}
        self.summed = 0

    @cached_property
    def sp(self) -> Any:
        import sympy as sp

        return sp

    def index(self, name: str) -> Any:
        return self.sp.Symbol(name, integer=True, nonnegative=True)

    def fresh(self) -> Any:
        self.summed += 1
        return self.index(f"k{self.summed}")

    def size(self, size: Size) -> Any:
        if isinstance(size, int):
            return self.sp.Integer(size)
        return self.sp.Symbol(size.name, integer=True, positive=True) * size.factor

    def symbol(self, e: Expr) -> Any:
        """A leaf as a matrix, a column for one axis."""
        rows, *columns = map(self.size, e.shape)
        return self.sp.MatrixSymbol(e.name, rows, columns[0] if columns else 1)

    def element(self, e: Expr, at: tuple[Any, ...]) -> Any:
        key = (id(e), at, self.matrices)
        if key not in self.known:
            self.known[key] = self._element(e, at)
        return self.known[key]

    def _element(self, e: Expr, at: tuple[Any, ...]) -> Any:
        if isinstance(e, (Input, Parameter)):
            if not e.ndim:
                return self.sp.Symbol(e.name, real=True)
            if self.matrices and e.ndim <= 2 and all(i.is_Symbol for i in at):
                return self.symbol(e)[(*at, 0)[:2]]
            return self.sp.IndexedBase(e.name, shape=tuple(map(self.size, e.shape)))[at]
        if isinstance(e, Constant):
            return self._constant(e, at)
        if isinstance(e, SizeOf):
            return self.size(e.of_size)
        if isinstance(e, Iota):
            return at[0]
        if isinstance(e, Random):
            return self.sp.Function(e.label)(*at)
        if isinstance(e, Map):
            args = [self.element(a, at if a.ndim else ()) for a in e.args]
            return scalar.OPS[e.op].sympy(*args)
        if isinstance(e, Custom):
            return self.element(e.args[0], at)
        if isinstance(e, Contract):
            return self._contract(e, at)
        if isinstance(e, Reduce):
            return self._reduce(e, at)
        if isinstance(e, Reindex):
            return self._reindex(e, at)
        if isinstance(e, Reshape):
            return self.element(e.args[0], self._reshaped(e, at))
        if isinstance(e, Gather):
            return self._gather(e, at)
        if isinstance(e, ScatterAdd):
            return self._scatter(e, at)
        raise GraphError(f"sympy: {e.kind} has no form in SymPy")

    def _constant(self, e: Constant, at: tuple[Any, ...]) -> Any:
        number = e.scalar
        if number is None:
            if all(i.is_Integer for i in at):
                number = e.value[tuple(int(i) for i in at)].item()
            else:
                return self.sp.Array(e.value.tolist())[at]
        return self.number(number, e.dtype)

    def number(self, number: float | int | bool, dtype: str) -> Any:
        """A Python number as SymPy's, exact where it is a short fraction."""
        if isinstance(number, bool):
            return self.sp.true if number else self.sp.false
        if isinstance(number, float) and math.isfinite(number):
            exact = Fraction(number)
            if exact.denominator <= 1024:
                return self.sp.Rational(exact.numerator, exact.denominator)
            return self.sp.Float(str(np.dtype(dtype).type(number)))
        return self.sp.sympify(number)

    def _contract(self, e: Contract, at: tuple[Any, ...]) -> Any:
        index: dict[int, Any] = dict(zip(e.out, at))
        ranges = []
        for label in e.summed:
            index[label] = self.fresh()
            ranges.append((index[label], 0, self.size(e.extents[label]) - 1))
        product = self.sp.Integer(1)
        for labels, a in zip(e.ins, e.args):
            product = product * self.element(a, tuple(index[k] for k in labels))
        return self.sp.Sum(product, *ranges) if ranges else product

    def _reduce(self, e: Reduce, at: tuple[Any, ...]) -> Any:
        arg = e.args[0]
        if e.law == "cumsum":
            k, axis = self.fresh(), e.axes[0]
            inner = (*at[:axis], k, *at[axis + 1 :])
            return self.sp.Sum(self.element(arg, inner), (k, 0, at[axis]))
        index, ranges, rest = [], [], iter(at)
        for axis in range(arg.ndim):
            if axis in e.axes:
                index.append(self.fresh())
                ranges.append((index[-1], 0, self.size(arg.shape[axis]) - 1))
            else:
                index.append(next(rest))
        inner = self.element(arg, tuple(index))
        if e.law == "prod":
            return self.sp.Product(inner, *ranges)
        return self.sp.Function(e.law)(inner, *(self.sp.Tuple(*r) for r in ranges))

    def _reindex(self, e: Reindex, at: tuple[Any, ...]) -> Any:
        sp, index, conditions = self.sp, [], []
        for axis, (offset, terms, divisor) in enumerate(e.maps):
            top = sp.Integer(offset) + sum((c * at[a] for a, c in terms), sp.Integer(0))
            index.append(top / divisor)
            if divisor != 1:
                conditions.append(sp.Eq(sp.Mod(top, divisor), 0))
            if not e.inside(axis):
                limit = self.size(e.args[0].shape[axis])
                conditions += [index[-1] >= 0, index[-1] < limit]
        if not conditions:
            return self.element(e.args[0], tuple(index))
        before, self.matrices = self.matrices, False  # a matrix has no element out of range
        value = self.element(e.args[0], tuple(index))
        self.matrices = before
        return sp.Piecewise((value, sp.And(*conditions)), (sp.sympify(e.fill), True))

    def _reshaped(self, e: Reshape, at: tuple[Any, ...]) -> tuple[Any, ...]:
        """The operand's index of the same row-major position."""
        sp, linear = self.sp, self.sp.Integer(0)
        for i, size in zip(at, e.shape):
            linear = linear * self.size(size) + i
        index: list[Any] = []
        for size in reversed(e.args[0].shape[1:]):
            index.append(sp.Mod(linear, self.size(size)))
            linear = sp.floor(linear / self.size(size))
        return (linear, *reversed(index)) if e.args[0].ndim else ()

    def _gather(self, e: Gather, at: tuple[Any, ...]) -> Any:
        arg, indices = e.args
        spread = indices.ndim - e.batch
        before, rest = at[: e.axis], at[e.axis :]
        where = (*at[: e.batch], *rest[:spread])
        return self.element(arg, (*before, self.element(indices, where), *rest[spread:]))

    def _scatter(self, e: ScatterAdd, at: tuple[Any, ...]) -> Any:
        values, indices = e.args
        inner = [self.fresh() for _ in range(indices.ndim - e.batch)]
        sizes = [self.size(s) for s in indices.shape[e.batch :]]
        picked = self.element(indices, (*at[: e.batch], *inner))
        value = self.element(values, (*at[: e.axis], *inner, *at[e.axis + 1 :]))
        term = value * self.sp.KroneckerDelta(picked, at[e.axis])
        return self.sp.Sum(term, *((k, 0, s - 1) for k, s in zip(inner, sizes))) if inner else term
