"""One level of a graph as kernels: the whole graph without its loops, or the body of one.

In: nodes, operands first; new values of leaves that keep them; the shared `Analysis` and `Kernels`.
Out: calls.

    leaves -> fusion -> loops -> places -> bodies -> order -> one kernel or loop per group
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterable, Mapping, Protocol, Sequence

from codegen.loops import Buffer, Call, Repeat
from codegen.target import Target
from symgrad import dtypes
from symgrad.node import Contract, Expr, Input
from symgrad.schedule.analysis import Analysis
from symgrad.schedule.contractions import Contractions
from symgrad.schedule.converts import write_convert
from symgrad.schedule.groups import Fusion, Group
from symgrad.schedule.kernels import Kernels
from symgrad.schedule.layout import Layout
from symgrad.schedule.nests import (
    Nest,
    write_cumulate,
    write_plain,
    write_scalar,
    write_scatter,
)
from symgrad.schedule.places import Place, Places
from symgrad.schedule.reductions import write_reduce
from symgrad.schedule.rowpass import write_rows
from symgrad.schedule.sequence import in_order, put_off
from symgrad.schedule.writer import Memory, Writer

NESTS: dict[str, Callable[[Nest, Group], Writer | list[Writer]]] = {
    "rows": write_rows,
    "reduce": write_reduce,
    "plain": write_plain,
    "scalar": write_scalar,
    "cumulate": write_cumulate,
    "scatter": write_scatter,
}
SMALL = 8  # results so many times smaller than what is read need no memory to speak of,
TINY = 4096  # nor do so few bytes


class Loop(Protocol):
    """The calls of a group of kind "loop"."""

    def arrange(self) -> None:
        """Once it is known where the values around the loop lie."""

    def uses(self) -> list[str]:
        """The buffers that it uses."""

    def calls(self) -> list[Call | Repeat]: ...


@dataclass(frozen=True)
class Common:
    """What all levels of a program share. `loop` arranges a group of kind "loop", `again` are
    values computed a second time."""

    analysis: Analysis
    kernels: Kernels
    target: Target
    loop: Callable[[Level, Group], Loop]
    again: frozenset[Expr] = frozenset()
    tolerance: float = 0.0


class Level:
    """Arranged first, so that memory is known before kernels are written. A subclass gives leaves
    their memory and says where results shall lie."""

    def __init__(
        self,
        common: Common,
        nodes: Sequence[Expr],
        roots: Sequence[Expr],
        updates: Mapping[Expr, Expr],
        memory: Memory,
    ) -> None:
        self.common, self.nodes, self.updates, self.memory = common, nodes, updates, memory
        self.analysis = found = common.analysis
        self.layouts = found.layouts
        self.contractions = Contractions(
            found.windowed,
            found.lane_axes,
            found.layouts,
            found.in_lanes,
            memory,
            common.target,
            found.pinned,
            common.tolerance,
        )
        self.fusion = Fusion(
            nodes,
            roots,
            found.lane_axes,
            found.layouts,
            self.contractions.alone,
            common.again,
            found.pinned,
        )
        self.places = Places(updates, self.fusion, self.contractions, found, memory)
        self.loops: dict[Group, Loop] = {}

    # -- of this level --------------------------------------------------------------------------
    def leaves(self) -> None:
        """Gives everything that comes from outside its memory."""
        raise NotImplementedError

    def outputs(self) -> Sequence[tuple[Expr, Place]]:
        """Results, and where each of them shall lie."""
        raise NotImplementedError

    def shared_copy(self, n: Expr, layout: Layout) -> str | None:
        """A copy of a leaf in another layout that is made before this level runs, if it can be."""
        return None

    # -- the pipeline ---------------------------------------------------------------------------
    def arrange(self) -> None:
        """Everything up to the order of the kernels, which are not written yet."""
        self.leaves()
        groups = self.fusion.run()
        self._product_operands()
        self.loops = {g: self.common.loop(self, g) for g in groups if g.kind == "loop"}
        self.places.place(self.outputs())
        for loop in self.loops.values():
            loop.arrange()
        self.places.before_overwriting()
        order = in_order(groups, self._rank)
        self.order = put_off(order, self._is_repeated) if self.common.again else order

    def calls(self) -> list[Call | Repeat]:
        """The kernels, written and called in order."""
        return [call for g in self.order for call in self._lower(g)]

    def _product_operands(self) -> None:
        held = self.contractions.held(self.fusion)
        for group in list(self.fusion.groups):
            if group.kind == "product":
                copied = self.contractions.prepare(group, held, self.fusion)
                if copied is not None:
                    self.copy_for(group, *copied)

    def copy_for(self, group: Group, n: Expr, layout: Layout) -> str:
        """The copy of a value in a layout that a group reads."""
        copies, key = self.places.copies, (n, layout)
        if key not in copies:
            ready = self.shared_copy(n, layout)
            if ready is not None:
                copies[key] = ready
            else:
                self.places.convert(n, layout)
        if key in self.fusion.converted:
            self.fusion.depend(group, self.fusion.converted[key])
        return copies[key]

    # -- order ----------------------------------------------------------------------------------
    def _rank(self, g: Group) -> int:
        """Updates as soon as they can be, and the copies they read: a weight is overwritten while
        the last cache still holds it from the gradient before. Then what needs little memory of
        its own, such as sums over rows: what they read is often free after that."""
        if g.kind == "convert" or self._is_repeated(g):  # the latter are then put off
            return 0
        stored, home = self.places.stored, self.memory.home
        written = [self._buffer(stored[n][0]) for n in g.nodes if n in stored]
        if all(b.role == "state" for b in written):
            return 0
        born = sum(_bytes(b) for b in written if b.role == "arena")
        read = {home[n][0] for n in g.reads if n in home}
        small = sum(_bytes(self._buffer(b)) for b in read) // SMALL
        return 1 if born <= max(small, TINY) else 2

    def _is_repeated(self, g: Group) -> bool:
        again = self.common.again
        if g.kind == "convert":
            source = g.nodes[0]
            needs = [source] if source in self.fusion.named else self.fusion.needs(source)
            return any(n in again for n in needs)
        return bool(g.nodes) and all(n in again for n in g.nodes)

    # -- memory ---------------------------------------------------------------------------------
    def _buffer(self, name: str) -> Buffer:
        return self.memory.buffers[self.memory.whole(name)[0]]

    def bytes(self, n: Expr) -> int:
        """The memory of a value if it is, or would be, in the arena."""
        places = self.places
        if n in places.stored and self._buffer(places.stored[n][0]).role != "arena":
            return 0
        return places.size(n, self.layouts[n]) * dtypes.ITEMSIZE[n.dtype]

    def uses(self, g: Group) -> list[str]:
        """The arena buffers that a group reads or writes, those inside its kernel excepted."""
        places = self.places
        found = [places.stored[n][0] for n in g.nodes if n in places.stored]
        reads = g.reads
        if g.kind in ("convert", "copy"):
            node = places.waiting[g][0] if g in places.waiting else g.nodes[0]
            reads = set(self._sources(node))
            found += [places.copies[node, g.target]] if g.target is not None else []
            found += [place[0] for other, _, place in places.final if other is g]
            found += [places.waiting[g][1][0]] if g in places.waiting else []
        if g in self.loops:
            found += self.loops[g].uses()
        first = g.nodes[0] if g.nodes else None
        copied = self.contractions.copied(first) if isinstance(first, Contract) else None
        if first is not None and copied is not None:
            found.append(places.copies[copied])
            others = [a for a in first.args if a is not copied[0]]
            reads = {need for a in others for need in self._sources(a)}
            reads.update(need for m in g.nodes[1:] for need in self.fusion.needs(m))
        found += [places.found(n)[0] for n in reads if n in self.memory.home]
        wholes = dict.fromkeys(self.memory.whole(name)[0] for name in found)
        return [name for name in wholes if self.memory.buffers[name].role == "arena"]

    def _sources(self, n: Expr) -> Iterable[Expr]:
        """What is read for the elements of a value: itself if it is in memory."""
        return [n] if n in self.memory.home else self.fusion.needs(n)

    def buffer_bytes(self, name: str) -> int:
        return _bytes(self.memory.buffers[name])

    # -- kernels --------------------------------------------------------------------------------
    def _lower(self, group: Group) -> list[Call | Repeat]:
        if group in self.loops:
            return self.loops[group].calls()
        nodes = group.nodes or [self.places.waiting[group][0]]
        made = self._write(group)
        named, again = self.fusion.named, self.common.again
        return [self.common.kernels.call(group, nodes, named, w, again) for w in made]

    def _write(self, group: Group) -> list[Writer]:
        places = self.places
        for g, n, place in places.final:
            if g is group:
                source = places.waiting.get(g, (n, self.memory.home.get(n)))[1]
                return [write_convert(self.memory, n, source, place)]
        if group.kind == "convert":
            n, layout = group.nodes[0], group.target
            assert layout is not None
            home = self.memory.home.get(n)
            w = write_convert(self.memory, n, home, (places.copies[n, layout], layout))
            if isinstance(n, Input) and self.layouts[n] == layout:
                self.memory.home[n] = (places.copies[n, layout], layout)
            return [w]
        if group.kind == "product":
            cost = sum(self.fusion.cost[m] for m in group.nodes[1:])
            return self.contractions.write(group, cost, places.stored, places.copies)
        if group.kind == "winograd":
            return [self.contractions.write_weights(group)]
        nest = Nest(self.fusion, self.memory, self.analysis.lane_axes, places.stored)
        made = NESTS[group.kind](nest, group)
        return made if isinstance(made, list) else [made]


def _bytes(buffer: Buffer) -> int:
    return buffer.size * dtypes.ITEMSIZE[buffer.dtype]
