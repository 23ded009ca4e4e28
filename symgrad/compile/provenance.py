"""What is known of each kernel: the mathematics it computes, and the code it became.

In: a compiled function. Out: `KernelFacts`, from which reports, profiles and pictures are made, and
the way back from an expression to the kernels that compute it. Nothing of this is made before
somebody asks, and nothing that is compiled or cached depends on it: it is read off the pipeline.

>>> [kernel.name for kernel in step.kernels]
['h1_tanh', 'p_softmax', 'd_W1_adam']
>>> step.kernels[0].maths
('h1 = tanh(x W1 + b1)',)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from symgrad.compile.carried import Origins, carried
from symgrad.compile.wording import Statement, Wording
from symgrad.errors import InputError
from symgrad.names import alike
from symgrad.node import Constant, Expr, Iota, Parameter, SizeOf
from symgrad.source import Source

if TYPE_CHECKING:
    from codegen.loops import Call, Program, Repeat
    from codegen.memory import ArenaPlan
    from symgrad.compile.pipeline import Pipeline
    from symgrad.schedule.kernels import Entry

T = TypeVar("T")
WIDE = 96  # lines of mathematics are padded up to here, so that their sources stand in a column
SHOWN = 12  # lines of a kernel that many calls share


@dataclass(frozen=True)
class KernelFacts:
    """A kernel, all of its calls together. What is not known is empty, or None for a number."""

    name: str
    expressions: tuple[Expr, ...]  # nodes of the rewritten graph that it computes, results last
    sources: tuple[Source, ...] = ()  # the user's lines they come from, each once
    calls: int = 1  # how often a call of the function runs it
    loops: str = ""  # its loop nest, as `step.stage("loops")` prints it
    llvm: str = ""
    assembly: str = ""
    seconds: float | None = None  # of all calls, where it was timed
    flops: int | None = None  # arithmetic operations of all calls
    bytes: int | None = None  # distinct bytes read and written by all calls
    maths: tuple[str, ...] = ()  # what it computes, a line for each value with a name

    def __str__(self) -> str:
        often = f" x{self.calls}" if self.calls != 1 else ""
        lines = [*self.maths, "from " + ", ".join(map(str, self.sources))]
        return "\n".join([f"{self.name}{often}", *(f"    {line}" for line in lines)])

    def _repr_html_(self) -> str:
        from symgrad.compile.notebook import kernel

        return kernel(self)


class Provenance:
    """What the kernels of one compile carry."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.graph = pipeline, pipeline.rewritten
        self.schedule = pipeline.schedule
        self.origins = Origins(self.graph, self.schedule.origins)
        self.computed = carried(self.origins, self.schedule)
        # values that are computed a second time in order not to be kept
        self.recomputed = [[n, *self.origins.nodes([n])][-1] for n in self.schedule.recomputed]
        self.wording = Wording(self.graph, self.computed)

    # -- mathematics ----------------------------------------------------------------------------
    @cached_property
    def names(self) -> dict[str, str]:
        """The readable name of each kernel of the schedule."""
        constants = [b.name for b in self.schedule.program.buffers if b.role == "constant"]
        return self.wording.kernel_names(["zeros", *constants])

    @cached_property
    def buffers(self) -> dict[str, str]:
        """What buffers are called: like the values in them, where those have names."""
        buffers = self.schedule.program.buffers
        found: dict[str, str] = {}
        used = {b.name for b in buffers}
        for b in buffers:
            n = self.schedule.values.get(b.name) if b.role == "arena" else None
            value = "" if n is None else self._value_name(n)
            if value:
                suffix = "_copy" if "_copy" in b.name else ""
                base, k = f"{value}{suffix}", 1
                name = base
                while name in used:
                    k += 1
                    name = f"{base}.{k}"
                used.add(name)
                found[b.name] = name
        return found

    def _value_name(self, n: Expr) -> str:
        for m in self.origins.nodes([n]):
            if id(m) in self.wording.names:
                return self.wording.names[id(m)]
        return ""

    @cached_property
    def _statements(self) -> list[list[Statement]]:
        return [self.wording.maths(c) for c in self.computed]

    @cached_property
    def maths(self) -> dict[str, list[Statement]]:
        """What each kernel computes in all of its calls, by its readable name."""
        found: dict[str, dict[str, Statement]] = {}
        for c, statements in zip(self.computed, self._statements):
            own = found.setdefault(self.names[c.entry.kernel], {})
            own.update((s.text, s) for s in statements)
        return {name: list(own.values()) for name, own in found.items()}

    @cached_property
    def expressions(self) -> dict[str, Expr]:
        """The values that have names, in the order in which they are computed."""
        return {line.name: line.node for line in self.wording.listing if line.name}

    @cached_property
    def _carried(self) -> dict[str, dict[Expr, None]]:
        found: dict[str, dict[Expr, None]] = {}
        for c in self.computed:
            own = found.setdefault(self.names[c.entry.kernel], {})
            own.update(dict.fromkeys(c.expressions))
        return found

    def carriers(self, n: Expr) -> list[str]:
        """The kernels that compute a node of the rewritten graph. Those that only copy it follow
        behind, or are all there is for an input."""
        moving = {self.names[c.entry.kernel] for c in self.computed if c.moves}
        found = [name for name, own in self._carried.items() if n in own]
        return sorted(found, key=lambda name: name in moving)

    # -- the program with names and comments ----------------------------------------------------
    @cached_property
    def program(self) -> Program:
        """The same program, whose kernels say what they compute."""
        plain = self.schedule.program
        kernels = tuple(
            replace(k, name=self.names[k.name], comment="\n".join(self.notes(self.names[k.name])))
            for k in plain.kernels
        )
        buffers = tuple(replace(b, name=self.buffer(b.name)) for b in plain.buffers)
        return replace(plain, buffers=buffers, kernels=kernels, calls=self._renamed(plain.calls))

    def buffer(self, name: str) -> str:
        """The readable name of a buffer."""
        return self.buffers.get(name, name)

    @cached_property
    def plan(self) -> ArenaPlan:
        """Where the buffers of the readable program lie: where those of the other one do."""
        plan = self.pipeline.plan
        return replace(
            plan,
            offsets=self._with_names(plan.offsets),
            table=self._with_names(plan.table),
            lives=self._with_names(plan.lives),
            bytes=self._with_names(plan.bytes),
        )

    def _with_names(self, kept: Mapping[str, T]) -> dict[str, T]:
        return {self.buffer(name): value for name, value in kept.items()}

    def _renamed(self, calls: Sequence[Call | Repeat]) -> tuple[Any, ...]:
        from codegen.loops import Call

        return tuple(
            replace(
                call,
                kernel=self.names[call.kernel],
                buffers=tuple(map(self.buffer, call.buffers)),
            )
            if isinstance(call, Call)
            else replace(call, calls=self._renamed(call.calls))
            for call in calls
        )

    def notes(self, name: str) -> list[str]:
        """The comment above a kernel: its mathematics with the user's lines."""
        found = self.maths[name]
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN + 1 else []
        return [*table(found[:SHOWN] if more else found), *more]

    # -- text -----------------------------------------------------------------------------------
    def schedule_text(self) -> str:
        """Every call: the kernel on its buffers, how it runs, and what it computes."""
        lines = [self.schedule.note] if self.schedule.note else []
        found = iter(self._statements)
        for entry in self.schedule.entries:
            if entry.heading:
                lines.append("  " * entry.depth + entry.heading)
            else:
                lines += self._entry(entry, next(found))
        return "\n".join(lines) + "\n"

    def _entry(self, entry: Entry, maths: Sequence[Statement]) -> list[str]:
        how = f"  [{entry.how}]" if entry.how else ""
        again = "  again" if entry.again else ""
        margin = "  " * entry.depth
        buffers = ", ".join(map(self.buffer, entry.buffers))
        head = f"{margin}{self.names[entry.kernel]}({buffers}){again}{how}"
        return [head, *(f"{margin}    {line}" for line in table(maths))]

    # -- all of it ------------------------------------------------------------------------------
    def kernels(self) -> list[KernelFacts]:
        """Every kernel once, in the order of its first call."""
        from codegen.listing import assembly_functions, llvm_functions
        from codegen.show import show_kernel

        llvm = llvm_functions(self.pipeline.readable_llvm)
        assembly = assembly_functions(self.pipeline.assembly)
        seconds = self._seconds()
        kernels = {k.name: k for k in self.program.kernels}
        return [
            replace(
                fact,
                loops=show_kernel(kernels[fact.name]),
                llvm=llvm.get(fact.name, ""),
                assembly=assembly.get(fact.name, ""),
                seconds=seconds.get(fact.name),
            )
            for fact in self.facts
        ]

    def _seconds(self) -> Mapping[str, float]:
        profile = self.pipeline.profiled
        return {} if profile is None else {row.kernel: row.seconds for row in profile.rows}

    @cached_property
    def facts(self) -> list[KernelFacts]:
        """The same without code and times: what a report needs. Work is that of a call at the
        largest sizes."""
        from codegen.bounds import derived_sizes
        from codegen.counts import program_counts
        from codegen.repeats import flat, runs

        program = self.schedule.program
        largest = {name: most for name, most in program.sizes.items() if isinstance(most, int)}
        often = runs(program, derived_sizes(program, largest))
        work: dict[str, list[int]] = {}
        for at, times, count in zip(flat(program), often, program_counts(program, largest)):
            total = work.setdefault(at.call.kernel, [0, 0, 0])
            total[0] += times
            total[1] += times * count.flops
            total[2] += times * count.bytes
        return [self._facts(plain, *work.get(plain, (0, 0, 0))) for plain in self.names]

    def _facts(self, plain: str, calls: int, flops: int, read: int) -> KernelFacts:
        name = self.names[plain]
        expressions = _in_order(self._carried[name], self._position)
        return KernelFacts(
            name,
            expressions,
            lines_of([n for n in expressions if n not in self._closed] or expressions),
            calls,
            flops=flops,
            bytes=read,
            maths=tuple(s.text for s in self.maths[name]),
        )

    @cached_property
    def _closed(self) -> set[Expr]:
        """Nodes made of numbers and sizes only, `1 / batch`: whoever writes one first anywhere has
        it for all, so its line says nothing about this model."""
        found: set[Expr] = set()
        for n in self.graph.nodes:
            if isinstance(n, (Constant, SizeOf, Iota)) or n.args and found.issuperset(n.args):
                found.add(n)
        return found

    @cached_property
    def _position(self) -> dict[Expr, int]:
        return {n: i for i, n in enumerate(self.graph.nodes)}

    # -- the way back ---------------------------------------------------------------------------
    def found(self, what: Expr | str) -> list[Expr]:
        """The nodes of the rewritten graph that an expression of the user's, or a name, became."""
        if isinstance(what, str):
            named = self.expressions.get(what)
            if named is not None:
                return [named]
            return [
                m for n in self.graph.nodes if not n.args and n.name == what for m in self.found(n)
            ]
        if isinstance(what, Parameter) and what in self.graph.updates:
            return [self.graph.updates[what]]
        if what in self._position:
            return [what]
        from symgrad.rewrite import prepare, run

        for rewrite in (prepare, run):
            (new,), _ = rewrite([what])
            if new in self._position:
                return [new]
        where = what.where
        same = [n for n in self.graph.nodes if n.where == where and n.shape == what.shape]
        return [n for n in same if n.dtype == what.dtype]

    def kernels_of(self, what: Expr | str) -> list[str]:
        """The names of the kernels that compute an expression; InputError where none does."""
        nodes = self.found(what)
        names = dict.fromkeys(name for n in nodes for name in self.carriers(n))
        if not names:
            shown = repr(what) if isinstance(what, str) else f"{what!r} from {what.where}"
            raise InputError(
                f"no kernel computes {shown}: it is not part of what was compiled, or became "
                f"something else there; there are {alike(shown, self.expressions)}"
            )
        return list(names)


def _in_order(nodes: Mapping[Expr, None], position: Mapping[Expr, int]) -> tuple[Expr, ...]:
    return tuple(sorted(nodes, key=lambda n: position.get(n, -1)))


def lines_of(nodes: Sequence[Expr]) -> tuple[Source, ...]:
    """The user's lines that nodes come from, each once."""
    found = {(n.where.file, n.where.line): n.where for n in nodes if n.where}
    return tuple(found.values())


def table(statements: Sequence[Statement]) -> list[str]:
    """Mathematics in one column, the user's lines in another."""
    width = min(max((len(s.text) for s in statements), default=0), WIDE)
    return [f"{s.text:<{width}}  {s.where}" for s in statements]
