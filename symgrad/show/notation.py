"""The notation tree: mathematics as it is written on a page, before any alphabet is chosen.

In: terms, built bottom-up by `symgrad.show.build`. Out: terms, which `text`, `latex` and `mathml`
print. A term knows its number of axes (`rank`) and how many signs it takes up (`weight`).

    Name x   Number 2   Sum a - b   Product a b, a ⊙ b   Fraction a / b   Power a²   Transpose aᵀ
    Call tanh(x)   Relation a > b   Indicator 1[c]   Enclosed |x|   Cases   Slice x[1:]
    Spread (a row's number along the row)   Reduction, Tensor (sums, before indices have names)
    Big Σ_i   Indexed x_ij              (what `symgrad.show.indices` makes of the last two)

>>> Product((Transpose(Name("x", 2), 2), Name("d", 2)), 2)      # xᵀ d
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from fractions import Fraction as Share
from typing import Any

# How tightly the outermost sign of a term binds; printers put brackets around what binds less.
OR, AND, COMPARE, ADD, BIG = 10, 20, 40, 50, 55
HADAMARD, DIVIDE, JUXTAPOSED, POW, ATOM = 60, 61, 65, 80, 100


@dataclass(frozen=True, eq=False)
class Term:
    """What all terms have."""

    def __post_init__(self) -> None:
        own = 1
        for name in _fields(type(self)):
            value = getattr(self, name)
            if isinstance(value, str):
                own += len(value)
            elif isinstance(value, (Term, tuple)):
                own += sum(t.weight for t in _terms(value))
        object.__setattr__(self, "weight", own)

    weight = 1
    rank = 0

    @property
    def level(self) -> int:
        return ATOM

    def children(self) -> Iterator[Term]:
        for name in _fields(type(self)):
            value = getattr(self, name)
            if isinstance(value, (Term, tuple)):
                yield from _terms(value)


_names: dict[type, tuple[str, ...]] = {}


def _fields(kind: type[Term]) -> tuple[str, ...]:
    found = _names.get(kind)
    if found is None:
        found = _names[kind] = tuple(f.name for f in fields(kind))
    return found


def _terms(value: Any) -> Iterator[Term]:
    if isinstance(value, Term):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _terms(part)


@dataclass(frozen=True, eq=False)
class Name(Term):
    """A variable, a parameter, a part with a name; `role` is "leaf", "part" or "cotangent"."""

    text: str
    rank: int = 0
    role: str = "leaf"


@dataclass(frozen=True, eq=False)
class Number(Term):
    text: str

    @property
    def level(self) -> int:
        return ADD if self.text.startswith("-") else ATOM


@dataclass(frozen=True, eq=False)
class Sum(Term):
    """Terms with their signs, True for minus."""

    terms: tuple[tuple[bool, Term], ...]
    rank: int = 0

    @property
    def level(self) -> int:
        return ADD


@dataclass(frozen=True, eq=False)
class Product(Term):
    """Side by side (numbers, matrix products, outer products), or element by element."""

    factors: tuple[Term, ...]
    rank: int = 0
    hadamard: bool = False

    @property
    def level(self) -> int:
        return HADAMARD if self.hadamard else JUXTAPOSED


@dataclass(frozen=True, eq=False)
class Fraction(Term):
    top: Term
    bottom: Term
    rank: int = 0

    @property
    def level(self) -> int:
        return DIVIDE


@dataclass(frozen=True, eq=False)
class Power(Term):
    """Element by element."""

    base: Term
    exponent: Term
    rank: int = 0

    @property
    def level(self) -> int:
        return POW


@dataclass(frozen=True, eq=False)
class Transpose(Term):
    """Of a matrix, or a vector as a row."""

    base: Term
    rank: int = 0

    @property
    def level(self) -> int:
        return POW


@dataclass(frozen=True, eq=False)
class Call(Term):
    """A function; `below` are what is written as its index (the axis of a softmax)."""

    name: str
    args: tuple[Term, ...]
    rank: int = 0
    elementwise: bool = False
    below: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Relation(Term):
    """A comparison, or "and", "or"; "mod" and "//"."""

    sign: str
    left: Term
    right: Term
    rank: int = 0

    @property
    def level(self) -> int:
        return {"and": AND, "or": OR, "mod": DIVIDE, "//": DIVIDE}.get(self.sign, COMPARE)


@dataclass(frozen=True, eq=False)
class Indicator(Term):
    """1 where the condition holds, 0 elsewhere."""

    condition: Term
    rank: int = 0


@dataclass(frozen=True, eq=False)
class Enclosed(Term):
    """`kind` is "abs", "norm", "floor" or "ceil"."""

    kind: str
    base: Term
    rank: int = 0


@dataclass(frozen=True, eq=False)
class Cases(Term):
    """One value where the condition holds, another elsewhere."""

    value: Term
    condition: Term
    otherwise: Term
    rank: int = 0


@dataclass(frozen=True, eq=False)
class Slice(Term):
    """Part of an array, by NumPy's index of each axis; or one element by integers."""

    base: Term
    index: tuple[str, ...]
    rank: int = 0


