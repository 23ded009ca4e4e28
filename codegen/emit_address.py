"""Index polynomials as instructions: integers, and the pointers of loads and stores.

In: a `Poly` and what its names are bound to. Out: a register, or a `Place` in memory. A polynomial
is split by the loop where its names become known; each part is added to the pointer in front of
the loops it does not depend on, so that the innermost loop adds constants only.

>>> place = a.place("x", index)    # index = 16*b*n + 16*k + l, l the lane variable
>>> place.kind, place.pointer                # base + 16*b*n once per b, then + 16*k once per k
('row', Reg(%.9))
"""

from __future__ import annotations

from typing import Sequence, Union

from codegen.emit_builder import Builder, EmitError, Reg
from codegen.loops import Poly, PolyLike

# What a name is bound to: a known integer (a variable of an unrolled loop), a register, or a
# register plus an integer (a copy of a partly unrolled loop).
Binding = Union[int, Reg, tuple[Reg, int]]
Term = tuple[tuple[Reg, ...], int]
Terms = dict[tuple[Reg, ...], int]


class Place:
    """Where an access goes. `kind` is "one" (all lanes the same element), "row" (consecutive
    elements) or "each" (`pointer` is a vector of pointers)."""

    __slots__ = ("pointer", "kind")

    def __init__(self, pointer: Reg, kind: str) -> None:
        self.pointer, self.kind = pointer, kind


class Sum:
    """A polynomial over registers: a constant, and products of registers times a factor, the
    scalar ones and those that differ by lane."""

    __slots__ = ("constant", "scalars", "vectors")

    def __init__(self, constant: int, terms: Sequence[Term]) -> None:
        self.constant = constant
        self.scalars: Terms = {}
        self.vectors: Terms = {}
        for regs, factor in terms:
            if len(regs) > 1:
                regs = tuple(sorted(regs, key=_by_depth))
            kind = self.scalars
            for reg in regs:
                if reg.vec:
                    kind = self.vectors
            kind[regs] = kind.get(regs, 0) + factor


