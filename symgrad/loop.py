"""Loops: a body repeated over the leading axis of sequences, with values carried between steps.

    Loop(slots, sequences, initials, news, length, reverse)     what runs
    Scan(loop, position)                                        the last value of one carry
    Scan(loop, output)                                          a value of the body, of every step

In: sequences, initial carries, and the body as expressions over `Slot` leaves, one for each slice
and then one for each carry. Out: nodes, one for every result. Whatever the body uses from outside
it refers to like any expression; only what depends on a slot is run at each step. Results with one
loop are computed by running it once.

>>> x, total = Slot("x", ()), Slot("total", (), position=1)
>>> loop = Loop((x, total), (xs,), (zero,), (total + x,), xs.shape[0])
>>> Scan.final(loop, 0), Scan.stacked(loop, total + x)        # the sum, and the running sums
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Callable, Iterable, Sequence

from symgrad import source
from symgrad.errors import DTypeError, ShapeError
from symgrad.expr import Expr, intern
from symgrad.leaves import Slot
from symgrad.sizes import Size, show


class Loop:
    """What a loop runs, and so what its results have in common; equal when all parts are the same.

    `slots` are those of the sequences, then those of the carries; `news` the next values of the
    carries. Step t reads index t of every sequence and writes index t of every stacked result,
    t = 0, 1 .. length-1, with `reverse` from the last to the first.
    """

    def __init__(
        self,
        slots: Iterable[Slot],
        sequences: Iterable[Expr],
        initials: Iterable[Expr],
        news: Iterable[Expr],
        length: Size,
        reverse: bool = False,
    ) -> None:
        self.slots, self.sequences = tuple(slots), tuple(sequences)
        self.initials, self.news = tuple(initials), tuple(news)
        self.length, self.reverse = length, reverse
        ids = tuple(map(id, (*self.slots, *self.sequences, *self.initials, *self.news)))
        self._key = (ids, len(self.slots), len(self.sequences), length, reverse)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loop) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<loop over {self.length}: {', '.join(s.name for s in self.slots)}>"

    @property
    def slices(self) -> tuple[Slot, ...]:
        """The slots of the sequences."""
        return self.slots[: len(self.sequences)]

    @property
    def carries(self) -> tuple[Slot, ...]:
        """The slots of the carries."""
        return self.slots[len(self.sequences) :]

    @cached_property
    def bound(self) -> frozenset[Slot]:
        return frozenset(self.slots)

    def check(self) -> None:
        """Raise ShapeError or DTypeError where slots do not fit what they stand for."""
        for slot, sequence in zip(self.slices, self.sequences):
            if sequence.shape != (self.length, *slot.shape) or sequence.dtype != slot.dtype:
                raise _misfit(slot, sequence, f"a sequence over {self.length}")
        for slot, initial, new in zip(self.carries, self.initials, self.news):
            for value, what in ((initial, "its first value"), (new, "its next value")):
                if value.shape != slot.shape:
                    raise _misfit(slot, value, what)
                if value.dtype != slot.dtype:
                    raise DTypeError(
                        f"scan: carry {slot.name!r} is {slot.dtype}, {what} {value.dtype}"
                        + source.quote(value.where)
                    )


def _misfit(slot: Slot, value: Expr, what: str) -> ShapeError:
    return ShapeError(
        f"scan: {slot.name!r} is {slot.dtype}{show(slot.shape)}, {what} "
        f"{value.dtype}{show(value.shape)}" + source.quote(value.where)
    )


class Scan(Expr):
    """One result of a loop.

    Operands: the sequences, the initial carries, the new carries, and for a stacked result the
    value of the body that is stacked. The operands behind the initial carries are the body: they
    have values only while the loop runs.
    """

    __slots__ = ("_loop",)
    kind = "scan"
    _loop: Loop

    @classmethod
    def _of(cls, loop: Loop, position: int | None, output: Expr | None) -> Scan:
        loop.check()
        args = (*loop.sequences, *loop.initials, *loop.news)
        attrs = (loop.slots, len(loop.sequences), loop.length, loop.reverse, position)
        if output is None:
            assert position is not None
            like = loop.carries[position]
            return intern(cls, args, attrs, like.shape, like.dtype)  # type: ignore[no-any-return]
        shape = (loop.length, *output.shape)
        return intern(cls, (*args, output), attrs, shape, output.dtype)  # type: ignore[no-any-return]

    @classmethod
    def final(cls, loop: Loop, position: int) -> Scan:
        """The value of a carry after the last step."""
        return cls._of(loop, position, None)

    @classmethod
    def stacked(cls, loop: Loop, output: Expr) -> Scan:
        """A value of the body at every step, along a new leading axis."""
        return cls._of(loop, None, output)

    @classmethod
    def bound(cls, attrs: tuple[Any, ...]) -> frozenset[Any]:
        return frozenset(attrs[0])

    def _rebuild(self, args: tuple[Expr, ...]) -> Expr:
        sequences, carries = len(self.sequences), len(self.initials)
        loop = Loop(
            self.slots,
            args[:sequences],
            args[sequences : sequences + carries],
            args[sequences + carries : sequences + 2 * carries],
            self.length,
            self.reverse,
        )
        return Scan._of(loop, self.position, None if self.output is None else args[-1])

    @property
    def loop(self) -> Loop:
        """What runs: equal for all results of one loop."""
        try:
            return self._loop
        except AttributeError:
            self._loop = Loop(
                self.slots, self.sequences, self.initials, self.news, self.length, self.reverse
            )
            return self._loop

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self.attrs[0]  # type: ignore[no-any-return]

    @property
    def length(self) -> Size:
        return self.attrs[2]  # type: ignore[no-any-return]

    @property
    def reverse(self) -> bool:
        return self.attrs[3]  # type: ignore[no-any-return]

    @property
    def position(self) -> int | None:
        """Which carry this is the last value of; None for a stacked result."""
        return self.attrs[4]  # type: ignore[no-any-return]

    @property
    def sequences(self) -> tuple[Expr, ...]:
        return self.args[: self.attrs[1]]

    @property
    def _carried(self) -> int:
        return len(self.slots) - self.attrs[1]  # type: ignore[no-any-return]

    @property
    def initials(self) -> tuple[Expr, ...]:
        return self.args[self.attrs[1] : len(self.slots)]

    @property
    def news(self) -> tuple[Expr, ...]:
        return self.args[len(self.slots) : len(self.slots) + self._carried]

    @property
    def output(self) -> Expr | None:
        """The value of the body that is stacked; None for the last value of a carry."""
        return self.args[-1] if self.position is None else None


def results(order: Iterable[Expr]) -> dict[Loop, list[Scan]]:
    """The results of every loop among some nodes."""
    found: dict[Loop, list[Scan]] = {}
    for node in order:
        if isinstance(node, Scan):
            found.setdefault(node.loop, []).append(node)
    return found


def around(found: Sequence[Scan]) -> frozenset[Any]:
    """Slots of the loops around a loop that it depends on."""
    return frozenset().union(*(n.free for n in found))


def inside(found: Sequence[Scan]) -> list[Expr]:
    """All that runs within a loop, operands first: its body and the bodies of loops inside it."""
    outer = around(found)
    loop = found[0].loop
    roots = [*loop.news, *(n.output for n in found if n.output is not None)]

    def below(node: Expr) -> list[Expr]:
        return [a for a in node.args if not a.free <= outer]

    return operands_first([e for e in roots if not e.free <= outer], below)


def body(found: Sequence[Scan]) -> list[Expr]:
    """What runs once at each step of the loop with these results, operands first."""
    level = around(found) | found[0].loop.bound
    return [n for n in inside(found) if n.free <= level]


def captured(found: Sequence[Scan]) -> list[Expr]:
    """What the body uses from outside of the loop, other than sequences and initial carries."""
    outer = around(found)
    loop = found[0].loop
    roots = [*loop.news, *(n.output for n in found if n.output is not None)]
    read = [*roots, *(a for n in inside(found) for a in n.args)]
    return list({id(e): e for e in read if e.free <= outer}.values())


def operands_first(outputs: Iterable[Expr], below: Callable[[Expr], Sequence[Expr]]) -> list[Expr]:
    """Every node reached from the outputs, each behind those that `below` gives for it."""
    order: list[Expr] = []
    done: set[int] = set()
    for root in outputs:
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            waiting = [a for a in below(node) if id(a) not in done]
            if waiting:
                waiting.reverse()
                stack += waiting
            else:
                stack.pop()
                done.add(id(node))
                order.append(node)
    return order
