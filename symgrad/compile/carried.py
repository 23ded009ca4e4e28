"""What each call of a schedule computes, in terms of the graph that was scheduled.

In: the rewritten graph and its schedule. Out: a `Computed` for every call, in order. The scheduler
opens composite functions, gives the bodies of loops leaves of their own, and copies what is
computed again; here is the way back from its nodes to those of the graph.

>>> [c.expressions for c in carried(Origins(graph, schedule.origins), schedule)]
[(<contract ij,jk->ik (batch, 32) float32>, <add>, <tanh>), ...]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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

MOVES = ("convert", "copy")


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
    read |= {id(back.image[root]) for root in graph.roots}
    own = [back.nodes(inside) for inside, _ in walks]
    for found, entry in zip(own, entries):
        found.update(dict.fromkeys(back.loops(entry, found)))
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

    def loops(self, entry: Entry, found: Collection[Expr]) -> list[Expr]:
        """The results of loops that a call in their body computes the values of."""
        if not entry.depth:
            return []
        return [n for n in self._scans if n.args[_value(n)] in found]

    @property
    def _scans(self) -> list[Scan]:
        return [n for n in self.graph.nodes if isinstance(n, Scan)]


def _value(n: Scan) -> int:
    """The operand of a loop's result that it is the last value of, or a stack of."""
    if n.position is None:
        return len(n.args) - 1
    return len(n.loop.sequences) + len(n.loop.initials) + n.position