@dataclass(frozen=True, eq=False)
class Mapped(Term):
    """Elements of a term by an affine map of the index, 0 (or the fill) where it leaves the term:
    the windows of a convolution. `maps` are those of a `Reindex`, `shown` the map as text."""

    base: Term
    maps: tuple[tuple[int, tuple[tuple[int, int], ...], int], ...]
    shown: str
    rank: int = 0


@dataclass(frozen=True, eq=False)
class Spread(Term):
    """A term repeated along the axes it lacks; `plain` when nobody could take it otherwise."""

    base: Term
    kept: tuple[bool, ...]
    plain: bool
    rank: int = 0

    @property
    def level(self) -> int:
        return self.base.level if self.plain else JUXTAPOSED


@dataclass(frozen=True, eq=False)
class Reduction(Term):
    """A sum (Σ), product (Π), max, min, ... over axes of a term."""

    symbol: str
    base: Term
    axes: tuple[int, ...]
    rank: int = 0

    @property
    def level(self) -> int:
        return BIG


@dataclass(frozen=True, eq=False)
class Tensor(Term):
    """A product of terms with labelled axes, summed over the labels that the result lacks."""

    factors: tuple[Term, ...]
    labels: tuple[tuple[int, ...], ...]
    out: tuple[int, ...]
    rank: int = 0

    @property
    def level(self) -> int:
        return BIG


@dataclass(frozen=True, eq=False)
class Big(Term):
    """A reduction whose indices have letters; `free` are those of the axes that are left."""

    symbol: str
    indices: tuple[str, ...]
    body: Term
    free: tuple[str, ...] = ()
    rank: int = 0

    @property
    def level(self) -> int:
        return BIG


@dataclass(frozen=True, eq=False)
class Indexed(Term):
    """One element; `array` when the letters only say which axis is which."""

    base: Term
    indices: tuple[str, ...]
    rank: int = 0


# -- numbers, signs and factors taken apart and put together ------------------------------------

ONE = Number("1")
LONG = 24  # the weight from which a product does not stand above a line


@dataclass(frozen=True)
class Factors:
    """sign * numbers * rest / divisors: what a product is made of."""

    negative: bool
    scalars: tuple[Term, ...]
    rest: Term | None
    divisors: tuple[Term, ...]


def factors(term: Term) -> Factors:
    """The 0-d factors of a term, in front of it and below it."""
    if isinstance(term, Sum) and len(term.terms) == 1:
        inner = factors(term.terms[0][1])
        return Factors(
            inner.negative != term.terms[0][0], inner.scalars, inner.rest, inner.divisors
        )
    if isinstance(term, Number) and term.text.startswith("-"):
        return Factors(True, (Number(term.text[1:]),), None, ())
    if isinstance(term, Spread) and not term.base.rank:
        return factors(term.base)
    if isinstance(term, Spread):
        inner = factors(term.base)
        if inner.rest is None or inner.rest is term.base:
            return Factors(False, (), term, ())
        along = Spread(inner.rest, term.kept, term.plain, term.rank)
        return Factors(inner.negative, inner.scalars, along, inner.divisors)
    if isinstance(term, Fraction) and not term.bottom.rank:
        inner = factors(term.top)
        return Factors(inner.negative, inner.scalars, inner.rest, inner.divisors + (term.bottom,))
    if isinstance(term, Product) and not term.hadamard:
        scalars = tuple(t for t in term.factors if not t.rank)
        others = tuple(t for t in term.factors if t.rank)
        if not others or term.rank:
            rest = None if not others else others[0] if len(others) == 1 else None
            if len(others) > 1:
                rest = Product(others, term.rank)
            if scalars or rest is None:
                return Factors(False, scalars, rest, ())
    if not term.rank:
        return Factors(False, () if is_one(term) else (term,), None, ())
    return Factors(False, (), term, ())


def is_one(term: Term) -> bool:
    return isinstance(term, Number) and term.text == "1"


