"""Sizes as polynomials of the loop grammar, and the sizes derived from them.

In: sizes of shapes (ints and `Dim`s). Out: `Poly`s over names that the program declares.

>>> s = Symbols(16)
>>> s.blocks(Dim("batch", 256)), s.sizes["batch.blocks"]
(Poly batch.blocks, Derived("ceildiv", batch, 16))
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from codegen.loops import Derived, Poly
from symgrad.errors import GraphError
from symgrad.sizes import Dim, Shape, Size, maximum


class Symbols:
    """The run-time sizes of one program; loops take none of the users' `names`."""

    def __init__(self, lanes: int, names: Iterable[str] = ()) -> None:
        self.lanes = lanes
        self.names = frozenset(names)
        self.sizes: dict[str, int | Derived] = {}
        self.variables = 0  # of loops around kernels
        self.largest: dict[str, int] = {}  # of every name, derived ones too

    def poly(self, size: Size) -> Poly:
        """The size itself."""
        if isinstance(size, int):
            return Poly.of(size)
        known = self.sizes.setdefault(size.name, size.max)
        if known != size.max:
            raise GraphError(f"dim {size.name!r} is declared with max {known} and max {size.max}")
        self.largest[size.name] = size.max
        return Poly.of(size.name) * size.factor

    def derived(self, op: str, size: Size | Poly, by: int, name: str) -> Poly:
        """`size op by`, a plain number where it is known."""
        poly = size if isinstance(size, Poly) else self.poly(size)
        known = poly.constant
        if known is not None:
            return Poly.of({"ceildiv": -(-known // by), "div": known // by, "mod": known % by}[op])
        most = self.most(poly)
        self.sizes.setdefault(name, Derived(op, poly, by))
        self.largest[name] = {"ceildiv": -(-most // by), "div": most // by, "mod": by - 1}[op]
        return Poly.of(name)

    def variable(self, stem: str) -> str:
        """A name for the steps of a loop, that no size has."""
        self.variables += 1
        name = stem if self.variables == 1 else f"{stem}{self.variables}"
        return self.variable(stem) if name in self.names else name

    def most(self, poly: Poly) -> int:
        """An upper bound, for polynomials of sizes alone."""
        return poly.value(self.largest)

    def blocks(self, size: Size) -> Poly:
        """How many blocks of lanes hold that many elements."""
        return self.derived("ceildiv", size, self.lanes, f"{_name(size)}.blocks")

    def full_blocks(self, size: Size) -> Poly:
        """How many of them are full."""
        return self.derived("div", size, self.lanes, f"{_name(size)}.full")

    def rest(self, size: Size) -> Poly:
        """How many elements the last block holds when it is not full; else 0."""
        return self.derived("mod", size, self.lanes, f"{_name(size)}.rest")

    def has_rest(self, size: Size) -> Poly:
        """1 when the last block is not full."""
        return self.derived("ceildiv", self.rest(size), self.lanes, f"{_name(size)}.tail")

    def few(self, size: Size, most: int) -> tuple[Poly, Poly]:
        """Blocks to compute as such, and 1 when up to `most` rows remain behind them, else 0."""
        name = _name(size)
        main = self.derived(
            "div", self.poly(size) + (self.lanes - most - 1), self.lanes, f"{name}.main"
        )
        few = self.derived("div", self.blocks(size) - main, 1, f"{name}.few")
        if few.constant is None:
            self.largest[f"{name}.few"] = 1
        return main, few

    def groups(self, blocks: Poly, by: int) -> tuple[Poly, Poly]:
        """Blocks in groups of `by`: how many groups, how many blocks remain."""
        name = str(blocks)
        return (
            self.derived("div", blocks, by, f"{name}.by{by}"),
            self.derived("mod", blocks, by, f"{name}.left{by}"),
        )

    def strides(self, extents: list[Poly]) -> list[Poly]:
        """Row-major strides of these extents."""
        result = [Poly.of(1)] * len(extents)
        for i in range(len(extents) - 2, -1, -1):
            result[i] = result[i + 1] * extents[i + 1]
        return result


def live_lanes(symbols: Symbols, size: Size, block: Poly) -> Poly | None:
    """How many lanes of a block are live; None when all always are."""
    known = size if isinstance(size, int) else None
    if known is not None and known % symbols.lanes == 0:
        return None
    return symbols.poly(size) - block * symbols.lanes


def _name(size: Size) -> str:
    return str(size).replace("*", "x") if isinstance(size, Dim) else str(size)


def divide(poly: Poly, by: int, bounds: dict[str, int]) -> tuple[Poly, Poly] | None:
    """`(quotient, remainder)` when they are polynomials for all values below `bounds`, else None.

    Terms whose coefficient is a multiple of `by` make the quotient; the others must stay below it.
    """
    if by <= 1:  # of an empty axis there is no index at all
        return poly, Poly()
    quotient, rest = [], []
    for monomial, coefficient in poly.terms:
        whole, part = divmod(coefficient, by)
        if part == 0:
            quotient.append((monomial, whole))
        elif not monomial:
            if whole:
                quotient.append((monomial, whole))
            rest.append((monomial, part))
        else:
            rest.append((monomial, coefficient))
    remainder = Poly(tuple(rest))
    most = 0
    for monomial, coefficient in remainder.terms:
        if coefficient < 0 or any(name not in bounds for name in monomial):
            return None
        most += coefficient * math.prod(bounds[name] - 1 for name in monomial)
    return (Poly(tuple(sorted(quotient))), remainder) if most < by else None


def elements(shape: Shape) -> int:
    """Elements of a shape at the planned maximum."""
    return math.prod(maximum(s) for s in shape)
