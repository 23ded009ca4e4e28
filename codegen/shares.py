"""Which kernels are worth several threads, and into how many parts their turns are cut.

In: a program. Out: for each kernel that is worth it a `Share`, from which the driver computes the
number of parts when it runs. Parts are a few for each thread, so that one that is held up leaves
its part to others, and none is so short that handing it out takes longer than doing it.

>>> shares(program)["product_dot_3"]
Share(turns=Poly(4*b.blocks), sizes=('b',), scale=3, by=1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from codegen import loops
from codegen.bounds import derived_sizes
from codegen.functions import FUNCTIONS
from codegen.loops import Kernel, Poly, Program, turns
from codegen.ranges import Range, poly_range, value_range
from codegen.walk import postorder, values_of

GRAIN = 2000.0  # nanoseconds that a part takes at least, more or less
PARTS = 4  # for each thread, where there is enough to do

# Nanoseconds for one vector, about: of arithmetic in registers, of a function that is a polynomial,
# of memory in the nearer caches.
ARITHMETIC, FUNCTION, MEMORY = 0.13, 4.0, 0.5


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
    total = nanoseconds(kernel, names)
    if turns(kernel).value(names) < 2 or total < 2 * GRAIN:
        return None
    matters = []
    for name, size in largest.items():
        names = derived_sizes(program, {**largest, name: min(1, size)})
        if size > 1 and nanoseconds(kernel, names) < total / 2:
            matters.append(name)
    parts = Fraction(total / GRAIN).limit_denominator(1000)
    for name in matters:
        parts /= largest[name]
    return Share(turns(kernel), tuple(matters), parts.numerator, parts.denominator)


def nanoseconds(kernel: Kernel, sizes: Mapping[str, int]) -> float:
    """How long a kernel takes on one core, within a factor of two or three: rough, but quick
    (`counts` is exact, and takes longer than the rest of emitting)."""
    return _Estimate({name: (size, size) for name, size in sizes.items()}).block(kernel.body, [])


Around = list[tuple[str, float, bool]]  # loops: variable, turns, whether they are written out


class _Estimate:
    def __init__(self, names: dict[str, Range]) -> None:
        self.names = names
        self.seen: set[int] = set()

    def block(self, body: tuple[loops.Stmt, ...], around: Around) -> float:
        total = 0.0
        for s in body:
            if isinstance(s, loops.For):
                most = max(poly_range(s.extent, self.names)[1], 0)
                extent = float(most) if math.isfinite(most) else 2.0
                self.names[s.var] = (0, max(extent - 1, 0))
                written_out = s.extent.constant is not None and s.unroll >= extent
                total += self.block(s.body, [*around, (s.var, extent, written_out)])
            elif isinstance(s, loops.Lanes):
                self.names[s.var] = (0, 0)
                total += self.block(s.body, around)
            else:
                total += self.statement(s, around)
        return total

    def statement(self, s: loops.Stmt, around: Around) -> float:
        often = math.prod(extent for _, extent, _ in around)
        if isinstance(s, loops.Let) and s.value.dtype in ("int32", "int64"):
            self.names[s.name] = value_range(s.value, self.names)
        if isinstance(s, loops.Transpose):
            return often * MEMORY * max(poly_range(s.rows + s.cols, self.names)[1], 0)
        product = None
        if isinstance(s, loops.Accumulate) and isinstance(s.value, loops.Op):
            product = s.value if s.value.fn == "mul" else None
        total = often * ARITHMETIC if isinstance(s, loops.Accumulate) else 0.0
        for v in postorder(values_of(s)):
            if id(v) not in self.seen and v is not product:  # one instruction with the addition
                self.seen.add(id(v))
                total += self.value(v, around, often)
        return total + often * MEMORY if isinstance(s, (loops.Store, loops.Scatter)) else total

    def value(self, v: loops.Value, around: Around, often: float) -> float:
        """A load is done once for loops that are written out and do not matter to it."""
        if isinstance(v, loops.Op):
            return often * (ARITHMETIC if FUNCTIONS[v.fn].primitive else FUNCTION)
        if not isinstance(v, loops.Load):
            return 0.0
        names = v.index.names
        return MEMORY * math.prod(
            extent for var, extent, written_out in around if var in names or not written_out
        )