class Addresses(Builder):
    """Adds to the builder the names in scope (`env`), the kernel's buffers (`pointers`, with their
    element types) and the lane variable of the `Lanes` around."""

    env: dict[str, Binding]
    pointers: dict[str, tuple[Reg, str]]
    lane: Reg | None
    places: dict[tuple, Place]
    names: dict[int, tuple[str, ...]]

    def binding(self, name: str) -> Binding:
        try:
            return self.env[name]
        except KeyError:
            known = ", ".join(sorted(self.env))
            raise EmitError(f"index name {name!r} is not in scope (known: {known})") from None

    def normalise(self, poly: PolyLike) -> Sum:
        """The polynomial with its names replaced by what they are bound to."""
        return Sum(*self._terms(Poly.of(poly)))

    def _terms(self, poly: Poly) -> tuple[int, list[Term]]:
        """The constant and the other terms, not yet collected. This is where emitting spends its
        time, so the common case, a factor times one name, is on its own."""
        constant = 0
        terms: list[Term] = []
        for monomial, factor in poly.terms:
            if len(monomial) == 1:
                bound = self.env.get(monomial[0])
                if type(bound) is int:
                    constant += factor * bound
                elif type(bound) is Reg:
                    terms.append(((self._wide(bound),), factor))
                elif type(bound) is tuple:
                    constant += factor * bound[1]
                    terms.append(((bound[0],), factor))
                else:
                    self.binding(monomial[0])
            elif not monomial:
                constant += factor
            else:
                for regs, c in self._products(monomial, factor):
                    if regs:
                        terms.append((regs, c))
                    else:
                        constant += c
        return constant, terms

    def _products(self, monomial: tuple[str, ...], factor: int) -> list[Term]:
        products: list[Term] = [((), factor)]
        for name in monomial:
            bound = self.binding(name)
            if isinstance(bound, int):
                products = [(regs, c * bound) for regs, c in products]
            elif isinstance(bound, Reg):
                reg = self._wide(bound)
                products = [(regs + (reg,), c) for regs, c in products]
            else:
                base, offset = bound
                with_base = [(regs + (base,), c) for regs, c in products]
                products = with_base + [(regs, c * offset) for regs, c in products]
        return products

    def _wide(self, reg: Reg) -> Reg:
        """An integer register as int64."""
        if reg.dtype == "int64":
            return reg
        if reg.dtype not in ("int32", "bool"):
            raise EmitError(f"an index cannot contain a value of dtype {reg.dtype}")
        return self.convert("sext" if reg.dtype == "int32" else "zext", reg, "int64")

    # -- integers

    def integer(self, poly: PolyLike) -> Reg | int:
        """A polynomial that is the same in all lanes: an int where it is known."""
        if isinstance(poly, int):
            return poly
        if isinstance(poly, str):
            bound = self.binding(poly)
            if isinstance(bound, int):
                return bound
        total = self.normalise(poly)
        if total.vectors:
            raise EmitError(f"{poly} must not differ by lane")
        if not total.scalars:
            return total.constant
        return self._sum(total.scalars, total.constant, "int64")

    def index(self, poly: Poly, dtype: str) -> Reg:
        """A polynomial as a number of `dtype`."""
        total = self.normalise(poly)
        scalar = self._sum(total.scalars, total.constant, "int64") if total.scalars else None
        if not total.vectors:
            if scalar is None:
                return self.const(total.constant, dtype)
            return scalar if dtype == "int64" else self._narrow(scalar, dtype)
        vector = self._sum(total.vectors, 0 if scalar else total.constant, dtype)
        if scalar is None:
            return vector
        return self.binary("add", vector, self._narrow(scalar, dtype))

    def _narrow(self, reg: Reg, dtype: str) -> Reg:
        """An int64 in `dtype`; the lane numbers are written anew, which costs nothing."""
        if reg.dtype == dtype:
            return reg
        if self.lane is not None and reg.ref == self.lane.ref:
            return self.iota(dtype)
        return self.convert("trunc", reg, dtype)

    def _sum(self, terms: Terms, extra: int, dtype: str) -> Reg:
        """The sum of products, outer variables first so that partial results move outward."""
        total: Reg | None = None
        for regs, factor in sorted(terms.items(), key=_depth_of_term):
            product: Reg | None = None
            if factor != 1:
                product = self.const(factor, dtype)
            for reg in regs:
                reg = self._narrow(reg, dtype)
                product = reg if product is None else self.binary("mul", reg, product)
            assert product is not None
            total = product if total is None else self.binary("add", product, total)
        assert total is not None
        return self.binary("add", total, self.const(extra, dtype)) if extra else total

    # -- memory

    def place(self, buffer: str, index: Poly) -> Place:
        """Where `buffer[index]` is."""
        names = self.names.get(id(index))
        if names is None:
            names = self.names[id(index)] = tuple(sorted(index.names))
        env = self.env
        try:
            key = (buffer, id(index), *[env[n] for n in names])
        except KeyError as missing:
            self.binding(str(missing.args[0]))
            raise
        found = self.places.get(key)
        if found is None:
            found = self.places[key] = self._place(buffer, index)
        return found

    def _place(self, buffer: str, index: Poly) -> Place:
        if buffer not in self.pointers:
            raise EmitError(f"{buffer!r} is not a parameter of this kernel")
        constant, terms = self._terms(index)
        key = (buffer, *terms)
        base = self.places.get(key)
        if base is None:
            base = self.places[key] = self._base_place(buffer, Sum(0, terms))
        if not constant:
            return base
        dtype = self.pointers[buffer][1]
        return Place(self.element(base.pointer, constant, dtype), base.kind)

    def _base_place(self, buffer: str, total: Sum) -> Place:
        """The place of a sum without a constant."""
        pointer, dtype = self.pointers[buffer]
        by_depth: dict[int, Terms] = {}
        for regs, factor in total.scalars.items():
            by_depth.setdefault(regs[-1].depth, {})[regs] = factor
        for depth in sorted(by_depth):
            pointer = self.element(pointer, self._sum(by_depth[depth], 0, "int64"), dtype)
        if not total.vectors:
            return Place(self._settled(pointer), "one")
        if self.lane is not None and len(total.vectors) == 1:
            (regs, factor), *_ = total.vectors.items()
            if factor == 1 and len(regs) == 1 and regs[0].ref == self.lane.ref:
                return Place(self._settled(pointer), "row")
        return Place(self.element(pointer, self._sum(total.vectors, 0, "int64"), dtype), "each")

    def _settled(self, pointer: Reg) -> Reg:
        """The pointer as one value to LLVM. `freeze` costs nothing at run time, but hides from loop
        strength reduction that every access around this pointer moves with the loop: that pass
        would weigh each of them, a third of the compile time, and find nothing better."""
        if not pointer.depth:
            return pointer
        return self.pure(f"freeze ptr {pointer.ref}", "ptr", False, pointer.depth)


def _by_depth(reg: Reg) -> tuple[int, str]:
    return reg.depth, reg.ref


def _depth_of_term(term: tuple[tuple[Reg, ...], int]) -> tuple[int, list[str]]:
    return term[0][-1].depth, [reg.ref for reg in term[0]]
