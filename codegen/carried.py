"""Which buffers keep something from one turn of a repeat to the next, and which start afresh.

In: a program. Out: for every repeat the arena buffers that belong to a single turn: nothing outside
of the repeat uses them, and a turn reads of them only what it wrote itself. All others live for as
long as the repeat runs.

Where every offset of a buffer is zero, the call that uses it first decides: one that only writes it
is taken to write all that is read of it later in the turn, as a call outside of repeats is. Where
calls take parts of a buffer, all writing must come before all reading, at the same places in every
turn.

>>> [(repeat.var, names) for repeat, names in own(program).items()]
[('t', {'gates', 'candidate'})]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codegen.loops import Poly, Program, Repeat
from codegen.repeats import flat, offsets, repeats


class _Use(NamedTuple):
    """A buffer as a call takes it. `number` is the call's, `inside` are the repeats around it."""

    number: int
    inside: tuple[Repeat, ...]
    writes: bool  # and does not read
    offset: Poly


def own(program: Program) -> dict[Repeat, set[str]]:
    """Of every repeat, the arena buffers that each of its turns starts afresh."""
    found: dict[Repeat, set[str]] = {repeat: set() for repeat in repeats(program)}
    if not found:
        return found
    arena = {b.name for b in program.buffers if b.role == "arena"}
    for name, uses in _uses(program).items():
        around = {repeat for use in uses for repeat in use.inside} if name in arena else ()
        for repeat in around:
            if all(repeat in use.inside for use in uses) and _afresh(repeat, uses):
                found[repeat].add(name)
    return found


def _uses(program: Program) -> dict[str, list[_Use]]:
    """How every buffer is used, in the order of the calls."""
    modes = {k.name: [p.mode for p in k.params] for k in program.kernels}
    found: dict[str, list[_Use]] = {}
    for number, (call, inside) in enumerate(flat(program)):
        for name, mode, offset in zip(call.buffers, modes[call.kernel], offsets(call)):
            found.setdefault(name, []).append(_Use(number, inside, mode == "w", offset))
    return found


def _afresh(repeat: Repeat, uses: Sequence[_Use]) -> bool:
    """Whether a turn that uses a buffer like this reads nothing that it has not written before."""
    reads = [use for use in uses if not use.writes]
    writes = [use for use in uses if use.writes]
    if not writes or reads and reads[0].number <= writes[0].number:
        return False
    if not any(use.offset.terms for use in uses):
        return True
    names = {name for use in uses for name in use.offset.names}
    if reads and reads[0].number <= writes[-1].number:
        return False
    # this repeat, or one in it, may read in one turn a place that it writes in another
    mixed = {r for use in reads for r in use.inside} & {r for use in writes for r in use.inside}
    return not any(r.var in names for r in mixed)
