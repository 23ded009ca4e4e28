"""Loops: a body's kernels, called once for every step.

In: a group of kind "loop", its results. Out: a `Repeat` around the calls of the body. Nothing is
copied from step to step: a slice is a part of its stack, at `step * size`; so is what is stacked. A
carry that is also stacked lives in its stack, which then has one place more:

    forward    trail[0] = initial    step t reads trail[t], writes trail[t+1]      last: trail[T]
    reverse    trail[T] = initial    step t reads trail[t+1], writes trail[t]      last: trail[0]

Any other carry is a state of the body: computed in place, or copied there when the step ends. What
the body reads from outside is brought into the layout that it is read in before the loop starts.

>>> LoopGroup(level, group).calls()
[Repeat("t", Poly.of("time"), (Call("product_h_3", ...),))]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from codegen.loops import Call, Poly, Repeat
from symgrad.node import Constant, Contract, Expr
from symgrad.schedule.bodies import Body, Carry, Lent, Looped, Slice
from symgrad.schedule.groups import Group
from symgrad.schedule.kept import is_leaf_in_memory, is_view
from symgrad.schedule.layout import Layout
from symgrad.schedule.level import Level
from symgrad.schedule.places import Place
from symgrad.schedule.writer import Memory
from symgrad.sizes import Size, maximum


@dataclass(frozen=True)
class Steps:
    """The steps of a loop: its variable, how many there are, and the index of each."""

    var: str
    length: Size
    count: Poly
    index: Poly  # of slices, and of what is stacked

    @staticmethod
    def of(level: Level, body: Body) -> Steps:
        symbols = level.memory.symbols
        var, count = symbols.variable("t"), symbols.poly(body.length)
        index = count - 1 - var if body.reverse else Poly.of(var)
        return Steps(var, body.length, count, index)


class LoopGroup:
    """The loop of a group, in the level around it."""

    def __init__(self, level: Level, group: Group) -> None:
        self.level, self.group, self.memory = level, group, level.memory
        self.results = [n for n in group.nodes if isinstance(n, Looped)]
        self.body, self.args = self.results[0].body, self.results[0].args
        self.layouts = level.layouts
        self.steps = Steps.of(level, self.body)
        self.trails: dict[Carry, str] = {}
        self.kept: dict[Carry, str] = {}  # carries that are states of the body
        self._carries()
        self.sources = [self._source(leaf, arg) for leaf, arg in self._operands()]

    # -- carries --------------------------------------------------------------------------------
    def _carries(self) -> None:
        initials = self.args[len(self.body.slices) :]
        for carry, new, initial in zip(self.body.carries, self.body.news, initials):
            layout = self.layouts[carry]
            stacks = [
                n
                for n in self.results
                if n.carry is None
                and (n.value is carry or n.value is new)
                and n not in self.level.places.stored
            ]
            if stacks:
                start = self._trail(carry, stacks)
            else:
                size = self.level.places.size(carry, layout)
                start = self.memory.fresh_buffer(carry.name, carry.dtype, size)
                self.kept[carry] = start
                self._results(carry, start)
            self._initial(initial, (start, layout), carry in self.trails)

    def _trail(self, carry: Carry, stacks: Sequence[Looped]) -> str:
        """One buffer for all values of a carry; the part that holds the first of them."""
        size = self.level.places.size(carry, self.layouts[carry])
        steps = maximum(self.steps.length)
        name = self.memory.fresh_buffer(f"{carry.name}_trail", carry.dtype, size * (steps + 1))
        self.trails[carry] = name
        one, reverse = self.stride(carry), self.body.reverse
        for n in stacks:
            behind = (n.value is carry) == reverse  # the first of them is not in this stack
            if n.value is carry or self.layouts[n.value] == self.layouts[carry]:
                start = one if behind else Poly()
                part = self.memory.part(n.name, n.dtype, size * steps, name, start)
                self.level.places.store(n, (part, self.layouts[n]))
        ends = [Poly(), self.steps.count * one]
        first, last = ends[::-1] if reverse else ends
        self._results(carry, self.memory.part(carry.name, carry.dtype, size, name, last))
        return self.memory.part(carry.name, carry.dtype, size, name, first)

    def _results(self, carry: Carry, name: str) -> None:
        """The last value lies where the carry is then."""
        for n in self.results:
            if n.carry is carry:
                self.level.places.store(n, (name, self.layouts[n]))

    def _initial(self, n: Expr, place: Place, alone: bool) -> None:
        """The first value of a carry, computed in its place if it can be. What is overwritten must
        have no other reader."""
        fusion, places = self.level.fusion, self.level.places
        readers = fusion.readers.get(n, ())
        free = n in fusion.named and n not in places.stored and n not in fusion.roots
        alone = alone or all(fusion.group_of.get(m) is self.group for m in readers)
        alone = alone and n not in fusion.outside
        if free and alone and self.layouts[n] == place[1] and fusion.kind(n) != "loop":
            places.store(n, place)
        else:
            fusion.depend(self.group, places.copy(n, place))

    # -- operands -------------------------------------------------------------------------------
    def _operands(self) -> list[tuple[Slice | Lent, Expr]]:
        """What the loop reads as it runs."""
        found = zip(self.body.leaves, self.args)
        return [(leaf, arg) for leaf, arg in found if isinstance(leaf, (Slice, Lent))]

    def _source(self, leaf: Slice | Lent, arg: Expr) -> Expr | str:
        """The value that holds an operand as the body reads it, or a copy of it."""
        layout = self.layouts[leaf]
        return self.operand(arg, layout.stacked if isinstance(leaf, Slice) else layout)

    def operand(self, arg: Expr, layout: Layout) -> Expr | str:
        """A value that lies in memory as `arg` in this layout would, or a buffer with a copy."""
        base, wanted = arg, layout
        while isinstance(base, Contract) and is_view(base) and not self._in_memory(base):
            labels = base.ins[0]
            if len(labels) != base.ndim:
                break
            axis = [labels.index(k) for k in base.out]
            order = tuple(axis[a] for a in wanted.order)
            wanted = Layout(order, None if wanted.lane is None else axis[wanted.lane])
            base = base.args[0]
        if self._in_memory(base) and self._alike(base, wanted):
            return base
        return self.level.copy_for(self.group, arg, layout)

    def _in_memory(self, n: Expr) -> bool:
        return n in self.level.fusion.named or is_leaf_in_memory(n)

    def _alike(self, n: Expr, layout: Layout) -> bool:
        """Whether a value lies in this layout: without lanes the axes of size 1 do not matter."""
        found = self.layouts[n]
        if found == layout or not n.shape:
            return True
        long = [[a for a in p.order if n.shape[a] != 1] for p in (found, layout)]
        return found.lane is layout.lane is None and long[0] == long[1]

    def stride(self, n: Expr, layout: Layout | None = None) -> Poly:
        """Elements from one step of a stack of such values to the next."""
        layout = layout or self.layouts[n]
        extents = []
        for a in layout.order:
            size = n.shape[a]
            blocks = self.memory.symbols.blocks
            extents.append(blocks(size) if a == layout.lane else self.memory.symbols.poly(size))
        total = Poly.of(1 if layout.lane is None else self.memory.symbols.lanes)
        for extent in extents:
            total = total * extent
        return total

    # -- the body -------------------------------------------------------------------------------
    def arrange(self) -> None:
        """The body as kernels in order; where everything around it lies is known by now."""
        memory = self.memory.inner()
        for (leaf, _), source in zip(self._operands(), self.sources):
            memory.home[leaf] = (self._place_of(leaf, source), self.layouts[leaf])
        one_more = 1 if self.body.reverse else 0
        for carry in self.body.carries:
            name = self.kept.get(carry) or self._at(carry, self.trails[carry], one_more)
            memory.home[carry] = (name, self.layouts[carry])
        outputs: list[tuple[Expr, Place]] = [
            (new, (self._at(carry, self.trails[carry], 1 - one_more), self.layouts[carry]))
            for carry, new in zip(self.body.carries, self.body.news)
            if carry in self.trails
        ]
        stored = self.level.places.stored
        trails = set(self.trails.values())
        for n in self.results:
            if n.carry is None and self.memory.whole(stored[n][0])[0] not in trails:
                outputs.append((n.value, (self._at(n.value, stored[n][0]), self.layouts[n.value])))
        self.inside = BodyLevel(self, memory, outputs)
        self.inside.arrange()

    def _place_of(self, leaf: Slice | Lent, source: Expr | str) -> str:
        name = source if isinstance(source, str) else self._buffer(source)
        return self._at(leaf, name) if isinstance(leaf, Slice) else name

    def _buffer(self, n: Expr) -> str:
        if isinstance(n, Constant) and n not in self.memory.home:
            return self.memory.constant(n)
        return self.level.places.found(n)[0]

    def _at(self, n: Expr, stack: str, more: int = 0, layout: Layout | None = None) -> str:
        """The part of a stack that belongs to a step, or to the one `more` behind it."""
        layout = layout or self.layouts[n]
        start = (self.steps.index + more) * self.stride(n, layout)
        size = self.level.places.size(n, layout)
        return self.memory.part(n.name, n.dtype, size, stack, start)

    def copy(self, leaf: Expr, arg: Expr, layout: Layout) -> str:
        """An operand in another layout, made before the loop starts; a part of it for each step."""
        if not isinstance(leaf, Slice):
            return self._outside(arg, layout)
        return self._at(leaf, self._outside(arg, layout.stacked), layout=layout)

    def _outside(self, arg: Expr, layout: Layout) -> str:
        found = self.operand(arg, layout)
        return found if isinstance(found, str) else self._buffer(found)

    def uses(self) -> list[str]:
        """The arena buffers of the loop."""
        inner = [name for g in self.inside.order for name in self.inside.uses(g)]
        return list(dict.fromkeys(inner))

    def calls(self) -> list[Call | Repeat]:
        order = "from the last to the first" if self.body.reverse else "in order"
        heading = f"for {self.steps.var} of {self.steps.count}, {order}:"
        with self.level.common.kernels.inside(heading):
            calls = self.inside.calls()
        return [Repeat(self.steps.var, self.steps.count, tuple(calls))] if calls else []


class BodyLevel(Level):
    """The body of a loop: its leaves lie where the level around it says."""

    def __init__(
        self, loop: LoopGroup, memory: Memory, outputs: Sequence[tuple[Expr, Place]]
    ) -> None:
        body = loop.body
        updates: dict[Expr, Expr] = {
            c: new for c, new in zip(body.carries, body.news) if c in loop.kept
        }
        super().__init__(loop.level.common, body.nodes, body.roots, updates, memory)
        self.loop, self.given = loop, outputs

    def leaves(self) -> None:
        """They have their memory already."""

    def outputs(self) -> Sequence[tuple[Expr, Place]]:
        return self.given

    def shared_copy(self, n: Expr, layout: Layout) -> str | None:
        """A leaf, or a view of what is lent, is copied outside of the loop."""
        body, args = self.loop.body, self.loop.args
        which: dict[Expr, Expr] = dict(zip(body.leaves, args))
        if isinstance(n, Slice):
            return self.loop.copy(n, which[n], layout)
        outer = _outside(n, which)
        return None if outer is None else self.loop.copy(n, outer, layout)


def _outside(n: Expr, which: dict[Expr, Expr]) -> Expr | None:
    """A view of values that are lent as the level around the loop has it."""
    if isinstance(n, Lent):
        return which[n]
    if not is_view(n):
        return None
    args = [a for a in (_outside(a, which) for a in n.args) if a is not None]
    return n.with_args(args) if len(args) == len(n.args) else None
