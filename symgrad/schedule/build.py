"""From a rewritten graph to a loop program: the scheduler's own pipeline.

In: outputs and updates. Out: a `Schedule`: the program, and where inputs, states and outputs lie.

    primitive -> loops cut out -> rows and layouts -> fusion -> places -> order -> kernels
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Mapping, Sequence

from codegen.loops import Buffer, Call, Const, Load, Op, Poly, Program, Repeat, Store
from codegen.target import Target
from symgrad import dtypes
from symgrad.node import Expr, Input, Parameter, Random, toposort
from symgrad.schedule.analysis import analyse
from symgrad.schedule.budget import values_in, within
from symgrad.schedule.groups import Group
from symgrad.schedule.kernels import Entry, Kernels
from symgrad.schedule.layout import Layout, row_major
from symgrad.schedule.level import Common, Level
from symgrad.schedule.outline import cut
from symgrad.schedule.places import Place
from symgrad.schedule.primitive import primitive
from symgrad.schedule.random import RNG
from symgrad.schedule.scan import LoopGroup
from symgrad.schedule.symbols import Symbols, elements
from symgrad.schedule.writer import Memory, Writer
from symgrad.sizes import maximum

FEW_CHANNELS = 4  # of an input image that is read as it comes


@dataclass(frozen=True)
class Schedule:
    """A program, and the buffers through which the world talks to it."""

    program: Program
    inputs: Mapping[Expr, str]
    states: Mapping[Parameter, Place]
    outputs: Mapping[str, str]
    rng: str | None
    groups: Sequence[Group] = field(default_factory=tuple)
    entries: Sequence[Entry] = field(default_factory=tuple)  # of calls, and headings of loops
    origins: Mapping[Expr, Expr] = field(default_factory=dict)  # of nodes that stand for others
    values: Mapping[str, Expr] = field(default_factory=dict)  # what buffers hold
    recomputed: Sequence[Expr] = field(default_factory=tuple)
    before: int = 0  # the most bytes held at once if nothing were computed again
    note: str = ""  # what runs in lanes, where that is not the rows


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

    def arrange(roots: list[Expr], again: frozenset[Expr]) -> Builder:
        new = dict(zip(outputs, roots)), dict(zip(updates, roots[len(outputs) :]))
        builder = Builder(inputs, *new, target, fixed or {}, lanes, again, tolerance)
        builder.arrange()
        return builder

    origins: dict[Expr, Expr] = {}
    roots = cut(primitive([*outputs.values(), *updates.values()]), origins)
    fitted, made = within(arrange, roots, max_bytes, target.l2, threads)
    return replace(
        made,
        recomputed=fitted.recomputed,
        before=fitted.before,
        origins=origins,
        values=values_in(fitted.arranged),
    )


class Builder(Level):
    """The outermost level: what the world hands in and gets back."""

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
        self.inputs, self.named = list(inputs), outputs
        roots = [*outputs.values(), *updates.values()]
        nodes = toposort([*roots, *updates])
        found = analyse(nodes, inputs, updates, target, fixed, lanes)
        memory = Memory(Symbols(found.lanes, found.names))
        common = Common(found, Kernels(), target, LoopGroup, again, tolerance)
        super().__init__(common, nodes, roots, dict(updates.items()), memory)

    def build(self) -> Schedule:
        """The kernels, and the program they make."""
        calls = self.calls()
        rng = self._advance_rng(calls)
        kernels, memory = self.common.kernels, self.memory
        program = Program(
            self.analysis.lanes,
            dict(memory.symbols.sizes),
            tuple(b for b in memory.buffers.values() if b.name not in memory.parts),
            tuple(kernels.made.values()),
            tuple(calls),
        )
        states = {p: memory.home[p] for p in self._states}
        few = self.analysis.windowed and self.analysis.rows is None
        note = "few images: channels run in lanes" if few else ""
        return Schedule(
            program, self.input_buffers, states, self.output_buffers, rng, self.order,
            kernels.entries, note=note,
        )  # fmt: skip

    def leaves(self) -> None:
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
        self._inputs_to_lanes()

    def _inputs_to_lanes(self) -> None:
        """Inputs with rows are brought to lanes once, where they are used as vectors; images
        without rows to the order they are read in, if they have more than a few channels."""
        for n in self.nodes:
            if not isinstance(n, Input) or n.ndim < 2 or n not in self.analysis.in_lanes:
                continue
            wanted, axis = self.analysis.in_lanes[n], self.analysis.lane_axes[n]
            beside = [s for a, s in enumerate(n.shape) if a != (axis or 0)]
            if not dtypes.is_float(n.dtype) or elements(tuple(beside)) < 2:
                continue
            channels = maximum(n.shape[wanted.order[-1]])
            if axis is None and channels <= FEW_CHANNELS:
                continue
            group = self.fusion.convert(n, wanted)
            if group is not None:
                self.fusion.group_of[n] = group
                size = self.places.size(n, wanted)
                name = self.memory.fresh_buffer(f"{n.name}_lanes", n.dtype, size, "arena")
                self.places.copies[n, wanted] = name
                self.layouts[n] = wanted

    def outputs(self) -> Sequence[tuple[Expr, Place]]:
        """A buffer for every output, as users read it."""
        self.output_buffers: dict[str, str] = {}
        found: list[tuple[Expr, Place]] = []
        for name, n in self.named.items():
            layout = row_major(n.ndim)
            buffer = self.memory.fresh_buffer(name, n.dtype, self.places.size(n, layout), "output")
            self.output_buffers[name] = buffer
            found.append((n, (buffer, layout)))
        return found

    def _advance_rng(self, calls: list[Call | Repeat]) -> str | None:
        """Numbers of the next call differ: its step is one more."""
        if RNG not in self.memory.buffers:
            return None
        w = Writer(self.memory)
        rng = w.touch(RNG, "rw")
        step = Load(rng, Poly.of(2), "int32")
        one = Op("add", (step, Const(1, "int32")), "int32")
        w.body.append(Store(rng, Poly.of(2), one))
        kernel, buffers = w.kernel("advance_rng")
        drawn = [n for n in self.nodes if isinstance(n, Random)]
        self.common.kernels.other(kernel, buffers, drawn)
        calls.append(Call("advance_rng", buffers, (0,)))
        return RNG
