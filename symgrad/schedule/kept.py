"""Which values are kept, and what each of them reads: the first half of fusion.

In: the primitive nodes of a program, operands first, and its roots. Out: `Kept`: the named nodes,
which are computed once and stored or held in registers. Every other node is inlined where it is
used: views always, elementwise work while it is cheap or has a single reader.

>>> Kept(nodes, [loss]).named
{<max>: None, <exp>: None, ...}
"""

from __future__ import annotations

from typing import Collection, Iterable, Mapping, Sequence

from symgrad import dtypes
from symgrad.node import (
    Constant,
    Contract,
    Expr,
    Gather,
    Input,
    Iota,
    Map,
    Parameter,
    Random,
    Reduce,
    Reindex,
    Reshape,
    ScatterAdd,
    SizeOf,
)
from symgrad.schedule.bodies import Bound, Looped
from symgrad.schedule.symbols import elements

CHEAP = 2  # operations: computing such a value again beats keeping it
CHEAP_SCALAR = 8  # the same for a 0-d value, computed once per kernel
CHEAP_AGAIN = 8  # the same for a value that is not kept, where it is computed for later readers
LONGEST = 60  # operations inlined into one expression before it is cut
COSTS = {
    "div": 4, "sqrt": 6, "exp": 12, "expm1": 16, "log": 14, "log1p": 18, "sin": 16, "cos": 16,
    "tan": 24, "asin": 20, "acos": 20, "atan": 20, "atan2": 26, "sinh": 20, "cosh": 20,
    "tanh": 20, "erf": 24, "pow": 40, "mod": 8, "floor_divide": 8,
}  # fmt: skip


def is_view(n: Expr) -> bool:
    """Pure index arithmetic: never computed, only read through."""
    if isinstance(n, Contract):
        return len(n.args) == 1 and not n.summed and n.dtype == n.args[0].dtype
    return isinstance(n, (Reindex, Reshape, Gather))


def is_identity(n: Expr) -> bool:
    """A view of a whole value as it is: what tells a copy from the value it repeats."""
    return isinstance(n, Contract) and len(n.args) == 1 and n.ins[0] == n.out and is_view(n)


def is_elementwise(n: Expr) -> bool:
    if isinstance(n, Contract):
        return not n.summed and not is_view(n)
    return isinstance(n, (Map, Random, Iota, SizeOf)) or (
        isinstance(n, Constant) and n.scalar is not None
    )


def is_leaf_in_memory(n: Expr) -> bool:
    if isinstance(n, (Input, Parameter, Bound)):
        return True
    return isinstance(n, Constant) and n.scalar is None


def is_product(n: Expr) -> bool:
    """A contraction with reuse of both operands: worth register tiles."""
    if not isinstance(n, Contract) or len(n.args) != 2 or not n.summed:
        return False
    if not dtypes.is_float(n.dtype):
        return False
    a, b = (set(labels) for labels in n.ins)
    out = set(n.out)
    return (
        bool(a & out - b)
        and bool(b & out - a)
        and (a | b) >= out
        and all(k in a & b or n.extents[k] == 1 for k in (a | b) - out)
    )


def is_reduction(n: Expr) -> bool:
    return isinstance(n, Reduce) or (isinstance(n, Contract) and bool(n.summed))


def space_of(n: Expr) -> tuple[object, ...]:
    """The sizes of the loops that compute a node, reduced axes included."""
    if isinstance(n, Contract) and n.summed:
        extents = n.extents
        return tuple(extents[k] for k in sorted(extents))
    if isinstance(n, Reduce):
        return n.args[0].shape
    return n.shape


def summed_rows(n: Expr, lane_axes: Mapping[Expr, int | None]) -> int | None:
    """The axis of its space along which a reduction to 0-d runs: its first operand's rows."""
    for i, a in enumerate(n.args):
        axis = lane_axes[a]
        if axis is not None:
            return n.ins[i][axis] if isinstance(n, Contract) else axis
    return None


def reduced_axes(n: Expr) -> tuple[int, ...]:
    """Positions in `space_of(n)` that are summed away."""
    if isinstance(n, Reduce):
        return n.axes
    assert isinstance(n, Contract)
    return tuple(k for k in sorted(n.extents) if k not in n.out)


