"""The stages of a compile, each a value that can be printed, checked and run.

    expression ─► gradient ─► rewritten ─► schedule ─► loops ─► llvm ─► object code

In: a `Request`, the store of its parameters, `Options`. Out: a `Pipeline`; a stage is computed
when it is first asked for, so a start from the object cache computes none of them.

>>> Pipeline(request, store, options).stage("rewritten")
'...'
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from symgrad.compile.graph import Graph
from symgrad.compile.options import Options, comparing, debug_level
from symgrad.compile.request import Request, substitute
from symgrad.errors import InputError
from symgrad.node import Expr
from symgrad.sizes import show
from symgrad.state import Store

if TYPE_CHECKING:
    from codegen.memory import ArenaPlan
    from codegen.target import Target
    from symgrad.compile.profile import Profile
    from symgrad.compile.provenance import Provenance
    from symgrad.schedule import Schedule

STAGES = ("expression", "gradient", "rewritten", "schedule", "loops", "llvm", "assembly")


class Pipeline:
    """One compile. The store says which layouts parameters already have."""

    def __init__(self, request: Request, store: Store, options: Options) -> None:
        self.request, self.store, self.options = request, store, options
        self.log: list[Any] = []
        self.times: dict[str, float] = {}
        self.profiled: Profile | None = None  # the last one
        # Layouts as they are before this function is placed: asking for a stage later must give
        # what was compiled then.
        held = store.layouts()
        self.fixed = {p: held[p] for p in request.graph.parameters if p in held}
        self.lanes = store.lanes

    # -- one line per stage --------------------------------------------------------------------
    @cached_property
    def expression(self) -> Graph:
        return self._timed("expression", lambda: self.request.graph)

    @cached_property
    def gradient(self) -> Graph:
        _ = self.expression
        return self._timed("gradient", self._differentiate)

    @cached_property
    def rewritten(self) -> Graph:
        before = self.gradient
        return self._timed("rewritten", lambda: before.map(self._rewrite))

    @cached_property
    def schedule(self) -> Schedule:
        _ = self.rewritten
        return self._timed("schedule", self._schedule)

    @cached_property
    def plan(self) -> ArenaPlan:
        from codegen import memory

        program = self.schedule.program
        plan = self._timed("plan", lambda: memory.plan(program))
        if comparing():
            memory.check(program, plan)
        return plan

    @cached_property
    def llvm(self) -> str:
        from codegen.emit import emit

        program, plan = self.schedule.program, self.plan
        return self._timed("llvm", lambda: emit(program, plan, self.target))

    @cached_property
    def object(self) -> bytes:
        """Machine code, and how Python enters it."""
        from codegen.assemble import assemble
        from codegen.bundle import with_entries

        text = self.llvm

        def make() -> bytes:
            return with_entries(assemble(text, self.target), self.target)

        return self._timed("object", make)

    # -- the same for readers --------------------------------------------------------------------
    @cached_property
    def provenance(self) -> Provenance:
        """What kernels compute, and from which line of the model."""
        from symgrad.compile.provenance import Provenance

        return Provenance(self)

    @cached_property
    def readable_llvm(self) -> str:
        """The module that is compiled, but for names and comments that say what it computes."""
        from codegen.emit import emit

        return emit(self.provenance.program, self.provenance.plan, self.target)

    @cached_property
    def assembly(self) -> str:
        from codegen.assemble import assembly
        from codegen.listing import annotated

        known = self.provenance
        sign = "#" if self.target.triple.startswith("x86") else "//"
        notes = {name: known.notes(name) for name in known.maths}
        return annotated(assembly(self.readable_llvm, self.target), notes, sign)

    # -- what a stage does ---------------------------------------------------------------------
    @cached_property
    def target(self) -> Target:
        from codegen.target import Target

        name = self.options.target
        return Target.named("native" if name == "interpret" else name)

    def _differentiate(self) -> Graph:
        """Gradients in the place of their placeholders. The loss is rewritten first, so that what
        is differentiated is the stable form of it."""
        if not self.request.gradients:
            return self.expression
        from symgrad.grad import grad

        before = self.expression
        outputs = dict(zip(before.outputs, self._prepare([*before.outputs.values()])))
        wanted = self.request.gradients
        gradients: dict[Expr, Expr] = {}
        for loss in dict.fromkeys(w.loss for w in wanted.values()):
            mine = {holder: w.parameter for holder, w in wanted.items() if w.loss == loss}
            gradients.update(zip(mine, grad(outputs[loss], list(mine.values()))))
        updates = dict(zip(before.updates, substitute([*before.updates.values()], gradients)))
        self.gradients = {
            f"d {w.loss} / d {w.parameter.name}": gradients[h] for h, w in wanted.items()
        }
        return Graph(before.inputs, outputs, updates)

    def _rewrite(self, roots: list[Expr]) -> list[Expr]:
        from symgrad import rewrite

        return self._logged(rewrite.run(roots))

    def _prepare(self, roots: list[Expr]) -> list[Expr]:
        from symgrad import rewrite

        return self._logged(rewrite.prepare(roots))

    def _logged(self, result: tuple[list[Expr], list[Any]]) -> list[Expr]:
        new, log = result
        self.log += log
        if debug_level() >= 5:
            for entry in log:
                print(entry, file=sys.stderr)
        return new

    def _schedule(self) -> Schedule:
        from symgrad.schedule import schedule

        graph = self.rewritten
        return schedule(
            graph.inputs,
            graph.outputs,
            graph.updates,
            target=self.target,
            fixed=self.fixed,
            lanes=self.lanes,
            threads=self.options.threads,
            max_bytes=self.options.max_bytes,
            tolerance=self.options.tolerance,
        )

    # -- reading -------------------------------------------------------------------------------
    def stage(self, name: str) -> str:
        """A stage as text."""
        if name not in STAGES:
            raise InputError(f"no stage is named {name!r}; there are {', '.join(STAGES)}")
        if name in ("expression", "gradient", "rewritten"):
            graph: Graph = getattr(self, name)
            gradients = self._gradients() if name == "gradient" else {}
            return graph_text(graph, gradients)
        if name == "schedule":
            return self.provenance.schedule_text()
        if name == "loops":
            from codegen.show import show as show_program

            return show_program(self.provenance.program)
        return self.readable_llvm if name == "llvm" else self.assembly

    @cached_property
    def domains(self) -> dict[Any, Any]:
        """The range of every input used as labels or indices: (low, high, the node)."""
        from symgrad.ops.indexing import domains

        return dict(domains(self.request.graph.roots))

    def _gradients(self) -> dict[str, Expr]:
        """The gradients by what they are, `d loss / d W`."""
        _ = self.gradient
        return self.__dict__.get("gradients", {})

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        self.times[name] = time.perf_counter() - start
        if comparing():
            _verify(name, result)
        if debug_level():
            _trace(name, result, self.times[name])
        return result


def _verify(name: str, result: Any) -> None:
    """SYMGRAD_CHECK: whether a stage keeps the rules of its language."""
    if isinstance(result, Graph):
        from symgrad.verify import verify

        verify(result.roots, final=name == "rewritten")
    elif name == "schedule":
        from codegen.verify import verify as verify_program

        verify_program(result.program)


def graph_text(graph: Graph, gradients: Mapping[str, Expr] | None = None) -> str:
    """A graph as a listing: leaves, then what is computed, each line with its shape and source."""
    from symgrad.show.listing import listing

    lines = []
    for label, leaves in (("input", graph.inputs), ("state", graph.parameters)):
        for leaf in leaves:
            kind = leaf.kind if label == "state" else label
            lines.append(f"{kind:<10} {leaf.name} {show(leaf.shape)} {leaf.dtype}")
    named: dict[str, Expr] = {**graph.outputs, **(gradients or {})}
    for p, value in graph.updates.items():
        named[f"{p.name}'"] = value
    return "\n".join([*lines, "", listing(named, sources=True)]) + "\n"


def _trace(name: str, result: Any, seconds: float) -> None:
    """What SYMGRAD_DEBUG asks to see of a stage."""
    level = debug_level()
    sizes = {
        "expression": lambda: f"{len(result.nodes)} nodes",
        "gradient": lambda: f"{len(result.nodes)} nodes",
        "rewritten": lambda: f"{len(result.nodes)} nodes",
        "schedule": lambda: (
            f"{len(result.program.kernels)} kernels, {len(result.program.calls)} calls"
        ),
        "plan": lambda: f"{result.size} bytes",
        "llvm": lambda: f"{len(result)} characters",
        "object": lambda: f"{len(result)} bytes",
    }
    print(f"symgrad: {name:<10} {sizes[name]():<24} {seconds * 1e3:8.2f} ms", file=sys.stderr)
    if level >= 2 and name in ("expression", "gradient", "rewritten"):
        print(graph_text(result), file=sys.stderr)
    if level >= 3 and name == "schedule":
        from codegen.show import show as show_program

        print(show_program(result.program), file=sys.stderr)
    if level >= 4 and name == "llvm":
        print(result, file=sys.stderr)
