"""Loops of a scheduled graph: results, and bodies with leaves of their own.

    Looped(body, number)        one result of a loop; its operands are all the loop reads
    Slice | Carry | Lent        leaves of a body: what stands for these operands, in this order

`outline.cut` makes them of the `Scan`s of a graph. A leaf has its node's shape, a `Slice` one axis
less, and is identified by object; where it lies is known when the body is scheduled.

>>> loop = cut([Scan.final(loop, 0)])[0]
>>> loop.args, loop.body.leaves
((<xs>, <zeros>, <W>), (<xs>, <h>, <W>))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from symgrad import source
from symgrad.expr import Expr, intern, make
from symgrad.leaves import Leaf
from symgrad.sizes import Size

Self = TypeVar("Self", bound="Bound")


class Bound(Leaf):
    """A leaf that lies where the graph around the loop says."""

    __slots__ = ("_name",)
    _name: str

    @classmethod
    def like(cls: type[Self], n: Expr) -> Self:
        """A leaf of a node's name, shape and dtype."""
        with source.at(n.where):
            leaf: Self = make(cls, (), (n.name,), n.shape, n.dtype)
        leaf._name = n.name
        return leaf

    @property
    def name(self) -> str:
        return self._name


class Slice(Bound):
    """One step of a sequence."""

    __slots__ = ()
    kind = "slice"


class Carry(Bound):
    """A value carried from step to step, as it is when a step begins."""

    __slots__ = ()
    kind = "carry"


class Lent(Bound):
    """A value from outside of the loop."""

    __slots__ = ()
    kind = "lent"


@dataclass(eq=False, repr=False)
class Body:
    """What a loop repeats. `leaves` stand for the operands of its `Looped` nodes, in this order:
    sequences, initial carries, all else; `values` are what its results stack."""

    length: Size
    reverse: bool
    slices: tuple[Slice, ...]
    carries: tuple[Carry, ...]
    lent: tuple[Lent, ...] = ()
    news: tuple[Expr, ...] = ()
    values: tuple[Expr, ...] = ()
    nodes: list[Expr] = field(default_factory=list)  # operands first

    @property
    def leaves(self) -> tuple[Bound, ...]:
        return (*self.slices, *self.carries, *self.lent)

    @property
    def roots(self) -> list[Expr]:
        return [*self.news, *self.values]

    def __repr__(self) -> str:
        return f"<body of a loop over {self.length}>"


class Looped(Expr):
    """A result of a loop: the last value of carry `number`, or, behind the carries, a stack."""

    __slots__ = ()
    kind = "loop"

    @classmethod
    def of(cls, body: Body, number: int, args: Sequence[Expr], like: Expr) -> Looped:
        return intern(cls, tuple(args), (body, number), like.shape, like.dtype)  # type: ignore[no-any-return]

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        return intern(Looped, args, self.attrs, self.shape, self.dtype)  # type: ignore[no-any-return]

    @property
    def body(self) -> Body:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def carry(self) -> Carry | None:
        """The carry whose last value this is; None for a stack."""
        number, carries = self.attrs[1], self.body.carries
        return carries[number] if number < len(carries) else None

    @property
    def value(self) -> Expr:
        """What is stacked."""
        return self.body.values[self.attrs[1] - len(self.body.carries)]


def flattened(nodes: Iterable[Expr], seen: set[Body] | None = None) -> Iterator[Expr]:
    """All nodes, those of bodies right before the first result of their loop."""
    seen = set() if seen is None else seen
    for n in nodes:
        if isinstance(n, Looped) and n.body not in seen:
            seen.add(n.body)
            yield from flattened(n.body.nodes, seen)
        yield n