class Kept:
    """The named nodes of a program. `readers` are the named nodes that read a value."""

    def __init__(
        self,
        nodes: Sequence[Expr],
        roots: Iterable[Expr],
        pinned: Collection[Expr] = (),
        again: Collection[Expr] = (),
    ) -> None:
        """`pinned` are views that are computed all the same, `again` values computed once more
        in order not to be kept."""
        self.nodes, self.roots, self.again = nodes, {*roots, *pinned}, again
        self.cost = self._costs()
        self._keep_all(self._choose_named())

    def _keep_all(self, named: dict[Expr, None]) -> None:
        self.named = named
        self._needs: dict[Expr, dict[Expr, bool]] = {}
        self.readers: dict[Expr, list[Expr]] = {}
        for n in self.named:
            for need in self.needs(n):
                self.readers.setdefault(need, []).append(n)

    def keep(self, more: Collection[Expr]) -> None:
        """Names other nodes too."""
        if more:
            self._keep_all(dict.fromkeys(n for n in self.nodes if n in self.named or n in more))

    def _choose_named(self) -> dict[Expr, None]:
        cost = self.cost
        consumers: dict[Expr, list[Expr]] = {}
        for n in self.nodes:
            for a in n.args:
                consumers.setdefault(a, []).append(n)
        users: dict[Expr, frozenset[Expr]] = {}  # the named nodes that would inline this one
        widest: dict[Expr, int] = {}  # elements of the largest space it would be computed in
        chosen: dict[Expr, None] = {}
        for n in reversed(self.nodes):
            reach: set[Expr] = set()
            spread = elements(n.shape)
            operand = False
            for c in consumers.get(n, ()):
                if c in chosen:
                    reach.add(c)
                    spread = max(spread, elements(space_of(c)))  # type: ignore[arg-type]
                    operand |= is_product(c) or isinstance(c, Looped)
                    operand |= isinstance(c, ScatterAdd) and n is c.args[0]
                else:
                    reach |= users[c]
                    spread = max(spread, widest[c])
                    operand |= is_view(c) and any(is_product(u) for u in users[c])
                    operand |= isinstance(c, Gather) and n is c.args[0]
            users[n], widest[n] = frozenset(reach), spread
            if self._keep(n, len(reach), spread, operand, cost):
                chosen[n] = None
        return dict.fromkeys(n for n in self.nodes if n in chosen)

    def _keep(
        self, n: Expr, readers: int, spread: int, operand: bool, cost: Mapping[Expr, int]
    ) -> bool:
        if is_leaf_in_memory(n) or (isinstance(n, Constant) and n not in self.roots):
            return False
        if n in self.roots:
            return True
        if is_view(n):
            return False
        if not is_elementwise(n):
            return True
        if isinstance(n, (SizeOf, Iota, Random)):
            return operand
        if operand or cost[n] >= LONGEST:
            return True
        if cost[n] <= (CHEAP_AGAIN if n in self.again else CHEAP if n.shape else CHEAP_SCALAR):
            return False
        return readers > 1 or (spread > elements(n.shape) and cost[n] > 2 * CHEAP)

    def _costs(self) -> dict[Expr, int]:
        cost: dict[Expr, int] = {}
        for n in self.nodes:
            if is_identity(n) or not is_elementwise(n) and not is_view(n):
                cost[n] = 0
                continue
            own = (
                COSTS.get(n.op, 1)
                if isinstance(n, Map)
                else int(is_elementwise(n) and bool(n.args))
            )
            inner = sum(cost[a] for a in n.args)
            cost[n] = own + (inner if inner < LONGEST else 0)
        return cost

    def needs(self, n: Expr) -> dict[Expr, bool]:
        """The values in memory or registers that computing `n` reads: whether all reads are at the
        very element being computed."""
        found = self._needs.get(n)
        if found is None:
            found = {}
            rank = len(space_of(n))
            seen: set[tuple[int, bool]] = set()
            stack: list[tuple[Expr, bool]] = []
            for i, a in enumerate(n.args):
                same = isinstance(n, (Map, Reduce))
                if isinstance(n, Contract):
                    same = n.ins[i] == (tuple(range(rank)) if n.summed else n.out)
                stack.append((a, same or not a.shape))
            while stack:
                a, same = stack.pop()
                if (id(a), same) in seen:
                    continue
                seen.add((id(a), same))
                if a in self.named or is_leaf_in_memory(a):
                    found[a] = found.get(a, True) and same
                    continue
                for j, b in enumerate(a.args):
                    ok = isinstance(a, Map) or (
                        isinstance(a, Contract)
                        and a.ins[j] == a.out
                        and (not is_view(a) or is_identity(a))
                    )
                    stack.append((b, same and ok))
            self._needs[n] = found
        return found
