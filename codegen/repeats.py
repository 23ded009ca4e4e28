"""All calls of a program in the order of its text, those inside of repeats among them.

In: a program. Out: its calls one after the other, each with the repeats around it and its offsets.
A call's number in this order is its place everywhere: in the memory plan, in counts, in profiles.

>>> [(at.call.kernel, [r.var for r in at.repeats]) for at in flat(program)]
[('start', []), ('step', ['t']), ('finish', [])]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from codegen.loops import Call, Poly, Program, Repeat


class At(NamedTuple):
    """A call and the repeats around it, from outside to inside."""

    call: Call
    repeats: tuple[Repeat, ...]


def flat(program: Program) -> list[At]:
    """Every call of the program once, in the order of the text."""
    return list(_walk(program.calls, ()))


def _walk(calls: Iterable[Call | Repeat], around: tuple[Repeat, ...]) -> Iterator[At]:
    for call in calls:
        if isinstance(call, Repeat):
            yield from _walk(call.calls, (*around, call))
        else:
            yield At(call, around)


def repeats(program: Program) -> list[Repeat]:
    """Every repeat, outer ones before those in them."""
    found: list[Repeat] = []
    stack = [*reversed(program.calls)]
    while stack:
        call = stack.pop()
        if isinstance(call, Repeat):
            found.append(call)
            stack.extend(reversed(call.calls))
    return found


def offsets(call: Call) -> tuple[Poly, ...]:
    """The offset of every buffer of a call."""
    if not call.offsets:
        return (Poly(),) * len(call.buffers)
    return tuple(Poly.of(offset) for offset in call.offsets)


def runs(program: Program, sizes: Mapping[str, int]) -> list[int]:
    """How often each call runs; `sizes` are all of them, the derived ones too."""
    return [
        math.prod(max(repeat.extent.value(sizes), 0) for repeat in at.repeats)
        for at in flat(program)
    ]
