"""Loops as a reader writes them: where it starts, what a step does, what it goes along.

In: one result of a loop, the terms of its operands. Out: its term.

>>> print(scan(lambda h, x: (tanh(x + h @ W), None), h0, xs)[0])
last(h, h(0) := h0, h ← tanh(Wᵀ h + x), x ∈ xs)

`last` is the value after the last step, `steps` a value of every step along a new leading axis.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgrad.loop import Scan, Slot
from symgrad.show.notation import Call, Name, Number, Relation, Term


def loop(node: Scan, args: Sequence[Term]) -> Term:
    """`args` are the terms of sequences, initial carries, new carries and the stacked value."""
    own = node.loop
    sequences, carries = len(own.sequences), len(own.carries)
    slices, rest = args[:sequences], args[sequences:]
    initials, news = rest[:carries], rest[carries : 2 * carries]
    says: list[Term] = []
    for slot, first, new in zip(own.carries, initials, news):
        says.append(Relation(":=", Call(slot.name, (Number("0"),), slot.ndim), first))
        says.append(Relation("←", _name(slot), new))
    says += [Relation("∈", _name(slot), s) for slot, s in zip(own.slices, slices)]
    if not says:
        says = [Relation("<", Name("step"), Number(str(own.length)))]
    what = args[-1] if node.position is None else _name(own.carries[node.position])
    name = "steps" if node.position is None else "last"
    below = ("reversed",) if own.reverse else ()
    return Call(name, (what, *says), node.ndim, below=below)


def _name(slot: Slot) -> Name:
    return Name(slot.name, slot.ndim)
