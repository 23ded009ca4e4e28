"""Which elements an access reaches for certain, from the loops around it.

In: an index polynomial, the loops and lanes around it, the largest run-time sizes. Out: the
smallest and the largest index among turns that are sure to happen. Loops whose variable decides
how often another one runs are tried at their first and last turn; the index is linear in the rest,
so that its extremes are at the ends of their ranges. Indices held in registers say nothing.

>>> space = Space([{"n": 20}], lanes=16)
>>> with space.loop("b", Poly.of(2)), space.vector("l", Poly.of("n") - Poly.of("b") * 16):
...     space.reach(Poly.of("b") * 16 + "l", full=False)
(0, 19)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Union

from codegen import loops
from codegen.loops import Poly
from codegen.repeats import repeats

Reach = tuple[int, int]
Reaches = tuple[Union[Reach, None], ...]  # for each assignment of the sizes; None: nothing


@dataclass(frozen=True)
class Access:
    """What a statement reaches of a kernel's parameter."""

    param: str
    reaches: Reaches
    statement: str


def wider(a: Reach | None, b: Reach | None) -> Reach | None:
    """What covers both."""
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1])


def derived_sizes(program: loops.Program, sizes: Mapping[str, int]) -> dict[str, int]:
    """All sizes from the given ones."""
    names: dict[str, int] = {}
    for name, rule in program.sizes.items():
        if isinstance(rule, loops.Derived):
            top = rule.poly.value(names)
            parts = {"ceildiv": -(-top // rule.by), "div": top // rule.by, "mod": top % rule.by}
            names[name] = parts[rule.op]
        else:
            names[name] = sizes[name]
    return names


def sample_sizes(program: loops.Program) -> list[dict[str, int]]:
    """Sizes at their largest, one less (there are tails then), and at one; where calls repeat, each
    of them also alone at one."""
    largest = {n: r for n, r in program.sizes.items() if isinstance(r, int)}
    given = [
        {name: max(min(less(n), n), 0) for name, n in largest.items()}
        for less in (lambda n: n, lambda n: n - 1, lambda n: 1)
    ]
    if repeats(program):
        given += [{**largest, name: min(n, 1)} for name, n in largest.items()]
    samples = []
    for sizes in given:
        names = derived_sizes(program, sizes)
        if names not in samples:
            samples.append(names)
    return samples


@dataclass
class _Loop:
    var: str
    extent: Poly
    lanes: bool = False


class Space:
    """The loops around a statement, for each of some assignments of the sizes."""

    def __init__(self, samples: list[dict[str, int]], lanes: int) -> None:
        self.samples, self.lanes = samples, lanes
        self.stack: list[_Loop] = []
        self.known: dict[tuple[Poly, bool], Reaches] = {}

    @contextmanager
    def _push(self, loop: _Loop) -> Iterator[None]:
        before, self.known = self.known, {}
        self.stack.append(loop)
        yield
        self.stack.pop()
        self.known = before

    def loop(self, var: str, extent: Poly) -> AbstractContextManager[None]:
        return self._push(_Loop(var, extent))

    def vector(self, var: str, live: Poly | None) -> AbstractContextManager[None]:
        return self._push(_Loop(var, Poly.of(self.lanes) if live is None else live, True))

    def reach(self, index: Poly, full: bool) -> Reach | None:
        """The smallest and the largest value of `index`, None if there may be none."""
        return reduce(wider, self.reaches(index, full), None)

    def reaches(self, index: Poly, full: bool = False) -> Reaches:
        """The smallest and the largest value for each assignment of the sizes."""
        key = (index, full)
        if key not in self.known:
            self.known[key] = tuple(
                reduce(wider, self._reach(index, full, names), None) for names in self.samples
            )
        return self.known[key]

    def _reach(self, index: Poly, full: bool, sizes: dict[str, int]) -> Iterator[Reach]:
        variables = [loop.var for loop in self.stack]
        if not index.names <= set(variables) | sizes.keys():
            return  # a register
        pivots = {name for loop in self.stack for name in loop.extent.names}
        pivots |= {m for names, _ in index.terms for m in names if _mixed(names, variables)}
        ends = [(0, 1) if v in pivots else (0,) for v in variables]
        for corner in itertools.product(*ends):
            names, ranges = dict(sizes), {}
            for loop, end in zip(self.stack, corner):
                if not loop.extent.names <= names.keys():
                    break
                last = loop.extent.value(names) - 1
                if loop.lanes:
                    last = self.lanes - 1 if full else min(last, self.lanes - 1)
                if last < 0:
                    break
                ranges[loop.var] = last
                names[loop.var] = last * end
            else:
                yield _ends(index, names, {v: r for v, r in ranges.items() if v not in pivots})


def _mixed(names: tuple[str, ...], variables: list[str]) -> bool:
    return sum(n in variables for n in names) > 1


def _ends(index: Poly, names: dict[str, int], free: dict[str, int]) -> Reach:
    """`index` is linear in the `free` names, which are 0 in `names` and go up to their number."""
    low = high = index.value(names)
    for var, last in free.items():
        slope = index.coefficient(var).value(names) * last
        low, high = low + min(slope, 0), high + max(slope, 0)
    return low, high
