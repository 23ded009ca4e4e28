"""Where values lie: everything that outlives its kernel gets memory, a state's or output's own if
it can; what cannot is copied there at the end.

In: groups, updates of states, where outputs shall lie. Out: `stored` (value -> buffer and layout),
and the groups that copy, with `final` saying what each of them copies where.

>>> places.place(outputs=[(loss, ("loss", Layout(())))])
>>> places.stored[weight_after], places.memory.home[weight]
(('w', Layout((1, 0), 1)), ('w', Layout((1, 0), 1)))
"""

from __future__ import annotations

from typing import Mapping, Sequence

from symgrad.node import Expr
from symgrad.schedule import kept
from symgrad.schedule.analysis import Analysis
from symgrad.schedule.contractions import Contractions
from symgrad.schedule.groups import Fusion, Group
from symgrad.schedule.layout import Layout
from symgrad.schedule.writer import Memory

Place = tuple[str, Layout]
WHOLE = ("plain", "scalar", "product", "reduce")  # kernels that store when all is read


class Places:
    """Of one level of a graph. `updates` are new values of leaves that keep them."""

    def __init__(
        self,
        updates: Mapping[Expr, Expr],
        fusion: Fusion,
        contractions: Contractions,
        analysis: Analysis,
        memory: Memory,
    ) -> None:
        self.updates, self.fusion, self.contractions = updates, fusion, contractions
        self.analysis, self.layouts, self.memory = analysis, analysis.layouts, memory
        self.stored: dict[Expr, Place] = {}
        self.copies: dict[tuple[Expr, Layout], str] = {}  # converted values
        self.final: list[tuple[Group, Expr, Place]] = []  # copies into outputs and states
        self.waiting: dict[Group, tuple[Expr, Place]] = {}

    def size(self, n: Expr, layout: Layout) -> int:
        """Elements in memory, at least one."""
        return max(1, layout.elements(n.shape, self.analysis.lanes))

    def convert(self, node: Expr, layout: Layout) -> Group:
        """The group that copies a value into a layout."""
        group = self.fusion.converted.get((node, layout))
        if group is None:
            group = self.fusion.new_convert(node, layout)
            self.copies[node, layout] = self.memory.fresh_buffer(
                f"{node.name}_copy", node.dtype, self.size(node, layout), "arena"
            )
        return group

    def found(self, n: Expr) -> Place:
        """Where a value can be read in the layout it has: inputs may have been brought there."""
        copy = self.copies.get((n, self.layouts[n]))
        return (copy, self.layouts[n]) if copy is not None else self.memory.home[n]

    # -- places ---------------------------------------------------------------------------------
    def place(self, outputs: Sequence[tuple[Expr, Place]]) -> None:
        """Decides about every value; copies are left to be made for those that cannot be computed
        where they shall lie."""
        pending = self._states_to_write() + self._outputs_to_write(outputs)
        outside = {n for n, _ in pending}
        for n in self.fusion.named:
            if n not in self.stored and (n in outside or self._read_elsewhere(n)):
                layout = self.layouts[n]
                self.store(n, (self.memory.place(n, layout), layout))
        states = {self.memory.home[p] for p in self.updates}
        for n, place in pending:
            if n in self.updates and place in states:
                self._copy_through(n, place)  # states that exchange values
            else:
                self.copy(n, place)

    def copy(self, n: Expr, place: Place) -> Group:
        """The group that copies a value to a place."""
        group = self.fusion.new_copy(n)
        self.final.append((group, n, place))
        return group

    def _states_to_write(self) -> list[tuple[Expr, Place]]:
        pending: list[tuple[Expr, Place]] = []
        for p, new in self.updates.items():
            if new not in self.stored and self._may_overwrite(new, p):
                self.store(new, self.memory.home[p])
                self._after_readers(self.fusion.group_of[new], p)
            elif new is not p:
                pending.append((new, self.memory.home[p]))
        return pending

    def _outputs_to_write(self, outputs: Sequence[tuple[Expr, Place]]) -> list[tuple[Expr, Place]]:
        pending: list[tuple[Expr, Place]] = []
        for n, place in outputs:
            if n in self.fusion.named and n not in self.stored and self.layouts[n] == place[1]:
                self.store(n, place)
            else:
                pending.append((n, place))
        return pending

    def _copy_through(self, n: Expr, place: Place) -> None:
        """Copies the old value of a state that is itself overwritten: first into the arena."""
        layout = self.layouts[n]
        waiting = self.memory.fresh_buffer(n.name, n.dtype, self.size(n, layout), "arena")
        first = self.copy(n, (waiting, layout))
        second = self.fusion.new_group("copy")
        self.fusion.depend(second, first)
        self.waiting[second] = (n, (waiting, layout))
        self.final.append((second, n, place))

    def store(self, n: Expr, place: Place) -> None:
        """A value is computed here, and so are views of it that have the same memory."""
        self.stored[n] = place
        self.memory.home[n] = place
        for view in self.contractions.aliases.get(n, ()):
            if place[1] == self.layouts[n]:
                self.memory.home[view] = (place[0], self.layouts[view])

    def _read_elsewhere(self, n: Expr) -> bool:
        fusion, group = self.fusion, self.fusion.group_of[n]
        if group.kind in ("scatter", "cumulate", "reduce", "loop"):
            return True
        if n in fusion.outside:
            return True
        return any(fusion.group_of[m] is not group for m in fusion.readers.get(n, ()))

    def _may_overwrite(self, n: Expr, p: Expr) -> bool:
        """True when the kernel of `n` may write straight into the memory of `p`."""
        fusion = self.fusion
        if n not in fusion.named or self.layouts[n] != self.layouts[p]:
            return False
        group = fusion.group_of[n]
        if group.kind not in WHOLE and (group.kind != "rows" or self._others_read(n, p)):
            return False
        for m in group.nodes:
            same = fusion.needs(m).get(p)
            if same is False or (same is True and m.shape != p.shape):
                return False
            if same is True and not kept.is_elementwise(m):
                return False
        return not any(
            other is not group and other.before & group.bit for other in fusion.readers_of(p)
        )

    def _others_read(self, n: Expr, p: Expr) -> bool:
        """True when other values of the kernel of `n` are made of `p`, maybe after it is stored."""
        group = self.fusion.group_of[n]
        return any(p in self.fusion.needs(m) for m in group.nodes if m is not n)

    def before_overwriting(self) -> None:
        """Who reads the old value of a state runs before the kernel that overwrites it."""
        writers = {self.memory.home[p]: p for p in self.updates}
        for p, new in self.updates.items():
            if self.stored.get(new) == self.memory.home[p]:
                self._after_readers(self.fusion.group_of[new], p)
        for group, _, place in self.final:
            if place in writers:
                self._after_readers(group, writers[place])

    def _after_readers(self, group: Group, p: Expr) -> None:
        for reader in self.fusion.readers_of(p):
            if reader is not group:
                self.fusion.depend(group, reader)
