"""Where every buffer lives: one arena for all temporaries, planned before anything runs.

In: a `Program`. Out: an `ArenaPlan`: a byte offset into the arena for each arena buffer, the
arena's size, and the place of every other buffer in the pointer table that the step receives.
A private buffer has as many copies, one behind the other, as the program has threads.

A buffer is live from the first call that uses it to the last, calls being counted in the order of
the text, and for the whole of every repeat from one turn to the next of which it keeps something,
or with whose outside it shares it (see `codegen.carried`). Buffers that are never live at the same
call may share memory; a kernel's `inplace` pairs may share it even at that call, when the buffer
that is read dies there, in every turn of the repeats around. All offsets are multiples of 64 bytes
and every buffer owns whole cache lines, so a full vector store at a buffer's end touches nobody
else.

>>> plan = plan(program)
>>> plan.offsets["h1"], plan.size, plan.table["W1"]
(0, 65536, 2)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping

import numpy as np

from codegen.carried import own
from codegen.loops import ITEMSIZE, PLANNED, Buffer, Kernel, Program, Repeat
from codegen.repeats import At, flat, offsets

ALIGNMENT = 64
Life = tuple[int, int]  # first and last call that uses a buffer, both included


@dataclass(frozen=True)
class ArenaPlan:
    """Byte offsets of arena buffers, the arena's size, and the pointer table's index by buffer.

    `table` index 0 is the arena itself. `floor` is the most that is live at any one call: no plan
    can be smaller.
    """

    offsets: Mapping[str, int]
    size: int
    table: Mapping[str, int]
    lives: Mapping[str, Life] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    floor: int = 0
    calls: int = 0


@dataclass
class Slot:
    """Buffers that share one place because each is computed in the place of the one before."""

    names: list[str]
    bytes: int
    first: int
    last: int


def plan(program: Program) -> ArenaPlan:
    """Offsets for all arena buffers; of several placement orders the one that needs least."""
    bytes_of = planned(program)
    lives = lifetimes(program)
    slots = _slots(program, lives, bytes_of)
    calls = len(flat(program))
    floor = _floor(slots, calls)
    best: list[int] = []
    size = -1
    for order in _ORDERS:
        offsets, end = _place(sorted(slots, key=order))
        if size < 0 or end < size:
            best, size = [offsets[id(s)] for s in slots], end
        if size == floor:
            break
    where = {name: at for slot, at in zip(slots, best) for name in slot.names}
    return ArenaPlan(
        offsets={name: where.get(name, 0) for name in bytes_of},
        size=max(size, 0),
        table=pointer_table(program),
        lives={name: lives[name] for name in bytes_of if name in lives},
        bytes=bytes_of,
        floor=floor,
        calls=calls,
    )


def planned(program: Program) -> dict[str, int]:
    """Bytes in the arena of every buffer that lies there, all copies included."""
    copies = {"arena": 1, "private": program.threads}
    return {b.name: copy_bytes(b) * copies[b.role] for b in program.buffers if b.role in PLANNED}


def copy_bytes(buffer: Buffer) -> int:
    """Bytes of a buffer, or from one copy of a private one to the next."""
    return padded(buffer.size * ITEMSIZE[buffer.dtype])


def padded(size: int) -> int:
    """Bytes rounded up to whole cache lines, at least one."""
    return max(-(-size // ALIGNMENT), 1) * ALIGNMENT


def lifetimes(program: Program) -> dict[str, Life]:
    """First and last call between which every buffer that any call uses keeps what it holds."""
    lives: dict[str, Life] = {}
    spans: dict[Repeat, Life] = {}
    inside: dict[str, set[Repeat]] = {}
    for i, (call, around) in enumerate(flat(program)):
        for name in call.buffers:
            lives[name] = (lives[name][0] if name in lives else i, i)
        for repeat in around:
            spans[repeat] = (spans[repeat][0] if repeat in spans else i, i)
            for name in call.buffers:
                inside.setdefault(name, set()).add(repeat)
    fresh = own(program)
    private = {b.name for b in program.buffers if b.role == "private"}  # keeps nothing ever
    for name in inside.keys() - private:
        for repeat in inside[name]:
            if name not in fresh[repeat]:
                (first, last), (begin, end) = lives[name], spans[repeat]
                lives[name] = min(first, begin), max(last, end)
    return lives


def pointer_table(program: Program) -> dict[str, int]:
    """Index in the pointer table of every buffer that is neither in the arena nor a constant."""
    outside = [b.name for b in program.buffers if b.role not in (*PLANNED, "constant")]
    return {name: i + 1 for i, name in enumerate(outside)}


# -- in-place reuse ------------------------------------------------------------------------------


def inplace_pairs(
    kernel: Kernel, at: At, fresh: Mapping[Repeat, set[str]]
) -> list[tuple[str, str]]:
    """The (written, read) buffers of a call that its kernel allows to be one buffer.

    Each must be a whole buffer of its own in this call: an offset, or a buffer passed twice,
    would let one element be written before another parameter has read it. What is read must be
    `fresh` in every turn of the repeats around, or the next one would find it overwritten.
    """
    call, around = at
    position = {param.name: i for i, param in enumerate(kernel.params)}
    starts = offsets(call)
    pairs = []
    for written, read in kernel.inplace:
        places = (position[written], position[read])
        names = (call.buffers[places[0]], call.buffers[places[1]])
        alone = all(call.buffers.count(name) == 1 for name in names)
        whole = not any(starts[i].terms for i in places)
        if alone and whole and all(names[1] in fresh[repeat] for repeat in around):
            pairs.append(names)
    return pairs


def _slots(program: Program, lives: dict[str, Life], bytes_of: dict[str, int]) -> list[Slot]:
    """One slot per live arena buffer, in-place successors joined to their predecessor's slot."""
    kernels = {k.name: k for k in program.kernels}
    exact = {b.name: (b.size, ITEMSIZE[b.dtype], b.role) for b in program.buffers}
    slot_of = {
        name: Slot([name], size, *lives[name]) for name, size in bytes_of.items() if name in lives
    }
    succeeded: set[str] = set()
    starts_afresh = own(program)
    for i, at in enumerate(flat(program)):
        for written, read in inplace_pairs(kernels[at.call.kernel], at, starts_afresh):
            if written not in slot_of or read not in slot_of or read in succeeded:
                continue
            dies, born = lives[read][0] < i == lives[read][1], lives[written][0] == i
            fresh = len(slot_of[written].names) == 1
            if dies and born and fresh and exact[written] == exact[read]:
                slot = slot_of[read]
                slot.names.append(written)
                slot.last = lives[written][1]
                slot_of[written] = slot
                succeeded.add(read)
    return list({id(slot): slot for slot in slot_of.values()}.values())


