"""From a rewritten graph to a loop program: the scheduler's own pipeline.

In: outputs and updates. Out: a `Schedule`: the program, and where inputs, states and outputs lie.

    primitive -> rows and layouts -> fusion -> places -> order -> one kernel per group
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from typing import Callable, Iterable, Mapping, Sequence

from codegen.loops import (
    Buffer,
    Call,
    Const,
    Declare,
    For,
    Kernel,
    Lanes,
    Load,
    Op,
    Poly,
    Program,
    Stmt,
    Store,
)
from codegen.target import Target
from symgrad import dtypes
from symgrad.node import Contract, Expr, Input, Parameter, Random, toposort
from symgrad.schedule import kept
from symgrad.schedule.budget import within
from symgrad.schedule.contractions import Contractions
from symgrad.schedule.converts import write_convert
from symgrad.schedule.equal import fingerprint
from symgrad.schedule.groups import Fusion, Group
from symgrad.schedule.layout import Layout, row_major
from symgrad.schedule.nests import (
    Nest,
    write_cumulate,
    write_plain,
    write_scalar,
    write_scatter,
)
from symgrad.schedule.orders import lane_layouts, pointwise_products, unfolded, window_products
from symgrad.schedule.primitive import primitive
from symgrad.schedule.random import RNG
from symgrad.schedule.reductions import write_reduce
from symgrad.schedule.rowpass import write_rows
from symgrad.schedule.rows import layouts, row_axes, row_size
from symgrad.schedule.symbols import Symbols, elements
from symgrad.schedule.writer import Memory, Writer
from symgrad.sizes import Dim, maximum, show

Place = tuple[str, Layout]
NESTS: dict[str, Callable[[Nest, Group], Writer | list[Writer]]] = {
    "rows": write_rows,
    "reduce": write_reduce,
    "plain": write_plain,
    "scalar": write_scalar,
    "cumulate": write_cumulate,
    "scatter": write_scatter,
}
FEW_CHANNELS = 4  # of an input image that is read as it comes
SMALL = 8  # results so many times smaller than what is read need no memory to speak of,
TINY = 4096  # nor do so few bytes


@dataclass(frozen=True)
class Schedule:
    """A program, and the buffers through which the world talks to it."""

    program: Program
    inputs: Mapping[Expr, str]
    states: Mapping[Parameter, Place]
    outputs: Mapping[str, str]
    rng: str | None
    groups: Sequence[Group] = field(default_factory=tuple)
    lines: Sequence[str] = field(default_factory=tuple)
    recomputed: Sequence[str] = field(default_factory=tuple)
    before: int = 0  # the most bytes held at once if nothing were computed again
    note: str = ""  # what runs in lanes, where that is not the rows

    def text(self) -> str:
        """One line per kernel: what it computes, from what."""
        return "\n".join([self.note, *self.lines] if self.note else self.lines)


def schedule(
    inputs: Sequence[Expr],
    outputs: Mapping[str, Expr],
    updates: Mapping[Parameter, Expr],
    *,
    target: Target,
    fixed: Mapping[Parameter, Layout] | None = None,
    lanes: int | None = None,
    threads: int = 1,
    max_bytes: int | None = None,
    tolerance: float = 0.0,
) -> Schedule:
    """Plans every kernel of one call. Parameters in `inputs` are read from their input buffer. The
    arena is at most `max_bytes` large; kernels may be less exact by a relative `tolerance`.
    `threads` changes no kernel, but some memory is needed once for each."""

    def arrange(roots: list[Expr], again: frozenset[Expr]) -> _Builder:
        new = dict(zip(outputs, roots)), dict(zip(updates, roots[len(outputs) :]))
        return _Builder(inputs, *new, target, fixed or {}, lanes, again, tolerance).arrange()

    roots = primitive([*outputs.values(), *updates.values()])
    fitted, made = within(arrange, roots, max_bytes, target.l2, threads)
    return replace(made, recomputed=tuple(map(_short, fitted.recomputed)), before=fitted.before)


def _short(n: Expr) -> str:
    return f"{n.name} {show(n.shape)}" + (f" from {n.where}" if n.where else "")


def _accumulators(body: Sequence[Stmt]) -> str:
    """The tiles of accumulators that a kernel holds in registers."""
    found: dict[str, None] = {}
    stack = list(body)[::-1]
    while stack:
        s = stack.pop()
        if isinstance(s, Declare) and len(s.shape) == 2:
            found["x".join(map(str, s.shape))] = None
        elif isinstance(s, (For, Lanes)):
            stack += s.body[::-1]
    return f", tiles {' '.join(found)}" if found else ""


class _Builder:
    def __init__(
        self,
        inputs: Sequence[Expr],
        outputs: Mapping[str, Expr],
        updates: Mapping[Parameter, Expr],
        target: Target,
        fixed: Mapping[Parameter, Layout],
        lanes: int | None,
        again: frozenset[Expr],
        tolerance: float,
    ) -> None:
        self.outputs, self.updates, self.again = outputs, updates, again
        self.inputs, self.target = list(inputs), target
        roots = [*outputs.values(), *updates.values()]
        self.nodes = toposort([*roots, *updates])
        wide = any(n.dtype == "float64" for n in self.nodes)
        self.lanes = lanes or max(1, target.lanes // 2 if wide else target.lanes)
        given = {p for p in inputs if isinstance(p, Parameter)}
        reached = set(self.nodes)
        everything = [*self.nodes, *(i for i in self.inputs if i not in reached)]
        names = {size.name for n in everything for size in n.shape if isinstance(size, Dim)}
        self.memory = Memory(Symbols(self.lanes, names))
        pinned = unfolded(everything)

        def in_memory(n: Expr) -> bool:
            return not kept.is_view(n) or n in pinned

        self.windowed = window_products(everything, in_memory)
        points = pointwise_products(everything, in_memory)
        self.rows = row_size(everything, {**points, **self.windowed}, self.lanes)
        if self.rows is None:
            self.windowed = {**points, **self.windowed}
        self.lane_axes = row_axes(everything, self.rows)
        held = {**fixed, **{p: row_major(p.ndim) for p in given}}
        self.in_lanes = lane_layouts(everything, self.lane_axes, self.windowed)
        self.layouts = layouts(
            everything, self.lane_axes, self.updates, held, self.in_lanes, self.windowed
        )
        self.contractions = Contractions(
            self.windowed,
            self.lane_axes,
            self.layouts,
            self.in_lanes,
            self.memory,
            target,
            pinned,
            tolerance,
        )
        self.fusion = Fusion(
            self.nodes, roots, self.lane_axes, self.layouts, self.contractions.alone, again, pinned
        )
        self.stored: dict[Expr, Place] = {}
        self.copies: dict[tuple[Expr, Layout], str] = {}  # converted values
        self.final: list[tuple[Group, Expr, Place]] = []  # copies into outputs and states
        self.waiting: dict[Group, tuple[Expr, Place]] = {}
        self.kernels: dict[str, Kernel] = {}
        self.known: dict[str, str] = {}
        self.lines: list[str] = []

    # -- the pipeline ---------------------------------------------------------------------------
    def arrange(self) -> _Builder:
        """Everything up to the order of the kernels, which are not written yet."""
        self._leaves()
        self._inputs_to_lanes()
        groups = self.fusion.run()
        self._product_operands()
        self._places()
        self._before_overwriting()
        self.order = self._late_copies(self._order(groups))
        return self

    def build(self) -> Schedule:
        calls = [call for g in self.order for call in self._lower(g)]
        rng = self._advance_rng(calls)
        program = Program(
            self.lanes,
            dict(self.memory.symbols.sizes),
            tuple(self.memory.buffers.values()),
            tuple(self.kernels.values()),
            tuple(calls),
        )
        states = {p: self.memory.home[p] for p in self._states}
        note = "few images: channels run in lanes" if self.windowed and self.rows is None else ""
        return Schedule(
            program, self.input_buffers, states, self.output_buffers, rng, self.order, self.lines,
            note=note,
        )  # fmt: skip

    def _leaves(self) -> None:
        """Buffers of everything that comes from outside."""
        self.input_buffers: dict[Expr, str] = {}
        for n in self.inputs:
            for s in n.shape:
                self.memory.symbols.poly(s)
            self.input_buffers[n] = self.memory.place(n, row_major(n.ndim), "input")
        self._states: list[Parameter] = []
        for leaf in self.nodes:
            if isinstance(leaf, Parameter) and leaf not in self.input_buffers:
                self._states.append(leaf)
                self.memory.place(leaf, self.layouts[leaf], "state")
            elif isinstance(leaf, Input) and leaf not in self.input_buffers:
                self.input_buffers[leaf] = self.memory.place(leaf, row_major(leaf.ndim), "input")
        if any(isinstance(n, Random) for n in self.nodes):
            self.memory.buffers[RNG] = Buffer(RNG, "int32", 4, "state")

    def _inputs_to_lanes(self) -> None:
        """Inputs with rows are brought to lanes once, where they are used as vectors; images
        without rows to the order they are read in, if they have more than a few channels."""
        for n in self.nodes:
            if not isinstance(n, Input) or n.ndim < 2 or n not in self.in_lanes:
                continue
            if not dtypes.is_float(n.dtype) or elements(n.shape[1:]) < 2:
                continue
            wanted = self.in_lanes[n]
            channels = maximum(n.shape[wanted.order[-1]])
            if self.lane_axes[n] is None and channels <= FEW_CHANNELS:
                continue
            group = self.fusion.convert(n, wanted)
            if group is not None:
                self.fusion.group_of[n] = group
                size = self._size(n, wanted)
                name = self.memory.fresh_buffer(f"{n.name}_lanes", n.dtype, size, "arena")
                self.copies[n, wanted] = name
                self.layouts[n] = wanted

    def _size(self, n: Expr, layout: Layout) -> int:
        return max(1, layout.elements(n.shape, self.lanes))

    def _product_operands(self) -> None:
        held = self.contractions.held(self.fusion)
        for group in list(self.fusion.groups):
            if group.kind == "product":
                copied = self.contractions.prepare(group, held, self.fusion)
                if copied is not None:
                    self.fusion.depend(group, self._convert(*copied))

    def _convert(self, node: Expr, layout: Layout) -> Group:
        group = self.fusion.converted.get((node, layout))
        if group is None:
            group = self.fusion.new_convert(node, layout)
            self.copies[node, layout] = self.memory.fresh_buffer(
                f"{node.name}_copy", node.dtype, self._size(node, layout), "arena"
            )
        return group

    # -- places ---------------------------------------------------------------------------------
    def _places(self) -> None:
        """Every value that outlives its kernel gets memory: a state's or output's own if it can."""
        pending = self._states_to_write() + self._outputs_to_write()
        outside = {n for n, _ in pending}
        for n in self.fusion.named:
            if n not in self.stored and (n in outside or self._read_elsewhere(n)):
                layout = self.layouts[n]
                self._store(n, (self.memory.place(n, layout), layout))
        states = {self.memory.home[p] for p in self.updates}
        for n, place in pending:
            if isinstance(n, Parameter) and n in self.updates and place in states:
                self._copy_through(n, place)  # states that exchange values
            else:
                self.final.append((self.fusion.new_copy(n), n, place))

    def _states_to_write(self) -> list[tuple[Expr, Place]]:
        pending: list[tuple[Expr, Place]] = []
        for p, new in self.updates.items():
            if new not in self.stored and self._may_overwrite(new, p):
                self._store(new, self.memory.home[p])
                self._after_readers(self.fusion.group_of[new], p)
            elif new is not p:
                pending.append((new, self.memory.home[p]))
        return pending

    def _outputs_to_write(self) -> list[tuple[Expr, Place]]:
        pending: list[tuple[Expr, Place]] = []
        self.output_buffers: dict[str, str] = {}
        for name, n in self.outputs.items():
            layout = row_major(n.ndim)
            buffer = self.memory.fresh_buffer(name, n.dtype, self._size(n, layout), "output")
            self.output_buffers[name] = buffer
            if n in self.fusion.named and n not in self.stored and self.layouts[n] == layout:
                self._store(n, (buffer, layout))
            else:
                pending.append((n, (buffer, layout)))
        return pending

    def _copy_through(self, n: Parameter, place: Place) -> None:
        """Copies the old value of a state that is itself overwritten: first into the arena."""
        layout = self.layouts[n]
        waiting = self.memory.fresh_buffer(n.name, n.dtype, self._size(n, layout), "arena")
        first = self.fusion.new_copy(n)
        self.final.append((first, n, (waiting, layout)))
        second = self.fusion.new_group("copy")
        self.fusion.depend(second, first)
        self.waiting[second] = (n, (waiting, layout))
        self.final.append((second, n, place))

    def _store(self, n: Expr, place: Place) -> None:
        self.stored[n] = place
        self.memory.home[n] = place
        for view in self.contractions.aliases.get(n, ()):
            if place[1] == self.layouts[n]:
                self.memory.home[view] = (place[0], self.layouts[view])

    def _read_elsewhere(self, n: Expr) -> bool:
        fusion, group = self.fusion, self.fusion.group_of[n]
        if group.kind in ("scatter", "cumulate", "reduce"):
            return True
        if n in fusion.outside:
            return True
        return any(fusion.group_of[m] is not group for m in fusion.readers.get(n, ()))

    def _may_overwrite(self, n: Expr, p: Parameter) -> bool:
        """True when the kernel of `n` may write straight into the memory of `p`."""
        fusion = self.fusion
        if n not in fusion.named or self.layouts[n] != self.layouts[p]:
            return False
        group = fusion.group_of[n]
        if group.kind not in ("plain", "scalar", "product", "reduce"):
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

    def _before_overwriting(self) -> None:
        """Who reads the old value of a state runs before the kernel that overwrites it."""
        writers = {self.memory.home[p]: p for p in self.updates}
        for p, new in self.updates.items():
            if self.stored.get(new) == self.memory.home[p]:
                self._after_readers(self.fusion.group_of[new], p)
        for group, _, place in self.final:
            if place in writers:
                self._after_readers(group, writers[place])

    def _after_readers(self, group: Group, p: Parameter) -> None:
        for reader in self.fusion.readers_of(p):
            if reader is not group:
                self.fusion.depend(group, reader)

    # -- order ----------------------------------------------------------------------------------
    def _order(self, groups: Sequence[Group]) -> list[Group]:
        """Dependencies first; among what is ready the lowest rank, then age."""
        waiting = dict.fromkeys(groups, 0)
        for g in groups:
            for other in g.after:
                waiting[other] += 1
        ready = [(self._rank(g), g.index, g) for g in groups if not waiting[g]]
        heapq.heapify(ready)
        order = []
        while ready:
            _, _, g = heapq.heappop(ready)
            order.append(g)
            for other in g.after:
                waiting[other] -= 1
                if not waiting[other]:
                    heapq.heappush(ready, (self._rank(other), other.index, other))
        if len(order) != len(groups):
            raise RuntimeError("the kernels of this program depend on each other in a circle")
        return order

    def _rank(self, g: Group) -> int:
        """Updates as soon as they can be, and the copies they read: a weight is overwritten while
        the last cache still holds it from the gradient before. Then what needs little memory of
        its own, such as sums over rows: what they read is often free after that."""
        if g.kind == "convert" or self._is_repeated(g):  # the latter are then put off
            return 0
        written = [self.memory.buffers[self.stored[n][0]] for n in g.nodes if n in self.stored]
        if all(b.role == "state" for b in written):
            return 0
        born = sum(_bytes(b) for b in written if b.role == "arena")
        read = {self.memory.home[n][0] for n in g.reads if n in self.memory.home}
        small = sum(_bytes(self.memory.buffers[b]) for b in read) // SMALL
        return 1 if born <= max(small, TINY) else 2

    def _late_copies(self, order: Sequence[Group]) -> list[Group]:
        """Values that are computed again, and copies of them in another layout, as late as can
        be: right before the first who reads them."""
        if not self.again:
            return list(order)
        result: list[Group] = []
        waiting: list[Group] = []
        for g in order:
            if self._is_repeated(g):
                waiting.append(g)
                continue
            result += [w for w in waiting if g.before & w.bit]
            waiting = [w for w in waiting if not g.before & w.bit]
            result.append(g)
        return result + waiting

    def _is_repeated(self, g: Group) -> bool:
        if g.kind == "convert":
            source = g.nodes[0]
            needs = [source] if source in self.fusion.named else self.fusion.needs(source)
            return any(n in self.again for n in needs)
        return bool(g.nodes) and all(n in self.again for n in g.nodes)

    # -- memory ---------------------------------------------------------------------------------
    def bytes(self, n: Expr) -> int:
        """The memory of a value if it is, or would be, in the arena."""
        if n in self.stored and self.memory.buffers[self.stored[n][0]].role != "arena":
            return 0
        return self._size(n, self.layouts[n]) * dtypes.ITEMSIZE[n.dtype]

    def uses(self, g: Group) -> list[str]:
        """The arena buffers that a group reads or writes, those inside its kernel excepted."""
        found = [self.stored[n][0] for n in g.nodes if n in self.stored]
        reads = g.reads
        if g.kind in ("convert", "copy"):
            node = self.waiting[g][0] if g in self.waiting else g.nodes[0]
            reads = set(self._sources(node))
            found += [self.copies[node, g.target]] if g.target is not None else []
            found += [place[0] for other, _, place in self.final if other is g]
            found += [self.waiting[g][1][0]] if g in self.waiting else []
        first = g.nodes[0] if g.nodes else None
        copied = self.contractions.copied(first) if isinstance(first, Contract) else None
        if first is not None and copied is not None:
            found.append(self.copies[copied])
            others = [a for a in first.args if a is not copied[0]]
            reads = {need for a in others for need in self._sources(a)}
            reads.update(need for m in g.nodes[1:] for need in self.fusion.needs(m))
        found += [self._home(n) for n in reads if n in self.memory.home]
        return [name for name in found if self.memory.buffers[name].role == "arena"]

    def _sources(self, n: Expr) -> Iterable[Expr]:
        """What is read for the elements of a value: itself if it is in memory."""
        return [n] if n in self.memory.home else self.fusion.needs(n)

    def _home(self, n: Expr) -> str:
        return self.copies.get((n, self.layouts[n])) or self.memory.home[n][0]

    def buffer_bytes(self, name: str) -> int:
        return _bytes(self.memory.buffers[name])

    # -- kernels --------------------------------------------------------------------------------
    def _lower(self, group: Group) -> list[Call]:
        return [self._call(group, w) for w in self._write(group)]

    def _call(self, group: Group, w: Writer) -> Call:
        kernel, buffers = w.kernel("")
        key = fingerprint(kernel)
        name = self.known.get(key)
        nodes = group.nodes or [self.waiting[group][0]]
        if name is None:
            first = nodes[0].name.split(" ")[0]
            name = f"{group.kind}_{first}_{len(self.kernels)}"
            self.known[key] = name
            lines = tuple(dict.fromkeys(str(n.where) for n in nodes))
            comment = ", ".join(n.name for n in nodes)
            inplace = self._inplace(w, group)
            self.kernels[name] = replace(
                kernel, name=name, inplace=inplace, comment=comment, sources=lines
            )
        computed = ", ".join(n.name + (" again" if n in self.again else "") for n in nodes)
        how = f"  [{w.how}{_accumulators(self.kernels[name].body)}]" if w.how else ""
        self.lines.append(f"{name}({', '.join(buffers)}): {computed}{how}")
        return Call(name, buffers, (0,) * len(buffers))

    def _inplace(self, w: Writer, group: Group) -> tuple[tuple[str, str], ...]:
        """In a flat loop every element is read before the same element is written."""
        if group.kind != "plain" or not w.was_flat:
            return ()
        written = [b for b, mode in w.operands.items() if mode == "w"]
        read = [b for b, mode in w.operands.items() if mode == "r"]
        return tuple((w.formal[a], w.formal[b]) for a in written for b in read)

    def _write(self, group: Group) -> list[Writer]:
        for g, n, place in self.final:
            if g is group:
                source = self.waiting.get(g, (n, self.memory.home.get(n)))[1]
                return [write_convert(self.memory, n, source, place)]
        if group.kind == "convert":
            n, layout = group.nodes[0], group.target
            assert layout is not None
            home = self.memory.home.get(n)
            w = write_convert(self.memory, n, home, (self.copies[n, layout], layout))
            if isinstance(n, Input) and self.layouts[n] == layout:
                self.memory.home[n] = (self.copies[n, layout], layout)
            return [w]
        if group.kind == "product":
            cost = sum(self.fusion.cost[m] for m in group.nodes[1:])
            return self.contractions.write(group, cost, self.stored, self.copies)
        if group.kind == "winograd":
            return [self.contractions.write_weights(group)]
        nest = Nest(self.fusion, self.memory, self.lane_axes, self.stored)
        made = NESTS[group.kind](nest, group)
        return made if isinstance(made, list) else [made]

    def _advance_rng(self, calls: list[Call]) -> str | None:
        """Numbers of the next call differ: its step is one more."""
        if RNG not in self.memory.buffers:
            return None
        w = Writer(self.memory)
        rng = w.touch(RNG, "rw")
        step = Load(rng, Poly.of(2), "int32")
        one = Op("add", (step, Const(1, "int32")), "int32")
        w.body.append(Store(rng, Poly.of(2), one))
        kernel, buffers = w.kernel("advance_rng")
        self.kernels["advance_rng"] = kernel
        calls.append(Call("advance_rng", buffers, (0,)))
        return RNG


def _bytes(buffer: Buffer) -> int:
    return buffer.size * dtypes.ITEMSIZE[buffer.dtype]
