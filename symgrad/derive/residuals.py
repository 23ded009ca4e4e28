"""Which values of a loop's steps the derivative of that loop reads, and which it computes again.

In: expressions of a derivative's body that contain nodes of the first loop's body. Out: the nodes
of the first body to keep for every step. What is cheap to compute from kept values is not kept
itself, nor are views and what only the derivative computes, such as 1 - tanh(z)**2.

>>> residuals([dh * (1 - sg.square(h))], results)      # h = tanh(z) of the first body
[<tanh (4, 8) float32>]
"""

from __future__ import annotations

from typing import Sequence

from symgrad.loop import Scan, around, inside, operands_first
from symgrad.node import Contract, Expr, Map, Slot

_CHEAP = frozenset(
    "add sub mul neg abs square where maximum minimum equal not_equal less less_equal greater "
    "greater_equal logical_and logical_or logical_not stop_gradient sign to_float32 to_float64 "
    "to_int32 to_int64 to_bool".split()
)


def residuals(roots: Sequence[Expr], results: list[Scan]) -> list[Expr]:
    """Nodes of the loop's body, in order, from which the roots are computed."""
    return _Choice(results).of(roots)


class _Choice:
    def __init__(self, results: list[Scan]) -> None:
        loop = results[0].loop
        self.outer = around(results)
        self.level = self.outer | loop.bound
        self.slices = set(loop.slices)
        self.primal = {id(n) for n in inside(results)}

    def _own(self, e: Expr) -> bool:
        return e.free <= self.level and not e.free <= self.outer

    def _changing(self, e: Expr) -> list[Expr]:
        return [a for a in e.args if self._own(a)]

    def of(self, roots: Sequence[Expr]) -> list[Expr]:
        read = self._read(roots)
        kept: dict[int, Expr] = {}
        for e in operands_first(read, lambda e: [] if self._keeps(e) else self._changing(e)):
            if self._keeps(e):
                kept[id(e)] = e
        for e in sorted(kept.values(), key=lambda e: -e.height):
            if not isinstance(e, Slot):
                del kept[id(e)]
                if not self._available(e, kept):
                    kept[id(e)] = e
        used = operands_first(read, lambda e: [] if id(e) in kept else self._changing(e))
        return [e for e in used if id(e) in kept or isinstance(e, Slot)]

    def _read(self, roots: Sequence[Expr]) -> list[Expr]:
        """Values of the first body that the derivative's reads, or is."""
        mixed = operands_first(
            [e for e in roots if not e.free <= self.level],
            lambda e: [a for a in e.args if not a.free <= self.level],
        )
        read = [*(e for e in roots if self._own(e))]
        read += [a for e in mixed for a in e.args if self._own(a)]
        return list({id(e): e for e in read}.values())

    def _keeps(self, e: Expr) -> bool:
        """Kept rather than computed from its operands, as far as the node itself tells."""
        if isinstance(e, (Slot, Scan)):
            return True
        if id(e) not in self.primal:
            return False
        return not (_is_cheap(e) and len(self._changing(e)) == 1)

    def _available(self, e: Expr, kept: dict[int, Expr]) -> bool:
        """Whether cheap operations give it from what is kept and from slices, or any elementwise
        ones from slices alone."""
        known: dict[int, bool] = {}
        easy = self.outer | self.slices

        def below(e: Expr) -> Sequence[Expr]:
            return () if id(e) in kept or isinstance(e, Slot) else self._changing(e)

        for n in operands_first([e], below):
            if id(n) in kept or isinstance(n, Slot):
                known[id(n)] = id(n) in kept or n in self.slices
            else:
                simple = _is_cheap(n) or (isinstance(n, Map) and n.free <= easy)
                known[id(n)] = simple and all(known[id(a)] for a in self._changing(n))
        return known[id(e)]


def _is_cheap(e: Expr) -> bool:
    if isinstance(e, Map):
        return e.op in _CHEAP
    return isinstance(e, Contract) and len(e.args) == 1 and not e.summed