# -- placement -----------------------------------------------------------------------------------

_ORDERS: tuple[Callable[[Slot], tuple[int, ...]], ...] = (
    lambda s: (-s.bytes, s.first),  # largest first
    lambda s: (s.first, -s.bytes),  # in the order of time
    lambda s: (-s.bytes * (s.last - s.first + 1), s.first),  # largest area in time and memory first
    lambda s: (-s.last, -s.bytes),  # in the reverse order of time
)


def _place(slots: list[Slot]) -> tuple[dict[int, int], int]:
    """Best fit: each slot goes to the smallest gap that holds it among those live with it."""
    count = len(slots)
    first, last = np.empty(count, np.int64), np.empty(count, np.int64)
    start, end = np.empty(count, np.int64), np.empty(count, np.int64)
    size = 0
    for k, slot in enumerate(slots):
        together = np.flatnonzero((first[:k] <= slot.last) & (last[:k] >= slot.first))
        taken = sorted(zip(start[together].tolist(), end[together].tolist()))
        at = _best_gap(taken, slot.bytes)
        first[k], last[k], start[k], end[k] = slot.first, slot.last, at, at + slot.bytes
        size = max(size, at + slot.bytes)
    return {id(slot): int(start[k]) for k, slot in enumerate(slots)}, size


def _best_gap(taken: list[tuple[int, int]], size: int) -> int:
    """Offset of the tightest gap of `size` bytes between taken ranges, else behind the last."""
    best, waste, reached = -1, -1, 0
    for begin, end in taken:
        gap = begin - reached
        if gap >= size and (best < 0 or gap - size < waste):
            best, waste = reached, gap - size
        reached = max(reached, end)
    return best if best >= 0 else reached


def _floor(slots: list[Slot], calls: int) -> int:
    """The most bytes live at one call."""
    change = [0] * (calls + 1)
    for slot in slots:
        change[slot.first] += slot.bytes
        change[slot.last + 1] -= slot.bytes
    live = peak = 0
    for step in change:
        live += step
        peak = max(peak, live)
    return peak


# -- checking and reading ------------------------------------------------------------------------


class PlanError(ValueError):
    """A plan that would let one buffer overwrite another that is still needed."""


def check(program: Program, plan: ArenaPlan) -> None:
    """Raise `PlanError` unless every live arena buffer has its own memory at every call."""
    lives = lifetimes(program)
    sizes = planned(program)
    whole = {b.name: (b.size, b.dtype) for b in program.buffers}
    kernels = {k.name: k for k in program.kernels}
    fresh = own(program)
    allowed = {
        (i, frozenset(pair)): pair
        for i, at in enumerate(flat(program))
        for pair in inplace_pairs(kernels[at.call.kernel], at, fresh)
    }
    live = sorted((plan.offsets[n], n) for n in sizes if n in lives)
    for k, (at, name) in enumerate(live):
        end = at + sizes[name]
        if at % ALIGNMENT or at < 0 or end > plan.size:
            raise PlanError(f"{name}: [{at}, {end}) in an arena of {plan.size} bytes")
        for other_at, other in live[k + 1 :]:
            if other_at >= end:
                break
            begin = max(lives[name][0], lives[other][0])
            finish = min(lives[name][1], lives[other][1])
            if begin > finish:
                continue
            written, read = allowed.get((begin, frozenset((name, other))), ("", ""))
            shared = begin == finish and at == other_at
            shared = shared and read != "" and lives[read][1] == begin == lives[written][0]
            if not shared or _bytes(whole[name]) != _bytes(whole[other]):
                raise PlanError(f"{name} and {other} overlap while both live at call {begin}")
    expected = pointer_table(program)
    if dict(plan.table) != expected:
        raise PlanError(f"pointer table {dict(plan.table)}, expected {expected}")


def _bytes(whole: tuple[int, str]) -> tuple[int, int]:
    return whole[0], ITEMSIZE[whole[1]]


def report(plan: ArenaPlan) -> str:
    """The arena as text: one line per buffer in the order of memory, with its life."""
    separate = sum(plan.bytes[name] for name in plan.lives)
    lines = [
        f"arena {plan.size:,} bytes for {len(plan.lives)} buffers of {separate:,} bytes"
        f" (most live at one call: {plan.floor:,})",
        f"{'offset':>12} {'bytes':>12}  {'calls':<11} buffer",
    ]
    for name in sorted(plan.lives, key=lambda n: (plan.offsets[n], plan.lives[n])):
        first, last = plan.lives[name]
        calls = f"{first}..{last}"
        lines.append(f"{plan.offsets[name]:>12,} {plan.bytes[name]:>12,}  {calls:<11} {name}")
    return "\n".join(lines)
