"""Loops cut out of a graph: each body becomes a graph of its own.

In: primitive expressions. Out: the same values, every `Scan` now a `Looped` node whose operands are
what the loop reads from outside; its `Body` is expressions over leaves that stand for them:

    Slice   one step of a sequence
    Carry   a value carried from step to step
    Lent    what the body uses of the graph around it

So each level is a plain graph, to be scheduled like any other. Views, constants and sizes are part
of the body they are used in; what else does not depend on the loop's slots is computed outside.

>>> cut([Scan.final(loop, 0)])[0].args
(<xs>, <zeros>, <W>)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgrad import source
from symgrad.expr import Expr
from symgrad.leaves import Constant, Iota, SizeOf
from symgrad.loop import Loop, Scan, operands_first, results
from symgrad.node import Gather, toposort
from symgrad.schedule.bodies import Body, Carry, Lent, Looped, Slice
from symgrad.schedule.kept import is_view


def cut(roots: Sequence[Expr], origins: dict[Expr, Expr] | None = None) -> list[Expr]:
    """The roots, loops cut out. `origins` takes in, for each node that is another one than before,
    what it stands for."""
    nodes = toposort(roots)
    found = results(nodes)
    if not found:
        return list(roots)
    return _Cutter(found, {} if origins is None else origins).level(roots, lambda n: None)


class _Cutter:
    def __init__(self, found: dict[Loop, list[Scan]], origins: dict[Expr, Expr]) -> None:
        self.found, self.origins = found, origins
        self.made: dict[Loop, tuple[Body, list[Expr]]] = {}  # and what is lent

    def level(self, roots: Sequence[Expr], leaf: Callable[[Expr], Expr | None]) -> list[Expr]:
        """The roots of one level in terms of its leaves."""
        new: dict[Expr, Expr] = {}

        def below(n: Expr) -> Sequence[Expr]:
            if n not in new:
                bound = leaf(n)
                if bound is None:
                    return self._operands(n)
                new[n] = bound
            return ()

        for n in operands_first(roots, below):
            if n not in new:
                with source.at(n.where):
                    args = [new[a] for a in self._operands(n)]
                    new[n] = self._looped(n, args) if isinstance(n, Scan) else n.with_args(args)
        self.origins.update((made, n) for n, made in new.items() if made is not n)
        return [new[r] for r in roots]

    def _operands(self, n: Expr) -> Sequence[Expr]:
        if isinstance(n, Scan):
            return [*n.sequences, *n.initials, *self._body(n.loop)[1]]
        return n.args

    def _looped(self, n: Scan, args: Sequence[Expr]) -> Expr:
        body, _ = self._body(n.loop)
        number = n.position
        if number is None:
            stacks = [m for m in self.found[n.loop] if m.position is None]
            number = len(body.carries) + next(i for i, m in enumerate(stacks) if m is n)
        return Looped.of(body, number, args, n)

    def _body(self, loop: Loop) -> tuple[Body, list[Expr]]:
        if loop not in self.made:
            self.made[loop] = self._cut(loop)
        return self.made[loop]

    def _cut(self, loop: Loop) -> tuple[Body, list[Expr]]:
        slices = tuple(Slice.like(s) for s in loop.slices)
        carries = tuple(Carry.like(s) for s in loop.carries)
        leaves: dict[Expr, Expr] = dict(zip(loop.slots, (*slices, *carries)))
        lent: dict[Expr, Lent] = {}

        def leaf(n: Expr) -> Expr | None:
            if n in leaves:
                return leaves[n]
            if not n.free.isdisjoint(loop.bound) or _stays(n):
                return None
            return lent.get(n) or lent.setdefault(n, Lent.like(n))

        stacked = [m.output for m in self.found[loop] if m.output is not None]
        made = self.level([*loop.news, *stacked], leaf)
        news, values = tuple(made[: len(carries)]), tuple(made[len(carries) :])
        body = Body(loop.length, loop.reverse, slices, carries, tuple(lent.values()), news, values)
        body.nodes = toposort([*body.leaves, *body.roots])
        return body, list(lent)


def _stays(n: Expr) -> bool:
    """What costs nothing to have in the body: numbers, and other ways to see what is in memory."""
    return isinstance(n, (Constant, SizeOf, Iota)) or (is_view(n) and not isinstance(n, Gather))
