"""Which kernels are worth several threads, and into how many parts their turns are cut.

In: a program. Out: for each kernel that is worth it a `Share`, from which the driver computes the
number of parts when it runs. Parts are a few for each thread, so that one that is held up leaves
its part to others, and none is so short that handing it out takes longer than doing it.

>>> shares(program)["product_dot_3"]
Share(turns=Poly(4*b.blocks), sizes=('b',), scale=3, by=1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from codegen.bounds import derived_sizes
from codegen.counts import Counts, counts
from codegen.loops import Kernel, Poly, Program, turns

GRAIN = 5000.0  # nanoseconds that a part takes at least, more or less
PARTS = 4  # for each thread, where there is enough to do
# What a core does in a nanosecond, about: vector operations, bytes from the nearer caches.
VECTORS, BYTES = 4.0, 32.0


@dataclass(frozen=True)
class Share:
    """Parts are at most one per turn, and the product of the `sizes` times `scale` over `by`."""

    turns: Poly
    sizes: tuple[str, ...]
    scale: int
    by: int


def shares(program: Program) -> dict[str, Share]:
    """What is worth sharing among the program's threads, by the name of its kernel."""
    if program.threads < 2:
        return {}
    largest = {name: most for name, most in program.sizes.items() if isinstance(most, int)}
    found = {}
    for kernel in program.kernels:
        share = _share(program, kernel, largest) if kernel.split else None
        if share is not None:
            found[kernel.name] = share
    return found


def _share(program: Program, kernel: Kernel, largest: Mapping[str, int]) -> Share | None:
    """Work is taken to be proportional to those sizes without which most of it is gone."""
    names = derived_sizes(program, dict(largest))
    total = _time(counts(kernel, names, program.lanes), program.lanes)
    most = turns(kernel).value(names)
    if most < 2 or total < 2 * GRAIN:
        return None
    matters = []
    for name, size in largest.items():
        names = derived_sizes(program, {**largest, name: min(1, size)})
        least = _time(counts(kernel, names, program.lanes), program.lanes)
        if size > 1 and least < total / 2:
            matters.append(name)
    parts = Fraction(total / GRAIN).limit_denominator(1000)
    for name in matters:
        parts /= largest[name]
    return Share(turns(kernel), tuple(matters), parts.numerator, parts.denominator)


def _time(work: Counts, lanes: int) -> float:
    """Nanoseconds on one core, more or less."""
    operations = work.flops + work.other + (work.loads + work.stores) / 2
    return max(operations / lanes / VECTORS, work.bytes / BYTES)
