"""Which kernel computes each kept value: the second half of fusion.

In: the kept values of a program, their lane axes and layouts. Out: `Group`s, each the named nodes
that one kernel computes, in an order in which they could be run.

    rows      everything that has rows, in one pass over blocks of rows (and sums of rows to 0-d)
    reduce    reductions whose result has no rows but axes of its own (bias gradients, statistics)
    plain     elementwise work without rows: updates of parameters
    scalar    0-d values
    product   a contraction by register tiles, with its elementwise epilogue
    convert   a value in another layout
    scatter, cumulate, copy
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Iterable, Mapping, Sequence

from symgrad.node import Contract, Expr, Gather, Map, Reduce, Reindex, Reshape, ScatterAdd
from symgrad.schedule.bodies import Looped
from symgrad.schedule.early import early
from symgrad.schedule.kept import (
    Kept,
    is_elementwise,
    is_leaf_in_memory,
    is_product,
    is_view,
    reduced_axes,
    space_of,
    summed_rows,
)
from symgrad.schedule.layout import Layout
from symgrad.schedule.symbols import elements

FUSED_UPDATE = 1 << 13  # elements of a weight up to which any update joins its gradient's kernel
SHORT_UPDATE = 5  # operations of an update that joins it at any size


@dataclass(eq=False)
class Group:
    """The named nodes of one kernel. `before` has a bit for every group it depends on, directly
    or not; `after` are the groups that depend on it directly, `reads` what its nodes read."""

    kind: str
    index: int
    nodes: list[Expr] = field(default_factory=list)
    before: int = 0
    after: dict[Group, None] = field(default_factory=dict)
    reads: set[Expr] = field(default_factory=set)
    target: Layout | None = None  # of a convert

    @property
    def bit(self) -> int:
        return 1 << self.index


class Fusion(Kept):
    """Puts the named nodes into groups."""

    def __init__(
        self,
        nodes: Sequence[Expr],
        roots: Iterable[Expr],
        lane_axes: Mapping[Expr, int | None],
        layouts: Mapping[Expr, Layout],
        alone: Collection[Expr] = (),
        again: Collection[Expr] = (),
        pinned: Collection[Expr] = (),
    ) -> None:
        """`alone` are products that take no epilogue: their sums are complete in the end only.
        `again` are values computed a second time, late: not in the kernels of the first time.
        `pinned` are views that are computed all the same."""
        super().__init__(nodes, roots, pinned, again)
        self.keep(early(self))
        self.lane_axes, self.layouts = lane_axes, layouts
        self.alone = alone
        self.groups: list[Group] = []
        self.of_kind: dict[str, list[Group]] = {}
        self.group_of: dict[Expr, Group] = {}
        self.converted: dict[tuple[Expr, Layout], Group] = {}
        self.outside: dict[Expr, list[Group]] = {}  # what converts and copies read

    def run(self) -> list[Group]:
        """All groups, in an order in which they could be run."""
        for n in self.named:
            self._place(n)
        return self.groups

    def kind(self, n: Expr) -> str:
        if is_product(n):
            return "product"
        if isinstance(n, Looped):
            return "loop"
        if isinstance(n, ScatterAdd):
            return "scatter"
        if isinstance(n, Reduce) and n.law == "cumsum":
            return "cumulate"
        tagged = self.lane_axes[n] is not None
        if isinstance(n, (Contract, Reduce)) and not is_elementwise(n) and not is_view(n):
            if tagged:
                return "rows"
            over_rows = any(self.lane_axes[a] is not None for a in n.args)
            return "rows" if over_rows and not n.shape else "reduce"
        if tagged:
            return "rows"
        return "plain" if n.shape else "scalar"

    def _place(self, n: Expr) -> None:
        kind = self.kind(n)
        group = self._same_loop(n) if isinstance(n, Looped) else None
        if kind in ("rows", "plain") and isinstance(n, Map):
            group = self._epilogue(n)
        if kind == "scalar":
            group = self._after_rows(n)
        if group is None and kind in ("rows", "plain", "scalar", "reduce"):
            group = self._join(n, kind)
        if group is None:
            group = self.new_group(kind)
        self._add(n, group)

    def _same_loop(self, n: Looped) -> Group | None:
        """The group of the loop that this is a result of."""
        for group in self.of_kind.get("loop", []):
            first = group.nodes[0]
            if isinstance(first, Looped) and first.body is n.body:
                if all(a is b for a, b in zip(first.args, n.args)):
                    return group
        return None

    def new_group(self, kind: str) -> Group:
        group = Group(kind, len(self.groups))
        self.groups.append(group)
        self.of_kind.setdefault(kind, []).append(group)
        return group

    def _add(self, n: Expr, group: Group) -> None:
        needs = self.needs(n)
        group.nodes.append(n)
        group.reads.update(needs)
        self.group_of[n] = group
        for need in needs:
            other = self.group_of.get(need)
            if other is not None and other is not group:
                self.depend(group, other)

    def depend(self, group: Group, first: Group) -> None:
        """`group` runs after `first`, and so does everything after it."""
        first.after[group] = None
        stack = [(first, group)]
        while stack:
            earlier, later = stack.pop()
            before = later.before | earlier.before | earlier.bit
            if before != later.before:
                later.before = before
                stack.extend((later, g) for g in later.after)

    def readers_of(self, n: Expr) -> list[Group]:
        """The groups that read a value from memory."""
        found = [self.group_of[m] for m in self.readers.get(n, ())] + self.outside.get(n, [])
        return sorted(set(found), key=lambda g: g.index)

    def _can_join(self, n: Expr, group: Group) -> bool:
        for need in self.needs(n):
            other = self.group_of.get(need)
            if other is not None and other is not group and other.before & group.bit:
                return False
        return True

    def _epilogue(self, n: Expr) -> Group | None:
        """The product whose tiles `n` can be applied to while they are in registers or cache."""
        best: Group | None = None
        for need, same in self.needs(n).items():
            group = self.group_of.get(need)
            if group is None or group.kind != "product" or not same or need.shape != n.shape:
                continue
            if n in self.again:
                continue
            first = group.nodes[0]
            if first in self.alone:
                continue
            if self.layouts[first] != self.layouts[n] or first.shape != n.shape:
                continue
            if self._too_long(n, group):
                continue
            inside = all(
                same for other, same in self.needs(n).items() if self.group_of.get(other) is group
            )
            if inside and self._can_join(n, group) and (best is None or group.index > best.index):
                best = group
        return best

    def _too_long(self, n: Expr, group: Group) -> bool:
        """Long updates of large weights stream better in a pass of their own."""
        if self.lane_axes[n] is not None or elements(n.shape) <= FUSED_UPDATE:
            return False
        if len(self.readers.get(group.nodes[0], ())) > 1:
            return True
        return sum(self.cost[m] for m in [*group.nodes[1:], n]) > SHORT_UPDATE

    def _join(self, n: Expr, kind: str) -> Group | None:
        """The latest group of this kind that can take `n` in."""
        needs = self.needs(n)
        for group in self._candidates(kind, needs):
            if n in self.again and not self._repeats_with(needs, group):
                continue
            if not self._can_join(n, group):
                continue
            if kind == "rows" and self._fits_rows(n, group, needs):
                return group
            if kind == "plain" and self._fits_plain(n, group, needs):
                return group
            if kind == "reduce" and self._fits_reduce(n, group, needs):
                return group
            if kind == "scalar" and not self._delays(n, group):
                return group
        return None

    def _candidates(self, kind: str, needs: Mapping[Expr, bool]) -> Iterable[Group]:
        """The groups of a kind to look at, latest first: those that compute something of `needs`,
        or read some of it too; for 0-d values all."""
        if kind == "scalar":
            return reversed(self.of_kind.get(kind, []))
        near = {self.group_of[need] for need in needs if need in self.group_of}
        for need in needs:
            if need.shape:
                readers = self.readers.get(need, ())
                near.update(self.group_of[m] for m in readers if m in self.group_of)
        return sorted((g for g in near if g.kind == kind), key=lambda g: -g.index)

    def _repeats_with(self, needs: Mapping[Expr, bool], group: Group) -> bool:
        """True when a value that is computed again is so from what this group computes again, or
        from the same values: not merely from the same parameters."""
        if any(m not in self.again for m in group.nodes):
            return False
        return any(need in self.group_of and need in group.reads for need in needs) or any(
            self.group_of.get(need) is group for need in needs
        )

    def _delays(self, n: Expr, group: Group) -> bool:
        """True when taking `n` in would make the group wait for more than it does."""
        before = group.before | group.bit
        others = (self.group_of.get(need) for need in self.needs(n))
        return any(other is not None and (other.before | other.bit) & ~before for other in others)

    def _after_rows(self, n: Expr) -> Group | None:
        """The pass over rows whose sums a 0-d value is made of: computed at its end."""
        for need in self.needs(n):
            group = self.group_of.get(need)
            if group is not None and group.kind == "rows" and self._can_join(n, group):
                if not self._delays(n, group):
                    return group
        return None

    def _row_size(self, n: Expr) -> object:
        axis = self.lane_axes[n]
        if axis is not None:
            return n.shape[axis]
        for a in n.args:
            axis = self.lane_axes[a]
            if axis is not None:
                return a.shape[axis]
        return None

    def _crosses(self, n: Expr) -> bool:
        """A sum over rows: known only when the pass over the rows has ended."""
        return self.lane_axes[n] is None

    def _fits_rows(self, n: Expr, group: Group, needs: Mapping[Expr, bool]) -> bool:
        if not n.shape and is_elementwise(n):
            return False
        if self._row_size(n) != self._row_size(group.nodes[0]):
            return False
        related = False
        for need in needs:
            if self.group_of.get(need) is group:
                if self._crosses(need) or not self._same_row(n, need):
                    return False
                related = True
        if related:
            return True
        return any(need.shape and need in group.reads for need in needs)

    def _same_row(self, n: Expr, need: Expr) -> bool:
        """True when computing a row of `n` reads nothing of `need` but the same row."""
        row = self._row_size(n)
        seen: set[int] = set()
        stack: list[tuple[Expr, int | None]] = []
        axis = self.lane_axes[n]
        for a, mapped in self.operand_axes(n, axis):
            stack.append((a, mapped))
        while stack:
            a, at = stack.pop()
            if a is need:
                if at is None or at != self.lane_axes[need] or need.shape[at] != row:
                    return False
                continue
            if id(a) in seen or a in self.named or is_leaf_in_memory(a):
                continue
            seen.add(id(a))
            stack.extend(self.operand_axes(a, at))
        return True

    def operand_axes(self, n: Expr, axis: int | None) -> list[tuple[Expr, int | None]]:
        """For each operand, its axis that runs with this axis of `n` (None: no such axis)."""
        if isinstance(n, Map):
            return [(a, axis if a.shape else None) for a in n.args]
        if isinstance(n, Contract):
            label = None if axis is None else n.out[axis]
            if axis is None and not n.shape:  # a sum over rows
                label = summed_rows(n, self.lane_axes)
            return [(a, ls.index(label) if label in ls else None) for ls, a in zip(n.ins, n.args)]
        if isinstance(n, Reduce):
            if axis is None:
                return [(n.args[0], self.lane_axes[n.args[0]])]
            kept = [i for i in range(n.args[0].ndim) if n.law == "cumsum" or i not in n.axes]
            return [(n.args[0], kept[axis])]
        if isinstance(n, Reindex):
            for a, (offset, terms, divisor) in enumerate(n.maps):
                if axis is not None and terms == ((axis, 1),) and not offset and divisor == 1:
                    return [(n.args[0], a)]
            return [(n.args[0], None)]
        if isinstance(n, Reshape):
            axis_in = self.lane_axes[n.args[0]]
            if axis is not None and axis_in is not None and axis == axis_in:
                same = n.shape[: axis + 1] == n.args[0].shape[: axis + 1]
                return [(n.args[0], axis if same else None)]
            return [(n.args[0], None)]
        if isinstance(n, Gather):
            arg, indices = n.args
            spread = indices.ndim - n.batch
            if axis is None:
                return [(arg, None), (indices, None)]
            if axis < n.batch:
                return [(arg, axis), (indices, axis)]
            if axis < n.axis:
                return [(arg, axis), (indices, None)]
            if axis < n.axis + spread:
                return [(arg, None), (indices, n.batch + axis - n.axis)]
            return [(arg, axis - spread + 1), (indices, None)]
        return [(a, None) for a in n.args]

    def _fits_plain(self, n: Expr, group: Group, needs: Mapping[Expr, bool]) -> bool:
        first = group.nodes[0]
        if n.shape != first.shape or self.layouts[n] != self.layouts[first]:
            return False
        related = False
        for need, same in needs.items():
            if self.group_of.get(need) is group:
                if not same:
                    return False
                related = True
        return related or any(need.shape and need in group.reads for need in needs)

    def _fits_reduce(self, n: Expr, group: Group, needs: Mapping[Expr, bool]) -> bool:
        first = group.nodes[0]
        same = space_of(n) == space_of(first) and reduced_axes(n) == reduced_axes(first)
        if not same or any(self.group_of.get(need) is group for need in needs):
            return False
        return any(need.shape and need in group.reads for need in needs)

    def convert(self, n: Expr, layout: Layout) -> Group | None:
        """The group that copies `n` into a layout; None when it lies there already."""
        if self.layouts[n] == layout:
            return None
        return self.converted.get((n, layout)) or self.new_convert(n, layout)

    def new_convert(self, n: Expr, layout: Layout) -> Group:
        """A copy of a node, or of what a view shows, in a layout."""
        group = self.new_copy(n, "convert")
        group.target = layout
        self.converted[n, layout] = group
        return group

    def new_copy(self, n: Expr, kind: str = "copy") -> Group:
        """A kernel that does nothing but copy `n`."""
        group = self.new_group(kind)
        group.nodes = [n]
        for need in [n] if n in self.named or is_leaf_in_memory(n) else self.needs(n):
            self.outside.setdefault(need, []).append(group)
            source = self.group_of.get(need)
            if source is not None:
                self.depend(group, source)
        return group
