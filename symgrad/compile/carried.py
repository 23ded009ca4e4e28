"""What each call of a schedule computes, in terms of the graph that was scheduled.

In: the rewritten graph and its schedule. Out: a `Computed` for every call, in order. The scheduler
opens composite functions, gives the bodies of loops leaves of their own, and copies what is
computed again; here is the way back from its nodes to those of the graph.

>>> [c.expressions for c in carried(Origins(graph, schedule.origins), schedule)]
[(<contract ij,jk->ik (batch, 32) float32>, <add>, <tanh>), ...]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from symgrad.compile.graph import Graph
from symgrad.loop import Scan
from symgrad.node import Expr, Leaf, Random
from symgrad.schedule.kept import is_identity, is_leaf_in_memory
from symgrad.schedule.primitive import images

if TYPE_CHECKING:
    from symgrad.schedule import Schedule
    from symgrad.schedule.kernels import Entry

MOVES = ("convert", "copy", "winograd")  # kinds of groups that only bring a value elsewhere


@dataclass(frozen=True)
class Computed:
    """A call: the nodes of the graph that it computes, operands first, and those of them that
    others read. A call that only moves a value has it as its expression, and no result."""

    entry: Entry
    expressions: tuple[Expr, ...]
    results: tuple[Expr, ...]

    def has_result(self, n: Expr) -> bool:
        """Whether others read this from here."""
        return any(n is m for m in self.results)

    @property
    def moves(self) -> bool:
        return self.entry.kind in MOVES and not self.results


def carried(back: Origins, schedule: Schedule) -> list[Computed]:
    """Every call of the schedule."""
    graph = back.graph
    entries = [entry for entry in schedule.entries if entry.kernel]
    walks = [_walk(entry) for entry in entries]
    read = {id(back.primitive(n)) for _, needs in walks for n in needs}
    read |= {id(back.image[n]) for n in [*graph.roots, *back.handed_on()]}
    own = [back.nodes(inside) for inside, _ in walks]
    back.loops(own)
    order = {id(n): i for i, n in enumerate(graph.nodes)}
    made = []
    for entry, found in zip(entries, own):
        nodes = tuple(sorted(found, key=lambda n: order.get(id(n), -1)))
        kept = {id(back.primitive(n)) for n in entry.nodes} & read
        results = tuple(n for n in nodes if id(back.image.get(n)) in kept)
        if entry.kind in MOVES and all(_is_there(n, entry) for n in entry.nodes):
            results = ()
        made.append(Computed(entry, nodes, results))
    return made


def _is_there(n: Expr, entry: Entry) -> bool:
    return n in entry.named or is_leaf_in_memory(n)


def _walk(entry: Entry) -> tuple[list[Expr], list[Expr]]:
    """The nodes that a call computes, and the values that it reads."""
    if entry.kind in MOVES and all(_is_there(n, entry) for n in entry.nodes):
        return list(entry.nodes), list(entry.nodes)
    mine = set(entry.nodes)
    seen: set[Expr] = set()
    inside: list[Expr] = []
    reads: list[Expr] = []
    stack = list(entry.nodes)
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        if n not in mine and _is_there(n, entry):
            reads.append(n)
            continue
        inside.append(n)
        stack.extend(n.args)
    return inside, reads


class Origins:
    """From nodes of a schedule to those of the graph."""

    def __init__(self, graph: Graph, origins: Mapping[Expr, Expr]) -> None:
        self.graph, self.origins = graph, origins
        self.image = images(graph.roots)
        self.equal: dict[Expr, list[Expr]] = {}
        for n in graph.nodes:
            if n in self.image:
                self.equal.setdefault(self.image[n], []).append(n)
        self.owner: dict[Expr, Expr] = {}  # of what a composite function is opened into
        for n in graph.nodes:
            if n in self.image:
                self._own(n)
        self.plain: dict[Expr, Expr] = {}

    def _own(self, n: Expr) -> None:
        stops = {self.image[a] for a in n.args if a in self.image}
        stack = [self.image[n]]
        while stack:
            p = stack.pop()
            if p not in stops and p not in self.owner and not isinstance(p, Leaf):
                self.owner[p] = n
                stack.extend(a for a in p.args if a not in self.equal)

    def primitive(self, n: Expr) -> Expr:
        """A scheduled node as it was before loops were cut out and values copied."""
        for known in (n, self._once(n)):
            found = self.origins.get(known, known)
            if found in self.equal or found in self.owner:
                return found
        return n

    def _once(self, root: Expr) -> Expr:
        """The value that a node repeats: without the views that tell copies apart."""
        stack = [root]
        while stack:
            n = stack[-1]
            below = [a for a in n.args if a not in self.plain]
            if n in self.plain or not below:
                stack.pop()
                if n not in self.plain:
                    args = [self.plain[a] for a in n.args]
                    self.plain[n] = args[0] if is_identity(n) else n.with_args(args)
            else:
                stack += below
        return self.plain[root]

    def nodes(self, scheduled: Iterable[Expr]) -> dict[Expr, None]:
        """The graph's nodes that these compute; leaves only where there is nothing else."""
        found: dict[Expr, None] = {}
        leaves: dict[Expr, None] = {}
        for n in scheduled:
            p = self.primitive(n)
            owner = self.owner.get(p)
            for m in self.equal.get(p) or ([] if owner is None else [owner]):
                (leaves if isinstance(m, Leaf) and not isinstance(m, Random) else found)[m] = None
        return found or leaves

    def handed_on(self) -> list[Expr]:
        """What bodies of loops hand on to the next step, or to what is around the loop."""
        values = [
            v for n in self.graph.nodes if isinstance(n, Scan) for v in (*n.loop.news, _value(n))
        ]
        return [v for v in values if v in self.image]

    def loops(self, found: Sequence[dict[Expr, None]]) -> None:
        """Adds results of loops to the calls that compute their values: those in the body."""
        for scan in (n for n in self.graph.nodes if isinstance(n, Scan)):  # inner ones first
            value = _value(scan)
            mine = [own for own in found if value in own]
            if not mine:  # handed on as it is: then whatever runs in this loop
                bound = scan.loop.bound
                mine = [own for own in found if any(not bound.isdisjoint(n.free) for n in own)]
            for own in mine:
                own[scan] = None


def _value(n: Scan) -> Expr:
    """The value of the body that a loop's result is the last one of, or a stack of. What a carry
    was before a step is what the step before made of it."""
    loop, position = n.loop, n.position
    for _ in range(len(loop.carries) + 1):
        value = n.args[-1] if position is None else loop.news[position]
        position = next((i for i, slot in enumerate(loop.carries) if slot is value), None)
        if position is None:
            break
    return value
