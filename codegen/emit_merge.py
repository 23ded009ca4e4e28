"""Kernels that differ in numbers only, as one function: LLVM meets their code once.

In: the kernels of a program. Out: for each, a general kernel and the numbers with which it is the
kernel. Numbers are the extents of loops and the factors of indices; in the general kernel they are
names, which the emitter passes like run-time sizes. Layers of different widths share their products
this way, and parameters of different shapes their updates.

>>> cases = merge([update_of_256, update_of_128], aliases)
>>> cases["update_of_128"].kernel.name, cases["update_of_128"].numbers
('update_of_256', {'number.1': 1})
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Iterator, Mapping, Sequence, Union

from codegen.loops import (
    Accumulate,
    Const,
    Declare,
    For,
    Get,
    Index,
    Kernel,
    Lanes,
    Let,
    Load,
    Monomial,
    Op,
    Poly,
    Scatter,
    Stmt,
    Store,
    Transpose,
    Value,
)

MOST = 8  # numbers of one function: they take registers
DEEPEST = 100  # operations in a chain up to which kernels are compared
NARROW = 4  # rows or columns of a tile up to which its strides decide how it is moved
COMMUTATIVE = ("add", "mul")
Owner = Union[For, Load, Store, Scatter, Transpose]
Aliases = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Case:
    """A kernel as a general one with these numbers; without numbers it is the kernel itself."""

    kernel: Kernel
    numbers: Mapping[str, int] = field(default_factory=dict)


def merge(kernels: Sequence[Kernel], aliases: Mapping[str, Aliases]) -> dict[str, Case]:
    """The case of every kernel, by its name. `aliases` are the parameters that may be one memory:
    kernels that differ in these stay apart."""
    alike: dict[Any, list[_Form]] = {}
    for kernel in kernels:
        form = _Form(kernel, aliases[kernel.name])
        alike.setdefault(form.key, []).append(form)
    cases: dict[str, Case] = {}
    for forms in alike.values():
        cases.update(_together(forms) or {f.kernel.name: Case(f.kernel) for f in forms})
    return cases


def _together(forms: Sequence[_Form]) -> dict[str, Case] | None:
    """One kernel for all; None where there is only one, or where too many numbers differ."""
    if len(forms) == 1:
        return None
    names: dict[tuple[int, ...], str] = {}  # what a number is in each kernel, without its factor
    found: list[Poly] = []  # for each number, what stands in its place
    for column in zip(*(f.numbers for f in forms)):
        factor = math.gcd(*column)
        ratio = tuple(n // factor for n in column)
        if len(set(ratio)) == 1:
            found.append(Poly.of(column[0]))
        else:
            name = names.setdefault(ratio, f"number.{len(names) + 1}")
            found.append(Poly.of(name) * factor)
    if len(names) > MOST:
        return None
    general = _General(forms[0], found).kernel()
    if general is None:
        return None
    ways = list(names.items())
    return {
        f.kernel.name: Case(general, {name: ratio[i] for ratio, name in ways})
        for i, f in enumerate(forms)
    }


class _Form:
    """What a kernel is without its numbers (`key`), and its `numbers` in the order of the walk.
    `places` are the polynomials they come from: owner, field, position of the first number."""

    def __init__(self, kernel: Kernel, aliases: Aliases) -> None:
        self.kernel = kernel
        self.numbers: list[int] = []
        self.places: list[tuple[Owner, str, int]] = []
        self.lanes = set(_lanes(kernel.body))
        self._tokens: list[Any] = [
            [(p.name, p.dtype, p.mode) for p in kernel.params],
            kernel.inplace,
            sorted((p, sorted(same)) for p, same in aliases.items()),
        ]
        self._seen: dict[int, int] = {}
        self._shapes: dict[int, Any] = {}
        self._walk(kernel.body)
        self.key = repr(self._tokens)

    def _walk(self, body: Sequence[Stmt]) -> None:
        self._tokens.append(len(body))
        for s in body:
            self._statement(s)

    def _statement(self, s: Stmt) -> None:
        note = self._tokens.append
        note(type(s).__name__)
        if isinstance(s, For):
            note((s.var, s.unroll))
            self._extent(s)
            self._walk(s.body)
        elif isinstance(s, Lanes):
            note((s.var, None if s.live is None else s.live.terms))
            self._walk(s.body)
        elif isinstance(s, Let):
            note(s.name)
            self._value(s.value)
        elif isinstance(s, Declare):
            note((s.name, s.dtype, s.shape))
            self._value(s.init)
        elif isinstance(s, Accumulate):
            note((s.name, s.fn, [Poly.of(i).terms for i in s.at]))
            self._value(s.value)
        elif isinstance(s, Transpose):
            self._transpose(s)
        else:
            note((s.buffer, isinstance(s, Store) and s.full))
            self._index(s, "index", s.index)
            self._value(s.value)
            self._value(s.when if isinstance(s, Store) else None)

    def _extent(self, s: For) -> None:
        """The turns of a loop, unless it is written out or has turns left over."""
        turns = s.extent.constant
        if turns is None or turns <= max(s.unroll, 1) or turns % max(s.unroll, 1):
            self._tokens.append(s.extent.terms)
            return
        self._tokens.append("turns")
        self.places.append((s, "extent", len(self.numbers)))
        self.numbers.append(turns // max(s.unroll, 1))

    def _transpose(self, s: Transpose) -> None:
        counts = s.rows.constant, s.cols.constant
        narrow = any(n is not None and n <= NARROW for n in counts)
        self._tokens.append((s.dst, s.src, s.rows.terms, s.cols.terms, s.pad, s.dtype))
        for name in ("dst_index", "dst_stride", "src_index", "src_stride"):
            poly: Poly = getattr(s, name)
            if narrow:
                self._tokens.append(poly.terms)
            else:
                self._index(s, name, poly)

    def _index(self, owner: Owner, name: str, poly: Poly) -> None:
        """The factors of an index, except those of lanes, which decide how memory is read."""
        self._tokens.append([m for m, _ in poly.terms])
        self.places.append((owner, name, len(self.numbers)))
        for monomial, factor in poly.terms:
            if self._open(monomial):
                self.numbers.append(factor)
            else:
                self._tokens.append(factor)

    def _open(self, monomial: Monomial) -> bool:
        return self.lanes.isdisjoint(monomial)

    # -- values
    def _value(self, v: Value | None, depth: int = 0) -> None:
        note = self._tokens.append
        known = self._seen.get(id(v))
        if v is None or known is not None:
            note(known)
            return
        if depth > DEEPEST:
            note(self.kernel.name)  # like no other
            return
        self._seen[id(v)] = len(self._seen)
        if isinstance(v, Load):
            note(("load", v.buffer, v.dtype, v.full))
            self._index(v, "index", v.index)
            self._value(v.when, depth + 1)
        elif isinstance(v, Op):
            note((v.fn, v.dtype, len(v.args)))
            args: Sequence[Value] = v.args
            if v.fn in COMMUTATIVE:
                args = sorted(args, key=self._shape)
            for a in args:
                self._value(a, depth + 1)
        else:
            note(self._shape(v))

    def _shape(self, v: Value | None) -> str:
        """A value without its numbers, to put operands in order."""
        found = self._shapes.get(id(v))
        if found is None:
            found = self._shapes[id(v)] = self._shape_of(v)
        return str(found)

    def _shape_of(self, v: Value | None) -> str:
        if isinstance(v, Load):
            monomials = [m for m, _ in v.index.terms]
            return f"load {v.buffer} {v.dtype} {v.full} {monomials} {self._shape(v.when)}"
        if isinstance(v, Op):
            # the operands' own order counts below this one, so that texts stay short
            return f"op {v.fn} {v.dtype} {[type(a).__name__ for a in v.args]}"
        if isinstance(v, Get):
            return f"get {v.name} {v.dtype} {[Poly.of(i).terms for i in v.at]}"
        if isinstance(v, Const):
            return f"const {v.number!r} {v.dtype}"
        return f"index {v.poly.terms} {v.dtype}" if isinstance(v, Index) else "none"


def _lanes(body: Sequence[Stmt]) -> Iterator[str]:
    """The names of lanes."""
    for s in body:
        if isinstance(s, Lanes):
            yield s.var
        if isinstance(s, (For, Lanes)):
            yield from _lanes(s.body)


class _General:
    """A kernel with polynomials in the place of its numbers."""

    def __init__(self, form: _Form, found: Sequence[Poly]) -> None:
        self.form, self.found = form, found
        self.polys: dict[tuple[int, str], Poly] = {}
        self.values: dict[int, Value] = {}

    def kernel(self) -> Kernel | None:
        """None where a polynomial that occurs twice would have to be two."""
        for owner, name, first in self.form.places:
            poly = self._poly(owner, name, first)
            if self.polys.setdefault((id(owner), name), poly) != poly:
                return None
        return replace(self.form.kernel, body=self._body(self.form.kernel.body))

    def _poly(self, owner: Owner, name: str, at: int) -> Poly:
        if isinstance(owner, For):
            return self.found[at] * max(owner.unroll, 1)
        total = Poly()
        for monomial, factor in getattr(owner, name).terms:
            term = Poly(((monomial, 1),))
            if self.form._open(monomial):
                total = total + term * self.found[at]
                at += 1
            else:
                total = total + term * factor
        return total

    def _body(self, body: Sequence[Stmt]) -> tuple[Stmt, ...]:
        return tuple(self._statement(s) for s in body)

    def _statement(self, s: Stmt) -> Stmt:
        if isinstance(s, For):
            extent = self.polys.get((id(s), "extent"), s.extent)
            return For(s.var, extent, self._body(s.body), s.unroll)
        if isinstance(s, Lanes):
            return Lanes(s.var, s.live, self._body(s.body))
        if isinstance(s, Let):
            return Let(s.name, self._value(s.value))
        if isinstance(s, Declare):
            return Declare(s.name, s.dtype, self._value(s.init), s.shape)
        if isinstance(s, Accumulate):
            return Accumulate(s.name, s.at, s.fn, self._value(s.value))
        if isinstance(s, Transpose):
            names = ("dst_index", "dst_stride", "src_index", "src_stride")
            polys = {n: self.polys.get((id(s), n), getattr(s, n)) for n in names}
            return replace(s, **polys)
        index = self.polys.get((id(s), "index"), s.index)
        if isinstance(s, Scatter):
            return Scatter(s.buffer, index, self._value(s.value))
        when = None if s.when is None else self._value(s.when)
        return Store(s.buffer, index, self._value(s.value), when, s.full)

    def _value(self, v: Value) -> Value:
        found = self.values.get(id(v))
        if found is None:
            found = self.values[id(v)] = self._new(v)
        return found

    def _new(self, v: Value) -> Value:
        if isinstance(v, Load):
            index = self.polys.get((id(v), "index"), v.index)
            when = None if v.when is None else self._value(v.when)
            return Load(v.buffer, index, v.dtype, when, v.full)
        if isinstance(v, Op):
            return Op(v.fn, tuple(self._value(a) for a in v.args), v.dtype)
        return v