def assembled(parts: Factors, rank: int) -> Term:
    """The term that `factors` takes apart."""
    parts = _folded(parts)
    numbers = [t for t in parts.scalars if isinstance(t, Number) and not is_one(t)]
    shown: list[Term] = [*numbers, *(t for t in parts.scalars if not isinstance(t, Number))]
    if parts.rest is not None:
        rest = parts.rest
        open_ = isinstance(rest, Product) and not rest.hadamard
        shown += rest.factors if isinstance(rest, Product) and open_ else (rest,)
    top = shown[0] if len(shown) == 1 else Product(tuple(shown), rank) if shown else ONE
    if parts.divisors:
        below = [t for d in parts.divisors for t in _flat(d)]
        below = [t for t in below if not is_one(t)] or [ONE]
        bottom = below[0] if len(below) == 1 else Product(tuple(below))
        top = top if is_one(bottom) else Fraction(top, bottom, rank)
    return Sum(((True, top),), rank) if parts.negative else top


def apart(term: Fraction) -> tuple[Fraction, Term] | None:
    """A share and the long product or the sum that stands behind it: 2/n and xᵀ (p - y)."""
    top = term.top
    if term.bottom.rank:
        return None
    if isinstance(top, Big):
        return Fraction(ONE, term.bottom), top
    if not isinstance(top, Product):
        return None
    scalars: list[Term] = []
    rest = list(top.factors)
    while not top.hadamard and rest and not rest[0].rank and not isinstance(rest[0], Big):
        scalars.append(rest.pop(0))
    if not rest or not isinstance(rest[0], Big) and (not top.rank or top.weight <= LONG):
        return None
    behind = rest[0] if len(rest) == 1 else Product(tuple(rest), top.rank, top.hadamard)
    above = scalars[0] if len(scalars) == 1 else Product(tuple(scalars)) if scalars else ONE
    return Fraction(above, term.bottom), behind


def sum_behind(term: Fraction) -> bool:
    """Whether what stands behind a share has an end only where its sum has one."""
    found = apart(term)
    return found is not None and found[1].level == BIG


def _folded(parts: Factors) -> Factors:
    """Numbers above and below as one share: 2 x / 8 is x / 4."""
    below = [t for d in parts.divisors for t in _flat(d)]
    numbers = [t for t in parts.scalars if _is_plain(t) and not is_one(t)]
    divisors = [t for t in below if _is_plain(t)]
    if len(numbers) + len(divisors) < 2:
        return parts
    value = Share(1)
    for t in numbers:
        value *= Share(t.text)  # type: ignore[attr-defined]
    for t in divisors:
        value /= Share(t.text)  # type: ignore[attr-defined]
    top, bottom = (Number(str(k)) for k in value.as_integer_ratio())
    rest = tuple(t for t in parts.scalars if t not in numbers)
    others = tuple(t for t in below if t not in divisors)
    return Factors(
        parts.negative,
        (rest if is_one(top) else (top, *rest)),
        parts.rest,
        (others if is_one(bottom) else (bottom, *others)),
    )


def _is_plain(term: Term) -> bool:
    """A positive number in few digits."""
    return (
        isinstance(term, Number)
        and term.text.replace(".", "", 1).isdigit()
        and (term.text.strip("0.") != "" and len(term.text) < 8)
    )


def _flat(term: Term) -> tuple[Term, ...]:
    return term.factors if isinstance(term, Product) and not term.hadamard else (term,)


def joined(left: Factors, right: Factors, rest: Term | None) -> Factors:
    """The numbers of both in front of `rest`."""
    return Factors(
        left.negative != right.negative,
        left.scalars + right.scalars,
        rest,
        left.divisors + right.divisors,
    )


def _turn(first: tuple[bool, Term], second: tuple[bool, Term]) -> bool:
    """b - a instead of -a + b, and W x + b instead of b + W x."""
    if first[0] or second[0]:
        return first[0] and not second[0]
    bias = first[1].base if isinstance(first[1], Spread) else first[1]
    matrix = isinstance(second[1], Product) and not second[1].hadamard and second[1].rank > 0
    return isinstance(bias, Name) and matrix


def added(terms: list[tuple[bool, Term]], rank: int) -> Term:
    """A sum, sums inside of it opened."""
    flat: list[tuple[bool, Term]] = []
    for negative, term in terms:
        if isinstance(term, Spread):
            own = factors(term)
            if own.negative or own.scalars or own.divisors:
                term = assembled(own, rank)
        if isinstance(term, Sum):
            flat += [(negative != sign, t) for sign, t in term.terms]
        elif isinstance(term, Number) and term.text.startswith("-"):
            flat.append((not negative, Number(term.text[1:])))
        else:
            flat.append((negative, term))
    if len(flat) == 2 and _turn(*flat):
        flat.reverse()
    first = next((k for k, (negative, _) in enumerate(flat) if not negative), 0)
    flat.insert(0, flat.pop(first))  # no sign in front where there need be none
    return flat[0][1] if len(flat) == 1 and not flat[0][0] else Sum(tuple(flat), rank)
